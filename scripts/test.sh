#!/usr/bin/env bash
# Installs what is missing, builds everything and runs every test that this machine can run.
#
# Usage: scripts/test.sh [--no-install] [CMAKE-ARGUMENT...]
#   --no-install  use what is there
#
# Installs PyTorch from Debian and, from PyPI into the build folder, the programs that people open
# our files with: transformers, tokenizers, llama.cpp, compressed-tensors.
#
# Tests that cannot run here are skipped and their reasons printed; ctest's summary comes last.
# Exits 0 only if nothing failed.

set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"

install=yes
arguments=()
for argument in "$@"; do
  case "$argument" in
    --no-install) install=no ;;
    --help) show_help && exit 0 ;;
    *) arguments+=("$argument") ;;
  esac
done

build=${LOCKSTEP_BUILD_DIR:-$root/build}
if [ "$install" = yes ]; then
  "$root/scripts/install_packages.sh" --tests
  "$root/tests/clients/environment.sh" "$build/environments"
fi
"$root/scripts/build.sh" --tests "${arguments[@]}" > /dev/null
mpi_environment

labels='cpu|mpi|cluster'
if has_gpu; then
  labels="$labels|gpu"
else
  echo "not run: the tests labelled gpu, since nvidia-smi finds no GPU on this machine"
fi

# ctest's summary is held back until the reasons for skipping have been printed.
summary=$build/test_summary.txt
final='tests passed, [0-9]+ tests failed out of|^Total Test time|^No tests were found'
hold_summary() {
  local line
  while IFS= read -r line && ! [[ $line =~ $final ]]; do printf '%s\n' "$line"; done
  { printf '%s\n' "$line" && cat; } > "$summary"
}
code=0
ctest --test-dir "$build" -L "^($labels)\$" -j "$(cores)" --output-on-failure < /dev/null |
  hold_summary || code=$?

# GoogleTest prints "file:line: Skipped" and then the reason; other tests print "skipped: reason".
log=$build/Testing/Temporary/LastTest.log
reasons=$(awk '/: Skipped$/ { getline reason; print reason }
               /^skipped: / { print substr($0, 10) }' "$log" 2> /dev/null |
  sort | uniq -c | sort -rn | sed 's/^ *\([0-9]*\) /  \1 x /')
if [ -n "$reasons" ]; then
  printf 'skipped, and why:\n%s\n' "$reasons"
fi
grep -vE "$final" "$summary" || true
grep -E "$final" "$summary" || { echo "ctest gave no summary"; code=1; }
if grep -q '^No tests were found' "$summary"; then code=1; fi
exit "$code"

#!/usr/bin/env bash
# Runs one check of the sources, or skips it (exit 77) where its tool is not installed.
# Usage: run_check.sh TOOL [ARGUMENT...], from the repository's root.
set -euo pipefail

tool=$1
if ! command -v "$tool" > /dev/null; then
  echo "skipped: $tool is not installed"
  exit 77
fi

case "$tool" in
  clang-format-14)
    find src kernels tests -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' |
      sort | xargs "$@"
    ;;
  shellcheck)
    { grep -rIl '^#!.*sh$' scripts tests && echo .ci/run; } |
      xargs "$@" --external-sources --severity=warning
    ;;
  gnuplot) exec bash "$2" ;;
  *) exec "$@" ;;
esac

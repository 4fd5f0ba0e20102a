#!/usr/bin/env bash
# Configures and builds Lockstep; leaves the program at build/lockstep and prints its path.
#
# Usage: scripts/build.sh [--tests] [CMAKE-ARGUMENT...]
#   --tests         also build the tests
#   CMAKE-ARGUMENT  passed to cmake, for example -DLOCKSTEP_CUDA=OFF or -DCMAKE_INSTALL_PREFIX=DIR
#
# Installs nothing and needs no root. CUDA is built in when nvcc is found, also into a folder that
# was built without. CMAKE_PREFIX_PATH, CC, CXX and CUDACXX are honoured; LOCKSTEP_BUILD_DIR names
# another build folder.

set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"

target=lockstep
arguments=(-DLOCKSTEP_CUDA=AUTO)
for argument in "$@"; do
  case "$argument" in
    --tests) target=all ;;
    --help) show_help && exit 0 ;;
    *) arguments+=("$argument") ;;
  esac
done

build=${LOCKSTEP_BUILD_DIR:-$root/build}
command -v cmake > /dev/null ||
  die "cmake is missing; scripts/install_packages.sh installs all that is needed (--list names it)"

# A generator and a launcher are chosen once: cmake refuses to change them in a build folder.
if [ ! -f "$build/CMakeCache.txt" ]; then
  if command -v ninja > /dev/null; then arguments=(-G Ninja "${arguments[@]}"); fi
  if command -v ccache > /dev/null; then
    arguments=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache -DCMAKE_CUDA_COMPILER_LAUNCHER=ccache
      "${arguments[@]}")
  fi
fi
if [ -z "${CUDACXX:-}" ] && ! command -v nvcc > /dev/null && [ -x /usr/local/cuda/bin/nvcc ]; then
  export CUDACXX=/usr/local/cuda/bin/nvcc
fi

# One compiler needs up to 1.5 GiB here.
jobs=$(cores)
by_memory=$(awk '/^MemAvailable/ {print int($2 / 1572864)}' /proc/meminfo 2> /dev/null || true)
if [ -n "$by_memory" ] && [ "$by_memory" -lt "$jobs" ]; then jobs=$by_memory; fi
if [ "$jobs" -lt 1 ]; then jobs=1; fi

say "building $target in $build ($jobs jobs)"
mkdir -p "$build"
quietly "$build/configure.log" cmake -S "$root" -B "$build" "${arguments[@]}"
grep -E '^-- Lockstep:|WARNING' "$build/configure.log" >&2 || true
if [ -t 2 ]; then
  cmake --build "$build" --target "$target" --parallel "$jobs" >&2
else
  quietly "$build/build.log" cmake --build "$build" --target "$target" --parallel "$jobs"
fi
echo "$build/lockstep"

#!/usr/bin/env bash
# Runs a test on a Slurm of its own; exit 77 with the reason where that cannot be.
# Usage: run.sh [--long] TEST.py ARGUMENT...   --long: also what takes minutes
set -euo pipefail

if [ "$1" = --long ]; then
  export LOCKSTEP_LONG=1
  shift
fi
here=$(cd "$(dirname "$0")" && pwd)
bed=$(mktemp -d)
trap 'rm -rf "$bed"' EXIT
# Its daemons must not hold ctest's pipes.
"$here/slurm_bed.sh" run "$bed" python3 "$@"

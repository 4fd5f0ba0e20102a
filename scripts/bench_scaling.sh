#!/usr/bin/env bash
# Measures how training scales on the GPUs of this machine or Slurm allocation: 1, 2, 4, ... ranks,
# weak and strong scaling, all-reduce bandwidth beside it, PyTorch's compiled DDP where torch is
# installed. Writes OUT/scaling.json, OUT/scaling.md and, with gnuplot, OUT/scaling.svg.
#
# Usage: scripts/bench_scaling.sh [--binary build/lockstep] [--out DIR] [--gpus 1,2,4]
#          [--steps N] [--rows PATTERN] [--no-peer] [--no-checks] [--share-gpu] [--report]
#   --rows PATTERN  only rows whose name contains it (weak-, strong-, qwen, x8, ...)
#   --no-peer       leave PyTorch out
#   --no-checks     leave out equal losses and resuming at another world size
#   --share-gpu     ranks may share a GPU: proves the script, measures nothing
#   --report        only write table and picture again from OUT/scaling.json
#
# Each row runs peer, ours, ours, peer. What OUT/scaling.json already holds is not measured again,
# so an interrupted sitting goes on. LOCKSTEP_LAUNCH is the command before the program, with {n} for
# the number of ranks; the default is srun inside a Slurm job and mpirun elsewhere.

set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"

if [ "${1:-}" = --help ]; then show_help && exit 0; fi
mpi_environment
exec python3 "$root/scripts/bench/scaling.py" "$@"

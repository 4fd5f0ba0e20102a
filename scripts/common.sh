# shellcheck shell=bash disable=SC2034
# Sourced by the other scripts: where the repository is, how to speak, how to start ranks.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*" >&2; }

die() {
  say "$(basename "$0"): error: $*"
  exit 1
}

# The opening comment of a script is its help.
show_help() {
  sed -n '2,/^$/{s/^# \{0,1\}//;p;}' "$0"
}

# Runs a command with its output in a file, which is shown only when the command fails.
quietly() {
  local log=$1 code=0
  shift
  mkdir -p "$(dirname "$log")"
  "$@" > "$log" 2>&1 < /dev/null || code=$?
  [ "$code" -eq 0 ] && return 0
  tail -n 60 "$log" >&2
  say "$(basename "$0"): error: '$1' failed (exit $code); all of its output: $log"
  return "$code"
}

cores() { nproc 2> /dev/null || echo 1; }

has_gpu() { command -v nvidia-smi > /dev/null && nvidia-smi -L 2> /dev/null | grep -q '^GPU '; }

# Open MPI's own switches for root, and for containers that forbid reading a peer's memory.
mpi_environment() {
  if [ "$(id -u)" -eq 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  fi
  export OMPI_MCA_btl_vader_single_copy_mechanism=${OMPI_MCA_btl_vader_single_copy_mechanism:-none}
}

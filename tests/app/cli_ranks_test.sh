#!/usr/bin/env bash
# Errors and reports of several ranks come once: cli_ranks_test.sh PROGRAM MPIRUN...
set -u
program=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0

complain() {
  echo "FAIL: $*"
  failures=$((failures + 1))
}

# expect CODE FILE COUNT PATTERN -- ARGUMENTS...: the code of two ranks, and how many lines of
# FILE (out or err) match.
expect() {
  local code=$1 file=$2 count=$3 pattern=$4
  shift 5
  "${mpirun[@]}" -n 2 "$program" "$@" >out 2>err
  local got=$?
  [ "$got" = "$code" ] || complain "lockstep $*: exit $got, expected $code: $(cat err)"
  got=$(grep -cE -- "$pattern" "$file")
  [ "$got" = "$count" ] || complain "lockstep $*: $got lines match $pattern: $(cat out err)"
}
mpirun=("$@")

expect 64 err 1 '^lockstep: .*error: unknown command trian' -- trian
expect 78 err 1 '^lockstep: .*error: absent.toml' -- train absent.toml
expect 0 out 1 '^lockstep +[0-9]' -- --version
expect 0 out 1 'lockstep COMMAND --help' -- --help
expect 0 out 1 '^all-reduce .*over mpi, ranks 2' -- doctor
expect 0 out 2 '^rank ' -- doctor
expect 0 out 1 '^2 ranks over mpi on ' -- bench allreduce --mib 0.001,1 --rounds 3
expect 0 out 2 '"bus_gigabytes_per_second"' -- bench allreduce --mib 0.001,1 --rounds 3 --json
expect 65 err 1 'error: .*nowhere' -- eval nowhere

# One process that a launcher announces as one of four.
SLURM_STEP_NUM_TASKS=4 "$program" doctor >out 2>err
[ $? = 78 ] || complain "SLURM_STEP_NUM_TASKS: $(cat err)"
grep -q -- '--mpi=pmix' err || complain "SLURM_STEP_NUM_TASKS: $(cat err)"

[ "$failures" = 0 ] && echo "all checks passed"
exit "$((failures > 0))"

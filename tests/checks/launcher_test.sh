#!/usr/bin/env bash
# scripts/launch/slurm.sbatch with stand-ins for srun, scontrol and the program: what is started,
# the forwarded signals, and who decides about a requeue. tests/cluster/ does it on a real Slurm.
# Run from the repository's root.
set -euo pipefail

script=$PWD/scripts/launch/slurm.sbatch
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
fail() { echo "FAILED: $*" && exit 1; }

mkdir bin
# srun: waits for USR1 when $WAIT is set, then exits with $CODE.
cat > bin/srun << 'END'
#!/usr/bin/env bash
echo "$SRUN_CPUS_PER_TASK $*" > arguments
trap 'echo USR1 >> signals; exit "$CODE"' USR1
touch started
while [ -n "${WAIT:-}" ]; do sleep 0.05; done
[ "$CODE" != kill ] || kill -KILL $$
exit "$CODE"
END
# The program answers `requeue` with $AGAIN.
cat > bin/lockstep << 'END'
#!/usr/bin/env bash
echo "$*" > asked
exit "${AGAIN:-0}"
END
printf '#!/bin/sh\necho "$@" >> requeued\n' > bin/scontrol
cp bin/srun bin/mpirun
chmod +x bin/*
export PATH=$work/bin:$PATH SLURM_JOB_ID=42 SLURM_CPUS_PER_TASK=6

# job CODE: runs the script; the result is in $code.
job() {
  code=0
  : > asked
  CODE=$1 bash "$script" a.toml --run.dir=run "${@:2}" > out 2>&1 || code=$?
}
expect() {
  [ "$code" -eq "$1" ] || fail "exit $code, not $1: $(cat out)"
  local times
  times=$(wc -l 2> /dev/null < requeued || echo 0)
  [ "$times" -eq "$2" ] || fail "requeued $times times, not $2: $(cat out)"
}

: > requeued
job 0 --optimizer.lr=1e-3 && expect 0 0
[ ! -s asked ] || fail "a finished run was asked about"
wanted='6 --mpi=pmix --kill-on-bad-exit=1 lockstep train a.toml --run.dir=run --optimizer.lr=1e-3'
[ "$(cat arguments)" = "$wanted" ] || fail "arguments: $(cat arguments)"
LOCKSTEP_LAUNCHER='mpirun -n 2' job 0
[ "$(cat arguments)" = "6 -n 2 lockstep train a.toml --run.dir=run" ] || fail "$(cat arguments)"

# The program decides, knowing the code and the run; without a program nothing is tried again.
job 75 && expect 0 1
grep -q '^requeue 42$' requeued || fail "$(cat requeued)"
[ "$(cat asked)" = "requeue a.toml --run.dir=run --exit-code=75 --restarts=3" ] ||
  fail "asked: $(cat asked)"
job kill && expect 0 2
grep -q -- '--exit-code=137' asked || fail "asked: $(cat asked)"
for final in 1 64 78; do AGAIN=$final job 76 && expect 76 2; done
LOCKSTEP=/nowhere/lockstep job 127 && expect 127 2

# The batch system's signals: USR1 reaches the ranks, TERM is theirs already; their own exit code
# comes back.
for signals in USR1 "TERM USR1"; do
  rm -f started signals
  WAIT=yes CODE=75 bash "$script" a.toml --run.dir=run > out 2>&1 &
  pid=$!
  for _ in $(seq 200); do [ -e started ] && break || sleep 0.05; done
  for signal in $signals; do kill "-$signal" "$pid" && sleep 0.2; done
  code=0
  wait "$pid" || code=$?
  [ "$code" -eq 0 ] || fail "exit $code after $signals: $(cat out)"
  [ "$(cat signals)" = USR1 ] || fail "signals: $(cat signals)"
  grep -q -- '--exit-code=75' asked || fail "asked: $(cat asked)"
done

# Tasks of an array.
export SLURM_ARRAY_JOB_ID=41 SLURM_ARRAY_TASK_ID=3
job 75 --run.dir=runs/sweep_%a --run.seed=%a
grep -q '^requeue 41_3$' requeued || fail "$(cat requeued)"
grep -q -- '--run.dir=runs/sweep_3 --run.seed=3 --exit-code=75' asked || fail "asked: $(cat asked)"
echo "launcher: all as expected"

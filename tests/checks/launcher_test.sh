#!/usr/bin/env bash
# scripts/launch/slurm.sbatch with stand-ins for mpirun and scontrol: exit codes, the forwarded
# signal, and the limit on requeues. Run from the repository's root.
set -euo pipefail

script=$PWD/scripts/launch/slurm.sbatch
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
fail() { echo "FAILED: $*" && exit 1; }

mkdir bin
# mpirun: waits for USR1 when $WAIT is set, then exits with $CODE.
cat > bin/mpirun << 'END'
#!/usr/bin/env bash
echo "$*" > arguments
trap 'echo USR1 >> signals; exit "$CODE"' USR1
touch started
while [ -n "${WAIT:-}" ]; do sleep 0.05; done
[ "$CODE" != kill ] || kill -KILL $$
exit "$CODE"
END
printf '#!/bin/sh\necho "$@" >> requeued\n' > bin/scontrol
chmod +x bin/*
export PATH=$work/bin:$PATH SLURM_JOB_ID=42

# job CODE: runs the script; the result is in $code.
job() {
  code=0
  CODE=$1 bash "$script" a.toml --run.dir=run "${@:2}" > out 2>&1 || code=$?
}
expect() {
  [ "$code" -eq "$1" ] || fail "exit $code, not $1: $(cat out)"
  local times
  times=$(wc -l 2> /dev/null < requeued || echo 0)
  [ "$times" -eq "$2" ] || fail "requeued $times times, not $2: $(cat out)"
}

mkdir -p run/checkpoints
: > requeued
job 0 --optimizer.lr=1e-3 && expect 0 0
grep -q -- '--mca oob_tcp_keepalive_time 2 .* train a.toml --run.dir=run --optimizer.lr=1e-3' \
  arguments || fail "arguments: $(cat arguments)"
for final in 64 65 70 77 78; do job "$final" && expect "$final" 0; done
job 75 && expect 0 1
grep -q '^requeue 42$' requeued || fail "$(cat requeued)"

# Without a new checkpoint a crash is tried three times; a new checkpoint starts the count again.
rm run/requeues && : > requeued
for attempt in 1 2 3; do job 76 && expect 0 "$attempt"; done
job 76 && expect 76 3
echo step_00000100 > run/checkpoints/latest
job 205 && expect 0 4
job kill && expect 0 5

# The batch system's signal reaches the ranks, and their own exit code comes back.
: > requeued
rm -f started signals
WAIT=yes CODE=75 bash "$script" a.toml --run.dir=run > out 2>&1 &
pid=$!
for _ in $(seq 200); do [ -e started ] && break || sleep 0.05; done
kill -USR1 "$pid"
code=0
wait "$pid" || code=$?
expect 0 1
[ "$(cat signals)" = USR1 ] || fail "signals: $(cat signals)"
export SLURM_ARRAY_JOB_ID=41 SLURM_ARRAY_TASK_ID=3
job 75
grep -q '^requeue 41_3$' requeued || fail "$(cat requeued)"
echo "launcher: all as expected"

#!/bin/bash
# mpirun for terminals: Ctrl-C, TERM and a lost terminal make training finish its step, save and
# exit 75. mpirun by itself ends the ranks a second after such a signal, saved or not; here it gets
# USR1 instead, which it passes on. A second Ctrl-C ends the job at once.
#
# Usage: scripts/launch/mpirun.sh -n 4 lockstep train CONFIG.toml [--section.key=value ...]
set -uo pipefail

# In a session of its own, so that the terminal's Ctrl-C reaches this script alone.
setsid mpirun "$@" < /dev/null &
pid=$!

interrupts=0
on_interrupt() {
  interrupts=$((interrupts + 1))
  if [ "$interrupts" -eq 1 ]; then kill -USR1 "$pid"; else kill -INT "$pid"; fi 2> /dev/null
}
trap on_interrupt INT
trap 'kill -USR1 "$pid" 2> /dev/null' TERM HUP USR1 USR2

# A trapped signal interrupts wait with a code above 128; then mpirun may still be there.
wait "$pid"
code=$?
while [ "$code" -gt 128 ]; do
  wait "$pid"
  again=$?
  [ "$again" -eq 127 ] && break # it had ended, and the code before is its own
  code=$again
  kill -0 "$pid" 2> /dev/null || break
done
exit "$code"

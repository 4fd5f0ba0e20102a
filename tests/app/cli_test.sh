#!/usr/bin/env bash
# The finished program's exit codes and one-line errors: cli_test.sh PROGRAM
set -u
program=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0

complain() {
  echo "FAIL: $*"
  failures=$((failures + 1))
}

# expect CODE PATTERN ARGUMENTS...: the code, and one line on stderr that matches (an error), or a
# match on stdout (code 0).
expect() {
  local code=$1 pattern=$2
  shift 2
  "$program" "$@" >out 2>err
  local got=$?
  [ "$got" = "$code" ] || complain "lockstep $*: exit $got, expected $code: $(cat err)"
  if [ "$code" = 0 ]; then
    grep -qE -- "$pattern" out || complain "lockstep $*: stdout lacks $pattern: $(head -c 400 out)"
  else
    [ "$(wc -l <err)" = 1 ] || complain "lockstep $*: not one line: $(cat err)"
    grep -qE -- "^lockstep: error: .*$pattern" err ||
      complain "lockstep $*: stderr lacks $pattern: $(cat err)"
  fi
}

cat >good.toml <<'TOML'
[model]
preset = "gpt2-tiny"
vocab = 256
[train]
steps = 10
global_batch_size = 12
micro_batch_size = 4
TOML
printf '[train]\nstepz = 1\n' >unknown_key.toml
printf '[train]\nsteps = "many"\n' >bad_type.toml
printf '[train\n' >bad_syntax.toml
printf 'hello\n' >text.bin

# 64: commands, flags, arguments
expect 64 'no command given'
expect 64 'unknown command trian; did you mean train' trian good.toml
expect 64 'unknown flag --verson; did you mean --version' --verson
expect 64 'unknown flag --jsno of lockstep plan; did you mean --json' plan good.toml --jsno
expect 64 'unknown flag --lr of lockstep train; did you mean --optimizer.lr' train good.toml --lr=1
expect 64 'CONFIG is required' train
expect 64 'unexpected argument "b"' plan good.toml b
expect 64 'world' plan good.toml --world=0
expect 64 'world' plan good.toml --world=two
expect 64 'unknown flag --train.steps of lockstep inspect' inspect x --train.steps=1
expect 64 'verify=some: expected quick, full or deep' inspect good.toml --verify=some
expect 64 'out' prepare text.txt
expect 64 'format is required' export x --out=o
expect 64 'out is required' export x --format=gguf
expect 64 'q8_0: is a type of GGUF; use --format gguf' \
  export x --out=o --format=safetensors --quantize=q8_0
expect 64 'w8a8: is a scheme of safetensors' export x --out=o --format=gguf --quantize=w8a8
expect 64 'tokenizer-pre' export x --out=o --format=safetensors --tokenizer-pre=gpt-2
expect 64 'val-fraction' prepare --out=o --val-fraction=2 text.txt

# 65: data
expect 65 'nowhere: no such file' inspect nowhere
expect 65 'text.bin' inspect text.bin
expect 65 'neither a run, a checkpoint, an export nor a shard' inspect .
expect 65 'missing.txt' prepare --out=o missing.txt
expect 65 'nowhere' eval nowhere
expect 65 'nowhere' generate nowhere --prompt x
expect 65 'nowhere' export nowhere --out=o --format=gguf

# 78: configuration, from the file and from the command line
expect 78 'absent.toml: cannot read the config file: No such file' plan absent.toml
expect 78 'unknown_key.toml:2:1: unknown key train.stepz; did you mean train.steps' \
  train unknown_key.toml
expect 78 'bad_type.toml:2:9: train.steps: expected a whole number' train bad_type.toml
expect 78 'bad_syntax.toml:1:' train bad_syntax.toml
expect 78 '--optimizer.lrr: unknown key; did you mean optimizer.lr' \
  train good.toml --optimizer.lrr=1
expect 78 '--optimizer.lr=fast: expected a number' plan good.toml --optimizer.lr=fast
expect 78 'run.device' plan good.toml --run.device=gpu
expect 78 'preset' plan good.toml --model.preset=gpt2-124
expect 78 '5' plan good.toml --world=5

# 0: help, versions, plan, doctor
expect 0 'lockstep COMMAND --help' --help
expect 0 '--optimizer.lr NUMBER' train --help
expect 0 '^CLI11 ' --version
expect 0 '^lockstep +[0-9]' --version
# OpenBLAS's kernels for unknown processors are for those that are older than AVX2; a choice stands.
if grep -qw avx2 /proc/cpuinfo; then
  "$program" --version | grep -q '^OpenBLAS .*Prescott' && complain "kernels of old processors"
  OPENBLAS_CORETYPE=Prescott expect 0 '^OpenBLAS .*Prescott' --version
fi
expect 0 '"largest_micro_batch": [0-9]' plan good.toml --json
expect 0 '"logits": [0-9]' plan good.toml --json
expect 0 'parameters' plan good.toml --world=3
expect 0 '^all-reduce' doctor
expect 0 '"free_disk_bytes"' doctor --json

# Results that cannot be written are an error, not success.
"$program" plan good.toml >/dev/full 2>err
[ $? = 74 ] || complain "plan >/dev/full: $(cat err)"

# A reader that has seen enough is no error; nothing is said.
for command in "plan good.toml" "doctor --json" "--version" "train --help"; do
  exec 3> >(exec true)
  sleep 0.2
  # shellcheck disable=SC2086
  "$program" $command >&3 2>err
  code=$?
  exec 3>&-
  { [ "$code" = 0 ] && [ ! -s err ]; } || complain "$command into a closed pipe: $code $(cat err)"
done

# A shard, from preparing to inspecting.
seq 1 4000 >numbers.txt
expect 0 '^next: lockstep train' prepare --out=data numbers.txt
expect 64 'overwrite' prepare --out=data numbers.txt
expect 0 '^next: lockstep train' prepare --out=data --overwrite numbers.txt
shard=$(ls data/train_*.bin | head -n 1)
expect 0 '"kind": "shard"' inspect "$shard" --json
expect 0 '"dtype": "uint16"' inspect "$shard" --json
expect 0 '"max_token": 57' inspect "$shard" --json
[ -s err ] && complain "a progress bar without a terminal: $(cat err)"

[ "$failures" = 0 ] && echo "all checks passed"
exit "$((failures > 0))"

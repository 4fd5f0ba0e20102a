#!/usr/bin/env bash
# From a fresh Debian 12 or Ubuntu 24.04 to a deployable model: installs packages, builds, prepares
# a text, trains with 2 ranks in bf16, is interrupted on purpose and resumes, evaluates, draws the
# loss curve, exports an int8 model and samples a text from it. Where there is no GPU, a first build
# leaves the CUDA backend out; scripts/build.sh adds it.
#
# Usage: scripts/quickstart.sh [--text FILE] [CMAKE-ARGUMENT...]
#   --text FILE  train on this text; otherwise on ../shared/data/tinyshakespeare/input.txt if it is
#                there, else on the licence texts that Debian ships
#
# Asks nothing and can be repeated: what is done is not done again.

set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"

text=
arguments=()
while [ $# -gt 0 ]; do
  case "$1" in
    --text) text=${2:-} && [ -n "$text" ] || die "--text needs a file" && shift ;;
    --text=*) text=${1#--text=} ;;
    --help) show_help && exit 0 ;;
    *) arguments+=("$1") ;;
  esac
  shift
done
if [ -n "$text" ]; then
  [ -s "$text" ] || die "$text: no such file, or it is empty"
  text=$(realpath "$text")
fi

# All paths below are relative to the repository, so that the commands shown can be repeated there.
cd "$root"
ranks=2
config=configs/quickstart.toml

show() { printf '+' && printf ' %q' "$@" && echo; }
heading() { printf '\n== %s (%d s)\n' "$*" "$SECONDS"; }

# An earlier build keeps its choice; arguments of the user come later and win.
cuda_choice() {
  local cache=${LOCKSTEP_BUILD_DIR:-$root/build}/CMakeCache.txt chosen
  chosen=$(sed -n 's/^LOCKSTEP_CUDA:[A-Z]*=//p' "$cache" 2> /dev/null || true)
  if [ -z "$chosen" ]; then chosen=$(has_gpu && echo AUTO || echo OFF); fi
  echo "$chosen"
}

find_text() {
  local licences=/usr/share/common-licenses
  [ -n "$text" ] && return
  text=../shared/data/tinyshakespeare/input.txt
  [ -s "$text" ] && return
  text=runs/data/licences.txt
  mkdir -p runs/data
  # Links such as GPL point at one of the files and would only repeat it.
  find "$licences" -type f 2> /dev/null | LC_ALL=C sort | xargs -r cat > "$text"
  [ -s "$text" ] || die "no text to train on; give one with --text FILE"
}

# A run belongs to its text: another text gets another directory.
name_run() {
  local hash
  hash=$(sha256sum < "$text" | cut -c1-8)
  data=runs/data/quickstart-$hash
  run=runs/quickstart
  if [ -d "$run" ] && [ "$(cat "$run/text" 2> /dev/null)" != "$hash" ]; then
    run=runs/quickstart-$hash
  fi
  mkdir -p "$run"
  echo "$hash" > "$run/text"
}

prepare_data() {
  if [ -e "$data.done" ]; then
    echo "$data is there"
    return
  fi
  mkdir -p runs/data
  "$lockstep" prepare --out "$data" --tokenizer byte --overwrite "$text"
  touch "$data.done"
}

# The last step in the metrics; 0 if there is none.
last_step() {
  { sed -n 's/^{"step": *\([0-9]*\).*}$/\1/p' "$run/metrics.jsonl" 2> /dev/null || true; } |
    awk 'END {print $1 + 0}'
}

# Replaces this shell by the launcher, so that signals for its pid reach the launcher itself.
start_training() {
  local launcher=(mpirun -n "$ranks")
  if [ "$(id -u)" -eq 0 ]; then launcher+=(--allow-run-as-root); fi
  if [ "$(cores)" -lt "$ranks" ]; then launcher+=(--oversubscribe); fi
  local command=("${launcher[@]}" "$lockstep" train "$config" "--run.dir=$run"
    "--data.train=$data" "--data.val=$data")
  show "${command[@]}"
  exec "${command[@]}" < /dev/null
}

# Trains to the middle, then asks for a stop as a batch system would.
train_and_interrupt() {
  local middle=$1 code=0 pid
  (start_training) &
  pid=$!
  while kill -0 "$pid" 2> /dev/null && [ "$(last_step)" -lt "$middle" ]; do sleep 0.2; done
  echo "+ kill -USR1 $pid"
  kill -USR1 "$pid" 2> /dev/null || true
  wait "$pid" || code=$?
  case "$code" in
    75) echo "stopped with exit code 75 and a checkpoint; the same command goes on from there" ;;
    0) echo "training ended before the signal arrived" ;;
    *) die "training failed with exit code $code" ;;
  esac
}

train() {
  local steps code=0
  steps=$(awk -F'[= ]+' '$1 == "steps" {print $2; exit}' "$config")
  if [ "$(last_step)" -lt $((steps / 2)) ]; then
    heading "train with $ranks ranks, to be interrupted in the middle"
    train_and_interrupt $((steps / 2))
  fi
  heading "train to the end"
  (start_training) || code=$?
  [ "$code" -eq 0 ] || die "training failed with exit code $code"
}

# keep FILE COMMAND...: shows a command's output and keeps it, until there is a newer checkpoint.
keep() {
  local file=$1
  shift
  show "$@"
  if [ ! "$file" -nt "$run/checkpoints/latest" ]; then
    "$@" > "$file.part"
    mv "$file.part" "$file"
  fi
  cat "$file"
}

heading "packages"
"$root/scripts/install_packages.sh"
heading "build"
lockstep=$("$root/scripts/build.sh" "-DLOCKSTEP_CUDA=$(cuda_choice)" "${arguments[@]}")
lockstep=${lockstep#"$root/"}
case "$lockstep" in /*) ;; *) lockstep=./$lockstep ;; esac
mpi_environment
find_text
name_run
heading "prepare $text"
prepare_data
train
heading "evaluate"
keep "$run/eval.json" "$lockstep" eval "$run" --json
heading "draw the loss curve"
scripts/plot.sh "$run" --out "$run/loss.svg"
scripts/plot.sh "$run" --out "$run/loss.png"
heading "export in int8"
keep "$run/export.txt" "$lockstep" export "$run" --out "$run/model-q8_0.gguf" --format gguf \
  --quantize int8 --overwrite
heading "sample from the export"
keep "$run/sample.txt" "$lockstep" generate "$run/model-q8_0.gguf" --prompt "The " \
  --max-tokens 200 --seed 1

cat << END

done in $SECONDS s
  program      $lockstep
  tokens       $data
  run          $run (metrics.jsonl, events.jsonl, train.log, checkpoints)
  evaluation   $run/eval.json
  int8 export  $run/model-q8_0.gguf, for llama.cpp
  sample       $run/sample.txt
  loss curve   $run/loss.svg, $run/loss.png
next: $lockstep inspect $run
END

#!/usr/bin/env bash
# Times whole training steps on one GPU, on tokens spread over the whole vocabulary as text's are,
# PyTorch's compiled model beside them where torch is installed. One line of JSON a run, in the
# order A B B A (peer, ours, ours, peer). bench_scaling.sh measures several GPUs.
#   scripts/bench_gpu.sh [--binary build/lockstep] [--steps N] [--only LABEL]
set -euo pipefail
cd "$(dirname "$0")/.."

binary=build/lockstep
steps=20
only=""
while [ $# -gt 0 ]; do
  case "$1" in
    --binary) binary=$2; shift 2 ;;
    --steps) steps=$2; shift 2 ;;
    --only) only=$2; shift 2 ;;
    *) echo "bench_gpu.sh: unknown option $1; see the head of this file" >&2; exit 64 ;;
  esac
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader

for vocabulary in 50257 151936; do
  python3 scripts/bench/zipf_shard.py "$work/$vocabulary.bin" "$vocabulary" 4000000
done
cat > "$work/bench.toml" << END
[train]
steps = $((steps + 3))
[optimizer]
lr = 6e-4
warmup_steps = 100
[log]
interval = 1
END

ours() {  # label preset dtype micro-batch accumulation [sequence]
  local label=$1 tf32=false dtype=$3 data=$work/50257.bin
  [[ $2 != qwen* ]] || data=$work/151936.bin
  [ "$dtype" != tf32 ] || { tf32=true; dtype=fp32; }
  [ -z "$only" ] || [[ $label == *"$only"* ]] || return 0
  rm -rf "$work/run"
  if ! "$binary" train "$work/bench.toml" --run.dir="$work/run" --run.device=cuda \
      --data.train="$data" --model.preset="$2" --model.seq_len="${6:-1024}" \
      --precision.dtype="$dtype" --precision.tf32="$tf32" --train.micro_batch_size="$4" \
      --train.global_batch_size="$(($4 * $5))" > "$work/log" 2>&1; then
    tail -5 "$work/log"
    return 0
  fi
  python3 scripts/bench/summarize.py "$work/run/metrics.jsonl" --label "$label"
}

peer() {  # as ours()
  local label=$1
  [ -z "$only" ] || [[ $label == *"$only"* ]] || return 0
  python3 -c 'import torch' 2> /dev/null || { echo "no PyTorch here: no peer"; return 0; }
  python3 scripts/bench/peer_torch.py --preset "$2" --dtype "$3" --micro-batch "$4" \
    --accumulation "$5" --seq-len "${6:-1024}" --steps "$steps" 2> "$work/log" ||
    tail -5 "$work/log"
}

both() {
  peer "$@"
  ours "$@"
  ours "$@"
  peer "$@"
}

both "gpt2-124m bf16 64x1024x8" gpt2-124m bf16 64 8
both "gpt2-124m fp16 64x1024x8" gpt2-124m fp16 64 8
both "gpt2-124m tf32 64x1024x2" gpt2-124m tf32 64 2
both "gpt2-124m bf16 8x1024x1" gpt2-124m bf16 8 1
both "gpt2-124m bf16 16x4096x2" gpt2-124m bf16 16 2 4096
ours "gpt2-124m bf16 64x1024x1" gpt2-124m bf16 64 1
ours "gpt2-355m bf16 16x1024x4" gpt2-355m bf16 16 4
ours "qwen2.5-0.5b bf16 16x1024x4" qwen2.5-0.5b bf16 16 4

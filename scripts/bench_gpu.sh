#!/usr/bin/env bash
# Times whole training steps on one GPU, PyTorch's compiled model beside them where torch is
# installed. One line of JSON a run, in the order A B B A (peer, ours, ours, peer).
# bench_scaling.sh measures several GPUs.
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

# Enough tokens for every shape: the licence texts, repeated.
for _ in $(seq 40); do
  cat /usr/share/common-licenses/* 2> /dev/null || true
done > "$work/text.txt"
"$binary" prepare --out "$work/data" --tokenizer byte "$work/text.txt" > /dev/null
cat > "$work/bench.toml" << END
[data]
train = "$work/data"
[train]
steps = $((steps + 3))
[optimizer]
lr = 6e-4
warmup_steps = 100
[log]
interval = 1
END

ours() {  # label preset dtype micro-batch accumulation
  local label=$1
  [ -z "$only" ] || [[ $label == *"$only"* ]] || return 0
  rm -rf "$work/run"
  if ! "$binary" train "$work/bench.toml" --run.dir="$work/run" --run.device=cuda \
      --model.preset="$2" --precision.dtype="$3" --train.micro_batch_size="$4" \
      --train.global_batch_size="$(($4 * $5))" > "$work/log" 2>&1; then
    tail -5 "$work/log"
    return 0
  fi
  python3 scripts/bench/summarize.py "$work/run/metrics.jsonl" --label "$label"
}

peer() {  # label preset dtype micro-batch accumulation
  local label=$1
  [ -z "$only" ] || [[ $label == *"$only"* ]] || return 0
  python3 -c 'import torch' 2> /dev/null || { echo "no PyTorch here: no peer"; return 0; }
  python3 scripts/bench/peer_torch.py --preset "$2" --dtype "$3" --micro-batch "$4" \
    --accumulation "$5" --steps "$steps" 2> "$work/log" || tail -5 "$work/log"
}

both() {
  peer "$@"
  ours "$@"
  ours "$@"
  peer "$@"
}

both "gpt2-124m bf16 64x1024x8" gpt2-124m bf16 64 8
both "gpt2-124m fp16 64x1024x8" gpt2-124m fp16 64 8
ours "gpt2-124m bf16 64x1024x1" gpt2-124m bf16 64 1
ours "gpt2-124m bf16 8x1024x1" gpt2-124m bf16 8 1
ours "gpt2-355m bf16 16x1024x4" gpt2-355m bf16 16 4
ours "qwen2.5-0.5b bf16 16x1024x4" qwen2.5-0.5b bf16 16 4

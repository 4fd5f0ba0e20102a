"""PyTorch's compiled GPT-2 on the shapes of a Lockstep run: the peer quoted beside it.

One process a GPU (start with torchrun for more than one); random tokens, AdamW (fused), clipping by
the global norm, gradient accumulation without a reduction in between. Prints one line of JSON on
rank 0: median milliseconds a step, tokens a second of all GPUs, peak GiB.
"""

import argparse
import contextlib
import json
import os
import statistics
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x):
        batch, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Gpt2(nn.Module):
    def __init__(self, layers: int, width: int, heads: int, length: int, vocab: int = 50304):
        super().__init__()
        self.tokens = nn.Embedding(vocab, width)
        self.positions = nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocab, bias=False)
        self.head.weight = self.tokens.weight
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens, targets):
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1))


SHAPES = {"gpt2-124m": (12, 768, 12), "gpt2-355m": (24, 1024, 16)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=SHAPES, default="gpt2-124m")
    parser.add_argument("--dtype", choices=["bf16", "fp16", "tf32"], default="bf16")
    parser.add_argument("--micro-batch", type=int, default=64)
    parser.add_argument("--accumulation", type=int, default=8)
    parser.add_argument("--seq-len", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warm-up", type=int, default=5)
    args = parser.parse_args()

    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    torch.cuda.set_device(device)
    if world > 1:
        dist.init_process_group("nccl", device_id=device)
    torch.manual_seed(1234 + rank)
    torch.set_float32_matmul_precision("high")

    layers, width, heads = SHAPES[args.preset]
    model = Gpt2(layers, width, heads, args.seq_len).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), fused=True)
    scaler = torch.amp.GradScaler("cuda", enabled=args.dtype == "fp16")
    dtype = torch.float16 if args.dtype == "fp16" else torch.bfloat16
    wrapped = model
    if world > 1:
        wrapped = nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
    compiled = torch.compile(wrapped)
    shape = (args.micro_batch, args.seq_len)
    tokens = torch.randint(0, 50257, (8, *shape), device=device)

    def step(index: int):
        for micro in range(args.accumulation):
            batch = tokens[(index * args.accumulation + micro) % 8]
            last = micro + 1 == args.accumulation
            hold = contextlib.nullcontext() if world == 1 or last else wrapped.no_sync()
            with hold:
                with torch.autocast("cuda", dtype=dtype, enabled=args.dtype != "tf32"):
                    loss = compiled(batch, batch.roll(-1, dims=1)) / args.accumulation
                scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)

    times = []
    for index in range(args.warm_up + args.steps):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        step(index)
        torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - begin))
    median = statistics.median(times[args.warm_up :])
    if rank == 0:
        count = args.micro_batch * args.seq_len * args.accumulation * world
        print(json.dumps({
            "peer": f"torch {torch.__version__} compile", "preset": args.preset,
            "dtype": args.dtype, "gpus": world, "step_ms": round(median, 2),
            "tokens_per_second": round(count / median * 1000),
            "peak_gib": round(torch.cuda.max_memory_reserved() / 2**30, 1)}))
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# The same training runs in plain PyTorch: models written out by hand, torch.optim.AdamW, batches in
# an order computed here anew from its description. Writes reference_NAME.json beside this file.
# Only the initial weights come from the program: its checkpoint after one step at lr = 0.
"""Usage: reference.py --binary build/lockstep [--out DIR] [--sensitivity] [CASE...]

Needs torch, numpy and h5py. --sensitivity writes nothing: it prints by how much the losses would
differ if the reference made one mistake, for each of a list of mistakes."""

import argparse
import glob
import json
import math
import os
import sys
import tempfile

import h5py
import numpy
import torch
import torch.nn.functional as F

sys.dont_write_bytecode = True
import parity_case as parity
from sample_order import shuffled

HERE = os.path.dirname(os.path.abspath(__file__))


class Samples:
    """Windows of T inputs and T targets in training order; a masked target is -100."""

    def __init__(self, name):
        case = parity.CASES[name]
        text = parity.corpus()
        self.T = case["model"]["seq_len"]
        tokens = parity.split(list(text))
        counts = parity.split(parity.mask(len(text)) if case["masked"] else b"\1" * len(text))
        self.windows = []
        for part, flags in zip(tokens, counts):
            for begin in range(0, (len(part) - 1) // self.T * self.T, self.T):
                inputs = part[begin:begin + self.T]
                targets = [token if flag else -100
                           for token, flag in zip(part[begin + 1:begin + self.T + 1],
                                                  flags[begin + 1:begin + self.T + 1])]
                self.windows.append((inputs, targets))

    def batch(self, first, count):
        n = len(self.windows)
        rows = []
        for i in range(first, first + count):
            rows.append(self.windows[shuffled(i, n, parity.SEED)])
        return torch.tensor([r[0] for r in rows]), torch.tensor([r[1] for r in rows])


# ---- the models. w: parameters by Hugging Face's names; B batch, T length, C hidden, H heads

def causal_attention(q, k, v):
    """q (B, H, T, D); k, v (B, G, T, D), each shared by H / G query heads."""
    T, D = q.shape[-2:]
    shared = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(shared, dim=1), v.repeat_interleave(shared, dim=1)
    scores = q @ k.transpose(-2, -1) / math.sqrt(D)
    future = torch.ones(T, T, dtype=torch.bool).triu(1)
    y = torch.softmax(scores.masked_fill(future, -math.inf), dim=-1) @ v
    return y.transpose(1, 2).flatten(2)


def gpt2(w, tokens, model):
    C, H = model["hidden"], model["heads"]
    eps = model["norm_eps"]

    def norm(x, name):
        return F.layer_norm(x, (C,), w[name + ".weight"], w[name + ".bias"], eps)

    def linear(x, name):
        return F.linear(x, w[name + ".weight"], w[name + ".bias"])

    def heads(x):
        return x.unflatten(-1, (H, C // H)).transpose(1, 2)

    x = w["transformer.wte.weight"][tokens] + w["transformer.wpe.weight"][:tokens.shape[1]]
    for layer in range(model["layers"]):
        p = f"transformer.h.{layer}."
        q, k, v = linear(norm(x, p + "ln_1"), p + "attn.c_attn").split(C, dim=-1)
        x = x + linear(causal_attention(heads(q), heads(k), heads(v)), p + "attn.c_proj")
        hidden = linear(norm(x, p + "ln_2"), p + "mlp.c_fc")
        hidden = F.gelu(hidden, approximate=model.get("gelu", "tanh"))
        x = x + linear(hidden, p + "mlp.c_proj")
    head = w["transformer.wte.weight" if model["tied"] else "lm_head.weight"]
    return norm(x, "transformer.ln_f") @ head.T


def rope(x, theta):
    """Half-split rotary embedding of x (B, H, T, D); angles in fp32, as reference codes do."""
    T, D = x.shape[-2:]
    frequencies = 1.0 / theta ** (torch.arange(0, D, 2, dtype=torch.float32) / D)
    angles = torch.outer(torch.arange(T, dtype=torch.float32), frequencies)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def llama(w, tokens, model):
    H, G, D = model["heads"], model["kv_heads"], model["head_dim"]
    eps, theta = model["norm_eps"], model["rope_theta"]

    def norm(x, name):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * w[name + ".weight"]

    def linear(x, name):
        return F.linear(x, w[name + ".weight"], w.get(name + ".bias"))

    def heads(x, count):
        return x.unflatten(-1, (count, D)).transpose(1, 2)

    x = w["model.embed_tokens.weight"][tokens]
    for layer in range(model["layers"]):
        p = f"model.layers.{layer}."
        y = norm(x, p + "input_layernorm")
        q = rope(heads(linear(y, p + "self_attn.q_proj"), H), theta)
        k = rope(heads(linear(y, p + "self_attn.k_proj"), G), theta)
        v = heads(linear(y, p + "self_attn.v_proj"), G)
        x = x + linear(causal_attention(q, k, v), p + "self_attn.o_proj")
        y = norm(x, p + "post_attention_layernorm")
        y = F.silu(linear(y, p + "mlp.gate_proj")) * linear(y, p + "mlp.up_proj")
        x = x + linear(y, p + "mlp.down_proj")
    head = w["model.embed_tokens.weight" if model["tied"] else "lm_head.weight"]
    return norm(x, "model.norm") @ head.T


# What the architectures set where a case is silent, and which biases exist.
DEFAULTS = {
    "gpt2": {"norm_eps": 1e-5, "tied": True},
    "llama": {"norm_eps": 1e-5, "rope_theta": 1e4, "qkv_bias": False, "out_bias": False,
              "mlp_bias": False, "tied": False},
    "qwen2": {"norm_eps": 1e-6, "rope_theta": 1e6, "qkv_bias": True, "out_bias": False,
              "mlp_bias": False, "tied": False},
}
FORWARD = {"gpt2": gpt2, "llama": llama, "qwen2": llama}


def settings(name):
    given = dict(parity.CASES[name]["model"])
    model = dict(DEFAULTS[given["architecture"]])
    for key, targets in (("attention_bias", ("qkv_bias", "out_bias")), ("mlp_bias", ("mlp_bias",)),
                         ("tie_embeddings", ("tied",))):
        if key in given:
            model.update({target: given[key] == "true" for target in targets})
            del given[key]
    model.update(given)
    model.setdefault("head_dim", model["hidden"] // model["heads"])
    model.setdefault("ffn", 4 * model["hidden"])
    return model


def expected_shapes(model):
    C, F_, V = model["hidden"], model["ffn"], model["vocab"]
    shapes = {} if model["tied"] else {"lm_head.weight": (V, C)}

    def linear(name, out, inside, bias):
        shapes[name + ".weight"] = (out, inside)
        if bias:
            shapes[name + ".bias"] = (out,)

    if model["architecture"] == "gpt2":
        shapes["transformer.wte.weight"] = (V, C)
        shapes["transformer.wpe.weight"] = (model["seq_len"], C)
        norms = ["transformer.ln_f"]
        for layer in range(model["layers"]):
            p = f"transformer.h.{layer}."
            norms += [p + "ln_1", p + "ln_2"]
            linear(p + "attn.c_attn", 3 * C, C, True)
            linear(p + "attn.c_proj", C, C, True)
            linear(p + "mlp.c_fc", F_, C, True)
            linear(p + "mlp.c_proj", C, F_, True)
        shapes.update({f"{norm}.{part}": (C,) for norm in norms for part in ("weight", "bias")})
        return shapes
    query, key = model["heads"] * model["head_dim"], model["kv_heads"] * model["head_dim"]
    shapes["model.embed_tokens.weight"] = (V, C)
    shapes["model.norm.weight"] = (C,)
    for layer in range(model["layers"]):
        p = f"model.layers.{layer}."
        shapes[p + "input_layernorm.weight"] = (C,)
        shapes[p + "post_attention_layernorm.weight"] = (C,)
        linear(p + "self_attn.q_proj", query, C, model["qkv_bias"])
        linear(p + "self_attn.k_proj", key, C, model["qkv_bias"])
        linear(p + "self_attn.v_proj", key, C, model["qkv_bias"])
        linear(p + "self_attn.o_proj", C, query, model["out_bias"])
        linear(p + "mlp.gate_proj", F_, C, model["mlp_bias"])
        linear(p + "mlp.up_proj", F_, C, model["mlp_bias"])
        linear(p + "mlp.down_proj", C, F_, model["mlp_bias"])
    return shapes


# ---- training

def learning_rate(optimizer, update):
    """Linear warm-up that reaches the peak at update warmup_steps, then a cosine, a line, or (wsd)
    the peak and a root over decay_steps, to the fraction at the last step. Updates count from 1."""
    peak, warmup = optimizer["lr"], optimizer["warmup_steps"]
    if update <= warmup:
        return peak * update / warmup
    begin = warmup
    if optimizer["schedule"] == "wsd":
        begin = parity.STEPS - optimizer["decay_steps"]
    p = max(update - begin, 0) / (parity.STEPS - begin)
    height = {"cosine": 0.5 * (1 + math.cos(math.pi * p)), "linear": 1 - p,
              "wsd": 1 - math.sqrt(p)}[optimizer["schedule"]]
    last = peak * optimizer["final_lr_fraction"]
    return last + (peak - last) * height


def run(name, initial, dtype, mistake=None):
    """Losses and gradient norms (before clipping) of the case's steps."""
    case, model, optimizer = parity.CASES[name], settings(name), parity.optimizer(name)
    if mistake:
        mistake(model, optimizer)
    forward = model.get("forward", FORWARD[model["architecture"]])
    w = {k: torch.nn.Parameter(torch.tensor(v, dtype=dtype)) for k, v in initial.items()}
    matrices = [p for p in w.values() if p.dim() >= 2]
    vectors = [p for p in w.values() if p.dim() < 2]
    kind = torch.optim.Adam if optimizer["name"] == "adam" else torch.optim.AdamW
    adamw = kind(
        [{"params": matrices, "weight_decay": optimizer["weight_decay"]},
         {"params": vectors, "weight_decay": optimizer.get("vector_decay", 0.0)}],
        lr=0.0, betas=(optimizer["beta1"], optimizer["beta2"]), eps=optimizer["eps"])
    samples, micro = Samples(name), case["micro_batch_size"]
    losses, norms = [], []
    for step in range(parity.STEPS):
        first = step * micro * parity.ACCUMULATION
        batches = [samples.batch(first + i * micro, micro) for i in range(parity.ACCUMULATION)]
        valid = sum(int((targets >= 0).sum()) for _, targets in batches)
        adamw.zero_grad()
        total = 0.0
        for inputs, targets in batches:
            logits = forward(w, inputs, model)
            each = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none",
                                   ignore_index=-100)
            counted = valid
            if "mean_of_means" in optimizer:
                counted = int((targets >= 0).sum()) * parity.ACCUMULATION
            (each.sum() / counted).backward()
            total += float(each.detach().double().sum())
        losses.append(total / valid)
        clip = optimizer["clip_grad"] or math.inf
        norms.append(float(torch.nn.utils.clip_grad_norm_(list(w.values()), clip)))
        for group in adamw.param_groups:
            group["lr"] = learning_rate(optimizer, step + 1)
        adamw.step()
    return losses, norms


def initial_weights(binary, name, folder):
    """What the program starts from: the masters in its checkpoint after a step at lr = 0."""
    parity.prepare(binary, name, folder)
    for index, part in enumerate(parity.split(list(parity.corpus()))):
        assert parity.shard_tokens(folder, index) == part, f"shard {index} is not the text"
    parity.train(binary, parity.config(name), folder, "--train.steps=1", "--optimizer.lr=0",
                 "--optimizer.warmup_steps=0", "--run.device=cpu")
    parts = {}
    for path in sorted(glob.glob(folder + "/run/checkpoints/step_00000001/shard-*.h5")):
        with h5py.File(path, "r") as shard:
            for parameter, rows in shard["model"].items():
                parts.setdefault(parameter, []).append(rows[...])
    weights = {k: numpy.concatenate(rows) for k, rows in parts.items()}
    shapes = {(k, v.shape) for k, v in weights.items()}
    wanted = set(expected_shapes(settings(name)).items())
    assert shapes == wanted, f"{name}: parameters differ: {shapes ^ wanted}"
    check_initial(weights, settings(name))
    return weights


def check_initial(weights, model):
    """Norms 1, biases 0, matrices normal with init_std; GPT-2's projections into the residual
    stream with init_std / sqrt(2 layers). Within five standard errors of mean and deviation."""
    for name, value in weights.items():
        assert value.dtype == numpy.float32, name
        if value.ndim == 1:
            norm = name.endswith(".weight")
            assert (value == (1.0 if norm else 0.0)).all(), name
            continue
        std = model.get("init_std", 0.02)
        if model["architecture"] == "gpt2" and name.endswith("c_proj.weight"):
            std /= math.sqrt(2 * model["layers"])
        z = value.astype(numpy.float64) / std
        assert abs(z.mean()) * math.sqrt(z.size) < 5, f"{name}: mean {z.mean()}"
        assert abs(z.std() - 1) * math.sqrt(2 * z.size) < 5, f"{name}: deviation {z.std()}"


def largest(losses, others):
    return max(abs(a - b) for a, b in zip(losses, others))


def write_reference(name, initial, out):
    losses, norms = run(name, initial, torch.float32)
    exact, _ = run(name, initial, torch.float64)
    bf16, _ = run(name, initial, torch.float32, setting("forward", in_bf16))
    clip = parity.optimizer(name)["clip_grad"]
    clipped = sum(norm > clip for norm in norms)
    assert clipped > 0, f"{name}: clipping was never active: {norms}"
    result = {"case": name, "torch": torch.__version__, "numpy": numpy.__version__,
              "parameters": sum(v.size for v in initial.values()), "steps_clipped": clipped,
              "losses": losses, "grad_norms": norms, "losses_float64": exact,
              "losses_bf16": bf16, "config": parity.config(name)}
    path = os.path.join(out, f"reference_{name}.json")
    with open(path, "w", encoding="ascii") as file:
        file.write(json.dumps(result, indent=1) + "\n")
    print(f"{path}: loss {losses[0]:.4f} to {losses[-1]:.4f}, {clipped} steps clipped, "
          f"fp32 differs from float64 by {largest(losses, exact):.1e}, "
          f"from bf16 by {largest(losses, bf16):.1e}")


# ---- variations: bf16, and mistakes that the comparison has to notice

def setting(key, value):
    return lambda model, optimizer: model.update({key: value})


def rule(key, value):
    return lambda model, optimizer: optimizer.update({key: value})


def unmixed_heads(w, tokens, model):
    """Llama with query head h reading k and v of head h mod G, not h // (H / G)."""
    D, G, H = model["head_dim"], model["kv_heads"], model["heads"]
    order = [g * (H // G) + i for i in range(H // G) for g in range(G)]
    rows = torch.tensor([h * D + d for h in order for d in range(D)])
    back = {}
    for key, value in w.items():
        if "q_proj" in key:
            value = value[rows]
        elif "o_proj.weight" in key:
            value = value[:, rows]
        back[key] = value
    return llama(back, tokens, model)


def interleaved(w, tokens, model):
    """Llama with RoPE on neighbours (0, 1), (2, 3)... instead of halves."""
    D = model["head_dim"]
    pairs = [i for start in (0, 1) for i in range(start, D, 2)]
    back = {}
    for key, value in w.items():
        if "q_proj" in key or "k_proj" in key:
            rows = torch.tensor([h + i for h in range(0, value.shape[0], D) for i in pairs])
            value = value[rows]
        back[key] = value
    return llama(back, tokens, model)


def in_bf16(w, tokens, model):
    """Weights and activations in bf16, masters and losses in fp32: no mistake, but a yardstick."""
    rounded = {k: v.to(torch.bfloat16) for k, v in w.items()}
    return FORWARD[model["architecture"]](rounded, tokens, model).float()


def without(part):
    def forward(w, tokens, model):
        kept = {k: torch.zeros_like(v) if part in k else v for k, v in w.items()}
        return FORWARD[model["architecture"]](kept, tokens, model)
    return forward


MISTAKES = {
    "norm epsilon 10 times as large": lambda m, o: m.update(norm_eps=10 * m["norm_eps"]),
    "no weight decay": rule("weight_decay", 0.0),
    "weight decay of vectors too": lambda m, o: o.update(vector_decay=o["weight_decay"]),
    "decay as a gradient (Adam)": rule("name", "adam"),
    "beta2 too large by 0.01": lambda m, o: o.update(beta2=o["beta2"] + 0.01),
    "AdamW's eps 100 times as large": lambda m, o: o.update(eps=100 * o["eps"]),
    "no clipping": rule("clip_grad", 0.0),
    "warm-up a step shorter": lambda m, o: o.update(warmup_steps=o["warmup_steps"] - 1),
    "rate falls to 0": rule("final_lr_fraction", 0.0),
    "erf instead of tanh in GELU": setting("gelu", "none"),
    "biases ignored": setting("forward", without(".bias")),
    "mean over micro-batches, not tokens": rule("mean_of_means", True),
    "RoPE base doubled": lambda m, o: m.update(rope_theta=2 * m.get("rope_theta", 0)),
    "RoPE interleaved": setting("forward", interleaved),
    "kv heads interleaved": setting("forward", unmixed_heads),
}
# Mistakes that change nothing in a case, because it has no such thing.
GELU, MASK = "erf instead of tanh in GELU", "mean over micro-batches, not tokens"
ROPE = ("RoPE base doubled", "RoPE interleaved", "kv heads interleaved")
SILENT = {"gpt2": (*ROPE, MASK), "llama": (GELU, MASK, "biases ignored"), "qwen2": (GELU, MASK),
          "corners_llama": (GELU,), "corners_gpt2": (*ROPE, MASK)}


def print_sensitivity(name, initial):
    losses, _ = run(name, initial, torch.float32)
    for title, mistake in MISTAKES.items():
        if title in SILENT[name]:
            continue
        wrong, _ = run(name, initial, torch.float32, mistake)
        print(f"{name:13} {title:36} {largest(losses, wrong):.1e}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--out", default=HERE)
    parser.add_argument("--sensitivity", action="store_true")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(parity.CASES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for name in arguments.cases or parity.CASES:
        with tempfile.TemporaryDirectory() as folder:
            initial = initial_weights(arguments.binary, name, folder)
        if arguments.sensitivity:
            print_sensitivity(name, initial)
        else:
            write_reference(name, initial, arguments.out)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# Models that transformers wrote, read by the program: the same logits, the same losses (masked
# targets too), the same greedy text, and the same 20 steps of training when they are init_from. And
# back: what the program exports, trained runs among it, opened by transformers.
"""Usage: transformers_test.py PROGRAM PROBE [CASE...]   exit 0: equal, 1: not, 77: skipped"""

import importlib.util
import json
import os
import random
import sys
import tempfile

for package in ("numpy", "torch", "transformers"):
    if importlib.util.find_spec(package) is None:
        print(f"skipped: {sys.executable} cannot import {package}")
        sys.exit(77)

sys.dont_write_bytecode = True
sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "parity"))
import torch
import torch.nn.functional as F
import transformers
from sample_order import shuffled
from transformers_support import (LOGITS_TOLERANCE, call, compare_directory, evaluate, load,
                                  logits_difference, probe_logits, write_shard)

LOSS_TOLERANCE = 1e-5
TRAINING_TOLERANCE = 1e-4
# Weights and activations of 8 or 11 bits, both in the program alone: largest difference of a loss.
ROUNDED_TOLERANCE = {"bfloat16": 2e-3, "float16": 2e-4}
T = 64
STEPS, MICRO, ACCUMULATION, SEED = 20, 3, 2, 7
# AdamW's first updates are as large for a gradient that is all rounding as for any other, so larger
# rates magnify rounding, PyTorch's as well as ours.
LR = 5e-4

LLAMA = {"vocab_size": 256, "hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 3,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": T}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}
GPT2 = {"vocab_size": 256, "n_positions": T, "n_embd": 48, "n_layer": 3, "n_head": 3,
        "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}


def gpt2(**changes):
    return transformers.GPT2Config(**{**GPT2, **changes})


def llama(**changes):
    return transformers.LlamaConfig(**{**LLAMA, **changes})


def qwen2(**changes):
    return transformers.Qwen2Config(**{**LLAMA, **changes})


# config, dtype it is stored in, bytes per file
CASES = {
    "gpt2": (gpt2(), "float32", None),
    "gpt2 odd": (gpt2(vocab_size=301, n_inner=104, tie_word_embeddings=False,
                      activation_function="gelu_pytorch_tanh"), "float32", None),
    "llama": (llama(), "float32", None),
    "llama tied, biases": (llama(tie_word_embeddings=True, attention_bias=True, mlp_bias=True,
                                 rms_norm_eps=1e-5, rope_theta=500.0), "float32", None),
    "llama3 scaling": (llama(rope_scaling=LLAMA3), "float32", None),
    "linear scaling": (llama(rope_scaling={"type": "linear", "factor": 2.5}), "float32", None),
    "qwen2": (qwen2(), "float32", None),
    "qwen2 tied": (qwen2(tie_word_embeddings=True, rope_theta=1e6, vocab_size=299), "float32",
                   None),
    "llama bf16": (llama(), "bfloat16", None),
    "gpt2 fp16": (gpt2(), "float16", None),
    "llama sharded": (llama(), "float32", "150KB"),
}
# What config.json could be misread as; each must be noticed in the logits.
WRONG = [("llama", "rope_theta", 20000.0), ("llama3 scaling", "rope_scaling", None),
         ("linear scaling", "rope_scaling", {"type": "linear", "factor": 2.6}),
         ("llama tied, biases", "num_attention_heads", 2), ("gpt2", "layer_norm_epsilon", 1e-2)]
TRAINED = ["gpt2", "llama3 scaling", "qwen2 tied", "llama tied, biases"]


def write_model(case, directory):
    """Every parameter random, norms and biases too, so that none can be forgotten unnoticed."""
    config, dtype, shard_size = CASES[case]
    torch.manual_seed(SEED)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            norm = parameter.dim() == 1 and name.endswith("weight")
            parameter.normal_(1.0 if norm else 0.0, 0.15)
    model = model.to(getattr(torch, dtype))
    model.save_pretrained(directory, **({"max_shard_size": shard_size} if shard_size else {}))
    files = [name for name in os.listdir(directory) if name.endswith(".safetensors")]
    assert (len(files) > 1) == (shard_size is not None), files


def tokens_of(case, count):
    """Each token is followed by one of three, so that there is something to learn."""
    vocab = CASES[case][0].vocab_size
    draw = random.Random(SEED)
    followers = [[draw.randrange(vocab) for _ in range(3)] for _ in range(vocab)]
    tokens = [0]
    while len(tokens) < count:
        tokens.append(followers[tokens[-1]][draw.randrange(3)])
    return tokens


def windows(tokens, mask=None):
    """Inputs and targets of every sample; a masked target is -100."""
    counted = [token if flag else -100 for token, flag in zip(tokens, mask or [1] * len(tokens))]
    starts = range(0, (len(tokens) - 1) // T * T, T)
    return (torch.tensor([tokens[k:k + T] for k in starts]),
            torch.tensor([counted[k + 1:k + T + 1] for k in starts]))


def loss_of(model, inputs, targets, reduction):
    logits = model(inputs).logits
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100,
                           reduction=reduction)


def eval_difference(program, model, directory, case, folder, masked=False, flags=()):
    tokens = tokens_of(case, 40 * T + 17)
    draw = random.Random(SEED + 1)
    mask = [draw.randrange(2) for _ in tokens] if masked else None
    shard = os.path.join(folder, "masked.bin" if masked else "plain.bin")
    write_shard(shard, tokens, mask)
    result = evaluate(program, directory, shard, T, *flags)
    inputs, targets = windows(tokens, mask)
    with torch.no_grad():
        want = float(loss_of(model.double(), inputs, targets, "mean"))
    model.float()
    assert result["tokens"] == int((targets >= 0).sum()), result
    return abs(result["loss"] - want)


def greedy_equal(program, model, directory):
    """40 tokens after an ASCII prompt; None where bytes cannot name every token."""
    if model.config.vocab_size != 256:
        return None
    prompt = "Tokens are bytes"
    text = call(program, "generate", directory, "--prompt", prompt, "--max-tokens", 40,
                "--temperature", 0, "--tokenizer", "byte", "--device", "cpu")
    ids = list(prompt.encode())
    with torch.no_grad():
        for _ in range(40):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return text == bytes(ids) + b"\n"


def train_ours(program, directory, folder):
    config = os.path.join(folder, "run.toml")
    with open(config, "w", encoding="ascii") as file:
        file.write(f"""
[run]
dir = "{folder}/run"
seed = {SEED}
device = "cpu"
[data]
train = ["{folder}/train.bin"]
[train]
steps = {STEPS}
micro_batch_size = {MICRO}
global_batch_size = {MICRO * ACCUMULATION}
[optimizer]
lr = {LR}
schedule = "constant"
weight_decay = 0.1
clip_grad = 1.0
[log]
interval = 1
""")
    call(program, "train", config, f"--model.init_from={directory}")
    with open(os.path.join(folder, "run", "metrics.jsonl"), encoding="ascii") as file:
        return [row["loss"] for row in map(json.loads, file) if "loss" in row]


def train_theirs(model, tokens):
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    adamw = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1},
                               {"params": vectors, "weight_decay": 0.0}],
                              lr=LR, betas=(0.9, 0.95), eps=1e-8)
    inputs, targets = windows(tokens)
    losses, clipped = [], 0
    model.train()
    for step in range(STEPS):
        batch = MICRO * ACCUMULATION
        rows = [shuffled(i, len(inputs), SEED) for i in range(step * batch, (step + 1) * batch)]
        adamw.zero_grad()
        loss = loss_of(model, inputs[rows], targets[rows], "mean")
        loss.backward()
        losses.append(float(loss))
        clipped += float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)) > 1.0
        adamw.step()
    assert clipped > 0, "clipping was never active"
    return losses


def training_difference(program, model, directory, case, folder):
    tokens = tokens_of(case, 60 * T)
    write_shard(os.path.join(folder, "train.bin"), tokens)
    ours, theirs = train_ours(program, directory, folder), train_theirs(model, tokens)
    assert len(ours) == len(theirs) == STEPS, ours
    return max(abs(a - b) for a, b in zip(ours, theirs)), theirs


def exported_difference(program, probe, source, case, folder):
    """Logits and tokenizer of an exported directory as transformers opens it."""
    out = os.path.join(folder, "exported")
    call(program, "export", source, "--out", out, "--format", "safetensors", "--dtype", "fp32",
         "--tokenizer", "byte", "--device", "cpu")
    transformers.GenerationConfig.from_pretrained(out)
    text = "caf\u00e9 \U0001f600\t12"
    ids = transformers.AutoTokenizer.from_pretrained(out)(text)["input_ids"]
    assert ids == list(text.encode()), ids
    return compare_directory(probe, out, source, tokens_of(case, T))


def run_case(program, probe, case):
    with tempfile.TemporaryDirectory() as folder:
        directory = os.path.join(folder, "model")
        write_model(case, directory)
        model = load(directory)
        tokens = tokens_of(case, T)
        logits = logits_difference(probe_logits(probe, directory, tokens), model, tokens)
        fp32 = ("--dtype", "fp32")
        plain = eval_difference(program, model, directory, case, folder, flags=fp32)
        masked = eval_difference(program, model, directory, case, folder, masked=True, flags=fp32)
        ok = logits <= LOGITS_TOLERANCE and max(plain, masked) <= LOSS_TOLERANCE
        dtype, greedy, rounded = CASES[case][1], "-", "-"
        if dtype == "float32":
            greedy = greedy_equal(program, model, directory)
            ok = ok and greedy is not False
        else:  # by default the program computes in what config.json names
            difference = eval_difference(program, model, directory, case, folder)
            ok = ok and 0 < difference <= ROUNDED_TOLERANCE[dtype]
            rounded = f"{difference:.1e}"
        training = "-"
        if case in TRAINED:
            difference, losses = training_difference(program, model, directory, case, folder)
            ok = ok and difference <= TRAINING_TOLERANCE
            training = f"{difference:.1e} of {losses[0]:.3f}..{losses[-1]:.3f}"
        exported = "-"
        if dtype == "float32":
            source = os.path.join(folder, "run") if case in TRAINED else directory
            difference = exported_difference(program, probe, source, case, folder)
            ok = ok and difference <= LOGITS_TOLERANCE
            exported = f"{difference:.1e}"
        print(f"{case:20} {logits:10.1e} {plain:10.1e} {masked:10.1e} {str(greedy):>7} "
              f"{rounded:>8} {exported:>8} {training}"
              f"{'' if ok else '  FAILED'}", flush=True)
        return ok


def conversations(program):
    """Prompts and completions through `prepare`: the loss of labels that are -100 on prompts."""
    case, draw = "llama", random.Random(SEED)
    with tempfile.TemporaryDirectory() as folder:
        directory, text = os.path.join(folder, "model"), os.path.join(folder, "chat.jsonl")
        write_model(case, directory)
        tokens, mask = [], []
        with open(text, "w", encoding="utf-8") as file:
            for number in range(300):
                prompt = f"Question {number}: {'why ' * draw.randrange(5)}\u00e9? "
                completion = f"Because {'it is so, ' * draw.randrange(6)}{number}.\n"
                file.write(json.dumps({"prompt": prompt, "completion": completion}) + "\n")
                for part, counts in ((prompt, 0), (completion, 1)):
                    tokens += part.encode()
                    mask += [counts] * len(part.encode())
        out = os.path.join(folder, "data")
        call(program, "prepare", "--out", out, "--tokenizer", "byte", "--val-fraction", 0, text)
        result = evaluate(program, directory, os.path.join(out, "train_000000.bin"), T,
                          "--dtype", "fp32")
        inputs, targets = windows(tokens, mask)
        with torch.no_grad():
            want = float(loss_of(load(directory).double(), inputs, targets, "mean"))
        difference = abs(result["loss"] - want)
        ok = difference <= LOSS_TOLERANCE and result["tokens"] == int((targets >= 0).sum())
        print(f"conversations        {difference:10.1e} over {result['tokens']} of "
              f"{targets.numel()} targets{'' if ok else '  FAILED'}")
        return ok


def notices(probe, case, key, value):
    with tempfile.TemporaryDirectory() as directory:
        write_model(case, directory)
        model, tokens = load(directory), tokens_of(case, T)
        path = os.path.join(directory, "config.json")
        with open(path, encoding="ascii") as file:
            config = json.load(file)
        if key == "num_attention_heads":  # as many rows, in heads twice as wide
            config["num_key_value_heads"] //= 2
            config["head_dim"] = config["hidden_size"] // value  # written by transformers 5 only
        if "rope_parameters" in config and key in ("rope_theta", "rope_scaling"):  # transformers 5
            changed = {key: value} if key == "rope_theta" else value or {"rope_type": "default"}
            config["rope_parameters"].update(changed)
            config.pop(key, None)
        else:
            config[key] = value
        with open(path, "w", encoding="ascii") as file:
            json.dump(config, file)
        logits = logits_difference(probe_logits(probe, directory, tokens), model, tokens)
        ok = logits > LOGITS_TOLERANCE
        print(f"{case:20} {logits:10.1e} with {key} = {value}{'' if ok else '  UNNOTICED'}")
        return ok


def main():
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    program, probe = map(os.path.abspath, sys.argv[1:3])
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    print(f"transformers {transformers.__version__}, torch {torch.__version__}")
    print(f"{'case':20} {'logits/std':>10} {'loss':>10} {'masked':>10} {'greedy':>7} "
          f"{'16 bits':>8} {'exported':>8} training")
    results = [run_case(program, probe, case) for case in sys.argv[3:] or CASES]
    if len(sys.argv) == 3:
        results.append(conversations(program))
        results += [notices(probe, *wrong) for wrong in WRONG]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())

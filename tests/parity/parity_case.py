# The parity cases: models, settings, a training text made from nothing but arithmetic, and how to
# run the program on them. Shared by reference.py (PyTorch) and parity_test.py (which has none).
# Standard library only.
import json
import os
import struct
import subprocess

STEPS = 20
SEED = 20240607
SHARD_TOKENS = 3000  # three shards: windows must not cross them, and their tails go unused

# What each case trains. "model" is the [model] section; what it leaves out (epsilon, RoPE's base,
# biases) is the architecture's default, which reference.py states on its own. "optimizer" is what
# differs from OPTIMIZER below: GPT-2 and Llama train with a rate at which their first 20 steps are
# stable, since at 2e-3 a spike of the gradient magnifies rounding, PyTorch's as well as ours.
CASES = {
    "gpt2": {
        "model": {"architecture": "gpt2", "layers": 4, "heads": 4, "hidden": 128, "seq_len": 64,
                  "vocab": 256},
        "optimizer": {"lr": 1e-3}, "micro_batch_size": 4, "masked": False,
    },
    "llama": {
        "model": {"architecture": "llama", "layers": 4, "heads": 4, "kv_heads": 2, "hidden": 128,
                  "ffn": 344, "seq_len": 64, "vocab": 256, "tie_embeddings": "false"},
        "optimizer": {"lr": 1e-3}, "micro_batch_size": 4, "masked": False,
    },
    "qwen2": {
        "model": {"architecture": "qwen2", "layers": 4, "heads": 4, "kv_heads": 2, "hidden": 128,
                  "ffn": 344, "seq_len": 64, "vocab": 256, "tie_embeddings": "true"},
        "optimizer": {}, "micro_batch_size": 4, "masked": False,
    },
    # What the round numbers above would hide: a vocabulary that is padded, a head in pieces,
    # head_dim other than hidden / heads, biases everywhere, odd sizes, masked targets; other values
    # of all that the optimizer reads; and weights large enough for every curve to bend.
    "corners_llama": {
        "model": {"architecture": "llama", "layers": 3, "heads": 6, "kv_heads": 2, "hidden": 72,
                  "head_dim": 24, "ffn": 152, "seq_len": 37, "vocab": 301, "norm_eps": 1e-6,
                  "rope_theta": 500.0, "attention_bias": "true", "mlp_bias": "true",
                  "tie_embeddings": "true", "init_std": 0.05},
        "optimizer": {"schedule": "linear", "warmup_steps": 3, "beta1": 0.85, "beta2": 0.97,
                      "eps": 1e-6, "weight_decay": 0.2, "clip_grad": 2.0},
        "micro_batch_size": 3, "masked": True, "lm_head_chunks": 4,
    },
    "corners_gpt2": {
        "model": {"architecture": "gpt2", "layers": 2, "heads": 3, "hidden": 72, "ffn": 200,
                  "seq_len": 41, "vocab": 290, "norm_eps": 3e-5, "tie_embeddings": "false",
                  "init_std": 0.1},
        "optimizer": {"schedule": "wsd", "decay_steps": 6, "warmup_steps": 4, "clip_grad": 2.5},
        "micro_batch_size": 5, "masked": False, "lm_head_chunks": 3,
    },
}

OPTIMIZER = {"name": "adamw", "lr": 2e-3, "schedule": "cosine", "warmup_steps": 5,
             "final_lr_fraction": 0.1, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8,
             "weight_decay": 0.1, "clip_grad": 1.0}
ACCUMULATION = 2


class Lcg:
    """64-bit linear congruential generator (Knuth's MMIX constants), top bits only."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) * n >> 31


def corpus():
    """7,000 bytes of sentences: few words, each followed by one of four of its own."""
    random = Lcg(SEED)
    syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
    words = ["".join(syllables[random.below(len(syllables))] for _ in range(1 + random.below(3)))
             for _ in range(60)]
    followers = [[random.below(len(words)) for _ in range(4)] for _ in words]
    text = ""
    word = 0
    while len(text) < 7000:
        sentence = []
        for _ in range(4 + random.below(6)):
            word = followers[word][random.below(4)]
            sentence.append(words[word])
        text += " ".join(sentence).capitalize() + (".\n" if random.below(5) == 0 else ". ")
    return text[:7000].encode("ascii")


def mask(count):
    """One byte per token: runs of targets that do not count, so that micro-batches differ."""
    random = Lcg(SEED + 1)
    out = bytearray()
    value = 1
    while len(out) < count:
        out += bytes([value]) * (1 + random.below(90))
        value = 1 - value
    return bytes(out[:count])


def split(sequence):
    return [sequence[at:at + SHARD_TOKENS] for at in range(0, len(sequence), SHARD_TOKENS)]


def optimizer(name):
    return {**OPTIMIZER, **CASES[name]["optimizer"]}


def toml(value):
    return json.dumps(value)  # numbers, ASCII texts and lists of texts are written alike


def config(name):
    case = CASES[name]
    micro = case["micro_batch_size"]
    sections = {
        "run": {"dir": "run", "seed": SEED, "threads": 1},
        "model": case["model"],
        "data": {"train": ["data"]},
        "train": {"steps": STEPS, "micro_batch_size": micro,
                  "global_batch_size": micro * ACCUMULATION},
        "optimizer": optimizer(name),
        "memory": {"lm_head_chunks": case.get("lm_head_chunks", 0)},
        "log": {"interval": 1},
    }
    return "\n".join(f"[{section}]\n" + "".join(f"{k} = {toml(v)}\n" for k, v in keys.items())
                     for section, keys in sections.items())


def call(binary, folder, *arguments):
    # One rank, whatever launcher this test itself may run under.
    launcher = ("OMPI_", "PMI", "SLURM_", "HYDRA_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(launcher)}
    command = [os.path.abspath(binary), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-2000:]}")


def prepare(binary, name, folder):
    """Makes FOLDER/data with `lockstep prepare`, and the masks that it does not make."""
    text = corpus()
    with open(os.path.join(folder, "text.txt"), "wb") as file:
        file.write(text)
    call(binary, folder, "prepare", "--out", "data", "--tokenizer", "byte", "--val-fraction", "0",
         "--shard-tokens", str(SHARD_TOKENS), "text.txt")
    if CASES[name]["masked"]:
        for index, part in enumerate(split(mask(len(text)))):
            with open(os.path.join(folder, "data", f"train_{index:06}.mask"), "wb") as file:
                file.write(part)


def shard_tokens(folder, index):
    """The tokens of a shard on disk: 256 int32 of header, then uint16."""
    with open(os.path.join(folder, "data", f"train_{index:06}.bin"), "rb") as file:
        data = file.read()
    return list(struct.unpack(f"<{len(data) // 2 - 512}H", data[1024:]))


def train(binary, config_text, folder, *flags):
    """Runs `lockstep train` in FOLDER; its rows of metrics.jsonl."""
    with open(os.path.join(folder, "config.toml"), "w", encoding="ascii") as file:
        file.write(config_text)
    call(binary, folder, "train", "config.toml", *flags)
    with open(os.path.join(folder, "run", "metrics.jsonl"), encoding="ascii") as file:
        rows = [json.loads(line) for line in file]
    return [row for row in rows if "loss" in row]

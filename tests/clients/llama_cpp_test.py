#!/usr/bin/env python3
# Exports as GGUF, opened by llama.cpp itself: the same token ids, the same probabilities of every
# next token as our own engine gives for the file, the same greedy text up to ties, the same loss
# when quantized; and gguf's reader finds what was announced. A file with rotary rows in the wrong
# order must be noticed.
"""Usage: llama_cpp_test.py PROGRAM PROBE [CASE...]   exit 0: equal, 1: not, 77: skipped"""

import importlib.util
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import urllib.request

for package in ("numpy", "gguf", "xllamacpp"):
    if importlib.util.find_spec(package) is None:
        print(f"skipped: {sys.executable} cannot import {package}")
        sys.exit(77)

import gguf
import numpy
import xllamacpp

ROOT = pathlib.Path(__file__).resolve().parents[2]
T, POSITIONS, GREEDY = 64, 48, 32
TRAINING = {"steps": 250, "lr": 4e-3}
PROMPT = "// The file "
BASE = {"layers": 2, "heads": 4, "hidden": 64, "ffn": 160, "seq_len": T}
GQA = {**BASE, "architecture": "llama", "kv_heads": 2}

# tokenizer, pre-tokenizer, model keys, the architecture that the file names
CASES = {
    "gpt2": ("byte", None, {**BASE, "architecture": "gpt2"}, "gpt2"),
    "gpt2 bpe": ("bpe:500", "gpt2", {**BASE, "architecture": "gpt2", "ffn": 96, "vocab": 512,
                                     "attention_bias": False}, "gpt2"),
    "llama": ("bpe:500", "llama3", {**GQA, "rope_scaling": "llama3:8,1,4,32"}, "llama"),
    "llama tied": ("bpe:500", "deepseek", {**GQA, "tie_embeddings": True, "attention_bias": True,
                                           "mlp_bias": True, "rope_scaling": "linear:2"}, "llama"),
    "qwen2": ("bpe:500", "qwen2", {**GQA, "architecture": "qwen2", "tie_embeddings": True},
              "qwen2"),
    "qwen2 narrow": ("bpe:500", "qwen2", {**GQA, "architecture": "qwen2", "head_dim": 8}, "llama"),
}
# export's flags, the largest error of a log-probability, the largest error of the loss (relative).
# llama.cpp rounds activations to the weights' type, in Q8_0 to 8 bits: there the loss counts.
FORMATS = {
    "F32": (["--dtype", "fp32"], 1e-4, 1e-4),
    "F16": (["--dtype", "fp16"], 1e-2, 1e-3),
    "BF16": (["--dtype", "bf16"], 1e-1, 3e-3),
    "Q8_0": (["--quantize", "q8_0"], None, 3e-3),
}
# llama.cpp looks GPT-2's GELU up in an fp16 table, whatever the weights are: half a unit of fp16's
# last place (2^-11 = 5e-4) on every activation.
GELU_TABLE_ERROR = 3e-3
LINES = ["Hello, world!", "It's 12345 o'clock; we've  3 spaces   here", "  leading", "trailing  ",
         "tab\tand\ttabs", "naive cafe: na\u00efve caf\u00e9", "\u4f60\u597d\uff0c\u4e16\u754c",
         "\u3053\u3093\u306b\u3061\u306f", "emoji \U0001f600\U0001f680 \U0001f468\u200d\U0001f469",
         "x" * 200, "CamelCase snake_case kebab-case", "0 00 000 0000 00000", "a\n\nb\n", "\u00a0",
         "\u041f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440", "!?...---===", "don't DON'T"]


def call(*command):
    launcher = ("OMPI_", "PMI", "SLURM_", "HYDRA_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(launcher)}
    done = subprocess.run([str(part) for part in command], env=environment, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0:
        raise SystemExit(f"{command}: exit {done.returncode}\n"
                         f"{(done.stdout + done.stderr)[-2000:].decode(errors='replace')}")
    return done.stdout


def corpus():
    """Text that is here anyway: the sources and their documentation."""
    files = sorted(ROOT.glob("docs/*.md")) + sorted(ROOT.glob("src/*/*.h"))
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def lines():
    """What is tokenized line by line: odd ones, and a thousand of the corpus. Lines with special
    tokens are left out: they are tokens here and plain text there."""
    return LINES + [line for line in corpus().splitlines() if line and "<|" not in line][:1000]


def shard_tokens(directory):
    """All ids of a `prepare` directory's training shards, in order."""
    ids = []
    for path in sorted(pathlib.Path(directory).glob("train_*.bin")):
        data = path.read_bytes()
        magic, _, count = struct.unpack_from("<3i", data)
        ids += numpy.frombuffer(data, "<u2" if magic == 20240520 else "<u4", count, 1024).tolist()
    return ids


def train(program, folder, case):
    """A run of a few seconds, so that probabilities are far from equal."""
    tokenizer, pre, model, _ = CASES[case]
    text, data, run = folder / "text.txt", folder / "data", folder / "run"
    text.write_text(corpus(), encoding="utf-8")
    flags = ["--pre-tokenizer", pre] if pre else []
    call(program, "prepare", "--out", data, "--tokenizer", tokenizer, *flags, text)
    config = folder / "run.toml"
    keys = "\n".join(f"{key} = {json.dumps(value)}" for key, value in model.items())
    config.write_text(f"""
[run]
dir = "{run}"
device = "cpu"
[model]
{keys}
[data]
train = "{data}"
val = "{data}"
[train]
steps = {TRAINING["steps"]}
micro_batch_size = 8
global_batch_size = 8
[optimizer]
lr = {TRAINING["lr"]}
[eval]
interval = 0
[log]
interval = 50
""", encoding="ascii")
    call(program, "train", config)
    return run, data


class Client:
    """A llama.cpp server over one file, asked over its loopback address."""

    def __init__(self, path):
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx = T
        params.n_parallel = 1
        params.warmup = False
        params.verbosity = -1
        params.fit_params = False
        params.cpuparams.n_threads = 1
        params.cpuparams_batch.n_threads = 1
        # Keys and values of our engine are not rounded.
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        self.server = xllamacpp.Server(params)

    def post(self, route, body):
        request = urllib.request.Request(self.server.listening_address + route,
                                         json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def tokenize(self, text, special=False):
        """`special`: with what the file says stands before a text."""
        return self.post("/tokenize", {"content": text, "add_special": special,
                                       "parse_special": False})["tokens"]

    def log_probabilities(self, ids, vocab):
        """Of every token after these."""
        answer = self.post("/completion", {"prompt": ids, "n_predict": 1, "n_probs": vocab,
                                           "temperature": 0, "cache_prompt": True})
        row = numpy.full(vocab, numpy.nan)
        for entry in answer["completion_probabilities"][0]["top_logprobs"]:
            row[entry["id"]] = entry["logprob"]
        return row

    def greedy(self, prompt, count):
        """The most likely continuation of these ids: its ids, and the bytes of each."""
        answer = self.post("/completion", {"prompt": prompt, "n_predict": count, "n_probs": 1,
                                           "temperature": 0})
        entries = answer["completion_probabilities"]
        return [entry["id"] for entry in entries], [bytes(entry["bytes"]) for entry in entries]


def greedy_agrees(client, program, probe, path, log_error):
    """"all" when `generate` writes llama.cpp's most likely text. Where our two best tokens are
    nearer to each other than the errors of two log-probabilities, engines may choose differently,
    and so may `generate`, which computes in the file's type: then the number of tokens before the
    first such place, up to which the texts are equal. "" when they differ elsewhere, or when a
    token of llama.cpp's is farther behind our best than that."""
    prompt = client.tokenize(PROMPT, special=True)
    ids, pieces = client.greedy(prompt, GREEDY)
    ours = probe_log_probabilities(probe, path, prompt + ids)[len(prompt) - 1:-1]
    best = numpy.sort(ours, axis=1)
    if (best[:, -1] - ours[numpy.arange(len(ids)), ids]).max() > 2 * log_error:
        return ""
    text = call(program, "generate", path, "--prompt", PROMPT, "--max-tokens", GREEDY,
                "--temperature", 0, "--device", "cpu")
    if text == PROMPT.encode() + b"".join(pieces) + b"\n":
        return "all"
    ties = numpy.flatnonzero(best[:, -1] - best[:, -2] <= 2 * log_error)
    if len(ties) > 0 and text.startswith(PROMPT.encode() + b"".join(pieces[:ties[0]])):
        return str(ties[0])
    return ""


def eval_loss(program, path, ids):
    """The mean loss of ids[1:], by `eval` on the same file."""
    shard = path.parent / "window.bin"
    shard.write_bytes(struct.pack("<256i", 20240520, 1, len(ids), *([0] * 253)) +
                      numpy.asarray(ids, dtype="<u2").tobytes())
    return json.loads(call(program, "eval", path, "--data", shard, "--seq-len", len(ids) - 1,
                           "--micro-batch-size", 1, "--dtype", "fp32", "--device", "cpu",
                           "--json"))["loss"]


def probe_log_probabilities(probe, model, ids):
    with tempfile.TemporaryDirectory() as folder:
        tokens, out = os.path.join(folder, "ids"), os.path.join(folder, "logits")
        numpy.asarray(ids, dtype="<i4").tofile(tokens)
        call(probe, model, tokens, out)
        logits = numpy.fromfile(out, dtype="<f4").reshape(len(ids), -1).astype(float)
    top = logits.max(axis=1, keepdims=True)
    return logits - top - numpy.log(numpy.exp(logits - top).sum(axis=1, keepdims=True))


def compare(client, ours, ids):
    """Largest error of a log-probability, llama.cpp's loss, share of equal first places (where our
    two best are clearly apart)."""
    vocab = ours.shape[1]
    theirs = numpy.stack([client.log_probabilities(ids[:n], vocab)
                          for n in range(1, POSITIONS + 1)])
    ours = ours[:POSITIONS]
    targets = ids[1:POSITIONS + 1]
    loss = -theirs[numpy.arange(POSITIONS), targets].mean()
    best = numpy.sort(ours, axis=1)
    clear = best[:, -1] - best[:, -2] > 0.2
    same = (ours.argmax(axis=1) == theirs.argmax(axis=1))[clear]
    return float(numpy.abs(ours - theirs).max()), float(loss), float(same.mean())


def check_header(path, case, form):
    """What gguf's own reader finds; the number of tensors of the wanted type."""
    reader = gguf.GGUFReader(path)
    architecture = reader.get_field("general.architecture").contents()
    assert architecture == CASES[case][3], architecture
    assert reader.get_field(f"{architecture}.block_count").contents() == 2
    tokens = reader.get_field("tokenizer.ggml.tokens").contents()
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    embedding = tensors["token_embd.weight"]
    assert embedding.shape[1] == len(tokens), (embedding.shape, len(tokens))
    assert ("output.weight" in tensors) == (case in ("llama", "qwen2 narrow")), sorted(tensors)
    matrices = [tensor for tensor in reader.tensors
                if len(tensor.shape) == 2 and tensor.name != "position_embd.weight"]
    assert {tensor.tensor_type.name for tensor in matrices} == {form}
    return reader


def our_tokens(program, folder, data):
    """lines() by `prepare`, one document each."""
    text, out = folder / "lines.jsonl", folder / "lines"
    with open(text, "w", encoding="utf-8") as file:
        for line in lines():
            file.write(json.dumps({"text": line}) + "\n")
    call(program, "prepare", "--out", out, "--tokenizer", data / "tokenizer", "--val-fraction", 0,
         text)
    return shard_tokens(out)


def check_tokens(client, program, folder, case, data):
    """Ids of every line, as llama.cpp and as we cut them."""
    ours = our_tokens(program, folder, data)
    end = [] if CASES[case][0] == "byte" else [ours[-1]]
    theirs = []
    for line in lines():
        ids = client.tokenize(line) + end
        own = ours[len(theirs):len(theirs) + len(ids)]
        assert own == ids, f"{case}: token ids of {line!r} differ: ours {own}, theirs {ids}"
        theirs += ids
    assert len(ours) == len(theirs)
    return len(theirs)


def unpaired(path, out):
    """The same file with halves where llama.cpp expects pairs."""
    data = bytearray(path.read_bytes())
    for tensor in gguf.GGUFReader(path).tensors:
        if not tensor.name.endswith(("attn_q.weight", "attn_k.weight")):
            continue
        rows = tensor.data.reshape(-1, 8, 2, tensor.data.shape[-1]).swapaxes(1, 2)
        data[tensor.data_offset:tensor.data_offset + tensor.n_bytes] = rows.tobytes()
    out.write_bytes(data)


def with_first_token(path, out):
    """The same file, telling engines to begin every text with its beginning-of-text token."""
    data = bytearray(path.read_bytes())
    field = gguf.GGUFReader(path).fields["tokenizer.ggml.add_bos_token"]
    at = field.offset + sum(part.nbytes for part in field.parts[:-1])
    assert data[at] == 0
    data[at] = 1
    out.write_bytes(data)


def check_first_token(program, probe, case, path, log_error):
    """`generate` begins a text with the token that the file says, as llama.cpp does."""
    first = path.parent / "first.gguf"
    with_first_token(path, first)
    client = Client(first)
    plain, begun = client.tokenize(PROMPT), client.tokenize(PROMPT, special=True)
    assert begun[1:] == plain and len(begun) == len(plain) + 1, (plain, begun)
    greedy = greedy_agrees(client, program, probe, first, log_error)
    assert greedy != "", "generate and llama.cpp differ on a file with add_bos_token"
    print(f"{case:14} texts begin with token {begun[0]}: greedy {greedy}", flush=True)


def run_case(program, probe, case):
    good = True
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        run, data = train(program, folder, case)
        ids = shard_tokens(data)[5000:5000 + POSITIONS + 1]
        for form, (flags, log_error, loss_error) in FORMATS.items():
            if log_error is not None and CASES[case][3] == "gpt2":
                log_error = max(log_error, GELU_TABLE_ERROR)
            path = folder / f"{form}.gguf"
            call(program, "export", run, "--out", path, "--format", "gguf", "--device", "cpu",
                 *flags)
            check_header(path, case, form)
            client = Client(path)
            if form == "F16":
                count = check_tokens(client, program, folder, case, data)
            ours = probe_log_probabilities(probe, path, ids)
            error, loss, same = compare(client, ours, ids)
            own_loss = eval_loss(program, path, ids)
            change = abs(loss - own_loss) / own_loss
            greedy = (greedy_agrees(client, program, probe, path, log_error)
                      if form in ("F32", "F16") else "-")
            ok = ((log_error is None or error <= log_error) and change <= loss_error and
                  same == 1.0 and greedy != "")
            good = good and ok
            print(f"{case:14} {form:5} {error:10.1e} {100 * change:9.4f} {loss:7.3f} {same:6.2f} "
                  f"{greedy:>6}{'' if ok else '  FAILED'}", flush=True)
        if case == "llama tied":
            check_first_token(program, probe, case, folder / "F32.gguf", FORMATS["F32"][1])
        if case == "llama":
            unpaired(folder / "F32.gguf", folder / "bad.gguf")
            ours = probe_log_probabilities(probe, folder / "F32.gguf", ids)
            error = compare(Client(folder / "bad.gguf"), ours, ids)[0]
            assert error > 0.1, f"rotary rows in the wrong order went unnoticed: {error}"
            print(f"{case:14} rows in the wrong order are noticed: {error:.2f}")
        print(f"{case:14} {count} token ids agree", flush=True)
    return good


def main():
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    program, probe = map(os.path.abspath, sys.argv[1:3])
    print(f"{'case':14} {'type':5} {'log-prob':>10} {'loss %':>9} {'loss':>7} {'first':>6} greedy")
    results = [run_case(program, probe, case) for case in sys.argv[3:] or CASES]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())

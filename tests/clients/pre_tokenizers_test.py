#!/usr/bin/env python3
# Splits text as llama.cpp does under each of its names for a byte-level pre-tokenizer. The merges
# were trained on whole texts, so that they would join what a pre-tokenizer keeps apart.
"""Usage: pre_tokenizers_test.py LOCKSTEP [NAME...]   exit 77: xllamacpp is missing"""

import json
import multiprocessing
import os
import pathlib
import re
import subprocess
import sys
import tempfile

try:
    from llama_cpp_test import Client, call, corpus, lines, shard_tokens
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

VOCAB = 1200
PATIENCE_SECONDS = 120
# llama.cpp writes letters by case as a-z and A-Z, and leaves marks out.
ASCII_ONLY = {"tekken", "gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"}
# Where llama.cpp does not follow the model's tokenizer.json, and we do: it does not split words at
# capitals, or looks beyond the piece for what follows white space. The files load all the same.
OTHERWISE = {"kimi-k2", "youtu", "afmoe"}


def known_names(program, run):
    """From the message that refuses another one."""
    done = subprocess.run([program, "export", run, "--out=x.gguf", "--format=gguf",
                           "--tokenizer-pre=0"], capture_output=True, text=True, check=False)
    return re.search(r"known are (.*)", done.stderr)[1].split(", ")


def train(program, folder):
    text = folder / "text.txt"
    text.write_text(corpus()[:200000], encoding="utf-8")
    data, run = folder / "data", folder / "run"
    call(program, "prepare", "--out", data, "--tokenizer", f"bpe:{VOCAB}", "--pre-tokenizer",
         "superbpe", text)
    config = folder / "run.toml"
    config.write_text(f"""
run.device = "cpu"
run.dir = "{run}"
data.train = "{data}"
train.steps = 1
model = {{architecture = "llama", layers = 1, heads = 2, hidden = 32, ffn = 64, seq_len = 128}}
""", encoding="ascii")
    call(program, "train", config)
    return run


def our_tokens(program, folder, path, texts):
    """The ids of each text, by `prepare`, with the end-of-text token as border."""
    source, out = folder / "lines.jsonl", folder / "lines"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    call(program, "prepare", "--out", out, "--tokenizer", path, "--val-fraction", 0, "--overwrite",
         source)
    rows, row = [], []
    ids = shard_tokens(out)
    for token in ids:
        if token == ids[-1]:
            rows.append(row)
            row = []
        else:
            row.append(token)
    return rows


def check(program, folder, run, name):
    path = folder / f"{name}.gguf"
    call(program, "export", run, "--out", path, "--format", "gguf", "--tokenizer-pre", name)
    texts = [text for text in lines()[:400] if name not in ASCII_ONLY or text.isascii()]
    client = Client(path)
    if name in OTHERWISE:
        return ""
    for text, ours in zip(texts, our_tokens(program, folder, path, texts)):
        theirs = client.tokenize(text)
        if theirs != ours:
            return f"{text!r}:\n  ours   {ours}\n  theirs {theirs}"
    return ""


def apart(function, *arguments):
    """What a process of its own returns: a server of xllamacpp may wait for itself when it starts
    or ends, which is no verdict on the file. Anything else that goes wrong is one."""
    context = multiprocessing.get_context("fork")
    for _ in range(3):
        here, there = context.Pipe(duplex=False)
        child = context.Process(target=lambda: there.send(function(*arguments)))
        child.start()
        there.close()
        try:
            if here.poll(PATIENCE_SECONDS):
                return here.recv()
        except EOFError:
            return "the check itself failed, see above"
        finally:
            child.kill()
            child.join()
    return "the server hung three times"


def main():
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    program = os.path.abspath(sys.argv[1])
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        run = train(program, folder)
        for pre in sys.argv[2:] or known_names(program, run):
            difference = apart(check, program, folder, run, pre)
            wrong += bool(difference)
            print(f"{pre:18} {difference or 'equal'}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

# What tests against transformers share: running the program and the logits probe, token shards, and
# the comparison of logits. Needs torch, numpy and transformers.
import json
import os
import struct
import subprocess
import tempfile

import numpy
import torch
import transformers

# Of the logits' standard deviation. In fp32 both sides differ by the order of additions only.
LOGITS_TOLERANCE = 1e-3


def call(*command, code=0):
    """Runs a command of one rank; its standard output as bytes."""
    launcher = ("OMPI_", "PMI", "SLURM_", "HYDRA_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(launcher)}
    done = subprocess.run([str(part) for part in command], env=environment, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != code:
        raise SystemExit(f"{command}: exit {done.returncode}, not {code}\n"
                         f"{(done.stdout + done.stderr)[-2000:].decode(errors='replace')}")
    return done.stdout


def write_shard(path, tokens, mask=None):
    """llm.c's uint16 shard, and NAME.mask beside it."""
    header = struct.pack("<256i", 20240520, 1, len(tokens), *([0] * 253))
    with open(path, "wb") as file:
        file.write(header + numpy.asarray(tokens, dtype="<u2").tobytes())
    if mask is not None:
        with open(os.path.splitext(path)[0] + ".mask", "wb") as file:
            file.write(bytes(mask))


def evaluate(program, model, shard, seq_len, *flags):
    return json.loads(call(program, "eval", model, "--data", shard, "--seq-len", seq_len,
                           "--device", "cpu", "--json", *flags))


def load(directory):
    """The model as transformers opens it, in fp32; nothing may be missing or left over."""
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        directory, torch_dtype=torch.float32, output_loading_info=True)
    wrong = {kind: names for kind, names in info.items() if names}
    if wrong:
        raise SystemExit(f"{directory}: transformers reports {wrong}")
    return model.eval()


def probe_logits(probe, model, tokens):
    with tempfile.TemporaryDirectory() as folder:
        ids, out = os.path.join(folder, "ids"), os.path.join(folder, "logits")
        numpy.asarray(tokens, dtype="<i4").tofile(ids)
        call(probe, model, ids, out)
        return numpy.fromfile(out, dtype="<f4").reshape(len(tokens), -1)


def logits_difference(ours, model, tokens):
    """Largest difference from transformers' logits, in their standard deviations."""
    with torch.no_grad():
        theirs = model(torch.tensor([tokens])).logits[0].double().numpy()
    return float(numpy.abs(ours - theirs).max() / theirs.std())


def compare_directory(probe, directory, source, tokens):
    """How far transformers' logits of a directory that we wrote are from our own logits of what it
    was made of, in standard deviations; compare with LOGITS_TOLERANCE."""
    return logits_difference(probe_logits(probe, source, tokens), load(directory), tokens)

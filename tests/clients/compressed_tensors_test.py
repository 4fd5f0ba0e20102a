#!/usr/bin/env python3
# Int8 exports under transformers with the compressed-tensors package, on the CPU: the package
# accepts the configuration, its own packing gives our bytes, and the model it builds has the loss
# that our report states.
"""Usage: compressed_tensors_test.py PROGRAM     exit 77: skipped, a package is missing"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "e2e"))
import harness

try:
    import numpy
    import torch
    # The package names types of newer PyTorch when it is imported; int8 uses none of them.
    if not hasattr(torch, "float8_e4m3fn"):
        torch.float8_e4m3fn = torch.float16
    if not hasattr(torch, "compile"):
        torch.compile = lambda function=None, **_: function or (lambda inner: inner)
    import compressed_tensors
    import transformers
    from compressed_tensors.quantization import QuantizationConfig
    from compressed_tensors.compressors import BaseCompressor
    from safetensors.torch import load_file
    from transformers.quantizers import quantizer_compressed_tensors  # from 4.45 on
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

SEQ_LEN = 32
STEPS = 150
# Both sides compute in fp32 with sums of at most 176 terms, each in its own order: relative errors
# of logits near 176 * 2^-24 = 1e-5 at worst, of random sign, over 3968 tokens. In w8a8 such an
# error can push an activation that lies next to a half step to the other side, which moves one of
# a row's values by 1/127 of its largest: about one value in 10^4.
TOLERANCE = {"w8a16": 1e-5, "w8a8": 1e-4}


def config_of(architecture):
    shape = "ffn = 176\nkv_heads = 1\nhidden = 64"
    return (harness.CONFIG.replace('"gpt2"', f'"{architecture}"')
            .replace("hidden = 64", shape).replace("steps = 200", f"steps = {STEPS}"))


def loss_of(model, shard):
    tokens = numpy.fromfile(shard, dtype=numpy.uint16, offset=1024).astype(numpy.int64)
    samples = (len(tokens) - 1) // SEQ_LEN
    total = 0.0
    with torch.no_grad():
        for k in range(samples):
            window = torch.tensor(tokens[k * SEQ_LEN:(k + 1) * SEQ_LEN + 1])
            logits = model(window[None, :-1]).logits[0].double()
            total += torch.nn.functional.cross_entropy(logits, window[1:], reduction="sum").item()
    return total / (samples * SEQ_LEN), samples * SEQ_LEN


def check_tensors(directory, plain):
    """Every quantized weight is what the package makes of the plain one."""
    config = json.loads((directory / "config.json").read_text())["quantization_config"]
    args = QuantizationConfig.model_validate(config).config_groups["group_0"].weights
    compressor = BaseCompressor.load_from_registry(config["format"], config=None)
    ours = load_file(directory / "model.safetensors")
    count = 0
    for name, scale in ours.items():
        if not name.endswith(".weight_scale"):
            continue
        base = name[:-len(".weight_scale")]
        weight = plain[base + ".weight"]
        assert torch.equal(scale, weight.abs().amax(dim=1, keepdim=True) / 127.5), name
        theirs = compressor.compress_weight(weight=weight, scale=scale, zero_point=None,
                                            quantization_args=args)
        for part in ("weight", "weight_packed", "weight_shape"):
            if part in theirs:
                assert torch.equal(ours[f"{base}.{part}"], theirs[part]), (base, part)
        count += 1
    assert count == 14, f"{count} quantized weights"  # 2 layers of 7


def check_scheme(run, work, architecture, scheme, plain):
    out = work / f"{architecture}-{scheme}"
    run("export", architecture, "--out", out, "--format=safetensors", f"--quantize={scheme}")
    check_tensors(out, plain)
    report = json.loads((out / "export.json").read_text())
    model = transformers.AutoModelForCausalLM.from_pretrained(out, torch_dtype=torch.float32)
    loss, tokens = loss_of(model.eval(), work / "data" / "val_000000.bin")
    reported = report["loss"]["after"]
    error = abs(loss - reported) / reported
    change = report["perplexity"]["change_percent"]
    print(f"{architecture} {scheme}: loss {loss:.8f}, reported {reported:.8f}, difference "
          f"{error:.1e}, perplexity {change:+.4f} %, {tokens} tokens", flush=True)
    assert tokens == report["tokens"], (tokens, report["tokens"])
    assert error <= TOLERANCE[scheme], f"above {TOLERANCE[scheme]}"
    assert change <= 0.2, f"perplexity {change:+.3f} %"


def main():
    program = os.path.abspath(sys.argv[1])
    print("torch", torch.__version__, "transformers", transformers.__version__,
          "compressed-tensors", compressed_tensors.__version__)
    assert quantizer_compressed_tensors is not None
    work = pathlib.Path(tempfile.mkdtemp(prefix="lockstep-compressed-"))

    def run(*arguments):
        subprocess.run([program, *map(str, arguments)], cwd=work, check=True,
                       stdout=subprocess.DEVNULL, env=harness.clean_environment({}))

    try:
        (work / "text.txt").write_text(harness.make_text(40000))
        run("prepare", "--out=data", "text.txt")
        for architecture in ("llama", "qwen2"):
            (work / "model.toml").write_text(config_of(architecture))
            run("train", "model.toml", f"--run.dir={architecture}", "--train.micro_batch_size=6")
            run("export", architecture, f"--out={architecture}-plain", "--format=safetensors")
            plain = load_file(work / f"{architecture}-plain" / "model.safetensors")
            for scheme in TOLERANCE:
                check_scheme(run, work, architecture, scheme, plain)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print("4 passed, 0 failed")


if __name__ == "__main__":
    main()

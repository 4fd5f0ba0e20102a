#!/usr/bin/env python3
# Quantized GGUF types, decoded by our reader and by gguf's own: blocks of any bits, and rows that
# ggml's quantizers wrote. A model with a layer of each type is exported as fp32 safetensors; its
# values must be gguf's to the last bit.
"""Usage: gguf_types_test.py PROGRAM   exit 0: equal, 1: not, 77: skipped"""

import importlib.util
import pathlib
import subprocess
import sys
import tempfile

for package in ("numpy", "gguf", "libgguf", "safetensors"):
    if importlib.util.find_spec(package) is None:
        print(f"skipped: {sys.executable} cannot import {package}")
        sys.exit(77)

import gguf
import libgguf
import numpy
from gguf.quants import dequantize
from safetensors.numpy import load_file

WIDTH = 256
# Where a block has its fp16 numbers, in bytes.
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82],
          "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0],
          "IQ4_XS": [0]}
NAMES = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
         "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
         "ffn_down": "mlp.down_proj"}


def type_named(name):
    return gguf.GGMLQuantizationType[name]


def any_blocks(random, name):
    """WIDTH rows of blocks of any bits; fp16 numbers are finite, of any size and sign."""
    values, size = gguf.GGML_QUANT_SIZES[type_named(name)]
    blocks = random.integers(0, 256, (WIDTH * WIDTH // values, size), dtype=numpy.uint8)
    for at in HALVES[name]:
        halves = random.integers(0, 31 << 10, len(blocks), dtype=numpy.uint16)
        halves |= random.integers(0, 2, len(blocks), dtype=numpy.uint16) << 15
        blocks[:, at:at + 2] = halves.view(numpy.uint8).reshape(-1, 2)
    return blocks.reshape(WIDTH, -1)


def written_rows(random, name):
    """WIDTH rows as ggml's quantizer writes them."""
    rows = random.standard_normal((WIDTH, WIDTH), dtype=numpy.float32)
    return libgguf.quantize_rows(rows, int(type_named(name))).reshape(WIDTH, -1)


def fabricate(path):
    """A qwen2 file; per layer one type. What each matrix holds, by its name as we export it."""
    random = numpy.random.default_rng(5)
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_block_count(len(HALVES))
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e4)
    expected = {}

    def add(name, exported, kind, data):
        writer.add_tensor(name, data, raw_dtype=type_named(kind))
        expected[exported] = dequantize(data, type_named(kind))

    def ones(name, count=WIDTH):
        writer.add_tensor(name, numpy.ones(count, dtype=numpy.float32))

    add("token_embd.weight", "model.embed_tokens.weight", "Q6_K", any_blocks(random, "Q6_K"))
    ones("output_norm.weight")
    for layer, kind in enumerate(HALVES):
        for norm in ("attn_norm", "ffn_norm"):
            ones(f"blk.{layer}.{norm}.weight")
        for index, (name, exported) in enumerate(NAMES.items()):
            make = written_rows if index >= 4 else any_blocks
            add(f"blk.{layer}.{name}.weight", f"model.layers.{layer}.{exported}.weight", kind,
                make(random, kind))
            if name in ("attn_q", "attn_k", "attn_v"):
                ones(f"blk.{layer}.{name}.bias")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        expected = fabricate(folder / "m.gguf")
        subprocess.run([sys.argv[1], "export", folder / "m.gguf", "--out", folder / "out",
                        "--format", "safetensors", "--dtype", "fp32", "--device", "cpu"],
                       check=True)
        ours = load_file(folder / "out" / "model.safetensors")
    different = [name for name, values in expected.items()
                 if not numpy.array_equal(ours[name].view(numpy.uint32),
                                          values.astype(numpy.float32).view(numpy.uint32))]
    print(f"{len(expected) - len(different)} of {len(expected)} matrices of {len(HALVES)} types "
          f"are equal to the last bit{': not ' if different else ''}{', '.join(different)}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# Compares our tokenizers with Hugging Face's `tokenizers`: the same files, made by either side,
# must give the same ids for generated lines of every odd kind, and decode to the same bytes.
"""Usage: tokenizers_test.py PROBE [--lines N] [--speed TEXT]   exit 77: `tokenizers` is missing"""

import argparse
import json
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import time
import unicodedata

try:
    import tokenizers
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
    from tokenizers import pre_tokenizers, trainers
except ImportError:
    print("skipped: the Python package `tokenizers` is not installed")
    sys.exit(77)

WORDS = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s"
         r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK = ("[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"
            "|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*"
            "|\\s*[\r\n]+|\\s+(?!\\S)|\\s+")
HAN = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"


def isolated(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def bytes_of(use_regex):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


PRE_TOKENIZERS = {
    "gpt2": lambda: bytes_of(True),
    "qwen2": lambda: pre_tokenizers.Sequence([isolated(WORDS % ""), bytes_of(False)]),
    "llama3": lambda: pre_tokenizers.Sequence([isolated(WORDS % "{1,3}"), bytes_of(False)]),
    "deepseek": lambda: pre_tokenizers.Sequence(
        [isolated(r"\p{N}{1,3}"), isolated(HAN), isolated(DEEPSEEK), bytes_of(False)]),
}

SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\r", "\u00a0", "\u2003", "\u3000", "\u0085",
          "\u180e", "\u200b", "\ufeff", "\u2028", "\u1680", "\x0b", "\x0c", "\x1f", "\u202f"]
PIECES = ["the", "The", "quick", "don't", "I'LL", "we've", "'s", "'\u017f", "'S", "it's", "'re",
          "na\u00efve", "cafe\u0301", "e\u0301\u0323", "\u1e9b\u0323", "\uac00", "\u1100\u1161",
          "\u1100\u1161\u11a8", "\u212b", "\u2126", "\u0958", "\u09c7\u09be", "\u4e2d\u6587",
          "\u65e5\u672c\u8a9e", "\u30ab\u3099", "\u3042\u309a", "\u0e20\u0e32\u0e29\u0e32",
          "\u0939\u093f\u0928\u094d\u0926\u0940", "\u0645\u0631\u062d\u0628\u0627",
          "\u043f\u0440\u0438\u0432\u0435\u0442", "\U0001f600", "\U0001f468\u200d\U0001f469",
          "\U0001f1e9\U0001f1ea", "1", "12", "123", "1234567", "3.14159", "\u0664\u0662", "\u2167",
          "\u00bd", "\u00b2", "x=1;", "if(a&&b){", "}", "->", "::", "!=", "//", "/*", "#include",
          "def f(x):", "return", "snake_case", "__init__", "CamelCase", "http://a.b/c?d=e", "<b>",
          "\"q\"", "\\n", "...", "\u2026", "\u201cq\u201d", "\u2014", "\u00e9\u00e8", "\u0301",
          "\u20ac5", "$9", "a.b", "\u00ad", "\x00", "\x7f", "\u0378", "\ue000", "\U000e0041",
          "\u2260", "=\u0338", "\u1f71", "\u00c5ngstr\u00f6m", "\u017f", "\ufb01", "\u00df"]


def text_line(rng):
    parts = []
    for _ in range(rng.randrange(1, 24)):
        roll = rng.random()
        if roll < 0.35:
            parts.append(rng.choice(SPACES[:3] if roll < 0.25 else SPACES))
        elif roll < 0.92:
            parts.append(rng.choice(PIECES))
        else:
            parts.append(chr(rng.choice([rng.randrange(0x20, 0x250), rng.randrange(0x300, 0x370),
                                         rng.randrange(0x370, 0xd800),
                                         rng.randrange(0xe000, 0x11000),
                                         rng.randrange(0x1f300, 0x1fa00)])))
    return "".join(parts)


def is_stable(text):
    """Only characters that Python's Unicode data, older than all others here, has assigned or that
    are in no version: newer ones are letters for one library and unknown to the other."""
    return all(unicodedata.category(c) != "Cn" or c == "\u0378" for c in text)


def write_records(path, records):
    with open(path, "wb") as out:
        for record, size in records:
            out.write(struct.pack("<I", len(record) // size) + record)


def read_records(path, size):
    content = pathlib.Path(path).read_bytes()
    records, pos = [], 0
    while pos < len(content):
        count = struct.unpack_from("<I", content, pos)[0] * size
        records.append(content[pos + 4:pos + 4 + count])
        pos += 4 + count
    return records


class Probe:
    def __init__(self, program, folder):
        self.program, self.folder = program, pathlib.Path(folder)

    def run(self, *args):
        result = subprocess.run([self.program, *map(str, args)], capture_output=True, text=True,
                                errors="replace")
        assert result.returncode == 0, result.stderr
        return result.stdout

    def encode(self, tokenizer, texts):
        write_records(self.folder / "in", [(text, 1) for text in texts])
        self.run("encode", tokenizer, self.folder / "in", self.folder / "out")
        return [list(struct.unpack(f"<{len(r) // 4}i", r))
                for r in read_records(self.folder / "out", 4)]

    def decode(self, tokenizer, rows):
        write_records(self.folder / "in", [(struct.pack(f"<{len(r)}i", *r), 4) for r in rows])
        self.run("decode", tokenizer, self.folder / "in", self.folder / "out")
        return read_records(self.folder / "out", 1)


def theirs(name, corpus, vocab, added=(), ignore_merges=False):
    """A tokenizer trained by their library."""
    made = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    made.pre_tokenizer = PRE_TOKENIZERS[name]()
    if name == "qwen2":
        made.normalizer = normalizers.NFC()
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(corpus, trainers.BpeTrainer(
        vocab_size=vocab, show_progress=False, special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    made.add_tokens([AddedToken(**token) for token in added])
    return made


def first_difference(lines, ours, expected):
    for line, a, b in zip(lines, ours, expected):
        if a != b:
            return f"{line!r}\n  ours {a}\n  theirs {b}"
    return "none"


def check_same_ids(probe, label, path, reference, lines, decodes=True):
    ours = probe.encode(path, [line.encode() for line in lines])
    expected = [e.ids for e in reference.encode_batch(lines, add_special_tokens=False)]
    wrong = sum(a != b for a, b in zip(ours, expected))
    found = first_difference(lines, ours, expected)
    assert wrong == 0, f"{label}: {wrong} of {len(lines)}: {found}"
    decoded = probe.decode(path, expected)
    texts = reference.decode_batch(expected, skip_special_tokens=False)
    wrong = [(a, b) for a, b in zip(decoded, texts)
             if decodes and a.decode("utf-8", "replace") != b]
    assert not wrong, f"{label}: decoding: {wrong[0]}"
    print(f"{label}: {len(lines)} lines, {sum(map(len, ours))} ids equal")


def check_round_trip(probe, label, path, rng):
    texts = [rng.randbytes(rng.randrange(0, 200)) for _ in range(2000)]
    decoded = probe.decode(path, probe.encode(path, texts))
    assert decoded == texts, f"{label}: random bytes come back changed"
    # Between invalid stretches text is split as texts of their own.
    bad = [b"\xff", b"\x80\x80", b"\xe4\xb8", b"\xed\xa0\x80", b"\xf5", b"\xc0\xaf"]
    parts = [[text_line(rng).encode() for _ in range(3)] for _ in range(500)]
    joined = [bad[i % len(bad)].join(part) for i, part in enumerate(parts)]
    alone = [p for i, part in enumerate(parts) for p in (*part, bad[i % len(bad)])]
    rows = probe.encode(path, alone)
    expected = [rows[i] + rows[i + 3] + rows[i + 1] + rows[i + 3] + rows[i + 2]
                for i in range(0, len(rows), 4)]
    assert probe.encode(path, joined) == expected, f"{label}: invalid UTF-8 between texts"
    print(f"{label}: random bytes and damaged text round trip")


def respell_merges(path, pairs):
    root = json.loads(path.read_text())
    merges = [m.split(" ") if isinstance(m, str) else m for m in root["model"]["merges"]]
    root["model"]["merges"] = merges if pairs else [" ".join(m) for m in merges]
    path.write_text(json.dumps(root))


ADDED = [
    {"content": "<|im_start|>", "special": True, "normalized": False},
    {"content": "<tool>", "special": False, "normalized": True},
    {"content": "<tool>x", "special": False, "normalized": False},
    {"content": "caf\u00e9", "special": False, "normalized": True},
    {"content": "quick", "single_word": True, "normalized": False},
    {"content": "[L]", "lstrip": True, "normalized": False},
    {"content": "[R]", "rstrip": True, "normalized": False},
    {"content": "[B]", "lstrip": True, "rstrip": True, "normalized": True},
]


def lines_with_added(rng, count):
    tokens = [token["content"] for token in ADDED] + ["<|endoftext|>", "<to", "[", "cafe\u0301"]
    return ["".join(rng.choice((lambda: text_line(rng), lambda: rng.choice(tokens)))()
                    for _ in range(rng.randrange(1, 8))) for _ in range(count)]


def check_files_of_theirs(probe, folder, corpus, lines, rng):
    for name in PRE_TOKENIZERS:
        reference = theirs(name, corpus, 2000, ADDED, ignore_merges=name == "llama3")
        path = folder / f"{name}.json"
        reference.save(str(path))
        # Their decoder takes an added token's letters for bytes of the alphabet.
        check_same_ids(probe, f"their {name}", path, reference, lines, decodes=False)
        odd = [line for line in lines_with_added(rng, len(lines) // 4) if is_stable(line)]
        check_same_ids(probe, f"their {name}, added tokens", path, reference, odd, decodes=False)
        for pairs in (True, False):
            respell_merges(path, pairs)
            check_same_ids(probe, f"their {name}, merges as pairs: {pairs}", path, reference,
                           lines[:500], decodes=False)
        plain = theirs(name, corpus, 2000)
        plain.save(str(path))
        check_same_ids(probe, f"their plain {name}", path, plain, lines[:2000])
        if name != "qwen2":  # whose normalization changes bytes
            check_round_trip(probe, f"their {name}", path, rng)


def check_other_steps(probe, folder, corpus, lines):
    split, digits = pre_tokenizers.Split, pre_tokenizers.Digits
    chains = {
        "digits": [digits(individual_digits=True), bytes_of(True)],
        "digit runs": [digits(), bytes_of(True)],
        "removed": [split(" ", "removed"), bytes_of(False)],
        "previous": [split(Regex(r"\s"), "merged_with_previous"), bytes_of(False)],
        "next": [split(Regex(r"\s"), "merged_with_next"), bytes_of(False)],
        "contiguous": [split(Regex(r"\s"), "contiguous"), bytes_of(False)],
        "inverted": [split(Regex(r"\w+"), "removed", invert=True), bytes_of(False)],
        "empty matches": [split(Regex(r"x*"), "isolated"), bytes_of(False)],
        "not space": [split(Regex(r"[^\S\n]+|\p{Han}+|\d+"), "isolated"), bytes_of(False)],
        "prefix": [pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)],
    }
    for label, chain in chains.items():
        reference = theirs("gpt2", corpus, 600)
        reference.pre_tokenizer = pre_tokenizers.Sequence(chain)
        path = folder / "other.json"
        reference.save(str(path))
        check_same_ids(probe, f"steps: {label}", path, reference, lines[:2000])


def check_missing_bytes(probe, folder, corpus, lines):
    """Vocabularies that lack bytes: dropped without an unknown token, else that token."""
    for label, unknown in (("dropped", {}), ("unknown", {"unk_token": "<unk>"}),
                           ("fused", {"unk_token": "<unk>", "fuse_unk": True})):
        root = json.loads(theirs("gpt2", corpus, 600).to_str())
        model = root["model"] | unknown
        for byte in ("\u0126", "\u00e9", "q", "\u0122"):  # 0x84, 0xe9, "q", 0x80
            model["vocab"].pop(byte, None)
        model["vocab"]["<unk>"] = 700
        merges = [merge.split(" ") if isinstance(merge, str) else merge
                  for merge in model["merges"]]
        kept = [merge for merge in merges
                if {*merge, "".join(merge)} <= set(model["vocab"])]
        root["model"] = model | {"merges": [" ".join(merge) for merge in kept]}
        path = folder / "missing.json"
        path.write_text(json.dumps(root))
        check_same_ids(probe, f"missing bytes, {label}", path, Tokenizer.from_file(str(path)),
                       lines[:2000], decodes=False)


def check_files_of_ours(probe, folder, corpus, lines):
    text = folder / "corpus.txt"
    text.write_bytes("".join(corpus).encode())
    for name in PRE_TOKENIZERS:
        probe.run("train", name, 2000, text, folder)
        path = folder / "tokenizer.json"
        reference = Tokenizer.from_file(str(path))
        assert reference.get_vocab_size() == 2000
        assert reference.token_to_id("<|endoftext|>") == 1999
        check_same_ids(probe, f"our {name}", path, reference, lines)
    probe.run("save", "byte", folder)
    reference = Tokenizer.from_file(str(path))
    check_same_ids(probe, "our bytes", path, reference, lines[:1000])
    for line in lines[:1000]:
        assert reference.encode(line).ids == list(line.encode())


def check_compression(probe, folder, texts):
    """Our training against theirs on plain texts, at 4096 entries: ids within 1 %."""
    for name in PRE_TOKENIZERS:
        (folder / "plain.txt").write_text(texts)
        probe.run("train", name, 4096, folder / "plain.txt", folder)
        ours = len(Tokenizer.from_file(str(folder / "tokenizer.json")).encode(texts).ids)
        expected = len(theirs(name, [texts], 4096).encode(texts).ids)
        ratio = ours / expected
        print(f"compression {name}: ours {ours} ids, theirs {expected}, ratio {ratio:.5f}")
        assert abs(ratio - 1) < 0.01


def plain_texts():
    """A megabyte of what is at hand: licences and this project's own files."""
    texts = []
    for folder in (pathlib.Path("/usr/share/common-licenses"), pathlib.Path(__file__).parents[2]):
        for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()):
            if path.suffix in ("", ".md", ".cpp", ".h", ".py") and ".git" not in path.parts:
                texts.append(path.read_text(encoding="utf-8", errors="replace"))
    return "".join(texts)[:1 << 20]


THEIR_SPEED = """
import sys, time, tokenizers
tokenizer = tokenizers.Tokenizer.from_file(sys.argv[1])
lines = open(sys.argv[2], errors="replace").read().splitlines(keepends=True)
best = 1e9
for _ in range(3):
    start = time.time()
    rows = tokenizer.encode_batch(lines)
    best = min(best, time.time() - start)
print(best, sum(len(row.ids) for row in rows))
"""


def speed(probe, folder, path, corpus):
    """Tokens per second beside theirs, same file and cores."""
    text = pathlib.Path(path).read_text(encoding="utf-8", errors="replace")
    lines = text.splitlines(keepends=True)
    for name in PRE_TOKENIZERS:
        reference = theirs(name, [text[:4 << 20]] + corpus, 16384)
        file = folder / "speed.json"
        reference.save(str(file))
        for threads in sorted({1, len(os.sched_getaffinity(0))}):
            ours = json.loads(probe.run("time", file, path, threads))
            env = dict(os.environ, RAYON_NUM_THREADS=str(threads), TOKENIZERS_PARALLELISM="true")
            out = subprocess.run([sys.executable, "-c", THEIR_SPEED, str(file), path], env=env,
                                 capture_output=True, text=True, check=True).stdout.split()
            mine = ours["tokens"] / ours["seconds"] / 1e6
            other = int(out[1]) / float(out[0]) / 1e6
            rate = ours["bytes"] / ours["seconds"] / 1e6
            print(f"speed {name}, {threads} threads, {len(lines)} lines, {ours['bytes']} bytes: "
                  f"ours {mine:.2f} Mtok/s ({rate:.1f} MB/s), theirs {other:.2f} Mtok/s, "
                  f"{mine / other:.1f} x")
        trained = json.loads(probe.run("train", name, 16384, path, folder))["seconds"]
        started = time.time()
        theirs(name, lines, 16384)
        print(f"training {name}, 16384 entries: ours {trained:.2f} s on one thread, theirs "
              f"{time.time() - started:.2f} s on all")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("probe")
    parser.add_argument("--lines", type=int, default=10000)
    parser.add_argument("--speed", help="a text to measure with; nothing else is tested")
    options = parser.parse_args()
    rng = random.Random(1)
    corpus = [text_line(rng) + "\n" for _ in range(8000)]
    print(f"tokenizers {tokenizers.__version__}")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        probe = Probe(options.probe, folder)
        if options.speed:
            return speed(probe, folder, options.speed, corpus)
        drawn = [text_line(rng) for _ in range(options.lines * 2)]
        lines = [line for line in drawn if is_stable(line)][:options.lines]
        check_files_of_theirs(probe, folder, corpus, lines, rng)
        check_other_steps(probe, folder, corpus, lines)
        check_missing_bytes(probe, folder, corpus, lines)
        check_files_of_ours(probe, folder, corpus, lines)
        check_compression(probe, folder, plain_texts())
    print("all equal")
    return None


if __name__ == "__main__":
    sys.exit(main())

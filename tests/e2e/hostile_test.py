#!/usr/bin/env python3
# Damaged and made-up files through the command line: whatever is in them, the program answers with
# its result or with one line and exit code 64 or 65, writes nothing but --out, and takes no more
# memory than for a whole file. LOCKSTEP_MUTATIONS says how many; sanitized builds are not measured.
import concurrent.futures
import json
import os
import pathlib
import random
import re
import shutil
import struct
import subprocess

import harness

MUTATIONS = int(os.environ.get("LOCKSTEP_MUTATIONS", "2000"))
SPLICES = [b"-1", b"18446744073709551615", b"1e400", b"null", b"[[[[[[[[", b"{", b"}", b'"',
           b"0", b"\\u0000", b"\xff\xfe", b"../../etc/passwd", b'":{"', b"NaN", b"4294967296",
           b"\n"]
DEPTH = 200000  # recursion at a hundred bytes a level would leave the stack
MEMORY_SLACK = 96 << 20


def mutate(source, data, head):
    """One change, most often among the first `head` bytes, where the structure is."""
    data = bytearray(data)
    at = source.randrange(min(len(data), head) if source.random() < 0.9 else len(data))
    kind = source.randrange(6)
    if kind == 0:
        data[at] = source.randrange(256)
    elif kind == 1:
        del data[at:]
    elif kind == 2:
        data[at:at] = source.choice(SPLICES)
    elif kind == 3:
        del data[at:at + source.randrange(1, 9)]
    elif kind == 4:
        number = source.choice((0, 1, 2**31 - 1, 2**32 - 1, 2**63, 2**64 - 1, 2**40 + 1))
        data[at:at + 8] = struct.pack("<Q", number)
    else:
        other = source.randrange(len(data))
        data[at:at + 16] = data[other:other + 16]
    return bytes(data)


def replaced_number(source, data):
    """A JSON text with one number or string exchanged."""
    value = json.loads(data)
    spots = []

    def walk(node):
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, child in items:
            spots.append((node, key))
            if isinstance(child, (dict, list)):
                walk(child)

    walk(value)
    node, key = source.choice(spots)
    node[key] = source.choice((-1, 0, 1, 2**31, 2**62, 1e300, None, True, [], {}, "", "../x",
                               "a" * 999, "DEEP", "DEEP"))
    return json.dumps(value).replace('"DEEP"', "[" * DEPTH + "]" * DEPTH).encode()


class Target:
    """A file of a valid whole, and a command that reads it."""

    def __init__(self, name, whole, file, command, head=4096):
        self.name, self.whole, self.file, self.command, self.head = name, whole, file, command, head


class Hostile(harness.Case):
    @staticmethod
    def write_megatron(place):
        """20 sequences of 100 uint16 tokens, a document each."""
        place.mkdir()
        (place / "corpus.bin").write_bytes(bytes(value % 200 for value in range(4000)))
        (place / "corpus.idx").write_bytes(
            b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 8, 20, 21) +
            struct.pack("<20i", *[100] * 20) +
            struct.pack("<20q", *range(0, 4000, 200)) + struct.pack("<21q", *range(21)))

    @staticmethod
    def split_model(whole, split):
        """The same model as an index of one file."""
        shutil.copytree(whole, split)
        name = "model-00001-of-00001.safetensors"
        (split / "model.safetensors").rename(split / name)
        data = (split / name).read_bytes()
        header = json.loads(data[8:8 + struct.unpack("<Q", data[:8])[0]])
        tensors = {key: name for key in header if key != "__metadata__"}
        (split / "model.safetensors.index.json").write_text(
            json.dumps({"metadata": {"total_size": 0}, "weight_map": tensors}))

    def prepare_targets(self):
        folder = self.folder
        self.train("run", {"train.steps": 3, "train.micro_batch_size": 6})
        self.train("llama", {"train.steps": 3, "train.micro_batch_size": 6, "model.ffn": 96,
                             "model.architecture": "llama"})
        (folder / "text.txt").write_text(harness.make_text(3000))
        (folder / "chat.jsonl").write_text("".join(
            json.dumps({"prompt": f"ask {i} ", "completion": f"answer {i}"}) + "\n"
            for i in range(40)))
        for arguments in (
                ("export", "run", "--out=hf", "--format=safetensors"),
                ("export", "run", "--out=model.gguf", "--format=gguf", "--quantize=q8_0"),
                ("export", "llama", "--out=int8", "--format=safetensors", "--quantize=w8a16"),
                ("prepare", "--out=bpe", "--tokenizer=bpe:300", "text.txt"),
                ("prepare", "--out=masked", "--tokenizer=byte", "chat.jsonl")):
            result = self.run_program(*arguments)
            self.assertEqual(result.code, 0, str(result))
        self.write_megatron(folder / "megatron")
        self.split_model(folder / "hf", folder / "split")
        judge = ["--data", str(self.root / "data"), "--batches=1", "--device=cpu"]
        return [
            Target("safetensors", "hf", "model.safetensors", ["eval", "{}", *judge], head=2500),
            Target("config", "hf", "config.json", ["eval", "{}", *judge]),
            Target("gguf config", "hf", "config.json",
                   ["export", "{}", "--out={place}/out.gguf", "--format=gguf", *judge[:2]]),
            Target("tokenizer", "hf", "tokenizer.json",
                   ["generate", "{}", "--prompt=abc", "--max-tokens=2", "--device=cpu"]),
            Target("gguf", "model.gguf", "", ["eval", "{}", *judge], head=6000),
            Target("bpe", "bpe/tokenizer", "tokenizer.json",
                   ["prepare", "--out={place}/out", "--tokenizer={}", str(folder / "text.txt")]),
            Target("shard", "masked", "train_000000.bin",
                   ["eval", "run", "--data={}/train_000000.bin", "--batches=1", "--device=cpu"],
                   head=40),
            Target("mask", "masked", "train_000000.mask",
                   ["eval", "run", "--data={}/train_000000.bin", "--batches=1", "--device=cpu"]),
            Target("idx", "megatron", "corpus.idx",
                   ["eval", "run", "--data={}/corpus.idx", "--batches=1", "--device=cpu"]),
            Target("index", "split", "model.safetensors.index.json", ["eval", "{}", *judge]),
            Target("int8 config", "int8", "config.json", ["eval", "{}", *judge]),
            Target("int8", "int8", "model.safetensors", ["eval", "{}", *judge], head=3000),
            Target("jsonl", "chat.jsonl", "",
                   ["prepare", "--out={place}/out", "--tokenizer=byte", "{}"]),
        ]

    def environment_without_restart(self):
        """With what the program would start itself over to set: half of such a short life."""
        version = self.run_program("--version").out
        kernels = re.search(r"^OpenBLAS .* (\w+) MAX_THREADS", version, re.MULTILINE)
        return harness.clean_environment(
            {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
            | ({"OPENBLAS_CORETYPE": kernels[1]} if kernels else {}))

    def attack(self, target, number, seed):
        """(code, error lines, peak bytes, names written beside --out) of one mutation."""
        source = random.Random(f"{seed} {target.name} {number}")
        place = self.folder / f"case_{target.name.replace(' ', '_')}_{number}"
        place.mkdir()
        whole = self.folder / target.whole
        copy = place / whole.name
        if whole.is_dir():
            shutil.copytree(whole, copy, copy_function=os.link)
        else:
            os.link(whole, copy)
        victim = copy / target.file if target.file else copy
        data = victim.read_bytes()
        victim.unlink()
        structured = target.file.endswith(".json") and source.random() < 0.6
        victim.write_bytes(replaced_number(source, data) if structured else
                           mutate(source, data, target.head))
        before = sorted(str(path) for path in place.rglob("*"))
        names = {"{}": str(copy), "{place}": str(place)}
        command = [self.program]
        for word in target.command:
            for name, path in names.items():
                word = word.replace(name, path)
            command.append(word)
        process = subprocess.Popen(command, cwd=self.folder, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                   env=self.environment)
        error = process.stderr.read().decode(errors="replace")
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stderr.close()
        written = [path for path in map(str, place.rglob("*"))
                   if path not in before and not path.startswith(str(place / "out"))]
        lines = [line for line in error.splitlines() if line.strip()]
        shutil.rmtree(place)
        return process.returncode, lines, usage.ru_maxrss * 1024, written

    def test_mutated_files(self):
        targets = self.prepare_targets()
        self.environment = self.environment_without_restart()
        seed = self.random.random()
        sanitized = b"__asan_init" in pathlib.Path(self.program).read_bytes()
        refused = {target.name: 0 for target in targets}
        each = -(-MUTATIONS // len(targets))
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for target in targets:
                results = list(pool.map(lambda n, t=target: self.attack(t, n, seed), range(each)))
                usual = sorted(result[2] for result in results)[len(results) // 2]
                for number, (code, lines, memory, written) in enumerate(results):
                    case = f"{target.name} {number} of seed {seed}: exit {code}, {lines}"
                    self.assertIn(code, (0, 64, 65), case)
                    if code != 0:
                        refused[target.name] += 1
                        self.assertEqual(len(lines), 1, case)
                        self.assertTrue(lines[0].startswith("lockstep: error: "), case)
                    self.assertEqual(written, [], case)
                    if not sanitized:
                        self.assertLess(memory, usual + MEMORY_SLACK, case)
        for name, count in refused.items():
            self.assertGreater(count, each // 20, f"{name}: hardly anything was refused {refused}")


if __name__ == "__main__":
    harness.main()

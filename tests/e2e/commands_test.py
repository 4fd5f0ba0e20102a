#!/usr/bin/env python3
# Every command that README.md, docs/ and the comments of configs/ show is run as it stands, page by
# page, in a folder that holds what the pages speak of. Stand-ins, all in make_stand_ins(): for
# programs of other people and this repository's own long scripts (other tests run them), for the
# batch system, and for training that needs GPUs (its plan is made instead).
# Usage: commands_test.py [-k PATTERN] PROGRAM MPIRUN...
import gzip
import os
import pathlib
import re
import shutil
import struct
import subprocess

from harness import CONFIG, Case, clean_environment, flag_list, main, make_text

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = ["README.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
STARTS = re.compile(r"(?:build/)?lockstep [a-z]|(?:mpirun|srun|sbatch|zcat|python3) |scripts/\S+")
PLACEHOLDER = re.compile(r"\b[A-Z]{2,}\b|\.\.\.|\|")

LOCKSTEP = """#!/bin/bash
# The program; a run takes two steps, a short text gives a small vocabulary, and an output of an
# earlier line makes room for the next.
command=$1
set -- "${@/bpe:32000/bpe:400}"
out=
for word in "$@"; do
  [ "$previous" != --out ] || out=$word
  previous=$word
done
case "$command" in
  train)
    case "$2" in
      configs/*_tiny.toml | configs/tiny_*.toml | [^c]*.toml) shift ;;
      *)
        [ "${OMPI_COMM_WORLD_RANK:-0}" -eq 0 ] || exit 0
        shift
        exec PROGRAM plan "$@" --world "${OMPI_COMM_WORLD_SIZE:-1}"
        ;;
    esac
    exec PROGRAM train "$@" --train.steps=2 --run.threads=1
    ;;
  prepare | export) rm -rf "${out:?}" ;;
esac
exec PROGRAM "$@"
"""
SBATCH = """#!/bin/bash
# Runs the script at once, as the first task of an array.
while [[ $1 == --* ]]; do
  [[ $1 != --array=* ]] || export SLURM_ARRAY_TASK_ID=1
  shift
done
exec bash "$@"
"""
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
exec mpirun -n 2 "$@"
"""


def fenced_blocks(text):
    """The command blocks of a page, each as one shell script."""
    blocks = re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for block in blocks if STARTS.match(block)]


def inline_commands(text):
    """Whole command lines inside a sentence."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    quotes = [" ".join(quote.split()) for quote in re.findall(r"`([^`]+)`", prose)]
    return [quote for quote in quotes
            if re.match(r"lockstep [a-z]+ \S", quote) and not PLACEHOLDER.search(quote)]


def config_commands(text):
    return re.findall(r"^# +((?:mpirun .*)?lockstep \w+ .*)$", text, re.MULTILINE)


def zstandard(data):
    """One frame of stored blocks; Python has no compressor for it."""
    size = 1 << 16
    parts = [data[at:at + size] for at in range(0, len(data), size)]
    blocks = [struct.pack("<I", len(part) << 3 | (i == len(parts) - 1))[:3] + part
              for i, part in enumerate(parts)]
    return struct.pack("<IBI", 0xFD2FB528, 0xA0, len(data)) + b"".join(blocks)


class Commands(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.place = cls.root / "place"
        (cls.place / "books").mkdir(parents=True)
        (cls.place / "home/models").mkdir(parents=True)
        for name in ("scripts", "configs", "tests", "docs"):
            (cls.place / name).symlink_to(ROOT / name)
        cls.make_stand_ins()
        cls.make_texts()
        cls.make_models()

    @classmethod
    def stand_in(cls, path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    @classmethod
    def make_stand_ins(cls):
        bin_folder = cls.root / "bin"
        program = LOCKSTEP.replace("PROGRAM", cls.program)
        cls.stand_in(bin_folder / "lockstep", program)
        cls.stand_in(cls.place / "build/lockstep", program)
        launcher = " ".join(f"'{word}'" for word in [shutil.which(cls.mpirun[0]), *cls.mpirun[1:]])
        cls.stand_in(bin_folder / "mpirun", f'#!/bin/bash\nexec {launcher} "$@"\n')
        cls.stand_in(bin_folder / "sbatch", SBATCH)
        cls.stand_in(bin_folder / "srun", SRUN)
        # tests/clients runs other people's programs on our files, tests/parity is its own test.
        for name in ("vllm", "llama-cli", "python3"):
            cls.stand_in(bin_folder / name, "#!/bin/sh\nexit 0\n")
        (cls.place / "scripts").unlink()
        for path in (ROOT / "scripts").iterdir():
            (cls.place / "scripts").mkdir(exist_ok=True)
            (cls.place / "scripts" / path.name).symlink_to(path)
        for name in ("quickstart.sh", "test.sh", "build.sh"):
            (cls.place / "scripts" / name).unlink()
            cls.stand_in(cls.place / "scripts" / name, "#!/bin/sh\nexit 0\n")
        if shutil.which("gnuplot") is None:
            (cls.place / "scripts/plot.sh").unlink()
            cls.stand_in(cls.place / "scripts/plot.sh", "#!/bin/sh\nexit 0\n")

    @classmethod
    def make_texts(cls):
        text = make_text(60000)
        lines = "".join(f'{{"text": "{line}"}}\n' for line in text.split("\n")).encode()
        for name in ("my_text.txt", "text.txt", "input.txt", "books/one.txt"):
            (cls.place / name).write_text(text)
        (cls.place / "dump-1.jsonl.zst").write_bytes(zstandard(lines))
        (cls.place / "dump-1.jsonl.gz").write_bytes(gzip.compress(lines))
        (cls.place / "dump.gz").write_bytes(gzip.compress(text.encode()))
        for name in ("my.toml", "small.toml", "sweep/1.toml"):
            (cls.place / name).parent.mkdir(exist_ok=True)
            (cls.place / name).write_text(CONFIG.replace('"data"', '"runs/data/mine"'))
        page = (ROOT / "docs/start_from_a_checkpoint.md").read_text()
        (cls.place / "finetune.toml").write_text(
            re.search(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[1])

    @classmethod
    def make_models(cls):
        """A model as others publish it, data made with its tokenizer, and a run of our own."""
        model = cls.place / "home/models/Qwen2.5-0.5B"
        shape = {"model.architecture": "qwen2", "model.layers": 1, "model.hidden": 32,
                 "model.ffn": 64, "model.seq_len": 1024, "train.steps": 1,
                 "train.micro_batch_size": 1, "train.global_batch_size": 1, "eval.interval": 0}
        for words in (
                ["prepare", "--out", "corpus", "--tokenizer", "bpe:400", "--eos-token", "<end>",
                 "--val-fraction", "0.2", "text.txt"],
                ["train", "my.toml", "--run.dir=runs/mine", "--data.train=corpus",
                 "--data.val=corpus", *flag_list(shape)],
                ["export", "runs/mine", "--out", model, "--format", "safetensors"],
                ["prepare", "--out", "runs/data/mine", "--tokenizer", "corpus/tokenizer",
                 "text.txt"],
                ["prepare", "--out", "runs/data/shakespeare", "--tokenizer", "byte", "text.txt"]):
            cls.succeed([cls.program, *words])
        (cls.place / "Qwen2.5-0.5B").symlink_to(model)

    @classmethod
    def succeed(cls, words, folder=None):
        environment = clean_environment({"HOME": str(cls.place / "home"), "SLURM_JOB_ID": "1"})
        environment["PATH"] = f"{cls.root / 'bin'}:{environment['PATH']}"
        done = subprocess.run([str(word) for word in words], cwd=folder or cls.place,
                              env=environment, capture_output=True, text=True, check=False,
                              errors="replace", stdin=subprocess.DEVNULL, timeout=240)
        assert done.returncode == 0, f"{words} exit {done.returncode}\n{done.stdout[-2000:]}" \
                                     f"{done.stderr[-3000:]}"

    def setUp(self):
        self.jobs = []

    def run_scripts(self, name, scripts):
        """One after the other in one copy of the folder; all that fail are told."""
        folder = self.root / name.replace("/", "_")
        shutil.copytree(self.place, folder, symlinks=True)
        failed = []
        for script in scripts:
            try:
                self.succeed(["bash", "-euo", "pipefail", "-c", script], folder)
            except AssertionError as error:
                failed.append(f"{name}:\n{script}\n{error}")
        self.assertEqual(failed, [], "\n".join(failed))

    def test_pages(self):
        found = 0
        for page in PAGES:
            text = (ROOT / page).read_text()
            scripts = fenced_blocks(text) + inline_commands(text)
            found += len(scripts)
            with self.subTest(page=page):
                self.run_scripts(page, scripts)
        self.assertGreater(found, 10)

    def test_comments_of_configurations(self):
        for path in sorted((ROOT / "configs").glob("*.toml")):
            with self.subTest(config=path.name):
                self.run_scripts(path.name, config_commands(path.read_text()))

    def test_a_line_that_fails_is_told(self):
        blocks = fenced_blocks("```\nlockstep plan configs/tiny_cpu.toml --world 5\n```\n")
        with self.assertRaisesRegex(AssertionError, "exit 78"):
            self.run_scripts("wrong", blocks)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# Every mistake a user can make: one line that says what is wrong and what to do, the right exit
# code, no stack trace, alone and through mpirun. The table comes first; what needs a second process
# or a full disk follows.
import array
import hashlib
import json
import os
import re
import shutil
import subprocess

import harness

# (name, exit code, words that the message must have, arguments, world sizes; 0 is alone)
TRAIN = ("train", "tiny.toml", "--run.dir=run", "--train.steps=5", "--train.micro_batch_size=2")
BYTES = ("--data.tokenizer=byte",)
TABLE = (
    ("unknown key in the file", 78,
     r"unknown_key\.toml:3:1: unknown key train\.stepz.*train\.steps",
     ("train", "unknown_key.toml"), (0, 2)),
    ("unknown key on the command line", 78, r"optimizer\.lrr.*optimizer\.lr",
     (*TRAIN, "--optimizer.lrr=1"), (0, 2)),
    ("wrong type", 78, r"wrong_type\.toml:3:9: train\.steps: expected a whole number",
     ("train", "wrong_type.toml"), (0, 2)),
    ("syntax", 78, r"syntax\.toml:3:\d+", ("train", "syntax.toml"), (0,)),
    ("value out of range", 78, r"train\.micro_batch_size.*1", (*TRAIN[:4],
     "--train.micro_batch_size=0"), (0,)),
    ("beyond fp32", 78, r"precision\.loss_scale=1e39: expected dynamic or a number > 0.*fp32",
     (*TRAIN, "--precision.loss_scale=1e39"), (0, 2)),
    ("beyond 32 bits", 78, r"precision\.growth_interval=4294967296: .*from 1 to 2147483647",
     (*TRAIN, "--precision.growth_interval=4294967296"), (0,)),
    ("beyond any memory", 78, r"any memory: check the sizes in \[model\]",
     ("plan", "tiny.toml", "--model.hidden=262144", "--model.layers=4096", "--model.heads=2048"),
     (0,)),
    ("asynchronous saving", 78, r"checkpoint\.async = true.*false",
     (*TRAIN, "--checkpoint.async=true"), (0, 2)),
    ("TF32 of another dtype", 78, r"precision\.tf32 = true.*bf16",
     (*TRAIN, "--precision.tf32=true", "--precision.dtype=bf16"), (0,)),
    ("missing config", 78, r"absent\.toml", ("train", "absent.toml"), (0, 2)),
    ("neither steps nor epochs", 78, r"train\.steps.*train\.epochs",
     (*TRAIN, "--train.steps=0"), (0,)),
    ("steps and epochs", 78, r"train\.steps.*train\.epochs", (*TRAIN, "--train.epochs=2"), (0,)),
    ("no data named", 78, r"data\.train.*prepare", ("train", "bare.toml"), (0, 2)),
    ("missing data", 65, r"nowhere", (*TRAIN, "--data.train=nowhere/train_*.bin"), (0, 2)),
    ("wrong magic", 65, r"odd/magic\.bin: not a token shard.*prepare",
     (*TRAIN, "--data.train=odd/magic.bin", *BYTES), (0, 2)),
    ("text as data", 65, r"text\.txt: looks like text.*prepare",
     (*TRAIN, "--data.train=text.txt", *BYTES), (0,)),
    ("truncated shard", 65, r"odd/truncated\.bin: truncated.*36000.*again",
     (*TRAIN, "--data.train=odd/truncated.bin", *BYTES), (0, 2)),
    ("empty shard", 65, r"odd/empty\.bin: empty",
     (*TRAIN, "--data.train=odd/empty.bin", *BYTES), (0,)),
    ("short mask", 65, r"odd/masked\.mask: mask of 10 bytes.*again",
     (*TRAIN, "--data.train=odd/masked.bin", *BYTES), (0,)),
    ("token above the vocabulary", 65,
     r"odd/high\.bin: token 999 at position 2000 .*256.*model\.vocab",
     (*TRAIN, "--train.steps=12", "--data.train=odd/high.bin", *BYTES), (0, 2)),
    ("fewer tokens than a sequence", 65, r"odd/short\.bin|data\.train",
     (*TRAIN, "--data.train=odd/short.bin", *BYTES), (0,)),
    ("world size", 78, r"world size 2 .*global_batch_size 12.*micro_batch_size 4.* 1, 3\b",
     (*TRAIN[:4], "--train.micro_batch_size=4"), (2,)),
    ("odd width", 78, r"model\.", (*TRAIN, "--model.hidden=65"), (0,)),
    ("vocabulary below the tokenizer's", 78, r"model\.vocab.*256",
     (*TRAIN, "--model.vocab=100"), (0,)),
    ("self among two", 78, r"comm\.backend", (*TRAIN, "--comm.backend=self"), (2,)),
    ("directory under a file", 74, r"text\.txt.*--run\.dir",
     (*TRAIN, "--run.dir=text.txt/run"), (0, 2)),
    ("empty text", 65, r"empty\.txt", ("prepare", "--out=new", "empty.txt"), (0,)),
    ("missing text", 65, r"absent\.txt", ("prepare", "--out=new", "absent.txt"), (0,)),
    ("existing output", 64, r"data.*--overwrite", ("prepare", "--out=data", "text.txt"), (0,)),
    ("longer than the model", 64, r"--seq-len 64.* 32 tokens",
     ("eval", "good", "--seq-len=64"), (0, 2)),
    ("nothing to judge", 65, r"nowhere", ("eval", "good", "--data=nowhere"), (0,)),
    ("model without a checkpoint", 65, r"data.*checkpoint", ("eval", "data"), (0, 2)),
    ("no model", 65, r"absent", ("eval", "absent"), (0, 2)),
    ("damaged checkpoint", 65, r"damaged/shard-00000-of-00001\.h5: .*SHA-256",
     ("eval", "damaged"), (0, 2)),
    ("newer format", 65, r"newer.*\b2\b", ("eval", "newer"), (0, 2)),
    ("newer format, on resume", 65, r"newer.*\b2\b", (*TRAIN, "--checkpoint.resume=newer"), (0, 2)),
    ("a file to go on from", 65, r"checkpoint\.resume: text\.txt: no such run or checkpoint",
     (*TRAIN, "--checkpoint.resume=text.txt"), (0, 2)),
    ("another model's checkpoint", 78, r"model\.layers.*2.*3",
     (*TRAIN, "--run.dir=other", "--model.layers=3", "--checkpoint.resume=good"), (0, 2)),
    ("empty prompt", 64, r"--prompt", ("generate", "good", "--prompt="), (0, 2)),
    ("no such tokenizer", 64, r"absent", ("generate", "good", "--prompt=a", "--tokenizer=absent"),
     (0,)),
)
TRACES = re.compile(r"terminate called|Segmentation|stack|backtrace|\[\d+\] .*\(\+0x|core dumped")


class Errors(harness.Case):
    def setUp(self):
        super().setUp()
        good = self.root / "good"
        if not good.exists():
            self.train(good, {"train.steps": 3, "train.micro_batch_size": 6})
        shutil.copytree(good, self.folder / "good")
        self.make_configs()
        self.make_shards()
        self.make_checkpoints()
        (self.folder / "empty.txt").write_text("")

    def make_configs(self):
        for name, lines in (("unknown_key", "[train]\n\nstepz = 5\n"),
                            ("wrong_type", '[train]\n\nsteps = "many"\n'),
                            ("syntax", "[train]\nsteps = 5\n[model\n"),
                            ("bare", "[train]\nsteps = 5\n")):
            (self.folder / f"{name}.toml").write_text(lines)

    def make_shards(self):
        odd = self.folder / "odd"
        odd.mkdir()
        shard = (self.folder / "data" / "train_000000.bin").read_bytes()
        (odd / "magic.bin").write_bytes(array.array("i", [12345]).tobytes() + shard[4:])
        (odd / "truncated.bin").write_bytes(shard[:-500])
        (odd / "empty.bin").write_bytes(b"")
        (odd / "masked.bin").write_bytes(shard)
        (odd / "masked.mask").write_bytes(b"\1" * 10)
        # One token that one of the ranks meets, within the first epoch of 127 samples.
        tokens = [9] * 4096
        tokens[2000] = 999
        for name, content in (("high", tokens), ("short", tokens[:20])):
            header = array.array("i", [20240520, 1, len(content)]).tobytes().ljust(1024, b"\0")
            (odd / f"{name}.bin").write_bytes(header + array.array("H", content).tobytes())

    def make_checkpoints(self):
        whole = self.checkpoints("good")[0]
        for name in ("damaged", "newer"):
            shutil.copytree(whole, self.folder / name)
        shard = self.folder / "damaged" / "shard-00000-of-00001.h5"
        content = bytearray(shard.read_bytes())
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)
        # What a later version would write: its manifest is in order, and says so.
        manifest = self.folder / "newer" / "manifest.json"
        body = manifest.read_bytes()[:-92].replace(b'"format_major": 1', b'"format_major": 2')
        digest = hashlib.sha256(body).hexdigest()
        manifest.write_bytes(body + f',\n  "manifest_sha256": "{digest}"\n}}\n'.encode())

    def check(self, result, code, words):
        """One error line with the wanted words, and nothing else of ours."""
        self.assertEqual(result.code, code, str(result))
        self.assertEqual(len(result.errors()), 1, str(result))
        self.assertRegex(result.errors()[0], words)
        self.assertNotRegex(result.err, TRACES)
        if result.command[0] == self.program:  # no launcher adds its own lines
            lines = [line for line in result.err.split("\n") if line]
            self.assertEqual(lines[-1:], result.errors(), "the error comes last")
            self.assertTrue(all(line.startswith(("lockstep: ", "warning: ")) for line in lines),
                            str(result))

    def test_table(self):
        for name, code, words, arguments, sizes in TABLE:
            for ranks in sizes:
                with self.subTest(name, ranks=ranks):
                    shutil.rmtree(self.folder / "run", ignore_errors=True)
                    self.check(self.run_program(*arguments, ranks=ranks), code, words)

    def test_a_failed_run_tells_why(self):
        """The record and the exit code, also when one rank alone met the error."""
        for ranks in (0, 2):
            run = f"run_{ranks}"
            result = self.run_program(*TRAIN, f"--run.dir={run}", "--train.steps=12",
                                      "--data.train=odd/high.bin", *BYTES, ranks=ranks)
            self.check(result, 65, "token 999")
            failure = json.loads((self.folder / run / "failure.json").read_text())
            self.assertEqual(failure["exit_code"], 65)
            self.assertIn("token 999", failure["message"])
            self.assertEqual(failure["host"], os.uname().nodename)
            self.assertLess(failure["rank"], max(ranks, 1))
            facts = self.inspect(run)
            self.assertEqual(facts["state"], "failed")
            self.assertIn("token 999", facts["cause"])

    def test_cuda_without_cuda(self):
        doctor = json.loads(self.run_program("doctor", "--json").out)
        if doctor.get("gpus"):
            self.skipTest("this machine has a GPU")
        for ranks in (0, 2):
            self.check(self.run_program(*TRAIN, "--run.device=cuda", ranks=ranks), 78,
                       r"run\.device=cuda.*CUDA")

    def test_a_launcher_that_mpi_does_not_know(self):
        for arguments in (TRAIN, ("eval", "good")):
            result = self.run_program(*arguments, env={"SLURM_STEP_NUM_TASKS": "4"})
            self.check(result, 78, r"4 tasks.*--mpi=pmix")

    def test_a_second_trainer(self):
        job = self.start_training("run", {"train.steps": 100000})
        self.assertTrue(self.wait_for_step(job, "run", 5), str(job.result()))
        for ranks in (0, 2):
            second = self.run_program(*TRAIN, ranks=ranks)
            self.check(second, 78, rf"pid {job.pid} on {os.uname().nodename}.*--run\.dir")
        self.assertEqual(self.inspect("run")["state"], "running")
        job.send(harness.signal.SIGTERM)
        self.assertEqual(job.wait().code, 75)
        self.assertFalse((self.folder / "run" / "failure.json").exists())
        self.assertGreater(len(self.rows("run")), 5)


class FullDisk(harness.Case):
    """On a small file system in memory; a checkpoint of the tiny model takes 1.4 MiB."""

    def mount(self, size):
        place = self.folder / "disk"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            self.skipTest(f"no mount here: {error}")
        if done.returncode != 0:
            self.skipTest(f"may not mount a tmpfs: {done.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", "-l", str(place)], check=True)
        return place

    def test_no_room_at_the_start(self):
        place = self.mount("1m")
        for ranks in (0, 2):
            result = self.run_program(*TRAIN, f"--run.dir={place}/run", ranks=ranks)
            self.assertEqual(result.code, 74, str(result))
            self.assertEqual(len(result.errors()), 1, str(result))
            self.assertRegex(result.errors()[0], r"disk/run.*MiB.*free")
            self.assertEqual(self.rows(place / "run"), [], "before the first step")

    def test_full_during_the_run(self):
        """Training goes on and says so; when there is room again, it saves, and nothing is lost."""
        place = self.mount("8m")
        options = {"train.steps": 100000, "train.micro_batch_size": 6, "checkpoint.interval": 100}
        job = self.start_training(place / "run", options)
        self.assertTrue(self.wait_for_step(job, place / "run", 110), str(job.result()))
        log = place / "run" / "train.log"
        filler = place / "filler"
        with open(filler, "wb", buffering=0) as file:
            try:
                while file.write(b"\0" * 4096) > 0:
                    pass
            except OSError:
                pass
        failed = r"checkpoint of step \d+ could not be saved.*training goes on"
        self.assertTrue(self.wait_for(job, lambda: re.search(failed, job.result().err + job.result(
            ).out), "a failed save"), str(job.result()))
        filler.unlink()
        saves = len(self.events(place / "run", "save"))
        self.assertTrue(self.wait_for(
            job, lambda: len(self.events(place / "run", "save")) > saves, "a save"), log)
        job.send(harness.signal.SIGTERM)
        result = job.wait()
        self.assertEqual(result.code, 75, str(result))
        self.assertEqual(self.inspect(place / "run", "--verify=full")["step"],
                         len(self.rows(place / "run")))


if __name__ == "__main__":
    harness.main()

#!/usr/bin/env python3
# How a run ends that cannot go on, or is not to: one cause, named rightly, the same on every rank,
# within seconds. Usage: failure_test.py [--seed N] [-k PATTERN] PROGRAM MPIRUN...
import json
import os
import pathlib
import shutil
import signal
import struct
import time

import harness

SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / "scripts"
ENDLESS = {"train.steps": 1000000, "checkpoint.interval": 0}


class Failures(harness.Case):
    def launch(self, *words, env=None):
        job = harness.Job(list(words), self.folder, env or {})
        self.jobs.append(job)
        return job

    def failure(self, run):
        return json.loads((self.folder / run / "failure.json").read_text())

    def write_shard(self, name, tokens):
        header = struct.pack("<256i", 20240520, 1, len(tokens), *[0] * 253)
        (self.folder / name).write_bytes(header + struct.pack(f"<{len(tokens)}H", *tokens))

    def flags(self, run, options):
        return ["train", "tiny.toml", *harness.flag_list({"run.dir": run} | options)]


class Signals(Failures):
    def test_a_hang_up_stops_and_saves(self):
        job = self.start_training("run", ENDLESS)
        self.wait_for_step(job, "run", 3)
        job.send(signal.SIGHUP)
        result = job.wait()
        self.assertEqual(result.code, 75, str(result))
        self.assertEqual(self.events("run", "stop")[-1]["signal"], "SIGHUP")
        self.assertEqual(len(self.checkpoints("run")), 1)
        self.assertEqual(result.err.count("stopping after this step"), 1, str(result))

    def test_nohup_is_honoured(self):
        job = self.launch("nohup", self.program, *self.flags("run", {"train.steps": 60}))
        self.wait_for_step(job, "run", 3)
        job.send(signal.SIGHUP)
        result = job.wait()
        self.assertEqual(result.code, 0, str(result))

    def test_ctrl_c_through_the_wrapper_saves(self):
        # The wrapper calls mpirun by name.
        tools = self.folder / "bin"
        tools.mkdir()
        script = tools / "mpirun"
        real = [shutil.which(self.mpirun[0]), *self.mpirun[1:]]
        script.write_text(f'#!/bin/sh\nexec {" ".join(map(str, real))} "$@"\n')
        script.chmod(0o755)
        job = self.launch(SCRIPTS / "launch" / "mpirun.sh", "-n", 2, self.program,
                          *self.flags("run", ENDLESS),
                          env={"PATH": f"{tools}:{os.environ['PATH']}"})
        self.wait_for_step(job, "run", 3)
        job.send(signal.SIGINT)
        result = job.process.wait(harness.PATIENCE_SECONDS)
        self.assertEqual(result, 75, str(job.result()))
        self.assertEqual(len(self.checkpoints("run")), 1)
        self.assertEqual(job.result().err.count("stopping after this step"), 1)

    def test_ctrl_c_on_mpirun_is_answered(self):
        job = self.start_training("run", ENDLESS, ranks=2)
        self.wait_for_step(job, "run", 3)
        job.send(signal.SIGINT)
        self.assertIn("send mpirun USR1", job.wait().err)


class Peers(Failures):
    def assert_blames_rank_1(self, result, run, text):
        failure = self.failure(run)
        self.assertEqual((failure["exit_code"], failure["rank"]), (76, 1), str(failure))
        self.assertEqual(failure["reported_by"], 0)
        self.assertIn(text, failure["message"])
        self.assertIn("mpirun -n 2 lockstep train", failure["next_command"])
        self.assertEqual(len([line for line in result.errors() if text in line]), 1, str(result))

    def test_a_stopped_rank_is_named(self):
        job = self.start_training("run", ENDLESS | {"comm.timeout_seconds": 3}, ranks=2)
        self.wait_for_step(job, "run", 3)
        pid = job.ranks()[1]
        job.send(signal.SIGSTOP, rank=1)
        began = time.monotonic()
        result = job.wait()
        self.assertLess(time.monotonic() - began, 20)
        self.assertEqual(result.code, 76, str(result))
        self.assert_blames_rank_1(result, "run", f"rank 1 (pid {pid} on ")
        self.assertIn("does not answer", self.failure("run")["message"])

    def test_a_rank_killed_elsewhere_is_named(self):
        """In a process-id namespace of its own, as on another host; nobody ends the job for it."""
        elsewhere = ["unshare", "--pid", "--fork", "--kill-child"]
        if os.geteuid() != 0 or shutil.which("unshare") is None:
            self.skipTest("needs root to make a process-id namespace")
        command = [self.program, *self.flags("run", ENDLESS)]
        job = self.launch(*self.mpirun, "-n", 1, *command, ":", "-n", 1, "sh", "-c",
                          '"$@"; sleep 60', "sh", *elsewhere, *command)
        self.wait_for_step(job, "run", 3)
        found = [pid for pid in job.members() if pid != job.ranks()[0]
                 and pathlib.Path(f"/proc/{pid}/comm").read_text() == "lockstep\n"]
        self.assertEqual(len(found), 1)
        began = time.monotonic()
        os.kill(found[0], signal.SIGKILL)
        result = job.wait()
        self.assertLess(time.monotonic() - began, 20)
        self.assertEqual(result.code, 76, str(result))
        self.assert_blames_rank_1(result, "run", "is gone")

    def test_a_rank_that_never_starts_is_named(self):
        command = [self.program, *self.flags("run", {"comm.start_timeout_seconds": 3})]
        job = self.launch(*self.mpirun, "-n", 1, *command, ":", "-n", 1, "sleep", "60")
        began = time.monotonic()
        result = job.wait()
        self.assertLess(time.monotonic() - began, 20)
        self.assertEqual(result.code, 76, str(result))
        self.assertRegex(result.err, r"MPI did not start within 3 s .*on \S+ wait rank\(s\) 0; "
                                     r"rank 1 \(pid \d+\) has not come to MPI_Init")


class Messages(Failures):
    def test_what_all_ranks_find_is_said_once(self):
        """Also where the launcher is slow to end the others."""
        job = self.launch(*self.mpirun, "-n", 2, "sh", "-c", '"$@"; code=$?; sleep 4; exit $code',
                          "sh", self.program, *self.flags("run", {"train.stepz": 3}))
        result = job.wait()
        self.assertEqual(result.code, 78, str(result))
        self.assertEqual(len(result.errors()), 1, str(result))

    def test_what_one_rank_finds_is_said(self):
        command = [self.program, *self.flags("run", {"train.steps": 2})]
        bad = [self.program, *self.flags("run", {"train.steps": 2, "train.stepz": 2})]
        result = self.launch(*self.mpirun, "-n", 1, *command, ":", "-n", 1, *bad).wait()
        self.assertEqual(result.code, 78, str(result))
        self.assertEqual(len(result.errors()), 1, str(result))
        self.assertIn("rank 1: ", result.errors()[0])

    def test_paths_need_not_be_utf_8(self):
        # A token beyond the vocabulary, in the middle of the run, from a file that a glob finds.
        self.write_shard(os.fsdecode(b"odd\xff.bin"), [97] * 999 + [300] + [97] * 1000)
        options = {"data.train": "odd*.bin", "model.vocab": 256, "train.steps": 1000}
        self.train("run", options, code=65)
        self.assertEqual(self.failure("run")["exit_code"], 65)
        self.assertIn("odd\ufffd.bin", self.events("run", "failure")[-1]["message"])
        odd = self.folder / os.fsdecode(b"moved\xff")
        (self.folder / "run").rename(odd)
        for flags in ([], ["--json"]):
            result = self.run_program("inspect", odd, *flags)
            self.assertEqual(result.code, 0, str(result))

    def test_the_next_command_can_be_pasted(self):
        run = "a run's dir"
        self.train(run, ENDLESS | {"train.time_limit_minutes": 0.01}, ranks=2, code=75)
        shown = self.inspect(run)["next_command"]
        self.assertEqual(shown, "mpirun -n 2 lockstep train 'a run'\\''s dir/config.toml' "
                                "'--run.dir=a run'\\''s dir'")


class Data(Failures):
    def test_a_shard_cut_short_during_the_run(self):
        """Somebody writes the corpus anew: an error with its name, on one rank or on all."""
        for ranks in (0, 2):
            shard = f"cut{ranks}.bin"
            self.write_shard(shard, [97] * 100000)
            keys = {"data.train": shard, "data.tokenizer": "byte"}
            job = self.start_training(f"run{ranks}", ENDLESS | keys, ranks=ranks)
            self.wait_for_step(job, f"run{ranks}", 3)
            os.truncate(self.folder / shard, 4096)
            began = time.monotonic()
            result = job.wait()
            self.assertLess(time.monotonic() - began, 20)
            self.assertEqual(result.code, 65, str(result))
            self.assertNotIn("signal", result.err)
            # Each rank reads its own part of the batch.
            self.assertIn(len(result.errors()), (1, max(1, ranks)), str(result))
            failure = self.failure(f"run{ranks}")
            self.assertEqual(failure["exit_code"], 65)
            for text in (failure["message"], *result.errors()):
                self.assertIn(f"{shard}: was cut short while in use", text)


class NotFinite(Failures):
    """Weights that overflow on one token only, which one rank's part of a batch holds."""

    POISON = 255  # a byte that the text does not have

    def poisoned_model(self):
        options = {"train.steps": 1, "model.tie_embeddings": False}
        self.train("seed", options)
        result = self.run_program("export", "seed", "--out", "model", "--format", "safetensors",
                                  "--dtype", "fp32", "--tokenizer", "byte")
        self.assertEqual(result.code, 0, str(result))
        path = self.folder / "model" / "model.safetensors"
        content = bytearray(path.read_bytes())
        length = struct.unpack("<Q", content[:8])[0]
        entry = json.loads(content[8:8 + length])["transformer.wte.weight"]
        begin = 8 + length + entry["data_offsets"][0]
        row = 4 * entry["shape"][1]
        at = begin + self.POISON * row
        content[at:at + row] = struct.pack("<f", 3e38) * entry["shape"][1]
        path.write_bytes(content)

    def shard(self, name, samples, poisoned):
        """Samples of 32 tokens, those with the given numbers holding the poison."""
        tokens = [97 + i % 20 for i in range(32 * samples + 1)]
        for sample in poisoned:
            tokens[32 * sample + 5] = self.POISON
        self.write_shard(name, tokens)

    def options(self, shard, **more):
        return {"model.init_from": "model", "data.train": shard, "data.val": "data",
                "train.micro_batch_size": 1, "train.global_batch_size": 2, "data.tokenizer": "byte",
                "model.tie_embeddings": False} | more

    def test_one_rank_alone(self):
        self.poisoned_model()
        self.shard("rare.bin", 40, poisoned=[3, 11, 25])
        options = self.options("rare.bin", **{"train.steps": 20, "checkpoint.interval": 5})
        # Every save compares the ranks' whole states: they all skipped the same steps.
        self.train("two", options, ranks=2)
        self.train("one", options)
        skips = [[(event["step"], event["cause"]) for event in self.events(run, "skip")]
                 for run in ("two", "one")]
        self.assertEqual(len(skips[0]), 3)
        self.assertEqual(skips[0], skips[1])
        for row in self.rows("two"):
            self.assertEqual(row["updates"] + row["skipped"], row["step"])
        self.assertEqual(self.rows("two")[-1]["skipped"], 3)

    def test_max_skips_ends_every_rank(self):
        self.poisoned_model()
        self.shard("always.bin", 2, poisoned=[1])  # a batch is both samples, one for each rank
        options = self.options("always.bin", **{"train.steps": 20, "train.max_skips": 4})
        result = self.train("run", options, ranks=2, code=70)
        self.assertEqual(len(result.errors()), 1, str(result))
        self.assertIn("4 steps in a row were skipped", result.errors()[0])
        self.assertEqual(self.failure("run")["step"], 4)
        self.assertEqual(self.checkpoints("run"), [])


if __name__ == "__main__":
    harness.main()

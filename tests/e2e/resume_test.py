#!/usr/bin/env python3
# Stopped by signals or killed at random moments and resumed, a run ends as if nothing had
# happened: every row of metrics.jsonl and the digest of the whole state equal an undisturbed run's
# to the last bit. One run is disturbed many times, which is stricter than many runs disturbed once.
import json
import os
import shlex
import shutil
import signal
import time

import harness

STEPS = 240
TERM, USR1, USR2, INT = signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT
KILL = signal.SIGKILL
LAST_DISTURBANCE = 150  # a signal that is late by hundreds of milliseconds still finds it at work


class Disturbed(harness.Case):
    """The tools: an oracle, and runs that are stopped again and again."""

    def options(self, **changes):
        return {"train.steps": STEPS, "train.micro_batch_size": 6,
                "checkpoint.interval": 25} | changes

    def make_oracle(self, name, options, ranks, steps=STEPS):
        began = time.monotonic()
        self.train(name, options, ranks=ranks)
        self.oracle_seconds = time.monotonic() - began
        self.assertEqual(len(self.rows(name)), steps)

    def assert_same_so_far(self, run, oracle):
        """The rows of a run that was disturbed. One that was killed may lack any number of them and
        leave half a line."""
        wanted = self.exact_rows(oracle)
        for row in harness.read_jsonl(self.folder / run / "metrics.jsonl"):
            if "loss" in row:
                found = {key: row[key] for key in harness.EXACT}
                self.assertEqual(found, wanted[row["step"] - 1], run)

    def reach(self, job, run, step):
        """The middle of some step after `step`."""
        self.wait_for_step(job, run, step)  # or until it has ended, which the caller will notice
        time.sleep(self.random.random() * 0.01)

    def targets(self, count):
        """Random steps in rising order, one in each of `count` equal parts."""
        part = LAST_DISTURBANCE // count
        return [i * part + 3 + self.random.randrange(part - 8) for i in range(count)]

    def stop(self, run, options, ranks, step, act):
        """Disturbs the run after `step` by act(job); a clean stop a few steps later is wanted. On a
        busy machine this process may be late and find the run finished: then once more."""
        before = self.folder / "before"
        if (self.folder / run / "metrics.jsonl").exists():
            step = max(step, len(self.rows(run)) + 2)  # the last signal may have come late
        for attempts_left in (2, 1, 0):
            shutil.rmtree(before, ignore_errors=True)
            if (self.folder / run).exists():
                shutil.copytree(self.folder / run, before)
            job = self.start_training(run, options, ranks)
            self.reach(job, run, step)
            act(job)
            result = job.wait()
            if result.code != 0 or attempts_left == 0:
                break
            shutil.rmtree(self.folder / run)
            if before.exists():
                shutil.copytree(before, self.folder / run)
        self.assertEqual(result.code, 75, f"after step {step}: {result}")
        rows = self.rows(run)
        self.assertGreaterEqual(len(rows), step)
        facts = self.inspect(run)
        self.assertEqual((facts["state"], facts["step"]), ("stopped", len(rows)), str(result))
        newest = self.inspect(facts["newest_checkpoint"], "--verify=full")
        self.assertEqual(newest["step"], len(rows), "saved where it stopped")
        self.assertFalse((self.folder / run / "failure.json").exists())
        return result

    def kill(self, run, options, ranks, act):
        """Disturbs the run by act(job), which kills; all of its processes must go by themselves."""
        job = self.start_training(run, options, ranks)
        act(job)
        result = job.wait(patience=60)
        self.assertNotEqual(result.code, 75, str(result))
        return result

    def finish(self, run, options, ranks, oracle):
        self.train(run, options, ranks=ranks)
        self.assertEqual(self.exact_rows(run), self.exact_rows(oracle))
        self.assertEqual(self.digest(run), self.digest(oracle))

    def failure(self, run):
        return json.loads((self.folder / run / "failure.json").read_text())


class Alone(Disturbed):
    def test_signals(self):
        # A validation takes as long as ten steps, so that half of the signals come during one.
        options = self.options(**{"checkpoint.interval": 0, "eval.interval": 10})
        self.make_oracle("oracle", options, ranks=0)
        signals = ((TERM,), (USR1,), (USR2,), (INT,), (TERM, TERM), (USR1, TERM),
                   (USR2, INT, USR1, TERM))
        for step, sent in zip(self.targets(len(signals)), signals):
            with self.subTest(step=step, signals=sent):
                self.stop("run", options, 0, step, lambda job: job.send(*sent))
                self.assert_same_so_far("run", "oracle")
                event = self.events("run", "stop")[-1]
                # Signals that are pending together come in the order of their numbers.
                self.assertIn(event["signal"], [number.name for number in sent])
        self.finish("run", options, 0, "oracle")
        self.assertEqual(self.validations("run"), self.validations("oracle"))

    def validations(self, run):
        rows = harness.read_jsonl(self.folder / run / "metrics.jsonl")
        return {row["step"]: row["val_loss"] for row in rows if "val_loss" in row}

    def test_a_signal_during_the_last_validation(self):
        """All steps are done but the run is not: the same command makes the validation up."""
        options = self.options(**{"train.steps": 5, "eval.interval": 0, "train.micro_batch_size": 1,
                                  "data.val": "data/train_*.bin"})
        for _ in range(5):  # this process may be late and find the run finished
            shutil.rmtree(self.folder / "last", ignore_errors=True)
            job = self.start_training("last", options)
            self.wait_for_step(job, "last", 5)
            job.send(TERM)
            code = job.wait().code
            if code != 0:
                break
        self.assertEqual(code, 75)
        self.assertEqual(self.validations("last"), {})
        self.assertEqual(self.inspect("last")["state"], "stopped")
        self.train("last", options)
        self.assertEqual(list(self.validations("last")), [5])
        self.assertEqual(self.inspect("last")["state"], "finished")

    def test_a_signal_during_set_up(self):
        """As soon as the run directory is locked; one step is done, saved, and gone on from."""
        options = self.options(**{"train.steps": 60})
        self.make_oracle("oracle", options, ranks=0, steps=60)
        for number in (USR1, TERM):
            job = self.start_training("run", options)
            lock = self.folder / "run" / "lock"
            self.assertTrue(self.wait_for(job, lock.exists, "the lock"), str(job.result()))
            job.send(number)
            result = job.wait()
            self.assertEqual(result.code, 75, str(result))
        self.finish("run", options, 0, "oracle")

    def test_kill(self):
        """Saving takes most of the time here, so many of these moments lie inside a save."""
        options = self.options(**{"checkpoint.interval": 5})
        self.make_oracle("oracle", options, ranks=0)
        for round_ in range(8):
            run = f"run_{round_ // 4}"
            delay = self.random.uniform(0.0, 0.5 * self.oracle_seconds)
            with self.subTest(round=round_, delay=delay):
                job = self.start_training(run, options)
                time.sleep(delay)
                job.send(KILL)
                job.wait()
                self.assert_same_so_far(run, "oracle")
        for run in ("run_0", "run_1"):
            self.finish(run, options, 0, "oracle")
            folder = self.folder / run / "checkpoints"
            left = [path.name for path in folder.iterdir() if path.name.startswith(".")]
            self.assertEqual(left, [], "nothing half-written is left")

    def test_the_printed_command_resumes(self):
        options = self.options()
        self.make_oracle("oracle", options, ranks=0)
        self.stop("run", options, 0, 60, lambda job: job.send(USR1))
        words = shlex.split(self.inspect("run")["next_command"])
        self.assertEqual(words[:2], ["lockstep", "train"])
        result = self.run_program(*words[1:])
        self.assertEqual(result.code, 0, str(result))
        self.assertEqual(self.exact_rows("run"), self.exact_rows("oracle"))
        self.assertEqual(self.digest("run"), self.digest("oracle"))

    def test_a_finished_run_is_done(self):
        options = self.options(**{"train.steps": 30})
        self.train("done", options)
        before = (self.folder / "done" / "metrics.jsonl").read_text()
        digest = self.digest("done")
        began = time.monotonic()
        result = self.train("done", options)
        self.assertIn("finished", result.out)
        self.assertLess(time.monotonic() - began, 20)
        self.assertEqual((self.folder / "done" / "metrics.jsonl").read_text(), before)
        self.assertEqual(self.digest("done"), digest)
        self.assertEqual(self.inspect("done")["state"], "finished")


class TwoRanks(Disturbed):
    def test_signals(self):
        options = self.options(**{"checkpoint.interval": 0})
        self.make_oracle("oracle", options, ranks=2)
        acts = (lambda job: job.send(USR1),
                lambda job: job.send(USR1, rank=1),
                lambda job: job.send(TERM, rank=0),
                lambda job: job.send(INT, rank=1),
                lambda job: job.send(USR2),
                lambda job: (job.send(USR1), job.send(TERM, TERM, rank=1)))
        for at, (step, act) in enumerate(zip(self.targets(len(acts)), acts)):
            with self.subTest(act=at, step=step):
                self.stop("run", options, 2, step, act)
                self.assert_same_so_far("run", "oracle")
        self.finish("run", options, 2, "oracle")

    def test_a_second_interrupt_leaves_at_once(self):
        """Rank 0 waits in a reduction for rank 1, which stands still: nothing can be saved."""
        options = self.options(**{"train.steps": 100000})
        job = self.start_training("run", options, 2)
        self.reach(job, "run", 30)
        ranks = job.ranks()
        job.send(signal.SIGSTOP, to=ranks[1])
        time.sleep(0.3)
        job.send(INT, to=ranks[0])
        time.sleep(0.3)
        self.assertIn(ranks[0], job.members(), "the first one waits")
        job.send(INT, to=ranks[0])
        self.assertTrue(self.wait_for(job, lambda: ranks[0] not in job.members(), "its end"))
        job.send(signal.SIGCONT, to=ranks[1])
        self.assertEqual(job.wait().code, 130)
        self.train("run", options | {"train.steps": 60}, ranks=2)

    def test_mpirun_ends_the_job_on_term(self):
        """It gives the ranks a second; whether or not that is enough to save, resuming is exact."""
        options = self.options()
        self.make_oracle("oracle", options, ranks=2)
        job = self.start_training("run", options, 2)
        self.reach(job, "run", 60)
        job.send(TERM)
        self.assertNotEqual(job.wait(patience=60).code, 0)
        self.finish("run", options, 2, "oracle")

    def test_kill_a_rank(self):
        options = self.options()
        self.make_oracle("oracle", options, ranks=2)
        for step, victim in zip(self.targets(3), (1, 0)):
            killed = {}

            def act(job):
                self.reach(job, "run", step)
                killed.update(job.ranks())
                job.send(KILL, to=killed[victim])

            with self.subTest(step=step, victim=victim):
                result = self.kill("run", options, 2, act)
                self.assertIn(result.code, (76, 128 + KILL), str(result))
                failure = self.failure("run")
                self.assertEqual(failure["exit_code"], 76)
                self.assertEqual(failure["rank"], victim)
                self.assertEqual(failure["reported_by"], 1 - victim)
                self.assertIn(f"rank {victim} (pid {killed[victim]} on {os.uname().nodename})",
                              failure["message"])
                self.assertIn(f"rank {victim} ", self.inspect("run")["cause"])
                self.assertEqual(self.inspect("run")["state"], "failed")
                self.assertEqual(len(result.errors()), 1, str(result))
        self.finish("run", options, 2, "oracle")
        self.assertFalse((self.folder / "run" / "failure.json").exists())

    def test_kill_at_any_moment(self):
        options = self.options(**{"checkpoint.interval": 5})
        self.make_oracle("oracle", options, ranks=2)
        for round_, victim in enumerate(("mpirun", 1, "mpirun", 0)):
            delay = self.random.uniform(0.0, 0.6 * self.oracle_seconds)

            def act(job):
                time.sleep(delay)
                pids = job.ranks() | {"mpirun": job.pid}
                job.send(KILL, to=pids.get(victim, job.pid))

            with self.subTest(round=round_, victim=victim, delay=delay):
                self.kill("run", options, 2, act)
        self.finish("run", options, 2, "oracle")


class HalfPrecision(Disturbed):
    def disturb(self, name, options, ranks, early):
        run, oracle = f"{name}_run", f"{name}_oracle"
        self.make_oracle(oracle, options, ranks)
        self.stop(run, options, ranks, early, lambda job: job.send(USR1))
        self.assert_same_so_far(run, oracle)

        def act(job):
            self.reach(job, run, 40 + self.random.randrange(30))
            job.send(KILL, rank=max(ranks - 1, 0))

        self.kill(run, options, ranks, act)
        self.stop(run, options, ranks, 100 + self.random.randrange(40),
                  lambda job: job.send(USR1))
        self.finish(run, options, ranks, oracle)

    def test_bf16(self):
        options = self.options(**{"precision.dtype": "bf16"})
        for ranks in (0, 2):
            self.disturb(f"bf16_{ranks}", options, ranks, early=20)
        self.assertTrue(all(row["loss_scale"] == 1 for row in self.rows("bf16_0_run")))

    def test_fp16_recovers_from_overflows(self):
        options = self.options(**{"precision.dtype": "fp16", "precision.growth_interval": 16,
                                  "precision.initial_loss_scale": 2.0**30})
        self.disturb("fp16", options, 0, early=2)
        rows = self.rows("fp16_oracle")
        self.assertGreater(rows[0]["skipped"], 0, "the first scale overflows")
        self.assertGreater(rows[-1]["skipped"], rows[30]["skipped"], "growth overflows again")
        self.assertLess(rows[-1]["loss"], 0.7 * rows[0]["loss"], "and yet it learns")
        self.assertTrue(all(row["updates"] == row["step"] - row["skipped"] for row in rows))
        skips = self.events("fp16_oracle", "skip")
        self.assertEqual(len(skips), rows[-1]["skipped"])
        self.assertRegex(skips[0]["cause"], r"gradient of \S+ is not finite")
        scale, good = 2.0**30, 0
        for before, row in zip([None] + rows, rows):
            skipped = row["skipped"] - (before["skipped"] if before else 0)
            good = 0 if skipped else good + 1
            scale = scale / 2 if skipped else scale * 2 if good == 16 else scale
            good %= 16
            self.assertEqual(row["loss_scale"], scale, f"after step {row['step']}")


class OtherWorldSize(Disturbed):
    def test_losses(self):
        options = self.options(**{"train.micro_batch_size": 2})
        self.make_oracle("oracle", options, ranks=1)
        sizes = (1, 2, 3, 6, 0)
        for step, ranks in zip(self.targets(len(sizes) - 1), sizes):
            self.stop("run", options, ranks, step, lambda job: job.send(USR1))
        self.train("run", options, ranks=sizes[-1])
        self.assertEqual(len(self.rows("run")), STEPS)
        self.assert_close(self.losses("run"), self.losses("oracle"), 1e-5, "loss")

    def test_every_rank_restores_the_same_state(self):
        """A step whose targets are all masked changes nothing but the counters. So the checkpoint
        after it holds what was restored, and its digest must not depend on who restored it."""
        self.train("source", self.options(**{"train.steps": 40}), ranks=2)
        masked = self.folder / "masked"
        shutil.copytree(self.folder / "data", masked)
        for shard in masked.glob("*.bin"):
            shard.with_suffix(".mask").write_bytes(bytes((shard.stat().st_size - 1024) // 2))
        options = self.options(**{"train.steps": 41, "train.micro_batch_size": 2,
                                  "checkpoint.resume": "source", "data.allow_change": True,
                                  "data.train": "masked"})
        digests = set()
        for ranks in (1, 2, 3, 6):
            self.train(f"masked_{ranks}", options, ranks=ranks)
            facts = self.inspect(f"masked_{ranks}", "--verify=full")
            self.assertEqual((facts["step"], facts["world_size"]), (41, ranks))
            digests.add(facts["state_digest"])
        self.assertEqual(len(digests), 1)
        self.assertNotEqual(digests, {self.digest("source")}, "the step is counted")


if __name__ == "__main__":
    harness.main()

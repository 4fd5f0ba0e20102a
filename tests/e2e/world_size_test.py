#!/usr/bin/env python3
# One run at 1, 2, 3 and 6 ranks and at 1, 2 and 3 threads: the sum of a global batch does not
# depend on who computes which part, up to rounding between ranks and to the last bit between
# threads. And replicas that do differ are noticed before anything is saved.
import os
import pathlib
import re
import signal

import harness

GLOBAL_BATCH = 12
# fp32 sums in another order differ by about 1e-7 of the gradient's norm, which moves the mean of
# 384 losses by about 1e-9. Steps feed that back; at a gentle learning rate it stays under 1e-7 over
# 200 steps (a violent one, 3e-3 after 10 steps of warm-up, blows it up to 1e-4).
BETWEEN_RANKS = 1e-5


class WorldSize(harness.Case):
    def test_ranks(self):
        for ranks in (1, 2, 3, 6):
            self.train(f"ranks_{ranks}", {"train.micro_batch_size": GLOBAL_BATCH // ranks},
                       ranks=ranks)
        wanted = self.losses("ranks_1")
        self.assertEqual(len(wanted), 200)
        self.assertLess(wanted[-1], 0.7 * wanted[0], "it learns, so that errors would grow")
        for ranks in (2, 3, 6):
            with self.subTest(ranks=ranks):
                self.assert_close(self.losses(f"ranks_{ranks}"), wanted, BETWEEN_RANKS, "loss")
                self.assertEqual(self.inspect(f"ranks_{ranks}")["world_size"], ranks)

    def test_a_repeat_is_bit_identical(self):
        for ranks in (2, 3):
            options = {"train.micro_batch_size": 2, "train.steps": 60}
            self.train(f"first_{ranks}", options, ranks=ranks)
            self.train(f"again_{ranks}", options, ranks=ranks)
            self.assertEqual(self.exact_rows(f"first_{ranks}"), self.exact_rows(f"again_{ranks}"))
            self.assertEqual(self.digest(f"first_{ranks}"), self.digest(f"again_{ranks}"))

    def test_alone_is_one_rank(self):
        options = {"train.micro_batch_size": 4, "train.steps": 40}
        self.train("alone", options)
        self.train("launched", options, ranks=1)
        self.assertEqual(self.exact_rows("alone"), self.exact_rows("launched"))
        self.assertEqual(self.digest("alone"), self.digest("launched"))

    def test_threads(self):
        for dtype in ("fp32", "bf16"):
            runs = [f"{dtype}_threads_{threads}" for threads in (1, 2, 3)]
            for threads, run in enumerate(runs, start=1):
                self.train(run, {"run.threads": threads, "train.micro_batch_size": 6,
                                 "train.steps": 100, "precision.dtype": dtype})
            for run in runs[1:]:
                with self.subTest(run=run):
                    self.assertEqual(self.exact_rows(run), self.exact_rows(runs[0]))
                    self.assertEqual(self.digest(run), self.digest(runs[0]))

    def test_another_seed_differs(self):
        self.train("seed_1", {"train.steps": 3})
        self.train("seed_2", {"train.steps": 3, "run.seed": 2})
        self.assertNotEqual(self.losses("seed_1"), self.losses("seed_2"))


class Divergence(harness.Case):
    """Flips one bit in the weights of one rank, in its memory. At a learning rate of 0 the weights
    stay what the first checkpoint says, so that they can be found there."""

    OPTIONS = {"optimizer.lr": 0.0, "optimizer.warmup_steps": 0, "train.micro_batch_size": 2,
               "train.steps": 100000, "checkpoint.interval": 20}

    def test_a_flipped_bit_is_found(self):
        job = self.start_training("run", self.OPTIONS, ranks=3)
        self.assertTrue(self.wait_for_step(job, "run", 41), str(job.result()))
        victim = job.ranks()[1]
        pattern = self.stored_weights()
        os.kill(victim, signal.SIGSTOP)
        try:
            places = flip_in_memory(victim, pattern)
        except PermissionError as error:
            self.skipTest(f"may not write another process's memory: {error}")
        finally:
            os.kill(victim, signal.SIGCONT)
        self.assertGreater(places, 0, "the weights are in the rank's memory")
        result = job.wait()
        self.assertEqual(result.code, 77, str(result))
        self.assertRegex(result.err, r"error: the weights of rank 1 on \S+ differ")
        self.assertEqual(len(result.errors()), 1, str(result))
        failure = self.read_failure("run")
        self.assertEqual(failure["exit_code"], 77)
        self.assertIn("rank 1", failure["message"])
        # What was saved before is whole, and the run goes on from it.
        self.inspect("run", "--verify=deep")
        saved = int(self.checkpoints("run")[0].name.split("_")[1])
        self.train("run", self.OPTIONS | {"train.steps": saved + 25}, ranks=3)

    def stored_weights(self):
        """64 bytes out of the token embedding's rows in the newest checkpoint: random numbers, so
        that they occur once."""
        folder = self.checkpoints("run")[0]
        raw = (folder / "shard-00000-of-00003.h5").read_bytes()
        raw += (folder / "shard-00001-of-00003.h5").read_bytes()
        # A quarter of all bytes lies inside model/..., since two thirds of the state are moments.
        at = len(raw) // 4 // 64 * 64
        while len(set(raw[at:at + 64])) < 32:
            at += 64
        return raw[at:at + 64]

    def read_failure(self, run):
        return harness.json.loads((self.folder / run / "failure.json").read_text())


def flip_in_memory(pid, pattern):
    """Flips the lowest bit of the first byte wherever `pattern` stands in writable memory."""
    places = 0
    maps = pathlib.Path(f"/proc/{pid}/maps").read_text().split("\n")
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        for line in maps:
            found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw.p", line)
            if not found:
                continue
            begin, end = (int(text, 16) for text in found.groups())
            try:
                memory.seek(begin)
                content = memory.read(end - begin)
            except OSError:
                continue
            at = content.find(pattern)
            while at >= 0:
                memory.seek(begin + at)
                memory.write(bytes([pattern[0] ^ 1]))
                places += 1
                at = content.find(pattern, at + 1)
    return places


if __name__ == "__main__":
    harness.main()

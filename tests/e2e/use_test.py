#!/usr/bin/env python3
# What one does with a trained model: judge it, sample from it, look into it; and the ways to say
# how long to train.
import json
import math
import shutil

import harness

T = 32
STEPS = 150


class Use(harness.Case):
    def setUp(self):
        super().setUp()
        trained = self.root / "trained"
        if not trained.exists():
            self.train(trained, {"train.steps": STEPS, "train.micro_batch_size": 6,
                                 "checkpoint.interval": 100})
        shutil.copytree(trained, self.folder / "run")
        self.checkpoint = f"run/checkpoints/step_{STEPS:08}"

    def json_of(self, *arguments, ranks=0):
        result = self.run_program(*arguments, "--json", ranks=ranks)
        self.assertEqual(result.code, 0, str(result))
        return json.loads(result.out)

    def assert_same_numbers(self, found, wanted, relative):
        self.assertEqual(list(found), list(wanted))
        for name, value in wanted.items():
            self.assertLessEqual(abs(found[name] - value), relative * abs(value), name)


class Eval(Use):
    def test_json_and_what_it_judges(self):
        wanted = self.json_of("eval", "run")
        self.assertEqual(set(wanted), {"loss", "perplexity", "accuracy", "tokens"})
        self.assertAlmostEqual(wanted["perplexity"], math.exp(wanted["loss"]), places=6)
        tokens = self.inspect("data/val_000000.bin")["tokens"]
        self.assertEqual(wanted["tokens"], (tokens - 1) // T * T)
        row = [row for row in harness.read_jsonl(self.folder / "run" / "metrics.jsonl")
               if "val_loss" in row][-1]
        self.assertEqual((row["step"], row["val_loss"], row["val_accuracy"]),
                         (STEPS, wanted["loss"], wanted["accuracy"]))
        for same in (("eval", self.checkpoint), ("eval", "run", "--data=data"),
                     ("eval", "run", "--data", "data/val_*.bin")):
            self.assertEqual(self.json_of(*same), wanted)
        older = self.json_of("eval", "run/checkpoints/step_00000100")
        self.assertGreater(older["loss"], wanted["loss"])
        text = self.run_program("eval", "run").out
        self.assertIn(f"loss {wanted['loss']:.4f}", text)
        self.assertIn(f"{wanted['tokens']} tokens", text)

    def test_any_split_judges_the_same(self):
        wanted = self.json_of("eval", "run")
        for ranks in (1, 2, 3):
            self.assert_same_numbers(self.json_of("eval", "run", ranks=ranks), wanted, 1e-12)
        for size in (1, 5, 50, 500):
            found = self.json_of("eval", "run", f"--micro-batch-size={size}")
            self.assert_same_numbers(found, wanted, 1e-6)

    def test_a_part(self):
        found = self.json_of("eval", "run", "--batches=2", "--micro-batch-size=3")
        self.assertEqual(found["tokens"], 6 * T)
        again = self.json_of("eval", "run", "--batches=3", "--micro-batch-size=2", ranks=2)
        self.assert_same_numbers(again, found, 1e-6)
        shorter = self.json_of("eval", "run", f"--seq-len={T // 2}")
        tokens = self.inspect("data/val_000000.bin")["tokens"]
        self.assertEqual(shorter["tokens"], (tokens - 1) // (T // 2) * (T // 2))
        self.assertAlmostEqual(shorter["loss"], self.json_of("eval", "run")["loss"], delta=0.1)

    def test_sixteen_bits(self):
        wanted = self.json_of("eval", "run")
        for dtype in ("bf16", "fp16"):
            found = self.json_of("eval", "run", f"--dtype={dtype}")
            self.assertNotEqual(found["loss"], wanted["loss"])
            self.assert_same_numbers({"loss": found["loss"]}, {"loss": wanted["loss"]}, 5e-3)


class Generate(Use):
    def text(self, prompt, tokens, *flags, model="run", ranks=0):
        result = self.run_program("generate", model, f"--prompt={prompt}",
                                  f"--max-tokens={tokens}", *flags, ranks=ranks)
        self.assertEqual(result.code, 0, str(result))
        self.assertTrue(result.out.startswith(prompt) and result.out.endswith("\n"), result.out)
        return result.out[:-1]

    def greedy(self, prompt, tokens, **where):
        return self.text(prompt, tokens, "--temperature=0", **where)

    def test_seeds(self):
        first = self.text("the", 60, "--seed=1")
        self.assertEqual(self.text("the", 60, "--seed=1"), first)
        self.assertNotEqual(self.text("the", 60, "--seed=2"), first)
        self.assertEqual(self.text("the", 60, "--seed=1", model=self.checkpoint), first)
        self.assertEqual(self.text("the", 60, "--seed=1", ranks=2), first, "printed once")

    def test_greedy(self):
        greedy = self.greedy("the", 25)
        self.assertEqual(len(greedy), 28)
        self.assertTrue(greedy.isascii(), "the model has learned that there is nothing else")
        self.assertEqual(self.text("the", 25, "--temperature=0", "--seed=5"), greedy)
        for flag in ("--top-k=1", "--top-p=0.000001"):
            self.assertEqual(self.text("the", 25, flag, "--seed=9"), greedy)
        self.assertEqual(self.greedy("the", 0), "the")

    def test_the_cache(self):
        """Token by token through the cache, or anew from a longer prompt: the same text. Past the
        context the cache starts again with the last half of it."""
        text = self.greedy("abcd", 80)
        self.assertEqual(len(text), 84)
        for length in (5, 12, 20, 31, T):
            self.assertEqual(self.greedy(text[:length], T + 1 - length), text[:T + 1])
        after = T + 1  # the first position whose token no longer saw all before it
        self.assertEqual(self.greedy(text[after - T // 2:after], T // 2),
                         text[after - T // 2:after + T // 2])
        longer = "the quick brown fox jumps over a lazy dog and goes on"
        self.assertEqual(self.greedy(longer, 10)[len(longer):],
                         self.greedy(longer[-T:], 10)[T:], "a prompt beyond the context")


class Length(Use):
    def stopped_by_time(self, run, options, env=None):
        self.train(run, {"train.steps": 1000000} | options, code=75, env=env)
        facts = self.inspect(run)
        self.assertEqual(facts["state"], "stopped")
        self.assertIn("time limit", facts["cause"])
        self.assertEqual(facts["step"], len(self.rows(run)))
        self.inspect(facts["newest_checkpoint"], "--verify=full")

    def test_time_limit(self):
        self.stopped_by_time("limited", {"train.time_limit_minutes": 0.12})
        self.train("limited", {"train.steps": len(self.rows("limited")) + 5})
        end = str(int(harness.time.time()) + 8)
        self.stopped_by_time("slurm", {"train.time_limit_minutes": "auto"},
                             {"SLURM_JOB_END_TIME": end, "SLURM_JOB_ID": "17"})
        self.assertEqual(self.events("slurm", "stop")[-1]["job"], "17")
        result = self.train("free", {"train.steps": 3, "train.time_limit_minutes": "auto"})
        self.assertRegex(result.out + result.err, "no Slurm job")

    def test_overfit_one_batch(self):
        self.train("overfit", {"train.overfit_batch": True, "train.steps": 300,
                               "optimizer.lr": 5e-3, "train.micro_batch_size": 12,
                               "optimizer.schedule": "constant"})
        losses = self.losses("overfit")
        self.assertGreater(losses[0], 5.0)
        self.assertLess(losses[-1], 0.1)

    def test_epochs(self):
        samples = (self.inspect("data/train_000000.bin")["tokens"] - 1) // T
        for epochs in (0.1, 0.25):
            run = f"epochs_{epochs}"
            self.train(run, {"train.steps": 0, "train.epochs": epochs, "optimizer.warmup_steps": 2,
                             "train.micro_batch_size": 12})
            rows = self.rows(run)
            self.assertEqual(len(rows), math.ceil(epochs * samples / 12))
            self.assertEqual(rows[-1]["tokens"], len(rows) * 12 * T)
            self.assertLess(rows[-1]["lr"], rows[len(rows) // 2]["lr"], "the schedule knows")

    def test_intervals(self):
        self.train("run_i", {"train.steps": 23, "log.interval": 5, "checkpoint.interval": 4,
                             "checkpoint.keep_last": 2, "checkpoint.keep_every": 8,
                             "eval.interval": 10})
        rows = harness.read_jsonl(self.folder / "run_i" / "metrics.jsonl")
        self.assertEqual([row["step"] for row in rows if "loss" in row], [5, 10, 15, 20, 23])
        self.assertEqual([row["step"] for row in rows if "val_loss" in row], [10, 20, 23])
        steps = [int(path.name[5:]) for path in self.checkpoints("run_i")]
        self.assertEqual(steps, [23, 20, 16, 8])
        self.train("run_0", {"train.steps": 7, "log.interval": 0})
        self.assertEqual([path.name for path in self.checkpoints("run_0")], ["step_00000007"])


class Look(Use):
    def test_inspect(self):
        run = self.inspect("run", "--verify=full")
        for name in ("kind", "state", "step", "world_size", "parameters", "state_digest"):
            self.assertIn(name, run)
        self.assertEqual((run["kind"], run["state"], run["step"], run["world_size"]),
                         ("run", "finished", STEPS, 1))
        for level in ("quick", "full", "deep"):
            found = self.inspect(self.checkpoint, f"--verify={level}")
            self.assertEqual(found["kind"], "checkpoint")
            for name in ("step", "world_size", "parameters", "state_digest"):
                self.assertEqual(found[name], run[name])
        shard = self.inspect("data/train_000000.bin", "--verify=full")
        size = (self.root / "data" / "train_000000.bin").stat().st_size
        self.assertEqual((shard["kind"], shard["tokens"], shard["dtype"]),
                         ("shard", (size - 1024) // 2, "uint16"))
        self.assertEqual(shard["max_token"], max((self.root / "text.txt").read_bytes()))
        self.assertIn("format", shard)

    def test_plan(self):
        plan = self.json_of("plan", "tiny.toml")
        self.assertEqual(set(plan), {"parameters", "flops_per_token", "accumulation",
                                     "largest_micro_batch", "checkpoint_bytes", "bytes"})
        self.assertEqual(set(plan["bytes"]), {"weights", "gradients", "optimizer", "activations",
                                              "logits", "buckets", "workspace", "total"})
        self.assertEqual(plan["bytes"]["total"], sum(plan["bytes"].values()) / 2)
        self.assertEqual(plan["parameters"], self.inspect("run")["parameters"])
        self.assertEqual((plan["accumulation"], plan["largest_micro_batch"]), (12, 12))
        stored = sum(path.stat().st_size for path in (self.folder / self.checkpoint).iterdir()
                     if path.is_file())
        self.assertLess(abs(plan["checkpoint_bytes"] / stored - 1), 0.2, "and some HDF5 headers")
        shared = self.json_of("plan", "tiny.toml", "--world=3", "--train.micro_batch_size=2")
        self.assertEqual((shared["accumulation"], shared["largest_micro_batch"]), (2, 4))
        small = self.json_of("plan", "tiny.toml", "--memory-gib=0.002")
        self.assertEqual(small["largest_micro_batch"], 0)


if __name__ == "__main__":
    harness.main()

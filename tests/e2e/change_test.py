#!/usr/bin/env python3
# What may change when a run is resumed, and what may not; where a run may start from; and what
# happens when its newest checkpoints are damaged.
import json
import shutil

import harness

OPTIONS = {"train.steps": 40, "train.micro_batch_size": 6, "checkpoint.interval": 10,
           "optimizer.schedule": "constant", "optimizer.warmup_steps": 0}


def flip_byte(path):
    """One bit in the middle of the file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


class Change(harness.Case):
    """Each test has a run of 40 steps, with checkpoints at 20, 30 and 40, and copies of it."""

    def setUp(self):
        super().setUp()
        base = self.root / "base"
        if not base.exists():
            self.train(base, OPTIONS)
        self.copies = 0
        shutil.copytree(base, self.folder / "run")

    def copy(self):
        self.copies += 1
        name = f"copy_{self.copies}"
        shutil.copytree(self.folder / "run", self.folder / name)
        return name

    def resume(self, changes, code=0, run=None, ranks=0, steps=45):
        run = run or self.copy()
        options = OPTIONS | {"train.steps": steps} | changes
        result = self.train(run, options, code=code, ranks=ranks)
        if code != 0:
            self.assertEqual(len(result.errors()), 1, str(result))
        return run, result

    def manifest(self, checkpoint):
        return json.loads((checkpoint / "manifest.json").read_text())


class MayChange(Change):
    def test_changes_are_printed_and_take_effect(self):
        plain, result = self.resume({})
        self.assertIn("train.steps: 40 -> 45", result.out)
        wanted = self.rows(plain)
        self.assertEqual(wanted[44]["lr"], wanted[0]["lr"])
        changes = {"optimizer.lr": ("0.001", "0.002"), "optimizer.weight_decay": ("0.1", "0.0"),
                   "precision.dtype": ("fp32", "bf16"), "train.micro_batch_size": ("6", "12"),
                   "train.global_batch_size": ("12", "24"), "optimizer.clip_grad": ("1.0", "0.5")}
        run, result = self.resume({key: new for key, (_, new) in changes.items()})
        event = self.events(run, "resume")[-1]
        for key, (old, new) in changes.items():
            with self.subTest(key=key):
                found = [line for line in event["changes"] if line.startswith(key + ":")]
                self.assertEqual(len(found), 1, event)
                text = found[0].replace('"', "")
                self.assertEqual(text, f"{key}: {old} -> {new}")
                self.assertIn(found[0], result.out)
        rows = self.rows(run)
        self.assertAlmostEqual(rows[44]["lr"], 2 * wanted[44]["lr"], places=9)
        self.assertEqual(rows[44]["tokens"] - rows[43]["tokens"], 24 * 32)
        self.assertEqual(rows[:40], wanted[:40])
        # A resumed run records what it now is.
        config = (self.folder / run / "config.toml").read_text()
        self.assertIn("lr = 0.002", config)
        self.assertNotEqual(self.digest(run), self.digest(plain))

    def test_nothing_changed_nothing_printed(self):
        for _ in range(2):
            result = self.train("again", OPTIONS | {"train.steps": 5})
        self.assertNotIn("changed", result.out)
        self.assertEqual(self.events("again", "resume")[-1]["changes"], [])

    def test_data_may_move(self):
        shutil.copytree(self.folder / "data", self.folder / "elsewhere")
        self.resume({"data.train": "elsewhere", "data.val": "elsewhere"})

    def test_fewer_steps_than_done(self):
        _, result = self.resume({}, steps=39, code=78)
        self.assertRegex(result.errors()[0], r"train\.steps = 39.* 40")


class MayNotChange(Change):
    def test_model_and_seed(self):
        for key, old, new in (("model.hidden", "64", "128"), ("model.layers", "2", "3"),
                              ("model.seq_len", "32", "16"), ("model.vocab", "256", "300"),
                              ("model.architecture", "gpt2", "llama"), ("run.seed", "1234", "5"),
                              ("model.init_std", "0.02", "0.03")):
            for ranks in (0, 2) if key == "run.seed" else (0,):
                with self.subTest(key=key, ranks=ranks):
                    extra = {"model.ffn": 128} if new == "llama" else {}
                    run, result = self.resume({key: new} | extra, code=78, ranks=ranks)
                    error = result.errors()[0]
                    for word in (key, old, new):
                        self.assertIn(word, error)
                    self.assertEqual(len(self.rows(run)), 40, "nothing was done or cut")
                    self.assertEqual(self.inspect(run, "--verify=full")["step"], 40)

    def test_the_optimizer(self):
        _, result = self.resume({"optimizer.name": "lion"}, code=78)
        self.assertRegex(result.errors()[0], r"optimizer\.name.*adamw")

    def test_the_tokenizer(self):
        made = self.run_program("prepare", "--out=other", "--tokenizer=bpe:257", "text.txt")
        self.assertEqual(made.code, 0, str(made))
        files = self.folder / "other" / "tokenizer"
        root = json.loads((files / "tokenizer.json").read_text())
        root["added_tokens"] = []
        root["model"]["vocab"].pop("<|endoftext|>", None)
        (files / "tokenizer.json").write_text(json.dumps(root))
        (files / "tokenizer_config.json").unlink()
        _, result = self.resume({"data.tokenizer": "other", "data.allow_other_tokenizer": True},
                                code=78)
        self.assertRegex(result.errors()[0], r"tokenizer is fixed .*meta.json of other .* differs")

    def test_the_data(self):
        shutil.copytree(self.folder / "data", self.folder / "touched")
        flip_byte(self.folder / "touched" / "train_000000.bin")
        changes = {"data.train": "touched"}
        for ranks in (0, 2):
            _, result = self.resume(changes, code=78, ranks=ranks)
            self.assertRegex(result.errors()[0], r"fingerprint \w+ then, \w+ now.*allow_change")
        self.resume(changes | {"data.allow_change": True})


class StartFrom(Change):
    def train_from(self, source, run, steps=45):
        return self.resume({"checkpoint.resume": source}, run=run, steps=steps)[1]

    def test_a_run_and_then_auto(self):
        self.train_from("run", "second")
        rows = harness.read_jsonl(self.folder / "second" / "metrics.jsonl")
        self.assertEqual([row["step"] for row in rows if "loss" in row], list(range(41, 46)))
        plain, _ = self.resume({})
        self.assertEqual(self.digest("second"), self.digest(plain))
        meta = self.manifest(self.checkpoints("second")[0])["meta"]
        self.assertIn("run/checkpoints/step_00000040", meta["started_from"])
        source = self.manifest(self.checkpoints("run")[0])["meta"]
        self.assertNotEqual(meta["run_id"], source["run_id"])
        self.assertIn("started_from", self.inspect(self.checkpoints("second")[0]))
        # Once it has checkpoints of its own, the same command goes on with those.
        result = self.train_from("run", "second", steps=50)
        self.assertIn("second/checkpoints/step_00000045", result.out)
        rows = harness.read_jsonl(self.folder / "second" / "metrics.jsonl")
        self.assertEqual([row["step"] for row in rows if "loss" in row], list(range(41, 51)))

    def test_an_older_checkpoint(self):
        self.train_from("run/checkpoints/step_00000020", "older", steps=40)
        self.assertEqual(self.digest("older"), self.digest("run"))

    def test_another_runs_directory_is_refused(self):
        self.train("third", OPTIONS | {"train.steps": 5})
        before = self.digest("third")
        for source in ("run", "none"):
            with self.subTest(source=source):
                for ranks in (0, 2):
                    _, result = self.resume({"checkpoint.resume": source}, run="third", code=78,
                                            ranks=ranks)
                    self.assertIn("--run.dir=third-2", result.errors()[0])
                self.assertEqual(self.digest("third"), before)
        self.train("fresh", OPTIONS | {"train.steps": 5, "checkpoint.resume": "none"})

    def test_no_such_source(self):
        (self.folder / "hollow").mkdir()
        for source in ("nowhere", "hollow"):
            for ranks in (0, 2):
                _, result = self.resume({"checkpoint.resume": source}, run=f"from_{source}",
                                        code=65, ranks=ranks)
                self.assertIn(source, result.errors()[0])


class Damage(Change):
    """Under two ranks: both must come to the same older checkpoint."""

    def damage(self, checkpoint, kind):
        shard = next(checkpoint.glob("shard-*.h5"))
        if kind == "bit":
            flip_byte(shard)
        elif kind == "truncated":
            shard.write_bytes(shard.read_bytes()[:-1000])
        elif kind == "missing":
            shard.unlink()
        elif kind == "manifest":
            flip_byte(checkpoint / "manifest.json")
        elif kind == "empty":
            (checkpoint / "manifest.json").write_text("")

    def test_steps_back(self):
        plain, _ = self.resume({}, ranks=2)
        for kind in ("bit", "truncated", "missing", "manifest", "empty"):
            for ranks in (0, 2) if kind == "bit" else (2,):
                with self.subTest(kind=kind, ranks=ranks):
                    run = self.copy()
                    self.damage(self.checkpoints(run)[0], kind)
                    _, result = self.resume({}, run=run, ranks=ranks)
                    everything = result.out + result.err
                    named = [line for line in everything.split("\n")
                             if f"{run}/checkpoints/step_00000040" in line and "skipped" in line]
                    self.assertEqual(len(named), 1, str(result))
                    self.assertIn(f"resumed from {run}/checkpoints/step_00000030", result.out)
                    self.assertEqual(len(self.rows(run)), 45)
                    self.inspect(run, "--verify=full")
                    if ranks == 2:
                        self.assert_close(self.losses(run), self.losses(plain), 1e-5, kind)

    def test_steps_back_twice(self):
        run = self.copy()
        for checkpoint in self.checkpoints(run)[:2]:
            self.damage(checkpoint, "bit")
        _, result = self.resume({}, run=run, steps=40)
        self.assertIn(f"resumed from {run}/checkpoints/step_00000020", result.out)
        self.assertEqual(self.digest(run), self.digest("run"), "the same steps again")

    def test_all_damaged(self):
        run = self.copy()
        for checkpoint in self.checkpoints(run):
            self.damage(checkpoint, "bit")
        for ranks in (0, 2):
            _, result = self.resume({}, run=run, ranks=ranks, code=65)
            self.assertIn(f"{run}/checkpoints", result.errors()[0])
        self.assertEqual(len(self.rows(run)), 40)
        result = self.run_program("inspect", run, "--verify=full")
        self.assertEqual(result.code, 65, str(result))
        for step in (20, 30, 40):
            self.assertIn(f"step_000000{step}", result.err)


if __name__ == "__main__":
    harness.main()

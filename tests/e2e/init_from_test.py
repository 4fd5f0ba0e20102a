#!/usr/bin/env python3
# model.init_from: weights and shapes of another model, read once; the run then stands on its own.
import json
import shutil

import harness

BARE = "\n".join(line for line in harness.CONFIG.split("[data]")[1].split("\n"))
T = 32


class InitFrom(harness.Case):
    def setUp(self):
        super().setUp()
        (self.folder / "bare.toml").write_text("[data]" + BARE)  # no [model] at all
        first = self.root / "first"
        if not first.exists():
            self.train(first, {"train.steps": 60})
        shutil.copytree(first, self.folder / "first")

    def loss(self, model, *flags):
        result = self.run_program("eval", model, "--data=data", "--json", *flags)
        self.assertEqual(result.code, 0, str(result))
        return json.loads(result.out)["loss"]

    def begin(self, run, options=None, **others):
        return self.train(run, {"model.init_from": "first", "train.steps": 4} | (options or {}),
                          config="bare.toml", **others)

    def refused(self, code, part, options, run="second"):
        result = self.train(run, {"model.init_from": "first"} | options, code=code,
                            config="bare.toml")
        self.assertIn(part, result.err)

    def test_weights_and_shapes_only(self):
        shown = self.begin("second", {"optimizer.lr": 0, "train.steps": 1})
        self.assertIn("first weights from first step 60", shown.out)
        self.assertEqual(self.loss("second"), self.loss("first"))
        event = self.events("second", "start")[0]
        self.assertEqual(event["init_from"], "first step 60")
        saved = (self.folder / "second" / "config.toml").read_text()
        for line in ('init_from = "first"', 'architecture = "gpt2"', "layers = 2", "hidden = 64",
                     f"seq_len = {T}", "vocab = 256"):
            self.assertIn(line + "\n", saved)
        row = self.rows("second")[0]
        self.assertEqual((row["step"], row["updates"]), (1, 1))
        # A checkpoint and a run directory are the same source.
        self.begin("third", {"optimizer.lr": 0, "train.steps": 1,
                             "model.init_from": "first/checkpoints/step_00000060"})
        self.assertEqual(self.losses("third"), self.losses("second"))

    def test_any_number_of_ranks(self):
        self.begin("one")
        self.begin("two", ranks=2)
        self.assert_close(self.losses("two"), self.losses("one"), 1e-5, "losses")

    def test_resumes_without_the_source(self):
        self.begin("whole", {"train.steps": 8, "optimizer.schedule": "constant"})
        self.begin("parts", {"optimizer.schedule": "constant", "checkpoint.interval": 2})
        shutil.rmtree(self.folder / "first")
        shown = self.begin("parts", {"train.steps": 6, "optimizer.schedule": "constant"})
        self.assertIn("resumed from", shown.out)
        self.assertNotIn("model.", shown.out.split("resumed from")[1])
        # Neither the flag nor a [model] section, and the saved configuration.
        self.train("parts", {"train.steps": 7, "optimizer.schedule": "constant"},
                   config="bare.toml")
        self.train("parts", {"train.steps": 8}, config="parts/config.toml")
        self.assertEqual(self.exact_rows("parts"), self.exact_rows("whole"))
        result = self.train("parts", {"train.steps": 9, "model.layers": 3}, config="bare.toml",
                            code=78)
        self.assertIn("model.layers was 2 and is 3 now", result.err)
        self.refused(65, "model.init_from: first: no such run or checkpoint", {}, run="fresh")

    def test_a_shorter_context(self):
        self.begin("short", {"model.seq_len": 16, "optimizer.lr": 0, "train.steps": 1})
        self.assertEqual(self.loss("short"), self.loss("first", "--seq-len=16"))

    def test_what_does_not_fit(self):
        self.refused(78, "model.layers = 3, but the weights of model.init_from = first have 2",
                     {"model.layers": 3})
        self.refused(78, "model.seq_len = 64, but model.init_from = first has learned 32",
                     {"model.seq_len": 64})
        self.refused(78, "contradicts model.preset", {"model.preset": "llama-tiny"})
        self.refused(65, "model.init_from: text.txt: not a GGUF file",
                     {"model.init_from": "text.txt"})
        self.refused(65, "model.init_from: data: neither a checkpoint",
                     {"model.init_from": "data"})
        (self.folder / "hf").mkdir()
        (self.folder / "hf" / "config.json").write_text('{"model_type": "bert"}')
        self.refused(65, "hf/config.json: key 'model_type' = \"bert\"", {"model.init_from": "hf"})
        self.assertFalse((self.folder / "second").exists())

    def test_plan_knows_it(self):
        plans = [self.run_program("plan", *arguments, "--json")
                 for arguments in (("tiny.toml",), ("bare.toml", "--model.init_from=first"))]
        self.assertEqual([plan.code for plan in plans], [0, 0], str(plans[1]))
        self.assertEqual(plans[0].out, plans[1].out)


if __name__ == "__main__":
    harness.main()

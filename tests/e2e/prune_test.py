#!/usr/bin/env python3
# `export --prune`: smaller models that are judged as reported, the same at any number of ranks, and
# models like any other for those who train on or quantize; requests that cannot be met.
import json

import harness

STEPS = 150
LLAMA = 'architecture = "llama"\nkv_heads = 1\nffn = 160'
QWEN = 'architecture = "qwen2"\nkv_heads = 2\nffn = 160'


class Prune(harness.Case):
    def setUp(self):
        super().setUp()
        llama = harness.CONFIG.replace('architecture = "gpt2"', LLAMA)
        qwen = harness.CONFIG.replace('architecture = "gpt2"', QWEN)
        qwen = qwen.replace("\nheads = 2", "\nheads = 4")
        for name, config in (("gpt2", harness.CONFIG), ("llama", llama), ("qwen2", qwen)):
            run = self.root / f"pruned-{name}"
            (self.folder / f"{name}.toml").write_text(config)
            if not run.exists():
                self.train(run, {"train.steps": STEPS, "train.micro_batch_size": 6},
                           config=f"{name}.toml")
            (self.folder / name).symlink_to(run)

    def prune(self, model, out, *flags, form="safetensors", code=0, ranks=0):
        result = self.run_program("export", model, f"--out={out}", f"--format={form}",
                                  "--calibration-tokens=8192", *flags, ranks=ranks)
        self.assertEqual(result.code, code, str(result))
        return result

    def report(self, out):
        path = self.folder / out
        return json.loads((path / "export.json" if path.is_dir() else
                           self.folder / f"{out}.export.json").read_text())

    def judge(self, model):
        result = self.run_program("eval", model, "--json", "--data=data", "--micro-batch-size=6")
        self.assertEqual(result.code, 0, str(result))
        return json.loads(result.out)

    def test_pruned_models(self):
        """Narrower, as good as reported, and better with least squares than without."""
        for model, before, after in (("gpt2", 256, 192), ("llama", 160, 112)):
            losses = {}
            for reconstruct in ("lsq", "none"):
                out = f"{model}-{reconstruct}"
                result = self.prune(model, out, "--prune=ffn=0.3", f"--reconstruct={reconstruct}")
                self.assertIn(f"{after} of {before} feed-forward channels", result.out)
                report = self.report(out)
                pruning = report["pruning"]
                self.assertEqual(pruning["ffn"], {"before": before, "after": after})
                self.assertEqual(pruning["heads"], {"before": 2, "after": 2})
                self.assertEqual((pruning["rank"], pruning["reconstruct"]), ("wanda", reconstruct))
                self.assertEqual(pruning["calibration"]["data"], ["data"])
                self.assertGreaterEqual(pruning["calibration"]["tokens"], 4096)
                self.assertEqual(report["loss"]["after"], self.judge(out)["loss"])
                self.assertEqual(self.inspect(out)["parameters"], report["parameters"])
                self.assertLess(report["parameters"], self.inspect(model)["parameters"])
                losses[reconstruct] = report["loss"]["after"]
            self.assertLess(losses["lsq"], losses["none"])
            self.assertLess(losses["lsq"], 1.02 * report["loss"]["before"])

    def test_heads(self):
        """Key and value heads go with their query heads."""
        result = self.prune("qwen2", "f.gguf", "--prune=ffn=0.3,heads=0.5", form="gguf")
        self.assertIn("112 of 160 feed-forward channels, 2 of 4 heads, 1 of 2 key and value heads, "
                      "in every layer", result.out)
        report = self.report("f.gguf")
        self.assertEqual(report["pruning"]["kv_heads"], {"before": 2, "after": 1})
        self.assertAlmostEqual(report["loss"]["after"], self.judge("f.gguf")["loss"], places=6)
        self.assertLess(report["loss"]["after"], 1.05 * report["loss"]["before"])

    def test_any_number_of_ranks(self):
        contents = []
        for ranks in (0, 2, 3):
            out = f"ranks{ranks}"
            self.prune("qwen2", out, "--prune=ffn=0.3,heads=0.5", form="gguf", ranks=ranks)
            contents.append((self.folder / out).read_bytes())
        self.assertEqual(contents[0], contents[1])
        self.assertEqual(contents[0], contents[2])

    def test_goes_on_as_any_model(self):
        self.prune("llama", "small", "--prune=ffn=0.4")
        self.prune("small", "small.gguf", "--quantize=q8_0", "--data=data", form="gguf")
        self.assertLess(self.report("small.gguf")["perplexity"]["change_percent"], 0.5)
        self.prune("llama", "both.gguf", "--prune=ffn=0.4", "--quantize=q8_0", form="gguf")
        self.assertEqual((self.folder / "small.gguf").read_bytes()[-4096:],
                         (self.folder / "both.gguf").read_bytes()[-4096:])
        self.train("further", {"model.init_from": "small", "model.ffn": 96, "train.steps": 20,
                               "train.micro_batch_size": 6}, config="llama.toml")
        self.assertLess(self.losses("further")[19], self.losses("llama")[20] - 0.5)

    def test_requests_that_cannot_be_met(self):
        shards = sorted(str(path) for path in (self.folder / "data").glob("*val*.bin"))
        for flags, words in ((("--prune=ffn=0",), "--prune: ffn=0 leaves 160 of 160"),
                             (("--prune=ffn=1",), "leaves 0"),
                             (("--prune=ffn=0.01",), "in steps of 8"),
                             (("--prune=ffn=nan",), "give a share"),
                             (("--prune=heads=0.5",), "heads=0.5 leaves 2 of 2, in steps of 2"),
                             (("--prune=layers=0.5",), '"layers=0.5" is not understood'),
                             (("--prune=ffn=0.3,ffn=0.4",), '"ffn=0.4" is not understood'),
                             (("--prune=",), '--prune: "" is not understood'),
                             (("--prune=ffn=x",), '"ffn=x" is not understood'),
                             (("--prune=ffn=0.3", f"--calibration={shards[0]}"),
                              "is among the shards that the export is judged on"),
                             (("--prune=ffn=0.3", "--rank=best"), "--rank"),
                             (("--prune=ffn=0.3", "--calibration-tokens=0"), "tokens")):
            for ranks in (0, 2):
                result = self.prune("llama", "no", *flags, code=64, ranks=ranks)
                self.assertEqual(len(result.errors()), 1, str(result))
                self.assertIn(words, result.errors()[0])
        result = self.prune("gpt2", "no", "--prune=heads=0.5", code=64)
        self.assertIn("heads of a gpt2 cannot go", result.errors()[0])
        result = self.prune("qwen2", "no", "--prune=heads=0.5", code=64)
        self.assertIn("can only go with --format=gguf", result.errors()[0])
        self.prune("llama", "hf")
        result = self.prune("hf", "no", "--prune=ffn=0.3", "--data=data", code=64)
        self.assertIn("--calibration: give shards to prune by", result.errors()[0])
        self.prune("llama", "no", "--prune=ffn=0.3", "--calibration=nowhere", code=65)
        self.assertFalse((self.folder / "no").exists())


if __name__ == "__main__":
    harness.main()

#!/usr/bin/env python3
# Exports of a trained model: every format and scheme is judged as it was reported, the same bytes
# come out every time, and a final name is complete or absent, whatever kills the export.
import hashlib
import json
import os
import shutil
import signal
import struct
import subprocess
import time

import harness

STEPS = 150
SHAPE = 'architecture = "llama"\nkv_heads = 1\nffn = 160'
# format, dtype, scheme, and how much perplexity it may cost in percent; fp32 loses nothing; 16 bits
# move logits near 5 by up to 2^-9 (bf16) or 2^-12 (fp16) of themselves, mostly averaged out.
WAYS = (("safetensors", "fp32", "none", 1e-4), ("safetensors", "bf16", "none", 0.5),
        ("safetensors", "fp16", "none", 0.1), ("gguf", "fp32", "none", 1e-4),
        ("gguf", "fp16", "none", 0.1), ("gguf", "bf16", "none", 0.5))
INT8 = (("gguf", "fp32", "int8"), ("safetensors", "fp32", "int8"), ("safetensors", "fp32", "w8a8"),
        ("safetensors", "bf16", "w8a16"))


def digest_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Export(harness.Case):
    def setUp(self):
        super().setUp()
        llama = harness.CONFIG.replace('architecture = "gpt2"', SHAPE)
        for name, config in (("gpt2", harness.CONFIG), ("llama", llama)):
            run = self.root / f"trained-{name}"
            (self.folder / f"{name}.toml").write_text(config)
            if not run.exists():
                self.train(run, {"train.steps": STEPS, "train.micro_batch_size": 6},
                           config=f"{name}.toml")
            (self.folder / name).symlink_to(run)

    def export(self, model, out, *flags, form="safetensors", code=0, ranks=0):
        result = self.run_program("export", model, f"--out={out}", f"--format={form}", *flags,
                                  ranks=ranks)
        self.assertEqual(result.code, code, str(result))
        return result

    def report(self, out):
        path = self.folder / out
        beside = path.parent / (path.name + ".export.json")
        return json.loads((beside if beside.exists() else path / "export.json").read_text())

    def judge(self, model, *flags):
        result = self.run_program("eval", model, "--json", *flags)
        self.assertEqual(result.code, 0, str(result))
        return json.loads(result.out)

    def contents(self, out):
        path = self.folder / out
        files = {"": path} if path.is_file() else {file.name: file for file in path.iterdir()}
        return {name: digest_of(file) for name, file in files.items()}

    def remove(self, path):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def hidden(self, folder=None):
        return [path.name for path in (folder or self.folder).iterdir()
                if path.name.startswith(".")]

    def check_export(self, run, out):
        """The report is true of the files, and of what `eval` finds in them."""
        report = self.report(out)
        self.assertEqual(report["loss"]["before"], self.judge(run)["loss"])
        flags = ["--data=data", "--micro-batch-size=6"]
        self.assertEqual(report["loss"]["after"], self.judge(out, *flags)["loss"])
        self.assertEqual(report["state_digest"], self.inspect(run)["state_digest"])
        self.assertEqual(report["parameters"], self.inspect(run)["parameters"])
        path = self.folder / out
        base = path.parent if path.is_file() else path
        self.assertEqual(sum(file["bytes"] for file in report["files"]), report["bytes"])
        for file in report["files"]:
            stored = base / file["name"]
            self.assertEqual((stored.stat().st_size, digest_of(stored)),
                             (file["bytes"], file["sha256"]), file["name"])
        text = self.run_program("generate", out, "--prompt=the", "--max-tokens=20",
                                "--temperature=0")
        self.assertEqual((text.code, len(text.out)), (0, 24), str(text))
        return report

    def test_formats(self):
        for run in ("gpt2", "llama"):
            for form, dtype, scheme, cost in WAYS:
                out = f"{run}-{form}-{dtype}"
                self.export(run, out, f"--dtype={dtype}", form=form)
                report = self.check_export(run, out)
                self.assertEqual((report["format"], report["dtype"], report["scheme"]),
                                 (form, dtype, scheme))
                self.assertLess(abs(report["perplexity"]["change_percent"]), cost, out)
        self.assertEqual(self.hidden(), [])

    def test_int8(self):
        for form, dtype, scheme in INT8:
            out = f"{form}-{scheme}-{dtype}"
            self.export("llama", out, f"--dtype={dtype}", f"--quantize={scheme}", form=form)
            report = self.check_export("llama", out)
            wanted = {"int8": "q8_0" if form == "gguf" else "w8a16"}.get(scheme, scheme)
            self.assertEqual(report["scheme"], wanted)
            change = report["perplexity"]["change_percent"]
            self.assertLess(abs(change), 0.2 if dtype == "fp32" else 0.5, out)
            self.assertNotEqual(change, 0.0, out)
        self.export("gpt2", "q.gguf", "--quantize=int8", form="gguf")
        self.assertLess(self.check_export("gpt2", "q.gguf")["perplexity"]["change_percent"], 0.2)
        size = self.report("q.gguf")["bytes"]
        self.assertLess(size, 0.45 * 4 * self.report("q.gguf")["parameters"])

    def test_inspect(self):
        """What is in an export, and every way in which its files can differ from the report."""
        self.export("llama", "hf", "--quantize=w8a16")
        self.export("llama", "f.gguf", "--quantize=q8_0", form="gguf")
        for path, form, types in (("hf", "safetensors", "14 x I8"), ("f.gguf", "gguf", "Q8_0")):
            facts = self.inspect(path, "--verify=full")
            found = [facts[key] for key in ("kind", "state", "format", "architecture")]
            self.assertEqual(found, ["export", "verified", form, "llama"])
            self.assertIn(types, facts["tensors"])
            self.assertIn("256 entries", facts["tokenizer"])
            run = self.inspect("llama")
            for key in ("parameters", "state_digest"):
                self.assertEqual(facts[key], run[key])
        weights = self.folder / "hf" / "model.safetensors"
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(data)
        self.inspect("hf", "--verify=quick")
        self.refused("hf", "SHA-256")
        config = self.folder / "hf" / "config.json"
        config.write_text(config.read_text() + " ")
        self.refused("hf", "config.json: has [0-9]+ bytes")
        shutil.copy(self.folder / "f.gguf", self.folder / "g.gguf")
        self.refused("g.gguf", "no export.json")
        shutil.copy(self.folder / "f.gguf.export.json", self.folder / "g.gguf.export.json")
        self.refused("g.gguf", "is of f.gguf, not of g.gguf")

    def test_inspect_levels(self):
        """A bare --verify is full; what was not looked at is said; deep finds what sums cannot."""
        self.export("llama", "hf")
        for path in ("hf", "llama", next((self.folder / "llama" / "checkpoints").glob("step_*"))):
            self.assertNotIn("checked", self.inspect(path))
            quick, full, bare, deep = (self.inspect(path, flag)["not_checked"] for flag in (
                "--verify=quick", "--verify=full", "--verify", "--verify=deep"))
            self.assertIn("--verify=full", quick)
            self.assertIn("--verify=deep", full)
            self.assertEqual(bare, full)
            self.assertIn("not attackers", deep)
        self.spoil("hf", "model.norm.weight", float("nan"))
        self.refused("hf", "SHA-256", "--verify")
        report = self.report("hf")
        for file in report["files"]:
            file["sha256"] = digest_of(self.folder / "hf" / file["name"])
        (self.folder / "hf" / "export.json").write_text(json.dumps(report))
        self.inspect("hf", "--verify")
        self.refused("hf", "model.norm.weight holds NaN", "--verify=deep")

    def spoil(self, path, tensor, value):
        """Overwrites one value of an fp32 tensor in a safetensors directory."""
        file = self.folder / path / "model.safetensors"
        data = bytearray(file.read_bytes())
        size = struct.unpack_from("<Q", data)[0]
        begin = json.loads(data[8:8 + size])[tensor]["data_offsets"][0]
        struct.pack_into("<f", data, 8 + size + begin + 4, value)
        file.write_bytes(data)

    def test_models_that_are_not_finite(self):
        """Every command names the first bad tensor."""
        for value, word in ((float("nan"), "NaN"), (float("-inf"), "infinity")):
            self.export("llama", f"hf-{word}")
            self.spoil(f"hf-{word}", "model.layers.1.mlp.up_proj.weight", value)
            for command in (("eval", f"hf-{word}", "--data=data"),
                            ("generate", f"hf-{word}", "--prompt=the"),
                            ("export", f"hf-{word}", "--out=x", "--format=gguf"),
                            ("export", f"hf-{word}", "--out=x", "--format=gguf", "--data=data"),
                            ("train", "tiny.toml", "--run.dir=y", f"--model.init_from=hf-{word}",
                             "--model.architecture=llama")):
                for ranks in (0, 2) if command[0] == "eval" else (0,):
                    result = self.run_program(*command, ranks=ranks)
                    self.assertEqual((result.code, result.out.count("\0")), (65, 0), str(result))
                    self.assertRegex(result.err, "tensor model.layers.1.mlp.up_proj.weight holds ")
                    self.assertEqual(len(result.errors()), 1, str(result))
        self.assertFalse((self.folder / "x").exists())

    def test_what_ends_a_text(self):
        """Ids that a model's files name pass through import, checkpoints and every format."""
        self.export("llama", "model")
        said = {"eos_token_id": [101, 32], "bos_token_id": 7, "top_k": 5}
        (self.folder / "model" / "generation_config.json").write_text(json.dumps(said))
        (self.folder / "tune.toml").write_text(
            "\n".join(line for line in harness.CONFIG.split("\n") if not line.startswith(
                ("architecture", "layers", "heads", "hidden", "seq_len"))))
        for steps in (2, 4):  # resumed, the model's files are not read any more
            self.train("tuned", {"train.steps": steps, "model.init_from": "model",
                                 "model.seq_len": 32, "checkpoint.interval": 1},
                       config="tune.toml")
        self.export("tuned", "hf")
        self.export("tuned", "f.gguf", form="gguf")
        self.export("f.gguf", "back")
        for out in ("hf", "back"):
            found = json.loads((self.folder / out / "generation_config.json").read_text())
            self.assertEqual(found, said, out)
            config = json.loads((self.folder / out / "config.json").read_text())
            self.assertEqual((config["eos_token_id"], config["bos_token_id"]), ([101, 32], 7))
        for model in ("model", "tuned", "hf", "f.gguf", "back"):
            result = self.run_program("generate", model, "--prompt=th", "--max-tokens=200",
                                      "--temperature=0")
            self.assertEqual(result.code, 0, str(result))
            self.assertRegex(result.out, r"^th[^e ]*\n$", model)

    def test_what_begins_a_text(self):
        """A file's add_bos_token: `generate` puts the token there, `eval` says what it does."""
        self.assertEqual(self.run_program("prepare", "--out=bpe", "--tokenizer=bpe:300",
                                          "text.txt").code, 0)
        self.train("run", {"train.steps": 20, "data.train": "bpe", "data.val": "bpe"})
        self.export("run", "plain.gguf", form="gguf")
        data = bytearray((self.folder / "plain.gguf").read_bytes())
        key = b"tokenizer.ggml.add_bos_token"
        data[data.index(key) + len(key) + 4] = 1
        (self.folder / "begun.gguf").write_bytes(data)

        def text(model, prompt):
            result = self.run_program("generate", model, f"--prompt={prompt}", "--max-tokens=30",
                                      "--seed=3")
            self.assertEqual(result.code, 0, str(result))
            return result.out
        begin = "<|endoftext|>"
        self.assertEqual(begin + text("begun.gguf", "the"), text("plain.gguf", begin + "the"))
        self.assertNotEqual(text("begun.gguf", "the"), text("plain.gguf", "the"))
        self.assertEqual(text("begun.gguf", begin + "the"), text("plain.gguf", begin + "the"))
        for model, says in (("plain.gguf", 0), ("begun.gguf", 1)):
            result = self.run_program("eval", model, "--data=bpe")
            self.assertEqual((result.code, result.out.count("texts begin with <|endoftext|>")),
                             (0, says), str(result))
        self.assertEqual(self.judge("begun.gguf", "--data=bpe"),
                         self.judge("plain.gguf", "--data=bpe"))

    def test_directories_that_hold_no_model(self):
        adapter = self.folder / "lora"
        adapter.mkdir()
        (adapter / "adapter_config.json").write_text(
            '{"peft_type": "LORA", "base_model_name_or_path": "org/base"}')
        for command in (("eval", "lora", "--data=data"), ("generate", "lora", "--prompt=x"),
                        ("train", "tiny.toml", "--model.init_from=lora")):
            result = self.run_program(*command)
            self.assertEqual(result.code, 65, str(result))
            self.assertRegex(result.err, "holds an adapter only.*base model org/base")
        self.assertEqual(self.inspect("lora")["kind"], "adapter")
        self.export("llama", "other")
        config = self.folder / "other" / "config.json"
        config.write_text(config.read_text().replace('"llama"', '"gemma3"'))
        facts = self.inspect("other")
        self.assertEqual((facts["state"], facts["architecture"]), ("cannot be used", "gemma3"))
        self.assertIn("model_type", facts["problem"])
        self.assertEqual(facts["parameters"], self.inspect("llama")["parameters"])
        self.refused("other", "model_type")

    def test_closed_pipe(self):
        """Who reads has seen enough: no error, nothing is said."""
        for command in (("generate", "llama", "--prompt=a", "--max-tokens=50"),
                        ("inspect", "llama"), ("eval", "llama"),
                        ("export", "llama", "--out=hf", "--format=safetensors")):
            read, write = os.pipe()
            os.close(read)
            with os.fdopen(write, "wb") as pipe:
                result = subprocess.run([self.program, *command], cwd=self.folder, stdout=pipe,
                                        stderr=subprocess.PIPE, check=False)
            self.assertEqual((result.returncode, result.stderr), (0, b""), command)
        self.assertTrue((self.folder / "hf" / "export.json").exists())

    def refused(self, path, pattern, flag="--verify=full"):
        result = self.run_program("inspect", path, flag)
        self.assertEqual(result.code, 65, str(result))
        self.assertRegex(result.err, pattern)

    def test_same_bytes(self):
        for form, flags in (("safetensors", ()), ("safetensors", ("--quantize=w8a8",)),
                            ("gguf", ()), ("gguf", ("--quantize=q8_0",))):
            self.export("llama", "one", *flags, form=form)
            self.export("llama", "two", *flags, form=form)
            self.export("llama", "ranks", *flags, form=form, ranks=2)
            self.assertEqual(self.contents("one"), self.contents("two"))
            several = self.contents("ranks")
            for name, data in self.contents("one").items():
                if name != "export.json":
                    self.assertEqual(several[name], data, name)
            a, b = self.report("one"), self.report("ranks")
            self.assertAlmostEqual(a["loss"]["after"], b["loss"]["after"], delta=1e-9)
            for out in ("one", "two", "ranks"):
                self.remove(self.folder / out)

    def test_beside_the_original(self):
        self.export("llama", "q8.gguf", "--quantize=int8", form="gguf")
        data = ["--data=data", "--micro-batch-size=6"]
        alone, original = self.judge("q8.gguf", *data), self.judge("llama", *data)
        command = ("eval", "q8.gguf", "--reference=llama", "--json", *data)
        found = self.run_program(*command)
        self.assertEqual(found.code, 0, str(found))
        self.assertEqual(self.run_program(*command, ranks=2).out, found.out)
        result = json.loads(found.out)
        for key in ("loss", "accuracy"):
            self.assertAlmostEqual(result[key], alone[key], delta=1e-6)
            self.assertAlmostEqual(result["reference"][key], original[key], delta=1e-6)
            change = result[f"{key}_change"]
            self.assertAlmostEqual(change["value"], alone[key] - original[key], delta=2e-6)
            self.assertLessEqual(change["low"], change["value"])
            self.assertLess(change["high"] - change["low"], 0.01)
        self.assertGreater(result["divergence"]["value"], 0)
        self.assertGreater(result["divergence_999"], result["divergence"]["value"])
        self.assertGreater(result["same_top"], 0.98)
        text = self.run_program("eval", "llama", "--reference=llama", *data)
        self.assertIn("divergence mean 0.000000 within 0.000000", text.out)
        missing = self.run_program("eval", "llama", "--reference=absent", *data)
        self.assertEqual(missing.code, 65)
        self.assertRegex(missing.err, r"--reference: .*absent")
        longer = self.run_program("eval", "llama", "--reference=gpt2", "--seq-len=65", *data)
        self.assertEqual(longer.code, 64)

    def test_limits(self):
        """What an export may lose: beyond it nothing appears, within it the report has it."""
        self.export("llama", "out", "--quantize=w8a16", "--max-accuracy-drop=1",
                    "--max-perplexity-ratio=1.01")
        found = self.report("out")["comparison"]
        self.assertLess(found["perplexity_ratio"]["high"], 1.01)
        self.assertGreaterEqual(found["accuracy_change"]["low"], -0.01)
        self.assertIsNone(self.report_of_plain("llama")["comparison"])
        for flag in ("--max-accuracy-drop=0", "--max-perplexity-ratio=1"):
            result = self.export("llama", "no.gguf", "--quantize=q8_0", flag, form="gguf", code=65)
            self.assertRegex(result.err, f"no.gguf: .*{flag.split('=')[0]} .*nothing was published")
            self.assertFalse((self.folder / "no.gguf").exists())
        self.assertEqual(self.hidden(), [])

    def report_of_plain(self, model):
        self.export(model, "plain")
        return self.report("plain")

    def test_data_is_a_list(self):
        """As data.train takes it: commas or repeated, "\\," is a comma of the name."""
        for name in ("more", "a,b"):
            (self.folder / name).symlink_to(self.root / "data")
        twice = 2 * self.judge("llama", "--data=data")["tokens"]
        for flags in (["--data=data,more"], ["--data=data", "--data", "more"],
                      ["--data", "data", r"a\,b"]):
            self.assertEqual(self.judge("llama", *flags)["tokens"], twice, flags)
        self.export("llama", "out", r"--data=data, a\,b")
        self.assertEqual(self.report("out")["tokens"], twice)

    def test_exports_of_exports(self):
        self.export("llama", "direct")
        self.export("llama", "there.gguf", form="gguf")
        self.export("there.gguf", "back")
        for name in ("model.safetensors", "config.json", "tokenizer.json"):
            self.assertEqual(self.contents("back")[name], self.contents("direct")[name], name)
        report = self.report("back")
        self.assertIsNone(report["loss"])
        self.assertIn("skipped", report["evaluation"])
        self.assertIsNone(report["state_digest"])
        self.export("direct", "again", "--data=data", "--quantize=int8")
        self.assertGreater(self.report("again")["tokens"], 1000)

    def test_overwrite(self):
        for form in ("safetensors", "gguf"):
            self.export("llama", form, form=form)
            old = self.contents(form)
            refused = self.export("llama", form, "--dtype=bf16", form=form, code=64)
            self.assertRegex(refused.err, "exists; replace it with --overwrite")
            self.assertEqual(self.contents(form), old)
            self.export("llama", form, "--dtype=bf16", "--overwrite", form=form)
            self.assertEqual(self.check_export("llama", form)["dtype"], "bf16")
            self.assertEqual(self.hidden(), [])

    def test_killed(self):
        """At any moment: the name is absent, or what it names is whole; the next export cleans."""
        for form in ("safetensors", "gguf"):
            start = time.monotonic()
            self.export("llama", "out", form=form)
            whole, took = self.contents("out"), time.monotonic() - start
            path = self.folder / "out"
            for overwrite in (True, False):
                for _ in range(6):
                    if not overwrite:
                        self.remove(path)
                    job = self.start("export", "llama", "--out=out", f"--format={form}",
                                     *(["--overwrite"] if overwrite else []))
                    time.sleep(self.random.uniform(0.2, 1.0) * took)
                    job.send(signal.SIGKILL)
                    job.wait()
                    if overwrite or path.exists():
                        self.assertEqual(self.contents("out"), whole)
            self.export("llama", "out", "--overwrite", form=form)
            self.assertEqual(self.contents("out"), whole)
            self.assertEqual(self.hidden(), [])
            self.remove(path)

    def test_interrupted(self):
        """By a signal to any rank after loading; one that comes first of all is not missed."""
        for ranks in (0, 2):
            start = time.monotonic()
            self.export("llama", "out", ranks=ranks)
            took = time.monotonic() - start
            self.remove(self.folder / "out")
            for delay in (0.0, *(self.random.uniform(0.0, took) for _ in range(3))):
                job = self.start("export", "llama", "--out=out", "--format=safetensors",
                                 ranks=ranks)
                self.wait_for(job, lambda: self.all_withstand(job, max(ranks, 1)), "handlers")
                rank = self.random.choice(list(job.ranks().values()))
                time.sleep(delay)
                job.send(signal.SIGUSR1, to=rank)  # mpirun itself dies of one while it ends
                result = job.wait()
                self.assertIn(result.code, (0, 130) if delay > 0.0 else (130,), str(result))
                self.assertEqual(self.hidden(), [])
                self.assertEqual((self.folder / "out").exists(), result.code == 0, str(result))
                shutil.rmtree(self.folder / "out", ignore_errors=True)

    def all_withstand(self, job, count):
        ranks = job.ranks()
        return len(ranks) == count and all(
            harness.withstands(pid, signal.SIGUSR1) for pid in ranks.values())

    def test_refusals(self):
        (self.folder / "home").mkdir()
        (self.folder / "home" / "thesis.tex").write_text("years of work")
        for name, code, words, model, form, flags in (
            ("q8_0", 64, r"q8_0: is a type of GGUF.*w8a16", "llama", "safetensors",
             ("--quantize=q8_0",)),
            ("w8a16", 64, r"w8a16: is a scheme of safetensors.*q8_0", "llama", "gguf",
             ("--quantize=w8a16",)),
            ("conv1d", 64, r"Conv1D.*--format gguf", "gpt2", "safetensors", ("--quantize=int8",)),
            ("pre", 64, r"--tokenizer-pre.*--format gguf", "llama", "safetensors",
             ("--tokenizer-pre=gpt-2",)),
            ("home", 64, r"home: exists.*--overwrite", "llama", "safetensors", ()),
            ("home", 64, r"home: holds no export\.json", "llama", "safetensors", ("--overwrite",)),
            ("home", 64, r"home: is a directory", "llama", "gguf", ("--overwrite",)),
            ("text.txt/out", 74, r"text\.txt: is a link to .*no dir", "llama",
             "safetensors", ()),
            ("absent", 65, r"absent-model", "absent-model", "gguf", ()),
            ("judged", 65, r"nowhere", "llama", "gguf", ("--data=nowhere",)),
            ("tokens", 64, r"absent", "llama", "gguf", ("--tokenizer=absent",)),
            ("scheme", 64, r"--quantize", "llama", "gguf", ("--quantize=q2_k",)),
        ):
            for ranks in (0, 2):
                result = self.export(model, name, *flags, form=form, code=code, ranks=ranks)
                self.assertEqual(len(result.errors()), 1, str(result))
                self.assertRegex(result.errors()[0], words)
        self.assertEqual((self.folder / "home" / "thesis.tex").read_text(), "years of work")
        self.assertEqual(self.hidden(), [])

    def test_full_disk(self):
        place = self.folder / "small"
        place.mkdir()
        try:
            done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(place)],
                                  capture_output=True, text=True)
        except OSError as error:
            self.skipTest(f"no mount here: {error}")
        if done.returncode != 0:
            self.skipTest(f"may not mount a tmpfs: {done.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", "-l", str(place)], check=True)
        for form in ("safetensors", "gguf"):
            result = self.export("llama", place / "out", form=form, code=74)
            self.assertRegex(result.errors()[0], r"small.*free")
            self.assertEqual(list(place.iterdir()), [])


if __name__ == "__main__":
    harness.main()

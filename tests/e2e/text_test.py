#!/usr/bin/env python3
# From texts and tokenizers to a run: what prepare proposes works as it stands, whatever the names.
import os
import shutil

import harness


class Hints(harness.Case):
    def test_what_prepare_proposes_trains(self):
        for name, fraction in (("my data", 0.1), ("it's, 0.5:more", 0), ("-dash", 0.1), ("1:x", 0)):
            made = self.run_program("prepare", f"--out={name}", f"--val-fraction={fraction}",
                                    "text.txt")
            self.assertEqual(made.code, 0, str(made))
            hint = made.out.partition("next: ")[2].strip()
            self.assertEqual("--data.val" in hint, fraction > 0, hint)
            line = hint.replace("CONFIG.toml", "bare.toml") + " --train.steps=1 --run.dir='a b'"
            config = (self.folder / "tiny.toml").read_text()
            for key in ("train", "val"):
                config = config.replace(f'{key} = ["data"]', "")
            (self.folder / "bare.toml").write_text(config)
            trained = self.paste(f"{line}/{len(name)}{fraction}")
            self.assertEqual(trained.code, 0, f"{hint}\n{trained}")

    def test_what_a_run_proposes_works(self):
        self.train("my run", {"train.steps": 2, "checkpoint.interval": 1})
        for _ in range(2):
            proposed = self.inspect("my run")["next_command"]
            done = self.paste(proposed)
            self.assertEqual(done.code, 0, f"{proposed}\n{done}")

    def test_a_file_that_looks_like_a_flag(self):
        (self.folder / "-x.txt").write_text("text " * 100)
        made = self.run_program("prepare", "--out=dashed", "--", "-x.txt")
        self.assertEqual(made.code, 0, str(made))


class Tokenizers(harness.Case):
    """A model's directory as hubs have them: a tokenizer among hidden and huge files."""

    def setUp(self):
        super().setUp()
        self.prepare("words", "--tokenizer=bpe:300")
        self.model = self.folder / "model"
        shutil.copytree(self.folder / "words" / "tokenizer", self.model)
        (self.model / ".gitattributes").write_text("*.bin filter=lfs")
        (self.model / "odd name (1).txt").write_text("notes")
        with open(self.model / "model.safetensors", "wb") as file:
            os.truncate(file.fileno(), 3 << 30)
        (self.model / "chat_template.jinja").write_text("{{ messages }}")
        (self.model / "additional_chat_templates").mkdir()
        (self.model / "additional_chat_templates" / "rag.jinja").write_text("{{ documents }}")

    def prepare(self, out, *flags, code=0):
        made = self.run_program("prepare", f"--out={out}", *flags, "text.txt")
        self.assertEqual(made.code, code, str(made))
        return made

    def train_words(self, run="run", **keys):
        options = {"data.train": "words", "data.val": "words", "train.steps": 2,
                   "checkpoint.interval": 1, "data.tokenizer": "model"}
        self.train(run, options | {key.replace("__", "."): value for key, value in keys.items()})
        return self.checkpoints(run)[0]

    def refused(self, code, words, *arguments):
        result = self.run_program(*arguments)
        self.assertEqual(result.code, code, str(result))
        for word in words:
            self.assertIn(word, result.errors()[0])

    def test_checkpoints_and_exports_hold_the_tokenizer_alone(self):
        checkpoint = self.train_words()
        names = {str(path.relative_to(checkpoint / "tokenizer"))
                 for path in (checkpoint / "tokenizer").rglob("*") if path.is_file()}
        self.assertEqual(names, {"tokenizer.json", "tokenizer_config.json",
                                 "special_tokens_map.json", "chat_template.jinja",
                                 "additional_chat_templates/rag.jinja"})
        self.inspect(checkpoint, "--verify=full")
        shutil.rmtree(self.model)  # a run needs no files but its own
        self.train("run", {"data.train": "words", "data.val": "words", "train.steps": 4})
        made = self.run_program("export", "run", "--out=out", "--format=safetensors")
        self.assertEqual(made.code, 0, str(made))
        for name in names:
            self.assertEqual((self.folder / "out" / name).read_bytes(),
                             (checkpoint / "tokenizer" / name).read_bytes(), name)

    def test_a_tokenizer_that_cannot_be_saved_is_refused_at_the_start(self):
        with open(self.model / "merges.txt", "wb") as file:
            os.truncate(file.fileno(), 3 << 30)
        self.refused(65, ["model/merges.txt", "3.0 GiB"], "train", "tiny.toml", "--run.dir=none",
                     "--data.train=words", "--data.val=words", "--data.tokenizer=model")

    def test_data_of_another_tokenizer(self):
        self.train_words()
        words = ["two tokenizers", "data/tokenizer", "run step 2", "256 entries", "300 entries"]
        self.refused(65, words, "eval", "run", "--data=data")
        self.refused(65, words, "export", "run", "--data=data", "--out=x", "--format=gguf")
        self.refused(64, ["byte of --tokenizer"], "generate", "run", "--prompt=x",
                     "--tokenizer=byte")
        allowed = self.run_program("eval", "run", "--data=data", "--allow-other-tokenizer")
        self.assertEqual(allowed.code, 0, str(allowed))
        train = ("train", "tiny.toml", "--train.steps=1", "--run.dir=other")
        self.refused(78, ["data/tokenizer of data.val", "words/tokenizer of data.train",
                          "data.allow_other_tokenizer"], *train, "--data.train=words")
        self.refused(78, ["run of model.init_from"], *train, "--model.init_from=run",
                     "--model.vocab=300")
        result = self.run_program(*train, "--data.train=words", "--data.allow_other_tokenizer=true")
        self.assertEqual(result.code, 0, str(result))

    def test_prepare_takes_the_tokenizer_of_a_model(self):
        self.train_words()
        made = self.run_program("export", "run", "--out=m.gguf", "--format=gguf")
        self.assertEqual(made.code, 0, str(made))
        shards = [(self.folder / "words" / f"{split}_000000.bin").read_bytes()
                  for split in ("train", "val")]
        for number, name in enumerate(("run", "run/checkpoints/step_00000002", "m.gguf")):
            out = self.prepare(f"again{number}", f"--tokenizer={name}").out
            self.assertIn("each document ends with <|endoftext|>; no beginning-of-text", out)
            for split, shard in zip(("train", "val"), shards):
                path = self.folder / f"again{number}" / f"{split}_000000.bin"
                self.assertEqual(path.read_bytes(), shard, name)
        self.prepare("no", "--tokenizer=m.gguf", "--eos-token=<none>", code=64)

    def test_names_of_pre_tokenizers(self):
        self.train_words()
        self.refused(64, ["--tokenizer-pre smollmm", "smollm"], "export", "run", "--out=x.gguf",
                     "--format=gguf", "--tokenizer-pre=smollmm")
        made = self.run_program("export", "run", "--out=s.gguf", "--format=gguf",
                                "--tokenizer-pre=smollm")
        self.assertEqual(made.code, 0, str(made))
        said = self.run_program("generate", "s.gguf", "--prompt=the", "--max-tokens=2")
        self.assertEqual(said.code, 0, str(said))


if __name__ == "__main__":
    harness.main()

#!/usr/bin/env python3
# Names and modes as clusters have them: a link to a directory is that directory wherever a user
# names one, a link to nothing is named in one line, and every file and directory follows the umask.
import os
import signal
import stat

import harness

FORMS = (("hf", "safetensors"), ("f.gguf", "gguf"))


class Files(harness.Case):
    def options(self, **more):
        return {"train.steps": 2, "train.micro_batch_size": 6, "checkpoint.interval": 1} | more

    def link(self, name, target):
        """A link to a directory, or to nothing."""
        (self.folder / name).symlink_to(target)

    def directory(self, name):
        (self.folder / name).mkdir(parents=True)
        return self.folder / name

    def run_well(self, *arguments):
        result = self.run_program(*arguments)
        self.assertEqual(result.code, 0, str(result))
        return result

    def assert_refused(self, code, words, *arguments, ranks=0):
        result = self.run_program(*arguments, ranks=ranks)
        self.assertEqual(result.code, code, str(result))
        self.assertEqual(len(result.errors()), 1, str(result))
        self.assertRegex(result.errors()[0], words)


class Links(Files):
    def test_a_run_on_links(self):
        """The run directory, its parent, or its checkpoints lie elsewhere; so may what resumes."""
        for name in ("disk/run", "disk/parent", "disk/store", "plain"):
            self.directory(name)
        self.link("run", "disk/run")
        self.link("parent", "disk/parent")
        self.link("plain/checkpoints", self.folder / "disk" / "store")
        for run, real in (("run", "disk/run/checkpoints"), ("plain", "disk/store"),
                          ("parent/new/run", "disk/parent/new/run/checkpoints")):
            self.train(run, self.options(), ranks=2)
            self.train(run, self.options(**{"train.steps": 4}))
            self.assertEqual([path.name for path in self.checkpoints(run)],
                             sorted((path.name for path in (self.folder / real).glob("step_*")),
                                    reverse=True))
            self.assertEqual(self.inspect(run, "--verify")["step"], 4)
            self.assertEqual(len(self.rows(run)), 4)
        self.assertTrue((self.folder / "run").is_symlink())
        self.assertTrue((self.folder / "plain" / "checkpoints").is_symlink())

    def test_links_to_models(self):
        """A link to a checkpoint or an export is that, for all who read one."""
        self.train("run", self.options())
        self.link("best", self.checkpoints("run")[0])
        for name, form in FORMS:
            self.run_well("export", "best", f"--out=out/{name}", f"--format={form}")
            self.link(f"to-{name}", f"out/{name}")
        self.link("words", "data/tokenizer")
        for model in ("best", "to-hf", "to-f.gguf"):
            self.run_well("eval", model, "--data=data", "--batches=1")
            self.run_well("generate", model, "--prompt=a", "--max-tokens=1", "--tokenizer=words")
            self.assertEqual(self.inspect(model, "--verify")["state"], "verified")
        self.train("more", self.options(**{"checkpoint.resume": "best", "train.steps": 3}))
        self.assertEqual(self.events("more", "resume")[0]["step"], 2)

    def test_outputs_behind_links(self):
        self.train("run", self.options())
        self.directory("disk/full")
        self.link("parent", "disk")
        for name, form in FORMS:
            self.run_well("export", "run", f"--out=parent/new/{name}", f"--format={form}")
            self.assertTrue((self.folder / "disk" / "new" / name).exists())
            # The output itself is a link: empty at first, then to be replaced.
            self.link(name, f"disk/new/{name}")
            again = ("export", "run", f"--out={name}", f"--format={form}", "--dtype=bf16")
            self.assert_refused(64, rf"{name}: exists; replace it with --overwrite", *again)
            self.run_well(*again, "--overwrite")
            self.assertTrue((self.folder / name).is_symlink(), name)
            self.assertEqual(self.inspect(f"disk/new/{name}", "--verify")["dtype"], "bf16")
        self.directory("disk/empty")
        self.link("empty", "disk/empty")
        self.run_well("export", "run", "--out=empty", "--format=safetensors")
        self.assertTrue((self.folder / "empty").is_symlink())
        self.assertTrue((self.folder / "disk" / "empty" / "export.json").exists())
        self.link("shards", "disk/full")
        self.run_well("prepare", "--out=shards", "text.txt")
        self.assertTrue((self.folder / "disk" / "full" / "train_000000.bin").exists())
        self.assertEqual([path.name for path in self.folder.rglob(".*")], [])

    def test_links_to_nothing(self):
        self.train("run", self.options())
        self.link("gone", "/nowhere/at-all")
        self.directory("broken")
        self.link("broken/checkpoints", "/nowhere/at-all")
        leads = "is a link to /nowhere/at-all, which is "
        for ranks in (0, 2):
            for run, words in (("gone", f"gone: {leads}.*--run.dir"),
                               ("gone/run", f"gone: {leads}"),
                               ("broken", f"broken/checkpoints: {leads}")):
                self.assert_refused(74, words, "train", "tiny.toml", f"--run.dir={run}",
                                    "--train.steps=1", "--train.micro_batch_size=6", ranks=ranks)
            for out in ("gone", "gone/x"):
                for form in ("gguf", "safetensors"):
                    self.assert_refused(74, f"gone: {leads}", "export", "run", f"--out={out}",
                                        f"--format={form}", ranks=ranks)
        self.assert_refused(74, f"gone: {leads}", "prepare", "--out=gone", "text.txt")
        self.assert_refused(65, "gone: ", "inspect", "gone")
        self.assert_refused(65, "gone: ", "eval", "gone")
        self.assertEqual(list(self.folder.rglob(".*")), [])


class Modes(Files):
    def make_everything(self, out):
        """One of each kind of file that we write; `killed` leaves its lock behind."""
        self.run_well("prepare", f"--out={out}/data", "--tokenizer=bpe:300", "text.txt")
        data = {"data.train": f"{out}/data", "data.val": f"{out}/data"}
        self.train(f"{out}/deep/run", self.options() | data, ranks=2)
        for name, form in FORMS:
            self.run_well("export", f"{out}/deep/run", f"--out={out}/new/{name}",
                          f"--format={form}")
        failing = {"checkpoint.resume": "text.txt"}
        self.train(f"{out}/failed", self.options() | data | failing, code=65)
        killed = f"{out}/killed"
        job = self.start_training(killed, self.options() | data | {"train.steps": 1000000})
        self.wait_for_step(job, killed, 2)
        job.send(signal.SIGKILL)
        job.wait()

    def test_everything_follows_the_umask(self):
        kinds = {"metrics.jsonl", "events.jsonl", "train.log", "config.toml", "lock",
                 "failure.json", "manifest.json", "latest", "shard-00001-of-00002.h5",
                 "export.json", "f.gguf.export.json", "tokenizer.json", "train_000000.bin"}
        for mask in (0o027, 0o002):
            before = os.umask(mask)
            try:
                self.make_everything(f"mask{mask:o}")
            finally:
                os.umask(before)
            made = list((self.folder / f"mask{mask:o}").rglob("*"))
            self.assertLessEqual(kinds, {path.name for path in made})
            for path in made:
                wanted = (0o777 if path.is_dir() else 0o666) & ~mask
                self.assertEqual(oct(stat.S_IMODE(path.stat().st_mode)), oct(wanted), path)


if __name__ == "__main__":
    harness.main()

#!/usr/bin/env python3
# From texts and tokenizers to a run: what prepare proposes works as it stands, whatever the names.
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


if __name__ == "__main__":
    harness.main()

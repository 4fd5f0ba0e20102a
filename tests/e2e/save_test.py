#!/usr/bin/env python3
# When a run saves, and what it never saves: checkpoints by rank 0's clock come after the same step
# on all ranks and change nothing, the best validation stays, NaN weights end the run.
import harness


class Saving(harness.Case):
    def options(self, **changes):
        return {"train.steps": 40, "train.micro_batch_size": 6} | changes

    def test_by_time(self):
        self.train("plain", self.options(), ranks=2)
        options = self.options(**{"checkpoint.interval_minutes": 1e-4, "checkpoint.keep_last": 0})
        self.train("timed", options, ranks=2)
        saves = self.events("timed", "save")
        self.assertGreater(len([save for save in saves if save["why"] == "time"]), 2, str(saves))
        self.assertEqual(len(self.checkpoints("timed")), len(saves))
        self.assertEqual(self.exact_rows("timed"), self.exact_rows("plain"))
        self.assertEqual(self.digest("timed"), self.digest("plain"))

    def test_every_thirty_minutes_by_default(self):
        """Without an interval; an interval or 0 turn it off. The dump holds what it came to."""
        for options, minutes in (({}, "30"), ({"checkpoint.interval": 20}, "0"),
                                 ({"checkpoint.interval_minutes": 0}, "0")):
            self.train(f"run{minutes}{len(options)}", self.options() | options)
            config = (self.folder / f"run{minutes}{len(options)}" / "config.toml").read_text()
            self.assertIn(f'interval_minutes = "{minutes}"\n', config)
            plan = self.run_program("plan", "tiny.toml", *harness.flag_list(options))
            self.assertEqual("every 30 minutes" in plan.out, minutes == "30", str(plan))

    def test_the_best_validation_stays(self):
        options = self.options(**{"train.steps": 12, "eval.interval": 4, "eval.batches": 1,
                                  "checkpoint.keep_best": True, "checkpoint.keep_last": 1})
        self.train("run", options)
        rows = harness.read_jsonl(self.folder / "run" / "metrics.jsonl")
        losses = {row["step"]: row["val_loss"] for row in rows if "val_loss" in row}
        best = min(losses, key=losses.get)
        # Going on with a rate that spoils the model leaves the best one where it was.
        self.train("run", options | {"train.steps": 24, "optimizer.lr": 1.0})
        names = [path.name for path in self.checkpoints("run")]
        self.assertEqual(names, ["step_00000024", f"step_{best:08}"])
        self.assertEqual(self.run_program("eval", f"run/checkpoints/step_{best:08}").code, 0)

    def test_nan_weights_end_the_run(self):
        for ranks in (0, 2):
            options = self.options(**{"optimizer.lr": 3e38, "optimizer.schedule": "constant",
                                      "optimizer.warmup_steps": 0, "train.steps": 3})
            result = self.train(f"run{ranks}", options, ranks=ranks, code=70)
            self.assertEqual(len(result.errors()), 1, str(result))
            self.assertRegex(result.errors()[0], r"transformer\.\S+ holds NaN or infinity.*lower")
            self.assertEqual(self.checkpoints(f"run{ranks}"), [])

    def test_a_last_rate_of_zero_is_said_once(self):
        for fraction, said in ((0.0, 1), (0.1, 0)):
            options = self.options(**{"train.steps": 2, "optimizer.final_lr_fraction": fraction})
            result = self.train(f"run{said}", options)
            self.assertEqual((result.out + result.err).count("final_lr_fraction = 0"), said)
        self.train("one", self.options(**{"train.steps": 1, "optimizer.warmup_steps": 0}))
        self.assert_close([self.rows("one")[0]["lr"]], [1e-3], 1e-6, "the peak")


if __name__ == "__main__":
    harness.main()

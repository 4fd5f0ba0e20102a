#!/usr/bin/env python3
# Every split of a global batch of 12 into micro-batches, accumulation and ranks gives the same
# update, also when a mask excludes a third of the targets so unevenly that some sequences have
# none: the loss is a sum over valid tokens divided once, not a mean of means.
import pathlib
import random
import sys

import harness

GLOBAL_BATCH = 12
STEPS = 40
# (micro-batch, accumulation, ranks)
SPLITS = ((12, 1, 1), (6, 2, 1), (4, 3, 1), (3, 4, 1), (2, 6, 1), (1, 12, 1), (6, 1, 2), (3, 2, 2),
          (1, 6, 2), (4, 1, 3), (2, 2, 3), (1, 4, 3), (2, 1, 6), (1, 2, 6))
# fp32 sums in another order differ by a few units of 2^-24 = 6e-8 of what is summed; the largest
# difference of a whole tensor (weights and moments, 2-norms) seen after 40 steps is 8e-7.
ROUNDING = 1e-5
# Adam divides a gradient by its own size. The bias of the keys has a gradient of exactly 0 in real
# arithmetic (softmax does not see it), so what is left there is rounding, and must stay small.
EPS = 1e-3
T = 32


class Split(harness.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.excluded = write_mask(cls.root / "data")

    def options(self, micro):
        return {"train.micro_batch_size": micro, "train.steps": STEPS, "optimizer.eps": EPS,
                "checkpoint.keep_last": 0}

    def test_losses_and_weights(self):
        for micro, accumulation, ranks in SPLITS:
            self.assertEqual(micro * accumulation * ranks, GLOBAL_BATCH)
            run = f"run_{micro}_{accumulation}_{ranks}"
            result = self.train(run, self.options(micro), ranks=ranks)
            self.assertIn(f"global_batch_size {GLOBAL_BATCH} = micro_batch_size {micro} x "
                          f"accumulation {accumulation} x world size {ranks}", result.out)
            with self.subTest(run=run):
                self.compare(run, "run_12_1_1")

    def compare(self, run, reference):
        for name in ("loss", "grad_norm"):
            found, wanted = ([row[name] for row in self.rows(r)] for r in (run, reference))
            self.assertEqual(len(wanted), STEPS)
            self.assert_close(found, wanted, ROUNDING, name)
        validation = [[row["val_loss"] for row in harness.read_jsonl(
            self.folder / r / "metrics.jsonl") if "val_loss" in row] for r in (run, reference)]
        self.assertEqual(len(validation[1]), 1)
        self.assert_close(*validation, ROUNDING, "val_loss")
        if NUMPY is None:
            print("weights not compared: no h5py here (Debian: python3-h5py)", flush=True)
            return
        found, wanted = (read_tensors(self.checkpoints(r)[0]) for r in (run, reference))
        self.assertEqual(sorted(found), sorted(wanted))
        for name, tensor in wanted.items():
            self.assertEqual(found[name].shape, tensor.shape, name)
            error = NUMPY.linalg.norm(found[name] - tensor) / NUMPY.linalg.norm(tensor)
            self.assertLessEqual(error, ROUNDING, f"{name} of {run}")

    def test_the_mask_counts(self):
        """Without the mask the losses are others, and with it the targets' share is the wanted one:
        an untrained model has loss log(vocab) on every target, so that only counts can differ."""
        self.assertAlmostEqual(self.excluded, 1 / 3, delta=0.03)
        options = self.options(12) | {"train.steps": 3}
        self.train("masked", options)
        (self.folder / "plain").mkdir()
        for path in (self.folder / "data").glob("*.bin"):
            (self.folder / "plain" / path.name).symlink_to(path)
        self.train("plain_run", options | {"data.train": "plain", "data.val": "plain",
                                           "data.tokenizer": "byte"})
        masked, plain = self.rows("masked"), self.rows("plain_run")
        self.assertNotEqual(masked[0]["loss"], plain[0]["loss"])
        self.assertAlmostEqual(masked[0]["loss"], plain[0]["loss"], delta=0.02)
        # A third fewer targets make a noisier gradient, not one that is a third smaller.
        self.assertAlmostEqual(masked[0]["grad_norm"] / plain[0]["grad_norm"], 1.0, delta=0.15)


def write_mask(folder):
    """Excludes about a third of the targets of each shard: every fifth sequence of T tokens wholly,
    of the others one token in six. Returns the share."""
    source = random.Random(3)
    excluded = total = 0
    for shard in folder.glob("*.bin"):
        tokens = (shard.stat().st_size - 1024) // 2
        mask = bytearray()
        while len(mask) < tokens:
            whole = source.random() < 1 / 5
            mask += bytes(0 if whole or source.random() < 1 / 6 else 1 for _ in range(T))
        shard.with_suffix(".mask").write_bytes(mask[:tokens])
        excluded += mask[:tokens].count(0)
        total += tokens
    return excluded / total


def import_readers():
    try:
        import h5py
        import numpy
    except ImportError:
        return None, None
    return h5py, numpy


def read_tensors(checkpoint):
    """{name: float64 array}, put together from the shards."""
    parts = {}

    def collect(name, item):
        if isinstance(item, H5PY.Dataset):
            parts.setdefault(name, []).append(item[...].astype("f8"))

    for path in sorted(pathlib.Path(checkpoint).glob("shard-*.h5")):
        with H5PY.File(path, "r") as shard:
            shard.visititems(collect)
    return {name: NUMPY.concatenate(rows) for name, rows in parts.items()}


H5PY, NUMPY = import_readers()

if __name__ == "__main__":
    sys.exit(harness.main())

#!/usr/bin/env python3
# What earlier versions computed and wrote, held to the bit: losses and digests of short runs of
# every family, dtype and world size against recorded_runs.json, and a checkpoint and exports in
# tests/golden, which load to the same weights and train on to the same state. Products depend on
# the BLAS library, so its AVX2 kernels are asked for, and another version of it skips the runs.
# LOCKSTEP_RECORD=1 writes what PROGRAM computes instead of comparing.
import hashlib
import json
import os
import pathlib
import shutil

import harness

HERE = pathlib.Path(__file__).parent
RECORDED = HERE / "recorded_runs.json"
GOLDEN = HERE.parent / "golden"
RECORD = bool(os.environ.get("LOCKSTEP_RECORD"))
AVX2 = {"OPENBLAS_CORETYPE": "Haswell"}

# "rope_scaling" and grouped heads where the family has them: every branch of the model runs.
FAMILIES = {
    "gpt2": {"model.architecture": "gpt2"},
    "llama": {"model.architecture": "llama", "model.kv_heads": 1, "model.ffn": 160,
              "model.rope_scaling": "llama3:8,1,4,16"},
    "qwen2": {"model.architecture": "qwen2", "model.kv_heads": 1, "model.ffn": 160},
}
RUN = {"train.steps": 14, "optimizer.warmup_steps": 4, "optimizer.final_lr_fraction": 0.0,
       "precision.initial_loss_scale": 2.0**30, "eval.interval": 7, "eval.batches": 2}


def weights_digest(directory):
    """Of the tensors in model.safetensors; the header may say more than it did."""
    data = (directory / "model.safetensors").read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    return hashlib.sha256(data[begin:]).hexdigest()


class Recorded(harness.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.known = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
        if RECORD:
            cls.addClassCleanup(
                lambda: RECORDED.write_text(json.dumps(cls.known, indent=1, sort_keys=True) + "\n"))

    def require_recorded_library(self):
        text = self.run_program("--version", env=AVX2).out
        library = next(line for line in text.split("\n") if line.startswith("OpenBLAS"))
        if RECORD:
            self.known["library"] = library
        elif library != self.known["library"]:
            print(f"skipped: recorded with {self.known['library']}, this is {library}")
            self.skipTest("another BLAS library")

    def compare(self, key, found):
        if RECORD:
            self.known[key] = found
        else:
            self.assertEqual(found, self.known[key], key)

    def test_runs(self):
        self.require_recorded_library()
        for family, shape in FAMILIES.items():
            for dtype in ("fp32", "bf16", "fp16"):
                for ranks in (1, 2):
                    run = f"{family}_{dtype}_{ranks}"
                    options = RUN | shape | {"precision.dtype": dtype,
                                             "train.micro_batch_size": 12 // ranks // 2}
                    self.train(run, options, ranks=ranks if ranks > 1 else 0, env=AVX2)
                    with self.subTest(run=run):
                        self.compare(run, {
                            "losses": self.losses(run), "state_digest": self.digest(run),
                            "val_loss": [row["val_loss"]
                                         for row in harness.read_jsonl(
                                             self.folder / run / "metrics.jsonl")
                                         if "val_loss" in row]})

    def test_golden_checkpoint_goes_on(self):
        """Format 1, written by two ranks: the same digest, weights and next steps."""
        checkpoint = GOLDEN / "format_1" / "step_00000006"
        if RECORD:
            self.make_golden(checkpoint)
        run = self.folder / "run" / "checkpoints" / checkpoint.name
        shutil.copytree(checkpoint, run)
        self.assertEqual(self.digest(run),
                         json.loads((checkpoint / "manifest.json").read_text())["state_digest"])
        self.compare("golden weights", self.exported(checkpoint))
        self.require_recorded_library()
        self.train("run", self.golden_options() | {"train.steps": 9}, env=AVX2, ranks=2)
        self.compare("golden goes on", self.digest("run"))

    def test_golden_exports(self):
        for name in ("q8_0.gguf", "w8a16", "bf16"):
            self.compare(f"golden {name}", self.exported(GOLDEN / name))

    def exported(self, model):
        out = self.folder / f"{model.name}.out"
        result = self.run_program("export", model, f"--out={out}", "--format=safetensors",
                                  "--dtype=fp32")
        self.assertEqual(result.code, 0, str(result))
        return weights_digest(out)

    @staticmethod
    def golden_options():
        return {"model.architecture": "llama", "model.layers": 1, "model.hidden": 16,
                "model.heads": 2, "model.kv_heads": 1, "model.ffn": 24, "model.seq_len": 16,
                "train.steps": 6, "train.micro_batch_size": 3, "optimizer.warmup_steps": 2,
                "optimizer.final_lr_fraction": 0.0}

    def make_golden(self, checkpoint):
        shutil.rmtree(GOLDEN, ignore_errors=True)
        self.train("golden", self.golden_options(), env=AVX2, ranks=2)
        shutil.copytree(self.checkpoints("golden")[0], checkpoint)
        for name, flags in (("q8_0.gguf", ["--format=gguf", "--quantize=q8_0"]),
                            ("w8a16", ["--format=safetensors", "--quantize=w8a16"]),
                            ("bf16", ["--format=safetensors", "--dtype=bf16"])):
            result = self.run_program("export", "golden", f"--out={GOLDEN / name}", *flags)
            self.assertEqual(result.code, 0, str(result))


if __name__ == "__main__":
    harness.main()

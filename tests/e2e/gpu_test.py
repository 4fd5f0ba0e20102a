# Whole runs on GPUs: real NCCL between ranks against one rank, stop, kill and resume bit for bit,
# and the loss scaler. With fewer GPUs than ranks the ranks share a card. Exits 77 (skipped by
# ctest) where there is no GPU.
import json
import signal
import statistics
import subprocess
import sys

import harness

OPTIONS = {"run.device": "cuda", "train.micro_batch_size": 1, "train.steps": 120,
           "checkpoint.interval": 20}


def gpu_count(program):
    result = subprocess.run([program, "doctor", "--json"], capture_output=True, text=True)
    if result.returncode != 0:
        return 0
    return len(json.loads(result.stdout).get("gpus", []))


class Gpu(harness.Case):
    def options(self, ranks=1, **more):
        shared = {"comm.share_gpu": True} if ranks > gpu_count(self.program) else {}
        return OPTIONS | shared | {key.replace("__", "."): value for key, value in more.items()}

    def test_ranks_give_the_losses_of_one(self):
        """fp32 sums in another order: 1e-5 relative over the first 60 steps."""
        self.train("one", self.options(train__steps=60))
        wanted = self.losses("one")
        for ranks in (2, 4):
            run = f"ranks{ranks}"
            self.train(run, self.options(ranks, train__steps=60), ranks=ranks)
            self.assert_close(self.losses(run), wanted, 1e-5, run)
            text = (self.folder / run / "train.log").read_text()
            self.assertIn("communicator nccl", text)
            # The same again: the same bits.
            self.train(run + "again", self.options(ranks, train__steps=60), ranks=ranks)
            self.assertEqual(self.digest(run + "again"), self.digest(run))

    def test_sixteen_bits_on_two_ranks(self):
        """Products of the two splits round alike; only the fp32 sums of gradients differ."""
        for dtype in ("bf16", "fp16"):
            self.train(dtype, self.options(precision__dtype=dtype, train__steps=60))
            self.train(dtype + "2", self.options(2, precision__dtype=dtype, train__steps=60),
                       ranks=2)
            self.assert_close(self.losses(dtype + "2"), self.losses(dtype), 5e-3, dtype)

    def test_stop_and_kill_resume_bit_for_bit(self):
        for dtype in ("fp32", "bf16", "fp16"):
            options = self.options(precision__dtype=dtype)
            oracle = f"oracle_{dtype}"
            self.train(oracle, options)
            for how in (signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL):
                run = f"{dtype}_{how.name}"
                job = self.start_training(run, options)
                self.wait_for_step(job, run, self.random.randint(25, 90))
                job.send(how)
                code = job.wait().code
                self.assertIn(code, (75, -signal.SIGKILL) if how == signal.SIGKILL else (75,), run)
                self.train(run, options)
                self.assertEqual(self.exact_rows(run), self.exact_rows(oracle), run)
                self.assertEqual(self.digest(run), self.digest(oracle), run)

    def test_a_killed_rank_is_named_and_the_run_goes_on(self):
        options = self.options(2)
        self.train("pair", options, ranks=2)
        job = self.start_training("killed", options, ranks=2)
        self.wait_for_step(job, "killed", self.random.randint(25, 90))
        job.send(signal.SIGKILL, rank=1)
        self.assertNotEqual(job.wait().code, 0)
        failure = json.loads((self.folder / "killed" / "failure.json").read_text())
        self.assertIn("rank 1", failure["message"])
        self.train("killed", options, ranks=2)
        self.assertEqual(self.exact_rows("killed"), self.exact_rows("pair"))
        self.assertEqual(self.digest("killed"), self.digest("pair"))

    def test_overflows_are_skipped(self):
        self.train("fp16_high", self.options(precision__dtype="fp16",
                                             precision__initial_loss_scale=2**30))
        rows = self.rows("fp16_high")
        self.assertGreater(rows[-1]["skipped"], 0)
        self.assertLess(rows[-1]["loss"], rows[0]["loss"])

    def test_no_step_looks_shorter_than_it_was(self):
        """The host runs ahead of the card; rows tell the card's time."""
        self.train("timed", self.options(
            model__layers=6, model__heads=8, model__hidden=512, train__steps=12,
            train__micro_batch_size=128, train__global_batch_size=1024))
        times = [row["step_ms"] for row in self.rows("timed")][2:]
        self.assertGreater(min(times), 0.7 * statistics.median(times), times)

    def test_other_device_goes_on(self):
        """A checkpoint of the GPU resumes on the CPU, and the losses stay near."""
        constant = {"optimizer__schedule": "constant"}
        self.train("gpu", self.options(**constant))
        self.train("mixed", self.options(train__steps=60, **constant))
        self.train("mixed", self.options(**constant) | {"run.device": "cpu"})
        self.assert_close(self.losses("mixed"), self.losses("gpu"), 1e-3, "gpu then cpu")

    def test_exports_are_judged_alike_on_both_devices(self):
        """The same files in fp32 on the card and on the CPU: sums in another order, 1e-5. With
        int8 activations a value near a step may round the other way, 1/127 of one of 64 inputs."""
        llama = {"model__architecture": "llama", "model__kv_heads": 1, "model__ffn": 160}
        self.train("run", self.options(train__steps=60, **llama))
        bounds = (("none", "safetensors", 1e-5), ("w8a16", "safetensors", 1e-5),
                  ("w8a8", "safetensors", 1e-3), ("q8_0", "gguf", 1e-5))
        for scheme, form, relative in bounds:
            out = f"{scheme}_{form}"
            result = self.run_program("export", "run", f"--out={out}", f"--format={form}",
                                      f"--quantize={scheme}", "--dtype=fp32")
            self.assertEqual(result.code, 0, str(result))
            found = {}
            for device in ("cuda", "cpu"):
                result = self.run_program("eval", out, "--data=data", "--json", "--seq-len=32",
                                          f"--device={device}")
                self.assertEqual(result.code, 0, str(result))
                found[device] = json.loads(result.out)["loss"]
                text = self.run_program("generate", out, "--prompt=the ", "--max-tokens=20",
                                        "--temperature=0", f"--device={device}")
                self.assertEqual(text.code, 0, str(text))
                self.assertGreater(len(text.out), 20)
            self.assert_close([found["cuda"]], [found["cpu"]], relative, out)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        if argument.endswith("lockstep") and gpu_count(argument) == 0:
            print("skipped: no GPU on this machine")
            sys.exit(77)
    harness.main()

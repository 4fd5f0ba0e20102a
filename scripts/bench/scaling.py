"""Scaling of whole training steps over GPUs; started by scripts/bench_scaling.sh, which says how.

One row is one shape at one world size. Results go to OUT/scaling.json after every run, so that a
sitting can be cut off and continued; the table and the picture are made from that file alone.
"""

import argparse
import datetime
import json
import math
import os
import pathlib
import shlex
import shutil
import statistics
import subprocess
import sys

import scaling_report

ROOT = pathlib.Path(__file__).resolve().parents[2]
WARM_UP = 3
STRONG_SEQUENCES = 512  # of 1024 tokens: 524,288 tokens a step
# bf16: all products round alike; only the fp32 sums of gradients differ in their order.
LOSS_BOUND = 5e-3
BUCKETS_MIB = [1, 4, 25, 100]  # 25 MiB is comm.bucket_mib's default


def weak_rows():
    yield "weak-gpt2-124m-64x8", "gpt2-124m", 64, lambda n: 8
    yield "weak-gpt2-124m-64x1", "gpt2-124m", 64, lambda n: 1
    yield "weak-gpt2-124m-8x1", "gpt2-124m", 8, lambda n: 1
    yield "weak-qwen2.5-0.5b-16x1", "qwen2.5-0.5b", 16, lambda n: 1


def strong_shape(ranks):
    """Micro-batch and accumulation of a rank when 512 sequences are shared, or None."""
    micro = min(64, STRONG_SEQUENCES // ranks)
    if micro < 8 or STRONG_SEQUENCES % (micro * ranks) != 0:
        return None
    return micro, STRONG_SEQUENCES // (micro * ranks)


def rows_for(ranks):
    """(name, preset, micro-batch, accumulation) of every row at that world size."""
    for name, preset, micro, accumulation in weak_rows():
        yield name, preset, micro, accumulation(ranks)
    shape = strong_shape(ranks)
    if shape:
        yield "strong-gpt2-124m-524288", "gpt2-124m", *shape


def run(command, **more):
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)


def shell_output(command):
    try:
        return run(command).stdout.strip()
    except FileNotFoundError:
        return ""


def error_line(result):
    """The program's own error among what a launcher adds to it."""
    lines = (result.stdout + result.stderr).strip().splitlines() or ["failed"]
    return next((line for line in lines if "error:" in line), lines[-1])


def gpu_names():
    text = shell_output(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"])
    return [line.strip() for line in text.splitlines() if line.strip()]


def world_sizes(arguments, gpus):
    if arguments.gpus:
        return [int(text) for text in arguments.gpus.split(",")]
    slurm = os.environ.get("SLURM_NTASKS")
    most = int(slurm) if slurm else max(gpus, 1)
    return [2**i for i in range(most.bit_length()) if 2**i <= most]


class Bench:
    def __init__(self, arguments):
        self.arguments = arguments
        self.out = pathlib.Path(arguments.out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.work = self.out / "work"
        self.work.mkdir(exist_ok=True)
        self.file = self.out / "scaling.json"
        self.results = {"runs": [], "allreduce": {}, "checks": {}}
        if self.file.exists():
            self.results = json.loads(self.file.read_text(encoding="utf-8"))
        self.binary = str(pathlib.Path(arguments.binary).resolve())

    def save(self):
        text = json.dumps(self.results, indent=1) + "\n"
        temporary = self.file.with_suffix(".tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(self.file)

    def launch(self, ranks):
        template = os.environ.get("LOCKSTEP_LAUNCH")
        if template is None and ranks == 1 and "SLURM_JOB_ID" not in os.environ:
            return []
        if template is None and "SLURM_JOB_ID" in os.environ:
            template = "srun --mpi=pmix --ntasks={n}"
        if template is None:
            template = "mpirun --bind-to none --oversubscribe -n {n}"
        return shlex.split(template.replace("{n}", str(ranks)))

    def describe_machine(self):
        gpus = gpu_names()
        self.results["machine"] = {
            "gpus": gpus,
            "topology": shell_output(["nvidia-smi", "topo", "-m"]),
            "versions": shell_output([self.binary, "--version"]),
            "nccl_environment": {k: v for k, v in os.environ.items() if k.startswith("NCCL_")},
            "when": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        }
        for line in gpus or ["no GPU"]:
            print(line)
        print(self.results["machine"]["versions"])
        print(self.results["machine"]["topology"])
        self.save()

    def prepare_data(self):
        """Enough tokens for every shape: the licence texts, repeated."""
        data = self.work / "data"
        if data.exists():
            return data
        texts = sorted(pathlib.Path("/usr/share/common-licenses").glob("*"))
        texts = [path.read_bytes() for path in texts if path.is_file()]
        whole = b"".join(texts) or pathlib.Path(__file__).read_bytes()
        repeats = math.ceil((64 << 20) / len(whole))
        text = self.work / "text.txt"
        text.write_bytes(whole * repeats)
        result = run([self.binary, "prepare", "--out", str(data), str(text)])
        if result.returncode != 0:
            sys.exit(result.stderr)
        return data

    def options(self, ranks, preset, micro, accumulation, steps, folder):
        data = self.prepare_data()
        config = self.work / "scaling.toml"
        config.write_text(f"""[data]
train = "{data}"
[optimizer]
lr = 6e-4
warmup_steps = 100
[precision]
dtype = "bf16"
[log]
interval = 1
""", encoding="utf-8")
        options = [str(config), f"--run.dir={folder}", f"--model.preset={preset}",
                   f"--train.micro_batch_size={micro}", f"--train.steps={steps}",
                   f"--train.global_batch_size={micro * accumulation * ranks}"]
        if self.arguments.device:
            options.append(f"--run.device={self.arguments.device}")
        if self.arguments.share_gpu:
            options.append("--comm.share_gpu=true")
        return options + self.arguments.extra

    def train(self, ranks, preset, micro, accumulation, steps, folder, extra=()):
        """Rows of metrics.jsonl, or an error text."""
        command = self.launch(ranks) + [self.binary, "train"]
        command += self.options(ranks, preset, micro, accumulation, steps, folder) + list(extra)
        result = run(command)
        if result.returncode != 0:
            return [error_line(result)]
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [row for row in map(json.loads, lines) if "step_ms" in row]

    def ours(self, ranks, preset, micro, accumulation):
        folder = self.work / "run"
        shutil.rmtree(folder, ignore_errors=True)
        rows = self.train(ranks, preset, micro, accumulation, self.arguments.steps + WARM_UP,
                          folder)
        if not rows or isinstance(rows[0], str):
            return {"error": rows[0] if rows else "no steps"}
        rows = rows[WARM_UP:]
        times = sorted(row["step_ms"] for row in rows)
        exposed = [row["comm_exposed_ms"] for row in rows if row["comm_exposed_ms"] is not None]
        peak = [row["memory_peak_bytes"] for row in rows if row["memory_peak_bytes"]]
        median = statistics.median(times)
        return {
            "step_ms": median, "fastest_ms": times[0], "slowest_ms": times[-1],
            "tokens_per_second": (rows[-1]["tokens"] - rows[-2]["tokens"]) / median * 1000,
            "exposed_ms": statistics.median(exposed) if exposed else None,
            "peak_gib": max(peak) / 2**30 if peak else None,
        }

    def peer(self, ranks, preset, micro, accumulation):
        if self.arguments.no_peer or run([sys.executable, "-c", "import torch"]).returncode != 0:
            return None
        if not preset.startswith("gpt2"):
            return None
        command = [sys.executable]
        if ranks > 1:
            command += ["-m", "torch.distributed.run", f"--nproc-per-node={ranks}"]
        command += [str(ROOT / "scripts/bench/peer_torch.py"), "--preset", preset,
                    "--micro-batch", str(micro), "--accumulation", str(accumulation),
                    "--steps", str(self.arguments.steps)]
        result = run(command)
        if result.returncode != 0:
            return {"error": error_line(result)}
        return json.loads(result.stdout.strip().splitlines()[-1])

    def measure(self, name, ranks, preset, micro, accumulation):
        done = [r for r in self.results["runs"] if r["row"] == name and r["ranks"] == ranks]
        for who, turn in (("peer", 0), ("lockstep", 0), ("lockstep", 1), ("peer", 1)):
            if any(r["who"] == who and r["turn"] == turn for r in done):
                continue
            measure = self.ours if who == "lockstep" else self.peer
            figures = measure(ranks, preset, micro, accumulation)
            if figures is None:
                continue
            if "error" in figures:
                print(f"{name} x{ranks} {who}: {figures['error']}", flush=True)
                continue
            self.results["runs"].append({"row": name, "ranks": ranks, "who": who, "turn": turn,
                                         "micro_batch": micro, "accumulation": accumulation,
                                         **figures})
            self.save()
            print(f"{name} x{ranks} {who}: {figures['tokens_per_second']:,.0f} tok/s", flush=True)

    def all_reduce(self, ranks):
        if ranks == 1 or str(ranks) in self.results["allreduce"]:
            return
        command = self.launch(ranks) + [self.binary, "bench", "allreduce", "--json",
                                        "--mib=" + ",".join(map(str, BUCKETS_MIB))]
        if self.arguments.share_gpu:
            command.append("--share-gpu")
        result = run(command)
        if result.returncode != 0:
            print(f"allreduce x{ranks}: {result.stderr.strip()}")
            return
        self.results["allreduce"][str(ranks)] = json.loads(result.stdout)
        self.save()

    def check_losses(self, sizes):
        """The strong row's first steps see the same batches at every world size."""
        losses = {}
        for ranks in sizes:
            shape = strong_shape(ranks)
            if not shape:
                continue
            folder = self.work / f"losses_{ranks}"
            shutil.rmtree(folder, ignore_errors=True)
            rows = self.train(ranks, "gpt2-124m", *shape, 8, folder, ["--checkpoint.interval=4"])
            if not rows or isinstance(rows[0], str):
                print(f"losses x{ranks}: {rows}")
                return
            losses[ranks] = [row["loss"] for row in rows]
        first = losses[sizes[0]]
        worst = {ranks: max(abs(a - b) / abs(b) for a, b in zip(values, first))
                 for ranks, values in losses.items()}
        self.results["checks"]["loss_difference"] = worst
        self.results["checks"]["loss_bound"] = LOSS_BOUND
        self.results["checks"]["resumed"] = self.check_resume(losses)
        self.save()

    def check_resume(self, losses):
        """A snapshot taken at the largest world size goes on at every other."""
        largest = max(losses)
        worst = {}
        for ranks in losses:
            folder = self.work / f"resumed_{largest}_{ranks}"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(self.work / f"losses_{largest}", folder)
            shutil.rmtree(folder / "checkpoints" / "step_00000008")
            rows = self.train(ranks, "gpt2-124m", *strong_shape(ranks), 8, folder)
            if not rows or isinstance(rows[0], str):
                worst[ranks] = str(rows)
                continue
            after = {row["step"]: row["loss"] for row in rows if row["step"] > 4}
            worst[ranks] = max(abs(after[step] - losses[largest][step - 1]) /
                               abs(losses[largest][step - 1]) for step in range(5, 9))
        return {"from": largest, "loss_difference": worst}

    def all(self):
        self.describe_machine()
        sizes = world_sizes(self.arguments, len(gpu_names()))
        for ranks in sizes:
            self.all_reduce(ranks)
        if not self.arguments.no_checks and "loss_difference" not in self.results["checks"]:
            self.check_losses(sizes)
        rows = {name for ranks in sizes for name, *_ in rows_for(ranks)}
        for wanted in sorted(rows, reverse=True):
            for ranks in sizes:
                for name, preset, micro, accumulation in rows_for(ranks):
                    if name == wanted and self.arguments.rows in f"{name} x{ranks}":
                        self.measure(name, ranks, preset, micro, accumulation)



def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=str(ROOT / "build/lockstep"))
    parser.add_argument("--out", default="scaling")
    parser.add_argument("--gpus", default="", help="world sizes, such as 1,2,4")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rows", default="")
    parser.add_argument("--device", default="")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--no-checks", action="store_true")
    parser.add_argument("--share-gpu", action="store_true")
    parser.add_argument("--report", action="store_true")
    arguments, extra = parser.parse_known_args()
    arguments.extra = [key for key in extra if key.startswith("--") and "." in key]
    if len(arguments.extra) != len(extra):
        parser.error(f"unknown argument {next(e for e in extra if e not in arguments.extra)}")
    bench = Bench(arguments)
    if not arguments.report:
        bench.all()
    scaling_report.write(bench.results, bench.out)


if __name__ == "__main__":
    main()

# Shared by the end-to-end tests: makes a small text and a tiny model, starts the finished program
# alone or under mpirun, signals and kills its ranks, and reads what a run left behind. A script is
# started as SCRIPT [--seed N] [-k PATTERN] PROGRAM MPIRUN...; a seed reproduces its random moments.
import argparse
import datetime
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

PATIENCE_SECONDS = 240.0  # for one process on a machine that does other things as well
POLL_SECONDS = 0.002

# What a row says about the training itself; the rest are times, rates and bytes.
EXACT = ("step", "updates", "tokens", "loss", "lr", "grad_norm", "loss_scale", "skipped")

CONFIG = """
[model]
architecture = "gpt2"
layers = 2
heads = 2
hidden = 64
seq_len = 32
[data]
train = ["data"]
val = ["data"]
[train]
steps = 200
micro_batch_size = 1
global_batch_size = 12
[optimizer]
lr = 1e-3
warmup_steps = 50
[run]
threads = 1
[log]
interval = 1
"""


def make_text(size, seed=7):
    """Words of a made-up language: text that a tiny model learns quickly, the same every time."""
    source = random.Random(seed)
    letters = "etaoinshrdlucmfwyp"
    words = ["".join(source.choices(letters, k=source.randint(2, 7))) for _ in range(120)]
    text = ""
    while len(text) < size:
        text += source.choice(words) + source.choice(("", "", "", "", ",", ".\n")).ljust(1)
    return text[:size]


def clean_environment(extra):
    """Without what a surrounding launcher left."""
    prefixes = ("OMPI_", "PMIX_", "PMI_", "PRTE_", "SLURM_", "OMP_", "GOMP_")
    # What the machine needs to start mpirun at all, such as how to do without ssh.
    settings = ("OMPI_MCA_plm", "OMPI_ALLOW_RUN_AS_ROOT")
    kept = {k: v for k, v in os.environ.items()
            if not k.startswith(prefixes) or k.startswith(settings)}
    return kept | {"LC_ALL": "C"} | extra


def flag_list(options):
    """{"train.steps": 5} -> ["--train.steps=5"]"""
    texts = {True: "true", False: "false"}
    return [f"--{key}={texts.get(value, value) if isinstance(value, bool) else value}"
            for key, value in options.items()]


def read_jsonl(path):
    try:
        text = pathlib.Path(path).read_text()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.split("\n")[:-1]]


def stat_fields(pid):
    """Fields of /proc/PID/stat from the state on: state, parent, group, session, ..."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def withstands(pid, number):
    """Whether the process has a handler for the signal or holds it back; not so while it loads."""
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    masks = re.findall(r"^Sig(?:Blk|Cgt):\s*(\w+)$", status, re.MULTILINE)
    return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)


def kill_quietly(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


class Result:
    """A process that has ended: its exit code and all it printed."""

    def __init__(self, command, code, out, err):
        self.command, self.code, self.out, self.err = command, code, out, err

    def errors(self):
        """The program's own error lines, without mpirun's remarks."""
        return [line for line in self.err.split("\n")
                if line.startswith("lockstep: ") and "error: " in line]

    def __str__(self):
        shown = [" ".join(self.command), f"exit {self.code}"]
        return "\n".join(shown + [self.out[-1500:], self.err[-3000:]])


class Job:
    """A started process with its ranks, in a session of its own so that all of them are known."""

    def __init__(self, command, folder, env):
        self.command = [str(word) for word in command]
        self.started = datetime.datetime.now(datetime.timezone.utc).isoformat()[:23]
        self.output = [tempfile.TemporaryFile("w+", errors="replace") for _ in range(2)]
        self.process = subprocess.Popen(
            self.command, cwd=folder, env=clean_environment(env), stdin=subprocess.DEVNULL,
            stdout=self.output[0], stderr=self.output[1], start_new_session=True,
            preexec_fn=lambda: os.setpriority(os.PRIO_PROCESS, 0, 0))
        self.pid = self.process.pid

    def members(self):
        """Living processes of the session."""
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        stats = ((pid, stat_fields(pid)) for pid in pids)
        return [pid for pid, stat in stats
                if len(stat) > 3 and int(stat[3]) == self.pid and stat[0] not in "ZX"]

    def ranks(self):
        """{rank: pid}"""
        found = {}
        for pid in self.members():
            try:
                environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            except OSError:
                continue
            for entry in environment:
                name, _, value = entry.partition(b"=")
                if name == b"OMPI_COMM_WORLD_RANK":
                    found[int(value)] = pid
        return found or {0: self.pid}

    def running(self):
        return self.process.poll() is None

    def send(self, *signals, rank=None, to=None):
        """To one rank, to the process `to`, or to the one that was started; what has ended gets
        nothing."""
        pid = to or (self.pid if rank is None else self.ranks().get(rank))
        for number in signals:
            if self.running() and pid is not None:
                kill_quietly(pid, number)

    def wait(self, patience=PATIENCE_SECONDS):
        """Until the process and all of its ranks have ended."""
        deadline = time.monotonic() + patience
        while self.running() or self.members():
            if time.monotonic() > deadline:
                raise AssertionError(f"still running after {patience} s:\n{self.result()}")
            time.sleep(POLL_SECONDS)
        return self.result()

    def result(self):
        texts = []
        for file in self.output:
            file.seek(0)
            texts.append(file.read())
        return Result(self.command, self.process.poll(), *texts)

    def end(self):
        for pid in self.members():
            kill_quietly(pid, signal.SIGKILL)
        self.process.wait()
        for file in self.output:
            file.close()


class Case(unittest.TestCase):
    """A test class with a working folder that holds tiny.toml and prepared data."""

    program = ""
    mpirun = []
    random = random.Random()

    @classmethod
    def setUpClass(cls):
        cls.root = pathlib.Path(tempfile.mkdtemp(prefix="lockstep-e2e-"))
        cls.addClassCleanup(shutil.rmtree, cls.root, ignore_errors=True)
        (cls.root / "text.txt").write_text(make_text(40000))
        (cls.root / "tiny.toml").write_text(CONFIG)
        job = Job([cls.program, "prepare", "--out=data", "text.txt"], cls.root, {})
        prepared = job.wait()
        job.end()
        assert prepared.code == 0, str(prepared)

    def setUp(self):
        """Each test works in a folder of its own, beside the same data."""
        self.jobs = []
        self.folder = self.root / self._testMethodName
        self.folder.mkdir()
        for name in ("data", "text.txt", "tiny.toml"):
            (self.folder / name).symlink_to(self.root / name)

    def tearDown(self):
        for job in self.jobs:
            job.end()

    def start(self, *arguments, ranks=0, env=None):
        """Starts the program: alone (ranks=0) or under mpirun."""
        launcher = [*self.mpirun, "-n", ranks] if ranks else []
        job = Job([*launcher, self.program, *arguments], self.folder, env or {})
        self.jobs.append(job)
        return job

    def run_program(self, *arguments, ranks=0, env=None):
        return self.start(*arguments, ranks=ranks, env=env).wait()

    def paste(self, line):
        """Runs a command line that the program proposed, as it stands, in a shell."""
        path = f"{os.path.dirname(self.program)}:{os.environ['PATH']}"
        job = Job(["bash", "-c", line], self.folder, {"PATH": path})
        self.jobs.append(job)
        return job.wait()

    def start_training(self, run, options=None, ranks=0, env=None, config="tiny.toml"):
        options = {"run.dir": run} | (options or {})
        return self.start("train", config, *flag_list(options), ranks=ranks, env=env)

    def train(self, run, options=None, ranks=0, code=0, env=None, config="tiny.toml"):
        result = self.start_training(run, options, ranks, env, config).wait()
        self.assertEqual(result.code, code, str(result))
        return result

    def rows(self, run):
        """The training rows; each step exactly once, from 1 on."""
        rows = [row for row in read_jsonl(self.folder / run / "metrics.jsonl") if "loss" in row]
        self.assertEqual([row["step"] for row in rows], list(range(1, len(rows) + 1)), run)
        return rows

    def exact_rows(self, run):
        return [{key: row[key] for key in EXACT} for row in self.rows(run)]

    def losses(self, run):
        return [row["loss"] for row in self.rows(run)]

    def events(self, run, kind):
        rows = read_jsonl(self.folder / run / "events.jsonl")
        return [row for row in rows if row["event"] == kind]

    def inspect(self, path, *flags):
        result = self.run_program("inspect", path, "--json", *flags)
        self.assertEqual(result.code, 0, str(result))
        return json.loads(result.out)

    def digest(self, path):
        return self.inspect(path, "--verify=full")["state_digest"]

    def checkpoints(self, run):
        """Newest first."""
        folder = self.folder / run / "checkpoints"
        return sorted((path for path in folder.glob("step_*")), reverse=True)

    def wait_for(self, job, condition, what):
        """False if the job ended before the condition held."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            if not job.running():
                return False
            self.assertLess(time.monotonic(), deadline, f"waited for {what}")
            time.sleep(POLL_SECONDS)
        return True

    def wait_for_step(self, job, run, step):
        """Until this job has written that step's row; an earlier job's rows do not count."""
        path = self.folder / run / "metrics.jsonl"
        row = re.compile(rf'"step":{step},"updates".*"time":"(.*)"')

        def written():
            found = row.search(path.read_text()) if path.exists() else None
            return found is not None and found[1] >= job.started

        return self.wait_for(job, written, f"step {step} of {run}")

    def assert_close(self, found, wanted, relative, what):
        """Element by element."""
        self.assertEqual(len(found), len(wanted), what)
        for at, (a, b) in enumerate(zip(found, wanted)):
            self.assertLessEqual(abs(a - b), relative * abs(b), f"{what}, element {at}: {a} {b}")


def go_first():
    """Who wants to disturb a run of milliseconds must not wait for a core behind its ranks."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    except PermissionError:
        pass


def main():
    """Runs the test classes of the calling script."""
    go_first()
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("-k", action="append", default=None)
    parser.add_argument("program")
    parser.add_argument("mpirun", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(10**6)
    print(f"--seed {seed}", flush=True)
    Case.program = os.path.abspath(arguments.program)
    Case.mpirun = arguments.mpirun
    Case.random = random.Random(seed)
    patterns = [f"-k{pattern}" for pattern in arguments.k or []]
    unittest.main(module="__main__", argv=[sys.argv[0], "-v", *patterns])

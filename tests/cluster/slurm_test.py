#!/usr/bin/env python3
# scripts/launch/slurm.sbatch on a real Slurm with two nodes: what a cluster does to jobs, and that
# the run survives it. Usage: slurm_bed.sh run DIR slurm_test.py [--seed N] [-k PATTERN] PROGRAM
# MPIRUN... as root; LOCKSTEP_LONG=1 adds what takes minutes. Jobs are nobody's (the user).
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))
from harness import Case, main, read_jsonl  # noqa: E402

PATIENCE_SECONDS = 90.0
AS_USER = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
ENDED = ("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT")
ENDLESS = {"train.steps": 1000000, "checkpoint.interval": 0}


def shell(*words, env=None):
    done = subprocess.run([str(word) for word in words], env=os.environ | (env or {}),
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def bed(*words):
    # Not captured: a node that it starts would hold the pipe open.
    subprocess.run([str(HERE / "slurm_bed.sh"), *words], check=True, stdout=subprocess.DEVNULL)


def until(condition, what, details=lambda: ""):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited for {what}\n{details()}")
        time.sleep(0.1)


class Batch:
    """A job of the script, on its own run directory."""

    def __init__(self, case, run, number):
        self.case, self.run, self.number = case, run, number

    def field(self, name):
        text = shell("scontrol", "show", "job", "--oneliner", self.number)
        return re.search(rf" {name}=(\S+)", text)[1]

    def log(self):
        text = "".join(path.read_text(errors="replace")
                       for path in sorted(self.case.folder.glob(f"job-{self.number}.log")))
        return "\n".join(line for line in text.split("\n") if not line.startswith("step "))

    def wait(self, condition, what):
        until(condition, f"{what} of job {self.number} ({self.run})", self.log)

    def wait_for_rows(self, more=5):
        """Until the run has written so many more rows of training."""
        path = self.case.folder / self.run / "metrics.jsonl"
        begin = len(read_jsonl(path))
        self.wait(lambda: len(read_jsonl(path)) >= begin + more, "training")

    def wait_for_restart(self, count=1):
        self.wait(lambda: self.field("Restarts") == str(count), f"restart {count}")

    def wait_until_resumed(self):
        """Until this job goes on from a checkpoint."""
        self.wait_for_restart()
        self.wait(lambda: self.case.events(self.run, "resume"), "resuming")
        self.wait_for_rows()

    def wait_for_end(self):
        self.wait(lambda: self.field("JobState") in ENDED, "end")
        return self.field("JobState")

    def end(self):
        shell("scancel", self.number)
        self.wait_for_end()


class Slurm(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # The user must be able to read the program and to write the runs, wherever we were built.
        shutil.copy(cls.program, cls.root / "lockstep")
        cls.program = str(cls.root / "lockstep")
        # A GPU is the one thing in the script that this cluster does not have.
        script = (HERE.parents[1] / "scripts/launch/slurm.sbatch").read_text()
        (cls.root / "slurm.sbatch").write_text(
            re.sub(r"^#SBATCH --gpus-per-node.*\n", "", script, flags=re.MULTILINE))
        shell("chown", "-R", "nobody:nogroup", cls.root)

    def setUp(self):
        super().setUp()
        shell("chown", "nobody:nogroup", self.folder)

    def tearDown(self):
        """The next test finds both nodes idle."""
        super().tearDown()
        for number in shell("squeue", "--noheader", "--format=%i").split():
            shell("scancel", number)
        until(lambda: shell("squeue", "--noheader") == "", "an empty queue")

    def submit(self, run, *options, sbatch=(), config="tiny.toml", nodes=2, env=None):
        """Submits the job script; one rank with one core per node."""
        number = shell(
            *AS_USER, "sbatch", "--parsable", f"--chdir={self.folder}", f"--nodes={nodes}",
            "--ntasks-per-node=1", "--cpus-per-task=1", "--time=10", "--output=job-%j.log", *sbatch,
            self.root / "slurm.sbatch", config, *options,
            env={"LOCKSTEP": self.program, "HOME": str(self.root)} | (env or {}))
        return Batch(self, run, number)

    def train_on_slurm(self, run, *options, **more):
        endless = [f"--{key}={value}" for key, value in ENDLESS.items()]
        return self.submit(run, f"--run.dir={run}", *endless, *options, **more)

    def program_pids(self):
        """On both nodes."""
        return [int(folder.name) for folder in pathlib.Path("/proc").glob("[0-9]*")
                if os.path.realpath(folder / "exe") == self.program]

    def pid_of_rank(self, rank):
        wanted = f"SLURM_PROCID={rank}".encode()
        return next(pid for pid in self.program_pids()
                    if wanted in pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))

    def preempt(self, job):
        """A job of the other partition takes both nodes for a moment."""
        number = shell("sbatch", "--parsable", "--partition=high", "--nodes=2", "--exclusive",
                       "--output=/dev/null", "--wrap=sleep 2")
        Batch(self, job.run, number).wait_for_end()

    def test_scancel_saves_and_ends(self):
        job = self.train_on_slurm("run")
        job.wait_for_rows()
        shell(*AS_USER, "scancel", job.number)
        self.assertEqual(job.wait_for_end(), "CANCELLED")
        self.assertTrue(self.checkpoints("run"), job.log())
        self.assertIn("end: the job was cancelled", job.log())
        time.sleep(2)
        self.assertEqual((job.field("JobState"), job.field("Restarts")), ("CANCELLED", "0"))

    def test_time_limit_saves_and_comes_back(self):
        job = self.train_on_slurm("run", sbatch=["--signal=B:USR1@60"])
        job.wait_for_rows()
        shell(*AS_USER, "scontrol", "update", f"JobId={job.number}", "TimeLimit=1")
        job.wait_until_resumed()
        self.assertIn("run again: stopped, all is saved", job.log())
        self.assertEqual(self.events("run", "stop")[0]["signal"], "SIGUSR1")
        job.end()

    @unittest.skipUnless(os.environ.get("LOCKSTEP_LONG"), "takes minutes")
    def test_time_limit_without_notice_saves_and_comes_back(self):
        # Slurm may give notice a minute early, which is all the time there is: of nothing, then.
        job = self.train_on_slurm("run", sbatch=["--signal=B:CONT@1", "--time=1"])
        job.wait_for_rows()
        time.sleep(40)
        job.wait(lambda: self.events("run", "stop"), "the limit")
        job.wait_until_resumed()
        self.assertEqual(self.events("run", "stop")[0]["signal"], "SIGTERM")
        job.end()

    def test_preemption_on_a_default_slurm_saves_and_comes_back(self):
        job = self.train_on_slurm("run")
        job.wait_for_rows()
        self.preempt(job)
        job.wait_until_resumed()
        self.assertEqual(self.events("run", "stop")[0]["signal"], "SIGTERM")
        job.end()

    def test_preemption_with_the_users_signal_saves_and_comes_back(self):
        bed("settings", "SlurmctldParameters=preempt_send_user_signal")
        self.addCleanup(bed, "settings")
        job = self.train_on_slurm("run")
        job.wait_for_rows()
        self.preempt(job)
        job.wait_until_resumed()
        self.assertEqual(self.events("run", "stop")[0]["signal"], "SIGUSR1")
        job.end()

    def wrapper(self, name, text):
        """A program in place of ours, which does this when it is to train."""
        path = self.folder / name
        path.write_text(f'#!/bin/bash\nprogram={self.program}\n'
                        f'if [ "$1" = train ]; then {text}; fi\nexec "$program" "$@"\n')
        path.chmod(0o755)
        return {"LOCKSTEP": str(path), "LOCKSTEP_RESTARTS": "1"}

    def config(self, name, run):
        (self.folder / name).write_text(
            (self.root / "tiny.toml").read_text().replace("[run]", f"[run]\n{run}"))
        return name

    def assert_gives_up(self, job, code):
        """Once more, and no further."""
        job.wait_for_restart()
        self.assertEqual(job.wait_for_end(), "FAILED", job.log())
        self.assertEqual(job.field("Restarts"), "1")
        self.assertIn("this job has saved no checkpoint; restart 1 of 1", job.log())
        self.assertIn(f"end: exit code {code} after 1 restarts without a new checkpoint", job.log())

    def test_a_crashing_job_gives_up(self):
        """Wherever its run directory is named; the program dies before it can write anything."""
        env = self.wrapper("crashing", "kill -KILL $$")
        self.train("mine", {"train.steps": 1, "train.micro_batch_size": 12})
        shell("chown", "-R", "nobody:nogroup", self.folder / "mine")
        jobs = [self.submit(run, *options, config=config, env=env, nodes=1)
                for run, config, options in (
                    ("named", self.config("dir.toml", 'dir = "named"'), ()),
                    ("runs/pretty", self.config("name.toml", 'name = "pretty"'), ()),
                    ("mine", "mine/config.toml", ("--train.steps=9",)),
                    ("spaced", "tiny.toml", ("--run.dir", "spaced")))]
        for job in jobs:
            self.assert_gives_up(job, 137)
            self.assertIn(f"; run {job.run}\n", job.log())

    def test_a_full_disk_is_not_tried_for_ever(self):
        """The run directory, where nothing can be counted, is on it."""
        disk = pathlib.Path(os.environ["BED"]) / "small"
        with open(disk / "filler", "wb", buffering=0) as file, self.assertRaises(OSError):
            while True:
                file.write(b"\0" * 4096)
        self.addCleanup((disk / "filler").unlink)
        job = self.train_on_slurm(str(disk / "run"), nodes=1, env={"LOCKSTEP_RESTARTS": "1"})
        self.assert_gives_up(job, 74)

    def test_a_crashing_job_with_new_checkpoints_goes_on(self):
        """A directory of the name that its configuration suggests belongs to another run."""
        shell(*AS_USER, "mkdir", "-p", self.folder / "runs" / "going" / "checkpoints")
        env = self.wrapper("crashing", 'before=$(ls run/checkpoints 2> /dev/null | tail -n 1); '
                           '"$program" "$@" & until now=$(ls run/checkpoints 2> /dev/null | '
                           'tail -n 1); [ "$now" != "$before" ]; do sleep 0.1; done; '
                           'kill -KILL $! $$')
        job = self.submit("run", "--train.steps=1000000", "--checkpoint.interval=20", nodes=1,
                          config=self.config("going.toml", 'dir = "run"'), env=env)
        job.wait_for_restart(2)
        job.end()

    def test_a_wrong_program_path_is_not_tried_again(self):
        job = self.submit("run", env={"LOCKSTEP": "/nowhere/lockstep"})
        self.assertEqual(job.wait_for_end(), "FAILED", job.log())
        self.assertEqual(job.field("Restarts"), "0")

    def test_a_killed_rank_ends_the_others_and_the_job_comes_back(self):
        job = self.train_on_slurm("run")
        job.wait_for_rows()
        begin = time.monotonic()
        os.kill(self.pid_of_rank(1), 9)
        job.wait_for_restart()
        self.assertLess(time.monotonic() - begin, 30.0)
        self.assertIn("n2: task 1: Killed", job.log())
        job.end()

    def assert_named(self, job, words):
        """The run's record blames rank 1 on n2; Slurm starts the job again."""
        path = self.folder / "run" / "failure.json"
        job.wait(path.exists, "a record")
        failure = json.loads(path.read_text())
        self.assertEqual([failure[key] for key in ("exit_code", "rank", "host")], [76, 1, "n2"])
        self.assertRegex(failure["message"], words)

    def test_a_rank_of_another_node_is_watched(self):
        """Where srun is not asked to end the others."""
        job = self.train_on_slurm("run", env={
            "LOCKSTEP_LAUNCHER": "srun --mpi=pmix --kill-on-bad-exit=0"})
        job.wait_for_rows()
        begin = time.monotonic()
        os.kill(self.pid_of_rank(1), 9)
        self.assert_named(job, r"^rank 1 \(pid \d+ on n2\) is gone")
        self.assertLess(time.monotonic() - begin, 20.0)
        job.end()

    def test_a_silent_host_is_named(self):
        """Its packets vanish; nobody says that it is gone."""
        self.silence(self.train_on_slurm("run", "--comm.timeout_seconds=3"),
                     r"^no progress for 3 s .*rank 1 .* on n2\) does not answer", within=12.0)

    def silence(self, job, named, within):
        job.wait_for_rows()
        self.addCleanup(bed, "hear", "n2")
        begin = time.monotonic()
        bed("silence", "n2")
        self.assert_named(job, named)
        self.assertLess(time.monotonic() - begin, within)
        bed("hear", "n2")
        job.wait_for_restart()
        job.end()

    @unittest.skipUnless(os.environ.get("LOCKSTEP_LONG"), "takes minutes")
    def test_a_silent_host_is_named_by_its_connection(self):
        """Before any collective is late, where the batch system has not noticed either."""
        bed("settings", "SlurmdTimeout=120")
        self.addCleanup(bed, "settings")
        self.silence(self.train_on_slurm("run"), r"rank 1 \(pid \d+ on n2\)", within=25.0)

    def test_a_power_cut_restarts_the_job(self):
        job = self.train_on_slurm("run", "--checkpoint.interval=20")
        job.wait(lambda: self.checkpoints("run"), "a checkpoint")
        bed("cut", "n2")
        job.wait_for_restart()
        bed("node", "n2")
        job.wait_until_resumed()
        job.end()

    def test_ranks_take_the_cores_that_the_job_has(self):
        """Two jobs share a node of two cores, under srun and under mpirun."""
        for name, env in {"srun": {}, "mpirun": {"LOCKSTEP_LAUNCHER": "mpirun -n 1"}}.items():
            jobs = [self.train_on_slurm(f"{name}{i}", "--run.threads=0", nodes=1, env=env,
                                        sbatch=["--nodelist=n1"]) for i in range(2)]
            for job in jobs:
                job.wait_for_rows()
                job.wait(lambda job=job: re.search(r"rank 0  n1 .* thread", job.log()), "its rank")
                self.assertRegex(job.log(), r"rank 0  n1 .* 1 thread\b")
            masks = [os.sched_getaffinity(pid) for pid in self.program_pids()]
            for job in jobs:
                job.end()
            self.assertEqual([len(mask) for mask in masks], [1, 1], name)
            self.assertNotEqual(*masks, name)

    def test_every_task_of_an_array_has_its_own_run(self):
        job = self.submit("runs", "--run.seed=%a", "--run.dir=runs/seed_%a", "--train.steps=20",
                          sbatch=["--array=1-2"], nodes=1)
        runs = [f"runs/seed_{task}" for task in (1, 2)]
        for run in runs:
            job.wait(lambda run=run: self.events(run, "stop"), f"the end of {run}")
        seeds = [(self.folder / run / "config.toml").read_text() for run in runs]
        self.assertRegex(seeds[0], r"\nseed = 1\b")
        self.assertRegex(seeds[1], r"\nseed = 2\b")

    def test_doctor_reads_the_site(self):
        def advice():
            result = self.run_program("doctor", "--json",
                                      env={"SLURM_CONF": os.environ["SLURM_CONF"]})
            self.assertEqual(result.code, 0, str(result))
            return "\n".join(json.loads(result.out)["slurm"]["advice"])

        self.assertIn("SlurmctldParameters=preempt_send_user_signal", advice())
        bed("settings", "SlurmctldParameters=preempt_send_user_signal")
        self.addCleanup(bed, "settings")
        self.assertEqual(advice(), "")


if __name__ == "__main__":
    main()

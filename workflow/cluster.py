"""A run whose steps are jobs of a cluster: they share the file system with it, and nothing else."""

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

from lib import paths
from workflow import progress

PLUGIN, COMMANDS = "snakemake_executor_plugin_slurm", ("sbatch", "squeue", "scancel")
ASK_AGAIN = 30  # seconds between two looks at the queue
OWN = ("partition", "account")  # the plugin would overrule Slurm's own variables


def check() -> None:
    """Raises: ValueError with what to do, where nothing can be submitted."""
    if not find_spec(PLUGIN):
        raise ValueError(
            f"{PLUGIN.replace('_', '-')} is not installed in this environment: "
            "pip install -e '.[cluster]'"
        )
    if lacking := [command for command in COMMANDS if not shutil.which(command)]:
        raise ValueError(
            f"There is no {lacking[0]} here: run it on a host that submits to Slurm, such as a "
            "login node of the cluster, or leave --cluster out."
        )


def arguments(name: str, jobs: int) -> list[str]:
    """What Snakemake is told instead of a number of cores."""
    told = ["--workflow-profile", str(paths.ROOT / "workflow/profiles" / name), "--jobs", str(jobs)]
    given = {key: os.environ.get(f"SBATCH_{key.upper()}") for key in OWN}
    own = [f"slurm_{key}={value!r}" for key, value in given.items() if value]
    return [*told, *(["--default-resources", *own] if own else [])]


def follow_jobs(stamps: dict[str, Path], jobs: int) -> None:
    """Print what happens to the jobs of a run; cancel them as soon as the runner is gone.

    The runner holds the other end of the standard input, and writes nothing to it.
    """
    from snakemake.logging import logger

    queue = Queue(stamps, jobs)
    logger.addHandler(queue)

    def wait():
        os.read(sys.stdin.fileno(), 1)
        queue.cancel()
        time.sleep(1)  # what was being submitted is in the queue now
        queue.cancel()
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


class Queue(progress.Steps):
    """Follows the jobs of a run, which Slurm may let wait; so no time left is given."""

    run = ""  # the name that all jobs of the run have
    asked, said = 0.0, ""

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        text = str(getattr(record, "rule_msg", None) or record.msg)
        if found := re.match(r"SLURM run ID: (\S+)", text):
            self.run = found[1]
        elif found := re.match(r"Trying to restart job (\d+)", text):
            self._print(f"{self._count()} {self.steps[int(found[1])]} is tried once more")
        elif found := re.search(r"sbatch failed\. The error message was '([^']*)", text):
            self._print(" ".join(found[1].split()))

    def cancel(self) -> None:
        if self.run:
            subprocess.run(["scancel", "--name", self.run], stderr=subprocess.DEVNULL)

    def left(self) -> str:
        return ""

    def present(self) -> str:
        """How many jobs run and how many wait, and why, as Slurm says."""
        if not self.run:
            return super().present()
        now = time.monotonic()
        if not self.asked or now - self.asked > ASK_AGAIN:
            command = ["squeue", "--name", self.run, "--noheader", "--format=%T %r"]
            answer = subprocess.run(command, capture_output=True, text=True)
            states = [line.split(maxsplit=1) for line in answer.stdout.splitlines()]
            why = sorted({reason for state, reason in states if state == "PENDING"})
            waiting = sum(state == "PENDING" for state, _ in states)
            self.said = f"{len(states) - waiting} running, {waiting} waiting in the queue"
            self.said += f" ({', '.join(why)})" if why else ""
            self.asked = now
        return self.said

"""What the reader of a terminal or of a log sees of a run: a line per step, and the time left."""

import logging
import os
import shutil
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from workflow import freshness, notebooks

EVERY = 60  # seconds between two lines on what is running, where nobody watches a terminal


def follow_steps(stamps: dict[str, Path], jobs: int) -> None:
    """Print what happens to the steps of a run, as Snakemake logs it."""
    from snakemake.logging import logger

    logger.addHandler(Steps(stamps, jobs))


def end_with_runner() -> None:
    """End this process and all of its group as soon as the runner is gone, however it ended.

    The runner holds the other end of the standard input, and writes nothing to it.
    """

    def wait():
        os.read(sys.stdin.fileno(), 1)
        os.killpg(os.getpgrp(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


class Steps(logging.Handler):
    """Follows the steps of a run through Snakemake's log records."""

    def __init__(self, stamps: dict[str, Path], jobs: int):
        super().__init__()
        self.waiting = {item: freshness.seconds(stamp) for item, stamp in stamps.items()}
        self.stamps, self.jobs = stamps, jobs
        self.steps: dict[int, str] = {}  # by job, of all that began
        self.ended: set[str] = set()  # a step that is tried again is not among them
        self.running: dict[int, tuple[str, float]] = {}  # job -> step, when it began
        self.took: list[float] = []
        self.live = sys.stdout.isatty()
        self.shown = time.monotonic()
        threading.Thread(target=self._tick, daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        event = str(getattr(record, "event", ""))
        if event == "job_info" and record.rule_name != "all":
            step = record.rule_name
            if record.wildcards:
                step = record.wildcards.get("item") or f"training {record.wildcards['name']}"
            self.steps[record.jobid] = step
            self.ended.discard(step)
            self.running[record.jobid] = step, time.monotonic()
        elif event == "job_finished" and record.job_id in self.running:
            self._end(record.job_id, "done")
        elif event == "job_error" and record.jobid in self.running:
            step = self.running[record.jobid][0]
            self._end(record.jobid, f"FAILED: {why(self.stamps.get(step))}")

    def _end(self, job: int, outcome: str) -> None:
        step, began = self.running.pop(job)
        self.waiting.pop(step, None)
        seconds = time.monotonic() - began
        self.took.append(seconds)
        self.ended.add(step)
        self._print(f"{self._count()} {step:44} {seconds:5.0f} s  {outcome}{self.left()}")

    def _count(self) -> str:
        total = len({*self.stamps, *self.steps.values()})
        return f"[{len(self.ended):{len(str(total))}}/{total}]"

    def left(self) -> str:
        """Time left in words, from what each step took last time, or the others in this run."""
        usual = sum(self.took) / len(self.took) if self.took else None
        begun = dict(self.running.values())
        seconds = 0.0
        for step, last in self.waiting.items():
            expected = usual if last is None else last
            if expected is None:
                return ""
            so_far = time.monotonic() - begun[step] if step in begun else 0
            seconds += max(expected - so_far, 1)
        if not self.waiting:
            return ""
        seconds /= min(self.jobs, len(self.waiting))
        text = f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
        return f"  (about {text} left)"

    def _tick(self) -> None:
        while True:
            time.sleep(0.5)
            now = time.monotonic()
            if not self.running or (not self.live and now - self.shown < EVERY):
                continue
            text = f"{self._count()} {self.present()}{self.left()}"
            if self.live:
                width = shutil.get_terminal_size().columns - 1
                print(f"\r\033[K{text[:width]}", end="", flush=True)
            else:
                self._print(text)

    def _far(self, step: str) -> str:
        """How far the encoding or the search is that a step is at, e.g. " (image 320 of 1,000)"."""
        with suppress(OSError, AttributeError):
            said = notebooks.now_file(self.stamps.get(step)).read_text(encoding="utf-8")
            return f" ({said})" if said else ""
        return ""

    def present(self) -> str:
        """What is running, and for how long."""
        now, running = time.monotonic(), list(self.running.values())
        each = (f"{step} {now - began:.0f} s{self._far(step)}" for step, began in running)
        return f"running: {', '.join(each)}"

    def _print(self, text: str) -> None:
        self.shown = time.monotonic()
        print(f"\r\033[K{text}" if self.live else text, flush=True)


def why(stamp: Path | None) -> str:
    """Why a step failed, in one sentence."""
    try:
        return notebooks.failure_file(stamp).read_text(encoding="utf-8").strip()
    except (OSError, AttributeError):
        return "it was killed, or ended without a word (snakemake.log has more)"


def summary(stamps: dict[str, Path], run: list[str], verdicts: dict[str, str]) -> str:
    """One table: item, status, seconds, and how many claims got which verdict."""
    width = max(map(len, ["item", *stamps]))
    lines = [f"{'item':{width}}  {'status':10}  {'seconds':>7}  claims"]
    for item, stamp in stamps.items():
        done, reason = stamp.exists(), notebooks.failure_file(stamp)
        status = "done" if done else "failed" if reason.exists() else "not run"
        status = "up to date" if item not in run else status
        took = freshness.seconds(stamp) if done and item in run else None
        seconds = "" if took is None else f"{took:.0f}"
        claims = verdicts.get(item, "") if done else ""
        lines.append(f"{item:{width}}  {status:10}  {seconds:>7}  {claims}".rstrip())
    return "\n".join(lines)


def failures(profile_name: str, stamps: dict[str, Path]) -> str:
    """Why each step failed, and where its executed copy is."""
    lines = []
    for item, stamp in stamps.items():
        if notebooks.failure_file(stamp).exists():
            lines.append(f"{item}: {why(stamp)}")
            if (copy := notebooks.executed(profile_name, stamp)).exists():
                lines.append(f"    {copy}")
    return "\n".join(lines)

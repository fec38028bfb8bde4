"""What the reader of a terminal sees of a run: a line per step, time left, one summary table."""

import json
import shutil
import sys
import time
from collections import Counter
from pathlib import Path

from workflow import freshness


class Progress:
    """Follows a run through the events that its steps append to a file."""

    def __init__(self, profile_name: str, steps: list[str], jobs: int, events: Path):
        self.profile, self.steps, self.jobs, self.events = profile_name, steps, jobs, events
        self.running: dict[str, float] = {}  # step -> when it started
        self.ended: dict[str, dict] = {}  # step -> its last event
        self._read = 0
        self._live = sys.stderr.isatty()
        self._shown = ""
        events.parent.mkdir(parents=True, exist_ok=True)
        events.write_text("", encoding="utf-8")

    def poll(self) -> None:
        """Take in new events and show them."""
        with self.events.open(encoding="utf-8") as file:
            file.seek(self._read)
            while (line := file.readline()).endswith("\n"):
                self._read = file.tell()
                self._take(json.loads(line))
        self._show()

    def _take(self, event: dict) -> None:
        step = event["step"]
        if event["event"] == "start":
            self.running[step] = time.monotonic()
            return
        self.running.pop(step, None)
        self.ended[step] = event
        outcome = f"FAILED: {event['error']}" if event["error"] else "done"
        left = self.left()
        self._print(
            f"{self._count()} {step:44} {event['seconds']:5.0f} s  {outcome}"
            + (f"  ({left})" if left and not event["error"] else "")
        )

    def _count(self) -> str:
        total = len(self.steps)
        return f"[{len(self.ended):{len(str(total))}}/{total}]"

    def left(self) -> str:
        """Time left in words, from what each step took last time, or the others in this run."""
        waiting = [step for step in self.steps if step not in self.ended]
        known = [event["seconds"] for step, event in self.ended.items() if freshness.is_item(step)]
        usual = sum(known) / len(known) if known else None
        seconds = 0.0
        for step in waiting:
            last = freshness.record(self.profile, step).get("seconds", usual)
            if last is None:
                return ""
            so_far = time.monotonic() - self.running[step] if step in self.running else 0
            seconds += max(last - so_far, 1)
        if not waiting:
            return ""
        seconds /= min(self.jobs, len(waiting))
        return (
            f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {seconds:.0f} s left"
        )

    def _show(self) -> None:
        """The live line of a terminal: how many are done, what is running, time left."""
        if not self._live or not self.running:
            return
        now = ", ".join(
            f"{step} {time.monotonic() - begun:.0f} s" for step, begun in self.running.items()
        )
        text = " · ".join(filter(None, [f"{self._count()} {now}", self.left()]))
        self._shown = text[: shutil.get_terminal_size().columns - 1]
        print(f"\r\033[K{self._shown}", end="", file=sys.stderr, flush=True)

    def _print(self, text: str) -> None:
        self.clear()
        print(text, flush=True)

    def clear(self) -> None:
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
            self._shown = ""

    def failed(self) -> list[str]:
        """Steps that failed, and steps that could not run because of them."""
        return [step for step in self.steps if self.ended.get(step, {"error": True})["error"]]

    def summary(self, items: list[str]) -> str:
        """One table: item, status, seconds, and how many claims got which verdict."""
        width = max(map(len, ["item", *items]))
        lines = [f"{'item':{width}}  {'status':10}  {'seconds':>7}  claims"]
        for item in items:
            event = self.ended.get(item)
            status = "not run" if item in self.steps else "up to date"
            if event:
                status = "failed" if event["error"] else "done"
            seconds = f"{event['seconds']:.0f}" if event else ""
            claims = verdicts(self.profile, item) if status in ("done", "up to date") else ""
            lines.append(f"{item:{width}}  {status:10}  {seconds:>7}  {claims}".rstrip())
        return "\n".join(lines)

    def failures(self) -> str:
        """Why each step failed, and where its executed copy or its log is."""
        lines = []
        for step in filter(self.ended.get, self.failed()):
            file_of = freshness.executed_file if freshness.is_item(step) else freshness.log_file
            lines.append(f"{step}: {self.ended[step]['error']}")
            if file_of(self.profile, step).exists():
                lines.append(f"    {file_of(self.profile, step)}")
        return "\n".join(lines)


def verdicts(profile_name: str, item: str) -> str:
    """How many of an item's findings got which verdict, e.g. "2 reproduced, 1 inconclusive"."""
    file = freshness.figures(profile_name, item)[-1]
    try:
        findings = json.loads(file.read_text(encoding="utf-8"))["findings"]
    except (OSError, ValueError, KeyError):
        return ""
    counts = Counter(finding["verdict"] for finding in findings)
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())

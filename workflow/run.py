"""A run: see what is missing, let Snakemake run it, sum it up."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from lib import files, paths, profiles
from workflow import catalogue, cluster, freshness, notebooks, progress


def run(options: argparse.Namespace) -> int:
    """Run what is missing, and say what came of it."""
    which, chosen = profiles.load(options.profile), options.items
    where = {"jobs": options.jobs, "on": options.cluster}
    if options.cluster:
        cluster.check()
    with only_run():
        catalogue.warn_of_unlisted()
        for name in ("snakemake", "downloads"):
            _log(which, name).unlink(missing_ok=True)
        # Models first: their weights are part of the digest of what is made with them.
        trained = _train_missing(which, chosen, where)
        to_run = freshness.missing(which, chosen, options.force)
        if not to_run and freshness.report_stamp(which).exists():
            what = f"all {len(chosen)} items are" if len(chosen) > 1 else f"{chosen[0]} is"
            print(f"Nothing to do: {what} up to date in profile {which.name}.")
            return 0
        possible = [item for item in to_run if not freshness.untrained(which, [item])]
        ran = not possible or _snakemake(which, possible, **where) == 0
        done = trained and ran
        stamps = {item: freshness.stamp(which, item) for item in chosen}
        if to_run:
            print(f"\n{progress.summary(stamps, to_run, _verdicts(which, chosen))}")
        if not done:
            failed = progress.failures(which.name, stamps) or "The workflow failed."
            print(f"\n{failed}\nThe workflow's own log: {_log(which)}")
        # If one failed, the results of the others still belong in the report.
        return _report(which) or int(not done)


def _train_missing(which: profiles.Profile, items: list[str], where: dict) -> bool:
    """Train the models of this repository that are not there; returns whether all could be."""
    models = freshness.untrained(which, items)
    weights = [str(freshness.weights(model)) for model in models]
    return not models or _snakemake(which, [], targets=weights, **where) == 0


def _report(which: profiles.Profile) -> int:
    stamp = freshness.report_stamp(which)
    command = [sys.executable, "-m", "docs.report", "--profile", which.name]
    code = subprocess.call(command, cwd=paths.ROOT, env=surroundings())
    if code == 0:
        files.write_text(stamp, "")
    return code


def _verdicts(which: profiles.Profile, items: list[str]) -> dict[str, str]:
    """How many findings of each item got which verdict, e.g. "2 reproduced, 1 inconclusive".

    With the item's status in the profile, where it is not ready.
    """
    said = {}
    for item in items:
        with suppress(OSError, ValueError, KeyError):
            saved = json.loads(notebooks.figures(which.name, item)[-1].read_text(encoding="utf-8"))
            counts = Counter(finding["verdict"] for finding in saved["findings"])
            said[item] = ", ".join(f"{n} {verdict}" for verdict, n in counts.most_common())
            if (status := catalogue.load()[item].status(which)[0]) != "ready":
                said[item] = "; ".join(filter(None, [said[item], status]))
    return said


@contextmanager
def only_run():
    """Two runs with one cache would remove each other's stamps: the second is refused."""
    from filelock import FileLock, Timeout

    paths.CACHE.mkdir(parents=True, exist_ok=True)
    lock = FileLock(paths.CACHE / "run.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError("Another ./run_all.sh is at work here; wait until it has ended.") from None
    except (OSError, NotImplementedError):
        print("This file system has no locks: start no second run.", file=sys.stderr)
    try:
        yield
    finally:
        lock.release()


def _log(which: profiles.Profile, name: str = "snakemake") -> Path:
    return paths.CACHE / "logs" / which.name / f"{name}.log"


def _snakemake(
    which: profiles.Profile,
    items: list[str],
    jobs: int,
    targets: Sequence[str] = ("all",),
    on: str | None = None,
) -> int:
    """Run the workflow for these items; what happens is printed from inside of it."""
    command = [
        *(sys.executable, "-m", "snakemake", *targets, "--keep-going"),
        *(cluster.arguments(on, jobs) if on else ("--cores", str(jobs))),
        *("--snakefile", paths.ROOT / "workflow" / "Snakefile"),
        *("--directory", paths.CACHE / "snakemake", "--nolock", "--ignore-incomplete"),
        *("--rerun-triggers", "mtime", "--scheduler", "greedy"),
        *("--config", f"profile={which.name}", f"items={' '.join(items)}", "runner=1"),
    ]
    if on:
        command.append(f"cluster={on}")
    elif _on_gpu(which):  # sixteen notebooks at once would fill its memory
        command += ["gpu=1", "--resources", "gpu=1"]
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    _log(which).parent.mkdir(parents=True, exist_ok=True)
    with _log(which).open("a") as log:
        # A group of its own, so that all of it can be stopped, and nothing else. It ends by itself
        # when this end of its standard input is closed (`progress.end_with_runner`), and on a
        # cluster its jobs with it (`cluster.follow_jobs`).
        process = subprocess.Popen(
            command, env=surroundings(), stdin=subprocess.PIPE, stderr=log, start_new_session=True
        )
        try:
            return process.wait()
        except KeyboardInterrupt:
            _stop(process, on)
            raise


def _on_gpu(which: profiles.Profile) -> bool:
    """Whether the notebooks share a GPU: published models take one, small ones never do."""
    if which.evidence != "real":
        return False
    import torch

    return torch.cuda.is_available()


def _interrupt(*_):
    raise KeyboardInterrupt


def _stop(process: subprocess.Popen, on: str | None = None) -> None:
    """End a process group: with a request first, after ten seconds by force."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a second one would leave the group to itself
    with suppress(ProcessLookupError):
        if on:
            process.stdin.close()  # a signal would let it wait for its jobs
        else:
            os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            process.poll()
            os.killpg(process.pid, 0)
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def surroundings() -> dict[str, str]:
    """Environment variables with which this repository's packages are found from any folder."""
    search = [str(paths.ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, search))}

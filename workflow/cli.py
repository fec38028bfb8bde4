"""The command line behind `./run_all.sh`: choose, check what is out of date, run it, sum it up."""

import argparse
import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from lib import paths, profiles, suggestions
from workflow import catalogue, freshness
from workflow.progress import Progress

TESTS = {
    "all": ("not benchmark and not browser",),
    "unit": ("not benchmark and not browser and not notebooks",),
    "notebooks": ("notebooks",),
    "browser": ("browser",),
}
USAGE, INTERRUPTED = 2, 130


class Usage(ValueError):
    """The command line asks for something that is not there."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    try:
        options = parse(arguments)
        if options.check:
            return 0
        if options.list:
            return print_list(options.profile)
        if options.test:
            return run_tests(options.test)
        if options.retrain:
            return retrain(options.retrain)
        if options.assignments:
            return hand_out()
        if options.site:
            return build_site(options.profile)
        return run(options)
    except Usage as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return USAGE
    except ValueError as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. Run it again, and it goes on from here.", file=sys.stderr)
        return INTERRUPTED


# Options ------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            known = [option for action in self._actions for option in action.option_strings]
            message = suggestions.unknown("option", unknown.split()[0], known)
        raise Usage(message)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the options and refuse unknown names, before anything runs.

    Raises: Usage, with the nearest valid names.
    """
    parser = _Parser(
        prog="./run_all.sh",
        description="Regenerates every figure, RESULTS.md, and results.json and index.html in "
        "figures/<profile>. Only what is out of date runs; interrupt it at any time and run it "
        "again.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--profile", default="mini", metavar="NAME", help="models and data to use (default: mini)")
    add("--only", nargs="+", action="extend", default=[], metavar="PAPER/ITEM",
        help="run these alone: items as --list names them, or all of a paper (i0t)")  # fmt: skip
    add("--list", action="store_true", help="list every item and whether it is ready")
    add("--jobs", type=int, default=cores(), metavar="N",
        help="notebooks to run at a time (default: number of cores, here %(default)s)")  # fmt: skip
    add("--force", action="store_true", help="run the items even if they are up to date")
    add("--test", nargs="?", const="all", metavar="WHAT",
        help="run the tests instead: all (default), unit, notebooks or browser")  # fmt: skip
    add("--retrain", metavar="MODEL", help="train a model of models/ again")
    add("--assignments", action="store_true", help="zip the problem sets for students")
    add("--site", action="store_true", help="build the website of the notebooks in site/")
    add("--check", action="store_true", help=argparse.SUPPRESS)  # the names only
    options = parser.parse_args(arguments)
    try:
        profiles.path(options.profile)
        options.items = catalogue.select(options.only)
    except ValueError as error:
        raise Usage(error) from None
    if options.test and options.test not in TESTS:
        raise Usage(suggestions.unknown("set of tests", options.test, TESTS))
    if options.jobs < 1:
        raise Usage(f"--jobs needs a number above 0, not {options.jobs}.")
    return options


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# What the options ask for -------------------------------------------------------------------------


def print_list(profile_name: str) -> int:
    items = catalogue.load()
    width = max(map(len, catalogue))
    for name, item in catalogue.items():
        status = item.status(profile_name)
        print(f"{name:{width}}  {status:18}  {item.title} ({item.where})")
    _warn_unlisted()
    return 0


def _warn_unlisted() -> None:
    for file in catalogue.unlisted():
        print(f"{file.relative_to(paths.ROOT)} is not in notebooks/{catalogue.LIST}: left out.")


def run_tests(what: str) -> int:
    if find_spec("pytest") is None:
        raise ValueError("pytest is not installed in this environment: pip install -e '.[dev]'")
    command = [sys.executable, "-m", "pytest", "-m", *TESTS[what]]
    surroundings = dict(os.environ)
    if cores() > 1 and find_spec("xdist"):
        command += ["-n", str(cores()), "--dist", "worksteal"]
        surroundings["OMP_NUM_THREADS"] = "1"  # a thread for each test, not all of them for each
    return subprocess.call(command, cwd=paths.ROOT, env=surroundings)


def retrain(model: str) -> int:
    """Train a model again; `mini.training` refuses a name that it has no recipe for."""
    code = subprocess.call([sys.executable, "-m", "mini.training", model], cwd=paths.ROOT)
    if code == 0:
        print("./run_all.sh brings the figures up to date.")
    return code


def hand_out() -> int:
    """Zip the problem sets for students."""
    from docs import assignments  # it reads notebooks: more than `--check` may need

    for file in assignments.release():
        print(_short(file))
    return 0


def build_site(profile_name: str) -> int:
    """Build the website from the notebooks and figures as they are; nothing is run."""
    if lacking := [name for name in ("myst_nb", "furo", "latex2mathml") if not find_spec(name)]:
        raise ValueError(
            f"{lacking[0]} is not installed in this environment: pip install -e '.[site]'"
        )
    from docs import site  # only here: it needs packages that nothing else does

    print(f"Website: {_short(site.build(profile_name) / 'index.html')}")
    return 0


def run(options: argparse.Namespace) -> int:
    """Run what is out of date, and say what came of it."""
    which = profiles.load(options.profile)
    with only_run():
        chosen = _ready(which, options)
        _warn_unlisted()
        stale = freshness.refresh(which, chosen, options.force)
        report = freshness.refresh(which, [freshness.REPORT], force=bool(stale))
        if not report:
            what = f"all {len(chosen)} items are" if len(chosen) > 1 else f"{chosen[0]} is"
            print(f"Nothing to do: {what} up to date in profile {which.name}.")
            return 0
        progress = Progress(which.name, _steps(which, stale), options.jobs, _log(which, "events"))
        _log(which, "snakemake.log").unlink(missing_ok=True)
        code = _snakemake(which, stale, options.jobs, progress)
        if code and freshness.REPORT in progress.failed():
            # The others' results belong into the report, whatever became of this one.
            code = _snakemake(which, [], 1, progress) or code
        print(f"\n{progress.summary(chosen)}")
        if not progress.failed():
            return _done(which)
        print(f"\n{progress.failures() or 'The workflow failed.'}")
        print(f"The workflow's own log: {_log(which, 'snakemake.log')}")
        return 1


def _done(which: profiles.Profile) -> int:
    results, _, gallery = freshness.report_files(which.name)
    print(f"\nClaims: {_short(results)}\nFigures: {_short(gallery)}")
    return 0


def _short(file: Path) -> Path:
    return file.relative_to(paths.ROOT) if file.is_relative_to(paths.ROOT) else file


def _ready(which: profiles.Profile, options: argparse.Namespace) -> list[str]:
    """The chosen items that this profile can run; one that was asked for by name must be."""
    items = catalogue.load()
    status = {name: catalogue[name].status(which.name) for name in options.items}
    for name in options.only:
        for item in catalogue.select([name]) if len(catalogue.select([name])) == 1 else ():
            if status[item] == "planned":
                raise Usage(f"{item} is planned: its notebook is not written yet.")
            if status[item] != "ready":
                raise Usage(f"{item} {status[item]}: add --profile {catalogue[item].needs}.")
    ready = [name for name, known in status.items() if known == "ready"]
    if not ready:
        raise Usage(f"Nothing of this is ready in profile {which.name}; see --list.")
    return ready


def _steps(which: profiles.Profile, stale: list[str]) -> list[str]:
    """What the workflow will run for these items, in its order."""
    items = catalogue.load()
    chosen = [catalogue[name] for name in stale]
    encoded = dict.fromkeys(role for item in chosen for role in item.models)
    encoded = [role for role in encoded if role in which.models]
    compared = [role for item in chosen for role in item.compares if role in which.models]
    missing = [
        model
        for model in dict.fromkeys(which.models[role] for role in [*encoded, *compared])
        if freshness.trained_here(model) and not freshness.weights(model).exists()
    ]
    encode = freshness.refresh(which, [f"embeddings/{role}" for role in encoded])
    return [*(f"models/{model}" for model in missing), *encode, *stale, freshness.REPORT]


# The workflow -------------------------------------------------------------------------------------


@contextmanager
def only_run():
    """Two runs in one folder would remove each other's files: the second is refused."""
    with (paths.ROOT / "Snakefile").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                "Another ./run_all.sh is at work in this folder; wait until it has ended."
            ) from None
        yield


def _log(which: profiles.Profile, name: str) -> Path:
    return paths.CACHE / "logs" / which.name / name


def _snakemake(which: profiles.Profile, stale: list[str], jobs: int, progress: Progress) -> int:
    """Run the workflow for these items and the report, showing progress; returns its exit code."""
    command = [
        *(sys.executable, "-m", "snakemake", "report", "--cores", str(jobs), "--keep-going"),
        *("--snakefile", paths.ROOT / "Snakefile", "--directory", paths.ROOT, "--nolock"),
        *("--rerun-triggers", "mtime", "--rerun-incomplete", "--scheduler", "greedy"),
        *("--config", f"profile={which.name}", f"items={' '.join(stale)}"),
    ]
    search = [str(paths.ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "MODALITY_GAP_EVENTS": str(progress.events),
        "MODALITY_GAP_RUNNER": str(os.getpid()),
        "PYTHONPATH": os.pathsep.join(filter(None, search)),
    }
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    with _log(which, "snakemake.log").open("a") as log:
        # A group of its own, so that all of it can be stopped, and nothing else.
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            while process.poll() is None:
                progress.poll()
                time.sleep(0.3)
        except KeyboardInterrupt:
            progress.clear()
            _stop(process)
            raise
    progress.poll()
    progress.clear()
    return process.returncode


def _interrupt(*_):
    raise KeyboardInterrupt


def _stop(process: subprocess.Popen) -> None:
    """End a process group: with a request first, after ten seconds by force."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a second one would leave the group to itself
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            process.poll()
            os.killpg(process.pid, 0)
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `./run_all.sh --list | head` ends quietly
    sys.exit(main())

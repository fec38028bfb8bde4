"""The command line behind `./run_all.sh`: what may be asked for, and who does it.

Options are read with the standard library alone: a wrong one is refused, and `--help` answered,
before anything is installed.
"""

import argparse
import os
import signal
import subprocess
import sys
import textwrap
from importlib.util import find_spec

from lib import paths, suggestions

QUICK = "not benchmark and not browser and not gpu and not rehearsal and not slurm"
TESTS = {
    "all": QUICK,
    "unit": f"{QUICK} and not notebooks",
    "notebooks": "notebooks",
    "browser": "browser",
    "gpu": "gpu",
    "rehearsal": "rehearsal",
    "slurm": "slurm",
}
TRAINABLE = ("async",)  # what --train makes
CLUSTERS, JOBS = ("slurm",), 20  # jobs at a time on a cluster, where the user names no number
# Options -> what goes with them, besides --jobs.
GOES_WITH = {
    "train": ("profile", "force"),
    "model": ("as", "profile", "only", "force", "plan", "cluster"),
    "cluster": ("as", "profile", "only", "force", "model"),
    "archive": (),
}
PROFILE = "mini"
FORMATS = ("alignclip", "transformers", "pickle")  # kinds of models that --convert reads
USAGE, INTERRUPTED = 2, 130
# Modules that an option runs, with packages that they need beyond the environment's core.
SITE, ASSIGNMENTS = ("myst_nb", "furo", "latex2mathml"), ("nbgrader",)


class Usage(ValueError):
    """The command line asks for something that is not there."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    try:
        options = parse(arguments)
        if options.check:
            return 0
        check_names(options)
        if options.model:
            from workflow import own

            options.items = own.prepare(
                named(options.model),
                options.name or "mine",
                options.profile,
                options.items,
                options.jobs,
            )
            options.profile = options.name or "mine"
        if options.list:
            return print_list(options.profile)
        if options.plan:
            from workflow import plan

            return plan.show(options)
        if options.test:
            return run_tests(options.test)
        if options.retrain:
            return module("mini.training", options.retrain)
        if options.train:
            force = ["--force"] * options.force
            return module("workflow.train", "--profile", options.profile, *force)
        if options.assignments:
            return extra("assignments", ASSIGNMENTS, "docs.assignments")
        if options.site:
            return extra("site", SITE, "docs.site", "--profile", options.profile)
        if options.archive:
            return module("docs.archive")
        if options.record:
            return module("docs.record", "--profile", options.profile)
        if options.add_evidence:
            return module("docs.record", "--add", *map(callers, options.add_evidence))
        if options.convert:
            return convert(options)
        if options.embeddings:
            return gap_card(options)
        from workflow import run

        return run.run(options)
    except Usage as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return USAGE
    except ValueError as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        what = f"{error.strerror}: {error.filename}" if error.filename else str(error)
        print(f"run_all.sh: {what}. Make it readable and writable, or use another folder "
            "(MODALITY_GAP_CACHE, MODALITY_GAP_FIGURES).", file=sys.stderr)  # fmt: skip
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
    """Read the options. Raises: Usage, with the nearest valid ones."""
    parser = _Parser(
        prog="./run_all.sh",
        description="Regenerates every figure, with a results page and a gallery in "
        "figures/<profile>, and compares the results with the record in evidence/. Only what is "
        "missing runs; interrupt it at any time and run it again.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--profile", metavar="NAME", help=f"models and data to use (default: {PROFILE})")
    add("--only", nargs="+", action="extend", default=[], metavar="PAPER/ITEM",
        help="run these alone: items as --list names them, or all of a paper (i0t)")  # fmt: skip
    add("--list", action="store_true", help="list every item")
    add("--plan", action="store_true",
        help="run nothing: say what is here, and what a run downloads and takes")  # fmt: skip
    add("--jobs", type=int, metavar="N",
        help=f"notebooks to run at a time (default: number of cores, here {cores()}; on a cluster "
        f"{JOBS})")  # fmt: skip
    add("--cluster", metavar="NAME",
        help="run the steps as jobs of a cluster: slurm (from a host that submits to it)"
    )  # fmt: skip
    add("--force", action="store_true", help="run the items even if they are done")
    add("--test", nargs="?", const="all", metavar="WHAT",
        help="run tests instead: all (default), " + ", ".join([*TESTS][1:]))  # fmt: skip
    add("--retrain", metavar="MODEL", help="train a model of models/ again")
    add("--train", metavar="WHAT",
        help="train what nobody published, on a profile's main model: async (I0T_async)"
    )  # fmt: skip
    add("--assignments", action="store_true", help="zip the problem sets for students")
    add("--site", action="store_true", help="build the website of the notebooks in site/")
    add("--archive", action="store_true",
        help="put sources, weights, figures and evidence of the last commit into one file to "
        "deposit, in archive/")  # fmt: skip
    add("--record", action="store_true",
        help="for maintainers: make the last run the record (evidence/, RESULTS.md)")  # fmt: skip
    add("--add-evidence", nargs="+", metavar="FILE",
        help="check a bundle of somebody else's run, and add it to the record")  # fmt: skip
    add("--convert", nargs=2, metavar=("KIND", "PATH"),
        help="rewrite a model of another kind as a folder of open_clip: "
        + ", ".join(FORMATS))  # fmt: skip
    add("--model", metavar="MODEL",
        help="run your own model: local-dir:FOLDER (open_clip's format), "
        "hf-hub:REPOSITORY@COMMIT, or a name of the registry, on a profile's data")  # fmt: skip
    add("--embeddings", nargs=2, metavar=("IMAGES", "TEXTS"),
        help="measure the gap of your own embeddings, on one page: two files of pairs, or two "
        "folders of shards (npy, npz, safetensors, parquet; FILE:KEY names an array)")  # fmt: skip
    add("--owner", metavar="FILE",
        help="with --embeddings: for each text, the row of its image")  # fmt: skip
    add("--as", dest="name", metavar="NAME",
        help="with --convert: name of the folder in the cache, or a path with a /; with --model "
        "and --embeddings: name of the folder in figures/ (default: mine)")  # fmt: skip
    add("--sha256", metavar="HASH", help="with --convert: what the weights' file must have")
    add("--check", action="store_true", help=argparse.SUPPRESS)  # the options only
    options = parser.parse_args(arguments)
    if options.test and options.test not in TESTS:
        raise Usage(suggestions.unknown("set of tests", options.test, TESTS))
    if options.train and options.train not in TRAINABLE:
        raise Usage(suggestions.unknown("model to train", options.train, TRAINABLE))
    if options.convert and options.convert[0] not in FORMATS:
        raise Usage(suggestions.unknown("kind of model to convert", options.convert[0], FORMATS))
    if options.cluster and options.cluster not in CLUSTERS:
        raise Usage(suggestions.unknown("kind of cluster", options.cluster, CLUSTERS))
    check_together(options)
    if options.jobs is None:
        options.jobs = JOBS if options.cluster else cores()
    if options.jobs < 1:
        raise Usage(f"--jobs needs a number above 0, not {options.jobs}.")
    return options


def check_together(options: argparse.Namespace) -> None:
    """Refuse options that say nothing to one another, and fill in the profile. Raises: Usage."""
    if options.name and not (options.convert or options.model or options.embeddings):
        raise Usage("--as goes with --convert KIND PATH, --model MODEL, or --embeddings IMAGES "
            "TEXTS.")  # fmt: skip
    given = {key: value for key, value in vars(options).items() if value}
    given = {"as" if key == "name" else key for key in given} - {"check", "jobs"}
    for option, others in GOES_WITH.items():
        if option in given and (more := sorted(given - {option, *others})):
            but = f" than {', '.join(f'--{other}' for other in others)}" if others else ""
            raise Usage(f"--{option} goes with no other options{but}: leave "
                f"--{more[0].replace('_', '-')} out.")  # fmt: skip
    if options.sha256 and not options.convert:
        raise Usage("--sha256 goes with --convert KIND PATH.")
    if options.owner and not options.embeddings:
        raise Usage("--owner goes with --embeddings IMAGES TEXTS.")
    if options.embeddings and (options.profile or options.only):
        raise Usage("--embeddings makes one page of its own: leave --profile and --only out.")
    options.profile = options.profile or PROFILE


def check_names(options: argparse.Namespace) -> None:
    """Look up profile and items, before anything runs. Raises: Usage, with the nearest names."""
    from lib import profiles
    from workflow import catalogue

    try:
        profiles.path(options.profile)
        options.items = catalogue.select(options.only)
        items = catalogue.load()
    except ValueError as error:
        raise Usage(error) from None
    for name in options.only:
        if name in items and not items[name].written:
            raise Usage(f"{name} is planned: its notebook is not written yet.")
    options.items = [name for name in options.items if items[name].written]
    if not options.items:
        raise Usage("Nothing of this is written yet; see --list.")


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# What the options ask for -------------------------------------------------------------------------


def print_list(profile_name: str) -> int:
    """Every item with its status in a profile, and in a line below what models an item lacks."""
    from lib import profiles
    from workflow import catalogue

    items, which = catalogue.load(), profiles.load(profile_name)
    status = {name: item.status(which) for name, item in items.items()}
    width, wide = max(map(len, items)), max(7, *(len(said) for said, _ in status.values()))
    for name, item in items.items():
        said, lacking = status[name]
        print(f"{name:{width}}  {said:{wide}}  {item.title} ({item.where})")
        if said == "in part":
            indent = " " * (width + 2)
            without = f"without {', '.join(lacking)}"
            print(textwrap.fill(without, 112, initial_indent=indent, subsequent_indent=indent))
    catalogue.warn_of_unlisted()
    return 0


def run_tests(what: str) -> int:
    if find_spec("pytest") is None:
        raise ValueError("pytest is not installed in this environment: pip install -e '.[dev]'")
    command = [sys.executable, "-m", "pytest", "-m", TESTS[what]]
    surroundings = dict(os.environ)
    if what in ("rehearsal", "slurm"):
        command += ["-s"]  # its notebooks run beside each other, and it tells how far it is
    elif what == "gpu":
        command += ["-rs"]  # one at a time, on all of the GPU; why they are skipped without one
    elif cores() > 1 and find_spec("xdist"):
        command += ["-n", str(cores()), "--dist", "worksteal"]
        surroundings["OMP_NUM_THREADS"] = "1"  # a thread for each test, not all of them for each
    return subprocess.call(command, cwd=paths.ROOT, env=surroundings)


def module(name: str, *arguments: str) -> int:
    """Run a module of this repository as a program."""
    return subprocess.call([sys.executable, "-m", name, *arguments], cwd=paths.ROOT)


def callers(file: str) -> str:
    """A file that the caller named: relative to where ./run_all.sh was called."""
    return os.path.join(os.environ.get("MODALITY_GAP_CALLED_FROM", os.getcwd()), file)


def named(model: str) -> str:
    """A model as the caller named it, its folder relative to where ./run_all.sh was called."""
    kind, found, folder = model.partition("local-dir:")
    if found and not kind:
        return f"local-dir:{callers(os.path.expanduser(folder))}"
    if os.path.isdir(callers(model)):
        raise ValueError(f"{model} is a folder: call it local-dir:{model}.")
    return model


def convert(options: argparse.Namespace) -> int:
    kind, source = options.convert
    arguments = [kind, source if source.startswith("hf-hub:") else callers(source)]
    if options.name:
        path = callers(options.name) if os.sep in options.name else options.name
        arguments += ["--as", path]
    if options.sha256:
        arguments += ["--sha256", options.sha256]
    return module("lib.encoders.convert", *arguments)


def gap_card(options: argparse.Namespace) -> int:
    arguments = [*map(callers, options.embeddings)]
    if options.owner:
        arguments += ["--owner", callers(options.owner)]
    if options.name:
        arguments += ["--as", options.name]
    return module("docs.gap_card", *arguments)


def extra(group: str, packages: tuple[str, ...], name: str, *arguments: str) -> int:
    """The same for one that needs the packages of an optional group."""
    if lacking := [package for package in packages if not find_spec(package)]:
        raise ValueError(
            f"{lacking[0]} is not installed in this environment: pip install -e '.[{group}]'"
        )
    return module(name, *arguments)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `./run_all.sh --list | head` ends quietly
    sys.exit(main())

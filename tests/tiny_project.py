"""A miniature of this repository for the runner's tests: its own code, notebooks without torch."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from lib import paths

FOOT = ("__init__", "files", "paths", "profiles", "suggestions")
RUNNER = (
    "__init__",
    "catalogue",
    "cli",
    "cluster",
    "environment",
    "freshness",
    "notebooks",
    "progress",
    "run",
)

PROFILE = """\
evidence: mini
models: {clip: mini-clip}
pairs: world
labelled: {shape: world-shape}
judgements: {expert: world-expert}
n_pairs: 10
n_train_pairs: 10
n_bootstrap: 100
"""
# Every notebook that ran leaves a line in ran.txt; so do training and the report.
TINY = '''\
"""Saves what an item has to save, and notes that it ran."""
import json
from lib import paths


def note(what):
    with open(paths.ROOT / "ran.txt", "a") as file:
        file.write(what + "\\n")


def save(item, profile, verdict="reproduced"):
    for suffix in ("png", "pdf", "csv"):
        file = paths.FIGURES / profile / f"{item}.{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(item)
    file.with_suffix(".json").write_text(json.dumps({"findings": [{"verdict": verdict}]}))
    note(item)
'''
OTHER = "VALUE = 1\n"
TRAIN = """\
import sys
from lib import files, tiny
from workflow import freshness
files.write_text(freshness.weights(sys.argv[1]), "weights")
tiny.note("train " + sys.argv[1])
"""
REPORT = """\
import sys
from lib import files, paths, tiny
found = [f for f in (paths.FIGURES / sys.argv[-1]).rglob("*.json")]
files.write_text(paths.FIGURES / sys.argv[-1] / "RESULTS.md", str(len(found)))
tiny.note("report")
"""


class Project:
    """A temporary project folder and its runner."""

    def __init__(self, root: Path):
        self.root = root
        for folder in ("lib/claims/papers", "mini", "workflow", "docs", "notebooks", "profiles"):
            (root / folder).mkdir(parents=True)
        for folder, modules in (("lib", FOOT), ("workflow", RUNNER)):
            for module in modules:
                shutil.copy(paths.ROOT / folder / f"{module}.py", root / folder)
        for file in ("workflow/Snakefile", "run_all.sh", "pyproject.toml", "requirements.lock"):
            shutil.copy(paths.ROOT / file, root / file)
        shutil.copytree(paths.ROOT / "workflow/profiles", root / "workflow/profiles")
        self.write("profiles/mini.yaml", PROFILE)
        self.write("lib/tiny.py", TINY)
        self.write("lib/other.py", OTHER)
        for package in ("mini", "docs", "lib/claims"):
            self.write(f"{package}/__init__.py", "")
        self.write("mini/training.py", TRAIN)
        self.write("docs/report.py", REPORT)

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def read(self, path: str) -> str:
        return (self.root / path).read_text()

    def items(self, **entries: str) -> None:
        """List these items: name (`a__one` for a/one) -> further keys, as YAML."""
        self.write("notebooks/items.yaml", "".join(
            f"{name.replace('__', '/')}:\n  title: {name}\n  where: Figure 1\n{more}"
            for name, more in entries.items()
        ))  # fmt: skip

    def notebook(self, item: str, *cells: str, parameters: str = 'profile = "mini"') -> None:
        """A notebook of a parameters cell and these code cells."""
        sources = [_cell(parameters, ["parameters"]), *map(_cell, cells)]
        kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
        text = {"cells": sources, "metadata": {"kernelspec": kernel}}
        text |= {"nbformat": 4, "nbformat_minor": 4}
        self.write(f"notebooks/{item}.ipynb", json.dumps(text))

    def environment(self, **more: str) -> dict:
        own = {k: v for k, v in os.environ.items() if not k.startswith("MODALITY_GAP")}
        return {**own, **more}

    def start(self, *arguments: str, **more) -> subprocess.Popen:
        command = [sys.executable, "-m", "workflow.cli", "--jobs", "2", *arguments]
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **more,
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        """Exit code and output."""
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=300)
        return process.returncode, output

    def remove(self, *folders: str) -> None:
        for folder in folders:
            shutil.rmtree(self.root / folder, ignore_errors=True)

    def results(self) -> dict[str, bytes]:
        """The files that notebooks saved, by name."""
        folder = self.root / "figures"
        some = [file for file in folder.rglob("*") if file.is_file()]
        return {str(file.relative_to(folder)): file.read_bytes() for file in some}

    def ran(self) -> list[str]:
        """What ran since the last question."""
        file = self.root / "ran.txt"
        lines = sorted(file.read_text().split("\n")[:-1]) if file.exists() else []
        file.unlink(missing_ok=True)
        return lines


def _cell(source: str, tags: tuple | list = ()) -> dict:
    return {
        "cell_type": "code",
        "source": source,
        "metadata": {"tags": list(tags)},
        "outputs": [],
        "execution_count": None,
    }

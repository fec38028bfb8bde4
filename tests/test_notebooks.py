"""Every notebook: its form, and a run at a small size; one as a reader opens it."""

import json
import os
import re
import subprocess
import sys

import nbformat
import pytest

from lib import paths
from lib.claims import verdicts
from workflow import catalogue, notebooks

NOTEBOOKS = sorted(paths.NOTEBOOKS.rglob("*.ipynb"))
NAMES = [str(n.relative_to(paths.NOTEBOOKS).with_suffix("")) for n in NOTEBOOKS]
each = pytest.mark.parametrize("name", NAMES)


def read(name):
    return nbformat.read(paths.NOTEBOOKS / f"{name}.ipynb", as_version=4)


def test_every_notebook_is_listed():
    assert NAMES and not catalogue.unlisted()


@each
def test_form(name):
    notebook = read(name)
    nbformat.validate(notebook)
    cells = notebook.cells
    code = "\n".join(c.source for c in cells if c.cell_type == "code")
    tags = [c.metadata.get("tags", []) for c in cells]
    assert cells[0].cell_type == "markdown" and cells[0].source.startswith("# ")
    assert tags.count(["parameters"]) == 1
    assert tags[1] == ["evidence"] and cells[1].source.startswith("*Evidence")
    assert 15 <= len(cells) - 1 <= 34
    assert "versions()" in cells[-1].source
    assert notebook.metadata.kernelspec.name == "python3"
    for banned in (r"sys\.path", r"^\s*[!%]", r"\binput\(", r"os\.system", "subprocess", "/home/"):
        assert not re.search(banned, code, re.MULTILINE), banned


@each
def test_outputs_are_those_of_the_code(name):
    notebook = paths.NOTEBOOKS / f"{name}.ipynb"
    assert notebooks.outputs_are_of(notebook), f"./run_all.sh --only {name} renews them"


@each
def test_outputs_hold_no_path_of_a_machine(name):
    text = json.dumps([c.get("outputs", []) for c in read(name).cells])
    assert not re.search(r"(/home/|/root/|/Users/|/tmp/|/work/)", text)


@pytest.mark.notebooks
@each
def test_small_run(name, tmp_path, monkeypatch):
    monkeypatch.setenv("MODALITY_GAP_FIGURES", str(tmp_path / "figures"))
    notebook = paths.NOTEBOOKS / f"{name}.ipynb"
    before = notebook.read_bytes()
    notebooks.run_notebook(notebook, tmp_path / "executed.ipynb", {"small": True})
    made = tmp_path / "figures" / "mini" / name
    for suffix in (".png", ".pdf", ".csv", ".json"):
        assert made.with_suffix(suffix).stat().st_size > 0
    for finding in json.loads(made.with_suffix(".json").read_text())["findings"]:
        assert finding["verdict"] in verdicts.VERDICTS and finding["rule"]
    assert notebook.read_bytes() == before


@pytest.mark.notebooks
def test_as_a_reader_opens_it(tmp_path):
    """With the default parameters, started in its own folder, by the kernel's own client."""
    command = [sys.executable, "-m", "pytest", "--nbmake", "--nbmake-timeout=600", "-q"]
    command += ["-p", "no:cacheprovider", "-m", "", "00_start_here.ipynb"]
    surroundings = os.environ | {"MODALITY_GAP_FIGURES": str(tmp_path)}
    done = subprocess.run(
        command, cwd=paths.NOTEBOOKS, env=surroundings, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / "mini" / "00_start_here.png").is_file()

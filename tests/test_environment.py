"""Finding and making the environment: nothing is installed here, and no index is reached."""

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
from tiny_project import Project

from lib import paths
from workflow import environment

BASE = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"  # without packages
NOWHERE = "http://127.0.0.1:9/simple"


@pytest.fixture
def venv(tmp_path, monkeypatch):
    """`.venv` and lock in a temporary folder; making one takes no time, installing is counted."""
    installed = []
    folder = tmp_path / ".venv"
    (tmp_path / "lock").write_text("a==1\n")
    monkeypatch.setattr(environment, "VENV", folder)
    monkeypatch.setattr(environment, "LOCK", tmp_path / "lock")
    monkeypatch.setattr(environment, "_watched", lambda *command: (_make(folder), ""))
    monkeypatch.setattr(environment, "_install", installed.append)
    monkeypatch.setattr(environment, "LOG", tmp_path / "log")
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    return folder, installed


def _make(folder: Path) -> int:
    (folder / "bin").mkdir(parents=True)
    (folder / "lib" / "python3" / "site-packages").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(BASE)
    return 0


def test_installs_once_for_each_lock(venv):
    folder, installed = venv
    assert environment.find() == folder / "bin" / "python"
    environment.find()
    assert len(installed) == 1
    (folder / "mine").touch()
    environment.LOCK.write_text("a==2\n")
    environment.find()
    environment.find()
    assert len(installed) == 2
    assert (folder / "mine").exists()  # brought up to date, not made anew


@pytest.mark.parametrize("error", [KeyboardInterrupt, environment.Unusable("no index")])
@pytest.mark.parametrize("at_first", [True, False])
def test_an_interrupted_installation_is_never_taken_for_complete(
    venv, monkeypatch, error, at_first
):
    folder, installed = venv
    if not at_first:
        environment.find()
        environment.LOCK.write_text("a==2\n")

    def stopped(python):
        raise error

    with monkeypatch.context() as during:
        during.setattr(environment, "_install", stopped)
        with pytest.raises((KeyboardInterrupt, environment.Unusable)):
            environment.find()
    assert not (folder / environment.COMPLETE).exists()
    before = len(installed)
    environment.find()
    assert len(installed) == before + 1


def test_an_opened_notebook_finds_the_packages(venv):
    folder, _ = venv
    environment.find()
    (line,) = (folder / "lib/python3/site-packages/modality_gap.pth").read_text().splitlines()
    assert line == str(paths.ROOT)


def test_a_moved_project_is_installed_again(venv, monkeypatch, tmp_path):
    _, installed = venv
    environment.find()
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    environment.find()
    assert len(installed) == 2


def test_short_disk_is_said_before_anything_is_made(venv, monkeypatch):
    folder, installed = venv
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(9e9, 8e9, 1e9))
    with pytest.raises(environment.Unusable, match=r"about 7 GB, and 1\.0 GB are free"):
        environment.find()
    assert not folder.exists()
    assert installed == []


def test_somebody_elses_venv_is_never_changed(venv, monkeypatch):
    folder, installed = venv
    _make(folder)
    monkeypatch.setattr(environment, "_lacking", lambda python: ["torch==0"])
    with pytest.raises(environment.Unusable, match="somebody else and lacks torch==0: remove it"):
        environment.find()
    monkeypatch.setattr(environment, "_lacking", lambda python: [])
    assert environment.find() == folder / "bin" / "python"
    assert installed == []


def test_an_activated_environment_is_used_if_it_satisfies(venv, monkeypatch, tmp_path, capsys):
    _, installed = venv
    _make(tmp_path / "mine")
    monkeypatch.setenv("CONDA_PREFIX", str(tmp_path / "mine"))
    monkeypatch.setattr(environment, "_lacking", lambda python: ["torch==0"])
    environment.find()
    assert len(installed) == 1
    assert (
        f"The activated environment {tmp_path / 'mine'} lacks torch==0" in capsys.readouterr().err
    )
    monkeypatch.setattr(environment, "_lacking", lambda python: [])
    assert environment.find() == tmp_path / "mine" / "bin" / "python"
    assert len(installed) == 1


def test_this_environment_satisfies_the_project():
    assert environment._lacking(Path(sys.executable)) == []


def test_a_wrong_version_is_missing(monkeypatch):
    version = environment.importlib.metadata.version
    monkeypatch.setattr(
        environment.importlib.metadata,
        "version",
        lambda name: "4.9.9" if name == "transformers" else version(name),
    )
    assert environment.missing() == ["transformers>=5"]


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("error: Failed to fetch: `https://index/torch`\n  dns error", "no package index"),
        (
            "ERROR: Could not find a version that satisfies x (from versions: none)",
            "no package index",
        ),
        ("error sending request for url\nConnection refused", "no package index"),
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("THESE PACKAGES DO NOT MATCH THE HASHES", "checksum"),
        ("something\n  new under the sun\n\n", "the installation failed: new under the sun"),
        ("", "no reason given"),
    ],
)
def test_errors_of_pip_become_one_sentence(said, sentence):
    explained = environment._explained(said)
    assert sentence in explained
    assert "\n" not in explained


# run_all.sh ---------------------------------------------------------------------------------------


@pytest.fixture
def fresh(tmp_path):
    """A project on a machine that has nothing but Python; a function that runs its run_all.sh."""
    project = Project(tmp_path)
    project.items(i0t__fig3_activations="")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(BASE)
    for tool in ("bash", "dirname", "cat"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))

    def start(*arguments, **more):
        variables = {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path), **more}
        return subprocess.run(
            [tmp_path / "run_all.sh", *arguments],
            cwd="/",
            env=variables,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return project, start


def test_options_are_refused_before_anything_is_installed(fresh):
    project, start = fresh
    done = start("--onli", "i0t")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "the nearest are --only" in done.stderr
    assert "--profile" in start("--help").stdout
    assert not (project.root / ".venv").exists()


@pytest.mark.parametrize(("version", "found"), [("3.10.4", "Python 3.10.4"), (None, "no Python")])
def test_one_sentence_without_a_suitable_python(fresh, version, found):
    project, start = fresh
    python = project.root / "bin" / "python3"
    python.unlink()
    if version:
        script = f'#!/bin/sh\n[ "$1" = --version ] && echo Python {version} && exit 0\nexit 1\n'
        python.write_text(script)
        python.chmod(0o755)
    done = start()
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"needs Python 3.11, 3.12 or 3.13, and {found} was found" in done.stderr


@pytest.mark.slow
def test_one_sentence_without_a_network(fresh):
    project, start = fresh
    done = start(PIP_INDEX_URL=NOWHERE, PIP_CONFIG_FILE=os.devnull, PIP_NO_CACHE_DIR="1")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "run_all.sh: no package index could be reached" in done.stderr.splitlines()[-1]
    assert not (project.root / ".venv" / environment.COMPLETE).exists()

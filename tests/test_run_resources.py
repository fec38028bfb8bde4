"""What a run asks Snakemake for where its notebooks share a GPU."""

import os
import subprocess
import sys

import pytest
import torch

from lib import paths, profiles
from workflow import run


@pytest.fixture
def command(tmp_path, monkeypatch):
    """The command line that a run of a profile starts."""
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    monkeypatch.setattr(run.signal, "signal", lambda *_: None)
    seen = []

    class Process:
        def __init__(self, given, **_):
            seen.append([str(part) for part in given])

        def wait(self):
            return 0

    monkeypatch.setattr(run.subprocess, "Popen", Process)

    def of(profile, cuda):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        assert run._snakemake(profiles.load(profile), ["a"], 16) == 0
        return seen.pop()

    return of


def test_one_notebook_at_a_time_on_a_gpu(command):
    given = command("clip", True)
    config = given[given.index("--config") + 1 : given.index("--resources")]
    assert "gpu=1" in config
    assert given[given.index("--resources") + 1] == "gpu=1"
    assert given[given.index("--cores") + 1] == "16"


@pytest.mark.parametrize(("profile", "cuda"), [("clip", False), ("mini", True), ("mini", False)])
def test_without_a_gpu_or_for_small_models_nothing_changes(command, profile, cuda):
    assert "gpu=1" not in command(profile, cuda)


@pytest.mark.parametrize(("asked", "share"), [([], "gpu=0"), (["gpu=1"], "gpu=1")])
def test_the_workflow_takes_the_resource(tmp_path, asked, share):
    """A dry run of two notebooks: they ask for the GPU where the run says that there is one."""
    items = "items=i0t/fig5_score_distributions i0t/table5_caption_count"
    command = [sys.executable, "-m", "snakemake", "all", "--dry-run", "--cores", "16"]
    command += ["--snakefile", str(paths.ROOT / "workflow" / "Snakefile"), "--nolock"]
    command += ["--directory", str(tmp_path), "--resources", "gpu=1"]
    command += ["--config", "profile=clip", items, *asked]
    cache = {"MODALITY_GAP_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(paths.ROOT)}
    done = subprocess.run(
        command, env=os.environ | cache, capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert said.count("rule notebook:") == 2, said
    assert said.count(share) >= 2, said

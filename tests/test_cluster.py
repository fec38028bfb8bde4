"""A run on a cluster, without one: what is refused, and what Snakemake is told."""

import io
import os
import re
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import yaml

from lib import files, paths, profiles
from workflow import catalogue, cli, cluster, downloads, freshness, run

MODEL, DATA_ALONE = "i0t/table5_caption_count", "beyond/real_clip_labels"


@pytest.fixture
def login(tmp_path, monkeypatch):
    """A host that submits to Slurm: its commands note what they are called with."""
    for name in cluster.COMMANDS:
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/called\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(cluster, "find_spec", lambda name: name)
    for name in ("PARTITION", "ACCOUNT"):
        monkeypatch.delenv(f"SBATCH_{name}", raising=False)
    return tmp_path


# Options ------------------------------------------------------------------------------------------


def test_a_cluster_takes_more_jobs_than_this_machine_has_cores():
    assert cli.parse(["--cluster", "slurm"]).jobs == cli.JOBS
    assert cli.parse(["--cluster", "slurm", "--jobs", "3"]).jobs == 3
    assert cli.parse([]).jobs == cli.cores()


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--cluster", "slrum"], "slurm"),
        (["--cluster", "slurm", "--list"], "leave --list out"),
        (["--cluster", "slurm", "--add-evidence", "a"], "leave --add-evidence out"),
        (["--cluster", "slurm", "--train", "async"], "leave --cluster out"),
        (["--cluster", "slurm", "--jobs", "0"], "above 0"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, hint, capfd):
    assert cli.main(arguments) == 2
    error = capfd.readouterr().err
    assert hint in error and len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("lacking", "hint"), [("plugin", r"pip install -e '\.\[cluster\]'"), ("sbatch", "login node")]
)
def test_what_is_missing_is_said_before_work_starts(login, lacking, hint, monkeypatch, capsys):
    monkeypatch.setattr("workflow.run.only_run", lambda: pytest.fail("something ran"))
    if lacking == "plugin":
        monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    else:
        monkeypatch.setenv("PATH", "")
    assert cli.main(["--cluster", "slurm"]) == 1
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    with pytest.raises(ValueError, match=hint):
        cluster.check()


# What Snakemake is told ---------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(run.signal, "signal", lambda *_: None)
    seen = []

    def start(given, **_):
        seen.extend(map(str, given))
        return SimpleNamespace(wait=lambda: 0)

    monkeypatch.setattr(run.subprocess, "Popen", start)

    def of(on):
        run._snakemake(profiles.load("clip"), ["a"], 7, on=on)
        return " ".join(seen)

    return of


def test_jobs_instead_of_cores(login, command):
    told = command("slurm")
    assert f"--workflow-profile {paths.ROOT}/workflow/profiles/slurm --jobs 7 " in told
    assert told.endswith("runner=1 cluster=slurm")
    for word in ("--cores", "gpu=1", "--default-resources"):
        assert word not in told


def test_partition_and_account_are_those_of_slurm_itself(login, command, monkeypatch):
    monkeypatch.setenv("SBATCH_PARTITION", "gpu-short")
    monkeypatch.setenv("SBATCH_ACCOUNT", "lab")
    wanted = "--default-resources slurm_partition='gpu-short' slurm_account='lab' "
    assert wanted in command("slurm")


def test_a_run_on_this_machine_hears_nothing_of_it(command, monkeypatch):
    monkeypatch.setenv("SBATCH_PARTITION", "gpu-short")
    monkeypatch.setattr(run, "_on_gpu", lambda which: False)
    told = command(None)
    assert "--cores 7" in told and told.endswith("runner=1")
    for word in ("cluster=", "profiles/slurm", "--jobs", "gpu-short"):
        assert word not in told


def test_the_profile_submits_and_tries_once_more():
    text = (paths.ROOT / "workflow/profiles/slurm/config.yaml").read_text()
    own = yaml.safe_load(text)
    assert own["executor"] == "slurm" and own["retries"] == 1
    lines = text.split("otherwise:\n")[1].splitlines()
    suggested = yaml.safe_load("\n".join(line.removeprefix("# ") for line in lines))
    assert suggested["set-resources"]["notebook"]["gpu"] == 0


def dry(tmp_path, *items, target="all", on=("cluster=slurm",)):
    """What Snakemake would do for some items of the profile clip."""
    command = [sys.executable, "-m", "snakemake", target, "--dry-run", "--cores", "16", "--nolock"]
    command += ["--snakefile", str(paths.ROOT / "workflow/Snakefile"), "--directory", str(tmp_path)]
    command += ["--config", "profile=clip", f"items={' '.join(items)}", *on]
    own = {"MODALITY_GAP_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(paths.ROOT)}
    done = subprocess.run(command, env=os.environ | own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [block for block in re.split(r"\n(?=\[)", done.stdout) if "rule " in block]


def test_each_job_asks_for_what_it_takes(tmp_path):
    blocks = dry(tmp_path, MODEL, DATA_ALONE)
    (first,) = [block for block in blocks if "rule download:" in block]
    assert "downloads.log" in first
    for item, gpu in ((MODEL, 1), (DATA_ALONE, 0)):
        (block,) = [block for block in blocks if f"item={item}" in block]
        assert f"gpu={gpu}" in block
        assert "mem_mb=8000" in block and "runtime=240" in block
        assert "input: " in block and "downloads.log" in block.split("output:")[0]


def test_a_run_on_this_machine_downloads_as_it_goes(tmp_path):
    blocks = dry(tmp_path, MODEL, on=())
    assert blocks and not any("download" in block for block in blocks)


def test_small_models_take_no_gpu_and_others_one():
    written = [name for name, item in catalogue.load().items() if item.written]
    mini, clip = profiles.load("mini"), profiles.load("clip")
    assert not [item for item in written if freshness.uses_gpu(mini, item)]
    assert freshness.uses_gpu(clip, MODEL)
    own = mini.model_copy(update={"models": {"clip": "mine"}, "also": (), "survey": ()})
    assert freshness.uses_gpu(own, MODEL)


# What is seen of it -------------------------------------------------------------------------------


def record(message="", event=None, **more):
    return SimpleNamespace(event=event, msg=message, **more)


@pytest.fixture
def shown(tmp_path, login, monkeypatch):
    """A run of two notebooks that was submitted."""
    monkeypatch.setattr(cluster.Queue, "_tick", lambda self: None)  # or it prints for ever
    queue = cluster.Queue({item: tmp_path / f"{item}.0123456789ab" for item in ("a/b", "a/c")}, 2)
    queue.emit(record("SLURM run ID: 12-ab"))
    for job, item in enumerate(("a/b", "a/c")):
        queue.emit(record(event="job_info", jobid=job, rule_name="notebook",
            wildcards={"item": item}))  # fmt: skip
    return queue


def test_the_queue_is_shown_as_slurm_tells_it(shown, login):
    lines = "RUNNING None\\nPENDING Priority\\nPENDING Resources\\nPENDING Priority\\n"
    squeue = f'#!/bin/sh\necho squeue "$@" >> {login}/called\nprintf "{lines}"\n'
    (login / "squeue").write_text(squeue)
    assert shown.present() == "1 running, 3 waiting in the queue (Priority, Resources)"
    shown.present()  # not asked again at once
    calls = (login / "called").read_text().splitlines()
    assert [line for line in calls if "12-ab" in line] == calls and len(calls) == 1
    assert shown.left() == ""


def test_a_job_that_is_tried_again_counts_once(shown, capsys):
    shown.emit(record(event="job_error", jobid=0))
    shown.emit(record("Trying to restart job 0."))
    shown.emit(record(event="job_info", jobid=0, rule_name="notebook", wildcards={"item": "a/b"}))
    shown.emit(record(event="job_finished", job_id=1))
    shown.emit(record(event="job_finished", job_id=0))
    lines = [line for line in capsys.readouterr().out.splitlines() if "waiting" not in line]
    assert lines[0].startswith("[1/2] a/b") and "FAILED: it was killed, or ended" in lines[0]
    assert lines[1] == "[1/2] a/b is tried once more"
    assert lines[2].startswith("[1/2] a/c") and lines[3].startswith("[2/2] a/b")


def test_what_slurm_refuses_is_said(shown, capsys):
    said = "SLURM sbatch failed. The error message was 'sbatch: error: invalid\npartition'.\n   ..."
    shown.emit(record("Error in rule", event="job_error", jobid=0, rule_msg=said))
    assert "sbatch: error: invalid partition" in capsys.readouterr().out


def test_without_a_runner_all_jobs_of_the_run_are_cancelled(login, monkeypatch, tmp_path):
    ended = []
    monkeypatch.setattr(cluster.os, "killpg", lambda group, number: ended.append(number))
    monkeypatch.setattr(cluster.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(cluster.threading, "Thread", Now)
    monkeypatch.setattr("snakemake.logging.logger.addHandler", lambda shown: shown.emit(
        record("SLURM run ID: 12-ab")))  # fmt: skip
    reader, writer = os.pipe()
    os.close(writer)  # the runner is gone
    monkeypatch.setattr(cluster.sys, "stdin", io.TextIOWrapper(os.fdopen(reader, "rb", 0)))
    cluster.follow_jobs({}, 2)
    assert ended == [signal.SIGKILL]
    assert (login / "called").read_text().splitlines() == ["scancel --name 12-ab"] * 2


class Now:
    """A thread that is run at once, unless it never ends."""

    def __init__(self, target, daemon):
        self.target = target

    def start(self):
        if "wait" in self.target.__name__:
            self.target()


# Downloads ----------------------------------------------------------------------------------------


def test_published_embeddings_are_downloaded_for_those_who_show_them():
    named = [load for name, load in downloads.wanted(profiles.load("mini"), [DATA_ALONE])]
    assert [load.args for load in named] == [("train",), ("test",)]
    assert not list(downloads.wanted(profiles.load("mini"), ["i0t/table6_prompt_templates"]))


def test_what_cannot_be_had_is_said_and_the_run_goes_on(tmp_path, monkeypatch, capsys):
    def load():
        raise downloads.NotAvailable("It is gated.")

    monkeypatch.setattr(downloads, "wanted", lambda *_: [("a", load), ("", load), ("b", list)])
    downloads.main(["a/b", "--profile", "mini", "--log", str(tmp_path / "log")])
    said = capsys.readouterr().out.splitlines()
    assert said == ["Downloading a", "Downloading b", "Left out: It is gated."]
    assert (tmp_path / "log").read_text() == "It is gated.\n"


def test_an_old_reason_is_forgotten(tmp_path, monkeypatch):
    """A job that is cancelled before it begins does not say why an earlier one failed."""
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    which = profiles.load("mini")
    reason = freshness.notebooks.failure_file(freshness.stamp(which, DATA_ALONE))
    files.write_text(reason, "KeyError: 'x'\n")
    assert freshness.missing(which, [DATA_ALONE]) == [DATA_ALONE]
    assert not reason.exists()

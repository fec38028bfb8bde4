"""The runner, from its command line to a killed run, on a miniature project."""

import fcntl
import json
import os
import signal
import time
from pathlib import Path

import pytest
from tiny_project import Project

from lib import files, suggestions
from workflow import catalogue, cli, freshness, notebooks, progress

ONE = 'from lib import tiny\ntiny.save("a/one", profile)'
TWO = 'from lib import other, tiny\nprint(other.VALUE)\ntiny.save("a/two", profile)'
THREE = 'from lib import tiny\ntiny.save("b/three", profile, "inconclusive")'
MODELS = "  models: [clip]\n"


@pytest.fixture
def project(tmp_path):
    made = Project(tmp_path)
    made.items(a__one=MODELS, a__two="", b__three="", b__later="")
    made.notebook("a/one", "print('one')", ONE)
    made.notebook("a/two", TWO)
    made.notebook("b/three", THREE)
    return made


# The command line ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--only", "i0t/fig33"], "i0t/fig3_activation_patterns"),
        (["--only", "i0t/fig2_gap_severty"], "i0t/fig2_gap_severity"),
        (["--only", "i0t", "itto"], "i0t"),
        (["--profile", "mimi"], "mini"),
        (["--onli", "i0t"], "--only"),
        (["--test", "unti"], "unit"),
        (["--retrain", "mini-clap"], "mini-clip"),
        (["--jobs", "0"], "above 0"),
        (["--jobs", "two"], "two"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(arguments, hint, capfd, monkeypatch):
    monkeypatch.setattr(cli, "_snakemake", lambda *_: pytest.fail("something ran"))
    assert cli.main(arguments) == 2
    error = capfd.readouterr().err
    assert hint in error
    assert len(error.splitlines()) == 1


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for option in ("profile", "only", "list", "jobs", "force", "test", "retrain", "assignments"):
        assert f"--{option}" in text


def test_items_may_be_papers_or_file_names():
    i0t1, i0t3 = "i0t/fig1_scored_pairs", "i0t/fig3_activation_patterns"
    everything = catalogue.select([])
    assert catalogue.select(["i0t"]) == [name for name in everything if name.startswith("i0t/")]
    assert catalogue.select([f"notebooks/{i0t1}.ipynb"]) == [i0t1]
    # The order of the list, each once.
    assert catalogue.select([i0t3, "00_start_here", i0t3]) == ["00_start_here", i0t3]


def test_list_of_items_is_read_the_same_with_and_without_yaml():
    assert catalogue.listed() == list(catalogue.load())


def test_list_shows_every_item_with_its_status(project):
    project.items(a__one="", b__later="", b__real="  needs: clip\n")
    project.write("profiles/clip.yaml", project.read("profiles/mini.yaml"))
    project.notebook("b/real", "")
    started = time.monotonic()
    code, output = project.run("--list")
    assert code == 0
    assert time.monotonic() - started < 5
    status = {line.split()[0]: line for line in output.splitlines()}
    assert " ready " in status["a/one"]
    assert " planned " in status["b/later"]
    assert " needs profile clip " in status["b/real"]
    assert "notebooks/a/two.ipynb is not in notebooks/items.yaml" in output
    assert " ready " in project.run("--list", "--profile", "clip")[1].splitlines()[2]


def test_an_item_that_is_not_there_yet_is_refused(project):
    code, output = project.run("--only", "b/later")
    assert code == 2
    assert "planned" in output
    assert project.ran() == []


def test_nearest_names():
    assert suggestions.nearest("colr", ["shape", "colour", "texture"]) == ["colour"]
    assert (
        suggestions.nearest("i0t/table2", ["i0t/table2_main", "i0t/table3_size"])[0] == "i0t/table2_main"
    )
    assert suggestions.nearest("qqq", ["shape"]) == []


# What depends on what -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "package", "modules"),
    [
        ("from lib import gap, stats as s", "", {"gap", "stats"}),
        ("import lib.measures.gap as g, os", "", {"gap"}),
        ("from mini.world.render import draw", "", {"world"}),
        ("def f():\n    from lib.measures.scores import clip_s", "", {"scores"}),
        ("from . import gap\nfrom .stats import b", "lib", {"gap", "stats"}),
        ("from .render import x\nfrom .. import paths", "mini.world", {"world", "paths"}),
        ("import lib", "", {"*"}),
        ("import library\nfrom libs import x\nimport numpy", "", set()),
    ],
)
def test_imports_of_lib(source, package, modules):
    assert freshness.imported(source, package) == modules


def test_closure_follows_imports_and_takes_data_files_along():
    files = {file.name for file in freshness.closure({"results"})}
    assert {"results.py", "paper.py", "i0t.yaml", "style.py", "style.mplstyle", "paths.py"} <= files
    assert "run.py" not in files


def test_notebook_with_magics_is_read(project):
    project.notebook(
        "a/one", "%matplotlib inline\nfrom lib import other", "!ls\nfrom lib import tiny"
    )
    assert freshness.notebook_imports(project.root / "notebooks/a/one.ipynb") == {"other", "tiny"}
    project.notebook("a/one", "from lib import other", "files = !ls")
    assert freshness.notebook_imports(project.root / "notebooks/a/one.ipynb") == {"*"}


# Whole runs ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_only_what_is_out_of_date_runs(project):
    code, output = project.run()
    assert code == 0, output
    everything = ["a/one", "a/two", "b/three", "embed clip", "report", "train mini-clip"]
    assert project.ran() == everything
    assert project.read("RESULTS.md") == "3"
    assert "a/one" in output
    assert "1 inconclusive" in output
    written_back = project.read("notebooks/a/one.ipynb")
    assert json.loads(written_back)["cells"][1]["outputs"][0]["text"] == ["one\n"]
    assert "injected" not in written_back
    assert "papermill" not in written_back

    started = time.monotonic()
    code, output = project.run()
    assert (code, project.ran()) == (0, [])
    assert output.startswith("Nothing to do: all 3 items")
    assert time.monotonic() - started < 5

    project.write("lib/other.py", "VALUE = 2\n")
    assert project.run()[0] == 0
    assert project.ran() == ["a/two", "report"]

    project.notebook("b/three", "1 + 1", THREE)
    (project.root / "figures/mini/a/one.pdf").unlink()
    assert project.run("--only", "b")[0] == 0
    assert project.ran() == ["b/three", "report"]
    assert project.run()[0] == 0
    assert project.ran() == ["a/one", "report"]
    assert project.read("notebooks/a/one.ipynb") == written_back

    # Dates mean nothing: neither newer sources nor results from the future change a thing.
    ahead = time.time() + 1e6
    for file in ("lib/tiny.py", "figures/mini/a/two.png"):
        os.utime(project.root / file, (ahead, ahead))
    assert "Nothing to do" in project.run()[1]
    project.write("lib/other.py", "VALUE = 3\n")
    assert project.run("--only", "a/two", "b/three")[0] == 0
    assert project.ran() == ["a/two", "report"]

    assert project.run("--only", "b/three", "--force")[0] == 0
    assert project.ran() == ["b/three", "report"]


@pytest.mark.slow
def test_models_that_a_notebook_compares_are_trained_first_and_not_encoded(project):
    profile = project.read("profiles/mini.yaml").replace("mini-clip}", "mini-clip, rival: mini-b}")
    project.write("profiles/mini.yaml", profile)
    project.items(b__three="  compares: [rival]\n")
    code, output = project.run()
    assert code == 0, output
    assert project.ran() == ["b/three", "report", "train mini-b"]
    assert "models/mini-b" in output
    assert "Nothing to do" in project.run()[1]
    project.write("models/mini-b/open_clip_model.safetensors", "other weights")
    assert project.run()[0] == 0
    assert project.ran() == ["b/three", "report"]


@pytest.mark.slow
def test_failures_stand_alone(project):
    broken = ["raises", "exits", "silent", "unknown"]
    project.items(**{f"b__{name}": "" for name in broken}, b__three="", a__one=MODELS)
    project.notebook("b/raises", "print('before')", "raise KeyError('on purpose')", THREE)
    project.notebook("b/exits", "import sys\nsys.exit(0)", THREE)
    project.notebook("b/silent", "print('nothing saved')")
    project.notebook("b/unknown", THREE, parameters='profil = "mini"')
    project.write("mini/training.py", "raise SystemExit('no weights today')")

    code, output = project.run()
    assert code == 1
    assert project.ran() == ["b/three", "report"]
    assert project.read("RESULTS.md") == "1"
    table = {line.split()[0]: line.split()[1:] for line in output.splitlines() if "/" in line[:3]}
    for name in broken:
        assert table[f"b/{name}"][0] == "failed", output
    assert table["b/three"][0] == "done"
    assert table["a/one"][:2] == ["not", "run"]
    for sentence in (
        "b/raises: KeyError: 'on purpose'",
        "b/exits: SystemExit: 0",
        "did not save b/silent.png",
        "There is no parameter 'profile'; the nearest is profil.",
        "models/mini-clip: no weights today",
    ):
        assert sentence in output
    kept = project.read(".cache/executed/mini/b/raises.ipynb")
    assert "before" in kept
    assert "on purpose" in kept
    assert 'outputs": []' in project.read("notebooks/b/raises.ipynb")

    # Mended, the rest is made up for, and nothing else.
    project.notebook("b/raises", 'from lib import tiny\ntiny.save("b/raises", profile)')
    assert project.run("--only", "b/raises", "b/three")[0] == 0
    assert project.ran() == ["b/raises", "report"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "times"),
    [(signal.SIGINT, 1), (signal.SIGINT, 2), (signal.SIGTERM, 1), (signal.SIGKILL, 1)],
)
def test_an_interrupted_run_is_taken_up_again(project, how, times):
    wait = "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep({})"
    project.notebook("a/two", wait.format(60), TWO)
    process = project.start()
    pid_file = project.root / "notebooks/a/pid"
    log = ".cache/logs/mini/snakemake.log"
    _until(lambda: pid_file.exists() and "Finished jobid" in project.read(log))
    for _ in range(times):
        process.send_signal(how)
        time.sleep(0.2)  # the second one arrives while it is stopping
    output, _ = process.communicate(timeout=60)
    assert process.returncode == (130 if how != signal.SIGKILL else -signal.SIGKILL)
    assert ("run it again" in output.lower()) == (how != signal.SIGKILL)
    _until(lambda: not _alive(int(pid_file.read_text())))
    assert {"a/two", "report"}.isdisjoint(project.ran())
    assert not (project.root / "figures/mini/a/two.json").exists()

    project.notebook("a/two", wait.format(0), TWO)
    code, output = project.run()
    assert code == 0, output
    again = project.ran()
    assert {"a/two", "report"} <= set(again)
    assert "b/three" not in again
    assert project.run()[1].startswith("Nothing to do")


def _until(true, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")  # where there is one, it shows a zombie, which has ended
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_second_run_is_refused(project):
    with (project.root / "Snakefile").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        code, output = project.run()
    assert code == 1
    assert "Another ./run_all.sh is at work" in output
    assert project.ran() == []


# Progress -----------------------------------------------------------------------------------------


def test_progress_counts_estimates_and_sums_up(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(freshness.paths, "CACHE", tmp_path)
    monkeypatch.setattr(freshness.paths, "FIGURES", tmp_path)
    monkeypatch.setenv("MODALITY_GAP_EVENTS", str(tmp_path / "events"))
    steps = ["embeddings/clip", "i0t/a", "i0t/b", "report"]
    freshness.remember("mini", "embeddings/clip", "digest", 30)
    shown = progress.Progress("mini", steps, 1, tmp_path / "events")
    assert shown.left() == ""  # the first time, nothing is known of the notebooks
    notebooks.tell(event="start", step="embeddings/clip")
    notebooks.tell(event="end", step="embeddings/clip", error=None, seconds=28)
    notebooks.tell(event="end", step="i0t/a", error="KeyError: 'x'", seconds=100)
    shown.poll()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("[1/4] embeddings/clip")
    assert "28 s  done" in lines[0]
    assert "100 s  FAILED: KeyError: 'x'" in lines[1]
    assert shown.left() == "about 3 min left"  # two steps, each like the notebook: 200 s
    assert shown.failed() == ["i0t/a", "i0t/b", "report"]
    notebooks.tell(event="end", step="i0t/b", error=None, seconds=50)
    shown.poll()
    shown.poll()  # nothing is told twice
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert shown.left() == "about 75 s left"
    files.write_text(tmp_path / "mini/i0t/b.json", json.dumps({"findings": 2 * [{"verdict": "x"}]}))
    table = [line.split(maxsplit=3) for line in shown.summary(["i0t/a", "i0t/b"]).splitlines()]
    assert table[1:] == [["i0t/a", "failed", "100"], ["i0t/b", "done", "50", "2 x"]]
    assert shown.failures() == "i0t/a: KeyError: 'x'"


# Notebooks ----------------------------------------------------------------------------------------


def test_outputs_are_written_back_in_one_form(project, tmp_path):
    """The same execution, as two runs would record it, gives the same bytes."""
    project.notebook("a/one", "import x\nx", "")
    source = project.root / "notebooks/a/one.ipynb"

    def executed(start: int, pieces: list[str], address: str) -> str:
        notebook = json.loads(source.read_text())
        notebook["metadata"] = {"papermill": {"duration": start}, "widgets": {"a": 1}}
        injected = {**notebook["cells"][0], "metadata": {"tags": ["injected-parameters"]}}
        notebook["cells"].insert(1, injected)
        cell = notebook["cells"][2]
        cell["execution_count"] = start
        cell["metadata"] = {"execution": {"iopub": start}, "tags": []}
        folder = str(freshness.paths.ROOT)
        cell["outputs"] = [
            *({"output_type": "stream", "name": "stdout", "text": text} for text in pieces),
            {
                "output_type": "stream",
                "name": "stderr",
                "text": f"/tmp/ipykernel_{start}/12.py:1: {folder}/lib/measures/gap.py is old\n",
            },
            {
                "output_type": "display_data",
                "metadata": {},
                "data": {"application/vnd.jupyter.widget-view+json": {"model_id": address}},
            },
            {
                "output_type": "execute_result",
                "execution_count": start,
                "metadata": {},
                "data": {"text/plain": f"<Thing at {address}>", "image/png": "AAAA"},
            },
        ]
        copy = tmp_path / "copy.ipynb"
        copy.write_text(json.dumps(notebook))
        notebooks.write_back(source, copy)
        return source.read_text()

    first = executed(3, ["a\n", "b\n"], "0x7f00aa00")
    assert executed(9, ["a\nb\n"], "0x7f99bb99") == first
    for gone in ("ipykernel", str(freshness.paths.ROOT), "0x7f", "papermill", "widget", "injected"):
        assert gone not in first
    cell = json.loads(first)["cells"][1]
    assert cell["execution_count"] == cell["outputs"][2]["execution_count"] == 2
    assert cell["outputs"][0]["text"] == ["a\n", "b\n"]
    assert cell["outputs"][2]["data"]["image/png"] == "AAAA"
    assert json.loads(first)["metadata"][notebooks.OUTPUTS_OF] == freshness.code_digest(source)
    before = freshness.code_digest(source)
    project.notebook("a/one", "import x\nx  # other code", "")
    assert freshness.code_digest(source) != before


def test_a_notebook_that_was_edited_meanwhile_is_left_alone(project, tmp_path):
    source = project.root / "notebooks/a/one.ipynb"
    copy = tmp_path / "copy.ipynb"
    copy.write_text(source.read_text())
    project.notebook("a/one", "something new")
    before = source.read_text()
    notebooks.write_back(source, copy)
    assert source.read_text() == before


def test_a_notebook_needs_a_parameters_cell(project, tmp_path):
    source = project.root / "notebooks/a/one.ipynb"
    source.write_text(source.read_text().replace("parameters", "other"))
    with pytest.raises(ValueError, match="one cell tagged 'parameters'"):
        notebooks.run_notebook(source, tmp_path / "copy.ipynb", {"profile": "mini"})

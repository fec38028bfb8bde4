"""The runner, from its command line to a killed run, on a miniature project."""

import json
import logging
import os
import random
import re
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock
from tiny_project import Project

from lib import files, paths, profiles, suggestions
from workflow import catalogue, cli, freshness, notebooks, progress, run

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
        (["--train", "asynch"], "async"),
        (
            ["--train", "async", "--plan"],
            "options than --profile, --force: leave --plan out",
        ),
        (["--train", "async", "--only", "i0t"], "leave --only out"),
        (["--archive", "--profile", "clip"], "no other options: leave --profile out"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(arguments, hint, capfd, monkeypatch):
    monkeypatch.setattr("workflow.run.run", lambda *_: pytest.fail("something ran"))
    assert cli.main(arguments) == 2
    error = capfd.readouterr().err
    assert hint in error
    assert len(error.splitlines()) == 1


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for option in (
        "profile",
        "only",
        "list",
        "plan",
        "jobs",
        "force",
        "test",
        "retrain",
        "train",
        "assignments",
        "archive",
        "convert",
        "embeddings",
    ):
        assert f"--{option}" in text


def test_items_may_be_papers_or_file_names():
    i0t1, i0t3 = "i0t/fig1_scored_pairs", "i0t/fig3_activation_patterns"
    everything = catalogue.select([])
    assert catalogue.select(["i0t"]) == [name for name in everything if name.startswith("i0t/")]
    assert catalogue.select([f"notebooks/{i0t1}.ipynb"]) == [i0t1]
    # The order of the list, each once.
    assert catalogue.select([i0t3, "00_start_here", i0t3]) == ["00_start_here", i0t3]


def test_list_shows_every_item_with_its_status(project):
    started = time.monotonic()
    code, output = project.run("--list")
    assert code == 0
    assert time.monotonic() - started < 20  # it imports no torch, which alone would take longer
    status = {line.split()[0]: line for line in output.splitlines()}
    assert " ready " in status["a/one"]
    assert " planned " in status["b/later"]
    project.items(a__one="", b__later="")
    assert "notebooks/a/two.ipynb is not in notebooks/items.yaml" in project.run("--list")[1]


def test_list_says_what_a_profile_has_no_weights_for(capsys):
    assert cli.main(["--list"]) == 0
    plain = capsys.readouterr().out.splitlines()
    assert len(plain) == len(catalogue.load()) and all("  ready    " in line for line in plain)
    assert cli.main(["--list", "--profile", "clip"]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = next(k for k, line in enumerate(lines) if line.startswith("i0t/table2_main_comparison"))
    assert "  in part  " in lines[at]
    assert lines[at + 1].strip() == "without CLOOB, Unif-Align, PAC-S, LCCOM"
    assert lines[at + 1].index("without") == lines[at].index("in part")
    said = {line.split()[0]: line for line in lines}
    assert "  no published weights  " in said["mind_the_gap/fig8_temperature"]
    assert "  ready  " in said["i0t/fig1_scored_pairs"]
    assert max(len(line) for line in lines if line.startswith(" ")) <= 112


def test_what_was_trained_here_makes_its_items_stale(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    clip = profiles.load("clip")
    items = ("i0t/table2_main_comparison", "i0t/fig1_scored_pairs")
    before = [freshness.digest(clip, item) for item in items]
    recipe = tmp_path / "trained" / clip.models["async"] / "recipe.json"
    files.write_json(recipe, {"seed": 0})
    first = [freshness.digest(clip, item) for item in items]
    files.write_json(recipe, {"seed": 1, "again": True})
    again = [freshness.digest(clip, item) for item in items]
    assert len({before[0], first[0], again[0]}) == 3
    assert before[1] == first[1] == again[1]


def test_the_summary_says_which_items_lack_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "FIGURES", tmp_path)
    item, other = "mind_the_gap/fig8_temperature", "i0t/fig1_scored_pairs"
    for name in (item, other):
        found = {"findings": [{"verdict": "not testable here"}]}
        files.write_json(notebooks.figures("clip", name)[-1], found)
    said = run._verdicts(profiles.load("clip"), [item, other])
    assert said == {item: "1 not testable here; no published weights", other: "1 not testable here"}


def test_train_hands_on_the_profile_and_force(monkeypatch):
    seen = []
    monkeypatch.setattr(cli, "module", lambda *arguments: seen.append(arguments) or 0)
    assert cli.main(["--profile", "clip", "--train", "async", "--force"]) == 0
    assert cli.main(["--profile", "clip", "--train", "async"]) == 0
    command = ("workflow.train", "--profile", "clip")
    assert seen == [(*command, "--force"), command]


def test_an_item_that_is_not_there_yet_is_refused(project):
    code, output = project.run("--only", "b/later")
    assert code == 2
    assert "planned" in output
    assert project.ran() == []


def test_nearest_names():
    assert suggestions.nearest("colr", ["shape", "colour", "texture"]) == ["colour"]
    assert (
        suggestions.nearest("i0t/table2", ["i0t/table2_main", "i0t/table3_size"])[0]
        == "i0t/table2_main"
    )
    assert suggestions.nearest("qqq", ["shape"]) == []


# What depends on what -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "package", "modules"),
    [
        ("from lib.measures import gap, probe as p", "", {"lib.measures", "lib.measures.gap",
            "lib.measures.probe"}),
        ("import lib.measures.gap as g, os", "", {"lib.measures.gap"}),
        ("from mini.world.render import render", "", {"mini.world.render"}),
        ("def f():\n    from lib.measures.scores import clip_s", "", {"lib.measures.scores"}),
        ("from . import gap\nfrom .bootstrap import b", "lib.measures", {"lib.measures",
            "lib.measures.gap", "lib.measures.bootstrap"}),
        ("from .render import x\nfrom .. import recipes", "mini.world", {"mini.world.render",
            "mini", "mini.recipes"}),
        ("import library\nfrom libs import x\nimport numpy", "", set()),
    ],
)  # fmt: skip
def test_imports_of_our_modules(source, package, modules):
    assert freshness.imported(source, package) == modules


def test_closure_follows_imports_and_takes_data_files_along():
    found = {
        f.relative_to(paths.ROOT).as_posix() for f in freshness.closure({"lib.claims.findings"})
    }
    assert {"lib/claims/findings.py", "lib/plotting.mplstyle", "lib/claims/__init__.py"} <= found
    assert not any(name.startswith(("workflow/", "docs/", "mini/")) for name in found)
    assert not any(name.endswith((".yaml", ".csv")) for name in found)


def stale(items, change: Path, tmp_path, monkeypatch) -> set[str]:
    """The items whose digest another content of a file changes."""
    which = profiles.load("mini")
    before = {item: freshness.digest(which, item) for item in items}
    hash_of = freshness._hash
    monkeypatch.setattr(
        freshness, "_hash", lambda file: "other" if file == change else hash_of(file)
    )
    return {item for item in items if freshness.digest(which, item) != before[item]}


@pytest.mark.parametrize("key", ["alignclip", "i0t"])
def test_a_paper_makes_only_notebooks_stale_that_name_it(key, tmp_path, monkeypatch):
    everything = list(catalogue.load())
    change = freshness.PAPERS / f"{key}.yaml"
    found = stale(everything, change, tmp_path, monkeypatch)
    folder = {name for name in everything if name.startswith(f"{key}/")}
    named = {
        name
        for name in everything
        if key in notebooks.code(catalogue.load()[name].notebook).replace("i0t_", "")
    }
    assert folder <= found <= folder | named
    assert len(found) < len(everything) / 2


@pytest.mark.parametrize("file", ["workflow/run.py", "workflow/Snakefile", "docs/report.py"])
def test_the_runner_and_the_pages_make_no_notebook_stale(file, tmp_path, monkeypatch):
    assert not stale(list(catalogue.load()), paths.ROOT / file, tmp_path, monkeypatch)


def test_the_record_makes_stale_what_reads_it(tmp_path, monkeypatch):
    change = paths.ROOT / "evidence" / "toy.json"
    found = stale(list(catalogue.load()), change, tmp_path, monkeypatch)
    assert found == {"beyond/audit_of_the_negatives", "beyond/what_we_learned"}


def test_a_model_makes_its_notebooks_stale(tmp_path, monkeypatch):
    change = freshness.weights("mini-slip")
    found = stale(list(catalogue.load()), change, tmp_path, monkeypatch)
    roles = {name for name, item in catalogue.load().items() if "slip" in item.models}
    assert roles == found != set()


def test_only_data_that_a_notebook_can_read_make_it_stale(tmp_path, monkeypatch):
    which, item = profiles.load("mini"), "alignclip/table2_zero_shot"
    reader = "mind_the_gap/fig1_modality_gap"
    monkeypatch.setenv("MODALITY_GAP_DATA", str(tmp_path))
    before = [freshness.digest(which, name) for name in (item, reader)]
    (tmp_path / "notes.txt").write_text("mine")
    assert [freshness.digest(which, name) for name in (item, reader)] == before
    (tmp_path / "features_clip.npy").write_bytes(b"")
    assert freshness.digest(which, item) == before[0]
    assert freshness.digest(which, reader) != before[1]


def test_notebook_with_magics_is_read(project):
    project.notebook("a/one", "%matplotlib inline\nfrom lib import other", "!ls\nimport lib.tiny")
    code = notebooks.code(project.root / "notebooks/a/one.ipynb")
    assert "pass\nfrom lib import other" in code


# Whole runs ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_only_what_is_missing_runs(project):
    notebook = project.read("notebooks/a/one.ipynb")
    code, output = project.run()
    assert code == 0, output
    assert project.ran() == ["a/one", "a/two", "b/three", "report", "train mini-clip"]
    assert project.read("figures/mini/RESULTS.md") == "3"
    assert "a/one" in output
    assert "1 inconclusive" in output
    assert project.read("notebooks/a/one.ipynb") == notebook  # only the record changes it

    code, output = project.run()
    assert (code, project.ran()) == (0, [])
    assert output.startswith("Nothing to do: all 3 items")

    project.write("lib/other.py", "VALUE = 2\n")
    assert project.run()[0] == 0
    assert project.ran() == ["a/two", "report"]

    project.notebook("b/three", "1 + 1", THREE)
    (project.root / "figures/mini/a/one.pdf").unlink()
    assert project.run("--only", "b")[0] == 0
    assert project.ran() == ["b/three", "report"]
    project.run()
    assert project.ran() == ["a/one", "report"]

    # Dates mean nothing: neither newer sources nor results from the future change a thing.
    ahead = time.time() + 1e6
    for file in ("lib/tiny.py", "figures/mini/a/two.png"):
        os.utime(project.root / file, (ahead, ahead))
    assert "Nothing to do" in project.run()[1]
    # A version that is switched back is done already, if its results are back as well.
    results = {f: f.read_bytes() for f in (project.root / "figures/mini/a").glob("two.*")}
    project.write("lib/other.py", "VALUE = 3\n")
    assert project.run("--only", "a/two", "b/three")[0] == 0
    assert project.ran() == ["a/two", "report"]
    project.write("lib/other.py", "VALUE = 2\n")
    for file, content in results.items():
        file.write_bytes(content)
    assert "Nothing to do" in project.run()[1]

    assert project.run("--only", "b/three", "--force")[0] == 0
    assert "b/three" in project.ran()
    # What the workflow keeps for itself is not needed to know what is done.
    project.remove(".cache/snakemake")
    assert "Nothing to do" in project.run()[1]


@pytest.mark.slow
def test_models_that_a_notebook_uses_are_trained_first(project):
    profile = project.read("profiles/mini.yaml").replace("mini-clip}", "mini-clip, rival: mini-b}")
    project.write("profiles/mini.yaml", profile)
    project.items(b__three="  models: [rival]\n")
    code, output = project.run()
    assert code == 0, output
    assert project.ran() == ["b/three", "report", "train mini-b"]
    assert "training mini-b" in output
    assert "Nothing to do" in project.run()[1]
    project.write("models/mini-b/open_clip_model.safetensors", "other weights")
    assert project.run()[0] == 0
    assert project.ran() == ["b/three", "report"]


@pytest.mark.slow
def test_failures_stop_nothing_else(project):
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
    assert project.read("figures/mini/RESULTS.md") == "1"
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
    ):
        assert sentence in output
    assert "no weights today" in project.read(".cache/logs/mini/snakemake.log")
    (kept,) = (project.root / ".cache/executed/mini/b").glob("raises.*.ipynb")
    assert "before" in kept.read_text()
    assert "on purpose" in kept.read_text()
    assert str(kept) in output

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
    log = project.root / ".cache/logs/mini/snakemake.log"
    # The other steps have ended, and Snakemake knows: it removes what a step wrote that it stops.
    ended = re.compile(r"Finished jobid: \d+ \(Rule: notebook\)")
    _until(lambda: pid_file.exists() and len(ended.findall(log.read_text())) == 2)
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
    assert {"a/one", "b/three"}.isdisjoint(again)
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


@pytest.mark.slow
def test_killed_at_any_moment_the_next_run_ends_with_the_same(project):
    """TERM, INT or KILL, to the runner alone or to all of its group."""
    project.run()
    wanted = project.results()
    draw = random.Random(0)
    for k in range(4):
        project.remove(".cache/done", "figures")
        process = project.start(start_new_session=True)
        time.sleep(draw.uniform(0.5, 6))
        how = draw.choice([signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
        (os.killpg if k % 2 else os.kill)(process.pid, how)
        process.communicate(timeout=60)
        code, output = project.run()
        assert code == 0, output
        assert project.results() == wanted


def test_a_second_run_is_refused(project):
    (project.root / ".cache").mkdir()
    with FileLock(project.root / ".cache/run.lock"):
        code, output = project.run()
    assert code == 1
    assert "Another ./run_all.sh is at work" in output
    assert project.ran() == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_cache_is_one_sentence(project):
    (project.root / ".cache").mkdir(mode=0o555)
    code, output = project.run()
    assert code == 1
    assert "MODALITY_GAP_CACHE" in output
    assert "Traceback" not in output


# Progress -----------------------------------------------------------------------------------------


def record(event, **more):
    return SimpleNamespace(event=event, **more)


def test_progress_counts_estimates_and_sums_up(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    monkeypatch.setattr(logging, "Handler", object)
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock.now)
    done = tmp_path / "done/mini"
    stamps = {item: done / f"{item}.0123456789ab" for item in ("i0t/a", "i0t/b", "i0t/c")}
    shown = progress.Steps(stamps, 1)
    assert shown.left() == ""  # the first time, nothing is known of the notebooks
    shown.emit(record("job_info", jobid=1, rule_name="notebook", wildcards={"item": "i0t/a"}))
    clock.now += 100
    files.write_text(notebooks.failure_file(stamps["i0t/a"]), "KeyError: 'x'")
    shown.emit(record("job_error", jobid=1))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("[1/3] i0t/a")
    assert "100 s  FAILED: KeyError: 'x'" in lines[0]
    assert "about 3 min left" in lines[0]  # two steps, each like the first: 200 s
    shown.emit(record("job_info", jobid=2, rule_name="notebook", wildcards={"item": "i0t/b"}))
    clock.now += 50
    files.write_json(stamps["i0t/b"], {"seconds": 50.2, "files": {}})
    shown.emit(record("job_finished", job_id=2))
    assert "50 s  done  (about 75 s left)" in capsys.readouterr().out
    table = progress.summary(stamps, list(stamps), {"i0t/b": "2 x"})
    rows = [line.split(maxsplit=3) for line in table.splitlines()][1:]
    assert rows[:2] == [["i0t/a", "failed"], ["i0t/b", "done", "50", "2 x"]]
    assert rows[2] == ["i0t/c", "not", "run"]
    assert progress.failures("mini", stamps) == "i0t/a: KeyError: 'x'"


def test_a_log_says_what_is_running(tmp_path, monkeypatch, capsys):
    """Where nobody watches a terminal, a long step writes a line now and then."""
    monkeypatch.setattr(progress, "EVERY", 0)
    shown = progress.Steps({"i0t/a": tmp_path / "i0t/a.0123456789ab"}, 1)
    shown.emit(record("job_info", jobid=1, rule_name="notebook", wildcards={"item": "i0t/a"}))
    time.sleep(1.2)
    assert "[0/1] running: i0t/a" in capsys.readouterr().out


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
        folder = str(paths.ROOT)
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
    for gone in ("ipykernel", str(paths.ROOT), "0x7f", "papermill", "widget", "injected"):
        assert gone not in first
    cell = json.loads(first)["cells"][1]
    assert cell["execution_count"] == cell["outputs"][2]["execution_count"] == 2
    assert cell["outputs"][0]["text"] == ["a\n", "b\n"]
    assert cell["outputs"][2]["data"]["image/png"] == "AAAA"
    assert json.loads(first)["metadata"][notebooks.OUTPUTS_OF] == notebooks.code_digest(source)
    before = notebooks.code_digest(source)
    project.notebook("a/one", "import x\nx  # other code", "")
    assert notebooks.code_digest(source) != before


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
    with pytest.raises(ValueError, match="a cell tagged 'parameters'"):
        notebooks.run_notebook(source, tmp_path / "copy.ipynb", {"profile": "mini"})


@pytest.mark.parametrize(
    ("home", "text", "clean"),
    [
        ("/", "read /usr/share, a/b", "read /usr/share, a/b"),
        ("/home/me", "/home/me/x and /home/mean/y", "~/x and /home/mean/y"),
    ],
)
def test_only_a_home_folder_of_its_own_is_shortened(home, text, clean, monkeypatch):
    monkeypatch.setenv("HOME", home)
    assert notebooks._clean_text(text) == clean

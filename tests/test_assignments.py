"""The problem sets: their form, what students get, and what made-up submissions score.

`tests/submissions/<set>.py` holds SUBMISSIONS: name -> (answers, points). `answers` maps the id of
a solution cell to its source; other solution cells are the master's, and None is the student
version as it was handed out. `points` maps every automatically graded cell to what it must give.
"""

import ast
import functools
import io
import os
import re
import runpy
import shutil
import subprocess
import sys
import warnings
import zipfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import nbformat
import pytest

from docs import assignments
from lib import paths
from workflow import cli

MASTERS = {master.stem: master for master in assignments.masters()}
SUBMISSIONS = {
    name: runpy.run_path(str(paths.ROOT / "tests" / "submissions" / f"{name}.py"))["SUBMISSIONS"]
    for name in MASTERS
}
SECRETS = ("BEGIN SOLUTION", "BEGIN HIDDEN TESTS", "BEGIN MARK SCHEME")
STUB = "# YOUR CODE HERE\nraise NotImplementedError()"

each_set = pytest.mark.parametrize("name", MASTERS)


def read(notebook: Path):
    return nbformat.read(notebook, as_version=4)


def kind(cell) -> str:
    """ "solution", "test", "task" (read by a person), "given" (locked), or "" (free)."""
    about = cell.metadata.get("nbgrader", {})
    if about.get("task"):
        return "task"
    if about.get("solution"):
        return "solution"
    if about.get("grade"):
        return "test"
    return "given" if about.get("locked") else ""


def of_kind(notebook, *kinds: str) -> list:
    return [cell for cell in notebook.cells if kind(cell) in kinds]


def points(cells) -> dict[str, float]:
    return {c.metadata.nbgrader.grade_id: c.metadata.nbgrader.points for c in cells}


# Form ---------------------------------------------------------------------------------------------


def test_every_set_has_one_master_and_submissions():
    folders = [folder.name for folder in sorted(assignments.SOURCE.iterdir())]
    assert list(MASTERS) == folders
    assert [master.parent.name for master in MASTERS.values()] == folders
    assert all(len(list(master.parent.iterdir())) == 1 for master in MASTERS.values())
    assert all({"empty", "hard_coded"} < set(made) for made in SUBMISSIONS.values())
    for made in SUBMISSIONS.values():
        total = [sum(expected.values()) for _, expected in made.values()]
        assert total.count(max(total)) >= 3  # correct ones, in loops, NumPy and torch
        mistakes = [expected for _, expected in made.values() if sum(expected.values()) > 0]
        mistakes = [expected for expected in mistakes if sum(expected.values()) < max(total)]
        assert len(mistakes) >= 5
        for cell in mistakes[0]:  # every question has its own
            assert any(expected[cell] == 0 for expected in mistakes), cell


@each_set
def test_form(name):
    notebook = read(MASTERS[name])
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    assert notebook.metadata.kernelspec.name == "python3"
    ids = [c.metadata.nbgrader.grade_id for c in notebook.cells if "nbgrader" in c.metadata]
    assert len(ids) == len(set(ids))
    tests, tasks = of_kind(notebook, "test"), of_kind(notebook, "task")
    assert 4 <= len(tests) <= 8 and 1 <= len(tasks) <= 2
    for before, cell, after in zip(notebook.cells, notebook.cells[1:], notebook.cells[2:]):  # noqa: B905
        if kind(cell) == "solution":
            question = cell.metadata.nbgrader.grade_id
            assert after.metadata.nbgrader.grade_id == f"{question}_test" and kind(after) == "test"
            assert before.cell_type == "markdown"
            assert cell.source.count("### BEGIN SOLUTION") == 1
            assert after.source.count("### BEGIN HIDDEN TESTS") == 1
            assert not after.source.startswith("### BEGIN")  # some of the tests are to be seen
    assert len(tests) == len(of_kind(notebook, "solution"))
    assert all("### BEGIN MARK SCHEME" in cell.source for cell in tasks)


@each_set
def test_points_add_up(name):
    notebook = read(MASTERS[name])
    tests, tasks = (points(of_kind(notebook, kind)) for kind in ("test", "task"))
    first = notebook.cells[0].source
    said = re.search(r"\*\*Points\*\* (\d+): .* \((\d+)\), .* by a person \((\d+)\)", first)
    assert [int(number) for number in said.groups()] == [
        sum(tests.values()) + sum(tasks.values()),
        sum(tests.values()),
        sum(tasks.values()),
    ]
    headings = re.findall(r"^## Question (\d+).* \((\d+) points\)", _prose(notebook), re.MULTILINE)
    both = {key.removesuffix("_test"): worth for key, worth in (tests | tasks).items()}
    assert {f"q{number}": int(worth) for number, worth in headings} == both
    for cell in of_kind(notebook, "task"):
        worth = [int(n) for n in re.findall(r"^- (\d) point", cell.source, re.MULTILINE)]
        assert sum(worth) == cell.metadata.nbgrader.points


def _prose(notebook) -> str:
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def test_mark_scheme_quotes_the_leaderboard():
    """What question 7 of the last set quotes changes when the figures are made anew."""
    import pandas as pd

    board = pd.read_csv(paths.ROOT / "figures/mini/beyond/closing_the_gap_leaderboard.csv")
    main = board[board["kind"] == "main"].pivot(index="method", columns="measure", values="value")
    ranks = main.corr("spearman")["centroid distance"]
    trainings = board[board["kind"].isin(["main", "seed"])].groupby(["method", "measure"])["value"]
    mean, spread = trainings.mean(), trainings.std()
    text = next(c.source for c in read(MASTERS["ps4_aligning_encoders"]).cells if c.id == "q7")
    quoted = [
        f"{ranks['I2T R@1']:.2f} for image-to-text R@1, {ranks['T2I R@1']:.2f} for text-to-image, "
        f"{ranks['zero-shot']:.2f} for zero-shot",
        f"image mAP ({ranks['image mAP']:.2f})",
        f"{len(main)} methods",
        *(
            f"from {mean['CLIP', what]:{form}} to {mean['I0T_post', what]:{form}}"
            for what, form in (
                ("centroid distance", ".2f"),
                ("I2T R@1", ".3f"),
                ("zero-shot", ".3f"),
            )
        ),
        f"The shift lowers R@1 to {mean['shift', 'I2T R@1']:.3f}",
        " and ".join(
            f"{mean[method, 'zero-shot']:.2f} ± {spread[method, 'zero-shot']:.2f}"
            for method in ("AlignCLIP", "SharedCLIP")
        ),
        f"CLIP's {mean['CLIP', 'zero-shot']:.2f} ± {spread['CLIP', 'zero-shot']:.2f}",
        f"({main['I2T R@1']['shift']:.3f} to {main['I2T R@1'].max():.3f})",
    ]
    assert [phrase for phrase in quoted if phrase not in text] == []


@pytest.mark.slow
def test_fifth_set_quotes_what_it_measures():
    """The numbers of question 6's mark scheme, and those of the made-up report and its review."""
    from lib.encoders.embeddings import embed
    from lib.measures import bootstrap

    space = surroundings("ps5_replicate_a_claim")
    texts = {c.id: c.source for c in read(MASTERS["ps5_replicate_a_claim"]).cells}

    def measured(claim, captions, measure="I2T R@1"):
        rule = {"claim": claim, "captions": captions, "measure": measure, "resamples": 1000}
        before, after, draws = space["run"](rule)
        return f"{bootstrap.interval(lambda i: after(i) - before(i), draws.shape[1])}"

    said = [f"{measured(claim, kind)}" for claim in ("alignclip-9", "i0t-7", "alignclip-12")
            for kind in ("short", "full")]  # fmt: skip
    said += [measured("cross_the_gap-1", "full", "image mAP")]
    assert [number for number in said if number not in texts["q6"]] == []

    def robin(split):
        """Hits (2500,) before and after I0T_post, with the means of a split."""
        model, pairs = space["registry"].load("mini-clip"), space["load_pairs"]
        found, source = (embed(model, pairs("world", each, 500)) for each in ("test", split))
        owner, unit = found.owner.numpy(), space["unit"]
        means = [z.numpy().mean(axis=0) for z in (source.image, source.text)]
        x, y = found.image.numpy(), found.text.numpy()
        after = [unit(z - mean) for z, mean in zip((x, y), means, strict=True)]
        return [((b @ a.T).argmax(1) == owner).astype(float) for a, b in ((x, y), after)]

    before, after = robin("test")
    line = f"R@1 is {before.mean():.3f} before and {after.mean():.3f} after, a difference of "
    assert line + f"{bootstrap.paired_difference(after, before)}" in texts["fellow"]
    per_image = [hits.reshape(500, 5).mean(axis=1) for hits in (after, before)]
    e = bootstrap.paired_difference(*per_image)
    assert f"draw images: [{e.low:.3f}, {e.high:.3f}]" in texts["q8"]
    before, after = robin("train")
    assert f"the difference is {bootstrap.paired_difference(after, before)}" in texts["q8"]
    sealed = [bound for bound in (0.0, -0.005, -0.015, -0.02) if space["seal"](
        space["ROBIN_RULE"] | {"bound": bound}) == space["ROBIN_SEAL"]]  # fmt: skip
    assert sealed == [-0.005]


@pytest.mark.parametrize("file", sorted(assignments.FOLDER.glob("*.md")), ids=lambda f: f.name)
def test_links_lead_somewhere(file):
    links = re.findall(r"\]\(([^)#]+)", file.read_text(encoding="utf-8"))
    assert [x for x in links if "://" not in x and not (file.parent / x).exists()] == []


# What students get --------------------------------------------------------------------------------


@each_set
def test_student_version_leaks_nothing(name):
    pytest.importorskip("nbgrader")
    master = read(MASTERS[name])
    student = assignments.student_version(MASTERS[name])
    text = nbformat.writes(student)
    assert not [secret for secret in SECRETS if secret in text]
    for cell in master.cells:
        for part in re.findall(r"### BEGIN [A-Z ]+\n(.*?)\n *### END", cell.source, re.DOTALL):
            for line in filter(str.strip, part.splitlines()):
                assert len(line.strip()) < 30 or not _has_line(student, cell.id, line)
    assert [cell.id for cell in student.cells] == [cell.id for cell in master.cells]
    assert points(of_kind(student, "test", "task")) == points(of_kind(master, "test", "task"))
    for cell in of_kind(student, "solution"):
        assert STUB in cell.source.replace("\n    ", "\n")
    for cell in of_kind(student, "given", "test", "task"):
        assert cell.metadata.deletable is False


def _has_line(notebook, cell_id: str, line: str) -> bool:
    (cell,) = [cell for cell in notebook.cells if cell.id == cell_id]
    return line in cell.source.splitlines()


def test_release(tmp_path):
    pytest.importorskip("nbgrader")
    made = assignments.release(tmp_path / "once")
    assert [file.name for file in made] == [f"{name}.zip" for name in MASTERS]
    assert sorted(made) == sorted((tmp_path / "once").iterdir())
    for file, again in zip(made, assignments.release(tmp_path / "twice"), strict=True):
        assert file.read_bytes() == again.read_bytes()
        name = file.stem
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            own = [f"{name}/{one}" for one in (f"{name}.ipynb", "README.md", "requirements.txt")]
            assert names[:3] == own and len(names) == len(set(names))
            notebook = nbformat.reads(archive.read(own[0]).decode(), 4)
            assert f"pytest --nbmake {name}.ipynb" in archive.read(own[1]).decode()
            assert {f"{name}/{one}" for one in ("LICENSE", "lib/paths.py")} < set(names)
            texts = [archive.read(one) for one in names if not one.endswith(".safetensors")]
            assert not [secret for secret in SECRETS for text in texts if secret.encode() in text]
        assert notebook == assignments.student_version(MASTERS[name])
        assert file.stat().st_size < 10e6  # a learning platform takes it


def test_zip_has_what_its_notebook_names():
    files = {
        name: {file.relative_to(paths.ROOT).as_posix() for file in assignments.carried(master)}
        for name, master in MASTERS.items()
    }
    models = {name: {file.split("/")[1] for file in its if file.startswith("models/")}
              for name, its in files.items()}  # fmt: skip
    assert models["ps1_modality_gap"] == {"mini-clip", "mini-clip-untrained"}
    assert models["ps4_aligning_encoders"] == {"mini-clip", "mini-shared", "mini-align"}
    assert "figures/mini/beyond/closing_the_gap_leaderboard.csv" in files["ps4_aligning_encoders"]
    shown = {name for name, its in files.items() if {"docs/widget.py", "docs/live/live.js"} <= its}
    assert shown == {"ps1_modality_gap", "ps2_standardisation"}
    assert not any(
        "__pycache__" in file or "notebooks/" in file for each in files.values() for file in each
    )


def test_requirements_name_what_is_imported():
    """Every package that a module of the zip imports when it is imported itself."""
    called = {"PIL": "datasets", "pyarrow": "datasets", "open_clip": "open_clip_torch",
              "sklearn": "scikit-learn", "yaml": "pyyaml", "IPython": "nbmake"}  # fmt: skip
    asked = {re.split(r"[<>=]", line)[0] for line in assignments.requirements().splitlines()}
    assert asked == set(assignments.PACKAGES)
    seen = set()
    for file in assignments.carried(MASTERS["ps1_modality_gap"]):
        if file.suffix == ".py":
            for node in ast.parse(file.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.Import):
                    seen |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    seen.add(node.module.split(".")[0])
    others = seen - set(sys.stdlib_module_names) - {"lib", "mini", "docs"}
    assert len(others) > 8
    assert {called.get(name, name) for name in others} <= asked


@each_set
def test_first_cell_makes_colab_ready(name, tmp_path, monkeypatch):
    pytest.importorskip("nbgrader")
    cell = next(cell for cell in read(MASTERS[name]).cells if cell.cell_type == "code")
    assert cell.id == "colab" and kind(cell) == "given"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    told = []
    namespace = {"print": told.append}
    assert failure(cell.source, namespace) is None  # elsewhere it does nothing
    assert not told and Path.cwd() == tmp_path
    monkeypatch.setitem(sys.modules, "google.colab", sys)
    assert f"Upload {name}.zip" in failure(cell.source, namespace)
    content = assignments.contents(MASTERS[name])
    (tmp_path / f"{name}.zip").write_bytes(assignments.zipped(content))
    for _ in range(2):  # once more does no harm
        assert failure(cell.source, namespace) is None
    assert Path.cwd() == tmp_path / name and sys.path[0] == str(tmp_path / name)
    (line,) = told
    assert "%pip install -q -r requirements.txt" in line and Path("requirements.txt").read_text()


def test_release_from_the_command_line(tmp_path, monkeypatch, capsys):
    pytest.importorskip("nbgrader")
    asked = []
    monkeypatch.setattr(cli, "module", lambda *words: asked.append(words) or 0)
    assert cli.main(["--assignments"]) == 0
    assert asked == [("docs.assignments",)]
    monkeypatch.setattr(assignments.release, "__defaults__", (tmp_path,))
    assert assignments.main() == 0
    made = [os.path.relpath(tmp_path / f"{name}.zip", paths.ROOT) for name in MASTERS]
    assert capsys.readouterr().out.split() == made


@pytest.mark.parametrize("where", [assignments, cli])
def test_release_needs_nbgrader(where, monkeypatch, capsys):
    monkeypatch.setattr(where, "find_spec", lambda module: None)
    assert (assignments.main() if where is assignments else cli.main(["--assignments"])) == 1
    assert "pip install -e '.[assignments]'" in capsys.readouterr().err


def test_master_with_a_mistake_is_refused(tmp_path):
    pytest.importorskip("nbgrader")
    notebook = read(MASTERS["ps1_modality_gap"])
    cell = of_kind(notebook, "test")[0]
    cell.source = cell.source.replace("### END HIDDEN TESTS", "")
    nbformat.write(notebook, tmp_path / "broken.ipynb")
    with pytest.raises(ValueError, match=r"^broken.ipynb: .*hidden tests"):
        assignments.student_version(tmp_path / "broken.ipynb")


# What submissions score ---------------------------------------------------------------------------


@functools.cache
def surroundings(name: str) -> dict:
    """What the cells that every submission shares define: imports, and functions for the checks."""
    space = {"__name__": "__main__"}
    for cell in read(MASTERS[name]).cells:
        if cell.id in ("setup", "given", "fellow"):
            assert failure(cell.source, space) is None
    return space


def failure(source: str, space: dict) -> str | None:
    """Run a cell; what it complains about, or None."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            exec(compile(source, "<cell>", "exec"), space)
        except Exception as error:
            return f"{type(error).__name__}: {error}".split("\n")[0]
    return None


def grade(notebook, name: str, answers: dict | None) -> tuple[dict, dict]:
    """Points of every test cell, all or none, and complaints, of a submission to `notebook`."""
    cells = of_kind(notebook, "solution", "test")
    if unknown := set(answers or ()) - {cell.id for cell in cells}:
        raise ValueError(f"{name} has no solution cell called {sorted(unknown)}.")
    space, got, complaints = dict(surroundings(name)), {}, {}
    for cell in cells:
        if kind(cell) == "solution":
            complaint = failure(
                STUB if answers is None else answers.get(cell.id, cell.source), space
            )
            assert answers is None or complaint is None, complaint
        else:
            complaint = failure(cell.source, space)
            got[cell.id] = 0 if complaint else cell.metadata.nbgrader.points
            complaints |= {cell.id: complaint} if complaint else {}
    return got, complaints


@pytest.mark.parametrize(
    ("name", "submission"), [(name, one) for name, made in SUBMISSIONS.items() for one in made]
)
def test_score(name, submission):
    answers, expected = SUBMISSIONS[name][submission]
    got, complaints = grade(read(MASTERS[name]), name, answers)
    assert got == expected, complaints


@each_set
def test_hidden_tests_are_needed(name):
    """Who returns the visible numbers by heart passes all that students see."""
    pytest.importorskip("nbgrader")
    answers, _ = SUBMISSIONS[name]["hard_coded"]
    student = assignments.student_version(MASTERS[name])
    got, complaints = grade(student, name, answers)
    assert got == points(of_kind(student, "test")), complaints


# The real thing ----------------------------------------------------------------------------------


def surely_found() -> dict:
    """Environment variables with which a child finds this project and this environment."""
    search = [str(paths.ROOT), os.environ.get("PYTHONPATH", "")]
    programs = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, search)),
        "PATH": os.pathsep.join(programs),  # nbgrader calls alembic by its name
    }


def submit(notebook, name: str, folder: Path, answers: dict | None) -> Path:
    """Write a student's notebook: the version that was handed out, with these answers in it."""
    master = {cell.id: cell.source for cell in of_kind(read(MASTERS[name]), "solution")}
    for cell in of_kind(notebook, "solution") if answers is not None else ():
        cell.source = answers.get(cell.id, master[cell.id])
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / f"{name}.ipynb")
    return folder


def by_itself() -> dict:
    """Environment variables of a student, who has neither this repository nor a network."""
    ours = ("MODALITY_GAP", "PYTHONPATH")
    nowhere = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    return {k: v for k, v in os.environ.items() if not k.startswith(ours)} | nowhere


def check_by_pytest(folder: Path, environment: dict) -> tuple[int, str]:
    """What for_students.md tells to run before handing in."""
    notebook = f"{folder.name}.ipynb"
    command = [sys.executable, "-m", "pytest", "--nbmake", "-p", "no:cacheprovider", notebook]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    return done.returncode, done.stdout + done.stderr


FROM_HERE = """
from pathlib import Path
import lib, mini.world
for package in (lib, mini):
    assert Path(package.__file__).is_relative_to(Path.cwd()), package.__file__
"""


@pytest.mark.notebooks
@pytest.mark.slow
@each_set
def test_zip_runs_alone_with_right_answers(name, tmp_path):
    """Unpacked in an empty folder, without this repository: what it needs is in the zip."""
    pytest.importorskip("nbgrader")
    answers, _ = SUBMISSIONS[name]["numpy"]
    zipped = assignments.zipped(assignments.contents(MASTERS[name]))
    with zipfile.ZipFile(io.BytesIO(zipped)) as archive:
        archive.extractall(tmp_path)
    student = read(tmp_path / name / f"{name}.ipynb")
    student.cells.append(nbformat.v4.new_code_cell(FROM_HERE))
    submit(student, name, tmp_path / name, answers)
    before = os.times().children_user
    code, output = check_by_pytest(tmp_path / name, by_itself())
    assert code == 0, output[-3000:]
    assert "1 passed" in output
    assert os.times().children_user - before < 180  # three minutes of one core, whatever else runs


@pytest.mark.notebooks
def test_missing_answers_fail_by_pytest(tmp_path):
    pytest.importorskip("nbgrader")
    name = "ps2_standardisation"
    student = assignments.student_version(MASTERS[name])
    code, output = check_by_pytest(submit(student, name, tmp_path / name, None), surely_found())
    assert code == 1
    assert "NotImplementedError" in output


@pytest.mark.notebooks
@pytest.mark.slow
def test_nbgrader_gives_the_same_points(tmp_path):
    """One set in a course folder: a right submission with a progress bar, and mistakes."""
    pytest.importorskip("nbgrader")
    from nbgrader.api import Gradebook

    name, students = "ps2_standardisation", ("loops", "divided_by_deviation")
    shutil.copy(assignments.FOLDER / "nbgrader_config.py", tmp_path)
    shutil.copytree(MASTERS[name].parent, tmp_path / "source" / name)

    def nbgrader(*arguments):
        command = [sys.executable, "-m", "nbgrader", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=surely_found(), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr

    nbgrader("generate_assignment", name)
    ours = assignments.student_version(MASTERS[name])
    theirs = read(tmp_path / "release" / name / f"{name}.ipynb")
    assert ours == theirs
    for student in students:
        answers, _ = SUBMISSIONS[name][student]
        submit(read(tmp_path / "release" / name / f"{name}.ipynb"), name,
               tmp_path / "submitted" / student / name, answers)  # fmt: skip
    nbgrader("autograde", name, "--create")
    with Gradebook(f"sqlite:///{tmp_path}/gradebook.db") as book:
        for student in students:
            (notebook,) = book.find_submission(name, student).notebooks
            got = {g.name: g.auto_score for g in notebook.grades if g.name.endswith("_test")}
            assert got == SUBMISSIONS[name][student][1]

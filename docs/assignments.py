"""The problem sets of `assignments/`: what students get of them, zipped to be handed out.

A master, `assignments/source/<set>/<set>.ipynb`, holds solutions, hidden tests and mark schemes.
nbgrader's own steps take them out, so that a student version is never kept by hand. A zip has what
its notebook needs of this repository, in the same folders: `lib`, the embedded world, models.
"""

import io
import os
import re
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import nbformat

from lib import files, paths
from workflow import environment

FOLDER = paths.ROOT / "assignments"
SOURCE, RELEASE = FOLDER / "source", FOLDER / "release"
FOR_STUDENTS = FOLDER / "for_students.md"  # goes into every zip as its README.md
CARRIED = ("LICENSE", "lib", "mini/__init__.py", "mini/world", "profiles")  # by every zip
# By those whose notebook shows the page "Try it".
WIDGET = ("CITATION.cff", *(f"docs/{name}" for name in ("__init__.py", "citation.py", "live")))
WIDGET += ("docs/live_data.py", "docs/try_it.png", "docs/widget.py")
# What `lib` and the notebooks import, and nbmake. ipykernel is not here: to change the kernel that
# runs, as in Colab, breaks it.
PACKAGES = (
    *("datasets", "filelock", "huggingface_hub", "matplotlib", "nbmake", "numpy", "pandas"),
    *("open_clip_torch", "pooch", "pydantic", "pyyaml", "safetensors", "scikit-learn", "scipy"),
    *("torch", "torchvision", "tqdm", "transformers"),
)
ANY_VERSION = ("torch", "torchvision")  # large, and built for each other: those that are there


def masters() -> list[Path]:
    """The masters of all problem sets, in the order of their names."""
    return sorted(SOURCE.glob("*/*.ipynb"))


def release(folder: Path = RELEASE) -> list[Path]:
    """Write `<set>.zip` for every problem set: the student version, how to work on it, and what it
    needs of this repository.

    The same masters give the same bytes. Returns the files.

    Raises: ValueError if nbgrader is not installed, or a master has a mistake in its form.
    """
    made = []
    for master in masters():
        made.append(folder / f"{master.stem}.zip")
        files.write_bytes(made[-1], zipped(contents(master)))
    return made


def contents(master: Path) -> dict[str, bytes]:
    """What a set's zip holds: file -> bytes. Raises: ValueError, as `release`."""
    name = master.stem
    texts = {
        f"{name}.ipynb": nbformat.writes(student_version(master)) + "\n",
        "README.md": FOR_STUDENTS.read_text(encoding="utf-8").replace("SET", name),
        "requirements.txt": requirements(),
    }
    found = {file: text.encode() for file, text in texts.items()}
    for file in carried(master):
        found[file.relative_to(paths.ROOT).as_posix()] = file.read_bytes()
    return {f"{name}/{file}": data for file, data in found.items()}


def student_version(master: Path) -> nbformat.NotebookNode:
    """A master without solutions, hidden tests and mark schemes: what `nbgrader
    generate_assignment` makes of it, without a gradebook and without the user's settings.

    Raises: ValueError if nbgrader is not installed, or the master has a mistake in its form.
    """
    if find_spec("nbgrader") is None:
        raise ValueError(
            "nbgrader is not installed in this environment: pip install -e '.[assignments]'"
        )
    from nbgrader import preprocessors as steps

    order = [steps.LockCells, steps.ClearSolutions, steps.ClearOutput, steps.CheckCellMetadata]
    order += [steps.ClearHiddenTests, steps.ClearMarkScheme, steps.ComputeChecksums]
    notebook = nbformat.read(master, as_version=4)
    for step in order:
        try:
            notebook, _ = step().preprocess(notebook, {})
        except Exception as error:  # of any step, for example about a mark without an end
            raise ValueError(f"{master.name}: {' '.join(str(error).split())}") from error
    return notebook


def carried(master: Path) -> list[Path]:
    """Files of this repository that a set's zip has: CARRIED, WIDGET if its notebook imports that,
    and the models and the results that its code names in quotes ("mini-clip", "figures/...")."""
    notebook = nbformat.read(master, as_version=4)
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    named = re.findall(r'"(figures/[^"]+)"', code)
    named += [f"models/{m.name}" for m in paths.MODELS.iterdir() if f'"{m.name}"' in code]
    found = []
    shown = WIDGET if "import widget" in code else ()
    for start in map(paths.ROOT.joinpath, [*CARRIED, *shown, *sorted(named)]):
        inside = sorted(start.rglob("*")) if start.is_dir() else [start]
        found += [file for file in inside if file.is_file() and "__pycache__" not in file.parts]
    return found


def requirements() -> str:
    """PACKAGES, with the versions that this project asks for, as a requirements.txt."""
    project = environment.project()
    asked = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    by_name = {re.split(r"[<>=]", line)[0]: line for line in asked}
    lines = [name if name in ANY_VERSION else by_name[name] for name in PACKAGES]
    return "".join(f"{line}\n" for line in lines)


def zipped(content: dict[str, bytes]) -> bytes:
    """A zip of files; neither compression nor the time makes a difference between two runs."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as archive:
        for name, data in content.items():
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # as Unix writes it
            archive.writestr(entry, data)
    return written.getvalue()


def main() -> int:
    try:
        for file in release():
            print(os.path.relpath(file, paths.ROOT))
    except ValueError as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

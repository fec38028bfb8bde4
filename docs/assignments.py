"""The problem sets of `assignments/`: what students get of them, zipped to be handed out.

A master, `assignments/source/<set>/<set>.ipynb`, holds solutions, hidden tests and mark schemes.
nbgrader's own steps take them out, so that a student version is never kept by hand.
"""

import io
import os
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import nbformat

from lib import files, paths

FOLDER = paths.ROOT / "assignments"
SOURCE, RELEASE = FOLDER / "source", FOLDER / "release"
FOR_STUDENTS = FOLDER / "for_students.md"  # goes into every zip as its README.md


def masters() -> list[Path]:
    """The masters of all problem sets, in the order of their names."""
    return sorted(SOURCE.glob("*/*.ipynb"))


def release(folder: Path = RELEASE) -> list[Path]:
    """Write `<set>.zip` for every problem set: the student version, and how to work on it.

    The same masters give the same bytes. Returns the files.

    Raises: ValueError if nbgrader is not installed, or a master has a mistake in its form.
    """
    made = []
    for master in masters():
        name = master.stem
        content = {
            f"{name}/{name}.ipynb": nbformat.writes(student_version(master)) + "\n",
            f"{name}/README.md": FOR_STUDENTS.read_text(encoding="utf-8"),
        }
        made.append(folder / f"{name}.zip")
        files.write_bytes(made[-1], _zipped(content))
    return made


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


def _zipped(texts: dict[str, str]) -> bytes:
    """A zip of texts; neither compression nor the time makes a difference between two runs."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, text in texts.items():
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # as Unix writes it
            archive.writestr(entry, text)
    return content.getvalue()


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

"""What is up to date: every step remembers a digest of all it was made from, and of what it made.

Contents are compared, never dates: a fresh clone, a copied folder and a switched branch all have
dates that mean nothing. The workflow (`Snakefile`) does compare dates, so `refresh` rewrites the
request file of every step that is out of date, and only of those.
"""

import ast
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from lib import paths, profiles
from workflow import catalogue

LIB = paths.ROOT / "lib"
SUFFIXES = ("png", "pdf", "csv", "json")
# A step is called "models/<name>", "embeddings/<role>" or "report"; a notebook, by its item.
REPORT = "report"


def is_item(step: str) -> bool:
    """Whether a step runs a notebook."""
    return step != REPORT and not step.startswith(("models/", "embeddings/"))


# What a step makes --------------------------------------------------------------------------------


def figures(profile_name: str, item: str) -> list[Path]:
    """The four files of an item."""
    return [paths.FIGURES / profile_name / f"{item}.{suffix}" for suffix in SUFFIXES]


def report_files(profile_name: str) -> list[Path]:
    """RESULTS.md, results.json and the gallery; only mini's RESULTS.md stands at the top."""
    folder = paths.FIGURES / profile_name
    committed = profile_name == "mini" and paths.FIGURES == paths.ROOT / "figures"
    text = (paths.ROOT if committed else folder) / "RESULTS.md"
    return [text, folder / "results.json", folder / "index.html"]


def weights(model: str) -> Path:
    """The file that is there once a model of this repository is complete."""
    return paths.MODELS / model / "open_clip_model.safetensors"


def trained_here(model: str) -> bool:
    """Models called mini-… live in `models/` and can be trained again; others are downloaded."""
    return model.startswith("mini-")


def outputs(profile_name: str, step: str) -> list[Path]:
    if step == REPORT:
        return report_files(profile_name)
    return figures(profile_name, step) if is_item(step) else []


# What a step is made from -------------------------------------------------------------------------


def imported(source: str, package: str = "") -> set[str]:
    """Names of the modules of `lib` that Python source imports, also inside functions.

    `package` is the package that the source stands in, for its relative imports. `import lib`
    alone may use anything: it counts as "*".
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                head, *rest = alias.name.split(".")
                found |= {rest[0] if rest else "*"} if head == "lib" else set()
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*parents, node.module or ""]) if node.level else node.module
            head, *rest = base.strip(".").split(".")
            if head == "lib":
                found |= {rest[0]} if rest else {alias.name for alias in node.names}
    return found


def module_files(module: str) -> list[Path]:
    """The files of one module of `lib`: `x.py`, its folder `x/`, its data `x.*` and `x_data/`."""
    beside = LIB.glob(f"{module}.*")
    inside = (file for name in (module, f"{module}_data") for file in (LIB / name).rglob("*"))
    return sorted(
        file
        for file in (*beside, *inside)
        if file.is_file() and "__pycache__" not in file.parts and not file.name.startswith(".")
    )


def closure(modules: Iterable[str]) -> list[Path]:
    """All files of these modules of `lib` and of those that they import, directly or not."""
    waiting, seen = list(modules), set()
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        if module == "*":
            waiting += [path.stem for path in LIB.glob("[!_]*") if path.name != "__pycache__"]
        for file in module_files(module):
            if file.suffix == ".py":
                waiting += _imports_of(file, file.stat().st_mtime_ns)
    return sorted({file for module in seen for file in module_files(module)} | _package_file())


def _package_file() -> set[Path]:
    return {LIB / "__init__.py"} if (LIB / "__init__.py").exists() else set()


@cache
def _imports_of(file: Path, _changed: int) -> set[str]:
    package = ".".join(file.relative_to(paths.ROOT).parent.parts)
    return imported(file.read_text(encoding="utf-8"), package)


def cells(notebook: Path) -> list[list]:
    """The source of a notebook, cell by cell: kind, text and tags, without any output."""
    return [
        [cell["cell_type"], "".join(cell["source"]), cell["metadata"].get("tags", [])]
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    ]


def notebook_imports(notebook: Path) -> set[str]:
    """Modules of `lib` that a notebook imports; all of them if a cell cannot be read as Python."""
    found = set()
    for kind, source, _ in cells(notebook):
        lines = source.splitlines() if kind == "code" else []
        code = "\n".join("pass" if line.startswith(("%", "!")) else line for line in lines)
        try:
            found |= imported(code)
        except SyntaxError:
            return {"*"}
    return found


def sources_digest(notebook: Path) -> str:
    """SHA-256 of a notebook's source cells: running it or saving it again changes nothing."""
    return _sha256(json.dumps(cells(notebook), ensure_ascii=False).encode())


def code_digest(notebook: Path) -> str:
    """SHA-256 of a notebook's code cells: what its outputs are outputs of."""
    code = [source for kind, source, _ in cells(notebook) if kind == "code"]
    return _sha256(json.dumps(code, ensure_ascii=False).encode())


def digest(which: profiles.Profile, step: str) -> str:
    """SHA-256 of everything that a step is made from."""
    if step == REPORT:
        modules, roles, parts = {"report"}, (), _report_parts(which)
    elif is_item(step):
        item = catalogue.load()[step]
        modules, roles = notebook_imports(item.notebook), (*item.models, *item.compares)
        parts = {"notebook": sources_digest(item.notebook)}
    else:
        modules, roles, parts = {"embed"}, (step.removeprefix("embeddings/"),), {}
    files = closure(modules)
    # Of the profile's models, those of this step: a new one in another role changes nothing here.
    mine = {role: which.models.get(role) for role in roles}
    parts["profile"] = json.dumps(dataclasses.asdict(which) | {"models": mine})
    if LIB / "data.py" in files:
        parts["own data"] = _own_data()
    for role in roles:
        model = which.models.get(role, "")
        if trained_here(model):
            files += sorted(file for file in (paths.MODELS / model).rglob("*") if file.is_file())
    parts |= {file.relative_to(paths.ROOT).as_posix(): _hash(file) for file in files}
    # A cache that two clones share must not make one believe what the other did.
    return _sha256(json.dumps([str(paths.ROOT), step, sorted(parts.items())]).encode())


def _own_data() -> str:
    """Names of the files in the user's own folder of data: a notebook shows more where they are."""
    own = os.environ.get("MODALITY_GAP_DATA")
    folder = paths.ROOT / Path(own).expanduser() if own else None
    found = [*folder.glob("*"), *folder.glob("*/*")] if folder else []
    return "\n".join(sorted(str(file) for file in found))


def _report_parts(which: profiles.Profile) -> dict[str, str]:
    made = report_files(which.name)
    found = sorted((paths.FIGURES / which.name).rglob("*.json"))
    results = [file for file in found if file not in made]
    parts = {f"figures/{file.relative_to(paths.FIGURES)}": _hash(file) for file in results}
    parts["items"] = _hash(paths.NOTEBOOKS / catalogue.LIST)
    return parts


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _hash(file: Path) -> str:
    seen = file.stat()
    return _hash_as_of(file, seen.st_mtime_ns, seen.st_size, seen.st_ino)


@cache
def _hash_as_of(file: Path, *_seen: int) -> str:
    return _sha256(file.read_bytes())


# What was done ------------------------------------------------------------------------------------


def record_file(profile_name: str, step: str) -> Path:
    return paths.CACHE / "done" / profile_name / f"{step}.json"


def request_file(profile_name: str, step: str) -> Path:
    return paths.CACHE / "requests" / profile_name / step


def executed_file(profile_name: str, item: str) -> Path:
    """The executed copy of a notebook, kept whether it succeeded or not."""
    return paths.CACHE / "executed" / profile_name / f"{item}.ipynb"


def log_file(profile_name: str, step: str) -> Path:
    return paths.CACHE / "logs" / profile_name / f"{step}.log"


def record(profile_name: str, step: str) -> dict:
    """What is remembered of the last success of a step; empty if there was none."""
    try:
        return json.loads(record_file(profile_name, step).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def remember(profile_name: str, step: str, made_from: str, seconds: float) -> None:
    """Write down that a step succeeded, last of all: what it was made from and what it made."""
    made = {file.name: _hash(file) for file in outputs(profile_name, step)}
    content = {"digest": made_from, "outputs": made, "seconds": round(seconds, 1)}
    write_text(record_file(profile_name, step), json.dumps(content, indent=1) + "\n")


def is_current(which: profiles.Profile, step: str) -> bool:
    """Whether a step was done from its present sources, and its files are still what it wrote."""
    done = record(which.name, step)
    made = outputs(which.name, step)
    return (
        done.get("digest") == digest(which, step)
        and all(file.is_file() for file in made)
        and done.get("outputs") == {file.name: _hash(file) for file in made}
    )


def refresh(which: profiles.Profile, steps: Iterable[str], force: bool = False) -> list[str]:
    """The steps that are out of date; their request files become newer than their results."""
    out_of_date = []
    for step in steps:
        request = request_file(which.name, step)
        if force or not request.exists() or not is_current(which, step):
            write_text(request, f"{time.time_ns()}\n")  # new content: snakemake compares it, too
            _not_in_the_future(outputs(which.name, step))
            out_of_date.append(step)
    return out_of_date


def _not_in_the_future(files: list[Path]) -> None:
    """A result dated ahead of this machine's clock would hide the request."""
    for file in files:
        if file.exists() and file.stat().st_mtime > time.time() - 1:
            os.utime(file, (1, 1))  # not 0, which snakemake takes for no date at all


def write_text(file: Path, text: str) -> None:
    """Write a whole text or nothing; see `write_bytes`."""
    write_bytes(file, text.encode("utf-8"))


def write_bytes(file: Path, content: bytes) -> None:
    """Write a whole file or nothing: first under another name, then put in its place."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    unfinished.write_bytes(content)
    os.replace(unfinished, file)

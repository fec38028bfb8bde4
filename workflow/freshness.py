"""What is done: the digest of what a step is made from is part of the name of its stamp.

A step whose stamp is missing runs. So a branch to which one returns is done already, and in a fresh
clone nothing is. Contents count, never dates. A stamp holds the hashes of what its step wrote;
`drop_altered` removes stamps whose files are gone or changed.
"""

import ast
import json
import os
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from lib import files, paths, profiles
from workflow import catalogue, notebooks

PACKAGES = ("lib", "mini", "workflow", "docs")
PAPERS = paths.ROOT / "lib" / "claims" / "papers"
# Files of the user's own that a notebook shows more with, by the module that reads them.
OWN_DATA = {
    "lib.data.published": (
        *("features_*.npy", "mind_the_gap/features_*.npy"),
        *("coco_captions/captions_val2017.json", "cifar10_clip/*.npz"),
    ),
    "lib.data.judgements": ("flickr8k/*.json",),
}

# Models of this repository ------------------------------------------------------------------------


def weights(model: str) -> Path:
    """The file that is there once a model of this repository is complete."""
    return paths.MODELS / model / "open_clip_model.safetensors"


def trained_here(model: str) -> bool:
    """Models called mini-… are in `models/` and can be trained again; others are downloaded."""
    return model.startswith("mini-")


def models_of(which: profiles.Profile, item: str) -> list[str]:
    """Models of this repository that an item uses in a profile."""
    roles = catalogue.load()[item].models
    named = [which.models[role] for role in roles if role in which.models]
    return [model for model in dict.fromkeys(named) if trained_here(model)]


def uses_gpu(which: profiles.Profile, item: str) -> bool:
    """Whether an item computes with a model that is not ours: it goes to a GPU if there is one."""
    entry = catalogue.load()[item]
    names = {which.models.get(role, "") for role in entry.models} - {""}
    if re.search(r"\bp\.(also|survey)\b", notebooks.code(entry.notebook)):
        names |= {*which.also, *which.survey}
    return not all(map(trained_here, names))


def untrained(which: profiles.Profile, items: Iterable[str]) -> list[str]:
    """Models of this repository that these items use and that are not there."""
    used = dict.fromkeys(model for item in items for model in models_of(which, item))
    return [model for model in used if not weights(model).exists()]


# What a step is made from -------------------------------------------------------------------------


def imported(source: str, package: str = "") -> set[str]:
    """Dotted names of our own modules that Python source imports, also inside functions.

    `package` is the package that the source is in, for its relative imports.
    """
    found = set()
    for node in _statements(ast.parse(source).body):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*parents, *filter(None, [node.module])]) if node.level else node.module
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in PACKAGES and _file_of(name)}


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """All statements, also inside of others; expressions, which are many, hold no imports."""
    for node in body:
        yield node
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            yield from _statements(getattr(node, part, []))


@cache
def _file_of(module: str) -> Path | None:
    """The file of a module or package; None for a name inside of one."""
    path = paths.ROOT.joinpath(*module.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None


def closure(modules: Iterable[str]) -> list[Path]:
    """The files of these modules, of their packages and of all that they import, with their data.

    A module's data have its name, e.g. plotting.mplstyle; what the papers say is apart (`_papers`).
    """
    waiting, seen = list(modules), set()
    while waiting:
        module = waiting.pop()
        if module and module not in seen and _file_of(module):
            seen.add(module)
            waiting += [*_imports_of(module), module.rpartition(".")[0]]
    return sorted({file for module in seen for file in _files_of(module)})


@cache
def _files_of(module: str) -> list[Path]:
    """A module's file and its data."""
    file = _file_of(module)
    return [file, *(data for data in file.parent.glob(f"{file.stem}.*") if data.is_file())]


@cache
def _imports_of(module: str) -> set[str]:
    file = _file_of(module)
    package = ".".join(file.relative_to(paths.ROOT).parent.parts)
    return imported(file.read_text(encoding="utf-8"), package)


def digest(which: profiles.Profile, item: str) -> str:
    """Twelve digits of the SHA-256 over everything that an item's notebook is made from."""
    notebook = catalogue.load()[item].notebook
    code = notebooks.code(notebook)
    sources = closure(imported(code))
    parts = {"notebook": notebooks.sources_digest(notebook), "profile": _profile(which, item)}
    needed = [*sources, *_papers(item, code)]
    if "lib.claims.evidence" in imported(code):
        needed += sorted((paths.ROOT / "evidence").glob("*.json"))
    for model in models_of(which, item):
        needed += sorted(file for file in (paths.MODELS / model).rglob("*") if file.is_file())
    parts |= {file.relative_to(paths.ROOT).as_posix(): _hash(file) for file in needed}
    parts |= {"own data": _own_data(sources)} | _trained(which, item)
    return files.sha256(json.dumps([item, sorted(parts.items())]).encode())[:12]


def _trained(which: profiles.Profile, item: str) -> dict[str, str]:
    """The models of an item that `--train` made on this machine, by their recipes."""
    named = [which.models.get(role, "") for role in catalogue.load()[item].models]
    recipes = [paths.CACHE / "trained" / model / "recipe.json" for model in named if model]
    return {file.parent.name: _hash(file) for file in recipes if file.is_file()}


def _profile(which: profiles.Profile, item: str) -> str:
    """The profile with the item's own models: a new one in another role changes nothing here."""
    roles = catalogue.load()[item].models
    return json.dumps(which.model_dump() | {"models": {r: which.models.get(r) for r in roles}})


def _papers(item: str, code: str) -> list[Path]:
    """What the item's own paper says, and any other paper that its code names."""
    keys = [file.stem for file in PAPERS.glob("*.yaml")]
    named = [key for key in keys if re.search(rf"\b{key}\b", f"{item} {code}")]
    return sorted(file for key in named for file in PAPERS.glob(f"{key}*"))


def _own_data(sources: list[Path]) -> list[str]:
    own = os.environ.get("MODALITY_GAP_DATA")
    patterns = [p for module, some in OWN_DATA.items() if _file_of(module) in sources for p in some]
    folder = Path(own).expanduser() if own else None
    found = [file for pattern in patterns for file in folder.glob(pattern)] if folder else []
    return sorted(file.relative_to(folder).as_posix() for file in found)


def _hash(file: Path) -> str:
    seen = file.stat()
    return _hash_as_of(file, seen.st_mtime_ns, seen.st_size, seen.st_ino)


@cache
def _hash_as_of(file: Path, *_seen: int) -> str:
    return files.sha256(file.read_bytes())


# Stamps -------------------------------------------------------------------------------------------


def stamp(which: profiles.Profile, item: str) -> Path:
    """The file that is there once an item is done from its present sources."""
    return paths.CACHE / "done" / which.name / f"{item}.{digest(which, item)}"


def report_stamp(which: profiles.Profile) -> Path:
    """The file that is there once the results page was written from the present results."""
    made = [notebooks.figures(which.name, item)[-1] for item in catalogue.load()]
    parts = {file.name: _hash(file) for file in made if file.is_file()}
    parts |= {str(file): _hash(file) for file in closure({"docs.report"})}
    digest = files.sha256(json.dumps(sorted(parts.items())).encode())[:12]
    return paths.CACHE / "done" / which.name / f"report.{digest}"


def seconds(stamp_file: Path) -> float | None:
    """How long a step took: this one, or an earlier version of it; None if none was ever run."""
    item = stamp_file.name.rpartition(".")[0]
    for file in (stamp_file, *stamp_file.parent.glob(f"{item}.*")):
        if found := _stamped(file).get("seconds"):
            return found
    return None


def _stamped(stamp_file: Path) -> dict:
    """What a stamp says: how many seconds its step took, and the SHA-256 of the files it wrote."""
    try:
        found = json.loads(stamp_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def is_whole(stamp_file: Path, made: Iterable[Path]) -> bool:
    """Whether a stamp is there and the files are still what its step wrote."""
    there = {file.name: _hash(file) for file in made if file.is_file()}
    return _stamped(stamp_file).get("files") == there


def is_done(which: profiles.Profile, item: str) -> bool:
    """Whether an item is done from its present sources."""
    return is_whole(stamp(which, item), notebooks.figures(which.name, item))


def missing(which: profiles.Profile, items: Iterable[str], force: bool = False) -> list[str]:
    """The items to run: without a stamp, or with one that is not whole, which is removed."""
    to_run = []
    for item in items:
        file = stamp(which, item)
        if force or not is_whole(file, notebooks.figures(which.name, item)):
            for old in (file, notebooks.failure_file(file)):
                old.unlink(missing_ok=True)
            to_run.append(item)
    return to_run

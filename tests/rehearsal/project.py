"""A copy of this project in which only data are altered, and its runs through a hub on loopback.

The code of the copy is the real one. Everything it makes stays in one folder, so that a second
rehearsal runs what is missing: MODALITY_GAP_REHEARSAL names it, by default it is in the cache.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import repositories
import standins
import yaml

from lib import files, paths
from lib.claims import verdicts
from lib.data import sources
from lib.encoders import registry


class Folders:
    """Where a rehearsal keeps things, all below `root`."""

    def __init__(self, root: Path):
        self.root = root
        self.hub, self.own = root / "hub", root / "own"  # what others publish; a user's own data
        self.project, self.home = root / "project", root / "home"  # the copy; HF_HOME
        self.cache, self.figures = root / "cache", root / "figures"


def folders() -> Folders:
    own = os.environ.get("MODALITY_GAP_REHEARSAL")
    return Folders(Path(own).expanduser().resolve() if own else paths.CACHE / "rehearsal")


def prepare(where: Folders) -> dict[str, dict]:
    """Make the stand-ins, unless they are there, and bring the copy of the project up to date.

    Returns: name of a model -> what is true of its stand-in.
    """
    about, made_from = where.root / "stand-ins.json", _made_from()
    if not about.is_file() or json.loads(about.read_text())["made from"] != made_from:
        made = [where.cache / kind for kind in ("converted", "trained")]
        for folder in (where.hub, where.own, where.home, *made):
            shutil.rmtree(folder, ignore_errors=True)
        about.unlink(missing_ok=True)
        models = repositories.build(where.hub, where.own)
        files.write_json(about, {"made from": made_from, "models": models})
    copy(where.project)
    models = json.loads(about.read_text())["models"]
    alter(where.project, models)
    return models


def _made_from() -> str:
    """SHA-256 of the code that decides what the stand-ins are."""
    code = [Path(module.__file__) for module in (repositories, standins, registry, sources)]
    code += sorted((paths.ROOT / "mini" / "world").glob("*.py"))
    return files.sha256("".join(file.read_text() for file in code).encode())


def copy(project: Path) -> None:
    """Every file of the project that git keeps or would keep; others are removed from the copy."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.check_output(command, cwd=paths.ROOT, text=True).split("\0")
    names = {name for name in listed if name and (paths.ROOT / name).is_file()}
    for name in names:
        source, target = paths.ROOT / name, project / name
        if not target.is_file() or target.read_bytes() != source.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    for file in [path for path in project.rglob("*") if path.is_file()]:
        if file.relative_to(project).as_posix() not in names and "__pycache__" not in file.parts:
            file.unlink()


def alter(project: Path, models: dict[str, dict]) -> None:
    """Let the copy expect the stand-ins: small sizes, numbers of rows, what is known of models."""
    for notebook in sorted((project / "notebooks").rglob("*.ipynb")):
        _change(notebook, {r'"small = ': ("True", 1)})
    _change(project / "lib/data/sources.py", {r"\brows=(?=\d)": (repositories.ROWS, _counted())})
    facts = {}
    for name, about in models.items():
        entry = rf'^    "{name}": Spec\([^)]*?\b'
        if name.startswith("commonpool"):
            entry = r"^def _commonpool[^@]*?\b"
        elif name in repositories.SHARED:
            entry = r"^def _aligned[^@]*?\b"
        for key, value in about.items():
            facts[f"{entry}{key}=" + '"' * isinstance(value, str)] = (value, 1)
    _change(project / "lib/encoders/registry.py", facts)
    code = "import json; from lib.encoders.registry import REGISTRY as all; print(json.dumps("
    code += "{name: [spec.parameters, spec.pickle_sha256] for name, spec in all.items()}))"
    asked = subprocess.check_output([sys.executable, "-c", code], cwd=project, text=True)
    for name, about in models.items():
        assert set(about.values()) <= set(json.loads(asked)[name]), f"{name} is as it was."


def _counted() -> int:
    """How many entries of the tables of data sets say how many rows there are."""
    pairs = {source for splits in sources.PAIRS.values() for source in splits.values()}
    return sum(source.rows is not None for source in [*pairs, *sources.LABELLED.values()])


def _change(file: Path, facts: dict[str, tuple[object, int]]) -> None:
    """What stands before a word -> the word that it gets, and in how many places."""
    text = file.read_text(encoding="utf-8")
    for before, (value, times) in facts.items():
        text, n = re.subn(rf"({before})\w+", rf"\g<1>{value}", text, flags=re.MULTILINE)
        assert n == times, f"{file}: {n} places look like {before}, not {times}."
    file.write_text(text, encoding="utf-8")


# Its runs -----------------------------------------------------------------------------------------


def surroundings(where: Folders, address: str, **more: str) -> dict[str, str]:
    """Environment variables of a run: nothing of the user's, and no way to the outside.

    Whatever is asked of another address than the loopback meets a closed port.
    """
    ours = ("HF_", "MODALITY_GAP", "PYTEST", "PYTHONPATH", "TRANSFORMERS", "MPLBACKEND")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    nowhere = {f"{kind}_proxy": "http://127.0.0.1:9" for kind in ("http", "https", "all")}
    nowhere["no_proxy"] = "127.0.0.1"
    nowhere |= {key.upper(): value for key, value in nowhere.items()}
    own = {
        "HF_ENDPOINT": address,
        "HF_HOME": str(where.home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "MODALITY_GAP_CACHE": str(where.cache),
        "MODALITY_GAP_FIGURES": str(where.figures),
        "MODALITY_GAP_DATA": str(where.own),
        "OMP_NUM_THREADS": "1",
        "VIRTUAL_ENV": sys.prefix,
    }
    return kept | nowhere | own | more


def call(where: Folders, address: str, *command: str) -> int:
    """Run a command in the copy, where its words go to the screen; its exit code."""
    return subprocess.call(command, cwd=where.project, env=surroundings(where, address))


def first_steps(where: Folders, models: dict[str, dict]) -> list[list[str]]:
    """What a user does before the first run: weights of other formats, and a small training."""
    pickles = [name for name, about in models.items() if "pickle_sha256" in about]
    return [
        *([sys.executable, "-m", "lib.encoders.registry", "--convert", name] for name in pickles),
        *(
            ["./run_all.sh", "--convert", "alignclip", str(where.own / f"{name}.pt"), "--as", name]
            for name in repositories.SHARED
            if not (where.cache / "converted" / name).exists()
        ),
        ["./run_all.sh", "--profile", "clip", "--train", "async"],
    ]


# What came of it ----------------------------------------------------------------------------------


def findings(where: Folders) -> dict[str, list[dict] | None]:
    """Item -> its findings; None for one that saved none."""
    made = {}
    for name in yaml.safe_load((where.project / "notebooks" / "items.yaml").read_text()):
        file = where.figures / "clip" / f"{name}.json"
        made[name] = json.loads(file.read_text())["findings"] if file.is_file() else None
    return made


def table(where: Folders) -> str:
    """Item, seconds, what was judged, and why the rest was not."""
    lines = ["item | seconds | judged | not judged, because", "--- | ---: | --- | ---"]
    for name, found in findings(where).items():
        judged = [f"{one['claim']} {one['verdict']}" for one in found or () if is_judged(one)]
        rest = [f"{one['claim']}: {reason(one)}" for one in found or () if not is_judged(one)]
        if found is None:
            rest = [f"FAILED: {failure(where, name)}"]
        elif not found:
            rest = ["It shows, and claims nothing."]
        cells = [name, seconds(where, name), "; ".join(judged) or "-", " ".join(rest) or "-"]
        lines.append(" | ".join(cells))
    return "\n".join(lines) + "\n"


def is_judged(finding: dict) -> bool:
    return finding["verdict"] != verdicts.UNTESTABLE


def reason(finding: dict) -> str:
    return finding["reason"] or finding["note"]


def seconds(where: Folders, item: str) -> str:
    """How long its last run took; a dash where it failed, or never ran."""
    said = _last(where, item)
    return str(json.loads(said.read_text())["seconds"]) if said and not _failed(said) else "-"


def failure(where: Folders, item: str) -> str:
    """Why its last run failed, in the runner's sentence; empty where it did not."""
    said = _last(where, item)
    return said.read_text().strip() if said and _failed(said) else ""


def _last(where: Folders, item: str) -> Path | None:
    """What its last run left: a stamp, or a reason."""
    left = (where.cache / "done" / "clip").glob(f"{item}.*")
    return max(left, key=lambda file: file.stat().st_mtime, default=None)


def _failed(said: Path) -> bool:
    return said.suffix == ".failed"

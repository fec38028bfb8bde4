"""One file to deposit: sources, weights, figures and evidence, with checksums and an RO-Crate.

`./run_all.sh --archive` writes `archive/<name>-<version>-<commit>.zip`, and beside it the metadata
in the form of Zenodo's API. A commit gives the same bytes everywhere: files are stored as they
are, because compression differs between versions of zlib, and have the time of the commit.

The crate follows RO-Crate 1.2 (https://w3id.org/ro/crate/1.2): the zip unpacks to its root.
"""

import datetime
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from docs import citation
from lib import files, paths, progress
from workflow import catalogue, environment

SPECIFICATION = "https://w3id.org/ro/crate/1.2"
SUMS, METADATA = "SHA256SUMS", "ro-crate-metadata.json"
FOLDERS = {
    "assignments": "Problem sets with solutions, hidden tests and mark schemes.",
    "docs": "What makes the results page, the gallery, the website and this archive.",
    "evidence": "The record: findings, with their rules, intervals, models and data.",
    "figures": "The figures of the record, each with the table and the findings behind it.",
    "lib": "The science: metrics, encoders, methods, data, and the papers' claims.",
    "mini": "The drawn world, the recipes of the small models, and their training.",
    "models": "Weights of the small models in open_clip's format, with recipes and test metrics.",
    "notebooks": "A notebook for each figure and table, with the outputs of the record.",
    "profiles": "Which models and data sets a run uses.",
    "tests": "Tests, and benchmarks of speed.",
    "workflow": "How it is run: the command line, the Snakefile, what is up to date.",
}
FORMATS = {  # endings -> media types; the system's own table differs between machines
    "css": "text/css",
    "csv": "text/csv",
    "ipynb": "application/x-ipynb+json",
    "js": "text/javascript",
    "json": "application/json",
    "md": "text/markdown",
    "png": "image/png",
    "py": "text/x-python",
    "safetensors": "application/octet-stream",
    "svg": "image/svg+xml",
    "toml": "application/toml",
    "yaml": "application/yaml",
    "yml": "application/yaml",
}


class Release(NamedTuple):
    """What is archived."""

    name: str
    version: str
    commit: str
    time: datetime.datetime  # of the commit, in UTC


class Entry(NamedTuple):
    """A file in the archive."""

    name: str
    size: int  # bytes
    sha256: str


def make(root: Path, target: Path, items: Iterable[str]) -> Path:
    """Write the archive of a repository's last commit, and Zenodo's metadata beside it.

    Args:
        root: the repository.
        target: the folder for both.
        items: names of the notebooks whose figures must be there.

    Returns: the archive.

    Raises: ValueError without git's history, with changes that are not committed, and if figures
        or evidence are missing.
    """
    if _git(root, "rev-parse", "--show-prefix").strip():
        raise ValueError(f"{root} is a folder inside another repository: archive a clone.")
    if changed := _git(root, "status", "--porcelain").splitlines():
        raise ValueError(f"{changed[0][3:]} is not committed: an archive holds a commit, so commit "
            "the changes or put them aside.")  # fmt: skip
    modes = _tracked(root)
    wanted = [f"figures/mini/{item}.{kind}" for item in items for kind in ("png", "csv", "json")]
    wanted += [f"evidence/{source}.json" for source in ("mini", "published", "toy")]
    if missing := [name for name in wanted if name not in modes]:
        raise ValueError(f"{missing[0]} is not in the repository: run ./run_all.sh, then "
            "./run_all.sh --record, and commit what they wrote.")  # fmt: skip
    release = _release(root)
    about = citation.read((root / "CITATION.cff").read_text(encoding="utf-8"))
    archive = target / f"{release.name}-{release.version}-{release.commit[:7]}.zip"
    with files.put(archive) as part, zipfile.ZipFile(part, "w") as opened:
        entries = []
        for name, mode in progress.bar(modes.items(), desc="Archive", unit=" files"):
            content = (root / name).read_bytes()
            entries.append(_add(opened, release, name, content, mode))
        sums = "".join(f"{entry.sha256}  {entry.name}\n" for entry in entries)
        entries.append(_add(opened, release, SUMS, sums.encode()))
        _add(opened, release, METADATA, _json(crate(about, release, entries)))
    files.write_bytes(archive.with_suffix(".zenodo.json"), _json(zenodo(about, release)))
    return archive


def _git(root: Path, *arguments: str) -> str:
    try:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        raise ValueError("An archive holds what git tracks: install git, and run this in a clone "
            "of the repository.") from None  # fmt: skip


def _tracked(root: Path) -> dict[str, int]:
    """Tracked file -> its permissions, sorted by name."""
    lines = [line.split("\t", 1) for line in _git(root, "ls-files", "-s", "-z").split("\0") if line]
    return dict(sorted((name, int(about.split()[0], 8) & 0o777) for about, name in lines))


def _release(root: Path) -> Release:
    project = environment.project(root)
    commit, seconds = _git(root, "log", "-1", "--format=%H %ct").split()
    time = datetime.datetime.fromtimestamp(int(seconds), datetime.UTC)
    return Release(project["name"], project["version"], commit, time)


def _add(
    archive: zipfile.ZipFile, release: Release, name: str, content: bytes, mode: int = 0o644
) -> Entry:
    entry = zipfile.ZipInfo(name, date_time=release.time.timetuple()[:6])
    entry.create_system, entry.external_attr = 3, (0o100000 | mode) << 16  # Unix, a plain file
    archive.writestr(entry, content)
    return Entry(name, len(content), files.sha256(content))


def _json(content: dict) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


# Metadata -----------------------------------------------------------------------------------------


def crate(about: dict, release: Release, entries: list[Entry]) -> dict:
    """The RO-Crate of files: what they are, whose, under which licence, with their SHA-256.

    The licence is the root's; by the specification it holds for every file in the crate.
    """
    licence = f"https://spdx.org/licenses/{about['license']}"
    authors, papers = _authors(about), _papers(about)
    data = [_file(entry) for entry in entries]
    folders = _folders(data)
    top = [each for each in data if "/" not in each["@id"]]
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": about["title"],
        "description": about["abstract"],
        "version": f"{release.version} ({release.commit})",
        "datePublished": release.time.date().isoformat(),
        "license": {"@id": licence},
        "author": _refer(authors),
        "publisher": _refer(authors),
        "keywords": about["keywords"],
        "citation": _refer(papers),
        "hasPart": _refer([*folders, *top]),
    }
    if citation.repository(about) != citation.NOWHERE:
        root["url"] = about["repository-code"]
    graph = [
        {
            "@id": METADATA,
            "@type": "CreativeWork",
            "conformsTo": {"@id": SPECIFICATION},
            "about": {"@id": "./"},
        },
        root,
        {
            "@id": licence,
            "@type": "CreativeWork",
            "name": f"{about['license']} licence",
            "description": "Its text is in the file LICENSE.",
        },
        *authors,
        *papers,
        *folders,
        *data,
    ]
    return {"@context": f"{SPECIFICATION}/context", "@graph": graph}


def _refer(entities: list[dict]) -> list[dict] | dict:
    """References to entities; to a single one, as the specification wants it, without a list."""
    made = [{"@id": entity["@id"]} for entity in entities]
    return made[0] if len(made) == 1 else made


def _file(entry: Entry) -> dict:
    return {
        "@id": quote(entry.name),
        "@type": "File",
        "name": entry.name,
        "encodingFormat": FORMATS.get(Path(entry.name).suffix[1:], "text/plain"),
        "contentSize": str(entry.size),
        "sha256": entry.sha256,
    }


def _folders(data: list[dict]) -> list[dict]:
    """The folders at the top, each with all files that are anywhere in it."""
    within: dict[str, list[dict]] = {}
    for each in data:
        folder, inside, _ = each["@id"].partition("/")
        if inside:
            within.setdefault(folder, []).append(each)
    return [
        {
            "@id": f"{folder}/",
            "@type": "Dataset",
            "name": folder,
            "description": FOLDERS.get(folder, "Settings of the tools around the repository."),
            "hasPart": _refer(its),
        }
        for folder, its in within.items()
    ]


def _authors(about: dict) -> list[dict]:
    """Persons and groups; a person's identifier is the ORCID where CITATION.cff has one."""
    made = []
    for n, author in enumerate(about["authors"], 1):
        who = {"@id": author.get("orcid", f"#author-{n}")}
        if "name" in author:
            made.append(who | {"@type": "Organization", "name": author["name"]})
        else:
            given, family = author["given-names"], author["family-names"]
            names = {"name": f"{given} {family}", "givenName": given, "familyName": family}
            made.append(who | {"@type": "Person"} | names)
    return made


def _papers(about: dict) -> list[dict]:
    return [
        {
            "@id": paper["url"],
            "@type": "ScholarlyArticle",
            "name": paper["title"],
            "datePublished": str(paper["year"]),
        }
        for paper in about["references"]
    ]


def zenodo(about: dict, release: Release) -> dict:
    """The `metadata` of a deposit in the form of Zenodo's API."""
    return {
        "title": about["title"],
        "upload_type": "software",
        "description": about["abstract"],
        "creators": [
            {"name": each.get("name") or f"{each['family-names']}, {each['given-names']}"}
            for each in about["authors"]
        ],
        "version": release.version,
        "publication_date": release.time.date().isoformat(),
        "access_right": "open",
        "license": about["license"],
        "keywords": about["keywords"],
        "related_identifiers": [
            {"identifier": paper["url"], "relation": "references"} for paper in about["references"]
        ],
    }


def main() -> int:
    written = [item.name for item in catalogue.load().values() if item.written]
    try:
        made = make(paths.ROOT, paths.ROOT / "archive", written)
    except ValueError as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 1
    size = made.stat().st_size / 1e6
    print(f"{made.relative_to(paths.ROOT)}: {size:.0f} MB, SHA-256 {files.sha256_of(made)}")
    print(f"{made.with_suffix('.zenodo.json').relative_to(paths.ROOT)}: its metadata for Zenodo")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The archive holds a commit: all tracked files, checksums, and an RO-Crate that lists them."""

import hashlib
import json
import os
import shutil
import subprocess
import zipfile

import pytest

from docs import archive, citation
from lib import paths
from workflow import cli

ITEM = "paper/one"
FILES = {
    "LICENSE": "Free.\n",
    "run_all.sh": "#!/usr/bin/env bash\n",
    ".github/workflows/tests.yml": "name: tests\n",
    "models/small model/weights.safetensors": "weights",
    "lib/gap.py": "GAP = 0\n",
    **{f"figures/mini/{ITEM}.{kind}": kind for kind in ("png", "csv", "json")},
    **{f"evidence/{source}.json": "{}" for source in ("mini", "published", "toy")},
}


def git(root, *arguments):
    """git without anybody's settings, at a fixed time."""
    who = ("AUTHOR", "COMMITTER")
    fixed = {f"GIT_{one}_{what}": "somebody" for one in who for what in ("NAME", "EMAIL")}
    fixed |= {f"GIT_{one}_DATE": "2026-03-04T23:30:00-05:00" for one in who}
    fixed |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    command = ["git", "-C", str(root), *arguments]
    subprocess.run(command, check=True, env=os.environ | fixed, capture_output=True)


@pytest.fixture
def root(tmp_path):
    """A small repository with everything committed."""
    if shutil.which("git") is None:
        pytest.skip("git is not there.")
    root = tmp_path / "copy"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "run_all.sh").chmod(0o755)
    for name in ("CITATION.cff", "pyproject.toml"):
        shutil.copy(paths.ROOT / name, root / name)
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "All")
    return root


@pytest.fixture
def made(root, tmp_path):
    with zipfile.ZipFile(archive.make(root, tmp_path / "out", [ITEM])) as opened:
        yield opened


def ids(value) -> list[str]:
    """What a property refers to, one entity or several."""
    each = value if isinstance(value, list) else [value]
    return [one["@id"] for one in each if isinstance(one, dict)]


def metadata(opened) -> dict[str, dict]:
    """Entities of the crate by their id, each there once."""
    graph = json.loads(opened.read(archive.METADATA))["@graph"]
    assert len({entity["@id"] for entity in graph}) == len(graph)
    return {entity["@id"]: entity for entity in graph}


def test_everything_tracked_is_in_it_and_nothing_else(made):
    added = {archive.SUMS, archive.METADATA}
    assert set(made.namelist()) == {*FILES, "CITATION.cff", "pyproject.toml", *added}
    assert made.read("lib/gap.py") == b"GAP = 0\n"
    assert made.testzip() is None


def test_checksums_hold(made, tmp_path):
    made.extractall(tmp_path / "unpacked")
    listed = {}
    for line in made.read(archive.SUMS).decode().splitlines():
        sha, name = line.split("  ", 1)
        listed[name] = sha
        assert hashlib.sha256((tmp_path / "unpacked" / name).read_bytes()).hexdigest() == sha
    assert set(listed) == set(made.namelist()) - {archive.SUMS, archive.METADATA}


def test_the_program_stays_executable(made):
    assert made.getinfo("run_all.sh").external_attr >> 16 == 0o100755
    assert made.getinfo("LICENSE").external_attr >> 16 == 0o100644


def test_a_commit_gives_the_same_bytes(root, tmp_path):
    first = archive.make(root, tmp_path / "a", [ITEM]).read_bytes()
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(root), str(clone))
    second = archive.make(clone, tmp_path / "b", [ITEM])
    assert second.read_bytes() == first
    with zipfile.ZipFile(second) as opened:
        assert {entry.date_time for entry in opened.infolist()} == {(2026, 3, 5, 4, 30, 0)}


def test_the_crate_describes_itself_and_its_root(made):
    """What RO-Crate 1.2 requires: sections "Root Data Entity" and "RO-Crate Structure"."""
    assert json.loads(made.read(archive.METADATA))["@context"] == f"{archive.SPECIFICATION}/context"
    entities, about = metadata(made), citation.read()
    descriptor, root = entities["ro-crate-metadata.json"], entities["./"]
    assert descriptor["@type"] == "CreativeWork"
    assert descriptor["about"] == {"@id": "./"}
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.2"}
    assert root["@type"] == "Dataset"
    assert (root["name"], root["description"]) == (about["title"], about["abstract"])
    assert root["datePublished"] == "2026-03-05"
    assert entities[root["license"]["@id"]]["name"] == "MIT licence"
    authors = [entities[each]["name"] for each in ids(root["author"])]
    assert authors == [each["name"] for each in about["authors"]]
    assert ids(root["citation"]) == [each["url"] for each in about["references"]]


def test_the_crate_lists_every_file(made):
    entities = metadata(made)
    for name in set(made.namelist()) - {archive.METADATA}:
        entity, content = entities[name.replace(" ", "%20")], made.read(name)
        assert entity["@type"] == "File"
        assert entity["sha256"] == hashlib.sha256(content).hexdigest(), name
        assert entity["contentSize"] == str(len(content))
        assert entity["encodingFormat"]


def test_every_entity_is_reached_from_the_root(made):
    entities = metadata(made)
    reached, waiting = set(), ["ro-crate-metadata.json"]
    while waiting:
        name = waiting.pop()
        if name in reached or name == archive.SPECIFICATION:
            continue
        reached.add(name)
        for value in entities[name].values():
            waiting += ids(value)
    assert reached == set(entities)


def test_persons_have_their_identifier():
    person = {"given-names": "Ada", "family-names": "L", "orcid": "https://orcid.org/0"}
    (made,) = archive._authors({"authors": [person]})
    assert made["@id"] == person["orcid"]
    assert (made["@type"], made["name"]) == ("Person", "Ada L")


def test_zenodo_gets_what_the_citation_says(root, tmp_path):
    made = archive.make(root, tmp_path / "out", [ITEM])
    about, found = citation.read(), json.loads(made.with_suffix(".zenodo.json").read_text())
    assert found["title"] == about["title"]
    assert found["creators"] == [{"name": each["name"]} for each in about["authors"]]
    assert found["license"] == about["license"]
    assert found["publication_date"] == "2026-03-05"
    assert len(found["related_identifiers"]) == len(about["references"])


def refused(root, items=(ITEM,)) -> str:
    target = root.parent / "out"
    with pytest.raises(ValueError) as error:
        archive.make(root, target, items)
    assert not target.exists()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_not_committed_is_refused(root):
    (root / "lib" / "gap.py").write_text("GAP = 1\n")
    assert "lib/gap.py is not committed" in refused(root)
    git(root, "commit", "-qam", "One")
    (root / "new.py").touch()
    assert "new.py is not committed" in refused(root)


def test_missing_figures_and_evidence_are_refused(root):
    assert "figures/mini/paper/two.png is not in the repo" in refused(root, [ITEM, "paper/two"])
    git(root, "rm", "-q", "evidence/toy.json")
    git(root, "commit", "-qm", "Less")
    assert "evidence/toy.json is not in the repository: run" in refused(root)


def test_a_copy_without_history_is_refused(root, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(root.parent))
    shutil.rmtree(root / ".git")
    assert "what git tracks" in refused(root)


def test_a_copy_inside_another_repository_is_refused(root):
    assert "inside another repository" in refused(root / "lib")


def test_the_option_says_what_it_made_or_why_not(root, monkeypatch, capsys):
    monkeypatch.setattr(cli, "module", lambda name: [archive.main][name != "docs.archive"]())
    monkeypatch.setattr(paths, "ROOT", root)
    monkeypatch.setattr(archive.catalogue, "load", dict)
    monkeypatch.setattr(cli, "check_names", lambda options: None)
    (root / ".gitignore").write_text("archive/\n")
    assert cli.main(["--archive"]) == 1
    assert ".gitignore is not committed" in capsys.readouterr().err
    git(root, "add", "-A")
    git(root, "commit", "-qm", "Ignore")
    assert cli.main(["--archive"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2
    file, sha = said[0].split(": ")[0], said[0].split()[-1]
    assert hashlib.sha256((root / file).read_bytes()).hexdigest() == sha


def test_every_folder_of_the_repository_is_described():
    if not (paths.ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("Without git, nothing says which folders are the repository's.")
    tracked = {name.split("/")[0] for name in archive._tracked(paths.ROOT) if "/" in name}
    assert {name for name in tracked if name[0] != "."} == {*archive.FOLDERS}

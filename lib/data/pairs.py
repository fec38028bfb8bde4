"""Image-caption pairs: the embedded world and public data sets, with the same columns."""

import csv
import json
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from datasets import Dataset

from lib.data import sources
from lib.encoders import download
from lib.encoders.download import NotAvailable

N_CAPTIONS = 5  # a few COCO images have six or seven; every evaluation uses the first five


def load_pairs(name: str, split: str = "test", n: int | None = None) -> Dataset:
    """Image-caption pairs: at most `n` rows (default: all) of a split of a data set.

    `name`: "world"; "world-heldout" (unseen combinations) and "world-rendition" (unseen styles);
    "coco" or "flickr30k".

    Columns: image (datasets.Image), image_id (string), captions (list of strings, five per image).
    The world has in addition long_caption and the attributes as class labels.

    Raises: ValueError for a name or split that does not exist; NotAvailable if it is not available.
    """
    sources.check("data set of pairs", sources.pair_names(), name, split, n)
    if name.startswith("world"):
        world, split = sources.world(), sources.WORLD_TARGETS.get(name, {}).get(split, split)
        return world.pairs(split, sources.at_most(n, world.SPLITS[split][1]))
    source = sources.PAIRS[name][split]
    if isinstance(source, sources.Shards):
        return _from_shards(source, f"{name}-{split}", min(n or source.rows, source.rows))
    folder = download.fetch(
        source.repo, source.revision, [source.table, source.archive], kind="dataset"
    )
    files = {"table": str(folder / source.table), "archive": str(folder / source.archive)}
    features = sources.features(captions=sources.TEXTS)
    _check_table(folder / source.table, f"{name}-{split}", split)
    with sources.reading(name):
        rows = Dataset.from_generator(
            _captioned,
            features=features,
            cache_dir=str(sources.cache()),
            gen_kwargs={**files, "split": split},
        )
    return sources.first(sources.complete(rows, source.rows, name), n)


def _from_shards(source: sources.Shards, title: str, n: int) -> Dataset:
    wanted = source.files(n)
    commit = source.revision or download.present(source.repo, "dataset")
    folder = download.fetch(source.repo, commit, wanted, kind="dataset")
    with sources.reading(title):
        rows = Dataset.from_generator(
            _tarred,
            features=sources.features(captions=sources.TEXTS),
            cache_dir=str(sources.cache()),
            gen_kwargs={"files": [str(folder / name) for name in wanted]},
        )
    whole = min(source.rows, source.each * len(wanted))
    return sources.first(sources.complete(rows, whole, title), n)


def _tarred(files: list[str]) -> Iterator[dict]:
    for file in files:
        with tarfile.open(file) as members:
            parts: dict[str, dict[str, bytes]] = {}
            for member in members:
                key, _, kind = member.name.partition(".")
                parts.setdefault(key, {})[kind] = members.extractfile(member).read()
                if {"jpg", "json"} <= parts[key].keys():
                    its = parts.pop(key)
                    about = json.loads(its["json"])
                    yield {
                        "image": {"bytes": its["jpg"], "path": f"{key}.jpg"},
                        "image_id": str(about.get("cocoid", key)),
                        "captions": [sources.tidy(text) for text in about["captions"][:N_CAPTIONS]],
                    }


def _check_table(file: Path, what: str, split: str) -> None:
    """Refuse a table without the columns that are read, or without rows of the split."""
    with file.open(newline="", encoding="utf-8") as lines:
        rows = csv.DictReader(lines)
        found = rows.fieldnames or []
        if not {"filename", "raw"} <= set(found):
            raise NotAvailable(
                f"{what} should have the columns 'filename' and 'raw'; it has {', '.join(found)}."
            )
        if not any(row.get("split", split) == split for row in rows):
            raise NotAvailable(f"{what} has no rows: {file.name} names none of this split.")


def _captioned(table: str, archive: str, split: str) -> Iterator[dict]:
    with zipfile.ZipFile(archive) as images, open(table, newline="", encoding="utf-8") as lines:
        members = {Path(member).name: member for member in images.namelist()}
        for row in csv.DictReader(lines):
            if row.get("split", split) != split:
                continue
            file = row["filename"]
            yield {
                "image": {"bytes": images.read(members[file]), "path": file},
                "image_id": Path(file).stem,
                "captions": [sources.tidy(text) for text in json.loads(row["raw"])[:N_CAPTIONS]],
            }

"""Images with one class label each, and what a zero-shot classifier asks about them."""

import datasets
import numpy as np
from datasets import Dataset

from lib.data import sources
from lib.encoders import download
from lib.encoders.download import NotAvailable


def load_labelled(name: str, split: str = "test", n: int | None = None) -> Dataset:
    """Images with one class label each: at most `n` rows (default: all) of a split.

    `name` is "world-" and a label set, or a key of LABELLED. Columns: image (datasets.Image),
    image_id (string), label (datasets.ClassLabel; `features["label"].names` are the names of the
    classes, with spaces for underscores).

    Raises: ValueError for a name or split that does not exist; NotAvailable if it is not available.
    """
    sources.check("labelled data set", sources.labelled_names(), name, split, n)
    if name.startswith("world-"):
        world = sources.world()
        size = world.LABELLED_SPLITS[split][1]
        return world.labelled(name.removeprefix("world-"), split, sources.at_most(n, size))
    source = sources.LABELLED[name]
    shards = f"{source.splits[split]}/*.tar" if source.tar else f"{source.splits[split]}-*.parquet"
    wanted = [shards, "classnames.txt"] if source.tar else [f"*{shards}"]
    folder = download.fetch(source.repo, source.revision, wanted, kind="dataset")
    files = sorted(str(path) for path in folder.rglob(shards))
    with sources.reading(name):
        rows = datasets.load_dataset(
            "webdataset" if source.tar else "parquet",
            data_files=files,
            split="train",  # the name that all given files get
            cache_dir=str(sources.cache()),
        )
    rows = sources.complete(rows, source.rows if split == "test" else None, name)
    classes = (folder / "classnames.txt").read_text().splitlines() if source.tar else None
    title, label = f"{name}-{split}", source.label
    if source.label_2:
        rows, label, classes = _combined(rows, title, source.label, source.label_2)
    return sources.first(_labelled(rows, title, label, classes), n)


def load_test_images(name: str, n: int, seed: int = 0) -> Dataset:
    """At most `n` labelled test images: the first ones of the world, random ones of a public set.

    Public sets are stored class by class. Columns and errors: see `load_labelled`.
    """
    if name.startswith("world-"):
        return load_labelled(name, "test", n)
    rows = load_labelled(name, "test").shuffle(seed)
    return rows.select(range(min(n, len(rows))))


def class_prompts(
    name: str, rows: Dataset, template: str = "a photo of a {}."
) -> tuple[list[str], list[str]]:
    """What a zero-shot classifier asks about a labelled data set: a phrase per class, templates.

    The world's own prompts; for a public set the names of its classes, and one template.
    """
    if name.startswith("world-"):
        return sources.world().prompts(name.removeprefix("world-"))
    return rows.features["label"].names, [template]


def same_images(sets: dict[str, Dataset]) -> list[list[str]]:
    """Names of labelled data sets, those of the same images (in the same order) together."""
    groups: dict[tuple, list[str]] = {}
    for name, rows in sets.items():
        groups.setdefault(tuple(rows["image_id"][:]), []).append(name)
    return list(groups.values())


def _combined(rows: Dataset, title: str, *columns: str) -> tuple[Dataset, str, list[str]]:
    """Rows with one more column: two labels in one. Its name, and the names of its classes."""
    names = [getattr(rows.features.get(column), "names", None) for column in columns]
    if not all(names):
        raise NotAvailable(f"{title} does not say what its classes are called.")
    first, second = (np.array(rows.select_columns(column)[column]) for column in columns)
    both = " and ".join(columns)
    classes = [f"{one} {other}" for one in names[0] for other in names[1]]
    return rows.add_column(both, first * len(names[1]) + second), both, classes


def _labelled(rows: Dataset, title: str, label: str, classes: list[str] | None) -> Dataset:
    """The common columns; `classes` are the names where the label column does not know them."""
    images = [key for key, kind in rows.features.items() if isinstance(kind, datasets.Image)]
    if len(images) != 1 or label not in rows.features:
        found = ", ".join(rows.features)
        raise NotAvailable(f"{title} should have one image column and {label!r}; it has {found}.")
    classes = classes or getattr(rows.features[label], "names", None)
    if not classes:
        raise NotAvailable(f"{title} does not say what its classes are called.")
    values = rows.select_columns(label).with_format("numpy")[:][label]
    out = rows.select_columns(images)
    if images != ["image"]:
        out = out.rename_column(images[0], "image")
    # Columns are added, not cast: a cast would write every image to the disk once more.
    out = out.add_column("image_id", [f"{title}-{i}" for i in range(len(out))])
    kind = datasets.ClassLabel(names=[sources.tidy(name.replace("_", " ")) for name in classes])
    return out.add_column("label", values.astype(np.int64), feature=kind)

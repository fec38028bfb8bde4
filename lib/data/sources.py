"""Where the data sets are, and what all of their readers share.

Public data sets are read from parquet, tar or zip files at a fixed revision; no script of theirs
is ever run. What a data set's repository holds was looked up, and each line of the tables below
says how it is mapped.
"""

import math
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import datasets
from datasets import Dataset

from lib import paths, suggestions
from lib.encoders import download
from lib.encoders.download import NotAvailable

# --- pairs of images and captions -------------------------------------------------------------


@dataclass(frozen=True)
class Captioned:
    """A table (csv: filename, raw = JSON list of captions, split) and a zip archive of images.

    `size` is the bytes to download, where they are known.
    """

    repo: str
    revision: str
    table: str
    archive: str
    rows: int | None = None
    size: int | None = None

    @property
    def commit(self) -> str:
        return self.revision


@dataclass(frozen=True)
class Shards:
    """Tar files of `each` rows, an image (jpg) and a `captions` list (json) per row.

    Only the files that hold the rows asked for are downloaded. `size` is that of one, in bytes. An
    empty `revision` is the commit of the first use here (`download.present`).
    """

    repo: str
    pattern: str
    rows: int
    each: int
    size: int
    revision: str = ""

    @property
    def commit(self) -> str:
        """The commit that is used; empty before the first use, if none is given."""
        return self.revision or download.known(self.repo)

    def files(self, n: int | None) -> list[str]:
        """Those that hold the first n rows."""
        return [self.pattern.format(i) for i in range(math.ceil((n or self.rows) / self.each))]


_COCO = Captioned(
    "nlphuji/mscoco_2014_5k_test_image_text_retrieval",
    "551c4f7667f06fa82b4ef0a07617bfc4cf324ac3",
    "test_5k_mscoco_2014.csv",
    "images_mscoco_2014_5k_test.zip",
    rows=5_000,
    size=818_000_000,
)
_FLICKR_1K = Captioned(
    "nlphuji/flickr_1k_test_image_text_retrieval",
    "c4a4cdc67b77fce148b45484a067957bf75ec4c3",
    "test_1k_flickr.csv",
    "images_flickr_1k_test.zip",
    rows=1_000,
    size=141_000_000,
)
_FLICKR = Captioned(
    "nlphuji/flickr30k",
    "2b239befc81b6e3f035ce6bd52f5f4d60f5625f7",
    "flickr_annotations_30k.csv",
    "flickr30k-images.zip",
    size=4_400_000_000,
)
_COCO_TRAIN = Shards(
    "undefined443/coco-karpathy-wds",
    "train/train-{:05d}.tar",
    rows=113_287,
    each=1_000,
    size=154_000_000,
)
# name -> split -> where it is. All are the splits of Karpathy and Fei-Fei (2015).
PAIRS: dict[str, dict[str, Captioned | Shards]] = {
    "coco": {"train": _COCO_TRAIN, "test": _COCO},
    "flickr30k": {"train": _FLICKR, "val": _FLICKR, "test": _FLICKR_1K},
}


# Data sets of the world that a model of its main split was not trained on -> our split -> its.
WORLD_TARGETS = {
    f"world-{name}": {"train": f"{name}_train", "test": name} for name in ("heldout", "rendition")
}


# --- labelled images --------------------------------------------------------------------------


@dataclass(frozen=True)
class Labelled:
    """Images with one label each, as parquet (`SPLIT-*.parquet`) or tar files (`SPLIT/*.tar`).

    `splits` maps our names of the splits to the repository's. `rows` is the size of the test
    split, checked so that half a data set is never taken for all of it. With `label_2`, a second
    column of labels, the class is the combination of both ("White" and "Male": "White Male").
    """

    repo: str
    revision: str
    splits: dict[str, str] = field(default_factory=lambda: {"train": "train", "test": "test"})
    label: str = "label"
    tar: bool = False
    rows: int | None = None
    label_2: str = ""


def _tar(repo: str, revision: str, rows: int | None = None, **options) -> Labelled:
    """Tar files with an image and a `cls` per row, names of the classes in classnames.txt."""
    test_only = {"splits": {"test": "test"}} | options
    return Labelled(repo, revision, label="cls", tar=True, rows=rows, **test_only)


LABELLED = {
    "cifar100": Labelled(
        "uoft-cs/cifar100",
        "aadb3af77e9048adbea6b47c21a81e47dd092ae5",
        label="fine_label",
        rows=10_000,
    ),
    "cifar10": Labelled("uoft-cs/cifar10", "0b2714987fa478483af9968de7c934580d0bb9a2", rows=10_000),
    "birdsnap": Labelled(
        "isaacchung/birdsnap", "fd23015508be94f0b5b59d61630e4ea2536509e4", label="common"
    ),
    "caltech101": Labelled("mteb/Caltech101", "011e51e5fb01f0c820824734edb7a539ab8e6650"),
    "cars": Labelled("isaacchung/StanfordCars", "09ffe9bc7864d3f1e851529e5c4b7e05601a04fb"),
    "cub": Labelled("Donghyun99/CUB-200-2011", "0e344a8256fa95fe1e5c05325d407a94a961dbab"),
    "dtd": Labelled("tanganke/dtd", "d2afa97d9f335b1a6b3b09c637aef667f98f966e", rows=1_880),
    "fairface": Labelled(  # faces with a margin of 0.25; their race and gender
        "HuggingFaceM4/FairFace",
        "54d573cdb8b5af490ba8da9da2799628f6e5c496",
        splits={"train": "0.25/train", "test": "0.25/validation"},
        label="race",
        label_2="gender",
        rows=10_954,
    ),
    "food101": Labelled(
        "ethz/food101",
        "e06acf2a88084f04bce4d4a525165d68e0a36c38",
        splits={"train": "train", "test": "validation"},
        rows=25_250,
    ),
    "pets": _tar(
        "clip-benchmark/wds_vtab-pets",
        "3fbd1f21f076311402bb2bf2a9d1a04b72a4266d",
        rows=3_669,
        splits={"train": "train", "test": "test"},
    ),
    # The copies that DataComp's evaluation uses, with its class names.
    "aircraft": _tar("djghosh/wds_fgvc_aircraft_test", "6b5e12a741d27b63718dd08365b866a9a8e5e7a5"),
    "eurosat": _tar("djghosh/wds_vtab-eurosat_test", "7d107212549825bf1fc46d322d0839e9cc8a3ff1"),
    "flowers102": _tar("djghosh/wds_vtab-flowers_test", "e433f2df2999e77401a627de654bddbeadf6f8e9"),
    "sun397": _tar("djghosh/wds_sun397_test", "0d3d437768d386e97e513943daf34adb44e7c3b5"),
    "imagenet": _tar(
        "djghosh/wds_imagenet1k_test", "f2dd0c74d63d03f3932d0f9b85bc827ec2779d99", rows=50_000
    ),
    "imagenet-v2": _tar(
        "djghosh/wds_imagenetv2_test", "622aa95311079dde7d64d541c411f7c8b796e6b5", rows=10_000
    ),
    "imagenet-r": _tar(
        "djghosh/wds_imagenet-r_test", "582a158b4ff1de74de428fc34df09e8cf76fe484", rows=30_000
    ),
    "imagenet-a": _tar(
        "djghosh/wds_imagenet-a_test", "370e992788929ebec1a633652d4fb4330b4a621a", rows=7_500
    ),
    "imagenet-sketch": _tar(
        "djghosh/wds_imagenet_sketch_test", "1d7fbb7e1879b05f9db3ab0775ac68435b8ba385", rows=50_889
    ),
}


# --- names and splits -------------------------------------------------------------------------


def splits(name: str) -> tuple[str, ...]:
    """Names of the splits of a data set of pairs or a labelled one.

    Raises: ValueError if there is no such data set.
    """
    if name == "world":
        return tuple(world().SPLITS)
    if name in WORLD_TARGETS:
        return tuple(WORLD_TARGETS[name])
    if name.startswith("world-") and name.removeprefix("world-") in world().LABEL_SETS:
        return tuple(world().LABELLED_SPLITS)
    if name in PAIRS:
        return tuple(PAIRS[name])
    if name in LABELLED:
        return tuple(LABELLED[name].splits)
    raise ValueError(suggestions.unknown("data set", name, pair_names() + labelled_names()))


def pair_names() -> list[str]:
    """Every data set of image-caption pairs."""
    return ["world", *WORLD_TARGETS, *PAIRS]


def labelled_names() -> list[str]:
    """Every labelled data set."""
    return [*(f"world-{key}" for key in world().LABEL_SETS), *LABELLED]


def world():
    """The embedded world: one source among others, which public data sets do without."""
    from mini import world

    return world


# --- asking for rows --------------------------------------------------------------------------


def check(kind: str, known: list[str], name: str, split: str, n: int | None) -> None:
    """Refuse a data set or split that does not exist, with the nearest names, and a wrong `n`."""
    if name not in known:
        raise ValueError(suggestions.unknown(kind, name, known))
    if split not in splits(name):
        raise ValueError(suggestions.unknown(f"split of {name}", split, splits(name)))
    check_n(n)


def check_n(n: int | None) -> None:
    if n is not None and n < 1:
        raise ValueError(f"n is the number of rows, 1 or more, not {n}.")


def at_most(n: int | None, size: int) -> int | None:
    return None if n is None else min(n, size)


def first(rows: Dataset, n: int | None) -> Dataset:
    return rows if n is None else rows.select(range(min(n, len(rows))))


def complete(rows: Dataset, expected: int | None, name: str) -> Dataset:
    """The rows, if there are as many as there should be: half a data set is never taken for all."""
    if expected not in (None, len(rows)):
        raise NotAvailable(f"{name} came with {len(rows):,} rows instead of {expected:,}.")
    return rows


# --- columns and files ------------------------------------------------------------------------

TEXTS = datasets.List(datasets.Value("string"))


def features(**extra) -> datasets.Features:
    """The columns that every data set has, and more."""
    return datasets.Features(
        {"image": datasets.Image(), "image_id": datasets.Value("string"), **extra}
    )


def tidy(text: str) -> str:
    """Without line breaks and doubled spaces."""
    return " ".join(text.split())


def own_folder() -> Path | None:
    """The user's own folder of data, MODALITY_GAP_DATA."""
    value = os.environ.get("MODALITY_GAP_DATA")
    return Path(value).expanduser().resolve() if value else None


def cache() -> Path:
    """Where `datasets` keeps what it has read."""
    return paths.CACHE / "datasets"


@contextmanager
def reading(name: str):
    """Turns what goes wrong while files are read into one sentence."""
    try:
        yield
    except Exception as error:  # of any reader: pyarrow, tarfile, zipfile, the disk
        raise NotAvailable(download.sentence(error.__cause__ or error, name)) from error

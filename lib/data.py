"""Pairs, labels and judgements: the embedded world and public data sets, with the same columns.

Public data sets are read from parquet, tar or zip files at a fixed revision; no script of theirs
is ever run. What a data set's repository holds was looked up, and each line of the tables below
says how it is mapped. A revision of None is fixed at the first download (see `lib.hub`).
"""

import csv
import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import datasets
import numpy as np
import pooch
import torch
from datasets import Dataset

from lib import hub, names, paths
from lib.hub import NotAvailable

__all__ = [
    "Embeddings",
    "NotAvailable",
    "load_judgements",
    "load_labelled",
    "load_pairs",
    "load_test_images",
    "prompts",
    "published_embeddings",
    "splits",
]


@dataclass(frozen=True)
class Embeddings:
    """Image embeddings (n, d), text embeddings (m, d), and the image that each text belongs to.

    Both are float32. `owner` (m,) holds indices into the images; the captions of an image keep
    their order.
    """

    image: torch.Tensor
    text: torch.Tensor
    owner: torch.Tensor

    def caption(self, k: int) -> torch.Tensor:
        """The embedding of the `k`-th caption (from 0) of every image: (n, d).

        Raises: ValueError if an image has no such caption.
        """
        counts = torch.bincount(self.owner, minlength=len(self.image))
        if not 0 <= k < int(counts.min()):
            raise ValueError(f"There is no caption {k} of every image: one has {counts.min()}.")
        # Texts of one image need not be next to each other, so sort them by owner, stably.
        order = torch.argsort(self.owner, stable=True)
        return self.text[order[torch.cumsum(counts, 0) - counts + k]]

    def first(self) -> torch.Tensor:
        """The embedding of the first caption of every image, as the papers' code uses: (n, d)."""
        return self.caption(0)


# --- pairs ------------------------------------------------------------------------------------

N_CAPTIONS = 5  # a few COCO images have six or seven; every evaluation uses the first five


@dataclass(frozen=True)
class Captioned:
    """A table (csv: filename, raw = JSON list of captions, split) and a zip archive of images."""

    repo: str
    revision: str | None
    table: str
    archive: str
    rows: int | None = None


_COCO = Captioned(
    "nlphuji/mscoco_2014_5k_test_image_text_retrieval",
    "551c4f7667f06fa82b4ef0a07617bfc4cf324ac3",
    "test_5k_mscoco_2014.csv",
    "images_mscoco_2014_5k_test.zip",
    rows=5_000,
)
_FLICKR_1K = Captioned(
    "nlphuji/flickr_1k_test_image_text_retrieval",
    "c4a4cdc67b77fce148b45484a067957bf75ec4c3",
    "test_1k_flickr.csv",
    "images_flickr_1k_test.zip",
    rows=1_000,
)
_FLICKR = Captioned(  # 4.4 GB, where the test split alone is 0.1 GB
    "nlphuji/flickr30k",
    "2b239befc81b6e3f035ce6bd52f5f4d60f5625f7",
    "flickr_annotations_30k.csv",
    "flickr30k-images.zip",
)
# name -> split -> where it is. All are the splits of Karpathy and Fei-Fei (2015).
PAIRS = {
    "coco": {"test": _COCO},
    "flickr30k": {"train": _FLICKR, "val": _FLICKR, "test": _FLICKR_1K},
}


# Data sets of the world that a model of its main split was not trained on -> our split -> its.
WORLD_TARGETS = {
    f"world-{name}": {"train": f"{name}_train", "test": name} for name in ("heldout", "rendition")
}


def load_pairs(name: str, split: str = "test", n: int | None = None) -> Dataset:
    """Image-caption pairs: at most `n` rows (default: all) of a split of a data set.

    `name`: "world"; "world-heldout" (unseen combinations) and "world-rendition" (unseen styles);
    "coco" or "flickr30k".

    Columns: image (datasets.Image), image_id (string), captions (list of strings, five per image).
    The world has in addition long_caption and the attributes as class labels.

    Raises: ValueError for a name or split that does not exist; NotAvailable if it cannot be had.
    """
    _check("data set of pairs", name, split, n)
    if name.startswith("world"):
        world, split = _world(), WORLD_TARGETS.get(name, {}).get(split, split)
        return world.pairs(split, _at_most(n, world.SPLITS[split][1]))
    source = PAIRS[name][split]
    folder = hub.fetch(source.repo, source.revision, [source.table, source.archive], kind="dataset")
    files = {"table": str(folder / source.table), "archive": str(folder / source.archive)}
    features = _features(captions=_TEXTS)
    with _reading(name):
        rows = Dataset.from_generator(
            _captioned,
            features=features,
            cache_dir=str(_cache()),
            gen_kwargs={**files, "split": split},
        )
    return _first(_complete(rows, source.rows, name), n)


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
                "captions": [_tidy(text) for text in json.loads(row["raw"])[:N_CAPTIONS]],
            }


# --- labelled images --------------------------------------------------------------------------


@dataclass(frozen=True)
class Labelled:
    """Images with one label each, as parquet (`SPLIT-*.parquet`) or tar files (`SPLIT/*.tar`).

    `splits` maps our names of the splits to the repository's. `rows` is the size of the test
    split, checked so that half a data set is never taken for all of it.
    """

    repo: str
    revision: str | None
    splits: dict[str, str] = field(default_factory=lambda: {"train": "train", "test": "test"})
    label: str = "label"
    tar: bool = False
    rows: int | None = None


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
    "caltech101": Labelled("mteb/Caltech101", "52439cf6d4f6ebf563d8cdc7f2c5371d9efd2686"),
    "cars": Labelled("isaacchung/StanfordCars", "09ffe9bc7864d3f1e851529e5c4b7e05601a04fb"),
    "cub": Labelled("Donghyun99/CUB-200-2011", None),
    "dtd": Labelled("tanganke/dtd", "d2afa97d9f335b1a6b3b09c637aef667f98f966e", rows=1_880),
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


def load_labelled(name: str, split: str = "test", n: int | None = None) -> Dataset:
    """Images with one class label each: at most `n` rows (default: all) of a split.

    `name` is "world-" and a label set, or a key of LABELLED. Columns: image (datasets.Image),
    image_id (string), label (datasets.ClassLabel; `features["label"].names` are the names of the
    classes, with spaces for underscores).

    Raises: ValueError for a name or split that does not exist; NotAvailable if it cannot be had.
    """
    _check("labelled data set", name, split, n)
    if name.startswith("world-"):
        world = _world()
        size = world.LABELLED_SPLITS[split][1]
        return world.labelled(name.removeprefix("world-"), split, _at_most(n, size))
    source = LABELLED[name]
    shards = f"{source.splits[split]}/*.tar" if source.tar else f"{source.splits[split]}-*.parquet"
    wanted = [shards, "classnames.txt"] if source.tar else [f"*{shards}"]
    folder = hub.fetch(source.repo, source.revision, wanted, kind="dataset")
    files = sorted(str(path) for path in folder.rglob(shards))
    with _reading(name):
        rows = datasets.load_dataset(
            "webdataset" if source.tar else "parquet",
            data_files=files,
            split="train",  # the name that all given files get
            cache_dir=str(_cache()),
        )
    rows = _complete(rows, source.rows if split == "test" else None, name)
    classes = (folder / "classnames.txt").read_text().splitlines() if source.tar else None
    return _first(_labelled(rows, f"{name}-{split}", source.label, classes), n)


def load_test_images(name: str, n: int, seed: int = 0) -> Dataset:
    """At most `n` labelled test images: the first ones of the world, random ones of a public set.

    Public sets are stored class by class. Columns and errors: see `load_labelled`.
    """
    if name.startswith("world-"):
        return load_labelled(name, "test", n)
    rows = load_labelled(name, "test").shuffle(seed)
    return rows.select(range(min(n, len(rows))))


def prompts(
    name: str, rows: Dataset, template: str = "a photo of a {}."
) -> tuple[list[str], list[str]]:
    """What a zero-shot classifier asks about a labelled data set: a phrase per class, templates.

    The world's own prompts; for a public set the names of its classes, and one template.
    """
    if name.startswith("world-"):
        return _world().prompts(name.removeprefix("world-"))
    return rows.features["label"].names, [template]


def same_images(sets: dict[str, Dataset]) -> list[list[str]]:
    """Names of labelled data sets, those of the same images (in the same order) together."""
    groups: dict[tuple, list[str]] = {}
    for name, rows in sets.items():
        groups.setdefault(tuple(rows["image_id"][:]), []).append(name)
    return list(groups.values())


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
    kind = datasets.ClassLabel(names=[_tidy(name.replace("_", " ")) for name in classes])
    return out.add_column("label", values.astype(np.int64), feature=kind)


# --- judged captions --------------------------------------------------------------------------

# name -> (file of the CLIPScore repository's flickr8k_example/download.py, raters per caption)
JUDGED = {
    "flickr8k-expert": ("flickr8k.json", 3),
    "flickr8k-cf": ("crowdflower_flickr8k.json", 1),
}


def load_judgements(name: str, n: int | None = None) -> Dataset:
    """Captions rated by people, of at most `n` images (default: all).

    `name`: "world-expert", "world-cf", "flickr8k-expert" (three experts, 1 to 4) or "flickr8k-cf"
    (one share of yes votes, 0 to 1). Columns: image, image_id, caption, references (list of
    strings), ratings (one number per rater), rating (their mean).

    Flickr8k is not downloaded for you: run `flickr8k_example/download.py` of the CLIPScore authors
    (github.com/jmhessel/clipscore) and put its folder `flickr8k` into the one that the variable
    MODALITY_GAP_DATA names. Candidates that equal a reference are left out there (expert), or are
    taken out of the references (cf).

    Raises: ValueError for a name that does not exist; NotAvailable if the data are not there.
    """
    known = ["world-expert", "world-cf", *JUDGED]
    if name not in known:
        raise ValueError(names.unknown("data set of judgements", name, known))
    _check_n(n)
    if name.startswith("world-"):
        world = _world()
        return world.judgements(name.removeprefix("world-"), _at_most(n, world.N_JUDGED))
    file, raters = JUDGED[name]
    folder = _own_folder() / "flickr8k" if _own_folder() else None
    if folder is None or not (folder / file).is_file():
        raise NotAvailable(
            f"{name} is not downloaded for you: run flickr8k_example/download.py of "
            "github.com/jmhessel/clipscore and let MODALITY_GAP_DATA name the folder that holds "
            f"flickr8k/{file}."
        )
    images = list(json.loads((folder / file).read_text(encoding="utf-8")).items())[:n]
    rows = [row for key, entry in images for row in _judged(folder, key, entry, raters)]
    features = _features(
        caption=datasets.Value("string"),
        references=_TEXTS,
        ratings=datasets.List(datasets.Value("float32")),
        rating=datasets.Value("float32"),
    )
    return Dataset.from_dict({key: [row[key] for row in rows] for key in features}, features)


def _judged(folder: Path, key: str, entry: dict, raters: int) -> Iterator[dict]:
    """One row per candidate: its raters' entries follow each other in the file."""
    judged = entry["human_judgement"]
    for i in range(0, len(judged), raters):
        ratings = [float(one["rating"]) for one in judged[i : i + raters]]
        if not np.isfinite(ratings).all():
            continue
        yield {
            "image": str(folder / entry["image_path"]),
            "image_id": Path(key).stem,
            "caption": _tidy(judged[i]["caption"]),
            "references": [_tidy(text) for text in entry["ground_truth"]],
            "ratings": ratings,
            "rating": sum(ratings) / len(ratings),
        }


# --- the published embeddings of Mind the Gap ---------------------------------------------------

_GAP_URL = (
    "https://raw.githubusercontent.com/Weixin-Liang/Modality-Gap/"
    "8e20cb24efa4c5f89aad694f2f65eb43ffc46d10/Figure_1_Modality_Gap/"
)
PUBLISHED = {
    "clip": "7227280ace0f145d2c45afa8ab507a1cb280e9460aa271fe9052d08e35342adb",
    "clip_random": "c6a5f9ca3fba36d635fd47d20b3cdd5b9ac78dc462070240fdc2ee2786110403",
    "convirt": "8cfb9c31888d12726a3f8b551bed64f04b25d1c76d5353b0a3e9efeceb43edb9",
    "convirt_random": "2fd5698e712d5e0d72256a1b29044b2059818f0575ab12bfcb2c5ae13092007f",
    "clasp": "5a1d12a68729405003fe19b271a38ae35adab97c139e4b4a51d70b18c44bf628",
    "clasp_random": "2a159d008b7527e9fbd3de49daf9116d9500d1aaa250c3a5b009b162c5f4066b",
    "videoclip": "53255cac6105c5c47dd1850d77de084957d5f83841ba9ae9254bf7ae998573da",
    "videoclip_random": "c57ee05a606c4a9da0d71ad8b5d5c964d780af816890064a693eb178492c0f3b",
}


def published_embeddings(name: str) -> Embeddings:
    """Embeddings that the authors of Mind the Gap published for their Figure 1 (MIT licence).

    `name`: clip (OpenAI ViT-B/16, 500 pairs of COCO val2017), convirt, clasp or videoclip, each
    also with `_random` (the same pairs, randomly initialised weights). Both tensors are (n, d)
    float32, row i of one belongs to row i of the other; norms are 1 up to half precision, as
    published. Taken from the folder that MODALITY_GAP_DATA names (itself or its subfolder
    mind_the_gap), else from the cache, else downloaded; the SHA-256 must be the published file's.

    Raises: ValueError for an unknown name; NotAvailable if there is no such file and no network.
    """
    if name not in PUBLISHED:
        raise ValueError(names.unknown("published embedding", name, PUBLISHED))
    both = np.load(_published_file(f"features_{name}.npy", PUBLISHED[name]), allow_pickle=False)
    image, text = (torch.from_numpy(np.array(part, np.float32)) for part in both)
    return Embeddings(image, text, torch.arange(len(image)))


def _published_file(file: str, sha256: str) -> Path:
    own = _own_folder()
    for path in [own / file, own / "mind_the_gap" / file] if own else []:
        if path.is_file():
            if pooch.file_hash(str(path)) != sha256:
                raise NotAvailable(f"{path} is not the published file: its SHA-256 differs.")
            return path
    folder = paths.CACHE / "mind_the_gap"
    if hub.offline() and not (folder / file).is_file():
        raise NotAvailable(_NO_PUBLISHED.format(file=file, why="HF_HUB_OFFLINE is set"))
    pooch.get_logger().setLevel("WARNING")
    try:
        get = pooch.HTTPDownloader(timeout=(5, 30))
        return Path(pooch.retrieve(_GAP_URL + file, sha256, file, folder, downloader=get))
    except OSError as error:  # requests' errors are OSErrors
        raise NotAvailable(_NO_PUBLISHED.format(file=file, why="there is no network")) from error
    except ValueError as error:
        raise NotAvailable(f"The download of {file} is damaged: its SHA-256 differs.") from error


_NO_PUBLISHED = (
    "{file} is not here and {why}: download it once, or let MODALITY_GAP_DATA name a folder that "
    "holds it."
)


# --- shared -----------------------------------------------------------------------------------

_TEXTS = datasets.List(datasets.Value("string"))


def splits(name: str) -> tuple[str, ...]:
    """Names of the splits of a data set of pairs or a labelled one.

    Raises: ValueError if there is no such data set.
    """
    if name == "world":
        return tuple(_world().SPLITS)
    if name in WORLD_TARGETS:
        return tuple(WORLD_TARGETS[name])
    if name.startswith("world-") and name.removeprefix("world-") in _world().LABEL_SETS:
        return tuple(_world().LABELLED_SPLITS)
    if name in PAIRS:
        return tuple(PAIRS[name])
    if name in LABELLED:
        return tuple(LABELLED[name].splits)
    raise ValueError(names.unknown("data set", name, _pair_names() + _labelled_names()))


def _pair_names() -> list[str]:
    return ["world", *WORLD_TARGETS, *PAIRS]


def _labelled_names() -> list[str]:
    return [*(f"world-{key}" for key in _world().LABEL_SETS), *LABELLED]


def _check(kind: str, name: str, split: str, n: int | None) -> None:
    known = _pair_names() if "pairs" in kind else _labelled_names()
    if name not in known:
        raise ValueError(names.unknown(kind, name, known))
    if split not in splits(name):
        raise ValueError(names.unknown(f"split of {name}", split, splits(name)))
    _check_n(n)


def _check_n(n: int | None) -> None:
    if n is not None and n < 1:
        raise ValueError(f"n is the number of rows, 1 or more, not {n}.")


def _at_most(n: int | None, size: int) -> int | None:
    return None if n is None else min(n, size)


def _first(rows: Dataset, n: int | None) -> Dataset:
    return rows if n is None else rows.select(range(min(n, len(rows))))


def _complete(rows: Dataset, expected: int | None, name: str) -> Dataset:
    if expected not in (None, len(rows)):
        raise NotAvailable(f"{name} came with {len(rows):,} rows instead of {expected:,}.")
    return rows


def _features(**extra) -> datasets.Features:
    return datasets.Features(
        {"image": datasets.Image(), "image_id": datasets.Value("string"), **extra}
    )


def _tidy(text: str) -> str:
    return " ".join(text.split())


def _world():
    from lib import world  # the public data sets do without the renderer

    return world


def _own_folder() -> Path | None:
    value = os.environ.get("MODALITY_GAP_DATA")
    return Path(value).expanduser().resolve() if value else None


def _cache() -> Path:
    return paths.CACHE / "datasets"


@contextmanager
def _reading(name: str):
    """Turns what goes wrong while files are read into one sentence."""
    try:
        yield
    except Exception as error:  # of whatever reader: pyarrow, tarfile, zipfile, the disk
        raise NotAvailable(hub.sentence(error.__cause__ or error, name)) from error

"""The embedded world: pictures of a few shapes with captions, drawn from a seed.

A stand-in for COCO, Flickr30k and the classification sets where there is no network: scenes of
one to three objects with shape, colour, texture, size, place, relation and style; five captions
and a long one each; label sets from 4 to 500 classes; shifted test sets; judged captions.
Scene `i` of a split depends on nothing but the split's name and `i`. What was drawn once is kept
on the disk, BLOCK scenes together.
"""

import hashlib
import io
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import datasets
import numpy as np
import PIL
import pyarrow
from PIL import Image

from lib import files, paths
from lib.suggestions import unknown
from mini.world.captions import JUDGED, MEDIA, PLACES, candidate, captions, long_caption
from mini.world.render import render
from mini.world.scenes import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT,
    INK,
    SHAPES,
    SIZES,
    STYLES,
    TEXTURES,
    UNSEEN_STYLES,
    Scene,
    Stream,
    sample_scene,
)

VERSION = 1  # part of every seed: raise it when a change gives other pictures or captions

# split -> (number, size, what its scenes are)
SPLITS = {
    "train": (0, 100_000, {}),
    "val": (1, 1_000, {}),
    "test": (2, 1_000, {}),
    # Unseen combinations and unseen styles, each with pairs to fine-tune on.
    "heldout": (3, 1_000, {"heldout": True}),
    "heldout_train": (4, 10_000, {"heldout": True}),
    "rendition": (5, 1_000, {"styles": UNSEEN_STYLES}),
    "rendition_train": (6, 10_000, {"styles": UNSEEN_STYLES}),
}
# Single-object sets with labels. The last four stand for ImageNet-V2, -R, -A and -Sketch.
_ONE = {"n_things": 1}
LABELLED_SPLITS = {
    "train": (10, 10_000, _ONE),
    "val": (11, 2_000, _ONE),
    "test": (12, 2_000, _ONE),
    "heldout": (13, 2_000, _ONE | {"heldout": True}),
    "resampled": (14, 2_000, {}),
    "rendition": (15, 2_000, _ONE | {"styles": UNSEEN_STYLES}),
    "hard": (16, 2_000, {"hard": True}),
    "ink": (17, 2_000, _ONE | {"styles": [INK]}),
}
ATTRIBUTES = {
    "shape": SHAPES,
    "colour": COLOURS,
    "texture": TEXTURES,
    "size": SIZES,
    "background": BACKGROUNDS,
    "style": [*STYLES, *UNSEEN_STYLES, INK],
}
# label set -> the attributes of the main object (or picture) whose combination is the class
LABEL_SETS = {
    "shape": ("shape",),
    "colour": ("colour",),
    "texture": ("texture",),
    "background": ("background",),
    "style": ("style",),
    "shape-colour": ("colour", "shape"),
    "texture-colour": ("texture", "colour"),
    "shape-colour-texture": ("texture", "colour", "shape"),
}
# A rater says yes to a candidate with 0, 1, ... 4 right attributes with this probability.
YES = (0.02, 0.06, 0.18, 0.5, 0.92)
N_JUDGED, CANDIDATES = 1_000, 5  # pictures, and judged captions of each
BLOCK = 500


def scene_and_stream(number: int, index: int, options: dict) -> tuple[Scene, Stream]:
    draw = Stream(VERSION, number, index)
    return sample_scene(draw, **options), draw


def attributes(scene: Scene) -> dict[str, int]:
    """Attribute indices of the main object and the picture, and the number of objects."""
    main = scene.things[0]
    return {
        "shape": main.shape,
        "colour": main.colour,
        "texture": main.texture,
        "size": main.size,
        "background": scene.background,
        "style": ATTRIBUTES["style"].index(scene.style),
        "n_objects": len(scene.things),
    }


def _features(**extra) -> datasets.Features:
    columns = {"image": datasets.Image(), "image_id": datasets.Value("string"), **extra}
    return datasets.Features(columns)


_ATTRIBUTE_FEATURES = {k: datasets.ClassLabel(names=list(v)) for k, v in ATTRIBUTES.items()} | {
    "n_objects": datasets.Value("int32")
}
_TEXTS = datasets.List(datasets.Value("string"))


def png(pixels: np.ndarray) -> dict:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
    return {"bytes": buffer.getvalue(), "path": None}


def _drawn(
    what: str,
    n: int,
    largest: int,
    features: datasets.Features,
    rows_of: Callable[[int], list[dict]],
    rows_per_scene: int = 1,
) -> datasets.Dataset:
    """All rows of the first `n` scenes of a split, `rows_of(index of a scene)`; kept by blocks."""
    blocks = [range(start, min(start + BLOCK, largest)) for start in range(0, n, BLOCK)]
    parts = [_block(what, block, features, rows_of) for block in blocks]
    return datasets.concatenate_datasets(parts).select(range(n * rows_per_scene))


def _block(
    what: str, scenes: range, features: datasets.Features, rows_of: Callable[[int], list[dict]]
) -> datasets.Dataset:
    key = f"{_drawing()} {what} {scenes.start} {len(scenes)}"
    file = paths.CACHE / "world" / f"{files.sha256(key.encode())[:32]}.arrow"
    if not file.exists():
        rows = [row for i in scenes for row in rows_of(i)]
        columns = {name: [row[name] for row in rows] for name in features}
        table = datasets.Dataset.from_dict(columns, features).data.table
        with files.put(file) as part, pyarrow.ipc.new_stream(str(part), table.schema) as stream:
            stream.write_table(table)
    return datasets.Dataset.from_file(str(file))


@cache
def _drawing() -> str:
    """SHA-256 of what decides every picture and caption: the code here, and its libraries."""
    code = "".join(file.read_text() for file in sorted(Path(__file__).parent.glob("*.py")))
    versions = f"{VERSION} {np.__version__} {PIL.__version__}"
    return hashlib.sha256((versions + code).encode()).hexdigest()


def _size(n: int | None, largest: int, split: str) -> int:
    if n is None:
        return largest
    if not 1 <= n <= largest:
        raise ValueError(f"split {split!r} has {largest} items; ask for 1 to {largest}, not {n}.")
    return n


def _known(name: str, names, what: str):
    if name not in names:
        raise ValueError(unknown(what, name, names))
    return names[name]


def pairs(split: str, n: int | None = None) -> datasets.Dataset:
    """The first `n` image-caption pairs of a split; see SPLITS.

    Columns: image, image_id, captions (five), long_caption, and the attributes as class labels.
    """
    number, largest, options = _known(split, SPLITS, "split")
    text = {"captions": _TEXTS, "long_caption": datasets.Value("string")}
    features = _features(**text, **_ATTRIBUTE_FEATURES)

    def rows(i: int) -> list[dict]:
        scene, draw = scene_and_stream(number, i, options)
        return [
            {"image": png(render(scene, draw)), "image_id": f"world-{split}-{i}"}
            | {"captions": captions(scene, draw), "long_caption": long_caption(scene, draw)}
            | attributes(scene)
        ]

    return _drawn(f"pairs {split}", _size(n, largest, split), largest, features, rows)


def class_names(label_set: str) -> list[str]:
    """Names of a label set's classes; combinations as in speech ("striped red star").

    Combinations of shape and colour that the training split lacks are left out.
    """
    names = [[]]
    for attribute in _known(label_set, LABEL_SETS, "label set"):
        words = STYLES if attribute == "style" else ATTRIBUTES[attribute]
        names = [[*n, word] for n in names for word in words]
    return [" ".join(n) for n in names if not _unseen(n)]


def prompts(label_set: str) -> tuple[list[str], list[str]]:
    """Zero-shot prompts of a label set: a phrase for each class, and templates with one {}.

    The templates spell out what the class leaves open (the colour of a shape, the place of an
    object), because the world's captions never call an object just "a striped thing".
    """
    names = class_names(label_set)
    some = [f"{c} {s}" for c in ("red", "blue", "yellow") for s in SHAPES[:6]]
    templates = {
        "shape": [f"a {c} {{}}" for c in COLOURS],
        "colour": [f"a {{}} {s}" for s in SHAPES],
        "texture": [f"a {{}} {thing}" for thing in some],
        "texture-colour": [f"a {{}} {s}" for s in SHAPES],
        "background": [f"a {thing} {{}}" for thing in some],
        "style": [f"{{}} a {thing}" for thing in some],
        "shape-colour": ["a {}", "a photo of a {}", "a drawing of a {}"],
        "shape-colour-texture": ["a {}", "a photo of a {}", "a drawing of a {}"],
    }[label_set]
    phrases = {"background": PLACES, "style": MEDIA}.get(label_set)
    return ([phrases[n][0] for n in names] if phrases else names), templates


def _unseen(words: list[str]) -> bool:
    shapes, colours = ([w for w in words if w in names] for names in (SHAPES, COLOURS))
    if not (shapes and colours):
        return False
    return (SHAPES.index(shapes[0]), COLOURS.index(colours[0])) in HELD_OUT


def labelled(label_set: str, split: str, n: int | None = None) -> datasets.Dataset:
    """Single-object pictures (resampled and hard: with others around) with a class label.

    Columns: image, image_id, label. Splits: see LABELLED_SPLITS.
    """
    parts = _known(label_set, LABEL_SETS, "label set")
    _, largest, _ = _known(split, LABELLED_SPLITS, "split")
    names = class_names(label_set)
    if split == "heldout" and {"shape", "colour"} <= set(parts):
        raise ValueError(f"label set {label_set!r} has no held-out combinations as classes.")
    if split in ("rendition", "ink") and label_set == "style":
        raise ValueError(f"split {split!r} has only styles that are no class of 'style'.")
    pictures = _pictures(split, _size(n, largest, split))
    values = zip(*(pictures[attribute][:] for attribute in parts), strict=True)
    texts = [[ATTRIBUTES[a][k] for a, k in zip(parts, row, strict=True)] for row in values]
    label = datasets.ClassLabel(names=names)
    own = label.str2int([" ".join(words) for words in texts])
    return pictures.select_columns(["image", "image_id"]).add_column("label", own, feature=label)


def _pictures(split: str, n: int) -> datasets.Dataset:
    """Pictures and attributes of a labelled split, which all label sets share."""
    number, largest, options = LABELLED_SPLITS[split]
    features = _features(**_ATTRIBUTE_FEATURES)

    def rows(i: int) -> list[dict]:
        scene, draw = scene_and_stream(number, i, options)
        picture = {"image": png(render(scene, draw)), "image_id": f"world-labelled-{split}-{i}"}
        return [picture | attributes(scene)]

    return _drawn(f"labelled {split}", n, largest, features, rows)


def judgements(kind: str, n: int | None = None) -> datasets.Dataset:
    """Judged captions: for each of `n` images five candidates with 0 to 4 attributes right.

    `expert` (as Flickr8k-Expert): three raters give 1 to 4, namely one plus 3/4 of the number of
    right attributes plus noise of standard deviation 0.6, rounded. `cf` (as Flickr8k-CF): the
    share of six raters who say yes, each with probability YES[right].
    Columns: image, image_id, caption, references (the five captions), right, ratings, rating.
    """
    _known(kind, {"expert": 0, "cf": 0}, "kind of judgements")
    values = datasets.List(datasets.Value("float32"))
    features = _features(
        caption=datasets.Value("string"),
        references=_TEXTS,
        right=datasets.Value("int32"),
        ratings=values,
        rating=datasets.Value("float32"),
    )

    n = _size(n, N_JUDGED, "judged")
    rows = partial(_rated, kind)
    return _drawn(f"judged {kind}", n, N_JUDGED, features, rows, CANDIDATES)


def _rated(kind: str, i: int) -> list[dict]:
    """The candidates of one picture."""
    scene, draw = scene_and_stream(20, i, _ONE)
    image, references = png(render(scene, draw)), captions(scene, draw)
    rate = Stream(VERSION, 21 if kind == "expert" else 22, i)
    rows = []
    for right in draw.shuffled(range(CANDIDATES)):
        held = frozenset(draw.shuffled(JUDGED)[:right])
        ratings = _expert(right, rate) if kind == "expert" else _votes(right, rate)
        rows.append(
            {"image": image, "image_id": f"world-judged-{i}", "references": references}
            | {"caption": candidate(scene, held, draw), "right": right, "ratings": ratings}
            | {"rating": sum(ratings) / len(ratings)}
        )
    return rows


def _expert(right: int, rate: Stream) -> list[float]:
    return [
        float(min(4, max(1, int(1 + 0.75 * right + 0.6 * rate.bell() + 0.5)))) for _ in range(3)
    ]


def _votes(right: int, rate: Stream) -> list[float]:
    return [sum(rate.unit() < YES[right] for _ in range(6)) / 6]

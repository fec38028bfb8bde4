"""Encode once: embeddings cached by content, so that a second call reads them from the disk.

The key is the SHA-256 of the model (configuration, weights, tokenizer) and of the data (the
encoded images or the texts); names, order of calls and places of files play no part. A file holds a
block of items, so that the first thousand of a set are found when all of it is asked for.

`python -m lib.embed --profile mini --model clip` encodes a profile's standard data sets for one
model, so that notebooks that run side by side find them there.
"""

import argparse
import functools
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import datasets
import torch
from datasets import Dataset

from lib import bars, cache, data, models, names, profile
from lib.data import Embeddings, NotAvailable
from lib.models import Model

__all__ = ["Embeddings", "embed", "embed_images", "embed_texts"]

BLOCK = 500  # items in a file of the cache
PIXELS_BYTES = 2**28  # of preprocessed images, kept in the memory for the next model
_FORMAT = 3  # raise it when the way of encoding changes, so that old files are not found


def embed(model: Model, dataset: Dataset) -> Embeddings:
    """Embeddings of the images (n, d) and of all captions (m, d) of a data set of pairs.

    Captions are in the order of their images, and in their own order within an image.

    Raises: ValueError if the data set is empty or has no images or captions.
    """
    _need(dataset, "captions")
    captions = dataset["captions"][:]
    owner = [i for i, texts in enumerate(captions) for _ in texts]
    return Embeddings(
        image=embed_images(model, dataset),
        text=embed_texts(model, [text for texts in captions for text in texts]),
        owner=torch.tensor(owner),
    )


def embed_images(model: Model, dataset: Dataset) -> torch.Tensor:
    """Embeddings (n, d) of the column `image`: float32, L2-normalised, cached.

    Raises: ValueError if the data set is empty or has no images.
    """
    _need(dataset, "image")
    images = dataset.with_format(None).select_columns("image")

    def block(rows: range) -> tuple[str, Iterator]:
        some = images.select(rows)
        digest = _hash_images(some)
        return digest, _pixels(model, some, digest)

    return _by_block(model, "image", len(images), block, model.encode_pixels)


def embed_texts(model: Model, texts: Sequence[str]) -> torch.Tensor:
    """Embeddings (m, d) of texts: float32, L2-normalised, cached.

    Raises: ValueError if there is none.
    """
    texts, size = list(texts), models.BATCH_TEXTS

    def block(rows: range) -> tuple[str, Iterator]:
        some = texts[rows.start : rows.stop]
        digest = hashlib.sha256(json.dumps(some).encode()).hexdigest()
        return digest, (some[i : i + size] for i in range(0, len(some), size))

    return _by_block(model, "text", len(texts), block, model.encode_text)


def _need(dataset: Dataset, column: str) -> None:
    if column not in dataset.column_names:
        found = ", ".join(dataset.column_names)
        raise ValueError(f"The data set has no column {column!r}; it has {found}.")
    if not len(dataset):
        raise ValueError("The data set is empty: there is nothing to encode.")


def _hash_images(images: Dataset) -> str:
    """SHA-256 over the encoded images (png, jpeg), none of which is decoded."""
    digest = hashlib.sha256()
    for rows in images.cast_column("image", datasets.Image(decode=False)).iter(256):
        for image in rows["image"]:
            content = image["bytes"] or Path(image["path"]).read_bytes()
            digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()


_kept: dict[tuple, torch.Tensor] = {}  # batches of `_pixels`, the one used last at the end


def _pixels(model: Model, images: Dataset, digest: str) -> Iterator[torch.Tensor]:
    """Preprocessed images (n, 3, height, width), a batch at a time.

    To decode and preprocess them takes nearly as long as to encode them with a small model, and
    models that are compared mostly take the same pixels: they are kept while there is room.
    """
    for start in range(0, len(images), models.BATCH_IMAGES):
        key = repr(model.preprocess), digest, start
        pixels = _kept.pop(key, None)
        if pixels is None:
            pixels = model.pixels(images[start : start + models.BATCH_IMAGES]["image"])
        _kept[key] = pixels
        while sum(kept.nbytes for kept in _kept.values()) > PIXELS_BYTES:
            del _kept[next(iter(_kept))]
        yield pixels


def _by_block(model: Model, kind: str, n: int, block: Callable, encode: Callable) -> torch.Tensor:
    """Embeddings of n items; `block(rows)` gives a hash of these items, and their batches."""
    if not n:
        raise ValueError(f"Give at least one {kind} to encode.")
    parts = []
    with bars.bar(total=n, unit=kind) as bar:
        for start in range(0, n, BLOCK):
            rows = range(start, min(start + BLOCK, n))
            digest, batches = block(rows)
            key = {"format": _FORMAT, "model": model.fingerprint, "kind": kind, "data": digest}
            compute = functools.partial(_encode, encode, batches, bar)
            found = cache.tensors("embeddings", key, compute, about={"name": model.name})
            parts.append(found["embeddings"])
            bar.update(rows.stop - bar.n)
    return torch.cat(parts)


def _encode(encode: Callable, batches: Iterator, bar) -> cache.Tensors:
    parts = []
    for batch in batches:
        parts.append(encode(batch))
        bar.update(len(batch))
    return {"embeddings": torch.cat(parts)}


# --- command ----------------------------------------------------------------------------------


def standard(p: profile.Profile, model: str) -> Iterator[tuple[str, Callable[[], Dataset]]]:
    """What most notebooks of a profile encode: (title, function that loads it)."""
    yield f"{p.pairs} test", lambda: data.load_pairs(p.pairs, "test", p.n_pairs)
    if model in p.seeds() and "train" in data.splits(p.pairs):  # means are learnt for these
        yield f"{p.pairs} train", lambda: data.load_pairs(p.pairs, "train", p.n_train_pairs)
    if p.pairs_2:
        yield f"{p.pairs_2} test", lambda: data.load_pairs(p.pairs_2, "test", p.n_pairs)
    for name in p.labelled.values():
        yield f"{name} test", lambda name=name: data.load_labelled(name, "test")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m lib.embed",
        description="Encode a profile's standard data sets for one of its models.",
    )
    parser.add_argument("--profile", default="mini")
    parser.add_argument("--model", default="clip", help="role in the profile, or a model's name")
    parser.add_argument("--small", action="store_true", help="the sizes of a quick try")
    options = parser.parse_args(arguments)
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        _encode_standard(options)
    except (ValueError, NotAvailable) as error:
        raise SystemExit(str(error)) from None


def _encode_standard(options: argparse.Namespace) -> None:
    p = profile.load(options.profile, options.small)
    if options.model not in {*p.models, *p.models.values(), *p.also}:
        raise ValueError(names.unknown("model role", options.model, [*p.models, *p.also]))
    model = models.load(p.models.get(options.model, options.model))
    for title, load in standard(p, model.name):
        try:
            dataset = load()
        except NotAvailable as error:
            print(f"{model.name}: {title} left out. {error}", flush=True)
            continue
        run = embed if "captions" in dataset.column_names else embed_images
        run(model, dataset)
        print(f"{model.name}: {title}, {len(dataset):,} images", flush=True)


if __name__ == "__main__":
    main()

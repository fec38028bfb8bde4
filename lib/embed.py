"""Encode once: embeddings cached by content, so that a second call reads them from the disk.

The key is the SHA-256 of the model (configuration, weights, tokenizer) and of the data (the
encoded images or the texts); names, order of calls and places of files play no part.

`python -m lib.embed --profile mini --model clip` encodes a profile's standard data sets for one
model, so that notebooks that run side by side find them there.
"""

import argparse
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

_FORMAT = 1  # raise it when the way of encoding changes, so that old files are not found


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
    return _cached(
        model, "image", _hash_images(images), len(images), lambda: _encode(model, images)
    )


def embed_texts(model: Model, texts: Sequence[str]) -> torch.Tensor:
    """Embeddings (m, d) of texts: float32, L2-normalised, cached.

    Raises: ValueError if there is none.
    """
    texts = list(texts)
    digest = hashlib.sha256(json.dumps(texts).encode()).hexdigest()
    return _cached(model, "text", digest, len(texts), lambda: _encode_texts(model, texts))


def _need(dataset: Dataset, column: str) -> None:
    if column not in dataset.column_names:
        found = ", ".join(dataset.column_names)
        raise ValueError(f"The data set has no column {column!r}; it has {found}.")
    if not len(dataset):
        raise ValueError("The data set is empty: there is nothing to encode.")


def _encode(model: Model, images: Dataset) -> torch.Tensor:
    # A batch of images is decoded at a time: memory does not grow with the data set.
    batches = (rows["image"] for rows in images.iter(models.BATCH_IMAGES))
    return _with_progress(model.encode_image, batches, len(images), models.BATCH_IMAGES)


def _encode_texts(model: Model, texts: list[str]) -> torch.Tensor:
    size = models.BATCH_TEXTS
    batches = (texts[i : i + size] for i in range(0, len(texts), size))
    return _with_progress(model.encode_text, batches, len(texts), size)


def _with_progress(encode: Callable, batches: Iterator, n: int, size: int) -> torch.Tensor:
    shown = bars.bar(batches, total=-(-n // size), unit="batch")
    return torch.cat([encode(batch) for batch in shown])


def _hash_images(images: Dataset) -> str:
    """SHA-256 over the encoded images (png, jpeg), none of which is decoded."""
    digest = hashlib.sha256()
    for rows in images.cast_column("image", datasets.Image(decode=False)).iter(256):
        for image in rows["image"]:
            content = image["bytes"] or Path(image["path"]).read_bytes()
            digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()


def _cached(model: Model, kind: str, digest: str, n: int, encode: Callable) -> torch.Tensor:
    if not n:
        raise ValueError(f"Give at least one {kind} to encode.")
    key = {"format": _FORMAT, "model": model.fingerprint, "kind": kind, "data": digest}
    found = cache.tensors(
        "embeddings", key, lambda: {"embeddings": encode()}, about={"name": model.name}
    )
    return found["embeddings"]


# --- command ----------------------------------------------------------------------------------


def standard(p: profile.Profile) -> Iterator[tuple[str, Callable[[], Dataset]]]:
    """What most notebooks of a profile encode: (title, function that loads it)."""
    yield f"{p.pairs} test", lambda: data.load_pairs(p.pairs, "test", p.n_pairs)
    if "train" in data.splits(p.pairs):
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
    for title, load in standard(p):
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

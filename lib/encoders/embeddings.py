"""Encode once: embeddings cached by content, so that a second call reads them from the disk.

The key is the SHA-256 of the model (configuration, weights, tokenizer) and of the data (the
encoded images or the texts); names, order of calls and places of files play no part. A file holds a
block of items, so that the first thousand of a set are found when all of it is asked for.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import torch
from datasets import Dataset

from lib import files, progress
from lib.encoders import towers
from lib.encoders.towers import Model

BLOCK = 500  # items in a file of the cache
PIXELS_BYTES = 2**28  # of preprocessed images, kept in the memory for the next model
_FORMAT = 3  # raise it when the way of encoding changes, so that old files are not found


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
    blocks = [images.select(rows) for rows in _rows(len(images))]
    return _encoded(model, "image", blocks, _hash_images, _pixels, model.encode_pixels)


def embed_texts(model: Model, texts: Sequence[str]) -> torch.Tensor:
    """Embeddings (m, d) of texts: float32, L2-normalised, cached.

    Raises: ValueError if there is none.
    """
    texts = list(texts)
    blocks = [texts[rows.start : rows.stop] for rows in _rows(len(texts))]
    return _encoded(model, "text", blocks, _hash_texts, _text_batches, model.encode_text)


def embed_pairs(
    model: Model, dataset: Dataset, caption: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (n, d) and the `caption`-th caption (from 0) of each (n, d), row by row.

    The other captions are not encoded. Raises: ValueError as `embed`.
    """
    _need(dataset, "captions")
    texts = [captions[caption] for captions in dataset["captions"][:]]
    return embed_images(model, dataset), embed_texts(model, texts)


def text_encoder(model: Model) -> Callable[[Sequence[str]], torch.Tensor]:
    """`embed_texts` of one model, for `zeroshot.class_embeddings`."""
    return functools.partial(embed_texts, model)


def _rows(n: int) -> list[range]:
    return [range(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK)]


def _need(dataset: Dataset, column: str) -> None:
    if column not in dataset.column_names:
        found = ", ".join(dataset.column_names)
        raise ValueError(f"The data set has no column {column!r}; it has {found}.")
    if not len(dataset):
        raise ValueError("The data set is empty: there is nothing to encode.")


def _hash_texts(texts: list[str]) -> str:
    return files.sha256(json.dumps(texts).encode())


def _text_batches(model: Model, texts: list[str]) -> Iterator[list[str]]:
    size = towers.BATCH_TEXTS
    return (texts[i : i + size] for i in range(0, len(texts), size))


def _hash_images(images: Dataset) -> str:
    """SHA-256 over the encoded images (png, jpeg), none of which is decoded."""
    digest = hashlib.sha256()
    for rows in images.cast_column("image", datasets.Image(decode=False)).iter(256):
        for image in rows["image"]:
            content = image["bytes"] or Path(image["path"]).read_bytes()
            digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()


_kept: dict[tuple, torch.Tensor] = {}  # batches of `_pixels`, the one used last at the end


def _pixels(model: Model, images: Dataset) -> Iterator[torch.Tensor]:
    """Preprocessed images (n, 3, height, width), a batch at a time.

    To decode and preprocess them takes nearly as long as to encode them with a small model, and
    models that are compared mostly take the same pixels: they are kept while there is room.
    """
    digest = _hash_images(images)
    for start in range(0, len(images), towers.BATCH_IMAGES):
        key = repr(model.preprocess), digest, start
        pixels = _kept.pop(key, None)
        if pixels is None:
            pixels = model.pixels(images[start : start + towers.BATCH_IMAGES]["image"])
        _kept[key] = pixels
        while sum(kept.nbytes for kept in _kept.values()) > PIXELS_BYTES:
            del _kept[next(iter(_kept))]
        yield pixels


def _encoded(
    model: Model, kind: str, blocks: list, digest: Callable, batches: Callable, encode: Callable
) -> torch.Tensor:
    """Embeddings of all blocks; those of a block are kept by the digest of its items."""
    if not blocks:
        raise ValueError(f"Give at least one {kind} to encode.")
    parts, done = [], 0
    with progress.bar(total=sum(map(len, blocks)), unit=kind) as bar:
        for block in blocks:
            key = {"format": _FORMAT, "model": model.fingerprint, "kind": kind}

            def compute(block=block) -> dict:
                return {"embeddings": _one_block(encode, batches(model, block), bar)}

            key |= {"data": digest(block)}
            found = files.tensors("embeddings", key, compute, about={"name": model.name})
            parts.append(found["embeddings"])
            done += len(block)
            bar.update(done - bar.n)  # what was found on the disk
    return torch.cat(parts)


def _one_block(encode: Callable, batches: Iterator, bar) -> torch.Tensor:
    parts = []
    for batch in batches:
        parts.append(encode(batch))
        bar.update(len(batch))
    return torch.cat(parts)

"""Captions that a CoCa writes: its text decoder, read out greedily."""

from collections.abc import Iterator, Sequence

import torch
from PIL import Image

from lib.encoders import towers
from lib.encoders.towers import Model


def greedy_captions(
    model: Model, images: Sequence[Image.Image]
) -> Iterator[tuple[str, list[float]]]:
    """For each image its caption, and the probability of each word, the end token left out.

    The most probable next word, given the image and the words so far, until the end token or the
    end of the context. Source: CoCa (arXiv 2205.01917) section 3, with open_clip's decoder.

    Raises: ValueError for a model without a text decoder.
    """
    if not hasattr(model.clip, "text_decoder"):
        raise ValueError(f"{model.name} has no text decoder: captions need a CoCa.")
    for start in range(0, len(images), towers.BATCH_IMAGES):
        yield from _decoded(model, images[start : start + towers.BATCH_IMAGES])


@torch.no_grad()
def _decoded(model: Model, images: Sequence[Image.Image]) -> list[tuple[str, list[float]]]:
    coca, words = model.clip, model.tokenizer.tokenizer
    end = words.eos_token_id
    pixels = model.pixels(images).to(model.device)
    text = torch.full((len(pixels), 1), words.bos_token_id, device=model.device)
    probabilities: list[list[float]] = [[] for _ in images]
    seen = coca(pixels)
    looked_at = seen["image_features"], seen["image_embs"]
    while text.shape[1] < coca.context_length and (text != end).all(1).any():
        logits = coca(pixels, text, *looked_at, output_labels=False)["logits"][:, -1]
        best = logits.softmax(1).max(1)
        text = torch.cat([text, best.indices[:, None]], dim=1)
        for so_far, probability in zip(probabilities, best.values.tolist(), strict=True):
            so_far.append(probability)
    ids = [[*row, end] for row in text[:, 1:].tolist()]
    lengths = [row.index(end) for row in ids]
    return [
        (words.decode(row[:n]), each[:n])
        for row, each, n in zip(ids, probabilities, lengths, strict=True)
    ]

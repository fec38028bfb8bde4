"""Captions that a CoCa writes: its text decoder, read out greedily."""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from PIL import Image

from lib.encoders import towers
from lib.encoders.towers import Model


def greedy_captions(
    model: Model, images: Sequence[Image.Image]
) -> Iterator[tuple[str, list[float]]]:
    """For each image its caption, and the probability of each word, the end token left out.

    The most probable next token, given the image and the tokens so far, until the end token or the
    end of the context; a word of several tokens has the product of their probabilities. Source:
    CoCa (arXiv 2205.01917) section 3, with open_clip's decoder.

    Raises: ValueError for a model without a text decoder.
    """
    if not hasattr(model.clip, "text_decoder"):
        raise ValueError(f"{model.name} has no text decoder: captions need a CoCa.")
    for start in range(0, len(images), towers.BATCH_IMAGES):
        yield from _decoded(model, images[start : start + towers.BATCH_IMAGES])


@torch.no_grad()
def _decoded(model: Model, images: Sequence[Image.Image]) -> list[tuple[str, list[float]]]:
    coca, (begin, end) = model.clip, _bounds(model.tokenizer)
    pixels = model.pixels(images).to(model.device)
    text = torch.full((len(pixels), 1), begin, device=model.device)
    probabilities: list[list[float]] = [[] for _ in images]
    seen = coca(pixels)
    looked_at = seen["image_features"], seen["image_embs"]
    over = torch.tensor([end, coca.pad_id], device=model.device)  # padding was never taught
    while text.shape[1] < coca.context_length and not torch.isin(text, over).any(1).all():
        logits = coca(pixels, text, *looked_at, output_labels=False)["logits"][:, -1]
        best = logits.softmax(1).max(1)
        text = torch.cat([text, best.indices[:, None]], dim=1)
        for so_far, probability in zip(probabilities, best.values.tolist(), strict=True):
            so_far.append(probability)
    found = []
    for row, each in zip(text[:, 1:].tolist(), probabilities, strict=True):
        n = next((i for i, token in enumerate(row) if token in (end, coca.pad_id)), len(row))
        found.append(_spelled(model.tokenizer, row[:n], each[:n]))
    return found


def _bounds(tokenizer: Callable) -> tuple[int, int]:
    """The tokens that begin and end a text: of Hugging Face's tokenizer, or of open_clip's own."""
    if own := getattr(tokenizer, "tokenizer", None):
        return own.bos_token_id, own.eos_token_id
    return tokenizer.sot_token_id, tokenizer.eot_token_id


def _spelled(
    tokenizer: Callable, ids: list[int], probabilities: list[float]
) -> tuple[str, list[float]]:
    """A caption, and a probability for each of its words."""
    if own := getattr(tokenizer, "tokenizer", None):
        return own.decode(ids), probabilities
    words: list[list[tuple[int, float]]] = [[]]
    for token, probability in zip(ids, probabilities, strict=True):
        words[-1].append((token, probability))
        if tokenizer.decoder[token].endswith("</w>"):  # a word's last token
            words.append([])
    spelled = ["".join(tokenizer.decode([token for token, _ in word]).split()) for word in words]
    said = [(text, word) for text, word in zip(spelled, words, strict=True) if text]
    chances = [math.prod(probability for _, probability in word) for _, word in said]
    return " ".join(text for text, _ in said), chances

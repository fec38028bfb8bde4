"""Encoding once against encoding again for every pair of batches, as naive loops do; and the towers
of `lib.encoders.towers`, which compute of the last layer one row only, against open_clip's own.

`python tests/benchmarks/bench_embed.py` prints the tables; `pytest -m benchmark` on this file
checks the ratios. A small random open_clip model stands for any other: the first ratio is the
number of batches.
"""

import pytest
import torch
import torch.nn.functional as F
from timing import fastest, show

from lib.encoders import towers

BATCHES, BATCH = 8, 32


def model():
    from open_clip import CLIP  # a second's import, which only a run of this benchmark needs

    torch.manual_seed(0)
    vision = {"image_size": 48, "patch_size": 12, "width": 128, "layers": 4, "head_width": 32}
    text = {"context_length": 32, "vocab_size": 500, "width": 128, "heads": 4, "layers": 4}
    return CLIP(128, vision, text).eval()


def data():
    torch.manual_seed(1)
    images = torch.randn(BATCHES, BATCH, 3, 48, 48)
    texts = torch.randint(1, 499, (BATCHES, BATCH, 32))
    return images, texts


def encode_once(clip, images, texts):
    """Every batch through its tower once, then one matrix product."""
    x = torch.cat([F.normalize(clip.encode_image(batch), dim=-1) for batch in images])
    y = torch.cat([F.normalize(clip.encode_text(batch), dim=-1) for batch in texts])
    return x @ y.T


def encode_per_pair(clip, images, texts):
    """Both towers for every pair of an image batch and a text batch."""
    rows = []
    for batch in images:
        row = []
        for other in texts:
            x = F.normalize(clip.encode_image(batch), dim=-1)
            y = F.normalize(clip.encode_text(other), dim=-1)
            row.append(x @ y.T)
        rows.append(torch.cat(row, dim=1))
    return torch.cat(rows)


@torch.no_grad()
def measure() -> tuple[float, float]:
    """CPU seconds of both ways, which give the same scores."""
    clip, (images, texts) = model(), data()
    scores = encode_once(clip, images, texts)
    torch.testing.assert_close(encode_per_pair(clip, images, texts), scores)
    return tuple(
        fastest(
            lambda: encode_once(clip, images, texts),
            lambda: encode_per_pair(clip, images, texts),
            repeats=2,
        )
    )


@torch.no_grad()
def measure_towers() -> dict[str, tuple[float, float]]:
    """CPU seconds of open_clip's way and of ours, for images and for captions of ten words."""
    clip, (images, texts) = model(), data()
    images, texts = images.flatten(0, 1), texts.flatten(0, 1)
    texts[:, 11], texts[:, 12:] = 499, 0  # the end token has the highest number; padding behind it
    ways = {
        "images": (lambda: clip.encode_image(images), lambda: towers.encode_pixels(clip, images)),
        "captions": (lambda: clip.encode_text(texts), lambda: towers.encode_tokens(clip, texts)),
    }
    for theirs, ours in ways.values():
        torch.testing.assert_close(ours(), theirs())
    return {kind: tuple(fastest(*calls, repeats=5)) for kind, calls in ways.items()}


@pytest.mark.benchmark
def test_one_row_of_the_last_layer_pays():
    found = {kind: theirs / ours for kind, (theirs, ours) in measure_towers().items()}
    assert found["images"] > 1.1 and found["captions"] > 2


@pytest.mark.benchmark
def test_encoding_once_pays():
    once, per_pair = measure()
    assert per_pair > 0.7 * BATCHES * once


if __name__ == "__main__":
    once, per_pair = measure()
    rows = [("encode once", once, 1.0), ("encode per pair of batches", per_pair, per_pair / once)]
    show(f"{BATCHES} x {BATCHES} batches of {BATCH}", rows, "once")
    for kind, (theirs, ours) in measure_towers().items():
        rows = [("open_clip", theirs, 1.0), ("one row of the last layer", ours, theirs / ours)]
        show(f"{BATCHES * BATCH} {kind}", rows, "faster")

"""Modality inversion against the published algorithm: every step through the whole encoder.

`python tests/benchmarks/bench_inversion.py` prints the table (some minutes; `--curve` adds batches
from 1 to 256, `--bf16` bfloat16); `pytest -m benchmark` on this file checks the ratios that the
project promises. The model is a ViT-B/32 with random weights: values play no part in the time.

The last column is the rate over the multiply-adds that must be done (frozen weights: a forward pass
and the activations' gradients), as a share of the rate of a large matrix product.
"""

import argparse
import logging

import open_clip
import pytest
import torch
from timing import fastest, show
from torch.nn import functional

from lib.encoders import towers
from lib.methods import inversion

BATCH, WIDTHS = 64, {"oti": 512, "ovi": 768}
CASES = {"OTI, R = 1": ("oti", 1), "OTI, R = 4": ("oti", 4), "OVI, P = 1": ("ovi", 1)}
PROMISED = {"OTI, R = 1": 35, "OTI, R = 4": 15, "OVI, P = 1": 1.3}
CPU = torch.device("cpu")


def vit_b_32() -> towers.Model:
    logging.disable(logging.WARNING)  # that there are no weights is meant
    torch.manual_seed(0)
    clip = open_clip.create_model("ViT-B-32-quickgelu").eval().requires_grad_(False)
    tokenizer = open_clip.get_tokenizer("ViT-B-32-quickgelu")
    parts = towers.Parts(clip, None, tokenizer)
    return towers.Model("ViT-B/32", "random", 100.0, CPU, lambda: parts)


def whole_text(model, tokens: int):
    """The published way: all 77 tokens through the model's own transformer."""
    clip, words = model.clip, inversion._words(model, inversion.TEMPLATE, tokens)
    row = int(words.ids.argmax())

    def encode(v):
        x = clip.token_embedding(words.ids.expand(len(v), -1)).clone()
        x[:, words.first : words.stop] = v
        x = clip.transformer(x + clip.positional_embedding, attn_mask=clip.attn_mask)
        return clip.ln_final(x)[:, row] @ clip.text_projection

    return encode


def whole_image(model):
    visual = model.clip.visual

    def encode(w):
        spread = functional.interpolate(w.transpose(1, 2), size=49).transpose(1, 2)
        x = torch.cat([visual.class_embedding.expand(len(w), 1, -1), spread], 1)
        x = visual.transformer(visual.ln_pre(x + visual.positional_embedding))
        return visual.ln_post(x)[:, 0] @ visual.proj

    return encode


def encoders(model, method: str, tokens: int, dtype=torch.float32):
    """(the published way, ours)"""
    if method == "ovi":
        return whole_image(model), inversion._image_encoder(model, tokens, 49, CPU, dtype)
    words = inversion._words(model, inversion.TEMPLATE, tokens)
    ours = inversion._text_encoder(model.clip, words, CPU, dtype)
    return whole_text(model, tokens), ours


def step(encode, method: str, tokens: int, batch: int, dtype=torch.float32):
    """A function that does one step of a search."""
    torch.manual_seed(1)
    target = functional.normalize(torch.randn(batch, 512), dim=-1)
    v = (0.02 * torch.randn(batch, tokens, WIDTHS[method])).requires_grad_()
    optimiser = torch.optim.AdamW([v], lr=0.02, weight_decay=0.01)

    def run():
        found = functional.normalize(encode(v.to(dtype)).float(), dim=-1)
        (v.grad,) = torch.autograd.grad((1 - (found * target).sum(-1)).mean(), v)
        optimiser.step()

    return run


def needed(method: str, tokens: int) -> float:
    """Multiply-adds per item and step that must be done, forwards and backwards.

    Linear layers of the rows that move, and of the last layer what the pooled row needs: keys and
    values of all rows, the rest of one. Attention's own products are left out: below 1 %.
    """
    width, layers = WIDTHS[method], 12
    rows = tokens + 1 if method == "oti" else 50
    full, last = 12 * rows * width**2, (2 * rows + 10) * width**2
    return 2 * ((layers - 1) * full + last)


def peak(dtype=torch.float32, n: int = 2048) -> float:
    """Multiply-adds per CPU second of a large matrix product on this core."""
    a, b = torch.randn(2, n, n, dtype=torch.float32).to(dtype)
    return n**3 / fastest(lambda: a @ b, repeats=5)[0]


def agree(model, method: str, tokens: int) -> None:
    """A comparison of different answers would be worth nothing."""
    torch.manual_seed(2)
    v = 0.02 * torch.randn(4, tokens, WIDTHS[method])
    with torch.no_grad():
        whole, ours = (encode(v) for encode in encoders(model, method, tokens))
    torch.testing.assert_close(ours, whole, rtol=1e-4, atol=1e-5)


def measure(batch: int = BATCH, dtype=torch.float32) -> dict[str, tuple[float, float]]:
    """CPU seconds of a step, the published way and ours."""
    model, seconds = vit_b_32(), {}
    for title, (method, tokens) in CASES.items():
        agree(model, method, tokens)
        whole, ours = encoders(model, method, tokens, dtype)
        (theirs,) = fastest(step(whole, method, tokens, batch), repeats=2)
        (own,) = fastest(step(ours, method, tokens, batch, dtype), repeats=5)
        seconds[title] = theirs, own
    return seconds


@pytest.mark.benchmark
def test_inversion_is_faster_than_the_published_way():
    for title, (theirs, own) in measure().items():
        assert theirs / own >= PROMISED[title], title


def report(batch: int, dtype, limit: float) -> None:
    rows = []
    for title, (theirs, own) in measure(batch, dtype).items():
        share = batch * needed(*CASES[title]) / own / limit
        rows += [(f"{title}: the published way", theirs, 1.0)]
        rows += [(f"{title}: ours, {share:.0%} of the peak rate", own, theirs / own)]
    show(f"One step, batch {batch}, {dtype!s}", rows, "faster")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--curve", action="store_true", help="batches from 1 to 256")
    parser.add_argument("--bf16", action="store_true", help="bfloat16 as well")
    options = parser.parse_args()
    for dtype in [torch.float32] + [torch.bfloat16] * options.bf16:
        limit = peak(dtype)
        for batch in [1, 4, 16, 64, 256] if options.curve else [BATCH]:
            report(batch, dtype, limit)


if __name__ == "__main__":
    main()

"""Modality inversion against the published algorithm: every step through the whole encoder.

`python tests/benchmarks/bench_inversion.py` prints the table (some minutes; `--curve` adds batches
from 1 to 256, `--bf16` bfloat16, `--device cuda` is a GPU, `--arch` another model of open_clip's);
`pytest -m benchmark` on this file checks the ratios that the project promises. Weights are random:
values play no part in the time.

The share is the rate over the multiply-adds that must be done (frozen weights: a forward pass
and the activations' gradients), of the rate of a large matrix product.
"""

import argparse
import json
import logging
from pathlib import Path

import open_clip
import pytest
import torch
from timing import fastest, show
from torch.nn import functional

from lib.encoders import towers
from lib.methods import frozen, inversion

BATCH, ARCH = 64, "ViT-B-32-quickgelu"
CASES = {"OTI, R = 1": ("oti", 1), "OTI, R = 4": ("oti", 4), "OVI, P = 1": ("ovi", 1)}
PROMISED = {"OTI, R = 1": 35, "OTI, R = 4": 15, "OVI, P = 1": 1.3}
STEPS = {"oti": 150, "ovi": 1000}  # of the paper's inversions


def random_model(arch: str = ARCH, device: str = "cpu") -> towers.Model:
    logging.disable(logging.WARNING)  # that there are no weights is meant
    torch.manual_seed(0)
    parts = towers.Parts(open_clip.create_model(arch), None, open_clip.get_tokenizer(arch))
    return towers.Model(arch, "random", 100.0, torch.device(device), lambda: parts)


def whole_text(model, tokens: int):
    """The published way: all 77 tokens through the model's own transformer."""
    clip, (_, words) = model.clip, frozen.sentence(model, inversion.TEMPLATE, tokens)
    row, ids = int(words.ids.argmax()), words.ids.to(model.device)

    def encode(v):
        x = clip.token_embedding(ids.expand(len(v), -1)).clone()
        x[:, words.first : words.stop] = v
        x = clip.transformer(x + clip.positional_embedding, attn_mask=clip.attn_mask)
        return clip.ln_final(x)[:, row] @ clip.text_projection

    return encode


def whole_image(model):
    visual, (patches, _) = model.clip.visual, frozen.patch_grid(model)

    def encode(w):
        spread = functional.interpolate(w.transpose(1, 2), size=patches).transpose(1, 2)
        x = torch.cat([visual.class_embedding.expand(len(w), 1, -1), spread], 1)
        x = visual.transformer(visual.ln_pre(x + visual.positional_embedding))
        return visual.ln_post(x)[:, 0] @ visual.proj

    return encode


def encoders(model, method: str, tokens: int, dtype=torch.float32):
    """(the published way, ours)"""
    if method == "ovi":
        patches, _ = frozen.patch_grid(model)
        ours = frozen.image_encoder(model, tokens, patches, model.device, dtype)
        return whole_image(model), ours
    text, words = frozen.sentence(model, inversion.TEMPLATE, tokens)
    return whole_text(model, tokens), frozen.text_encoder(text, words, model.device, dtype)


def start(model, method: str, tokens: int, batch: int) -> torch.Tensor:
    """Pseudo-tokens or pseudo-patches (batch, tokens, width)."""
    width = inversion.token_width(model) if method == "oti" else frozen.patch_grid(model)[1]
    torch.manual_seed(1)
    return 0.02 * torch.randn(batch, tokens, width).to(model.device)


def step(model, encode, method: str, tokens: int, batch: int, dtype=torch.float32):
    """A function that does one step of a search."""
    v = start(model, method, tokens, batch).requires_grad_()
    d = model.clip.text_projection.shape[1]
    target = functional.normalize(torch.randn(batch, d), dim=-1).to(model.device)
    optimiser = torch.optim.AdamW([v], lr=0.02, weight_decay=0.01)

    def run():
        found = functional.normalize(encode(v.to(dtype)).float(), dim=-1)
        (v.grad,) = torch.autograd.grad((1 - (found * target).sum(-1)).mean(), v)
        optimiser.step()

    return run


def needed(model, method: str, tokens: int) -> float:
    """Multiply-adds per item and step that must be done, forwards and backwards.

    Linear layers of the rows that move, and of the last layer what the pooled row needs: keys and
    values of all rows, the rest of one. Attention's own products are left out: below 1 %.
    """
    (patches, across), tower = frozen.patch_grid(model), model.clip.visual.transformer
    width, rows = across, patches + 1
    if method == "oti":
        width, rows, tower = inversion.token_width(model), tokens + 1, model.clip.transformer
    full, last = 12 * rows * width**2, (2 * rows + 10) * width**2
    return 2 * ((len(tower.resblocks) - 1) * full + last)


def peak(device: str = "cpu", dtype=torch.float32) -> float:
    """Multiply-adds per second of a large matrix product: of a GPU, or of one core."""
    n = 2048 if device == "cpu" else 8192
    a, b = torch.randn(2, n, n, device=device).to(dtype)
    return n**3 / fastest(lambda: a @ b, repeats=5, device=device)[0]


def agree(model, method: str, tokens: int) -> None:
    """A comparison of different answers would be worth nothing."""
    v = start(model, method, tokens, 4)
    with torch.no_grad():
        whole, ours = (encode(v) for encode in encoders(model, method, tokens))
    torch.testing.assert_close(ours, whole, rtol=1e-4, atol=1e-5)


def measure(model, batch: int = BATCH, dtype=torch.float32) -> dict[str, tuple[float, float]]:
    """Seconds of a step, the published way and ours."""
    seconds, device = {}, model.device.type
    for title, (method, tokens) in CASES.items():
        agree(model, method, tokens)
        whole, ours = encoders(model, method, tokens, dtype)
        theirs = step(model, whole, method, tokens, batch)
        own = step(model, ours, method, tokens, batch, dtype)
        try:
            (theirs,) = fastest(theirs, repeats=2 if device == "cpu" else 4, device=device)
            seconds[title] = theirs, *fastest(own, repeats=5, device=device)
        except torch.OutOfMemoryError:
            print(f"{title}: {batch} items at a time are too many for the memory.")
    return seconds


@pytest.mark.benchmark
def test_inversion_is_faster_than_the_published_way():
    for title, (theirs, own) in measure(random_model()).items():
        assert theirs / own >= PROMISED[title], title


def report(model, batch: int, dtype, limit: float) -> list[dict]:
    """Print the table of a model and a batch; as plain values, inversions per second of both."""
    rows, found = [], []
    for title, (theirs, own) in measure(model, batch, dtype).items():
        method, tokens = CASES[title]
        share = batch * needed(model, method, tokens) / own / limit
        rows += [(f"{title}: the published way", theirs, 1.0)]
        rows += [(f"{title}: ours, {share:.0%} of the peak rate", own, theirs / own)]
        each = {"published": batch / theirs / STEPS[method], "ours": batch / own / STEPS[method]}
        found += [{"model": model.name, "case": title, "batch": batch} | each]
    show(f"{model.name} on {model.device}: one step, batch {batch}, {dtype!s}", rows, "faster")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", nargs="+", default=[ARCH], help="names of open_clip")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--batch", nargs="+", type=int, default=[BATCH], help="items at a time")
    parser.add_argument("--curve", action="store_true", help="batches from 1 to 256")
    parser.add_argument("--bf16", action="store_true", help="bfloat16 as well")
    parser.add_argument("--json", type=Path, help="a file for inversions per second")
    options, found = parser.parse_args(), []
    for arch in options.arch:
        model = random_model(arch, options.device)
        for dtype in [torch.float32] + [torch.bfloat16] * options.bf16:
            limit = peak(options.device, dtype)
            for batch in [1, 4, 16, 64, 256] if options.curve else options.batch:
                found += report(model, batch, dtype, limit)
                if options.json:  # after each, so that a run that is stopped has said what it knows
                    options.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()

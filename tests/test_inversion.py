"""The search equals the papers' algorithm, run in full by the models' own code."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import standins
import torch
from torch.nn import functional

from lib import paths
from lib.encoders import registry, towers
from lib.methods import inversion

N = 16
TEXT = standins.TOWER | {"layers": 3, "context_length": standins.CONTEXT}
VISION = standins.VISION | {"layers": 3, "patch_size": 6}
TOWERS = {
    "clip": {},
    "quick gelu": {"quick_gelu": True},
    "end token": {"custom_text": True, "text_cfg": {"pool_type": "eos", "eos_id": 14}},
    "layer scale": {"vision_cfg": {"ls_init_value": 0.5}, "text_cfg": {"ls_init_value": 0.5}},
    "not causal": {
        "custom_text": True,
        "text_cfg": {"no_causal_mask": True, "pool_type": "last", "proj_bias": True},
        "vision_cfg": {"pool_type": "avg", "no_ln_pre": True},
    },
    "attention pooling": {
        "vision_cfg": {
            "attentional_pool": True,
            "attn_pooler_queries": 3,
            "attn_pooler_heads": 2,
        }
    },
}


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    made = {}

    def of(kind: str) -> towers.Model:
        if kind not in made:
            folder = tmp_path_factory.mktemp("tower")
            if kind == "siglip":
                standins.tiny_siglip(folder)
            else:
                options = dict(TOWERS[kind])
                size = standins.word_tokenizer(folder)
                text = TEXT | {"vocab_size": size, "hf_tokenizer_name": "own"}
                options["text_cfg"] = text | options.get("text_cfg", {})
                options["vision_cfg"] = VISION | options.get("vision_cfg", {})
                standins.save(folder, {"embed_dim": 8} | options, seed=0)
            made[kind] = registry.load(f"local-dir:{folder}")
        return made[kind]

    yield of


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A cache of its own, and a loss that is the mean over the N items of these tests."""
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(inversion, "PAPER_BATCH", N)


def embeddings(n: int = N, d: int = 8, seed: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(n, d, generator=generator), dim=-1)


def start(n: int, tokens: int, width: int = 32) -> torch.Tensor:
    return 0.02 * torch.randn(n, tokens, width, generator=torch.Generator().manual_seed(7)).double()


# The reference: Algorithms 1 and 2, through the models' own encode_text and encode_image ----------


@contextmanager
def replaced(module: torch.nn.Module, output):
    hook = module.register_forward_hook(lambda module, inputs, found: output(found))
    try:
        yield
    finally:
        hook.remove()


def full_text(model, ids, places, tokens):
    def write(embedded):
        return embedded.index_copy(1, places, tokens)

    text = getattr(model.clip, "text", model.clip)
    with replaced(text.token_embedding, write):
        return model.clip.encode_text(ids.expand(len(tokens), -1))


def full_image(model, tokens):
    visual = model.clip.visual

    def write(patches):
        channels_first = hasattr(visual, "conv1")
        grid = patches.shape[2:] if channels_first else patches.shape[1:-1]
        spread = functional.interpolate(tokens.transpose(1, 2), size=grid.numel())
        spread = spread.unflatten(2, grid)
        return spread if channels_first else spread.movedim(1, -1)

    stem = visual.conv1 if hasattr(visual, "conv1") else visual.trunk.patch_embed
    size = getattr(visual, "image_size", 160)
    size = size if isinstance(size, int) else size[0]
    with replaced(stem, write):
        image = torch.zeros(len(tokens), 3, size, size, dtype=tokens.dtype)
        return model.clip.encode_image(image)


def search(encode, target, tokens, steps, dtype):
    """The algorithm as the papers give it: every step through the whole encoder."""
    tokens = tokens.to(dtype, copy=True).requires_grad_()
    target = target.to(dtype)
    optimiser = torch.optim.AdamW([tokens], lr=0.02, weight_decay=0.01)
    for _ in range(steps):
        loss = (1 - functional.cosine_similarity(encode(tokens), target, eps=1e-30)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        return tokens.detach(), functional.normalize(encode(tokens), dim=-1)


@contextmanager
def in_dtype(model, dtype):
    model.clip.to(dtype)
    try:
        yield
    finally:
        model.clip.float()


def reference(model, method, target, tokens, steps, dtype, template="a photo of {}"):
    with in_dtype(model, dtype):
        if method == "oti":
            word = "the" if hasattr(model.clip.visual, "trunk") else "£"
            ids = model.tokenizer([template.replace("{}", f" {word} " * tokens.shape[1])])
            own = model.tokenizer([word])[0]
            own = own[own != model.tokenizer([""])[0]][0]
            places = (ids[0] == own).nonzero()[:, 0]
            return search(lambda v: full_text(model, ids, places, v), target, tokens, steps, dtype)
        return search(lambda v: full_image(model, v), target, tokens, steps, dtype)


SENTENCE = "a star on {} , the circle"


def agree(found, method, model, target, begin, steps, template=SENTENCE):
    """Items end where the reference ends, to 1e-10, unless rounding decides where they end.

    AdamW can amplify a difference in the last bit. So the reference runs twice, the second time
    from a start that is 1e-16 off; an item whose two ends differ is compared with that difference.
    """
    nudge = 1e-16 * torch.randn(begin.shape, generator=torch.Generator().manual_seed(9)).double()
    run = [model, method, target, begin, steps, torch.float64, template]
    wanted, embedded = reference(*run)
    run[3] = begin + nudge
    spread = (reference(*run)[0] - wanted).abs().amax((1, 2))
    off = (found.tokens - wanted).abs().amax((1, 2))
    steady = spread < 1e-12
    assert steady.sum() >= N * 3 / 4
    assert off[steady].max() < 1e-10
    assert (off <= 1e-10 + 100 * spread).all()
    torch.testing.assert_close(found.embeddings[steady], embedded[steady].float())


@pytest.mark.parametrize("tokens", [1, 4])
@pytest.mark.parametrize("kind", [*TOWERS, "siglip"])
def test_textual_inversion_is_the_papers(make, kind, tokens):
    model, target, begin = make(kind), embeddings(), start(N, tokens)
    template = "a star on {}" if kind == "siglip" else SENTENCE
    found = inversion.oti(
        model, target, tokens=tokens, start=begin, template=template, dtype=torch.float64
    )
    agree(found, "oti", model, target, begin, 150, template)


@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize("kind", [*TOWERS, "siglip"])
def test_visual_inversion_is_the_papers(make, kind, tokens):
    model, target = make(kind), embeddings()
    width = 64 if kind == "siglip" else 32
    begin = start(N, tokens, width)
    found = inversion.ovi(model, target, tokens=tokens, start=begin, steps=50, dtype=torch.float64)
    agree(found, "ovi", model, target, begin, 50)


@pytest.mark.parametrize("method", ["oti", "ovi"])
def test_a_trained_model_and_the_shared_architecture(method):
    for name in ("mini-clip", "mini-shared"):
        model, target = registry.load(name), embeddings(N, 128)
        begin = start(N, 1, 96)
        search = getattr(inversion, method)
        found = search(model, target, start=begin, steps=20, dtype=torch.float64)
        agree(found, method, model, target, begin, 20, inversion.TEMPLATE)


def test_single_precision_is_no_worse_than_the_references(make):
    model, target = make("quick gelu"), embeddings()
    for tokens in (1, 4):
        begin = start(N, tokens)
        exact, single = (
            reference(model, "oti", target, begin, 150, dtype, SENTENCE)[0].double()
            for dtype in (torch.float64, torch.float32)
        )
        found = inversion.oti(model, target, tokens=tokens, start=begin, template=SENTENCE)
        own, theirs = ((x - exact).abs().mean((1, 2)).median() for x in (found.tokens, single))
        assert own < 2 * theirs and own < 1e-5


# What a result depends on -------------------------------------------------------------------------


def test_neither_batch_nor_order_nor_neighbours_matter(make):
    model, target = make("clip"), embeddings()
    search = {"tokens": 2, "steps": 30, "template": SENTENCE, "dtype": torch.float64}
    whole = inversion.oti(model, target, **search)
    small = inversion.oti(model, target, batch=3, **search)
    torch.testing.assert_close(small.tokens, whole.tokens, rtol=0, atol=1e-10)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    turned = inversion.oti(model, target[order], items=order.tolist(), **search)
    torch.testing.assert_close(turned.tokens, whole.tokens[order], rtol=0, atol=1e-10)
    one = inversion.oti(model, target[5:6], items=[5], **search)
    torch.testing.assert_close(one.tokens, whole.tokens[5:6], rtol=0, atol=1e-10)
    other = inversion.oti(model, target, seed=1, **search)
    assert (other.tokens - whole.tokens).abs().amax((1, 2)).min() > 1e-3


def test_the_start_is_the_papers(make):
    model = make("clip")
    found = inversion.oti(model, embeddings(400), tokens=4, steps=0, template=SENTENCE, batch=400)
    assert found.tokens.std().item() == pytest.approx(0.02, rel=0.02)
    assert abs(found.tokens.mean().item()) < 5e-4
    assert len({tuple(row.flatten().tolist()) for row in found.tokens}) == 400


def test_snapshots_are_runs_that_end_there(make):
    model, target = make("clip"), embeddings()
    for search, options in ((inversion.oti, {"template": SENTENCE}), (inversion.ovi, {})):
        kept = search(model, target, steps=[20, 0, 7], dtype=torch.float64, **options)
        assert kept.steps == (0, 7, 20) and kept.at.shape == (3, N, 8)
        assert kept.loss.shape == (21, N)
        for steps in kept.steps:
            alone = search(model, target, steps=steps, dtype=torch.float64, **options)
            torch.testing.assert_close(kept.after(steps), alone.embeddings, rtol=0, atol=1e-7)
            torch.testing.assert_close(kept.loss[: steps + 1], alone.loss, rtol=0, atol=1e-10)
            cosine = (kept.after(steps) * target).sum(1)
            torch.testing.assert_close(1 - cosine, kept.loss[steps].float(), rtol=0, atol=1e-5)
        assert torch.equal(kept.embeddings, kept.after(20))
        with pytest.raises(ValueError, match="only after 0, 7, 20"):
            kept.after(8)


def test_the_model_s_last_normalisation_counts(make):
    model = make("clip")
    layers = registry.normalisation("batch", 8)
    with torch.no_grad():
        layers["text"].running_mean.copy_(torch.linspace(-0.3, 0.3, 8))
    layers = layers.eval().requires_grad_(False)
    other = replace(model, normalisation=layers, fingerprint="with layers")
    found = inversion.oti(other, embeddings(), steps=5, template=SENTENCE)
    plain = inversion.oti(model, embeddings(), steps=5, template=SENTENCE, start=found.tokens)
    start_of = inversion.oti(
        model, embeddings(), steps=0, template=SENTENCE, start=found.tokens
    ).embeddings
    wanted = functional.normalize(layers["text"](start_of), dim=-1)
    torch.testing.assert_close(found.embeddings, wanted, rtol=0, atol=1e-5)
    assert not torch.allclose(plain.embeddings, found.embeddings, atol=1e-2)


def test_half_precision_ends_near(make):
    model, target = make("clip"), embeddings()
    full = inversion.oti(model, target, template=SENTENCE, steps=50)
    half = inversion.oti(model, target, template=SENTENCE, steps=50, dtype=torch.bfloat16)
    assert half.embeddings.dtype == half.tokens.dtype == half.loss.dtype == torch.float32
    assert abs(full.loss[-1].mean() - half.loss[-1].mean()) < 0.02
    assert (full.embeddings * half.embeddings).sum(1).mean() > 0.98


def test_the_bar_moves_with_every_update(make, monkeypatch):
    """Also within a batch, which may take minutes; what is on the disk counts as done."""

    class Bar:
        def __init__(self, total, **options):
            self.total, self.n, self.seen = total, 0, []
            shown.append(self)

        def update(self, count):
            self.n += count
            self.seen.append(count)

        def close(self):
            pass

    shown = []
    monkeypatch.setattr(inversion.progress, "bar", Bar)
    for steps in (3, 3, 0):
        inversion.oti(make("clip"), embeddings(), steps=steps, template=SENTENCE, batch=10)
    first, again, none = shown
    assert first.total == first.n == again.n == 3 * N and none.n == none.total == N
    assert [x for x in first.seen if x] == [10] * 3 + [N - 10] * 3
    assert again.seen == [30, 3 * N - 30]


def test_nothing_of_the_model_is_changed(make):
    model = make("quick gelu")
    before = {name: value.clone() for name, value in model.clip.state_dict().items()}
    inversion.oti(model, embeddings(), steps=2, template=SENTENCE)
    inversion.ovi(model, embeddings(), steps=2)
    for name, value in model.clip.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_warm_start_is_a_ridge_regression(make):
    model, target = make("clip"), embeddings()
    found = inversion.oti(model, target, tokens=2, steps=20, template=SENTENCE)
    new = embeddings(5, seed=11)
    guess = inversion.warm_start(new, target, found.tokens, penalty=0.1)
    assert guess.shape == (5, 2, 32)
    x, y = target.double(), found.tokens.double().flatten(1)
    middle = x - x.mean(0)
    slope = torch.linalg.solve(
        middle.T @ middle + 0.1 * N * torch.eye(8).double(), middle.T @ (y - y.mean(0))
    )
    wanted = (new.double() - x.mean(0)) @ slope + y.mean(0)
    torch.testing.assert_close(guess.flatten(1), wanted, atol=1e-5, rtol=1e-4)
    warm = inversion.oti(model, target, tokens=2, steps=0, start=found.tokens, template=SENTENCE)
    torch.testing.assert_close(warm.loss[0], found.loss[-1], atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="tokens must be 16 finite rows"):
        inversion.warm_start(new, target, found.tokens[:3])


# Kept on the disk ---------------------------------------------------------------------------------


def test_the_second_call_searches_nothing(make, monkeypatch):
    model, target = make("clip"), embeddings()
    first = inversion.oti(model, target, steps=3, template=SENTENCE, batch=5)
    assert len(list((paths.CACHE / "inversions").glob("*.safetensors"))) == 4
    with monkeypatch.context() as patch:
        patch.setattr(inversion, "_search", None)
        again = inversion.oti(model, target, steps=3, template=SENTENCE, batch=5)
    for one, two in zip((first.at, first.tokens), (again.at, again.tokens), strict=True):
        assert torch.equal(one, two)
    for change in ({"steps": 4}, {"template": "a {}"}, {"seed": 1}, {"dtype": torch.float64}):
        other = inversion.oti(model, target, **{"steps": 3, "template": SENTENCE} | change)
        assert not torch.equal(other.embeddings, first.embeddings), change


def test_open_clip_is_imported_when_a_search_begins():
    """It takes seconds, and where everything is on the disk nobody needs it."""
    code = "import sys, lib.methods.inversion; sys.exit('open_clip' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, check=True)


def test_a_start_of_one_s_own_is_part_of_the_key(make):
    """And seed and items are, where the start is drawn from them."""
    model, target = make("clip"), embeddings(4)
    search = {"steps": 1, "template": SENTENCE}
    drawn = inversion.oti(model, target, **search)
    kept = paths.CACHE / "inversions"
    for number, more in enumerate(
        ({"seed": 1}, {"items": [4, 5, 6, 7]}, {"start": start(4, 1)}, {"start": 2 * start(4, 1)}),
        start=2,
    ):
        other = inversion.oti(model, target, **search, **more)
        assert not torch.equal(other.tokens, drawn.tokens), more
        assert len(list(kept.glob("*.safetensors"))) == number
    inversion.oti(model, target, **search, items=[0, 1, 2, 3])
    inversion.oti(model, target, **search, start=start(4, 1), seed=5)
    assert len(list(kept.glob("*.safetensors"))) == 5


STOPPABLE = """
import sys, torch
from lib.encoders import registry
from lib.methods import inversion
model = registry.load(sys.argv[1])
target = torch.nn.functional.normalize(torch.randn(1000, 8, generator=torch.manual_seed(0)), dim=1)
found = inversion.oti(model, target, steps=40, template="a star on {}", batch=50)
torch.save(found.embeddings, sys.argv[2])
"""


def test_a_killed_search_of_a_thousand_goes_on(make, tmp_path):
    def begin(cache: Path, out: Path) -> subprocess.Popen:
        environment = os.environ | {"MODALITY_GAP_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", STOPPABLE, make("clip").name, str(out)]
        return subprocess.Popen(command, env=environment, cwd=paths.ROOT)

    def done(cache: Path) -> dict[str, int]:
        files = sorted((cache / "inversions").glob("[!.]*.safetensors"))  # none half-written
        return {file.name: file.stat().st_mtime_ns for file in files}

    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    process = begin(stopped, tmp_path / "never")
    deadline = time.monotonic() + 120
    while len(done(stopped)) < 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = done(stopped)
    assert 4 <= len(kept) < 20 and not (tmp_path / "never").exists()
    assert begin(stopped, tmp_path / "a.pt").wait() == 0
    assert begin(whole, tmp_path / "b.pt").wait() == 0
    after = done(stopped)
    assert len(after) == 20 and kept.items() <= after.items()  # none of them was written again
    a, b = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in "ab")
    assert torch.equal(a, b)


# Bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": 0}, "tokens must be at least 1"),
        ({"tokens": 40}, "does not fit the tokenizer, or its context of 16"),
        ({"tokens": 11}, "does not fit the tokenizer, or its context of 16"),
        ({"template": "a star"}, "must hold"),
        ({"template": "{} on {}"}, "must hold"),
        ({"steps": -1}, "steps must be numbers of updates"),
        ({"steps": []}, "steps must be numbers of updates"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"items": [1, 2]}, "items must be 16 numbers"),
        ({"seed": -1}, "items must be 16 numbers"),
        ({"start": torch.zeros(N, 2, 32)}, r"start must be finite numbers of shape \(16, 1, width"),
        ({"start": torch.full((N, 1, 32), torch.nan)}, "start must be finite numbers"),
        ({"start": torch.zeros(N, 1, 31)}, "start must have 32 entries per token, not 31"),
    ],
)
def test_bad_arguments_of_textual_inversion(make, options, message):
    with pytest.raises(ValueError, match=message):
        inversion.oti(make("clip"), embeddings(), **{"template": SENTENCE, "steps": 1} | options)


def test_bad_arguments_of_visual_inversion(make):
    for tokens, message in ((0, "tokens must be at least 1"), (17, "from 1 to the 16 patches")):
        with pytest.raises(ValueError, match=message):
            inversion.ovi(make("clip"), embeddings(), tokens=tokens)
    with pytest.raises(ValueError, match="not finite"):
        inversion.ovi(make("clip"), embeddings() * float("nan"))


def test_models_without_the_tower():
    with pytest.raises(ValueError, match=r"mini-rn: visual inversion needs .* ModifiedResNet"):
        inversion.ovi(registry.load("mini-rn"), embeddings(2, 128))


def test_a_text_encoder_with_a_class_token(tmp_path):
    size = standins.word_tokenizer(tmp_path)
    text = TEXT | {"vocab_size": size, "hf_tokenizer_name": "own", "embed_cls": True}
    config = {"embed_dim": 8, "custom_text": True, "text_cfg": text, "vision_cfg": VISION}
    model = registry.load(f"local-dir:{standins.save(tmp_path, config, seed=0)}")
    with pytest.raises(ValueError, match="without a class token"):
        inversion.oti(model, embeddings())


def test_pooling_that_sees_nothing(tmp_path):
    size = standins.word_tokenizer(tmp_path)
    text = TEXT | {"vocab_size": size, "hf_tokenizer_name": "own", "pool_type": "first"}
    config = {"embed_dim": 8, "custom_text": True, "text_cfg": text, "vision_cfg": VISION}
    model = registry.load(f"local-dir:{standins.save(tmp_path, config, seed=0)}")
    with pytest.raises(ValueError, match="sees no pseudo-tokens"):
        inversion.oti(model, embeddings(), template=SENTENCE)


# --- the function that is inverted, and what it can reach -----------------------------------------


@pytest.mark.parametrize("template", [inversion.TEMPLATE, "{} in a photo"])
def test_text_encoder_is_what_oti_inverts(tmp_path, template):
    model = registry.load(f"local-dir:{standins.tiny_clip(tmp_path / 'model')}")
    target = functional.normalize(torch.randn(3, 8, generator=torch.manual_seed(0)), dim=-1)
    found = inversion.oti(model, target, tokens=2, steps=3, template=template)
    encode = inversion.text_encoder(model, tokens=2, template=template)
    assert found.tokens.shape == (3, 2, inversion.token_width(model))
    torch.testing.assert_close(encode(found.tokens), found.embeddings)
    tokens = found.tokens.clone().requires_grad_()
    encode(tokens).sum().backward()
    assert tokens.grad.abs().sum() > 0


@pytest.mark.parametrize("side", ["text", "image"])
def test_embeddings_lie_in_what_is_reachable(tmp_path, side):
    """The projection of an embedding is itself; that of anything else is the nearest point."""
    model = registry.load(f"local-dir:{standins.tiny_clip(tmp_path / 'model', embed_dim=40)}")
    basis = inversion.reachable(model, side)
    width = standins.TOWER["width"] if side == "text" else standins.VISION["width"]
    assert basis.shape == (width, 40) and width < 40
    torch.testing.assert_close(basis @ basis.T, torch.eye(width), atol=1e-5, rtol=0)
    if side == "text":
        own = model.encode_text(["a red circle", "the blue star"])
    else:
        own = model.encode_image([standins.picture(i) for i in range(3)])
    torch.testing.assert_close(own @ basis.T @ basis, own, atol=1e-5, rtol=0)
    outside = torch.randn(5, 40, dtype=torch.float64)
    best = np.linalg.lstsq(basis.double().T.numpy(), outside.T.numpy(), rcond=None)[0]
    expected = basis.double().T @ torch.from_numpy(best)
    found = (outside @ basis.double().T @ basis.double()).T
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_nothing_is_known_to_be_out_of_reach_without_a_last_map(tmp_path):
    model = registry.load(f"local-dir:{standins.tiny_clip(tmp_path / 'model')}")
    model.clip.visual.proj = None
    assert torch.equal(inversion.reachable(model, "image"), torch.eye(8))
    with pytest.raises(ValueError, match='side must be "text" or "image"'):
        inversion.reachable(model, "audio")


SIZES = "large", "small"


@pytest.mark.parametrize("room", [1, 3, 7])
def test_a_full_memory_halves_the_batch(make, tmp_path, monkeypatch, room):
    """More than `room` items at a time do not fit; the result is that of a larger memory."""
    target = functional.normalize(torch.randn(8, 8, generator=torch.Generator().manual_seed(1)))
    monkeypatch.setattr(paths, "CACHE", tmp_path / "large")
    large = inversion.oti(make("clip"), target, steps=[0, 3], batch=8)
    monkeypatch.setattr(paths, "CACHE", tmp_path / "small")
    real, asked = inversion._search, []

    def search(encode, some, *more):
        asked.append(len(some))
        if len(some) > room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(encode, some, *more)

    monkeypatch.setattr(inversion, "_search", search)
    small = inversion.oti(make("clip"), target, steps=[0, 3], batch=8)
    assert asked[:2] == [8, 4]
    assert asked.count(8) == 1
    for name in ("at", "tokens", "loss"):
        assert torch.allclose(getattr(small, name), getattr(large, name), atol=1e-5), name
    kept = [
        sorted(p.name for p in (tmp_path / size).rglob("*.safetensors"))
        for size in ("large", "small")
    ]
    assert kept[0] == kept[1]  # found under the same name, however many were searched at a time


def test_one_item_that_does_not_fit_is_an_error(make, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    monkeypatch.setattr(
        inversion, "_search", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError())
    )
    with pytest.raises(torch.OutOfMemoryError):
        inversion.oti(make("clip"), torch.eye(8)[:2], steps=1)


def test_two_notebooks_share_a_search(make, tmp_path, monkeypatch):
    """Same model, images, steps and seed: more items only add batches, none is searched twice."""
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    target = functional.normalize(torch.randn(12, 8, generator=torch.Generator().manual_seed(2)))
    ask = {"tokens": 1, "steps": [0, 1, 2], "batch": 4}
    first = inversion.oti(make("siglip"), target[:8], seed=0, **ask)
    asked, real = [], inversion._search
    monkeypatch.setattr(inversion, "_search", lambda *a: asked.append(len(a[1])) or real(*a))
    again = inversion.oti(make("siglip"), target, **ask)
    assert asked == [4]
    assert torch.equal(again.embeddings[:8], first.embeddings)

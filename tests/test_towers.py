"""Encoders give what open_clip gives, whatever the batch, and sooner through the last layer."""

import open_clip
import pytest
import standins
import torch
from safetensors.torch import load_file
from torch.nn import functional
from torchvision import transforms

from lib.encoders import registry, towers
from lib.encoders.registry import WEIGHTS

TEXTS = ["a red circle .", "the blue star on a green square .", "zebra"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return standins.tiny_clip(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def model(folder):
    return registry.load(f"local-dir:{folder}")


def test_is_ready_to_encode(model):
    assert not model.clip.training
    assert {p.dtype for p in model.clip.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in model.clip.parameters())
    assert model.device.type == "cpu"
    assert model.logit_scale == pytest.approx(1 / 0.07, rel=1e-3)  # kept in float16


def test_float32_means_float32_on_a_gpu():
    class Clip(torch.nn.Module):
        def to(self, *_):
            return self

    backends = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = True
        parts = towers.Parts(Clip(), None, None)
        assert towers.Model("a", "a", 1.0, torch.device("cuda"), lambda: parts).clip
        assert not any(backend.allow_tf32 for backend in backends)
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.allow_tf32 = value


def test_weights_are_the_ones_in_the_file(model, folder):
    stored = load_file(folder / WEIGHTS)
    for key, value in model.clip.state_dict().items():
        assert torch.equal(value, stored[key].float())


def test_encodes_as_open_clip_does(model, folder):
    clip, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    clip.eval()
    images = [standins.picture(i) for i in range(3)]
    with torch.no_grad():
        pixels = torch.stack([preprocess(image) for image in images])
        image = functional.normalize(clip.encode_image(pixels), dim=-1)
        text = functional.normalize(clip.encode_text(tokenizer(TEXTS)), dim=-1)
    torch.testing.assert_close(model.encode_image(images), image)
    torch.testing.assert_close(model.encode_text(TEXTS), text)


def test_embeddings_are_unit_vectors_on_the_cpu(model):
    for x in (model.encode_image([standins.picture(0)]), model.encode_text(TEXTS)):
        assert x.dtype == torch.float32 and x.device.type == "cpu" and not x.requires_grad
        torch.testing.assert_close(x.norm(dim=1), torch.ones(len(x)))


def test_batches_do_not_show(model, monkeypatch):
    images, texts = [standins.picture(i) for i in range(7)], TEXTS * 3
    whole = model.encode_image(images), model.encode_text(texts)
    monkeypatch.setattr(towers, "BATCH_IMAGES", 3)
    monkeypatch.setattr(towers, "BATCH_TEXTS", 4)
    torch.testing.assert_close((model.encode_image(images), model.encode_text(texts)), whole)


def test_preprocessing_is_the_configured_one(model):
    steps = model.preprocess.transforms
    normalise = next(step for step in steps if isinstance(step, transforms.Normalize))
    resize = next(step for step in steps if isinstance(step, transforms.Resize))
    assert list(normalise.mean) == [0.4, 0.5, 0.6] and list(normalise.std) == [0.2, 0.25, 0.3]
    assert resize.interpolation == transforms.InterpolationMode.BILINEAR
    assert tuple(resize.size) == (24, 24)


def test_grey_and_transparent_images(model):
    grey = standins.picture(0).convert("L")
    assert model.encode_image([grey, grey.convert("RGBA")]).shape == (2, 8)


def test_long_text_keeps_its_end(model):
    tokens = model.tokenizer(["a red circle " * 20])
    assert tokens.shape == (1, standins.CONTEXT) and tokens.dtype == torch.long
    assert tokens[0, -1] == tokens.max() == len(standins.WORDS) + 3


@pytest.mark.parametrize("nothing", [[], "a red circle"])
def test_nothing_to_encode(model, nothing):
    with pytest.raises(ValueError, match="list of at least one text"):
        model.encode_text(nothing)


def test_not_finite(folder, monkeypatch):
    broken = registry.load(f"local-dir:{folder}")
    broken.clip.text_projection.data[:] = float("nan")
    with pytest.raises(ValueError, match="no finite embedding of text 0"):
        broken.encode_text(TEXTS)


def deep_clip(folder, layers=3):
    return standins.tiny_clip(folder, vision_cfg=standins.VISION | {"layers": layers})


@pytest.mark.parametrize("make", [standins.tiny_clip, deep_clip, standins.tiny_siglip])
def test_images_of_the_class_tokens_row_give_the_same_embeddings(tmp_path, make):
    clip = registry.load(f"local-dir:{make(tmp_path / 'model')}").clip.double()
    size = clip.visual.image_size
    pixels = torch.randn(3, 3, *(size if isinstance(size, tuple) else (size, size))).double()
    rows = []
    if towers.pools_class_token(clip.visual):
        last = clip.visual.transformer.resblocks[-1].mlp
        last.register_forward_pre_hook(lambda _, given: rows.append(given[0].shape))
    with torch.no_grad():
        found = towers.encode_pixels(clip, pixels)
        seen = [*rows]
        torch.testing.assert_close(found, clip.encode_image(pixels), rtol=1e-12, atol=1e-12)
    assert seen == ([] if make is standins.tiny_siglip else [(3, clip.visual.conv1.out_channels)])


OTHER = " ".join(["the red circle on a green square"] * 2)


@pytest.mark.parametrize("make", [standins.tiny_clip, standins.tiny_openai, standins.tiny_siglip])
def test_texts_cut_behind_their_end_give_the_same_embeddings(tmp_path, monkeypatch, make):
    model = registry.load(f"local-dir:{make(tmp_path / 'model')}")
    monkeypatch.setattr(towers, "ALIKE", 2)
    clip, tokens = model.clip.double(), model.tokenizer([OTHER, *TEXTS, ""])
    wide = []
    if isinstance(clip, open_clip.CLIP):
        clip.token_embedding.register_forward_pre_hook(
            lambda _, given: wide.append(len(given[0][0]))
        )
    with torch.no_grad():
        found = towers.encode_tokens(clip, tokens)
        cut = list(wide)
        torch.testing.assert_close(found, clip.encode_text(tokens), rtol=1e-12, atol=1e-12)
    assert sorted(cut) == cut and max(cut, default=0) <= tokens.shape[1]
    assert make is standins.tiny_siglip or min(cut) < tokens.shape[1]

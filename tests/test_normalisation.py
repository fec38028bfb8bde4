"""I0T_async on frozen embeddings: the mini recipe's loss, and `--train async` on stand-ins."""

import os
from dataclasses import replace

import numpy as np
import pytest
import standins
import torch
from huggingface_hub import constants
from torch.nn.functional import normalize

from lib import paths, profiles
from lib.data.sources import PAIRS
from lib.encoders import registry
from lib.encoders.download import NotAvailable
from lib.encoders.embeddings import Embeddings
from lib.measures import gap
from lib.methods import normalisation
from lib.methods.normalisation import Settings
from mini import training, world
from mini.batches import load_pool
from mini.recipes import RECIPES
from workflow import train

QUICK = Settings(epochs=4, batch=16, learning_rate=0.01, warm_up=2)
START, NAME = "openai-vit-b-32", "openai-vit-b-32-async"
TEXTS = ["a red circle.", "the blue star", "green"]


def pairs(n=96, d=8, shift=2.0, captions=3):
    """Embeddings of pairs with a gap along the first dimension."""
    rng = torch.Generator().manual_seed(0)
    image = torch.randn(n, d, generator=rng)
    owner = torch.arange(n).repeat_interleave(captions)
    text = image[owner] + 0.3 * torch.randn(n * captions, d, generator=rng)
    image[:, 0] += shift
    text[:, 0] -= shift
    return Embeddings(normalize(image, dim=1), normalize(text, dim=1), owner)


def test_the_loss_is_that_of_the_mini_recipe(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    monkeypatch.setattr(world, "BLOCK", 30)
    recipe = replace(RECIPES["mini-async-one-pass"], pool=60)
    state, pool, index = training.State.start(recipe), load_pool(60), np.arange(16)
    theirs = training._contrastive(state, pool, index, np.full(16, 3))
    with torch.no_grad():
        pixels = training.to_pixels(pool.images[index])
        image = state.model.encode_image(pixels, normalize=True)
        tokens = torch.from_numpy(pool.long_tokens[index].astype(np.int64))
        text = training._encode_by_length(state.model, tokens)
    layers = registry.normalisation("batch", image.shape[1])
    ours = normalisation.loss(layers, image, text, 100.0)
    torch.testing.assert_close(ours, theirs)
    ours.backward()
    theirs.backward()
    for mine, its in zip(layers.values(), state.heads["normalise"].values(), strict=True):
        torch.testing.assert_close(mine.weight.grad, its.weight.grad)
        torch.testing.assert_close(mine.running_mean, its.running_mean)


def test_training_lowers_the_loss_and_closes_the_gap():
    e = pairs()
    layers, curve = normalisation.train(e, 10.0, QUICK)
    assert len(curve) == QUICK.epochs and curve[-1] < curve[0]
    x = normalisation.apply(layers, "image", e.image)
    y = normalisation.apply(layers, "text", e.first())
    assert gap.centroid_distance(x, y) < 0.3 * gap.centroid_distance(e.image, e.first())
    torch.testing.assert_close(x.norm(dim=1), torch.ones(len(x)))
    again, same = normalisation.train(e, 10.0, QUICK)
    assert same == curve
    torch.testing.assert_close(again["text"].running_mean, layers["text"].running_mean)


def test_every_caption_of_an_image_is_seen_and_no_other():
    """Captions of one image alike, and unlike all others': only then does the loss vanish."""
    e = pairs(captions=1)
    owner = torch.arange(96).repeat_interleave(torch.arange(96) % 3 + 1)
    uneven = Embeddings(e.image, e.image[owner], owner)
    _, curve = normalisation.train(uneven, 300.0, QUICK)
    assert curve[0] < 0.05
    wrong = Embeddings(e.image, e.image[(owner + 1) % 96], owner)
    assert normalisation.train(wrong, 300.0, QUICK)[1][0] > 1


def test_the_learning_rate_rises_and_falls():
    share = normalisation._share(4, 20)
    rates = [share(step) for step in range(21)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[20] == pytest.approx(0)


def test_less_than_a_batch_is_refused():
    with pytest.raises(ValueError, match="batches of 64 pairs: 10 are too few"):
        normalisation.train(pairs(10), 10.0)


# The command --------------------------------------------------------------------------------------


@pytest.fixture
def clip(tmp_path, monkeypatch):
    """Profile clip, with stand-ins of its main model and of Flickr30k in an offline hub's cache."""
    hub = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    spec = replace(registry.REGISTRY[NAME], folder=tmp_path / "cache" / "trained" / NAME)
    monkeypatch.setitem(registry.REGISTRY, NAME, spec)
    start, source = registry.REGISTRY[START], PAIRS["flickr30k"]["train"]
    standins.tiny_openai(standins.put_in_hub(hub, start.repo, start.revision), quick_gelu=True)
    folder = standins.put_in_hub(hub, source.repo, source.revision, "dataset")
    standins.write_captioned(folder, source.table, source.archive, 40, "train")
    return profiles.load("clip")


def test_the_trained_model_is_its_start_behind_the_layers(clip, capsys):
    with pytest.raises(NotAvailable, match="--profile clip --train async"):
        registry.load(NAME)
    name, about = train.train(clip, settings=QUICK)
    assert name == NAME == clip.models["async"]
    before, after = about["centroid_distance"]
    assert after < before
    assert about["data"].startswith("flickr30k, train split, 40 images")
    assert about["revision"] == PAIRS["flickr30k"]["train"].revision
    start, model = registry.load(START), registry.load(NAME)
    assert about["start_fingerprint"] == start.fingerprint != model.fingerprint
    layers, images = model.normalisation, [standins.picture(k) for k in range(3)]
    for kind, ours, its in (
        ("text", model.encode_text(TEXTS), start.encode_text(TEXTS)),
        ("image", model.encode_image(images), start.encode_image(images)),
    ):
        torch.testing.assert_close(ours, normalisation.apply(layers, kind, its))
        assert (ours - its).abs().max() > 0.01
    assert not any(layer.training for layer in layers.values())
    folder = registry.folder(NAME)
    weights = [where / registry.WEIGHTS for where in (folder, registry.folder(START))]
    assert os.path.samefile(*weights)
    assert registry.revision(NAME) == ""


def test_a_second_call_leaves_it_and_force_does_not(clip):
    _, first = train.train(clip, settings=QUICK)
    assert train.train(clip, settings=QUICK)[1] == {}
    _, again = train.train(clip, True, replace(QUICK, seed=1))
    assert again["loss_by_epoch"] != first["loss_by_epoch"]


def test_weights_are_copied_where_they_cannot_be_linked(clip, monkeypatch):
    def no_link(*_):
        raise OSError("Invalid cross-device link")

    monkeypatch.setattr(os, "link", no_link)
    train.train(clip, settings=QUICK)
    registry.load(NAME).encode_text(TEXTS)


def test_a_failure_leaves_nothing_behind(clip, monkeypatch):
    monkeypatch.setattr(normalisation, "save_file", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train.train(clip, settings=QUICK)
    assert not list((paths.CACHE / "trained").iterdir())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"models": {"clip": "mini-clip"}}, "public CLIP as its main model, not mini-clip"),
        ({"models": {"clip": NAME}}, f"public CLIP as its main model, not {NAME}"),
    ],
)
def test_what_cannot_be_trained_is_refused(clip, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        train.train(clip.model_copy(update=changes))


def test_the_command_says_what_it_did(clip, capsys, monkeypatch):
    monkeypatch.setattr(train.train, "__defaults__", (False, QUICK))
    train.main(["--profile", "clip"])
    assert "Centroid distance of the training pairs" in capsys.readouterr().out
    train.main(["--profile", "clip"])
    assert "trained already; --force" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="not mini-clip"):
        train.main(["--profile", "mini"])


def test_pairs_are_the_first_that_can_be_had(clip, capsys):
    name, rows = train.training_pairs(clip)
    assert (name, len(rows)) == ("flickr30k", 40)
    assert "Without coco: undefined443/coco-karpathy-wds is not in the local cache" in (
        capsys.readouterr().out
    )
    with pytest.raises(NotAvailable, match="Without coco"):
        train.training_pairs(clip.model_copy(update={"pairs_2": None, "targets": ()}))

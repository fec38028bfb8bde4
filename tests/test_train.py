import json
from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from lib import paths, train, world


@pytest.fixture
def recipe(monkeypatch, tmp_path):
    """The base recipe on a few pairs, with its cache in a folder of its own."""
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(paths, "MODELS", tmp_path / "models")
    monkeypatch.setattr(train, "CHECKPOINT_STEPS", 2)
    (tmp_path / "cache").mkdir()
    base = train.RECIPES["mini-clip"]
    monkeypatch.setattr(train, "validate", lambda model, recipe: {})
    small = {"steps": 4, "tagging_steps": 2, "batch": 16, "group": 4, "pool": 60}
    return replace(base, **small, shared_from=2, warm_up=2)


def weights(state):
    return {k: v.clone() for k, v in state.model.state_dict().items()}


def test_a_step_lowers_the_loss_of_its_own_batch(recipe, tmp_path):
    pool = train.load_pool(recipe.pool)
    state = train.State.start(recipe)

    def same_batch(step):
        return np.arange(16), np.full(16, 3)

    losses = [train._step(state, recipe, pool, same_batch) for _ in range(6)]
    assert losses[1] < losses[0]  # tagging
    assert losses[5] < losses[2]  # contrastive
    assert state.model.logit_scale.exp().item() == pytest.approx(100, rel=1e-4)


@pytest.mark.parametrize("name", ["mini-clip", "mini-rn"])
def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(recipe, tmp_path, name):
    recipe = replace(recipe, vision=train.RECIPES[name].vision)
    whole = train.run(recipe, tmp_path / "whole.pt")

    real = train._step
    calls = []

    def killed(*arguments):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(1)
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "_step", killed)
        with pytest.raises(KeyboardInterrupt):
            train.run(recipe, tmp_path / "killed.pt")
    resumed = train.run(recipe, tmp_path / "killed.pt")
    assert resumed.step == whole.step == 6
    for key, value in weights(whole).items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key


def test_cutting_texts_changes_nothing(recipe):
    model = train.build(recipe).eval()
    tokens = torch.from_numpy(train.load_pool(60).tokens[:20, 4].astype(np.int64))
    with torch.no_grad():
        theirs = model.encode_text(tokens, normalize=True)
        torch.testing.assert_close(train.encode_tokens(model, tokens), theirs)
        torch.testing.assert_close(train._encode_by_length(model, tokens), theirs)


def test_groups_share_what_they_should(recipe):
    pool = train.load_pool(60)
    recipe = replace(recipe, shared=(("background",),), shared_share=1.0)
    batches = train.Batches(recipe, pool)
    index, _ = batches(5)
    place = pool.factors[index, train.FACTORS.index("background")].reshape(-1, 4)
    assert (place == place[:, :1]).all() and len(index) == 16
    tagged, _ = batches(0)
    assert (pool.factors[tagged, train.FACTORS.index("n_objects")] == 1).all()
    early, _ = batches(3)
    place = pool.factors[early, train.FACTORS.index("background")].reshape(-1, 4)
    assert not (place == place[:, :1]).all()


def test_the_exported_folder_is_plain_open_clip(recipe, tmp_path):
    model = train.build(recipe).eval()
    train.export(model, recipe, tmp_path / "out")
    theirs, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path / 'out'}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'out'}")
    pool = train.load_pool(60)
    picture = preprocess(Image.fromarray(pool.images[0]))
    torch.testing.assert_close(picture, train.to_pixels(pool.images[:1])[0])
    captions = world.pairs("train", 1)[0]["captions"]
    assert np.array_equal(tokenizer(captions).numpy(), pool.tokens[0])
    with torch.no_grad():
        mine = model.encode_image(picture[None])
        torch.testing.assert_close(
            theirs.eval().encode_image(picture[None]), mine, atol=2e-2, rtol=0
        )


def test_train_writes_a_report_and_replaces_the_old_model_at_the_end(recipe, monkeypatch, capsys):
    figures = {"i2t_r1": 0.5, "shape_accuracy": 0.5}
    monkeypatch.setitem(train.RECIPES, "mini-clip", recipe)
    monkeypatch.setattr(train, "measure", lambda folder: dict(figures))
    train.train("mini-clip")
    report = json.loads((paths.MODELS / "mini-clip" / "recipe.json").read_text())
    assert report["test"] == figures and report["recipe"]["steps"] == 4
    assert report["training_pairs_sha256"] == train.load_pool(60).sha256
    assert capsys.readouterr().out == ""
    figures["shape_accuracy"] = 0.1
    train.train("mini-clip")
    told = capsys.readouterr().out
    assert "i2t_r1" in told and "within" in told and "OUTSIDE" in told
    assert not (paths.CACHE / "training" / "mini-clip").exists()


def test_a_checkpoint_of_another_recipe_is_not_continued(recipe, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"old")
    train._same_recipe(tmp_path, {"seed": 0})
    assert not (tmp_path / "checkpoint.pt").exists()
    (tmp_path / "checkpoint.pt").write_bytes(b"mine")
    train._same_recipe(tmp_path, {"seed": 0})
    assert (tmp_path / "checkpoint.pt").exists()


def test_an_unknown_recipe_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="mini-clip"):
        train.train("mini-clib")

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from lib import paths, profiles
from lib.encoders import registry
from lib.encoders.embeddings import embed
from mini import training, world
from mini.batches import FACTORS, Batches, caption_similarity, drawn_again, load_pool
from mini.recipes import CONTEXT, KEPT, LATER, LONG_CONTEXT, RECIPES, described


@pytest.fixture
def recipe(monkeypatch, tmp_path):
    """The base recipe on a few pairs, with its cache in a folder of its own."""
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(paths, "MODELS", tmp_path / "models")
    monkeypatch.setattr(training, "CHECKPOINT_STEPS", 2)
    monkeypatch.setattr(world, "BLOCK", 30)  # pictures drawn at a time
    (tmp_path / "cache").mkdir()
    base = RECIPES["mini-clip"]
    monkeypatch.setattr(training, "validate", lambda state: {})
    small = {"steps": 4, "tagging_steps": 2, "batch": 16, "group": 4, "pool": 60}
    return replace(base, **small, shared_from=2, warm_up=2)


def weights(state):
    return {k: v.clone() for k, v in state.model.state_dict().items()}


def test_a_step_lowers_the_loss_of_its_own_batch(recipe, tmp_path):
    pool = load_pool(recipe.pool)
    state = training.State.start(recipe)

    def same_batch(step):
        return np.arange(16), np.full(16, 3)

    losses = [training._step(state, pool, same_batch) for _ in range(6)]
    assert losses[1] < losses[0]  # tagging
    assert losses[5] < losses[2]  # contrastive
    assert state.model.logit_scale.exp().item() == pytest.approx(100, rel=1e-4)


@pytest.mark.parametrize("name", ["mini-clip", "mini-rn"])
def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(recipe, tmp_path, name):
    recipe = replace(recipe, vision=RECIPES[name].vision)
    whole = training.run(recipe, tmp_path / "whole.pt")

    real = training._step
    calls = []

    def killed(*arguments):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(1)
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_step", killed)
        with pytest.raises(KeyboardInterrupt):
            training.run(recipe, tmp_path / "killed.pt")
    resumed = training.run(recipe, tmp_path / "killed.pt")
    assert resumed.step == whole.step == 6
    for key, value in weights(whole).items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key


def test_cutting_texts_changes_nothing(recipe):
    model = training.build(recipe).eval()
    tokens = torch.from_numpy(load_pool(60).tokens[:20, 4].astype(np.int64))
    with torch.no_grad():
        theirs = model.encode_text(tokens, normalize=True)
        torch.testing.assert_close(training.encode_tokens(model, tokens), theirs)
        torch.testing.assert_close(training._encode_by_length(model, tokens), theirs)


def test_groups_share_what_they_should(recipe):
    pool = load_pool(60)
    recipe = replace(recipe, shared=(("background",),), shared_share=1.0)
    batches = Batches(recipe, pool)
    index, _ = batches(5)
    place = pool.factors[index, FACTORS.index("background")].reshape(-1, 4)
    assert (place == place[:, :1]).all() and len(index) == 16
    tagged, _ = batches(0)
    assert (pool.factors[tagged, FACTORS.index("n_objects")] == 1).all()
    early, _ = batches(3)
    place = pool.factors[early, FACTORS.index("background")].reshape(-1, 4)
    assert not (place == place[:, :1]).all()


def test_the_exported_folder_is_plain_open_clip(recipe, tmp_path):
    state = training.State.start(recipe)
    model = state.model.eval()
    training.export(state, tmp_path / "out")
    theirs, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path / 'out'}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'out'}")
    pool = load_pool(60)
    picture = preprocess(Image.fromarray(pool.images[0]))
    torch.testing.assert_close(picture, training.to_pixels(pool.images[:1])[0])
    captions = world.pairs("train", 1)[0]["captions"]
    assert np.array_equal(tokenizer(captions).numpy(), pool.tokens[0])
    with torch.no_grad():
        mine = model.encode_image(picture[None])
        torch.testing.assert_close(
            theirs.eval().encode_image(picture[None]), mine, atol=2e-2, rtol=0
        )


def test_train_writes_a_report_and_replaces_the_old_model_at_the_end(recipe, monkeypatch, capsys):
    figures = {"i2t_r1": 0.5, "shape_accuracy": 0.5}
    monkeypatch.setitem(training.RECIPES, "mini-clip", recipe)
    monkeypatch.setattr(training, "measure", lambda folder, kind: dict(figures))
    training.train("mini-clip")
    report = json.loads((paths.MODELS / "mini-clip" / "recipe.json").read_text())
    assert report["test"] == figures and report["recipe"]["steps"] == 4
    assert report["training_pairs_sha256"] == load_pool(60).sha256
    assert capsys.readouterr().out == ""
    figures["shape_accuracy"] = 0.1
    training.train("mini-clip")
    told = capsys.readouterr().out
    assert "i2t_r1" in told and "within" in told and "OUTSIDE" in told
    assert not (paths.CACHE / "training" / "mini-clip").exists()


def test_the_figures_of_an_exported_model(recipe, tmp_path):
    """As measured on its own embeddings; the labelled pictures are asked in the world's words."""
    training.export(training.State.start(recipe), tmp_path / "out")
    figures = training.measure(tmp_path / "out", "test", 20)
    model = registry.load(f"local-dir:{tmp_path / 'out'}")
    pairs = world.pairs("test", 20)
    image = model.encode_image(pairs["image"][:])
    text = model.encode_text([captions[3] for captions in pairs["captions"][:]])
    nearest = (image @ text.T).argmax(1) == torch.arange(20)
    assert figures["i2t_r1"] == pytest.approx(nearest.float().mean().item(), abs=1e-4)
    cosine = (image * text).sum(1).mean().item()
    assert figures["mean_paired_cosine"] == pytest.approx(cosine, abs=1e-4)
    rows, (names, templates) = world.labelled("texture", "test", 20), world.prompts("texture")
    every = [model.encode_text([template.format(name) for name in names]) for template in templates]
    found = (model.encode_image(rows["image"][:]) @ sum(every).T).argmax(1)
    right = (found == torch.tensor(rows["label"][:])).float().mean().item()
    assert figures["texture_accuracy"] == pytest.approx(right, abs=0.051)  # one of 20 may be close
    assert set(figures) == {
        *("i2t_r1", "t2i_r1", "centroid_distance", "mean_paired_cosine"),
        *(f"{name}_accuracy" for name in training.ZERO_SHOT),
    }


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A new model in a cache on another file system than the models: nothing moves between them."""
    built, target = tmp_path / "cache" / "model", tmp_path / "models" / "mini-clip"
    for folder, text in ((built, "new"), (target, "old")):
        folder.mkdir(parents=True)
        (folder / "weights").write_text(text)
    (target / "only-old").write_text("old")
    own = os.replace

    def replace(source, to):
        if Path(source).parent != Path(to).parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        own(source, to)

    for name in ("replace", "rename"):
        monkeypatch.setattr(os, name, replace)
    return built, target


def test_a_model_is_put_in_its_place_from_another_file_system(shipped):
    built, target = shipped
    training._put(built, target)
    assert [(file.name, file.read_text()) for file in target.iterdir()] == [("weights", "new")]
    assert [folder.name for folder in target.parent.iterdir()] == ["mini-clip"]


def test_a_copy_that_fails_leaves_the_shipped_model(shipped, monkeypatch):
    built, target = shipped

    def full(source, to, **options):
        Path(to).mkdir()
        (Path(to) / "weights").write_text("ne")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(training.shutil, "copytree", full)
    with pytest.raises(OSError, match="No space left"):
        training._put(built, target)
    assert {file.name: file.read_text() for file in target.iterdir()} == {
        "weights": "old", "only-old": "old"
    }  # fmt: skip
    assert [folder.name for folder in target.parent.iterdir()] == ["mini-clip"]


def test_a_checkpoint_of_another_recipe_is_not_continued(recipe, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"old")
    training._same_recipe(tmp_path, {"seed": 0})
    assert not (tmp_path / "checkpoint.pt").exists()
    (tmp_path / "checkpoint.pt").write_bytes(b"mine")
    training._same_recipe(tmp_path, {"seed": 0})
    assert (tmp_path / "checkpoint.pt").exists()


def test_an_unknown_recipe_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="mini-clip"):
        training.train("mini-clib")


# --- the families -----------------------------------------------------------------------------

# One of each kind: a loss term, an architecture, a stage.
KINDS = [
    *("mini-shared", "mini-align-both", "mini-align-plain", "mini-clip-imsep", "mini-slip"),
    *("mini-cyclip", "mini-clip-learned", "mini-siglip", "mini-coca", "mini-amended"),
    *("mini-cloob", "mini-unif-align", "mini-pac", "mini-lc", "mini-lccom", "mini-lccom-bn"),
    *("mini-lccom-ln", "mini-async", "mini-clip-on-heldout", "mini-lco-flat"),
    *("mini-gap-shape-positives", "mini-gap-all-learned"),
]


def quick_alone(name: str, recipe):
    """A family's recipe at the size of the fixture."""
    small = {k: getattr(recipe, k) for k in ("batch", "group", "pool", "warm_up", "steps")}
    small |= {"tagging_steps": min(2, RECIPES[name].tagging_steps), "shared_from": 0}
    return replace(RECIPES[name], **small)


def quick(name: str, recipe):
    """The same; what it starts from is made first."""
    family = quick_alone(name, recipe)
    start = family.start
    if start and not (paths.MODELS / start).is_dir():
        made = quick(start, recipe) if RECIPES[start].start else replace(recipe, steps=0)
        run_and_export(made, paths.MODELS / start)
    return family


def run_and_export(recipe, folder):
    state = training.run(recipe, paths.CACHE / f"{folder.name}.pt")
    training.export(state, folder)
    return state


@pytest.fixture
def no_memory_as_it_was():
    """Tensors that nobody has filled are full of NaN."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("name", [name for name in KINDS if not RECIPES[name].start])
def test_every_weight_is_drawn_before_the_first_step(recipe, no_memory_as_it_was, name):
    assert torch.empty(1).isnan()
    for key, weight in weights(training.State.start(quick_alone(name, recipe))).items():
        assert weight.isfinite().all(), key


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_trains_and_loads_through_the_common_interface(recipe, name):
    family = quick(name, recipe)
    folder = paths.MODELS / name
    before = weights(training.State.start(family))
    state = run_and_export(family, folder)
    changed = {k for k, v in weights(state).items() if not torch.equal(v, before[k])}
    if family.trains == "all":
        assert {"visual.conv1.weight", "logit_scale"} & changed == (
            {"visual.conv1.weight", "logit_scale"}
            if family.learn_scale
            else {"visual.conv1.weight"}
        )
    elif family.trains == "projections":
        assert changed == {"visual.proj", "text_projection"}
    else:
        assert not changed
    model = registry.load(f"local-dir:{folder}")
    rows = world.pairs("test", 6)
    found = embed(model, rows)
    d = family.embed_dim
    assert found.image.shape == (6, d) and found.text.shape == (30, d)
    assert model.encode_text([rows[0]["long_caption"]]).isfinite().all()
    # As the training saw them: the exported half precision is all that may differ.
    state.model.eval()
    with torch.no_grad():
        pool = load_pool(family.pool, family.split)
        rows = state.model.encode_image(training.to_pixels(pool.images[:4]), normalize=True)
        if family.normalise:
            rows = state.heads["normalise"].eval()["image"](rows)
            rows = torch.nn.functional.normalize(rows, dim=-1)
    pictures = [Image.fromarray(image) for image in pool.images[:4]]
    torch.testing.assert_close(model.encode_image(pictures), rows, atol=2e-2, rtol=0)


def test_shared_towers_are_one_and_stay_so_in_the_file(recipe):
    family = quick("mini-shared", recipe)
    model = training.build(family)
    assert model.visual.transformer is model.transformer
    own = {id(p) for p in model.parameters()}
    shared = [*model.transformer.parameters(), *model.ln_final.parameters(), model.text_projection]
    assert {id(p) for p in shared} < own
    assert len(own) == len({k for k, _ in model.named_parameters()})
    run_and_export(family, paths.MODELS / "mini-shared")
    loaded = registry.load(f"local-dir:{paths.MODELS / 'mini-shared'}").clip
    for a, b in zip(
        loaded.transformer.parameters(), loaded.visual.transformer.parameters(), strict=True
    ):
        assert torch.equal(a, b)
    assert torch.equal(loaded.visual.proj, loaded.text_projection)
    assert not torch.equal(loaded.visual.ln_pre.weight, loaded.ln_final.weight)


def test_an_amended_start_closes_the_gap_by_a_rotation(recipe):
    pool = load_pool(recipe.pool)
    model = training.build(recipe)

    def distance():
        with torch.no_grad():
            image = model.encode_image(training.to_pixels(pool.images), normalize=True)
            text = training.encode_tokens(
                model, torch.from_numpy(pool.tokens[:, 3].astype(np.int64))
            )
        return float((image.mean(0) - text.mean(0)).norm())

    before, lengths = distance(), model.text_projection.norm(dim=1)
    training._amend(model, pool)
    assert distance() < 0.3 * before
    torch.testing.assert_close(model.text_projection.norm(dim=1), lengths)


def test_the_model_before_its_first_step(recipe, monkeypatch):
    monkeypatch.setattr(training, "AMENDING", 40)
    plain, amended = (training.untrained(name) for name in ("mini-scratch", "mini-amended"))
    turned = plain.text_projection.T @ amended.text_projection  # same lengths, other directions
    torch.testing.assert_close(
        plain.text_projection.norm(dim=1), amended.text_projection.norm(dim=1)
    )
    assert not torch.allclose(turned, plain.text_projection.T @ plain.text_projection, atol=1e-3)
    assert torch.equal(plain.visual.proj, amended.visual.proj)
    started = training.State.start(RECIPES["mini-scratch"]).model
    assert torch.equal(started.text_projection, plain.text_projection) and not plain.training
    with pytest.raises(ValueError, match="starts from mini-clip"):
        training.untrained("mini-clip-t1")


def test_the_untrained_model_encodes_as_its_weights_do():
    model, trained = training.untrained_model("mini-scratch"), registry.load("mini-scratch")
    again = training.untrained("mini-scratch").encode_text(model.tokenizer(["a red circle"]))
    expected = torch.nn.functional.normalize(again.detach(), dim=-1)
    torch.testing.assert_close(model.encode_text(["a red circle"]), expected)
    assert not torch.allclose(trained.encode_text(["a red circle"]), expected, atol=0.1)
    assert model.fingerprint != trained.fingerprint
    assert model.fingerprint == training.untrained_model("mini-scratch").fingerprint
    with pytest.raises(ValueError, match="starts from mini-clip"):
        training.untrained_model("mini-clip-t1")


def test_positions_are_stretched_as_in_long_clip():
    positions = torch.arange(float(CONTEXT))[:, None].expand(CONTEXT, 3)
    longer = training.stretched(positions, LONG_CONTEXT)
    assert longer.shape == (LONG_CONTEXT, 3)
    assert torch.equal(longer[:KEPT], positions[:KEPT])
    assert longer[-1, 0] == CONTEXT - 1 and (longer[1:] >= longer[:-1]).all()
    steps = (longer[KEPT + 3 : -2] - longer[KEPT + 2 : -3])[:, 0]
    torch.testing.assert_close(
        steps, torch.full_like(steps, (CONTEXT - KEPT) / (LONG_CONTEXT - KEPT))
    )


def test_the_loss_of_two_passes_is_the_mean_over_four_combinations(recipe):
    family = quick("mini-lccom", recipe)
    state, pool = training.State.start(family), load_pool(family.pool)
    index = np.arange(8)
    torch.manual_seed(3)
    total = training._contrastive(state, pool, index, np.full(8, 3))
    torch.manual_seed(3)
    pairs = training.Pairs(state, pool, index, np.full(8, 3))
    combinations = list(pairs.combinations())
    assert len(combinations) == 4
    assert not torch.equal(combinations[0][0], combinations[2][0])  # dropout differs
    each = [
        sum(w * training.TERMS[term](pairs, x, y) for term, w in family.loss)
        for x, y in combinations
    ]
    torch.testing.assert_close(total, sum(each) / 4)


def test_recipes_that_begin_alike_share_the_tagging_stage(recipe, monkeypatch):
    one = quick("mini-clip-imsep", recipe)
    training.run(one, paths.CACHE / "one.pt")
    tagged = []
    monkeypatch.setattr(training, "_tagging", lambda *_: tagged.append(1))
    for name in ("mini-clip", "mini-slip"):
        other = quick(name, recipe)
        whole = training.run(other, paths.CACHE / f"{name}.pt")
        assert whole.step == other.tagging_steps + other.steps
    assert not tagged
    with pytest.raises(AttributeError):  # of the stub: another seed tags for itself
        training.run(replace(one, seed=7), paths.CACHE / "seven.pt")


def test_a_scale_with_a_rate_of_its_own_moves(recipe):
    """As Adam does: by about the rate at each step, where the common rate is far below it."""
    slow = replace(recipe, logit_scale=10.0, learn_scale=True)
    pool, moved = load_pool(recipe.pool), {}
    for rate in (0.0, 0.5):
        state = training.State.start(replace(slow, scale_rate=rate, tagging_steps=0))
        for _ in range(2):
            training._step(state, pool, lambda step: (np.arange(16), np.full(16, 3)))
        moved[rate] = abs(state.model.logit_scale.item() - np.log(10))
        scales = [p for g in state.optimiser.param_groups for p in g["params"] if p.ndim == 0]
        assert len(scales) == 1  # in one group, and no longer in the common one
    assert moved[0.0] < 0.01 < 0.3 < moved[0.5]


def test_the_tagging_stage_is_shared_by_all_captions_of_a_seed():
    files = {
        name: training._tagged_file(RECIPES[f"mini-gap-{name}"])
        for name in ("shape-fixed", "all-fixed", "mix-fixed", "shape-positives", "all-learned",
                     "shape-fixed-seed1")
    }  # fmt: skip
    same = {name for name, file in files.items() if file == files["shape-fixed"]}
    assert same == {"shape-fixed", "all-fixed", "mix-fixed", "shape-positives"}
    assert len({*files.values()}) == 3


def test_fields_that_came_later_are_described_only_where_they_are_used():
    plain, own = described(RECIPES["mini-clip"]), described(RECIPES["mini-gap-all-learned"])
    assert {*LATER} & {*plain} == set()
    assert {k: own[k] for k in LATER if k in own} == {"scale_rate": 0.03, "captions": "all"}


def test_captions_differ_and_pairs_do_not_within_the_laboratory(recipe):
    """One plan of batches: what differs between two kinds is what the captions say."""
    some = [replace(RECIPES[f"mini-gap-{kind}-fixed"], pool=60) for kind in ("shape", "all", "mix")]
    pools = [load_pool(60, "train", each.captions) for each in some]
    for step in (0, 460, 700, 1200):
        rows = [Batches(*both)(step)[0] for both in zip(some, pools, strict=True)]
        assert all(np.array_equal(rows[0], each) for each in rows[1:])
    assert all(np.array_equal(pools[0].images, pool.images) for pool in pools)
    assert len({pool.sha256 for pool in pools}) == 3


def test_views_are_random_bounded_and_the_same_for_the_same_seed():
    pixels = training.to_pixels(training_pictures(4))

    def views(seed):
        return training.augmented(pixels, torch.Generator().manual_seed(seed))

    assert torch.equal(views(1), views(1))
    assert not torch.allclose(views(1), views(2))
    assert views(1).shape == pixels.shape and views(1).abs().max() <= 1
    gray = torch.cat([views(k) for k in range(40)])
    share = (gray.std(1).amax((1, 2)) < 1e-6).float().mean()
    assert 0.1 < share < 0.3


def training_pictures(n):
    return np.stack([np.asarray(row["image"]) for row in world.pairs("train", n)])


def test_styles_and_splits_choose_the_pairs(recipe):
    flat = replace(recipe, styles=("flat",), shared_share=0.5)
    pool = load_pool(recipe.pool)
    batches = Batches(flat, pool)
    for step in range(5):
        index, _ = batches(step)
        style = pool.factors[index, FACTORS.index("style")]
        assert set(style) == {world.ATTRIBUTES["style"].index("flat")}
    heldout = load_pool(40, "heldout_train")
    assert heldout.sha256 != load_pool(40).sha256


def test_scenes_drawn_again_keep_their_content(recipe):
    pool = load_pool(recipe.pool)
    again = drawn_again(np.arange(5))
    assert again.shape == pool.images[:5].shape
    assert not np.array_equal(again, pool.images[:5])
    apart = np.abs(again.astype(int) - pool.images[:5]).mean((1, 2, 3))
    others = np.abs(again.astype(int) - pool.images[5:10]).mean((1, 2, 3))
    assert apart.mean() < 0.6 * others.mean()


def test_caption_similarity_is_the_share_of_equal_factors():
    factors = np.array([[0, 1, 2, 0, 0, 0, 1], [0, 1, 3, 0, 0, 0, 2], [5, 6, 7, 1, 1, 1, 3]])
    similarity = caption_similarity(factors)
    assert similarity.dtype == np.float32
    np.testing.assert_allclose(similarity, [[1, 5 / 7, 0], [5 / 7, 1, 0], [0, 0, 1]])


def test_what_a_model_starts_from_is_trained_first(recipe, monkeypatch):
    monkeypatch.setitem(training.RECIPES, "mini-clip", replace(recipe, steps=1, tagging_steps=0))
    monkeypatch.setitem(training.RECIPES, "mini-clip-t1", quick_alone("mini-clip-t1", recipe))
    monkeypatch.setattr(training, "measure", lambda folder, kind: {"i2t_r1": 0.5})
    training.train("mini-clip-t1")
    assert (paths.MODELS / "mini-clip" / "recipe.json").is_file()
    assert (paths.MODELS / "mini-clip-t1" / registry.WEIGHTS).is_file()


def test_every_role_has_a_recipe_and_every_recipe_a_known_loss():
    assert set(profiles.load("mini").models.values()) <= set(RECIPES)
    for name, recipe in RECIPES.items():
        assert {term for term, _ in recipe.loss} <= set(training.TERMS), name
        assert recipe.start == "" or recipe.start in RECIPES


SHIPPED = sorted(folder.name for folder in paths.MODELS.glob("mini-*") if folder.is_dir())


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_shipped_comes_from_its_recipe(name):
    folder = paths.ROOT / "models" / name
    report = json.loads((folder / "recipe.json").read_text())
    recipe = json.loads(json.dumps(described(RECIPES[name]) | {"world": world.VERSION}))
    assert report["recipe"] == recipe
    assert sum(file.stat().st_size for file in folder.iterdir()) < 5e6

"""Models are loaded from stand-ins in the formats of the real ones."""

import json
import os
import re
import shutil
import subprocess
import sys

import open_clip
import pytest
import standins
import torch
from huggingface_hub import constants
from safetensors.torch import load_file
from torch.nn import functional
from torchvision import transforms

from lib import paths, profiles
from lib.data.labelled import LABELLED
from lib.encoders import download, registry, towers
from lib.encoders.registry import CONFIG, NotAvailable, PICKLE, Spec, WEIGHTS

TEXTS = ["a red circle .", "the blue star on a green square .", "zebra"]


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """An offline machine: an empty Hugging Face cache and an empty cache of ours."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    return tmp_path / "hub"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return standins.tiny_clip(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def model(folder):
    return registry.load(f"local-dir:{folder}")


def edit(folder, target, change):
    """A copy of a model folder whose configuration was changed in place by `change`."""
    shutil.copytree(folder, target)
    config = json.loads((target / CONFIG).read_text())
    change(config)
    (target / CONFIG).write_text(json.dumps(config))
    return target


def test_is_ready_to_encode(model):
    assert not model.clip.training
    assert {p.dtype for p in model.clip.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in model.clip.parameters())
    assert model.device.type == "cpu"
    assert model.logit_scale == pytest.approx(1 / 0.07, rel=1e-3)  # kept in float16


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
    monkeypatch.setattr(registry, "BATCH_IMAGES", 3)
    monkeypatch.setattr(registry, "BATCH_TEXTS", 4)
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


def test_fingerprint_follows_what_embeddings_depend_on(folder, tmp_path):
    def fingerprint(path):
        return registry.load(f"local-dir:{path}").fingerprint

    first = fingerprint(folder)
    assert re.fullmatch("[0-9a-f]{64}", first)
    same = shutil.copytree(folder, tmp_path / "same")
    (same / "recipe.json").write_text("{}")  # not part of the model
    assert fingerprint(same) == first
    others = [
        standins.tiny_clip(tmp_path / "weights", seed=1),
        edit(folder, tmp_path / "mean", lambda c: c["preprocess_cfg"].update(mean=[0.1] * 3)),
    ]
    tokenizer = shutil.copytree(folder, tmp_path / "tokenizer")
    text = (tokenizer / "tokenizer.json").read_text()
    (tokenizer / "tokenizer.json").write_text(text.replace('"red"', '"ruby"'))
    found = {first, *map(fingerprint, [*others, tokenizer])}
    assert len(found) == 4


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "near"), [("mini-clp", "mini-clip"), ("openai-vit-b32", "openai-vit-b-32")]
)
def test_unknown_name(name, near):
    with pytest.raises(ValueError, match=rf"no model '{name}'.*{near}"):
        registry.load(name)


def test_model_that_was_not_trained(tmp_path, monkeypatch):
    monkeypatch.setitem(registry.REGISTRY, "mini-clip", Spec(folder=tmp_path / "mini-clip"))
    with pytest.raises(NotAvailable, match=r"`./run_all.sh --retrain mini-clip`\.$"):
        registry.load("mini-clip")


def test_registered_folder(folder, monkeypatch):
    monkeypatch.setitem(registry.REGISTRY, "mini-clip", Spec(folder=folder))
    loaded = registry.load("mini-clip")
    assert loaded.name == "mini-clip"
    assert loaded.fingerprint == registry.load(f"local-dir:{folder}").fingerprint


def test_folder_without_weights(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "pickled")
    torch.save(load_file(other / WEIGHTS), other / PICKLE)
    (other / WEIGHTS).unlink()
    with pytest.raises(ValueError, match=f"must hold {CONFIG} and {WEIGHTS}"):
        registry.load(f"local-dir:{other}")


def test_preprocessing_must_be_said(folder, tmp_path):
    other = edit(folder, tmp_path / "silent", lambda config: config.pop("preprocess_cfg"))
    with pytest.raises(ValueError, match="preprocess_cfg with mean, std"):
        registry.load(f"local-dir:{other}")


def test_truncated_weights(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "cut")
    (other / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])
    with pytest.raises(ValueError, match="damaged or do not fit"):
        registry.load(f"local-dir:{other}")


def test_weights_of_another_width(folder, tmp_path):
    other = edit(folder, tmp_path / "wide", lambda c: c["model_cfg"].update(embed_dim=16))
    loaded = registry.load(f"local-dir:{other}")
    with pytest.raises(ValueError, match="do not fit each other") as caught:
        loaded.encode_text(TEXTS)
    assert "\n" not in str(caught.value)


def test_tokenizer_is_missing(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "mute")
    (other / "tokenizer.json").unlink()
    loaded = registry.load(f"local-dir:{other}")
    with pytest.raises(ValueError, match="tokenizer's files"):
        loaded.encode_text(TEXTS)


# --- the hub ------------------------------------------------------------------------------------

PUBLIC = {
    "openai-vit-b-32": "timm/vit_base_patch32_clip_224.openai",
    "openai-vit-l-14": "timm/vit_large_patch14_clip_224.openai",
    "openai-rn50": "timm/resnet50_clip.openai",
    "datacomp-vit-b-32": "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K",
    "datacomp-vit-l-14": "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K",
    "siglip-vit-b-16": "timm/ViT-B-16-SigLIP",
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_models_are_pinned(name):
    spec = registry.REGISTRY[name]
    assert spec.repo == PUBLIC[name]
    assert re.fullmatch("[0-9a-f]{40}", spec.revision)
    built_in = open_clip.get_model_config(spec.arch)
    assert built_in.get("quick_gelu", False) == spec.quick_gelu == name.startswith("openai")


@pytest.mark.parametrize(
    ("name", "make", "options"),
    [
        ("openai-vit-b-32", standins.tiny_openai, {"quick_gelu": True}),
        ("datacomp-vit-b-32", standins.tiny_openai, {}),
        ("siglip-vit-b-16", standins.tiny_siglip, {}),
    ],
)
def test_public_model_from_an_offline_cache(hub_cache, name, make, options):
    spec = registry.REGISTRY[name]
    snapshot = make(standins.put_in_hub(hub_cache, spec.repo, spec.revision), **options)
    loaded = registry.load(name)
    assert loaded.encode_text(TEXTS).shape == (3, 8)
    assert loaded.encode_image([standins.picture(0)]).shape == (1, 8)
    assert loaded.fingerprint == registry.load(f"local-dir:{snapshot}").fingerprint


def test_siglip_tokens(tmp_path):
    """Lower case, no punctuation, then the end token up to the end: what the model was taught."""
    loaded = registry.load(f"local-dir:{standins.tiny_siglip(tmp_path / 'siglip')}")
    tokens = loaded.tokenizer(["A red, circle."])[0].tolist()
    assert tokens == [4, 5, 8] + [1] * (standins.CONTEXT - 3)


@pytest.mark.parametrize(
    ("name", "options"), [("openai-vit-b-32", {}), ("datacomp-vit-b-32", {"quick_gelu": True})]
)
def test_wrong_activation_is_refused(hub_cache, name, options):
    spec = registry.REGISTRY[name]
    standins.tiny_openai(standins.put_in_hub(hub_cache, spec.repo, spec.revision), **options)
    with pytest.raises(ValueError, match="quick_gelu"):
        registry.load(name)


@pytest.mark.parametrize("name", profiles.available())
def test_profiles_name_models_that_exist(name):
    p = profiles.load(name)
    assert {*p.models.values(), *p.also} <= set(registry.REGISTRY)


def test_environment_variables_alone_are_enough(tmp_path):
    """In a fresh process: HF_HOME names the cache, HF_HUB_OFFLINE=1 keeps the network out."""
    source = LABELLED["cars"]
    snapshot = standins.put_in_hub(tmp_path / "hub", source.repo, source.revision, "dataset")
    standins.write_parquet(snapshot / "data" / "test-0.parquet", 3, "image", "label", ["a", "b"])
    spec = registry.REGISTRY["datacomp-vit-b-32"]
    standins.tiny_openai(standins.put_in_hub(tmp_path / "hub", spec.repo, spec.revision))
    code = """
from lib import data, embed, models
model = models.load("datacomp-vit-b-32")
print(tuple(embed.embed_images(model, data.load_labelled("cars")).shape))
"""
    own = {"HF_HOME": tmp_path, "HF_HUB_OFFLINE": 1, "MODALITY_GAP_CACHE": tmp_path / "cache"}
    env = os.environ | {key: str(value) for key, value in own.items()}
    env.pop("HF_HUB_CACHE", None)
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, env=env, cwd=paths.ROOT, text=True, capture_output=True)
    assert done.stdout == "(3, 8)\n", done.stderr


def test_own_model_by_commit(hub_cache):
    standins.tiny_clip(standins.put_in_hub(hub_cache, "me/mine", "a" * 40))
    assert registry.load(f"hf-hub:me/mine@{'a' * 40}").encode_text(TEXTS).shape == (3, 8)
    with pytest.raises(NotAvailable, match="me/mine is not in the local cache"):
        registry.load(f"hf-hub:me/mine@{'b' * 40}")
    with pytest.raises(ValueError, match="40 hexadecimal digits"):
        registry.load("hf-hub:me/mine@main")


def test_first_use_fixes_the_commit(hub_cache):
    first = standins.tiny_clip(standins.put_in_hub(hub_cache, "me/mine", "a" * 40))
    registry.load("hf-hub:me/mine")
    note = paths.CACHE / "revisions" / "model--me--mine.json"
    assert json.loads(note.read_text()) == {"repo": "me/mine", "revision": "a" * 40}
    newer = first.parent / ("b" * 40)
    standins.tiny_clip(newer, seed=1)
    (first.parents[1] / "refs" / "main").write_text("b" * 40)
    pinned = registry.load(f"local-dir:{first}").fingerprint
    assert registry.load("hf-hub:me/mine").fingerprint == pinned


def test_offline_without_the_files(hub_cache):
    with pytest.raises(NotAvailable, match="HF_HUB_OFFLINE forbids"):
        registry.load("openai-vit-b-32")


def test_repository_without_safetensors(hub_cache):
    spec = registry.REGISTRY["openai-rn50"]
    snapshot = standins.tiny_openai(standins.put_in_hub(hub_cache, spec.repo, spec.revision))
    (snapshot / WEIGHTS).rename(snapshot / PICKLE)
    with pytest.raises(NotAvailable):
        registry.load("openai-rn50")


def test_no_network_is_said_at_once(hub_cache, monkeypatch):
    class ConnectError(Exception):
        pass

    def unreachable(*args, **kwargs):
        raise ConnectError("Name or service not known\nand more")

    monkeypatch.setattr(download.HfApi, "repo_info", unreachable)
    with pytest.raises(NotAvailable, match=r"there is no network to download it\.$"):
        download.fetch("me/mine", "a" * 40, ["file"])


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(28, "No space left on device"), "disk is too full for me/mine"),
        (OSError("Not enough disk space. Needed: 3 GB"), "disk is too full for me/mine"),
        (RuntimeError("first\nsecond"), r"could not be had \(RuntimeError: first\)\.$"),
        (RuntimeError(), r"could not be had \(RuntimeError: \)\.$"),
    ],
)
def test_sentences(error, text):
    assert re.search(text, download.sentence(error, "me/mine"))


def test_weights_published_as_a_pickle(hub_cache, monkeypatch):
    """Not loaded as they are; `convert` checks the SHA-256 and rewrites them once."""
    name = "datacomp-vit-l-14"
    spec = registry.REGISTRY[name]
    snapshot = standins.tiny_openai(standins.put_in_hub(hub_cache, spec.repo, spec.revision))
    tensors = load_file(snapshot / WEIGHTS)
    (snapshot / WEIGHTS).unlink()
    torch.save(tensors, snapshot / PICKLE)
    with pytest.raises(NotAvailable, match=f"python -m lib.encoders.registry --convert {name}"):
        registry.load(name)
    with pytest.raises(NotAvailable, match="SHA-256 differs"):
        registry.convert(name)
    digest = registry._sha256(snapshot / PICKLE)
    known = Spec(arch=spec.arch, tag=spec.tag, revision=spec.revision, pickle_sha256=digest)
    monkeypatch.setitem(registry.REGISTRY, name, known)
    registry.convert(name)
    state = registry.load(name).clip.state_dict()
    assert all(torch.equal(state[key], value.float()) for key, value in tensors.items())


def test_only_pickled_models_are_converted():
    with pytest.raises(ValueError, match=r"no model to convert 'openai-rn50'.*datacomp-vit-l-14"):
        registry.convert("openai-rn50")


def test_untrained_twin(monkeypatch):
    """Random weights of the same architecture, the same at every load."""
    vision = standins.VISION
    text = standins.TOWER | {"context_length": 16, "vocab_size": 49408}
    config = {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", config)
    monkeypatch.setitem(registry.REGISTRY, "twin", Spec(arch="tiny", trained=False))
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one = registry.load("twin")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(8)
    two = registry.load("twin")
    assert one.fingerprint == two.fingerprint
    torch.testing.assert_close(one.encode_text(TEXTS), two.encode_text(TEXTS), rtol=0, atol=0)
    assert not one.clip.training


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
    monkeypatch.setattr(registry, "ALIKE", 2)
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

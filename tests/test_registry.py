"""Models are loaded from stand-ins in the formats of the real ones."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import open_clip
import pytest
import standins
import torch
from huggingface_hub import constants
from safetensors.torch import load_file

from lib import files, paths, profiles
from lib.data.sources import LABELLED
from lib.encoders import convert, download, registry
from lib.encoders.registry import CONFIG, PICKLE, WEIGHTS, NotAvailable, Spec

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


def edit(folder, target, change):
    """A copy of a model folder whose configuration was changed in place by `change`."""
    shutil.copytree(folder, target)
    config = json.loads((target / CONFIG).read_text())
    change(config)
    (target / CONFIG).write_text(json.dumps(config))
    return target


def test_random_twin_has_the_architecture_and_drawn_weights(folder):
    name = f"local-dir:{folder}"
    first, again, other = (registry.random_twin(name, seed) for seed in (0, 0, 1))
    trained = registry.load(name).clip.state_dict()
    drawn = first.state_dict()
    assert {k: v.shape for k, v in drawn.items()} == {k: v.shape for k, v in trained.items()}
    key = "visual.conv1.weight"
    assert torch.equal(drawn[key], again.state_dict()[key])
    assert not torch.equal(drawn[key], other.state_dict()[key])
    assert not torch.equal(drawn[key], trained[key])


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
    assert "(text_projection is (32, 8) in one and (32, 16) in the other)." in str(caught.value)


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
    "openai-vit-b-16": "timm/vit_base_patch16_clip_224.openai",
    "laion2b-vit-b-32": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
    "siglip2-vit-b-16": "timm/ViT-B-16-SigLIP2",
    "mobileclip2-s0": "timm/MobileCLIP2-S0-OpenCLIP",
}
FIRST_USE = {
    "metaclip-vit-b-32": "timm/vit_base_patch32_clip_224.metaclip_400m",
    "coca-vit-b-32": "laion/mscoco_finetuned_CoCa-ViT-B-32-laion2B-s13B-b90k",
    "commonpool-m-vit-b-32": "laion/CLIP-ViT-B-32-CommonPool.M-s128M-b4K",
    "commonpool-m-clip-vit-b-32": "laion/CLIP-ViT-B-32-CommonPool.M.clip-s128M-b4K",
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_models_are_pinned(name):
    spec = registry.REGISTRY[name]
    assert spec.repo == PUBLIC[name]
    assert re.fullmatch("[0-9a-f]{40}", spec.revision)
    built_in = open_clip.get_model_config(spec.arch)
    assert built_in.get("quick_gelu", False) == spec.quick_gelu == name.startswith("openai")


@pytest.mark.parametrize("name", FIRST_USE)
def test_first_use_fixes_the_commit(name, hub_cache, tmp_path, monkeypatch, caplog):
    spec = registry.REGISTRY[name]
    built_in = open_clip.get_model_config(spec.arch)
    quick = built_in.get("quick_gelu", False)
    assert spec.quick_gelu == quick == name.startswith("metaclip")
    assert (spec.repo, registry.revision(name)) == (FIRST_USE[name], "")
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    with pytest.raises(NotAvailable, match="HF_HUB_OFFLINE forbids"):
        registry.load(name)
    assert not (tmp_path / "cache" / "revisions.json").exists()
    commits = iter([SimpleNamespace(sha="c" * 40)])  # the hub is asked once
    with monkeypatch.context() as patched:
        patched.setattr(download.HfApi, "repo_info", lambda *_, **__: next(commits))
        standins.tiny_openai(standins.put_in_hub(hub_cache, spec.repo, "c" * 40), quick_gelu=quick)
        loaded = registry.load(name)
    assert f"{spec.repo} is used at its present commit, {'c' * 40}" in caplog.text
    assert registry.load(name).fingerprint == loaded.fingerprint
    assert registry.revision(name) == "c" * 40
    assert json.loads((tmp_path / "cache" / "revisions.json").read_text()) == {spec.repo: "c" * 40}


def test_the_architectures_of_published_models_are_what_the_registry_counts():
    """Of the larger ones, here by their configurations alone."""
    for name in ("openai-vit-b-16", "siglip2-vit-b-16", "mobileclip2-s0", "coca-vit-b-32"):
        spec = registry.REGISTRY[name]
        made = open_clip.create_model(spec.arch, device="meta")
        assert spec.parameters == sum(each.numel() for each in made.parameters()), name


@pytest.mark.parametrize(
    ("name", "make", "options"),
    [
        ("openai-vit-b-32", standins.tiny_openai, {"quick_gelu": True}),
        ("datacomp-vit-b-32", standins.tiny_openai, {}),
        ("siglip-vit-b-16", standins.tiny_siglip, {}),
        ("siglip2-vit-b-16", standins.tiny_siglip, {}),
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


def test_siglip_without_lower_case_is_refused(hub_cache):
    spec = registry.REGISTRY["siglip2-vit-b-16"]
    snapshot = standins.tiny_siglip(standins.put_in_hub(hub_cache, spec.repo, spec.revision))
    tokens = registry.load("siglip2-vit-b-16").tokenizer(["A RED, circle.", "a red circle"])
    assert torch.equal(tokens[0], tokens[1])
    config = json.loads((snapshot / CONFIG).read_text())
    del config["model_cfg"]["text_cfg"]["tokenizer_kwargs"]
    (snapshot / CONFIG).write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"cleaned by None, but .* trained with canonicalize"):
        registry.load("siglip2-vit-b-16")


@pytest.mark.parametrize("name", ["sharedclip-vit-b-16", "alignclip-vit-b-16"])
def test_aligned_models_are_converted_by_hand(name, folder, tmp_path, monkeypatch):
    spec = registry.REGISTRY[name]
    assert spec.folder.parts[-2:] == ("converted", name)
    monkeypatch.setitem(registry.REGISTRY, name, replace(spec, folder=tmp_path / "not there"))
    with pytest.raises(NotAvailable, match=rf"sarahESL/AlignCLIP .* FILE --as {name}`\.$"):
        registry.load(name)
    monkeypatch.setitem(registry.REGISTRY, name, replace(spec, folder=folder))
    assert registry.load(name).encode_text(TEXTS).shape == (3, 8)


def test_a_moved_trunk_is_one_sentence(tmp_path):
    made = standins.tiny_siglip(tmp_path / "model")
    config = json.loads((made / CONFIG).read_text())
    gone = f"local-dir:{tmp_path / 'gone'}"
    config["model_cfg"]["vision_cfg"]["timm_model_name"] = gone
    (made / CONFIG).write_text(json.dumps(config))
    with pytest.raises(ValueError, match="damaged or do not fit") as caught:
        registry.load(f"local-dir:{made}").encode_image([standins.picture(0)])
    assert "\n" not in str(caught.value)


def test_roles_that_are_here(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(registry.REGISTRY, "mini-clip", Spec(folder=folder))
    monkeypatch.setitem(registry.REGISTRY, "gone", Spec(folder=tmp_path / "gone", how="get it"))
    given = {"clip": "mini-clip", "shared": "gone", "align_seed1": "mini-clip"}
    p = profiles.load("mini").model_copy(update={"models": given})
    labels = {"clip": "CLIP", "shared": "SharedCLIP", "align": "AlignCLIP"}
    found, missing = registry.roles(p, labels)
    assert found == {"clip": ["mini-clip"]}
    start = "Profile mini has no AlignCLIP. Without gone: The model gone is not here: get it."
    assert missing == start
    assert registry.roles(p, {"clip": "CLIP"}) == ({"clip": ["mini-clip"]}, "")


@pytest.mark.parametrize("name", ["mini", "clip"])
def test_profiles_name_models_that_exist(name):
    p = profiles.load(name)
    assert {*p.models.values(), *p.also, *p.survey} <= set(registry.REGISTRY)


def test_environment_variables_alone_are_enough(tmp_path):
    """In a fresh process: HF_HOME names the cache, HF_HUB_OFFLINE=1 keeps the network out."""
    source = LABELLED["cars"]
    snapshot = standins.put_in_hub(tmp_path / "hub", source.repo, source.revision, "dataset")
    standins.write_parquet(snapshot / "data" / "test-0.parquet", 3, "image", "label", ["a", "b"])
    spec = registry.REGISTRY["datacomp-vit-b-32"]
    standins.tiny_openai(standins.put_in_hub(tmp_path / "hub", spec.repo, spec.revision))
    code = """
from lib.data import labelled
from lib.encoders import embeddings, registry
model = registry.load("datacomp-vit-b-32")
print(tuple(embeddings.embed_images(model, labelled.load_labelled("cars")).shape))
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
    for loose in ("hf-hub:me/mine", "hf-hub:me/mine@main", f"hf-hub:me/mine@{'a' * 12}"):
        with pytest.raises(ValueError, match="name the commit, me/mine@ and 40 hexadecimal digits"):
            registry.load(loose)


def test_offline_without_the_files(hub_cache):
    with pytest.raises(NotAvailable, match="HF_HUB_OFFLINE forbids"):
        registry.load("openai-vit-b-32")


def test_repository_without_safetensors(hub_cache):
    spec = registry.REGISTRY["openai-rn50"]
    snapshot = standins.tiny_openai(standins.put_in_hub(hub_cache, spec.repo, spec.revision))
    (snapshot / WEIGHTS).rename(snapshot / PICKLE)
    with pytest.raises(NotAvailable):
        registry.load("openai-rn50")


def test_a_pickle_is_rewritten_by_hand(hub_cache, tmp_path, monkeypatch):
    """The sentence of a repository without safetensors is the command that makes them."""
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(download, "_ask", lambda *_: None)
    monkeypatch.setattr(
        download, "_download", lambda *_: (_ for _ in ()).throw(download.Incomplete("x has no y."))
    )
    spec = registry.REGISTRY["laion2b-vit-b-32"]
    snapshot = standins.tiny_openai(standins.put_in_hub(hub_cache, spec.repo, spec.revision))
    tensors = load_file(snapshot / WEIGHTS)
    (snapshot / WEIGHTS).unlink()
    torch.save(tensors, snapshot / PICKLE)
    source = f"hf-hub:{spec.repo}@{spec.revision}"
    command = f"--convert pickle {source} --as laion2b-vit-b-32"
    with pytest.raises(NotAvailable, match=f"x has no y: if it has {PICKLE}, .*{command}"):
        registry.load("laion2b-vit-b-32")
    digest = files.sha256_of(snapshot / PICKLE)
    convert.main(["pickle", source, "--as", "laion2b-vit-b-32", "--sha256", digest])
    state = registry.load("laion2b-vit-b-32").clip.state_dict()
    assert all(torch.equal(state[key], value.float()) for key, value in tensors.items())


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
        (RuntimeError("first\nsecond"), r"is not available \(RuntimeError: first\)\.$"),
        (RuntimeError(), r"is not available \(RuntimeError: \)\.$"),
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
    digest = files.sha256_of(snapshot / PICKLE)
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

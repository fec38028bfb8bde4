"""A model of the user's own: refused in one sentence, or with a profile and its notebooks."""

import json
import shutil

import pytest
import standins
import torch
import yaml
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from docs import report, site
from lib import files, paths, profiles, progress
from lib.encoders import own as checks
from lib.encoders import registry
from lib.encoders.registry import CONFIG, WEIGHTS
from workflow import catalogue, cli, freshness, notebooks, own, plan, speed
from workflow import progress as steps

ITEM = "mind_the_gap/fig1_modality_gap"
SPEED = {"image": [0.6, 1e6], "text": [0.012, 1e5], "oti": [0.001, 1e6], "ovi": [0.2, 2e7]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return standins.tiny_clip(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Folders of its own for cache and figures; nothing is measured."""
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(paths, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(speed, "measure_model", lambda model: SPEED)
    return tmp_path


def everything() -> list[str]:
    return [name for name, item in catalogue.load().items() if item.written]


def prepare(source, name="mine", base="mini", items=None, jobs=2) -> list[str]:
    return own.prepare(source, name, base, items or everything(), jobs)


# --- what is refused ----------------------------------------------------------------------------


def configured(change):
    def altered(folder):
        config = json.loads((folder / CONFIG).read_text())
        change(config)
        (folder / CONFIG).write_text(json.dumps(config))

    return altered


def weighted(change):
    def altered(folder):
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS)

    return altered


def without(file):
    return lambda folder: (folder / file).unlink()


def cut(folder):
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])


def transformers_says(activation):
    said = json.dumps({"vision_config": {"hidden_act": activation}})
    return lambda folder: (folder / "config.json").write_text(said)


def of_another_vocabulary(folder):
    """A tokenizer that knows more words than the text encoder."""
    config = json.loads((folder / CONFIG).read_text())
    config["model_cfg"]["text_cfg"]["vocab_size"] = 3
    (folder / CONFIG).write_text(json.dumps(config))
    tensors = load_file(folder / WEIGHTS)
    tensors["token_embedding.weight"] = tensors["token_embedding.weight"][:3].clone()
    save_file(tensors, folder / WEIGHTS)


def deaf(folder):
    """A tokenizer to which all words are one."""
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    vocabulary = content["model"]["vocab"]
    kept = {word: number for word, number in vocabulary.items() if not word.isalpha()}
    content["model"]["vocab"] = kept
    file.write_text(json.dumps(content))


BAD = {
    "no configuration": (without(CONFIG), f"must hold {CONFIG} and {WEIGHTS}"),
    "no weights": (without(WEIGHTS), f"must hold {CONFIG} and {WEIGHTS}"),
    "no JSON": (lambda f: (f / CONFIG).write_text("{"), "is not valid JSON"),
    "no preprocessing": (configured(lambda c: c.pop("preprocess_cfg")), "preprocess_cfg with mean"),
    "cut weights": (cut, "damaged or do not fit"),
    "another width": (
        configured(lambda c: c["model_cfg"].update(embed_dim=16)), "damaged or do not fit"),
    "no tokenizer": (without("tokenizer.json"), "has no tokenizer: put the model's own"),
    "a tokenizer of others": (of_another_vocabulary, "its text encoder knows 3 tokens"),
    "quick, not slow": (transformers_says("quick_gelu"), "quick_gelu = False, but config.json"),
    "NaN": (weighted(lambda t: t["visual.proj"].fill_(torch.nan)), "no finite embedding of image"),
    "one embedding": (
        weighted(lambda t: t["visual.conv1.weight"].zero_()), "same embedding to different images"),
}  # fmt: skip


@pytest.mark.parametrize("change, said", BAD.values(), ids=BAD)
def test_a_model_of_no_use_is_refused_in_one_sentence(folder, places, change, said):
    bad = shutil.copytree(folder, places / "bad", ignore=shutil.ignore_patterns("config.json"))
    change(bad)
    with pytest.raises(ValueError, match=said) as caught:
        prepare(f"local-dir:{bad}")
    assert "\n" not in str(caught.value)
    assert not profiles.own("mine").exists()


def test_what_transformers_says_of_the_same_activation_is_no_objection(folder, places):
    good = shutil.copytree(folder, places / "good")
    transformers_says("gelu")(good)
    assert prepare(f"local-dir:{good}")


def test_activation_of_a_repository_that_open_clip_lists(places, monkeypatch):
    repo = "timm/vit_base_patch32_clip_224.openai"
    assert registry.listed(repo).quick_gelu
    assert registry.listed("nobody/nothing") is None
    monkeypatch.setattr(registry, "folder", lambda name: standins.tiny_clip(places / "hub"))
    with pytest.raises(ValueError, match="trained with quick_gelu = True"):
        checks.checked(f"hf-hub:{repo}@{'a' * 40}")


@pytest.mark.parametrize(
    "source, said",
    [
        ("openai-vit-b-23", "the nearest are openai-vit-b-32,"),
        ("hf-hub:some/name", "name the commit"),
        ("hf-hub:some/name@" + "a" * 40, "not in the local cache"),
        ("local-dir:/not/there", f"must hold {CONFIG}"),
        ("blip-itm-coco", "not a trained CLIP"),
        ("openai-vit-b-32-untrained", "not a trained CLIP"),
    ],
)
def test_a_model_that_is_none(places, source, said):
    with pytest.raises(ValueError, match=said):
        prepare(source)


@pytest.mark.parametrize(
    "name, said",
    [
        ("clip", "name of a profile"),
        ("mini-clip", "name of a model"),
        ("../x", "name of a folder"),
    ],
)
def test_a_name_that_something_else_has(folder, places, name, said):
    with pytest.raises(ValueError, match=said):
        prepare(f"local-dir:{folder}", name)


def test_a_folder_without_its_prefix(folder, capsys):
    assert cli.main(["--model", str(folder)]) == 1
    assert f"call it local-dir:{folder}" in capsys.readouterr().err


@pytest.mark.parametrize("other", [["--test"], ["--embeddings", "a", "b"], ["--list"]])
def test_options_that_do_not_go_with_it(capsys, other):
    assert cli.main(["--model", "mini-clip", *other]) == cli.USAGE
    assert "--model goes with no other" in capsys.readouterr().err


def test_items_that_need_more_than_one_model(folder, places):
    with pytest.raises(ValueError, match="compares trained models"):
        prepare(f"local-dir:{folder}", items=["i0t/table8_mcsie"])


# --- what it gets -------------------------------------------------------------------------------


def test_its_profile(folder, places):
    prepare(f"local-dir:{folder}")
    which, base = profiles.load("mine"), profiles.load("mini")
    assert which.models == {"clip": "mine", "untrained": "mine-untrained"}
    assert which.also == ("mini-clip",)
    assert (which.pairs, which.labelled, which.n_pairs) == (base.pairs, base.labelled, base.n_pairs)
    assert "mine" in profiles.available()
    assert registry.load("mine").fingerprint == which.fingerprint
    assert freshness.models_of(which, ITEM) == []


def test_its_random_twin(folder, places):
    prepare(f"local-dir:{folder}")
    model, twin = registry.load("mine"), registry.load("mine-untrained")
    assert twin.parameters == model.parameters
    assert twin.fingerprint != model.fingerprint
    assert torch.equal(twin.tokenizer(["a red circle"]), model.tokenizer(["a red circle"]))
    image = [standins.picture(0)]
    assert not torch.allclose(twin.encode_image(image), model.encode_image(image))
    assert registry.load("mine-untrained").fingerprint == twin.fingerprint


def test_a_model_of_the_registry_keeps_its_name(places):
    prepare("mini-clip-d64")
    which = profiles.load("mine")
    assert which.models == {"clip": "mini-clip-d64"}
    assert not which.own


def test_only_what_one_model_suffices_for(folder, places):
    chosen = prepare(f"local-dir:{folder}")
    assert {ITEM, "00_start_here", "cross_the_gap/table1_image_retrieval"} <= {*chosen}
    assert not {"i0t/table8_mcsie", "alignclip/table1_alignment",
        "mind_the_gap/fig8_temperature", "beyond/real_clip_labels"} & {*chosen}  # fmt: skip
    assert prepare(f"local-dir:{folder}", items=[ITEM, "i0t/table8_mcsie"]) == [ITEM]


def test_how_long_it_takes_is_said_before(folder, places, capsys):
    prepare(f"local-dir:{folder}", items=[ITEM])
    # 1,000 images of 0.6 s, 5,000 texts of 0.012 s, and REST, over two jobs
    said = "1 notebooks to run, about 6 minutes with --jobs 2: encoding 11"
    assert said in capsys.readouterr().out


def test_other_weights_are_another_model(folder, places):
    mine = shutil.copytree(folder, places / "model")
    prepare(f"local-dir:{mine}")
    before = freshness.digest(profiles.load("mine"), ITEM)
    made, card = paths.FIGURES / "mine" / f"{ITEM}.png", paths.FIGURES / "mine" / "gap_card.html"
    files.write_text(made, "a figure")
    files.write_text(card, "of embeddings")
    prepare(f"local-dir:{mine}")
    assert freshness.digest(profiles.load("mine"), ITEM) == before
    assert made.exists()
    weighted(lambda tensors: tensors["visual.proj"].mul_(2))(mine)
    prepare(f"local-dir:{mine}")
    assert freshness.digest(profiles.load("mine"), ITEM) != before
    assert card.exists() and not made.exists()


def test_another_model_does_not_take_the_figures_of_the_first(folder, places):
    prepare(f"local-dir:{folder}")
    files.write_text(paths.FIGURES / "mine" / f"{ITEM}.png", "a figure")
    with pytest.raises(ValueError, match=r"figures/mine holds those of local-dir.*--as"):
        prepare("mini-clip-d64")
    assert profiles.load("mine").source == f"local-dir:{folder}"


def test_its_plan_needs_no_download(folder, places, capsys):
    prepare(f"local-dir:{folder}", items=[ITEM])
    assert plan.model("mine").here and plan.model("mine-untrained").here
    assert speed.speeds({"mine", "mine-untrained"}) == {"mine": SPEED, "mine-untrained": SPEED}


def test_its_page_says_whose_it_is(folder, places):
    prepare(f"local-dir:{folder}")
    report.write("mine")
    page = (paths.FIGURES / "mine" / "index.html").read_text()
    assert f"Figures of mine (local-dir:{folder}) on the data set world, beside mini-clip" in page
    assert "Not run, or about further trained models" in page
    assert "for mine (local-dir:" in (paths.FIGURES / "mine" / "RESULTS.md").read_text()


def test_its_page_is_not_the_site(folder, places):
    prepare(f"local-dir:{folder}")
    with pytest.raises(ValueError, match="has its page in figures/mine/index"):
        site.build("mine", places / "site")
    assert not (places / "site").exists()


def test_a_profile_of_the_cache_is_read_like_a_shipped_one(places):
    files.write_text(profiles.own("mine"), yaml.safe_dump({"evidence": "mini"}))
    with pytest.raises(ValueError, match=r"profiles/mine\.yaml: the key 'models' is missing"):
        profiles.load("mine")


# --- how far it is ------------------------------------------------------------------------------


def test_a_file_says_how_far_a_notebook_is(places, monkeypatch):
    stamp = places / "done" / "mini" / "some.item"
    file = notebooks.now_file(stamp)
    files.write_text(file, "")
    monkeypatch.setenv(paths.PROGRESS, str(file))
    monkeypatch.setenv("TQDM_DISABLE", "1")
    shown = steps.Steps({"some": stamp}, 1)
    with progress.bar(total=1000, unit="image") as bar:
        assert not isinstance(bar, progress.widget) and isinstance(bar, tqdm)
        assert shown._far("some") == ""
        bar.start_t = bar.last_print_t = bar.start_t - 3  # as if three seconds had gone by
        bar.update(320)
        assert shown._far("some") == " (image 320 of 1,000)"
    assert shown._far("some") == ""
    assert shown._far("training mini-clip") == ""

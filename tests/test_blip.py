"""BLIP's embeddings are those of transformers, and it is no CLIP for other methods."""

import shutil

import pytest
import standins
import torch
import transformers
from safetensors.torch import load_file
from torch.nn import functional
from transformers import AutoTokenizer, BlipConfig, BlipForImageTextRetrieval, BlipImageProcessor

from lib import files, paths
from lib.encoders import blip, registry
from lib.encoders.download import NotAvailable
from lib.methods import captioning, inversion

TEXTS = ["a red circle .", "the blue star on the green square .", "red"]
PICTURES = [standins.picture(i, size=40) for i in range(3)]
NAME = "blip-itm-coco"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder as transformers saves it, and its model: small, with drawn weights."""
    folder = tmp_path_factory.mktemp("blip")
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    tower |= {"num_attention_heads": 2}
    text = tower | {"vocab_size": standins.word_tokenizer(folder), "encoder_hidden_size": 32}
    text |= {"max_position_embeddings": 64, "pad_token_id": 0, "sep_token_id": 14}
    vision = tower | {"image_size": 24, "patch_size": 12}
    config = BlipConfig(text_config=text, vision_config=vision, image_text_hidden_size=16)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BlipForImageTextRetrieval(config).eval()
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape)
    model.save_pretrained(folder)
    BlipImageProcessor(size={"height": 24, "width": 24}).save_pretrained(folder)
    return folder, model


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    transformers.logging.disable_progress_bar()


@pytest.fixture
def model(made):
    target = registry.converted(NAME)
    shutil.copytree(made[0], target)
    return registry.load(NAME, "cpu")


def test_embeddings_are_those_of_transformers(made, model):
    folder, theirs = made
    pixels = model.pixels(PICTURES)
    words = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    words = {key: words[key] for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        cosines = theirs(pixel_values=pixels, use_itm_head=False, **words).itm_score
        seen = theirs.vision_model(pixel_values=pixels).last_hidden_state[:, 0]
        read = theirs.text_encoder(**words).last_hidden_state[:, 0]
        image, text = theirs.vision_proj(seen), theirs.text_proj(read)
    ours = model.encode_image(PICTURES), model.encode_text(TEXTS)
    close = {"rtol": 0, "atol": 1e-6}
    torch.testing.assert_close(ours[0], functional.normalize(image, dim=-1), **close)
    torch.testing.assert_close(ours[1], functional.normalize(text, dim=-1), **close)
    torch.testing.assert_close(ours[0] @ ours[1].T, cosines, **close)
    assert cosines.std() > 1e-3


def test_pictures_are_prepared_as_by_its_processor(made, model):
    theirs = BlipImageProcessor.from_pretrained(made[0])(PICTURES, return_tensors="pt")
    level = 1.01 / 255 / 0.26  # where two ways to resize round differently
    torch.testing.assert_close(model.pixels(PICTURES), theirs["pixel_values"], rtol=0, atol=level)


def test_long_texts_are_cut_and_keep_their_end(model):
    tokens = model.tokenizer(["red " * 50, "red"])
    assert tokens.shape == (2, blip.CONTEXT)
    assert tokens[0, -1] == tokens[1, 2] == 14
    assert model.parameters > 20_000 and len(model.fingerprint) == 64


def test_methods_that_need_clips_parts_refuse_it(model):
    embeddings = torch.eye(16)[:2]
    with pytest.raises(ValueError, match="textual inversion needs a text encoder that is"):
        inversion.oti(model, embeddings, steps=[1])
    with pytest.raises(ValueError, match=r"needs an image encoder that is .*a BlipVisionModel"):
        inversion.ovi(model, embeddings, steps=[1])
    with pytest.raises(ValueError, match="captions need a CoCa"):
        next(captioning.greedy_captions(model, PICTURES))


def test_damaged_files_are_one_sentence(made, model, tmp_path):
    folder = registry.converted(NAME)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match=r"has no preprocessor_config\.json"):
        _ = registry.load(NAME).clip
    (folder / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(ValueError, match="is of type 'clip'"):
        _ = registry.load(NAME).clip
    (folder / blip.WEIGHTS).write_bytes(b"cut")
    with pytest.raises(ValueError, match="damaged") as caught:
        registry.load(NAME)
    assert "\n" not in str(caught.value)


def test_published_pickle_is_rewritten(made, tmp_path, monkeypatch):
    """Checked by its SHA-256; the same embeddings as from the safetensors."""
    folder, theirs = made
    monkeypatch.setattr(registry.download.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(registry.download.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(NotAvailable, match=f"registry --convert {NAME}` checks it"):
        registry.load(NAME)
    spec = registry.REGISTRY[NAME]
    snapshot = standins.put_in_hub(tmp_path / "hub", spec.repo, spec.revision)
    shutil.copytree(folder, snapshot, dirs_exist_ok=True)
    tensors = load_file(snapshot / blip.WEIGHTS) | {"extra.position_ids": torch.arange(3)[None]}
    (snapshot / blip.WEIGHTS).unlink()
    torch.save(tensors, snapshot / blip.PICKLE)
    with pytest.raises(NotAvailable, match="SHA-256 differs"):
        registry.convert(NAME)
    digest = files.sha256_of(snapshot / blip.PICKLE)
    known = registry.Spec(blip=spec.blip, revision=spec.revision, pickle_sha256=digest)
    monkeypatch.setitem(registry.REGISTRY, NAME, known)
    registry.convert(NAME)
    loaded = registry.load(NAME, "cpu")
    assert loaded.parameters == sum(each.numel() for each in theirs.parameters())
    shutil.rmtree(registry.converted(NAME))
    shutil.copytree(folder, registry.converted(NAME))
    again = registry.load(NAME, "cpu").encode_text(TEXTS)
    assert torch.equal(loaded.encode_text(TEXTS), again)

"""Greedy captions equal the plainest decoding: one image, one word at a time, nothing reused."""

import json

import open_clip
import pytest
import standins
import torch
from safetensors.torch import save_file

from lib.data.pairs import load_pairs
from lib.encoders import registry, towers
from lib.methods import captioning


@pytest.fixture(scope="module")
def coca():
    return registry.load("mini-coca")


def naive(model, image):
    clip, words = model.clip, model.tokenizer.tokenizer
    pixels, ids, chances = model.preprocess(image)[None], [words.bos_token_id], []
    while len(ids) < clip.context_length:
        with torch.no_grad():
            logits = clip(pixels, torch.tensor([ids]), output_labels=False)["logits"][0, -1]
        chance, best = logits.double().softmax(0).max(0)
        if best == words.eos_token_id:
            break
        ids.append(int(best))
        chances.append(float(chance))
    return words.decode(ids[1:]), chances


def test_greedy_captions(coca, monkeypatch):
    images = load_pairs("world", "test", 3)["image"][:]
    monkeypatch.setattr(towers, "BATCH_IMAGES", 2)
    found = list(captioning.greedy_captions(coca, images))
    assert len({text for text, _ in found}) > 1
    for image, (text, chances) in zip(images, found, strict=True):
        expected, their_chances = naive(coca, image)
        assert text == expected and len(text) > 0
        assert chances == pytest.approx(their_chances, abs=1e-5)


CONTEXT = 12


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A CoCa in the format of the published ones: open_clip's own tokenizer, padded with zeros."""
    folder = tmp_path_factory.mktemp("coca")
    text = standins.TOWER | {"context_length": CONTEXT, "vocab_size": 49408}
    vision = standins.VISION | {"attentional_pool": True, "attn_pooler_heads": 2}
    config = {
        "embed_dim": 32,
        "vision_cfg": vision | {"output_tokens": True},
        "text_cfg": text | {"embed_cls": True, "output_tokens": True},
        "multimodal_cfg": text | {"attn_pooler_heads": 2},
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = open_clip.CoCa(**config).state_dict()
        for key, value in state.items():
            if key.startswith("text_decoder") and value.ndim > 1:
                value.copy_(0.5 * torch.randn(value.shape))  # so that captions differ
    save_file(state, folder / registry.WEIGHTS)
    about = {"model_cfg": config | {"custom_text": True}}
    about["preprocess_cfg"] = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}
    (folder / registry.CONFIG).write_text(json.dumps(about))
    return registry.load(f"local-dir:{folder}")


def padded(model, image, end):
    """Tokens of a caption, each from a whole context that is padded as in training."""
    clip, pixels = model.clip, model.preprocess(image)[None]
    text = torch.zeros(1, CONTEXT, dtype=torch.long)
    text[0, 0] = model.tokenizer.sot_token_id
    for i in range(1, CONTEXT):
        with torch.no_grad():
            logits = clip(pixels, text, output_labels=False)["logits"][0, i - 1]
        if logits.argmax() == end:
            return text[0, 1:i]
        text[0, i] = logits.argmax()
    return text[0, 1:]


def test_captions_of_a_published_coca(published, monkeypatch):
    pictures = [standins.picture(seed) for seed in range(5)]
    assert published.tokenizer(["a red star"]).shape == (1, CONTEXT)
    end = int(padded(published, pictures[2], end=-1)[4])  # now captions end early, too
    monkeypatch.setattr(published.tokenizer, "eot_token_id", end)
    monkeypatch.setattr(towers, "BATCH_IMAGES", 2)
    found = list(captioning.greedy_captions(published, pictures))
    assert len({text for text, _ in found}) > 1
    lengths = set()
    for (text, chances), picture in zip(found, pictures, strict=True):
        tokens = padded(published, picture, end)
        assert text == " ".join(open_clip.decode(tokens).split())
        assert len(chances) == len(text.split())
        lengths.add(len(tokens))
    assert len(lengths) > 1 and max(lengths) == CONTEXT - 1


def test_a_word_of_several_tokens_has_their_product(published):
    ids = published.tokenizer.encode("a zyxwv .")
    assert len(ids) > 3
    chances = [0.5] * len(ids)
    text, each = captioning._spelled(published.tokenizer, ids, chances)
    assert text == "a zyxwv ."
    assert each == [0.5, 0.5 ** (len(ids) - 2), 0.5]


def test_other_models_write_no_captions(tmp_path):
    model = registry.load(f"local-dir:{standins.tiny_clip(tmp_path / 'model')}")
    with pytest.raises(ValueError, match="captions need a CoCa"):
        next(captioning.greedy_captions(model, [standins.picture(0)]))

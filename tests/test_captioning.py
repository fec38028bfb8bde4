"""Greedy captions equal the plainest decoding: one image, one word at a time, nothing reused."""

import pytest
import standins
import torch

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


def test_other_models_write_no_captions(tmp_path):
    model = registry.load(f"local-dir:{standins.tiny_clip(tmp_path / 'model')}")
    with pytest.raises(ValueError, match="captions need a CoCa"):
        next(captioning.greedy_captions(model, [standins.picture(0)]))

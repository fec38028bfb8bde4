import types

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features
from torch.nn.functional import normalize

from lib.data import tasks
from lib.encoders.download import NotAvailable
from lib.encoders.embeddings import Embeddings
from lib.measures import retrieval
from mini import world


def labelled(labels, where="here"):
    return Dataset.from_dict(
        {"label": labels, "image_id": [f"{where}-{i}" for i in range(len(labels))]}
    )


@pytest.fixture
def embeddings(monkeypatch):
    """Six images, whatever the data set."""
    found = normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    monkeypatch.setattr(tasks, "embed_images", lambda model, rows: found)
    return found


def test_sets_that_cannot_be_had_are_named(monkeypatch):
    def load(name, n, seed):
        if name == "far":
            raise NotAvailable("it is far away.")
        return name, n, seed

    monkeypatch.setattr(tasks, "load_test_images", load)
    rows, left_out = tasks.load_test_sets({"a": "near", "b": "far"}, 5, seed=2)
    assert rows == {"a": ("near", 5, 2)}
    assert left_out == "Without b: it is far away."


def test_sets_come_by_their_short_names(monkeypatch):
    def load(name, split, n):
        if name.startswith("far"):
            raise NotAvailable(f"{name} is not here.")
        return f"{n} of {name} {split}"

    monkeypatch.setattr(tasks, "load_labelled", load)
    names = {"a": "near", "b": "far", "c": "there", "d": "far away"}
    rows, left_out = tasks.load_sets(names, 5)
    assert rows == {"a": "5 of near test", "c": "5 of there test"}
    assert left_out == "Without b: far is not here. Without d: far away is not here."
    assert tasks.load_sets({"a": "near"}, split="train") == ({"a": "None of near train"}, "")


def test_zero_shot_asks_a_set_in_its_own_words(monkeypatch):
    """Each class and image has its own direction; the images' labels are mixed."""
    words = ["cat", "dog", "owl"]
    directions = torch.eye(3)

    def encode(texts):
        asked.extend(texts)
        return torch.stack([directions[words.index(text.split()[-1].strip("."))] for text in texts])

    asked: list[str] = []
    seen = [2, 0, 1, 1]
    monkeypatch.setattr(tasks, "text_encoder", lambda model: encode)
    monkeypatch.setattr(tasks, "embed_images", lambda model, rows: directions[seen])
    features = Features({"label": ClassLabel(names=words)})
    rows = Dataset.from_dict({"label": [2, 0, 1, 2]}, features)
    found = tasks.zero_shot("model", "pets", rows)
    assert asked == [f"a photo of a {word}." for word in words]
    assert found.prediction.tolist() == seen
    assert found.top1.tolist() == [1, 1, 1, 0]
    asked.clear()
    tasks.zero_shot("model", "pets", rows, "one {}")
    assert asked == [f"one {word}" for word in words]
    asked.clear()
    monkeypatch.setattr(world, "prompts", lambda key: ([f"{key} {w}" for w in words], ["the {}"]))
    tasks.zero_shot("model", "world-shape", rows)
    assert asked == [f"the shape {word}" for word in words]


def test_judgements_that_cannot_be_had_are_named(monkeypatch):
    def load(name, n):
        if name == "far":
            raise NotAvailable("it is far away.")
        return name, n

    monkeypatch.setattr(tasks, "load_judgements", load)
    judged, left_out = tasks.load_judged({"expert": "near", "cf": "far"}, 40)
    assert judged == {"expert": ("near", 40)}
    assert left_out == "Without cf: it is far away."


def test_image_retrieval_has_every_set_and_kind_and_their_mean(embeddings):
    rows = {"shape": labelled([0, 1, 0, 1, 1, 0]), "colour": labelled([2, 0, 0, 2, 2, 2])}
    rows["elsewhere"] = labelled([0, 0, 1, 1, 0, 1], "there")
    asked = []

    def ask(native):
        asked.append(native)
        return {"native": native, "other": -native}

    found = tasks.image_retrieval(None, rows, 2, ask)
    kinds = ("native", "other")
    assert set(found) == {(key, kind) for key in (*rows, "mean") for kind in kinds}
    assert len(asked) == 2  # once for the two label sets of the same images
    label = np.array(rows["colour"]["label"][:])
    expected = retrieval.precision_in_set(-embeddings[:2], embeddings[2:], label)
    assert found["colour", "other"] == pytest.approx(expected)
    each = np.mean([found[key, "native"] for key in rows], axis=0)
    assert found["mean", "native"] == pytest.approx(each)


def test_a_query_without_an_image_of_its_class_counts_0(embeddings):
    found = tasks.image_retrieval(
        None, {"shape": labelled([9, 1, 0, 1, 1, 0])}, 2, lambda native: {"native": native}
    )
    assert found["shape", "native"][0] == 0 < found["shape", "native"][1]


def test_native_and_oti_searches_the_queries(embeddings, monkeypatch):
    def oti(model, images, **asked):
        assert torch.equal(images, embeddings[:3])
        assert asked == {"steps": [0, 5], "batch": 200, "seed": 1}
        return types.SimpleNamespace(embeddings=images.flip(0))

    monkeypatch.setattr(tasks.inversion, "oti", oti)
    labels = [0, 1, 1, 0, 1, 0]
    found = tasks.native_and_oti(None, {"shape": labelled(labels)}, 3, [0, 5], seed=1)
    reference = tasks.image_retrieval(
        None, {"shape": labelled(labels)}, 3, lambda native: {"OTI": native.flip(0)}
    )
    assert found["shape", "OTI"] == pytest.approx(reference["shape", "OTI"])
    assert found["mean", "native"] == pytest.approx(found["shape", "native"])


def test_pairs_and_sets_have_one_number_per_image(monkeypatch):
    image, text = torch.eye(3), torch.eye(3)[[1, 0, 1, 1, 2, 2]]
    pairs = Embeddings(image, text, torch.tensor([0, 0, 1, 1, 2, 2]))
    monkeypatch.setattr(tasks, "embed", lambda model, rows: pairs)
    answers = types.SimpleNamespace(top1=np.array([1.0, 0.0]))
    monkeypatch.setattr(tasks, "zero_shot", lambda model, name, rows: answers)
    found = tasks.pairs_and_sets(None, None, {"shape": "world-shape"}, {"shape": None}, caption=1)
    expected = {
        "I2T": [100, 0, 100],  # of equal ones, the text that is listed first
        "T2I": [50, 100, 100],  # the first caption of the first image finds the second image
        "retrieval": [75, 50, 100],
        "shape": [100, 0],
        "own": [1, 1, 1],  # of the second captions
        "random": [0, 0, 0],
        "own - random": [1, 1, 1],
    }
    assert {key: items.tolist() for key, items in found.items()} == expected


def test_estimates_have_the_mean_over_sets_and_can_be_differences():
    rng = np.random.default_rng(0)
    new = {"a": rng.random(20), "b": rng.random(30), "retrieval": rng.random(20)}
    old = {what: np.full(len(items), 0.5) for what, items in new.items()}
    levels = tasks.estimates(new, [["a"], ["b"]], 100)
    assert list(levels) == ["classification", *new]
    assert levels["classification"].value == pytest.approx((new["a"].mean() + new["b"].mean()) / 2)
    for what, e in tasks.estimates(new, [["a"], ["b"]], 100, against=old).items():
        assert e.value == pytest.approx(levels[what].value - 0.5)
        assert e.low == pytest.approx(levels[what].low - 0.5)


def test_text_retrieval_leaves_the_query_out_and_finds_its_siblings():
    text = torch.eye(4)
    e = Embeddings(torch.eye(4)[:2], text, torch.tensor([0, 0, 1, 1]))
    near_second, near_fourth = (normalize(torch.ones(1, 4) + 9 * text[i : i + 1]) for i in (1, 3))
    found = tasks.text_retrieval(e, {"near": near_second, "far": near_fourth})
    assert found["near"] == pytest.approx([100])  # of captions 1 and 3, the first is image 0's
    assert found["far"] == pytest.approx([50])
    last = tasks.text_retrieval(e, {"near": text[:2]}, caption=1)
    assert last["near"] == pytest.approx([100, 50])  # the first captions; ties go to the first

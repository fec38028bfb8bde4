import numpy as np
import pytest
import standins
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, balanced_accuracy_score, top_k_accuracy_score

from lib import paths
from lib.encoders import registry
from lib.encoders.embeddings import text_encoder
from lib.measures import zeroshot

WORDS = {"cat": 0, "dog": 1, "owl": 2, "photo": 3, "drawing": 4, "of": 5, "a": 6}


class Bag:
    """Stands for a model: a text's embedding is the sum of its words' random vectors."""

    table = torch.randn(len(WORDS), 8, generator=torch.Generator().manual_seed(0))

    def encode_text(self, texts):
        rows = [sum(self.table[WORDS[word]] for word in text.split()) for text in texts]
        return F.normalize(torch.stack(rows), dim=-1)


CLASSES, TEMPLATES = ["cat", "dog", "owl"], ["a photo of a {}", "a drawing of a {}"]


def test_class_embeddings_average_normalised_prompts():
    found = zeroshot.class_embeddings(Bag().encode_text, CLASSES, TEMPLATES)
    for name, row in zip(CLASSES, found, strict=True):
        prompts = Bag().encode_text([f"a photo of a {name}", f"a drawing of a {name}"])
        np.testing.assert_allclose(row, F.normalize(prompts.mean(0), dim=0), atol=1e-6)
    assert found.dtype == torch.float32
    one = zeroshot.class_embeddings(Bag().encode_text, CLASSES, TEMPLATES[:1])
    np.testing.assert_allclose(
        one, Bag().encode_text([f"a photo of a {c}" for c in CLASSES]), atol=1e-6
    )


def test_prompts_of_a_model_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    name = f"local-dir:{standins.tiny_clip(tmp_path / 'model')}"
    classes, templates = ["red circle", "blue star"], ["a {}", "the {} on a green square"]
    first = registry.load(name)
    found = zeroshot.class_embeddings(text_encoder(first), classes, templates)
    prompts = [first.encode_text([t.format(c) for c in classes]) for t in templates]
    np.testing.assert_allclose(found, F.normalize(sum(prompts), dim=-1), atol=1e-6)
    again = registry.load(name)
    assert torch.equal(zeroshot.class_embeddings(text_encoder(again), classes, templates), found)
    assert "_parts" not in vars(again)  # nothing was built: all of it was on the disk


@pytest.mark.parametrize(
    ("classes", "templates", "sentence"),
    [
        ("cat", TEMPLATES, "classnames must be a list"),
        ([], TEMPLATES, "classnames must be a list"),
        (CLASSES, "a {}", "templates must be a list"),
        (CLASSES, [], "templates must be a list"),
        (CLASSES, ["a photo of a"], 'lacks "{}"'),
    ],
)
def test_bad_prompts(classes, templates, sentence):
    with pytest.raises(ValueError, match=sentence):
        zeroshot.class_embeddings(Bag().encode_text, classes, templates)


def cloud(n, d, seed):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def test_classification_against_sklearn():
    image, classes = cloud(200, 6, 0), cloud(9, 6, 1)
    label = np.random.default_rng(2).choice(
        9, 200, p=np.array([40, 20, 10, 10, 5, 5, 5, 4, 1]) / 100
    )
    label[:9] = np.arange(9)
    found = zeroshot.evaluate(torch.from_numpy(image), classes, torch.from_numpy(label))
    scores = image / np.linalg.norm(image, axis=1, keepdims=True)
    scores = scores @ (classes / np.linalg.norm(classes, axis=1, keepdims=True)).T
    np.testing.assert_array_equal(found.prediction, scores.argmax(1))
    np.testing.assert_array_equal(zeroshot.classify(image, classes), scores.argmax(1))
    assert found.top1.mean() == accuracy_score(label, found.prediction)
    expected = top_k_accuracy_score(label, scores, k=5, labels=np.arange(9))
    assert found.top5.mean() == expected
    balanced = found.balanced_top1.mean()
    assert balanced == pytest.approx(balanced_accuracy_score(label, found.prediction))
    assert balanced != pytest.approx(found.top1.mean(), abs=1e-3)


def test_balanced_accuracy_leaves_out_classes_that_do_not_occur():
    classes = np.eye(4, dtype=np.float32)
    found = zeroshot.evaluate(classes[[0, 0, 0, 2]], classes, np.array([0, 0, 1, 2]))
    assert found.balanced_top1.mean() == pytest.approx((1 + 0 + 1) / 3)
    assert found.rank.tolist() == [0, 0, 1, 0]


def test_ties_go_to_the_class_listed_first():
    classes = np.array([[1, 0], [0, 1], [1, 0]], np.float32)
    image = np.array([[1, 0], [1, 0], [1, 0]], np.float32)
    found = zeroshot.evaluate(image, classes, np.array([0, 1, 2]))
    assert found.prediction.tolist() == [0, 0, 0]
    assert found.rank.tolist() == [0, 2, 1]
    assert found.top1.tolist() == [1, 0, 0]
    np.testing.assert_array_equal(found.top1 == 1, found.prediction == found.label)


@pytest.mark.parametrize(
    ("image", "label", "sentence"),
    [
        (cloud(2, 3, 0), [0, 4], "label must number the 4 classes"),
        (cloud(2, 3, 0), [0, -1], "label must number the 4 classes"),
        (cloud(2, 3, 0), [0, 1, 2], "label must be 2 integers"),
        (cloud(2, 2, 0), [0, 1], "2 and 3 dimensions"),
        (cloud(2, 3, 0) * np.nan, [0, 1], "Row 0 of image is not finite"),
        (cloud(2, 3, 0) * 0, [0, 1], "Row 0 of image is a zero vector"),
    ],
)
def test_bad_input(image, label, sentence):
    with pytest.raises(ValueError, match=sentence):
        zeroshot.evaluate(image, cloud(4, 3, 1), np.array(label))

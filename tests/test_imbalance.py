"""The measures of Two Effects, One Trigger against loops over couples, and what they must say."""

import numpy as np
import pytest

from lib.measures import bootstrap, imbalance
from lib.validation import unit


def rows(n, d, seed):
    return unit(np.random.default_rng(seed).normal(size=(n, d)))


label = np.array([0, 1, 1, 2, 0, 2, 1, 0, 2, 0, 1, 2])
X, Y = rows(12, 4, 0) + 0.3, rows(12, 4, 1)


def couples(x, wanted):
    x = unit(x)
    some = [(i, j) for i in range(len(x)) for j in range(len(x)) if i != j and wanted(i, j)]
    return np.mean([x[i] @ x[j] for i, j in some])


def test_the_relative_gap_is_that_of_a_loop():
    x, y = unit(X), unit(Y)
    own = np.mean([(1 - a @ b) / 2 for a, b in zip(x, y, strict=True)])
    within = np.mean([(1 - couples(each, lambda i, j: True)) / 2 for each in (x, y)])
    assert imbalance.relative_gap(X, Y).value == pytest.approx(own / (own + within))


def test_the_relative_gap_is_0_for_equal_modalities_and_1_for_two_points():
    assert imbalance.relative_gap(X, X).value == pytest.approx(0, abs=1e-6)
    apart = np.tile([1.0, 0.0], (8, 1)), np.tile([0.0, 1.0], (8, 1))
    assert imbalance.relative_gap(*apart).value == pytest.approx(1)


def test_a_contrast_of_classes_is_that_of_a_loop():
    same = couples(X, lambda i, j: label[i] == label[j])
    other = couples(X, lambda i, j: label[i] != label[j])
    assert imbalance.class_contrast(X, label).value == pytest.approx(same - other)


def test_a_share_of_variance_is_that_of_a_loop_and_within_its_bounds():
    x = unit(X)
    mean = x.mean(0)
    between = sum(
        (label == k).sum() * np.sum((x[label == k].mean(0) - mean) ** 2) for k in range(3)
    )
    share = imbalance.variance_share(X, label)
    assert share.value == pytest.approx(between / np.sum((x - mean) ** 2))
    assert (share.draws > 0).all() and (share.draws <= 1 + 1e-9).all()
    assert imbalance.variance_share(np.eye(3)[label], label).value == pytest.approx(1)


def test_a_share_on_a_resample_is_that_of_the_drawn_rows():
    drawn = next(iter(bootstrap._resamples(12, 200, 0)))[0]
    whole = imbalance.variance_share(X, label, 200)
    again = imbalance.variance_share(X[drawn], label[drawn])
    assert whole.draws[0] == pytest.approx(again.value)


def test_copies_of_an_item_are_no_couple_in_a_relative_gap():
    drawn = next(iter(bootstrap._resamples(12, 200, 0)))[0]
    x, y = unit(X[drawn]), unit(Y[drawn])
    own = (1 - (x * y).sum(1).mean()) / 2
    within = [(1 - couples(e, lambda i, j: drawn[i] != drawn[j])) / 2 for e in (x, y)]
    whole = imbalance.relative_gap(X, Y, 200)
    assert whole.draws[0] == pytest.approx(own / (own + np.mean(within)))


def test_copies_of_an_item_are_no_couple_in_a_contrast():
    drawn = next(iter(bootstrap._resamples(12, 200, 0)))[0]
    x, its = X[drawn], label[drawn]
    same = couples(x, lambda i, j: its[i] == its[j] and drawn[i] != drawn[j])
    other = couples(x, lambda i, j: its[i] != its[j])
    whole = imbalance.class_contrast(X, label, 200)
    assert whole.draws[0] == pytest.approx(same - other)


def test_object_bias_is_towards_what_decides_where_embeddings_lie():
    rng = np.random.default_rng(0)
    shape, colour, style = (rng.integers(0, 4, 400) for _ in range(3))
    labels = {"shape": shape, "colour": colour, "style": style}

    def embedded(weights):
        parts = [w * np.eye(4)[its] for w, its in zip(weights, (shape, colour, style), strict=True)]
        return np.concatenate([*parts, rng.normal(0, 0.1, (400, 4))], axis=1)

    assert imbalance.object_bias(embedded((1, 0.1, 0.1)), labels).estimate().above()
    assert imbalance.object_bias(embedded((0.1, 1, 1)), labels).estimate().below()
    assert imbalance.object_bias(embedded((1, 1, 1)), labels).estimate().within(-0.05, 0.05)
    with pytest.raises(ValueError, match="shape"):
        imbalance.object_bias(embedded((1, 1, 1)), {"colour": colour})


def test_entropy_of_the_logits():
    x = rows(256, 8, 2)
    assert imbalance.logit_entropy(x, x, 1e4).max() == pytest.approx(0, abs=1e-3)
    assert imbalance.logit_entropy(x, x, 0.0) == pytest.approx(np.log(128))
    some = imbalance.logit_entropy(x[:200], x[:200], 5.0, batch=64)
    assert len(some) == 192
    chance = np.exp(5 * x[:64] @ x[:64].T)
    chance /= chance.sum(1, keepdims=True)
    one = imbalance.logit_entropy(x[:64], x[:64], 5.0, batch=64)
    assert sorted(one) == pytest.approx(sorted(-(chance * np.log(chance)).sum(1)))
    with pytest.raises(ValueError, match="fewer than a batch"):
        imbalance.logit_entropy(x[:5], x[:5], 1.0)

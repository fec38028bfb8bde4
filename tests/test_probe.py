"""Linear probes, against scikit-learn by hand and on data whose answer is known."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from lib.measures.probe import STRENGTHS, linear_probe


def clusters(n, seed, noise=0.3, d=16, classes=4):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((classes, d))
    label = rng.integers(0, classes, n)
    rows = centres[label] + noise * rng.standard_normal((n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype("f4"), label


def test_separate_clusters_are_told_apart_and_shuffled_labels_are_not():
    (x, a), (y, b) = clusters(300, 0), clusters(200, 1)
    right = linear_probe(x, a, y, b)
    assert right.shape == (200,) and set(right) <= {0.0, 1.0}
    assert right.mean() > 0.98
    shuffled = np.random.default_rng(2).permutation(a)
    assert 0.1 < linear_probe(x, shuffled, y, b).mean() < 0.45


def test_it_is_the_best_of_the_strengths_on_the_held_out_fifth():
    (x, a), (y, b) = clusters(200, 3, noise=1.5), clusters(300, 4, noise=1.5)
    order = np.random.default_rng(5).permutation(200)
    held, rest = order[:40], order[40:]
    scaled_x, scaled_y = 4 * x, 4 * y  # sqrt(16)

    def model(strength, rows):
        return LogisticRegression(C=strength, max_iter=300).fit(scaled_x[rows], a[rows])

    scores = [np.mean(model(c, rest).predict(scaled_x[held]) == a[held]) for c in STRENGTHS]
    best = model(STRENGTHS[int(np.argmax(scores))], order)
    assert linear_probe(x, a, y, b, seed=5).mean() == np.mean(best.predict(scaled_y) == b)


def test_lengths_of_the_embeddings_do_not_matter():
    (x, a), (y, b) = clusters(100, 6), clusters(50, 7)
    assert np.array_equal(linear_probe(x, a, y, b), linear_probe(7 * x, a, 0.1 * y, b))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"fit": np.ones((5, 3))}, "at least 10"),
        ({"test": np.ones((4, 2))}, "one embedding space"),
        ({"fit_label": np.zeros(3, int)}, "fit_label must be 12 integers"),
        ({"test_label": np.zeros(4)}, "test_label must be 4 integers"),
        ({"fit": np.full((12, 3), np.nan)}, "not finite"),
    ],
)
def test_bad_input(change, sentence):
    good = {"fit": np.ones((12, 3)), "fit_label": np.arange(12) % 2}
    good |= {"test": np.ones((4, 3)), "test_label": np.zeros(4, int)}
    with pytest.raises(ValueError, match=sentence):
        linear_probe(**good | change)

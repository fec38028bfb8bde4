"""What changes when a gap is closed, against loops and against the maps of lib.methods."""

import numpy as np
import pytest

from lib.measures import agreement, bootstrap, closing, gap, hubness
from lib.methods import standardise

N, D = 60, 8
rng = np.random.default_rng(0)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


MEANING = rng.normal(size=(N, D))
X = unit(MEANING + 0.6 * rng.normal(size=(N, D)) + 2 * np.eye(D)[0]).astype(np.float32)
Y = unit(MEANING + 0.6 * rng.normal(size=(N, D)) - 2 * np.eye(D)[1]).astype(np.float32)
ROW, HALF = np.arange(N), closing.halves(N)
CLEAN = np.stack([X, Y]).astype(float)


def test_halves_are_of_one_size():
    assert HALF.sum() == N / 2


def test_each_half_is_moved_by_the_means_of_the_other():
    post, shift, raw = (closing.moved(m, CLEAN, CLEAN, HALF) for m in ("I0T_post", "shift", "raw"))
    np.testing.assert_allclose(raw, CLEAN, atol=1e-6)
    for h in (0, 1):
        own, other = h == HALF, h != HALF
        fitted = standardise.Standardiser.fit(X[other], Y[other])
        np.testing.assert_allclose(post[0, own], fitted.image(X[own]), atol=1e-5)
        np.testing.assert_allclose(post[1, own], fitted.text(Y[own]), atol=1e-5)
        vector = gap.centroid_gap(X[other], Y[other])
        both = standardise.shift(X[own], Y[own], 0.5, unit=False, vector=vector)
        np.testing.assert_allclose(shift[:, own], np.stack([*both]), atol=1e-5)


@pytest.mark.parametrize("method", ["raw", "shift", "I0T_post"])
def test_search_is_in_the_own_half_both_ways(method):
    found = closing.measured(method, X, Y, ROW, 100)
    x, y = closing.moved(method, CLEAN, CLEAN, HALF)
    right = 0
    for i in range(N):
        own = [j for j in range(N) if HALF[j] == HALF[i]]
        right += max(own, key=lambda j: x[i] @ y[j]) == i
        right += max(own, key=lambda j: y[i] @ x[j]) == i
    assert found["search: R@1"].value == pytest.approx(100 * right / (2 * N))
    counts = np.zeros((2, N))
    for own in (HALF == 0, HALF == 1):
        counts[:, own] = hubness.occurrences(x[own], y[own]), hubness.occurrences(y[own], x[own])
    z = (counts - counts.mean(1, keepdims=True)) / counts.std(1, keepdims=True)
    assert found["hubs: skewness"].value == pytest.approx((z**3).mean())
    assert found["effective rank"].value == pytest.approx(
        (agreement.effective_rank(x) + agreement.effective_rank(y)) / 2
    )
    apart = closing.distances(method, X, Y, ROW)
    assert apart["means"] == pytest.approx(gap.centroid_distance(x, y))


def test_a_step_closes_the_means_and_leaves_the_distributions():
    raw, shift = (closing.distances(method, X, Y, ROW) for method in ("raw", "shift"))
    assert shift["means"] < 0.3 * raw["means"]
    assert shift["distributions"] > -0.05


def test_classes_share_the_noise_of_their_text():
    """Two classes whose images are nowhere near the border: nothing flips, all are right."""
    texts = np.eye(D, dtype=np.float32)[:2]
    row = np.arange(N) % 2
    images = unit(texts[row] + 0.01 * rng.normal(size=(N, D))).astype(np.float32)
    found = closing.measured("raw", images, texts, row, 100)
    assert found["classes: accuracy"].value == 100
    assert found["classes: flips by noise"].value == found["classes: flips by 8 bits"].value == 0
    assert found["clusters: NMI"].value == found["clusters: ARI"].value == pytest.approx(100)


def test_noise_flips_what_lies_at_the_border():
    row = np.arange(N) % 2
    texts = np.eye(D, dtype=np.float32)[:2]
    images = unit(texts.sum(0) + 0.01 * rng.normal(size=(N, D))).astype(np.float32)
    found = closing.measured("raw", images, texts, row, 100)
    assert 20 < found["classes: flips by noise"].value < 80
    again = closing.measured("raw", images, texts, row, 100)
    assert found["classes: flips by noise"].value == again["classes: flips by noise"].value


def test_a_gap_spoils_clusters_of_both_modalities():
    texts = np.eye(D, dtype=np.float32)[:4]
    row = np.arange(N) % 4
    aside = 3 * np.eye(D, dtype=np.float32)[5]
    images = unit(texts[row] + aside + 0.05 * rng.normal(size=(N, D))).astype(np.float32)
    found = {m: closing.measured(m, images, texts, row, 100) for m in ("raw", "I0T_post")}
    assert found["raw"]["clusters: ARI"].value < 70
    assert found["I0T_post"]["clusters: ARI"].value > 90


def test_rounding_is_to_one_of_256_steps():
    z = rng.normal(size=(2, 500, 3))
    near = closing.rounded(z)
    step = (z.max(1) - z.min(1)) / 255
    assert (np.abs(near - z) <= step[:, None] / 2 + 1e-12).all()
    assert max(len(np.unique(near[m, :, k].round(9))) for m in (0, 1) for k in range(3)) <= 256
    np.testing.assert_array_equal(closing.rounded(np.ones((4, 2))), np.ones((4, 2)))


def test_a_gain_is_above_0_where_it_is_better():
    def one(value):
        return bootstrap.Resampled(value, np.full(100, value))

    less, more = closing.LESS[0], "search: R@1"
    found = {
        ("mini", "raw", 0): {less: one(5.0), more: one(50.0)},
        ("mini", "shift", 0): {less: one(3.0), more: one(52.0)},
        ("mini", "raw", 1): {less: one(6.0), more: one(51.0)},
        ("mini", "shift", 1): {less: one(4.0), more: one(53.0)},
        ("real", "raw", 0): {less: one(9.0)},
    }
    assert closing.gain(found, "mini", "shift", less, "raw").value == pytest.approx(2)
    assert closing.gain(found, "mini", "shift", more, "raw").value == pytest.approx(2)
    assert closing.gain(found, "mini", "raw", more).value == 50.5
    assert closing.gain(found, "mini", "raw", more).high > 53  # two seeds say little
    assert closing.gain(found, "real", "raw", less).value == 9

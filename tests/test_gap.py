import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group
from sklearn.linear_model import LinearRegression

from lib.measures import bootstrap, gap, retrieval
from lib.methods import standardise

quick = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**20)


def cloud(n, d, seed=0, offset=0.0):
    """Points around (offset, 0, 0, …), not normalised."""
    points = np.random.default_rng(seed).standard_normal((n, d))
    points[:, 0] += offset
    return points.astype(np.float32)


def unit(x):
    x = np.asarray(x, dtype=np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


# --- against naive loops -------------------------------------------------------------------------


@quick
@given(seeds, st.integers(2, 30), st.integers(1, 6))
def test_the_interval_of_a_centroid_distance_is_that_of_the_pairs_mean_difference(seed, n, d):
    x, y = cloud(n, d, seed, 1), cloud(n, d, seed + 1, -1)
    found = gap.centroid_distance_interval(x, y, 100, 3)
    expected = bootstrap.length_of_mean(unit(x) - unit(y), 100, 3)
    assert (found.value, found.low, found.high) == pytest.approx(
        (expected.value, expected.low, expected.high), abs=1e-3
    )
    assert found.value <= gap.centroid_distance(x, y) + 1e-6  # less the noise of few pairs
    with pytest.raises(ValueError, match="row by row"):
        gap.centroid_distance_interval(x, y[:-1])


@quick
@given(seeds, st.integers(1, 9), st.integers(1, 9), st.integers(1, 6))
def test_centroids_and_cosines_against_loops(seed, n, m, d):
    x, y = cloud(n, d, seed, 1), cloud(m, d, seed + 1, -1)
    mean_x = [math.fsum(row[k] for row in unit(x)) / n for k in range(d)]
    mean_y = [math.fsum(row[k] for row in unit(y)) / m for k in range(d)]
    np.testing.assert_allclose(gap.centroid_gap(x, y), np.subtract(mean_x, mean_y), atol=1e-6)
    assert gap.centroid_distance(x, y) == pytest.approx(math.dist(mean_x, mean_y), abs=1e-6)
    cosines = [[float(a @ b) for b in unit(y)] for a in unit(x)]
    nearest = 1 - max(max(row) for row in cosines)
    assert gap.minimum_cosine_distance(x, y) == pytest.approx(nearest, abs=1e-6)


@quick
@given(seeds, st.integers(2, 9), st.integers(1, 6))
def test_pairs_and_uniformity_against_loops(seed, n, d):
    x, y = cloud(n, d, seed), cloud(n, d, seed + 1)
    a, b = unit(x), unit(y)
    cosines = [float(a[i] @ b[i]) for i in range(n)]
    assert gap.alignment(x, y) == pytest.approx(np.mean(cosines), abs=1e-6)
    squares = [np.sum((a[i] - b[i]) ** 2) for i in range(n)]
    assert gap.alignment_loss(x, y) == pytest.approx(np.mean(squares), abs=1e-6)
    matched = gap.minimum_cosine_distance(x, y, pairs="matched")
    assert matched == pytest.approx(1 - max(cosines), abs=1e-6)
    for t in (2, 0.5):
        kernel = [
            math.exp(-t * np.sum((a[i] - a[j]) ** 2)) for i in range(n) for j in range(n) if i != j
        ]
        assert gap.uniformity(x, t) == pytest.approx(math.log(np.mean(kernel)), abs=1e-5)


def test_tiles_and_blocks_change_nothing(monkeypatch):
    x, y = cloud(53, 7, 0, 2), cloud(53, 7, 1)
    names = ["uniformity", "activation_profile", "dominating_share"]
    pairs = ["centroid_distance", "minimum_cosine_distance", "alignment"]

    def everything():
        found = [getattr(gap, name)(x) for name in names]
        found += [getattr(gap, name)(x, y) for name in pairs]
        return np.concatenate([np.ravel(value) for value in found])

    whole = everything()
    monkeypatch.setattr(gap, "TILE", 10)
    monkeypatch.setattr(gap.validation, "BLOCK", 10)
    np.testing.assert_allclose(everything(), whole, rtol=1e-6)


def test_profile_peaks_and_shares():
    x = cloud(300, 6, 0)
    x[:, 4] -= 3
    x[:, 1] += 1
    profile = gap.activation_profile(torch.from_numpy(x))
    np.testing.assert_allclose(profile.mean, unit(x).mean(0), atol=1e-6)
    np.testing.assert_allclose(profile.std, unit(x).std(0), atol=1e-6)
    first, second = gap.peaks(profile, 2)
    assert (first.dimension, second.dimension) == (4, 1)
    assert first.value < 0 < second.value
    assert first.value == profile.mean[4]
    share = unit(x).mean(0) ** 2
    np.testing.assert_allclose(gap.dominating_share(x), share / share.sum(), atol=1e-6)
    assert gap.peak_share(x) == pytest.approx(share[4] / share.sum(), abs=1e-6)
    assert gap.peak_share(x, 2) == pytest.approx(share[[4, 1]].sum() / share.sum(), abs=1e-6)
    e = gap.peak_share_interval(x, 2, 100)
    assert e.value == gap.peak_share(x, 2) and e.low < e.value < e.high
    with pytest.raises(ValueError, match="k must be between 1 and the 6"):
        gap.peaks(profile, 7)


def test_constant_dimension_has_no_spread():
    x = np.tile(cloud(1, 5), (4, 1))
    np.testing.assert_allclose(gap.activation_profile(x).std, 0, atol=1e-7)


# --- can the modalities be told apart? -----------------------------------------------------------


def ls_by_sklearn(x, y, seed):
    """The definition with scikit-learn's regression, on the same split."""
    rng = np.random.default_rng(seed)
    fit, test = [], []
    for label, rows in enumerate((unit(x), unit(y))):
        order = rng.permutation(len(rows))
        cut = round(0.7 * len(rows))
        fit += [(rows[i], label) for i in order[:cut]]
        test += [(rows[i], label) for i in order[cut:]]
    model = LinearRegression().fit(*map(np.array, zip(*fit, strict=True)))
    rows, labels = map(np.array, zip(*test, strict=True))
    return 1 - np.mean((model.predict(rows) - labels) ** 2)


@pytest.mark.parametrize(("n", "m", "d"), [(60, 90, 5), (40, 40, 30), (12, 15, 50)])
def test_linear_separability_against_sklearn(n, m, d):
    x, y = cloud(n, d, 0, 0.5), cloud(m, d, 1)
    for seed in (0, 1):
        assert gap.linear_separability(x, y, seed) == pytest.approx(
            ls_by_sklearn(x, y, seed), abs=1e-5
        )
    assert gap.linear_separability(x, y, 0) != gap.linear_separability(x, y, 1)


def test_linear_separability_of_nothing_depends_on_n_and_d():
    """Gaussian points, 1,000 + 1,000 in 512 dimensions: 0.615 as drawn, 0.481 once centred."""
    x, y = cloud(1000, 512, 0), cloud(1000, 512, 1)
    assert gap.linear_separability(x, y) == pytest.approx(0.615, abs=0.06)
    standardiser = standardise.Standardiser.fit(x, y)
    centred = gap.linear_separability(standardiser.image(x), standardiser.text(y))
    assert centred == pytest.approx(0.481, abs=0.06)
    many = gap.linear_separability(cloud(4000, 4, 0), cloud(4000, 4, 1))
    assert many == pytest.approx(0.75, abs=0.01)


def test_separate_modalities_are_told_apart_and_mixed_ones_are_not():
    x, y = cloud(200, 8, 0, 6), cloud(150, 8, 1, -6)
    assert gap.linear_separability(x, y) > 0.95
    assert gap.modality_classifier(x, y) == {"accuracy": 1.0, "auc": 1.0}
    mixed = gap.modality_classifier(cloud(2000, 8, 0), cloud(2000, 8, 1))
    assert mixed["accuracy"] == pytest.approx(0.5, abs=0.05)
    assert mixed["auc"] == pytest.approx(0.5, abs=0.05)
    assert gap.modality_classifier(x, y, 3) == gap.modality_classifier(x, y, 3)


def test_separability_is_both_measures_on_each_split():
    x, y = cloud(60, 5, 0, 1), cloud(40, 5, 1, -1)
    found = gap.separability(x, y, n_splits=3, seed=4)
    for k, split in enumerate((4, 5, 6)):
        assert found["linear separability"][k] == gap.linear_separability(x, y, split)
        classifier = gap.modality_classifier(x, y, split)
        assert {name: found[name][k] for name in classifier} == classifier
    with pytest.raises(ValueError, match="n_splits must be at least 1"):
        gap.separability(x, y, n_splits=0)


# --- invariances ---------------------------------------------------------------------------------


def measures(x, y):
    return [
        gap.centroid_distance(x, y),
        gap.minimum_cosine_distance(x, y),
        gap.minimum_cosine_distance(x, y, "matched"),
        gap.alignment(x, y),
        gap.uniformity(x),
    ]


@quick
@given(seeds, st.integers(4, 12), st.integers(2, 5))
def test_order_rotation_and_length_do_not_matter(seed, n, d):
    x, y = cloud(n, d, seed, 1), cloud(n, d, seed + 1)
    expected = measures(x, y)
    rng = np.random.default_rng(seed)
    order = rng.permutation(n)
    np.testing.assert_allclose(measures(x[order], y[order]), expected, atol=2e-5)
    turn = ortho_group.rvs(d, random_state=seed)
    np.testing.assert_allclose(measures(x @ turn, y @ turn), expected, atol=2e-5)
    lengths = rng.uniform(0.1, 9, (n, 1))
    np.testing.assert_allclose(measures(x * lengths, y), expected, atol=2e-5)


def test_the_separability_measures_do_not_depend_on_rotation():
    x, y = cloud(60, 6, 0, 1), cloud(60, 6, 1)
    turn = ortho_group.rvs(6, random_state=0)
    assert gap.linear_separability(x @ turn, y @ turn) == pytest.approx(
        gap.linear_separability(x, y), abs=1e-5
    )
    turned, plain = gap.modality_classifier(x @ turn, y @ turn), gap.modality_classifier(x, y)
    assert turned == pytest.approx(plain, abs=0.03)


def test_the_activation_profile_does_depend_on_rotation():
    x = cloud(60, 6, 0, 3)
    turned = x @ ortho_group.rvs(6, random_state=0)
    assert gap.dominating_share(x).max() > 0.9 > gap.dominating_share(turned).max()


@quick
@given(seeds)
def test_distance_is_symmetric_and_zero_to_itself(seed):
    x, y = cloud(5, 4, seed), cloud(7, 4, seed + 1)
    assert gap.centroid_distance(x, y) == gap.centroid_distance(y, x)
    assert gap.centroid_distance(x, x) == 0


# --- the bound, severity, the two-piece fit ------------------------------------------------------


def test_cosine_bound():
    assert gap.cosine_bound(-1 / 2, 1 / 3) == pytest.approx(math.sqrt(0.75 * 7 / 9))
    assert round(gap.cosine_bound(-1 / 2, 1 / 3), 2) == 0.76  # I0T section 3.3
    assert gap.cosine_bound(1, 0.2) == 0
    assert gap.cosine_bound(0, 1 / math.sqrt(2)) == pytest.approx(0, abs=1e-7)
    assert gap.cosine_bound(0.5, 1 / 3, 10**9) == pytest.approx(gap.cosine_bound(0.5, 1 / 3), 1e-4)


@quick
@given(st.floats(-1, 1), st.floats(-0.7, 0.7), st.integers(3, 40), seeds)
def test_cosine_bound_holds_and_is_reached(p, q, d, seed):
    """Vectors with one and two peaks and equal entries elsewhere, of any signs."""
    signs = np.random.default_rng(seed).choice([-1, 1], 5)
    image = np.full(d, signs[0] * math.sqrt((1 - p * p) / (d - 1)))
    image[0] = p
    text = np.full(d, signs[1] * math.sqrt((1 - 2 * q * q) / (d - 2)))
    text[1], text[2] = signs[2] * q, signs[3] * q
    bound = gap.cosine_bound(p, q, d)
    assert abs(image @ text) <= bound + 1e-9
    assert np.abs(image) @ np.abs(text) == pytest.approx(bound, abs=1e-9)


@pytest.mark.parametrize("bad", [(1.1, 0, 9), (0, 0.8, 9), (0.1, 0.1, 2)])
def test_cosine_bound_refuses_what_is_no_unit_vector(bad):
    with pytest.raises(ValueError, match="unit vector"):
        gap.cosine_bound(*bad)


@pytest.mark.parametrize(
    ("distance", "name"),
    [(0, "low"), (0.1899, "low"), (0.19, "moderate"), (0.6299, "moderate"), (0.63, "severe")],
)
def test_severity(distance, name):
    assert gap.severity(distance) == name


@pytest.mark.parametrize("bad", [-0.1, 2.1, math.nan])
def test_severity_of_no_distance(bad):
    with pytest.raises(ValueError, match="lies in"):
        gap.severity(bad)


@pytest.mark.parametrize(
    ("knot", "value", "left", "right"), [(0.19, 0.97, 4.53, 0.04), (0.63, 0.39, 0.17, 0.75)]
)
def test_two_piece_fit_recovers_the_papers_lines(knot, value, left, right):
    x = np.random.default_rng(0).uniform(0, 1.3, 300)
    y = value + np.where(x < knot, left, right) * (x - knot)
    fit = gap.two_piece_fit(x, y)
    assert (fit.knot, fit.value) == pytest.approx((knot, value), abs=2e-3)
    assert (fit.left, fit.right) == pytest.approx((left, right), abs=2e-2)
    np.testing.assert_allclose(fit(x), y, atol=2e-3)
    noise = 0.02 * np.random.default_rng(1).standard_normal(300)
    assert gap.two_piece_fit(x, y + noise).knot == pytest.approx(knot, abs=0.05)


def test_two_piece_fit_is_the_best_on_a_fine_grid():
    rng = np.random.default_rng(3)
    x, y = rng.uniform(0, 1, 25), rng.standard_normal(25)
    fit = gap.two_piece_fit(x, y)
    knots = np.sort(x)
    grid = np.linspace(knots[1], knots[-2], 3000)
    errors = [gap._bend(k, x, y)[1] for k in grid]
    assert np.sum((fit(x) - y) ** 2) <= min(errors) * 1.02


# --- bad input -----------------------------------------------------------------------------------

GOOD = cloud(6, 4, 0)
ONE_SET = [gap.uniformity, gap.activation_profile, gap.dominating_share]
TWO_SETS = [
    gap.centroid_distance,
    gap.minimum_cosine_distance,
    gap.alignment,
    gap.linear_separability,
    gap.modality_classifier,
]


def spoilt(value):
    x = GOOD.copy()
    x[3] = value
    return x


@pytest.mark.parametrize("measure", ONE_SET + TWO_SETS)
@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (spoilt(np.nan), "Row 3 of x is not finite"),
        (spoilt(np.inf), "Row 3 of x is not finite"),
        (spoilt(0), "Row 3 of x is a zero vector"),
        (GOOD[0], "x must be a matrix"),
        (GOOD[:0], r"x has 0 row\(s\)"),
    ],
)
def test_bad_rows_are_named(measure, bad, sentence):
    with pytest.raises(ValueError, match=sentence):
        measure(bad, GOOD) if measure in TWO_SETS else measure(bad)


@pytest.mark.parametrize("measure", TWO_SETS)
def test_two_spaces_are_refused(measure):
    with pytest.raises(ValueError, match="4 and 3 dimensions"):
        measure(GOOD, GOOD[:, :3])


def test_what_needs_more_rows_says_so():
    for measure in (gap.linear_separability, gap.modality_classifier):
        with pytest.raises(ValueError, match="at least 4"):
            measure(GOOD[:1], GOOD)
    with pytest.raises(ValueError, match="at least 2"):
        gap.uniformity(GOOD[:1])
    for measure in (gap.alignment, gap.alignment_loss):
        with pytest.raises(ValueError, match="they have 6 and 5"):
            measure(GOOD, GOOD[:5])
    with pytest.raises(ValueError, match="4 different distances"):
        gap.two_piece_fit([1, 1, 2, 3], [1, 2, 3, 4])
    with pytest.raises(ValueError, match="Item 1 of values"):
        gap.two_piece_fit([1, 2, 3, 4], [1, math.nan, 3, 4])
    with pytest.raises(ValueError, match="they have 4 and 5"):
        gap.two_piece_fit([1, 2, 3, 4], [1, 2, 3, 4, 5])
    with pytest.raises(ValueError, match="mean embedding is zero"):
        gap.dominating_share([[1, 0], [-1, 0]])
    with pytest.raises(ValueError, match='"all" or "matched"'):
        gap.minimum_cosine_distance(GOOD, GOOD, "some")


def test_one_sample_and_identical_rows_are_fine_where_they_mean_something():
    one = GOOD[:1]
    assert gap.centroid_distance(one, one) == 0
    assert gap.alignment(one, one) == pytest.approx(1)
    same = np.tile(one, (5, 1))
    assert gap.uniformity(same) == pytest.approx(0, abs=1e-5)
    assert gap.linear_separability(same, same) == pytest.approx(0.75)
    assert gap.modality_classifier(same, same)["auc"] == 0.5


# --- anchors on real embeddings ------------------------------------------------------------------


@pytest.fixture(scope="module")
def real():
    """CLIP ViT-B/16 embeddings of 500 COCO pairs, published with Mind the Gap: (2, 500, 512)."""
    path = Path(os.environ.get("MODALITY_GAP_DATA", ""), "features_clip.npy")
    if not path.is_file():
        pytest.skip("MODALITY_GAP_DATA names no folder with features_clip.npy")
    return np.load(path, allow_pickle=False)


def test_known_numbers_of_real_clip(real):
    """Means over all 500 pairs (fitted on the test set, as the paper does), R@1 among the 500."""
    x, y = real
    standardiser = standardise.Standardiser.fit(x, y)
    after = standardiser.image(x), standardiser.text(y)
    assert gap.centroid_distance(x, y) == pytest.approx(0.851, abs=5e-4)
    assert gap.severity(gap.centroid_distance(x, y)) == "severe"
    assert gap.centroid_distance(*after) == pytest.approx(0.028, abs=5e-4)
    assert gap.severity(gap.centroid_distance(*after)) == "low"
    assert gap.alignment(x, y) == pytest.approx(0.310, abs=5e-4)
    assert gap.alignment(*after) == pytest.approx(0.315, abs=5e-4)
    for pair, i2t, t2i in (((x, y), 0.552, 0.506), (after, 0.542, 0.500)):
        recall = retrieval.recall(*pair, ks=(1,))
        assert recall.i2t[1].mean() == pytest.approx(i2t, abs=1e-9)
        assert recall.t2i[1].mean() == pytest.approx(t2i, abs=1e-9)
    image, text = gap.dominating_share(x), gap.dominating_share(y)
    assert image.max() == pytest.approx(0.74, abs=0.005)
    assert text.max() == pytest.approx(0.68, abs=0.005)
    assert gap.peaks(gap.activation_profile(x), 1)[0].dimension == image.argmax()
    assert gap.modality_classifier(x, y)["accuracy"] == 1
    assert gap.modality_classifier(*after)["auc"] < 0.7


def test_silhouette_against_its_definition():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 7, 4))
    x[:, 0] += 1
    both = np.concatenate([x, y])
    both /= np.linalg.norm(both, axis=1, keepdims=True)
    away, each = 1 - both @ both.T, []
    for i in range(14):
        own = [j for j in range(14) if (j < 7) == (i < 7) and j != i]
        other = [j for j in range(14) if (j < 7) != (i < 7)]
        a, b = away[i, own].mean(), away[i, other].mean()
        each.append((b - a) / max(a, b))
    expected = (np.array(each[:7]) + each[7:]) / 2
    np.testing.assert_allclose(gap.silhouette(x, y), expected, atol=1e-6)
    with pytest.raises(ValueError, match="2 pairs"):
        gap.silhouette(x[:1], y[:1])


def test_cosines_are_open_in_the_directions_that_no_text_has():
    x, y = cloud(40, 6), cloud(30, 6, seed=1)
    assert gap.cosines_left_open(x, y) == pytest.approx(0, abs=1e-6)
    y[:, 4:] = 0  # two directions of the images are in no text
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosines = (unit @ unit.T)[~np.eye(40, dtype=bool)]
    expected = np.linalg.norm(unit[:, 4:], axis=1).mean() ** 2 / cosines.std(ddof=1)
    assert gap.cosines_left_open(x, y) == pytest.approx(expected, rel=1e-4)
    assert gap.cosines_left_open(x, y[:1]) > gap.cosines_left_open(x, y)

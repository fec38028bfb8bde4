"""How alike two modalities are arranged, against loops that follow the definitions."""

import itertools

import numpy as np
import pytest

from lib.measures import agreement, bootstrap

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 6)) * [3, 2, 1, 1, 0.5, 0.1] + 1
Y = X @ rng.normal(size=(6, 6)) + rng.normal(size=(40, 6))


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def gram(x):
    """Centred Gram matrix of unit rows, entry by entry."""
    x = unit(x) - unit(x).mean(0)
    return np.array([[a @ b for b in x] for a in x])


def test_effective_rank_is_that_of_the_eigenvalues():
    values = np.linalg.eigvalsh(np.cov(unit(X).T))
    assert agreement.effective_rank(X) == pytest.approx(values.sum() ** 2 / (values**2).sum())
    plain = np.linalg.eigvalsh(np.cov(X.T))
    found = agreement.effective_rank(X, unit=False)
    assert found == pytest.approx(plain.sum() ** 2 / (plain**2).sum())
    with pytest.raises(ValueError, match="all the same"):
        agreement.effective_rank(np.ones((5, 3)))


@pytest.mark.parametrize(("n", "d"), [(400, 100), (100, 400)])
def test_isotropic_noise_has_the_rank_that_is_expected(n, d):
    noise = np.random.default_rng(1).normal(size=(n, d))
    found = agreement.effective_rank(noise, unit=False)
    assert found == pytest.approx(agreement.isotropic_rank(n, d), rel=0.02)


def test_cka_is_that_of_the_gram_matrices():
    k, m = gram(X), gram(Y)
    expected = (k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum())
    assert agreement.cka(X, Y) == pytest.approx(expected)
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    assert agreement.cka(X, X @ turn) == pytest.approx(1)


def test_chance_is_the_mean_over_all_permutations():
    x, y = X[:6], Y[:6]
    every = [agreement.cka(x, y[list(order)]) for order in itertools.permutations(range(6))]
    ranks = map(agreement.effective_rank, (x, y))
    assert agreement.chance_cka(*ranks, 6) == pytest.approx(np.mean(every))
    nearest = [
        agreement.shared_neighbours(x, y[list(order)], 2).mean()
        for order in itertools.permutations(range(6))
    ]
    assert np.mean(nearest) == pytest.approx(2 / 5)
    assert agreement.above_chance(0.2, 0.2) == 0 and agreement.above_chance(1, 0.2) == 1


def test_shared_neighbours_one_by_one():
    def nearest(x, i):
        cosines = unit(x) @ unit(x)[i]
        return set([j for j in np.argsort(-cosines) if j != i][:3])

    expected = [len(nearest(X, i) & nearest(Y, i)) / 3 for i in range(40)]
    assert agreement.shared_neighbours(X, Y, 3).tolist() == pytest.approx(expected)
    with pytest.raises(ValueError, match="between 1 and the 39"):
        agreement.shared_neighbours(X, Y, 40)


def test_distance_of_distributions_by_loops():
    def k(a, b):
        return np.exp(-2 * ((a - b) ** 2).sum())

    x, y = X[:9] / 5, Y[:9] / 5
    each = [
        k(x[i], x[j]) + k(y[i], y[j]) - k(x[i], y[j]) - k(x[j], y[i])
        for i, j in itertools.permutations(range(9), 2)
    ]
    assert agreement.distance_of_distributions(x, y) == pytest.approx(np.mean(each), rel=1e-5)
    same = rng.normal(size=(2, 500, 4)) / 3
    assert abs(agreement.distance_of_distributions(*same)) < 0.005
    assert agreement.distance_of_distributions(same[0], same[1] + 1) > 0.05


def test_by_blocks_of_a_mean_is_nearly_its_bootstrap():
    items = np.random.default_rng(2).gamma(2, size=1000)
    found = bootstrap.by_blocks(lambda i: {"mean": items[i].mean()}, 1000, 4000)["mean"].estimate()
    expected = bootstrap.mean_interval(items, 4000)
    assert found.value == pytest.approx(items.mean())
    assert found.high - found.low == pytest.approx(expected.high - expected.low, rel=0.25)


def test_by_blocks_leaves_out_each_item_once_where_blocks_are_items():
    """Blocks of one item: the jackknife, whose error of a mean is the usual one."""
    items, asked = np.arange(20.0) ** 2, []

    def statistic(i):
        asked.append(i)
        return {"mean": items[i].mean()}

    draws = bootstrap.by_blocks(statistic, 20, 20_000, blocks=20)["mean"].draws
    left_out = [set(range(20)) - set(i.tolist()) for i in asked[1:]]
    assert sorted(left_out, key=min) == [{i} for i in range(20)]
    assert draws.std() == pytest.approx(items.std() / np.sqrt(20), rel=0.03)


def test_by_blocks_covers_a_statistic_that_is_no_mean():
    """The correlation of pairs from a known population, in at least 90 of 100 samples."""
    inside = 0
    for seed in range(100):
        a = np.random.default_rng(seed).normal(size=(300, 2))
        a[:, 1] += a[:, 0]
        found = bootstrap.by_blocks(lambda i, a=a: {"r": np.corrcoef(a[i].T)[0, 1]}, 300, 500)
        found = found["r"].estimate()
        inside += found.low < np.sqrt(0.5) < found.high
    assert inside >= 90

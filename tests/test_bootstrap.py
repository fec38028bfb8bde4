import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.measures import bootstrap
from lib.measures.scores import kendall

quick = settings(max_examples=15, deadline=None)
ITEMS = np.random.default_rng(0).gamma(2, size=80)
OTHERS = ITEMS + np.random.default_rng(1).normal(0.1, 0.2, size=80)


def test_interval_of_a_mean_against_scipy():
    found = bootstrap.mean_interval(ITEMS, n_bootstrap=4000, seed=0)
    expected = scipy.stats.bootstrap(
        (ITEMS,), np.mean, method="percentile", n_resamples=4000, rng=1
    ).confidence_interval
    assert found.value == pytest.approx(ITEMS.mean())
    assert found.low == pytest.approx(expected.low, abs=0.03)
    assert found.high == pytest.approx(expected.high, abs=0.03)
    assert found.low < found.value < found.high


def test_interval_of_kendalls_tau_against_scipy():
    a, b = ITEMS[:40], OTHERS[:40]
    found = bootstrap.interval(lambda i: kendall(a[i], b[i]), 40, n_bootstrap=300)
    expected = scipy.stats.bootstrap(
        (a, b),
        lambda p, q: scipy.stats.kendalltau(p, q).statistic,
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=300,
        rng=1,
    ).confidence_interval
    assert found.value == kendall(a, b)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.05)


@quick
@given(st.integers(2, 60), st.integers(2, 50), st.integers(0, 99))
def test_the_quick_way_equals_the_general_one(n, n_bootstrap, seed):
    items = ITEMS[:n]
    quick_way = bootstrap.mean_interval(items, n_bootstrap, seed)
    general = bootstrap.interval(lambda i: items[i].mean(), n, n_bootstrap, seed)
    assert (quick_way.value, quick_way.low, quick_way.high) == pytest.approx(
        (general.value, general.low, general.high), rel=1e-12
    )


@quick
@given(st.integers(2, 40), st.integers(1, 5), st.integers(2, 50), st.integers(0, 99))
def test_the_length_of_a_mean_equals_the_general_way(n, d, n_bootstrap, seed):
    rows = np.random.default_rng(seed).standard_normal((n, d))
    quick_way = bootstrap.length_of_mean(rows, n_bootstrap, seed)
    general = bootstrap.interval(lambda i: np.linalg.norm(rows[i].mean(0)), n, n_bootstrap, seed)
    assert (quick_way.value, quick_way.low, quick_way.high) == pytest.approx(
        (general.value, general.low, general.high), rel=1e-9, abs=1e-12
    )


def test_a_statistic_may_change_its_indices():
    def sorted_mean(i):
        i.sort()
        return ITEMS[i].mean()

    again = bootstrap.interval(sorted_mean, 30, 20), bootstrap.interval(sorted_mean, 30, 20)
    assert again[0] == again[1] == bootstrap.interval(lambda i: ITEMS[np.sort(i)].mean(), 30, 20)


def test_blocks_change_nothing(monkeypatch):
    whole = bootstrap.mean_interval(ITEMS, 50)
    monkeypatch.setattr(bootstrap, "BLOCK", 7 * len(ITEMS))
    assert bootstrap.mean_interval(ITEMS, 50) == whole


def test_deterministic_by_seed():
    assert bootstrap.mean_interval(ITEMS, 50, seed=1) == bootstrap.mean_interval(ITEMS, 50, seed=1)
    assert bootstrap.mean_interval(ITEMS, 50, seed=1) != bootstrap.mean_interval(ITEMS, 50, seed=2)


def test_percentiles_are_those_of_the_draws():
    """With a statistic that counts calls, the draws are 1, 2, …, and the interval is known."""
    calls = iter(range(1, 1002))
    found = bootstrap.interval(lambda i: next(calls), 5, 1000)
    assert (found.low, found.high) == pytest.approx(np.percentile(np.arange(1, 1001), [2.5, 97.5]))
    assert found.value == 1001


def test_pairing_uses_the_same_items_for_both():
    paired = bootstrap.paired_difference(torch.from_numpy(OTHERS), ITEMS)
    assert paired.value == pytest.approx(OTHERS.mean() - ITEMS.mean())
    assert paired == bootstrap.mean_interval(OTHERS - ITEMS)
    apart = bootstrap.mean_interval(OTHERS), bootstrap.mean_interval(ITEMS, seed=1)
    assert paired.high - paired.low < 0.3 * min(e.high - e.low for e in apart)
    constant = bootstrap.paired_difference(ITEMS + 0.25, ITEMS)
    assert (constant.low, constant.high) == pytest.approx((0.25, 0.25))


def test_coverage_of_the_mean():
    """A 95 % interval of 60 normal draws holds the true mean about as often as it says."""
    rng = np.random.default_rng(0)
    found = [bootstrap.mean_interval(rng.standard_normal(60), 300, seed) for seed in range(300)]
    assert 0.90 <= np.mean([e.low <= 0 <= e.high for e in found]) <= 0.98


def test_an_undefined_resample_makes_the_interval_undefined():
    found = bootstrap.interval(lambda i: math.nan if i[0] else 1.0, 5, 50)
    assert found.value == 1
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_text():
    assert str(bootstrap.Estimate(0.5, 0.25, 0.75)) == "0.500 [0.250, 0.750]"


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: bootstrap.mean_interval([1.0]), "at least 2 items"),
        (lambda: bootstrap.mean_interval([]), "at least 1 number"),
        (lambda: bootstrap.mean_interval([[1.0, 2.0]]), "must be a list"),
        (lambda: bootstrap.mean_interval([1.0, math.nan]), "Item 1 of items is not finite"),
        (lambda: bootstrap.mean_interval([1.0, 2.0], n_bootstrap=1), "n_bootstrap must be at least 2"),
        (lambda: bootstrap.interval(len, 1), "at least 2 items"),
        (lambda: bootstrap.paired_difference([1, 2], [1, 2, 3]), "they have 2 and 3"),
        (lambda: bootstrap.length_of_mean([1.0, 2.0]), "must be a matrix of finite numbers"),
        (lambda: bootstrap.length_of_mean([[1.0], [math.nan]]), "must be a matrix of finite numbers"),
        (lambda: bootstrap.length_of_mean([[1.0, 2.0]]), "at least 2 items"),
    ],
)
def test_bad_input(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()

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
@given(st.integers(2, 60), st.integers(100, 150), st.integers(0, 99))
def test_the_quick_way_equals_the_general_one(n, n_bootstrap, seed):
    items = ITEMS[:n]
    quick_way = bootstrap.mean_interval(items, n_bootstrap, seed)
    general = bootstrap.interval(lambda i: items[i].mean(), n, n_bootstrap, seed)
    assert (quick_way.value, quick_way.low, quick_way.high) == pytest.approx(
        (general.value, general.low, general.high), rel=1e-12
    )


def test_counts_are_those_of_the_resamples():
    drawn = bootstrap.counts(9, 120, 4)
    first = bootstrap.resampled({k: lambda i, k=k: (i == k).sum() for k in range(9)}, 9, 120, 4)
    assert drawn.tolist() == np.stack([first[k].draws for k in range(9)], axis=1).tolist()


def test_the_quick_length_equals_the_general_one():
    rows = np.random.default_rng(2).normal(0.1, 1, (40, 6))
    found = bootstrap.resampled_length(rows, 150, 3)
    length = {"length": lambda i: np.linalg.norm(rows[i].mean(0))}
    expected = bootstrap.resampled(length, 40, 150, 3)["length"]
    assert found.value == pytest.approx(expected.value, rel=1e-12)
    assert found.draws == pytest.approx(expected.draws, rel=1e-12)


def test_a_statistic_may_change_its_indices():
    def sorted_mean(i):
        i.sort()
        return ITEMS[i].mean()

    again = bootstrap.interval(sorted_mean, 30, 100), bootstrap.interval(sorted_mean, 30, 100)
    assert again[0] == again[1] == bootstrap.interval(lambda i: ITEMS[np.sort(i)].mean(), 30, 100)


def test_blocks_change_nothing(monkeypatch):
    whole = bootstrap.mean_interval(ITEMS, 100)
    monkeypatch.setattr(bootstrap, "BLOCK", 7 * len(ITEMS))
    assert bootstrap.mean_interval(ITEMS, 100) == whole


def test_deterministic_by_seed():
    one, again, other = (bootstrap.mean_interval(ITEMS, 100, seed=seed) for seed in (1, 1, 2))
    assert one == again != other


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


def test_resampled_statistics_are_those_of_interval_and_their_differences_are_paired():
    statistics = {"a": lambda i: ITEMS[i].max(), "b": lambda i: OTHERS[i].max()}
    found = bootstrap.resampled(statistics, len(ITEMS), 100, seed=3)
    for key, statistic in statistics.items():
        assert found[key].estimate() == bootstrap.interval(statistic, len(ITEMS), 100, seed=3)
    paired = bootstrap.interval(lambda i: ITEMS[i].max() - OTHERS[i].max(), len(ITEMS), 100, seed=3)
    assert bootstrap.paired_difference(found["a"], found["b"]) == paired


def test_what_did_not_change_at_all_comes_last_in_a_family():
    estimates = {"none": bootstrap.Estimate(0.0, 0.0, 0.0), "some": bootstrap.Estimate(1, 0.5, 2)}
    wider = bootstrap.simultaneous(estimates)
    assert wider["none"] == estimates["none"]
    assert 0 < wider["some"].low < 0.5


def test_coverage_of_the_mean():
    """A 95 % interval of 60 normal draws holds the true mean about as often as it says."""
    rng = np.random.default_rng(0)
    found = [bootstrap.mean_interval(rng.standard_normal(60), 300, seed) for seed in range(300)]
    assert 0.90 <= np.mean([e.low <= 0 <= e.high for e in found]) <= 0.98


def test_the_quick_mean_has_the_resamples_of_the_general_one():
    items = np.random.default_rng(0).normal(size=40)
    slow = bootstrap.resampled({"mean": lambda i: items[i].mean()}, 40, 200, 3)["mean"]
    quick = bootstrap.resampled_mean(items, 200, 3)
    assert quick.value == pytest.approx(slow.value)
    np.testing.assert_allclose(quick.draws, slow.draws)


def test_coverage_over_seeds_and_items():
    """95 of 100 intervals hold the truth where seeds alone vary, items alone do, and both."""
    rng = np.random.default_rng(0)
    for between, within in ((1.0, 0.01), (0.01, 1.0), (0.2, 1.0)):
        hits = 0
        for k in range(300):
            items = rng.normal(0, within, 40)  # the same for all seeds
            seeds = [bootstrap.resampled_mean(items + s, 200, k) for s in rng.normal(0, between, 3)]
            hits += not (found := bootstrap.over_seeds(seeds)).above() and not found.below()
        assert hits / 300 >= 0.92, (between, within, hits)
    with pytest.raises(ValueError, match="at least 2"):
        bootstrap.over_seeds(seeds[:1])


def test_a_fit_is_made_on_each_resample():
    rng = np.random.default_rng(2)
    design, items = np.column_stack([np.arange(6.0), np.ones(6)]), rng.normal(size=(6, 30))
    several = [bootstrap.resampled_mean(row, 120) for row in items]
    slope, _ = bootstrap.least_squares(design, several)
    assert slope.value == pytest.approx(np.polyfit(range(6), items.mean(1), 1)[0])
    seventh = [one.draws[7] for one in several]
    assert slope.draws[7] == pytest.approx(np.polyfit(range(6), seventh, 1)[0])


def test_what_is_subtracted_seed_by_seed():
    rng = np.random.default_rng(3)
    a, b = ([bootstrap.resampled_mean(rng.normal(size=20)) for _ in range(3)] for _ in "ab")
    apart = bootstrap.over_seeds([x - y for x, y in zip(a, b, strict=True)])
    assert bootstrap.over_seeds(a, b) == apart


def test_over_seeds_that_agree_only_items_count():
    items = np.random.default_rng(1).normal(size=50)
    one = bootstrap.resampled_mean(items)
    found = bootstrap.over_seeds([one, one, one])
    assert (found.low, found.high) == pytest.approx((one.estimate().low, one.estimate().high))


def test_an_undefined_resample_makes_the_interval_undefined():
    found = bootstrap.interval(lambda i: math.nan if i[0] else 1.0, 5, 100)
    assert found.value == 1
    assert math.isnan(found.low)
    assert math.isnan(found.high)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: bootstrap.mean_interval([1.0]), "at least 2 items"),
        (lambda: bootstrap.mean_interval([]), "at least 1 number"),
        (lambda: bootstrap.mean_interval([[1.0, 2.0]]), "must be a list"),
        (lambda: bootstrap.mean_interval([1.0, math.nan]), "Item 1 of items is not finite"),
        (lambda: bootstrap.mean_interval([1.0, 2.0], 99), "n_bootstrap must be at least 100"),
        (lambda: bootstrap.interval(len, 5, 1), "n_bootstrap must be at least 100"),
        (lambda: bootstrap.length_of_mean(np.eye(3), 99), "n_bootstrap must be at least 100"),
        (lambda: bootstrap.interval(len, 1), "at least 2 items"),
        (lambda: bootstrap.paired_difference([1, 2], [1, 2, 3]), "they have 2 and 3"),
        (lambda: bootstrap.length_of_mean([1.0, 2.0]), "must be a matrix of finite"),
        (lambda: bootstrap.length_of_mean([[1.0], [math.nan]]), "must be a matrix of finite"),
        (lambda: bootstrap.length_of_mean([[1.0, 2.0]]), "at least 2 items"),
    ],
)
def test_bad_input(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


# The length of a mean -----------------------------------------------------------------------------

N, D = 300, 64
LENGTHS = (0.02, 0.05, 0.1, 0.3, 0.86, 1.0)
SPECTRA = {"isotropic": np.ones(D), "1/k": 1 / np.arange(1, D + 1)}


def vectors(length: float, spectrum: str, rng) -> np.ndarray:
    """N draws around a mean of this length, along the widest axis; total variance 2 - length^2.

    As the differences of unit vectors are: the squared length of one is 2 on average.
    """
    share = SPECTRA[spectrum] / SPECTRA[spectrum].sum()
    rows = rng.standard_normal((N, D)) * np.sqrt((2 - length**2) * share)
    rows[:, 0] += length
    return rows


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("length", LENGTHS)
def test_coverage_of_the_length_of_a_mean(length, spectrum):
    """The plain percentile interval holds none of the short ones."""
    rng = np.random.default_rng(5)
    every = [vectors(length, spectrum, rng) for _ in range(200)]
    found = [bootstrap.length_of_mean(rows, 200, seed) for seed, rows in enumerate(every)]
    assert np.mean([e.low <= length <= e.high for e in found]) >= 0.90
    assert all(0 <= e.low <= e.value <= e.high for e in found)
    if length > 0.5:
        plain = [np.linalg.norm(rows.mean(0)) for rows in every]
        np.testing.assert_allclose([e.value for e in found], plain, rtol=0.01)


def test_the_length_of_a_mean_is_not_that_of_the_noise():
    """Where there is no distance at all, few items have a mean of length 0.08 all the same."""
    rng = np.random.default_rng(5)
    rows = [vectors(0, "isotropic", rng) for _ in range(40)]
    assert np.mean([np.linalg.norm(some.mean(0)) for some in rows]) > 0.07
    found = [bootstrap.length_of_mean(some, 200) for some in rows]
    assert np.mean([e.value for e in found]) < 0.03
    assert np.mean([e.low == 0 for e in found]) > 0.9


@quick
@given(st.integers(2, 40), st.integers(1, 5), st.integers(100, 150), st.integers(0, 99))
def test_the_length_of_a_mean_against_a_loop(n, d, n_bootstrap, seed):
    """With s^2 the sum of variances over n: |mean|^2 - s^2, and of a resample |mean*|^2 - 2 s^2."""
    rows = np.random.default_rng(seed).standard_normal((n, d))
    noise = sum(np.var(column, ddof=1) for column in rows.T) / n
    squared = bootstrap.interval(
        lambda i: sum(x**2 for x in rows[i].mean(0)) - 2 * noise, n, n_bootstrap, seed
    )
    expected = squared.value + noise, squared.low, squared.high
    found = bootstrap.length_of_mean(rows, n_bootstrap, seed)
    assert (found.value, found.low, found.high) == pytest.approx(
        [math.sqrt(max(0, x)) for x in expected], rel=1e-9, abs=1e-7
    )


# Many comparisons ---------------------------------------------------------------------------------


def centred(value: float, half: float = 1.0) -> bootstrap.Estimate:
    return bootstrap.Estimate(value, value - half, value + half)


def test_holm_by_hand():
    """Normal quantiles of 1 - 0.025 / m over that of m = 1: 1.2215 for m = 3, 1.1436 for m = 2."""
    found = bootstrap.simultaneous({"b": centred(1.15), "a": centred(-3.0), "c": centred(1.05)})
    assert list(found) == ["b", "a", "c"]
    assert (found["a"].low, found["a"].high) == pytest.approx((-4.2215, -1.7785), abs=1e-4)
    assert (found["b"].low, found["b"].high) == pytest.approx((0.0064, 2.2936), abs=1e-4)
    assert (found["c"].low, found["c"].high) == pytest.approx((0.05, 2.05), abs=1e-4)


def test_after_the_first_that_holds_0_so_do_all():
    """The third is clear of 0 on its own, but not among what is left after the second is not."""
    found = bootstrap.simultaneous({"a": centred(3), "b": centred(1.14), "c": centred(1.1)})
    assert found["b"].low == pytest.approx(1.14 - 1.1436, abs=1e-4) and not found["b"].above()
    assert found["c"].low == pytest.approx(1.1 - 1.1436, abs=1e-4) and not found["c"].above()


def test_evidence_counts_in_the_estimate_s_own_width():
    """The smaller number may come first: 0.5 of half-width 0.2, before 1.2 of half-width 1."""
    found = bootstrap.simultaneous({"wide": centred(1.2), "sharp": centred(0.5, 0.2)})
    assert found["sharp"].low == pytest.approx(0.5 - 1.1436 * 0.2, abs=1e-4)
    assert found["wide"] == centred(1.2)


def test_only_the_side_towards_0_counts_as_evidence():
    uneven = bootstrap.Estimate(2, 1.5, 12)
    found = bootstrap.simultaneous({"plain": centred(3), "uneven": uneven})
    assert found["uneven"].low == pytest.approx(2 - 1.1436 * 0.5, abs=1e-4)
    assert found["uneven"].high == pytest.approx(2 + 1.1436 * 10, abs=1e-3)
    assert (found["plain"].low, found["plain"].high) == pytest.approx((2, 4))


def test_a_difference_of_exactly_0_comes_last():
    """Two models that give the same: an interval without width around 0 is no evidence."""
    nothing = bootstrap.Estimate(0.0, 0.0, 0.0)
    for order in (("a", "zero", "b"), ("zero", "b", "a"), ("b", "a", "zero")):
        some = {"a": centred(3), "b": centred(1.1, 0.9), "zero": nothing}
        found = bootstrap.simultaneous({key: some[key] for key in order})
        assert found["zero"] == nothing
        assert (found["a"].low, found["b"].low) == pytest.approx((1.7785, 0.0708), abs=1e-4)


def test_no_comparison_and_one_stay_as_they_are():
    assert bootstrap.simultaneous({}) == {}
    for one in (centred(0.3), centred(5), bootstrap.Estimate(1, 0.9, 3)):
        (found,) = bootstrap.simultaneous({"one": one}).values()
        assert (found.value, found.low, found.high) == pytest.approx((one.value, one.low, one.high))


eighths = st.integers(-40, 40).map(lambda k: k / 8)
sides = st.integers(1, 24).map(lambda k: k / 8)
estimates = st.builds(
    lambda value, a, b: bootstrap.Estimate(value, value - a, value + b), eighths, sides, sides
)


@settings(max_examples=100)
@given(st.dictionaries(st.text(max_size=2), estimates, max_size=8))
def test_properties_of_simultaneous_intervals(some):
    found = bootstrap.simultaneous(some)
    assert list(found) == list(some)
    for key, e in some.items():
        wide = found[key]
        assert wide.value == e.value
        assert wide.low <= e.low + 1e-9 and wide.high >= e.high - 1e-9  # never narrower
    ordered = sorted(some, key=lambda key: -bootstrap._evidence(some[key]))
    sure = [found[key].above() or found[key].below() for key in ordered]
    assert sure == sorted(sure, reverse=True)  # none after the first that holds 0
    bonferroni = {key: bootstrap._stretched(e, len(some)) for key, e in some.items()}
    for key in some:  # never wider than the interval of level 1 - 0.05 / m for all
        assert found[key].low >= bonferroni[key].low - 1e-9
        assert found[key].high <= bonferroni[key].high + 1e-9


def test_holm_keeps_the_error_of_a_family():
    """Ten true differences of 0: a single interval fails nearly each time, the family rarely."""
    rng = np.random.default_rng(0)
    alone, together = [], []
    for _ in range(400):
        family = {k: centred(rng.standard_normal(), 1.96) for k in range(10)}
        alone.append(any(e.above() or e.below() for e in family.values()))
        wider = bootstrap.simultaneous(family).values()
        together.append(any(e.above() or e.below() for e in wider))
    assert np.mean(alone) > 0.3 and np.mean(together) < 0.08


# Estimates ----------------------------------------------------------------------------------------


def test_text():
    found = bootstrap.Estimate(0.5, 0.25, 0.75)
    assert str(found) == f"{found}" == "0.500 [0.250, 0.750]"
    assert f"{found:.1f}" == "0.5 [0.2, 0.8]"
    assert f"{bootstrap.Estimate(2.5, -0.14, 5.12):+z.1f}" == "+2.5 [-0.1, +5.1]"
    assert f"{bootstrap.Estimate(-0.01, -0.02, 0.0):+z.1f}" == "+0.0 [+0.0, +0.0]"


def test_other_units_and_signs():
    found = bootstrap.Estimate(0.5, 0.25, 1.0)
    assert 100 * found == found * 100 == bootstrap.Estimate(50, 25, 100)
    assert -found == -1 * found == bootstrap.Estimate(-0.5, -1.0, -0.25)
    assert -2 * found == bootstrap.Estimate(-1, -2, -0.5)


def test_on_which_side_the_whole_interval_lies():
    found = bootstrap.Estimate(0.5, 0.25, 1.0)
    assert found.above() and found.above(0.2) and not found.above(0.25) and not found.above(0.3)
    assert found.below(1.1) and not found.below(1.0) and not found.below()
    assert (-found).below() and not (-found).above()
    assert found.within(0.25, 1.0) and found.within(0, 2)
    assert not found.within(0.3, 2) and not found.within(0, 0.9)


def test_means_and_differences_by_key():
    a = {"x": ITEMS, "y": OTHERS, "only a": ITEMS}
    b = {"y": ITEMS, "x": ITEMS[::-1], "only b": ITEMS}
    found = bootstrap.means(a, 100, 3)
    assert list(found) == ["x", "y", "only a"]
    assert found["y"] == bootstrap.mean_interval(OTHERS, 100, 3)
    found = bootstrap.differences(a, b, 100, 3)
    assert list(found) == ["x", "y"]
    assert found["x"] == bootstrap.paired_difference(ITEMS, ITEMS[::-1], 100, 3)
    assert found["y"] == bootstrap.paired_difference(OTHERS, ITEMS, 100, 3)


def test_a_tidy_table():
    one, two = bootstrap.Estimate(1, 0, 2), bootstrap.Estimate(3, 2, 4)
    table = bootstrap.tidy({("clip", "shape"): one, ("clip", "colour"): two}, ["model", "data"])
    assert list(table) == ["model", "data", "value", "low", "high"]
    assert table.to_numpy().tolist() == [["clip", "shape", 1, 0, 2], ["clip", "colour", 3, 2, 4]]
    table = bootstrap.tidy({"shape": one}, ["data"])
    assert table.to_dict("records") == [{"data": "shape", "value": 1, "low": 0, "high": 2}]
    assert list(bootstrap.tidy({}, ["data"])) == ["data", "value", "low", "high"]


def test_minus_pairs_the_keys_that_differ_at_their_end():
    scores = {("a", "native"): ITEMS, ("a", "OTI"): OTHERS, ("b", "OTI"): OTHERS}
    found = bootstrap.minus(scores, "native", 200, seed=3)
    assert found == {("a", "OTI"): bootstrap.paired_difference(OTHERS, ITEMS, 200, seed=3)}


def test_estimates_are_read_in_a_table_or_none():
    made = {("a", 0): bootstrap.Estimate(1.0, 0.5, 1.5), ("b", 1): bootstrap.Estimate(-1, -2, 0)}
    words = bootstrap.in_words(made, "+z.1f")
    assert words.loc["a", 0] == f"{made['a', 0]:+z.1f}"
    assert words.loc[["a"], 1].isna().all()
    assert list(bootstrap.in_words(dict(reversed(made.items())), level=0, sort=False)) == ["b", "a"]
    assert bootstrap.in_words({}).add_prefix("seed ").empty

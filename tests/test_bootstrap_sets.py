"""The mean over data sets, each of which counts alike, however many items it has."""

import numpy as np
import pytest

from lib.measures import bootstrap

RNG = np.random.default_rng(0)
SCORES = {"a": RNG.random(50), "b": RNG.random(50), "long": 2 + RNG.random(400)}


def test_sets_of_the_same_items_are_one_mean_by_item():
    found = bootstrap.mean_over_sets(SCORES, [["a", "b"]], 200, seed=3)
    expected = bootstrap.mean_interval((SCORES["a"] + SCORES["b"]) / 2, 200, seed=3)
    assert (found.value, found.low, found.high) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )


def test_every_set_counts_alike_and_all_of_its_items_do():
    found = bootstrap.mean_over_sets(SCORES, [["a", "b"], ["long"]], 200)
    assert found.value == pytest.approx(np.mean([items.mean() for items in SCORES.values()]))
    assert found.low < found.value < found.high


def test_other_items_get_resamples_of_their_own():
    items = RNG.normal(size=1000)
    one, two = {"x": items, "y": items}, {"x": items, "y": -items}
    same = bootstrap.mean_over_sets(two, [["x", "y"]], 500)
    apart = bootstrap.mean_over_sets(two, [["x"], ["y"]], 500)
    assert same.high - same.low == pytest.approx(0, abs=1e-12)  # each resample cancels
    whole = bootstrap.mean_over_sets(one, [["x", "y"]], 500)
    # Two independent means of equal variance: half the variance of one.
    assert (apart.high - apart.low) / (whole.high - whole.low) == pytest.approx(0.5**0.5, abs=0.1)


def test_bad_input_is_one_sentence():
    with pytest.raises(ValueError, match="a, long cannot have the same items"):
        bootstrap.mean_over_sets(SCORES, [["a", "long"]])
    with pytest.raises(ValueError, match="at least one"):
        bootstrap.mean_over_sets(SCORES, [])
    with pytest.raises(ValueError, match="at least 2"):
        bootstrap.mean_over_sets({"a": [1.0]}, [["a"]])

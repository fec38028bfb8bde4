import numpy as np
import pytest

from lib.measures import bootstrap, cones


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def cone(axis, width, n=40, seed=0):
    """Unit rows around one axis of a space of five dimensions."""
    centre = np.eye(5)[axis]
    return unit(centre + width * np.random.default_rng([seed, axis]).standard_normal((n, 5)))


def test_cosines_are_those_of_all_pairs_of_different_rows():
    x = cone(0, 0.5, n=4)
    expected = [x[i] @ x[j] for i in range(4) for j in range(i + 1, 4)]
    np.testing.assert_allclose(cones.cosines(x), expected)
    assert cones.mean_cosine(x) == pytest.approx(np.mean(expected))


def test_copies_in_a_resample_are_no_pairs():
    x = cone(0, 0.5, n=4)
    rows = np.array([2, 0, 2, 3])
    pairs = [x[a] @ x[b] for k, a in enumerate(rows) for b in rows[k + 1 :] if a != b]
    assert cones.mean_cosine(x, rows) == pytest.approx(np.mean(pairs))
    many = cone(0, 0.5)
    found = bootstrap.interval(lambda i: cones.mean_cosine(many, i), len(many), 100)
    assert found.low <= found.value <= found.high


def test_narrow_cones_are_recognised_and_disjoint():
    sets = [cone(axis, 0.05) for axis in (0, 1, 2)]
    np.testing.assert_array_equal(cones.recognised(sets), np.ones(20))
    assert cones.disjoint(sets) == 1


def test_of_two_encoders_with_one_cone_half_is_recognised_by_chance():
    sets = [cone(0, 0.3, n=2000, seed=seed) for seed in (1, 2)]
    assert cones.recognised(sets).mean() == pytest.approx(0.5, abs=0.05)
    assert cones.disjoint(sets) == 0


def test_recognised_is_per_input():
    apart, alike = cone(0, 0.05, n=4), cone(1, 0.05, n=4)
    alike[3] = apart[3]  # the last input looks like the first encoder's
    np.testing.assert_array_equal(cones.recognised([apart, alike]), [1, 0.5])

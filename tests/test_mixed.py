"""Search in a mixed collection, against loops over single queries and items."""

import numpy as np
import pytest

from lib.methods import mixed

RNG = np.random.default_rng(0)
N, D = 12, 5


def cloud(n, seed):
    """Images, texts and queries (3, n, d) with a gap."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(1, n, D)) + 0.5 * rng.normal(size=(3, n, D))
    z = z + np.array([2.0, -1.0, -1.0])[:, None, None] * np.eye(D)[0]
    return z / np.linalg.norm(z, axis=2, keepdims=True)


TEST, FIT = cloud(N, 1), cloud(9, 2)
HALF = np.arange(N) % 3 == 0


def unit(x):
    return x / np.linalg.norm(x)


def naive(method, kind, i, j, form):
    """The score of query i with item j in one form."""
    row = {"image": 0, "text": 2}[kind]
    q, z = TEST[row, i], TEST[form, j]
    means = FIT[0].mean(0), FIT[1:].reshape(-1, D).mean(0)
    if method in ("means removed", "I0T_post"):
        q, z = q - means[row > 0], z - means[form]
        return q @ z if method == "means removed" else unit(q) @ unit(z)
    if method in ("constants", "best hits"):
        of = [[FIT[row, a] @ FIT[form, b] for b in range(9) if b != a] for a in range(9)]
        known = np.array(of).ravel() if method == "constants" else np.max(of, axis=1)
        return (q @ z - known.mean()) / known.std()
    return q @ z


@pytest.mark.parametrize("kind", ["image", "text"])
def test_scores_against_a_loop(kind):
    found = mixed.scored(TEST, FIT, kind)
    assert tuple(found) == mixed.METHODS
    for method, s in found.items():
        for form, i, j in np.ndindex(2, N, N):
            expected = naive(method, kind, i, j, form)
            assert s[form, i, j] == pytest.approx(expected, abs=2e-6), method


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("method", mixed.METHODS)
def test_one_list_against_a_loop(method, own):
    s = RNG.normal(size=(2, N, N))
    found = mixed.one_list(method, s, HALF, own)
    for i in range(N):
        there = [j for j in range(N) if own or j != i]
        for images in (True, False):
            items = [j for j in there if HALF[j] == images]
            row = s[0 if images else 1, i]
            values = row[items]
            for j in items:
                if method == "per query":
                    assert found[i, j] == pytest.approx((row[j] - values.mean()) / values.std())
                elif method == "rank fusion":
                    assert found[i, j] in (
                        -(values > row[j]).sum() - 0.0,
                        -(values > row[j]).sum() - 0.5,
                    )
                else:
                    assert found[i, j] == row[j]
        assert own or found[i, i] == -np.inf
        if method == "rank fusion":  # one of each kind in turn
            kinds = HALF[sorted(there, key=lambda j: -found[i, j])]
            turns = kinds[: 2 * min(HALF[there].sum(), (~HALF[there]).sum())]
            assert (turns[::2] != turns[1::2]).all()


def test_a_preference_for_the_own_kind_is_measured_as_one():
    biased = np.stack([np.zeros((N, N)), np.ones((N, N))]) + 0.1 * RNG.random((2, N, N))
    relevance = RNG.random((N, N))
    for kind, other, passed in (("text", 0, 100), ("image", 100, 0)):
        found = mixed.measured("raw", biased, relevance, kind)
        assert (found["other first"] == other).all() and (found["passed over"] == passed).all()
    fused = mixed.measured("rank fusion", biased, relevance, "text")
    assert 0 < fused["other first"].mean() < 100


def test_the_own_scene_is_found_where_scores_know_no_form():
    s = np.stack([np.eye(N)] * 2)
    found = mixed.measured("raw", s, np.ones((N, N)), "text", own=True)
    assert (found["nDCG@10"] == 100).all() and (found["other first"] == 50).all()


def test_bad_input():
    with pytest.raises(ValueError, match="kind must be"):
        mixed.scored(TEST, FIT, "sound")
    with pytest.raises(ValueError, match="needs images and texts"):
        mixed.one_list("raw", np.zeros((2, N, N)), np.ones(N))

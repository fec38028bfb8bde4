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


@pytest.mark.parametrize("task", ["text", "image", "own scene"])
def test_measures_against_a_loop(task):
    relevance = RNG.random((N, N))
    found = mixed.measured(TEST, FIT, relevance, task)
    kind, own = ("text", True) if task == "own scene" else (task, False)
    half = np.random.default_rng(0).permutation(N) % 2 == 0
    for method, s in mixed.scored(TEST, FIT, kind).items():
        for i in range(N):
            gain, other = [], {}
            nearest = max(
                (j for j in range(N) if j != i), key=lambda j: s[int(kind == "text"), i, j]
            )
            for as_image in (half, ~half):
                row = mixed.one_list(method, s, as_image, own)[i]
                order = [j for j in np.argsort(-row, kind="stable") if own or j != i]
                its = np.eye(N)[i] if own else relevance[i]
                best = sorted((its[j] for j in order), reverse=True)[:10]
                weights = [1 / np.log2(r + 2) for r in range(10)]
                dcg = sum(its[j] * w for j, w in zip(order, weights, strict=False))
                gain.append(dcg / sum(b * w for b, w in zip(best, weights, strict=False)))
                form = "image" if as_image[nearest] else "text"
                other[form] = ("image" if as_image[order[0]] else "text") != kind
            expected = {"nDCG@10": np.mean(gain), "other first": np.mean([*other.values()])}
            expected["passed over"] = not other["image" if kind == "text" else "text"]
            for measure, value in expected.items():
                assert found[measure, method][i] == pytest.approx(100 * value), (measure, method)


def test_raw_scores_prefer_the_own_kind_where_the_gap_is_wide():
    far = TEST + 9 * np.array([1, -1, -1])[:, None, None] * np.eye(D)[0]
    for task in ("text", "image"):
        found = mixed.measured(far, FIT, np.ones((N, N)), task)
        assert not found["other first", "raw"].any() and found["passed over", "raw"].all()


def test_image_first_by_share():
    found = mixed.image_first(TEST, FIT, "text", [0.25, 0.75])
    place = np.random.default_rng(0).permutation(N)
    for method, s in mixed.scored(TEST, FIT, "text").items():
        for share, n_images in ((0.25, 3), (0.75, 9)):
            as_image = place < n_images
            one = mixed.one_list(method, s, as_image)
            expected = [100 * as_image[max(range(N), key=lambda j: one[i, j])] for i in range(N)]
            np.testing.assert_array_equal(found[method, share], expected)


def test_bad_input():
    with pytest.raises(ValueError, match="kind must be"):
        mixed.scored(TEST, FIT, "sound")
    with pytest.raises(ValueError, match="needs images and texts"):
        mixed.one_list("raw", np.zeros((2, N, N)), np.ones(N))

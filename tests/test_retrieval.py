import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score

from lib.measures import retrieval

quick = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**20)


def cloud(n, d, seed=0):
    x = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def fine(n, d, seed=0):
    """Integers: scores are exact, so that any order of summation gives them; few are tied."""
    return np.random.default_rng(seed).integers(1, 300, (n, d)).astype(np.float32)


def coarse(n, d, seed=0):
    """Small integers, so that scores are exact and most of them are tied; no zero row."""
    x = np.random.default_rng(seed).integers(-1, 2, (n, d)).astype(np.float32)
    x[~x.any(1), 0] = 1
    return x


def captions(n_images, seed=0):
    """Owners of 1 to 4 captions an image, in mixed order."""
    rng = np.random.default_rng(seed)
    return rng.permutation(np.repeat(np.arange(n_images), rng.integers(1, 5, n_images)))


def sorted_ranks(scores, relevant):
    """The oracle: the whole row sorted, stably, then searched."""
    order = np.argsort(-scores, kind="stable")
    return [rank for rank, item in enumerate(order) if relevant[item]]


def oracle(query, gallery, query_label, gallery_label, exclude_self=False):
    found = []
    for i, row in enumerate(query @ gallery.T):
        relevant = np.asarray(gallery_label) == query_label[i]
        if exclude_self:
            row, relevant = np.delete(row, i), np.delete(relevant, i)
        found.append(sorted_ranks(row, relevant))
    return found


def as_lists(ranks):
    return [ranks.rank[a:b].tolist() for a, b in zip(ranks.start, ranks.start[1:], strict=False)]


# --- ranks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [fine, coarse])
@quick
@given(seed=seeds, n=st.integers(1, 12), d=st.integers(1, 5))
def test_both_ways_against_stable_argsort(make, seed, n, d):
    owner = captions(n, seed)
    image, text = make(n, d, seed), make(len(owner), d, seed + 1)
    both = retrieval.ranks(image, torch.from_numpy(text), torch.from_numpy(owner))
    assert as_lists(both.i2t) == oracle(image, text, np.arange(n), owner)
    assert as_lists(both.t2i) == oracle(text, image, owner, np.arange(n))
    best = retrieval.ranks(image, text, owner, best_only=True)
    assert best.i2t.best.tolist() == [ranks[0] for ranks in as_lists(both.i2t)]
    assert as_lists(best.t2i) == as_lists(both.t2i)


@pytest.mark.parametrize("make", [fine, coarse])
@pytest.mark.parametrize("exclude_self", [False, True])
@pytest.mark.parametrize("few", [0, 3, 99])
def test_labels_against_stable_argsort(monkeypatch, make, exclude_self, few):
    monkeypatch.setattr(retrieval, "FEW", few)
    for seed in range(4):
        x = make(30, 4, seed)
        label = np.random.default_rng(seed).permutation(np.repeat([5, -2, 9], [2, 8, 20]))
        found = retrieval.rank_relevant(x, x, label, label, exclude_self)
        assert as_lists(found) == oracle(x, x, label, label, exclude_self)


@pytest.mark.parametrize("make", [fine, coarse])
def test_tiles_change_nothing(monkeypatch, make):
    owner = captions(600, 0)  # more rows than a byte can count
    image, text = make(600, 6, 0), make(len(owner), 6, 1)
    whole = retrieval.ranks(image, text, owner)
    assert as_lists(whole.i2t) == oracle(image, text, np.arange(600), owner)
    assert as_lists(whole.t2i) == oracle(text, image, owner, np.arange(600))
    if make is coarse:  # exact scores: any tiling gives the same
        monkeypatch.setattr(retrieval, "TILE_BYTES", 7 * 4 * len(text))
        tiled = retrieval.ranks(image, text, owner)
        assert as_lists(tiled.i2t) == as_lists(whole.i2t)
        assert as_lists(tiled.t2i) == as_lists(whole.t2i)


def test_identical_rows_rank_in_gallery_order():
    same = np.ones((4, 3), np.float32)
    both = retrieval.ranks(same, same)
    assert both.i2t.best.tolist() == both.t2i.best.tolist() == [0, 1, 2, 3]
    alone = retrieval.rank_relevant(same, same, [1, 1, 2, 2], [1, 1, 2, 2], exclude_self=True)
    assert alone.best.tolist() == [0, 0, 2, 2]


def test_near_ties_within_rounding_are_settled_by_rows():
    """Many images that differ by less than the rounding bound: every column is unsure."""
    image = np.repeat(cloud(1, 64), 50, 0)
    image[:, 0] += np.linspace(0, 1e-5, 50, dtype=np.float32)
    text = cloud(50, 64, 1)
    both = retrieval.ranks(image, text)
    assert as_lists(both.t2i) == oracle(text, image, np.arange(50), np.arange(50))


@quick
@given(seeds, st.integers(2, 10))
def test_order_of_queries_and_rotation_do_not_matter(seed, n):
    rng = np.random.default_rng(seed)
    owner = captions(n, seed)
    image, text = fine(n, 5, seed), fine(len(owner), 5, seed + 1)
    expected = retrieval.ranks(image, text, owner)
    axes, signs = rng.permutation(5), rng.choice([-1, 1], 5)  # turns that keep integers exact
    turned = retrieval.ranks(image[:, axes] * signs, text[:, axes] * signs, owner)
    assert as_lists(turned.i2t) == as_lists(expected.i2t)
    assert as_lists(turned.t2i) == as_lists(expected.t2i)
    order = rng.permutation(len(owner))
    mixed = retrieval.ranks(image, text[order], owner[order])
    assert mixed.t2i.best.tolist() == expected.t2i.best[order].tolist()


# --- measures ------------------------------------------------------------------------------------


@quick
@given(seeds, st.integers(2, 8))
def test_average_precision_against_sklearn(seed, n):
    owner = captions(n, seed)
    image, text = cloud(n, 5, seed), cloud(len(owner), 5, seed + 1)
    both = retrieval.ranks(image, text, owner)
    for ranks, scores, relevant in (
        (both.i2t, image @ text.T, np.arange(n)[:, None] == owner),
        (both.t2i, text @ image.T, owner[:, None] == np.arange(n)),
    ):
        expected = [average_precision_score(*row) for row in zip(relevant, scores, strict=True)]
        np.testing.assert_allclose(retrieval.average_precision(ranks), expected, atol=1e-12)


@quick
@given(seeds, st.integers(1, 9))
def test_measures_against_sorting(seed, n):
    """Recall and R-precision by the definition, on scores full of ties."""
    owner = captions(n, seed)
    image, text = coarse(n, 3, seed), coarse(len(owner), 3, seed + 1)
    ranks = retrieval.ranks(image, text, owner).i2t
    lists = oracle(image, text, np.arange(n), owner)
    hits = retrieval.recall(image, text, owner, ks=(1, 3))
    for k in (1, 3):
        expected = [float(any(r < k for r in some)) for some in lists]
        assert hits.i2t[k].tolist() == retrieval.recall_at(ranks, k).tolist() == expected
        assert hits.t2i[k].shape == (len(owner),)
    share = [sum(r < len(some) for r in some) / len(some) for some in lists]
    np.testing.assert_allclose(retrieval.r_precision(ranks), share)
    precision = [np.mean([(i + 1) / (r + 1) for i, r in enumerate(sorted(some))]) for some in lists]
    np.testing.assert_allclose(retrieval.average_precision(ranks), precision)


def test_worked_example():
    """Ranks 0, 2 of two relevant items, and 3 of one."""
    ranks = retrieval.Ranks(np.array([0, 2, 3]), np.array([0, 2, 3]))
    assert len(ranks) == 2
    assert retrieval.average_precision(ranks).tolist() == pytest.approx([(1 + 2 / 3) / 2, 1 / 4])
    assert retrieval.r_precision(ranks).tolist() == [0.5, 0]
    assert retrieval.recall_at(ranks, 1).tolist() == [1, 0]
    assert retrieval.recall_at(ranks, 4).tolist() == [1, 1]


# --- bad input -----------------------------------------------------------------------------------

IMAGE, TEXT = cloud(3, 4), cloud(6, 4, 1)
OWNER = np.repeat(np.arange(3), 2)


def spoilt(value):
    text = TEXT.copy()
    text[4] = value
    return text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((IMAGE, TEXT), "3 images and 6 texts are not pairs"),
        ((IMAGE, TEXT[:, :3], OWNER), "4 and 3 dimensions"),
        ((IMAGE, spoilt(np.nan), OWNER), "Row 4 of text is not finite"),
        ((IMAGE, spoilt(0), OWNER), "Row 4 of text is a zero vector"),
        ((IMAGE[0], TEXT, OWNER), "image must be a matrix"),
        ((IMAGE, TEXT, OWNER[:4]), "owner must be 6 integers"),
        ((IMAGE, TEXT, OWNER / 2), "owner must be 6 integers"),
        ((IMAGE, TEXT, OWNER + 1), "owner must name rows of the 3 images"),
        ((IMAGE, TEXT, OWNER - 1), "owner must name rows of the 3 images"),
        ((IMAGE, TEXT, OWNER * 0), r"Query 1 \(label 1\) has no relevant item"),
    ],
)
def test_bad_input(arguments, sentence):
    for call in (retrieval.ranks, retrieval.recall):
        with pytest.raises(ValueError, match=sentence):
            call(*arguments)


def test_bad_label_retrieval():
    with pytest.raises(ValueError, match=r"Query 2 \(label 7\) has no relevant item"):
        retrieval.rank_relevant(IMAGE, IMAGE, [1, 1, 7], [1, 1, 7], exclude_self=True)
    with pytest.raises(ValueError, match="exclude_self needs one set"):
        retrieval.rank_relevant(IMAGE, TEXT, [0, 1, 2], OWNER, exclude_self=True)
    with pytest.raises(ValueError, match="k must be at least 1"):
        retrieval.recall(IMAGE, TEXT, OWNER, ks=(0,))


def test_one_pair():
    both = retrieval.recall(IMAGE[:1], TEXT[:1], ks=(1, 10))
    assert both.i2t[1].tolist() == both.t2i[10].tolist() == [1.0]


@quick
@given(seeds, st.integers(1, 8), st.integers(1, 4))
def test_recall_by_image_against_a_loop(seed, n, k):
    """Text to image, the share of an image's captions that find it among their k first."""
    owner = captions(n, seed)
    image, text = fine(n, 4, seed), fine(len(owner), 4, seed + 1)
    found = retrieval.recall_by_image(image, text, owner, k)
    for i in range(n):
        first = np.argsort(-(text @ image[i]), kind="stable")[:k]
        assert found.i2t[i] == float(i in owner[first])
        hits = [
            i in np.argsort(-(image @ text[j]), kind="stable")[:k]
            for j in range(len(owner))
            if owner[j] == i
        ]
        assert found.t2i[i] == pytest.approx(np.mean(hits))


def test_recall_by_image_of_pairs_is_recall():
    image, text = cloud(9, 3), cloud(9, 3, 1)
    found, plain = retrieval.recall_by_image(image, text), retrieval.recall(image, text, ks=(1,))
    assert found.i2t.tolist() == plain.i2t[1].tolist()
    assert found.t2i.tolist() == plain.t2i[1].tolist()
    assert 0 < found.t2i.mean() < 1


@pytest.mark.parametrize("measure", [retrieval.average_precision, retrieval.r_precision])
def test_precision_in_set_against_a_loop(measure):
    """In points; the labels are those of the queries, then those of the gallery."""
    x, labels = cloud(30, 5, 3), np.random.default_rng(4).integers(0, 4, (2, 30))
    labels[0, 1] = 9  # of a class that the gallery lacks
    found = retrieval.precision_in_set(x[:8], x[8:], labels, measure)
    assert found.shape == (2, 8) and found[0, 1] == 0
    for label, values in zip(labels, found, strict=True):
        alone = retrieval.precision_in_set(x[:8], x[8:], label, measure)
        np.testing.assert_array_equal(alone, values)
        for i in range(8):
            relevant = label[8:] == label[i]
            scores = x[8:] @ x[i]
            if not relevant.any():
                continue
            if measure is retrieval.average_precision:
                expected = average_precision_score(relevant, scores)
            else:
                expected = relevant[np.argsort(-scores)[: relevant.sum()]].mean()
            assert values[i] == pytest.approx(100 * expected)


@pytest.mark.parametrize("measure", ["average_precision", "r_precision"])
def test_precision_by_class(measure):
    x, label = cloud(40, 8, seed=5), np.random.default_rng(1).integers(0, 6, 40)
    query, gallery, own, other = x[:10], x[10:], label[:10].copy(), label[10:]
    own[[2, 7]] = 99  # a class that the gallery lacks
    found = retrieval.precision_by_class(
        query, gallery, own, other, getattr(retrieval, measure), empty=np.nan
    )
    for i in range(10):
        relevant = other == own[i]
        if i in (2, 7):
            assert np.isnan(found[i])
        elif measure == "average_precision":
            assert found[i] == pytest.approx(average_precision_score(relevant, gallery @ query[i]))
        else:
            first = np.argsort(-(gallery @ query[i]))[: relevant.sum()]
            assert found[i] == pytest.approx(relevant[first].mean())
    none = retrieval.precision_by_class(query, gallery, np.full(10, 99), other)
    assert none.tolist() == [0] * 10


def test_several_label_sets_are_ranked_at_once(monkeypatch):
    """As each of them alone by `rank_relevant`, with tied scores and in small tiles too."""
    x, rng = cloud(60, 4, seed=6), np.random.default_rng(2)
    x[20:40] = x[40:60]  # every second item of the gallery has a twin
    labels = rng.integers(0, 5, (3, 60))
    query, gallery, own, others = x[:20], x[20:], labels[:, :20], labels[:, 20:]
    monkeypatch.setattr(retrieval, "TILE_BYTES", 16 * 40 * 7)
    for measure in (retrieval.average_precision, retrieval.r_precision):
        found = retrieval.precision_by_class(query, gallery, own, others, measure)
        for k in range(3):
            alone = measure(retrieval.rank_relevant(query, gallery, own[k], others[k]))
            np.testing.assert_array_equal(found[k], alone)


def test_label_sets_of_queries_and_gallery_must_match():
    with pytest.raises(ValueError, match="2 label sets of the queries, but 1 of the gallery"):
        retrieval.precision_by_class(IMAGE, IMAGE, [[1, 1, 2]] * 2, [1, 1, 2])


def test_misordered_counts_triples_whose_far_item_scores_higher():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 5, (6, 9)).astype(float)  # with ties, which count as ordered
    near, far = rng.random((6, 9)) < 0.4, rng.random((6, 9)) < 0.5
    triples = [
        scores[i, k] > scores[i, j]
        for i in range(6)
        for j in np.flatnonzero(near[i])
        for k in np.flatnonzero(far[i])
    ]
    assert retrieval.misordered(scores, near, far) == pytest.approx(np.mean(triples))
    assert np.isnan(retrieval.misordered(scores, near & False, far))


@pytest.mark.parametrize("seed", range(3))
def test_ndcg_against_a_loop_and_sklearn(seed):
    rng = np.random.default_rng(seed)
    scores, relevance = rng.normal(size=(7, 20)), rng.random((7, 20))
    scores[rng.random(scores.shape) < 0.2] = -np.inf  # no items of this query
    expected = []
    for row, its in zip(scores, relevance, strict=True):
        there = [j for j in range(20) if row[j] > -np.inf]
        by_score = sorted(there, key=lambda j: -row[j])[:10]
        best = sorted(there, key=lambda j: -its[j])[:10]
        gain = [
            sum(its[j] / np.log2(r + 2) for r, j in enumerate(some)) for some in (by_score, best)
        ]
        expected.append(gain[0] / gain[1])
        known = ndcg_score([its[there]], [row[there]], k=10)
        assert expected[-1] == pytest.approx(known)
    np.testing.assert_allclose(retrieval.ndcg(scores, relevance), expected)


def test_ndcg_of_ties_of_few_items_and_of_nothing_relevant():
    tied = np.zeros((2, 4))
    relevant = np.array([[0, 1, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(retrieval.ndcg(tied, relevant), [1 / np.log2(3), 0])
    assert retrieval.ndcg(np.array([[-np.inf, 1, 0]]), np.array([[5, 0, 1]]))[0] == 1 / np.log2(3)


@pytest.mark.parametrize(
    "relevance, k, sentence",
    [(np.ones((2, 4)), 10, "two matrices"), (np.ones((2, 3)), 0, "k must be at least 1"),
     (-np.ones((2, 3)), 10, "no relevance negative")],
)  # fmt: skip
def test_ndcg_of_bad_input(relevance, k, sentence):
    with pytest.raises(ValueError, match=sentence):
        retrieval.ndcg(np.ones((2, 3)), relevance, k)

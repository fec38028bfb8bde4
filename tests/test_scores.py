import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.regression import kendall_rank_corrcoef

from lib.measures import scores
from lib.methods.standardise import Standardiser

quick = settings(max_examples=20, deadline=None)
seeds = st.integers(0, 2**20)


def cloud(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def cosine(a, b):
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return float(a @ b / math.sqrt(a @ a) / math.sqrt(b @ b))


IMAGE, TEXT = cloud(30, 5, 0) + 0.5, cloud(30, 5, 1) + 0.5
STANDARDISER = Standardiser.fit(IMAGE, TEXT)


def test_prompt_and_weight_are_the_published_ones():
    assert scores.PROMPT + "a dog" == "A photo depicts a dog"
    assert scores.WEIGHT == 2.5


@quick
@given(seeds, st.integers(1, 8))
def test_clip_s_against_a_loop(seed, n):
    image, text = cloud(n, 3, seed), cloud(n, 3, seed + 1)
    expected = [2.5 * max(cosine(a, b), 0) for a, b in zip(image, text, strict=True)]
    np.testing.assert_allclose(scores.clip_s(image, text), expected, atol=1e-6)
    np.testing.assert_allclose(
        scores.clip_s(image, text, weight=2), np.multiply(expected, 0.8), atol=1e-6
    )


def test_clip_s_is_clipped_and_i0t_s_is_not():
    image = torch.tensor([[1.0, 0], [1, 0]])
    text = torch.tensor([[-1.0, 0], [2, 0]])
    assert scores.clip_s(image, text).tolist() == [0, 2.5]
    identity = Standardiser(torch.zeros(2).double(), torch.zeros(2).double(), 1, 1)
    assert scores.i0t_s(image, text, identity).tolist() == [-1, 1]


@quick
@given(seeds, st.integers(1, 6))
def test_ref_clip_s_against_a_loop(seed, n):
    """The harmonic mean as in the authors' code, with the nearest reference of each pair."""
    rng = np.random.default_rng(seed)
    owner = rng.permutation(np.repeat(np.arange(n), rng.integers(1, 4, n)))
    image, text, references = (
        cloud(n, 3, seed),
        cloud(n, 3, seed + 1),
        cloud(len(owner), 3, seed + 2),
    )
    found = scores.ref_clip_s(image, text, references, owner)
    for i in range(n):
        a = 2.5 * max(cosine(image[i], text[i]), 0)
        b = max([cosine(text[i], references[j]) for j in np.flatnonzero(owner == i)] + [0.0])
        expected = 2 * a * b / (a + b) if a + b else 0
        assert found[i] == pytest.approx(expected, abs=1e-6)


def test_ref_clip_s_of_nothing_alike_is_zero():
    image, text = torch.tensor([[1.0, 0]]), torch.tensor([[-1.0, 0]])
    assert scores.ref_clip_s(image, text, image, [0]).tolist() == [0]


def test_i0t_s_on_every_side():
    x, y = STANDARDISER.image(IMAGE), STANDARDISER.text(TEXT)
    for sides, a, b, raw in (
        (("image", "text"), x, y, (IMAGE, TEXT)),
        (("image", "image"), x, x.roll(1, 0), (IMAGE, IMAGE.roll(1, 0))),
        (("text", "text"), y, y.roll(1, 0), (TEXT, TEXT.roll(1, 0))),
    ):
        found = scores.i0t_s(*raw, STANDARDISER, sides)
        np.testing.assert_allclose(
            found, [cosine(p, q) for p, q in zip(a, b, strict=True)], atol=1e-5
        )
    assert scores.i0t_s(IMAGE, TEXT, STANDARDISER).min() < 0
    for sides in (("image",), ("image", "audio")):
        with pytest.raises(ValueError, match="sides must be two"):
            scores.i0t_s(IMAGE, TEXT, STANDARDISER, sides)


@quick
@given(seeds, st.integers(3, 40), st.sampled_from("bc"))
def test_kendall_against_torchmetrics(seed, n, variant):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 4, n), rng.standard_normal(n).round(1)
    a[:2] = [0, 1]
    b[:2] = [9, 8]
    expected = kendall_rank_corrcoef(
        torch.tensor(b), torch.tensor(a, dtype=torch.float64), variant=variant
    )
    assert scores.kendall(a, b, variant) == pytest.approx(float(expected), abs=1e-5)


@quick
@given(seeds, st.integers(2, 30))
def test_kendall_of_counts_is_that_of_the_repeated_items(seed, n):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 12, n), rng.integers(0, 4, n)
    counts = rng.multinomial(n, np.full(n, 1 / n), 20)
    found = scores.kendall_of_counts(a, b, counts)
    expected = [scores.kendall(np.repeat(a, c), np.repeat(b, c)) for c in counts]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    with pytest.raises(ValueError, match="must be of one length"):
        scores.kendall_of_counts(a, b, counts[:, :-1])


def test_kendall_variants_and_limits():
    a, b = [1, 1, 2, 2, 3], [1, 2, 3, 4, 5]
    assert scores.kendall(b, b) == pytest.approx(1)
    assert scores.kendall(b, b[::-1], "c") == pytest.approx(-1)
    assert scores.kendall(a, b, "b") != scores.kendall(a, b, "c")
    assert math.isnan(scores.kendall([0, 0, 0], [1, 2, 3]))
    with pytest.raises(ValueError, match="at least 2"):
        scores.kendall([1], [1])
    with pytest.raises(ValueError, match="they have 2 and 3"):
        scores.kendall([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="Item 1 of b is not finite"):
        scores.kendall([1, 2], [1, math.nan])
    with pytest.raises(ValueError, match='"b" or "c"'):
        scores.kendall([1, 2], [1, 2], "a")


def test_agreement_counts_every_rating_once():
    score, ratings = [0.1, 0.3, 0.2], [[1, 2], [3, 3], [2, 1]]
    expected = scores.kendall([0.1, 0.1, 0.3, 0.3, 0.2, 0.2], [1, 2, 3, 3, 2, 1], "c")
    assert scores.agreement(score, ratings, "c") == pytest.approx(100 * expected)
    assert scores.agreement(score, [[1], [3], [2]]) == pytest.approx(100)
    with pytest.raises(ValueError, match="each of the 3 scores"):
        scores.agreement(score, ratings[:2])


@pytest.mark.parametrize(
    ("image", "text", "sentence"),
    [
        (IMAGE, TEXT[:3], "they have 30 and 3"),
        (IMAGE, TEXT[:, :3], "5 and 3 dimensions"),
        (IMAGE * 0, TEXT, "Row 0 of x is a zero vector"),
        (IMAGE, TEXT * torch.nan, "Row 0 of y is not finite"),
    ],
)
def test_bad_input(image, text, sentence):
    for call in (
        lambda: scores.clip_s(image, text),
        lambda: scores.i0t_s(image, text, STANDARDISER),
    ):
        with pytest.raises(ValueError, match=sentence):
            call()


@pytest.mark.parametrize(
    ("owner", "sentence"),
    [
        ([0, 1, 3], "owner must name rows of the 3 pairs"),
        ([0, 1, -1], "owner must name rows of the 3 pairs"),
        ([0, 0, 2], "Pair 1 has no reference"),
        ([0, 1], "owner must be 3 integers"),
    ],
)
def test_bad_references(owner, sentence):
    with pytest.raises(ValueError, match=sentence):
        scores.ref_clip_s(IMAGE[:3], TEXT[:3], TEXT[3:6], owner)


def test_plain_cosine_against_a_loop():
    plain = scores.cosine(IMAGE, TEXT)
    by_hand = [cosine(a, b) for a, b in zip(IMAGE, TEXT, strict=True)]
    np.testing.assert_allclose(plain, by_hand, atol=1e-6)
    assert plain.min() < 0 < plain.max()


@quick
@given(seeds, st.integers(2, 8))
def test_cosine_with_others_against_a_loop(seed, n):
    image, text = cloud(n, 3, seed), cloud(5, 3, seed + 1)
    owner = np.random.default_rng(seed).integers(0, 5, n)
    expected = [
        np.mean([cosine(a, b) for j, b in enumerate(text) if j != k])
        for a, k in zip(image, owner, strict=True)
    ]
    np.testing.assert_allclose(scores.cosine_with_others(image, text, owner), expected, atol=1e-6)


def test_cosine_with_others_takes_pairs_row_by_row_and_needs_another_text():
    np.testing.assert_allclose(scores.cosine_with_others(np.eye(2), np.eye(2)), 0, atol=1e-7)
    with pytest.raises(ValueError, match="at least 2"):
        scores.cosine_with_others(np.eye(2), np.eye(2)[:1])
    with pytest.raises(ValueError, match="owner must name rows"):
        scores.cosine_with_others(np.eye(2), np.eye(2), [0, 2])


def test_densities_are_histograms_of_the_cosines_that_count():
    rng = np.random.default_rng(0)
    cosines, edges = rng.uniform(-1, 1, (5, 40)), np.linspace(-1, 1, 9)
    which = rng.random((5, 40)) < 0.6
    which[0] = False
    of_all, of_some = scores.densities(cosines, edges), scores.densities(cosines, edges, which)
    for i in range(1, 5):
        np.testing.assert_allclose(of_all[i], np.histogram(cosines[i], edges, density=True)[0])
        expected = np.histogram(cosines[i][which[i]], edges, density=True)[0]
        np.testing.assert_allclose(of_some[i], expected)
    assert np.isnan(of_some[0]).all()
    with pytest.raises(ValueError, match="shape"):
        scores.densities(cosines, edges, which[:, :2])


def test_closeness_is_minus_half_the_squared_distance():
    x, y = 2 * cloud(4, 3), cloud(5, 3, 1)
    np.testing.assert_allclose(scores.closeness(x, y), -(torch.cdist(x, y) ** 2) / 2, atol=1e-5)


def test_reversals_against_counting():
    before, after = np.random.default_rng(0).normal(size=(2, 6, 6))
    expected = []
    for i in range(6):
        others = [j for j in range(6) if j != i]
        couples = [(j, k) for j in others for k in others if j < k]
        turned = [(before[i, j] < before[i, k]) != (after[i, j] < after[i, k]) for j, k in couples]
        expected.append(np.mean(turned))
    np.testing.assert_allclose(scores.reversals(before, after), expected)
    np.testing.assert_allclose(scores.reversals(before, 2 * before + 1), 0, atol=1e-12)
    with pytest.raises(ValueError, match=r"\(n, n\) are wanted"):
        scores.reversals(before, after[:5])


def words(caption):
    """The content words of a caption, by a short list of stop words."""
    kept = "".join(c if c.isalnum() else " " for c in caption.lower()).split()
    return {word for word in kept if len(word) > 1} - {"the", "on", "and", "of", "in", "with"}


def f1(one, other):
    both = len(words(one) & words(other))
    return 2 * both / (len(words(one)) + len(words(other))) if both else 0


SAID = [
    ["A red dog on the grass.", "Two dogs"],
    ["a RED barn, red and green"],
    ["Grass", "the dog of the barn", "in a barn with a dog"],
]


def test_overlap_against_a_loop():
    expected = [
        [np.mean([f1(one, other) for one in a for other in b]) for b in SAID[:2]] for a in SAID
    ]
    np.testing.assert_allclose(scores.overlap(SAID, SAID[:2]), expected, atol=1e-12)
    same = scores.overlap(SAID, SAID)
    np.testing.assert_allclose(same, same.T, atol=1e-12)
    assert same[1, 1] == 1 and same[0, 0] == 0.5  # "dog" and "dogs" share nothing


def test_overlap_without_words_is_zero():
    assert scores.overlap([["the a of"]], [["of"], ["a dog"]]).tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("a", "b"), [([], [["dog"]]), ([["dog"]], []), ([["dog"], []], [["dog"]]), ([["of"]], [["of"]])]
)
def test_overlap_needs_captions_with_words(a, b):
    with pytest.raises(ValueError):
        scores.overlap(a, b)

"""Image-caption scores on embeddings: CLIP-S, RefCLIP-S and I0T-S, and their rank correlation.

Three scales of "CLIPScore" are about; here CLIP-S is 2.5 * max(cos, 0) (Hessel et al.), I0T-S is
the bare cosine. One score per pair. `overlap` compares captions by their words, without a model.
"""

from collections.abc import Sequence

import numpy as np

from lib import validation

PROMPT = "A photo depicts "  # CLIP-S and RefCLIP-S put it before every caption: encode it with them
WEIGHT = 2.5


def cosine(x, y) -> np.ndarray:
    """(n,) plain cosine of x and y (n, d), row by row, in [-1, 1].

    Raises: ValueError for bad embeddings (not pairs, NaN, a zero vector).
    """
    x, y = validation.pairs(x, y)
    return np.einsum("ij,ij->i", validation.unit(x), validation.unit(y), dtype=np.float64)


def cosine_with_others(image, text, owner=None) -> np.ndarray:
    """(n,) mean cosine of each image (n, d) with all texts (m, d) but its own.

    `owner` (n,) is the row of each image's own text (None: row i with row i).

    Raises: ValueError for bad embeddings, fewer than two texts, or an owner that is not a row of
        `text`.
    """
    image, text = validation.vectors(image, "image"), validation.vectors(text, "text", minimum=2)
    validation.same_width(image, text)
    owner = np.arange(len(image)) if owner is None else owner
    owner = validation.labels(owner, len(image), "owner")
    if owner.min() < 0 or owner.max() >= len(text):
        raise ValueError(f"owner must name rows of the {len(text)} texts, counted from 0.")
    image, text = validation.unit(image), validation.unit(text)
    every = image @ text.sum(0, dtype=np.float64)
    return (every - cosine(image, text[owner])) / (len(text) - 1)


def clip_s(image, text, weight: float = WEIGHT) -> np.ndarray:
    """(n,) weight * max(cos(image, text), 0), for images and captions (n, d), row by row.

    Captions are encoded with `PROMPT` in front. Source: CLIPScore (arXiv 2104.08718) section 3.

    Raises: ValueError for bad embeddings (not pairs, NaN, a zero vector).
    """
    return weight * np.maximum(cosine(image, text), 0)


def ref_clip_s(image, text, references, owner, weight: float = WEIGHT) -> np.ndarray:
    """(n,) harmonic mean of CLIP-S and max(max_r cos(text, r), 0); 0 where either is 0.

    `references` (m, d) are the reference captions of all pairs, `owner` (m,) the pair each belongs
    to. Source: CLIPScore (arXiv 2104.08718) section 3, RefCLIPScore.

    Raises: ValueError for bad embeddings, or a pair without a reference.
    """
    score = clip_s(image, text, weight)
    text, references = (
        validation.vectors(text, "text"),
        validation.vectors(references, "references"),
    )
    owner = validation.labels(owner, len(references), "owner")
    count = np.bincount(owner, minlength=len(text)) if owner.min() >= 0 else []
    if len(count) != len(text):
        raise ValueError(f"owner must name rows of the {len(text)} pairs, counted from 0.")
    if not count.all():
        raise ValueError(f"Pair {int(count.argmin())} has no reference: drop it.")
    nearest = np.zeros(len(text))  # negative cosines count as 0
    np.maximum.at(nearest, owner, cosine(text[owner], references))
    both = score + nearest
    return np.divide(2 * score * nearest, both, out=np.zeros_like(both), where=both > 0)


def i0t_s(x, y, standardiser, sides: tuple[str, str] = ("image", "text")) -> np.ndarray:
    """(n,) cosine of the I0T_post embeddings of x and y (n, d): weight 1, not clipped, in [-1, 1].

    `standardiser` is a fitted `lib.methods.standardise.Standardiser`.
    `sides` says what x and y are: ("image", "image") and ("text", "text") score pairs within one
    modality, with that modality's mean on both sides. Source: I0T (arXiv 2412.14384) section 4.2.

    Raises: ValueError for bad embeddings, or another side than "image" and "text".
    """
    apply = {"image": standardiser.image, "text": standardiser.text}
    if not set(sides) <= set(apply) or len(sides) != 2:
        raise ValueError(f'sides must be two of "image" and "text", not {sides!r}.')
    x, y = validation.pairs(x, y)
    return cosine(apply[sides[0]](x), apply[sides[1]](y))


def overlap(a: Sequence[Sequence[str]], b: Sequence[Sequence[str]]) -> np.ndarray:
    """(n, m) overlap of words, in [0, 1], of n lists of captions with m others.

    The mean F1 over all couples of a caption of one list and a caption of the other. The F1 of two
    sets of words is 2 |both| / (|one| + |other|), the harmonic mean of precision and recall. A word
    is two or more letters or digits, in lower case; scikit-learn's English stop words do not count.
    No human rating: "puppy" and "dog" share nothing.

    Raises: ValueError for no list, a list without a caption, or captions without any word.
    """
    from sklearn.feature_extraction.text import CountVectorizer  # slow to import

    if not len(a) or not len(b) or not all(map(len, [*a, *b])):
        raise ValueError("Both sides need a list of captions at least, and every list a caption.")
    counter = CountVectorizer(binary=True, stop_words="english", dtype=float)
    counter.fit([caption for each in (*a, *b) for caption in each])
    words, size, mean = [], [], []
    for side in (a, b):
        owner = np.repeat(range(len(side)), [len(each) for each in side])
        words.append(counter.transform([caption for each in side for caption in each]))
        size.append(np.asarray(words[-1].sum(1)).ravel())
        mean.append((owner == np.arange(len(side))[:, None]) / np.bincount(owner)[:, None])
    shared = (words[0] @ words[1].T).toarray()
    return mean[0] @ (2 * shared / np.maximum(np.add.outer(*size), 1)) @ mean[1].T


def kendall(a, b, variant: str = "b") -> float:
    """Kendall's tau-b or tau-c of two lists (n,), in [-1, 1]; papers report it times 100.

    nan if one list is constant (as in I0T Table 2, where every score was clipped to 0).

    Raises: ValueError for another variant, lists that do not match, or fewer than two items.
    """
    from scipy.stats import kendalltau  # a second's import, which few notebooks need

    if variant not in ("b", "c"):
        raise ValueError(f'variant must be "b" or "c", not {variant!r}.')
    a, b = validation.numbers(a, "a", minimum=2), validation.numbers(b, "b", minimum=2)
    if len(a) != len(b):
        raise ValueError(f"a and b must be of one length; they have {len(a)} and {len(b)} items.")
    return float(kendalltau(a, b, variant=variant).statistic)


def kendall_of_counts(a, b, counts) -> np.ndarray:
    """Kendall's tau-b (draws,) of lists (n,) with item i counts[draw, i] times in them.

    `kendall` of the repeated items, for all resamples of a bootstrap at once (`bootstrap.counts`).
    nan where one list is constant. Memory grows with draws * n, time also with the number of
    different values in b.

    Raises: ValueError for lists that do not match, or fewer than two items.
    """
    a, b = validation.numbers(a, "a", minimum=2), validation.numbers(b, "b", minimum=2)
    if len(a) != len(b) or np.shape(counts)[-1] != len(a):
        raise ValueError(
            f"a, b and the rows of counts must be of one length; they have {len(a)}, {len(b)} and "
            f"{np.shape(counts)[-1]} items."
        )
    order = np.argsort(a)
    counts, b = np.asarray(counts, np.float64)[:, order], b[order]
    _, first, group = np.unique(a[order], return_index=True, return_inverse=True)
    total, concordant = counts.sum(1), np.zeros(len(counts))
    tied_a, tied_b = (np.add.reduceat(counts, first, axis=1) ** 2).sum(1), np.zeros(len(counts))
    for value in np.unique(b):
        here = counts * (b == value)
        tied_b += here.sum(1) ** 2
        # Items with this value, and with a smaller a than each item has.
        below = (np.cumsum(here, axis=1) - here)[:, first][:, group]
        concordant += (counts * below * np.sign(b - value)).sum(1)
    untied = (total**2 - tied_a) * (total**2 - tied_b)
    return np.divide(
        2 * concordant, np.sqrt(untied), out=np.full(len(counts), np.nan), where=untied > 0
    )


def agreement(score, ratings, variant: str = "b") -> float:
    """100 tau of scores (n,) with every single rating in ratings (n, raters).

    Each rating is a row of its own, with the same score, as in the code of CLIPScore; `kendall` of
    the mean ratings is another number.

    Raises: ValueError as `kendall`, or where a score has no row of ratings.
    """
    ratings = np.asarray(ratings)
    if ratings.ndim != 2 or len(ratings) != len(score):
        raise ValueError(f"ratings must have a row for each of the {len(score)} scores.")
    return 100 * kendall(np.repeat(score, ratings.shape[1]), ratings.ravel(), variant)


def densities(cosines, edges, which=None) -> np.ndarray:
    """Density (n, bins) of the cosines (n, m) of each row.

    Bins are given by their `edges` (bins + 1,). `which` (n, m) names the cosines that count; a row
    in which none counts gives nan. The mean over the rows is the density of all cosines, where
    each row weighs the same; a bootstrap over the rows resamples it.

    Raises: ValueError if `which` is of another shape.
    """
    cosines = np.asarray(cosines)
    which = np.ones(cosines.shape, bool) if which is None else np.asarray(which)
    if which.shape != cosines.shape:
        raise ValueError(f"which must be of shape {cosines.shape}, not {which.shape}.")
    counts = [np.histogram(row[its], edges)[0] for row, its in zip(cosines, which, strict=True)]
    with np.errstate(invalid="ignore"):
        return np.array(counts) / (which.sum(1, keepdims=True) * np.diff(edges))


def closeness(x, y) -> np.ndarray:
    """(n, m) minus half the squared Euclidean distance of every row of x (n, d) to every one of y.

    Rows are taken as they are, of any length; for unit rows it is their cosine less 1.
    """
    x, y = validation.array(x), validation.array(y)
    return x @ y.T - (x**2).sum(1, keepdims=True) / 2 - (y**2).sum(1) / 2


def reversals(before, after) -> np.ndarray:
    """(n,) share of comparisons whose outcome is reversed, for the query of each row.

    `before` and `after` (n, n) say how close a query is to each item. Item i is query i's own, and
    is left out. The result is the share of all pairs of other items that have changed their order:
    (1 - tau-b) / 2, which is 0 where no order has changed and 1/2 by chance.

    Raises: ValueError if the two are not square matrices of one size, or smaller than 3 x 3.
    """
    before, after = np.asarray(before), np.asarray(after)
    if before.shape != after.shape or before.ndim != 2 or len(before) != before.shape[1]:
        raise ValueError(f"Two matrices (n, n) are wanted, not {before.shape} and {after.shape}.")
    others = ~np.eye(len(before), dtype=bool)
    taus = [kendall(b[o], a[o]) for b, a, o in zip(before, after, others, strict=True)]
    return (1 - np.array(taus)) / 2

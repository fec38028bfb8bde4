"""How far apart two modalities lie, and what their embeddings look like.

Every function takes tensors or arrays, images as `x` (n, d) and texts as `y` (m, d), L2-normalises
them first (sums in float64) and gives floats or NumPy arrays. Bad input (not a matrix, other
width, too few rows, NaN, a zero vector) is a ValueError that names the row.

Sources: I0T (arXiv 2412.14384) and Mind the Gap (arXiv 2203.02053).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lib import validation
from lib.measures import bootstrap

SEVERE, MODERATE = 0.63, 0.19  # I0T section 3.1: the knots of its two fits
TILE = 1024  # rows of a similarity matrix held at a time


# --- distance between the modalities -------------------------------------------------------------


def centroid_gap(x, y) -> np.ndarray:
    """The gap vector (d,): mean image embedding minus mean text embedding.

    Source: Mind the Gap section 4, where it is called the modality gap.
    """
    x, y = validation.two_sets(x, y)
    return _moments(x)[0] - _moments(y)[0]


def centroid_distance(x, y) -> float:
    """CD, the length of the gap vector, in [0, 2]. Source: I0T section 3 (Centroid Distance)."""
    return float(np.linalg.norm(centroid_gap(x, y)))


def centroid_distance_interval(x, y, n_bootstrap: int = 1000, seed: int = 0) -> bootstrap.Estimate:
    """Centroid distance of pairs (n, d each), and its interval by bootstrap over the pairs.

    It estimates the distance of the means of all pairs that could have been drawn: the noise of
    the draw, which adds to `centroid_distance`, is taken off (`bootstrap.length_of_mean`).

    Raises: ValueError for fewer than 2 pairs or 100 resamples.
    """
    return bootstrap.length_of_mean(_apart(x, y), n_bootstrap, seed)


def resampled_centroid_distance(
    x, y, n_bootstrap: int = 1000, seed: int = 0
) -> bootstrap.Resampled:
    """`centroid_distance` of pairs (n, d each), and on each resample of them.

    For differences: `paired_difference` of two on the same pairs.

    Raises: ValueError for fewer than 2 pairs or 100 resamples.
    """
    return bootstrap.resampled_length(_apart(x, y), n_bootstrap, seed)


def minimum_cosine_distance(x, y, pairs: str = "all") -> float:
    """MCD: the smallest 1 - cos of an image and a text, in [0, 2].

    I0T section 3 does not say between which: `pairs="all"` takes every image with every text,
    `"matched"` row i with row i.
    """
    if pairs == "matched":
        return float(1 - _paired_cosine(x, y).max())
    if pairs != "all":
        raise ValueError(f'pairs must be "all" or "matched", not {pairs!r}.')
    x, y = map(validation.unit, validation.two_sets(x, y))
    return float(1 - max((x[i : i + TILE] @ y.T).max() for i in range(0, len(x), TILE)))


def alignment(x, y) -> float:
    """Mean cosine of the pairs (row i with row i), in [-1, 1].

    Source: AlignCLIP (arXiv 2406.17639) Table 1, the alignment score.
    """
    return float(_paired_cosine(x, y).mean())


def alignment_loss(x, y) -> float:
    """Mean squared distance of the pairs, = 2 - 2 * alignment; 0 is best.

    Source: Wang & Isola (arXiv 2005.10242) with alpha = 2, as in I0T appendix D.3.
    """
    return 2 - 2 * alignment(x, y)


def uniformity(x, t: float = 2.0) -> float:
    """log of the mean of exp(-t |a - b|^2) over the pairs of different rows; lower is more uniform.

    Time grows with n^2, memory with n. Source: Wang & Isola (arXiv 2005.10242), I0T appendix D.3.
    """
    return float(np.log(_mean_kernel(x, t).mean()))


def uniformity_interval(
    x, t: float = 2.0, n_bootstrap: int = 1000, seed: int = 0
) -> bootstrap.Estimate:
    """`uniformity` and its interval by bootstrap over the embeddings (n, d).

    The mean over pairs of rows is a U-statistic: it varies as twice the mean of the rows' own means
    (Hoeffding's projection), which is resampled; the n^2 pairs are computed once.

    Raises: ValueError for fewer than 2 embeddings or 100 resamples.
    """
    of_row = _mean_kernel(x, t)
    mean = of_row.mean()
    # Twice the deviation, as a factor: a logarithm of it is finite.
    return bootstrap.interval(
        lambda i: float(np.log(mean) + 2 * np.log(of_row[i].mean() / mean)),
        len(of_row),
        n_bootstrap,
        seed,
    )


def severity(centroid_distance: float) -> str:
    """ "severe" (CD >= 0.63), "moderate" (CD >= 0.19) or "low". Source: I0T section 3.1."""
    if not 0 <= centroid_distance <= 2:
        raise ValueError(f"A centroid distance lies in [0, 2]; {centroid_distance} does not.")
    if centroid_distance >= SEVERE:
        return "severe"
    return "moderate" if centroid_distance >= MODERATE else "low"


# --- can the modalities be told apart? -----------------------------------------------------------


def linear_separability(x, y, seed: int = 0) -> float:
    """LS = 1 - MSE, on held-out rows, of a linear regression that predicts the modality.

    Least squares with intercept (the smallest solution where there are many), labels 0 for images
    and 1 for texts, 70 % of each modality to fit and 30 % to test. It is not an accuracy: without
    any difference between the modalities, it tends to 0.75 for many rows, falls below that when n
    is not far above d, and may be negative. Source: I0T section 3 and appendix D.2; labels and
    intercept are not stated there.

    Raises: ValueError for fewer than 4 rows in a modality.
    """
    return float(1 - np.mean(np.concatenate(_squared_errors(x, y, seed))))


def linear_separability_interval(
    x, y, n_bootstrap: int = 1000, seed: int = 0
) -> bootstrap.Estimate:
    """`linear_separability` of pairs (n, d each), by bootstrap over held-out pairs.

    There is one split and one regression, and a pair is held out as a whole. If rows were split one
    by one, a text in the training half would tell against its image in the other: modalities that
    lie alike would be told apart worse than by chance.

    Raises: ValueError for fewer than 7 pairs or 100 resamples, or x and y that are not pairs.
    """
    images, texts = _squared_errors(*validation.pairs(x, y), seed, whole_pairs=True)
    return bootstrap.mean_interval(1 - (images + texts) / 2, n_bootstrap, seed)


def _squared_errors(x, y, seed: int, whole_pairs: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """The squared errors of the regression, of held-out images and of held-out texts."""
    from scipy.linalg import lstsq  # slow to import

    fit, test = _split(x, y, seed, whole_pairs)
    n = sum(len(index) for _, index, _ in fit)
    centre = sum(block.sum(0, dtype=np.float64) for block, _ in _blocks(fit)) / n
    label_centre = sum(label * len(index) for _, index, label in fit) / n
    # Normal equations in float64, block by block: d x d for any n. LAPACK's gelsy gives the
    # smallest solution where n < d, as its default does, in less than half the time.
    gram, moment = 0, 0
    for block, label in _blocks(fit):
        block = block - centre
        gram += block.T @ block
        moment += block.T @ (label - label_centre)
    small = len(gram) * np.finfo(np.float64).eps
    weights = lstsq(gram, moment, cond=small, lapack_driver="gelsy", check_finite=False)[0]
    error = [(block - centre) @ weights + label_centre - label for block, label in _blocks(test)]
    images, texts = np.split(np.concatenate(error) ** 2, [len(test[0][1])])
    return images, texts


def modality_classifier(x, y, seed: int = 0) -> dict[str, float]:
    """Held-out {"accuracy", "auc"} of a logistic regression that tells images from texts.

    Chance is 0.5 for both (accuracy: for equally many rows). Same split as linear_separability.
    Embeddings are scaled by sqrt(d), so that entries are of order one and scikit-learn's default
    penalty (C = 1) means the same for every d.

    Raises: ValueError for fewer than 4 rows in a modality.
    """
    from sklearn.metrics import roc_auc_score  # slow to import

    label, decision = _decisions(x, y, seed)
    return {
        "accuracy": float(np.mean((decision > 0) == label)),
        "auc": float(roc_auc_score(label, decision)),
    }


def auc_interval(x, y, n_bootstrap: int = 1000, seed: int = 0) -> bootstrap.Estimate:
    """The "auc" of `modality_classifier` for pairs (n, d each), by bootstrap over held-out pairs.

    One split and one classifier, with whole pairs held out (`linear_separability_interval` says
    why). By ranks: the share of couples in which the text has the greater decision, ties by half
    (Mann and Whitney).

    Raises: ValueError for fewer than 7 pairs or 100 resamples, or x and y that are not pairs.
    """
    from scipy.stats import rankdata  # slow to import

    label, decision = _decisions(*validation.pairs(x, y), seed, whole_pairs=True)
    images, texts = decision[label == 0], decision[label == 1]
    n = len(images)

    def auc(i: np.ndarray) -> float:
        ranks = rankdata(np.concatenate([images[i], texts[i]]))
        return float((ranks[n:].mean() - (n + 1) / 2) / n)

    return bootstrap.interval(auc, n, n_bootstrap, seed)


def _decisions(x, y, seed: int, whole_pairs: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Labels and decisions of the logistic regression for the held-out images, then the texts."""
    # Here, because most notebooks measure a gap without it, and it takes a second to import.
    from sklearn.linear_model import LogisticRegression

    (fit, fit_label), (test, test_label) = (
        map(np.concatenate, zip(*_blocks(part), strict=True))
        for part in _split(x, y, seed, whole_pairs)
    )
    scale = math.sqrt(fit.shape[1])
    model = LogisticRegression(max_iter=1000).fit(fit * scale, fit_label)
    return test_label, model.decision_function(test * scale)


def separability(x, y, n_splits: int = 5, seed: int = 0) -> dict[str, np.ndarray]:
    """How well images (n, d) and texts (m, d) are told apart on each of several random splits.

    "linear separability" (`linear_separability`), "accuracy" and "auc" (`modality_classifier`), one
    number per split each (n_splits,); the splits have the seeds from `seed` on. The smallest and
    the largest number are no 95 % interval.

    Raises: ValueError for fewer than 4 rows in a modality, or no split.
    """
    if n_splits < 1:
        raise ValueError(f"n_splits must be at least 1, not {n_splits}.")
    splits = range(seed, seed + n_splits)
    regressions = [linear_separability(x, y, split) for split in splits]
    classifiers = [modality_classifier(x, y, split) for split in splits]
    return {
        "linear separability": np.array(regressions),
        "accuracy": np.array([each["accuracy"] for each in classifiers]),
        "auc": np.array([each["auc"] for each in classifiers]),
    }


def silhouette(x, y) -> np.ndarray:
    """(n,) silhouette of pairs (n, d each) with the two modalities as clusters, in [-1, 1].

    s = (b - a) / max(a, b) for an embedding, with a its mean cosine distance to its own modality
    and b that to the other; the mean over an image and its text. It is above 0 for what lies
    nearer to its own modality. Source: Rousseeuw, J. Comput. Appl. Math. 20 (1987) 53-65.

    Raises: ValueError for fewer than 2 pairs, or x and y that are not pairs.
    """
    from sklearn.metrics import silhouette_samples  # slow to import

    x, y = validation.pairs(x, y)
    if len(x) < 2:
        raise ValueError("A silhouette needs at least 2 pairs.")
    modality = np.repeat([0, 1], len(x))
    both = silhouette_samples(np.concatenate([x, y]), modality, metric="cosine")
    return (both[: len(x)] + both[len(x) :]) / 2


def cosines_left_open(x, y) -> float:
    """How far exact cosines with the texts leave those among the images open, in their sd.

    Given the cosines of unit vectors x (n, d) with all of y (m, d), their projections p onto the
    span of y are known, and the cosine of two lies within sqrt(1 - |p_i|^2) sqrt(1 - |p_j|^2) of
    p_i.p_j. Returned is the square of the mean of sqrt(1 - |p|^2), divided by the standard
    deviation of the cosines among the images; 0 where y spans the space.
    """
    x, y = (validation.unit(each).astype(np.float64) for each in validation.two_sets(x, y))
    _, strength, directions = np.linalg.svd(y, full_matrices=False)
    known = x @ directions[strength / strength[0] > 1e-4].T
    rest = np.sqrt(np.maximum(0, 1 - (known**2).sum(1)))
    cosines = (x @ x.T)[~np.eye(len(x), dtype=bool)]
    return float(rest.mean() ** 2 / cosines.std(ddof=1))


# --- what the embeddings look like ---------------------------------------------------------------


class Activations(NamedTuple):
    """Mean and standard deviation over the samples of each dimension, (d,) each."""

    mean: np.ndarray
    std: np.ndarray


class Peak(NamedTuple):
    dimension: int  # counted from 0
    value: float


def activation_profile(x) -> Activations:
    """Mean and standard deviation of each dimension of the normalised embeddings.

    Source: I0T section 3.2, Fig. 3.
    """
    mean, square = _moments(validation.vectors(x, "x"))
    return Activations(mean, np.sqrt(np.maximum(square - mean**2, 0)))


def peaks(profile: Activations, k: int) -> list[Peak]:
    """The k dimensions whose mean activation is largest in size, largest first.

    Dimensions are counted from 0; I0T section 3.2 (93rd, 134th, 313th) does not say from where.
    """
    mean = profile.mean
    if not 1 <= k <= len(mean):
        raise ValueError(f"k must be between 1 and the {len(mean)} dimensions, not {k}.")
    order = np.argsort(-np.abs(mean), kind="stable")[:k]
    return [Peak(int(i), float(mean[i])) for i in order]


def dominating_share(x) -> np.ndarray:
    """Share (d,) of the squared norm of the mean embedding that each dimension holds; sums to 1.

    Raises: ValueError if the mean embedding is zero.
    """
    square = _moments(validation.vectors(x, "x"))[0] ** 2
    if square.sum() < 1e-14:
        raise ValueError("The mean embedding is zero, so that no dimension can dominate it.")
    return square / square.sum()


def peak_share(x, k: int = 1) -> float:
    """Share of the squared norm of the mean embedding that its k largest dimensions hold."""
    return float(np.sort(dominating_share(x))[-k:].sum())


def peak_share_interval(
    x, k: int = 1, n_bootstrap: int = 1000, seed: int = 0
) -> bootstrap.Estimate:
    """`peak_share` and its interval by bootstrap over the embeddings (n, d).

    Each resample has its own k largest dimensions.

    Raises: ValueError for fewer than 2 embeddings or 100 resamples.
    """
    x = validation.vectors(x, "x")
    return bootstrap.interval(lambda i: peak_share(x[i], k), len(x), n_bootstrap, seed)


def cosine_bound(p: float, q: float, d: float = math.inf) -> float:
    """Largest |cos| of an image with one peak `p` and a text with two peaks `q` in d dimensions.

    The peaks lie at different dimensions and all other entries are equal within a vector: an upper
    bound under that assumption only. Source: I0T section 3.3, appendix C (0.76 for p = -1/2,
    q = 1/3, d infinite).
    """
    if p**2 > 1 or 2 * q**2 > 1 or d < 3:
        raise ValueError(f"A unit vector needs p^2 <= 1, 2 q^2 <= 1 and d >= 3; got {p}, {q}, {d}.")
    p, q = abs(p), abs(q)
    image, text = math.sqrt(1 - p**2), math.sqrt(1 - 2 * q**2)
    if d == math.inf:
        return image * text
    image, text = image / math.sqrt(d - 1), text / math.sqrt(d - 2)  # one of the equal entries
    return 2 * q * image + p * text + (d - 3) * image * text


# --- where severity changes ----------------------------------------------------------------------


@dataclass(frozen=True)
class TwoPiece:
    """A continuous line with one bend: value + slope * (x - knot), a slope on each side."""

    knot: float
    value: float
    left: float
    right: float

    def __call__(self, x) -> np.ndarray:
        x = validation.array(x) - self.knot
        return self.value + self.left * np.minimum(x, 0) + self.right * np.maximum(x, 0)


def two_piece_fit(cd, values) -> TwoPiece:
    """The continuous two-piece line of least squares through (cd, values).

    For a given knot the rest is linear; the knot is the best of the observed points, refined
    between its neighbours. Source: I0T section 3.1, Fig. 2.

    Raises: ValueError for fewer than 4 different centroid distances.
    """
    from scipy.optimize import minimize_scalar  # as sklearn above: slow to import

    x, y = validation.numbers(cd, "cd"), validation.numbers(values, "values")
    if len(x) != len(y):
        raise ValueError(f"cd and values must be pairs; they have {len(x)} and {len(y)} items.")
    knots = np.unique(x)
    if len(knots) < 4:
        raise ValueError(f"A line with a bend needs 4 different distances; got {len(knots)}.")
    best = 1 + int(np.argmin([_bend(k, x, y)[1] for k in knots[1:-1]]))
    bounds = max(knots[best - 1], knots[1]), min(knots[best + 1], knots[-2])
    found = minimize_scalar(lambda k: _bend(k, x, y)[1], bounds=bounds, method="bounded")
    knot = found.x if found.fun < _bend(knots[best], x, y)[1] else knots[best]
    value, left, right = _bend(knot, x, y)[0]
    return TwoPiece(float(knot), float(value), float(left), float(right))


def _bend(knot, x, y) -> tuple[np.ndarray, float]:
    """Least squares for a given knot: (value, left, right) and the sum of squared errors."""
    parts = np.stack([np.ones_like(x), np.minimum(x - knot, 0), np.maximum(x - knot, 0)], 1)
    coefficients = np.linalg.lstsq(parts, y, rcond=None)[0]
    return coefficients, float(np.sum((parts @ coefficients - y) ** 2))


# --- helpers -------------------------------------------------------------------------------------


def _moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and mean square (d,) of the normalised rows, in float64."""
    total = np.zeros((2, x.shape[1]))
    for block in validation.unit_blocks(x):
        total[0] += block.sum(0, dtype=np.float64)
        total[1] += np.einsum("ij,ij->j", block, block, dtype=np.float64)
    return total[0] / len(x), total[1] / len(x)


def _apart(x, y) -> np.ndarray:
    """Image minus text of each pair (n, d), in float64; its mean is the gap vector."""
    x, y = validation.pairs(x, y)
    return validation.unit(x).astype(np.float64) - validation.unit(y)


def _mean_kernel(x, t: float) -> np.ndarray:
    """(n,) mean of exp(-t |a - b|^2) over the other rows b, for each row a."""
    x = validation.unit(validation.vectors(x, "x", minimum=2))
    total = np.zeros(len(x))
    for i in range(0, len(x), TILE):
        kernel = np.exp(2 * t * (x[i : i + TILE] @ x[i:].T - 1))
        np.fill_diagonal(kernel, 0)
        total[i : i + TILE] += kernel.sum(1, dtype=np.float64)
        total[i + TILE :] += kernel[:, TILE:].sum(0, dtype=np.float64)
    return total / (len(x) - 1)


def _paired_cosine(x, y) -> np.ndarray:
    x, y = validation.pairs(x, y)
    blocks = zip(validation.unit_blocks(x), validation.unit_blocks(y), strict=True)
    return np.concatenate([np.einsum("ij,ij->i", a, b, dtype=np.float64) for a, b in blocks])


def _split(x, y, seed: int, whole_pairs: bool = False):
    """70 % of each modality to fit, 30 % to test: two lists of (embeddings, row numbers, label)."""
    rng = np.random.default_rng(seed)
    fit, test = [], []
    for label, rows in enumerate(validation.two_sets(x, y, minimum=4)):
        rng = np.random.default_rng(seed) if whole_pairs else rng  # the same order for both
        order, cut = rng.permutation(len(rows)), round(0.7 * len(rows))
        fit.append((rows, order[:cut], float(label)))
        test.append((rows, order[cut:], float(label)))
    return fit, test


def _blocks(part):
    """The normalised rows that `_split` chose and their labels, in blocks."""
    for rows, index, label in part:
        for i in range(0, len(index), validation.BLOCK):
            block = validation.unit(rows[index[i : i + validation.BLOCK]])
            yield block, np.full(len(block), label)

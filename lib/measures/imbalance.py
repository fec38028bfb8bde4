"""What captions that leave things out do to embeddings: relative gap, object bias, entropy, shares.

Embeddings are tensors or arrays (n, d), L2-normalised first; sums in float64. The measures of one
number come with its resamples, so that differences between models are paired: subtract two on the
same items (`bootstrap.Resampled`), and take the mean over training seeds with
`bootstrap.over_seeds`. The value is that of all items.

Source: Two Effects, One Trigger (arXiv 2404.07983), whose code defines what its text describes
(https://github.com/lmb-freiburg/two-effects-one-trigger, folder analysis).
"""

from collections.abc import Mapping

import numpy as np

from lib import validation
from lib.measures.bootstrap import Resampled, counts, mean_of

OBJECT = "shape"


def relative_gap(x, y, n_bootstrap: int = 1000, seed: int = 0) -> Resampled:
    """RMG of pairs (n, d each), in [0, 1]: their distance, relative to the space that is in use.

    With d = (1 - cos) / 2, the mean d of the pairs, divided by itself plus the mean of the two
    modalities' mean d between different rows. 0 where every image lies on its text. Source: section
    4.1, Eq. 2, and `compute_rmg` of the code.

    Raises: ValueError for fewer than 2 pairs or 100 resamples, or x and y that are not pairs.
    """
    x, y = (validation.unit(each).astype(np.float64) for each in validation.pairs(x, y))
    paired = (x * y).sum(1)

    def ratio(weight: np.ndarray) -> np.ndarray:
        own = (1 - weight @ paired / weight.sum(-1)) / 2
        within = sum((1 - _agreeing(each, weight)) / 2 for each in (x, y)) / 2
        return own / (own + within)

    return _weighted(ratio, len(x), n_bootstrap, seed)


def _agreeing(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Mean cosine of different rows, each as often as `weight` (..., n) says: (...)."""
    total, pairs = _sums(x, weight)
    return total / pairs


def _sums(x: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the cosines over ordered pairs of different rows, and the number of such pairs."""
    own = (weight**2).sum(-1)  # a row with itself, or with a copy of itself: cosine 1
    return ((weight @ x) ** 2).sum(-1) - own, weight.sum(-1) ** 2 - own


def class_contrast(x, label, n_bootstrap: int = 1000, seed: int = 0) -> Resampled:
    """Mean cosine of rows (n, d) of the same class (n,), minus that of rows of different classes.

    How much a factor decides where embeddings lie. Source: section 5, `inter_intra_cossine_sims` of
    the code, which takes every couple across two classes above the diagonal; here all couples.

    Raises: ValueError for a single class, or bad input as elsewhere.
    """
    x = validation.unit(validation.vectors(x, "x", minimum=2)).astype(np.float64)
    classes = [label == k for k in np.unique(label)]
    if len(label) != len(x) or len(classes) < 2:
        raise ValueError("A contrast of classes needs a label for each row, and two classes.")

    def contrast(weight: np.ndarray) -> np.ndarray:
        each = [_sums(x[rows], weight[..., rows]) for rows in classes]
        same, n_same = (sum(part) for part in zip(*each, strict=True))
        every, n = _sums(x, weight)
        return same / n_same - (every - same) / (n - n_same)

    return _weighted(contrast, len(x), n_bootstrap, seed)


def object_bias(
    x, labels: Mapping[str, np.ndarray], n_bootstrap: int = 1000, seed: int = 0
) -> Resampled:
    """MOAD of one modality (n, d): above 0 if the object decides more than attributes do.

    The Matching Object Attribute Distance is the `class_contrast` of the object minus that of the
    attributes, (sim_o - sim_not_o) - (sim_a - sim_not_a); negative where attributes decide more.
    `labels` are the classes (n,) of each factor: of OBJECT, and of attributes, whose contrasts are
    averaged. The code has one attribute per image. Source: section 5; `moad` in
    analysis/object_bias_vs_performance.py.

    Raises: ValueError without OBJECT or an attribute.
    """
    attributes = [name for name in labels if name != OBJECT]
    if OBJECT not in labels or not attributes:
        raise ValueError(f"An object bias needs the labels of {OBJECT!r} and of an attribute.")
    each = {name: class_contrast(x, its, n_bootstrap, seed) for name, its in labels.items()}
    return each[OBJECT] - mean_of([each[name] for name in attributes])


def logit_entropy(x, y, scale: float, batch: int = 128, seed: int = 0) -> np.ndarray:
    """Entropy in nats of images' softmax over the texts of their batch; each in [0, log batch].

    The pairs (n, d each) are shuffled into batches, as in training, and an incomplete last batch is
    dropped. The result has n // batch * batch numbers, for the same pairs with every model.
    Source: section 6.2.

    Raises: ValueError for fewer pairs than a batch, or x and y that are not pairs.
    """
    x, y = (validation.unit(each).astype(np.float64) for each in validation.pairs(x, y))
    n = len(x)
    if n < batch:
        raise ValueError(f"{n} pairs are fewer than a batch of {batch}.")
    found = []
    for rows in np.random.default_rng(seed).permutation(n)[: n // batch * batch].reshape(-1, batch):
        logits = scale * x[rows] @ y[rows].T
        logits -= logits.max(1, keepdims=True)
        chance = np.exp(logits)
        total = chance.sum(1)
        found.append(np.log(total) - (chance * logits).sum(1) / total)
    return np.concatenate(found)


def variance_share(x, label, n_bootstrap: int = 1000, seed: int = 0) -> Resampled:
    """Share of the variance of rows (n, d) that lies between the means of their classes (n,).

    Sum over the classes of n_c |mean_c - mean|^2, divided by the sum of |x - mean|^2: in [0, 1], 1
    if rows of a class are all alike. With few rows for each class chance alone gives about
    (classes - 1) / (n - 1). The share of one attribute falls where others come to the fore.

    Raises: ValueError as `class_contrast`.
    """
    x = validation.unit(validation.vectors(x, "x", minimum=2)).astype(np.float64)
    classes = [label == k for k in np.unique(label)]
    if len(label) != len(x) or len(classes) < 2:
        raise ValueError("A share of variance needs a label for each row, and two classes.")

    def share(weight: np.ndarray) -> np.ndarray:
        n = weight.sum(-1)
        centre = ((weight @ x) ** 2).sum(-1) / n
        between = -centre
        for rows in classes:
            its = weight[..., rows]
            between = between + ((its @ x[rows]) ** 2).sum(-1) / np.maximum(its.sum(-1), 1)
        return between / (n - centre)

    return _weighted(share, len(x), n_bootstrap, seed)


def _weighted(statistic, n: int, n_bootstrap: int, seed: int) -> Resampled:
    """A statistic of weights (..., n), with every item once and on each resample."""
    drawn = counts(n, n_bootstrap, seed).astype(np.float64)
    return Resampled(float(statistic(np.ones(n))), statistic(drawn))

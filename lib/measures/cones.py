"""Cones of embeddings: how alike all inputs are to an encoder, and whether encoders stay apart.

Embeddings are unit rows (n, d) as NumPy arrays; `sets` holds those of the same n inputs, one array
per encoder. Sources: Mind the Gap (arXiv 2203.02053) section 2, its Figures 2 and 13.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from lib.measures import zeroshot


def cosines(x: np.ndarray) -> np.ndarray:
    """(n (n - 1) / 2,) cosines of all pairs of different inputs."""
    return (x @ x.T)[np.triu_indices(len(x), 1)]


def mean_cosine(x: np.ndarray, rows: np.ndarray | None = None) -> float:
    """Mean of `cosines`, without the n x n matrix: (|sum of x|^2 - n) / (n (n - 1)).

    `rows` (m,) is a resample of the inputs, for `bootstrap.interval`; copies of an input in it are
    no pair of different inputs and are left out.
    """
    weight = np.bincount(np.arange(len(x)) if rows is None else rows, minlength=len(x))
    total = weight @ x.astype(np.float64)
    same, n = weight @ weight, weight.sum()
    return float((total @ total - same) / (n * n - same))


def recognised(sets: Sequence[np.ndarray]) -> np.ndarray:
    """(n - n // 2,) share of the encoders that are recognised by their embedding of an input.

    An embedding of the second half of the inputs is given to the encoder whose mean over the first
    half is nearest.
    """
    half = len(sets[0]) // 2
    axes = np.stack([x[:half].mean(0) for x in sets])
    tested = np.concatenate([x[half:] for x in sets])
    labels = np.repeat(np.arange(len(sets)), len(sets[0]) - half)
    return zeroshot.evaluate(tested, axes, labels).top1.reshape(len(sets), -1).mean(0)


def disjoint(sets: Sequence[np.ndarray]) -> float:
    """Share of the pairs of encoders whose cones do not touch.

    A cone has the mean embedding as its axis and reaches to the embedding farthest from it. Two are
    disjoint if their half-angles add up to less than the angle between the axes.
    """
    axes = [x.mean(0) / np.linalg.norm(x.mean(0)) for x in sets]
    rims = [np.arccos((x @ axis).min()) for x, axis in zip(sets, axes, strict=True)]
    index = combinations(range(len(sets)), 2)
    return np.mean([np.arccos(axes[i] @ axes[j]) > rims[i] + rims[j] for i, j in index])

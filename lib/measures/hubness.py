"""Hubs: items that are among the nearest of many others.

Source: Radovanović, Nanopoulos & Ivanović, Hubs in space, JMLR 11 (2010) 2487-2531.
"""

import numpy as np
from scipy import stats

from lib import validation
from lib.measures import bootstrap

TILE_BYTES = 32 * 2**20
K = 10  # as in the source


def occurrences(query, gallery, k: int = K) -> np.ndarray:
    """(m,) k-occurrence N_k: for how many queries (n, d) an item of the gallery (m, d) is among
    the k of greatest cosine.

    Raises: ValueError for bad embeddings, or if k is not between 1 and m.
    """
    query, gallery = map(validation.unit, validation.two_sets(query, gallery))
    if not 1 <= k <= len(gallery):
        raise ValueError(f"k must be between 1 and the {len(gallery)} items, not {k}.")
    count = np.zeros(len(gallery), np.int64)
    rows = max(1, TILE_BYTES // (4 * len(gallery)))
    for i in range(0, len(query), rows):
        cosines = query[i : i + rows] @ gallery.T
        nearest = np.argpartition(cosines, -k, axis=1)[:, -k:]
        count += np.bincount(nearest.ravel(), minlength=len(gallery))
    return count


def skewness(
    query, gallery, k: int = K, n_bootstrap: int = 1000, seed: int = 0
) -> bootstrap.Estimate:
    """S_k = E[(N_k - mean)^3] / sd^3, by bootstrap over the items; above 0, some are hubs.

    nan if all items occur equally often. Source: equation (1) of the paper.

    Raises: ValueError as `occurrences`, or for fewer than 2 items or 100 resamples.
    """
    count = occurrences(query, gallery, k).astype(np.float64)
    with np.errstate(all="ignore"):
        return bootstrap.interval(lambda i: _skewness(count[i]), len(count), n_bootstrap, seed)


def _skewness(count: np.ndarray) -> float:
    return float(stats.skew(count)) if count.std() else float("nan")

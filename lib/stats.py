"""95 % intervals by the percentile bootstrap over test items; deterministic by seed.

Items must be independent: where several captions share an image, average over the image first.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from lib import checks

LEVEL = 0.95
BLOCK = 2**22  # item draws held at a time


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(
    statistic: Callable[[np.ndarray], float], n: int, n_bootstrap: int = 1000, seed: int = 0
) -> Estimate:
    """Interval of `statistic(indices)`, a number computed from the items that `indices` (n,) names.

    The value is that of every item once; each of the `n_bootstrap` resamples draws n of the n items
    with replacement. Taking several arrays at the same indices makes it paired:
    `bootstrap(lambda i: kendall(a[i], r[i]) - kendall(b[i], r[i]), len(r))`. A resample for which
    the statistic is nan makes the interval nan. Source: Efron & Tibshirani, An Introduction to the
    Bootstrap, chapter 13 (percentile interval).

    Raises: ValueError for fewer than 2 items or resamples.
    """
    draws = [statistic(i.copy()) for block in _resamples(n, n_bootstrap, seed) for i in block]
    return _estimate(statistic(np.arange(n)), draws)


def mean_interval(items, n_bootstrap: int = 1000, seed: int = 0) -> Estimate:
    """Interval of the mean of per-item numbers (n,), e.g. `recall(...).i2t[1]`.

    The same resamples, and so the same numbers, as `bootstrap` of the mean; no Python loop.

    Raises: ValueError for fewer than 2 items or resamples, or for NaN.
    """
    items = checks.numbers(items, "items")
    blocks = _resamples(len(items), n_bootstrap, seed)
    return _estimate(items.mean(), np.concatenate([items[block].mean(1) for block in blocks]))


def paired_difference(a, b, n_bootstrap: int = 1000, seed: int = 0) -> Estimate:
    """Interval of mean(a) - mean(b), for two methods measured on the same items (n,).

    Raises: ValueError for fewer than 2 items or resamples, lists that do not match, or NaN.
    """
    a, b = checks.numbers(a, "a"), checks.numbers(b, "b")
    if len(a) != len(b):
        raise ValueError(f"a and b must be of the same items; they have {len(a)} and {len(b)}.")
    return mean_interval(a - b, n_bootstrap, seed)


def length_of_mean(rows, n_bootstrap: int = 1000, seed: int = 0) -> Estimate:
    """Interval of the length of the mean of vectors, the items' rows (n, d).

    The same resamples, and so the same numbers, as `bootstrap` of that length; a resample is a
    weighted mean here, so all of them are one matrix product.

    Raises: ValueError for fewer than 2 items or resamples, or rows that are no finite matrix.
    """
    rows = checks.array(rows).astype(np.float64)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise ValueError(f"rows must be a matrix of finite numbers; its shape is {rows.shape}.")
    n = len(rows)

    def lengths(block: np.ndarray) -> np.ndarray:
        weights = np.stack([np.bincount(i, minlength=n) for i in block]) / n
        return np.linalg.norm(weights @ rows, axis=1)

    draws = [lengths(block) for block in _resamples(n, n_bootstrap, seed)]
    return _estimate(np.linalg.norm(rows.mean(0)), np.concatenate(draws))


def _resamples(n: int, n_bootstrap: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks (rows, n) of indices, `n_bootstrap` rows in all, in bounded memory."""
    if n < 2:
        raise ValueError(f"A bootstrap needs at least 2 items to draw from; got {n}.")
    if n_bootstrap < 2:
        raise ValueError(f"n_bootstrap must be at least 2, not {n_bootstrap}.")
    if n * n_bootstrap <= BLOCK:
        return iter([_one_block(n, n_bootstrap, seed)])
    return _blocks(n, n_bootstrap, np.random.default_rng(seed))


@functools.lru_cache(maxsize=1)
def _one_block(n: int, n_bootstrap: int, seed: int) -> np.ndarray:
    """Kept for the next call: a notebook asks for the same resamples of its items many times."""
    (block,) = _blocks(n, n_bootstrap, np.random.default_rng(seed))
    block.setflags(write=False)
    return block


def _blocks(n: int, n_bootstrap: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    rows = max(1, BLOCK // n)
    for first in range(0, n_bootstrap, rows):
        yield rng.integers(0, n, (min(rows, n_bootstrap - first), n))


def _estimate(value: float, draws) -> Estimate:
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(value), float(low), float(high))

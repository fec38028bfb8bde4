"""95 % intervals by the percentile bootstrap over test items; deterministic by seed.

Items must be independent: where several captions share an image, average over the image first.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pandas as pd

from lib import validation

LEVEL = 0.95
FEWEST = 100  # resamples for which the ends of an interval mean something
BLOCK = 2**22  # item draws held at a time


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval.

    As text: `f"{estimate:+z.1f}"` is "+2.5 [-0.1, +5.1]", each number in the given format.
    """

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        value, low, high = (format(x, spec or ".3f") for x in (self.value, self.low, self.high))
        return f"{value} [{low}, {high}]"

    def __str__(self) -> str:
        return format(self, "")

    def __mul__(self, factor: float) -> "Estimate":
        """In another unit, e.g. `100 * share`; a negative factor turns the interval round."""
        ends = sorted((factor * self.low, factor * self.high))
        return Estimate(factor * self.value, *ends)

    __rmul__ = __mul__

    def __neg__(self) -> "Estimate":
        return -1 * self

    def above(self, bound: float = 0.0) -> bool:
        """Whether the whole interval lies above the bound."""
        return self.low > bound

    def below(self, bound: float = 0.0) -> bool:
        """Whether the whole interval lies below the bound."""
        return self.high < bound

    def within(self, low: float, high: float) -> bool:
        """Whether the whole interval lies inside [low, high]."""
        return low <= self.low and self.high <= high


def interval(
    statistic: Callable[[np.ndarray], float], n: int, n_bootstrap: int = 1000, seed: int = 0
) -> Estimate:
    """Interval of `statistic(indices)`, a number computed from the items that `indices` (n,) names.

    The value is that of all items; each of the `n_bootstrap` resamples draws n of the n items with
    replacement. Taking several arrays at the same indices makes it paired:
    `interval(lambda i: kendall(a[i], r[i]) - kendall(b[i], r[i]), len(r))`. A resample for which
    the statistic is nan makes the interval nan. Source: Efron & Tibshirani, An Introduction to the
    Bootstrap, chapter 13 (percentile interval).

    Raises: ValueError for fewer than 2 items or 100 resamples.
    """
    draws = [statistic(i.copy()) for block in _resamples(n, n_bootstrap, seed) for i in block]
    return _estimate(statistic(np.arange(n)), draws)


@dataclass(frozen=True, eq=False)
class Resampled:
    """A number, and what it is on each resample (n_bootstrap,): see `resampled`.

    The difference of two from one call is paired: `paired_difference(a, b)`.
    """

    value: float
    draws: np.ndarray

    def __sub__(self, other: "Resampled") -> "Resampled":
        return Resampled(self.value - other.value, self.draws - other.draws)

    def estimate(self) -> Estimate:
        return _estimate(self.value, self.draws)


def resampled(
    statistics: Mapping[object, Callable[[np.ndarray], float]],
    n: int,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> dict[object, Resampled]:
    """Several statistics of the same n items on the same resamples, each computed once, by key.

    For statistics that are slow to compute and compared in many pairs. A statistic and its
    resamples are those of `interval`, and so are the numbers.

    Raises: ValueError for fewer than 2 items or 100 resamples.
    """
    draws = [i for block in _resamples(n, n_bootstrap, seed) for i in block]
    return {
        key: Resampled(statistic(np.arange(n)), np.array([statistic(i.copy()) for i in draws]))
        for key, statistic in statistics.items()
    }


def mean_interval(items, n_bootstrap: int = 1000, seed: int = 0) -> Estimate:
    """Interval of the mean of per-item numbers (n,), e.g. `recall(...).i2t[1]`.

    The same resamples, and so the same numbers, as `interval` of the mean; no Python loop.

    Raises: ValueError for fewer than 2 items or 100 resamples, or for NaN.
    """
    items = validation.numbers(items, "items")
    return _estimate(items.mean(), _means_of_resamples(items, n_bootstrap, seed))


def paired_difference(a, b, n_bootstrap: int = 1000, seed: int = 0) -> Estimate:
    """Interval of mean(a) - mean(b), for two methods measured on the same items (n,).

    Or of a - b for two `Resampled` of one call, which have their resamples with them.

    Raises: ValueError for fewer than 2 items or 100 resamples, lists that do not match, or NaN.
    """
    if isinstance(a, Resampled):
        return (a - b).estimate()
    a, b = validation.numbers(a, "a"), validation.numbers(b, "b")
    if len(a) != len(b):
        raise ValueError(f"a and b must be of the same items; they have {len(a)} and {len(b)}.")
    return mean_interval(a - b, n_bootstrap, seed)


def length_of_mean(rows, n_bootstrap: int = 1000, seed: int = 0) -> Estimate:
    """Length of the mean of the population that vectors (n, d) are drawn from, and its interval.

    The mean of n rows is longer than the population's, because noise of variance tr(cov) / n adds
    to its squared length; a resample adds the same once more. So the squared length is estimated
    less that noise, and its resamples less twice that noise; both are 0 where that is negative.
    Coverage is at least 90 % for lengths from 0.02 to 1 (`tests/test_bootstrap.py` simulates it),
    where the plain percentile interval of the length has 0 % at 0.02.

    Raises: ValueError for fewer than 2 items or 100 resamples, or a matrix that is not finite.
    """
    length = resampled_length(rows, n_bootstrap, seed)
    noise = validation.array(rows).astype(np.float64).var(axis=0, ddof=1).sum() / len(rows)
    return _less(length, noise)


def less_noise(length: Resampled) -> Estimate:
    """The same as `length_of_mean`, where the noise is known from the resamples alone.

    A resample's squared length is on average greater than that of the whole, by the noise.
    """
    noise = max(0.0, float(np.mean(length.draws**2)) - length.value**2)
    return _less(length, noise)


def _less(length: Resampled, noise: float) -> Estimate:
    squared = _estimate(length.value**2 - noise, length.draws**2 - 2 * noise)
    return Estimate(*(math.sqrt(max(0.0, x)) for x in (squared.value, squared.low, squared.high)))


def resampled_length(rows, n_bootstrap: int = 1000, seed: int = 0) -> Resampled:
    """Length of the mean of vectors (n, d), and of that of each resample.

    The same numbers as `resampled` of it gives; a mean of resampled rows is a weighted mean, so
    that all of them are one matrix product.

    Raises: ValueError for fewer than 2 items or 100 resamples, or a matrix that is not finite.
    """
    rows = validation.array(rows).astype(np.float64)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise ValueError(f"rows must be a matrix of finite numbers; its shape is {rows.shape}.")
    n = len(rows)
    blocks = (_counted(block) / n for block in _resamples(n, n_bootstrap, seed))
    draws = np.concatenate([np.linalg.norm(weights @ rows, axis=1) for weights in blocks])
    return Resampled(float(np.linalg.norm(rows.mean(0))), draws)


def resampled_mean(items, n_bootstrap: int = 1000, seed: int = 0) -> Resampled:
    """The mean of per-item numbers (n,), and on each resample of the items: see `mean_interval`."""
    items = validation.numbers(items, "items")
    return Resampled(float(items.mean()), _means_of_resamples(items, n_bootstrap, seed))


def by_blocks(
    statistics: Callable[[np.ndarray], Mapping[object, float]],
    n: int,
    n_bootstrap: int = 1000,
    seed: int = 0,
    blocks: int = 50,
) -> dict[object, Resampled]:
    """Smooth statistics of n items by key, and on resamples of random blocks of them.

    `statistics(indices)` gives all of them. For what repeated items would bias (neighbours, mutual
    information), or what is slow: it is computed once without each block, never on an item twice.
    The pseudo-values, (blocks - 1) times (their mean - each), are resampled about the value of all
    items. The blocks depend on `n` and `seed` alone, so that differences are paired. Source: the
    jackknife with groups, Efron & Tibshirani, An Introduction to the Bootstrap, chapter 11.

    Raises: ValueError for fewer than 2 items or 100 resamples.
    """
    blocks = min(blocks, n)
    block = np.random.default_rng(seed).permutation(n) % blocks
    values = statistics(np.arange(n))
    without = [statistics(np.flatnonzero(block != b)) for b in range(blocks)]
    found = {}
    for key, value in values.items():
        each = np.array([one[key] for one in without])
        moves = (blocks - 1) * (each.mean() - each)
        draws = value + _means_of_resamples(moves, n_bootstrap, seed)
        found[key] = Resampled(float(value), draws)
    return found


def mean_of(several: Sequence[Resampled]) -> Resampled:
    """The mean of several numbers on the same resamples, on each of them."""
    values, draws = zip(*((one.value, one.draws) for one in several), strict=True)
    return Resampled(float(np.mean(values)), np.mean(draws, axis=0))


def least_squares(design: np.ndarray, several: Sequence[Resampled]) -> list[Resampled]:
    """Coefficients of a fit of n numbers to the columns of `design` (n, m), on each resample."""
    solve = np.linalg.pinv(design)
    values = solve @ [one.value for one in several]
    draws = solve @ np.stack([one.draws for one in several])
    return [Resampled(float(v), d) for v, d in zip(values, draws, strict=True)]


def over_seeds(each: Sequence[Resampled], minus: Sequence[Resampled] | None = None) -> Estimate:
    """Mean of a number over training seeds, and its interval over seeds and test items.

    `each` is the number with each seed, on the same resamples of the same items; `minus` is
    subtracted seed by seed. The half-width is sqrt(a^2 + b^2): a is the half-width of Student's
    interval over the seeds (4.3 standard errors for three), b that of the bootstrap of their mean
    over the items.

    Raises: ValueError for fewer than 2 seeds, or another number of seeds to subtract.
    """
    from scipy.stats import t  # slow to import

    if minus is not None:
        each = [a - b for a, b in zip(each, minus, strict=True)]
    if len(each) < 2:
        raise ValueError("An interval over seeds needs at least 2 of them.")
    values = np.array([one.value for one in each])
    items = mean_of(each).estimate()
    wide = t.ppf((1 + LEVEL) / 2, len(each) - 1) * values.std(ddof=1) / math.sqrt(len(each))
    low = items.value - math.hypot(wide, items.value - items.low)
    return Estimate(items.value, low, items.value + math.hypot(wide, items.high - items.value))


def counts(n: int, n_bootstrap: int = 1000, seed: int = 0) -> np.ndarray:
    """How often each of n items is in each resample: (n_bootstrap, n).

    For statistics that can be computed from them on all resamples at once.

    Raises: ValueError for fewer than 2 items or 100 resamples.
    """
    return np.concatenate([_counted(block) for block in _resamples(n, n_bootstrap, seed)])


def mean_over_sets(
    scores: Mapping[object, np.ndarray],
    together: Sequence[Sequence],
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Interval of the mean over data sets of each set's own mean, by bootstrap over their items.

    `scores` has per-item numbers (n,) by data set; `together` lists the data sets, those of the
    same items (in the same order) together, as `lib.data.labelled.same_images` does. Sets of the
    same items get the same resamples, other sets independent ones. Where all sets have the same
    items, this is `mean_interval` of the mean over the sets, item by item.

    Raises: ValueError for fewer than 2 items or 100 resamples, sets of "the same" items that differ
    in length, NaN, or no data set.
    """
    n_sets = sum(map(len, together))
    if not n_sets:
        raise ValueError("A mean over data sets needs at least one.")
    value, draws = 0.0, np.zeros(n_bootstrap)
    for k, keys in enumerate(together):
        sets = [validation.numbers(scores[key], str(key)) for key in keys]
        if len({len(items) for items in sets}) > 1:
            raise ValueError(f"{', '.join(map(str, keys))} cannot have the same items.")
        part = np.sum(sets, axis=0) / n_sets
        value += part.mean()
        draws += _means_of_resamples(part, n_bootstrap, seed + k)
    return _estimate(value, draws)


def means(scores: Mapping[object, np.ndarray], n_bootstrap: int = 1000, seed: int = 0) -> dict:
    """`mean_interval` of per-item numbers by key."""
    return {key: mean_interval(each, n_bootstrap, seed) for key, each in scores.items()}


def differences(
    scores: Mapping[object, np.ndarray],
    against: Mapping[object, np.ndarray],
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> dict:
    """`paired_difference` by key: scores minus those that they are compared with.

    Keys that only one of the two has are left out.
    """
    both = [key for key in scores if key in against]
    return {key: paired_difference(scores[key], against[key], n_bootstrap, seed) for key in both}


def minus(
    scores: Mapping[tuple, np.ndarray], reference: object, n_bootstrap: int = 1000, seed: int = 0
) -> dict:
    """`paired_difference` by key: minus the scores of the same key that ends with `reference`.

    Of ("shape", "OTI") and ("shape", "native"), `minus(scores, "native")` makes ("shape", "OTI"),
    OTI minus native. Keys without such a partner are left out.
    """
    partners = {key: scores.get((*key[:-1], reference)) for key in scores if key[-1] != reference}
    against = {key: each for key, each in partners.items() if each is not None}
    return differences(scores, against, n_bootstrap, seed)


def simultaneous(estimates: Mapping[object, Estimate]) -> dict[object, Estimate]:
    """The same estimates with intervals for a family of comparisons with 0, by Holm's method.

    A rule that looks for the worst of many comparisons would find one by chance. So the comparison
    with the most evidence against 0 gets an interval of level 1 - 0.05 / m, the next one an
    interval of level 1 - 0.05 / (m - 1), and so on. Once an interval contains 0, all that follow
    contain it, too, and keep the level of that step. Each side of an interval is stretched by the
    ratio of the normal quantiles. Source: Holm, Scandinavian Journal of Statistics 6 (1979) 65-70.
    """
    ordered = sorted(estimates, key=lambda key: -_evidence(estimates[key]))
    wider, m = {}, len(ordered)
    for k, key in enumerate(ordered):
        wider[key] = _stretched(estimates[key], m)
        if wider[key].above() or wider[key].below():
            m = max(1, len(ordered) - k - 1)
    return {key: wider[key] for key in estimates}


def _evidence(e: Estimate) -> float:
    """How many of its own half-widths (of the side towards 0) an estimate lies from 0."""
    side = e.value - e.low if e.value > 0 else e.high - e.value
    if side > 0:
        return abs(e.value) / side
    return math.inf if e.value else 0.0


def _stretched(e: Estimate, m: int) -> Estimate:
    """The interval of one of m comparisons."""
    tail, quantile = (1 - LEVEL) / 2, NormalDist().inv_cdf
    ratio = quantile(1 - tail / m) / quantile(1 - tail)
    low, high = e.value - ratio * (e.value - e.low), e.value + ratio * (e.high - e.value)
    return Estimate(e.value, low, high)


def tidy(estimates: Mapping[object, Estimate], columns: Sequence[str]) -> pd.DataFrame:
    """A tidy table of estimates by key: the parts of the key under `columns`, value, low, high.

    A key is one entry for one column, or a tuple with an entry for each.
    """
    rows = [
        [*(key if isinstance(key, tuple) else (key,)), e.value, e.low, e.high]
        for key, e in estimates.items()
    ]
    return pd.DataFrame(rows, columns=[*columns, "value", "low", "high"])


def in_words(
    estimates: Mapping[tuple, Estimate], spec: str = "", level=-1, sort: bool = True
) -> pd.DataFrame:
    """Estimates by key as text in a table, to be read: a level of the keys (or several) across.

    Without any estimate, an empty table. `spec` is that of `Estimate`; `sort`: rows and columns in
    alphabetical order, or as they come.
    """
    text = pd.Series({key: format(e, spec) for key, e in estimates.items()}, dtype=object)
    return text.unstack(level, sort=sort) if len(text) else pd.DataFrame()


def _resamples(n: int, n_bootstrap: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks (rows, n) of indices, `n_bootstrap` rows in all, in bounded memory."""
    if n < 2:
        raise ValueError(f"A bootstrap needs at least 2 items to draw from; got {n}.")
    if n_bootstrap < FEWEST:
        raise ValueError(
            f"{n_bootstrap} resamples give no 95 % interval: n_bootstrap must be at least {FEWEST}."
        )
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


def _counted(block: np.ndarray) -> np.ndarray:
    """How often each item is in each row of a block (rows, n) of indices."""
    n = block.shape[1]
    return np.stack([np.bincount(i, minlength=n) for i in block])


def _means_of_resamples(items: np.ndarray, n_bootstrap: int, seed: int) -> np.ndarray:
    blocks = _resamples(len(items), n_bootstrap, seed)
    return np.concatenate([items[block].mean(1) for block in blocks])


def _estimate(value: float, draws) -> Estimate:
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(value), float(low), float(high))

"""What sums over pairs tell of the gap: one pass over any number of them, and merged exactly.

Pairs are summed in blocks, ranges of consecutive rows. The sums of two parts of the pairs, each
made on another machine perhaps, are added (`Sums.__add__`), and tell what one pass over all tells.
"""

import functools
from dataclasses import dataclass, fields

import numpy as np

from lib import validation
from lib.measures import bootstrap

BLOCKS = 1000  # of pairs, which the bootstrap resamples; with fewer pairs, each is a block
FEW = 64  # rows


class BadRow(ValueError):
    """A row without a direction: its place in what was added, and what is wrong with it."""

    def __init__(self, row: int, wrong: str, images: bool):
        super().__init__(f"Row {row} of the {'images' if images else 'texts'} {wrong}.")
        self.row, self.wrong, self.images = row, wrong, images


def blocks(n: int) -> np.ndarray:
    """The first row of each block of n pairs, and n at the end: (blocks + 1,).

    Consecutive rows are in one block. Where files are sorted and neighbours are alike, intervals
    become wider, never narrower.
    """
    return np.linspace(0, n, min(n, BLOCKS) + 1).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over the pairs of each block, of L2-normalised embeddings, in float64.

    Pairs (blocks,), embeddings and squared entries of each modality (blocks, d), and cosines of the
    pairs (blocks,).
    """

    pairs: np.ndarray
    image: np.ndarray
    text: np.ndarray
    image_square: np.ndarray
    text_square: np.ndarray
    cosine: np.ndarray

    @classmethod
    def empty(cls, n: int, d: int) -> "Sums":
        """No pair yet, of n pairs in d dimensions that may be added."""
        b = len(blocks(n)) - 1
        return cls(np.zeros(b), *np.zeros((4, b, d)), np.zeros(b))

    @property
    def d(self) -> int:
        return self.image.shape[1]

    @classmethod
    def of(cls, x, y) -> "Sums":
        """Sums of pairs (n, d each) that are in memory, each of which is a block of its own."""
        x, y = (validation.unit(each).astype(np.float64) for each in validation.pairs(x, y))
        return cls(np.ones(len(x)), x, y, x**2, y**2, np.einsum("ij,ij->i", x, y))

    def add(self, edges: np.ndarray, first: int, x: np.ndarray, y: np.ndarray) -> None:
        """Add pairs (k, d each; float32), the rows from `first` on, in place.

        `edges` are those of `blocks`. Raises: BadRow for a row that is not finite or a zero vector.
        """
        begin, end = np.searchsorted(edges, [first, first + len(x) - 1], "right") - 1
        cuts = np.clip(edges[begin : end + 2] - first, 0, len(x))  # where the blocks end in x
        lengths, sums = np.empty((2, len(x)), np.float32), np.zeros((4, len(cuts) - 1, self.d))
        here = slice(begin, end + 1)
        self.cosine[here] += _compiled()(x, y, cuts, lengths, sums)
        check(lengths[0], images=True)
        check(lengths[1], images=False)
        for total, its in zip(
            (self.image, self.image_square, self.text, self.text_square), sums, strict=True
        ):
            total[here] += its
        self.pairs[here] += np.diff(cuts)

    def __add__(self, other: "Sums") -> "Sums":
        """The sums of both parts of the same pairs."""
        each = (getattr(self, field.name) + getattr(other, field.name) for field in fields(self))
        return Sums(*each)

    def means(self, without: "Sums | None" = None) -> tuple[np.ndarray, np.ndarray]:
        """Mean image and mean text (d,) of all pairs, or of those that are not in `without`."""
        n, image, text = self.pairs.sum(), self.image.sum(0), self.text.sum(0)
        if without is not None:
            n, image = n - without.pairs.sum(), image - without.image.sum(0)
            text = text - without.text.sum(0)
        return image / n, text / n

    def profile(self, images: bool) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (d,) of each dimension, as `gap.activation_profile`."""
        total, square = (self.image, self.image_square) if images else (self.text, self.text_square)
        mean = total.sum(0) / self.pairs.sum()
        return mean, np.sqrt(np.maximum(square.sum(0) / self.pairs.sum() - mean**2, 0))

    def estimates(self, n_bootstrap: int = 1000, seed: int = 0) -> dict[str, bootstrap.Estimate]:
        """What these sums tell, with intervals by bootstrap over the blocks.

        - centroid distance: I0T section 3, less the noise of the draw (`bootstrap.less_noise`).
        - pair cosine: mean cosine of the pairs, AlignCLIP's alignment.
        - random cosine: mean cosine of an image and a text that is not its own.
        - pair minus random: the difference of these two.
        - peak share, images and texts: `gap.peak_share`, share of the largest dimension in the
          squared norm of the mean.

        Raises: ValueError for fewer than 2 blocks or 100 resamples.
        """
        once = np.ones((1, len(self.pairs)))
        drawn = bootstrap.counts(len(self.pairs), n_bootstrap, seed).astype(np.float64)
        values, draws = self._told(once), self._told(drawn)
        told = {k: bootstrap.Resampled(float(values[k][0]), draws[k]) for k in values}
        estimates = {key: each.estimate() for key, each in told.items()}
        distance = bootstrap.less_noise(told["centroid distance"])
        return estimates | {"centroid distance": distance}

    def _told(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """The same on resamples: how often each block is in each of them (resamples, blocks)."""
        n = weights @ self.pairs
        image, text = (weights @ total / n[:, None] for total in (self.image, self.text))
        pair = weights @ self.cosine / n
        # An image drawn k times meets its own text k * k times: these are not random pairs.
        own, own_cosine = weights**2 @ self.pairs, weights**2 @ self.cosine
        all_cosine = n**2 * np.vecdot(image, text)
        others = (all_cosine - own_cosine) / np.maximum(n**2 - own, 1)
        told = {
            "centroid distance": np.linalg.norm(image - text, axis=1),
            "pair cosine": pair,
            "random cosine": others,
            "pair minus random": pair - others,
        }
        for name, mean in (("images", image), ("texts", text)):
            told[f"peak share, {name}"] = (mean**2).max(1) / np.maximum((mean**2).sum(1), 1e-14)
        return told


def check(squared: np.ndarray, images: bool) -> None:
    """Refuse rows without a direction, by their squared lengths (k,). Raises: BadRow."""
    if not (squared.min() > 0 and squared.max() < np.inf):  # not so if one is NaN, either
        row = int(np.flatnonzero(~((squared > 0) & (squared < np.inf)))[0])
        wrong = "is a zero vector, which has no direction"
        if squared[row]:
            wrong = "is not finite (NaN or infinite)"
        raise BadRow(row, wrong, images)


def _add(x, y, cuts, lengths, sums):
    """All sums and the squared lengths, in one go over the rows where NumPy would go eight times.

    Block k is of the rows from cuts[k] to cuts[k + 1]; sums (4, blocks, d). Entries are added up in
    float32 over `FEW` rows, and these sums in float64. Returns the sums of cosines (blocks,).
    """
    cosine = np.zeros(len(cuts) - 1)
    few = np.zeros((4, x.shape[1]), np.float32)
    for k in range(len(cuts) - 1):
        for first in range(cuts[k], cuts[k + 1], FEW):
            few[:] = 0
            for i in range(first, min(first + FEW, cuts[k + 1])):
                xx = yy = xy = np.float32(0)
                for j in range(x.shape[1]):
                    xx += x[i, j] * x[i, j]
                    yy += y[i, j] * y[i, j]
                    xy += x[i, j] * y[i, j]
                lengths[0, i], lengths[1, i] = xx, yy
                a, b = np.float32(1) / np.sqrt(xx), np.float32(1) / np.sqrt(yy)
                cosine[k] += a * b * xy
                for j in range(x.shape[1]):
                    u, v = a * x[i, j], b * y[i, j]
                    few[0, j] += u
                    few[1, j] += u * u
                    few[2, j] += v
                    few[3, j] += v * v
            for r in range(4):
                for j in range(x.shape[1]):
                    sums[r, k, j] += few[r, j]
    return cosine


@functools.cache
def _compiled():
    from numba import njit  # slow to import

    # Sums in any order, so that the processor adds several at once; NaN and inf stay what they are.
    return njit(fastmath={"reassoc", "contract"}, error_model="numpy", cache=True)(_add)

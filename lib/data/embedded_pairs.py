"""Pairs of embeddings, of any number: one pass that sums over all and keeps a sample."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from lib import validation
from lib.data.embedding_files import Rows
from lib.measures.stream import BadRow, Sums, blocks, check

SAMPLE = 5_000  # pairs on which is measured what needs all pairs at once; at most half of them
PIECE = 2_048  # pairs read at a time
SORTABLE = 200_000  # texts that are put in the order of their images in memory, if need be


class Held:
    """Embeddings (n, d) in memory, in the form of `Rows`."""

    def __init__(self, rows, name: str):
        self._rows, self.name, self._taken = validation.vectors(rows, name), name, 0
        self.n, self.d = self._rows.shape

    def take(self, k: int) -> np.ndarray:
        self._taken += k
        return self._rows[self._taken - k : self._taken]

    def place(self, row: int) -> str:
        return f"Row {row} of {self.name}"


@dataclass(frozen=True, eq=False)
class Sample:
    """Images (n, d), their texts (m, d), and the image of each text, ascending (None: the same)."""

    image: np.ndarray
    text: np.ndarray
    owner: np.ndarray | None


class Pairs:
    """Images and texts that belong together: row i with row i, or each text with its owner.

    Args:
        images, texts: `Rows` or `Held`, which are read once.
        owner: (m,) the row of each text's image; None where row i belongs to row i.

    Raises: ValueError, in one sentence, if they cannot be pairs.
    """

    def __init__(self, images: Rows | Held, texts: Rows | Held, owner: np.ndarray | None = None):
        if images.d != texts.d:
            raise ValueError(f"{images.name} has {images.d} dimensions and {texts.name} {texts.d}: "
                "images and texts must be of one embedding space.")  # fmt: skip
        if owner is None and images.n != texts.n:
            raise ValueError(f"{images.name} has {images.n:,} rows and {texts.name} {texts.n:,}: "
                "row i of one belongs to row i of the other, or --owner names a file that holds "
                "the row of each text's image.")  # fmt: skip
        if owner is not None:
            _check_owner(owner, images, texts)
            if (np.diff(owner) < 0).any():
                owner, texts = _sorted(owner, texts)
        self.images, self.texts, self.owner = images, texts, owner
        self.n, self.d = images.n, images.d

    def rows(self, seed: int = 0) -> np.ndarray:
        """The images of the sample: row numbers, ascending, drawn without replacement."""
        some = min(SAMPLE, self.n // 2)
        return np.sort(np.random.default_rng(seed).choice(self.n, some, replace=False))

    def summed(
        self, seed: int = 0, progress: Callable[[int], object] = lambda pairs: None
    ) -> tuple[Sums, Sample]:
        """Sums over all pairs (the first text of each image), and a sample with all of its texts.

        Raises: ValueError for a row that is not finite or a zero vector, which it names, or if all
        images equal their texts.
        """
        sums, kept, edges, rows = Sums.empty(self.n, self.d), [], blocks(self.n), self.rows(seed)
        for start, begin, x, texts in self._pieces():
            try:
                if self.owner is None:
                    sums.add(edges, start, x, texts)
                else:
                    check(np.vecdot(texts, texts), images=False)
                    owner = self.owner[begin : begin + len(texts)] - start
                    sums.add(edges, start, x, texts[np.unique(owner, return_index=True)[1]])
            except BadRow as error:
                side, first = (self.images, start) if error.images else (self.texts, begin)
                raise ValueError(f"{side.place(first + error.row)} {error.wrong}: encode it again, "
                    "or leave the pair out.") from None  # fmt: skip
            chosen = rows[slice(*np.searchsorted(rows, [start, start + len(x)]))] - start
            if self.owner is None:
                kept.append((x[chosen], texts[chosen], chosen + start))
            else:
                some = np.isin(owner, chosen)
                kept.append((x[chosen], texts[some], owner[some] + start))
            progress(len(x))
        if sums.cosine.sum() > (1 - 1e-6) * self.n:
            raise ValueError(f"{self.images.name} and {self.texts.name} hold the same embeddings: "
                "there is no gap to measure.")  # fmt: skip
        image, text, owner = map(np.concatenate, zip(*kept, strict=True))
        return sums, Sample(
            image, text, None if self.owner is None else np.searchsorted(rows, owner)
        )

    def _pieces(self) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
        """First image, first text, images, and their texts, piece by piece."""
        for start in range(0, self.n, PIECE):
            k = min(PIECE, self.n - start)
            span = start, start + k
            if self.owner is not None:
                span = np.searchsorted(self.owner, span)
            yield start, int(span[0]), self.images.take(k), self.texts.take(span[1] - span[0])


def _check_owner(owner: np.ndarray, images, texts) -> None:
    if len(owner) != texts.n:
        swapped = ": are images and texts swapped?" if len(owner) == images.n else "."
        raise ValueError(f"The owner file has {len(owner):,} entries for the {texts.n:,} texts of "
            f"{texts.name}; it needs one for each{swapped}")  # fmt: skip
    if owner.min() < 0 or owner.max() >= images.n:
        wrong = owner.min() if owner.min() < 0 else owner.max()
        raise ValueError(f"The owner file names image {wrong:,}, but the images are 0 to "
            f"{images.n - 1:,}.")  # fmt: skip
    without = np.flatnonzero(np.bincount(owner, minlength=images.n) == 0)
    if len(without):
        raise ValueError(f"Image {without[0]:,} has no text in the owner file: leave it out.")


def _sorted(owner: np.ndarray, texts) -> tuple[np.ndarray, Held]:
    if texts.n > SORTABLE:
        raise ValueError(f"More than {SORTABLE:,} texts must be in the order of their images: sort "
            f"{texts.name} and the owner file.")  # fmt: skip
    order = np.argsort(owner, kind="stable")
    name = f"{texts.name} (in the order of the images)"
    rows = validation.vectors(texts.take(texts.n), texts.name)  # names a bad row by its own place
    return owner[order], Held(rows[order], name)

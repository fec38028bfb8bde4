"""Exact ranks of the relevant items, and the measures made of them.

The ranks come from counting greater scores, tile by tile: no row is sorted unless many of its items
are relevant (or one ranking serves several label sets), and memory stays at one tile.

**Ties.** Items of equal score rank in the order of the gallery: the order of
`np.argsort(-scores, kind="stable")`.

Scores are inner products in float32: give L2-normalised embeddings for cosines. Every measure is
one number per query, ready for `lib.measures.bootstrap`. Bad input is a ValueError in one sentence.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lib import validation

TILE_BYTES = 32 * 2**20
FEW = 16  # up to so many relevant items, counting beats sorting the row


@dataclass(frozen=True)
class Ranks:
    """0-based ranks of each query's relevant items, ascending, one query after the other.

    Query i's ranks are `rank[start[i]:start[i + 1]]`; `start` is (queries + 1,).
    """

    rank: np.ndarray
    start: np.ndarray

    def __len__(self) -> int:
        return len(self.start) - 1

    @property
    def count(self) -> np.ndarray:
        """(queries,) number of relevant items of each query."""
        return np.diff(self.start)

    @property
    def best(self) -> np.ndarray:
        """(queries,) rank of each query's best relevant item."""
        return self.rank[self.start[:-1]]


class BothWays(NamedTuple):
    """The same thing for image-to-text and text-to-image retrieval."""

    i2t: object
    t2i: object


def ranks(image, text, owner=None, best_only: bool = False) -> BothWays:
    """Ranks both ways of images (n, d) and their captions (m, d), as BothWays of Ranks.

    `owner` (m,) is the image of each caption (None: row i with row i). Image to text, all captions
    of the image are relevant; text to image, the one image is. Source: the usual protocol of COCO
    and Flickr30k (Karpathy splits).

    Raises: ValueError for bad embeddings, or an image without a caption.
    """
    image, text = validation.vectors(image, "image"), validation.vectors(text, "text")
    each = np.arange(len(image))
    if owner is None:
        if len(image) != len(text):
            raise ValueError(
                f"{len(image)} images and {len(text)} texts are not pairs: give the owner of each."
            )
        owner = each
    owner = validation.labels(owner, len(text), "owner")
    if owner.min() < 0 or owner.max() >= len(image):
        raise ValueError(f"owner must name rows of the {len(image)} images, counted from 0.")
    validation.same_width(image, text)
    return BothWays(
        rank_relevant(image, text, each, owner, best_only=best_only),
        rank_relevant(text, image, owner, each),
    )


def recall(image, text, owner=None, ks=(1, 5, 10)) -> BothWays:
    """Recall@k both ways, as BothWays of {k: (queries,) hits}; the mean is the usual number.

    A hit (1.0) has at least one relevant item among the k first. Arguments and errors: see `ranks`.
    """
    both = ranks(image, text, owner, best_only=True)
    return BothWays(*({k: recall_at(way, k) for k in ks} for way in both))


def recall_by_image(image, text, owner=None, k: int = 1) -> BothWays:
    """Recall@k both ways as one number per image, BothWays of (images,) arrays, ready to be paired.

    Text to image, it is the share of an image's captions that find it. Arguments and errors: see
    `ranks`.
    """
    i2t, t2i = (way[k] for way in recall(image, text, owner, (k,)))
    owner = np.arange(len(i2t)) if owner is None else validation.labels(owner, len(t2i), "owner")
    return BothWays(i2t, np.bincount(owner, t2i) / np.bincount(owner))


def rank_relevant(
    query, gallery, query_label, gallery_label, exclude_self: bool = False, best_only: bool = False
) -> Ranks:
    """Ranks of the relevant gallery items (m, d) of each query (n, d).

    An item is relevant if its label equals the query's. `exclude_self` takes query i's own row i
    out of the gallery, for retrieval within one set; `best_only` gives the best rank alone, which
    is all that recall@k needs.

    Raises: ValueError for bad embeddings or labels, or a query without a relevant item.
    """
    query, gallery = validation.vectors(query, "query"), validation.vectors(gallery, "gallery")
    validation.same_width(query, gallery)
    if exclude_self and len(query) != len(gallery):
        raise ValueError("exclude_self needs one set: query and gallery must have the same rows.")
    relevant = _Relevant.by_label(
        validation.labels(query_label, len(query), "query_label"),
        validation.labels(gallery_label, len(gallery), "gallery_label"),
        exclude_self,
    )
    return _rank_rows(_score_rows(query, gallery), relevant, best_only)


def recall_at(ranks: Ranks, k: int) -> np.ndarray:
    """(queries,) 1.0 where a relevant item is among the k first, else 0.0."""
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}.")
    return (ranks.best < k).astype(np.float64)


def average_precision(ranks: Ranks) -> np.ndarray:
    """(queries,) average precision over the full ranking; its mean is mAP.

    The mean, over a query's relevant items, of the precision at the rank of each.
    """
    within = np.arange(len(ranks.rank)) - np.repeat(ranks.start[:-1], ranks.count)
    return np.add.reduceat((within + 1) / (ranks.rank + 1), ranks.start[:-1]) / ranks.count


def r_precision(ranks: Ranks) -> np.ndarray:
    """(queries,) share of a query's R relevant items that are among its R first."""
    inside = ranks.rank < np.repeat(ranks.count, ranks.count)
    return np.add.reduceat(inside.astype(np.float64), ranks.start[:-1]) / ranks.count


def precision_by_class(
    query, gallery, query_label, gallery_label, measure=average_precision, empty: float = 0.0
) -> np.ndarray:
    """(queries,) `measure` of each query (n, d), all gallery items (m, d) of its label relevant.

    Labels (n,) and (m,), or of several label sets, (sets, n) and (sets, m): the gallery is ranked
    once for all of them, and the result is (sets, queries). `measure`: `average_precision`, whose
    mean is Cross the Gap's image-to-image mAP, or `r_precision`. A query without a relevant item
    gets `empty`: nothing could be found.

    Raises: ValueError for bad embeddings or labels.
    """
    query, gallery = validation.vectors(query, "query"), validation.vectors(gallery, "gallery")
    validation.same_width(query, gallery)
    own, others = np.asarray(query_label), np.asarray(gallery_label)
    one = own.ndim == 1
    own, others = np.atleast_2d(own), np.atleast_2d(others)
    if len(own) != len(others):
        raise ValueError(f"{len(own)} label sets of the queries, but {len(others)} of the gallery.")
    own = [validation.labels(labels, len(query), "query_label") for labels in own]
    others = [validation.labels(labels, len(gallery), "gallery_label") for labels in others]
    found = np.full((len(own), len(query)), empty)
    for first, order in _orders(query, gallery):
        rows = slice(first, first + len(order))
        for labels, theirs, values in zip(own, others, found, strict=True):
            ranks = _ranks_where(theirs[order] == labels[rows, None])
            has = ranks.count > 0
            some = Ranks(ranks.rank, np.append(ranks.start[:-1][has], len(ranks.rank)))
            if has.any():
                values[rows][has] = measure(some)
    return found[0] if one else found


def precision_in_set(query, gallery, label, measure=average_precision) -> np.ndarray:
    """`precision_by_class` in points, for the queries and the gallery of one labelled set.

    `label` holds the labels of the queries and then those of the gallery: (n + m,), or (sets,
    n + m) for several label sets of the same items.
    """
    label = np.asarray(label)
    own, others = label[..., : len(query)], label[..., len(query) :]
    return 100 * precision_by_class(query, gallery, own, others, measure)


def ndcg(scores, relevance, k: int = 10) -> np.ndarray:
    """(n,) nDCG@k of n queries, in [0, 1]: DCG by the scores, over the DCG of the best order.

    DCG is the sum of relevance / log2(rank + 1) over the k first. `scores` and `relevance` (n, m):
    of each query and item; what has a score of -inf is not among the items. Items of equal score
    rank in their order. 0 where nothing is relevant. Source: Järvelin & Kekäläinen, Cumulated
    gain-based evaluation of IR techniques, ACM TOIS 20 (2002).

    Raises: ValueError if the two do not match, or for a negative relevance, or k below 1.
    """
    scores, relevance = np.asarray(scores), np.asarray(relevance, np.float64)
    if scores.ndim != 2 or scores.shape != relevance.shape:
        raise ValueError(
            f"scores and relevance must be two matrices (n, m), not {scores.shape} and "
            f"{relevance.shape}."
        )
    if k < 1 or not relevance.min() >= 0:
        raise ValueError(f"k must be at least 1, not {k}, and no relevance negative.")
    relevance = np.where(np.isneginf(scores), 0, relevance)
    discount = 1 / np.log2(np.arange(min(k, scores.shape[1])) + 2)
    first = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = -np.sort(-relevance, axis=1)[:, :k] @ discount
    found = np.take_along_axis(relevance, first, axis=1) @ discount
    return np.divide(found, best, out=np.zeros(len(scores)), where=best > 0)


def misordered(scores, near, far) -> float:
    """Share of triples (query, near item, far item) whose far item scores higher; nan without any.

    `scores` (n, m) of queries and items; `near` and `far` (n, m) tell, for each query, which items
    count as which.
    """
    wrong, total = 0, 0
    for row, its_near, its_far in zip(np.asarray(scores), near, far, strict=True):
        below = np.searchsorted(np.sort(row[its_far]), row[its_near], "right")
        wrong += (its_far.sum() - below).sum()
        total += its_near.sum() * its_far.sum()
    return float(wrong / total) if total else float("nan")


def _orders(query: np.ndarray, gallery: np.ndarray):
    """(first query, positions (rows, m) by falling score), a tile at a time."""
    rows = max(1, TILE_BYTES // (16 * len(gallery)))  # a score and an 8-byte position, twice
    for first in range(0, len(query), rows):
        falling = -(query[first : first + rows] @ gallery.T)
        order = falling.argsort(axis=1)  # faster than the stable one, which ties alone need
        score = np.take_along_axis(falling, order, axis=1)
        tied = (score[:, 1:] == score[:, :-1]).any(axis=1)
        order[tied] = falling[tied].argsort(axis=1, kind="stable")
        yield first, order


def _ranks_where(relevant: np.ndarray) -> Ranks:
    """Ranks of the relevant items, from (queries, items in their ranking) true or false."""
    return Ranks(relevant.nonzero()[1], np.append(0, relevant.sum(axis=1).cumsum()))


@dataclass(frozen=True)
class _Relevant:
    """Query i's relevant gallery positions: order[first[i]:last[i]], ascending, without itself."""

    order: np.ndarray
    first: np.ndarray
    last: np.ndarray
    exclude_self: bool

    @classmethod
    def by_label(cls, query_label, gallery_label, exclude_self=False) -> "_Relevant":
        order = np.argsort(gallery_label, kind="stable")
        first = np.searchsorted(gallery_label, query_label, "left", sorter=order)
        last = np.searchsorted(gallery_label, query_label, "right", sorter=order)
        itself = query_label == gallery_label if exclude_self else 0
        missing = np.flatnonzero(last - first - itself < 1)
        if len(missing):
            i = missing[0]
            raise ValueError(f"Query {i} (label {query_label[i]}) has no relevant item: drop it.")
        return cls(order, first, last, exclude_self)

    def of(self, i: int) -> np.ndarray:
        positions = self.order[self.first[i] : self.last[i]]
        return positions[positions != i] if self.exclude_self else positions


def _score_rows(query: np.ndarray, gallery: np.ndarray):
    """(i, scores of query i) for every query; a row is only valid until the next tile."""
    rows = min(len(query), max(1, TILE_BYTES // (4 * len(gallery))))
    tile = np.empty((rows, len(gallery)), np.float32)
    for first in range(0, len(query), rows):
        part = query[first : first + rows]
        np.matmul(part, gallery.T, out=tile[: len(part)])
        yield from enumerate(tile[: len(part)], first)


def _rank_rows(rows, relevant: _Relevant, best_only: bool) -> Ranks:
    found = []
    for i, row in rows:
        if relevant.exclude_self:
            row[i] = -np.inf  # behind everything: no other rank changes
        positions = relevant.of(i)
        found.append([_best_rank(row, positions)] if best_only else _all_ranks(row, positions))
    start = np.concatenate([[0], np.cumsum([len(some) for some in found])])
    return Ranks(np.concatenate(found), start)


def _rank(row: np.ndarray, position: int) -> int:
    """How many items rank before this one: greater ones, and equal ones with a lower index."""
    score = row[position]
    before = np.count_nonzero(row[:position] >= score)
    return before + np.count_nonzero(row[position + 1 :] > score)


def _best_rank(row: np.ndarray, positions: np.ndarray) -> int:
    """The rank of the relevant item with the greatest score (of equal ones, the first)."""
    return _rank(row, positions[row[positions].argmax()])


def _all_ranks(row: np.ndarray, positions: np.ndarray) -> np.ndarray | list[int]:
    """The ranks of all relevant items, ascending."""
    if len(positions) <= FEW:
        return sorted(_rank(row, p) for p in positions)
    ascending, scores = np.sort(row), row[positions]
    above = np.searchsorted(ascending, scores, "right")
    if (above - np.searchsorted(ascending, scores, "left") == 1).all():
        return np.sort(len(row) - above)
    is_relevant = np.zeros(len(row), bool)  # ties: only the stable order tells who is first
    is_relevant[positions] = True
    return np.flatnonzero(is_relevant[np.argsort(-row, kind="stable")])

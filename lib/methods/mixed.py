"""One list of hits out of two: search in a collection that holds images and texts.

Scores come in both forms, (2, queries, items): of the queries with all items as images, and with
all items as texts. Which form an item has in the collection is `as_image` (items,).
"""

from collections.abc import Sequence

import numpy as np

from lib import validation
from lib.measures import retrieval
from lib.methods import standardise

METHODS = (
    *("raw", "means removed", "I0T_post", "best hits", "constants", "per query", "rank fusion"),
)
SIDES = {"image": 0, "text": 2}  # the row of `test` that asks


def scored(test, fit, kind: str) -> dict[str, np.ndarray]:
    """method -> scores (2, n, n) of the n queries of one kind, "image" or "text", with n items.

    `test` and `fit` are (3, n, d) and (3, m, d): images, texts of the collection, and texts that
    ask, row by row of the same scene. What a method needs to know is taken from `fit`:

    - "raw": the cosine; "I0T_post": that of `Standardiser`; "means removed": the inner product
      after the means are subtracted, GR-CLIP (arXiv 2507.19054) section 2;
    - "constants": the cosine less its mean, over its deviation, of queries and items of other
      scenes; "best hits": the same of the best such item of each query, after arXiv 2511.22141;
    - "per query", "rank fusion": the cosine; `one_list` does the rest.

    Raises: ValueError for another kind, or bad embeddings.
    """
    if kind not in SIDES:
        raise ValueError(f'kind must be "image" or "text", not {kind!r}.')
    test, fit = (np.stack([validation.unit(validation.vectors(z, "z")) for z in s])
                 for s in (test, fit))  # fmt: skip
    row, n = SIDES[kind], len(fit[0])
    raw, other = (s[row] @ s[:2].transpose(0, 2, 1) for s in (test, fit))
    mean = np.stack([fit[0].mean(0), *[fit[1:].mean((0, 1))] * 2])[:, None]
    moved = test - mean
    post = standardise.Standardiser.fit(fit[0], np.concatenate(fit[1:]))
    unit = [post.image(test[0]).numpy(), *(post.text(z).numpy() for z in test[1:])]
    known = other[:, ~np.eye(n, dtype=bool)].reshape(2, n, n - 1)
    found = {
        "raw": raw,
        "means removed": moved[row] @ moved[:2].transpose(0, 2, 1),
        "I0T_post": unit[row] @ np.stack(unit[:2]).transpose(0, 2, 1),
        "best hits": _standardised(raw, known.max(2).reshape(2, -1)),
        "constants": _standardised(raw, known.reshape(2, -1)),
    }
    return {method: found.get(method, raw) for method in METHODS}


def _standardised(scores: np.ndarray, known: np.ndarray) -> np.ndarray:
    return (scores - known.mean(1)[:, None, None]) / known.std(1)[:, None, None]


def one_list(method: str, scores, as_image, own: bool = False, seed: int = 0) -> np.ndarray:
    """(n, n) scores of one list, of a method of `scored` and its scores (2, n, n).

    `own`: whether a query's own scene is among its items; if not, its score is -inf. "per query"
    standardises the scores of each kind of item with each query; "rank fusion" takes the best image
    and the best text, then the second of each, and so on, and a coin says which of the two leads.

    Raises: ValueError if either form is missing.
    """
    as_image = np.asarray(as_image, bool)
    if as_image.all() or not as_image.any():
        raise ValueError("A mixed collection needs images and texts.")
    away = np.eye(len(as_image), dtype=bool) & (not own)
    one = np.where(away, np.nan, np.where(as_image, *scores))
    leads = np.random.default_rng(seed).random((len(one), 1)) < 0.5  # the images
    for images, items in ((True, as_image), (False, ~as_image)):
        part = one[:, items]
        if method == "per query":
            mean, deviation = (f(part, 1, keepdims=True) for f in (np.nanmean, np.nanstd))
            one[:, items] = (part - mean) / deviation
        elif method == "rank fusion":
            place = np.argsort(np.argsort(-part, 1), 1) + 0.5 * (leads != images)
            one[:, items] = np.where(np.isnan(part), np.nan, -place)
    return np.where(np.isnan(one), -np.inf, one)


def measured(test, fit, relevance, task: str, seed: int = 0) -> dict[tuple[str, str], np.ndarray]:
    """(measure, method) -> (n,) in %, where half of the scenes are images and half are texts.

    The forms are drawn; each number is the mean over this collection and the one with the forms
    exchanged. Arguments as for `scored`; `relevance` (n, n) of scene for scene. Tasks: "text" and
    "image" queries, whose own scene is left out; "own scene", text queries for which their own
    scene alone is relevant.

    - "nDCG@10";
    - "other first": whether the first hit is of the other kind than the query;
    - "passed over": whether a hit of the query's own kind is first in the collection that holds the
      nearest scene (by the scores within the query's kind) in the other form.

    Raises: ValueError as `scored`.
    """
    own, kind, n = task == "own scene", "text" if task == "own scene" else task, len(relevance)
    half = np.random.default_rng(seed).permutation(n) % 2 == 0
    relevance, found = np.eye(n) if own else relevance, {}
    for method, scores in scored(test, fit, kind).items():
        ndcg, other = [], []
        for as_image in (half, ~half):
            one = one_list(method, scores, as_image, own, seed)
            ndcg.append(100 * retrieval.ndcg(one, relevance))
            other.append(100.0 * (as_image[one.argmax(1)] != (kind == "image")))
        within = np.where(np.eye(n, dtype=bool), -np.inf, scores[0 if kind == "image" else 1])
        away = half[within.argmax(1)] != (kind == "image")  # in the other form at first
        found["nDCG@10", method] = np.mean(ndcg, axis=0)
        found["other first", method] = np.mean(other, axis=0)
        found["passed over", method] = 100 - np.where(away, *other)
    return found


def image_first(
    test, fit, kind: str, shares: Sequence[float], seed: int = 0
) -> dict[tuple[str, float], np.ndarray]:
    """(method, share) -> (n,) 100 where the first hit is an image, else 0; own scenes left out.

    `shares` of the n scenes, drawn, are in the collection as images. Arguments as for `scored`.

    Raises: ValueError as `scored` and `one_list`.
    """
    found, n = {}, len(test[0])
    place = np.random.default_rng(seed).permutation(n) / n
    for method, scores in scored(test, fit, kind).items():
        for share in shares:
            first = one_list(method, scores, place < share, seed=seed).argmax(1)
            found[method, share] = 100.0 * (place < share)[first]
    return found

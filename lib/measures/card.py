"""The numbers of a gap card: what is measured on a sample of pairs, each with its interval."""

import numpy as np

from lib import validation
from lib.measures import bootstrap, gap, hubness, retrieval
from lib.measures.stream import Sums

KS = (1, 5, 10)
FEWEST = 40  # pairs: half of them are tested, and have ten others to be near to
# Measures that tell a pair from a mismatch; all others are the same on permuted pairs.
OF_PAIRS = ("pair cosine", "pair minus random")


def of_sample(image, text, owner=None, n_bootstrap: int = 1000, seed: int = 0) -> dict:
    """Every measure of images (n, d) and their texts (m, d): name -> `bootstrap.Estimate`.

    `owner` (m,), ascending, is the image of each text (None: row i with row i). Retrieval takes all
    texts, the other measures the first of each image. Intervals are by bootstrap over the images.

    - those of `Sums.estimates`, with each pair as a block;
    - linear separability, classifier AUC: `gap`, on held-out rows of the sample;
    - uniformity of images and of texts: `gap.uniformity`;
    - hubness of texts and of images: skewness of the 10-occurrence among the nearest of the other
      modality (`hubness.skewness`);
    - R@1, R@5, R@10 both ways: `retrieval.recall`.

    Raises: ValueError for bad embeddings, an image without a text, or fewer than 20 images.
    """
    image, text = validation.two_sets(image, text, minimum=FEWEST // 2)
    first = firsts(owner, len(text))
    x, y, more = image, text[first], (n_bootstrap, seed)
    return {
        **Sums.of(x, y).estimates(*more),
        "linear separability": gap.linear_separability_interval(x, y, *more),
        "classifier AUC": gap.auc_interval(x, y, *more),
        "uniformity, images": gap.uniformity_interval(x, 2.0, *more),
        "uniformity, texts": gap.uniformity_interval(y, 2.0, *more),
        "hubness, texts": hubness.skewness(x, y, hubness.K, *more),
        "hubness, images": hubness.skewness(y, x, hubness.K, *more),
        **_recall(image, text, owner, *more),
    }


def of_permuted(image, text, owner=None, n_bootstrap: int = 1000, seed: int = 0) -> dict:
    """The measures that look at which text belongs to which image, with each image's texts given
    to another one, at random. Arguments and errors: see `of_sample`.
    """
    image, text = validation.two_sets(image, text, minimum=FEWEST // 2)
    image = image[permutation(len(image), seed)]
    told = Sums.of(image, text[firsts(owner, len(text))]).estimates(n_bootstrap, seed)
    recall = _recall(image, text, owner, n_bootstrap, seed)
    return {name: told[name] for name in OF_PAIRS} | recall


def permutation(n: int, seed: int = 0) -> np.ndarray:
    """(n,) a random order in which nothing keeps its place."""
    order = np.random.default_rng(seed).permutation(n)
    moved = np.empty(n, np.int64)
    moved[order] = np.roll(order, 1)  # one cycle through all
    return moved


def firsts(owner, m: int) -> np.ndarray:
    """The first text of each image, from the ascending owners of m texts."""
    return np.arange(m) if owner is None else np.unique(owner, return_index=True)[1]


def _recall(image, text, owner, n_bootstrap: int, seed: int) -> dict[str, bootstrap.Estimate]:
    i2t, t2i = retrieval.recall(image, text, owner, KS)
    if owner is not None:  # an image's texts are not independent items, but their mean is one
        t2i = {k: np.bincount(owner, hits) / np.bincount(owner) for k, hits in t2i.items()}
    hits = {f"R@{k}, image to text": i2t[k] for k in KS}
    hits |= {f"R@{k}, text to image": t2i[k] for k in KS}
    return bootstrap.means(hits, n_bootstrap, seed)

"""Matrices that repair image embeddings before they are compared: the cheap rivals of inversion.

Each is fitted once; what is compared is `moved(x)[:, columns]` by cosine. Which columns is chosen
on validation images. Sources: Herzog et al. (arXiv 2603.16100) project images onto the directions
of prompts; IsoCLIP (arXiv 2603.19862) drops singular directions of the two projections' product.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.decomposition import PCA

from lib import validation
from lib.encoders.towers import Model

WIDTHS = (4, 8, 16, 24, 32, 48, 64, 96)
IMAGES_ONLY = ("mean subtracted", "whitening", "principal components")


@dataclass(frozen=True, eq=False)
class Directions:
    """x -> (x - offset) @ matrix: (n, d) to (n, m), and the ranges of columns to choose from."""

    offset: np.ndarray
    matrix: np.ndarray
    ranges: tuple[tuple[int, int], ...]

    def moved(self, x) -> np.ndarray:
        return (validation.unit(validation.vectors(x, "x")) - self.offset) @ self.matrix

    def chosen(self, x, score: Callable[[np.ndarray], float]) -> slice:
        """The range of columns whose score on images x (n, d) is best; of equal ones the first."""
        rows = self.moved(x)
        return slice(*max(self.ranges, key=lambda columns: score(rows[:, slice(*columns)])))


def of_images(x) -> dict[str, Directions]:
    """The repairs that see images (n, d) alone: IMAGES_ONLY.

    Subtracting the mean is I0T_post of the images; whitening and principal components keep the
    first k components, of those in which the images differ.

    Raises: ValueError for bad embeddings, or fewer than 2.
    """
    x = validation.unit(validation.vectors(x, "x", minimum=2))
    d, its = x.shape[1], PCA(svd_solver="full").fit(x)
    some = its.explained_variance_ > 1e-12
    basis, scale = its.components_[some].T, np.sqrt(its.explained_variance_[some])
    widths = _widths(basis.shape[1])
    return {
        "mean subtracted": Directions(x.mean(0), np.eye(d), ((0, d),)),
        "whitening": Directions(its.mean_, basis / scale, widths),
        "principal components": Directions(its.mean_, basis, widths),
    }


def of_texts(y) -> Directions:
    """Images projected onto the first k principal components of texts (n, d): Herzog et al."""
    y = validation.unit(validation.vectors(y, "y", minimum=2))
    basis = PCA(svd_solver="full").fit(y).components_.T
    return Directions(np.zeros(len(basis)), basis, _widths(basis.shape[1]))


def of_projections(model: Model) -> Directions:
    """IsoCLIP: of the singular directions of the two projections' product, a range is kept.

    Raises: ValueError for a model whose towers do not end in plain projections.
    """
    own = getattr(model.clip, "text_projection", None)
    if not isinstance(own, torch.nn.Parameter):
        raise ValueError("IsoCLIP needs towers that end in a matrix each.")
    image, text = map(validation.array, (model.clip.visual.proj, own))
    u, strength, _ = np.linalg.svd(image @ text.T)
    basis = np.linalg.pinv(image) @ u[:, : np.linalg.matrix_rank(np.diag(strength))]
    n = basis.shape[1]
    cuts = [(a, n - b) for a in (0, 2, 4, 8, 16, 32) for b in (0, n // 8, n // 4, n // 2)]
    return Directions(np.zeros(len(basis)), basis, tuple(c for c in cuts if c[0] < c[1]))


def _widths(n: int) -> tuple[tuple[int, int], ...]:
    return (*((0, k) for k in WIDTHS if k < n), (0, n))

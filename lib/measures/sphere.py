"""Pictures of embeddings on an ordinary, three-dimensional sphere.

Every function takes pairs, images x and texts y (n, d each), as tensors or arrays, and gives unit
rows (n, 3) of both: the first axis points to the right (texts), the last one to the viewer. Bad
input is a ValueError.
"""

import numpy as np

from lib import validation


def project(x, y, centred: bool) -> tuple[np.ndarray, np.ndarray]:
    """A linear projection to three directions, drawn out to the sphere: z / |z|.

    `centred`: the principal components; the common mean becomes the middle of the sphere. Else the
    right singular vectors of the embeddings as they are, with the strongest one, near their mean
    direction, towards the viewer; a cone stays a cone.
    """
    both = _both(x, y)
    if centred:
        both -= both.mean(0)
    directions = np.linalg.svd(both, full_matrices=False)[2][:3]
    three = both @ directions[[0, 1, 2] if centred else [1, 2, 0]].T
    if not centred:
        three[:, 2] *= np.sign(three[:, 2].mean())
    return _images_left(three)


def held(x, y, centred: bool) -> float:
    """Share of the squared norm of the embeddings that the three directions of `project` hold."""
    both = _both(x, y)
    square = np.linalg.svd(both - centred * both.mean(0), compute_uv=False) ** 2
    return float(square[:3].sum() / square.sum())


def umap(x, y, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """UMAP with a sphere as its target: it keeps neighbours and gives up distances.

    Turned so that the vector between the means of the modalities lies across the view. Source:
    McInnes, Healy & Melville (arXiv 1802.03426), `output_metric="haversine"`.
    """
    from umap import UMAP  # ten seconds to import

    metrics = {"metric": "cosine", "output_metric": "haversine"}
    layout = UMAP(**metrics, n_epochs=200, random_state=seed, n_jobs=1)
    theta, phi = layout.fit_transform(_both(x, y)).T
    three = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], 1)
    across = three[: len(x)].mean(0) - three[len(x) :].mean(0)
    return _images_left(three @ np.linalg.svd(across[None])[2].T)


def angle(x, y) -> float:
    """Degrees between the mean directions of two sets (n, d) and (m, d) of any width."""
    a, b = validation.array(x).mean(0), validation.array(y).mean(0)
    return float(np.rad2deg(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))))


def _both(x, y) -> np.ndarray:
    return np.concatenate(validation.pairs(x, y)).astype(np.float64)


def _images_left(three: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows of the images and of the texts, from the rows of both."""
    n = len(three) // 2
    three[:, 0] *= -np.sign(three[:n, 0].mean())
    three /= np.linalg.norm(three, axis=1, keepdims=True)
    return three[:n], three[n:]

"""Random layers: what they do to the cosine of two inputs, with nothing trained.

A layer of d units is phi(W h + b) with W and b from N(0, 1 / d). Source: Mind the Gap
(arXiv 2203.02053) section 2.2, Figure 2b and Theorem 1.
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch.nn.functional import normalize


def hidden(
    activation: Callable, n: int, width: int, depth: int, bias: bool = True, seed: int = 0
) -> Iterator[np.ndarray]:
    """Unit hidden vectors (n, width) of a random network: of its inputs, then after each layer.

    The inputs are from a normal distribution. `bias=False` draws the same weights and leaves the
    bias away.
    """
    draw = partial(torch.randn, generator=torch.Generator().manual_seed(seed))
    h = draw(n, width)
    yield normalize(h.double(), dim=1).numpy()
    for _ in range(depth):
        weight, shift = draw(width, width) / width**0.5, draw(width) / width**0.5
        h = activation(h @ weight.T + shift * bias)
        yield normalize(h.double(), dim=1).numpy()


def is_met(cosine, ratio: float):
    """Theorem 1's condition for two inputs of this cosine and ratio of lengths (either way up)."""
    return cosine < 2 / (ratio + 1 / ratio) - 1e-12


def relu_limit(cosine, ratio: float):
    """Cosine of u and v after a ReLU layer of infinitely many units, with |v| = 1, |u| = ratio.

    The bias appends a 1 to both; ReLU turns an angle t into (sin t + (pi - t) cos t) / pi. Source:
    Cho and Saul, Kernel methods for deep learning (NeurIPS 2009).
    """
    appended = (cosine * ratio + 1) / np.sqrt(2 * (ratio * ratio + 1))
    angle = np.arccos(np.clip(appended, -1, 1))
    return (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / np.pi


def after_relu(cosine: float, ratio: float, units: int, draws: int, seed=0) -> np.ndarray:
    """(draws,) the same after random ReLU layers of this many units.

    Only the plane of u and v matters, so two input dimensions (and the bias) are enough.
    """
    rng = np.random.default_rng(seed)
    both = np.array([[ratio, 0, 1], [cosine, np.sqrt(1 - cosine * cosine), 1]])
    cosines = np.empty(draws)
    for k in range(draws):
        a, b = np.maximum(both @ rng.standard_normal((3, units)), 0)
        cosines[k] = a @ b / np.sqrt((a @ a) * (b @ b))
    return cosines

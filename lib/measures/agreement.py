"""How alike two modalities are arranged, less what chance alone would give, and how many directions
their embeddings use.

Every function takes tensors or arrays of embeddings (n, d), L2-normalised first, in float64. Bad
input is a ValueError.
"""

import numpy as np

from lib import validation

K = 10  # neighbours


def effective_rank(x, unit: bool = True) -> float:
    """(sum of l)^2 / sum of l^2 of the eigenvalues l of the covariance, between 1 and d.

    As many equal directions would have the same spread: the participation ratio. `unit=False`
    takes rows (n, d) as they are.

    Raises: ValueError for rows that are all the same.
    """
    x = _centred(validation.vectors(x, "x", minimum=2), unit)
    total = (x**2).sum()
    if total < 1e-12 * len(x):
        raise ValueError("The rows of x are all the same: no direction has any variance.")
    return float(total**2 / _product(x, x))


def isotropic_rank(n: int, d: int) -> float:
    """What `effective_rank` is near for n rows of isotropic Gaussian noise in d dimensions."""
    return d * (n - 1) / (n + d)


def cka(x, y) -> float:
    """Linear CKA of pairs (n, d each), in [0, 1]: 1 if their centred Gram matrices are
    proportional. Source: Kornblith et al. (arXiv 1905.00414), section 3.

    Raises: ValueError for x and y that are not pairs.
    """
    x, y = (_centred(each) for each in validation.pairs(x, y))
    return float(_product(x, y) / np.sqrt(_product(x, x) * _product(y, y)))


def chance_cka(rank_x: float, rank_y: float, n: int) -> float:
    """The mean of `cka` over all permutations of the n rows of y, exactly, by effective ranks.

    sqrt(rank_x rank_y) / (n - 1): the mean of the inner product of centred Gram matrices K and L is
    tr K tr L / (n - 1).
    """
    return float(np.sqrt(rank_x * rank_y) / (n - 1))


def above_chance(score: float, chance: float) -> float:
    """A score calibrated by permutation: 0 where it is as chance gives, 1 at most.

    After "An Aristotelian View" (arXiv 2602.14486), with the mean over permutations as chance.
    """
    return (score - chance) / (1 - chance)


def shared_neighbours(x, y, k: int = K) -> np.ndarray:
    """(n,) share of the k nearest rows of each row of x that are among the k nearest of its in y.

    By cosine, for pairs (n, d each); its mean is the mutual k-NN score. A permutation of y gives
    k / (n - 1) on average. Source: Huh et al. (arXiv 2405.07987), section 2.

    Raises: ValueError for x and y that are not pairs, or if k is not between 1 and n - 1.
    """
    x, y = map(validation.unit, validation.pairs(x, y))
    if not 1 <= k < len(x):
        raise ValueError(f"k must be between 1 and the {len(x) - 1} other rows, not {k}.")
    return (_nearest(x, k) & _nearest(y, k)).sum(1) / k


def distance_of_distributions(x, y, t: float = 2.0) -> float:
    """MMD^2 of pairs (n, d each) with the kernel exp(-t |a - b|^2), their rows as they are.

    The unbiased estimate over couples of different pairs, so that it is 0 on average, and may be
    below, where both have one distribution. Source: Gretton et al., JMLR 13 (2012) 723-773, Eq. 4.

    Raises: ValueError for x and y that are not pairs, or fewer than 2.
    """
    x, y = (each.astype(np.float64) for each in validation.pairs(x, y))
    if len(x) < 2:
        raise ValueError("A distance of distributions needs at least 2 pairs.")
    others = ~np.eye(len(x), dtype=bool)
    within = _kernel(x, x, t) + _kernel(y, y, t)
    return float((within - 2 * _kernel(x, y, t))[others].mean())


def _kernel(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    square = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return np.exp(-t * np.maximum(square, 0))


def _centred(x: np.ndarray, unit: bool = True) -> np.ndarray:
    x = (validation.unit(x) if unit else x).astype(np.float64)
    return x - x.mean(0)


def _product(x: np.ndarray, y: np.ndarray) -> float:
    """Inner product of the Gram matrices of x and y."""
    return ((x.T @ y) ** 2).sum()


def _nearest(x: np.ndarray, k: int) -> np.ndarray:
    """(n, n) true for the k rows of greatest cosine to each row, without itself."""
    cosines = x @ x.T
    np.fill_diagonal(cosines, -np.inf)
    found = np.zeros(cosines.shape, bool)
    np.put_along_axis(found, np.argpartition(cosines, -k, axis=1)[:, -k:], True, axis=1)
    return found

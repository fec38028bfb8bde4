"""Input checking shared by the measures: every bad input gets one clear sentence."""

import numpy as np
import torch

BLOCK = 8192  # rows normalised at a time: 16 MB at 512 dimensions, for any number of rows


def array(x) -> np.ndarray:
    """A tensor, array or list as a NumPy array (no copy where none is needed)."""
    return x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)


def vectors(x, name: str, minimum: int = 1) -> np.ndarray:
    """Embeddings as a float32 matrix (n, d), checked.

    Raises: ValueError if `x` is not a matrix, has fewer than `minimum` rows, or has a row that is
    not finite or has no direction (a zero vector).
    """
    if isinstance(x, torch.Tensor):
        x = x.float()  # NumPy has no bfloat16
    x = np.ascontiguousarray(array(x), dtype=np.float32)
    if x.ndim != 2:
        raise ValueError(f"{name} must be a matrix, one embedding per row; its shape is {x.shape}.")
    if len(x) < minimum:
        raise ValueError(f"{name} has {len(x)} row(s); this needs at least {minimum}.")
    square = np.einsum("ij,ij->i", x, x)
    if not np.isfinite(square).all():
        row = int(np.flatnonzero(~np.isfinite(square))[0])
        raise ValueError(f"Row {row} of {name} is not finite (NaN or infinite): encode it again.")
    if not square.all():
        row = int(np.flatnonzero(square == 0)[0])
        raise ValueError(f"Row {row} of {name} is a zero vector, which has no direction: drop it.")
    return x


def unit(x: np.ndarray) -> np.ndarray:
    """Rows (n, d) divided by their L2 norms."""
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def unit_blocks(x: np.ndarray):
    """The rows of `x`, L2-normalised, `BLOCK` at a time, so that memory does not grow with n."""
    return (unit(x[i : i + BLOCK]) for i in range(0, len(x), BLOCK))


def two_sets(x, y, minimum: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of embeddings of the same width: (n, d) and (m, d)."""
    x, y = vectors(x, "x", minimum), vectors(y, "y", minimum)
    same_width(x, y)
    return x, y


def pairs(x, y) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of embeddings (n, d) whose rows belong together."""
    x, y = two_sets(x, y)
    if len(x) != len(y):
        raise ValueError(f"x and y must be pairs, row by row; they have {len(x)} and {len(y)}.")
    return x, y


def same_width(x: np.ndarray, y: np.ndarray) -> None:
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"The two sets must come from one embedding space; they have {x.shape[1]} and "
            f"{y.shape[1]} dimensions."
        )


def labels(values, n: int, name: str) -> np.ndarray:
    """Integer labels (n,), one per row."""
    values = array(values)
    if values.shape != (n,) or values.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be {n} integers, one per row; it has shape {values.shape} and type "
            f"{values.dtype}."
        )
    return values.astype(np.int64, copy=False)


def numbers(values, name: str, minimum: int = 1) -> np.ndarray:
    """Finite float64 numbers (n,)."""
    values = array(values).astype(np.float64)
    if values.ndim != 1 or len(values) < minimum:
        raise ValueError(
            f"{name} must be a list of at least {minimum} number(s); its shape is {values.shape}."
        )
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ValueError(f"Item {row} of {name} is not finite (NaN or infinite): leave it out.")
    return values

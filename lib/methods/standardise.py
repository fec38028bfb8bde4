"""Closing the gap after training: I0T_post, the shift along the gap, and clipping.

Everything takes tensors or arrays and gives float32 tensors of unit rows.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from lib import files, validation
from lib.measures import gap

TINY = 1e-6  # a shorter vector is float32 rounding, not a direction


@dataclass(frozen=True, eq=False)
class Standardiser:
    """I0T_post: x' = Normalize(x - mean), with one mean for images and one for texts.

    Order: L2-normalise, subtract the modality's mean, L2-normalise. In spite of the method's name
    nothing is divided by a standard deviation. Source: I0T (arXiv 2412.14384) section 4.2, and its
    code (src/features.py, remove_artifact_features), which agrees.

    The means (d,) are those of the L2-normalised embeddings, in float64; the counts say over how
    many embeddings they were taken.
    """

    image_mean: Tensor
    text_mean: Tensor
    image_count: int
    text_count: int

    @classmethod
    def empty(cls, d: int) -> "Standardiser":
        """One that has seen nothing yet, for `update`."""
        return cls(*torch.zeros(2, d, dtype=torch.float64), 0, 0)

    @classmethod
    def fit(cls, x, y, n: int | None = None, seed: int = 0) -> "Standardiser":
        """Means over all of the images x (n, d) and texts y (m, d), or over `n` rows of each.

        The rows are drawn without replacement; sets of the same length give the same rows, so that
        pairs stay pairs (I0T Table 3).

        Raises: ValueError for bad embeddings or if `n` is not between 1 and the number of rows.
        """
        x, y = validation.two_sets(x, y)
        if n is not None:
            x, y = _draw(x, n, seed), _draw(y, n, seed)
        return cls.empty(x.shape[1]).update(x, y)

    def update(self, x=None, y=None) -> "Standardiser":
        """One that has seen these images and/or texts too: the same means as a fit on everything.

        One pass and bounded memory, for data that come in batches.
        """
        seen = self
        if x is not None:
            mean, count = _updated(self.image_mean, self.image_count, validation.vectors(x, "x"))
            seen = replace(seen, image_mean=mean, image_count=count)
        if y is not None:
            mean, count = _updated(self.text_mean, self.text_count, validation.vectors(y, "y"))
            seen = replace(seen, text_mean=mean, text_count=count)
        return seen

    def image(self, x) -> Tensor:
        """I0T_post of images (n, d), or of a single one (d,).

        Raises: ValueError for bad embeddings, if no image has been seen, or if an embedding equals
        the mean (no direction is left).
        """
        return _centred(x, self.image_mean, self.image_count, "image")

    def text(self, y) -> Tensor:
        """I0T_post of texts (m, d), or of a single one (d,); errors as for `image`."""
        return _centred(y, self.text_mean, self.text_count, "text")

    def save(self, path) -> None:
        """Write a safetensors file: both means (float64) and the two counts."""
        counts = torch.tensor([self.image_count, self.text_count])
        saved = {"image_mean": self.image_mean, "text_mean": self.text_mean, "counts": counts}
        files.write_bytes(Path(path), save(saved))

    @classmethod
    def load(cls, path) -> "Standardiser":
        """Read what `save` wrote. Raises: ValueError if the file is something else or damaged."""
        try:
            saved = load_file(path)
            return cls(saved["image_mean"], saved["text_mean"], *saved["counts"].tolist())
        except (SafetensorError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} is not a saved Standardiser: fit it and save it again."
            ) from error


def i0t_post(x, y) -> tuple[Tensor, Tensor]:
    """I0T_post of images (n, d) and texts (m, d), with their own means (see `Standardiser`).

    Raises: ValueError for bad embeddings, or if an embedding equals the mean of its modality.
    """
    fitted = Standardiser.fit(x, y)
    return fitted.image(x), fitted.text(y)


def shift(x, y, amount: float, unit: bool = True, vector=None) -> tuple[Tensor, Tensor]:
    """Move images and texts towards each other along the gap, then L2-normalise.

    With g = mean(x) - mean(y), the two variants of Mind the Gap (arXiv 2203.02053):

    - `unit=True`, its code (and I0T's): amount is delta, a length;
      x' = Normalize(x - delta/2 * g/|g|), y' = Normalize(y + delta/2 * g/|g|).
      The lambda of I0T's tables is delta/2: its "MG lambda = 0.375" is amount = 0.75.
    - `unit=False`, its paper (section 4.2): amount is lambda, a share of the gap;
      x' = Normalize(x - lambda * g), y' = Normalize(y + lambda * g); 0.5 makes the means meet.

    Negative amounts widen the gap. `vector` (d,) is the g of other pairs, for a shift that has not
    seen x and y.

    Raises: ValueError for bad embeddings, or if there is no gap.
    """
    x, y = validation.two_sets(x, y)
    vector = gap.centroid_gap(x, y) if vector is None else validation.array(vector)
    step = amount / 2 * _direction(vector) if unit else amount * vector
    return _moved(x, -step), _moved(y, step)


def clip_activations(x, bound: float = 0.1) -> Tensor:
    """Clip the normalised activations to [-bound, bound], then L2-normalise. Source: I0T Fig. 3."""
    if not bound > 0:
        raise ValueError(f"bound must be positive; {bound} leaves nothing of an embedding.")
    x = validation.unit(validation.vectors(x, "x"))
    return torch.from_numpy(validation.unit(np.clip(x, -bound, bound)))


def _draw(rows: np.ndarray, n: int, seed: int) -> np.ndarray:
    if not 1 <= n <= len(rows):
        raise ValueError(f"n must be between 1 and the {len(rows)} rows, not {n}.")
    return rows[np.random.default_rng(seed).permutation(len(rows))[:n]]


def _updated(mean: Tensor, count: int, rows: np.ndarray) -> tuple[Tensor, int]:
    if rows.shape[1] != len(mean):
        raise ValueError(f"The embeddings have {rows.shape[1]} dimensions, the mean {len(mean)}.")
    total = sum(block.sum(0, dtype=np.float64) for block in validation.unit_blocks(rows))
    both = count + len(rows)
    return mean * (count / both) + torch.from_numpy(total) / both, both


def _centred(rows, mean: Tensor, count: int, modality: str) -> Tensor:
    if not count:
        raise ValueError(f"This Standardiser has seen no {modality} yet: fit or update it first.")
    single = validation.array(rows).ndim == 1
    rows = validation.vectors(rows[None] if single else rows, modality)
    if rows.shape[1] != len(mean):
        raise ValueError(f"The embeddings have {rows.shape[1]} dimensions, the mean {len(mean)}.")
    moved = _moved(rows, -mean.numpy())
    return moved[0] if single else moved


def _direction(vector: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vector)
    if length < TINY:
        raise ValueError("The two means are the same, so that the gap has no direction.")
    return vector / length


def _moved(x: np.ndarray, step: np.ndarray) -> Tensor:
    """Normalize(x + step) for unit rows."""
    moved = validation.unit(x) + step.astype(np.float32)
    length = np.linalg.norm(moved, axis=1, keepdims=True)
    if length.min() < TINY:
        raise ValueError(
            f"Row {int(length.argmin())} becomes a zero vector, which has no direction: it lies "
            "where the move ends (for I0T_post, on the mean; fit on more than one embedding)."
        )
    return torch.from_numpy(moved / length)

"""The scores of `lib.scores` as torchmetrics metrics: the mean over all pairs, batch by batch."""

import numpy as np
import torch
from torchmetrics import Metric

from lib import scores
from lib.posthoc import Standardiser


class _MeanScore(Metric):
    """Mean of a score over all pairs seen."""

    full_state_update = False

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def _add(self, each: np.ndarray) -> None:
        self.total += each.sum()
        self.count += len(each)

    def compute(self) -> torch.Tensor:
        return self.total / self.count


class CLIPScore(_MeanScore):
    """Mean CLIP-S of all pairs given to `update(image, text)`; see `scores.clip_s`."""

    def __init__(self, weight: float = scores.WEIGHT, **kwargs):
        super().__init__(**kwargs)
        self.weight = weight

    def update(self, image, text) -> None:
        self._add(scores.clip_s(image, text, self.weight))


class RefCLIPScore(_MeanScore):
    """Mean RefCLIP-S of all pairs given to `update(image, text, references, owner)`."""

    def __init__(self, weight: float = scores.WEIGHT, **kwargs):
        super().__init__(**kwargs)
        self.weight = weight

    def update(self, image, text, references, owner) -> None:
        self._add(scores.ref_clip_s(image, text, references, owner, self.weight))


class I0TScore(_MeanScore):
    """Mean I0T-S of all pairs given to `update(image, text)`, by a fitted Standardiser."""

    def __init__(self, standardiser: Standardiser, **kwargs):
        super().__init__(**kwargs)
        self.standardiser = standardiser

    def update(self, image, text) -> None:
        self._add(scores.i0t_s(image, text, self.standardiser))

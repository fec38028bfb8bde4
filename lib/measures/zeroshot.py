"""Zero-shot classification: an image gets the class whose prompts lie nearest."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from lib import validation


def class_embeddings(encode: Callable, classnames: list[str], templates: list[str]) -> torch.Tensor:
    """One L2-normalised text embedding per class, (classes, d) float32.

    Every template has "{}" where the class name goes. `encode` takes a list of strings: it is
    `model.encode_text`, or `embeddings.text_encoder(model)`, which keeps its results on the disk.
    Each prompt is L2-normalised, the prompts of a class are averaged, and the mean is normalised
    again. Source: CLIP (arXiv 2103.00020) section 3.1.4, prompt ensembling in embedding space.
    (I0T's code averages before the first normalisation.)

    Raises: ValueError for no class, no template, or a template without "{}".
    """
    for name, texts in (("classnames", classnames), ("templates", templates)):
        if isinstance(texts, str) or not len(texts):
            raise ValueError(f"{name} must be a list of at least one string, not {texts!r}.")
    for template in templates:
        if "{}" not in template:
            raise ValueError(f'The template {template!r} lacks "{{}}", where the class name goes.')
    total = 0
    for template in templates:
        prompts = encode([template.replace("{}", name) for name in classnames])
        total = total + validation.unit(validation.vectors(prompts, "prompts"))
    return torch.from_numpy(validation.unit(validation.vectors(total / len(templates), "classes")))


@dataclass(frozen=True, eq=False)
class Classification:
    """What zero-shot classification gave for each image; all arrays are (images,)."""

    label: np.ndarray
    prediction: np.ndarray
    rank: np.ndarray  # of the true class, from 0

    @property
    def top1(self) -> np.ndarray:
        """1.0 where the true class came first; its mean is the accuracy."""
        return (self.rank < 1).astype(np.float64)

    @property
    def top5(self) -> np.ndarray:
        """1.0 where the true class was among the first five (always, with up to five classes)."""
        return (self.rank < 5).astype(np.float64)

    @property
    def balanced_top1(self) -> np.ndarray:
        """`top1`, weighted so that its mean is the balanced accuracy: the mean over classes.

        An image of class c has the weight n / (K n_c), with K classes that occur and n_c images of
        class c among n.
        """
        count = np.bincount(self.label)
        return self.top1 * len(self.label) / (np.sum(count > 0) * count[self.label])


def classify(image, classes) -> np.ndarray:
    """(n,) the nearest of the class embeddings (classes, d) for each image (n, d), by cosine.

    Of equal scores the class listed first wins. Raises: ValueError for bad embeddings.
    """
    return _cosines(image, classes).argmax(1)


def evaluate(image, classes, label) -> Classification:
    """Classify images (n, d), as `classify` does, and compare with their true classes `label` (n,).

    Raises: ValueError for bad embeddings, or labels that are not classes.
    """
    score = _cosines(image, classes)
    label = validation.labels(label, len(score), "label")
    if label.min() < 0 or label.max() >= score.shape[1]:
        raise ValueError(f"label must number the {score.shape[1]} classes, from 0.")
    own = np.take_along_axis(score, label[:, None], 1)
    listed_before = np.arange(score.shape[1]) < label[:, None]
    rank = ((score > own) | (score == own) & listed_before).sum(1)
    return Classification(label, score.argmax(1), rank)


def _cosines(image, classes) -> np.ndarray:
    image, classes = validation.vectors(image, "image"), validation.vectors(classes, "classes")
    validation.same_width(image, classes)
    return validation.unit(image) @ validation.unit(classes).T

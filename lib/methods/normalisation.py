"""I0T_async: a batch normalisation behind each frozen encoder.

Frozen encoders give an image or a caption the same embedding in every epoch, so that each is
encoded once, and training takes seconds. Two things differ from the paper's second stage. MCSIE,
two passes with dropout inside the encoders, is left out: Table 8 has both, and the command that the
authors published trains without it. And each epoch draws one of an image's captions.
Source: I0T (ACL Findings 2025) section 4.2, appendix E, and its code (training/train.py).
"""

import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional

from lib import files, progress
from lib.encoders import registry
from lib.encoders.embeddings import Embeddings
from lib.encoders.formats import TOKENIZER
from lib.methods import losses


@dataclass(frozen=True)
class Settings:
    """The paper's numbers.

    `batch` is the half of a GPU: of its 128 pairs on two GPUs, each has its own loss and its own
    statistics.
    """

    epochs: int = 3
    batch: int = 64
    learning_rate: float = 1e-6
    weight_decay: float = 0.01
    warm_up: int = 200  # steps; then the rate follows a cosine
    seed: int = 0


PAPER = Settings()


def apply(layers: torch.nn.ModuleDict, kind: str, rows: torch.Tensor) -> torch.Tensor:
    """L2-normalised rows (n, d) behind the layer of "image" or "text", L2-normalised again."""
    return functional.normalize(layers[kind](rows), dim=-1)


def loss(layers: torch.nn.ModuleDict, image: torch.Tensor, text: torch.Tensor, scale: float):
    """CyCLIP's loss of n pairs behind the layers, from embeddings (n, d): a tensor of one element.

    L_CLIP + 0.25 L_in-modal + 0.25 L_cross-modal: I0T section 4.1, appendix D.1.
    """
    x, y = apply(layers, "image", image), apply(layers, "text", text)
    cyclic = losses.cyclic_in_modal_loss(x, y) + losses.cyclic_cross_modal_loss(x, y)
    return losses.clip_loss(x, y, scale) + 0.25 * cyclic


def train(
    e: Embeddings, scale: float, settings: Settings = PAPER
) -> tuple[torch.nn.ModuleDict, list[float]]:
    """Layers for a model whose embeddings of training pairs these are.

    Args:
        e: as `embed` has them: the captions of an image together.
        scale: the model's, which stays as it is.

    Returns: the layers, which no longer learn, and the mean loss of each epoch.

    Raises: ValueError if there is less than a batch of pairs.
    """
    n, size = len(e.image), settings.batch
    if n < size:
        raise ValueError(f"The layers are trained on batches of {size} pairs: {n} are too few.")
    layers = registry.normalisation("batch", e.image.shape[1])
    rates = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    optimiser = torch.optim.AdamW(layers.parameters(), **rates)
    per_epoch = n // size  # a last batch that is not full is left out
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, _share(settings.warm_up, settings.epochs * per_epoch)
    )
    counts = torch.bincount(e.owner, minlength=n)
    first, draw = counts.cumsum(0) - counts, torch.Generator().manual_seed(settings.seed)
    curve = []
    with progress.bar(total=settings.epochs * per_epoch, desc="training", unit="step") as bar:
        for _ in range(settings.epochs):
            order = torch.randperm(n, generator=draw)
            caption = first + (torch.rand(n, generator=draw) * counts).long()
            total = 0.0
            for index in order[: per_epoch * size].split(size):
                step = loss(layers, e.image[index], e.text[caption[index]], scale)
                optimiser.zero_grad()
                step.backward()
                optimiser.step()
                schedule.step()
                total += step.item()
                bar.update()
            curve.append(total / per_epoch)
    return layers.eval().requires_grad_(False), curve


def _share(warm_up: int, steps: int) -> Callable[[int], float]:
    """Step -> share of the learning rate: a linear warm-up, then a cosine to 0."""
    warm_up = min(warm_up, steps)

    def share(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up))) / 2

    return share


def write(start: Path, layers: torch.nn.ModuleDict, target: Path, about: dict) -> None:
    """Write a model with these layers as the folder `target`, whole or not at all.

    Args:
        start: the folder of the model without them, in open_clip's format. Its weights are linked
            to where the file system can do it, and else copied.
        about: plain values for `recipe.json`.
    """
    with files.put(target) as part:
        part.mkdir()
        for name in (registry.CONFIG, *TOKENIZER):
            if (start / name).is_file():
                shutil.copyfile(start / name, part / name)
        _link((start / registry.WEIGHTS).resolve(), part / registry.WEIGHTS)
        state = {key: value.contiguous() for key, value in layers.state_dict().items()}
        save_file(state, part / registry.NORMALISATION, {"kind": "batch"})
        (part / registry.NORMALISATION).chmod(0o644)  # safetensors keeps it to its owner
        files.write_json(part / "recipe.json", about)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(source, target)

"""A model of the user's own: everything that can be wrong with it is said before work starts."""

import json
import math
from pathlib import Path

import torch
from PIL import Image

from lib.encoders import registry
from lib.encoders.towers import Model

WORDS = ("tokenizer.json", "vocab.json", "spiece.model")  # files, one of which a tokenizer needs
TEXTS = ("a photo of a dog", "two red squares on a blue wall", "zebra")


def checked(name: str) -> Model:
    """The model of a name that `registry.load` takes, once it has encoded a few images and texts.

    Raises: ValueError in one sentence if its files do not fit each other, its activation is not the
        one that it was trained with, or its embeddings are of no use; NotAvailable as
        `registry.load`.
    """
    spec = registry.REGISTRY.get(name)
    if spec and (spec.blip or not spec.trained):
        raise ValueError(f"{name} is not a trained CLIP: choose another model.")
    folder = registry.folder(name)
    _check_files(name, folder)
    _check_activation(name, folder)
    model = registry.load(name)
    _check_texts(model)
    image, text = model.encode_image(_pictures()), model.encode_text(TEXTS)
    if image.shape[1] != text.shape[1]:
        raise ValueError(
            f"{name}: its image embeddings have {image.shape[1]} dimensions and its text "
            f"embeddings {text.shape[1]}: they must share one space."
        )
    for what, embeddings in (("images", image), ("texts", text)):
        if (embeddings - embeddings[0]).abs().max() < 1e-6:
            raise ValueError(
                f"{name} gives the same embedding to different {what}: are its weights whole?"
            )
    return model


def _pictures() -> list[Image.Image]:
    """Three pictures that any image encoder tells apart."""
    ramp = Image.linear_gradient("L")
    return [picture.convert("RGB") for picture in (ramp, ramp.rotate(90), ramp.rotate(180))]


def _check_texts(model: Model) -> None:
    tower = getattr(model.clip, "text", model.clip)
    tokens = model.tokenizer([*TEXTS])
    if int(tokens.max()) >= getattr(tower, "vocab_size", math.inf):
        raise ValueError(
            f"{model.name}: its tokenizer gives the number {int(tokens.max())}, but its text "
            f"encoder knows {tower.vocab_size:,} tokens: put the model's own tokenizer.json into "
            "the folder, and name it by hf_tokenizer_name in text_cfg."
        )
    if any(torch.equal(tokens[0], other) for other in tokens[1:]):
        raise ValueError(
            f"{model.name}: its tokenizer gives the same numbers to different texts: put the "
            "model's own tokenizer.json into the folder."
        )


def _check_files(name: str, folder: Path) -> None:
    text = registry.configuration(name, folder)["model_cfg"].get("text_cfg", {})
    if text.get("hf_tokenizer_name") and not any((folder / file).is_file() for file in WORDS):
        raise ValueError(
            f"{name} has no tokenizer: put the model's own tokenizer.json into {folder}, by "
            "transformers' `save_pretrained`."
        )


def _check_activation(name: str, folder: Path) -> None:
    """Refuse another activation than that of training, as far as anything says which one it was.

    The wrong one makes no error, only worse embeddings. Of a repository that open_clip lists, its
    list says it; of a folder, the config.json of transformers beside open_clip's.
    """
    config = folder / "config.json"
    if name.startswith("hf-hub:"):
        listed = registry.listed(registry.pinned(name)[0])
        if listed:
            registry.check_training(name, listed, folder)
    if not config.is_file():
        return
    vision = json.loads(config.read_text(encoding="utf-8")).get("vision_config") or {}
    trained, said = vision.get("hidden_act"), registry.configuration(name, folder)["model_cfg"]
    quick = bool(said.get("quick_gelu", False))
    if trained and quick != (trained == "quick_gelu"):
        raise ValueError(
            f"{name}: {registry.CONFIG} says quick_gelu = {quick}, but config.json says that the "
            f"weights were trained with {trained}: correct {registry.CONFIG}."
        )

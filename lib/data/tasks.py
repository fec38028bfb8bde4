"""A model on a data set: what notebooks measure again and again, one number per item."""

from collections.abc import Mapping

from datasets import Dataset

from lib.data.labelled import class_prompts, load_labelled
from lib.encoders.download import NotAvailable
from lib.encoders.embeddings import embed_images, text_encoder
from lib.encoders.towers import Model
from lib.measures import zeroshot


def load_sets(
    names: Mapping[str, str], n: int | None = None, split: str = "test"
) -> tuple[dict[str, Dataset], str]:
    """The labelled data sets that can be had, by their short names, and a word on the others.

    Args:
        names: short name -> data set, as in a profile.
        n: at most so many rows of each.
    """
    rows, missing = {}, []
    for key, name in names.items():
        try:
            rows[key] = load_labelled(name, split, n)
        except NotAvailable as error:
            missing.append(f"Without {key}: {error}")
    return rows, " ".join(missing)


def zero_shot(
    model: Model, name: str, rows: Dataset, template: str = "a photo of a {}."
) -> zeroshot.Classification:
    """Zero-shot classification of a labelled data set, asked with its own prompts.

    Args:
        name: the data set that the rows are of; the world asks in its own words.
        template: for a public data set.
    """
    classes = zeroshot.class_embeddings(text_encoder(model), *class_prompts(name, rows, template))
    return zeroshot.evaluate(embed_images(model, rows), classes, rows["label"][:])

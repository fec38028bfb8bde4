"""A model on a data set: what notebooks measure again and again, one number per item."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from datasets import Dataset

from lib.data.judgements import load_judgements
from lib.data.labelled import class_prompts, load_labelled, load_test_images, same_images
from lib.encoders.download import NotAvailable
from lib.encoders.embeddings import Embeddings, embed, embed_images, text_encoder
from lib.encoders.towers import Model
from lib.measures import bootstrap, retrieval, scores, zeroshot
from lib.methods import inversion


def load_sets(
    names: Mapping[str, str], n: int | None = None, split: str = "test"
) -> tuple[dict[str, Dataset], str]:
    """The labelled data sets that can be had, by their short names, and a word on the others.

    Args:
        names: short name -> data set, as in a profile.
        n: at most so many rows of each.
    """
    return _those_there(names, lambda name: load_labelled(name, split, n))


def load_test_sets(
    names: Mapping[str, str], n: int, seed: int = 0
) -> tuple[dict[str, Dataset], str]:
    """`load_test_images` of the labelled data sets that can be had, and a word on the others."""
    return _those_there(names, lambda name: load_test_images(name, n, seed))


def load_judged(names: Mapping[str, str], n: int | None = None) -> tuple[dict[str, Dataset], str]:
    """`load_judgements` of the data sets that can be had, by kind, and a word on the others."""
    return _those_there(names, lambda name: load_judgements(name, n))


def _those_there(names: Mapping[str, str], load: Callable[[str], Dataset]):
    rows, missing = {}, []
    for key, name in names.items():
        try:
            rows[key] = load(name)
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


def image_retrieval(
    model: Model,
    rows: Mapping[str, Dataset],
    n_queries: int,
    ask: Callable[[torch.Tensor], Mapping[str, torch.Tensor]],
    measure=retrieval.average_precision,
) -> dict[tuple[str, str], np.ndarray]:
    """Which images of its class does a query find? By label set and kind of query, in points.

    The first `n_queries` images of every set are the queries, the others the gallery, as native
    embeddings. Source: Cross the Gap section 5.1; as there, a query without an image of its class
    counts 0.

    Args:
        rows: label set -> images with labels; sets of the same images share search and ranking.
        ask: embeddings (queries, d) of the query images -> {kind: embeddings (queries, d)}.
        measure: of the ranks, one number per query.

    Returns: (label set, kind) -> (queries,); the set "mean" has the mean over all label sets.
    """
    found = {}
    for keys in same_images(dict(rows)):
        images = embed_images(model, rows[keys[0]])
        labels = np.array([rows[key]["label"][:] for key in keys])
        for kind, query in ask(images[:n_queries]).items():
            each = retrieval.precision_in_set(query, images[n_queries:], labels, measure)
            found |= {(key, kind): some for key, some in zip(keys, each, strict=True)}
    for kind in dict.fromkeys(kind for _, kind in found):
        found["mean", kind] = np.mean([found[key, kind] for key in rows], axis=0)
    return found


def native_and_oti(
    model: Model, rows: Mapping[str, Dataset], n_queries: int, steps: Sequence[int], seed: int = 0
) -> dict[tuple[str, str], np.ndarray]:
    """`image_retrieval` by native embeddings ("native") and by those of inverted texts ("OTI").

    One pseudo-token per image; `steps` are those of `inversion.oti`, and the last one counts.
    """

    def ask(native: torch.Tensor) -> dict[str, torch.Tensor]:
        searched = inversion.oti(model, native, steps=steps, batch=200, seed=seed)
        return {"native": native, "OTI": searched.embeddings}

    return image_retrieval(model, rows, n_queries, ask)


def text_retrieval(
    e: Embeddings, queries: Mapping[object, torch.Tensor], caption: int = 0
) -> dict[object, np.ndarray]:
    """Which other captions of its image does a caption find? By kind of query, in points.

    Row i of each kind of query (n, d) stands for the `caption`-th caption of image i; the gallery
    are all other captions of all images, as native embeddings. The measure is average precision.
    Source: Cross the Gap section 5.2, where the query is the first caption.

    Args:
        e: images and captions as `embed` has them, the captions of an image together.
        queries: kind -> embeddings (n, d) of the first n images.

    Returns: kind -> (n,).
    """
    owner = e.owner.numpy()
    place = np.concatenate([np.arange(count) for count in np.bincount(owner)])
    gallery, owners = e.text[place != caption], owner[place != caption]
    found = {}
    for kind, query in queries.items():
        ranks = retrieval.rank_relevant(query, gallery, np.arange(len(query)), owners)
        found[kind] = 100 * retrieval.average_precision(ranks)
    return found


def pairs_and_sets(
    model: Model,
    pairs: Dataset,
    names: Mapping[str, str],
    rows: Mapping[str, Dataset],
    caption: int = 0,
) -> dict[str, np.ndarray]:
    """Retrieval and cosines on pairs, and zero-shot classification of labelled sets, per image.

    Args:
        pairs: images with captions.
        names: label set -> the data set that its rows are of.
        rows: label set -> images with labels.
        caption: of every image, from 0: the one whose cosine is measured.

    Returns: of the pairs, R@1 with all captions in percent as "I2T", "T2I" and their mean
        "retrieval", and the cosine with the own caption ("own"), its mean with those of the other
        images ("random") and "own - random"; top-1 in percent by label set.
    """
    e = embed(model, pairs)
    i2t, t2i = retrieval.recall_by_image(e.image, e.text, e.owner)
    own = scores.cosine(e.image, e.caption(caption))
    others = scores.cosine_with_others(e.image, e.caption(caption))
    measured = {"I2T": 100 * i2t, "T2I": 100 * t2i, "retrieval": 50 * (i2t + t2i)}
    measured |= {key: 100 * zero_shot(model, names[key], some).top1 for key, some in rows.items()}
    return measured | {"own": own, "random": others, "own - random": own - others}


def estimates(
    measured: Mapping[str, np.ndarray],
    together: Sequence[Sequence[str]],
    n_bootstrap: int = 1000,
    seed: int = 0,
    against: Mapping[str, np.ndarray] | None = None,
) -> dict[str, bootstrap.Estimate]:
    """Every measure of `pairs_and_sets` with its interval, and "classification".

    "classification" is the mean over the label sets, of which each counts alike; `together` lists
    them, those of the same images together (`same_images`). With `against`, what another model
    reached on the same items, all of them are the paired differences to it.
    """
    if against is not None:
        measured = {what: items - against[what] for what, items in measured.items()}
    mean = bootstrap.mean_over_sets(measured, together, n_bootstrap, seed)
    return {"classification": mean} | bootstrap.means(measured, n_bootstrap, seed)

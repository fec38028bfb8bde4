"""A model on a data set: what notebooks measure again and again, one number per item."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from datasets import Dataset

from lib.data.judgements import load_judgements
from lib.data.labelled import class_prompts, load_labelled, load_test_images, same_images
from lib.data.pairs import load_pairs
from lib.data.sources import splits
from lib.encoders.download import available, first_available
from lib.encoders.embeddings import Embeddings, embed, embed_images, text_encoder
from lib.encoders.towers import Model
from lib.measures import bootstrap, retrieval, scores, zeroshot
from lib.methods import inversion


def load_sets(
    names: Mapping[str, str],
    n: int | None = None,
    split: str = "test",
    most: int | None = None,
) -> tuple[dict[str, Dataset], str]:
    """The available labelled data sets, by their short names, and a note on the others.

    Args:
        names: short name -> data set, as in a profile.
        n: at most so many rows of each.
        most: this many available sets are enough.
    """
    return available(lambda name: load_labelled(name, split, n), names, most=most)


def load_test_sets(
    names: Mapping[str, str], n: int, seed: int = 0
) -> tuple[dict[str, Dataset], str]:
    """`load_test_images` of the available labelled data sets, and a note on the others."""
    return available(lambda name: load_test_images(name, n, seed), names)


def load_judged(names: Mapping[str, str], n: int | None = None) -> tuple[dict[str, Dataset], str]:
    """`load_judgements` of the available data sets, by kind, and a note on the others."""
    return available(lambda name: load_judgements(name, n), names)


def load_pair_sets(
    names: Mapping[str, str] | Sequence[str],
    split: str = "test",
    n: int | None = None,
    needed: Sequence[str] = (),
) -> tuple[dict[str, Dataset], str]:
    """`load_pairs` of the available data sets, and a note on the others: see `available`."""
    return available(lambda name: load_pairs(name, split, n), names, needed)


def load_first_pairs(
    names: Sequence[str | None], split: str = "test", n: int | None = None
) -> tuple[str, Dataset, str]:
    """`load_pairs` of the first available data set: its name, rows, a note on those before.

    Args:
        names: in the order of preference; None (a profile without a second set) is passed over.

    Raises: NotAvailable if none is available.
    """
    return first_available(lambda name: load_pairs(name, split, n), filter(None, names))


def load_pairs_to_fit(name: str, n: int | None = None) -> tuple[str, Dataset, str]:
    """Pairs that means and maps are fitted on: of the train split, or of the test split without it.

    Returns: the split, at most n rows, and a note on an unavailable train split.

    Raises: ValueError, NotAvailable as `load_pairs`.
    """
    return first_available(lambda split: load_pairs(name, split, n), ("train", "test"))


def load_same_images(
    names: Mapping[str, str], n: int, seed: int = 0, first: str = "cars"
) -> tuple[dict[str, Dataset], str]:
    """`load_test_images` of label sets that share their images, and a note on those not available.

    All of the world's sets do. Of public sets, each with images of its own, it is one: `first`, or
    else the first available one of the others.

    Raises: NotAvailable if none is available.
    """
    drawn = {key: name for key, name in names.items() if name.startswith("world-")}
    if drawn:
        return load_test_sets(drawn, n, seed)
    order = {key: names[key] for key in sorted(names, key=lambda key: key != first)}
    key, rows, missing = first_available(lambda name: load_test_images(name, n, seed), order)
    return {key: rows}, missing


def load_shifts(
    names: Mapping[str, str],
    shifted: Mapping[str, str],
    splits_of: Mapping[str, Sequence[str]],
    n: int | None = None,
    n_public: int = 10_000,
) -> tuple[dict[tuple[str, str], Dataset], dict[tuple[str, str], str], str]:
    """Test images of label sets and of their shifted twins, and a note on what is not available.

    Args:
        names: label set -> data set. Of the world's, each has its twins as further splits; of
            public ones, which have none, the first available one is taken.
        shifted: "test" and shifts -> public data sets that are twins of each other, as a profile
            has them. They replace the others, under the name of the one without a shift.
        splits_of: label set -> the splits that are wanted, "test" first.
        n: at most so many rows of each.
        n_public: at most so many random rows of each public set.

    Returns: (label set, split) -> rows, and the same -> the data set that the rows are of.
    """
    missing, most = "", n_public if n is None else min(n, n_public)
    twins = {(shifted["test"], split): (name, "test") for split, name in shifted.items()}
    if twins:
        rows, missing = available(lambda where: load_test_images(where[0], most), twins)
        if (shifted["test"], "test") in rows:
            return rows, {key: twins[key][0] for key in rows}, missing
    own = {(key, split): (names[key], split) for key in splits_of for split in splits_of[key]}
    own = {key: where for key, where in own.items() if where[1] in splits(where[0])}
    most = None if any(name.startswith("world-") for name, _ in own.values()) else 1
    rows, more = available(lambda where: load_labelled(*where, n), own, most=most)
    return rows, {key: own[key][0] for key in rows}, f"{missing} {more}".strip()


def beside(sets: Mapping[str, str], columns: Sequence[str]) -> tuple[dict[str, str], str]:
    """Titles of a paper's accuracy columns where they are those of ours, and a note on the others.

    The drawn world's label sets take the paper's titles, in their order. A public set takes only
    its own: what the paper measured on another set keeps a separate title.

    Args:
        sets: short name -> data set, of those that are measured here.
        columns: the data sets of the paper, by their short names.

    Returns: column -> title, such as "cifar100 accuracy".
    """
    if all(name.startswith("world-") for name in sets.values()):
        titles = dict(zip(columns, sets, strict=False))
    else:
        titles = {column: column for column in columns}
    other = [key for key in sets if key not in titles.values()]
    lacking = [column for column, key in titles.items() if key not in sets]
    word = f"The paper's {' and '.join(lacking)}: not measured here. " if lacking else ""
    word += f"Not in the paper: {' and '.join(other)}." if other else ""
    return {column: f"{key.replace('_', '-')} accuracy" for column, key in titles.items()}, word


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

    Row i of each kind of query (n, d) is for the `caption`-th caption of image i. The gallery is
    all other captions of all images, as native embeddings. The metric is average precision.
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

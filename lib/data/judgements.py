"""Captions that people have rated, or that the world rates in their stead."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import datasets
import numpy as np
import torch
from datasets import Dataset

from lib import suggestions
from lib.data import sources
from lib.encoders.download import NotAvailable
from lib.encoders.embeddings import embed_images, embed_texts
from lib.encoders.towers import Model
from lib.measures import bootstrap, scores

# name -> (file of the CLIPScore repository's flickr8k_example/download.py, raters per caption)
JUDGED = {
    "flickr8k-expert": ("flickr8k.json", 3),
    "flickr8k-cf": ("crowdflower_flickr8k.json", 1),
}


def load_judgements(name: str, n: int | None = None) -> Dataset:
    """Captions rated by people, of at most `n` images (default: all).

    `name`: "world-expert", "world-cf", "flickr8k-expert" (three experts, 1 to 4) or "flickr8k-cf"
    (one share of yes votes, 0 to 1). Columns: image, image_id, caption, references (list of
    strings), ratings (one number per rater), rating (their mean).

    Flickr8k is not downloaded for you: run `flickr8k_example/download.py` of the CLIPScore authors
    (github.com/jmhessel/clipscore) and put its folder `flickr8k` into the one that the variable
    MODALITY_GAP_DATA names. Candidates that equal a reference are left out there (expert), or are
    taken out of the references (cf).

    Raises: ValueError for a name that does not exist; NotAvailable if the data are not there.
    """
    known = ["world-expert", "world-cf", *JUDGED]
    if name not in known:
        raise ValueError(suggestions.unknown("data set of judgements", name, known))
    sources.check_n(n)
    if name.startswith("world-"):
        world = sources.world()
        return world.judgements(name.removeprefix("world-"), sources.at_most(n, world.N_JUDGED))
    file, raters = JUDGED[name]
    folder = sources.own_folder() / "flickr8k" if sources.own_folder() else None
    if folder is None or not (folder / file).is_file():
        raise NotAvailable(
            f"{name} is not downloaded for you: run flickr8k_example/download.py of "
            "github.com/jmhessel/clipscore and let MODALITY_GAP_DATA name the folder that holds "
            f"flickr8k/{file}."
        )
    images = list(json.loads((folder / file).read_text(encoding="utf-8")).items())[:n]
    rows = [row for key, entry in images for row in _judged(folder, key, entry, raters)]
    features = sources.features(
        caption=datasets.Value("string"),
        references=sources.TEXTS,
        ratings=datasets.List(datasets.Value("float32")),
        rating=datasets.Value("float32"),
    )
    return Dataset.from_dict({key: [row[key] for row in rows] for key in features}, features)


def prompt(name: str) -> str:
    """What is put before every caption of a judged set: nothing in the world, else `scores.PROMPT`.

    The world's models were not trained on such sentences.
    """
    return "" if name.startswith("world-") else scores.PROMPT


def embed_judged(
    model: Model, judged: Dataset, before: str = scores.PROMPT
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (m, d) and captions (m, d) of m judged captions, row by row.

    Each image is encoded once; `before` is put before every caption.
    """
    _, once, image_of = np.unique(judged["image_id"][:], return_index=True, return_inverse=True)
    texts = embed_texts(model, [before + caption for caption in judged["caption"][:]])
    return embed_images(model, judged.select(once))[image_of], texts


def embed_references(
    model: Model, judged: Dataset, before: str = scores.PROMPT
) -> tuple[torch.Tensor, np.ndarray]:
    """The reference captions of m judged captions (r, d), and the row that each belongs to (r,).

    Each text is encoded once; `before` is put before it.
    """
    listed = judged["references"][:]
    texts, of = np.unique([text for some in listed for text in some], return_inverse=True)
    owner = np.repeat(np.arange(len(listed)), [len(some) for some in listed])
    return embed_texts(model, [before + str(text) for text in texts])[of], owner


def rows_by_image(judged: Dataset) -> list[np.ndarray]:
    """The rows of each image, images by their ids.

    The captions of an image are not independent: a bootstrap draws images and takes all their rows.
    """
    _, image_of = np.unique(judged["image_id"][:], return_inverse=True)
    order = np.argsort(image_of, kind="stable")
    return np.split(order, np.cumsum(np.bincount(image_of))[:-1])


def drawn_captions(judged: Dataset, n_bootstrap: int = 1000, seed: int = 0) -> np.ndarray:
    """How often each of m judged captions is in each resample of the images: (n_bootstrap, m).

    Raises: ValueError as `bootstrap.counts`.
    """
    images, image_of = np.unique(judged["image_id"][:], return_inverse=True)
    return bootstrap.counts(len(images), n_bootstrap, seed)[:, image_of]


def resampled_agreement(
    score: Mapping[object, np.ndarray], judged: Dataset, n_bootstrap: int = 1000, seed: int = 0
) -> dict[object, bootstrap.Resampled]:
    """`scores.agreement` of several scores (m,) of m judged captions by key, on the same resamples.

    The images are drawn, with all their captions and ratings: see `bootstrap.resampled`.
    """
    ratings = np.array(judged["ratings"][:])
    raters = ratings.shape[1]
    drawn = np.repeat(drawn_captions(judged, n_bootstrap, seed), raters, axis=1)
    found = {}
    for key, each in score.items():
        draws = scores.kendall_of_counts(np.repeat(each, raters), ratings.ravel(), drawn)
        found[key] = bootstrap.Resampled(scores.agreement(each, ratings), 100 * draws)
    return found


def one_exchanged(judged: Dataset, seed: int = 0) -> tuple[np.ndarray, Dataset]:
    """A row of each image, drawn, and the captions with the lowest of all ratings in these rows.

    For a caption that says nothing of the image to take the place of the one judged: its score is
    for the caller to exchange.
    """
    rng, ratings = np.random.default_rng(seed), np.array(judged["ratings"][:])
    rows = np.array([rng.choice(its) for its in rows_by_image(judged)])
    ratings[rows] = ratings.min()
    return rows, judged.remove_columns("ratings").add_column("ratings", ratings.tolist())


def _judged(folder: Path, key: str, entry: dict, raters: int) -> Iterator[dict]:
    """One row per candidate: its raters' entries follow each other in the file."""
    judged = entry["human_judgement"]
    for i in range(0, len(judged), raters):
        ratings = [float(one["rating"]) for one in judged[i : i + raters]]
        if not np.isfinite(ratings).all():
            continue
        yield {
            "image": str(folder / entry["image_path"]),
            "image_id": Path(key).stem,
            "caption": sources.tidy(judged[i]["caption"]),
            "references": [sources.tidy(text) for text in entry["ground_truth"]],
            "ratings": ratings,
            "rating": sum(ratings) / len(ratings),
        }

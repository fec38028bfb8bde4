"""The gap card: what your own image and text embeddings show of the modality gap, on one page.

`./run_all.sh --embeddings IMAGES TEXTS [--owner FILE] [--as NAME]` writes gap_card.html,
gap_card.pdf, gap_card.png and gap_card.json to `figures/NAME/`.
"""

import argparse
import base64
import re
import sys
from pathlib import Path

from docs import gap_picture, pages
from docs.gap_measured import BEFORE, STAGES, Column, measure, references
from lib import files, paths, profiles, progress
from lib.claims import findings
from lib.data.embedded_pairs import Pairs
from lib.data.embedding_files import Rows, read_owner
from lib.measures import card
from lib.measures.bootstrap import Estimate

GROUPS = {  # what is measured, with its meaning
    "How far apart the modalities are": {
        "centroid distance": "length of the difference of the mean image and the mean text, from 0 "
        "to 2; I0T calls 0.63 and more severe, less than 0.19 low",
        "linear separability": "1 less the squared error of a linear regression on held-out "
        "embeddings: 1 if every image is told from every text, about 0.75 "
        "if none is, less with few pairs",
        "classifier AUC": "area under the curve of a logistic regression on held-out embeddings; "
        "0.5 is chance",
    },
    "What a pair is, against chance": {
        "pair cosine": "mean cosine of an image and its own text (alignment)",
        "random cosine": "mean cosine of an image and the texts of others",
        "pair minus random": "the difference of these two",
    },
    "How the embeddings are spread": {
        "uniformity, images": "log of the mean of exp(-2 |a - b|²); lower is more uniform",
        "uniformity, texts": "the same among texts",
        "hubness, images": f"skewness of how often an image is among the {card.hubness.K} nearest "
        "of a text; far above 0, a few images are near to many texts",
        "hubness, texts": "the same of texts, among the nearest of an image",
        "peak share, images": "share of the largest dimension in the squared length of the mean",
        "peak share, texts": "the same among texts",
    },
    "What is found": {
        **{f"R@{k}, image to text": "percent of images whose text is "
            + (f"among the {k} nearest" if k > 1 else "the nearest") for k in card.KS},
        **{f"R@{k}, text to image": "percent of texts whose image is "
            + (f"among the {k} nearest" if k > 1 else "the nearest") for k in card.KS},
    },
}  # fmt: skip

# What is asked for --------------------------------------------------------------------------------


def place(name: str) -> Path:
    """The folder of a card. Raises: ValueError if the name is none, or a shipped profile's."""
    profiles.check_name(name)
    return paths.FIGURES / name


def opened(images: str, texts: str, owner: str | None) -> Pairs:
    """The pairs in the files. Raises: ValueError in one sentence if they are none."""
    if Path(images).exists() and Path(texts).exists() and Path(images).samefile(texts):
        raise ValueError(f"Images and texts are the same file, {images}: name two files.")
    if _says(texts, "image|img|visual|vision") and _says(images, "text|txt|caption"):
        raise ValueError(f"By their names, {images} holds texts and {texts} images: name the "
            "images first.")  # fmt: skip
    both = Rows(images), Rows(texts)
    pairs = Pairs(*both, owner=None if owner is None else read_owner(owner))
    if pairs.n < card.FEWEST:
        raise ValueError(f"A gap card needs at least {card.FEWEST} pairs, half of which fit the "
            f"means and half are tested; there are {pairs.n}.")  # fmt: skip
    return pairs


def _says(source: str, words: str) -> bool:
    return bool(re.search(words, Path(source).name.lower()))


# The page -----------------------------------------------------------------------------------------


def words(measure: str, estimate: Estimate | None) -> str:
    """A number with its interval, recall in percent; empty if there is none."""
    if estimate is None:
        return ""
    if estimate.value != estimate.value:
        return "undefined"
    return format(100 * estimate, "z.1f") if measure.startswith("R@") else f"{estimate:z.3f}"


def page(columns: list[Column], notes: list[str], warnings: list[str], picture: bytes) -> str:
    """gap_card.html, with the picture inside."""

    def row(name: str, column: Column) -> dict:
        cells = {
            stage: (words(name, column.measured[stage][name]),
                words(name, column.permuted[stage].get(name)))
            for stage in STAGES
        }  # fmt: skip
        return {"model": column.name, "cells": cells}

    groups = {
        title: [
            {"name": name, "meaning": meaning, "rows": [row(name, each) for each in columns]}
            for name, meaning in measures.items()
        ]
        for title, measures in GROUPS.items()
    }
    css = (pages.TEMPLATES / "static" / "site.css").read_text(encoding="utf-8")
    template = pages.templates().get_template("gap_card.html.j2")
    return template.render(columns=columns, groups=groups, notes=notes, warnings=warnings,
        stages=STAGES, picture=base64.b64encode(picture).decode(), style=css)  # fmt: skip


def as_json(columns: list[Column], notes: list[str], warnings: list[str]) -> dict:
    """All numbers of the page, and the profile of every dimension, for programs."""

    def plain(staged: dict[str, dict[str, Estimate]]) -> dict:
        return {
            stage: {name: [None if x != x else x for x in (e.value, e.low, e.high)]
                for name, e in estimates.items()}
            for stage, estimates in staged.items()
        }  # fmt: skip

    def profile(column: Column) -> dict:
        half = {side: 1.96 * std / column.pairs**0.5 for side, (_, std) in column.profile.items()}
        return {
            side: {"mean": mean.tolist(), "std": std.tolist(),
                "mean_half_width": half[side].tolist()}
            for side, (mean, std) in column.profile.items()
        }  # fmt: skip

    return {
        "about": "Each number: [value, low, high], a 95 % interval. Recall is a share.",
        "notes": notes,
        "warnings": warnings,
        "models": [
            {
                **{key: getattr(column, key) for key in ("name", "data", "pairs", "tested")},
                "dimensions": column.dimensions,
                "measured": plain(column.measured),
                "permuted": plain(column.permuted),
                "profile": profile(column),
            }
            for column in columns
        ],
        "versions": findings.versions(),
    }


def explained(own: Column, owner: bool, missing: str) -> list[str]:
    """What a reader must know of the numbers, in sentences."""
    notes = [
        f"Before, centroid distance, cosines and peak shares are those of all {own.pairs:,} pairs. "
        f"The rest is measured on {own.tested:,} pairs drawn at random, and so is all that comes "
        "after I0T_post and the shift: their means are those of the other pairs.",
        "The gallery of retrieval and of hubness holds the tested pairs; compare models whose "
        "numbers of tested pairs are alike.",
        "I0T_post subtracts from each embedding the mean of its modality; the shift moves images "
        "and texts by half of the gap vector towards each other. Both normalise before and after.",
        "Brackets are 95 % intervals by bootstrap over pairs, of all pairs over at most 1,000 "
        "blocks of consecutive rows. Separability and AUC are of one split into whole pairs.",
        "On permuted pairs, each image has got the text of another one. Measures without such a "
        "number do not look at the pairing.",
    ]
    if owner:
        notes.append("An image's first text is its pair; retrieval takes all of its texts.")
    return [*notes, missing] if missing else notes


def doubts(own: Column) -> list[str]:
    """What should make a researcher look at the files again."""
    if not own.measured[BEFORE]["pair minus random"].above():
        return ["Pairs are no more alike than random couples. Does each text belong to its image, "
            "and is the model trained?"]  # fmt: skip
    return []


# --------------------------------------------------------------------------------------------------


def write(images: str, texts: str, owner: str | None, name: str) -> Path:
    """Measure, and write a card's files; returns its page. Raises: ValueError in one sentence."""
    folder = place(name)
    pairs = opened(images, texts, owner)
    print(f"{pairs.n:,} images, {pairs.texts.n:,} texts, {pairs.d} dimensions", flush=True)
    with progress.bar(total=pairs.n, unit=" pairs", unit_scale=True) as bar:
        passed = pairs.summed(progress=bar.update)
    print("Measuring, then the same of published CLIP and of mini-clip", flush=True)
    own = measure(name, f"{Path(images).name} and {Path(texts).name}", *passed)
    others, missing = references()
    columns, warnings = [own, *others], doubts(own)
    notes = explained(own, owner is not None, missing)
    gap_picture.draw(columns, folder / "gap_card")
    picture = (folder / "gap_card.png").read_bytes()
    files.write_text(folder / "gap_card.html", page(columns, notes, warnings, picture))
    files.write_json(folder / "gap_card.json", as_json(columns, notes, warnings))
    print("\n".join(warnings), end="\n" if warnings else "")
    return folder / "gap_card.html"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="./run_all.sh --embeddings", description=__doc__)
    parser.add_argument("images")
    parser.add_argument("texts")
    parser.add_argument("--owner")
    parser.add_argument("--as", dest="name", default="mine")
    options = parser.parse_args(arguments)
    try:
        written = write(options.images, options.texts, options.owner, options.name)
    except ValueError as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"run_all.sh: {error.strerror or error}: {error.filename}.", file=sys.stderr)
        return 1
    inside = written.is_relative_to(paths.ROOT)
    print(f"Gap card: {written.relative_to(paths.ROOT) if inside else written}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What a gap card measures: your pairs, those of real CLIP and of the small model beside them."""

from dataclasses import dataclass

import numpy as np
import torch

from lib import profiles
from lib.data import published
from lib.data.embedded_pairs import Held, Pairs, Sample
from lib.data.pairs import load_pairs
from lib.encoders import registry
from lib.encoders.download import NotAvailable
from lib.encoders.embeddings import embed_pairs
from lib.measures import card
from lib.measures.bootstrap import Estimate
from lib.measures.stream import Sums
from lib.methods.standardise import Standardiser, shift

BEFORE, POST, SHIFTED = STAGES = ("before", "after I0T_post", "after the shift")


@dataclass(frozen=True, eq=False)
class Column:
    """What was measured on the pairs of one model.

    `measured` and `permuted` are estimates by stage and measure, `profile` has the mean and the
    standard deviation of each dimension (d,), of "images" and "texts".
    """

    name: str
    data: str
    pairs: int
    tested: int
    dimensions: int
    measured: dict[str, dict[str, Estimate]]
    permuted: dict[str, dict[str, Estimate]]
    profile: dict[str, tuple[np.ndarray, np.ndarray]]


def measure(name: str, data: str, sums: Sums, sample: Sample) -> Column:
    """Every measure before and after I0T_post and the shift, whose means are of other pairs.

    Before, what sums tell is told of all pairs; all the rest is measured on the sample.
    """
    first = card.firsts(sample.owner, len(sample.text))
    image, text = sums.means(without=Sums.of(sample.image, sample.text[first]))
    pairs, tested = int(sums.pairs.sum()), len(sample.image)
    means = map(torch.from_numpy, (image, text))
    standardiser = Standardiser(*means, pairs - tested, pairs - tested)
    staged = {
        BEFORE: (sample.image, sample.text),
        POST: (standardiser.image(sample.image), standardiser.text(sample.text)),
        SHIFTED: shift(sample.image, sample.text, 0.5, unit=False, vector=image - text),
    }
    measured = {stage: card.of_sample(*both, sample.owner) for stage, both in staged.items()}
    permuted = {stage: card.of_permuted(*both, sample.owner) for stage, both in staged.items()}
    measured[BEFORE] |= sums.estimates()
    profile = {"images": sums.profile(images=True), "texts": sums.profile(images=False)}
    return Column(name, data, pairs, tested, len(image), measured, permuted, profile)


def references() -> tuple[list[Column], str]:
    """Published pairs of real CLIP, and mini-clip's; a sentence if the first are not available."""
    found, missing = {}, ""
    try:
        real = published.published_embeddings("clip")
        found[published.CLIP] = published.CLIP_PAIRS, real.image, real.first()
    except NotAvailable as error:
        missing = f"Embeddings of real CLIP are left out. {error}"
    p = profiles.load(profiles.FULL)
    rows = load_pairs(p.pairs, "test", p.n_pairs)
    both = embed_pairs(registry.load(p.models["clip"]), rows, p.query_caption)
    found[p.models["clip"]] = f"{len(rows):,} drawn scenes", *both
    return [
        measure(name, data, *Pairs(Held(image, "images"), Held(text, "texts")).summed())
        for name, (data, image, text) in found.items()
    ], missing

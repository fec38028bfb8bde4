"""Why a claim is not reproduced on small models: what is compared, and the class that it gives.

What is compared was written down before the audit was run (`audit.yaml`). The numbers are those of
`notebooks/beyond/audit_of_the_negatives.ipynb`, each of them by the library and once more by plain
float64 arithmetic, which shares no code with it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np
import yaml

from lib.claims.verdicts import CLASSES
from lib.measures.bootstrap import Estimate, Resampled

CONTRADICTS, ABSENT, SCALE, UNDERPOWERED = CLASSES
Z, POWER = (NormalDist().inv_cdf(share) for share in (0.975, 0.8))


@dataclass(frozen=True)
class Entry:
    """What `audit.yaml` says of a claim: see the comment there."""

    decisive: str
    measure: list
    model: str
    unit: str
    effect: dict | None
    precondition: str | None
    geometry: bool
    minus: str | None = None
    sign: int = 1
    margin: float = 0.0


def read() -> tuple[dict[str, Entry], dict[str, dict], dict[str, float]]:
    """What is compared, by claim; the preconditions; the tolerance of each unit."""
    content = yaml.safe_load(Path(__file__).with_name("audit.yaml").read_text(encoding="utf-8"))
    entries = {claim: Entry(**entry) for claim, entry in content["claims"].items()}
    return entries, content["preconditions"], content["tolerance"]


def standard_error(seeds: Sequence[Resampled], lone: bool = False) -> float:
    """Standard error of the mean over k training seeds of a difference: sqrt(item² + s²/k).

    `item` is the width of the bootstrap's 95 % interval / 3.92, s the standard deviation over the
    seeds; of one seed, item alone. `lone`: one side of the difference has a single training run,
    which is taken to scatter as the other side's do: s² more under the root.
    """
    low, high = np.quantile(np.mean([each.draws for each in seeds], axis=0), [0.025, 0.975])
    item, k = (high - low) / (2 * Z), len(seeds)
    spread = np.std([each.value for each in seeds], ddof=1) if k > 1 else 0.0
    return float(math.sqrt(item**2 + spread**2 / k + lone * spread**2))


def estimate(value: float, error: float) -> Estimate:
    """A value with the interval of ± 1.96 standard errors."""
    return Estimate(value, value - Z * error, value + Z * error)


def smallest_effect(error: float) -> float:
    """What a two-sided test at 5 % sees with a power of 80 %: 2.8 standard errors."""
    return (Z + POWER) * error


def presence(here: float, real: float, wanted: str) -> float:
    """How much of a precondition is here: 1 as in the paper or on real CLIP, below 1/2 absent."""
    return here / real if wanted == "high" else real / here


def classify(
    value: float,
    error: float,
    effect: float | None = None,
    present: float | None = None,
    others: Sequence[Estimate] = (),
) -> str:
    """One of `CLASSES`, or "" where D lies wholly above 0, as claimed: nothing is to be explained.

    Args: D, which the claim has above 0, and its standard error; the paper's D; `presence` of the
    precondition; D by models of the same recipe and another size. None where it is not known.
    """
    d = estimate(value, error)
    if d.above():
        return ""
    if present is not None and present < 1 / 2:
        return ABSENT
    if any(other.above() for other in others):
        return SCALE
    seen = effect is not None and d.below(effect) and smallest_effect(error) <= effect
    return CONTRADICTS if d.below() or seen else UNDERPOWERED

"""What changes with scale: the base recipe with d = width, on fewer or more samples, other widths.

`python -m mini.scale` trains what `scale.csv` lacks, measures it and adds its rows. The weights are
dropped then: together they would be larger than everything that this repository ships. A stopped
run goes on from its checkpoint.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from lib import files, paths, profiles
from lib.claims import audit
from lib.data import pairs
from lib.encoders import embeddings
from lib.measures import gap, retrieval, scores
from lib.measures.bootstrap import Estimate
from lib.methods.standardise import Standardiser
from mini import remeasured, training
from mini.recipes import FAMILIES, Recipe

FILE = Path(__file__).with_name("scale.csv")
STEPS = 800  # of the base recipe, with 128 pairs each
# What was tried so that one dimension dominates the mean, as on real CLIP: all else is the base's.
TRIED = {
    "no weight decay": {"weight_decay": 0.0},
    "weight decay 0.5": {"weight_decay": 0.5},
    "gain 4 of the last norms": {"norm_gain": 4.0},
    "d = 512": {"embed_dim": 512},
}


@dataclass(frozen=True)
class Setting:
    """Models that differ in nothing but their loss, and in whether they share a transformer.

    Attributes:
        samples: pairs seen in contrastive training, 1 for those of the base recipe (102,400).
        width: of both towers, and the number of dimensions d of the embedding.
        seed: of training.
        families: of clip, shared, align.
        tried: a key of TRIED, or empty.
    """

    samples: float = 1.0
    width: int = 96
    seed: int = 0
    families: tuple[str, ...] = ("clip", "shared", "align")
    tried: str = ""

    def recipe(self, family: str) -> Recipe:
        base = FAMILIES[f"mini-{family}"]
        size = {"width": self.width}
        sized = replace(
            base,
            seed=self.seed,
            steps=round(self.samples * STEPS),
            embed_dim=self.width,
            vision=base.vision | size,
            text=base.text | size | {"heads": self.width // 32},
        )
        return replace(sized, **TRIED.get(self.tried, {}))

    @property
    def key(self) -> dict:
        return {k: getattr(self, k) for k in ("samples", "width", "seed", "tried")}


def settings() -> Iterator[Setting]:
    """All of them, the quick ones first. The two largest are of CLIP alone: they take longest."""
    for seed in (0, 1):
        for samples in (0.25, 0.5, 1.0, 2.0):
            yield Setting(samples, seed=seed)
        yield Setting(width=64, seed=seed)
    for seed in (0, 1):
        yield Setting(4.0, seed=seed, families=("clip",))
        yield Setting(width=192, seed=seed, families=("clip",))
        yield from (Setting(seed=seed, families=("clip",), tried=tried) for tried in TRIED)


# --- what is measured -------------------------------------------------------------------------


def measured(name: str, bench: remeasured.Bench) -> dict[str, float]:
    """Numbers of one model on the test pairs with their full captions; R@1 and gains in points.

    I0T_post is fitted on training pairs.
    """
    x, y = bench.pairs_of(name)
    fit = pairs.load_pairs(bench.p.pairs, "train", bench.p.n_train_pairs)
    both = embeddings.embed_pairs(remeasured.load(name), fit, bench.p.query_caption)
    standardiser = Standardiser.fit(*both)
    post = standardiser.image(x), standardiser.text(y)
    raw, closed = _recall(x, y), _recall(*post)
    return {
        "centroid distance": gap.centroid_distance(x, y),
        "pair cosine": float(scores.cosine(x, y).mean()),
        "random cosine": float(scores.cosine_with_others(x, y).mean()),
        "AUC of the modality": float(bench.modality(name).items.value),
        "largest dimension, images": gap.peak_share(x),
        "largest dimension, texts": gap.peak_share(y),
        "R@1": raw,
        "I0T_post: R@1": closed - raw,
        "I0T_post: centroid distance": gap.centroid_distance(*post),
        "zero-shot accuracy": float(bench.five_sets(name).items.mean()),
        "OTI: mAP": float(bench.images(name, "OTI", "native").items.mean()),
    }


def _recall(x, y) -> float:
    found = retrieval.recall(x, y, ks=(1,))
    return 50 * float(found.i2t[1].mean() + found.t2i[1].mean())


def decisive(names: dict[str, str], bench: remeasured.Bench) -> dict[str, tuple[float, float]]:
    """Claim -> D of the audit and its standard error over items, where these models suffice."""
    found = {}
    for claim, entry in audit.read()[0].items():
        roles = {entry.model, entry.minus} - {None}
        if roles <= {*names} and entry.measure[0] != "cones":  # cones have random weights
            d, _ = bench.decisive(entry, names[entry.model], entry.minus and names[entry.minus])
            found[claim] = d.value, audit.standard_error([d])
    return found


# --- training, and the table ------------------------------------------------------------------


def read() -> pd.DataFrame:
    """A row per setting, family and measure: its value, and the error of D over test items."""
    columns = ["samples", "width", "seed", "tried", "model", "measure", "value", "error"]
    if not FILE.is_file():
        return pd.DataFrame(columns=columns)
    return pd.read_csv(FILE, keep_default_na=False, na_values={"error": [""]})


LARGER = {  # models of the audit's step 3
    "d = width": {},
    "4 x samples": {"samples": 4.0},
    "width 192": {"width": 192},
}


def larger(claim: str) -> dict[str, Estimate]:
    """D of a claim by models with d = width, each the mean over its seeds.

    Of the base recipe, of four times the samples, and of twice the width. The error is that of
    `audit.standard_error`, with the mean of the seeds' item errors.
    """
    table, found = read(), {}
    for name, size in LARGER.items():
        key = Setting(**size).key
        same = [table[k] == key[k] for k in ("samples", "width", "tried")]
        its = [table.model == "", table.measure == claim]
        runs = table[np.logical_and.reduce([*its, *same])]
        if len(runs) > 1:
            error = np.hypot(runs.error.mean(), runs.value.std() / np.sqrt(len(runs)))
            found[name] = audit.estimate(runs.value.mean(), float(error))
    return found


def trained(setting: Setting, family: str, folder: Path) -> str:
    """The model of a setting in `folder`, trained if it is not there; its name in the registry."""
    model = folder / family / "model"
    if not model.is_dir():
        model.parent.mkdir(parents=True, exist_ok=True)
        state = training.run(setting.recipe(family), folder / family / "checkpoint.pt")
        with files.put(model) as unfinished:
            training.export(state, unfinished)
    return f"local-dir:{model}"


def run(setting: Setting) -> list[dict]:
    """Rows of a setting. Errors: none is kept half-done; its models are dropped at the end."""
    digest = files.sha256(repr([setting.recipe(f) for f in setting.families]).encode())
    folder = paths.CACHE / "training" / "scale" / digest[:16]
    names = {family: trained(setting, family, folder) for family in setting.families}
    bench = remeasured.Bench(profiles.load(profiles.FULL), lambda name: [])
    rows = [
        setting.key | {"model": family, "measure": measure, "value": value}
        for family, name in names.items()
        for measure, value in measured(name, bench).items()
    ]
    for claim, (value, error) in decisive(names, bench).items():
        rows.append(setting.key | {"model": "", "measure": claim, "value": value, "error": error})
    shutil.rmtree(folder)
    return rows


def main() -> None:
    missing = [s for s in settings() if not _there(s)]
    for setting in tqdm(missing, desc="settings"):
        rows = run(setting)
        table = pd.concat([read(), pd.DataFrame(rows)], ignore_index=True)
        with files.put(FILE) as part:
            table.to_csv(part, index=False, float_format="%.5g")


def _there(setting: Setting) -> bool:
    table = read()
    return bool(np.logical_and.reduce([table[k] == v for k, v in setting.key.items()]).any())


if __name__ == "__main__":
    main()

"""`./run_all.sh --train async`: I0T_async on a profile's main model, which nobody published.

The pairs are of the profile's first data set whose train split is available. They are encoded
once and kept, so that an interrupted call goes on where it was.
"""

import argparse
from dataclasses import asdict

from datasets import Dataset

from lib import profiles
from lib.data import sources
from lib.data.tasks import load_first_pairs
from lib.encoders import embeddings, registry
from lib.encoders.download import NotAvailable
from lib.measures import gap
from lib.methods import normalisation
from lib.methods.normalisation import PAPER, Settings


def train(
    which: profiles.Profile, force: bool = False, settings: Settings = PAPER
) -> tuple[str, dict]:
    """Train the model NAME-async, unless it is there: its name and its `recipe.json`.

    The recipe is empty where the model was there already; `force` trains it again.

    Raises: ValueError if the main model is none that this is made for; NotAvailable if it cannot
        be had, or no pairs to train on.
    """
    start = which.models["clip"]
    name = f"{start}-async"
    spec = registry.REGISTRY.get(name)
    if spec is None or not spec.how:
        raise ValueError(
            f"--train async takes a profile with a public CLIP as its main model, not {start}: try "
            "--profile clip."
        )
    if (spec.folder / registry.NORMALISATION).is_file() and not force:
        return name, {}
    data, pairs = training_pairs(which)
    model = registry.load(start)
    print(f"Encoding {len(pairs):,} pairs of {data} by {start}; what was encoded is kept.")
    e = embeddings.embed(model, pairs)
    layers, curve = normalisation.train(e, model.logit_scale, settings)
    own = {"image": e.image, "text": e.first()}
    behind = {kind: normalisation.apply(layers, kind, rows) for kind, rows in own.items()}
    source = sources.PAIRS.get(data, {}).get("train")
    about = {
        "name": name,
        "start": start,
        "start_fingerprint": model.fingerprint,
        "data": f"{data}, train split, {len(pairs)} images, a random caption of each per epoch",
        "revision": source.commit if source else "",
        "settings": asdict(settings),
        "loss_by_epoch": curve,
        "centroid_distance": [gap.centroid_distance(*both.values()) for both in (own, behind)],
        "note": spec.note,
    }
    normalisation.write(registry.folder(start), layers, spec.folder, about)
    return name, about


def training_pairs(which: profiles.Profile) -> tuple[str, Dataset]:
    """The first of a profile's pairs whose train split is available, and that split.

    Raises: NotAvailable if none is available.
    """
    named = dict.fromkeys(filter(None, [which.pairs, which.pairs_2, *which.targets]))
    name, rows, missing = load_first_pairs([*named], "train")
    print(missing, end="\n" * bool(missing))
    return name, rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="./run_all.sh --train async", description=__doc__)
    parser.add_argument("--profile", default="mini")
    parser.add_argument("--force", action="store_true")
    options = parser.parse_args(arguments)
    try:
        name, about = train(profiles.load(options.profile), options.force)
    except (ValueError, NotAvailable) as error:
        raise SystemExit(str(error)) from None
    if not about:
        print(f"{name} is trained already; --force trains it again.")
        return
    before, after = about["centroid_distance"]
    print(f"Written: {registry.folder(name)}")
    print(f"Centroid distance of the training pairs: {before:.3f} without the layers, {after:.3f} "
        "with them.")  # fmt: skip


if __name__ == "__main__":
    main()

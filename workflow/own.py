"""`./run_all.sh --model NAME`: a model of your own in the main role, and nothing else to write.

It gets a profile of its own (`profiles.own`), with data and sizes of the profile that it starts
from. The model is in the main role. Beside it are its random twin and, as the reference, that
profile's main model.
"""

from collections import Counter

import yaml

from lib import files, profiles
from lib.encoders import own, registry
from lib.encoders.download import NotAvailable
from lib.encoders.towers import Model
from workflow import catalogue, freshness, notebooks, plan, speed

REST = 45  # seconds of a notebook beside encoding and inversion: the median of the default profile
FROM = ("evidence", "pairs", "query_caption", "pairs_2", "targets", "labelled", "shifted",
    "judgements", "n_pairs", "n_train_pairs", "n_bootstrap")  # fmt: skip


def prepare(source: str, name: str, base: str, items: list[str], jobs: int) -> list[str]:
    """Check a model, write its profile, and say what will run and how long it takes.

    Args:
        source: as `registry.load` takes it.
        name: of the profile, and of the folder in figures/.
        base: the profile whose data and sizes it gets.
        items: those that were asked for.
        jobs: notebooks at a time.

    Returns: the items that one model suffices for.

    Raises: ValueError in one sentence for a name that something else has, a model that cannot be
        had or is of no use, or items that all need more than one model.
    """
    profiles.check_name(name)
    if name in registry.REGISTRY:
        raise ValueError(f"--as {name} is the name of a model that is here already: choose another "
            "one.")  # fmt: skip
    try:
        model = own.checked(source)
    except NotAvailable as error:
        raise ValueError(str(error)) from None
    which = _write(model, source, name, profiles.load(base))
    chosen = [item for item in items if suffices(which, item)]
    if not chosen:
        raise ValueError(f"{items[0]} compares trained models, and one does not suffice: leave "
            "--only out, and every notebook for which it does is run.")  # fmt: skip
    print(f"{name}: {source}, {model.parameters / 1e6:,.1f} million parameters, logit scale "
        f"{model.logit_scale:.1f}, on {model.device.type}.")  # fmt: skip
    todo = [item for item in chosen if not freshness.is_done(which, item)]
    print(_how_long(which, todo, jobs))
    if left := len(items) - len(chosen):
        print(f"{left} other notebooks compare further trained models and are left out.")
    return chosen


def suffices(which: profiles.Profile, item: str) -> bool:
    """Whether a notebook shows something of the main model without further trained ones."""
    entry = catalogue.load()[item]
    status, _ = entry.status(which)
    return "clip" in entry.models and status in ("ready", "in part") and not entry.of_its_own


def _write(model: Model, source: str, name: str, base: profiles.Profile) -> profiles.Profile:
    """The profile of a model, in the cache: one of the registry keeps its own name there."""
    listed = source in registry.REGISTRY
    main = source if listed else name
    models, twin = {"clip": main}, f"{main}{registry.UNTRAINED}"
    if not listed or twin in registry.REGISTRY:
        models["untrained"] = twin
    content = base.model_dump(mode="json", include={*FROM}) | {
        "models": models,
        "also": [other for other in (base.models["clip"], *base.also) if other != main],
        "survey": [other for other in base.survey if other != main],
        "own": "" if listed else str(registry.folder(source)),
        "fingerprint": model.fingerprint,
        "source": source,
    }
    _drop_earlier(name, content)
    files.write_text(profiles.own(name), yaml.safe_dump(content, sort_keys=False))
    return profiles.load(name)


def _drop_earlier(name: str, content: dict) -> None:
    """Remove the figures of other weights of this model. Raises: ValueError if of another model."""
    file = profiles.own(name)
    before = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}
    every = [figure for item in catalogue.load() for figure in notebooks.figures(name, item)]
    made = [figure for figure in every if figure.exists()]
    if not made or before == content:
        return
    if before.get("source") != content["source"] or before.get("pairs") != content["pairs"]:
        raise ValueError(f"figures/{name} holds those of {before.get('source', 'something else')}: "
            "choose another name by --as, or delete that folder.")  # fmt: skip
    print(f"{content['source']} has changed: its earlier figures are removed.")
    for figure in made:
        figure.unlink()


def _how_long(which: profiles.Profile, items: list[str], jobs: int) -> str:
    """How many notebooks, and how long this machine needs for them, as far as is known before."""
    main, work = which.models["clip"], Counter()
    for item in items:
        work |= Counter({k: n for k, n in plan.asked(which, item).work.items() if k[1] == main})
    measured = speed.speeds({main})
    if main not in measured or not items:
        return f"{len(items)} notebooks to run."
    encode, invert = (
        plan.time_of(Counter({k: n for k, n in work.items() if k[0] in ways}), measured) / 60
        for ways in (("image", "text"), ("oti", "ovi"))
    )
    rest = len(items) * REST / 60
    return (
        f"{len(items)} notebooks to run, about {(encode + invert + rest) / jobs:,.0f} minutes with "
        f"--jobs {jobs}: encoding {encode:,.0f}, inversion {invert:,.0f}, all else {rest:,.0f} "
        "minutes of one thread. Each result is there as soon as its notebook ends; --only runs a "
        "part."
    )

"""`./run_all.sh --plan`: what a run needs on this machine, before anything runs or is downloaded.

What an item needs is read off its notebook: its roles, and the keys of the profile that its code
names (`p.labelled`). Minutes are those of its last run here. Without one, they are the time of
encoding (rows x models, all captions) and of inversions (queries x updates, by its parameters).
Both speeds are measured once for every architecture, on one thread as notebooks run, and kept. In
the total, work that items share counts once. Memory is Python, the item's models at once and a
batch. Disk is the downloads, with data sets and converted models counted twice.

Not counted are class prompts, rated captions, and data sets whose rows are not known (then there is
a "+"). Nor are reading of images, probes, rankings, resampling, plots, training, published
embeddings (140 MB in all), and the memory of a GPU.
"""

import argparse
import ast
import os
import re
import shutil
import textwrap
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path

import torch
from huggingface_hub import constants, get_session

from lib import paths, profiles
from lib.data import judgements, pairs, sources
from lib.data.labelled import load_labelled
from lib.encoders import download, registry
from workflow import catalogue, freshness, notebooks
from workflow import speed as speeds

SETS = ("pairs", "pairs_2", "targets", "labelled", "shifted", "judgements")  # keys of a profile
FURTHER = ("also", "survey")  # those that hold further models
ROWS_OF_SHIFTS = 10_000  # of each public set at most: `tasks.load_shifts`
STEPS, BATCH = 150, 64  # of inversions, where a notebook says nothing
BATCH_OF_TASKS = 200  # `tasks.native_and_oti`


@dataclass(frozen=True)
class Need:
    """A model or data set: bytes to download (None: unknown), and how often the disk holds them.

    `load` downloads a data set, and gives its rows; of a model, the name suffices.
    """

    name: str
    here: bool = True
    size: int | None = 0
    copies: int = 1
    how: str = ""
    load: Callable | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Asked:
    """Names of an item's models, its needs by role, and (way, model, set, ...) -> items of work."""

    models: list[str]
    needs: dict[Need, str]
    work: Counter
    batch: dict[str, int]
    known: bool  # the rows of all of its sets


# What an item needs -------------------------------------------------------------------------------


def model(name: str) -> Need:
    """A model of the registry or of the user's own."""
    spec = registry.REGISTRY.get(name)
    if registry.own(name.removesuffix(registry.UNTRAINED)):
        return Need(name)
    if spec is None:
        wanted = [registry.CONFIG, registry.WEIGHTS]
        revision = name.partition("@")[2]  # a folder has none
        return Need(name, not revision or _there("model", revision, wanted), None)
    if spec.folder:
        how = f" ({spec.how or 'trained first'})"
        return Need(name, (spec.folder / registry.WEIGHTS).is_file(), how=how)
    if not spec.trained:
        return Need(name)
    size = 4 * spec.parameters or None
    more, weights, _ = spec.files
    here, commit = (registry.converted(name) / weights).is_file(), registry.revision(name)
    if spec.pickle_sha256:
        how = f" (a pickle: `python -m lib.encoders.registry --convert {name}` fetches it)"
        return Need(name, here, size, 2, how)
    here = here or (bool(commit) and _there("model", commit, [*more, weights]))
    return Need(name, here, size)


def data(name: str, split: str, n: int | None = None) -> Need:
    """A split of a data set, of which n rows are used."""
    if name in judgements.JUDGED:
        own = sources.own_folder()
        here = own and (own / "flickr8k" / judgements.JUDGED[name][0]).is_file()
        load = partial(judgements.load_judgements, name)
        how = " (by hand: see lib/data/judgements.py)"
        return Need(name, bool(here), None, how=how, load=load)
    if name.startswith("world"):
        return Need(f"{name} {split}")
    if name in sources.PAIRS:
        source, load = sources.PAIRS[name][split], partial(pairs.load_pairs, name, split, n)
        if isinstance(source, sources.Shards):
            files = source.files(n)
            here = bool(source.commit) and _there("dataset", source.commit, files)
            return Need(f"{name} {split}", here, source.size * len(files), 2, load=load)
        wanted = [source.table, source.archive]
    else:
        source, load = sources.LABELLED[name], partial(load_labelled, name, split)
        part = source.splits[split]
        wanted = [f"{part}/*.tar", "classnames.txt"] if source.tar else [f"{part}-*.parquet"]
    here = _there("dataset", source.revision, wanted)
    return Need(f"{name} {split}", here, getattr(source, "size", None), 2, load=load)


def _there(kind: str, revision: str, wanted: list[str]) -> bool:
    """Whether the hub's cache holds these files (patterns) of a commit."""
    found = Path(constants.HF_HUB_CACHE).glob(f"{kind}s--*/snapshots/{revision}")
    return any(all(any(folder.rglob(one)) for one in wanted) for folder in found)


def asked(which: profiles.Profile, item: str) -> Asked:
    """What an item asks for in a profile; see the top of this file."""
    entry = catalogue.load()[item]
    code, given = notebooks.code(entry.notebook), _parameters(entry.notebook)
    named = [key for key in (*SETS, *FURTHER) if re.search(rf"\bp\.{key}\b(?! ==)", code)]
    roles = {role: which.models[role] for role in entry.models if role in which.models}
    further = {name: key for key in FURTHER if key in named for name in getattr(which, key)}
    models = [*roles.values(), *further]
    needs, work, known = {model(name): role for role, name in roles.items()}, Counter(), True
    needs |= {model(name): key for name, key in further.items()}

    def add(way: str, n: float, *about) -> None:
        for name in models if n else ():
            work[way, name, *about] = max(n, work[way, name, *about])

    searched = {way for way in ("oti", "ovi") if re.search(rf"inversion\.{way}\b|_and_{way}", code)}
    if "oti" in searched and "n_queries" not in given:
        given["n_queries"] = given.get("n_half") or given.pop("n_images", 0)
    labelled = [*which.labelled.values()]
    if "load_same_images" in code:  # of public sets it takes one
        labelled = [which.labelled.get("cars", labelled[0])]
    for key in [key for key in named if key in SETS]:
        several = labelled if key == "labelled" else getattr(which, key) or ()
        several = several.values() if isinstance(several, dict) else several
        train = '"train"' in code and not (key == "labelled" and "p.n_train_pairs" in code)
        for name in [several] if isinstance(several, str) else several:
            trained = train and key != "judgements" and "train" in sources.splits(name)
            for split in ("test", "train") if trained else ("test",):
                n = _rows(which, key, name, split, given)
                needs.setdefault(data(name, split, n or None), key)
                known &= n > 0
                add("image", n, pictures(name), split)
                if name in sources.pair_names():
                    add("text", n * pairs.N_CAPTIONS, name, split)
    own = sources.LABELLED.keys() & map(str, given.values())
    for name in own if which.evidence == "real" else ():  # small models know no faces
        needs[data(name, "test")] = "its own data"
        add("image", sources.LABELLED[name].rows or 0, name, "test")
    if "oti" in searched:
        steps = _last(given.get("oti_steps") or given.get("steps") or STEPS)
        updates = sum(n * (r + 1) / 2 for r, n in given.get("last", {1: steps}).items())
        inverted = given["n_queries"] + given.get("n_gallery", 0)
        for name in map(pictures, labelled):
            add("oti", inverted * updates, name, updates)
        add("oti", given.get("n_inverted", 0) * updates, which.pairs, updates)
    if "ovi" in searched:
        texts = [given[key] for key in ("n_texts", "n_questions", "n_half_texts") if key in given]
        add("ovi", sum(texts) * _last(given.get("ovi_steps", STEPS)), which.pairs)
    calls = re.findall(r"inversion\.(oti|ovi)\b[^\n]*batch=(\w+)", code)
    batch = {"oti": BATCH_OF_TASKS} if "native_and_oti" in code else {}
    batch |= {way: given.get(n) or int(n) for way, n in calls if n in given or n.isdigit()}
    return Asked(models, needs, work, batch, known)


def pictures(name: str) -> str:
    """Whose pictures a data set has: the world's label sets share theirs."""
    labelled = name in sources.labelled_names()
    return "world, labelled" if labelled and name.startswith("world") else name


def _last(steps: int | list[int]) -> int:
    return steps if isinstance(steps, int) else steps[-1]


def _rows(which: profiles.Profile, key: str, name: str, split: str, given: dict) -> int:
    """Rows of a split that are encoded, at most; 0 if that is not known."""
    if name in sources.pair_names():
        size = getattr(sources.PAIRS.get(name, {}).get(split), "rows", None)
        return min(filter(None, (size, which.n_pairs if split == "test" else which.n_train_pairs)))
    most = ROWS_OF_SHIFTS if key == "shifted" else given.get("n_images")
    if name.startswith("world"):
        return min(filter(None, (sources.world().LABELLED_SPLITS[split][1], most)))
    if name not in sources.LABELLED or split != "test":
        return 0
    return min(filter(None, (sources.LABELLED[name].rows, most)), default=0)


def _parameters(notebook: Path) -> dict:
    """The parameters of a notebook; of a list, what is spelled out."""
    found = {}
    for text in [text for _, text, tags in notebooks.cells(notebook) if notebooks.TAG in tags]:
        for line in [line for line in ast.parse(text).body if isinstance(line, ast.Assign)]:
            names, values = line.targets, [line.value]
            if isinstance(names[0], ast.Tuple):  # a, b = 1, 2
                names, values = names[0].elts, line.value.elts
            for name, value in zip(names, values, strict=True):
                if isinstance(value, ast.List):
                    value.elts = [e for e in value.elts if not isinstance(e, ast.Starred)]
                found[name.id] = ast.literal_eval(value)
    return found


# What it says -------------------------------------------------------------------------------------


def show(options: argparse.Namespace) -> int:
    """Print the plan; returns 1 if disk or memory do not suffice."""
    which, python = profiles.load(options.profile), speeds.memory("VmHWM")
    plans = {item: asked(which, item) for item in options.items}
    used = {name for plan in plans.values() for name in plan.models}
    speed = speeds.speeds(used)
    done = paths.CACHE / "done" / which.name
    past = {item: freshness.seconds(done / f"{item}.") for item in plans}
    counts = {name: parameters(name) for name in speed}  # once: it reads a model of one's own
    memory = {item: _peak(plan, speed, counts, python) for item, plan in plans.items()}
    width, row = max(map(len, plans)), "{:{}}  {:>5}  {:>19}  {:>7}  {:>8}".format
    print(row("item", width, "here", "to download", "memory", "minutes"))
    for item, plan in plans.items():
        here = f"{sum(need.here for need in plan.needs)}/{len(plan.needs)}"
        seconds = past[item] or time_of(plan.work, speed)
        minutes = f"{seconds / 60:,.1f}" if seconds else "unknown"
        minutes += "+" * bool(seconds and not (past[item] or plan.known))
        print(row(item, width, here, _sizes(plan.needs), _gb(memory[item]), minutes))
        lacking = catalogue.load()[item].status(which)[1]
        print(textwrap.indent(_by_role(plan.needs, lacking), "    "), end="")
    needs = dict.fromkeys(chain(*(plan.needs for plan in plans.values())))
    lacking = [need for need in needs if not need.here]
    print("\n* is not here:" if lacking else "\nNothing has to be downloaded.")
    for need in lacking:
        print(f"  {_gb(need.size):>7}  {need.name}{need.how}")
    shared, jobs = Counter(), options.jobs
    for item, plan in plans.items():
        shared |= Counter() if past[item] else plan.work
    if which.evidence == "real" and torch.cuda.is_available():
        jobs = 1  # they share the GPU
    measured = Counter({key: n for key, n in shared.items() if key[1] in speed})
    alone = [past[item] or time_of(plan.work, speed) or 0 for item, plan in plans.items()]
    seconds = (time_of(measured, speed) + sum(filter(None, past.values()))) / jobs
    seconds = max(seconds, *alone)  # the longest item runs on one thread, however many there are
    whole = all(past[i] or (p.known and p.work and p.work <= measured) for i, p in plans.items())
    disk = _gb(sum(need.copies * (need.size or 0) for need in lacking))
    disk += " or more" * any(need.size is None for need in lacking)
    most = sorted(filter(None, memory.values()))[-jobs:]
    peak = _gb(sum(most)) if most else "an unknown amount"
    hours = f"{seconds / 3600:.1f} hours" + " or more" * (not whole)
    size = _sizes(lacking) if lacking else "nothing"
    print(f"\nTogether, each download once: {size} to download, {disk} of disk, "
        f"{peak} of memory, {hours} with --jobs {jobs}.")  # fmt: skip
    problems = [*_full_disks(lacking), *_too_large(memory, sum(most))]
    late = used - {*speed}
    late = [name for name, spec in registry.REGISTRY.items() if spec.arch and name in late]
    if late:
        print(
            f"Not measured within {speeds.SECONDS} seconds: {', '.join(late)}; the next --plan "
            "does it."
        )
    if any(need.size != 0 for need in lacking) and not online():
        print("There is no network here: what is not here cannot be downloaded, and parts that "
            "need it are left out.")  # fmt: skip
    print("".join(f"{problem}\n" for problem in problems), end="")
    return int(bool(problems))


def _by_role(needs: dict[Need, str], lacking: list[str]) -> str:
    """For each role or key what it needs, with a star where that is not here; what nobody has."""
    told: dict[str, list[str]] = {}
    for need, role in needs.items():
        told.setdefault(role, []).append(need.name + ("" if need.here else "*"))
    told |= {"no published weights": lacking} if lacking else {}
    lines = [f"{role}: {', '.join(names)}" for role, names in told.items()]
    return textwrap.fill("; ".join(lines), 96, break_on_hyphens=False) + "\n" * bool(lines)


def _sizes(needs) -> str:
    """How much of these has to be downloaded, and how many are of unknown size."""
    sizes = [need.size for need in needs if not need.here]
    known, unknown = sum(filter(None, sizes)), sizes.count(None)
    return " + ".join([_gb(known)] * bool(known) + [f"{unknown} unknown"] * bool(unknown)) or "-"


def _gb(size: float | None) -> str:
    return "unknown" if size is None else f"{size / 1e9:.1f} GB"


def time_of(work: Counter, speed: dict) -> float | None:
    """Seconds on one thread; None where a model was not measured."""
    if any(name not in speed for _, name, *_ in work):
        return None
    return sum(n * speed[key[1]].get(key[0], [0])[0] for key, n in work.items())


def _peak(plan: Asked, speed: dict, counts: dict, python: int) -> float | None:
    """Bytes of Python, of an item's models and of its largest batch; None if not all are known."""
    if not plan.models or any(name not in speed for name in plan.models):
        return None
    weights = sum(4 * counts[name] for name in plan.models)
    batches = [plan.batch.get(k[0], BATCH) * speed[k[1]].get(k[0], [0, 0])[1] for k in plan.work]
    return python + weights + max(batches, default=0)


def parameters(name: str) -> int:
    """How many a model has: of a public one, that need not be here, as the registry counts them."""
    spec = registry.REGISTRY.get(name)
    return spec.parameters if spec else registry.load(name).parameters


def _too_large(memory: dict[str, float | None], together: float) -> list[str]:
    """A sentence if items do not fit into this machine, alone or at a time."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    too = [f"{item} ({_gb(size)})" for item, size in memory.items() if size and size > there]
    if too:
        return [f"This machine has {_gb(there)} of memory, too little for {', '.join(too)}: choose "
            "others by --only."]  # fmt: skip
    if together > there:
        return [f"Items that run at a time take up to {_gb(together)} of memory, and this machine "
            f"has {_gb(there)}: use a smaller --jobs."]  # fmt: skip
    return []


def _full_disks(lacking: list[Need]) -> list[str]:
    """A sentence for each disk that has too little room for what has to come."""
    wanted = Counter()
    for need in lacking:
        wanted[Path(constants.HF_HUB_CACHE)] += need.size or 0
        wanted[paths.CACHE] += (need.copies - 1) * (need.size or 0)
    disks: dict[int, list] = {}
    for folder, size in wanted.items():
        there = next(place for place in (folder, *folder.parents) if place.exists())
        disks.setdefault(there.stat().st_dev, [there, 0])[1] += size
    return [
        f"The disk of {there} has {_gb(free)} free, and {_gb(size)} or more are needed: free some "
        "space, or set HF_HOME and MODALITY_GAP_CACHE to another disk."
        for there, size in disks.values()
        if size > (free := shutil.disk_usage(there).free)
    ]


def online() -> bool:
    """Whether the hub of public models and data sets answers."""
    with suppress(Exception):  # of any kind: no name, no route, a proxy, HF_HUB_OFFLINE
        get_session().head(constants.ENDPOINT, timeout=3)
        return not download.offline()
    return False

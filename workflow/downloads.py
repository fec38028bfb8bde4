"""The first step of a run on a cluster: download what its items need, where the internet is.

`python -m workflow.downloads ITEM ... --profile NAME --log FILE` runs on the submitting host. A
sentence names what is not available, and the items leave it out, as they do elsewhere.
"""

import argparse
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from lib import files, profiles
from lib.data import published
from lib.encoders import registry
from lib.encoders.download import NotAvailable
from workflow import catalogue, notebooks, plan

# What a notebook's code says of published embeddings -> how they are had.
PUBLISHED = {
    r"published_embeddings|pairs_by_model": [
        partial(published.published_embeddings, name) for name in published.PUBLISHED
    ],
    r"published_captions": [published.published_captions],
    r"published_cifar10\(\)": [published.published_cifar10],
    r"published_cifar10\(\w": [partial(published.published_cifar10, s) for s in ("train", "test")],
}


def wanted(which: profiles.Profile, items: list[str]) -> Iterator[tuple[str, Callable]]:
    """What these items need and is not here, by name, and what downloads it."""
    needs = dict.fromkeys(need for item in items for need in plan.asked(which, item).needs)
    for need in needs:
        if not need.here:
            yield need.name, need.load or partial(registry.folder, need.name)
    code = "\n".join(notebooks.code(catalogue.load()[item].notebook) for item in items)
    for pattern, loads in PUBLISHED.items():
        for load in loads if re.search(pattern, code) else ():
            yield "", load


def fetch(which: profiles.Profile, items: list[str]) -> list[str]:
    """Download it; returns a sentence for each thing that is not available."""
    missing = []
    for name, load in wanted(which, items):
        if name:
            print(f"Downloading {name}", flush=True)
        try:
            load()
        except (NotAvailable, ValueError) as error:
            missing.append(str(error))
    return list(dict.fromkeys(missing))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m workflow.downloads", description=__doc__)
    parser.add_argument("items", nargs="+")
    parser.add_argument("--profile", required=True)
    parser.add_argument("--log", required=True, type=Path)
    options = parser.parse_args(arguments)
    missing = fetch(profiles.load(options.profile), options.items)
    print("".join(f"Left out: {sentence}\n" for sentence in missing), end="")
    files.write_text(options.log, "".join(f"{sentence}\n" for sentence in missing))


if __name__ == "__main__":
    main()

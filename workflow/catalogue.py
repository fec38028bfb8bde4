"""The catalogue: every figure and table that has a notebook (`notebooks/items.yaml`)."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from lib import paths, profiles, suggestions

LIST = "items.yaml"
KEYS = {"title", "where", "models"}


@dataclass(frozen=True)
class Item:
    """One notebook; `models` are the roles of a profile that it uses."""

    name: str
    title: str
    where: str
    models: tuple[str, ...] = ()

    @property
    def paper(self) -> str:
        """The folder it is in, e.g. "i0t"; empty for the start page."""
        return self.name.rpartition("/")[0]

    @property
    def notebook(self) -> Path:
        return paths.NOTEBOOKS / f"{self.name}.ipynb"

    @property
    def written(self) -> bool:
        """Whether there is a notebook; without one, the item is planned."""
        return self.notebook.exists()


def load() -> dict[str, Item]:
    """All items by name, in the order of the list.

    Raises: ValueError if an entry has an unknown key, a missing title or place, or an unknown role.
    """
    return dict(_parse((paths.NOTEBOOKS / LIST).read_text(encoding="utf-8")))


@cache
def _parse(text: str) -> dict[str, Item]:
    return {name: _item(name, entry) for name, entry in yaml.safe_load(text).items()}


def _item(name: str, entry: dict) -> Item:
    for key in entry:
        if key not in KEYS:
            raise ValueError(f"{LIST}, {name}: {suggestions.unknown('key', key, sorted(KEYS))}")
    for key in ("title", "where"):
        if key not in entry:
            raise ValueError(f"{LIST}, {name}: the key {key!r} is missing.")
    models = tuple(entry.get("models") or ())
    for role in models:
        if role not in profiles.roles():
            known = profiles.roles()
            raise ValueError(f"{LIST}, {name}: {suggestions.unknown('model role', role, known)}")
    return Item(name, entry["title"], entry["where"], models)


def unlisted() -> list[Path]:
    """Notebooks that the list does not name, so that nothing runs them."""
    known = {item.notebook for item in load().values()}
    found = sorted(paths.NOTEBOOKS.rglob("*.ipynb"))
    return [file for file in found if file not in known and ".ipynb_checkpoints" not in file.parts]


def warn_of_unlisted() -> None:
    for file in unlisted():
        print(f"{file.relative_to(paths.ROOT)} is not in notebooks/{LIST}: left out.")


def select(wanted: list[str]) -> list[str]:
    """Item names for what was typed: an item, a whole paper ("i0t"), or a notebook's file name.

    Returns all names if nothing was typed; the order is that of the list.

    Raises: ValueError if there is no such item; the message names the nearest ones.
    """
    everything = list(load())
    papers = {name.rpartition("/")[0] for name in everything} - {""}
    chosen = set()
    for text in wanted:
        name = text.removeprefix("./").removeprefix("notebooks/").removesuffix(".ipynb").strip("/")
        matching = [item for item in everything if item == name or item.startswith(f"{name}/")]
        if not matching:
            raise ValueError(suggestions.unknown("item", name, [*everything, *sorted(papers)]))
        chosen.update(matching)
    return [name for name in everything if name in chosen or not wanted]

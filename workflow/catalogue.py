"""The items: every figure and table that has, or will have, a notebook (`notebooks/items.yaml`)."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lib import paths, profiles, suggestions

LIST = "items.yaml"
KEYS = {"title", "where", "models", "compares", "needs"}


@dataclass(frozen=True)
class Item:
    """One notebook.

    `models` are the roles whose standard embeddings are made before it runs, `compares` further
    roles that it uses itself; `needs` is the only profile for it.
    """

    name: str
    title: str
    where: str
    models: tuple[str, ...] = ()
    compares: tuple[str, ...] = ()
    needs: str | None = None

    @property
    def paper(self) -> str:
        """The folder it stands in, e.g. "i0t"; empty for the start page."""
        return self.name.rpartition("/")[0]

    @property
    def notebook(self) -> Path:
        return paths.NOTEBOOKS / f"{self.name}.ipynb"

    def status(self, profile_name: str) -> str:
        """What this profile can do with it: "ready", "planned", or "needs profile <name>"."""
        if self.needs not in (None, profile_name):
            return f"needs profile {self.needs}"
        return "ready" if self.notebook.exists() else "planned"


def listed() -> list[str]:
    """Names of all items, read without a YAML library: known before anything is installed."""
    text = (paths.NOTEBOOKS / LIST).read_text(encoding="utf-8")
    return re.findall(r"^(\w[\w/]*):", text, flags=re.MULTILINE)


def load() -> dict[str, Item]:
    """All items by name, in the order of the list.

    Raises: ValueError if an entry has an unknown key, a missing title or place, or an unknown role.
    """
    return dict(_parse((paths.NOTEBOOKS / LIST).read_text(encoding="utf-8")))


@cache
def _parse(text: str) -> dict[str, Item]:
    import yaml  # only here: names are checked before anything is installed

    return {name: _item(name, entry) for name, entry in yaml.safe_load(text).items()}


def _item(name: str, entry: dict) -> Item:
    for key in entry:
        if key not in KEYS:
            raise ValueError(f"{LIST}, {name}: {suggestions.unknown('key', key, sorted(KEYS))}")
    for key in ("title", "where"):
        if key not in entry:
            raise ValueError(f"{LIST}, {name}: the key {key!r} is missing.")
    lists = {key: tuple(entry.get(key) or ()) for key in ("models", "compares")}
    for role in (*lists["models"], *lists["compares"]):
        if role not in profiles.roles():
            known = profiles.roles()
            raise ValueError(f"{LIST}, {name}: {suggestions.unknown('model role', role, known)}")
    return Item(name=name, **entry | lists)


def unlisted() -> list[Path]:
    """Notebooks that the list does not name, so that nothing runs them."""
    known = {paths.NOTEBOOKS / f"{name}.ipynb" for name in listed()}
    found = sorted(paths.NOTEBOOKS.rglob("*.ipynb"))
    return [file for file in found if file not in known and ".ipynb_checkpoints" not in file.parts]


def select(wanted: list[str]) -> list[str]:
    """Item names for what was typed: an item, a whole paper ("i0t"), or a notebook's file name.

    Returns all names if nothing was typed; the order is that of the list.

    Raises: ValueError if there is no such item; the message names the nearest ones.
    """
    everything = listed()
    papers = {name.rpartition("/")[0] for name in everything} - {""}
    chosen = set()
    for text in wanted:
        name = text.removeprefix("./").removeprefix("notebooks/").removesuffix(".ipynb").strip("/")
        matching = [item for item in everything if item == name or item.startswith(f"{name}/")]
        if not matching:
            raise ValueError(suggestions.unknown("item", name, [*everything, *sorted(papers)]))
        chosen.update(matching)
    return [name for name in everything if name in chosen or not wanted]

"""The catalogue: every figure and table that has a notebook (`notebooks/items.yaml`)."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from lib import paths, profiles, suggestions

LIST = "items.yaml"
KEYS = {"title", "where", "models", "about"}
# What a model in a role is, where the name of the role does not say it.
WORDS = {
    "clip": "CLIP",
    "untrained": "random weights",
    "second_backbone": "a second backbone",
    "shared": "SharedCLIP",
    "align": "AlignCLIP",
    "align_text": "AlignCLIP of texts",
    "align_both": "AlignCLIP of both",
    "align_plain": "AlignCLIP without rescaling",
    "clip_imsep": "CLIP with IMSep",
    "cyclip": "CyCLIP of one recipe",
    "slip": "SLIP of one recipe",
    "siglip": "SigLIP of one recipe",
    "coca": "CoCa",
    "blip": "BLIP",
    "clip_learned": "a learned temperature",
    "full_rank": "CLIP of full rank",
    "scratch": "CLIP without a first stage",
    "amended": "an amended start",
    "cloob": "CLOOB",
    "unif_align": "Unif-Align",
    "pac": "PAC-S",
    "lc": "Long-CLIP",
    "lco": "LCO",
    "lcco": "LCCO",
    "lccom": "LCCOM",
    "lccom_ln": "+LN",
    "lccom_bn": "+BN",
    "async": "I0T_async",
    "async_ln": "+LN*",
    "async_one_pass": "I0T_async without MCSIE",
} | {r"t\d+": "fixed temperatures", r"d\d+": "other dimensions"}
WORDS |= {r"async_b\d+": "I0T_async by batch size", r"lco?_\w+": "LC and LCO by style"}
WORDS |= {r"\w+_on_\w+": "fine-tuning for retrieval", r"gap_\w+": "captions by what they name"}


@dataclass(frozen=True)
class Item:
    """One notebook.

    Attributes:
        models: the roles of a profile that it uses.
        about: those that it is about: where the list does not say so, all but CLIP, random weights
            and training seeds.
    """

    name: str
    title: str
    where: str
    models: tuple[str, ...] = ()
    about: tuple[str, ...] = ()

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

    @property
    def of_its_own(self) -> bool:
        """Whether it always takes the models of the full profile."""
        return "profiles.load(profiles.FULL" in self.notebook.read_text(encoding="utf-8")

    def status(self, which: profiles.Profile) -> tuple[str, list[str]]:
        """Whether a profile has its models, and in words those that it has not.

        "ready"; "in part" without some; "no published weights" without all that it is about;
        "planned" if it is not written. Further training seeds do not count.
        """
        roles = [role for role in self.models if not re.search(r"_seed\d+$", role)]
        lacking = [role for role in roles if role not in which.models]
        if not self.written:
            return "planned", []
        if not lacking or which.name == profiles.FULL or self.of_its_own:
            return "ready", []
        about = self.about or [role for role in roles if role not in ("clip", "untrained")]
        status = "in part"
        if about and {*about} <= {*lacking}:
            status = "further models" if which.source else "no published weights"
        return status, [*dict.fromkeys(map(in_words, lacking))]


def in_words(role: str) -> str:
    """A role in words of the field."""
    return next(words for pattern, words in WORDS.items() if re.fullmatch(pattern, role))


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
    models, about = (tuple(entry.get(key) or ()) for key in ("models", "about"))
    for role in (*models, *about):
        if role not in profiles.roles():
            known = profiles.roles()
            raise ValueError(f"{LIST}, {name}: {suggestions.unknown('model role', role, known)}")
    return Item(name, entry["title"], entry["where"], models, about)


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

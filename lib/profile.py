"""Profiles: which models, data sets and sizes every notebook gets (`profiles/*.yaml`)."""

from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path

from lib import names, paths

OPTIONAL_LISTS = ("also", "targets")
FULL = "mini"  # the profile that fills every role
SMALL = {"n_pairs": 200, "n_train_pairs": 500, "n_bootstrap": 50}


@dataclass(frozen=True)
class Profile:
    """What a notebook works on.

    Attributes:
        name: the file's name, e.g. "mini".
        models: role -> name in the model registry; a role that the profile cannot fill is absent.
        pairs: data set of image-caption pairs.
        labelled: short name -> labelled data set; the first one is the main one.
        judgements: "expert" and "cf" -> data set of rated captions.
        n_pairs: pairs of the test split that are used.
        n_train_pairs: pairs of the train split that are used to fit means.
        n_bootstrap: resamples behind every interval.
        pairs_2: a second data set of pairs, if there is one.
        targets: data sets of pairs to retrieve from beyond the main one, and to fine-tune on.
        also: further models that a comparison over models may use.
        small: sizes were cut down for a quick try.
    """

    name: str
    models: dict[str, str]
    pairs: str
    labelled: dict[str, str]
    judgements: dict[str, str]
    n_pairs: int
    n_train_pairs: int
    n_bootstrap: int
    pairs_2: str | None = None
    targets: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    small: bool = False

    def seeds(self, role: str = "clip") -> list[str]:
        """A role's model and its training seeds (`<role>_seed1`, `<role>_seed2`).

        One model where no other seed was published, none where the profile lacks the role.
        """
        roles = (role, f"{role}_seed1", f"{role}_seed2")
        return [self.models[role] for role in roles if role in self.models]


@cache
def roles() -> tuple[str, ...]:
    """Every model role that there is."""
    import yaml  # only here: names are checked before anything is installed

    return tuple(yaml.safe_load((paths.ROOT / "profiles" / f"{FULL}.yaml").read_text())["models"])


def available() -> list[str]:
    """Names of all profiles."""
    return sorted(path.stem for path in paths.PROFILES.glob("*.yaml"))


def path(name: str) -> Path:
    """The file of a profile.

    Raises: ValueError if there is none of this name; the message names the nearest.
    """
    if name not in available():
        raise ValueError(names.unknown("profile", name, available()))
    return paths.PROFILES / f"{name}.yaml"


def load(name: str, small: bool = False) -> Profile:
    """Read and check `profiles/<name>.yaml`; `small` cuts every size down for a quick try.

    Raises: ValueError if there is no such profile, or its file has an unknown, a missing or an
    ill-typed entry.
    """
    import yaml  # only here: names are checked before anything is installed

    content = yaml.safe_load(path(name).read_text(encoding="utf-8"))
    where = f"profiles/{name}.yaml"
    _check(where, content)
    lists = {key: tuple(content.get(key, ())) for key in OPTIONAL_LISTS}
    loaded = Profile(name=name, **content | lists)
    if small:
        caps = {key: min(getattr(loaded, key), cap) for key, cap in SMALL.items()}
        loaded = replace(loaded, small=True, **caps)
    return loaded


def _check(where: str, content: object) -> None:
    if not isinstance(content, dict):
        raise ValueError(f"{where} must hold keys and values.")
    known = [field.name for field in fields(Profile) if field.name not in ("name", "small")]
    required = [key for key in known if key not in ("pairs_2", *OPTIONAL_LISTS)]
    for key in content:
        if key not in known:
            raise ValueError(f"{where}: {names.unknown('key', key, known)}")
    for key in required:
        if key not in content:
            raise ValueError(f"{where}: the key {key!r} is missing.")
    for key, value in content.items():
        if not _IS[_KIND[key]](value):
            raise ValueError(f"{where}: {key} must be {_KIND[key]}, not {value!r}.")
    for role in content["models"]:
        if role not in roles():
            raise ValueError(f"{where}: {names.unknown('model role', role, roles())}")
    if "clip" not in content["models"]:
        raise ValueError(f"{where}: models must name the main model, in the role 'clip'.")


def _texts(values) -> bool:
    return all(isinstance(value, str) and value for value in values)


_IS = {
    "a name": lambda value: _texts([value]),
    "a name or nothing": lambda value: value is None or _texts([value]),
    "a list of names": lambda value: isinstance(value, list) and _texts(value),
    "names by role": lambda value: isinstance(value, dict) and _texts([*value, *value.values()]),
    "a whole number above 0": lambda value: type(value) is int and value > 0,
}
_KIND = {
    "models": "names by role",
    "also": "a list of names",
    "targets": "a list of names",
    "pairs": "a name",
    "pairs_2": "a name or nothing",
    "labelled": "names by role",
    "judgements": "names by role",
    "n_pairs": "a whole number above 0",
    "n_train_pairs": "a whole number above 0",
    "n_bootstrap": "a whole number above 0",
}

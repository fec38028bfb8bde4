"""Profiles: which models, data sets and sizes every notebook gets (`profiles/*.yaml`).

`./run_all.sh --model` writes one more for a model of the user's own, into the cache.
"""

import re
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError

from lib import paths, suggestions

FULL = "mini"  # the profile that fills every role but these
PUBLISHED = ("blip",)  # only others' weights can
SMALL = {"n_pairs": 200, "n_train_pairs": 500, "n_bootstrap": 100}

Name = Annotated[str, Field(min_length=1, strict=True)]
Size = Annotated[StrictInt, Field(gt=0)]


class Profile(BaseModel):
    """What a notebook works on.

    Attributes:
        name: the file's name, e.g. "mini".
        evidence: what its models and data make of a finding: "real", or "mini" for small models of
            this repository on drawn scenes.
        models: role -> name in the model registry; a role that the profile cannot fill is absent.
        pairs: data set of image-caption pairs.
        labelled: short name -> labelled data set; the first one is the main one.
        judgements: "expert" and "cf" -> data set of rated captions.
        n_pairs: pairs of the test split that are used.
        n_train_pairs: pairs of the train split that are used to fit means.
        n_bootstrap: resamples behind every interval.
        query_caption: the caption used where an image needs only one, counted from 0. The world's
            fourth caption names everything; those of COCO and Flickr30k are all alike.
        pairs_2: a second data set of pairs, if there is one.
        targets: data sets of pairs to retrieve from beyond the main one, and to fine-tune on.
        also: further models that a comparison over models may use, inversions included.
        survey: still more of them, for measures of embeddings alone.
        trained_on: role -> training data, where these differ between roles that are compared.
        shifted: a labelled set ("test") and its shifted twins, where these are data sets of their
            own; the world's are splits of each of its labelled sets.
        own: folder of the user's own model, which has the profile's name; empty in other profiles.
        fingerprint: of that model, so that what another one of its name gave does not count.
        source: how the user named it.
        small: sizes were cut down for a quick try.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    evidence: Literal["real", "mini"]
    models: dict[Name, Name]
    pairs: Name
    labelled: dict[Name, Name]
    judgements: dict[Name, Name]
    n_pairs: Size
    n_train_pairs: Size
    n_bootstrap: Annotated[StrictInt, Field(ge=100)]
    query_caption: Annotated[StrictInt, Field(ge=0)] = 0
    pairs_2: Name | None = None
    targets: tuple[Name, ...] = ()
    also: tuple[Name, ...] = ()
    survey: tuple[Name, ...] = ()
    trained_on: dict[Name, Name] = {}
    shifted: dict[Name, Name] = {}
    own: str = ""
    fingerprint: str = ""
    source: str = ""
    small: bool = False

    def seeds(self, role: str = "clip") -> list[str]:
        """A role's model and its training seeds (`<role>_seed1`, `<role>_seed2`).

        One model where no other seed was published, none where the profile lacks the role.
        """
        roles = (role, f"{role}_seed1", f"{role}_seed2")
        return [self.models[role] for role in roles if role in self.models]

    def confounded(self, *roles: str) -> str:
        """Why a difference between these roles need not be one of method; "" if nothing is known.

        Models that were trained on different data differ for that reason, too.
        """
        data = {role: self.trained_on.get(role, "unknown data") for role in roles}
        if not self.trained_on or len(set(data.values())) < 2:
            return ""
        said = ", ".join(f"{role} on {what}" for role, what in data.items())
        return f"The models were trained on different data ({said})."


def check_name(name: str) -> None:
    """Refuse a name for the user's own that cannot be a folder's, or a shipped profile's.

    Raises: ValueError.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}", name):
        raise ValueError(
            f"--as {name!r} cannot be the name of a folder: use up to 40 letters, digits, - and _."
        )
    if (paths.PROFILES / f"{name}.yaml").exists():
        raise ValueError(f"--as {name} is the name of a profile that is here already: choose "
            "another one.")  # fmt: skip


@cache
def roles() -> tuple[str, ...]:
    """Every model role that there is."""
    return (*_read(FULL)["models"], *PUBLISHED)


def available() -> list[str]:
    """Names of all profiles."""
    found = [*paths.PROFILES.glob("*.yaml"), *own("*").parent.glob("*.yaml")]
    return sorted({path.stem for path in found})


def path(name: str) -> Path:
    """The file of a profile.

    Raises: ValueError if there is none of this name; the message names the nearest.
    """
    if name not in available():
        raise ValueError(suggestions.unknown("profile", name, available()))
    shipped = paths.PROFILES / f"{name}.yaml"
    return shipped if shipped.exists() else own(name)


def own(name: str) -> Path:
    """The file of the profile of a model of the user's own."""
    return paths.CACHE / "own" / f"{name}.yaml"


def load(name: str, small: bool = False) -> Profile:
    """Read and check `profiles/<name>.yaml`; `small` cuts every size down for a quick try.

    Raises: ValueError if there is no such profile, or its file has an unknown, a missing or an
    ill-typed entry.
    """
    where, content = f"profiles/{name}.yaml", _read(name)
    if not isinstance(content, dict):
        raise ValueError(f"{where} must hold keys and values.")
    try:
        loaded = Profile(**content | {"name": name})
    except ValidationError as error:
        raise ValueError(f"{where}: {_sentence(error)}") from None
    for role in loaded.models:
        if role not in roles():
            raise ValueError(f"{where}: {suggestions.unknown('model role', role, roles())}")
    if "clip" not in loaded.models:
        raise ValueError(f"{where}: models must name the main model, in the role 'clip'.")
    if small:
        caps = {key: min(getattr(loaded, key), cap) for key, cap in SMALL.items()}
        loaded = loaded.model_copy(update=caps | {"small": True})
    return loaded


def _read(name: str):
    return yaml.safe_load(path(name).read_text(encoding="utf-8"))


def _sentence(error: ValidationError) -> str:
    """The first thing that is wrong with a profile, in one sentence."""
    first = error.errors()[0]
    key = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        return suggestions.unknown("key", key, set(Profile.model_fields) - {"name", "small"})
    if first["type"] == "missing":
        return f"the key {key!r} is missing."
    where = ".".join(map(str, first["loc"]))
    if first["type"] in _WANTED:
        return f"{where} must be {_WANTED[first['type']]}, not {first['input']!r}."
    return f"{where}: {first['msg']}, not {first['input']!r}."


# pydantic's kinds of errors, in the words of a YAML file
_WANTED = {
    "string_type": "a name",
    "string_too_short": "a name",
    "literal_error": "real or mini",
    "int_type": "a whole number",
    "tuple_type": "a list",
    "dict_type": "keys and values",
}

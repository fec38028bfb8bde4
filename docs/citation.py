"""What the collection is called, who made it, and where it is: `CITATION.cff`, the one place.

Badges, links and the archive follow it. Until `repository-code` names a repository, it says
OWNER/NAME.
"""

import re

import yaml

from lib import paths

FILE = paths.ROOT / "CITATION.cff"
NOWHERE = "OWNER/NAME"


def read(text: str | None = None) -> dict:
    """The fields of `CITATION.cff`, or of another text in its format."""
    return yaml.safe_load(FILE.read_text(encoding="utf-8") if text is None else text)


def repository(about: dict) -> str:
    """The repository on GitHub as "owner/name".

    Raises: ValueError if `repository-code` is not the address of one.
    """
    address = about.get("repository-code", "")
    found = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(\.git)?/?", address)
    if not found:
        raise ValueError("repository-code in CITATION.cff must be https://github.com/OWNER/NAME, "
            f"not {address!r}.")  # fmt: skip
    return found[1]


def website(about: dict) -> str:
    """Where GitHub publishes the site of that repository. Raises: ValueError, as `repository`."""
    owner, name = repository(about).split("/")
    return f"https://{owner.lower()}.github.io/{name}/"

"""Errors in the papers and in their published code, as data (`errors.yaml`)."""

from dataclasses import dataclass
from pathlib import Path

import yaml


@dataclass(frozen=True)
class Error:
    """What is wrong in a paper or its code.

    Attributes:
        paper: key of the paper, e.g. "i0t".
        where: the place.
        says: what is printed or done there.
        should_be: what is right, or that it is not known.
        changes: what hangs on it.
        notebook: the item that shows it.
    """

    paper: str
    where: str
    says: str
    should_be: str
    changes: str
    notebook: str


def errors() -> list[Error]:
    """All of them, in the papers' order."""
    text = Path(__file__).with_name("errors.yaml").read_text(encoding="utf-8")
    return [Error(**entry) for entry in yaml.safe_load(text)]

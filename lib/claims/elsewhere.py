"""What others report on real models about a claim, as data (`elsewhere.yaml`), never as ours."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import yaml


@dataclass(frozen=True)
class Entry:
    """A result of somebody else that bears on one claim.

    Attributes:
        claim: id of the claim, e.g. "i0t-5".
        text: one sentence with the numbers.
        says: what it says of the claim, as far as it tests it.
        source: who, what and when.
        address: of the repository, or of the issue.
        commit: of the repository when it was read; empty for an issue.
        file: file or folder in the repository, from which the numbers are; empty for an issue.
    """

    claim: str
    text: str
    says: Literal["agrees", "contradicts", "mixed"]
    source: str
    address: str
    commit: str
    file: str

    @property
    def link(self) -> str:
        """Address of the file as it was read."""
        return f"{self.address}/tree/{self.commit}/{self.file}" if self.commit else self.address


@cache
def elsewhere() -> tuple[Entry, ...]:
    """All of them, in the order of the claims."""
    text = Path(__file__).with_name("elsewhere.yaml").read_text(encoding="utf-8")
    return tuple(Entry(**entry) for entry in yaml.safe_load(text)["entries"])


def of(claim: str) -> list[Entry]:
    """Those on one claim, e.g. "i0t-5"; empty if there are none."""
    return [entry for entry in elsewhere() if entry.claim == claim]

"""The record: the findings that are kept in `evidence/`, and how a run compares with them.

A run never changes the record; a maintainer does, on purpose (`./run_all.sh --record`).
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lib import files, paths
from lib.claims.findings import is_published, versions
from lib.claims.verdicts import UNTESTABLE

FOLDER = paths.ROOT / "evidence"
ABOUT = {
    "mini": "Small models of this repository, trained on drawn scenes (profile mini), and toys.",
    "published": "Embeddings that the authors of Mind the Gap published, of real CLIP and others.",
}
KEY = ("item", "claim", "model", "data", "aspect")
ROUNDING = 0.01  # half-widths of an interval, or of a value without one: less is no difference


def read(folder: Path = FOLDER) -> list[dict]:
    """Every finding of the record, as `findings.made` gives those of a run."""
    found = []
    for file in sorted(folder.glob("*.json")):
        found += json.loads(file.read_text(encoding="utf-8"))["findings"]
    return found


def write(found: Iterable[dict], folder: Path = FOLDER) -> None:
    """Make these findings the record, one file per source."""
    by_source: dict[str, list[dict]] = {source: [] for source in ABOUT}
    for finding in found:
        by_source["published" if is_published(finding) else "mini"].append(finding)
    for source, its in by_source.items():
        content = {"source": source, "about": ABOUT[source], "versions": versions()}
        files.write_json(folder / f"{source}.json", content | {"findings": its})


@dataclass
class Comparison:
    """How the findings of a run compare with those of the record, in sentences and counts."""

    same: int = 0  # verdict and number
    moved: list[str] = field(default_factory=list)  # the same verdict, another number
    differs: list[str] = field(default_factory=list)  # another verdict
    not_made: dict[str, list[str]] = field(default_factory=dict)  # by reason
    new: list[str] = field(default_factory=list)  # not in the record

    def __str__(self) -> str:
        total = self.same + len(self.moved) + len(self.differs)
        agree = f"{self.same + len(self.moved)} of {total} verdicts are the same"
        lines = [f"Compared with the record (evidence/): {agree}."]
        lines += [f"  Another verdict: {text}" for text in self.differs]
        lines += [f"  Another number, the same verdict: {text}" for text in self.moved]
        for reason, its in self.not_made.items():
            lines.append(f"  Not made here, kept in the record: {len(its)}, because: {reason}")
        if self.new:
            lines.append(f"  Not in the record: {len(self.new)}.")
        return "\n".join(lines)


def compare(run: Iterable[dict], record: Iterable[dict]) -> Comparison:
    """Compare a run's findings with the record's, each with that of the same `KEY`.

    Findings of the record on other items than those that the run made are left out.
    """
    made = {_key(finding): finding for finding in run}
    kept = {_key(finding): finding for finding in record}
    items = {finding["item"] for finding in made.values()}
    said = Comparison()
    for key, before in kept.items():
        if before["item"] not in items:
            continue
        now = made.get(key)
        if now is None or (now["verdict"] == UNTESTABLE and before["verdict"] != UNTESTABLE):
            reason = now["reason"] if now else _missing(before, made.values())
            said.not_made.setdefault(reason, []).append(name(before))
        elif now["verdict"] != before["verdict"]:
            text = f"{name(now)} is {now['verdict']}, in the record {before['verdict']}"
            said.differs.append(text + _apart(now, before))
        elif apart := _apart(now, before):
            said.moved.append(name(now) + apart)
        else:
            said.same += 1
    said.new = [name(finding) for key, finding in made.items() if key not in kept]
    return said


def agrees(now: Iterable[dict], before: Iterable[dict]) -> bool:
    """Whether two sets of findings have the same keys, rules and verdicts, and the same numbers."""
    now, before = ({_key(finding): finding for finding in some} for some in (now, before))
    same_text = ("verdict", "rule", "reason", "note", "amended")
    return now.keys() == before.keys() and all(
        not _apart(now[key], before[key])
        and all(now[key][field] == before[key][field] for field in same_text)
        for key in now
    )


def name(finding: dict) -> str:
    """A finding in words, e.g. "i0t-13 (mini-clip)"."""
    qualifiers = ", ".join(filter(None, (finding[field] for field in KEY[2:])))
    return f"{finding['claim']} ({qualifiers})"


def _key(finding: dict) -> tuple:
    return tuple(finding[field] for field in KEY)


def _missing(before: dict, made: Iterable[dict]) -> str:
    """Why a finding is not there: as another one on the same model and data says, if one does."""
    for f in made:
        same = all(f[field] == before[field] for field in ("item", "model", "data"))
        if same and f["verdict"] == UNTESTABLE:
            return f["reason"]
    if is_published(before):
        return "the published embeddings were not there: no network, no MODALITY_GAP_DATA"
    return f"{before['item']} did not make it"


def _apart(now: dict, before: dict) -> str:
    """How far two findings' numbers lie apart, in words; empty within rounding."""
    a, b = now["measured"], before["measured"]
    if isinstance(a, str) or isinstance(b, str) or a is None or b is None:
        return "" if a == b else f": {a}, in the record {b}"
    low, high = before["interval"] or (b - abs(b), b + abs(b))
    half = (high - low) / 2
    distance = abs(a - b) / half if half else float(a != b)
    if distance <= ROUNDING:
        return ""
    return f": {a:.4g}, in the record {b:.4g} ({distance:.2f} half-widths of its interval)"

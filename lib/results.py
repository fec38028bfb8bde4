"""What a notebook found: its figure, its table, and a verdict on every claim that it tests."""

import json
import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata

import pandas as pd
from matplotlib.figure import Figure

from lib import items, names, paper, paths, profile, state, style

VERDICTS = ("reproduced", "not reproduced", "inconclusive", "not testable here")
PLANNED = "planned"  # of a claim that no notebook has tested yet
LIBRARIES = ("torch", "open_clip_torch", "transformers", "datasets", "numpy", "scipy")
COLUMNS = [
    *("claim", "paper", "number", "text", "where", "paper_value", "item"),
    *("subject", "measured", "low", "high", "verdict", "rule", "reason", "note"),
]


@dataclass(frozen=True)
class Finding:
    """The verdict on one claim.

    Attributes:
        claim_id: e.g. "i0t-5" (`lib.paper.claims`).
        measured: the number found here, or a short text such as "0.92 -> 0.08".
        interval: its 95 % interval (low, high), or None.
        verdict: one of `VERDICTS`.
        rule: what had to be seen for "reproduced", written down before the run.
        reason: why; required where the claim is not testable here.
        note: anything that a reader has to know, e.g. where paper and code differ.
        subject: what was measured, where it is not the profile's model, e.g. "published CLIP
            embeddings".

    Raises: ValueError if one of these is not so.
    """

    claim_id: str
    measured: float | str | None
    interval: tuple[float, float] | None
    verdict: str
    rule: str
    reason: str = ""
    note: str = ""
    subject: str = ""

    def __post_init__(self):
        paper.claim(self.claim_id)
        if self.verdict not in VERDICTS:
            raise ValueError(f"{self.claim_id}: {names.unknown('verdict', self.verdict, VERDICTS)}")
        if not self.rule:
            raise ValueError(f"{self.claim_id}: a finding needs the rule behind its verdict.")
        if self.verdict == "not testable here" and not self.reason:
            raise ValueError(f"{self.claim_id}: say in `reason` why it is not testable here.")
        if self.verdict != "not testable here" and self.measured is None:
            raise ValueError(f"{self.claim_id}: {self.verdict}, but nothing was measured.")
        _check_numbers(self)


def _check_numbers(finding: Finding) -> None:
    measured, interval = finding.measured, finding.interval
    if interval is not None and not (len(interval) == 2 and interval[0] <= interval[1]):
        raise ValueError(f"{finding.claim_id}: an interval is (low, high), not {interval}.")
    for value in [*(interval or ()), *([] if isinstance(measured, str) else [measured])]:
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{finding.claim_id}: {value} is not a finite number.")


def verdict(holds: bool, fails: bool) -> str:
    """The verdict of a rule with two sides: "reproduced", "not reproduced", or else "inconclusive".

    Raises: ValueError if both are so: then the rule contradicts itself.
    """
    if holds and fails:
        raise ValueError("A claim cannot hold and fail at once: the rule contradicts itself.")
    return "reproduced" if holds else "not reproduced" if fails else "inconclusive"


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that the numbers depend on."""
    return {
        "python": platform.python_version(),
        **{library: metadata.version(library) for library in LIBRARIES},
    }


def save(
    item: str,
    profile_name: str,
    figure: Figure,
    table: pd.DataFrame,
    findings: Sequence[Finding] = (),
) -> None:
    """Write `figures/<profile>/<item>.png`, `.pdf`, `.csv` and `.json`; the same in, the same out.

    Args:
        item: as in `notebooks/items.yaml`, e.g. "i0t/fig2_gap_severity".
        profile_name: name of the profile.
        figure: the item's figure.
        table: the numbers behind it, tidy: one observation per row.
        findings: the verdicts, one per claim that the notebook tests.

    Raises: ValueError for an unknown item or profile, an empty table, or a claim that is there
        twice.
    """
    catalogue = items.load()
    if item not in catalogue:
        raise ValueError(names.unknown("item", item, catalogue))
    profile.path(profile_name)
    if table.empty:
        raise ValueError(f"{item}: the table is empty.")
    tested = [(finding.claim_id, finding.subject) for finding in findings]
    if len(set(tested)) < len(tested):
        ids = ", ".join(sorted(claim_id for claim_id, _ in tested))
        raise ValueError(f"{item}: a claim has two verdicts on one subject: {ids}.")
    content = {
        "item": item,
        "title": catalogue[item].title,
        "profile": profile_name,
        "findings": [_as_json(finding) for finding in findings],
        "versions": versions(),
    }
    path = paths.FIGURES / profile_name / item
    style.savefig(figure, path)
    state.write_text(path.with_suffix(".csv"), _as_csv(table))
    state.write_text(
        path.with_suffix(".json"), json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    )


def _as_json(finding: Finding) -> dict:
    claim = paper.claim(finding.claim_id)
    return {
        "claim": claim.id,
        "text": claim.text,
        "where": claim.where,
        "paper_value": claim.value,
        "measured": _rounded(finding.measured),
        "interval": finding.interval and [_rounded(value) for value in finding.interval],
        "verdict": finding.verdict,
        "rule": finding.rule,
        "reason": finding.reason,
        "note": finding.note,
        "subject": finding.subject,
    }


def _rounded(value: float | str | None) -> float | str | None:
    """Six digits: more would differ between machines, and mean nothing."""
    return value if value is None or isinstance(value, str) else float(f"{float(value):.6g}")


def _as_csv(table: pd.DataFrame) -> str:
    named = any(name is not None for name in table.index.names)
    return table.to_csv(index=named, float_format="%.6g", lineterminator="\n")


def collect(profile_name: str) -> pd.DataFrame:
    """Every claim of the four papers with what was found, one row per finding (`COLUMNS`).

    A claim that no notebook has tested has one row with the verdict "planned".
    """
    found: dict[str, list[dict]] = {}
    for item in items.load():
        for finding in saved(profile_name, item).get("findings", []):
            found.setdefault(finding["claim"], []).append({"item": item, **finding})
    rows = [
        _row(claim, finding)
        for claim in paper.claims()
        for finding in found.get(claim.id, [{"verdict": PLANNED}])
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def saved(profile_name: str, item: str) -> dict:
    """The content of an item's JSON file; empty if the item has not been run."""
    file = (paths.FIGURES / profile_name / item).with_suffix(".json")
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _row(claim: paper.Claim, finding: dict) -> dict:
    low, high = finding.get("interval") or (None, None)
    return {
        "claim": claim.id,
        "paper": claim.paper,
        "number": claim.number,
        "text": claim.text,
        "where": claim.where,
        "paper_value": claim.value,
        "low": low,
        "high": high,
        "measured": finding.get("measured"),
        **{key: finding.get(key, "") for key in ("item", "subject", "verdict")},
        **{key: finding.get(key, "") for key in ("rule", "reason", "note")},
    }

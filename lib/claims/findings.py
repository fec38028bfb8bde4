"""What a notebook found: its figure, its table, and a verdict on every claim that it tests."""

import json
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import metadata

import pandas as pd
from matplotlib.figure import Figure

from lib import files, paths, plotting, profiles, suggestions
from lib.claims import papers, verdicts
from lib.claims.verdicts import PLANNED, UNTESTABLE, VERDICTS
from lib.measures.bootstrap import Estimate

LIBRARIES = ("torch", "open_clip_torch", "transformers", "datasets", "numpy", "scipy")
PUBLISHED = "published"  # names of models whose embeddings others published begin with it
# Verdicts that another processor gave: (claim, model) -> verdict and processor.
ELSEWHERE = {("i0t-13", "mini-clip"): ("not reproduced", "an AMD EPYC")}
TOY = "toy"  # and those of computations without a trained model


@dataclass(frozen=True)
class Finding:
    """The verdict on one claim.

    Attributes:
        claim: e.g. "i0t-5" (`lib.claims.papers`).
        measured: the number found here with its interval, a number, or a short text such as
            "0.92 -> 0.08"; None where nothing could be measured.
        verdict: one of `VERDICTS`.
        rule: what had to be seen for "reproduced", written down before the run.
        model: whose embeddings; by default the profile's main model. Those that others have
            published begin with "published", a computation without a model with "toy".
        data: the data set, where it is not the profile's main one.
        aspect: what of the claim, where several findings on the same model and data share it.
        reason: why; required where the claim is not testable here.
        note: what a reader has to know, e.g. where paper and code differ.
        amended: of a rule that was changed after results were known: the date, the old rule and
            the old verdict.
        fragile: how little would turn the verdict (`verdicts.fragile`); empty where that was not
            looked at, or found nothing.
        seeds: verdicts by the same rule on the other training seeds, by name ("seed 1"); empty
            where there are none.

    Raises: ValueError if one of these is not so.
    """

    claim: str
    measured: Estimate | float | str | None
    verdict: str
    rule: str
    model: str = ""
    data: str = ""
    aspect: str = ""
    reason: str = ""
    note: str = ""
    amended: str = ""
    fragile: str = ""
    seeds: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self):
        papers.claim(self.claim)
        for verdict in (self.verdict, *self.seeds.values()):
            if verdict not in VERDICTS:
                said = suggestions.unknown("verdict", verdict, VERDICTS)
                raise ValueError(f"{self.claim}: {said}")
        if not self.rule:
            raise ValueError(f"{self.claim}: a finding needs the rule behind its verdict.")
        if self.verdict == UNTESTABLE and not self.reason:
            raise ValueError(f"{self.claim}: say in `reason` why it is not testable here.")
        if self.verdict != UNTESTABLE and self.measured is None:
            raise ValueError(f"{self.claim}: {self.verdict}, but nothing was measured.")
        for number in self._numbers():
            if not math.isfinite(number):
                raise ValueError(f"{self.claim}: {number} is not a finite number.")

    def _numbers(self) -> list[float]:
        if isinstance(self.measured, Estimate):
            return [self.measured.value, self.measured.low, self.measured.high]
        return [] if self.measured is None or isinstance(self.measured, str) else [self.measured]

    def as_json(self) -> dict:
        """Plain values; numbers with six digits: more would differ between machines."""
        content = {each.name: getattr(self, each.name) for each in fields(self)}
        content |= {"fragile": self.turned_by(), "seeds": dict(self.seeds)}
        numbers = [float(f"{float(number):.6g}") for number in self._numbers()]
        measured = numbers[0] if numbers else self.measured
        return content | {"measured": measured, "interval": numbers[1:] or None}

    def turned_by(self) -> str:
        """Why the verdict is fragile, other training seeds included; empty if nothing says so."""
        others = [f"{seed} is {v}" for seed, v in self.seeds.items() if v != self.verdict]
        return "; ".join(filter(None, [self.fragile, *others]))


def untestable(claim: str, rule: str, reason: str, **more: str) -> Finding:
    """The finding that a claim is not testable here."""
    return Finding(claim, None, UNTESTABLE, rule, reason=reason, **more)


def judged(
    claim: str,
    rule: str,
    comparisons: Sequence[verdicts.Comparison],
    what: str = "",
    spec: str = ".3f",
    measured: Estimate | float | str | None = None,
    besides: Sequence[tuple[bool, bool]] = (),
    **more,
) -> Finding:
    """The finding of a rule that all of these comparisons have to fulfil (`verdicts.judge`).

    Args:
        measured: what was found; by default the comparisons in words, after `what` (e.g. "top-1 in
            points") and with their numbers in the format `spec`: one by one up to eight, and in
            short where there are more.
        besides: further conditions, as for `verdicts.judge`.
        more: what else a `Finding` takes.
    """
    if measured is None:
        say = verdicts.in_words if len(comparisons) <= 8 else verdicts.in_short
        measured = f"{what}: " * bool(what) + say(comparisons, spec)
    verdict = verdicts.judge(comparisons, besides=besides)
    more = {
        "amended": verdicts.amended(comparisons, besides),
        "fragile": verdicts.fragile(comparisons, besides),
    } | more
    return Finding(claim, measured, verdict, rule, **more)


def shown(found: Sequence[Finding], spec: str = ".3f") -> pd.DataFrame:
    """The findings of a notebook as a table for its reader."""
    rows = [
        {
            "claim": f.claim,
            "on": ", ".join(filter(None, [f.model, f.data, f.aspect])),
            "measured": format(f.measured, spec) if f._numbers() else f.measured or "",
            "verdict": f.verdict,
            "note": " ".join(filter(None, [f.reason, f.note, f.amended, warning(f.turned_by())])),
        }
        for f in found
    ]
    return pd.DataFrame(rows).style.hide().set_properties(**{"text-align": "left"})


def rules(claims: Sequence[str]) -> pd.DataFrame:
    """Claims with the rules of `papers.rule` and what would change our mind, for their reader."""
    each = {name: papers.claim(name) for name in claims}
    rows = {name: (its.text, papers.rule(name), its.change) for name, its in each.items()}
    table = pd.DataFrame(rows, ["claim", "rule", "what would change our mind"]).T
    return table.style.set_properties(**{"text-align": "left", "white-space": "normal"})


def warning(why: str) -> str:
    """A fragile verdict's warning as a sentence; empty where there is no reason for one."""
    return f"Fragile: {why}." if why else ""


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
    found: Sequence[Finding] = (),
    classes: Mapping[str, Mapping[str, str]] | None = None,
) -> None:
    """Write `figures/<profile>/<item>.png`, `.pdf`, `.csv` and `.json`; the same in, the same out.

    Args:
        item: the notebook, e.g. "i0t/fig2_gap_severity".
        profile_name: name of the profile.
        figure: the item's figure.
        table: the numbers behind it, tidy: one observation per row.
        found: the verdicts, one per claim, model, data and aspect that the notebook tests.
        classes: claim -> its "class", one of `verdicts.CLASSES`, and "why", a sentence: what an
            audit says of a claim that was not reproduced.

    Raises: ValueError for an unknown item or profile, an empty table, or a finding that is there
        twice.
    """
    if not (paths.NOTEBOOKS / f"{item}.ipynb").is_file():
        known = sorted(paths.NOTEBOOKS.rglob("*.ipynb"))
        names = [file.relative_to(paths.NOTEBOOKS).with_suffix("").as_posix() for file in known]
        raise ValueError(suggestions.unknown("item", item, names))
    main = profiles.load(profile_name).models["clip"]
    if table.empty:
        raise ValueError(f"{item}: the table is empty.")
    rows = [f.as_json() | {"model": f.model or main} for f in found]
    tested = [(row["claim"], row["model"], row["data"], row["aspect"]) for row in rows]
    if twice := {key for key in tested if tested.count(key) > 1}:
        said = "; ".join(", ".join(filter(None, key)) for key in sorted(twice))
        raise ValueError(f"{item}: two verdicts on the same: {said}.")
    content = {"item": item, "profile": profile_name, "findings": rows, "versions": versions()}
    if classes:
        content["classes"] = {claim: dict(its) for claim, its in classes.items()}
    path = paths.FIGURES / profile_name / item
    plotting.savefig(figure, path)
    files.write_text(path.with_suffix(".csv"), _as_csv(table))
    files.write_json(path.with_suffix(".json"), content)


def _as_csv(table: pd.DataFrame) -> str:
    named = any(name is not None for name in table.index.names)
    return table.to_csv(index=named, float_format="%.6g", lineterminator="\n")


def saved(profile_name: str, item: str) -> dict:
    """The content of an item's JSON file; empty if the item has not been run."""
    file = (paths.FIGURES / profile_name / item).with_suffix(".json")
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def made(profile_name: str, items: Iterable[str]) -> list[dict]:
    """The findings of these items as they were saved, each with its item and kind of evidence.

    A finding of the profile's own models carries the `class` of its claim, and `why`, where an
    audit among the items gives one.
    """
    usual = profiles.load(profile_name).evidence
    each = {item: saved(profile_name, item) for item in items}
    classes = {c: its for one in each.values() for c, its in one.get("classes", {}).items()}
    found = [
        {"item": item, **finding, "kind": _kind(finding, usual)}
        for item, one in each.items()
        for finding in one.get("findings", [])
    ]
    return [
        finding
        | {"fragile": _fragile(finding, found)}
        | (classes.get(finding["claim"], {}) if finding["kind"] == usual else {})
        for finding in found
    ]


def _fragile(finding: dict, found: list[dict]) -> str:
    """Why a verdict is fragile: what its notebook says, other seeds' findings, other processors."""
    reasons = [finding["fragile"]]
    same = ("item", "claim", "data", "aspect")
    for other in found:
        of_seed = other["model"].startswith(f"{finding['model']}-seed")
        alike = of_seed and all(other[key] == finding[key] for key in same)
        if alike and other["verdict"] != finding["verdict"]:
            reasons.append(f"{other['model']} is {other['verdict']}")
    verdict, processor = ELSEWHERE.get((finding["claim"], finding["model"]), ("", ""))
    if verdict and verdict != finding["verdict"]:
        reasons.append(f"on {processor} it was {verdict}")
    return "; ".join(filter(None, reasons))


def _kind(finding: dict, usual: str) -> str:
    if finding["model"].startswith(TOY):
        return "toy"
    return "real" if is_published(finding) else usual


COLUMNS = [
    *("claim", "paper", "number", "text", "where", "paper_value", "item", "model", "data"),
    *("aspect", "measured", "low", "high", "verdict", "rule", "reason", "note", "amended"),
    *("fragile", "seeds", "kind", "since", "class", "why"),
]


def collect(found: Iterable[dict]) -> pd.DataFrame:
    """Every claim of the papers with the findings on it, one row per finding (`COLUMNS`).

    A claim without a finding has one row with the verdict "planned".
    """
    by_claim: dict[str, list[dict]] = {}
    for finding in found:
        by_claim.setdefault(finding["claim"], []).append(finding)
    rows = [
        _row(claim, finding)
        for claim in papers.claims()
        for finding in by_claim.get(claim.id, [{"verdict": PLANNED}])
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def beyond(found: Iterable[dict]) -> pd.DataFrame:
    """The findings on claims beyond the four papers, one row per finding (`COLUMNS`)."""
    claims = papers.beyond()
    found = [*found]
    rows = [_row(of, one) for name, of in claims.items() for one in found if one["claim"] == name]
    return pd.DataFrame(rows, columns=COLUMNS)


def _row(claim: papers.Claim, finding: dict) -> dict:
    low, high = finding.get("interval") or (None, None)
    its = {key: finding.get(key, "") for key in COLUMNS if key not in ("measured", "low", "high")}
    return its | {
        "claim": claim.id,
        "paper": claim.paper,
        "number": claim.number,
        "text": claim.text,
        "where": claim.where,
        "paper_value": claim.value,
        "measured": finding.get("measured"),
        "low": low,
        "high": high,
    }


def is_published(finding: dict) -> bool:
    """Whether a finding rests on embeddings that others have published."""
    return finding["model"].startswith(PUBLISHED)

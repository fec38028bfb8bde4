"""The record: the findings that are kept in `evidence/`, and how a run compares with them.

A file there is a bundle: the findings of one source, and what they rest on, in the form that
`evidence.schema.json` describes. A run never changes the record; a maintainer does, on purpose
(`./run_all.sh --record`).
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lib import files, paths
from lib.claims import papers
from lib.claims.findings import is_published
from lib.claims.verdicts import UNTESTABLE
from lib.measures.bootstrap import Estimate

FOLDER = paths.ROOT / "evidence"
SCHEMA = 1  # raise it with every change of the schema that old bundles do not fit
KEY = ("item", "claim", "model", "data", "aspect")
# A number with its interval, as findings quote several: "R@1 -1.0 [-4.4, +2.4]; R@5 ...".
NUMBER = re.compile(r"(.*?) ?([-+]?[\d.]+) \[([-+]?[\d.]+), ([-+]?[\d.]+)\]")
ROUNDING = 0.01  # half-widths of an interval, or of a value without one; less is the same


# The record ---------------------------------------------------------------------------------------


def bundles(folder: Path = FOLDER) -> list[dict]:
    """The bundles of the record."""
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))]


def read(folder: Path = FOLDER) -> list[dict]:
    """Every finding of the record, as `findings.made` gives those of a run, and its source."""
    return [
        finding | {"kind": bundle["kind"], "source": bundle["source"]}
        for bundle in bundles(folder)
        for finding in bundle["findings"]
    ]


def quoted(finding: dict) -> dict[str, Estimate]:
    """The numbers that a finding of the record quotes with their intervals, by name.

    A finding that is one number has it under the empty name.
    """
    if finding["interval"]:
        return {"": Estimate(float(finding["measured"]), *finding["interval"])}
    found = {}
    for part in (finding["measured"] or "").split("; "):
        if match := NUMBER.fullmatch(part):
            name, *numbers = match.groups()
            found[name] = Estimate(*map(float, numbers))
    return found


def source(finding: dict, profile_name: str) -> str:
    """The name of the bundle that a run's finding belongs to."""
    if is_published(finding):
        return "published"
    return "toy" if finding["kind"] == "toy" else profile_name


def of_sources(made: Iterable[dict], profile_name: str) -> list[dict]:
    """The findings of the record that come from the sources of a run's findings."""
    ours = {source(finding, profile_name) for finding in made}
    return [finding for finding in read() if finding["source"] in ours]


def write(made: Iterable[dict], folder: Path = FOLDER) -> None:
    """Write bundles, each to the file that its source names."""
    for bundle in made:
        files.write_json(folder / f"{bundle['source']}.json", bundle)


# A contributed bundle -----------------------------------------------------------------------------


def check(bundle: dict, record: Iterable[dict], known: Mapping[str, dict]) -> None:
    """Refuse a bundle that cannot count beside the record.

    Args:
        record: the findings of the record (`read`); their rules are those of this commit.
        known: model -> what is known of it here, under the keys of a bundle's `models`.

    Raises: ValueError with one sentence: another schema, a model that is not the one of that name,
        another rule, a value outside its interval.
    """
    if bundle.get("schema") != SCHEMA:
        raise ValueError(
            f"It has schema {bundle.get('schema')}, this commit reads {SCHEMA}: make it again."
        )
    if said := _misfit(bundle):
        raise ValueError(said)
    for model in bundle["models"]:
        _check_model(model, known)
    named = {model["name"] for model in bundle["models"]}
    rules: dict[tuple, list[str]] = {}
    for finding in record:
        rules.setdefault((finding["item"], finding["claim"]), []).append(finding["rule"])
    for finding in bundle["findings"]:
        papers.claim(finding["claim"])
        if finding["model"] in known and finding["model"] not in named:
            raise ValueError(f"{name(finding)}: the bundle does not list its model.")
        _check_rule(finding, rules.get((finding["item"], finding["claim"]), []))
        if finding["interval"]:
            low, high = finding["interval"]
            if not low <= finding["measured"] <= high:
                raise ValueError(
                    f"{name(finding)}: the value {finding['measured']:g} lies outside its interval "
                    f"[{low:g}, {high:g}]."
                )


def _misfit(bundle: dict) -> str:
    """Where a bundle does not fit the schema, in a sentence; empty if it does."""
    from jsonschema import Draft202012Validator, exceptions  # slow to import

    schema = json.loads(
        Path(__file__).with_name("evidence.schema.json").read_text(encoding="utf-8")
    )
    error = exceptions.best_match(Draft202012Validator(schema).iter_errors(bundle))
    if error is None:
        return ""
    where = ".".join(map(str, error.absolute_path)) or "the bundle"
    return f"{where}: {error.message[:200]}."


def _check_model(model: dict, known: Mapping[str, dict]) -> None:
    name = model["name"]
    if name not in known and not (name.startswith("hf-hub:") and "@" in name):
        raise ValueError(
            f"{name} is not a model that others can get: name one of the registry, or "
            "hf-hub:REPOSITORY@COMMIT."
        )
    for key, here in known.get(name, {}).items():
        if model.get(key) != here:
            raise ValueError(
                f"{name} has the {key} {_short(model.get(key))}, and here {_short(here)}: it is a "
                "stand-in, or another model of that name."
            )


def _short(value: str | int | None) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return "unknown" if value is None else f"{value[:12]}…"


def _check_rule(finding: dict, rules: list[str]) -> None:
    if not rules:
        raise ValueError(f"{name(finding)}: {finding['item']} has no rule for this claim here.")
    if finding["rule"] in rules:
        return
    nearest = max(rules, key=lambda rule: _alike(rule, finding["rule"]).ratio())
    here, there = nearest.split(), finding["rule"].split()
    changed = [op for op in _alike(here, there).get_opcodes() if op[0] != "equal"]
    _, i1, i2, j1, j2 = changed[0]
    raise ValueError(
        f'{name(finding)} was judged by another rule: it says "{" ".join(there[j1:j2])}" where '
        f'this commit says "{" ".join(here[i1:i2])}".'
    )


def _alike(a, b) -> difflib.SequenceMatcher:
    return difflib.SequenceMatcher(None, a, b, autojunk=False)


def add(bundle: dict, folder: Path = FOLDER) -> int:
    """Put a checked bundle into the record; returns how many findings it brings.

    Findings that the record has already, on the same model and data, are left out.

    Raises: ValueError if the record has a bundle of this name, or nothing is new.
    """
    if (folder / f"{bundle['source']}.json").exists():
        raise ValueError(
            f"evidence/{bundle['source']}.json is there already: give yours another `source`."
        )
    kept = {_key(finding) for finding in read(folder)}
    new = [finding for finding in bundle["findings"] if _key(finding) not in kept]
    if not new:
        raise ValueError("It brings no finding that the record does not have.")
    write([bundle | {"findings": new}], folder)
    return len(new)


# A run and the record -----------------------------------------------------------------------------


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

    Findings of the record on other items than those that the run made are left out. One whose rule
    has changed since is compared with what the new rule made of it, under another key or not
    testable as it may be.
    """
    made = {_key(finding): finding for finding in run}
    kept = {_key(finding): finding for finding in record}
    items = {finding["item"] for finding in made.values()}
    said = Comparison()
    for key, before in kept.items():
        if before["item"] not in items:
            continue
        now = made.get(key) or _by_another_rule(before, made.values())
        lost = now is None or (now["verdict"] == UNTESTABLE and before["verdict"] != UNTESTABLE)
        if lost and not (now and now["rule"] != before["rule"]):
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
    same_text = ("verdict", "rule", "reason", "note", "amended", "fragile", "seeds")
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


def _by_another_rule(before: dict, made: Iterable[dict]) -> dict | None:
    """The finding on the same claim and model that another rule made, where there is one."""
    same = (f for f in made if all(f[k] == before[k] for k in ("item", "claim", "model", "data")))
    return next((f for f in same if f["rule"] != before["rule"]), None)


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

"""RESULTS.md: what became of every claim, for someone who has two minutes, and then for all."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from docs import pages
from lib.claims import elsewhere, findings, papers, verdicts
from lib.claims.errors import errors

BEYOND = (
    "Claims of later papers and hypotheses of this collection, counted apart. Their rules were "
    "written before the runs that they judge."
)
FIVE = Path(__file__).with_name("results.yaml")


@dataclass(frozen=True)
class PlainFinding:
    """A finding in plain words; `verdict` is the one that the words were written for."""

    text: str
    claim: str
    model: str
    verdict: str
    aspect: str = ""


def five() -> list[PlainFinding]:
    """The five findings that the results begin with."""
    return [PlainFinding(**entry) for entry in yaml.safe_load(FIVE.read_text(encoding="utf-8"))]


def row_of(plain: PlainFinding, found: pd.DataFrame) -> pd.Series | None:
    """The finding behind the words; None where it was not made, or its verdict is another now."""
    wanted = ("claim", "model", "aspect", "verdict")
    rows = found[(found[[*wanted]] == [getattr(plain, key) for key in wanted]).all(axis=1)]
    return rows.iloc[0] if len(rows) else None


def results_md(found: pd.DataFrame, beyond: pd.DataFrame, about: Iterable[str], base: Path) -> str:
    """The page.

    Args:
        found: one row per finding (`findings.collect`).
        beyond: the same on claims of other papers, and on our own (`findings.beyond`).
        about: what the evidence is, a sentence for each kind of it.
        base: the folder of the page, for its links.
    """
    kinds = verdicts.by_kind(found)
    lines = ["# Results", "", *about, "", *pages.table(tally(kinds)), "",
        f"{verdicts.RULE} {verdicts.FRAGILE}", "", negatives(found, kinds)]  # fmt: skip
    lines += ["", "## Five findings", "", *_five_lines(found, base)]
    lines += ["", "## Errors in the papers and their code", "", *_errors(base)]
    lines += ["", "## Every claim", "", *pages.table([*_claims(found, kinds)])]
    lines += ["", "## Rules, notes and single findings", ""]
    lines += [
        "A verdict follows a rule. Some rules were written, or amended, when results were known; "
        "they say so. Brackets are 95 % intervals.",
        "",
    ]
    for claim, its in found.groupby("claim", sort=False):
        lines += _details(claim, its, base)
    if len(beyond):
        lines += ["## Beyond the four papers", "", BEYOND, ""]
    for claim, its in beyond.groupby("claim", sort=False):
        lines += _details(claim, its, base)
    return "\n".join(lines) + "\n"


def about(bundles: Iterable[dict]) -> list[str]:
    """What the record's evidence is, a line for each bundle of it."""
    lines = ["Every claim of the four papers, and what became of it here. The evidence:", ""]
    for bundle in by_kind(bundles):
        n, models = len(bundle["findings"]), len(bundle["models"])
        on = f", {models} model{'s' * (models > 1)}" if models else ""
        label = verdicts.KINDS[bundle["kind"]].capitalize()
        lines.append(f"- **{label}** ([{bundle['source']}](evidence/{bundle['source']}.json)): "
            f"{bundle['about']} {n} findings{on}.")  # fmt: skip
    return lines


def by_kind(bundles: Iterable[dict]) -> list[dict]:
    """Bundles of real models first."""
    return sorted(bundles, key=lambda bundle: [*verdicts.KINDS].index(bundle["kind"]))


def tally(kinds: pd.DataFrame) -> list[dict]:
    """Of each paper: how many claims became what, by kind of evidence."""
    rows = []
    for key in (*papers.KEYS, None):
        its = kinds if key is None else kinds[kinds.paper == key]
        row = {"Paper": pages.heading(key) if key else "All", "Claims": len(its)}
        rows.append(row | {_capital(verdicts.KINDS[k]): verdicts.in_numbers(its[k]) or "–"
            for k in verdicts.KINDS})  # fmt: skip
    return rows


def negatives(found: pd.DataFrame, kinds: pd.DataFrame) -> str:
    """What the audit says of the claims that small models do not reproduce, in one sentence."""
    negative = kinds[kinds[verdicts.AUDITED].isin(verdicts.NEGATIVE)].index
    classes = [verdicts.class_of(found[found.claim == claim]) for claim in negative]
    if not classes:
        return ""
    each = verdicts.counts(pd.Series(classes), verdicts.CLASSES)
    said = ", ".join(f"{which} {n}" for which, n in each.items() if n)
    return (
        f"Of the {len(classes)} claims that small models do not reproduce, or only in part: {said}."
    )


def seeds(its: pd.DataFrame) -> str:
    """Whether the training seeds agree on a claim, in words; empty where there is one alone."""
    compared = {}  # of several models of one recipe, and of several seeds in one finding
    for _, row in its.iterrows():
        at = row["item"], row.model.partition("-seed")[0], row["data"], row.aspect
        said = [row.verdict, *(row.seeds or {}).values()]
        compared.setdefault(at, []).extend(said)
    several = [set(said) for said in compared.values() if len(said) > 1]
    if not several:
        return ""
    agree = sum(len(said) == 1 for said in several)
    return "yes" if agree == len(several) else "no" if not agree else f"{agree} of {len(several)}"


def reported(claim: str) -> str:
    """What others report of a claim on real models, in a word each; never counted as ours."""
    return ", ".join(dict.fromkeys(entry.says for entry in elsewhere.of(claim)))


def in_five_lines(found: pd.DataFrame, base: Path) -> str:
    """The five findings without their numbers, for the README: what was found, where, on what."""
    lines = []
    for plain, row in ((each, row_of(each, found)) for each in five()):
        if row is not None:
            on = f"{row.verdict.capitalize()} on {row.model}"
            lines.append(f"1. {plain.text} {on}: {pages.notebook(row['item'], base)}.")
    return "\n".join(lines) + "\n"


def _five_lines(found: pd.DataFrame, base: Path) -> list[str]:
    lines = []
    for k, plain in enumerate(five(), start=1):
        row = row_of(plain, found)
        if row is not None:
            notebook = pages.notebook(row["item"], base)
            seen = f"{pages.measured(row)} ({pages.measured_on(row)})"
            lines.append(f"{k}. {plain.text} {row.verdict.capitalize()}: {seen}; {notebook}.")
    return lines or ["None of the findings that this page tells of was made."]


def _errors(base: Path) -> list[str]:
    rows = [
        {
            "Paper": pages.heading(e.paper),
            "Where": e.where,
            "What it says": e.says,
            "What it should be": e.should_be,
            "What it changes": e.changes,
            "Notebook": pages.notebook(e.notebook, base, e.notebook.partition("/")[2]),
        }
        for e in errors()
    ]
    return pages.table(rows)


def _claims(found: pd.DataFrame, kinds: pd.DataFrame) -> Iterable[dict]:
    for claim, its in found.groupby("claim", sort=False):
        first = its.iloc[0]
        yield {
            "#": f"[{claim}](#{claim.replace('_', '-')})",
            "Claim": f"{first.text} ({first['where']})",
            "Paper": first.paper_value,
            **{
                _capital(label): cell(its, kind, kinds.loc[claim, kind])
                for kind, label in verdicts.KINDS.items()
            },
            "Seeds agree": seeds(its),
            "Reported elsewhere": reported(claim),
        }


def cell(its: pd.DataFrame, kind: str, outcome: str) -> str:
    """What became of a claim on one kind of evidence, its class, and whether it is fragile."""
    audited = class_of(its, kind, outcome)
    warned = " (fragile)" if fragile(its[its.kind == kind]) else ""
    return f"{outcome}{': ' * bool(audited)}{audited}{warned}"


def class_of(its: pd.DataFrame, kind: str, outcome: str) -> str:
    """The class of a negative outcome on small models, by the audit; empty for all else."""
    negative = outcome in verdicts.NEGATIVE and kind == verdicts.AUDITED
    return verdicts.class_of(its) if negative else ""


def fragile(its: pd.DataFrame) -> bool:
    """Whether one of these findings, of those that could be tested, is fragile."""
    return bool((its.fragile[its.verdict != verdicts.UNTESTABLE] != "").any())


def _details(claim: str, its: pd.DataFrame, base: Path) -> list[str]:
    """A claim with its findings, folded."""
    lines = [f'<a id="{claim.replace("_", "-")}"></a>', "<details>"]
    lines += [f"<summary>{claim}: {its.iloc[0].text}</summary>", ""]
    if of := papers.beyond().get(claim):
        arxiv = f"[arXiv {of.arxiv}](https://arxiv.org/abs/{of.arxiv}), " if of.arxiv else ""
        lines += [f"{arxiv}{of.where}. What would change our mind: {of.change}", ""]
    rule = ""
    for _, row in its.iterrows():
        if row.verdict == verdicts.PLANNED:
            lines.append("- planned")
            continue
        kind = verdicts.KINDS[row.kind]
        notebook = pages.notebook(row["item"], base)
        seen = f" {pages.measured(row)}" if pages.measured(row) else ""
        since = f" (in the record since {row.since})" if row.since else ""
        said = [
            f"- **{row.verdict}** on {pages.measured_on(row)} ({kind}):{seen}. {notebook}.",
            "" if row.rule == rule else f"Rule{since}: {row.rule}",
            findings.warning(row.fragile),
            row.amended,
            row.reason and f"Because: {row.reason}",
            row.note,
        ]
        rule = row.rule
        lines.append(" ".join(" ".join(filter(None, said)).split()))
    if audited := verdicts.class_of(its):
        lines.append(f"- Audit, small models: **{audited}**. {verdicts.why(its)}")
    for entry in elsewhere.of(claim):
        said = f"- Reported elsewhere: **{entry.says}**. {entry.text}"
        lines.append(f"{said} [{entry.source}]({entry.link}).")
    return [*lines, "", "</details>", ""]


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]

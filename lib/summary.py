"""The claims, counted: one verdict per claim from the findings on it, and how many of each.

A claim may be tested on several subjects (this profile's model, published embeddings, other seeds).
Counting findings would give a claim with many of them more weight, so claims are counted, too.
"""

import json

import pandas as pd

from lib import paper, profile, results

MIXED, UNTESTABLE = "mixed", "not testable here"
OUTCOMES = (
    *("reproduced", "not reproduced", "inconclusive"),
    *(MIXED, UNTESTABLE, results.PLANNED),
)
RULE = (
    "A claim counts as reproduced, as not reproduced or as inconclusive if every finding on it "
    "that could be tested says so, and as mixed where they disagree. It is not testable here if no "
    "finding on it could be tested, and planned if there is none."
)
MAIN_RULE = (
    "The same, from the findings on the profile's main model alone; for a claim that has none "
    "of these, from all findings on it."
)


def outcome(verdicts: list[str]) -> str:
    """The verdict on a claim from those of its findings, one of `OUTCOMES` (see `RULE`)."""
    tested = set(verdicts) - {UNTESTABLE, results.PLANNED}
    if len(tested) > 1:
        return MIXED
    if tested:
        return tested.pop()
    return UNTESTABLE if UNTESTABLE in verdicts else results.PLANNED


def by_claim(findings: pd.DataFrame, profile_name: str) -> pd.DataFrame:
    """One row per claim: its paper, `all` by `RULE` and `main` by `MAIN_RULE`."""
    mine = findings.subject.isin(["", profile.load(profile_name).models.get("clip", "")])
    rows = []
    for claim, own in findings.groupby("claim", sort=False):
        main = own[mine[own.index]] if mine[own.index].any() else own
        rows.append(
            {"claim": claim, "paper": own.paper.iloc[0]}
            | {"all": outcome([*own.verdict]), "main": outcome([*main.verdict])}
        )
    return pd.DataFrame(rows).set_index("claim")


def counts(verdicts: pd.Series, kinds=OUTCOMES) -> dict[str, int]:
    """How many of each kind, those that do not occur included."""
    return {kind: int((verdicts == kind).sum()) for kind in kinds}


def of_paper(findings: pd.DataFrame, claims: pd.DataFrame, key: str | None = None) -> dict:
    """The counts of one paper, or of all four."""
    if key is not None:
        findings, claims = findings[findings.paper == key], claims[claims.paper == key]
    tested = findings[findings.verdict != results.PLANNED]
    return {
        "claims": len(claims),
        "claims by verdict": counts(claims["all"]),
        "claims by verdict on the main model": counts(claims.main),
        "findings": len(tested),
        "findings by verdict": counts(tested.verdict, results.VERDICTS),
    }


def in_words(verdicts: pd.Series) -> str:
    """The counts in words, to be quoted, e.g. "of 60 claims, 58 are reproduced, 2 mixed"."""
    parts = [f"{n} {kind}" for kind, n in counts(verdicts).items() if n]
    first, _, kind = parts[0].partition(" ")
    return f"of {len(verdicts)} claims, {', '.join([f'{first} are {kind}', *parts[1:]])}"


def results_json(profile_name: str) -> str:
    """Every finding and the counts, for programs: the content of `results.json`."""
    findings = results.collect(profile_name)
    claims = by_claim(findings, profile_name)
    content = {
        "profile": profile_name,
        "counting": {"claims by verdict": RULE, "claims by verdict on the main model": MAIN_RULE},
        "summary": {key: of_paper(findings, claims, key) for key in paper.KEYS}
        | {"all": of_paper(findings, claims)},
        "findings": [_entry(row, claims) for _, row in findings.iterrows()],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _entry(row: pd.Series, claims: pd.DataFrame) -> dict:
    known = not pd.isna(row.low)
    return {
        "claim": row.claim,
        "paper": row.paper,
        "where": row["where"],
        "text": row.text,
        "paper_value": row.paper_value,
        "subject": row.subject,
        "value": None if pd.isna(row.measured) else row.measured,
        "interval": [row.low, row.high] if known else None,
        "verdict": row.verdict,
        "claim_verdict": claims.loc[row.claim, "all"],
        "rule": row.rule,
        "notebook": f"notebooks/{row['item']}.ipynb" if row["item"] else None,
        "differs_because": row.reason,
        "note": row.note,
    }

"""Verdicts: from the comparisons that a rule makes to one word, and from findings to claims.

A rule names comparisons, and where the interval of each has to lie. A claim is reproduced if all
lie there, not reproduced if one lies wholly on the other side, and inconclusive otherwise. Where a
rule looks for the worst of several comparisons, Holm's correction for their number decides whether
one lies "on the other side". That all of them hold needs no correction.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from lib.measures.bootstrap import Estimate, simultaneous

UNTESTABLE = "not testable here"
VERDICTS = ("reproduced", "not reproduced", "inconclusive", UNTESTABLE)
NUDGE = 0.1  # of an interval's width: see `fragile`
PLANNED, MIXED = "planned", "mixed"  # of a claim: no notebook has tested it; its findings disagree


# From comparisons to a verdict --------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """One number that a rule looks at.

    Attributes:
        name: what is compared, for the reader.
        estimate: the number and its 95 % interval.
        wanted: where the interval has to lie, in words.
        margin: how far inside it lies: above 0 as claimed, below 0 the opposite.
    """

    name: str
    estimate: Estimate
    wanted: str
    margin: Estimate

    @property
    def holds(self) -> bool:
        return self.margin.above()

    @property
    def fails(self) -> bool:
        return self.margin.below()


def above(name: str, estimate: Estimate, bound: float = 0.0) -> Comparison:
    """The whole interval has to lie above the bound."""
    return Comparison(name, estimate, f"above {bound:g}", _moved(estimate, -bound))


def below(name: str, estimate: Estimate, bound: float = 0.0) -> Comparison:
    """The whole interval has to lie below the bound."""
    return Comparison(name, estimate, f"below {bound:g}", _moved(-estimate, bound))


def within(name: str, estimate: Estimate, low: float, high: float) -> Comparison:
    """The whole interval has to lie between the bounds."""
    e = estimate
    margin = Estimate(
        min(e.value - low, high - e.value),
        min(e.low - low, high - e.high),
        min(e.high - low, high - e.low),
    )
    return Comparison(name, estimate, f"between {low:g} and {high:g}", margin)


def _moved(e: Estimate, by: float) -> Estimate:
    return Estimate(e.value + by, e.low + by, e.high + by)


def verdict(holds: bool, fails: bool) -> str:
    """The verdict of a rule with two sides: "reproduced", "not reproduced", or else "inconclusive".

    Raises: ValueError if both are so: then the rule contradicts itself.
    """
    if holds and fails:
        raise ValueError("A claim cannot hold and fail at once: the rule contradicts itself.")
    return "reproduced" if holds else "not reproduced" if fails else "inconclusive"


def judge(
    comparisons: Sequence[Comparison],
    holm: bool = True,
    besides: Sequence[tuple[bool, bool]] = (),
) -> str:
    """The verdict of a rule that all of these comparisons have to fulfil.

    `holm=False` is the verdict without the correction, to be quoted where a rule was amended.
    `besides` are further conditions that no interval belongs to: whether each holds, and fails.

    Raises: ValueError for no comparison: a rule that compares nothing has no verdict.
    """
    if not comparisons:
        raise ValueError("A rule needs at least one comparison.")
    margins = dict(enumerate(c.margin for c in comparisons))
    sure = simultaneous(margins) if holm else margins
    return verdict(
        holds=all(c.holds for c in comparisons) and all(holds for holds, _ in besides),
        fails=any(e.below() for e in sure.values()) or any(fails for _, fails in besides),
    )


def fragile(comparisons: Sequence[Comparison], besides: Sequence[tuple[bool, bool]] = ()) -> str:
    """Why the verdict of `judge` could turn: one interval moved by a tenth of its width is enough.

    Another processor or library moves a number by less. Empty where no single move turns it.
    """
    now, turned = judge(comparisons, besides=besides), {}
    for k, c in enumerate(comparisons):
        for share in (-NUDGE, NUDGE):
            margin = _moved(c.margin, share * (c.margin.high - c.margin.low))
            others = [*comparisons[:k], replace(c, margin=margin), *comparisons[k + 1 :]]
            if (then := judge(others, besides=besides)) != now:
                turned[c.name] = then
    said = "; ".join(f"{name} would make it {then}" for name, then in turned.items())
    return f"moved by a tenth of its interval's width, {said}" if said else ""


def amended(
    comparisons: Sequence[Comparison], besides: Sequence[tuple[bool, bool]] = (), before: str = ""
) -> str:
    """What a finding says of its rule since Holm's correction came in; empty for one comparison.

    `before` is the verdict by the old rule where it is not `judge(comparisons, False, besides)`.
    """
    if len(comparisons) < 2:
        return ""
    return (
        "Rule amended on 2026-11-28, after results were known: until then one interval on the "
        "other side was enough to fail, without a correction for the number of comparisons. By "
        f"that rule: {before or judge(comparisons, False, besides)}."
    )


def shown(comparisons: Sequence[Comparison], spec: str = ".3f") -> pd.DataFrame:
    """The comparisons as a table for the reader: number and interval, what was wanted, and seen."""
    rows = [
        {
            "comparison": c.name,
            "value": format(c.estimate, spec),
            "wanted": c.wanted,
            "seen": "yes" if c.holds else "the opposite" if c.fails else "open",
        }
        for c in comparisons
    ]
    return pd.DataFrame(rows).set_index("comparison")


def in_words(comparisons: Sequence[Comparison], spec: str = ".3f") -> str:
    """The same in one line, e.g. "shape +2.1 [0.3, 3.9]; colour -0.2 [-1.0, 0.6]"."""
    return "; ".join(f"{c.name} {format(c.estimate, spec)}" for c in comparisons)


def in_short(comparisons: Sequence[Comparison], spec: str = ".3f") -> str:
    """Many of them in one line: how many hold and fail, the smallest and the greatest number."""
    ordered = sorted(comparisons, key=lambda c: c.estimate.value)
    holding, failing = sum(c.holds for c in comparisons), sum(c.fails for c in comparisons)
    ends = in_words(ordered[:1], spec), in_words(ordered[-1:], spec)
    return (
        f"{holding} of {len(ordered)} as claimed, {failing} the opposite; "
        f"from {ends[0]} to {ends[1]}"
    )


# From findings to claims --------------------------------------------------------------------------

KINDS = {"real": "real models", "mini": "small models", "toy": "toys"}  # of evidence
OUTCOMES = (*VERDICTS[:3], MIXED, UNTESTABLE, PLANNED)
RULE = (
    "For each kind of evidence, a claim counts as reproduced, as not reproduced or as inconclusive "
    "if every finding on it that could be tested says so, and as mixed where they disagree. What "
    "small models do not reproduce is audited; a negative without a class counts as inconclusive."
)
NEGATIVE = ("not reproduced", MIXED)
FRAGILE = (
    "Fragile means that little would turn a verdict: another training seed, another processor, or "
    "a tenth of an interval's width."
)
# What an audit can say of a claim that small models do not reproduce.
CLASSES = (
    *("contradicts the paper", "precondition absent here", "depends on scale", "under-powered"),
)
AUDITED = "mini"  # the kind of evidence whose negatives need a class


def outcome(each: Sequence[str]) -> str:
    """The verdict on a claim from those of its findings, one of `OUTCOMES` (see `RULE`)."""
    tested = set(each) - {UNTESTABLE, PLANNED}
    if len(tested) > 1:
        return MIXED
    if tested:
        return tested.pop()
    return UNTESTABLE if UNTESTABLE in each else PLANNED


def by_kind(found: pd.DataFrame) -> pd.DataFrame:
    """One row per claim: its paper, and for each of `KINDS` what became of it (see `RULE`).

    Empty where no finding is of this kind. `found` has a row for every finding
    (`lib.claims.findings.COLUMNS`).
    """
    rows = {
        claim: {"paper": its.paper.iloc[0]} | {k: _counted(its[its.kind == k], k) for k in KINDS}
        for claim, its in found.groupby("claim", sort=False)
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def _counted(its: pd.DataFrame, kind: str) -> str:
    """The outcome of a claim's findings of one kind; empty without findings."""
    if its.empty:
        return ""
    became = outcome([*its.verdict])
    lacks_class = kind == AUDITED and became in NEGATIVE and not class_of(its)
    return "inconclusive" if lacks_class else became


def class_of(its: pd.DataFrame) -> str:
    """What the audit says of a claim, one of `CLASSES`, from its findings; empty if nothing."""
    return next(filter(None, its[its.kind == AUDITED]["class"]), "")


def why(its: pd.DataFrame) -> str:
    """The audit's reason, with its numbers; empty without an audit."""
    return next(filter(None, its[its.kind == AUDITED].why), "")


def counts(each: pd.Series, outcomes: Sequence[str] = OUTCOMES) -> dict[str, int]:
    """How many of each outcome, those that do not occur included."""
    return {which: int((each == which).sum()) for which in outcomes}


def in_numbers(each: pd.Series) -> str:
    """The counts in words, e.g. "8 reproduced, 1 mixed"; what does not occur is left out."""
    return ", ".join(f"{n} {which}" for which, n in counts(each).items() if n)

"""From comparisons to a verdict."""

import pandas as pd
import pytest

from lib.claims import findings, verdicts
from lib.measures.bootstrap import Estimate

SURE, OPEN, BARELY_BELOW = Estimate(1, 0.5, 1.5), Estimate(0.2, -1, 1), Estimate(-1, -1.9, -0.1)


def rule(*estimates):
    return [verdicts.above(f"number {k}", e) for k, e in enumerate(estimates)]


def test_all_have_to_hold_and_one_fails():
    assert verdicts.judge(rule(SURE, SURE)) == "reproduced"
    assert verdicts.judge(rule(SURE, OPEN)) == "inconclusive"
    assert verdicts.judge(rule(SURE, -10 * SURE)) == "not reproduced"
    with pytest.raises(ValueError, match="at least one comparison"):
        verdicts.judge([])


def test_the_worst_of_several_has_to_fail_by_more_than_one_alone():
    family = rule(BARELY_BELOW, *[OPEN] * 9)
    assert verdicts.judge(family[:1]) == "not reproduced"
    assert verdicts.judge(family) == "inconclusive"
    assert verdicts.judge(family, holm=False) == "not reproduced"
    assert verdicts.amended(family).endswith("By that rule: not reproduced.")
    assert not verdicts.amended(family[:1])


@pytest.mark.parametrize(
    ("besides", "expected"),
    [
        ([(True, False)], "reproduced"),
        ([(True, False), (False, False)], "inconclusive"),
        ([(True, False), (False, True)], "not reproduced"),
    ],
)
def test_conditions_without_an_interval_count_too(besides, expected):
    assert verdicts.judge(rule(SURE, SURE), besides=besides) == expected
    assert verdicts.amended(rule(SURE, SURE), besides).endswith(f"By that rule: {expected}.")


def test_an_old_verdict_by_another_rule_is_quoted():
    assert verdicts.amended(rule(SURE, SURE), before="mixed").endswith("By that rule: mixed.")


def test_many_comparisons_are_told_in_short():
    family = rule(SURE, OPEN, -2 * SURE)
    expected = (
        "1 of 3 as claimed, 1 the opposite; "
        "from number 2 -2.0 [-3.0, -1.0] to number 0 1.0 [0.5, 1.5]"
    )
    assert verdicts.in_short(family, ".1f") == expected


@pytest.mark.parametrize(("n", "said"), [(2, "number 0 1.0"), (9, "9 of 9 as claimed")])
def test_a_finding_of_comparisons(n, said):
    family = rule(*[SURE] * n)
    finding = findings.judged("i0t-1", "All above 0.", family, "points", ".1f", note="So it is.")
    assert finding.measured.startswith(f"points: {said}")
    assert (finding.verdict, finding.note) == ("reproduced", "So it is.")
    assert finding.amended == verdicts.amended(family)


def test_where_the_interval_has_to_lie():
    e = Estimate(0.5, 0.3, 0.8)
    for comparison, wanted, margin in (
        (verdicts.above("x", e, 0.2), "above 0.2", (0.3, 0.1, 0.6)),
        (verdicts.below("x", e, 0.9), "below 0.9", (0.4, 0.1, 0.6)),
        (verdicts.within("x", e, 0.2, 1.0), "between 0.2 and 1", (0.3, 0.1, 0.6)),
        (verdicts.above("x", e), "above 0", (0.5, 0.3, 0.8)),
    ):
        assert comparison.estimate == e and comparison.wanted == wanted
        found = comparison.margin
        assert (found.value, found.low, found.high) == pytest.approx(margin)
        assert comparison.holds and not comparison.fails


@pytest.mark.parametrize(
    ("low", "high", "holds", "fails"),
    [
        (1.2, 1.8, True, False),
        (0.5, 1.5, False, False),  # across an end
        (1.5, 2.5, False, False),
        (0.5, 2.5, False, False),  # across both
        (0.5, 0.9, False, True),
        (2.1, 2.5, False, True),
    ],
)
def test_inside_and_outside_of_two_bounds(low, high, holds, fails):
    found = verdicts.within("x", Estimate((low + high) / 2, low, high), 1, 2)
    assert (found.holds, found.fails) == (holds, fails)
    assert found.margin.low <= found.margin.value <= found.margin.high


def test_an_interval_that_touches_the_bound_decides_nothing():
    e = Estimate(0.5, 0.25, 0.75)
    for comparison in (
        verdicts.above("x", e, 0.25),
        verdicts.above("x", e, 0.75),
        verdicts.below("x", e, 0.75),
        verdicts.below("x", e, 0.25),
    ):
        assert not comparison.holds and not comparison.fails


def test_that_all_hold_needs_no_correction():
    """Ten intervals that are all barely above 0, none of which would be so by Holm's method."""
    barely = Estimate(1, 0.1, 1.9)
    assert verdicts.judge(rule(*[barely] * 10)) == "reproduced"


def test_what_fails_far_enough_fails_among_many_too():
    far = Estimate(-3, -4, -2)
    assert verdicts.judge(rule(far, *[OPEN] * 9)) == "not reproduced"
    assert verdicts.judge(rule(far, *[SURE] * 9)) == "not reproduced"


def test_a_rule_cannot_contradict_itself():
    assert verdicts.verdict(True, False) == "reproduced"
    assert verdicts.verdict(False, True) == "not reproduced"
    assert verdicts.verdict(False, False) == "inconclusive"
    with pytest.raises(ValueError, match="contradicts itself"):
        verdicts.verdict(True, True)


def test_comparisons_for_the_reader():
    some = [
        verdicts.above("shape", SURE),
        verdicts.above("colour", OPEN),
        verdicts.below("texture", SURE, 0.25),
    ]
    table = verdicts.shown(some, ".1f")
    assert list(table.index) == ["shape", "colour", "texture"]
    assert list(table.value) == ["1.0 [0.5, 1.5]", "0.2 [-1.0, 1.0]", "1.0 [0.5, 1.5]"]
    assert list(table.wanted) == ["above 0", "above 0", "below 0.25"]
    assert list(table.seen) == ["yes", "open", "the opposite"]
    assert verdicts.in_words(some[:2], ".1f") == "shape 1.0 [0.5, 1.5]; colour 0.2 [-1.0, 1.0]"


# Of a claim ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("each", "expected"),
    [
        ([], "planned"),
        (["planned"], "planned"),
        (["reproduced", "reproduced"], "reproduced"),
        (["reproduced", "not testable here"], "reproduced"),
        (["not testable here", "not testable here"], "not testable here"),
        (["reproduced", "not reproduced"], "mixed"),
        (["inconclusive", "not reproduced", "not testable here"], "mixed"),
        (["inconclusive"], "inconclusive"),
    ],
)
def test_a_claim_has_one_verdict(each, expected):
    assert verdicts.outcome(each) == expected
    assert expected in verdicts.OUTCOMES


def test_a_claim_is_counted_by_kind_of_evidence():
    columns = ["claim", "paper", "kind", "verdict", "class"]
    audited = "under-powered"
    found = pd.DataFrame(
        [
            ("i0t-1", "i0t", "mini", "reproduced", audited),
            ("i0t-1", "i0t", "mini", "not reproduced", audited),
            ("i0t-1", "i0t", "real", "reproduced", ""),
            ("i0t-2", "i0t", "real", "inconclusive", ""),
            ("i0t-2", "i0t", "real", "not testable here", ""),
            ("i0t-3", "i0t", "mini", "not testable here", ""),
            ("i0t-3", "i0t", "toy", "reproduced", ""),
            ("i0t-4", "i0t", "", "planned", ""),
            ("i0t-5", "i0t", "mini", "not reproduced", ""),
            ("i0t-5", "i0t", "real", "not reproduced", ""),
            ("i0t-6", "i0t", "mini", "reproduced", ""),
        ],
        columns=columns,
    )
    each = verdicts.by_kind(found)
    assert list(each.index) == [f"i0t-{k}" for k in range(1, 7)] and set(each.paper) == {"i0t"}
    assert list(each.real) == ["reproduced", "inconclusive", "", "", "not reproduced", ""]
    # A negative of small models without a class is inconclusive; one of real models needs none.
    assert list(each.mini) == ["mixed", "", "not testable here", "", "inconclusive", "reproduced"]
    assert list(each.toy) == ["", "", "reproduced", "", "", ""]
    told = verdicts.in_numbers(each.mini)
    assert told == "1 reproduced, 1 inconclusive, 1 mixed, 1 not testable here"
    assert sum(verdicts.counts(each.real).values()) == 3
    assert verdicts.class_of(found[found.claim == "i0t-1"]) == audited
    assert verdicts.class_of(found[found.claim == "i0t-5"]) == ""


def test_a_verdict_is_fragile_where_a_tenth_of_an_interval_turns_it():
    near = verdicts.above("near", Estimate(0.5, 0.05, 1.0))  # a tenth of 0.95 is more than 0.05
    far = verdicts.above("far", Estimate(0.5, 0.2, 1.0))
    assert verdicts.judge([near, far]) == "reproduced"
    assert verdicts.fragile([near, far]) == (
        "moved by a tenth of its interval's width, near would make it inconclusive"
    )
    assert verdicts.fragile([far]) == ""
    # Of a verdict that rests on another condition, no interval decides.
    assert verdicts.fragile([near], besides=[(False, True)]) == ""

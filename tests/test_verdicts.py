"""From comparisons to a verdict."""

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

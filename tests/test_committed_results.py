"""In what is committed, every value lies in its own interval."""

import json

import pandas as pd
import pytest

from lib import paths

RESULTS = paths.ROOT / "figures" / "mini"
TABLES = sorted(RESULTS.rglob("*.csv"))
FINDINGS = sorted(file for file in RESULTS.rglob("*.json") if file.parent != RESULTS)
CLOSE = 1e-5  # relative: six digits are written down


def name(file) -> str:
    return file.relative_to(RESULTS).as_posix()


def outside(value: float, low: float, high: float) -> bool:
    room = CLOSE * max(abs(value), abs(low), abs(high))
    return not low - room <= value <= high + room


def test_there_are_results():
    assert len(TABLES) > 40 and len(FINDINGS) > 40


def test_a_value_beside_its_interval_is_seen():
    assert outside(0.2, 0.3, 0.4) and outside(0.5, 0.3, 0.4) and outside(0.35, 0.4, 0.3)
    assert not outside(0.299999, 0.3, 0.4) and not outside(0.0, 0.0, 0.0)


@pytest.mark.parametrize("file", TABLES, ids=name)
def test_values_of_a_table_lie_in_their_intervals(file):
    table = pd.read_csv(file)
    if not {"value", "low", "high"} <= set(table):
        pytest.skip("This table has no intervals.")
    rows = table.dropna(subset=["value", "low", "high"])
    wrong = [
        row for row in rows.to_dict("records") if outside(row["value"], row["low"], row["high"])
    ]
    assert not wrong, wrong[:5]


@pytest.mark.parametrize("file", FINDINGS, ids=name)
def test_values_of_findings_lie_in_their_intervals(file):
    for finding in json.loads(file.read_text(encoding="utf-8"))["findings"]:
        if finding["interval"] and not isinstance(finding["measured"], str):
            assert not outside(finding["measured"], *finding["interval"]), finding

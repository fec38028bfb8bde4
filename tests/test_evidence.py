"""The record, and how a run compares with it."""

import json

import pytest

from lib.claims import evidence, papers
from lib.claims.verdicts import VERDICTS


def finding(**changes) -> dict:
    plain = {"item": "i0t/a", "claim": "i0t-3", "model": "mini-clip", "data": "", "aspect": ""}
    plain |= {"measured": 1.0, "interval": [0.0, 2.0], "verdict": "reproduced", "rule": "r"}
    return plain | {"reason": "", "note": "", "amended": ""} | changes


RECORD = [
    finding(),
    finding(claim="i0t-4", measured=0.5, interval=[0.4, 0.6]),
    finding(claim="i0t-5", model="published CLIP", measured="0.9 -> 0.1", interval=None),
    finding(claim="i0t-6", item="i0t/b"),
]


def test_a_run_like_the_record_has_no_differences():
    said = evidence.compare(RECORD, RECORD)
    assert said.same == 4
    assert str(said) == "Compared with the record (evidence/): 4 of 4 verdicts are the same."


def test_a_doctored_result_is_found():
    other_verdict = RECORD[0] | {"verdict": "not reproduced", "measured": -0.5}
    moved = RECORD[1] | {"measured": 0.55}
    said = evidence.compare([other_verdict, moved, *RECORD[2:]], RECORD)
    assert said.same == 2
    assert said.differs == [
        "i0t-3 (mini-clip) is not reproduced, in the record reproduced: -0.5, in the record 1 "
        "(1.50 half-widths of its interval)"
    ]
    assert said.moved == [
        "i0t-4 (mini-clip): 0.55, in the record 0.5 (0.50 half-widths of its interval)"
    ]
    assert "3 of 4 verdicts are the same" in str(said)
    assert "Another verdict: i0t-3" in str(said)


def test_rounding_is_no_difference():
    assert evidence.compare([RECORD[0] | {"measured": 1.005}], RECORD[:1]).same == 1


def test_what_could_not_be_made_is_named_with_the_reason_and_kept():
    why = "features_clip.npy is not here and there is no network."
    offline = RECORD[2] | {"verdict": "not testable here", "measured": None, "reason": why}
    said = evidence.compare([*RECORD[:2], offline, RECORD[3]], RECORD)
    assert said.not_made == {why: ["i0t-5 (published CLIP)"]}
    assert f"Not made here, kept in the record: 1, because: {why}" in str(said)
    # The same where the notebook gives no finding on it at all, but says why on another.
    other = offline | {"claim": "i0t-7"}
    said = evidence.compare([*RECORD[:2], other, RECORD[3]], RECORD)
    assert list(said.not_made) == [why]
    # What the notebook says of another model is not the reason.
    stranger = other | {"model": "mini-rn", "reason": "It is no ViT."}
    said = evidence.compare([*RECORD[:2], stranger, RECORD[3]], RECORD)
    assert [reason.split(":")[0] for reason in said.not_made] == [
        "the published embeddings were not there"
    ]


def test_items_that_were_not_run_are_left_out_and_new_findings_counted():
    said = evidence.compare([RECORD[0], finding(aspect="new")], RECORD)
    assert said.same == 1
    assert said.new == ["i0t-3 (mini-clip, new)"]
    # Not the one of i0t/b.
    assert said.not_made.pop("i0t/a did not make it") == ["i0t-4 (mini-clip)"]
    ((reason, names),) = said.not_made.items()
    assert reason.startswith("the published embeddings were not there")
    assert names == ["i0t-5 (published CLIP)"]


@pytest.mark.parametrize(
    ("change", "agree"),
    [
        ({}, True),
        ({"measured": 1.001}, True),
        ({"measured": 1.2}, False),
        ({"verdict": "inconclusive"}, False),
        ({"note": "other"}, False),
        ({"aspect": "other"}, False),
    ],
)
def test_outputs_are_kept_where_findings_agree(change, agree):
    assert evidence.agrees([RECORD[0] | change], [RECORD[0]]) == agree


def test_the_record_is_written_by_source_and_read_again(tmp_path):
    evidence.write(RECORD, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mini.json", "published.json"]
    published = json.loads((tmp_path / "published.json").read_text())
    assert [f["claim"] for f in published["findings"]] == ["i0t-5"]
    assert evidence.compare(evidence.read(tmp_path), RECORD).same == 4


def test_the_committed_record_is_sound():
    found = evidence.read()
    keys = [tuple(f[key] for key in evidence.KEY) for f in found]
    assert len(set(keys)) == len(keys) > 100
    for f in found:
        papers.claim(f["claim"])
        assert f["verdict"] in VERDICTS
        assert f["rule"]
        if f["interval"]:
            low, high = f["interval"]
            assert low <= f["measured"] <= high, f

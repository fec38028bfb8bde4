"""The record, and how a run compares with it."""

import pytest

from docs import bundles
from lib.claims import evidence, papers
from lib.claims.verdicts import VERDICTS
from lib.measures.bootstrap import Estimate


def finding(**changes) -> dict:
    plain = {"item": "i0t/a", "claim": "i0t-3", "model": "mini-clip", "data": "", "aspect": ""}
    plain |= {"measured": 1.0, "interval": [0.0, 2.0], "verdict": "reproduced", "rule": "r"}
    return plain | {"reason": "", "note": "", "amended": "", "fragile": "", "seeds": {}} | changes


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


def test_a_finding_whose_rule_changed_is_another_verdict_and_not_a_lost_one():
    new = {"rule": "r, amended", "verdict": "not testable here", "measured": None}
    said = evidence.compare([RECORD[0] | new, RECORD[1], *RECORD[2:]], RECORD)
    assert not said.not_made and len(said.differs) == 1
    parts = [RECORD[0] | {"rule": "r, in two parts", "aspect": part} for part in ("one", "two")]
    said = evidence.compare([*parts, *RECORD[1:]], RECORD)
    assert not said.not_made and len(said.new) == 2


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


# A bundle -----------------------------------------------------------------------------------------

KNOWN = {
    "mini-clip": {"fingerprint": "a" * 64},
    "openai-vit-b-32": {"revision": "f" * 40, "parameters": 151_277_313},
}
CLIP = {"name": "openai-vit-b-32", "fingerprint": "b" * 64} | KNOWN["openai-vit-b-32"]
ABOUT = {
    "schema": evidence.SCHEMA,
    "source": "clip",
    "kind": "real",
    "about": "Public weights.",
    "commit": "c" * 40,
    "date": "2026-11-28",
    "processor": "a processor",
    "versions": {"python": "3.11.7"},
    "models": [CLIP],
    "data": [{"name": "coco", "revision": "d" * 40}],
}


def bundle(*findings: dict, **changes) -> dict:
    of_clip = {"model": "openai-vit-b-32", "fragile": "", "seeds": {}}
    return ABOUT | {"findings": [each | of_clip for each in findings or RECORD[:2]]} | changes


def test_a_sound_bundle_is_merged_and_read_again(tmp_path):
    evidence.write([bundle(RECORD[0], source="mini", kind="mini")], tmp_path)
    sound = bundle(*RECORD[:2])
    evidence.check(sound, RECORD, KNOWN)
    assert evidence.add(sound, tmp_path) == 1  # the other one is in the record already
    found = evidence.read(tmp_path)
    assert [(f["claim"], f["kind"], f["source"]) for f in found] == [
        ("i0t-4", "real", "clip"),
        ("i0t-3", "mini", "mini"),
    ]
    with pytest.raises(ValueError, match=r"clip\.json is there already: give yours another"):
        evidence.add(sound, tmp_path)
    with pytest.raises(ValueError, match="no finding that the record does not have"):
        evidence.add(sound | {"source": "again"}, tmp_path)


@pytest.mark.parametrize(
    ("doctored", "sentence"),
    [
        (bundle(schema=2), "It has schema 2, this commit reads 1: make it again"),
        (bundle(kind="web"), "kind: 'web' is not one of"),
        (bundle(RECORD[0] | {"verdict": "true"}), "findings.0.verdict: 'true' is not one of"),
        ({"schema": evidence.SCHEMA}, "the bundle: '.*' is a required property"),
        (
            bundle(RECORD[0] | {"measured": 2.5}),
            r"i0t-3 \(openai-vit-b-32\): the value 2.5 lies outside its interval \[0, 2\]",
        ),
        (
            bundle(RECORD[0] | {"rule": "the gap is above 0.2"}),
            'another rule: it says "0.2" where this commit says "0.1"',
        ),
        (bundle(RECORD[0] | {"item": "i0t/c"}), "i0t/c has no rule for this claim here"),
        (
            bundle(models=[{"name": "mini-clip", "fingerprint": "e" * 64}]),
            "mini-clip has the fingerprint eeeeeeeeeeee…, and here aaaaaaaaaaaa…",
        ),
        (
            bundle(models=[CLIP | {"parameters": 849_409}]),
            "openai-vit-b-32 has the parameters 849,409, and here 151,277,313: it is a stand-in",
        ),
        (
            bundle(models=[{key: CLIP[key] for key in ("name", "fingerprint", "parameters")}]),
            "openai-vit-b-32 has the revision unknown, and here ffffffffffff…",
        ),
        (bundle(models=[]), r"\(openai-vit-b-32\): the bundle does not list its model"),
        (
            bundle(models=[{"name": "local-dir:x", "fingerprint": "e" * 64}]),
            "local-dir:x is not a model that others can get",
        ),
    ],
)
def test_a_doctored_bundle_is_refused_with_a_sentence(doctored, sentence):
    record = [*RECORD, RECORD[0] | {"rule": "the gap is above 0.1"}]
    with pytest.raises(ValueError, match=sentence):
        evidence.check(doctored, record, KNOWN)


def test_a_findings_bundle_is_named_by_its_source():
    assert evidence.source(finding(model="published CLIP", kind="real"), "clip") == "published"
    assert evidence.source(finding(model="toy: a circle", kind="toy"), "mini") == "toy"
    assert evidence.source(finding(model="mini-rn", kind="mini"), "mini") == "mini"


def test_the_committed_record_is_sound():
    found = evidence.read()
    kept = evidence.bundles()
    assert {(bundle["source"], bundle["kind"]) for bundle in kept} >= {
        ("mini", "mini"), ("published", "real"), ("toy", "toy")
    }  # fmt: skip
    known = bundles.known()
    for each in kept:
        evidence.check(each, found, known)
        assert each["commit"] and each["processor"]
    keys = [tuple(f[key] for key in evidence.KEY) for f in found]
    assert len(set(keys)) == len(keys) > 100
    for f in found:
        papers.claim(f["claim"])
        assert f["verdict"] in VERDICTS
        assert f["rule"]
        if f["interval"]:
            low, high = f["interval"]
            assert low <= f["measured"] <= high, f


def test_numbers_that_a_finding_quotes_have_their_names_and_intervals():
    said = "CD 0.851 [0.844, 0.858]; in points: R@1, shift -19.4 [-24.0, -14.8]; R@5 +1 [-2, +.5]"
    found = evidence.quoted({"measured": said + "; 3 of 4 as claimed", "interval": None})
    assert found == {
        "CD": Estimate(0.851, 0.844, 0.858),
        "in points: R@1, shift": Estimate(-19.4, -24.0, -14.8),
        "R@5": Estimate(1.0, -2.0, 0.5),
    }
    assert evidence.quoted({"measured": -0.5, "interval": [-1, 0]}) == {"": Estimate(-0.5, -1, 0)}
    assert evidence.quoted({"measured": None, "interval": None}) == {}


def test_most_of_the_record_can_be_quoted():
    some = [finding for finding in evidence.read() if "[" in str(finding["measured"])]
    assert sum(bool(evidence.quoted(finding)) for finding in some) > 0.9 * len(some) > 30

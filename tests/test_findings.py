"""Findings: unsound ones are refused, four files are written whole, every claim is collected."""

import json
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lib import files, paths, profiles
from lib.claims import findings, papers, verdicts
from lib.claims.findings import Finding
from lib.measures.bootstrap import Estimate

ITEM = "i0t/fig2_gap_severity"
OTHER = "i0t/table3_sample_size"
TABLE = pd.DataFrame({"distance": [0.1, 1 / 3], "separability": [1, 2]})
FOUND = Finding("i0t-3", Estimate(1 / 3, 0.3, 0.36), "reproduced", "slope > 0", note="a | b")


def finding(**changes) -> Finding:
    plain = {"claim": "i0t-3", "measured": 1.0, "verdict": "inconclusive", "rule": "r"}
    return Finding(**plain | changes)


@pytest.fixture
def figures(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "FIGURES", tmp_path)
    return tmp_path / "mini"


@pytest.fixture
def figure():
    drawn, axes = plt.subplots()
    axes.plot([1, 3, 2])
    yield drawn
    plt.close(drawn)


def saved(figures, item=ITEM) -> dict:
    return json.loads((figures / f"{item}.json").read_text(encoding="utf-8"))


# One finding --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"claim": "i0t-33"}, "no claim 'i0t-33'; the nearest are i0t-3"),
        ({"verdict": "reproducd"}, "no verdict 'reproducd'; the nearest (is|are) reproduced"),
        ({"verdict": "planned"}, "no verdict 'planned'"),
        ({"rule": ""}, "i0t-3: a finding needs the rule"),
        ({"verdict": "not testable here", "measured": None}, "say in `reason` why"),
        ({"measured": None}, "i0t-3: inconclusive, but nothing was measured"),
        ({"measured": float("nan")}, "nan is not a finite number"),
        ({"measured": Estimate(1, 0, float("inf"))}, "inf is not a finite number"),
    ],
)
def test_an_unsound_finding_is_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        finding(**changes)


def test_untestable_needs_a_reason_and_no_number():
    found = findings.untestable("i0t-3", "r", "No data.", model="published CLIP")
    assert found == finding(
        measured=None, verdict="not testable here", reason="No data.", model="published CLIP"
    )
    assert found.as_json()["measured"] is None and found.as_json()["interval"] is None
    with pytest.raises(ValueError, match="say in `reason` why"):
        findings.untestable("i0t-3", "r", "")


def test_numbers_are_kept_with_six_digits():
    """More would differ between machines."""
    kept = finding(measured=Estimate(1 / 3, -1234567.8, 2e-9 / 3)).as_json()
    assert (kept["measured"], kept["interval"]) == (0.333333, [-1234570.0, 6.66667e-10])
    kept = finding(measured=np.float32(1 / 3)).as_json()
    assert (kept["measured"], kept["interval"]) == (0.333333, None)
    assert finding(measured="0.9 -> 0.1").as_json()["measured"] == "0.9 -> 0.1"
    json.dumps(kept, allow_nan=False)
    assert list(kept) == [
        *("claim", "measured", "verdict", "rule", "model", "data", "aspect"),
        *("reason", "note", "amended", "fragile", "seeds", "interval"),
    ]


def test_a_reader_sees_the_findings_as_a_table():
    some = [
        FOUND,
        finding(measured="0.9 -> 0.1", model="m", data="d", aspect="a", amended="Changed."),
        findings.untestable("i0t-4", "r", "No data."),
    ]
    table = findings.shown(some, "+z.2f").data
    assert list(table.claim) == ["i0t-3", "i0t-3", "i0t-4"]
    assert list(table.measured) == ["+0.33 [+0.30, +0.36]", "0.9 -> 0.1", ""]
    assert list(table.on) == ["", "m, d, a", ""]
    assert list(table.note) == ["a | b", "Changed.", "No data."]


# Saving -------------------------------------------------------------------------------------------


def test_save_writes_four_files(figures, figure):
    findings.save(ITEM, "mini", figure, TABLE, [FOUND])
    written = sorted(file.name for file in (figures / "i0t").iterdir())
    assert written == [f"fig2_gap_severity.{suffix}" for suffix in ("csv", "json", "pdf", "png")]
    pd.testing.assert_frame_equal(pd.read_csv(figures / f"{ITEM}.csv"), TABLE, rtol=1e-5)
    content = saved(figures)
    assert (content["item"], content["profile"]) == (ITEM, "mini")
    (entry,) = content["findings"]
    assert entry["claim"] == "i0t-3" and entry["note"] == "a | b"
    assert (entry["measured"], entry["interval"]) == (0.333333, [0.3, 0.36])
    assert re.fullmatch(r"3\.\d+\.\d+", content["versions"]["python"])
    assert content["versions"].keys() >= {"torch", "open_clip_torch", "numpy"}


def test_the_main_model_is_filled_in(figures, figure):
    findings.save(ITEM, "mini", figure, TABLE, [FOUND, finding(model="published CLIP")])
    main = profiles.load("mini").models["clip"]
    assert [entry["model"] for entry in saved(figures)["findings"]] == [main, "published CLIP"]


def test_save_gives_the_same_bytes(figures, figure):
    def written():
        findings.save(ITEM, "mini", figure, TABLE, [FOUND])
        return {file.name: file.read_bytes() for file in (figures / "i0t").iterdir()}

    assert written() == written()


def test_a_failure_leaves_the_old_files(figures, figure, monkeypatch):
    """Each of them is written beside its place and then put there."""
    findings.save(ITEM, "mini", figure, TABLE, [FOUND])
    before = {file.name: file.read_bytes() for file in (figures / "i0t").iterdir()}

    def stopped(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        findings.save(ITEM, "mini", figure, TABLE[:1], [])
    assert {file.name: file.read_bytes() for file in (figures / "i0t").iterdir()} == before


def test_numbers_of_a_table_have_six_digits_and_a_named_index_is_kept(figures, figure):
    findings.save(ITEM, "mini", figure, TABLE.set_index("distance"))
    assert (figures / f"{ITEM}.csv").read_text() == "distance,separability\n0.1,1\n0.333333,2\n"


SAME = {"model": "m", "data": "d", "aspect": "a"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"item": "i0t/fig2_gap_severty"}, "no item 'i0t/fig2_gap_severty'; the nearest are i0t"),
        ({"profile_name": "mimi"}, "no profile 'mimi'; the nearest (is|are) mini"),
        ({"table": TABLE[:0]}, "the table is empty"),
        ({"found": [FOUND, FOUND]}, "two verdicts on the same: i0t-3, mini-clip"),
        ({"found": [FOUND, finding(model="mini-clip")]}, "two verdicts on the same"),
        ({"found": [finding(**SAME), finding(**SAME, rule="s")]}, "the same: i0t-3, m, d, a"),
    ],
)
def test_nothing_is_written_for_bad_input(figures, figure, arguments, sentence):
    sound = {"item": ITEM, "profile_name": "mini", "figure": figure, "table": TABLE}
    with pytest.raises(ValueError, match=sentence):
        findings.save(**sound | arguments)
    assert not figures.exists()


@pytest.mark.parametrize("part", SAME)
def test_findings_that_differ_in_one_of_the_three_are_two(figures, figure, part):
    findings.save(ITEM, "mini", figure, TABLE, [finding(**SAME), finding(**SAME | {part: "x"})])
    assert len(saved(figures)["findings"]) == 2


# Collecting ---------------------------------------------------------------------------------------


def test_what_was_saved_is_found_by_item(figures, figure):
    assert findings.saved("mini", ITEM) == {} and findings.made("mini", [ITEM]) == []
    findings.save(ITEM, "mini", figure, TABLE, [FOUND])
    findings.save(OTHER, "mini", figure, TABLE, [finding(), finding(claim="i0t-4")])
    assert findings.saved("mini", ITEM)["item"] == ITEM
    found = findings.made("mini", [OTHER, ITEM, "00_start_here"])
    assert [(f["item"], f["claim"]) for f in found] == [
        (OTHER, "i0t-3"), (OTHER, "i0t-4"), (ITEM, "i0t-3")
    ]  # fmt: skip


def test_every_claim_is_collected(figures, figure):
    real = finding(claim="i0t-4", model="published CLIP", data="500 COCO pairs")
    findings.save(ITEM, "mini", figure, TABLE, [FOUND, finding(claim="i0t-4", aspect="a"), real])
    findings.save(OTHER, "mini", figure, TABLE, [finding(measured="0.9 -> 0.1")])
    found = findings.collect(findings.made("mini", [ITEM, OTHER]))
    assert list(found) == findings.COLUMNS
    assert list(found.claim.unique()) == [claim.id for claim in papers.claims()]
    assert found.verdict.value_counts()["planned"] == len(papers.claims()) - 2
    mine = found[found.claim == "i0t-3"].set_index("item")
    assert mine.loc[ITEM, ["measured", "low", "high"]].tolist() == [0.333333, 0.3, 0.36]
    assert mine.loc[OTHER, "measured"] == "0.9 -> 0.1"
    fourth = found[found.claim == "i0t-4"]
    assert fourth.model.tolist() == ["mini-clip", "published CLIP"]
    assert fourth.data.tolist() == ["", "500 COCO pairs"] and fourth.aspect.tolist() == ["a", ""]
    claim = papers.claim("i0t-4")
    assert (fourth[["text", "where", "paper_value"]] == [claim.text, claim.where, claim.value]).all(
        axis=None
    )


def test_a_claim_without_a_finding_is_planned():
    found = findings.collect([]).set_index("claim")
    assert set(found.verdict) == {"planned"} and len(found) == len(papers.claims())
    first = found.loc["i0t-1"]
    assert (first.paper, first.number, first["item"], first.model) == ("i0t", 1, "", "")
    assert pd.isna(first.measured) and pd.isna(first.low)


def test_published_embeddings_are_told_by_their_name():
    assert findings.is_published({"model": "published CLIP"})
    assert not findings.is_published({"model": "mini-clip"})
    assert not findings.is_published({"model": "toy"})


# How sure a verdict is ----------------------------------------------------------------------------


def test_other_seeds_and_processors_make_a_verdict_fragile(figures, figure):
    near = [verdicts.above("near", Estimate(0.5, 0.05, 1.0))]
    first = findings.judged("i0t-3", "r", near, seeds={"seed 1": "inconclusive"})
    assert first.turned_by() == (
        "moved by a tenth of its interval's width, near would make it inconclusive; "
        "seed 1 is inconclusive"
    )
    assert "Fragile: moved" in findings.shown([first]).to_html()
    apart = finding(claim="i0t-4", model="mini-clip-seed1")
    known = finding(claim="i0t-13", verdict="inconclusive")
    found = [first, finding(claim="i0t-4", verdict="reproduced"), apart, known]
    findings.save(ITEM, "mini", figure, TABLE, found)
    said = {(f["claim"], f["model"]): f["fragile"] for f in findings.made("mini", [ITEM])}
    assert said["i0t-3", "mini-clip"].endswith("seed 1 is inconclusive")
    assert said["i0t-4", "mini-clip"] == "mini-clip-seed1 is inconclusive"
    assert said["i0t-4", "mini-clip-seed1"] == ""
    assert said["i0t-13", "mini-clip"] == "on an AMD EPYC it was not reproduced"


def test_kinds_of_evidence_are_told_by_the_model(figures, figure):
    found = [finding(model=model) for model in ("", "published CLIP", "toy: a circle")]
    findings.save(ITEM, "mini", figure, TABLE, found)
    assert [f["kind"] for f in findings.made("mini", [ITEM])] == ["mini", "real", "toy"]


def test_the_findings_of_an_audited_claim_carry_its_class(figures, figure):
    real = finding(model="published CLIP")
    findings.save(ITEM, "mini", figure, TABLE, [finding(), finding(claim="i0t-4"), real])
    its = {"class": "under-powered", "why": "It could see 9 points."}
    findings.save(OTHER, "mini", figure, TABLE, classes={"i0t-3": its})
    table = findings.collect(findings.made("mini", [ITEM, OTHER])).set_index(["claim", "kind"])
    assert tuple(table.loc[("i0t-3", "mini"), ["class", "why"]]) == tuple(its.values())
    assert not table.loc[("i0t-4", "mini"), "class"] and not table.loc[("i0t-3", "real"), "class"]
    schema = Path(findings.__file__).with_name("evidence.schema.json").read_text(encoding="utf-8")
    finding_of = json.loads(schema)["properties"]["findings"]["items"]["properties"]
    assert finding_of["class"]["enum"] == list(verdicts.CLASSES)


def test_the_rules_of_claims_as_a_table():
    shown = findings.rules(["beyond-1", "mind_the_gap-11"])
    assert shown.data.loc["beyond-1", "rule"] == papers.rule("beyond-1")
    assert shown.data.loc["mind_the_gap-11", "claim"] == papers.claim("mind_the_gap-11").text
    assert "white-space: normal" in shown.to_html()

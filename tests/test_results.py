"""Results: four files per item, the same bytes every time, and two pages that hold every claim."""

import hashlib
import html.parser
import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from docs import report
from lib import paths, profiles
from lib.claims import findings, papers, verdicts
from workflow import catalogue, freshness
from lib.claims.findings import Finding

ITEM = "i0t/fig2_gap_severity"


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


TABLE = pd.DataFrame({"distance": [0.1, 1 / 3], "separability": [1, 2]})
FOUND = Finding("i0t-3", np.float32(1 / 3), (0.3, 0.36), "reproduced", "slope > 0", note="a | b")


def finding(**changes) -> Finding:
    fields = {"measured": 1.0, "interval": None, "verdict": "inconclusive", "rule": "r"}
    return Finding(**{"claim_id": "i0t-3", **fields, **changes})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"claim_id": "i0t-33"}, "i0t-3"),
        ({"verdict": "reproducd"}, "no verdict 'reproducd'; the nearest (is|are) reproduced"),
        ({"rule": ""}, "needs the rule"),
        ({"verdict": "not testable here", "measured": None}, "why it is not testable"),
        ({"measured": None}, "nothing was measured"),
        ({"measured": float("nan")}, "nan is not a finite number"),
        ({"interval": (0.2, float("inf"))}, "inf is not a finite number"),
        ({"interval": (0.3, 0.2)}, r"an interval is \(low, high\)"),
        ({"interval": (0.3,)}, r"an interval is \(low, high\)"),
    ],
)
def test_an_unsound_finding_is_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        finding(**changes)


def test_save_writes_four_files(figures, figure):
    findings.save(ITEM, "mini", figure, TABLE, [FOUND])
    written = sorted(file.name for file in (figures / "i0t").iterdir())
    assert written == [f"fig2_gap_severity.{suffix}" for suffix in ("csv", "json", "pdf", "png")]
    pd.testing.assert_frame_equal(pd.read_csv(figures / f"{ITEM}.csv"), TABLE, rtol=1e-5)
    content = json.loads((figures / f"{ITEM}.json").read_text())
    assert content["item"] == ITEM
    assert content["profile"] == "mini"
    assert content["title"] == catalogue.load()[ITEM].title
    (entry,) = content["findings"]
    assert entry["claim"] == "i0t-3"
    assert entry["text"] == papers.claim("i0t-3").text
    assert entry["paper_value"] == papers.claim("i0t-3").value
    assert (entry["measured"], entry["interval"]) == (0.333333, [0.3, 0.36])
    assert re.fullmatch(r"3\.\d+\.\d+", content["versions"]["python"])
    assert "torch" in content["versions"]


def test_save_gives_the_same_bytes(figures, figure):
    def digests():
        findings.save(ITEM, "mini", figure, TABLE, [FOUND])
        files = sorted((figures / "i0t").iterdir())
        return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]

    assert digests() == digests()


def test_a_named_index_is_kept(figures, figure):
    findings.save(ITEM, "mini", figure, TABLE.set_index("distance"))
    assert list(pd.read_csv(figures / f"{ITEM}.csv")) == list(TABLE)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"item": "i0t/fig2_gap_severty"}, "the nearest are i0t/fig2_gap_severity"),
        ({"profile_name": "mimi"}, "no profile 'mimi'; the nearest is mini"),
        ({"table": TABLE[:0]}, "the table is empty"),
        ({"findings": [FOUND, FOUND]}, "two verdicts"),
    ],
)
def test_nothing_is_written_for_bad_input(figures, figure, arguments, sentence):
    sound = {"item": ITEM, "profile_name": "mini", "figure": figure, "table": TABLE}
    with pytest.raises(ValueError, match=sentence):
        findings.save(**{**sound, **arguments})
    assert not figures.exists()


def test_collect_has_every_claim(figures, figure):
    other = finding(claim_id="i0t-4", verdict="not reproduced")
    real = finding(claim_id="i0t-4", subject="published embeddings")
    findings.save(ITEM, "mini", figure, TABLE, [FOUND, other, real])
    again = finding(measured="0.9 -> 0.1")
    findings.save("i0t/table3_sample_size", "mini", figure, TABLE, [again])
    found = findings.collect("mini")
    assert list(found.claim.unique()) == [claim.id for claim in papers.claims()]
    mine = found[found.claim == "i0t-3"].set_index("item")
    assert list(mine.index) == [ITEM, "i0t/table3_sample_size"]
    assert mine.loc[ITEM, ["measured", "low", "high"]].tolist() == [0.333333, 0.3, 0.36]
    assert mine.loc["i0t/table3_sample_size", "measured"] == "0.9 -> 0.1"
    assert found.verdict.value_counts().to_dict() == {
        "planned": len(papers.claims()) - 2,
        "reproduced": 1,
        "not reproduced": 1,
        "inconclusive": 2,
    }
    assert found[found.claim == "i0t-4"].subject.tolist() == ["", "published embeddings"]


def test_results_md_holds_every_claim(figures, figure):
    real = finding(claim_id="i0t-4", subject="published embeddings")
    findings.save(ITEM, "mini", figure, TABLE, [FOUND, real])
    report.write("mini")
    text = (figures / "RESULTS.md").read_text()
    rows = [line for line in text.splitlines() if re.match(r"\| \d+ \|", line)]
    assert len(rows) == len(papers.claims())
    # The bar within a note is escaped, so that every row has the same number of cells.
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {7}
    (row,) = [row for row in rows if "**reproduced**" in row]
    assert "0.333 [0.3, 0.36]" in row
    assert "Rule: slope > 0" in row
    assert "| 1 (published embeddings) |" in text
    assert f"]({report._relative(paths.NOTEBOOKS / f'{ITEM}.ipynb', figures)})" in row
    counts = dict(re.findall(r"^\| (I0T|Mind the Gap) \| (.*) \|$", text, flags=re.MULTILINE))
    assert counts["I0T"] == "2 | 1 | 0 | 1 | 0"  # the findings; the claims stand above
    assert "| I0T | 20 | 1 | 0 | 1 | 0 | 0 | 18 |" in text
    assert "Because: " not in row
    assert f"In short: of {len(papers.claims())} claims, 1 are reproduced, 1 inconclusive" in text


def test_results_md_says_a_claim_once(figures, figure):
    """Further findings on a claim stand below it; its text, and a rule that is the same, do not."""
    same = finding(subject="published embeddings", rule="slope > 0")
    other = finding(subject="mini-rn", rule="another rule")
    findings.save(ITEM, "mini", figure, TABLE, [FOUND, same, other])
    report.write("mini")
    text = (figures / "RESULTS.md").read_text()
    assert text.count("Rule: slope > 0") == text.count("Rule: another rule") == 1
    (claim,) = [claim for claim in papers.claims() if claim.id == "i0t-3"]
    assert text.count(claim.text) == 1
    assert len(re.findall(r"^\|  \|  \|  \| .*\*\*inconclusive", text, flags=re.MULTILINE)) == 2


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["planned"], "planned"),
        (["reproduced", "reproduced"], "reproduced"),
        (["reproduced", "not testable here"], "reproduced"),
        (["not testable here", "not testable here"], "not testable here"),
        (["reproduced", "not reproduced"], "mixed"),
        (["inconclusive", "not reproduced", "not testable here"], "mixed"),
        (["inconclusive"], "inconclusive"),
    ],
)
def test_a_claim_has_one_verdict(verdicts, expected):
    assert verdicts.outcome(verdicts) == expected
    assert expected in verdicts.OUTCOMES


def test_results_json_holds_every_finding_and_adds_up(figures, figure):
    main = profiles.load("mini").models["clip"]
    both = [
        finding(claim_id="i0t-4", subject=main, measured="x", reason="It shrank."),
        finding(claim_id="i0t-4", subject="published", verdict="reproduced", note="Of 500."),
        finding(claim_id="i0t-5", verdict="not testable here", measured=None, reason="No data."),
    ]
    findings.save(ITEM, "mini", figure, TABLE, [FOUND, *both])
    report.write("mini")
    content = json.loads((figures / "results.json").read_text())
    found = pd.DataFrame(content["findings"]).set_index(["claim", "subject"])
    assert set(found.index.get_level_values("claim")) == {claim.id for claim in papers.claims()}
    assert len(found) == len(papers.claims()) + 1
    first = found.loc[("i0t-3", "")]
    assert (first.value, first.interval, first.note) == (0.333333, [0.3, 0.36], "a | b")
    assert first.notebook == f"notebooks/{ITEM}.ipynb" and first["where"]
    assert found.loc[("i0t-4", main), "differs_because"] == "It shrank."
    assert found.loc[("i0t-4", "published"), "differs_because"] == ""
    assert found.loc[("i0t-4", "published"), "claim_verdict"] == "mixed"
    assert found.loc[("i0t-5", ""), "differs_because"] == "No data."
    count = content["summary"]["i0t"]
    assert count["findings"] == 4
    assert count["claims by verdict"]["mixed"] == 1
    assert count["claims by verdict on the main model"]["inconclusive"] == 1
    for entry in content["summary"].values():
        assert sum(entry["claims by verdict"].values()) == entry["claims"]
        assert sum(entry["claims by verdict on the main model"].values()) == entry["claims"]
        assert sum(entry["findings by verdict"].values()) == entry["findings"]
    assert content["summary"]["all"]["claims"] == len(papers.claims())


def test_results_json_is_not_among_its_own_sources(figures, figure):
    findings.save(ITEM, "mini", figure, TABLE, [FOUND])
    before = freshness.digest(profiles.load("mini"), freshness.REPORT)
    report.write("mini")
    assert freshness.digest(profiles.load("mini"), freshness.REPORT) == before


class Page(html.parser.HTMLParser):
    """The links and pictures of a page; checks that every element is closed."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self, text: str):
        super().__init__()
        self.targets, self.open = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.targets += [value for key, value in attributes if key in ("href", "src")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_gallery_works_offline(figures, figure):
    findings.save(ITEM, "mini", figure, TABLE, [finding(note="<b>1 < 2</b>")])
    findings.save("00_start_here", "mini", figure, TABLE)
    report.write("mini")
    text = (figures / "index.html").read_text()
    page = Page(text)
    for target in page.targets:
        if target.startswith("https://"):
            assert target.startswith("https://arxiv.org/abs/")  # only to be clicked
        elif not target.startswith("#") and not target.endswith(".ipynb"):
            assert (figures / target).is_file()
    assert f"{ITEM}.png" in page.targets
    assert "&lt;b&gt;1 &lt; 2&lt;/b&gt;" in text
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text
    assert 'src="http' not in text
    for item in catalogue.load().values():
        assert item.name in text or item.where in text


def test_reports_are_the_same_every_time(figures, figure):
    findings.save(ITEM, "mini", figure, TABLE, [FOUND])
    report.write("mini")
    before = [file.read_bytes() for file in freshness.report_files("mini")]
    report.write("mini")
    assert [file.read_bytes() for file in freshness.report_files("mini")] == before


def test_only_the_committed_figures_belong_to_the_committed_results(monkeypatch):
    monkeypatch.setattr(paths, "FIGURES", paths.ROOT / "figures")
    assert freshness.report_files("mini")[0] == paths.ROOT / "RESULTS.md"
    assert freshness.report_files("clip")[0] == paths.ROOT / "figures" / "clip" / "RESULTS.md"


def test_coverage_lists_every_item():
    lines = report.coverage().splitlines()
    assert len(lines) == 2 + len(catalogue.load())
    assert any("needs profile clip" in line for line in lines)


def test_the_tables_of_the_readme_are_up_to_date():
    text = (paths.ROOT / "README.md").read_text(encoding="utf-8")
    assert report.readme(text) == text
    assert (paths.MODELS / "README.md").read_text() == report.models_md()
    with pytest.raises(ValueError, match="coverage"):
        report.readme(text.replace("<!-- coverage -->", ""))


def test_a_verdict_has_two_sides_and_a_middle():
    assert findings.verdict(holds=True, fails=False) == "reproduced"
    assert findings.verdict(holds=False, fails=True) == "not reproduced"
    assert findings.verdict(holds=False, fails=False) == "inconclusive"
    with pytest.raises(ValueError, match="contradicts itself"):
        findings.verdict(holds=True, fails=True)

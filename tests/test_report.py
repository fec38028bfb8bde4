"""Two pages and a file that hold every claim, and the tables of the README."""

import html.parser
import json
import re
from html import unescape

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from docs import pages, readme, report
from lib import paths
from lib.claims import findings, papers
from lib.claims.findings import Finding
from lib.measures.bootstrap import Estimate
from workflow import catalogue

ITEM = "i0t/fig2_gap_severity"
MAIN = "mini-clip"
TABLE = pd.DataFrame({"distance": [0.1, 1 / 3], "separability": [1, 2]})
SEEN = Finding(
    "i0t-3", Estimate(1 / 3, 0.3, 0.36), "reproduced", "slope > 0", note="a | b", amended="In May."
)


def finding(claim="i0t-3", measured=1.0, verdict="inconclusive", rule="r", **more) -> Finding:
    return Finding(claim, measured, verdict, rule, **more)


@pytest.fixture
def figures(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "FIGURES", tmp_path)
    return tmp_path / "mini"


@pytest.fixture
def save(figures):
    """Saves findings of an item, with a figure."""
    figure, axes = plt.subplots()
    axes.plot([1, 3, 2])
    yield lambda found=(), item=ITEM: findings.save(item, "mini", figure, TABLE, found)
    plt.close(figure)


def test_results_md_holds_every_claim(figures, save):
    save([SEEN, finding("i0t-4", model="published CLIP", data="500 pairs")])
    report.write("mini")
    text = (figures / "RESULTS.md").read_text()
    rows = [line for line in text.splitlines() if re.match(r"\| \d+ \|", line)]
    assert len(rows) == len(papers.claims())
    # The bar within a note is escaped, so that every row has the same number of cells.
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {7}
    (row,) = [row for row in rows if "**reproduced**" in row]
    assert f"0.333 [0.3, 0.36] ({MAIN})" in row
    assert "Rule: slope > 0" in row
    assert "In May." in row
    assert "| 1 (published CLIP, 500 pairs) |" in text
    assert f"]({pages.relative(paths.NOTEBOOKS / f'{ITEM}.ipynb', figures)})" in row
    counts = dict(re.findall(r"^\| (I0T|Mind the Gap) \| (.*) \|$", text, flags=re.MULTILINE))
    assert counts["I0T"] == "2 | 1 | 0 | 1 | 0"  # the findings; the claims are above
    assert "| I0T | 20 | 1 | 0 | 1 | 0 | 0 | 18 |" in text
    assert "Because: " not in row
    assert f"In short: of {len(papers.claims())} claims, 1 are reproduced, 1 inconclusive" in text


def test_an_interval_is_printed_once(figures, save):
    save([SEEN])
    report.write("mini")
    assert (figures / "RESULTS.md").read_text().count("[0.3, 0.36]") == 1


def test_results_md_says_a_claim_once(figures, save):
    """Further findings on a claim are below it; its text, and a rule that is the same, are not."""
    same = finding(model="published CLIP", rule="slope > 0")
    save([SEEN, same, finding(model="mini-rn", rule="another rule")])
    report.write("mini")
    text = (figures / "RESULTS.md").read_text()
    assert text.count("Rule: slope > 0") == text.count("Rule: another rule") == 1
    assert text.count(papers.claim("i0t-3").text) == 1
    assert len(re.findall(r"^\|  \|  \|  \| .*\*\*inconclusive", text, flags=re.MULTILINE)) == 2


def test_results_json_holds_every_finding_and_adds_up(figures, save):
    untestable = findings.untestable("i0t-5", "r", "No data.")
    shrank = finding("i0t-4", "x", reason="It shrank.", aspect="size")
    other = finding("i0t-4", verdict="reproduced", model="published CLIP", note="Of 500.")
    save([SEEN, shrank, other, untestable])
    report.write("mini")
    content = json.loads((figures / "results.json").read_text())
    found = pd.DataFrame(content["findings"]).set_index(["claim", "model"])
    assert set(found.index.get_level_values("claim")) == {claim.id for claim in papers.claims()}
    assert len(found) == len(papers.claims()) + 1
    first = found.loc[("i0t-3", MAIN)]
    assert (first.value, first.interval, first.note) == (0.333333, [0.3, 0.36], "a | b")
    assert first.notebook == f"notebooks/{ITEM}.ipynb"
    assert found.loc[("i0t-4", MAIN), "differs_because"] == "It shrank."
    assert found.loc[("i0t-4", "published CLIP"), "claim_verdict"] == "mixed"
    assert found.loc[("i0t-5", MAIN), "differs_because"] == "No data."
    count = content["summary"]["i0t"]
    assert count["findings"] == 4
    assert count["claims by verdict"]["mixed"] == 1
    assert count["claims by verdict on the main model"]["inconclusive"] == 1
    for entry in content["summary"].values():
        assert sum(entry["claims by verdict"].values()) == entry["claims"]
        assert sum(entry["claims by verdict on the main model"].values()) == entry["claims"]
        assert sum(entry["findings by verdict"].values()) == entry["findings"]
    assert content["summary"]["all"]["claims"] == len(papers.claims())


def test_pages_are_the_same_every_time(figures, save):
    save([SEEN])
    report.write("mini")
    made = [figures / name for name in ("RESULTS.md", "results.json", "index.html")]
    before = [file.read_bytes() for file in made]
    report.write("mini")
    assert [file.read_bytes() for file in made] == before


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


def test_gallery_works_offline(figures, save):
    save([SEEN])
    save(item="00_start_here")
    report.write("mini")
    text = (figures / "index.html").read_text()
    page = Page(text)
    for target in page.targets:
        assert not target.startswith("http")
        if not target.startswith("#") and not target.endswith(".ipynb"):
            assert (figures / target).is_file(), target
    assert f"{ITEM}.png" in page.targets
    assert "1 reproduced" in text
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text
    for item in catalogue.load().values():
        assert item.title in unescape(text)


def test_coverage_lists_every_item():
    assert len(readme.coverage().splitlines()) == 2 + len(catalogue.load())


def test_the_tables_of_the_readme_are_up_to_date():
    text = (paths.ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.readme(text) == text
    assert (paths.MODELS / "README.md").read_text() == readme.models_md()
    with pytest.raises(ValueError, match="coverage"):
        readme.readme(text.replace("<!-- coverage -->", ""))

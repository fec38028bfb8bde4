"""Two pages and a file that hold every claim, and the tables of the README."""

import html.parser
import json
import re
from dataclasses import replace
from html import unescape

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest

from docs import models, pages, readme, report, results
from lib import paths
from lib.claims import evidence, findings, papers
from lib.claims.errors import errors
from lib.claims.findings import Finding
from lib.measures.bootstrap import Estimate
from workflow import catalogue

ITEM = "i0t/fig2_gap_severity"
MAIN = "mini-clip"
TABLE = pd.DataFrame({"distance": [0.1, 1 / 3], "separability": [1, 2]})
SEEN = Finding(
    "i0t-3", Estimate(1 / 3, 0.3, 0.36), "reproduced", "slope > 0", note="a | b", amended="In May.",
    seeds={"seed 1": "inconclusive"},
)  # fmt: skip


def finding(claim="i0t-3", measured=1.0, verdict="inconclusive", rule="r", **more) -> Finding:
    return Finding(claim, measured, verdict, rule, **more)


ON_A_TOY = finding(verdict="reproduced", model="toy: a circle", rule="round")


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
    save([SEEN, finding("i0t-4", model="published CLIP", data="500 pairs"), ON_A_TOY])
    report.write("mini")
    text = (figures / "RESULTS.md").read_text()
    rows = [line for line in text.splitlines() if re.match(r"\| \[\w+-\d+\]\(#", line)]
    assert len(rows) == len(papers.claims())
    # A bar within a text is escaped, so that every row has the same number of cells.
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {9}
    of = {re.match(r"\| \[([\w-]+)\]", row).group(1): row.split(" | ") for row in rows}
    assert of["i0t-3"][3:6] == ["", "reproduced (fragile)", "reproduced"]
    assert of["i0t-4"][3:6] == ["inconclusive", "", ""]
    first = text.partition("## Five findings")[0]
    tally = dict(re.findall(r"^\| (I0T|All) \| (.*) \|$", first, flags=re.MULTILINE))
    assert tally["I0T"] == "20 | 1 inconclusive | 1 reproduced | 1 reproduced"
    assert tally["All"].startswith(f"{len(papers.claims())} | ")
    for claim in papers.claims():
        assert text.count(f'<a id="{claim.id.replace("_", "-")}"></a>') == 1


def test_a_finding_is_told_in_full(figures, save):
    save([SEEN])
    report.write("mini")
    text = (figures / "RESULTS.md").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("- **reproduced** on")]
    assert f"on {MAIN} (small models): 0.333 [0.3, 0.36]." in line
    assert f"]({pages.relative(paths.NOTEBOOKS / f'{ITEM}.ipynb', figures)})" in line
    for part in ("Rule: slope > 0", "Fragile: seed 1 is inconclusive.", "In May.", "a | b"):
        assert part in line
    assert "Because: " not in line
    assert text.count("[0.3, 0.36]") == 1


def test_claims_beyond_the_four_papers_are_told_apart(figures, save):
    save([SEEN])
    report.write("mini")
    assert "Beyond the four papers" not in (figures / "RESULTS.md").read_text()
    save([SEEN, finding("beyond-1"), finding("beyond-6")])
    report.write("mini")
    text = (figures / "RESULTS.md").read_text()
    first, _, beyond = text.partition("## Beyond the four papers")
    assert "beyond-1" not in first
    assert "[arXiv 2404.07983](https://arxiv.org/abs/2404.07983), Sect. 6.1" in beyond
    assert "hypothesis of this collection. What would change our mind: If a label set" in beyond
    assert len(re.findall(r"\*\*inconclusive\*\* on", beyond)) == 2


def test_a_rule_that_is_the_same_is_said_once(figures, save):
    same = finding(model="published CLIP", rule="slope > 0")
    save([SEEN, same, finding(model="mini-rn", rule="another rule")])
    report.write("mini")
    text = (figures / "RESULTS.md").read_text()
    assert text.count("Rule: slope > 0") == text.count("Rule: another rule") == 1


def test_plain_words_are_shown_for_the_verdict_they_were_written_for(figures, save):
    plain = results.five()[0]
    kept = finding(plain.claim, "x", plain.verdict, model=plain.model, aspect=plain.aspect)
    save([kept])
    report.write("mini")
    assert plain.text in (figures / "RESULTS.md").read_text()
    save([replace(kept, verdict="inconclusive")])
    report.write("mini")
    assert plain.text not in (figures / "RESULTS.md").read_text()


def test_the_record_has_the_five_findings():
    found = findings.collect(evidence.read())
    assert len(results.five()) == 5
    for plain in results.five():
        assert results.row_of(plain, found) is not None, plain


def test_errors_name_a_notebook_that_is_there():
    assert len(errors()) > 20
    for error in errors():
        assert (paths.NOTEBOOKS / f"{error.notebook}.ipynb").is_file()
        assert error.notebook.startswith(f"{error.paper}/")


@pytest.mark.parametrize(
    ("verdicts", "seeds", "said"),
    [
        ([("mini-clip", "reproduced")], {}, ""),
        ([("mini-clip", "reproduced")], {"seed 1": "reproduced"}, "yes"),
        ([("mini-clip", "reproduced")], {"seed 1": "inconclusive"}, "no"),
        ([("mini-clip", "reproduced"), ("mini-clip-seed1", "reproduced")], {}, "yes"),
        ([("mini-clip", "reproduced"), ("mini-clip-seed1", "inconclusive")], {}, "no"),
        ([("mini-clip", "reproduced"), ("mini-rn", "inconclusive")], {}, ""),
    ],
)
def test_whether_seeds_agree(verdicts, seeds, said):
    made = [
        {"item": ITEM, "kind": "mini"} | finding(verdict=verdict, model=model).as_json()
        for model, verdict in verdicts
    ]
    made[0]["seeds"] = seeds
    found = findings.collect(made)
    assert results.seeds(found[found.claim == "i0t-3"]) == said


def test_results_json_holds_every_finding(figures, save):
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
    assert first.fragile == "seed 1 is inconclusive"
    assert found.loc[("i0t-4", MAIN), "differs_because"] == "It shrank."
    assert content["claims"]["i0t-4"] == {
        "real": "reproduced",
        "mini": "inconclusive",
        "toy": "",
    }
    assert found.loc[("i0t-5", MAIN), "differs_because"] == "No data."


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


def test_coverage_lists_every_item_and_what_is_left_out():
    rows = readme.coverage().splitlines()[2:]
    assert len(rows) == len(catalogue.load()) + len(readme.left_out())
    assert sum("Left out: " in row for row in rows) == len(readme.left_out())
    for each in readme.left_out():
        assert each["paper"] in papers.KEYS and each["why"]


def test_the_sentence_below_the_first_picture_is_the_notebooks(tmp_path):
    said = nbformat.v4.new_output(
        "execute_result", {"text/markdown": "**0.85** apart ", "text/plain": ""}
    )
    picture = nbformat.v4.new_output("display_data", {"image/png": "", "text/plain": ""})
    cells = [nbformat.v4.new_code_cell(id=pages.FIRST), nbformat.v4.new_code_cell(outputs=[said])]
    file = tmp_path / "start.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), file)
    assert pages.sentence(file) == ""  # it was not run; what other cells say does not count
    cells[0].outputs = [said, picture]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), file)
    assert pages.sentence(file) == "**0.85** apart"
    start = catalogue.load()["00_start_here"].notebook
    assert pages.FIRST in [cell.id for cell in nbformat.read(start, as_version=4).cells]


def test_the_five_lines_are_those_of_the_record():
    found = findings.collect(evidence.read())
    lines = results.in_five_lines(found, paths.ROOT).splitlines()
    assert len(lines) == len(results.five()) == 5
    for line, plain in zip(lines, results.five(), strict=True):
        assert f"{plain.text} {plain.verdict.capitalize()} on {plain.model}: [" in line
    turned = found.assign(verdict=found.verdict.replace("reproduced", "inconclusive"))
    assert len(results.in_five_lines(turned, paths.ROOT).splitlines()) < 5


def test_what_the_readme_shows_and_links_is_there():
    text = (paths.ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#][^)]*)\)", text)
    assert "figures/mini/00_start_here.png" in targets
    for target in targets:
        assert target.startswith("http") or (paths.ROOT / target).exists(), target


def test_the_tables_of_the_readme_are_up_to_date():
    text = (paths.ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.readme(text) == text
    assert f"Here are {len(catalogue.load())} Jupyter notebooks" in text
    assert (paths.MODELS / "README.md").read_text() == models.page()
    with pytest.raises(ValueError, match="coverage"):
        readme.readme(text.replace("<!-- coverage -->", ""))

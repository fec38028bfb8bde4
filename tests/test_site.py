"""The website: every link leads somewhere, nothing comes from the internet, colours can be read."""

import fcntl
import html.parser
import json
import os
import re
from html import unescape
from urllib.parse import unquote, urlsplit

import pytest

from docs import live_data, results, site
from docs.pages import TEMPLATES
from lib import paths
from lib.claims import evidence, findings, papers, verdicts
from workflow import catalogue

for package in ("myst_nb", "furo", "latex2mathml"):
    pytest.importorskip(package, reason="pip install -e '.[site]'")

# MyST-NB uses what the next major version of Sphinx will not have; the lock holds this one.
pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")

FROM_A_PAGE = {"a": "href", "link": "href", "script": "src", "img": "src", "source": "srcset"}


class Page(html.parser.HTMLParser):
    """What a page links to and loads, its ids, and its pictures without a text."""

    def __init__(self, text: str):
        super().__init__()
        self.links, self.loads, self.ids, self.silent, self.maths = [], [], set(), [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids.add(values.get("id"))
        self.maths += tag == "math"
        if tag == "img" and values.get("alt") is None:
            self.silent.append(values)
        if target := values.get(FROM_A_PAGE.get(tag, "src")):
            (self.links if tag == "a" else self.loads).append(target)


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The whole site, built once for all processes that test: a notebook may have a bad link."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    with (shared / "site.lock").open("w") as lock, pytest.MonkeyPatch.context() as patch:
        fcntl.flock(lock, fcntl.LOCK_EX)
        patch.setattr(paths, "CACHE", shared / "site-cache")
        target = shared / "site"
        return (target if target.exists() else site.build("mini", target)).resolve()


@pytest.fixture(scope="session")
def pages(built):
    files = built.rglob("*.html")
    found = {file: Page(file.read_text(encoding="utf-8")) for file in files}
    assert len(found) > len([i for i in catalogue.load().values() if i.notebook.exists()])
    return found


def test_every_link_leads_somewhere(built, pages):
    for file, page in pages.items():
        for target in [*page.links, *page.loads]:
            parts = urlsplit(target)
            if parts.scheme or "search.html" in file.name:
                continue
            to = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            assert to.is_file() and to.is_relative_to(built), (file.name, target)
            place = parts.fragment if to in pages and "=" not in parts.fragment else ""
            assert not place or place in pages[to].ids, (file.name, target)


def test_the_start_page_leads_everywhere(built, pages):
    reached = {unquote(urlsplit(link).path) for link in pages[built / "index.html"].links}
    sections = (f"{key}/index.html" for key in papers.KEYS)
    actions = re.findall(r'class="action" href="([^"]+)"', (built / "index.html").read_text())
    assert actions[0] == "try.html"
    assert {
        "00_start_here.html",
        "try.html",
        "gallery.html",
        "results.html",
        "glossary.html",
    } <= reached
    assert reached.issuperset(sections)
    assert "infonce" in pages[built / "glossary.html"].ids


def test_the_start_page_shows_first_what_is_to_be_seen_first(built, pages):
    text = (built / "index.html").read_text(encoding="utf-8")
    order = ["try.html", "figures/00_start_here.png", "<h2>What was found", "<h2>Where to begin"]
    places = [text.index(each, text.index('class="lead"')) for each in order]
    assert places == sorted(places)
    assert all(each.text in unescape(text) for each in results.five())
    ways = {unquote(link) for link in pages[built / "index.html"].links}
    assert {"mind_the_gap/fig3_loss_landscape.html", "beyond/audit_of_the_negatives.html"} <= ways
    assert "CONTRIBUTING.md" in text and not any(".md" in link for link in ways)


def test_nothing_is_loaded_from_the_internet(built, pages):
    for file, page in pages.items():
        for target in page.loads:
            assert urlsplit(target).scheme in ("", "data"), (file.name, target)
            assert not target.startswith("//"), (file.name, target)
        assert "@import" not in file.read_text(encoding="utf-8")
    for file in built.rglob("*.css"):
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"@import|url\(\s*[\"']?(https?:)?//", text), file.name


def test_an_item_has_its_figure_data_source_and_verdicts(built, pages):
    for item in catalogue.load().values():
        file = built / f"{item.name}.html"
        if not item.notebook.exists():
            assert not file.exists()
            continue
        text = file.read_text(encoding="utf-8")
        drawn = (paths.FIGURES / "mini" / f"{item.name}.png").is_file()
        suffixes = ("png", "csv", "json") if drawn else ()
        its = [finding for finding in evidence.read() if finding["item"] == item.name]
        for place in (
            f"notebooks/{item.name}.ipynb",
            *(f"figures/{item.name}.{suffix}" for suffix in suffixes),
        ):
            assert (built / place).is_file()
            assert f'{"../" * item.name.count("/")}{place}"' in text
        assert text.count('<details class="finding">') == len(its)
        assert not pages[file].silent
        assert "$" not in re.sub(r"(?s)<(pre|script|style|code)\b.*?</\1>", "", text), item.name


def test_formulas_are_drawn_without_a_script(built, pages):
    assert pages[built / "i0t/fig3_activation_patterns.html"].maths > 20
    assert "mathjax" not in "".join(file.read_text().lower() for file in pages)
    assert site.mathml(r"\bar x").startswith("<math")
    rows = site.mathml(r"\begin{aligned} a &= \arg\min b \\ \text{I0T\_post} &= c \end{aligned}")
    assert rows.count("<mtr>") == 2 and "I0T_post" in rows and "<mo>arg</mo>" in rows
    with pytest.raises(ValueError, match="cannot draw"):
        site.mathml(r"\unheardof x")


def test_the_table_of_results_is_there_without_a_script(built):
    text = (built / "results.html").read_text(encoding="utf-8")
    found = findings.collect(evidence.read())
    assert len(re.findall('<tr id="[^"]+" data-paper=', text)) == len(papers.claims())
    assert text.count("<b>Rule") >= found.claim.nunique() - (found.verdict == "planned").sum()
    assert re.search(r'<div id="filters"[^>]* hidden>', text)
    content = json.loads((built / "results.json").read_text())
    assert set(content["claims"]) == {claim.id for claim in papers.claims()}
    for count in verdicts.by_kind(found)[[*verdicts.KINDS]].agg(verdicts.in_numbers):
        assert f">{count or '–'}</td>" in text
    for claim in papers.claims():
        assert claim.where.replace("&", "&amp;") in text


def test_pages_fit_a_phone_and_can_be_searched(built, pages):
    for file in pages:
        assert 'name="viewport"' in file.read_text()
    index = (built / "searchindex.js").read_text()
    for item in catalogue.load().values():
        assert (f'"{item.name}"' in index) == item.notebook.exists()


# Colours ------------------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


STYLES = {"site": TEMPLATES / "static" / "site.css", "live": live_data.SOURCES / "live.css"}
LINES = {"line", "image", "text", "pair", "gap"}  # of the live page: in no letters


@pytest.mark.parametrize("style", STYLES)
def test_contrast(style):
    text = STYLES[style].read_text(encoding="utf-8")
    blocks = [dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in text.split("}")]
    light, *others = [block for block in blocks if "page" in block]
    dark, dark_by_system = others
    assert dark == dark_by_system and light.keys() == dark.keys()
    for theme in (light, dark):
        for name in theme.keys() - {"page", "card"} - (LINES if style == "live" else set()):
            for ground in ("page", "card"):
                assert contrast(theme[name], theme[ground]) >= 4.5, (name, ground)
    assert round(contrast("#000000", "#ffffff")) == 21

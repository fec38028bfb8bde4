"""The website: a page for every notebook with its figure and verdicts, a gallery, all results.

`build` writes Markdown pages and copies of the notebooks, with a header each, to a folder in the
cache; Sphinx with MyST-NB makes HTML of them. Nothing is run, and nothing comes from the internet:
formulas become MathML when the site is built, which browsers draw without a script.
`./run_all.sh --site` calls it.
"""

import argparse
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pandas as pd

from docs import live_data, pages, report, results
from lib import paths, profiles
from lib.claims import elsewhere, evidence, findings, papers, verdicts
from lib.claims.errors import errors
from workflow import catalogue, freshness, notebooks

TARGET = paths.ROOT / "site"
GLOSSARY = paths.NOTEBOOKS / "glossary.md"
TITLE = "The modality gap, reproduced"
# What latex2mathml does not know, in words that it knows.
WRITTEN_OTHERWISE = {
    r"\arg": r"\operatorname{arg}",
    r"\_": "_",
    r"\%": "%",
    r"\begin{aligned}": r"\begin{array}{rl}",
    r"\end{aligned}": r"\end{array}",
}
FEATURED = (
    *("mind_the_gap/fig1_modality_gap", "i0t/fig1_scored_pairs"),
    *("i0t/fig3_activation_patterns", "alignclip/fig2_shared_architecture"),
)
# Where a link of the README leads on the site; other files of the repository are not on it.
ON_THE_SITE = {"RESULTS.md": "results.md", "#the-site": "try.md"}


def build(profile_name: str, target: Path | None = None) -> Path:
    """Build the site of a profile; the whole of it is put in place at the end.

    Args:
        profile_name: whose figures and findings are shown.
        target: the folder of the site, `site/` by default; what it held is replaced.

    Returns: the folder.

    Raises: ValueError if Sphinx warns of anything, e.g. of a link that leads nowhere, and for a
        model of the user's own, which only some notebooks have run with.
    """
    if profiles.load(profile_name).source:
        raise ValueError(f"A model of your own has its page in figures/{profile_name}/index.html: "
            "the site shows all notebooks, and not all have run with it.")  # fmt: skip
    target = target or TARGET
    work = paths.CACHE / f"site-src-{os.getpid()}"
    try:
        Source(work / "source", profile_name).write()
        _sphinx(work)
        if target.exists():
            shutil.rmtree(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(work / "html", target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


# Sphinx -------------------------------------------------------------------------------------------


def _sphinx(work: Path) -> None:
    from sphinx.application import Sphinx

    warnings = io.StringIO()
    Sphinx(
        *(work / "source", pages.TEMPLATES, work / "html", work / "doctrees", "html"),
        confoverrides={"html_extra_path": [str(work / "source" / "_files")]},
        status=None,
        warning=warnings,
    ).build()
    if text := warnings.getvalue().strip():
        raise ValueError(f"The site has faults:\n{text.replace(str(work), '')}")
    for needless in (".buildinfo", "objects.inv"):
        (work / "html" / needless).unlink(missing_ok=True)
    shutil.rmtree(work / "html" / "_sources", ignore_errors=True)
    (work / "html" / ".nojekyll").touch()  # or a code host would hide folders called _…


def setup(app) -> dict:
    """Sphinx calls this: formulas as MathML."""
    app.add_html_math_renderer("mathml", (_inline_formula, None), (_formula, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def mathml(latex: str, display: str = "inline") -> str:
    """A formula in LaTeX as MathML, with its source as the text for those who cannot see it."""
    from latex2mathml.converter import convert

    for unknown, known in WRITTEN_OTHERWISE.items():
        latex = latex.replace(unknown, known)
    formula = convert(latex, display=display)
    if "\\" in formula or ">&<" in formula:
        raise ValueError(f"The site cannot draw this formula: {latex}")
    return formula


def _inline_formula(writer, node) -> None:
    from docutils.nodes import SkipNode

    writer.body.append(mathml(node.astext()))
    raise SkipNode


def _formula(writer, node) -> None:
    from docutils.nodes import SkipNode

    formula = mathml(node.astext(), "block")
    writer.body.append(f'<div class="formula" tabindex="0">{formula}</div>\n')
    raise SkipNode


# The pages ----------------------------------------------------------------------------------------


class Source:
    """The pages that Sphinx reads, in a folder."""

    def __init__(self, folder: Path, profile_name: str):
        self.folder, self.which = folder, profiles.load(profile_name)
        self.figures = paths.FIGURES / profile_name
        items = catalogue.load()
        self.items = {name: item for name, item in items.items() if item.written}
        # Of the default profile the record is shown: what is committed, outputs included.
        self.recorded = profile_name == profiles.FULL
        made = evidence.read() if self.recorded else findings.made(profile_name, items)
        self.found = findings.collect(made)
        self.every = pd.concat([self.found, findings.beyond(made)])  # for the items' own pages
        self.kinds = verdicts.by_kind(self.found)
        self.templates = pages.templates()

    def write(self) -> None:
        for item in self.items.values():
            self._put(f"{item.name}.ipynb", self.notebook(item))
            self._copy_files(item)
        used = [s for s in pages.SECTIONS if s != pages.START and self.of_section(s)]
        for section in used:
            self._put(f"{section}/index.md", self.section(section))
        self._put("gallery.md", self.gallery(used))
        self._put("results.md", self.results())
        self._put("index.md", self.start(used))
        self._put("try.md", self.live())
        self._put("glossary.md", GLOSSARY.read_text(encoding="utf-8"))
        found = report.results_json(self.found)
        self._put("_files/results.json", json.dumps(found, ensure_ascii=False, indent=1))

    def _put(self, name: str, text: str) -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text, encoding="utf-8")

    def _copy_files(self, item: catalogue.Item) -> None:
        files = [file for file in notebooks.figures(self.which.name, item.name) if file.is_file()]
        places = [(file, Path("figures", item.name).with_suffix(file.suffix)) for file in files]
        notebook = self.executed(item), Path("notebooks", f"{item.name}.ipynb")
        for file, place in [*places, notebook]:
            copy = self.folder / "_files" / place
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)

    def _html(self, template: str, page: str, **values) -> str:
        """A template as a block of MyST; `top` leads from the page to the start of the site."""
        top = "../" * page.count("/")
        text = self.templates.get_template(template).render(top=top, **values)
        return f"\n``````{{raw}} html\n{text.strip()}\n``````\n"

    def of_section(self, section: str) -> list[catalogue.Item]:
        return [item for item in self.items.values() if item.paper == section]

    def card(self, item: catalogue.Item) -> dict:
        return pages.card(item, self.every, self.figures, f"{item.name}.html")

    def executed(self, item: catalogue.Item) -> Path:
        """The notebook with outputs of this profile: those of the default one are committed."""
        if self.recorded:
            return item.notebook
        copy = notebooks.executed(self.which.name, freshness.stamp(self.which, item.name))
        return copy if copy.is_file() else item.notebook

    def notebook(self, item: catalogue.Item) -> str:
        """The notebook with a header below its title, and a text for each of its pictures."""
        notebook = nbformat.read(self.executed(item), as_version=4)
        title, _, rest = notebook.cells[0].source.partition("\n")
        card = self.card(item)
        header = self._html("item.html.j2", item.name, card=card)
        notebook.cells[0].source = f"{title}\n{header}\n{rest}"
        part = item.title
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                headings = [line for line in cell.source.splitlines() if line.startswith("## ")]
                part = headings[-1].strip("# ") if headings else part
            else:
                cell.metadata["mystnb"] = {"image": {"alt": f"{item.where}: {part}"}}
        return nbformat.writes(notebook)

    def section(self, section: str) -> str:
        """The page of a paper: what became of its claims, and its figures."""
        own = self.of_section(section)
        entries = [f"{item.where}: {item.title} <{item.name.rpartition('/')[2]}>" for item in own]
        page = f"{section}/index"
        counted = section in papers.KEYS
        count = results.tally(self.kinds)[papers.KEYS.index(section)] if counted else None
        entry = papers.paper(section) if counted else None
        items = catalogue.load().values()
        planned = [item for item in items if item.paper == section and not item.written]
        header = self._html("section.html.j2", page, entry=entry, count=count,
            url=pages.source(section), section=section, planned=planned,
            cards=[self.card(item) for item in own])  # fmt: skip
        return f"# {pages.heading(section)}\n{header}\n{_contents(entries)}"

    def gallery(self, sections: list[str]) -> str:
        parts = ["# Gallery", "", "Every figure and table; each leads to its notebook."]
        for section in (pages.START, *sections):
            cards = [self.card(item) for item in self.of_section(section)]
            parts += [f"\n## {pages.heading(section)}"] if section else []
            parts += [self._html("cards.html.j2", "gallery", cards=cards)] if cards else []
        return "\n".join(parts)

    def results(self) -> str:
        page = self._html("results.html.j2", "results", profile=self.which.name,
            bundles=results.by_kind(evidence.bundles()) if self.recorded else [],
            tally=results.tally(self.kinds), rule=verdicts.RULE, fragile=verdicts.FRAGILE,
            negatives=results.negatives(self.found, self.kinds),
            five=self.five(), numbers=True,
            errors=errors(), claims=[*self.claims()], labels=verdicts.KINDS,
            papers=[pages.heading(key) for key in papers.KEYS], verdicts=verdicts.OUTCOMES,
            heading=pages.heading)  # fmt: skip
        return f"# Results\n{page}"

    def claims(self) -> Iterator[dict]:
        """What the table of claims shows of each."""
        for claim, its in self.found.groupby("claim", sort=False):
            outcomes = {kind: self.kinds.loc[claim, kind] for kind in verdicts.KINDS}
            yield self.finding(its.iloc[0]) | {
                "id": claim,
                "outcomes": outcomes,
                "classes": {k: results.class_of(its, k, v) for k, v in outcomes.items()},
                "audit": verdicts.class_of(its),
                "audit_why": verdicts.why(its),
                "fragile": {k: results.fragile(its[its.kind == k]) for k in outcomes},
                "seeds_agree": results.seeds(its),
                "elsewhere": elsewhere.of(claim),
                "findings": [self.finding(row) for _, row in its.iterrows() if row["item"]],
            }  # fmt: skip

    def finding(self, row: pd.Series) -> dict:
        page = f"{row['item']}.html" if row["item"] in self.items else ""
        return pages.finding(row) | {"page": page}

    def live(self) -> str:
        """The page on which a small CLIP runs, with its scripts and their data."""
        more = live_data.write(self.folder / "_files" / "live")
        page = self._html("live.html.j2", "try", scripts=live_data.SCRIPTS, more=more)
        return f"# Try it: a small CLIP in this page\n{page}"

    def five(self) -> list[tuple[str, dict]]:
        """The findings that the site begins with: each in plain words, and as it was made."""
        plain = [(each, results.row_of(each, self.found)) for each in results.five()]
        return [(each.text, self.finding(row)) for each, row in plain if row is not None]

    def start(self, sections: list[str]) -> str:
        first = self.of_section(pages.START)[:1]
        card, found = self.card(first[0]) if first else None, self.five()
        parts = [f"# {TITLE}"]
        parts += [self._html("start.html.j2", "index", n=len(self.items), card=card)]
        parts += [pages.sentence(self.executed(item)) for item in first]
        if found:
            parts += [
                "## What was found",
                self._html("five.html.j2", "index", five=found, numbers=False),
            ]
        parts += ["## Where to begin", ways_in()]
        featured = [self.card(self.items[name]) for name in FEATURED if name in self.items]
        parts += [self._html("start_rest.html.j2", "index", tally=results.tally(self.kinds),
            rule=verdicts.RULE, cards=featured,
            papers=[(pages.source(k), papers.paper(k)) for k in papers.KEYS])]  # fmt: skip
        sections = [f"{pages.heading(section)} <{section}/index>" for section in sections]
        names = [item.name for item in first]
        entries = ["try", *names, "gallery", "results", "glossary", *sections]
        return "\n\n".join([*parts, _contents(entries)])


def ways_in() -> str:
    """The README's table of what to read first, with the links that the site has."""
    text = (paths.ROOT / "README.md").read_text(encoding="utf-8")
    table = text.partition("<!-- ways -->\n")[2].partition("<!-- end -->")[0]
    return re.sub(r"\[([^]]+)\]\(([^)]+)\)", _on_the_site, table)


def _on_the_site(link: re.Match) -> str:
    words, target = link.groups()
    to = ON_THE_SITE.get(target) or target.removeprefix("notebooks/")
    is_here = target in ON_THE_SITE or target.startswith("notebooks/")
    return f"[{words}]({to})" if is_here else f"{words} (`{target.partition('/')[0]}`)"


def _contents(entries: list[str]) -> str:
    """The entries of the navigation below this page."""
    lines = "\n".join(entries)
    return f"```{{toctree}}\n:hidden:\n\n{lines}\n```\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m docs.site", description=__doc__)
    parser.add_argument("--profile", default=profiles.FULL)
    try:
        folder = build(parser.parse_args(arguments).profile)
    except ValueError as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 1
    print(f"Website: {folder.relative_to(paths.ROOT) / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What a run found: RESULTS.md, results.json, bundles, and a gallery that opens in any browser.

`python -m docs.report --profile NAME` writes them to `figures/<profile>/` and says how the run
compares with the record.
"""

import argparse
import sys

import pandas as pd

from docs import bundles, pages, results
from lib import files, paths, profiles
from lib.claims import evidence, findings, verdicts
from workflow import catalogue

# results.json -------------------------------------------------------------------------------------


def results_json(found: pd.DataFrame) -> dict:
    """Every finding, and what became of every claim by kind of evidence, for programs."""
    kinds = verdicts.by_kind(found)
    return {
        "counting": verdicts.RULE,
        "kinds": verdicts.KINDS,
        "claims": kinds.drop(columns="paper").to_dict(orient="index"),
        "findings": [_entry(row) for _, row in found.iterrows()],
    }


def _entry(row: pd.Series) -> dict:
    kept = ("claim", "paper", "where", "text", "paper_value", "kind", "model", "data", "aspect",
        "verdict", "rule", "note", "amended", "fragile", "seeds", "class", "why")  # fmt: skip
    return {key: row[key] for key in kept} | {
        "value": None if pd.isna(row.measured) else row.measured,
        "interval": None if pd.isna(row.low) else [row.low, row.high],
        "notebook": f"notebooks/{row['item']}.ipynb" if row["item"] else None,
        "differs_because": row.reason,
    }


# The gallery --------------------------------------------------------------------------------------


def index_html(found: pd.DataFrame, profile_name: str) -> str:
    """One static page: every figure with its verdicts, and what is still missing."""
    folder, which = paths.FIGURES / profile_name, profiles.load(profile_name)
    sections = []
    for section in pages.SECTIONS:
        items = [item for item in catalogue.load().values() if item.paper == section]
        cards = [pages.card(item, found, folder, _leads_to(item, which)) for item in items]
        drawn = [card for card in cards if card["drawn"]]
        missing = [card for card in cards if not card["drawn"]]
        sections.append((pages.heading(section), drawn, missing))
    css = (pages.TEMPLATES / "static" / "site.css").read_text(encoding="utf-8")
    page = pages.templates().get_template("gallery.html.j2")
    return page.render(about=_main_model(which), own=which.source, sections=sections, style=css)


def _leads_to(item: catalogue.Item, which: profiles.Profile) -> str:
    """The notebook of an item; its figure where a model of the user's own is shown, because the
    outputs that are kept in the notebook are of others."""
    if which.source:
        return f"{item.name}.pdf"
    return pages.relative(item.notebook, paths.FIGURES / which.name)


def _main_model(which: profiles.Profile) -> str:
    """Of which profile a page is, and of which model, where it is the user's own."""
    if not which.source:
        return f"profile {which.name}"
    beside = f", beside {', '.join(which.also)}" if which.also else ""
    return f"{which.models['clip']} ({which.source}) on the data set {which.pairs}{beside}"


# Writing ------------------------------------------------------------------------------------------


def write(profile_name: str) -> str:
    """Write RESULTS.md, results.json, index.html and bundles; returns the comparison."""
    folder = paths.FIGURES / profile_name
    made = findings.made(profile_name, catalogue.load())
    found, beyond = findings.collect(made), findings.beyond(made)
    which = profiles.load(profile_name)
    about = (
        f"Every claim of the four papers, and what became of it in profile `{profile_name}`, as "
        "`./run_all.sh` found it on this machine. For programs, [results.json](results.json); to "
        "be added to the record, the files in [evidence/](evidence)."
    )
    if which.source:
        kind = verdicts.KINDS[which.evidence]
        about = (
            f"Every claim of the four papers, and what became of it for {_main_model(which)}, as "
            f"far as one model can tell. Its findings are counted as {kind}, the kind of the data."
        )
    files.write_text(folder / "RESULTS.md", results.results_md(found, beyond, [about], folder))
    files.write_json(folder / "results.json", results_json(found))
    files.write_text(folder / "index.html", index_html(pd.concat([found, beyond]), profile_name))
    evidence.write(bundles.make(profile_name, made), folder / "evidence")
    record = evidence.of_sources(made, profile_name)
    if not record:
        return "The record (evidence/) holds no findings of this profile."
    return str(evidence.compare(made, record))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m docs.report", description=__doc__)
    parser.add_argument("--profile", default="mini")
    name = profiles.load(parser.parse_args(arguments).profile).name
    comparison = write(name)
    folder = paths.FIGURES / name
    shown = folder.relative_to(paths.ROOT) if folder.is_relative_to(paths.ROOT) else folder
    print(f"\nClaims: {shown / 'RESULTS.md'}\nFigures: {shown / 'index.html'}\n\n{comparison}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

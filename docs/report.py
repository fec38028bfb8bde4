"""What a run found: RESULTS.md, the same as results.json, and a gallery that opens in any browser.

`python -m docs.report --profile NAME` writes them to `figures/<profile>/` and says how the run
compares with the record.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from docs import pages
from lib import files, paths, profiles
from lib.claims import evidence, findings, papers, verdicts
from workflow import catalogue

# RESULTS.md ---------------------------------------------------------------------------------------


def results_md(found: pd.DataFrame, main_model: str, intro: str, base: Path) -> str:
    """Every claim of the papers, paper by paper, with its verdict.

    Args:
        found: one row per finding (`findings.collect`).
        main_model: whose findings count for "by the main model alone".
        intro: what the findings are, in a sentence.
        base: the folder of the page, for its links.
    """
    claims = verdicts.by_claim(found, main_model)
    lines = [
        "# Results",
        "",
        f"{intro} A verdict follows a rule that was written down before its run; some rules were "
        "written when other results were known, and each notebook says when. Brackets are 95 % "
        "intervals.",
        "",
        f"**In short: {verdicts.counts_in_words(claims['all'])}.** {verdicts.RULE} "
        f"By the main model alone, {verdicts.counts_in_words(claims.main)}.",
        "",
        *pages.table(_totals(found, claims, "claims")),
        "",
        "Findings, of which a claim may have several, on other models or data:",
        "",
        *pages.table(_totals(found, claims, "findings")),
    ]
    for key in papers.KEYS:
        title = f"[{papers.paper(key).title}]({pages.source(key)})"
        lines += ["", f"## {pages.heading(key)}", "", title, ""]
        rows = [row for _, row in found[found.paper == key].iterrows()]
        above = [None, *rows]
        lines += pages.table(
            [_line(row, last, base) for last, row in zip(above, rows, strict=False)]
        )
    return "\n".join(lines) + "\n"


def _totals(found: pd.DataFrame, claims: pd.DataFrame, what: str) -> list[dict]:
    """Claims or findings by verdict, paper by paper and in all."""
    rows = []
    for key in (*papers.KEYS, None):
        count = pages.of_paper(found, claims, key)
        name = pages.heading(key) if key else "All"
        rows.append({"Paper": name, what.capitalize(): count[what]} | count[f"{what} by verdict"])
    return rows


def _line(row: pd.Series, above: pd.Series | None, base: Path) -> dict:
    """A finding; what the one above says of the same claim is not said again."""
    more = above is not None and above.number == row.number
    rule = "" if more and above.rule == row.rule else row.rule
    notebook = pages.link(row["item"], paths.NOTEBOOKS / f"{row['item']}.ipynb", base)
    why = [rule and f"Rule: {rule}", row.amended, row.reason and f"Because: {row.reason}", row.note]
    on = pages.measured_on(row)
    return {
        "#": "" if more else row.number,
        "Claim": "" if more else f"{row.text} ({row['where']})",
        "Paper": "" if more else row.paper_value,
        "Here": " ".join(filter(None, [pages.measured(row), f"({on})" if on else ""])),
        "Verdict": "<br>".join([f"**{row.verdict}**", *filter(None, why)]),
        "Notebook": notebook if row["item"] else "",
    }


# results.json -------------------------------------------------------------------------------------


def results_json(found: pd.DataFrame, main_model: str) -> dict:
    """Every finding and the counts, for programs."""
    claims = verdicts.by_claim(found, main_model)
    rules = {
        "claims by verdict": verdicts.RULE,
        "claims by verdict on the main model": verdicts.MAIN_RULE,
    }
    summary = {key: pages.of_paper(found, claims, key) for key in papers.KEYS}
    return {
        "main model": main_model,
        "counting": rules,
        "summary": summary | {"all": pages.of_paper(found, claims)},
        "findings": [_entry(row, claims) for _, row in found.iterrows()],
    }


def _entry(row: pd.Series, claims: pd.DataFrame) -> dict:
    kept = ("claim", "paper", "where", "text", "paper_value", "model", "data", "aspect", "verdict",
        "rule", "note", "amended")  # fmt: skip
    return {key: row[key] for key in kept} | {
        "value": None if pd.isna(row.measured) else row.measured,
        "interval": None if pd.isna(row.low) else [row.low, row.high],
        "claim_verdict": claims.loc[row.claim, "all"],
        "notebook": f"notebooks/{row['item']}.ipynb" if row["item"] else None,
        "differs_because": row.reason,
    }


# The gallery --------------------------------------------------------------------------------------


def index_html(found: pd.DataFrame, profile_name: str) -> str:
    """One static page: every figure with its verdicts, and what is still missing."""
    folder = paths.FIGURES / profile_name
    sections = []
    for section in pages.SECTIONS:
        items = [item for item in catalogue.load().values() if item.paper == section]
        cards = [
            pages.card(item, found, folder, pages.relative(item.notebook, folder)) for item in items
        ]
        drawn = [card for card in cards if card["drawn"]]
        missing = [card for card in cards if not card["drawn"]]
        sections.append((pages.heading(section), drawn, missing))
    css = (pages.TEMPLATES / "static" / "site.css").read_text(encoding="utf-8")
    page = pages.templates().get_template("gallery.html.j2")
    return page.render(profile=profile_name, sections=sections, style=css)


# Writing ------------------------------------------------------------------------------------------


def write(profile_name: str) -> str:
    """Write RESULTS.md, results.json and index.html; returns the comparison with the record."""
    folder, main = paths.FIGURES / profile_name, profiles.load(profile_name).models["clip"]
    made = findings.made(profile_name, catalogue.load())
    found = findings.collect(made)
    intro = (
        f"Every claim of the four papers, and what became of it in profile `{profile_name}`, as "
        "`./run_all.sh` found it on this machine. For programs, [results.json](results.json)."
    )
    files.write_text(folder / "RESULTS.md", results_md(found, main, intro, folder))
    files.write_json(folder / "results.json", results_json(found, main))
    files.write_text(folder / "index.html", index_html(found, profile_name))
    record, models = evidence.read(), {finding["model"] for finding in made}
    if not any(finding["model"] in models for finding in record):
        return "The record (evidence/) holds no findings on these models."
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

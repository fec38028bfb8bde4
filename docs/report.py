"""All findings: RESULTS.md, the same as results.json, and a gallery that opens in any browser.

`python -m docs.report --profile NAME` writes them; `--readme` brings the tables of the README and of
`models/README.md` up to date instead.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

import jinja2
import pandas as pd

from lib import files, paths, plotting, profiles
from lib.claims import findings, papers, verdicts
from mini import recipes
from workflow import catalogue, freshness

START, BEYOND = "", "beyond"
SECTIONS = (START, *papers.KEYS, BEYOND)  # the folders of the notebooks, in the papers' order
SHORT = {"alignclip": "AlignCLIP"}  # known by the name of its model
MANY = 8  # notebooks that a cell of a table can name


def heading(section: str) -> str:
    """The title of a section: a paper's short name, or what stands beside the papers."""
    if section in (START, BEYOND):
        return "Start here" if section == START else "Beyond the papers"
    return SHORT.get(section) or papers.PAPERS[section].title.partition(":")[0]


def source(section: str) -> str:
    """Where the paper of a section can be read; empty if it has none."""
    entry = papers.PAPERS.get(section)
    return f"https://arxiv.org/abs/{entry.arxiv}" if entry else ""


def number(value: object) -> str:
    """A measured value for people: three digits, or the text as it is."""
    if value is None or value == "" or value != value:
        return ""
    return value if isinstance(value, str) else f"{value:.3g}"


def measured(row: pd.Series) -> str:
    """A finding's value, its interval and its subject, e.g. "0.92 [0.91, 0.93] (mini-rn)"."""
    interval = f"[{number(row.low)}, {number(row.high)}]" if number(row.low) else ""
    subject = f"({row.subject})" if row.subject else ""
    return " ".join(filter(None, [number(row.measured), interval, subject]))


# RESULTS.md ---------------------------------------------------------------------------------------


def results_md(profile_name: str) -> str:
    """Every claim of the four papers, paper by paper, with its verdict."""
    findings = findings.collect(profile_name)
    claims = verdicts.by_claim(findings, profile_name)
    counts = _counts(findings, claims)
    text, data, _ = freshness.report_files(profile_name)
    lines = [
        "# Results",
        "",
        f"Every claim of the four papers, and what became of it in profile `{profile_name}`. "
        "A verdict follows a rule that was written down before its run; some rules were written "
        "when other results were known, and each notebook says when. Brackets are 95 % intervals. "
        f"Written by `./run_all.sh`; for programs, {_link('results.json', data, text.parent)}.",
        "",
        f"**In short: {verdicts.in_words(claims['all'])}.** {verdicts.RULE} "
        f"By the main model alone, {verdicts.in_words(claims.main)}.",
        "",
        *_table(_totals(counts, "claims")),
        "",
        "Findings, of which a claim may have several, on other models or data:",
        "",
        *_table(_totals(counts, "findings")),
    ]
    for key in papers.KEYS:
        lines += ["", f"## {heading(key)}", "", f"[{papers.PAPERS[key].title}]({source(key)})", ""]
        rows = [row for _, row in _of(findings, key).iterrows()]
        pairs = zip([None, *rows], rows, strict=False)
        lines += _table([_line(row, above, profile_name) for above, row in pairs])
    return "\n".join(lines) + "\n"


def _of(findings: pd.DataFrame, key: str) -> pd.DataFrame:
    return findings[findings.paper == key]


def _totals(counts: list[tuple[str, dict]], what: str) -> list[dict]:
    """Claims or findings by verdict, paper by paper and in all."""
    return [
        {"Paper": name, what.capitalize(): count[what]} | count[f"{what} by verdict"]
        for name, count in counts
    ]


def _counts(findings: pd.DataFrame, claims: pd.DataFrame) -> list[tuple[str, dict]]:
    papers = [(heading(key), verdicts.of_paper(findings, claims, key)) for key in papers.KEYS]
    return [*papers, ("All", verdicts.of_paper(findings, claims))]


def _line(row: pd.Series, above: pd.Series | None, profile_name: str) -> dict:
    """A finding; what the one above says of the same claim is not said again."""
    more = above is not None and above.number == row.number
    rule = "" if more and above.rule == row.rule else row.rule
    base = freshness.report_files(profile_name)[0].parent
    notebook = _link(row["item"], paths.NOTEBOOKS / f"{row['item']}.ipynb", base)
    why = [rule and f"Rule: {rule}", row.reason and f"Because: {row.reason}", row.note]
    return {
        "#": "" if more else row.number,
        "Claim": "" if more else f"{row.text} ({row['where']})",
        "Paper": "" if more else row.paper_value,
        "Here": measured(row),
        "Verdict": "<br>".join([f"**{row.verdict}**", *filter(None, why)]),
        "Notebook": notebook if row["item"] else "",
    }


def _table(rows: list[dict]) -> list[str]:
    def line(cells) -> str:
        tidy = (" ".join(str(cell).split()).replace("|", "\\|") for cell in cells)
        return f"| {' | '.join(tidy)} |"

    head = list(rows[0])
    return [line(head), f"|{'---|' * len(head)}", *(line(row.values()) for row in rows)]


def _link(text: str, target: Path, base: Path) -> str:
    return f"[{text}]({_relative(target, base)})"


def _relative(target: Path, base: Path) -> str:
    return Path(os.path.relpath(target, base)).as_posix()


# Coverage -----------------------------------------------------------------------------------------


def coverage(profile_name: str = "mini") -> str:
    """A Markdown table of all items with their status, for the README."""
    rows = []
    for item in catalogue.load().values():
        there = item.notebook.exists()
        rows.append(
            {
                "Paper": heading(item.paper),
                "Where": item.where,
                "Notebook": _link(item.title, item.notebook, paths.ROOT) if there else item.title,
                "Status": item.status(profile_name),
            }
        )
    return "\n".join(_table(rows)) + "\n"


MAIN_MODELS = (
    *("mini-clip", "mini-clip-seed1", "mini-clip-seed2", "mini-clip-untrained", "mini-rn"),
    *("mini-shared", "mini-align", "mini-slip"),
)


def shipped_models(names: Iterable[str]) -> str:
    """A Markdown table of models in this repository, from the reports of their training."""
    return (
        "\n".join(_table([_figures(_training(name)) for name in names if _training(name)])) + "\n"
    )


def _training(name: str) -> dict:
    """The report of a shipped model's training; empty if it is not there."""
    file = paths.MODELS / name / "recipe.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _figures(report: dict) -> dict:
    test = {name: f"{value:.2f}" for name, value in report["test"].items()}
    accuracies = {k.removesuffix("_accuracy"): v for k, v in test.items() if "accuracy" in k}
    return (
        {"Model": f"`{report['name']}`", "Parameters": f"{report['parameters']:,}"}
        | {"R@1 (I2T / T2I)": f"{test['i2t_r1']} / {test['t2i_r1']}"}
        | {"Centroid distance": test["centroid_distance"]}
        | {f"Zero-shot {name}": value for name, value in accuracies.items()}
    )


def models_md() -> str:
    """The page of `models/`: every shipped model, how its recipe differs, and who uses it."""
    lines = [
        "# Models",
        "",
        "Each folder is a model in open_clip's own format (`open_clip.create_model_from_pretrained("
        '"local-dir:models/mini-clip")`) with the recipe, the training curve and the test figures '
        "in `recipe.json`. The recipes are data in `mini/recipes.py`; `./run_all.sh --retrain NAME` "
        "trains one again. Written by `python -m docs.report --readme`.",
        "",
        "A model with I0T's last normalisation has it in `normalisation.safetensors`, which "
        "`lib.encoders.registry` applies; plain open_clip loads such a model without it. SharedCLIP's one "
        "transformer stands in the file twice, under the names of both towers. Figures are those "
        "of 1,000 test pairs (full captions) and 2,000 labelled test pictures.",
        "",
        *_table([_model_line(name) for name in recipes.RECIPES if _training(name)]),
    ]
    return "\n".join(lines) + "\n"


def _model_line(name: str) -> dict:
    roles = [role for role, model in profiles.load("mini").models.items() if model == name]
    users = [
        item.name
        for item in catalogue.load().values()
        if {*item.models, *item.compares} & {*roles} and item.notebook.exists()
    ]
    base, own = recipes.RECIPES["mini-clip"], recipes.RECIPES[name]
    differs = {
        field.name: getattr(own, field.name)
        for field in fields(own)
        if getattr(own, field.name) != getattr(base, field.name)
    }
    recipe = ", ".join(f"{key} = {_plainly(value)}" for key, value in differs.items())
    used = ", ".join(users) if len(users) <= MANY else f"{len(users)} notebooks"
    return _figures(_training(name)) | {"Recipe": recipe, "Used by": used}


def _plainly(value: object) -> str:
    """A recipe's value in words; of a table, its entries."""
    if isinstance(value, dict):
        return " ".join(f"{key} {entry}" for key, entry in value.items())
    if isinstance(value, tuple):
        return " + ".join(
            f"{part[1]:g} {part[0]}" if isinstance(part, tuple) else str(part) for part in value
        )
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def readme(text: str) -> str:
    """The text of the README with its tables between `<!-- NAME -->` and `<!-- end -->` renewed."""
    for name, table in (("models", shipped_models(MAIN_MODELS)), ("coverage", coverage())):
        start, end = f"<!-- {name} -->\n", "<!-- end -->"
        before, found, rest = text.partition(start)
        if not found or end not in rest:
            raise ValueError(f"README.md lacks the lines {start.strip()} and {end}.")
        text = before + start + table + rest[rest.index(end) :]
    return text


# The gallery --------------------------------------------------------------------------------------


def index_html(profile_name: str) -> str:
    """One static page: every figure with its verdicts and its files, and what is still missing."""
    folder = paths.FIGURES / profile_name
    findings = findings.collect(profile_name)
    sections = []
    for section in SECTIONS:
        own = [item for item in catalogue.load().values() if item.paper == section]
        cards = [_card(item, findings, folder) for item in own if _drawn(item, folder)]
        missing = [
            {"title": item.title, "where": item.where, "status": item.status(profile_name)}
            for item in own
            if not _drawn(item, folder)
        ]
        title = papers.PAPERS[section].title if section in papers.PAPERS else ""
        texts = {"heading": heading(section), "title": title, "url": source(section)}
        sections.append({**texts, "cards": cards, "missing": missing})
    counts = findings.verdict.value_counts()
    totals = [(verdict, counts.get(verdict, 0)) for verdict in (*findings.VERDICTS, findings.PLANNED)]
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = Path(__file__).with_suffix(".html.j2").read_text(encoding="utf-8")
    page = environment.from_string(template)
    return page.render(profile=profile_name, sections=sections, totals=totals)


def _wide(png: Path) -> bool:
    """Whether a picture is wider than a column of a page."""
    pixels = int.from_bytes(png.read_bytes()[16:20], "big")
    return pixels > 1.5 * plotting.COLUMN * 200


def _drawn(item: catalogue.Item, folder: Path) -> bool:
    return (folder / f"{item.name}.png").is_file()


def _card(item: catalogue.Item, findings: pd.DataFrame, folder: Path) -> dict:
    rows = findings[findings["item"] == item.name]
    return {
        "name": item.name,
        "title": item.title,
        "where": item.where,
        "wide": _wide(folder / f"{item.name}.png"),
        "notebook": _relative(item.notebook, folder),
        "findings": [
            {**row.to_dict(), "measured": measured(row), "paper_name": heading(row.paper)}
            for _, row in rows.iterrows()
        ],
    }


def write(profile_name: str) -> None:
    """Write RESULTS.md, and `results.json` and `index.html` in `figures/<profile>`."""
    text, data, page = freshness.report_files(profile_name)
    files.write_text(text, results_md(profile_name))
    files.write_text(data, verdicts.results_json(profile_name))
    files.write_text(page, index_html(profile_name))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m docs.report", description=__doc__)
    parser.add_argument("--profile", default="mini")
    parser.add_argument("--readme", action="store_true")
    options = parser.parse_args(arguments)
    name = profiles.load(options.profile).name
    if options.readme:
        page = paths.ROOT / "README.md"
        files.write_text(page, readme(page.read_text(encoding="utf-8")))
        files.write_text(paths.MODELS / "README.md", models_md())
    else:
        write(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())

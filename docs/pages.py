"""What the results page, the galleries and the website share: words, cards and templates."""

import os
from pathlib import Path

import jinja2
import nbformat
import pandas as pd

from lib import paths
from lib.claims import papers, verdicts
from workflow import catalogue

TEMPLATES = Path(__file__).with_name("templates")
START, BEYOND = "", "beyond"
SECTIONS = (START, *papers.KEYS, BEYOND)  # the folders of the notebooks, in the papers' order
FIRST = "figure"  # the cell of the start notebook that draws the first picture
SHORT = {"alignclip": "AlignCLIP"}  # known by the name of its model


def heading(section: str) -> str:
    """The title of a section: a paper's short name, or what is beside the papers."""
    if section in (START, BEYOND):
        return "Start here" if section == START else "Beyond the papers"
    return SHORT.get(section) or papers.paper(section).title.partition(":")[0]


def source(section: str) -> str:
    """Where the paper of a section can be read; empty if it has none."""
    return f"https://arxiv.org/abs/{papers.paper(section).arxiv}" if section in papers.KEYS else ""


def number(value: object) -> str:
    """A measured value for people: three digits, or the text as it is."""
    if value is None or value == "" or value != value:
        return ""
    return value if isinstance(value, str) else f"{value:.3g}"


def measured(row: pd.Series) -> str:
    """A finding's value and its interval, e.g. "0.92 [0.91, 0.93]"."""
    interval = f"[{number(row.low)}, {number(row.high)}]" if number(row.low) else ""
    return " ".join(filter(None, [number(row.measured), interval]))


def measured_on(row: pd.Series) -> str:
    """What a finding rests on: its model, data and aspect."""
    return ", ".join(filter(None, [row.model, row["data"], row.aspect]))


def relative(target: Path, base: Path) -> str:
    """A link from a folder to a file."""
    return Path(os.path.relpath(target, base)).as_posix()


def card(item: catalogue.Item, found: pd.DataFrame, figures: Path, page: str) -> dict:
    """What the templates show of an item; `page` is what its card leads to."""
    picture = figures / f"{item.name}.png"
    size = picture.read_bytes()[16:24] if picture.is_file() else bytes(8)
    rows = found[found["item"] == item.name]
    return {
        "name": item.name,
        "title": item.title,
        "where": item.where,
        "page": page,
        "paper": heading(item.paper),
        "url": source(item.paper),
        "drawn": picture.is_file(),
        "pdf": picture.with_suffix(".pdf").is_file(),  # drawn by a run, not kept in the history
        "width": int.from_bytes(size[:4], "big"),
        "height": int.from_bytes(size[4:], "big"),
        "findings": [finding(row) for _, row in rows.iterrows()],
        "verdicts": verdicts.counts(rows.verdict, verdicts.VERDICTS),
    }


def sentence(notebook: Path) -> str:
    """What the start notebook says of its picture, in Markdown; empty if it has no outputs."""
    cells = nbformat.read(notebook, as_version=4).cells
    outputs = [output for cell in cells if cell.id == FIRST for output in cell.outputs]
    said = [output.get("data", {}).get("text/markdown", "") for output in outputs]
    return "".join(said).strip()


def finding(row: pd.Series) -> dict:
    """What the templates show of a finding."""
    words = {"here": measured(row), "on": measured_on(row), "paper_name": heading(row.paper)}
    return row.to_dict() | words


def templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals |= {
        "css": lambda verdict: verdict.replace(" ", "-"),
        "kinds": verdicts.KINDS,
    }
    return environment


def table(rows: list[dict]) -> list[str]:
    """A Markdown table; the keys of the first row are its head."""

    def line(cells) -> str:
        tidy = (" ".join(str(cell).split()).replace("|", "\\|") for cell in cells)
        return f"| {' | '.join(tidy)} |"

    head = list(rows[0])
    return [line(head), f"|{'---|' * len(head)}", *(line(row.values()) for row in rows)]


def link(text: str, target: Path, base: Path) -> str:
    """A link in Markdown, from a page in `base`."""
    return f"[{text}]({relative(target, base)})"


def notebook(item: str, base: Path, text: str = "") -> str:
    """A link in Markdown to an item's notebook, under its name or another text."""
    return link(text or item, paths.NOTEBOOKS / f"{item}.ipynb", base)

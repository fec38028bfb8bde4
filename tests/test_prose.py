"""Every number in a notebook's prose comes from its code, from a paper, or from a named source.

Results are not typed: a cell prints them. `prose_numbers.yaml` lists, for each notebook, the
numbers that its Markdown may quote (decimals, percentages, and whole numbers from 100), and the
source of each. A number that is not listed fails, and so does one that its source does not have.
"""

import re
from pathlib import Path

import nbformat
import pytest
import yaml

from lib import paths
from lib.claims import papers

CLAIMS = Path(papers.__file__).parent
LISTED = yaml.safe_load(Path(__file__).with_name("prose_numbers.yaml").read_text(encoding="utf-8"))
NOTEBOOKS = {
    file.relative_to(paths.NOTEBOOKS).with_suffix("").as_posix(): file
    for file in sorted(paths.NOTEBOOKS.rglob("*.ipynb"))
    if ".ipynb_checkpoints" not in file.parts
}
SETTINGS = ("profiles/mini.yaml", "mini/recipes.py", "lib/data/published.py")
SOURCES = {key: [CLAIMS / "papers" / f"{key}.yaml"] for key in papers.KEYS}
SOURCES |= {"errors": [CLAIMS / "errors.yaml"]}
SOURCES |= {"settings": [paths.ROOT / name for name in SETTINGS]}
SKIPPED = re.compile(  # formulas, code, addresses, and the numbers of sections, figures and tables
    r"\$\$.*?\$\$|\$[^$]*\$|```.*?```|`[^`]*`|\]\([^)]*\)|<[^>]*>"
    r"|\b(?:[Ss]ect(?:ion|\.)s?|[Aa]pp(?:endix|\.)|[Ff]igures?|[Ff]ig\.|[Tt]ables?|[Ee]q\.)"
    r"[\s*]+[A-Z]?\.?\d[\d.]*\w?(?:(?:,| and| to)\s[A-Z]?\.?\d[\d.]*\w?)*",
    re.DOTALL,
)
NUMBER = re.compile(r"(?<![\w.,])(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\w,]*\d)")
UNIT = re.compile(r"\s*(?:%|points\b|times\b)")


def quoted(text: str) -> set[str]:
    """The numbers of a text that say more than a small count, a year or a place."""
    plain, found = SKIPPED.sub(" ", text), set()
    for match in NUMBER.finditer(plain):
        value = _value(match.group())
        counts = "." in match.group() or value >= 100 or UNIT.match(plain, match.end())
        if counts and not ("," not in match.group() and 1900 <= value < 2100):
            found.add(match.group())
    return found


def numbers(text: str) -> set[float]:
    """All numbers of a source, shares as percentages, too."""
    each = re.findall(r"(?<![\w.])(?:\d{1,3}(?:,\d{3})+|\d[\d_]*)?(?:\.\d+)?(?:e-?\d+)?", text)
    plain = {_value(one.replace("_", "")) for one in each if re.match(r"\.?\d", one)}
    return plain | {round(100 * value, 9) for value in plain if value < 1}


def _value(text: str) -> float:
    return float(text.replace(",", ""))


def parts(file: Path) -> tuple[str, str]:
    """Markdown and code of a notebook, without the line that is generated."""
    cells = nbformat.read(file, as_version=4).cells
    told = [c for c in cells if c.cell_type == "markdown" and "evidence" not in tags(c)]
    return (
        "\n".join(cell.source for cell in told),
        "\n".join(cell.source for cell in cells if cell.cell_type == "code"),
    )


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def listed(name: str) -> set[str]:
    """The numbers that a notebook may quote."""
    its = LISTED.get(name, {})
    return {*map(str, its.get("others", {}))}.union(*(its.get(s, "").split() for s in named(its)))


def named(its: dict) -> list[str]:
    return [source for source in its if source != "others"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_numbers_in_prose_are_listed(name):
    assert quoted(parts(NOTEBOOKS[name])[0]) == listed(name)


@pytest.mark.parametrize("name", LISTED)
def test_a_listed_number_is_that_of_its_source(name):
    code = parts(NOTEBOOKS[name])[1]
    for source in named(LISTED[name]):
        files = [] if source == "notebook" else SOURCES[source]
        text = "\n".join(file.read_text(encoding="utf-8") for file in files) or code
        known = numbers(text)
        strange = [n for n in LISTED[name][source].split() if _value(n) not in known]
        assert strange == [], source


@pytest.mark.parametrize("name", LISTED)
def test_an_altered_number_is_caught(name):
    """Whichever number is altered, here in its last digit, the list does not have it."""
    text, missed = parts(NOTEBOOKS[name])[0], []
    for number in listed(name):
        altered = number[:-1] + str((int(number[-1]) + 3) % 10)
        pattern = rf"(?<![\w.,]){re.escape(number)}(?![\w,]*\d)"
        found = quoted(re.sub(pattern, altered, text)) - listed(name)
        missed += [] if altered in found or altered in listed(name) else [number]
    assert missed == []

"""What the papers report: their tables, figures and claims, as data.

The numbers are typed from the papers, the authors' code and posters into `papers/<paper>.yaml`; a
paper's file is read when something of it is asked for. A value that could not be found is null
there (missing here), never a guess, and each table says where it comes from and how far it can be
trusted (`SOURCES`). Known errors are noted beside the numbers.
"""

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from pathlib import Path

import pandas as pd
import yaml

from lib import suggestions

DATA = Path(__file__).resolve().parent / "papers"
KEYS = ("mind_the_gap", "i0t", "cross_the_gap", "alignclip")
BEYOND = "beyond"  # claims of other papers, and our own hypotheses, with their rules: `beyond`

SOURCES = {
    "paper": "printed in the paper",
    "code": "in the authors' published code or the stored outputs of their notebooks",
    "poster": "on the authors' poster, or read out of its vector drawings",
    "second-hand": "reported by somebody else; the paper's own table was not seen",
    "recomputed": "computed from the authors' published data or code, not printed by them",
}


@dataclass(frozen=True)
class Paper:
    """One of the four papers; `authors` are full names in the order of the title page."""

    key: str
    title: str
    authors: tuple[str, ...]
    year: int
    venue: str
    arxiv: str
    bibtex: str


@dataclass(frozen=True)
class Claim:
    """One falsifiable sentence of a paper, with the paper's own numbers as a short string.

    Those of `beyond` have the rule by which a notebook judges them, written before the run, and
    what would change our mind; `arxiv` is empty for a hypothesis of our own.
    """

    id: str
    paper: str
    number: int
    text: str
    where: str
    value: str
    note: str = ""
    arxiv: str = ""
    rule: str = ""
    change: str = ""


def paper(key: str) -> Paper:
    """The paper called e.g. "i0t", one of `KEYS`."""
    return _load(key)[0]


def claims(key: str | None = None) -> list[Claim]:
    """All claims of a paper, or of all papers in the order of `KEYS`, numbered from 1 in each."""
    return [claim for k in ([key] if key else KEYS) for claim in _load(k)[1].values()]


def claim(claim_id: str) -> Claim:
    """The claim called e.g. "i0t-5".

    Raises:
        ValueError: no claim has this id; the message names the nearest ones.
    """
    key = claim_id.rpartition("-")[0]
    known = beyond() if key == BEYOND else _load(key)[1] if key in KEYS else {}
    if claim_id not in known:
        names = known or [claim.id for claim in claims()]
        raise ValueError(suggestions.unknown("claim", claim_id, names))
    return known[claim_id]


def beyond() -> dict[str, Claim]:
    """By id, the claims of papers beyond the four, and hypotheses of our own: "beyond-1" and on."""
    return _beyond()[0]


@functools.cache
def _beyond() -> tuple[dict[str, Claim], dict[str, str]]:
    """The claims of `beyond`, checked, and every rule by the id of its claim."""
    document, found, last = _document(BEYOND), {}, 0
    for entry in document["claims"]:
        position = entry.get("number", last)
        what = f"{BEYOND}: claim {position}"
        _check_keys(what, entry, _CLAIM_KEYS | {"rule", "change"}, {"note", "arxiv"})
        if position <= last:
            raise ValueError(f"{what} follows number {last}: numbers must rise.")
        last = position
        _check_text(what, entry, {"text", "where", "value", "rule", "change"})
        if entry.get("arxiv", "") not in {"", *document["papers"]}:
            raise ValueError(f"{what}: the paper {entry['arxiv']} is not described.")
        found[f"{BEYOND}-{position}"] = Claim(f"{BEYOND}-{position}", BEYOND, **entry)
    return found, {name: its.rule for name, its in found.items()} | document["rules"]


def rule(claim_id: str) -> str:
    """The rule that notebooks of beyond/ judge a claim by, also one of the four papers'.

    Raises: ValueError for a claim without such a rule; the message names the nearest.
    """
    rules = _beyond()[1]
    if claim_id not in rules:
        raise ValueError(suggestions.unknown("rule of the claim", claim_id, rules))
    return rules[claim_id]


def tables(key: str | None = None) -> list[str]:
    """Names of all tables of a paper, or of all papers, e.g. "i0t/table2"."""
    return [name for k in ([key] if key else KEYS) for name in _load(k)[2]]


def table(name: str) -> pd.DataFrame:
    """The reported numbers of one table or figure, rows and columns as in the paper.

    Values that were not found are missing (`isna`). `attrs` hold the table's `name`,
    `title`, `where` it is, `source` (a key of `SOURCES`), `unit` (column -> unit) and `note`.

    Raises:
        ValueError: there is no such table; the message names the nearest ones.
    """
    key = name.partition("/")[0]
    known = _load(key)[2] if key in KEYS else {}
    if name not in known:
        raise ValueError(suggestions.unknown("table", name, known or tables()))
    spec = known[name]
    frame = (
        _read_csv(spec) if "csv" in spec else pd.DataFrame(spec["rows"], columns=spec["columns"])
    )
    empty = frame.columns[frame.isna().all()]
    frame = frame.astype(dict.fromkeys(empty, float))
    frame.attrs = {
        "name": name,
        "title": spec["title"],
        "where": spec["where"],
        "source": spec["source"],
        "unit": dict(spec.get("unit", {})),
        "note": spec.get("note", ""),
    }
    return frame


def _read_csv(spec: dict) -> pd.DataFrame:
    """A curve read out of a vector drawing, cleaned as `drop` and `round` of its entry say."""
    frame = pd.read_csv(DATA / spec["csv"]).set_axis(spec["columns"], axis=1)
    if "drop" in spec:
        frame = frame.query(f"not ({spec['drop']})").reset_index(drop=True)
    whole = spec.get("round", [])
    return frame.assign(**{column: frame[column].round().astype(int) for column in whole})


# Reading and checking the data files -------------------------------------------------------------

_FILE_KEYS = {"paper", "claims", "tables"}
_PAPER_KEYS = {"title", "authors", "year", "venue", "arxiv", "bibtex"}
_CLAIM_KEYS = {"number", "text", "where", "value"}
_TABLE_KEYS = {"name", "title", "where", "source", "columns"}
_TABLE_OPTIONAL = {"unit", "note", "rows", "csv", "drop", "round"}


@functools.cache
def _load(key: str) -> tuple[Paper, dict[str, Claim], dict[str, dict]]:
    """One data file, checked: the paper, its claims by id, and its tables by full name."""
    if key not in KEYS:
        raise ValueError(suggestions.unknown("paper", key, KEYS))
    return _parse(key, _document(key))


def _document(key: str) -> dict:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load((DATA / f"{key}.yaml").read_text(encoding="utf-8"), loader)


def _parse(key: str, document: dict) -> tuple[Paper, dict[str, Claim], dict[str, dict]]:
    _check_keys(key, document, _FILE_KEYS)
    _check_keys(f"{key}: paper", document["paper"], _PAPER_KEYS)
    paper = Paper(key, **{**document["paper"], "authors": tuple(document["paper"]["authors"])})
    claims = {}
    for position, entry in enumerate(document["claims"], start=1):
        _check_keys(f"{key}: claim {position}", entry, _CLAIM_KEYS, {"note"})
        if entry["number"] != position:
            raise ValueError(f"{key}: claim {position} is numbered {entry['number']}.")
        _check_text(f"{key}: claim {position}", entry, {"text", "where", "value"})
        claims[f"{key}-{position}"] = Claim(id=f"{key}-{position}", paper=key, **entry)
    specs = {}
    for spec in document["tables"]:
        _check_keys(f"{key}: table {spec.get('name')}", spec, _TABLE_KEYS, _TABLE_OPTIONAL)
        name = f"{key}/{spec['name']}"
        if name in specs:
            raise ValueError(f"{name} is there twice.")
        _check_table(name, spec)
        specs[name] = spec
    return paper, claims, specs


def _check_keys(what: str, mapping: dict, required: set, optional: Iterable[str] = ()) -> None:
    if not isinstance(mapping, dict):
        raise ValueError(f"{what}: keys and values are wanted, not {mapping!r}.")
    known = required | set(optional)
    for key in mapping:
        if key not in known:
            raise ValueError(f"{what}: {suggestions.unknown('key', key, sorted(known))}")
    missing = sorted(required - mapping.keys())
    if missing:
        raise ValueError(f"{what}: the key {missing[0]!r} is missing.")


def _check_text(what: str, mapping: dict, keys: set) -> None:
    for key in sorted(keys):
        if not (isinstance(mapping[key], str) and mapping[key].strip()):
            raise ValueError(f"{what}: {key} must be a text, not {mapping[key]!r}.")


def _check_table(name: str, spec: dict) -> None:
    _check_text(name, spec, {"title", "where", "source"})
    columns = spec["columns"]
    if spec["source"] not in SOURCES:
        raise ValueError(f"{name}: {suggestions.unknown('source', spec['source'], SOURCES)}")
    if ("rows" in spec) == ("csv" in spec):
        raise ValueError(f"{name}: give either rows or csv.")
    if "csv" not in spec and {"drop", "round"} & spec.keys():
        raise ValueError(f"{name}: drop and round belong to a csv table.")
    if len(set(columns)) < len(columns):
        raise ValueError(f"{name}: a column is there twice.")
    for column in columns:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", column):
            raise ValueError(f"{name}: the column name {column!r} is not in plain snake_case.")
    for column in [*spec.get("unit", {}), *spec.get("round", [])]:
        if column not in columns:
            raise ValueError(f"{name}: {suggestions.unknown('column', column, columns)}")
    if "rows" in spec:
        _check_rows(name, columns, spec["rows"])
    elif not (DATA / spec["csv"]).is_file():
        raise ValueError(f"{name}: the file {spec['csv']} is missing.")


def _check_rows(name: str, columns: list, rows: list) -> None:
    if not rows:
        raise ValueError(f"{name}: there are no rows.")
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"{name}: {len(columns)} columns, but the row {row} has {len(row)}.")
    for column, cells in zip(columns, zip(*rows, strict=True), strict=True):
        known = [cell for cell in cells if cell is not None]
        # YAML reads 1e-3 or -.5 as text and `no` as a truth value: a mixed column gives it away.
        numbers = all(isinstance(cell, Real) and not isinstance(cell, bool) for cell in known)
        if not numbers and not all(isinstance(cell, str) for cell in known):
            raise ValueError(f"{name}: the column {column!r} mixes kinds: {known}.")

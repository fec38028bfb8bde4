"""The glossary: in the order of the alphabet, and what it points to is there."""

import importlib
import re

import pytest

from lib import paths

TEXT = (paths.NOTEBOOKS / "glossary.md").read_text(encoding="utf-8")
ENTRIES = dict(entry.split("\n", 1) for entry in re.split(r"(?m)^## ", TEXT)[1:])
each = pytest.mark.parametrize("term", ENTRIES)


def named(text: str) -> object:
    """What `lib.module.name.attribute` is; AttributeError if there is no such thing."""
    package, module, *rest = text.split(".")
    found = importlib.import_module(f"{package}.{module}")
    for name in rest:
        found = getattr(found, name)
    return found


def anchor(term: str) -> str:
    """The part behind # of a link to this heading, as code hosts and the website form it."""
    return re.sub(r"[^\w -]", "", term).lower().replace(" ", "-")


def test_terms_are_sorted():
    assert len(ENTRIES) > 50
    assert [*ENTRIES] == sorted(ENTRIES, key=lambda term: re.sub(r"\W|_", "", term).lower())


@each
def test_an_entry_has_a_source_and_a_notebook(term):
    entry = ENTRIES[term]
    links = re.findall(r"\]\(([^)]+)\)", entry)
    assert "Source: " in entry and "See: " in entry
    assert any(link.endswith(".ipynb") for link in links)
    for link in links:
        if link.startswith("#"):
            assert link[1:] in map(anchor, ENTRIES), link
        else:
            assert (paths.NOTEBOOKS / link).is_file(), link


@each
def test_what_computes_it_exists(term):
    for name in re.findall(r"`(lib\.[\w.]+)`", ENTRIES[term]):
        assert named(name) is not None


def test_a_wrong_name_is_found():
    with pytest.raises(AttributeError):
        named("lib.measures.gap.no_such_measure")

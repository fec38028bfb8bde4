"""The glossary: in the order of the alphabet, and what it points to is there."""

import importlib
import importlib.util
import re

import pytest

from lib import paths

TEXT = (paths.NOTEBOOKS / "glossary.md").read_text(encoding="utf-8")
ENTRIES = dict(entry.split("\n", 1) for entry in re.split(r"(?m)^## ", TEXT)[1:])
CODE = r"`((?:lib|mini)\.[\w.]+)`"
each = pytest.mark.parametrize("term", ENTRIES)


def named(text: str) -> object:
    """What `lib.room.module.name` is; AttributeError if there is no such thing."""
    parts = text.split(".")
    for n in range(len(parts), 0, -1):
        if _is_module(".".join(parts[:n])):
            found = importlib.import_module(".".join(parts[:n]))
            for name in parts[n:]:
                found = getattr(found, name)
            return found
    raise AttributeError(text)


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


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
    for name in re.findall(CODE, ENTRIES[term]):
        assert named(name) is not None


def test_only_terms_that_nothing_here_computes_name_no_code():
    silent = {term for term, entry in ENTRIES.items() if not re.search(CODE, entry)}
    assert silent == {"Cone effect", "UMAP", "Whitening"}


def test_a_wrong_name_is_found():
    with pytest.raises(AttributeError):
        named("lib.measures.gap.no_such_measure")

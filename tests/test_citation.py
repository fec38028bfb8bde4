"""CITATION.cff is the one place that says where the repository is; all links follow it."""

import re
import subprocess

import pytest
import yaml

from docs import citation, readme
from lib import paths

TEXT = citation.FILE.read_text(encoding="utf-8")
NOW = citation.repository(citation.read(TEXT))
HERE = "some-one/the.gap"
FILLED = citation.read(TEXT.replace(NOW, HERE))
UNFILLED = citation.read(TEXT.replace(NOW, citation.NOWHERE))
README = (paths.ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page() -> str:
    """The README of a copy whose CITATION.cff names another repository."""
    return readme.readme(README, FILLED)


def test_the_repository_is_named_in_one_place():
    assert citation.repository(FILLED) == HERE
    assert TEXT.count(NOW) == 1


@pytest.mark.parametrize("address", ["", "https://example.org/a/b", "https://github.com/a"])
def test_another_address_is_refused(address):
    with pytest.raises(ValueError, match=r"repository-code .* must be"):
        citation.repository({"repository-code": address})


@pytest.mark.parametrize("ending", ["", "/", ".git"])
def test_an_address_may_be_written_as_browsers_and_git_write_it(ending):
    assert citation.repository({"repository-code": f"https://github.com/{HERE}{ending}"}) == HERE


def test_every_link_follows(page):
    assert citation.NOWHERE not in page
    assert NOW not in page
    for start in ("github.com/", "mybinder.org/v2/gh/", "colab.research.google.com/github/"):
        named = re.findall(rf"https://{re.escape(start)}([\w.-]+/[\w.-]+)", page)
        assert named and set(named) == {HERE}, start
    assert "https://some-one.github.io/the.gap/" in page


def test_links_lead_to_what_is_there(page):
    workflows = re.findall(r"actions/workflows/([\w.]+)\)", page)
    assert sorted(workflows) == ["newest.yml", "tests.yml"]
    for file in workflows:
        found = yaml.safe_load((paths.ROOT / ".github" / "workflows" / file).read_text())
        assert found["jobs"]
    for notebook in re.findall(r"(?:lab/tree|blob/main)/([\w./]+)", page):
        assert (paths.ROOT / notebook).is_file(), notebook


def test_a_doi_has_its_badge():
    made = readme.badges(FILLED | {"doi": "10.5281/zenodo.1"})
    assert "](https://doi.org/10.5281/zenodo.1)" in made
    assert "doi.org" not in readme.badges({**FILLED, "doi": ""})


def test_an_unfilled_address_makes_no_link():
    made = readme.badges(UNFILLED) + readme.elsewhere(UNFILLED)
    assert "](" not in made
    assert citation.NOWHERE in made


def test_filling_in_twice_changes_nothing_more(page):
    assert readme.readme(page, FILLED) == page
    assert readme.readme(page, UNFILLED) == readme.readme(README, UNFILLED)


def test_no_other_file_names_the_repository():
    """Where it is not made from CITATION.cff, nobody would fill it in."""
    command = ["git", "grep", "-l", "-I", f"/{NOW}", "--", ".", ":!tests"]
    try:
        found = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("git is not there.")
    if found.returncode > 1:
        pytest.skip("This copy has no .git.")
    may = {"CITATION.cff", "README.md", "docs/citation.py"}
    assert set(found.stdout.split()) <= may


def test_the_citation_says_what_an_archive_needs():
    about = citation.read()
    assert about["cff-version"] == "1.2.0"
    assert all(about[field] for field in ("title", "abstract", "authors", "license", "keywords"))
    assert len([each["url"] for each in about["references"]]) == 4

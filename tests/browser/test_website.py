"""The website in a real browser: it sorts, filters and searches, by keyboard too, on any screen."""

import pytest

from lib.claims import papers

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),  # MyST-NB's, of Sphinx
]
PHONE = {"width": 390, "height": 844}


def column(page, attribute: str) -> list[str]:
    """An attribute of the rows that are shown."""
    rows = "#findings tbody tr:not([hidden])"
    return page.eval_on_selector_all(rows, f"rows => rows.map(row => row.dataset.{attribute})")


def test_findings_are_filtered(page, website):
    page.goto(f"{website[1]}/results.html#paper=i0t")
    assert set(column(page, "key")) == {"i0t"}
    page.select_option("#by-paper", "")
    assert set(column(page, "key")) == set(papers.KEYS)
    page.select_option("#by-verdict", "reproduced")
    assert all("reproduced" in each.split("|") for each in column(page, "verdict"))
    page.fill("#by-words", "no finding has this word")
    assert column(page, "key") == []
    assert page.inner_text("#shown").startswith("0 of ")


def test_findings_are_sorted_by_keyboard(page, website):
    page.goto(f"{website[1]}/results.html")
    page.focus("#by-words")
    for _ in range(4):  # the heads of the columns come next; the fourth is that of real models
        page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    rows = "#findings tbody tr td[data-name='Real models']"
    order = page.eval_on_selector_all(rows, "cells => cells.map(cell => cell.dataset.order)")
    assert order == sorted(order) and order[0] == "0" and len(set(order)) > 2
    page.keyboard.press("Enter")
    order = page.eval_on_selector_all(rows, "cells => cells.map(cell => cell.dataset.order)")
    assert order == sorted(order, reverse=True)


def test_a_claim_has_an_address(page, website):
    page.goto(f"{website[1]}/results.html#i0t-5")
    assert page.eval_on_selector("#i0t-5 details", "more => more.open")
    top = "document.getElementById('i0t-5').getBoundingClientRect().top"
    page.wait_for_function(f"{top} < 400")  # it scrolls there smoothly


def test_search_finds_a_term(page, website):
    page.goto(f"{website[1]}/search.html?q=whitening")
    page.wait_for_selector("#search-results li a")
    assert "Glossary" in page.inner_text("#search-results")


def test_no_page_is_wider_than_a_phone(page, website):
    built, address = website
    page.set_viewport_size(PHONE)
    for file in sorted(built.rglob("*.html")):
        page.goto(f"{address}/{file.relative_to(built)}")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"], file.name


@pytest.mark.parametrize("theme, dark", [("light", False), ("dark", True)])
def test_the_theme_follows_the_system(page, website, theme, dark):
    page.emulate_media(color_scheme=theme)
    page.goto(f"{website[1]}/index.html")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(22, 22, 22)" if dark else "rgb(255, 255, 255)")

"""A real browser: Chromium without a window, driven by playwright."""

import importlib.util
import shutil
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# JupyterLab says so of its debugger whenever a kernel is restarted.
HARMLESS = ("Could not restore the debugger state",)
# What a browser would ask of the internet by itself.
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync")


@pytest.fixture(scope="session")
def chromium():
    """Chromium of this machine, or else playwright's own; a failure says what to install."""
    if importlib.util.find_spec("playwright") is None:
        pytest.fail("playwright is missing: pip install -e '.[browser]'", pytrace=False)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = next(filter(None, map(shutil.which, NAMES)), playwright.chromium.executable_path)
        if not Path(found).exists():
            pytest.fail(
                "No Chromium here: install it (on Debian and Ubuntu the package chromium), or run "
                "playwright install chromium.",
                pytrace=False,
            )
        browser = playwright.chromium.launch(executable_path=found, args=[*QUIET, "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium):
    """A page with nothing remembered; the test fails if the console shows an error."""
    context = chromium.new_context()
    page = context.new_page()
    errors = []
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert not [error for error in errors if not error.startswith(HARMLESS)]

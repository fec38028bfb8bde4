"""A real browser: Chromium without a window, driven by playwright."""

import functools
import http.server
import importlib.util
import shutil
import threading
from pathlib import Path

import pytest

from lib import paths

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


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def website(tmp_path_factory):
    """Folder and address of the site, built and served."""
    from docs import site

    folder = tmp_path_factory.mktemp("website")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "CACHE", folder / "cache")
        built = site.build("mini", folder / "site")
    handler = functools.partial(Quiet, directory=built)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield built, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()

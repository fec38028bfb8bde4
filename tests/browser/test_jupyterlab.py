"""Each kind of notebook as a student meets it: opened, run and restarted in a real JupyterLab."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import nbformat
import numpy as np
import pytest

from lib import paths
from lib.encoders import registry

pytestmark = pytest.mark.browser

START, RESTARTED = "00_start_here", "i0t/fig3_activation_patterns"
NOTEBOOKS = (
    *(START, RESTARTED, "mind_the_gap/fig1_modality_gap"),
    *("alignclip/table1_alignment", "cross_the_gap/fig2_inversion_curves"),
)
OWN = "own"  # what a student may add: an inversion of so many images that it takes a while
OWN_CODE = """
from lib.data.pairs import load_pairs
from lib.encoders import registry
from lib.encoders.embeddings import embed
from lib.methods import inversion

model = registry.load("mini-clip")
images = embed(model, load_pairs("world", "test", 256)).image
inversion.oti(model, images).loss[-1].mean()
"""
LIVE = "live"  # the page "Try it" as a widget
LIVE_CODE = """
from docs import widget

widget.page()
"""
SECONDS = 300  # that a notebook may take
# A window that holds a whole notebook: JupyterLab draws only cells that are in view.
WINDOW = {"width": 1280, "height": 12_000}
STATUS = ".jp-Notebook-ExecutionIndicator"
BAR = ".jp-OutputArea .widget-hprogress"


# The server ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Address, token and folder of a JupyterLab on a copy of the notebooks, with a cold cache.

    None of the user's settings play a part.
    """
    home = tmp_path_factory.mktemp("lab")
    folder = _copy_notebooks(home / "notebooks")
    settings = home / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    # It would ask whether to fetch news from the internet.
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
    token, port = secrets.token_hex(), _free_port()
    options = (f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--no-browser")
    options += (f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options += ("--allow-root",)
    address = f"http://127.0.0.1:{port}"
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options],
            env=_surroundings(home),
            stdout=log,
            stderr=log,
        )
        try:
            _wait_for(f"{address}/api?token={token}", server)
            yield address, token, folder
        finally:
            server.terminate()
            server.wait(60)


def _copy_notebooks(folder):
    """The notebooks without outputs, so that what is seen is of this run, and at a small size."""
    shutil.copytree(paths.NOTEBOOKS, folder, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    for name in NOTEBOOKS:
        notebook = nbformat.read(folder / f"{name}.ipynb", as_version=4)
        for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
            cell.update(outputs=[], execution_count=None)
            # At a small size there would be no bar to be seen.
            if name != START and "parameters" in cell.metadata.get("tags", []):
                assert "small = False" in cell.source
                cell.source = cell.source.replace("small = False", "small = True")
        nbformat.write(notebook, folder / f"{name}.ipynb")
    for name, code in ((OWN, OWN_CODE), (LIVE, LIVE_CODE)):
        own = nbformat.v4.new_notebook(metadata={"kernelspec": notebook.metadata.kernelspec})
        own.cells = [nbformat.v4.new_code_cell(code.strip())]
        nbformat.write(own, folder / f"{name}.ipynb")
    return folder


def _surroundings(home) -> dict[str, str]:
    folders = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    inherited = {k: v for k, v in os.environ.items() if k not in ("MPLBACKEND", "TQDM_DISABLE")}
    return inherited | {
        **{variable: str(home / variable.lower()) for variable in folders},
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "MODALITY_GAP_CACHE": str(home / "cache"),
        "MODALITY_GAP_FIGURES": str(home / "figures"),
        "PYTHONPATH": os.pathsep.join([str(paths.ROOT), os.environ.get("PYTHONPATH", "")]),
    }


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _wait_for(url: str, server: subprocess.Popen) -> None:
    for _ in range(240):
        try:
            urllib.request.urlopen(url).close()
            return
        except urllib.error.URLError:
            assert server.poll() is None, "JupyterLab ended at once: see server.log"
            time.sleep(0.5)
    raise TimeoutError("JupyterLab did not answer within two minutes.")


# What a student does ------------------------------------------------------------------------------


def open_notebook(page, lab, name: str) -> None:
    """Open a notebook, wait for its kernel, and watch out for a bar from then on."""
    address, token, _ = lab
    page.set_viewport_size(WINDOW)
    page.goto(f"{address}/lab/tree/{name}.ipynb?reset&token={token}", timeout=120_000)
    page.wait_for_selector(STATUS, timeout=120_000)
    for _ in range(120):
        sessions = page.request.get(f"{address}/api/sessions?token={token}").json()
        kernels = [each["kernel"] for each in sessions if each["path"] == f"{name}.ipynb"]
        # What the page itself shows is "idle" before there is a kernel.
        if kernels and kernels[0]["connections"] and kernels[0]["execution_state"] == "idle":
            break
        page.wait_for_timeout(1000)
    page.wait_for_selector(f"{STATUS}[data-status=idle]")
    page.wait_for_timeout(1000)
    # A bar is gone when its work is done: remember what stood beside it.
    page.evaluate(
        """bar => {
            window.besideBars = "";
            new MutationObserver(() => {
                for (const each of document.querySelectorAll(bar))
                    window.besideBars += each.parentElement.innerText + " ";
            }).observe(document.body, {childList: true, subtree: true});
        }""",
        BAR,
    )


def choose(page, menu: str, command: str) -> None:
    page.get_by_role("menuitem", name=menu, exact=True).click()
    page.click(f".lm-Menu [data-command='{command}']")


def wait_until_run(page) -> None:
    """Wait until cells have been waiting for the kernel, and none is any more."""
    waiting = page.locator(".jp-InputPrompt", has_text="[*]")
    waiting.first.wait_for(timeout=60_000)
    waiting.first.wait_for(state="detached", timeout=1000 * SECONDS)
    page.wait_for_selector(f"{STATUS}[data-status=idle]")


# What a student sees ------------------------------------------------------------------------------


def check(page, lab, name: str) -> None:
    """The kernel is the right one, every cell ran in order, and none complained.

    What the window showed is kept as a picture, to be looked at.
    """
    assert page.inner_text(".jp-KernelName").startswith("Python 3")
    page.screenshot(path=paths.CACHE / "screenshots" / f"{name.replace('/', '-')}.png")
    choose(page, "File", "docmanager:save")
    page.wait_for_selector(".jp-mod-dirty", state="detached")
    notebook = nbformat.read(lab[2] / f"{name}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    for output in (output for cell in code for output in cell.outputs):
        assert output.output_type != "error" and output.get("name") != "stderr", output


def check_figures(page) -> None:
    widths = page.eval_on_selector_all(
        ".jp-RenderedImage img", "images => images.map(image => image.naturalWidth)"
    )
    assert widths and min(widths) > 0


def check_bar(page, lab, name: str, beside: str) -> None:
    """There was such a bar, and nothing is left of it when the saved notebook is opened again."""
    assert beside in page.evaluate("window.besideBars")
    open_notebook(page, lab, name)
    outputs = " ".join(page.locator(".jp-OutputArea-output").all_inner_texts())
    assert outputs and "%|" not in outputs and "widget" not in outputs


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_run_all(page, lab, name):
    open_notebook(page, lab, name)
    choose(page, "Run", "runmenu:run-all")
    wait_until_run(page)
    check(page, lab, name)
    check_figures(page)
    if name == START:
        check_bar(page, lab, name, "image/s")


def test_an_inversion_shows_its_progress(page, lab):
    open_notebook(page, lab, OWN)
    choose(page, "Run", "runmenu:run-all")
    wait_until_run(page)
    check(page, lab, OWN)
    check_bar(page, lab, OWN, "OTI")


def test_the_page_to_try_runs_in_a_notebook(page, lab):
    """Its model gives torch's embeddings, its slider closes the gap, and the file stays small."""
    open_notebook(page, lab, LIVE)
    choose(page, "Run", "runmenu:run-all")
    page.wait_for_selector(".jp-OutputArea .live .grid li", timeout=60_000)
    live = "document.querySelector('.jp-OutputArea .live').live"
    texts = ["a heart at sea", "a red star"]
    each = f"async (text) => [...await {live}.ask('text', text)]"
    asked = f"(texts) => Promise.all(texts.map({each}))"
    expected = registry.load("mini-clip").encode_text(texts).numpy()
    assert np.abs(page.evaluate(asked, texts) - expected).max() < 1e-6
    page.click(".live button >> text=close it")
    value = "document.querySelector('.live [data-subject=pairs] .metrics dd').textContent"
    page.wait_for_function(f"Number({value}) < 0.05", timeout=60_000)
    check(page, lab, LIVE)
    assert (lab[2] / f"{LIVE}.ipynb").stat().st_size < 10_000


def test_restart_and_run_all(page, lab):
    open_notebook(page, lab, RESTARTED)
    choose(page, "Run", "runmenu:restart-and-run-all")
    page.click(".jp-Dialog-button.jp-mod-accept")
    wait_until_run(page)
    check(page, lab, RESTARTED)
    check_figures(page)

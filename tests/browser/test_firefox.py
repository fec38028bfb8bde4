"""The live page in Firefox, by WebDriver BiDi: playwright drives only a build of its own."""

import itertools
import json
import re
import shutil
import subprocess
import time

import numpy as np
import pytest
import websocket

from lib.encoders import registry

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),  # MyST-NB's, of Sphinx
]
TEXTS = ["a heart at sea", "a red star", "a zebra"]
SCRIPT = """(async () => {
    const until = async (found) => {
        while (!found()) await new Promise((resolve) => setTimeout(resolve, 100));
        return found();
    };
    const live = await until(() => document.getElementById("live").live);
    const rows = await Promise.all(TEXTS.map(async (text) => [...await live.ask("text", text)]));
    const buttons = [...document.querySelectorAll(".live button")];
    buttons.find((button) => button.textContent === "close it").click();
    const shown = ".live [data-subject=pairs] .metrics dd";
    const distance = () => Number(document.querySelector(shown)?.textContent || 1);
    await until(() => distance() < 0.05);
    return JSON.stringify({ rows, distance: distance() });
})()"""


@pytest.fixture
def firefox(tmp_path):
    """A function that sends Firefox a command and gives its result."""
    program = shutil.which("firefox") or shutil.which("firefox-esr")
    if program is None:
        pytest.skip("no Firefox here (on Debian the package firefox-esr)")
    options = ["--headless", "--no-remote", "--profile", str(tmp_path)]
    log = (tmp_path / "log").open("w+")
    process = subprocess.Popen(
        [program, *options, "--remote-debugging-port=0"], stdout=log, stderr=log
    )
    try:
        socket = websocket.create_connection(f"{_address(log)}/session", suppress_origin=True)
        numbers = itertools.count()

        def send(method: str, **parameters):
            socket.send(json.dumps({"id": next(numbers), "method": method, "params": parameters}))
            while "id" not in (answer := json.loads(socket.recv())):
                pass
            assert answer["type"] == "success", answer
            return answer["result"]

        send("session.new", capabilities={})
        yield send
    finally:
        process.terminate()
        process.wait(30)


def _address(log) -> str:
    for _ in range(600):
        log.seek(0)
        if found := re.search(r"WebDriver BiDi listening on (\S+)", log.read()):
            return found[1]
        time.sleep(0.1)
    raise TimeoutError("Firefox did not open its remote port within a minute.")


def test_the_page_computes_in_firefox_as_torch_does(firefox, website):
    tab = firefox("browsingContext.getTree")["contexts"][0]["context"]
    firefox("browsingContext.navigate", context=tab, url=f"{website[1]}/try.html", wait="complete")
    script = SCRIPT.replace("TEXTS", json.dumps(TEXTS))
    said = firefox("script.evaluate", expression=script, target={"context": tab}, awaitPromise=True)
    found = json.loads(said["result"]["value"])
    expected = registry.load("mini-clip").encode_text(TEXTS).numpy()
    assert np.abs(np.array(found["rows"]) - expected).max() < 1e-5
    assert found["distance"] < 0.05

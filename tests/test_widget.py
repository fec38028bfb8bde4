"""The page "Try it" in a notebook, as far as it needs no browser (see browser/test_jupyterlab)."""

import sys

import pytest

from docs import citation, live_data, widget
from lib.encoders import registry
from lib.encoders.download import NotAvailable

FORK = {"repository-code": "https://github.com/Some-One/the.gap"}


def test_one_module_holds_all_scripts():
    text = widget.script()
    assert text.count("export default") == 1
    assert text.index("globalThis.liveClip") < text.index("globalThis.liveMount")


def test_the_widget_brings_its_data(monkeypatch):
    monkeypatch.setattr(live_data, "parts", lambda: {"data": {"name": "mini-clip"}})
    page = widget.page()
    assert page.get_state()["parts"] == {"data": {"name": "mini-clip"}}
    assert ".live" in page._css


def test_without_anywidget_a_sentence_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(ModuleNotFoundError, match="pip install anywidget"):
        widget.page()


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"repository-code": f"https://github.com/{citation.NOWHERE}"}, "./run_all.sh --site"),
        (FORK, "https://some-one.github.io/the.gap/try.html"),
    ],
)
def test_the_picture_says_where_the_page_is(monkeypatch, about, said):
    monkeypatch.setattr(citation, "read", lambda: about)
    shown = []
    monkeypatch.setattr(widget, "display", shown.append)
    widget.picture()
    image, text = shown
    assert image.data.startswith(b"\x89PNG") and image.alt
    assert said in text.data


def test_models_that_are_not_there_are_left_out(monkeypatch):
    load = registry.load

    def only(name):
        if name != live_data.MODEL:
            raise NotAvailable(f"{name} is not here")
        return load(name)

    monkeypatch.setattr(registry, "load", only)
    monkeypatch.setattr(live_data, "real_pairs", lambda: None)
    monkeypatch.setattr(live_data, "model", lambda: {"a": 1})
    assert live_data.parts() == {"data": {"a": 1}}

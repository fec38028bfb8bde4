"""Progress bars show to somebody, and to nobody where they are switched off."""

import pytest
from tqdm.notebook import tqdm as widget

from lib import bars


@pytest.mark.parametrize("kind", [bars.tqdm, widget])
def test_switched_off_in_every_surrounding(monkeypatch, kind):
    monkeypatch.setattr(bars, "tqdm", kind)
    monkeypatch.setenv("TQDM_DISABLE", "1")
    assert bars.bar(range(3), unit="item").disable
    assert list(bars.bar(range(3))) == [0, 1, 2]
    monkeypatch.delenv("TQDM_DISABLE")
    assert not bars.bar(total=3, desc="OTI").disable


@pytest.mark.parametrize("done, left", [(3, ""), (1, "1/3")])
def test_a_notebook_keeps_no_widget(monkeypatch, done, left):
    """Whoever opened it again would read that there is no such widget."""
    shown, replaced = [], []

    class Handle:
        def update(self, data, raw):
            replaced.append(data["text/plain"])

    monkeypatch.setattr(bars, "tqdm", widget)
    monkeypatch.setattr(bars, "display", lambda what, display_id: shown.append(what) or Handle())
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    with bars.bar(total=3) as bar:
        assert not shown
        bar.start_t = bar.last_print_t = bar.start_t - 2  # as if two seconds had gone by
        bar.update(done)
        assert shown == [bar.container] and not replaced
    assert len(replaced) == 1 and left in replaced[0] and bool(left) == bool(replaced[0])

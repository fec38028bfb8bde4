"""Progress bars show to somebody, and to nobody where they are switched off."""

import pytest
from tqdm.notebook import tqdm as widget

from lib import progress


@pytest.mark.parametrize("kind", [progress.tqdm, widget])
def test_switched_off_in_every_surrounding(monkeypatch, kind):
    monkeypatch.setattr(progress, "tqdm", kind)
    monkeypatch.setenv("TQDM_DISABLE", "1")
    assert progress.bar(range(3), unit="item").disable
    assert list(progress.bar(range(3))) == [0, 1, 2]
    monkeypatch.delenv("TQDM_DISABLE")
    assert not progress.bar(total=3, desc="OTI").disable


@pytest.mark.parametrize("done, left", [(3, ""), (1, "1/3")])
def test_a_notebook_keeps_no_widget(monkeypatch, done, left):
    """Whoever opened it again would read that there is no such widget."""
    shown, replaced = [], []

    class Handle:
        def update(self, data, raw):
            replaced.append(data["text/plain"])

    monkeypatch.setattr(progress, "tqdm", widget)
    monkeypatch.setattr(
        progress, "display", lambda what, display_id: shown.append(what) or Handle()
    )
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    with progress.bar(total=3) as bar:
        assert not shown
        bar.start_t = bar.last_print_t = bar.start_t - 2  # as if two seconds had gone by
        bar.update(done)
        assert shown == [bar.container] and not replaced
    assert len(replaced) == 1 and left in replaced[0] and bool(left) == bool(replaced[0])


def test_short_work_leaves_nothing_in_a_log(monkeypatch, capsys):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    assert sum(progress.bar(range(100), unit="item")) == 4950
    monkeypatch.setattr(progress, "EVERY", 1e-9)
    assert not capsys.readouterr().err
    assert sum(progress.bar(range(3), unit="item")) == 3
    assert "item 2 of 3, about " in capsys.readouterr().err

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

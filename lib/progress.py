"""Progress of long work: bars in a terminal, widgets in JupyterLab, lines in a log, or in a file.

The file is the one that MODALITY_GAP_PROGRESS names: what runs a notebook reads how far it is.
"""

import io
import os
import sys
from contextlib import suppress
from pathlib import Path

from IPython.display import display
from tqdm import tqdm as plain
from tqdm.auto import tqdm
from tqdm.notebook import tqdm as widget

from lib import paths

EVERY = 20  # seconds between two lines in a log


class _Widget(widget):
    """A bar in a notebook that is replaced by text at the end: by none if the work was completed.

    tqdm's own stays in the saved notebook as a widget that no longer exists. JupyterLab then says
    "Error displaying widget: model not found" to anyone who opens the notebook again.
    """

    shown = None

    def display(self, *args, check_delay=True, **options):
        super().display(*args, check_delay=False, **options)
        if check_delay and not self.displayed:
            self.displayed = True
            self.shown = display(self.container, display_id=True)

    def close(self):
        super().close()
        if self.shown:
            stopped = self.total and self.n < self.total
            text = repr(self.container) if stopped else ""
            self.shown.update({"text/plain": text}, raw=True)
            self.shown = None


class _Line(plain):
    """A bar that is a line in a file, written anew every second, and empty at the end."""

    def display(self, msg=None, pos=None):
        of = f" of {self.total:,}" if self.total else ""
        self._write(f"{self.desc or self.unit.strip()} {self.n:,}{of}")

    def close(self):
        if not self.disable:
            self._write("")
        self.disable = True

    def _write(self, text: str) -> None:
        with suppress(OSError):  # a run does not fail for its progress
            Path(os.environ[paths.PROGRESS]).write_text(text, encoding="utf-8")


class _Log(_Line):
    """A bar that is a new line every EVERY seconds, for standard error that goes to a file."""

    def _write(self, text: str) -> None:
        if text and self.n and self.total:
            left = self.format_dict["elapsed"] * (self.total - self.n) / self.n
            print(f"{text}, about {left:.0f} s left", file=sys.stderr, flush=True)


def bar(iterable=None, **options) -> tqdm:
    """A bar of tqdm that shows after two seconds and is gone at the end.

    None at all where TQDM_DISABLE is set, as for notebooks that nobody watches: tqdm's own widget
    overlooks the variable. A line in a file where MODALITY_GAP_PROGRESS names one, and lines in a
    log where no terminal shows a bar.
    """
    if os.environ.get(paths.PROGRESS):
        return _Line(iterable, disable=False, delay=2, mininterval=1, file=io.StringIO(), **options)
    silent = bool(os.environ.get("TQDM_DISABLE"))
    kind = _Widget if issubclass(tqdm, widget) else tqdm
    if kind is tqdm and not sys.stderr.isatty():
        return _Log(iterable, disable=silent, delay=EVERY, mininterval=EVERY, maxinterval=EVERY,
            file=io.StringIO(), **options)  # fmt: skip
    return kind(iterable, disable=silent, delay=2, leave=False, **options)

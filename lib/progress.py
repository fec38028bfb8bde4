"""Progress bars of long work: in a terminal, and as widgets in JupyterLab."""

import os

from IPython.display import display
from tqdm.auto import tqdm
from tqdm.notebook import tqdm as widget


class _Widget(widget):
    """A bar in a notebook that is replaced by text at the end: by none if the work was completed.

    tqdm's own stays in the saved notebook as a widget that is no more, and JupyterLab says "Error
    displaying widget: model not found" to whoever opens it again.
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


def bar(iterable=None, **options) -> tqdm:
    """A bar of tqdm that shows after two seconds and is gone at the end.

    None at all where TQDM_DISABLE is set, as for notebooks that nobody watches: tqdm's own widget
    overlooks the variable.
    """
    silent = bool(os.environ.get("TQDM_DISABLE"))
    kind = _Widget if issubclass(tqdm, widget) else tqdm
    return kind(iterable, disable=silent, delay=2, leave=False, **options)

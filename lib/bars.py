"""Progress bars of long work: in a terminal, and as widgets in JupyterLab."""

import os

from tqdm.auto import tqdm


def bar(iterable=None, **options) -> tqdm:
    """A bar of tqdm that shows after two seconds and is gone at the end.

    None at all where TQDM_DISABLE is set, as for notebooks that nobody watches: tqdm's own widget
    overlooks the variable.
    """
    silent = bool(os.environ.get("TQDM_DISABLE"))
    return tqdm(iterable, disable=silent, delay=2, leave=False, **options)

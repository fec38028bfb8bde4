"""One look for every figure: style, sizes in inches, colours with fixed meanings, saving."""

import os
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

COLUMN, PAGE = 3.4, 7.0  # width of a column and of a page, in inches

# Okabe and Ito's palette, told apart by colour-blind readers. A meaning keeps its colour
# in every figure; what has none takes the next of the style's cycle.
COLOURS = {
    "image": "#0072B2",  # blue
    "text": "#D55E00",  # vermillion
    "pair": "#009E73",  # bluish green: an image and its own text
    "mismatch": "#999999",  # grey: an image and another text
    "gap": "#CC79A7",  # reddish purple: the gap vector
    "paper": "#000000",  # black: the paper's number
    "real": "#E69F00",  # orange: published CLIP embeddings, beside the profile's model
    "reference": "#BBBBBB",  # light grey: chance, untrained, zero lines
}
IMAGE, TEXT, PAIR, MISMATCH = (COLOURS[role] for role in ("image", "text", "pair", "mismatch"))
GAP, PAPER, REAL, REFERENCE = (COLOURS[role] for role in ("gap", "paper", "real", "reference"))


def use() -> None:
    """Draw in the style of this collection, whatever the user's own settings are."""
    plt.style.use(["default", Path(__file__).with_suffix(".mplstyle")])


def savefig(figure: Figure, path: str | Path) -> None:
    """Write `<path>.png` (200 dpi) and `<path>.pdf`; the same figure gives the same bytes.

    Args:
        figure: what to save; its size in inches is kept.
        path: without a suffix, or with `.png` or `.pdf` for that one alone.

    Raises: ValueError for any other suffix.
    """
    path = Path(path)
    if path.suffix not in ("", ".png", ".pdf"):
        raise ValueError(f"{path.name}: figures are saved as .png and .pdf.")
    path.parent.mkdir(parents=True, exist_ok=True)
    layout = figure.get_layout_engine()
    for suffix in [path.suffix] if path.suffix else [".png", ".pdf"]:
        _save(figure, path.with_suffix(suffix))
        # Laid out once: it takes as long as drawing, and both files shall look the same.
        figure.set_layout_engine("none")
    figure.set_layout_engine(layout or "none")


def _save(figure: Figure, path: Path) -> None:
    # Without the date and the version of the program, which differ between equal figures.
    dateless = {
        ".png": {"Software": None},
        ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }[path.suffix]
    unfinished = path.with_name(f".{os.getpid()}.{path.name}")
    figure.savefig(unfinished, format=path.suffix[1:], metadata=dateless)
    os.replace(unfinished, path)

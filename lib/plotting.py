"""One look for every figure: style, sizes in inches, colours with fixed meanings, shared panels."""

import re
import string
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, repeat
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from lib import files

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
    "main": "#444444",  # dark grey: the profile's main model, and what has no other meaning
    "rival": "#56B4E9",  # sky blue: the model that it is compared with
    "minor": "#888888",  # grey: further models, and marks of a legend that hold for all colours
    "rule": "#DDDDDD",  # the lightest grey: lines that part the rows of a panel
}
IMAGE, TEXT, PAIR, MISMATCH = (COLOURS[role] for role in ("image", "text", "pair", "mismatch"))
GAP, PAPER, REAL, REFERENCE = (COLOURS[role] for role in ("gap", "paper", "real", "reference"))
MAIN, RIVAL, MINOR, RULE = (COLOURS[role] for role in ("main", "rival", "minor", "rule"))
# Colour and mark of AlignCLIP's three models, by their role.
FAMILIES = {"clip": (MAIN, "o"), "shared": (RIVAL, "s"), "align": (PAIR, "D")}


def use() -> None:
    """Draw in the style of this collection, and ignore the user's own settings."""
    plt.style.use(["default", Path(__file__).with_suffix(".mplstyle")])


# What panels share --------------------------------------------------------------------------------


def intervals(
    ax: Axes,
    table: pd.DataFrame,
    rows: Mapping[object, str] | Sequence[object],
    row: str = "data",
    series: str | None = None,
    look: Mapping[object, tuple[str, str]] | None = None,
    filled: bool = True,
    upright: bool = False,
) -> None:
    """Dots with their 95 % intervals, one row for each entry; other training seeds as small dots.

    Args:
        table: tidy, with the columns value, low and high. Where it has a column `seed`, rows above
            0 are other training seeds: a small dot beside the main one, without interval.
        rows: the entries of the column `row` from the top down, and their labels.
        series: the column whose entries lie beside each other in a row, in the order of `look`.
        look: colour and mark of each of these entries, or without `series` of each row; where it
            is not given, `MAIN` and a circle.
        filled: False for open marks, to draw a second measure into the same panel.
        upright: the values on the vertical axis, the rows side by side.
    """
    labels = dict(rows) if isinstance(rows, Mapping) else {key: minus(key) for key in rows}
    place = {key: k for k, key in enumerate(labels)}
    look = look or {None: (MAIN, "o")}
    some = table[table[row].isin(place)]
    for k, (entry, (colour, mark)) in enumerate(look.items()):
        # One by one: pandas would compare an entry that is a tuple part by part.
        of_entry = [entry in (None, each) for each in some[series or row]]
        its = some[np.array(of_entry, bool)]
        beside = (k - (len(look) - 1) / 2) * 0.7 / len(look) if series else 0.0
        other = its.seed > 0 if "seed" in its else np.zeros(len(its), bool)
        at = its[row].map(place).to_numpy(float) + beside
        _intervals(ax, at[~other], its[~other], colour, mark, filled, upright)
        dots = its.value[other], at[other] + 0.2 / (len(look) if series else 1)
        ax.plot(*(dots[::-1] if upright else dots), ".", ms=3, color=colour, zorder=4)
    (ax.set_xticks if upright else ax.set_yticks)(range(len(labels)), labels.values())
    ends = (-0.5, len(labels) - 0.5)
    ax.set(**({"xlim": ends} if upright else {"ylim": ends[::-1]}))
    ax.tick_params(axis="x" if upright else "y", length=0)


def _intervals(ax: Axes, at, its: pd.DataFrame, colour: str, mark: str, filled, upright) -> None:
    lines = ax.vlines if upright else ax.hlines
    lines(at, its.low, its.high, color=colour, lw=1.2)
    dots = (at, its.value) if upright else (its.value, at)
    ax.plot(*dots, mark, ms=4.5, color=colour, mfc=colour if filled else "white")


def reference(ax: Axes, *values: float, upright: bool = False) -> None:
    """Dashed lines at values that numbers are compared with, by default at 0."""
    for value in values or (0.0,):
        draw = ax.axhline if upright else ax.axvline
        draw(value, color=REFERENCE, lw=0.8, ls="--", zorder=0)


def between_rows(ax: Axes, n: int) -> None:
    """Thin lines between the n rows of a panel of `intervals`."""
    for k in range(1, n):
        ax.axhline(k - 0.5, color=RULE, lw=0.5, zorder=0)


def activations(ax: Axes, values, colour: str, spread=0) -> None:
    """The entries (d,) of an embedding by dimension, and a band of ± `spread` (d,) around them."""
    ax.fill_between(range(len(values)), values - spread, values + spread, color=REFERENCE, lw=0)
    ax.plot(values, color=colour, lw=0.7)
    ax.margins(x=0.02)


def heat_map(ax: Axes, wide: pd.DataFrame, spec: str = "+z.1f", bold=None) -> None:
    """Numbers in coloured cells, orange below 0 and purple above; rows and columns as in `wide`.

    `bold` (of the same shape) marks the numbers to be seen first; cells with nan stay empty.
    """
    most = np.nanmax(np.abs(wide.to_numpy(float)))
    ax.imshow(wide, cmap="PuOr", vmin=-1.25 * most, vmax=1.25 * most, aspect="auto")
    for (i, j), value in np.ndenumerate(wide.to_numpy(float)):
        colour = "white" if abs(value) > 0.7 * most else "black"
        weight = "bold" if bold is not None and np.asarray(bold)[i, j] else "normal"
        look = {"fontsize": 6, "color": colour, "weight": weight}
        label = "" if np.isnan(value) else minus(format(value, spec))
        ax.text(j, i, label, ha="center", va="center", **look)
    ax.set_xticks(range(wide.shape[1]), wide.columns)
    ax.set_yticks(range(wide.shape[0]), map(minus, wide.index))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def heat_map_of_estimates(
    ax: Axes,
    table: pd.DataFrame,
    rows: Sequence[object],
    columns: Sequence[object],
    row: str = "model",
    column: str = "measure",
    spec: str = "+z.1f",
) -> None:
    """`heat_map` of a tidy table (value, low, high), bold where the interval lies on one side of 0.

    Args:
        rows, columns: the entries of the columns `row` and `column`; what the table lacks is empty.
    """
    wide = table.pivot(index=row, columns=column, values=["value", "low", "high"])
    value, low, high = (
        wide[end].reindex(index=list(rows), columns=list(columns))
        for end in ("value", "low", "high")
    )
    heat_map(ax, value, spec, bold=(low > 0) | (high < 0))


def letters(axes: Iterable[Axes], titles: Iterable[str] = ()) -> None:
    """a, b, c, … before the titles of the panels; a panel without a title has its letter alone."""
    named = zip(axes, string.ascii_lowercase, chain(titles, repeat("")), strict=False)
    for ax, letter, title in named:
        ax.set_title(f"{letter}  {title}".rstrip())


def mark(label: str, colour: str = MINOR, marker: str = "o", **more) -> Line2D:
    """An entry of a legend: a mark without a line, unless `ls` says so."""
    return Line2D([], [], **{"color": colour, "marker": marker, "ls": "", "label": label} | more)


def line(label: str, colour: str = REFERENCE, ls: str = "--") -> Line2D:
    """An entry of a legend: a line, by default as `reference` draws it."""
    return mark(label, colour, "", ls=ls, lw=1)


def seeds(colour: str = MINOR) -> Line2D:
    """The entry of a legend for the small dots of `intervals`."""
    return mark("other training seeds", colour, ".", ms=3)


def minus(words: object) -> str:
    """Words with minus signs for the hyphens before numbers, as on the axes."""
    return re.sub(r"(?<!\w)-(?=[\d.])", "−", str(words))


def percent(ax: Axes) -> None:
    """Shares on the vertical axis, labelled in percent."""
    ax.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))


def label_set(key: str) -> str:
    """The name of a label set on an axis, e.g. "shape × colour"."""
    return key.replace("_", " × ").replace(" × texture", "\n× texture")


# Saving -------------------------------------------------------------------------------------------


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
    with files.put(path) as unfinished:
        figure.savefig(unfinished, format=path.suffix[1:], metadata=dateless)

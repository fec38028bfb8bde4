"""The picture of a gap card."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from docs.gap_measured import BEFORE, POST, SHIFTED, Column
from lib import plotting
from lib.measures import card

PERMUTED = "permuted pairs"
ROOM = 16  # letters of a model's name
LOOK = {BEFORE: (plotting.MAIN, "D"), POST: (plotting.PAIR, "o"), SHIFTED: (plotting.GAP, "s")}
CHANCE = {PERMUTED: (plotting.MISMATCH, "x")}
PANELS = {  # title -> the measure of filled marks, and that of open ones
    "centroid distance": ("centroid distance",),
    "linear separability": ("linear separability",),
    "AUC of a held-out classifier": ("classifier AUC",),
    "cosine of pairs (open: random)": ("pair cosine", "random cosine"),
    "uniformity, images (open: texts)": ("uniformity, images", "uniformity, texts"),
    "hubness, images (open: texts)": ("hubness, images", "hubness, texts"),
    **{
        f"R@{k} in %, I to T (open: T to I)": (f"R@{k}, image to text", f"R@{k}, text to image")
        for k in card.KS
    },
    "peak share, images (open: texts)": ("peak share, images", "peak share, texts"),
}


def draw(columns: list[Column], target: Path) -> None:
    """Write the picture of a card, the first column of which is the researcher's."""
    plotting.use()
    figure, axes = plt.subplots(4, 3, figsize=(plotting.PAGE, 8.4), layout="constrained")
    for k, (ax, (title, measures)) in enumerate(zip(axes.flat, PANELS.items(), strict=False)):
        panel(ax, columns, measures)
        ax.set_title(title, fontsize=7)
        if k % 3:
            ax.tick_params(labelleft=False)
    own = columns[0]
    for ax, (side, (mean, std)) in zip(axes[3, 1:], own.profile.items(), strict=True):
        colour = plotting.IMAGE if side == "images" else plotting.TEXT
        plotting.activations(ax, mean, colour, std)
        ax.set_title(f"mean ± sd of {side}, {short(own)}", fontsize=7)
        ax.set_xlabel("dimension")
    marks = [plotting.mark(stage, *look) for stage, look in (LOOK | CHANCE).items()]
    figure.legend(handles=marks, loc="outside upper center", ncols=len(marks))
    plotting.savefig(figure, target)
    plt.close(figure)


def panel(ax: Axes, columns: list[Column], measures: tuple[str, ...]) -> None:
    """A measure of every model and stage; a second one with open marks."""
    rows = {str(k): short(column) for k, column in enumerate(columns)}
    tables = [estimates(columns, name) for name in measures]
    look = LOOK | (CHANCE if any(PERMUTED in set(table.stage) for table in tables) else {})
    for table, filled in zip(tables, (True, False), strict=False):
        plotting.intervals(ax, table, rows, "model", "stage", look, filled)
    plotting.between_rows(ax, len(columns))


def estimates(columns: list[Column], name: str) -> pd.DataFrame:
    """A tidy table of one measure, in percent for recall."""
    factor, rows = 100 if name.startswith("R@") else 1, []
    for k, column in enumerate(columns):
        found = {stage: its[name] for stage, its in column.measured.items()}
        if name in column.permuted[BEFORE]:
            found[PERMUTED] = column.permuted[BEFORE][name]
        for stage, e in found.items():
            e = factor * e
            rows.append((str(k), stage, e.value, e.low, e.high))
    return pd.DataFrame(rows, columns=["model", "stage", "value", "low", "high"])


def short(column: Column) -> str:
    """A model's name, as far as there is room."""
    return column.name if len(column.name) <= ROOM else column.name[: ROOM - 1] + "…"

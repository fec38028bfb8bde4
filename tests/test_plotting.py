"""The style: fixed sizes and colours, and equal figures are equal bytes."""

import hashlib
import os
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lib import paths, plotting

DRAW = """
import sys
import numpy as np
import matplotlib.pyplot as plt
from lib import plotting
plotting.use()
figure, (left, right) = plt.subplots(1, 2, figsize=(plotting.PAGE, 2.4))
for seed, colour in enumerate([plotting.IMAGE, plotting.TEXT]):
    x = np.random.default_rng(seed).normal(size=(200, 2))
    left.scatter(*x.T, s=4, color=colour, label=f"$x_{seed}$")
    right.hist(x[:, 0], alpha=0.5)
right.imshow(x[:20], cmap="cividis")
left.legend()
left.set(title="Gap é", xlabel="first", ylabel="second")
plotting.savefig(figure, sys.argv[1])
"""


@pytest.fixture(autouse=True)
def default_style():
    with plt.rc_context():
        yield
    plt.close("all")


def test_equal_figures_are_equal_bytes(tmp_path):
    digests = set()
    for seed in ("1", "2"):  # another process, another order of sets
        command = [sys.executable, "-c", DRAW, str(tmp_path / seed)]
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(paths.ROOT)}
        subprocess.run(command, check=True, env=environment, cwd=tmp_path)
        files = [tmp_path / f"{seed}.png", tmp_path / f"{seed}.pdf"]
        digests.add(tuple(hashlib.sha256(file.read_bytes()).hexdigest() for file in files))
        assert b"CreationDate" not in files[1].read_bytes()
    assert len(digests) == 1


def test_sizes_are_kept(tmp_path):
    plotting.use()
    figure, axes = plt.subplots(figsize=(plotting.COLUMN, 2))
    axes.plot([1, 2])
    plotting.savefig(figure, tmp_path / "a" / "figure")
    height, width, _ = plt.imread(tmp_path / "a" / "figure.png").shape
    assert (width, height) == (round(3.4 * 200), 400)
    assert sorted(file.name for file in (tmp_path / "a").iterdir()) == ["figure.pdf", "figure.png"]


def test_both_files_have_one_layout(tmp_path, monkeypatch):
    plotting.use()
    figure = plt.figure()
    figure.add_subplot()
    layout, laid_out = figure.get_layout_engine(), []
    own = layout.execute
    monkeypatch.setattr(layout, "execute", lambda f: laid_out.append(f) or own(f))
    plotting.savefig(figure, tmp_path / "figure")
    assert laid_out == [figure] and figure.get_layout_engine() is layout


def test_a_figure_without_layout_stays_so(tmp_path):
    figure = plt.figure(layout="none")
    figure.add_subplot().plot([1, 2])
    plotting.savefig(figure, tmp_path / "figure")
    assert not figure.get_constrained_layout()


def test_one_suffix_saves_one_file(tmp_path):
    figure, _ = plt.subplots()
    plotting.savefig(figure, tmp_path / "only.pdf")
    assert [file.name for file in tmp_path.iterdir()] == ["only.pdf"]
    with pytest.raises(ValueError, match=r"only\.svg"):
        plotting.savefig(figure, tmp_path / "only.svg")


def test_use_overrides_the_users_settings():
    plt.rcParams.update({"font.size": 30, "axes.grid": True, "lines.linestyle": "--"})
    plotting.use()
    assert plt.rcParams["font.size"] == 8
    assert not plt.rcParams["axes.grid"]
    assert plt.rcParams["lines.linestyle"] == "-"
    assert plt.rcParams["font.sans-serif"] == ["DejaVu Sans"]


OKABE_ITO = ["#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#000000"]


# What panels share --------------------------------------------------------------------------------

TABLE = pd.DataFrame(
    [
        *(["shape", "clip", 0, 1.0, 0.5, 1.5], ["shape", "clip", 1, 1.2, 0.9, 1.4]),
        *(["shape", "align", 0, 2.0, 1.5, 2.5], ["colour", "clip", 0, 3.0, 2.5, 3.25]),
        *(["colour", "clip", 2, 2.8, 2.0, 3.0], ["other", "clip", 0, 9.0, 8.0, 10.0]),
    ],
    columns=["data", "model", "seed", "value", "low", "high"],
)
LOOK = {"clip": (plotting.MAIN, "o"), "align": (plotting.PAIR, "D")}


def panel(**options):
    _, ax = plt.subplots()
    plotting.intervals(ax, TABLE, {"colour": "Colour", "shape": "Shape"}, **options)
    return ax


def segments(ax):
    """The ends of all intervals, as they were drawn."""
    drawn = [s for lines in ax.collections for s in lines.get_segments()]
    return sorted(np.round(segment, 6).tolist() for segment in drawn)


def dots(ax, mark):
    lines = [line for line in ax.lines if line.get_marker() == mark]
    return sorted(p for line in lines for p in np.round(line.get_xydata(), 6).tolist())


def test_intervals_stand_in_rows_from_the_top_down():
    ax = panel()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["Colour", "Shape"]
    assert ax.get_yticks().tolist() == [0, 1] and ax.get_ylim() == (1.5, -0.5)
    assert dots(ax, "o") == [[1, 1], [2, 1], [3, 0]]  # what is in no row is not drawn
    assert segments(ax) == [[[0.5, 1], [1.5, 1]], [[1.5, 1], [2.5, 1]], [[2.5, 0], [3.25, 0]]]


def test_other_seeds_are_dots_without_an_interval():
    ax = panel()
    assert [x for x, _ in dots(ax, ".")] == [1.2, 2.8]
    assert len(segments(ax)) == 3
    own = {0: 0.0, 1: 1.0}
    for (_, y), row in zip(dots(ax, "."), (1, 0), strict=True):
        assert 0 < y - own[row] < 0.5  # beside the main one, in its row


def test_series_lie_beside_each_other_in_the_order_of_their_look():
    ax = panel(series="model", look=LOOK)
    ((_, clip),) = [p for p in dots(ax, "o") if p[0] == 1]
    ((_, align),) = dots(ax, "D")
    assert 0.5 < clip < 1 < align < 1.5
    colours = {line.get_marker(): line.get_color() for line in ax.lines if len(line.get_xdata())}
    assert (colours["o"], colours["D"]) == (plotting.MAIN, plotting.PAIR)


def test_upright_intervals_are_the_same_the_other_way_round():
    lying, upright = (
        panel(series="model", look=LOOK),
        panel(series="model", look=LOOK, upright=True),
    )
    for mark in ("o", "D", "."):
        assert dots(upright, mark) == sorted([y, x] for x, y in dots(lying, mark))
    turned = sorted([end[::-1] for end in segment] for segment in segments(lying))
    assert segments(upright) == turned
    assert [label.get_text() for label in upright.get_xticklabels()] == ["Colour", "Shape"]
    assert upright.get_xlim() == (-0.5, 1.5)


def test_open_marks():
    assert {line.get_markerfacecolor() for line in panel(filled=False).lines} >= {"white"}
    closed = [line for line in panel().lines if line.get_marker() == "o"]
    assert {line.get_markerfacecolor() for line in closed} == {plotting.MAIN}


def test_activations_lie_in_their_band():
    _, ax = plt.subplots()
    mean, std = np.array([0.5, -0.25, 0.0]), np.array([0.125, 0.25, 0.0])
    plotting.activations(ax, mean, plotting.IMAGE, std)
    assert list(ax.lines[0].get_ydata()) == [0.5, -0.25, 0]
    band = ax.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == -0.5 and band[:, 1].max() == 0.625
    plt.close("all")


def test_numbers_of_a_heat_map_stand_in_their_cells():
    wide = pd.DataFrame([[1.0, -2.0], [0.01, np.nan]], index=["a", "b"], columns=["x", "y"])
    _, ax = plt.subplots()
    plotting.heat_map(ax, wide, bold=[[False, True], [False, False]])
    texts = {text.get_position(): text for text in ax.texts if text.get_text()}
    assert {at: text.get_text() for at, text in texts.items()} == {
        (0, 0): "+1.0", (1, 0): "−2.0", (0, 1): "+0.0"
    }  # fmt: skip
    assert [at for at, text in texts.items() if text.get_weight() == "bold"] == [(1, 0)]
    assert texts[1, 0].get_color() == "white" and texts[0, 0].get_color() == "black"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["x", "y"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    (image,) = ax.images
    assert image.get_clim() == (-2.5, 2.5)  # 0 has the colour in the middle
    ((below, _, _, _), (above, _, _, _)) = image.to_rgba(np.array([-2.0, 2.0]))
    assert below > above  # orange is redder than purple


def test_letters_name_the_panels():
    plotting.use()
    _, axes = plt.subplots(1, 3)
    plotting.letters(axes)
    assert [ax.get_title(loc="left") for ax in axes] == ["a", "b", "c"]
    plotting.letters(axes, ["Images", "Texts"])
    assert [ax.get_title(loc="left") for ax in axes] == ["a  Images", "b  Texts", "c"]


def test_a_mark_of_a_legend_has_no_line():
    entry = plotting.mark("seeds", marker="D")
    assert (entry.get_label(), entry.get_marker()) == ("seeds", "D")
    assert entry.get_linestyle() == "None" and entry.get_color() == plotting.MINOR
    chance = plotting.line("chance")
    assert (chance.get_linestyle(), chance.get_color()) == ("--", plotting.REFERENCE)
    assert plotting.seeds().get_marker() == "."  # as `intervals` draws them


def test_minus_signs_stand_before_numbers_only():
    said = {"λ=-0.5": "λ=−0.5", "-3": "−3", "mini-clip-2": "mini-clip-2", "1e-5": "1e-5"}
    assert {words: plotting.minus(words) for words in said} == said


def test_reference_lines():
    _, ax = plt.subplots()
    plotting.reference(ax)
    plotting.reference(ax, 1, 2, upright=True)
    assert [list(line.get_xdata()) for line in ax.lines[:1]] == [[0, 0]]
    assert [list(line.get_ydata()) for line in ax.lines[1:]] == [[1, 1], [2, 2]]


# Colours ------------------------------------------------------------------------------------------

GREYS = ("MISMATCH", "REFERENCE", "MAIN", "MINOR", "RULE")


def test_colours_are_those_of_okabe_and_ito():
    plotting.use()
    cycle = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    greys = {getattr(plotting, name) for name in GREYS}
    assert {*plotting.COLOURS.values(), *cycle} <= {*OKABE_ITO, *greys}
    assert len(set(plotting.COLOURS.values())) == len(plotting.COLOURS)
    assert cycle[:2] == [plotting.IMAGE, plotting.TEXT]


def test_rows_of_intervals_have_their_own_colours_without_a_series():
    table = pd.DataFrame(
        {"model": ["a", "b", "b"], "value": [1.0, 2, 3], "low": 0.5, "high": 4, "seed": [0, 0, 1]}
    )
    _, ax = plt.subplots()
    look = {"a": (plotting.MAIN, "o"), "b": (plotting.RIVAL, "s")}
    plotting.intervals(ax, table, {"b": "second", "a": "first"}, row="model", look=look)
    dots = {
        (line.get_color(), line.get_marker(), *line.get_xdata(), *line.get_ydata())
        for line in ax.lines
        if len(line.get_xdata())
    }
    main, rival = (plotting.MAIN, "o", 1, 1), (plotting.RIVAL, "s", 2, 0)
    assert dots == {main, rival, (plotting.RIVAL, ".", 3, 0.2)}


def test_a_heat_map_of_estimates_marks_what_is_sure_and_leaves_what_is_lacking_empty():
    table = pd.DataFrame(
        [["a", "x", 2, 1, 3], ["a", "y", 1, -1, 3], ["b", "x", -2, -3, -1]],
        columns=["model", "measure", "value", "low", "high"],
    )
    _, ax = plt.subplots()
    plotting.heat_map_of_estimates(ax, table, ["b", "a"], ["x", "y"])
    shown = [(text.get_text(), text.get_weight()) for text in ax.texts]
    assert shown == [("−2.0", "bold"), ("", "normal"), ("+2.0", "bold"), ("+1.0", "normal")]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["b", "a"]


def test_entries_may_be_tuples():
    """Rows with keys of two parts, and none of them: pandas compares tuples part by part."""
    keys = [("a", "test"), ("b", "test"), ("c", "ink")]
    table = pd.DataFrame({"row": keys, "value": [1.0, 2, 3], "low": 0.0, "high": 4.0})
    look = dict.fromkeys(keys, ("black", "o"))
    for some, n in ((table, 3), (table.iloc[:2], 2), (table.iloc[:0], 0)):
        _, ax = plt.subplots()
        plotting.intervals(ax, some, dict.fromkeys(keys, ""), "row", look=look)
        assert sum(len(line.get_xdata()) for line in ax.lines) == n
        plt.close()

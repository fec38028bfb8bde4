"""The gap card: one page from two files, and one sentence for files that are none."""

import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from docs import gap_card, gap_measured, gap_picture
from lib import paths, profiles
from lib.data import published
from lib.encoders.download import NotAvailable
from workflow import cli

DRAW = gap_picture.draw


def pairs(n=120, d=16, seed=0):
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n, d))
    x, y = (shared + rng.standard_normal((n, d)) for _ in range(2))
    x[:, 0] += 4
    y[:, 1] += 4
    return x.astype(np.float32), y.astype(np.float32)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with x.npy and y.npy, where files are named and figures go.

    Without what takes long: the reference models and the picture.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paths, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(gap_card, "references", lambda: ([], "Real CLIP is left out."))
    monkeypatch.setattr(gap_card.gap_picture, "draw", lambda columns, target: no_picture(target))
    for name, rows in zip("xy", pairs(), strict=True):
        np.save(f"{name}.npy", rows)
    return tmp_path


def no_picture(target):
    target.parent.mkdir(parents=True)
    target.with_suffix(".png").write_bytes(b"")


def card(folder, name="mine"):
    return json.loads((folder / "figures" / name / "gap_card.json").read_text())


def test_a_card_is_a_page_a_picture_and_numbers(here, capsys, monkeypatch):
    monkeypatch.setattr(gap_card.gap_picture, "draw", DRAW)
    assert gap_card.main(["x.npy", "y.npy"]) == 0
    said = capsys.readouterr().out
    assert "120 images, 120 texts, 16 dimensions" in said
    folder = here / "figures" / "mine"
    assert {file.name for file in folder.iterdir()} == {
        "gap_card.html", "gap_card.json", "gap_card.pdf", "gap_card.png"}  # fmt: skip
    assert (folder / "gap_card.pdf").read_bytes().startswith(b"%PDF")
    page = (folder / "gap_card.html").read_text()
    assert "data:image/png;base64," in page
    assert "Real CLIP is left out." in page
    assert not re.search(r'src="(?!data:)|<script|<link', page)  # it needs no other file
    (own,) = card(here)["models"]
    names = [name for measures in gap_card.GROUPS.values() for name in measures]
    assert len(names) == 18
    for stage in gap_measured.STAGES:
        assert set(own["measured"][stage]) == set(names)
        for name in names:
            value, low, high = own["measured"][stage][name]
            assert low <= high, name
            assert f"{value:.3f} [" in page or f"{100 * value:.1f} [" in page
    assert own["measured"]["before"]["centroid distance"][0] > 0.7
    for stage in gap_measured.STAGES[1:]:
        assert own["measured"][stage]["centroid distance"][0] < 0.35
    permuted = own["permuted"]["before"]
    assert set(permuted) == {"pair cosine", "pair minus random"} | {
        name for name in names if name.startswith("R@")
    }
    assert permuted["pair minus random"][0] < own["measured"]["before"]["pair minus random"][1]
    assert len(own["profile"]["images"]["mean"]) == 16
    assert (own["pairs"], own["tested"], own["dimensions"]) == (120, 60, 16)


def test_means_are_those_of_pairs_that_are_not_tested(here):
    """On embeddings without a gap, means of the tested pairs would bring their distance to 0."""
    rng = np.random.default_rng(3)
    for name in "xy":
        np.save(f"{name}.npy", rng.standard_normal((80, 64)).astype(np.float32))
    assert gap_card.main(["x.npy", "y.npy"]) == 0
    measured = card(here)["models"][0]["measured"]
    assert measured["before"]["centroid distance"][0] < 0.1
    assert measured["after I0T_post"]["centroid distance"][0] > 0.15


def test_pairs_that_are_none_are_doubted(here, capsys):
    np.save("y.npy", pairs()[1][np.random.default_rng(0).permutation(120)])
    assert gap_card.main(["x.npy", "y.npy", "--as", "mixed"]) == 0
    assert "no more alike than random" in capsys.readouterr().out
    assert "no more alike than random" in (here / "figures/mixed/gap_card.html").read_text()


def test_shards_with_owners_and_keys(here):
    x, y = pairs()
    (here / "images").mkdir()
    np.save("images/1.npy", x[:50].astype(np.float16))
    save_file({"x": x[50:]}, "images/2.safetensors")
    np.savez("texts.npz", other=x, text=np.repeat(y, 2, axis=0))
    np.save("owner.npy", np.repeat(np.arange(120), 2))
    assert gap_card.main(["images", "texts.npz:text", "--owner", "owner.npy"]) == 0
    assert "An image's first text is its pair" in card(here)["notes"][-2]


def test_published_clip_and_the_small_model_are_beside(monkeypatch):
    small = profiles.load("mini").model_copy(update={"n_pairs": 60})
    monkeypatch.setattr(profiles, "load", lambda name: small)

    def missing(name):
        raise NotAvailable("There is no network.")

    monkeypatch.setattr(published, "published_embeddings", missing)
    (column,), sentence = gap_measured.references()
    assert (column.name, column.pairs, column.tested) == ("mini-clip", 60, 30)
    assert sentence.endswith("left out. There is no network.")
    assert column.measured["before"]["centroid distance"].value == pytest.approx(0.86, abs=0.02)


# Bad input ----------------------------------------------------------------------------------------


def change(file, row, value):
    rows = np.load(file)
    rows[row] = value
    np.save(file, rows)


def cut(file, by=100):
    with open(file, "r+b") as opened:
        opened.truncate(opened.seek(0, 2) - by)


def shards(name, *parts):
    (paths.FIGURES.parent / name).mkdir()
    for k, rows in enumerate(parts):
        np.save(f"{name}/{k}.npy", rows)


def parquet(**columns):
    pq.write_table(pa.table(columns), "x.parquet")


X, Y = pairs()
# what is wrong -> how to make it, arguments, and what the sentence says
BAD = {
    "no such file": (lambda: None, ["nowhere.npy", "y.npy"], "no file or folder nowhere.npy"),
    "unknown suffix": (lambda: Path("x.csv").touch(), ["x.csv", "y.npy"],
        r"x.csv is not a .npy, .npz, .safetensors or .parquet file"),
    "not two-dimensional": (lambda: np.save("x.npy", X[0]), [], r"matrix.*shape is \(16,\)"),
    "other width": (lambda: np.save("x.npy", X[:, :12]), [],
        "x.npy has 12 dimensions and y.npy 16"),
    "other number of rows": (lambda: np.save("x.npy", X[:99]), [],
        "x.npy has 99 rows and y.npy 120.*--owner"),
    "one pair": (lambda: (np.save("x.npy", X[:1]), np.save("y.npy", Y[:1])), [],
        "at least 40 pairs.*there are 1"),
    "no row": (lambda: (np.save("x.npy", X[:0]), np.save("y.npy", Y[:0])), [], "there are 0"),
    "NaN": (lambda: change("x.npy", 77, np.nan), [], r"Row 77 of x.npy is not finite"),
    "infinite": (lambda: change("y.npy", 3, np.inf), [], "Row 3 of y.npy is not finite"),
    "zero vector": (lambda: change("y.npy", 5, 0), [], "Row 5 of y.npy is a zero vector"),
    "NaN in a shard": (
        lambda: (shards("s", X[:100], np.where(np.arange(20)[:, None] == 4, np.nan, X[100:]))),
        ["s", "y.npy"], r"Row 4 of s/1.npy is not finite"),
    "NaN in a later text": (
        lambda: (np.save("y.npy", np.repeat(Y, 2, 0)), change("y.npy", 31, np.nan),
            np.save("o.npy", np.repeat(np.arange(120), 2))),
        ["x.npy", "y.npy", "--owner", "o.npy"], "Row 31 of y.npy is not finite"),
    "integers": (lambda: np.save("x.npy", X.astype(int)), [], "x.npy holds numbers of type int64"),
    "strings": (lambda: np.save("x.npy", X.astype(str)), [], "x.npy holds numbers of type str"),
    "several arrays, npz": (lambda: np.savez("x.npz", a=X, b=X), ["x.npz", "y.npy"],
        r"x.npz holds 2 arrays \(a, b\): name one as x.npz:KEY"),
    "several arrays, safetensors": (lambda: save_file({"a": X, "b": Y}, "x.safetensors"),
        ["x.safetensors", "y.npy"], r"2 arrays \(a, b\)"),
    "no such array": (lambda: np.savez("x.npz", image=X), ["x.npz:imge", "y.npy"],
        "no array 'imge'; the nearest is image"),
    "key of an npy": (lambda: None, ["x.npy:a", "y.npy"], "is one array: it has no 'a'"),
    "integers, safetensors": (lambda: save_file({"a": X.astype(int)}, "x.safetensors"),
        ["x.safetensors", "y.npy"], "numbers of type I64"),
    "two lists, parquet": (lambda: parquet(a=list(X), b=list(X)), ["x.parquet", "y.npy"],
        r"2 columns of lists.*\(a, b\): name the column"),
    "no list, parquet": (lambda: parquet(a=["x"] * 9), ["x.parquet", "y.npy"],
        "0 columns of lists"),
    "lists of two widths": (lambda: parquet(a=[*X[:60].tolist(), *X[60:, :9].tolist()]),
        ["x.parquet", "y.npy"], "lists of 16 and of 9 numbers"),
    "pickled": (lambda: np.save("x.npy", np.array([{}] * 120), allow_pickle=True), [],
        "x.npy holds pickled objects, which are never loaded"),
    "pickled in npz": (lambda: np.savez("x.npz", a=np.array([{}, None])), ["x.npz", "y.npy"],
        "pickled objects"),
    "cut off npy": (lambda: cut("x.npy"), [], "x.npy is cut off: it has 7,708 of 7,808 bytes"),
    "cut off safetensors": (
        lambda: (save_file({"a": X}, "x.safetensors"), cut("x.safetensors")),
        ["x.safetensors", "y.npy"], "x.safetensors cannot be read, perhaps because it is incom"),
    "cut off npz": (lambda: (np.savez("x.npz", a=X), cut("x.npz")), ["x.npz", "y.npy"],
        "x.npz cannot be read"),
    "cut off parquet": (lambda: (parquet(a=list(X)), cut("x.parquet")), ["x.parquet", "y.npy"],
        "x.parquet cannot be read"),
    "no npy at all": (lambda: Path("x.npy").write_text("hello"), [], "x.npy cannot be read"),
    "by column": (lambda: np.save("x.npy", np.asfortranarray(X)), [], "column by column"),
    "empty folder": (lambda: shards("s"), ["s", "y.npy"], "folder s holds no shard"),
    "shards of two widths": (lambda: shards("s", X[:60], X[60:, :9]), ["s", "y.npy"],
        "s/1.npy has 9 dimensions, s/0.npy has 16"),
    "shards of another sum": (lambda: shards("s", X[:60], X[60:119]), ["s", "y.npy"],
        "s has 119 rows and y.npy 120"),
    "owner out of range": (lambda: np.save("o.npy", np.arange(1, 121)),
        ["x.npy", "y.npy", "--owner", "o.npy"], "names image 120, but the images are 0 to 119"),
    "owner of another length": (lambda: np.save("o.npy", np.arange(99)),
        ["x.npy", "y.npy", "--owner", "o.npy"], "has 99 entries for the 120 texts of y.npy"),
    "owner of swapped files": (
        lambda: (np.save("y.npy", np.repeat(Y, 2, 0)), np.save("o.npy", np.arange(240) // 2)),
        ["y.npy", "x.npy", "--owner", "o.npy"], "are images and texts swapped?"),
    "owner not whole numbers": (lambda: np.save("o.npy", np.arange(120.0)),
        ["x.npy", "y.npy", "--owner", "o.npy"], "o.npy must hold one whole number per text"),
    "image without a text": (lambda: np.save("o.npy", np.maximum(1, np.arange(120))),
        ["x.npy", "y.npy", "--owner", "o.npy"], "Image 0 has no text"),
    "the same file": (lambda: None, ["x.npy", "x.npy"], "are the same file, x.npy"),
    "the same embeddings": (lambda: np.save("y.npy", 2 * X), [], "hold the same embeddings"),
    "all rows alike": (
        lambda: (np.save("x.npy", np.ones_like(X)), np.save("y.npy", Y)), [], "zero vector"),
    "swapped by name": (
        lambda: (np.save("image_embeddings.npy", X), np.save("text_embeddings.npy", Y)),
        ["text_embeddings.npy", "image_embeddings.npy"], "name the images first"),
    "name with a slash": (lambda: None, ["x.npy", "y.npy", "--as", "a/b"], "name of a folder"),
    "name of a profile": (lambda: None, ["x.npy", "y.npy", "--as", "mini"], "name of a profile"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_refused_in_a_sentence(what, here, capsys):
    make, arguments, sentence = BAD[what]
    make()
    assert gap_card.main(arguments or ["x.npy", "y.npy"]) == 1
    error = capsys.readouterr().err
    assert re.search(sentence, error), error
    assert error.startswith("run_all.sh: ")
    assert len(error.splitlines()) == 1
    assert not list(here.glob("figures/*/gap_card.*"))


def test_a_damaged_archive_is_refused(here, capsys):
    """Its table of contents is whole, its rows are not."""
    np.savez_compressed("x.npz", a=X)
    with zipfile.ZipFile("x.npz") as archive:
        start = archive.infolist()[0].header_offset + 3000  # beyond the header
    content = bytearray((here / "x.npz").read_bytes())
    content[start : start + 400] = bytes(400)
    (here / "x.npz").write_bytes(content)
    assert gap_card.main(["x.npz", "y.npy"]) == 1
    error = capsys.readouterr().err
    assert "x.npz cannot be read, perhaps because it is incomplete" in error
    assert len(error.splitlines()) == 1


def test_progress_is_said_in_a_log(here, capsys, monkeypatch):
    monkeypatch.setattr("lib.progress.EVERY", 1e-9)
    monkeypatch.setattr("lib.data.embedded_pairs.PIECE", 50)
    assert gap_card.main(["x.npy", "y.npy"]) == 0
    lines = re.findall(r"^pairs (\d+) of 120, about \d+ s left$", capsys.readouterr().err, re.M)
    assert lines == ["50", "100", "120"]


def test_command_line(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(cli, "module", lambda *arguments: asked.append(arguments) or 0)
    monkeypatch.setenv("MODALITY_GAP_CALLED_FROM", "/there")
    given = ["--embeddings", "x.npz:a", "/y", "--owner", "o.npy", "--as", "ours"]
    assert cli.main(given) == 0
    assert cli.main(["--embeddings", "x", "y"]) == 0
    assert asked == [
        ("docs.gap_card", "/there/x.npz:a", "/y", "--owner", "/there/o.npy", "--as", "ours"),
        ("docs.gap_card", "/there/x", "/there/y"),
    ]
    for arguments, hint in [
        (["--embeddings", "x"], "expected 2 arguments"),
        (["--embeddings", "x", "y", "--profile", "mini"], "leave --profile and --only out"),
        (["--embeddings", "x", "y", "--only", "i0t"], "leave --profile and --only out"),
        (["--owner", "x"], "goes with --embeddings"),
        (["--as", "x"], "--embeddings IMAGES TEXTS"),
        (["--embeddings", "x", "y", "--sha256", "ab"], "goes with --convert"),
    ]:
        assert cli.main(arguments) == 2
        error = capsys.readouterr().err
        assert hint in error
        assert len(error.splitlines()) == 1

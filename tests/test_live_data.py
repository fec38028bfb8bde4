"""The live page's data are what the weights, the world and the published files say."""

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from docs import live_data
from lib import paths
from lib.data import published
from lib.data.pairs import load_pairs
from lib.encoders import registry
from lib.encoders.download import NotAvailable
from lib.encoders.embeddings import Embeddings

DTYPES = {"f16": np.float16, "f32": np.float32, "u8": np.uint8}


def array(part: dict, name: str) -> np.ndarray:
    """An array of a data script, read as the page reads it."""
    kind, shape, start = part["tensors"][name]
    content = base64.b64decode(part["blob"])
    return np.frombuffer(content, DTYPES[kind], int(np.prod(shape)), start).reshape(shape)


@pytest.fixture
def few(monkeypatch, tmp_path):
    """Few pairs and pictures, and a cache of its own."""
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    for name, n in {"N_PAIRS": 24, "N_FEWER": 12, "N_PICTURES": 20, "COLUMNS": 5}.items():
        monkeypatch.setattr(live_data, name, n)


def test_arrays_begin_at_multiples_of_four():
    arrays = {"a": np.arange(3, dtype=np.uint8), "b": np.ones((2, 3), np.float16)}
    part = live_data.packed(arrays | {"c": np.array([0.5], np.float32)})
    assert [start for _, _, start in part["tensors"].values()] == [0, 4, 16]
    for name, values in arrays.items():
        assert np.array_equal(array(part, name), values)


def test_the_model_is_the_shipped_one(few):
    part, folder = live_data.model(), registry.folder("mini-clip")
    for name, weight in load_file(folder / registry.WEIGHTS).items():
        assert np.array_equal(array(part, name).ravel(), weight.ravel()), name
    clip, pairs = registry.load("mini-clip"), load_pairs("world", "test", 24)
    texts = [captions[3] for captions in pairs["captions"][:]]
    assert part["captions"] == texts
    for name, rows in {"image": clip.encode_image(pairs["image"][:]), "text": texts}.items():
        rows = clip.encode_text(rows) if name == "text" else rows
        assert np.allclose(array(part, f"pairs.{name}"), rows, atol=1e-3)
    words = texts[0].split()
    ids = clip.tokenizer([texts[0]])[0].tolist()
    assert [part["vocabulary"][i] for i in ids[1 : len(words) + 1]] == words


def test_pictures_and_what_they_show(few):
    part, pairs = live_data.model(), load_pairs("world", "test", 20)
    sheet = Image.open(io.BytesIO(array(part, "sheet").tobytes())).convert("RGB")
    for i in (0, 7, 19):
        x, y = i % 5 * 48, i // 5 * 48
        shown = sheet.crop((x, y, x + 48, y + 48))
        assert np.array_equal(shown, pairs[i]["image"].convert("RGB"))
        scene = part["scenes"][i]
        shape, colour, *_ = scene["things"][0]
        assert (shape, colour) == (pairs[i]["shape"], pairs[i]["colour"])
        assert scene["background"] == pairs[i]["background"]


def test_each_temperature_has_its_model(few):
    part = live_data.temperatures()
    assert {role: round(scale) for role, scale in part["scales"].items()} == {
        f"t{scale}": scale for scale in (1, 10, 20, 30, 50, 100)
    }
    pairs = load_pairs("world", "test", 12)
    texts = [captions[3] for captions in pairs["captions"][:]]
    for role in ("t1", "t100"):
        rows = registry.load(f"mini-clip-{role}").encode_text(texts)
        assert np.allclose(array(part, f"{role}.text"), rows, atol=1e-3)


def test_real_clip_has_the_caption_that_was_encoded(monkeypatch):
    rows = torch.eye(3)
    both = Embeddings(rows, rows.flip(0), torch.arange(3))
    monkeypatch.setattr(published, "published_embeddings", lambda name: both)
    texts = [[f"{i} first", f"{i} last"] for i in range(3)]
    monkeypatch.setattr(published, "published_captions", lambda n: texts[:n])
    part = live_data.real_pairs()
    assert part["captions"] == ["0 last", "1 last", "2 last"]
    assert np.array_equal(array(part, "real.text"), rows.flip(0))


def test_without_published_files_the_rest_is_written(monkeypatch, tmp_path):
    def none(name):
        raise NotAvailable("not here")

    monkeypatch.setattr(published, "published_embeddings", none)
    monkeypatch.setattr(live_data, "model", lambda: {"a": 1})
    monkeypatch.setattr(live_data, "temperatures", lambda: {"b": 2})
    assert live_data.write(tmp_path / "live") == ["temperature"]
    assert not (tmp_path / "live" / "real.js").exists()
    text = (tmp_path / "live" / "data.js").read_text()
    assert json.loads(re.fullmatch(r".*\.data=(.*);\n", text)[1]) == {"a": 1}


def test_sources_are_listed_and_reach_for_nothing():
    names = {file.name for file in live_data.SOURCES.iterdir()}
    assert names == {*live_data.SCRIPTS, "live.css"}
    for file in live_data.SOURCES.iterdir():
        text = file.read_text(encoding="utf-8")
        found = re.search(r"https?:|\bfetch\(|XMLHttp|sendBeacon|WebSocket|import\(|eval\(", text)
        assert not found and "@import" not in text and "url(" not in text.replace("url(${", "")


def test_data_hold_no_place_of_this_machine(few):
    for part in (live_data.model(), live_data.temperatures()):
        rest = json.dumps({key: value for key, value in part.items() if key != "blob"})
        assert str(paths.ROOT) not in rest and str(paths.CACHE) not in rest
        assert not re.search(r'"/\w', rest)

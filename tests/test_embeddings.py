"""The cache gives what the model gives, once, and notices when a file is damaged."""

import json
import logging

import datasets
import pytest
import standins
import torch
from datasets import Dataset

from lib import files as store
from lib import paths
from lib.encoders import embeddings as module
from lib.encoders import registry, towers
from lib.encoders.embeddings import Embeddings, embed, embed_images, embed_pairs, embed_texts


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return registry.load(f"local-dir:{standins.tiny_clip(tmp_path_factory.mktemp('tiny'))}")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    return tmp_path / "cache" / "embeddings"


@pytest.fixture
def calls(monkeypatch):
    """How many images and texts were really encoded."""
    counts = {"image": 0, "text": 0}
    inner = towers.Model._encode

    def counted(self, items, kind, size, encode):
        counts[kind] += len(items)
        return inner(self, items, kind, size, encode)

    monkeypatch.setattr(towers.Model, "_encode", counted)
    return counts


def files(cache, suffix="*"):
    return sorted(cache.glob(f"*.{suffix}"))


def test_equal_to_direct_encoding(tiny, cache):
    pairs = standins.pairs(5)
    found = embed(tiny, pairs)
    assert isinstance(found, Embeddings)
    image = tiny.encode_image([standins.picture(i) for i in range(5)])
    text = tiny.encode_text([text for i in range(5) for text in standins.captions(i)])
    torch.testing.assert_close(found.image, image, rtol=0, atol=0)
    torch.testing.assert_close(found.text, text, rtol=0, atol=0)
    assert found.owner.tolist() == [i for i in range(5) for _ in range(5)]
    assert found.owner.dtype == torch.long
    torch.testing.assert_close(found.caption(2), text[2::5], rtol=0, atol=0)


def test_pairs_row_by_row(tiny, cache, calls):
    """Only the caption that is asked for is encoded."""
    pairs = standins.pairs(4)
    for k in (0, 1):
        image, text = embed_pairs(tiny, pairs, k)
        assert torch.equal(image, embed_images(tiny, pairs))
        expected = tiny.encode_text([standins.captions(i)[k] for i in range(4)])
        torch.testing.assert_close(text, expected, rtol=0, atol=0)
    assert calls == {"image": 4, "text": 4 * 4}  # four texts each by the cache and by the test
    assert torch.equal(embed_pairs(tiny, pairs)[1], embed_pairs(tiny, pairs, 0)[1])
    with pytest.raises(ValueError, match="no column 'captions'"):
        embed_pairs(tiny, pairs.remove_columns("captions"))


def test_second_call_encodes_nothing(tiny, cache, calls):
    first = embed(tiny, standins.pairs(4))
    assert calls == {"image": 4, "text": 20}
    again = embed(tiny, standins.pairs(4))
    assert calls == {"image": 4, "text": 20}
    for one, two in zip((first.image, first.text), (again.image, again.text), strict=True):
        assert torch.equal(one, two) and two.dtype == torch.float32


def test_order_of_calls_plays_no_part(tiny, tmp_path, monkeypatch):
    def ask(names, where):
        monkeypatch.setattr(paths, "CACHE", tmp_path / where)
        sets = {"a": standins.pairs(5), "b": standins.pairs(3, start=2)}
        return {name: embed(tiny, sets[name]) for name in names}

    one, two = ask("ab", "one"), ask("ba", "two")
    for name in "ab":
        assert torch.equal(one[name].image, two[name].image)
        assert torch.equal(one[name].text, two[name].text)
    for a, b in zip(files(tmp_path / "one"), files(tmp_path / "two"), strict=True):
        assert a.read_bytes() == b.read_bytes()


def test_content_is_the_key(tiny, cache, calls, tmp_path):
    """Other columns, names and a detour over files do not matter; another image or text does."""
    pairs = standins.pairs(3)
    embed_images(tiny, pairs)
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(standins.encoded(i))
    on_disk = Dataset.from_dict({"image": [str(tmp_path / f"{i}.png") for i in range(3)]})
    embed_images(tiny, on_disk.cast_column("image", datasets.Image()))
    embed_images(tiny, pairs.remove_columns(["captions", "image_id"]).with_format("torch"))
    embed_images(tiny, standins.pairs(6).select([0, 1, 2]))
    assert calls["image"] == 3
    embed_images(tiny, pairs.select([0, 2, 1]))
    embed_images(tiny, standins.pairs(3, start=1))
    assert calls["image"] == 9
    embed_texts(tiny, ["a red circle", "a star"])
    embed_texts(tiny, ("a red circle", "a star"))
    assert calls["text"] == 2
    embed_texts(tiny, ["a red circlea", " star"])
    assert calls["text"] == 4


def test_format_of_the_data_set_plays_no_part(tiny, cache):
    pairs = standins.pairs(2)
    image = tiny.encode_image([standins.picture(0), standins.picture(1)])
    assert torch.equal(embed_images(tiny, pairs.with_format("torch")), image)


def test_two_models_do_not_share(tiny, cache, tmp_path):
    other = registry.load(f"local-dir:{standins.tiny_clip(tmp_path / 'other', seed=1)}")
    x, y = (embed_texts(model, ["a red circle"]) for model in (tiny, other))
    assert not torch.allclose(x, y) and len(files(cache, "safetensors")) == 2


def test_sidecar_says_what_the_file_is(tiny, cache):
    embed_texts(tiny, ["a red circle", "a star"])
    (sidecar,) = files(cache, "json")
    about = json.loads(sidecar.read_text())
    assert about["model"] == tiny.fingerprint and about["name"] == tiny.name
    assert about["shape"] == {"embeddings": [2, 8]} and about["kind"] == "text"


DAMAGE = {
    "truncated": lambda data, sidecar: data.write_bytes(data.read_bytes()[:-3]),
    "emptied": lambda data, sidecar: data.write_bytes(b""),
    "one bit": lambda data, sidecar: data.write_bytes(
        data.read_bytes()[:-1] + bytes([data.read_bytes()[-1] ^ 1])
    ),
    "no sidecar": lambda data, sidecar: sidecar.unlink(),
    "no data": lambda data, sidecar: data.unlink(),
    "another's sidecar": lambda data, sidecar: sidecar.write_text(
        json.dumps(json.loads(sidecar.read_text()) | {"sha256": "0" * 64})
    ),
    "sidecar cut": lambda data, sidecar: sidecar.write_text(sidecar.read_text()[:20]),
    "sidecar of another kind": lambda data, sidecar: sidecar.write_text("[]"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_noticed_and_mended(tiny, cache, calls, caplog, kind):
    texts = ["a red circle", "a star"]
    first = embed_texts(tiny, texts)
    (data,), (sidecar,) = files(cache, "safetensors"), files(cache, "json")
    whole = data.read_bytes(), sidecar.read_bytes()
    DAMAGE[kind](data, sidecar)
    with caplog.at_level(logging.WARNING, logger="lib.files"):
        assert torch.equal(embed_texts(tiny, texts), first)
    assert "damaged" in caplog.text and "computing it again" in caplog.text
    assert (data.read_bytes(), sidecar.read_bytes()) == whole
    assert calls["text"] == 4
    embed_texts(tiny, texts)
    assert calls["text"] == 4


def test_interrupted_writing_leaves_nothing(tiny, cache, monkeypatch, caplog):
    def interrupted(*names):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store.os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            embed_texts(tiny, ["a star"])
    assert [path.name for path in cache.iterdir()] == ["locks"]
    embed_texts(tiny, ["a star"])
    assert len(files(cache)) == 2 and not caplog.records


def test_embeddings_that_are_not_finite_are_not_kept(cache, tmp_path):
    broken = registry.load(f"local-dir:{standins.tiny_clip(tmp_path / 'broken')}")
    broken.clip.text_projection.data[:] = float("nan")
    with pytest.raises(ValueError, match="no finite embedding"):
        embed_texts(broken, ["a star"])
    assert not files(cache)


@pytest.fixture
def prepared(monkeypatch):
    """Sizes of the batches that are decoded and preprocessed, four images at a time."""
    sizes, inner = [], towers.Model.pixels
    monkeypatch.setattr(towers, "BATCH_IMAGES", 4)
    monkeypatch.setattr(module, "_kept", {})
    monkeypatch.setattr(
        towers.Model, "pixels", lambda self, some: sizes.append(len(some)) or inner(self, some)
    )
    return sizes


def test_images_are_decoded_a_batch_at_a_time(tiny, cache, prepared):
    found = embed_images(tiny, standins.pairs(10))
    assert prepared == [4, 4, 2]
    direct = tiny.encode_image([standins.picture(i) for i in range(10)])
    torch.testing.assert_close(found, direct)


def test_models_with_the_same_preprocessing_share_the_pixels(tiny, cache, prepared, tmp_path):
    embed_images(tiny, standins.pairs(10))
    other = registry.load(f"local-dir:{standins.tiny_clip(tmp_path / 'other', seed=1)}")
    found = embed_images(other, standins.pairs(10))
    assert prepared == [4, 4, 2]
    direct = other.encode_image([standins.picture(i) for i in range(10)])
    torch.testing.assert_close(found, direct)


def test_other_preprocessing_makes_its_own_pixels(tiny, cache, prepared, tmp_path):
    embed_images(tiny, standins.pairs(3))
    folder = standins.tiny_clip(tmp_path / "other")
    config = json.loads((folder / registry.CONFIG).read_text())
    config["preprocess_cfg"]["mean"] = [0.1, 0.1, 0.1]
    (folder / registry.CONFIG).write_text(json.dumps(config))
    other = registry.load(f"local-dir:{folder}")
    found = embed_images(other, standins.pairs(3))
    assert prepared == [3, 3]
    torch.testing.assert_close(found, other.encode_image([standins.picture(i) for i in range(3)]))


def test_pixels_are_kept_within_bounds(tiny, cache, prepared, monkeypatch):
    batch = 4 * 3 * 24 * 24 * 4  # bytes
    monkeypatch.setattr(module, "PIXELS_BYTES", 2 * batch)
    embed_images(tiny, standins.pairs(12))
    assert sum(pixels.nbytes for pixels in module._kept.values()) == 2 * batch


def test_nothing_is_built_where_all_is_kept(tiny, cache):
    """A model that only reads its embeddings from the disk never imports open_clip."""
    embed(tiny, standins.pairs(3))
    again = registry.load(tiny.name)
    embed(again, standins.pairs(3))
    assert "_parts" in vars(tiny) and "_parts" not in vars(again)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda m: embed(m, standins.pairs(2).remove_columns("captions")), "no column 'captions'"),
        (lambda m: embed_images(m, standins.pairs(2).remove_columns("image")), "no column 'image'"),
        (lambda m: embed_images(m, standins.pairs(2).select([])), "is empty"),
        (lambda m: embed_texts(m, []), "at least one text"),
        (lambda m: embed(m, standins.pairs(2, n_captions=0)), "at least one text"),
    ],
)
def test_nothing_to_encode(tiny, cache, call, text):
    with pytest.raises(ValueError, match=text):
        call(tiny)


def test_the_first_items_of_a_set_are_found_in_the_whole(tiny, cache, calls, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 4)
    whole = embed_images(tiny, standins.pairs(10))
    assert torch.equal(embed_images(tiny, standins.pairs(8)), whole[:8])
    assert calls["image"] == 10 and len(files(cache, "safetensors")) == 3
    embed_images(tiny, standins.pairs(7))
    assert calls["image"] == 13

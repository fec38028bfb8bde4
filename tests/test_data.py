"""Data sets are read from stand-ins in the formats of the real repositories."""

import hashlib
import io
import sys
import types
from dataclasses import replace

import numpy as np
import pooch
import pytest
import standins
import torch
from datasets import ClassLabel, Dataset, Image
from huggingface_hub import constants
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import files, paths, profiles
from lib.data import published as published_files
from lib.data.judgements import (
    JUDGED,
    embed_judged,
    embed_references,
    load_judgements,
    prompt,
    resampled_agreement,
    rows_by_image,
)
from lib.data.labelled import class_prompts, load_labelled, load_test_images, same_images
from lib.data.pairs import load_pairs
from lib.data.published import (
    CIFAR10,
    PUBLISHED,
    data_of,
    pairs_by_model,
    published_cifar10,
    published_embeddings,
)
from lib.data.sources import LABELLED, PAIRS, Shards, splits
from lib.data.tasks import load_pairs_to_fit
from lib.encoders.download import NotAvailable
from lib.encoders.embeddings import Embeddings
from lib.measures import scores


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """An offline machine: an empty Hugging Face cache and an empty cache of ours."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    monkeypatch.delenv("MODALITY_GAP_DATA", raising=False)
    return tmp_path / "hub"


def snapshot(hub_cache, source):
    return standins.put_in_hub(hub_cache, source.repo, source.revision, "dataset")


def with_rows(monkeypatch, table, name, rows):
    """The table's entry with another number of rows, so that a stand-in may be small."""
    monkeypatch.setitem(table, name, replace(table[name], rows=rows))


# --- pairs --------------------------------------------------------------------------------------


@pytest.fixture
def coco(hub_cache, monkeypatch):
    source = replace(PAIRS["coco"]["test"], rows=7)
    monkeypatch.setitem(PAIRS, "coco", {"test": source})
    standins.write_captioned(snapshot(hub_cache, source), source.table, source.archive, 7)
    return source


def test_pairs_have_the_common_columns(coco):
    pairs = load_pairs("coco", "test")
    assert pairs.column_names == ["image", "image_id", "captions"]
    assert isinstance(pairs.features["image"], Image)
    assert pairs["image_id"][:] == [f"{i:06d}" for i in range(7)]
    for i, row in enumerate(pairs):
        assert row["captions"] == standins.captions(i)  # five, where the file has six as well
        assert row["image"].size == (24, 24)
    jpeg = pairs.cast_column("image", Image(decode=False))[2]["image"]["bytes"]
    assert jpeg == standins.encoded(2, "JPEG")  # the bytes of the archive, not encoded again


def test_first_rows(coco):
    assert load_pairs("coco", "test", 3)["image_id"][:] == ["000000", "000001", "000002"]
    assert len(load_pairs("coco", "test", 100)) == 7


def test_splits_of_one_archive(hub_cache, monkeypatch):
    source = PAIRS["flickr30k"]["val"]
    folder = snapshot(hub_cache, source)
    standins.write_captioned(folder, source.table, source.archive, 4)
    lines = (folder / source.table).read_text().replace(",test,000001", ",val,000001")
    (folder / source.table).write_text(lines.replace(",test,000003", ",train,000003"))
    assert load_pairs("flickr30k", "val")["image_id"][:] == ["000001"]
    assert load_pairs("flickr30k", "train")["image_id"][:] == ["000003"]


def test_half_a_data_set_is_not_taken(coco, monkeypatch):
    monkeypatch.setitem(PAIRS, "coco", {"test": replace(coco, rows=5_000)})
    with pytest.raises(NotAvailable, match="coco came with 7 rows instead of 5,000"):
        load_pairs("coco", "test")


def test_damaged_archive(coco, hub_cache):
    archive = next(hub_cache.rglob(coco.archive))
    archive.write_bytes(archive.read_bytes()[:-50])
    with pytest.raises(NotAvailable, match=r"coco is not available \(BadZipFile"):
        load_pairs("coco", "test")


def test_full_disk(coco, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Dataset, "from_generator", full)
    with pytest.raises(NotAvailable, match="disk is too full for coco"):
        load_pairs("coco", "test")


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: load_pairs("cocoo"), "no data set of pairs 'cocoo'.*coco"),
        (lambda: load_pairs("coco", "val"), "no split of coco 'val'.*train"),
        (lambda: load_pairs("flickr30k", "tset"), "no split of flickr30k 'tset'.*test"),
        (lambda: load_pairs("coco", "test", 0), "1 or more, not 0"),
        (lambda: load_labelled("cifar-100"), "no labelled data set 'cifar-100'.*cifar100"),
        (lambda: load_labelled("world-shap"), "'world-shap'.*world-shape"),
        (lambda: load_labelled("imagenet", "train"), "no split of imagenet 'train'.*test"),
        (lambda: load_judgements("flickr8k"), "'flickr8k'.*flickr8k-"),
        (lambda: load_judgements("world-cf", -1), "1 or more, not -1"),
        (lambda: published_embeddings("clipp"), "'clipp'.*clip"),
        (lambda: splits("nothing like it"), "no data set 'nothing like it'"),
    ],
)
def test_names_that_do_not_exist(call, text):
    with pytest.raises(ValueError, match=text):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: load_pairs("coco"),
        lambda: load_labelled("cifar100"),
        lambda: load_labelled("pets", "train"),
        lambda: load_labelled("cub"),
    ],
)
def test_offline_without_the_files(hub_cache, call):
    with pytest.raises(NotAvailable, match=r"^\S+ is not in the local cache, and [^.]*\.$"):
        call()


# --- labelled images ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "file", "image", "label"),
    [
        ("cifar100", "cifar100/test-00000-of-00001.parquet", "img", "fine_label"),
        ("cifar10", "plain_text/test-00000-of-00001.parquet", "img", "label"),
        ("food101", "data/validation-00000-of-00001.parquet", "image", "label"),
        ("birdsnap", "data/test-00000-of-00001.parquet", "image", "common"),
        ("cub", "data/test-00000-of-00001.parquet", "image", "label"),
    ],
)
def test_parquet(hub_cache, monkeypatch, name, file, image, label):
    with_rows(monkeypatch, LABELLED, name, 5)
    folder = snapshot(hub_cache, LABELLED[name])
    standins.write_parquet(folder / file, 5, image, label, ["aquarium_fish", "bear"])
    other = file.replace("test", "train").replace("validation", "train")
    standins.write_parquet(folder / other, 9, image, label, ["aquarium_fish", "bear"])
    rows = load_labelled(name, "test")
    assert rows.column_names == ["image", "image_id", "label"]
    assert isinstance(rows.features["label"], ClassLabel)
    assert rows.features["label"].names == ["aquarium fish", "bear"]
    assert rows["label"][:] == [0, 1, 0, 1, 0]
    assert rows["image_id"][:] == [f"{name}-test-{i}" for i in range(5)]
    for i, picture in enumerate(rows["image"]):
        np.testing.assert_array_equal(np.array(picture), np.array(standins.picture(i)))
    assert len(load_labelled(name, "train", 4)) == 4
    assert class_prompts(name, rows, "a {}") == (["aquarium fish", "bear"], ["a {}"])
    some, again = (load_test_images(name, 3, seed=1)["image_id"][:] for _ in range(2))
    assert some == again != rows["image_id"][:3] and len(load_test_images(name, 9)) == 5


def test_shards_are_put_together(hub_cache, monkeypatch):
    with_rows(monkeypatch, LABELLED, "cifar10", 6)
    folder = snapshot(hub_cache, LABELLED["cifar10"])
    for shard in range(2):
        file = folder / "plain_text" / f"test-0000{shard}-of-00002.parquet"
        standins.write_parquet(file, 3, "img", "label", ["a", "b"])
    assert load_labelled("cifar10")["label"][:] == [0, 1, 0, 0, 1, 0]


@pytest.mark.parametrize(("name", "kind"), [("pets", "jpeg"), ("imagenet-v2", "webp")])
def test_tar(hub_cache, monkeypatch, name, kind):
    with_rows(monkeypatch, LABELLED, name, 5)
    folder = snapshot(hub_cache, LABELLED[name])
    standins.write_tar(folder, "test", 5, ["tabby cat", "pug", "beagle"], kind)
    rows = load_labelled(name, "test")
    assert rows.column_names == ["image", "image_id", "label"]
    assert rows.features["label"].names == ["tabby cat", "pug", "beagle"]
    assert rows["label"][:] == [0, 2, 1, 1, 0]  # shard 0 has rows 0, 2, 4; shard 1 has 1, 3
    assert rows[0]["image"].size == (24, 24)


def test_columns_that_are_not_there(hub_cache, monkeypatch):
    folder = snapshot(hub_cache, LABELLED["birdsnap"])
    file = folder / "data" / "test-00000-of-00001.parquet"
    standins.write_parquet(file, 2, "image", "species", ["a", "b"])
    with pytest.raises(NotAvailable, match="'common'; it has image, species, extra"):
        load_labelled("birdsnap")


def test_classes_without_names(hub_cache, monkeypatch):
    folder = snapshot(hub_cache, LABELLED["cars"])
    file = folder / "data" / "test-00000-of-00001.parquet"
    file.parent.mkdir()
    images = [{"bytes": standins.encoded(0), "path": None}]
    rows = Dataset.from_dict({"image": images, "label": [3]}).cast_column("image", Image())
    rows.to_parquet(file)
    with pytest.raises(NotAvailable, match="does not say what its classes are called"):
        load_labelled("cars")


def test_damaged_parquet(hub_cache):
    folder = snapshot(hub_cache, LABELLED["cars"])
    (folder / "data").mkdir()
    (folder / "data" / "test-00000-of-00001.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(NotAvailable, match="is not available") as caught:
        load_labelled("cars")
    assert "\n" not in str(caught.value)


def test_every_public_set_is_pinned():
    entries = [source for splits in PAIRS.values() for source in splits.values()]
    entries += list(LABELLED.values())
    for source in entries:  # of the one with shards, public material does not show the commit
        assert isinstance(source, Shards) or len(bytes.fromhex(source.revision)) == 20


@pytest.mark.parametrize("name", ["mini", "clip"])
def test_profiles_name_data_sets_that_exist(name):
    p = profiles.load(name)
    for pairs in filter(None, [p.pairs, p.pairs_2, *p.targets]):
        assert "test" in splits(pairs)
    for labelled in p.labelled.values():
        assert "test" in splits(labelled)
    assert set(p.judgements.values()) <= {"world-expert", "world-cf", *JUDGED}


# --- judgements ---------------------------------------------------------------------------------


@pytest.fixture
def flickr8k(hub_cache, tmp_path, monkeypatch):
    standins.write_flickr8k(tmp_path / "own" / "flickr8k")
    monkeypatch.setenv("MODALITY_GAP_DATA", str(tmp_path / "own"))


def test_expert_judgements(flickr8k):
    rows = load_judgements("flickr8k-expert")
    assert set(rows.column_names) == {
        *("image", "image_id", "caption", "references", "ratings", "rating")
    }
    assert len(rows) == 6  # three images, two candidates each
    assert rows[0]["ratings"] == [1, 2, 4] and rows[0]["rating"] == pytest.approx(7 / 3)
    assert rows[0]["caption"] == "a red star ."
    assert rows[1]["ratings"] == [3, 3, 3] and rows[1]["image_id"] == "0"
    assert rows[0]["references"] == standins.captions(0)
    assert rows[0]["image"].size == (24, 24)
    assert set(load_judgements("flickr8k-expert", 2)["image_id"][:]) == {"0", "1"}


def test_crowd_judgements(flickr8k):
    rows = load_judgements("flickr8k-cf")
    assert len(rows) == 3  # the judgement that is not a number is left out
    assert rows["ratings"][:] == [[0.25]] * 3 and rows["image_id"][:] == ["0", "1", "2"]


def test_judged_captions_are_embedded_row_by_row(flickr8k, monkeypatch):
    """Rows in another order than their images, each of which is encoded once."""
    judged = load_judgements("flickr8k-expert").select([3, 0, 5, 1, 2, 4])
    texts, counts = [], []

    def encode_texts(_, some):
        texts.extend(some)
        return torch.arange(len(some))

    def encode_images(_, rows):
        counts.append(len(rows))
        return torch.tensor([int(image_id) for image_id in rows["image_id"][:]])

    monkeypatch.setattr("lib.data.judgements.embed_texts", encode_texts)
    monkeypatch.setattr("lib.data.judgements.embed_images", encode_images)
    images, captions = embed_judged(None, judged, "see ")
    assert images.tolist() == [int(image_id) for image_id in judged["image_id"][:]]
    assert captions.tolist() == [*range(6)] and counts == [3]
    assert texts == ["see " + caption for caption in judged["caption"][:]]
    rows = rows_by_image(judged)
    assert [some.tolist() for some in rows] == [[1, 3], [0, 4], [2, 5]]


def test_references_are_embedded_once_and_keep_their_rows(flickr8k, monkeypatch):
    judged, asked = load_judgements("flickr8k-expert"), []

    def encode_texts(_, some):
        asked.extend(some)
        return torch.arange(len(some))

    monkeypatch.setattr("lib.data.judgements.embed_texts", encode_texts)
    found, owner = embed_references(None, judged, "see ")
    assert len(set(asked)) == len(asked)
    listed = [(i, text) for i, row in enumerate(judged) for text in row["references"]]
    assert [(i, asked[k]) for i, k in zip(owner, found.tolist(), strict=True)] == [
        (i, "see " + text) for i, text in listed
    ]


def test_agreement_is_resampled_over_images(flickr8k):
    judged = load_judgements("flickr8k-expert")
    score = {"up": np.arange(6.0), "down": -np.arange(6.0)}
    found = resampled_agreement(score, judged, 100)
    ratings = np.array(judged["ratings"][:])
    assert found["up"].value == pytest.approx(scores.agreement(score["up"], ratings))
    np.testing.assert_allclose(found["up"].draws, -found["down"].draws)
    one_image = np.array(rows_by_image(judged)[0])
    alone = scores.agreement(score["up"][one_image], ratings[one_image])
    assert np.isclose(found["up"].draws, alone).any()  # an image drawn three times


def test_the_world_is_judged_without_a_prompt():
    assert prompt("world-expert") == ""
    assert prompt("flickr8k-cf") == "A photo depicts "


def test_judgements_are_not_here(hub_cache):
    with pytest.raises(NotAvailable, match=r"download.py .* MODALITY_GAP_DATA .*flickr8k.json\.$"):
        load_judgements("flickr8k-expert")


# --- the embedded world -------------------------------------------------------------------------


def test_world_is_asked_by_its_own_names(monkeypatch):
    """Names and sizes only: what the world draws is tested elsewhere."""
    world = types.ModuleType("mini.world")
    world.SPLITS = {"train": (0, 100, {}), "test": (2, 10, {}), "heldout_train": (4, 60, {})}
    world.LABELLED_SPLITS = {"test": (12, 20, {}), "ink": (17, 20, {})}
    world.LABEL_SETS = {"shape": ("shape",), "shape-colour": ("colour", "shape")}
    world.N_JUDGED = 30
    world.pairs = lambda *asked: ("pairs", *asked)
    world.labelled = lambda *asked: ("labelled", *asked)
    world.judgements = lambda *asked: ("judgements", *asked)
    monkeypatch.setitem(sys.modules, "mini.world", world)
    monkeypatch.setattr("mini.world", world, raising=False)
    assert load_pairs("world", "train", 7) == ("pairs", "train", 7)
    assert load_pairs("world", "test", 50) == ("pairs", "test", 10)
    assert load_pairs("world") == ("pairs", "test", None)
    assert load_pairs("world-heldout", "train", 99) == ("pairs", "heldout_train", 60)
    assert splits("world-heldout") == ("train", "test")
    assert load_labelled("world-shape-colour", "ink", 99) == (
        *("labelled", "shape-colour", "ink", 20),
    )
    assert load_test_images("world-shape", 9) == ("labelled", "shape", "test", 9)
    assert load_judgements("world-cf", 4) == ("judgements", "cf", 4)
    assert splits("world") == ("train", "test", "heldout_train")
    assert splits("world-shape") == ("test", "ink")
    with pytest.raises(ValueError, match=r"no split of world 'tset'.*test"):
        load_pairs("world", "tset")


def test_label_sets_of_the_same_images_stand_together():
    shape, colour = (load_labelled(f"world-{key}", "test", 3) for key in ("shape", "colour"))
    sets = {"shape": shape, "others": shape.select([2, 1, 0]), "colour": colour}
    assert same_images(sets) == [["shape", "colour"], ["others"]]


def test_world_has_the_common_columns():
    pairs = load_pairs("world", "test", 2)
    assert {"image", "image_id", "captions", "long_caption"} <= set(pairs.column_names)
    labelled = load_labelled("world-colour", "test", 2)
    assert set(labelled.column_names) == {"image", "image_id", "label"}
    phrases, templates = class_prompts("world-colour", labelled)
    assert len(phrases) == labelled.features["label"].num_classes and len(templates) > 1
    assert isinstance(labelled.features["label"], ClassLabel)
    judged = load_judgements("world-expert", 1)
    assert {"caption", "references", "ratings", "rating"} <= set(judged.column_names)


# --- published captions -------------------------------------------------------------------------

IN_TURN = """{"info": {"year": 2017}, "annotations": [
  {"image_id": 9, "id": 1, "caption": "A red barn. "},
  {"image_id": 2, "id": 2, "caption": "A dog."},
  {"image_id": 9, "id": 3, "caption": "A café by a barn"},
  {"image_id": 5, "id": 4, "caption": "Two\\nboats"},
  {"image_id": 2, "id": 5, "caption": "\\n A dog on grass."},
  {"image_id": 9, "id": 6, "caption": "A red barn. "}
]}"""


@pytest.fixture
def coco_captions(hub_cache, tmp_path, monkeypatch):
    """A folder with a stand-in for captions_val2017.json, whose hash is the one asked for."""
    file = tmp_path / "own" / "coco_captions" / "captions_val2017.json"
    file.parent.mkdir(parents=True)
    file.write_text(IN_TURN, encoding="utf-8")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setattr(published_files, "CAPTIONS", digest)
    monkeypatch.setenv("MODALITY_GAP_DATA", str(tmp_path / "own"))
    return file


def test_published_captions_are_grouped_by_image(coco_captions, monkeypatch):
    """Images by their first caption, captions of an image in the order of the file."""
    expected = [
        ["A red barn.", "A café by a barn", "A red barn."],
        ["A dog.", "A dog on grass."],
        ["Two\nboats"],
    ]
    for folder in (coco_captions.parent.parent, coco_captions.parent):
        monkeypatch.setenv("MODALITY_GAP_DATA", str(folder))
        assert published_files.published_captions() == expected


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_published_captions_of_the_first_images(coco_captions, n):
    """All captions of the first n images, those that come after other images' included."""
    assert published_files.published_captions(n) == published_files.published_captions()[:n]
    assert len(published_files.published_captions(n)) == min(n, 3)
    assert len(published_files.published_captions(n)[0]) == 3


def test_changed_captions_are_refused(coco_captions):
    coco_captions.write_text(IN_TURN.replace("dog", "cat"), encoding="utf-8")
    with pytest.raises(NotAvailable, match=r"captions_val2017\.json is not the published file"):
        published_files.published_captions()


def test_published_captions_offline(hub_cache):
    with pytest.raises(NotAvailable, match=r"captions_val2017\.json is not here and HF_HUB"):
        published_files.published_captions()


def test_the_hash_of_the_captions_is_the_published_one():
    """Known by heart from COCO; a slip here would refuse the real file."""
    assert published_files.CAPTIONS.startswith("1018a876")
    assert len(bytes.fromhex(published_files.CAPTIONS)) == 32


# --- published embeddings -----------------------------------------------------------------------


@pytest.fixture
def published(hub_cache, tmp_path, monkeypatch):
    """A folder with a stand-in for features_clip.npy, whose hash is the one asked for."""
    both = np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
    file = tmp_path / "own" / "mind_the_gap" / "features_clip.npy"
    file.parent.mkdir(parents=True)
    np.save(file, both)
    monkeypatch.setitem(PUBLISHED, "clip", hashlib.sha256(file.read_bytes()).hexdigest())
    monkeypatch.setenv("MODALITY_GAP_DATA", str(tmp_path / "own"))
    return both, file


def test_published_embeddings(published, monkeypatch):
    both, file = published
    for folder in (file.parent.parent, file.parent):
        monkeypatch.setenv("MODALITY_GAP_DATA", str(folder))
        found = published_embeddings("clip")
        assert found.image.dtype == found.text.dtype == torch.float32
        np.testing.assert_array_equal(found.image, both[0])
        np.testing.assert_array_equal(found.text, both[1])
        assert torch.equal(found.first(), found.text)


def test_pairs_by_model_end_with_the_published_ones(published, monkeypatch):
    both, _ = published
    image, text = torch.eye(2), torch.arange(8.0).reshape(4, 2)
    pairs = Embeddings(image, text, torch.tensor([0, 0, 1, 1]))
    monkeypatch.setattr("lib.data.published.embed", lambda model, rows: pairs)
    monkeypatch.setattr("lib.data.published.registry.load", lambda name: name)
    found, missing = pairs_by_model(["one", "two"], None)
    assert list(found) == ["one", "two", published_files.CLIP] and not missing
    assert found["two"][1].tolist() == [[0, 1], [4, 5]]
    np.testing.assert_array_equal(found[published_files.CLIP], both)
    assert data_of(published_files.CLIP) == "500 COCO pairs" and data_of("one") == ""
    monkeypatch.setenv("MODALITY_GAP_DATA", "")
    found, missing = pairs_by_model(["one"], None)
    assert list(found) == ["one"] and missing.startswith("Real CLIP embeddings are left out. ")


def test_changed_file_is_refused(published):
    np.save(published[1], published[0] + 1)
    with pytest.raises(NotAvailable, match="not the published file: its SHA-256 differs"):
        published_embeddings("clip")


def test_pickled_file_is_refused(published, monkeypatch):
    np.save(published[1], np.array([{}, {}], dtype=object), allow_pickle=True)
    digest = hashlib.sha256(published[1].read_bytes()).hexdigest()
    monkeypatch.setitem(PUBLISHED, "clip", digest)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        published_embeddings("clip")


def test_published_embeddings_offline(hub_cache):
    with pytest.raises(
        NotAvailable, match=r"HF_HUB_OFFLINE is set.*MODALITY_GAP_DATA.*holds it\.$"
    ):
        published_embeddings("clip")


def test_published_embeddings_are_asked_for_once(hub_cache, monkeypatch):
    """No network: one try, one sentence."""
    tries = []

    def unreachable(self, url, *args, **kwargs):
        tries.append(url)
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", unreachable)
    with pytest.raises(NotAvailable, match=r"there is no network.*MODALITY_GAP_DATA"):
        published_embeddings("videoclip")
    assert len(tries) == 1 and tries[0].endswith("Figure_1_Modality_Gap/features_videoclip.npy")


def test_downloaded_file_is_checked_and_kept(published, monkeypatch):
    both, file = published
    content = file.read_bytes()

    def server(self, url, output, *args, **kwargs):
        assert served, "the file in the cache should have been used"
        output = getattr(output, "name", output)
        with open(output, "wb") as target:
            target.write(served.pop())

    monkeypatch.delenv("MODALITY_GAP_DATA")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", server)
    served = [content[:-4]]
    with pytest.raises(NotAvailable, match=r"download of features_clip.npy is damaged"):
        published_embeddings("clip")
    served = [content]
    for _ in range(2):
        np.testing.assert_array_equal(published_embeddings("clip").image, both[0])


def test_hashes_are_the_published_ones():
    """Known by heart from the authors' commit; a slip here would refuse the real files."""
    assert PUBLISHED["clip"].startswith("7227280a") and CIFAR10.startswith("8684a368")
    assert len(PUBLISHED) == 8
    assert {len(bytes.fromhex(value)) for value in (*PUBLISHED.values(), CIFAR10)} == {32}


class Trap:
    """Whoever unpickles it finds out."""

    def __reduce__(self):
        return pytest.fail, ("a pickled array was loaded",)


@pytest.fixture
def cifar10(hub_cache, tmp_path, monkeypatch):
    """A stand-in for train_shard012.npz, whose hash is the one asked for: its arrays, and the file.

    Seven images of three classes, out of order, and pickled arrays beside them.
    """
    rng, label = np.random.default_rng(0), np.array([2, 0, 1, 2, 1, 0, 2])
    texts = rng.normal(size=(3, 4)).astype(np.float32)
    arrays = {"vision_emb": rng.normal(size=(7, 4)).astype(np.float32), "text_emb": texts[label]}
    arrays |= {"label_ids": label, "texts": texts}
    file = tmp_path / "own" / "cifar10_clip" / "train_shard012.npz"
    file.parent.mkdir(parents=True)
    put_cifar10(file, arrays, monkeypatch)
    monkeypatch.setenv("MODALITY_GAP_DATA", str(tmp_path / "own"))
    return arrays, file


def put_cifar10(file, arrays, monkeypatch):
    traps = {name: np.array([Trap()], dtype=object) for name in ("fns", "label_names", "meta")}
    np.savez_compressed(file, **traps | {k: a for k, a in arrays.items() if k != "texts"})
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setattr(published_files, "CIFAR10", digest)


def test_published_cifar10(cifar10, monkeypatch):
    arrays, file = cifar10
    for folder in (file.parent.parent, file.parent):
        monkeypatch.setenv("MODALITY_GAP_DATA", str(folder))
        found = published_cifar10()
        assert found.image.dtype == found.classes.dtype == np.float32
        assert found.label.dtype == np.int64
        np.testing.assert_array_equal(found.image, arrays["vision_emb"])
        np.testing.assert_array_equal(found.classes, arrays["texts"])  # row k is of label k
        np.testing.assert_array_equal(found.label, arrays["label_ids"])


def test_trap_of_the_stand_in_is_one(cifar10):
    """Else the test above would say nothing on the pickled arrays."""
    with (
        np.load(cifar10[1], allow_pickle=True) as stored,
        pytest.raises(pytest.fail.Exception, match="pickled"),
    ):
        stored["fns"]


@pytest.mark.parametrize("name", ["vision_emb", "text_emb", "label_ids"])
def test_pickled_array_of_cifar10_is_refused(cifar10, monkeypatch, name):
    arrays, file = cifar10
    put_cifar10(file, arrays | {name: np.array([Trap()] * 7, dtype=object)}, monkeypatch)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        published_cifar10()


def test_changed_cifar10_is_refused(cifar10):
    np.savez(cifar10[1], **cifar10[0])
    with pytest.raises(NotAvailable, match="not the published file: its SHA-256 differs"):
        published_cifar10()


def test_cifar10_offline(hub_cache):
    with pytest.raises(NotAvailable, match=r"^train_shard012.npz is not here.*holds it\.$"):
        published_cifar10()


def test_cifar10_is_downloaded_at_a_fixed_commit(cifar10, monkeypatch):
    arrays, file = cifar10
    content, asked = file.read_bytes(), []

    def server(self, url, output, *args, **kwargs):
        asked.append(url)
        with open(getattr(output, "name", output), "wb") as target:
            target.write(content)

    monkeypatch.delenv("MODALITY_GAP_DATA")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", server)
    for _ in range(2):
        np.testing.assert_array_equal(published_cifar10().image, arrays["vision_emb"])
    (url,) = asked
    assert "/241b47dd160728646561bbad6199ce0e9389947d/" in url
    assert url.endswith("cifar10_train_ViT-B-32_laion2b_s34b_b79k/train_shard012.npz")


@pytest.fixture
def shards(hub_cache, monkeypatch):
    """A stand-in for the server of all shards, seven images in each.

    What it serves (address -> content) and what it was asked for.
    """
    rng, label = np.random.default_rng(1), np.array([2, 0, 1, 2, 1, 0, 2])
    texts = rng.normal(size=(3, 4)).astype(np.float32)
    served, asked = {}, []
    for split, blobs in published_files.CIFAR10_BLOBS.items():
        ids = []
        for i in range(len(blobs)):
            file = io.BytesIO()
            image = rng.normal(size=(7, 4)).astype(np.float32)
            traps = {name: np.array([Trap()], dtype=object) for name in ("fns", "meta")}
            np.savez(file, vision_emb=image, text_emb=texts[label], label_ids=label, **traps)
            content = file.getvalue()
            served[f"cifar10_{split}_ViT-B-32_laion2b_s34b_b79k/{split}_shard{i:03}.npz"] = content
            ids.append(hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest())
        monkeypatch.setitem(published_files.CIFAR10_BLOBS, split, ids)

    def server(self, url, output, *args, **kwargs):
        asked.append("/".join(url.split("/")[-2:]))
        with open(getattr(output, "name", output), "wb") as target:
            target.write(served[asked[-1]])

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", server)
    return served, asked


@pytest.mark.parametrize(("split", "n"), [("train", 13), ("test", 3)])
def test_all_of_published_cifar10(shards, split, n):
    """All shards in their order, each asked for once; the sample's shard is one of them."""
    served, asked = shards
    for _ in range(2):
        found = published_cifar10(split)
        assert found.image.shape == (7 * n, 4) and found.classes.shape == (3, 4)
        assert found.label.tolist() == [2, 0, 1, 2, 1, 0, 2] * n
    assert asked == [name for name in served if f"/{split}_" in name]
    with np.load(io.BytesIO(served[asked[-1]])) as last:
        np.testing.assert_array_equal(found.image[-7:], last["vision_emb"])
        np.testing.assert_array_equal(found.classes, last["text_emb"][[1, 2, 0]])


def test_damaged_shard_is_refused_and_not_kept(shards):
    served, asked = shards
    name = "cifar10_test_ViT-B-32_laion2b_s34b_b79k/test_shard001.npz"
    whole, served[name] = served[name], served[name][:-4]
    with pytest.raises(NotAvailable, match=r"shard001.npz is damaged: its git blob id differs"):
        published_cifar10("test")
    kept = paths.CACHE / "cifar10_clip"
    assert [file.name for file in kept.iterdir()] == ["test_shard000.npz"]
    served[name] = whole
    assert len(published_cifar10("test").label) == 21
    (kept / "test_shard001.npz").write_bytes(whole[:-4])  # a kept one is checked again
    assert len(published_cifar10("test").label) == 21
    assert [each[-5:-4] for each in asked] == ["0", "1", "1", "2", "1"]


def test_changed_shard_of_ones_own_is_refused(shards, tmp_path, monkeypatch):
    served, asked = shards
    monkeypatch.setenv("MODALITY_GAP_DATA", str(tmp_path))
    for name, content in served.items():
        (tmp_path / name.split("/")[1]).write_bytes(content)
    assert len(published_cifar10("train").label) == 91 and not asked
    (tmp_path / "train_shard003.npz").write_bytes(b"other")
    with pytest.raises(NotAvailable, match=r"train_shard003.npz is not the .* git blob id differs"):
        published_cifar10("train")


def test_unknown_split_of_cifar10():
    with pytest.raises(ValueError, match=r"no split of CIFAR-10 'tests'.*test"):
        published_cifar10("tests")


def test_git_blob_id_is_that_of_git(tmp_path):
    """Known by heart from `git hash-object`; and the shards' ids are ids, all different."""
    for content, blob in [
        (b"", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),
        (b"hello\n", "ce013625030ba8dba906f756967f9e9ca394464a"),
    ]:
        (tmp_path / "file").write_bytes(content)
        assert published_files._is_published(tmp_path / "file", blob)
    ids = [blob for blobs in published_files.CIFAR10_BLOBS.values() for blob in blobs]
    assert len(ids) == len(set(ids)) == 16 and {len(bytes.fromhex(each)) for each in ids} == {20}
    assert ids[12].startswith("fec39dc2")


# --- embeddings ---------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.randoms(), st.integers(0, 3))
def test_kth_caption_of_every_image(counts, shuffle, k):
    """Against a loop, with the captions of the images interleaved at random."""
    owner = [i for i, count in enumerate(counts) for _ in range(count)]
    shuffle.shuffle(owner)
    text = torch.arange(len(owner), dtype=torch.float32)[:, None]
    found = Embeddings(torch.zeros(len(counts), 1), text, torch.tensor(owner))
    if k >= min(counts):
        with pytest.raises(ValueError, match=f"no caption {k} of every image"):
            found.caption(k)
        return
    expected = [[j for j, o in enumerate(owner) if o == i][k] for i in range(len(counts))]
    assert found.caption(k)[:, 0].tolist() == expected


# COCO's train split, in shards --------------------------------------------------------------------


@pytest.fixture
def coco_shards(hub_cache, monkeypatch):
    """Two shards of three rows and one; the commit is not known before the first use."""
    source = replace(PAIRS["coco"]["train"], rows=4, each=3)
    monkeypatch.setitem(PAIRS, "coco", PAIRS["coco"] | {"train": source})
    commit = "b" * 40
    files.write_json(paths.CACHE / "revisions.json", {source.repo: commit})
    folder = standins.put_in_hub(hub_cache, source.repo, commit, "dataset")
    for name, rows in zip(source.files(None), (range(3), range(3, 4)), strict=True):
        standins.write_shard(folder / name, rows)
    return folder


def test_shards_hold_pairs(coco_shards):
    rows = load_pairs("coco", "train")
    assert rows["image_id"][:] == ["1000", "1001", "1002", "1003"]
    assert rows["captions"][0] == standins.captions(0)
    assert all(len(each) == 5 for each in rows["captions"])
    assert np.array(rows[2]["image"]).shape == (24, 24, 3)


def test_only_the_shards_of_the_rows_asked_for_are_needed(coco_shards):
    (coco_shards / PAIRS["coco"]["train"].files(None)[1]).unlink()
    assert len(load_pairs("coco", "train", 2)) == 2
    with pytest.raises(NotAvailable, match="undefined443/coco-karpathy-wds"):
        load_pairs("coco", "train")


def test_a_short_shard_is_never_taken_for_a_whole_one(coco_shards):
    standins.write_shard(coco_shards / PAIRS["coco"]["train"].files(None)[0], range(2))
    with pytest.raises(NotAvailable, match="coco-train came with 2 rows instead of 3"):
        load_pairs("coco", "train", 2)


def test_pairs_to_fit_are_those_of_the_train_split_where_it_can_be_had(coco_shards, monkeypatch):
    split, rows, missing = load_pairs_to_fit("coco", 3)
    assert (split, len(rows), missing) == ("train", 3, "")

    def gone(name, split, n):
        if split == "train":
            raise NotAvailable("It is gone.")
        return [1, 2]

    monkeypatch.setattr("lib.data.tasks.load_pairs", gone)
    assert load_pairs_to_fit("coco", 2) == ("test", [1, 2], "Without train: It is gone.")

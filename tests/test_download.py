"""What cannot be had is left out with one sentence; anything else is an error."""

import numpy as np
import pytest
import standins
from datasets import ClassLabel, Dataset, Features, Image

from lib.data import labelled, sources, tasks
from lib.encoders import download, registry
from lib.encoders.download import NotAvailable


def load(name):
    if name == "broken":
        raise ValueError("It is broken.")
    if name.startswith("no "):
        raise NotAvailable(f"{name} is not here.")
    return name.upper()


def test_what_cannot_be_had_is_left_out():
    found, missing = download.available(load, ["a", "no b", "c", "no d"])
    assert found == {"a": "A", "c": "C"}
    assert missing == "Without no b: no b is not here. Without no d: no d is not here."
    found, missing = download.available(load, {"one": "a", "two": "no b"}, needed=["one"])
    assert (found, missing) == ({"one": "A"}, "Without two: no b is not here.")
    assert download.available(load, []) == ({}, "")


def test_what_is_needed_and_what_is_wrong_are_errors():
    with pytest.raises(NotAvailable, match="no b is not here"):
        download.available(load, {"one": "a", "two": "no b"}, needed=["two"])
    with pytest.raises(ValueError, match="broken"):
        download.available(load, ["a", "broken"])


def test_the_first_that_can_be_had():
    assert download.first_available(load, ["a", "no b"]) == ("a", "A", "")
    key, value, missing = download.first_available(load, {"x": "no b", "y": "c", "z": "a"})
    assert (key, value, missing) == ("y", "C", "Without x: no b is not here.")
    with pytest.raises(NotAvailable, match="no c is not here"):
        download.first_available(load, ["no b", "no c"])


def test_a_pickle_is_left_out_with_the_way_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(registry.paths, "CACHE", tmp_path)
    found, missing = download.available(registry.load, ["mini-clip", "datacomp-vit-l-14"])
    assert list(found) == ["mini-clip"]
    assert "--convert datacomp-vit-l-14" in missing


def test_pairs_are_those_of_the_first_set_that_is_there(monkeypatch):
    monkeypatch.setattr(tasks, "load_pairs", lambda name, split, n: (load(name), split, n))
    assert tasks.load_first_pairs([None, "coco"], "test", 3) == ("coco", ("COCO", "test", 3), "")
    name, rows, missing = tasks.load_first_pairs(["no flickr", "coco"], "val")
    assert (name, rows, missing) == (
        "coco",
        ("COCO", "val", None),
        "Without no flickr: no flickr is not here.",
    )


def test_label_sets_of_the_same_images(monkeypatch):
    monkeypatch.setattr(tasks, "load_test_images", lambda name, n, seed: load(name))
    drawn = {"shape": "world-shape", "colour": "world-colour", "cars": "cars"}
    assert list(tasks.load_same_images(drawn, 5)[0]) == ["shape", "colour"]
    public = {"pets": "no pets", "dtd": "dtd", "cars": "cars"}
    assert tasks.load_same_images(public, 5) == ({"cars": "CARS"}, "")
    rows, missing = tasks.load_same_images(public | {"cars": "no cars"}, 5)
    assert rows == {"dtd": "DTD"}
    assert missing == "Without cars: no cars is not here. Without pets: no pets is not here."


def test_race_and_gender_make_one_label(tmp_path, monkeypatch):
    monkeypatch.setattr(download.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(labelled.download, "fetch", lambda *_, **__: tmp_path)
    monkeypatch.setattr(sources, "cache", lambda: tmp_path / "read")
    source = sources.Labelled(
        "a/b", "0" * 40, {"test": "0.25/validation"}, "race", rows=4, label_2="gender"
    )
    monkeypatch.setitem(sources.LABELLED, "fairface", source)
    kinds = {"race": ClassLabel(names=["White", "Latino_Hispanic"])}
    kinds |= {"gender": ClassLabel(names=["Male", "Female"])}
    values = {"race": [0, 1, 1, 0], "gender": [1, 0, 1, 0]}
    values["image"] = [{"bytes": standins.encoded(i), "path": None} for i in range(4)]
    (tmp_path / "0.25").mkdir()
    (tmp_path / "1.25").mkdir()
    made = Dataset.from_dict(values, Features({"image": Image()} | kinds))
    made.to_parquet(tmp_path / "0.25" / "validation-00000-of-00001-ab.parquet")
    made.to_parquet(tmp_path / "1.25" / "validation-00000-of-00001-cd.parquet")
    rows = labelled.load_labelled("fairface")
    names = rows.features["label"].names
    assert names == ["White Male", "White Female", "Latino Hispanic Male", "Latino Hispanic Female"]
    assert rows["label"][:] == [1, 2, 3, 0]
    assert rows.column_names == ["image", "image_id", "label"]
    assert np.asarray(rows[0]["image"]).shape == (24, 24, 3)
    assert rows["image_id"][0] == "fairface-test-0"


def test_a_public_set_stands_beside_its_own_column_only():
    drawn = {"shape_colour": "world-shape-colour", "shape": "world-shape"}
    titles, word = tasks.beside(drawn, ["cifar100", "birdsnap"])
    assert titles == {"cifar100": "shape-colour accuracy", "birdsnap": "shape accuracy"}
    assert not word
    assert tasks.beside({"shape": "world-shape"}, ["a", "b"])[0] == {"a": "shape accuracy"}
    titles, word = tasks.beside({"cifar100": "cifar100", "cub": "cub"}, ["cifar100", "birdsnap"])
    assert titles == {"cifar100": "cifar100 accuracy", "birdsnap": "birdsnap accuracy"}
    assert word == "The paper's birdsnap: not measured here. Not in the paper: cub."


def test_shifted_twins_are_splits_or_sets_of_their_own(monkeypatch):
    monkeypatch.setattr(tasks, "load_labelled", lambda name, split, n: (load(name), split, n))
    monkeypatch.setattr(tasks, "load_test_images", lambda name, n: (load(name), n))
    monkeypatch.setattr(tasks, "splits", lambda name: ("test", "ink") if "w" in name else ("test",))
    drawn = {"shape": "world-shape", "pets": "pets"}
    wanted = {"shape": ["test", "hard", "ink"]}
    rows, names, missing = tasks.load_shifts(drawn, {}, wanted, 5)
    assert list(rows) == [("shape", "test"), ("shape", "ink")]
    assert set(names.values()) == {"world-shape"}
    assert not missing
    public = {"test": "net", "hard": "net-a", "ink": "no net-s"}
    rows, names, missing = tasks.load_shifts(drawn, public, wanted, None, 7)
    assert rows == {("net", "test"): ("NET", 7), ("net", "hard"): ("NET-A", 7)}
    assert names == {("net", "test"): "net", ("net", "hard"): "net-a"}
    assert missing == "Without net, ink: no net-s is not here."
    rows, _, missing = tasks.load_shifts(drawn, public | {"test": "no net"}, wanted)
    assert list(rows) == [("shape", "test"), ("shape", "ink")]
    assert "no net is not here" in missing


def test_no_more_is_asked_for_than_enough():
    found, missing = download.available(load, ["no b", "a", "c", "broken"], most=2)
    assert found == {"a": "A", "c": "C"}
    assert missing == "Without no b: no b is not here."

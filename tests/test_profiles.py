"""Profiles: both files load, small is small, and every mistake is named."""

import dataclasses

import pytest
import yaml

from lib import paths, profiles
from workflow import catalogue, freshness


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of profiles with a sound one, called sound."""
    monkeypatch.setattr(paths, "PROFILES", tmp_path)
    content = {
        "models": {"clip": "mini-clip"},
        "pairs": "world",
        "labelled": {"shape": "world-shape"},
        "judgements": {"expert": "world-expert"},
        "n_pairs": 1000,
        "n_train_pairs": 5000,
        "n_bootstrap": 100,
    }
    write(tmp_path, content)
    return tmp_path, content


def write(folder, content, name="sound"):
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


@pytest.mark.parametrize("name", ["mini", "clip"])
def test_the_profiles_of_the_repository_load(name):
    loaded = profiles.load(name)
    assert loaded.name == name
    assert not loaded.small
    assert {"clip", "untrained", "second_backbone"} <= loaded.models.keys() <= set(profiles.roles())
    assert set(loaded.judgements) == {"expert", "cf"}
    assert loaded.seeds()[0] == loaded.models["clip"]


def test_mini_needs_no_download():
    mini = profiles.load("mini")
    assert all(name.startswith("mini-") for name in mini.models.values())
    sets = [mini.pairs, *mini.labelled.values(), *mini.judgements.values()]
    assert all(name.startswith("world") for name in sets)
    assert len(mini.seeds()) == 3
    assert mini.pairs_2 is None


def test_small_caps_sizes_and_keeps_the_rest(folder):
    full, small = profiles.load("sound"), profiles.load("sound", small=True)
    assert (small.n_pairs, small.n_train_pairs, small.n_bootstrap) == (200, 500, 50)
    sizes = {"n_pairs": 1000, "n_train_pairs": 5000, "n_bootstrap": 100, "small": False}
    assert dataclasses.replace(small, **sizes) == full


def test_small_enlarges_nothing(folder):
    where, content = folder
    write(where, content | {"n_pairs": 7})
    assert profiles.load("sound", small=True).n_pairs == 7


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"n_pair": 3}, "no key 'n_pair'; the nearest (is|are) n_pairs"),
        ({"pairs": None}, "pairs must be a name"),
        ({"n_pairs": 0}, "n_pairs must be a whole number above 0"),
        ({"n_pairs": True}, "n_pairs must be a whole number above 0"),
        ({"n_bootstrap": 1e3}, "n_bootstrap must be a whole number"),
        ({"labelled": ["world-shape"]}, "labelled must be names by role"),
        ({"also": "siglip"}, "also must be a list of names"),
        ({"targets": [""]}, "targets must be a list of names"),
        ({"models": {"clipp": "a"}}, "no model role 'clipp'; the nearest (is|are) clip"),
        ({"models": {"untrained": "a"}}, "in the role 'clip'"),
    ],
)
def test_mistakes_are_named(folder, change, sentence):
    where, content = folder
    write(where, content | change)
    with pytest.raises(ValueError, match=sentence):
        profiles.load("sound")


def test_a_missing_key_is_named(folder):
    where, content = folder
    del content["judgements"]
    write(where, content)
    with pytest.raises(ValueError, match="the key 'judgements' is missing"):
        profiles.load("sound")


def test_an_empty_file_and_an_unknown_name_are_refused(folder):
    (folder[0] / "empty.yaml").write_text("")
    with pytest.raises(ValueError, match="must hold keys and values"):
        profiles.load("empty")
    with pytest.raises(ValueError, match="no profile 'sond'; the nearest is sound"):
        profiles.load("sond")


def test_optional_entries(folder):
    where, content = folder
    write(where, content | {"pairs_2": "flickr30k", "also": ["x", "y"], "targets": ["z"]})
    loaded = profiles.load("sound")
    assert (loaded.pairs_2, loaded.also, loaded.targets) == ("flickr30k", ("x", "y"), ("z",))
    assert loaded.seeds() == ["mini-clip"]


# The list of items --------------------------------------------------------------------------------


def test_every_notebook_is_listed():
    assert catalogue.unlisted() == []


def test_items_name_their_place():
    catalogue = catalogue.load()
    assert {item.paper for item in catalogue.values()} == {
        *("", "mind_the_gap", "i0t", "alignclip", "cross_the_gap", "beyond")
    }
    assert catalogue["mind_the_gap/table2_fairness"].status("mini") == "needs profile clip"
    for item in catalogue.values():
        assert item.needs in (None, *profiles.available())


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("{title: t, where: w, model: [clip]}", "no key 'model'; the nearest is models"),
        ("{title: t}", "the key 'where' is missing"),
        ("{title: t, where: w, models: [klip]}", "no model role 'klip'; the nearest"),
    ],
)
def test_mistakes_in_the_list_are_named(tmp_path, monkeypatch, entry, sentence):
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path)
    (tmp_path / catalogue.LIST).write_text(f"i0t/fig1: {entry}\n")
    with pytest.raises(ValueError, match=sentence):
        catalogue.load()


def test_seeds_of_any_role(folder):
    where, content = folder
    models = {"clip": "a", "clip_seed2": "b", "shared": "c"}
    write(where, content | {"models": models})
    loaded = profiles.load("sound")
    assert loaded.seeds() == loaded.seeds("clip") == ["a", "b"]
    assert loaded.seeds("shared") == ["c"]
    assert loaded.seeds("slip") == []


def test_an_item_depends_on_the_models_of_its_own_roles_only(monkeypatch):
    """A model added to the profile in another role leaves the item up to date."""
    mini = profiles.load("mini")
    item = catalogue.load()["i0t/table9_second_backbone"]
    before = freshness.digest(mini, item.name)

    def with_model(role, name="mini-rn"):
        return dataclasses.replace(mini, models=mini.models | {role: name})

    assert freshness.digest(with_model("siglip"), item.name) == before
    assert freshness.digest(with_model("clip"), item.name) != before
    assert freshness.digest(dataclasses.replace(mini, n_pairs=7), item.name) != before
    compared = dataclasses.replace(item, compares=("siglip",))
    monkeypatch.setattr(catalogue, "load", lambda: {item.name: compared})
    assert freshness.digest(with_model("siglip"), item.name) != freshness.digest(mini, item.name) != before

"""Profiles: both files load, small is small, and every mistake is named."""

import pytest
import yaml

from lib import paths, profiles


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of profiles with a sound one, called sound."""
    monkeypatch.setattr(paths, "PROFILES", tmp_path)
    content = {
        "evidence": "mini",
        "models": {"clip": "mini-clip"},
        "pairs": "world",
        "labelled": {"shape": "world-shape"},
        "judgements": {"expert": "world-expert"},
        "n_pairs": 1000,
        "n_train_pairs": 5000,
        "n_bootstrap": 1000,
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
    assert (small.n_pairs, small.n_train_pairs, small.n_bootstrap) == (200, 500, 100)
    sizes = {"n_pairs": 1000, "n_train_pairs": 5000, "n_bootstrap": 1000, "small": False}
    assert small.model_copy(update=sizes) == full


def test_small_enlarges_nothing(folder):
    where, content = folder
    write(where, content | {"n_pairs": 7})
    assert profiles.load("sound", small=True).n_pairs == 7


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"evidence": "reel"}, "evidence must be real or mini, not 'reel'"),
        ({"n_pair": 3}, "no key 'n_pair'; the nearest (is|are) n_pairs"),
        ({"pairs": None}, "sound.yaml: pairs must be a name, not None"),
        ({"pairs": ""}, "pairs must be a name, not ''"),
        ({"n_pairs": 0}, "n_pairs: .* greater than 0, not 0"),
        ({"n_pairs": True}, "n_pairs must be a whole number, not True"),
        ({"n_bootstrap": 1e3}, "n_bootstrap must be a whole number, not 1000.0"),
        ({"n_bootstrap": 99}, "n_bootstrap: .* greater than or equal to 100, not 99"),
        ({"labelled": ["world-shape"]}, r"labelled must be keys and values, not \['world-shape'\]"),
        ({"also": "siglip"}, "also must be a list, not 'siglip'"),
        ({"labelled": {"shape": 3}}, "labelled.shape must be a name, not 3"),
        ({"targets": [""]}, "targets.0 must be a name, not ''"),
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


def test_models_of_different_data_are_confounded(folder):
    where, content = folder
    write(where, content | {"trained_on": {"clip": "LAION", "shared": "CC12M", "align": "CC12M"}})
    loaded = profiles.load("sound")
    assert loaded.confounded("clip", "align") == (
        "The models were trained on different data (clip on LAION, align on CC12M)."
    )
    assert "slip on unknown data" in loaded.confounded("clip", "slip")
    assert loaded.confounded("shared", "align") == loaded.confounded("clip") == ""
    write(where, content)
    assert profiles.load("sound").confounded("clip", "align") == ""


def test_published_weights_alone_fill_a_role(folder):
    where, content = folder
    with pytest.raises(ValueError, match="no model role 'blop'; the nearest are blip"):
        write(where, content | {"models": {"clip": "a", "blop": "b"}})
        profiles.load("sound")
    write(where, content | {"models": {"clip": "a", "blip": "b"}, "survey": ["c"]})
    loaded = profiles.load("sound")
    assert (loaded.models["blip"], loaded.survey) == ("b", ("c",))


def test_seeds_of_any_role(folder):
    where, content = folder
    models = {"clip": "a", "clip_seed2": "b", "shared": "c"}
    write(where, content | {"models": models})
    loaded = profiles.load("sound")
    assert loaded.seeds() == loaded.seeds("clip") == ["a", "b"]
    assert loaded.seeds("shared") == ["c"]
    assert loaded.seeds("slip") == []

"""The list of items: complete, and every mistake in it is named."""

import dataclasses

import pytest

from lib import paths, profiles
from workflow import catalogue, freshness


def test_every_notebook_is_listed():
    assert catalogue.unlisted() == []


def test_items_name_their_place():
    items = catalogue.load()
    assert {item.paper for item in items.values()} == {
        *("", "mind_the_gap", "i0t", "alignclip", "cross_the_gap", "beyond")
    }
    for name, item in items.items():
        assert item.name == name and item.title and item.where
        assert item.notebook == paths.NOTEBOOKS / f"{name}.ipynb"
        assert set(item.models) <= set(profiles.roles())


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("{title: t, where: w, model: [clip]}", "no key 'model'; the nearest is models"),
        ("{title: t}", "the key 'where' is missing"),
        ("{title: t, where: w, models: [klip]}", "no model role 'klip'; the nearest"),
        ("{title: t, where: w, about: [klip]}", "no model role 'klip'; the nearest"),
    ],
)
def test_mistakes_in_the_list_are_named(tmp_path, monkeypatch, entry, sentence):
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path)
    (tmp_path / catalogue.LIST).write_text(f"i0t/fig1: {entry}\n")
    with pytest.raises(ValueError, match=f"{catalogue.LIST}, i0t/fig1: .*{sentence}"):
        catalogue.load()


def test_an_item_depends_on_the_models_of_its_own_roles_only(monkeypatch):
    """A model added to the profile in another role leaves the item up to date."""
    mini = profiles.load("mini")
    item = catalogue.load()["i0t/table9_second_backbone"]
    before = freshness.digest(mini, item.name)

    def changed(**changes):
        return freshness.digest(mini.model_copy(update=changes), item.name)

    assert changed(models=mini.models | {"siglip": "mini-rn"}) == before
    assert changed(models=mini.models | {"clip": "mini-rn"}) != before
    assert changed(n_pairs=7) != before
    more = dataclasses.replace(item, models=(*item.models, "siglip"))
    monkeypatch.setattr(catalogue, "load", lambda: {item.name: more})
    own = freshness.digest(mini, item.name)
    assert changed(models=mini.models | {"siglip": "mini-rn"}) != own != before


def having(*roles):
    """A profile with models in these roles alone."""
    models = dict.fromkeys(roles, "mini-clip")
    return profiles.load("clip").model_copy(update={"models": models})


@pytest.mark.parametrize(
    ("item", "roles", "status", "lacking"),
    [
        ("i0t/fig1_scored_pairs", ("clip",), "ready", []),  # seeds do not count
        ("i0t/table9_second_backbone", ("clip",), "no published weights", ["a second backbone"]),
        ("i0t/fig6_untrained_activations", ("clip",), "in part", ["random weights"]),
        ("alignclip/table1_alignment", ("clip", "align"), "in part", ["SharedCLIP"]),
        ("cross_the_gap/table4_temperature", ("clip",), "no published weights",
            ["fixed temperatures"]),
        ("cross_the_gap/table4_temperature", ("clip", "t1"), "in part", ["fixed temperatures"]),
        # Where the list says what it is about.
        ("beyond/intra_modal_controls", ("clip",), "in part", ["CLIP of full rank"]),
        ("i0t/table8_mcsie", ("clip", "async"), "no published weights",
            ["LCCOM", "I0T_async without MCSIE"]),
        # Whatever the profile, it is about small models.
        ("beyond/audit_of_the_negatives", ("clip",), "ready", []),
    ],
)  # fmt: skip
def test_the_status_says_what_a_profile_lacks(item, roles, status, lacking):
    assert catalogue.load()[item].status(having(*roles)) == (status, lacking)


def test_an_item_that_is_not_written_is_planned():
    item = dataclasses.replace(catalogue.load()["i0t/table8_mcsie"], name="i0t/later")
    assert item.status(having("clip")) == ("planned", [])


def test_everything_is_ready_in_the_profile_that_fills_every_role():
    mini = profiles.load(profiles.FULL)
    assert {item.status(mini)[0] for item in catalogue.load().values()} == {"ready"}


def test_every_role_has_words_of_its_own():
    """But for further seeds, and for families that one word names."""
    roles = [role for role in profiles.roles() if "_seed" not in role]
    said = {role: catalogue.in_words(role) for role in roles}
    words = [word for role, word in said.items() if role in catalogue.WORDS]
    assert len(set(words)) == len(words)
    assert said["lccom_ln"] == "+LN" and said["t100"] == said["t1"] != said["d32"]
    assert said["lco_photo"] == said["lc_flat"] != said["lco"]


def test_what_items_are_about_is_among_their_models():
    for item in catalogue.load().values():
        assert {*item.about} <= {*item.models}

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

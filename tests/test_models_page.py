"""models/README.md: every shipped model is in one family, and its recipe is said in words."""

from dataclasses import fields

import pytest

from docs import models
from lib import profiles
from mini import named, recipes, training


def test_every_recipe_is_in_one_family():
    for name in recipes.RECIPES:
        one = models.family(name)
        assert models.family(one.base) in models.FAMILIES


def test_a_model_in_no_family_is_refused():
    with pytest.raises(ValueError, match=r"mini-else must be in one family .* not in none"):
        models.family("mini-else")


def test_everything_in_a_recipe_has_words():
    assert set(models.WORDS) == {field.name for field in fields(recipes.Recipe)}
    assert set(models.LOSSES) == set(training.TERMS)
    assert set(models.NAMED) == set(named.KINDS)


def test_words_tell_the_models_of_a_family_apart():
    said = {}
    for name in recipes.RECIPES:
        one = models.family(name)
        words = models.in_words(name, one.base)
        assert said.setdefault((one.title, words), name) == name
        assert bool(words) == (recipes.RECIPES[name] != recipes.RECIPES[one.base])


def test_differences_are_those_of_the_recipe():
    assert models.in_words("mini-clip-t10", "mini-clip-t100") == "logit scale 10"
    words = models.in_words("mini-lco", "mini-clip").split("; ")
    assert {"groups of similar scenes from the start", "8 similar scenes to a group"} < {*words}
    align = models.in_words("mini-align", "mini-shared")
    assert align == "2 × CLIP's loss + 0.5 × separation of images"


def test_the_page_shows_every_shipped_model_once_with_its_roles():
    page = models.page()
    shipped = [name for name in recipes.RECIPES if models.report(name)]
    assert len(shipped) > 50
    roles = profiles.load("mini").models.items()
    for name in shipped:
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        for role, model in roles:
            assert (f"`{role}`" in row.split("|")[2]) == (model == name)
    for field in ("shared_from", "tagging_steps", "loss ="):
        assert field not in page

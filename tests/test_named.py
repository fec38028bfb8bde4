import hashlib

import pytest

from mini import named, world
from mini.recipes import RECIPES
from mini.world.captions import MEDIA, PLACES, SYNONYMS, vocabulary
from mini.world.scenes import COLOURS, SHAPES, SIZES, TEXTURES

# SHA-256 over the captions of the first 50 scenes of "train": models were trained on them.
HASHES = {
    "shape": "dcf5972ba7cdfe0b06fe485944f6f1a25974e1279b17a47dc4663f5595269991",
    "shape-colour": "bf352ccfb0f96ee4a4dfda7399859e3eaa27c3ce6ffd8a5750e0686121db772c",
    "all": "83d6af2488d5442210a47cbfe4553d99c4b27e25ade530fa8b690dda44d5cfe0",
    "two": "588f9118354766e34350a51ac7b66df045e2ab32138033eb989b67f49e54c44c",
}
WORDS = {"shape": SHAPES, "colour": COLOURS, "texture": TEXTURES, "size": SIZES}


@pytest.mark.parametrize("kind", named.KINDS)
def test_the_same_captions_on_every_machine(kind):
    digest = hashlib.sha256()
    for i in range(50):
        digest.update("\n".join(named.of_scene(kind, "train", i)).encode())
    assert digest.hexdigest() == HASHES[kind]


def attributes_in(text: str, scene) -> set[str]:
    """The attributes of the main object and the picture that a caption names."""
    main, words = scene.things[0], text.split()
    found = {
        name
        for name, values in WORDS.items()
        if {*SYNONYMS[values[getattr(main, name)]]} & {*words}
    }
    if any(phrase in text for phrases in PLACES.values() for phrase in phrases):
        found.add("background")
    if any(phrase.removesuffix(" of") in text for each in MEDIA.values() for phrase in each):
        found.add("style")
    return found


@pytest.mark.parametrize("kind", named.KINDS)
def test_captions_name_what_their_kind_says_and_nothing_else(kind):
    for i in range(100):
        scene, _ = world.scene_and_stream(0, i, {})
        for text in named.of_scene(kind, "train", i):
            assert {*text.split()} <= {*vocabulary()}
            assert len(text.split()) <= 30  # of the context's 32, with start and end
            if len(scene.things) > 1 and kind != "two":
                continue  # the other objects' words are there, too
            found = attributes_in(text, scene)
            assert len(found) == 2 if kind == "two" else found == {*named.KINDS[kind]}, text


def test_two_attributes_are_drawn_anew_for_each_caption():
    some = [named.of_scene("two", "train", i) for i in range(60)]
    scenes = [world.scene_and_stream(0, i, {})[0] for i in range(60)]
    sets = [
        {frozenset(attributes_in(t, s)) for t in both} for both, s in zip(some, scenes, strict=True)
    ]
    assert sum(len(each) == 2 for each in sets) > 40
    assert len(set().union(*sets)) == 15  # all couples of six


def test_content_is_that_of_the_words():
    """Equal for the same shapes in another order; different where a caption would say so."""
    said = {i: named.content("shape", "train", i) for i in range(400)}
    scenes = {i: world.scene_and_stream(0, i, {})[0] for i in said}
    for i, a in scenes.items():
        for j in (0, 1, 3):
            same = sorted(t.shape for t in a.things) == sorted(t.shape for t in scenes[j].things)
            assert (said[i] == said[j]) == same
    assert len({*said.values()}) < 250
    assert len({named.content("all", "train", i) for i in range(400)}) > 390
    with pytest.raises(ValueError, match="two"):
        named.content("two", "train", 0)


def test_how_often_an_attribute_is_named():
    colour = {
        kind: named.share(RECIPES[f"mini-gap-{kind}-fixed"], ["colour"])[0] for kind in named.KINDS
    }
    assert colour == {"shape": 0, "shape-colour": 1, "all": 1, "two": pytest.approx(1 / 3)}
    with pytest.raises(ValueError, match="not known"):
        named.share(RECIPES["mini-gap-mix-fixed"], ["colour"])


def test_own_captions_are_those_of_the_recipe():
    shape, mix = (RECIPES[f"mini-gap-{kind}-fixed"] for kind in ("shape", "mix"))
    assert named.own(shape, "test", 5) == [named.of_scene("shape", "test", i)[0] for i in range(5)]
    five, some = world.pairs("test", 200)["captions"][:], named.own(mix, "test", 200)
    which = [captions.index(text) for captions, text in zip(five, some, strict=True)]
    assert 0.45 < sum(k >= 3 for k in which) / 200 < 0.7  # weights 1, 1, 1, 2, 2


def test_prompts_hold_only_words_that_were_trained():
    names, templates = named.prompts("shape", "shape")
    assert (names, templates) == (world.class_names("shape"), ["a {}"])
    for kind, label_set in (("all", "shape"), ("shape", "colour"), ("", "shape")):
        assert named.prompts(kind, label_set) == world.prompts(label_set)

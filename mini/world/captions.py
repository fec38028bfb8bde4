"""The caption grammar: five short captions and a long one for a scene, and judged candidates."""

from dataclasses import replace

from mini.world.scenes import (
    BACKGROUNDS,
    COLOURS,
    RELATIONS,
    SHAPES,
    SIZES,
    TEXTURES,
    Scene,
    Stream,
)

# The first word of each list is the class name; captions use the others now and then.
SYNONYMS = {
    "circle": ["circle", "disc"],
    "square": ["square", "box"],
    "triangle": ["triangle", "wedge"],
    "diamond": ["diamond", "rhombus"],
    "star": ["star", "starfish"],
    "cross": ["cross", "plus"],
    "ring": ["ring", "hoop"],
    "heart": ["heart", "valentine"],
    "crescent": ["crescent", "moon"],
    "arrow": ["arrow", "pointer"],
    "bar": ["bar", "plank"],
    "hourglass": ["hourglass", "bowtie"],
    "red": ["red", "crimson"],
    "orange": ["orange", "tangerine"],
    "yellow": ["yellow", "golden"],
    "green": ["green", "emerald"],
    "cyan": ["cyan", "turquoise"],
    "blue": ["blue", "navy"],
    "purple": ["purple", "violet"],
    "pink": ["pink", "rosy"],
    "brown": ["brown", "chestnut"],
    "white": ["white", "snowy"],
    "black": ["black", "dark"],
    "gray": ["gray", "grey"],
    "solid": ["solid", "uniform"],
    "striped": ["striped", "banded"],
    "dotted": ["dotted", "spotted"],
    "checked": ["checked", "checkered"],
    "small": ["small", "little"],
    "medium": ["medium", "middling"],
    "large": ["large", "big"],
}
# Where the scene is: the first phrase completes a class prompt ("a circle in the sky").
PLACES = {
    "plain": ["on a plain background", "with nothing behind"],
    "sky": ["in the sky", "among clouds"],
    "grass": ["on the grass", "in a meadow"],
    "sand": ["on the sand", "in a desert"],
    "night": ["at night", "under the stars"],
    "water": ["on the water", "at sea"],
    "brick": ["on a brick wall", "in front of bricks"],
    "wood": ["on a wooden board", "on a table"],
}
MEDIA = {
    "photo": ["a photo of", "a photograph of", "a good photo of", "a high contrast photo of"],
    "flat": ["a drawing of", "an illustration of", "a cartoon of"],
    "sketch": ["a sketch of", "an outline of", "a line drawing of"],
    "grainy": ["a grainy photo of", "a noisy image of", "a bad photo of", "a blurry photo of"],
    "mosaic": ["a mosaic of", "a pixelated image of"],
    "faded": ["a faded photo of", "a low contrast photo of"],
    "ink": ["a black and white drawing of", "an ink drawing of"],
}
_RELATION = {
    "right": ["to the right of", "right of"],
    "left": ["to the left of", "left of"],
    "above": ["above", "over"],
    "below": ["below", "under"],
}
_OPPOSITE = {"right": "left", "left": "right", "above": "below", "below": "above"}
_FULL = ("size", "texture", "colour")
_PLAIN_WORD = 0.65  # share of words that are the class name itself


def _word(name: str, draw: Stream) -> str:
    return name if draw.unit() < _PLAIN_WORD else draw.pick(SYNONYMS[name])


def article(phrase: str) -> str:
    return ("an " if phrase.startswith(("a", "e", "i", "o", "hour")) else "a ") + phrase


def noun_phrase(thing, draw: Stream, detail=("colour",)) -> str:
    """The object with the attributes named in `detail`: "a large striped red star"."""
    words = []
    if "size" in detail:
        words.append(_word(SIZES[thing.size], draw))
    if "texture" in detail:
        words.append(_word(TEXTURES[thing.texture], draw))
    if "colour" in detail:
        words.append(_word(COLOURS[thing.colour], draw))
    return article(" ".join([*words, _word(SHAPES[thing.shape], draw)]))


def captions(scene: Scene, draw: Stream) -> list[str]:
    """Five captions, from short to full; the fourth names every attribute of the scene.

    0 colours and shapes; 1 the main object in detail and the place; 2 relation, or medium;
    3 full; 4 full in another order, with the relation turned round.
    """
    things = scene.things
    main, others = things[0], things[1:]
    place = draw.pick(PLACES[BACKGROUNDS[scene.background]])
    medium = draw.pick(MEDIA[scene.style])
    brief = " and ".join(noun_phrase(t, draw) for t in things)
    detailed = f"{noun_phrase(main, draw, _FULL)} {place}"
    full = f"{medium} {noun_phrase(main, draw, _FULL)}"
    if others:
        name = RELATIONS[scene.relation]
        some = ("texture", "colour")
        pair = (
            f"{noun_phrase(main, draw, some)} {draw.pick(_RELATION[name])} "
            f"{noun_phrase(others[0], draw, some)}"
        )
        full += f" {draw.pick(_RELATION[name])} {noun_phrase(others[0], draw, _FULL)}"
        turned = (
            f"{noun_phrase(others[0], draw, _FULL)} {draw.pick(_RELATION[_OPPOSITE[name]])} "
            f"{noun_phrase(main, draw, _FULL)}"
        )
        for third in others[1:]:
            full += f" and {noun_phrase(third, draw, some)}"
            turned += f" with {noun_phrase(third, draw, some)}"
    else:
        pair = f"{medium} {noun_phrase(main, draw, ('texture', 'colour'))}"
        turned = f"one can see {noun_phrase(main, draw, _FULL)}"
    what = medium.removesuffix(" of")
    return [brief, detailed, pair, f"{full} {place}", f"{place} , {turned} in {what}"]


_SIDE = (("left", "middle", "right"), ("top", "middle", "bottom"))


def long_caption(scene: Scene, draw: Stream) -> str:
    """A description of 60 words and more: the main facts first, then detail upon detail."""
    place = draw.pick(PLACES[BACKGROUNDS[scene.background]])
    n = len(scene.things)
    count = ("only one object", "two objects", "three objects")[n - 1]
    text = (
        f"this image is {draw.pick(MEDIA[scene.style])} "
        f"{' and '.join(noun_phrase(t, draw, _FULL) for t in scene.things)} {place} . "
        f"there {'is' if n == 1 else 'are'} {count} to be seen in the whole picture ."
    )
    for k, t in enumerate(scene.things):
        col, row = (_SIDE[i][min(2, int(p / 16))] for i, p in enumerate((t.x, t.y)))
        which = ("first", "second", "third")[k]
        text += (
            f" the {which} object is {noun_phrase(t, draw, ())} , its colour is "
            f"{_word(COLOURS[t.colour], draw)} , its surface is {_word(TEXTURES[t.texture], draw)} "
            f"and its size is {_word(SIZES[t.size], draw)} . it is found near the {row} of the "
            f"image and towards the {col} side ."
        )
    if n > 1:
        text += (
            f" the first object is {draw.pick(_RELATION[RELATIONS[scene.relation]])} "
            f"the second object ."
        )
    return (
        f"{text} behind {'it' if n == 1 else 'them'} the scene is {place} , "
        f"and nothing else is there to be seen ."
    )


JUDGED = ("texture", "colour", "shape", "background")


def candidate(scene: Scene, right: frozenset[str], draw: Stream) -> str:
    """ "a <texture> <colour> <shape> <place>" of which only the attributes in `right` hold."""
    thing = scene.things[0]
    for name, n in (("texture", 4), ("colour", 12), ("shape", 12)):
        if name not in right:
            wrong = (getattr(thing, name) + 1 + draw.below(n - 1)) % n
            thing = replace(thing, **{name: wrong})
    background = scene.background
    if "background" not in right:
        n = len(BACKGROUNDS)
        background = (background + 1 + draw.below(n - 1)) % n
    place = draw.pick(PLACES[BACKGROUNDS[background]])
    return f"{noun_phrase(thing, draw, ('texture', 'colour'))} {place}"


def vocabulary() -> list[str]:
    """Every word that a caption or a prompt of the papers can hold, sorted."""
    phrases = [w for words in SYNONYMS.values() for w in words]
    for table in (PLACES, MEDIA, _RELATION):
        phrases += [p for group in table.values() for p in group]
    phrases += [
        "a an and one can see in with , . of the that this image picture photo depicts",
        "there is are only object objects two three to be seen whole first second third its it",
        "colour surface size found near towards side behind them scene nothing else",
        "left middle right top bottom texture textured style type shape object something",
    ]
    return sorted({w for p in phrases for w in p.split()})

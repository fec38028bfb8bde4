"""Captions of the embedded world by the attributes that they name: the dose of information.

The world's own five captions mix short and full ones. These are all of one kind, drawn from streams
of their own, so that the world's pictures and captions stay as they are.
"""

from collections.abc import Sequence

import numpy as np

from mini import world
from mini.recipes import Recipe
from mini.world.captions import MEDIA, PLACES, article, captions, noun_phrase
from mini.world.scenes import BACKGROUNDS, Scene, Stream

# kind -> the attributes that its captions name. Those of "two" name two of the six, drawn for each
# caption, so that the image tower cannot know which; the others name always the same.
KINDS = {
    "shape": ("shape",),
    "shape-colour": ("shape", "colour"),
    "all": ("shape", "colour", "texture", "size", "background", "style"),
    "two": ("shape", "colour", "texture", "size", "background", "style"),
}
N = 2  # captions of each kind for a scene; they differ in their words, "two" in what they name


def of_scene(kind: str, split: str, i: int) -> list[str]:
    """The N captions of a kind for scene `i` of a split of the world's pairs."""
    number, _, options = world.SPLITS[split]
    scene, _ = world.scene_and_stream(number, i, options)
    draw = Stream(world.VERSION, 40 + [*KINDS].index(kind), number, i)
    if kind == "all":
        return captions(scene, draw)[-N:]  # the two full ones
    if kind == "two":
        return [_two(scene, draw) for _ in range(N)]
    return [" and ".join(noun_phrase(t, draw, KINDS[kind]) for t in scene.things) for _ in range(N)]


def _two(scene: Scene, draw: Stream) -> str:
    """Two attributes of the main object or the picture; an object without a shape is an object."""
    named = draw.shuffled(KINDS["two"])[:2]
    words = noun_phrase(scene.things[0], draw, named).split()[1:]  # less the article
    if "shape" not in named:
        words[-1] = "object"
    text = article(" ".join(words))
    if "style" in named:
        text = f"{draw.pick(MEDIA[scene.style])} {text}"
    if "background" in named:
        text = f"{text} {draw.pick(PLACES[BACKGROUNDS[scene.background]])}"
    return text


def content(kind: str, split: str, i: int) -> str:
    """What every caption of a kind says of a scene: one text, whichever words a caption uses.

    Raises: ValueError for "two", whose captions say different things of a scene.
    """
    if kind == "two":
        raise ValueError(
            'Captions that name two drawn attributes have no common content: not "two".'
        )
    number, _, options = world.SPLITS[split]
    scene, _ = world.scene_and_stream(number, i, options)
    if kind != "all":
        return str(sorted(tuple(getattr(t, a) for a in KINDS[kind]) for t in scene.things))
    things = [(t.shape, t.colour, t.texture, t.size) for t in scene.things[:2]]
    things += [(t.shape, t.colour, t.texture) for t in scene.things[2:]]  # its size goes unsaid
    return str((things, scene.relation, scene.background, scene.style))


def share(recipe: Recipe, attributes: Sequence[str]) -> list[float]:
    """How often captions of a recipe's kind name each attribute of the main object or the picture.

    Raises: ValueError for the world's own captions, where it depends on how many objects there are.
    """
    if not recipe.captions:
        raise ValueError("How often the world's own captions name an attribute is not known.")
    often = 2 / 6 if recipe.captions == "two" else 1.0
    return [often * (name in KINDS[recipe.captions]) for name in attributes]


def own(recipe: Recipe, split: str, n: int, seed: int = 0) -> list[str]:
    """A caption of the kind that a recipe trains on for each of a split's first `n` scenes.

    Of the world's own five, one as often as in training.
    """
    if recipe.captions:
        return [of_scene(recipe.captions, split, i)[0] for i in range(n)]
    share = np.array(recipe.caption_weights) / sum(recipe.caption_weights)
    which = np.random.default_rng(seed).choice(len(share), n, p=share)
    five = world.pairs(split, n)["captions"][:]
    return [captions[k] for captions, k in zip(five, which, strict=True)]


def prompts(kind: str, label_set: str) -> tuple[list[str], list[str]]:
    """`world.prompts` in words that captions of this kind hold, as far as they name the attribute.

    Words that a model never read in training would spoil its prompts: where captions name shapes
    alone, the shape's templates name no colour.
    """
    names, templates = world.prompts(label_set)
    return (names, ["a {}"]) if (kind, label_set) == ("shape", "shape") else (names, templates)

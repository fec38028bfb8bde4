"""Scenes of the embedded world: what can be in a picture, and how scenes are drawn at random."""

from dataclasses import dataclass, replace

import numpy as np

# fmt: off
SHAPES = [
    "circle", "square", "triangle", "diamond", "star", "cross",
    "ring", "heart", "crescent", "arrow", "bar", "hourglass",
]
COLOURS = [
    "red", "orange", "yellow", "green", "cyan", "blue",
    "purple", "pink", "brown", "white", "black", "gray",
]
# fmt: on
TEXTURES = ["solid", "striped", "dotted", "checked"]
SIZES = ["small", "medium", "large"]
BACKGROUNDS = ["plain", "sky", "grass", "sand", "night", "water", "brick", "wood"]
STYLES = ["photo", "flat", "sketch", "grainy"]
UNSEEN_STYLES = ["mosaic", "faded"]  # never in the training split: the rendition shift
INK = "ink"  # monochrome outlines, never in the training split: the sketch shift
RELATIONS = ["right", "left", "above", "below"]

RESOLUTION = 48
RADIUS = (14.0, 16.5, 19.0)  # pixels, of a lone object: small, medium, large
CROWDING = {1: 1.0, 2: 0.76, 3: 0.62}  # objects shrink where they share the picture
TILT = 0.05  # largest tangent of half the tilt: about 6 degrees

# Shape-colour combinations that no split but `heldout` contains: two colours for each shape.
HELD_OUT = frozenset(
    {(s, (5 * s + 3) % 12) for s in range(12)} | {(s, (7 * s + 10) % 12) for s in range(12)}
)


class Stream:
    """Random numbers that are the same on every machine and under every version of numpy.

    Only raw bits of a counter-based generator are used: numpy promises those, but not that
    its distributions keep their streams.
    """

    def __init__(self, *key: int):
        self._bits = np.random.Philox(np.random.SeedSequence(key))

    def unit(self) -> float:
        """A float in [0, 1)."""
        return (int(self._bits.random_raw()) >> 11) * 2.0**-53

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.unit()

    def below(self, n: int) -> int:
        """An integer in [0, n)."""
        return int(self.unit() * n)

    def pick(self, items):
        return items[self.below(len(items))]

    def bell(self) -> float:
        """Mean 0, variance 1, close to normal: the sum of twelve uniforms, less six."""
        total = -6.0
        for _ in range(12):
            total += self.unit()
        return total

    def bytes(self, n: int) -> np.ndarray:
        """(n,) uint8."""
        return self._bits.random_raw(-(-n // 8)).astype("<u8").view(np.uint8)[:n]

    def shuffled(self, items) -> list:
        items = list(items)
        for i in range(len(items) - 1, 0, -1):
            j = self.below(i + 1)
            items[i], items[j] = items[j], items[i]
        return items


@dataclass(frozen=True)
class Thing:
    """One object: attributes as indices into the lists above, centre and radius in pixels."""

    shape: int
    colour: int
    texture: int
    size: int
    x: float = RESOLUTION / 2
    y: float = RESOLUTION / 2
    radius: float = RADIUS[1]
    tilt: float = 0.0  # tangent of half the angle


@dataclass(frozen=True)
class Scene:
    """One to three objects (the first is the main one), where they are, and how it is drawn."""

    things: tuple[Thing, ...]
    relation: int | None  # of the first object to the second
    background: int
    style: str


def sample_scene(draw: Stream, *, heldout=False, n_things=None, styles=STYLES, hard=False) -> Scene:
    """A random scene. `heldout`: the main object is an unseen shape-colour combination.

    `hard`: small, tilted, far from the centre, among others.
    """
    u = draw.unit()
    n = n_things or (1 if u < 0.6 else 2 if u < 0.9 else 3)
    things = []
    for k in range(n):
        shape, colour = _combination(draw, heldout and k == 0, {t.shape for t in things})
        size = 0 if hard else draw.below(3)
        tilt = draw.between(-TILT, TILT) * (6.0 if hard else 1.0)
        radius = RADIUS[size] * CROWDING[n] * draw.between(0.95, 1.05) * (0.65 if hard else 1.0)
        things.append(Thing(shape, colour, draw.below(4), size, radius=radius, tilt=tilt))
    relation = draw.below(4) if n > 1 else None
    placed = _place(draw, things, relation, hard)
    return Scene(tuple(placed), relation, draw.below(len(BACKGROUNDS)), draw.pick(styles))


def _combination(draw: Stream, heldout: bool, used: set) -> tuple[int, int]:
    while True:
        shape, colour = draw.below(12), draw.below(12)
        if ((shape, colour) in HELD_OUT) == heldout and shape not in used:
            return shape, colour


def _place(draw: Stream, things: list[Thing], relation: int | None, hard: bool) -> list[Thing]:
    middle = RESOLUTION / 2
    if relation is None:
        # A hard lone object may be cut by the picture's edge.
        reach = middle - 6 if hard else 2.0
        spots = [(middle + draw.between(-reach, reach), middle + draw.between(-reach, reach))]
    else:
        near, far = draw.between(11, 13.5), draw.between(34.5, 37)
        a, b = (draw.between(20, 28) for _ in range(2))
        if len(things) == 3:  # the pair moves up (or left) and the third takes the free side
            a, b = draw.between(12, 14), draw.between(12, 14)
        name = RELATIONS[relation]
        first, second = (far, near) if name in ("right", "below") else (near, far)
        across = name in ("right", "left")
        spots = [(first, a), (second, b)] if across else [(a, first), (b, second)]
        if len(things) == 3:
            free = (draw.between(21, 27), 36.0)
            spots.append(free if across else free[::-1])
    return [replace(t, x=x, y=y) for t, (x, y) in zip(things, spots, strict=True)]

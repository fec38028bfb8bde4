"""The renderer: a scene and a stream of random numbers in, 48 x 48 RGB bytes out.

Shapes are signed distances (negative inside). Only operations that IEEE 754 rounds exactly are
used on pixels (+ - * / sqrt, min, max, floor, comparisons; no sin, exp, sums or matrix products),
so that the same scene gives the same bytes on every machine.
"""

import numpy as np

from mini.world.scenes import BACKGROUNDS, COLOURS, INK, RESOLUTION, SHAPES, TEXTURES, Scene, Stream

_N = RESOLUTION
_Y, _X = (a.astype(np.float32) + np.float32(0.5) for a in np.mgrid[0:_N, 0:_N])
_RGB = {
    "red": (214, 35, 35),
    "orange": (246, 135, 20),
    "yellow": (248, 224, 40),
    "green": (45, 155, 55),
    "cyan": (70, 210, 220),
    "blue": (40, 75, 205),
    "purple": (130, 55, 175),
    "pink": (247, 150, 195),
    "brown": (118, 72, 36),
    "white": (246, 246, 246),
    "black": (24, 24, 27),
    "gray": (135, 135, 140),
}
_COLOURS = np.array([_RGB[c] for c in COLOURS], np.float32) / np.float32(255)
# Normals of the five lines of a pentagram standing on two tips.
_PENTAGRAM = (
    (0.0, 1.0),
    (0.9510565, 0.3090170),
    (0.5877853, -0.8090170),
    (-0.5877853, -0.8090170),
    (-0.9510565, 0.3090170),
)
_f = np.float32


def _norm(x, y):
    return np.sqrt(x * x + y * y)


def _star(x, y):
    # Inside a pentagram at most one of the five half-planes is left: the second largest counts.
    first = second = None
    for a, b in _PENTAGRAM:
        d = _f(a) * x + _f(b) * y
        if first is None:
            first, second = d, np.full_like(d, -9)
        else:
            second = np.maximum(second, np.minimum(first, d))
            first = np.maximum(first, d)
    return second - _f(0.36)


def _heart(x, y):
    u, v = np.abs(x), y - _f(0.12)
    diamond = (u + np.abs(v) - _f(0.74)) * _f(0.7071)
    return np.minimum(diamond, _norm(u - _f(0.37), v + _f(0.37)) - _f(0.523))


def _cross(x, y):
    u, v = np.abs(x), np.abs(y)
    return np.minimum(np.maximum(u - _f(0.3), v - _f(0.95)), np.maximum(u - _f(0.95), v - _f(0.3)))


def _arrow(x, y):
    v = np.abs(y)
    head = np.maximum((x + v - _f(1.0)) * _f(0.7071), -x)
    shaft = np.maximum(v - _f(0.24), np.maximum(x - _f(0.1), -x - _f(0.95)))
    return np.minimum(head, shaft)


def _triangle(x, y):
    return np.maximum(y - _f(0.66), _f(0.867) * np.abs(x) - _f(0.498) * (y + _f(1.0)))


def _hourglass(x, y):
    u, v = np.abs(x), np.abs(y)
    return np.maximum(v - _f(0.88), (u - _f(0.8) * v - _f(0.07)) * _f(0.78))


_DISTANCE = {
    "circle": lambda x, y: _norm(x, y) - _f(0.92),
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) - _f(0.8),
    "triangle": _triangle,
    "diamond": lambda x, y: (np.abs(x) * _f(1.7) + np.abs(y) - _f(1.05)) * _f(0.507),
    "star": _star,
    "cross": _cross,
    "ring": lambda x, y: np.abs(_norm(x, y) - _f(0.72)) - _f(0.22),
    "heart": _heart,
    "crescent": lambda x, y: np.maximum(
        _norm(x, y) - _f(0.95), _f(0.78) - _norm(x - _f(0.5), y + _f(0.1))
    ),
    "arrow": _arrow,
    "bar": lambda x, y: np.maximum(np.abs(x) - _f(1.05), np.abs(y) - _f(0.28)),
    "hourglass": _hourglass,
}


def _noise(draw: Stream, channels: int):
    """(48, 48, channels) float32, uniform on [-1, 1]."""
    raw = draw.bytes(_N * _N * channels).reshape(_N, _N, channels)
    return (raw.astype(np.float32) - _f(127.5)) / _f(127.5)


def _clouds(draw: Stream, cells: int):
    """(48, 48) float32 in [0, 1]: random values on a coarse grid, joined linearly."""
    grid = draw.bytes((cells + 1) ** 2).reshape(cells + 1, cells + 1).astype(np.float32) / _f(255)
    at = (np.arange(_N, dtype=np.float32) + _f(0.5)) * _f(cells / _N)
    i = at.astype(np.intp)
    f = at - i.astype(np.float32)
    rows = grid[i] * (_f(1) - f)[:, None] + grid[i + 1] * f[:, None]
    return rows[:, i] * (_f(1) - f) + rows[:, i + 1] * f


def _wave(t):
    """A triangle wave of period 1 between -1 and 1."""
    return np.abs(t - np.floor(t) - _f(0.5)) * _f(4) - _f(1)


def _background(name: str, draw: Stream):
    tint = np.array([draw.between(-0.06, 0.06) for _ in range(3)], np.float32)
    flat = {
        "plain": (0.0, 0.0, 0.0),
        "grass": (0.36, 0.62, 0.24),
        "sand": (0.88, 0.78, 0.54),
        "night": (0.05, 0.06, 0.2),
        "water": (0.15, 0.45, 0.68),
        "brick": (0.66, 0.3, 0.24),
        "wood": (0.6, 0.43, 0.27),
    }
    if name == "sky":
        v = (_Y / _f(_N))[..., None]
        low, high = np.array([0.82, 0.9, 0.98], np.float32), np.array([0.4, 0.64, 0.95], np.float32)
        image = high * (_f(1) - v) + low * v + tint
        cloud = np.clip(_clouds(draw, 5) - _f(0.55), 0, 1)[..., None] * _f(2.2)
        return image + cloud * (_f(1) - image)
    image = np.broadcast_to(np.array(flat[name], np.float32) + tint, (_N, _N, 3))
    if name == "plain":
        return image + _f(draw.between(0.6, 0.9))
    if name == "grass":
        return image * (_f(1) + _f(0.3) * _noise(draw, 1))
    if name == "sand":
        ripples = _clouds(draw, 12)[..., None]
        return image * (_f(0.82) + _f(0.3) * ripples + _f(0.05) * _noise(draw, 1))
    if name == "night":
        image = image.copy()
        for _ in range(10 + draw.below(12)):
            image[draw.below(_N), draw.below(_N)] = _f(draw.between(0.6, 1.0))
        return image
    if name == "water":
        phase = _f(draw.unit())
        bend = _f(0.35) * _wave(_X * _f(0.045) + phase)
        return image + _f(0.1) * _wave(_Y * _f(0.15) + bend)[..., None]
    if name == "brick":
        row = np.floor((_Y + _f(draw.below(8))) / _f(8))
        along = _X + _f(draw.below(12)) + _f(6) * (row - _f(2) * np.floor(row / _f(2)))
        joint = ((_Y + _f(0)) - row * _f(8)) % _f(8) < _f(1.5)
        joint = joint | (along % _f(12) < _f(1.5))
        return np.where(joint[..., None], _f(0.78), image * (_f(1) + _f(0.1) * _noise(draw, 1)))
    grain = _wave(_X * _f(0.13) + _f(1.2) * _clouds(draw, 3))[..., None]  # wood
    return image * (_f(1) + _f(0.16) * grain)


def _pattern(texture: str, px, py):
    """Where the second colour of a texture shows: boolean (48, 48), or None for solid."""
    if texture == "striped":
        return (px + _f(100)) % _f(5.5) < _f(2.4)
    if texture == "dotted":
        x, y = (px + _f(100)) % _f(5.5) - _f(2.75), (py + _f(100)) % _f(5.5) - _f(2.75)
        return x * x + y * y < _f(2.9)
    if texture == "checked":
        return (np.floor((px + _f(100)) / _f(4.2)) + np.floor((py + _f(100)) / _f(4.2))) % 2 < 1
    return None


def _luminance(image):
    return (_f(0.3) * image[..., 0] + _f(0.59) * image[..., 1] + _f(0.11) * image[..., 2])[
        ..., None
    ]


def _colour(index: int, draw: Stream):
    shade = draw.between(0.92, 1.08)
    jitter = np.array([draw.between(-0.03, 0.03) for _ in range(3)], np.float32)
    return np.clip(_COLOURS[index] * _f(shade) + jitter, 0, 1)


def _draw_thing(image, thing, style: str, draw: Stream):
    t = thing.tilt
    cos, sin = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    dx, dy = _X - _f(thing.x), _Y - _f(thing.y)
    px, py = _f(cos) * dx + _f(sin) * dy, _f(cos) * dy - _f(sin) * dx
    r = _f(thing.radius)
    x, y = px / r, py / r
    distance = _DISTANCE[SHAPES[thing.shape]](x, y) * r
    inside = np.clip(_f(0.5) - distance, 0, 1)[..., None]
    pattern = _pattern(TEXTURES[thing.texture], px, py)
    colour = _colour(thing.colour, draw)
    dark = float(0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]) < 0.35
    second = colour * _f(0.4) + _f(0.6) if dark else colour * _f(0.3)
    if style in ("sketch", INK):
        ink = colour * _f(0.75) if style == "sketch" else np.full(3, 0.12, np.float32)
        line = np.clip(_f(1.7) - np.abs(distance), 0, 1)[..., None]
        if pattern is not None:
            line = np.maximum(line, _f(0.8) * inside * pattern[..., None])
        image = (
            image
            + (colour if style == "sketch" else _f(1)) * inside * _f(0.4)
            - (image * inside * _f(0.4))
        )
        return image * (_f(1) - line) + ink * line
    fill = colour if pattern is None else np.where(pattern[..., None], second, colour)
    # A thin rim keeps an object visible on a background of its own colour.
    rim = np.clip(_f(1.2) - np.abs(distance + _f(0.6)), 0, 1)[..., None] * _f(0.75)
    fill = fill * (_f(1) - rim) + (_f(0.62) if dark else _f(0.22) * colour) * rim
    if style in ("photo", "grainy"):
        shadow = np.clip(_f(1) - (_norm(dx - _f(2), dy - _f(3)) / r - _f(0.8)) * _f(3), 0, 1)
        image = image * (_f(1) - _f(0.25) * shadow[..., None])
        light = np.clip(_f(1) - _f(0.22) * (x + y), _f(0.6), _f(1.3))[..., None]
        gloss = _f(1) + _f(9) * ((x + _f(0.35)) * (x + _f(0.35)) + (y + _f(0.4)) * (y + _f(0.4)))
        fill = np.clip(fill * light + (_f(0.22) / (gloss * gloss))[..., None], 0, 1)
    return image * (_f(1) - inside) + fill * inside


def _blocks(image, size: int):
    total = image[0::size, 0::size]
    for i in range(size):
        for j in range(size):
            if i or j:
                total = total + image[i::size, j::size]
    return np.repeat(np.repeat(total / _f(size * size), size, 0), size, 1)


def render(scene: Scene, draw: Stream) -> np.ndarray:
    """The picture of a scene: (48, 48, 3) uint8."""
    style = scene.style
    image = _background(BACKGROUNDS[scene.background], draw)
    if style == "sketch":
        image = _f(0.5) + _f(0.5) * image
    elif style == INK:
        image = _f(0.7) + _f(0.3) * np.broadcast_to(_luminance(image), (_N, _N, 3))
    for thing in scene.things:
        image = _draw_thing(image, thing, style, draw)
    if style == "photo":
        image = image * _f(draw.between(0.85, 1.1)) + _f(0.03) * _noise(draw, 1)
    elif style == "grainy":
        image = image * _f(0.8) + _f(0.1) + _f(0.17) * _noise(draw, 3)
    elif style == "mosaic":
        image = _blocks(image, 3)
    elif style == "faded":
        sepia = np.array([0.78, 0.7, 0.55], np.float32)
        image = _f(0.55) * image + _f(0.45) * sepia
    return (np.clip(image, 0, 1) * _f(255) + _f(0.5)).astype(np.uint8)

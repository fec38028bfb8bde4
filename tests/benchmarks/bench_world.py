"""How fast the embedded world is drawn, against encoding the same pictures as PNG.

`python tests/benchmarks/bench_world.py` prints images per second on this core; `pytest -m
benchmark` on this file checks that drawing costs no more than a few times its encoding.
"""

import time

import pytest

from mini import world
from mini.world.render import render

N = 300


def measure() -> dict[str, float]:
    """Images per second of drawing and of encoding, on one core."""
    number, _, options = world.SPLITS["train"]
    started = time.process_time()
    pictures = [render(*world.scene_and_stream(number, i, options)) for i in range(N)]
    drawn = time.process_time()
    for picture in pictures:
        world.png(picture)
    encoded = time.process_time()
    return {"drawing": N / (drawn - started), "PNG": N / (encoded - drawn)}


@pytest.mark.benchmark
def test_drawing_keeps_up_with_encoding():
    rate = max((measure() for _ in range(3)), key=lambda r: r["drawing"])
    assert rate["drawing"] > rate["PNG"] / 6


if __name__ == "__main__":
    for what, rate in measure().items():
        print(f"{what:8} {rate:7.0f} images per second")

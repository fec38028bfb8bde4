"""Retrieval at 5,000 images and 25,000 captions, 512 dimensions, on one thread.

`python tests/benchmarks/bench_retrieval.py` prints the table; `pytest -m benchmark` on this file
checks the ratios. The loops sort every 10th row, and their time is multiplied by 10.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from timing import fastest, show

from lib.measures import retrieval

IMAGES, PER_IMAGE, DIMENSIONS = 5_000, 5, 512
EVERY = 10


def data():
    """Unit vectors; each caption near its image, so that recall@1 is about one half."""
    rng = np.random.default_rng(0)
    image = rng.standard_normal((IMAGES, DIMENSIONS), dtype=np.float32)
    owner = np.repeat(np.arange(IMAGES), PER_IMAGE)
    text = rng.standard_normal((len(owner), DIMENSIONS), dtype=np.float32) * 6 + image[owner]
    for rows in (image, text):
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return image, text, owner


def everything(image, text, owner):
    """What the ranks are for: mAP, R-precision and recall@1, 5, 10, both ways."""
    return [
        [retrieval.average_precision(way), retrieval.r_precision(way)]
        + [retrieval.recall_at(way, k) for k in (1, 5, 10)]
        for way in retrieval.ranks(image, text, owner)
    ]


def sort_rows(scores, relevant_of, kind):
    """The same measures by sorting row after row (every 10th)."""
    found = []
    for i in range(0, len(scores), EVERY):
        order = np.argsort(-scores[i], kind=kind)
        hits = relevant_of(i)[order]
        rank = np.flatnonzero(hits)
        precision = np.cumsum(hits)[rank] / (rank + 1)
        found.append([precision.mean(), hits[: len(rank)].mean(), *(rank[0] < [1, 5, 10])])
    return np.array(found).T


def loops(image, text, owner, scores, kind=None):
    """Row-by-row argsort over a finished matrix of scores, both ways."""
    each = np.arange(len(image))
    return [
        sort_rows(scores, lambda i: owner == i, kind),
        sort_rows(scores.T, lambda j: each == owner[j], kind),
    ]


def measure() -> dict[str, float]:
    """CPU seconds of each way; the loops' include one matrix product."""
    image, text, owner = data()
    scores = np.empty((len(image), len(text)), np.float32)

    def product():
        np.matmul(image, text.T, out=scores)

    each = np.arange(len(image))
    bare, one_way, recall, full = fastest(
        product,
        lambda: retrieval.rank_relevant(image, text, each, owner, best_only=True),
        lambda: retrieval.recall(image, text, owner),
        lambda: everything(image, text, owner),
    )
    stable, quick = fastest(
        lambda: loops(image, text, owner, scores, "stable"),
        lambda: loops(image, text, owner, scores),
        repeats=1,
    )
    for ours, theirs in zip(
        everything(image, text, owner), loops(image, text, owner, scores, "stable"), strict=True
    ):  # a comparison of different answers would be worth nothing
        np.testing.assert_allclose([row[::EVERY] for row in ours], theirs, atol=1e-3)
    return {
        "one matrix product": bare,
        "recall@k, image to text": one_way,
        "recall@k, both ways": recall,
        "mAP + R-precision + recall both ways": full,
        "the same by argsort rows, stable": bare + EVERY * stable,
        "the same by argsort rows, ties any way": bare + EVERY * quick,
    }


def peak_megabytes() -> int:
    """Largest resident memory of a process that makes the data and computes everything."""
    done = subprocess.run(
        [sys.executable, __file__, "--memory"], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def print_peak() -> None:
    everything(*data())
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) // 1024)


@pytest.mark.benchmark
def test_ratios():
    seconds = list(measure().values())
    product, one_way, recall, full, stable, _ = seconds
    assert one_way <= 1.3 * product
    assert recall <= 1.5 * product  # one product serves both directions
    assert stable >= 6 * full


@pytest.mark.benchmark
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_peak_memory():
    assert peak_megabytes() < 800


if __name__ == "__main__":
    if "--memory" in sys.argv:
        print_peak()
    else:
        times = measure()
        base = times["one matrix product"]
        rows = [(name, seconds, seconds / base) for name, seconds in times.items()]
        show(f"{IMAGES:,} images x {IMAGES * PER_IMAGE:,} captions", rows, "the product")
        full = times["mAP + R-precision + recall both ways"]
        for name in list(times)[4:]:
            print(f"{name}: {times[name] / full:.1f} times as long as by counting")
        print(f"peak memory of the process: {peak_megabytes()} MB")

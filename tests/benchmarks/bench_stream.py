"""What a gap card's pass over shards costs, against merely reading the same files.

`python tests/benchmarks/bench_stream.py [PAIRS]` writes that many pairs of 512 dimensions in
float16 (default 1,000,000: 2 GB) to shards in a temporary folder (TMPDIR), with a gap whose
measures are known, and prints rate, peak memory and measures; `pytest -m benchmark` on this file
does it with 100,000. Files are read from the disk, as those larger than the memory are; out of the
system's cache, reading is faster, and the rate against it about 0.45.
"""

import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from lib.data.embedded_pairs import PIECE, Pairs
from lib.data.embedding_files import Rows
from lib.validation import unit

DIMENSIONS, SHARD = 512, 100_000
APART, SHARED = 0.375, 0.5  # the lengths of what parts the modalities, and of what a pair shares
KNOWN = {
    "centroid distance": 2 * APART,
    "pair cosine": SHARED**2 - APART**2,
    "random cosine": -(APART**2),
}


def write(folder: Path, n: int, shard: int = SHARD) -> tuple[Path, Path]:
    """Shards of n pairs: a fixed direction with opposite signs, one of the pair, and noise.

    The three lie in spaces at right angles: their lengths are exact for every embedding.
    """
    rng, half = np.random.default_rng(0), DIMENSIONS // 2
    noise = (1 - APART**2 - SHARED**2) ** 0.5
    sides = folder / "images", folder / "texts"
    for side in sides:
        side.mkdir()
    for k, first in enumerate(range(0, n, shard)):
        rows = min(shard, n - first)
        pair = SHARED * unit(rng.standard_normal((rows, half - 1), np.float32))
        for side, sign in zip(sides, (1, -1), strict=True):
            x = np.empty((rows, DIMENSIONS), np.float16)
            x[:, 0], x[:, 1:half] = sign * APART, pair
            x[:, half:] = noise * unit(rng.standard_normal((rows, half), np.float32))
            np.save(side / f"{k}.npy", x)
    return sides


def forget(*folders: Path) -> None:
    """Ask the system to drop the files from its memory, so that they are read from the disk."""
    for file in (file for folder in folders for file in folder.iterdir()):
        handle = os.open(file, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def read(images: Path, texts: Path) -> None:
    """Read every row, and convert it to float32."""
    rows = Rows(str(images)), Rows(str(texts))
    for start in range(0, rows[0].n, PIECE):
        for side in rows:
            side.take(min(PIECE, side.n - start))


def summed(images: Path, texts: Path):
    return Pairs(Rows(str(images)), Rows(str(texts))).summed()


def timed(call, *folders: Path) -> tuple[float, float]:
    """Seconds by the clock and of the processor."""
    began, used = time.perf_counter(), time.process_time()
    call(*folders)
    return time.perf_counter() - began, time.process_time() - used


def compare(folder: Path, n: int, cold: bool, turns: int) -> dict[str, tuple[float, float]]:
    """The least seconds of reading and of the whole pass; the two take turns."""
    sides = write(folder, n)
    best = {"read": (np.inf, np.inf), "summed": (np.inf, np.inf)}
    with threadpool_limits(1):
        for _ in range(turns):
            for name, call in {"read": read, "summed": summed}.items():
                if cold:
                    forget(*sides)
                best[name] = tuple(map(min, best[name], timed(call, *sides)))
    return best


def check(folder: Path) -> dict[str, object]:
    """The known measures, each in its interval or within the rounding of float16."""
    sums, _ = summed(folder / "images", folder / "texts")
    found = sums.estimates()
    for name, known in KNOWN.items():
        assert found[name].value == pytest.approx(known, abs=3e-4), name
    return found


@pytest.mark.benchmark
def test_a_pass_takes_less_than_twice_as_long_as_reading(tmp_path):
    best = compare(tmp_path, SHARD, cold=True, turns=5)
    assert best["read"][0] > 0.5 * best["summed"][0], best
    check(tmp_path)


if __name__ == "__main__":
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as name:
        best = compare(Path(name), n, cold=True, turns=2)
        found = check(Path(name))
    size = 4 * DIMENSIONS * n / 1e9
    print(f"{n:,} pairs of {DIMENSIONS} dimensions in float16, {size:.1f} GB")
    for what, (clock, used) in best.items():
        print(f"{what:8}{clock:8.1f} s by the clock ({size / clock:.2f} GB/s), {used:.1f} s of CPU")
    print(f"rate against reading: {best['read'][0] / best['summed'][0]:.2f}")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB")
    for name, known in KNOWN.items():
        print(f"{name:20}known {known:+.5f}, found {found[name]:+.5f}")

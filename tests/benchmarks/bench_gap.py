"""What the gap measures cost as the number of embeddings grows to 500,000 (512 dimensions).

`python tests/benchmarks/bench_gap.py` prints the table; `pytest -m benchmark` on this file checks
that ten times the embeddings cost about ten times the time. 2 GB of embeddings are made.
"""

import numpy as np
import pytest
from timing import fastest, show

from lib.measures import gap
from lib.methods import standardise

DIMENSIONS = 512
SIZES = (5_000, 50_000, 500_000)
LINEAR = {
    "centroid distance": gap.centroid_distance,
    "alignment": gap.alignment,
    "minimum cosine distance, matched": lambda x, y: gap.minimum_cosine_distance(x, y, "matched"),
    "activation profile (images)": lambda x, y: gap.activation_profile(x),
    "I0T_post, fit": standardise.Standardiser.fit,
    "linear separability": gap.linear_separability,
}
QUADRATIC = {
    "minimum cosine distance, all": gap.minimum_cosine_distance,
    "uniformity (images)": lambda x, y: gap.uniformity(x),
}


def data(n: int):
    """Unit vectors of two modalities with a gap."""
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((n, DIMENSIONS), dtype=np.float32) for _ in range(2))
    x[:, 0] += 8
    for rows in (x, y):
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return x, y


def measure(measures, sizes) -> dict[int, dict[str, float]]:
    """CPU seconds by size and measure, the bare means of both sets first."""
    x, y = data(max(sizes))
    found = {}
    for n in sizes:
        calls = {"bare means": lambda x, y: (x.mean(0), y.mean(0))} | measures
        repeats = 3 if n < 100_000 else 1
        times = fastest(
            *(lambda call=call, n=n: call(x[:n], y[:n]) for call in calls.values()),
            repeats=repeats,
        )
        found[n] = dict(zip(calls, times, strict=True))
    return found


def growth(found: dict[int, dict[str, float]], name: str) -> float:
    """Time per embedding at the largest size over that at the one before."""
    *_, small, large = found
    return (found[large][name] / large) / (found[small][name] / small)


@pytest.mark.benchmark
def test_cost_grows_with_n():
    found = measure(LINEAR, SIZES[1:])
    for name in LINEAR:
        assert growth(found, name) < 1.8, name
    for name in ("centroid distance", "alignment", "I0T_post, fit"):
        assert found[SIZES[-1]][name] < 12 * found[SIZES[-1]]["bare means"], name


if __name__ == "__main__":
    for measures, sizes in ((LINEAR, SIZES), (QUADRATIC, (2_500, 5_000, 10_000))):
        found = measure(measures, sizes)
        for n, times in found.items():
            base = times["bare means"]
            rows = [(name, seconds, seconds / base) for name, seconds in times.items()]
            show(f"{n:,} embeddings of each modality", rows, "bare means")
        print(f"\ntime per embedding, {sizes[-1]:,} over {sizes[-2]:,}:")
        for name in measures:
            print(f"{name:44}{growth(found, name):9.2f}")

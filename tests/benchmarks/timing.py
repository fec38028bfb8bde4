"""CPU seconds on one thread: other work on the machine changes them little, ratios hardly."""

import time

from threadpoolctl import threadpool_limits


def fastest(*calls, repeats: int = 3) -> list[float]:
    """Least CPU seconds of each call; the calls take turns, so that they meet the same weather."""
    best = [float("inf")] * len(calls)
    with threadpool_limits(1):
        for _ in range(repeats):
            for k, call in enumerate(calls):
                started = time.process_time()
                call()
                best[k] = min(best[k], time.process_time() - started)
    return best


def show(title: str, rows: list[tuple[str, float, float]], base: str) -> None:
    """A table: what, CPU seconds, and how often the time of `base` fits in."""
    print(f"\n{title}")
    print(f"{'':44}{'CPU s':>9}{'x ' + base:>16}")
    for name, seconds, ratio in rows:
        print(f"{name:44}{seconds:9.3f}{ratio:16.2f}")

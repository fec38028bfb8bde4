"""CPU seconds on one thread: other work on the machine changes them little, ratios hardly.

A GPU works on while the processor goes ahead: its time is the clock's, until it has finished.
"""

import time

from threadpoolctl import threadpool_limits


def fastest(*calls, repeats: int = 3, device: str = "cpu") -> list[float]:
    """Least seconds of each call; the calls take turns, so that they meet the same weather."""
    best = [float("inf")] * len(calls)
    now = time.process_time if device == "cpu" else _finished
    with threadpool_limits(1):
        for _ in range(repeats):
            for k, call in enumerate(calls):
                started = now()
                call()
                best[k] = min(best[k], now() - started)
    return best


def _finished() -> float:
    """The time at which a GPU has done all that it was given."""
    import torch

    torch.cuda.synchronize()
    return time.perf_counter()


def show(title: str, rows: list[tuple[str, float, float]], base: str) -> None:
    """A table: what, CPU seconds, and how often the time of `base` fits in."""
    print(f"\n{title}")
    print(f"{'':44}{'CPU s':>9}{'x ' + base:>16}")
    for name, seconds, ratio in rows:
        print(f"{name:44}{seconds:9.3f}{ratio:16.2f}")

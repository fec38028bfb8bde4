"""The counts of an inversion's step, against sums over its matrices and tensors one by one."""

from lib.methods import cost
from lib.methods.cost import Tower

TINY = Tower(layers=2, width=3, tokens=9, embedding=5)


def block(t: int, s: int, w: int = 3) -> tuple[int, int]:
    """Products of a block of t tokens that see s keys: with weights, and in its attention."""
    projections, hidden = 4 * t * w * w, 2 * t * w * (4 * w)
    return projections + hidden, t * s * w + t * s * w


def test_multiply_adds_in_full():
    weights, attention = block(9, 9)
    for way in ("OTI", "OVI"):
        counted = cost.multiply_adds(TINY, way, pruned=False)
        # forward and backward; in the attention, each product has two gradients
        assert counted == {"weights": 2 * (2 * weights + 3 * 5), "attention": 3 * 2 * attention}


def test_multiply_adds_pruned():
    for way, t, s in (("OTI", 2, 6), ("OVI", 9, 9)):
        weights, attention = block(t, s)
        keys_and_values, one_row = 2 * t * 3 * 3, 2 * 3 * 3 + 2 * 3 * 12
        last = keys_and_values + one_row + 3 * 5
        counted = cost.multiply_adds(TINY, way, pruned=True)
        assert counted == {
            "weights": 2 * (weights + last),
            "attention": 3 * (attention + 2 * s * 3),
        }


def test_numbers_kept():
    t, w, h = 9, 3, 12
    normalised, attended, hidden = 2 * t * w, 3 * t * w + t * w, t * h
    each = normalised + attended + hidden
    assert cost.kept(TINY, "OTI", pruned=False) == 2 * each + w
    assert cost.kept(TINY, "OVI", pruned=False) == 2 * each + w + t * w


def test_pruned_costs_less():
    for way in ("OTI", "OVI"):
        assert cost.kept(TINY, way, True) < cost.kept(TINY, way, False)
        full, pruned = (cost.multiply_adds(TINY, way, which) for which in (False, True))
        assert all(pruned[part] < full[part] for part in full)

"""What a step of an inversion costs: multiply-adds, and numbers kept for its backward pass.

Exact counts for one item and one pseudo-token, from the sizes of a transformer whose hidden layers
are four times as wide as its tokens. The weights are frozen, so a backward pass multiplies as often
as the forward pass, and a linear map keeps nothing for it. "Pruned" is the step as
`lib.methods.frozen` computes it, in which nothing is left that cannot change the result; otherwise
it is the step as the published code does it. Derived in `cross_the_gap/tableA_latency_and_memory`,
where PyTorch counts the same.
"""

from typing import NamedTuple

PREFIX, END = 4, 1  # tokens before and after the pseudo-token of "a photo of v"


class Tower(NamedTuple):
    """A transformer: `tokens` at its input, and the dimension of the embedding at its end."""

    layers: int
    width: int
    tokens: int
    embedding: int


def seen(tower: Tower, way: str, pruned: bool) -> tuple[int, int]:
    """(moving tokens, keys that they see) of a step of "OTI" or "OVI"."""
    if way == "OTI" and pruned:
        return 1 + END, PREFIX + 1 + END
    return tower.tokens, tower.tokens


def multiply_adds(tower: Tower, way: str, pruned: bool) -> dict[str, int]:
    """Multiply-adds of one step for one item: products with "weights", and in the "attention"."""
    t, s = seen(tower, way, pruned)
    w, h = tower.width, 4 * tower.width
    blocks = tower.layers - pruned
    weights, attention = blocks * t * (4 * w * w + 2 * w * h), blocks * 2 * t * s * w
    if pruned:  # the last block: keys and values of all rows, the rest of one
        weights += 2 * t * w * w + 2 * w * w + 2 * w * h
        attention += 2 * s * w
    weights += w * tower.embedding
    return {"weights": 2 * weights, "attention": 3 * attention}


def kept(tower: Tower, way: str, pruned: bool) -> int:
    """Numbers per item that one step keeps for its backward pass.

    Without those that have no factor of the width: means of normalisations, sums of the softmax.
    """
    t, s = seen(tower, way, pruned)
    w, h = tower.width, 4 * tower.width
    front = 2 * s * w if way == "OTI" and pruned else 0
    total = (tower.layers - pruned) * (t * (6 * w + h) + front)
    if pruned:
        total += t * w + (front or 2 * t * w) + 3 * w + h
    return total + w + (t * w if way == "OVI" else 0)  # the last, and a ViT's first, normalisation

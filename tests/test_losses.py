import math

import open_clip
import pytest
import torch
import torch.nn.functional as F

from lib.losses import clip_loss


def unit(n, d, seed):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(n, d, generator=generator, dtype=torch.float64), dim=-1)


def naive(image, text, scale):
    """InfoNCE as a loop over pairs, both ways."""
    n, total = len(image), 0.0
    for i in range(n):
        own = scale * float(image[i] @ text[i])
        rows = [scale * float(image[i] @ text[j]) for j in range(n)]
        columns = [scale * float(image[j] @ text[i]) for j in range(n)]
        for logits in (rows, columns):
            top = max(logits)
            total += top + math.log(sum(math.exp(v - top) for v in logits)) - own
    return total / (2 * n)


@pytest.mark.parametrize("n", [1, 2, 7])
@pytest.mark.parametrize("scale", [1.0, 14.3, 100.0])
def test_clip_loss_equals_a_loop_over_pairs(n, scale):
    image, text = unit(n, 5, 0), unit(n, 5, 1)
    assert clip_loss(image, text, scale).item() == pytest.approx(naive(image, text, scale))


def test_clip_loss_equals_open_clips():
    image, text = unit(6, 4, 2).float(), unit(6, 4, 3).float()
    theirs = open_clip.ClipLoss()(image, text, torch.tensor(30.0))
    torch.testing.assert_close(clip_loss(image, text, 30.0), theirs)


def test_a_batch_of_one_costs_nothing_and_equal_captions_cost_log_n():
    assert clip_loss(unit(1, 3, 0), unit(1, 3, 1), 100.0).item() == pytest.approx(0, abs=1e-12)
    image, text = unit(1, 3, 0).expand(8, 3), unit(1, 3, 1).expand(8, 3)
    assert clip_loss(image, text, 100.0).item() == pytest.approx(math.log(8))


def test_both_ways_count_alike():
    image, text = unit(5, 4, 4), unit(5, 4, 5)
    assert clip_loss(image, text, 10.0) == pytest.approx(clip_loss(text, image, 10.0).item())


def test_unequal_shapes_are_refused():
    with pytest.raises(ValueError, match="as many texts as images"):
        clip_loss(unit(3, 4, 0), unit(2, 4, 1), 1.0)

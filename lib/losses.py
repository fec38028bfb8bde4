"""Training losses, one function each."""

import torch
import torch.nn.functional as F


def clip_loss(image: torch.Tensor, text: torch.Tensor, logit_scale) -> torch.Tensor:
    """The symmetric contrastive loss of CLIP (InfoNCE both ways, halved).

    With S = logit_scale * image @ text.T: (CE(S, i) + CE(S.T, i)) / 2, the i-th text being the
    i-th image's own. Mind the Gap, section 4.1; Cross the Gap, Eq. 1; `open_clip.loss.ClipLoss`.

    Args:
        image, text: (n, d), L2-normalised, row i of one belongs to row i of the other.
        logit_scale: exp(t) = 1 / temperature, a number or a tensor of one element.

    Raises:
        ValueError: the two differ in shape.
    """
    if image.shape != text.shape:
        raise ValueError(
            f"a contrastive loss needs as many texts as images of one dimension, "
            f"not {tuple(image.shape)} and {tuple(text.shape)}."
        )
    logits = logit_scale * image @ text.T
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2

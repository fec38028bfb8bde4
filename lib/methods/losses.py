"""Training losses of the papers, one function each.

Embeddings are float tensors (n, d) with L2-normalised rows; row i of the images belongs to row i
of the texts. `scale` is the logit scale, exp(t) = 1 / temperature, a number or a tensor of one
element. M = image @ text.T, V = image @ image.T and T = text @ text.T are the cosines.
Every loss is a tensor of one element, a mean over the batch.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def clip_loss(image: Tensor, text: Tensor, scale, smoothing: float = 0.0) -> Tensor:
    """The symmetric contrastive loss of CLIP (InfoNCE both ways, halved).

    With S = scale * M: (CE(S, i) + CE(S.T, i)) / 2, the i-th text being the i-th image's own.
    `smoothing` of the labels: Long-CLIP's code uses 0.1. Mind the Gap, section 4.1; Cross the Gap,
    Eq. 1; `open_clip.loss.ClipLoss`.

    Raises: ValueError if the two differ in shape.
    """
    logits = scale * _paired(image, text)
    own = _own(logits)
    return (
        F.cross_entropy(logits, own, label_smoothing=smoothing)
        + F.cross_entropy(logits.T, own, label_smoothing=smoothing)
    ) / 2


def multi_positive_loss(image: Tensor, text: Tensor, scale, content: Tensor) -> Tensor:
    """CLIP's loss where texts of the same content (n,) are positives of each other's images.

    With S = scale * M and P_i the pairs of i's content, the mean of
    -(1/|P_i|) sum_(j in P_i) log softmax(S_i)_j over the pairs, both ways, halved. Where all
    contents differ it is `clip_loss`. SupCon (arXiv 2004.11362) Eq. 2, between the modalities;
    UniCL (arXiv 2204.03610).

    Raises: ValueError if the shapes differ.
    """
    logits = scale * _paired(image, text)
    if content.shape != logits.shape[:1]:
        raise ValueError(f"content must be ({len(logits)},), not {tuple(content.shape)}.")
    same = (content[:, None] == content[None]).to(logits.dtype)
    share = same / same.sum(1, keepdim=True)
    return (F.cross_entropy(logits, share) + F.cross_entropy(logits.T, share)) / 2


def pair_losses(
    image: Tensor, text: Tensor, scale: float, batch: int, divisions: int = 1, seed: int = 0
) -> np.ndarray:
    """The two halves of `clip_loss` for each pair (n, 2): image to text, and text to image.

    The pairs of a batch compete with each other. They are divided at random into batches of `batch`
    (or all, where there are fewer), `divisions` times, and each pair's losses are averaged; pairs
    that are left over every time are left out. The mean over the two columns and over the pairs of
    a batch is `clip_loss`.

    Raises: ValueError if the two differ in shape.
    """
    _same_shape(image, text)
    n, size = len(image), min(batch, len(image))
    rng = np.random.default_rng(seed)
    total, seen = np.zeros((n, 2)), np.zeros(n)
    for _ in range(divisions):
        order = rng.permutation(n)[: n // size * size]
        x, y = (rows[order].unflatten(0, (-1, size)) for rows in (image, text))
        logits = scale * x @ y.mT
        partner = torch.arange(size).expand(len(logits), -1)
        for way, classes_first in enumerate((logits.mT, logits)):  # the classes are in dimension 1
            loss = F.cross_entropy(classes_first, partner, reduction="none")
            total[order, way] += loss.numpy().ravel()
        seen[order] += 1
    return total[seen > 0] / seen[seen > 0, None]


def separation_loss(image: Tensor, text: Tensor, scale, similarity: Tensor | None = None) -> Tensor:
    """IMSep of AlignCLIP: an image is pushed from the other images, and held by its own text.

    CE(scale * (I * M + (1 - I) * V * D), i), with D = 1 - S the rescaling by the similarity S,
    (n, n), of the captions: an image whose caption says the same has logit 0.
    The rescaling multiplies the cosine, not the loss. Without S, D = 1 (the ablation of Table 6).
    With image and text exchanged it separates the texts. AlignCLIP, Eqs. 8-12.

    Raises: ValueError if the shapes differ.
    """
    own = torch.eye(len(image), dtype=torch.bool, device=image.device)
    positive = _paired(image, text).diagonal()
    others = image @ image.T
    if similarity is not None:
        if similarity.shape != others.shape:
            raise ValueError(
                f"the captions' similarity must be {tuple(others.shape)}, "
                f"not {tuple(similarity.shape)}."
            )
        others = others * (1 - similarity)
    logits = scale * torch.where(own, positive[:, None], others)
    return F.cross_entropy(logits, _own(logits))


def cyclic_in_modal_loss(image: Tensor, text: Tensor) -> Tensor:
    """CyCLIP's in-modal term: two images should be as similar as their texts.

    (1/n) * sum_jk (V_jk - T_jk)^2. CyCLIP (arXiv 2205.14459) section 3; I0T appendix D.1, whose
    code divides the squared scale out again as here.
    """
    _paired(image, text)
    return (image @ image.T - text @ text.T).square().sum() / len(image)


def cyclic_cross_modal_loss(image: Tensor, text: Tensor) -> Tensor:
    """CyCLIP's cross-modal term: image j with text k should be as similar as image k with text j.

    (1/n) * sum_jk (M_jk - M_kj)^2. Source: as the in-modal term.
    """
    cosines = _paired(image, text)
    return (cosines - cosines.T).square().sum() / len(image)


def info_loob_loss(anchor: Tensor, positive: Tensor, scale) -> Tensor:
    """InfoLOOB, the contrastive loss that leaves its positive out of the denominator.

    -(1/n) sum_i [scale * a_i p_i - log sum_(j != i) exp(scale * a_i p_j)]. It has no lower bound,
    and no value for a single pair. CLOOB (arXiv 2110.11316) section 3.

    Raises: ValueError if the shapes differ, or for fewer than two pairs.
    """
    logits = scale * _paired(anchor, positive)
    if len(logits) < 2:
        raise ValueError("InfoLOOB needs at least two pairs: one has no negatives.")
    own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    return (logits.masked_fill(own, -torch.inf).logsumexp(1) - logits.diagonal()).mean()


def hopfield(state: Tensor, memory: Tensor, beta: float) -> Tensor:
    """Retrieve from a modern Hopfield network: Normalize(softmax(beta * state @ memory.T) memory).

    state (n, d), memory (m, d) -> (n, d). CLOOB (arXiv 2110.11316) Eqs. 3-6.
    """
    return F.normalize((beta * state @ memory.T).softmax(1) @ memory, dim=-1)


def cloob_loss(image: Tensor, text: Tensor, scale, beta: float) -> Tensor:
    """CLOOB: InfoLOOB of what images and texts retrieve from the images, and from the texts.

    With U_x, U_y retrieved from the images by images and by texts, and V_x, V_y from the texts:
    (InfoLOOB(U_x, U_y) + InfoLOOB(V_y, V_x)) / 2; the anchor retrieves from its own modality.
    CLOOB (arXiv 2110.11316) Eq. 7, halved as clip_loss is.
    """
    from_images = hopfield(image, image, beta), hopfield(text, image, beta)
    from_texts = hopfield(text, text, beta), hopfield(image, text, beta)
    return (info_loob_loss(*from_images, scale) + info_loob_loss(*from_texts, scale)) / 2


def alignment_loss(image: Tensor, text: Tensor) -> Tensor:
    """Mean squared distance of the pairs, = 2 - 2 * mean(diagonal of M).

    Wang & Isola (arXiv 2005.10242) with alpha = 2; I0T appendix D.3 (Unif-Align).
    """
    return 2 - 2 * _paired(image, text).diagonal().mean()


def uniformity_loss(rows: Tensor, t: float = 2.0) -> Tensor:
    """log of the mean of exp(-t |a - b|^2) over the pairs of different rows of (n, d).

    Wang & Isola (arXiv 2005.10242); I0T appendix D.3 (Unif-Align), for images and for texts.

    Raises: ValueError for fewer than two rows.
    """
    if len(rows) < 2:
        raise ValueError("uniformity needs at least two rows.")
    cosines = (rows @ rows.T)[*torch.triu_indices(len(rows), len(rows), 1)]
    return (2 * t * (cosines - 1)).exp().mean().log()


def two_view_loss(first: Tensor, second: Tensor, temperature: float = 0.1) -> Tensor:
    """SLIP's self-supervision, NT-Xent of SimCLR: two views of a picture among all other views.

    first, second (n, d), L2-normalised. For each of the 2n views, the cross-entropy of its other
    view among the 2n - 1 others. SimCLR (arXiv 2002.05709) Eq. 1; SLIP (arXiv 2112.12750)
    section 3.2, temperature 0.1.
    """
    _paired(first, second)
    n, views = len(first), torch.cat([first, second])
    logits = (views @ views.T / temperature).fill_diagonal_(-torch.inf)
    return F.cross_entropy(logits, torch.arange(2 * n, device=views.device).roll(n))


def principal_components(rows: Tensor, k: int) -> Tensor:
    """Rows (n, d) rebuilt from their k strongest principal components, L2-normalised.

    Long-CLIP's coarse image features, which its short captions are matched with: centre, project,
    add the mean again. Long-CLIP (arXiv 2403.15378) section 3.2 with k = 32. No gradient flows
    through the choice of the components.
    """
    mean = rows.mean(0, keepdim=True)
    centred = rows - mean
    basis = torch.linalg.svd(centred.detach(), full_matrices=False).Vh[:k]
    return F.normalize(centred @ basis.T @ basis + mean, dim=-1)


def margin_loss(image: Tensor, text: Tensor, label: Tensor, margin) -> Tensor:
    """A hinge loss between images (..., n, d) and the texts of their classes (..., k, d).

    With c(i) = `label` (n,), t_c the text of class c, and m = `margin`, a number or a tensor of the
    shape of the leading dimensions: the mean of [m - x_i.t_c(i) + x_i.t_c]+ over images i and other
    classes c, plus the mean of [m - x_i.t_c(i) + x_j.t_c(i)]+ over i and images j of other classes.
    It is 0 if every image is nearer to its own text than to another, and every text nearer to its
    own images than to others, by m. One loss for each of the leading dimensions. Source: the
    argument of Cross the Gap, Figure 1, in numbers.
    """
    s = image @ text.mT
    m = torch.as_tensor(margin, dtype=s.dtype, device=s.device)[..., None, None]
    least = m - s[..., torch.arange(len(label)), label].unsqueeze(-1)
    other_text = label[:, None] != torch.arange(text.shape[-2])
    other_image = label[:, None] != label
    by_image = (least + s).relu()[..., other_text].mean(-1)
    return by_image + (least + s[..., label].mT).relu()[..., other_image].mean(-1)


def class_margin_loss(image: Tensor, label: Tensor, margin: float) -> Tensor:
    """The same among images (..., n, d): each is nearer to all of its class than to any other.

    The mean of [m - min_j x_i.x_j + x_i.x_k]+ over images i and images k of other classes, the
    minimum over the images j of i's class. Classes must be of equal size. Source: see
    `margin_loss`.
    """
    s, other = image @ image.mT, label[:, None] != label
    own, others = (s[..., kind].unflatten(-1, (len(label), -1)) for kind in (~other, other))
    return (margin - own.amin(-1, keepdim=True) + others).relu().mean((-2, -1))


def _paired(image: Tensor, text: Tensor) -> Tensor:
    """M, the cosines of all images and texts."""
    _same_shape(image, text)
    return image @ text.T


def _same_shape(image: Tensor, text: Tensor) -> None:
    if image.shape != text.shape:
        raise ValueError(
            f"a contrastive loss needs as many texts as images of one dimension, "
            f"not {tuple(image.shape)} and {tuple(text.shape)}."
        )


def _own(logits: Tensor) -> Tensor:
    return torch.arange(len(logits), device=logits.device)

"""Modality inversion: the embedding of one modality, found again on the other encoder's side.

OTI (optimisation-based textual inversion) starts from an image. It looks for pseudo-tokens v in the
text encoder's token space, so that the text "a photo of v" has the image's embedding. OVI (visual
inversion) starts from a text. It looks for pseudo-patches w in the image encoder's patch space, so
that the "image" made of them has the text's embedding. Each returns the other encoder's embedding
at the end of the search: an image can then be compared as a text, or a text as an image. Source:
Cross the Gap (arXiv 2502.04263) sections 4.1 and 4.2, Algorithms 1 and 2, and the published code
where the paper leaves something open.

The search is the papers', step by step, and fast because `lib.methods.frozen` leaves out what
cannot change the result. Batches that are done are kept on the disk.
"""

import copy
import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from lib import files, progress, validation
from lib.encoders.towers import Model

TEMPLATE = "a photo of {}"
LEARNING_RATE, WEIGHT_DECAY = 0.02, 0.01  # AdamW, constant
START_STD = 0.02  # of the pseudo-tokens' normal start
PAPER_BATCH = 64  # the paper's loss is a mean over 64 items: it enters through AdamW's epsilon only

_FORMAT = 2  # raise it when results change, so that old files are not found


@dataclass(frozen=True)
class Inversion:
    """What a search found for n items, at the steps that were asked for; all on the CPU.

    Attributes:
        steps: (s,) numbers of updates after which results were kept, ascending.
        at: (s, n, d) embeddings of the other encoder at those steps: float32, L2-normalised.
        tokens: (n, tokens, width) pseudo-tokens or pseudo-patches after the last of them.
        loss: (last step + 1, n) 1 - cosine to the given embedding, at first and after each update.
    """

    steps: tuple[int, ...]
    at: torch.Tensor
    tokens: torch.Tensor
    loss: torch.Tensor

    @property
    def embeddings(self) -> torch.Tensor:
        """(n, d) embeddings after the last step: what the paper retrieves with."""
        return self.at[-1]

    def after(self, steps: int) -> torch.Tensor:
        """(n, d) embeddings after so many steps.

        Raises: ValueError if they were not kept.
        """
        if steps not in self.steps:
            kept = ", ".join(map(str, self.steps))
            raise ValueError(f"Nothing was kept after {steps} steps, only after {kept}.")
        return self.at[self.steps.index(steps)]


def oti(
    model: Model,
    image_embeddings,
    *,
    tokens: int = 1,
    steps: int | Sequence[int] = 150,
    template: str = TEMPLATE,
    start=None,
    seed: int = 0,
    items: Sequence[int] | None = None,
    batch: int = 64,
    device: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Inversion:
    """Image embeddings (n, d) -> text embeddings (n, d), by textual inversion.

    Minimises 1 - cos(text(template with pseudo-tokens), image) with AdamW (learning rate 0.02,
    weight decay 0.01), from pseudo-tokens drawn from N(0, 0.02^2). Source: Cross the Gap section
    4.1, Algorithm 1.

    Args:
        tokens: R, the number of pseudo-tokens of an item; the paper's main results use 1.
        steps: number of updates, or several: the largest is the end, and results are kept at each.
        template: text with "{}" where the pseudo-tokens go.
        start: (n, tokens, width) pseudo-tokens to begin with, instead of random ones.
        seed, items: the start of an item is drawn from the two numbers `seed` and its entry in
            `items` (its row, if None). A result depends on nothing else: not on the batch, and
            not on its neighbours or the order.
        batch: items at a time; it bounds the memory. Where that is still too much for a GPU, half
            as many are searched at a time, and so on.
        device: where to compute, by default where the model is.
        dtype: of the weights and activations; pseudo-tokens and losses are at least float32.

    Finished batches are kept on the disk, so that a search that was stopped goes on.

    Raises: ValueError for bad embeddings or arguments, a template or context that the pseudo-tokens
        do not fit, or a model whose text encoder is not a transformer of open_clip.
    """

    def build(where: torch.device) -> tuple[int, Callable]:
        text, words = _frozen().sentence(model, template, tokens)
        width = text.token_embedding.embedding_dim
        return width, _frozen().text_encoder(text, words, where, dtype)

    search = _Search("text", tokens, _steps(steps), seed, batch, dtype)
    about = {"method": "OTI", "template": template}
    return _invert(model, image_embeddings, search, build, about, items, start, device)


def ovi(
    model: Model,
    text_embeddings,
    *,
    tokens: int = 1,
    steps: int | Sequence[int] = 1000,
    start=None,
    seed: int = 0,
    items: Sequence[int] | None = None,
    batch: int = 64,
    device: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Inversion:
    """Text embeddings (n, d) -> image embeddings (n, d), by visual inversion.

    As `oti`, with pseudo-patches instead of the image encoder's patch embeddings. Nearest-neighbour
    interpolation spreads `tokens` (P) of them over all patches; the class token and the positions
    are the model's own. Source: Cross the Gap section 4.2, Equation 3, Algorithm 2; its
    code uses P = 1 (ViT-B/32), 2 or 4.

    Raises: ValueError for bad embeddings or arguments, or a model whose image encoder is not a ViT.
    """

    def build(where: torch.device) -> tuple[int, Callable]:
        patches, width = _frozen().patch_grid(model)
        if not 1 <= tokens <= patches:
            raise ValueError(f"tokens must be from 1 to the {patches} patches, not {tokens}.")
        return width, _frozen().image_encoder(model, tokens, patches, where, dtype)

    search = _Search("image", tokens, _steps(steps), seed, batch, dtype)
    return _invert(model, text_embeddings, search, build, {"method": "OVI"}, items, start, device)


def warm_start(embeddings, inverted, tokens, penalty: float = 1e-2) -> torch.Tensor:
    """Pseudo-tokens (n, tokens, width) to begin with, guessed from earlier inversions.

    A ridge regression from embeddings that were inverted before, `inverted` (m, d), to what was
    found for them, `tokens` (m, tokens, width); `penalty` is per embedding. Give the result as
    `start` to `oti` or `ovi`, with fewer steps. This is not the papers' method: it ends elsewhere.

    Raises: ValueError for bad embeddings, or tokens that are not one row per embedding.
    """
    from sklearn.linear_model import Ridge

    inverted, embeddings = validation.two_sets(inverted, embeddings)
    found = torch.as_tensor(validation.array(tokens)).double()
    if found.ndim != 3 or len(found) != len(inverted) or not found.isfinite().all():
        raise ValueError(f"tokens must be {len(inverted)} finite rows (tokens, width) each.")
    ridge = Ridge(alpha=penalty * len(inverted)).fit(inverted, found.flatten(1).numpy())
    guess = torch.from_numpy(ridge.predict(embeddings)).double()
    return guess.reshape(len(embeddings), *found.shape[1:])


def text_encoder(
    model: Model, tokens: int = 1, template: str = TEMPLATE, dtype: torch.dtype = torch.float32
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function that OTI inverts: pseudo-tokens (n, tokens, width) -> text embeddings (n, d).

    They fill the template's "{}". Embeddings are L2-normalised, on the model's device, and can be
    differentiated with respect to the pseudo-tokens. `token_width(model)` is the width.

    Raises: ValueError as `oti`.
    """
    text, words = _frozen().sentence(model, template, tokens)
    encode = _frozen().text_encoder(text, words, model.device, dtype)
    return _normalised(model, "text", encode, model.device, dtype)


def token_width(model: Model) -> int:
    """Entries of a pseudo-token: the width of the text encoder's token embeddings.

    Raises: ValueError for a model whose text encoder is not a transformer of open_clip.
    """
    return _frozen().text_tower(model).token_embedding.embedding_dim


def reachable(model: Model, side: str) -> torch.Tensor:
    """Orthonormal rows (k, d) of the subspace in which all embeddings of one encoder lie.

    An encoder ends with a linear map from its own width to the d dimensions of the common space.
    Where that width is below d, all embeddings lie in k = width dimensions. With P the projection
    onto them, the loss 1 - cos of an inversion to `side` ("text" or "image") cannot fall below
    1 - |P x|. Without such a map, or with a bias in it, nothing is known to be out of reach: k = d.

    Raises: ValueError for another side.
    """
    if side not in ("text", "image"):
        raise ValueError(f'side must be "text" or "image", not {side!r}.')
    tower = getattr(model.clip, "text", model.clip) if side == "text" else model.clip.visual
    last = getattr(tower, {"text": "text_projection", "image": "proj"}[side], None)
    if isinstance(last, torch.Tensor):
        return torch.linalg.svd(last.detach().cpu(), full_matrices=False).Vh
    return torch.eye(model.encode_text(["a"]).shape[1])


# The search ---------------------------------------------------------------------------------------


def _frozen():
    """Imported when a search begins: open_clip takes seconds, and results may be on the disk."""
    from lib.methods import frozen

    return frozen


@dataclass(frozen=True)
class _Search:
    side: str  # the modality that is inverted to
    tokens: int
    steps: tuple[int, ...]
    seed: int
    batch: int
    dtype: torch.dtype

    def __post_init__(self):
        if self.tokens < 1:
            raise ValueError(f"tokens must be at least 1, not {self.tokens}.")
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, not {self.batch}.")


def _steps(steps: int | Sequence[int]) -> tuple[int, ...]:
    each = [steps] if isinstance(steps, int) else list(steps)
    if not each or not all(isinstance(step, int | np.integer) and step >= 0 for step in each):
        raise ValueError(f"steps must be numbers of updates, 0 or more, not {steps!r}.")
    return tuple(sorted({int(step) for step in each}))


def _invert(
    model: Model,
    embeddings,
    search: _Search,
    build: Callable[[torch.device], tuple[int, Callable]],
    about: dict,
    items: Sequence[int] | None,
    start,
    device: str | None,
) -> Inversion:
    """Search batch by batch; `build(where)` gives the width of a token, and the frozen encoder."""
    n, last = len(validation.vectors(embeddings, "embeddings")), max(1, search.steps[-1])
    target = functional.normalize(torch.as_tensor(validation.array(embeddings)).double(), dim=-1)
    items = _items(items, n, search.seed)
    start = None if start is None else _given_start(start, n, search.tokens)
    where = torch.device(device) if device else model.device

    @functools.cache  # made once, and only if there is a batch that was not kept
    def built() -> tuple[int, Callable]:
        width, encode = build(where)
        if start is not None and start.shape[2] != width:
            raise ValueError(f"start must have {width} entries per token, not {start.shape[2]}.")
        return width, _normalised(model, search.side, encode, where, search.dtype)

    def compute(rows: slice, done: Callable[[int], None]) -> dict:
        width, encode = built()
        tokens = _drawn(search, items[rows], width) if start is None else start[rows]
        precise = _precise(search.dtype)
        return _search(encode, target[rows], tokens, search.steps, where, precise, done)

    compute, parts = _as_memory_allows(compute), []
    slices = [slice(i, min(i + search.batch, n)) for i in range(0, n, search.batch)]
    # In updates of an item, because a single batch may take minutes.
    bar = progress.bar(desc=about["method"], total=n * last, unit="update", unit_scale=True)
    for rows in slices:
        key = about | {
            "format": _FORMAT,
            "model": model.fingerprint,
            "target": files.digest(target[rows]),
            "start": [search.seed, items[rows]] if start is None else files.digest(start[rows]),
            "tokens": search.tokens,
            "steps": search.steps,
            "dtype": str(search.dtype),
            "device": where.type,
        }
        run = functools.partial(compute, rows, bar.update)
        parts.append(files.tensors("inversions", key, run, about={"name": model.name}))
        bar.update(rows.stop * last - bar.n)  # what was found on the disk
    bar.close()
    return Inversion(
        steps=search.steps,
        at=torch.cat([part["at"] for part in parts], dim=1),
        tokens=torch.cat([part["tokens"] for part in parts]),
        loss=torch.cat([part["loss"] for part in parts], dim=1),
    )


def _as_memory_allows(compute: Callable[[slice, Callable], dict]) -> Callable:
    """The same for fewer rows at a time once the GPU's memory is full: no result depends on it."""
    most = sys.maxsize  # rows at a time; what was too much for one batch is so for the next

    def run(rows: slice, done: Callable[[int], None]) -> dict:
        nonlocal most
        parts, first = [], rows.start
        while first < rows.stop:
            n = min(most, rows.stop - first)
            try:
                parts.append(compute(slice(first, first + n), done))
                first += n
            except torch.OutOfMemoryError:
                if n == 1:
                    raise
                most = (n + 1) // 2
            if most < n:  # here, where the error is gone and with it what it holds
                torch.cuda.empty_cache()
        if len(parts) == 1:
            return parts[0]
        along = {"at": 1, "tokens": 0, "loss": 1}
        return {key: torch.cat([part[key] for part in parts], along[key]) for key in along}

    return run


def _search(
    encode: Callable,
    target: torch.Tensor,
    start: torch.Tensor,
    kept: tuple[int, ...],
    where: torch.device,
    precise: torch.dtype,
    done: Callable[[int], None],
) -> dict:
    """One batch, all steps; `done` is told after each how many items were updated."""
    target = target.to(where, precise)
    tokens = start.to(where, precise, copy=True).requires_grad_()
    optimiser = torch.optim.AdamW([tokens], lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    losses, at = [], []
    for step in range(kept[-1] + 1):
        last = step == kept[-1]
        with torch.set_grad_enabled(not last):
            found = encode(tokens)
            loss = 1 - (found * target).sum(-1)
        losses.append(loss.detach())
        if step in kept:
            at.append(found.detach().float())
        if not last:
            (tokens.grad,) = torch.autograd.grad(loss.sum() / PAPER_BATCH, tokens)
            optimiser.step()
            done(len(tokens))
    found = {"at": torch.stack(at), "tokens": tokens.detach(), "loss": torch.stack(losses)}
    return {name: tensor.cpu() for name, tensor in found.items()}


def _precise(dtype: torch.dtype) -> torch.dtype:
    """Of pseudo-tokens, embeddings and losses: float32 at least."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _normalised(
    model: Model, side: str, encode: Callable, where: torch.device, dtype: torch.dtype
) -> Callable:
    """tokens -> L2-normalised embeddings, with the model's own last normalisation if it has one."""
    precise, layer = _precise(dtype), None
    if side in model.normalisation:
        layer = copy.deepcopy(model.normalisation[side]).to(where, precise)

    def run(tokens: torch.Tensor) -> torch.Tensor:
        found = functional.normalize(encode(tokens.to(dtype)).to(precise), dim=-1)
        return functional.normalize(layer(found), dim=-1) if layer else found

    return run


def _items(items: Sequence[int] | None, n: int, seed: int) -> list[int]:
    items = list(range(n)) if items is None else [int(item) for item in items]
    if len(items) != n or min(items) < 0 or seed < 0:
        raise ValueError(f"items must be {n} numbers, 0 or more, one per embedding; seed likewise.")
    return items


def _drawn(search: _Search, items: list[int], width: int) -> torch.Tensor:
    """(items, tokens, width) float64: each item's own draw."""
    shape = search.tokens, width
    draws = [np.random.default_rng([search.seed, item]).normal(0, 1, shape) for item in items]
    return START_STD * torch.from_numpy(np.stack(draws))


def _given_start(start, n: int, tokens: int) -> torch.Tensor:
    start = torch.as_tensor(validation.array(start)).double()
    if start.ndim != 3 or start.shape[:2] != (n, tokens) or not start.isfinite().all():
        raise ValueError(
            f"start must be finite numbers of shape ({n}, {tokens}, width), not {(*start.shape,)}."
        )
    return start

"""Modality inversion: the embedding of one modality, found again on the other encoder's side.

OTI (optimisation-based textual inversion) looks for pseudo-tokens v in the text encoder's token
space such that the text "a photo of v" has the embedding of a given image; OVI (visual inversion)
looks for pseudo-patches w in the image encoder's patch space such that the "image" made of them has
the embedding of a given text. What comes back is the other encoder's embedding at the end of the
search: an image that is now compared as a text, or the other way round. Source: Cross the Gap
(arXiv 2502.04263) sections 4.1 and 4.2, Algorithms 1 and 2, and the published code where the paper
leaves something open.

**Exact, and fast.** The search is the papers', step by step. Only what cannot change the result is
left out: weights are frozen, so nothing computes their gradients; under a causal mask the tokens
after the end token are never seen, and the words before the pseudo-tokens never change, so their
keys and values are computed once; of the last layer, only the row that is pooled is needed.
"""

import copy
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from open_clip.transformer import QuickGELU, VisionTransformer
from torch import nn
from torch.nn import functional

from lib import bars, cache, checks
from lib.models import Model, is_plain, pools_class_token

TEMPLATE = "a photo of {}"
LEARNING_RATE, WEIGHT_DECAY = 0.02, 0.01  # AdamW, constant
START_STD = 0.02  # of the pseudo-tokens' normal start
PAPER_BATCH = 64  # the paper's loss is a mean over 64 items: it enters through AdamW's epsilon only
STAND_INS = ("£", "*", "the")  # one token each: the paper's, and others where a tokenizer splits it

_FORMAT = 1  # raise it when results change, so that old files are not found


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
        start: (n, tokens, width) pseudo-tokens to begin with, in place of random ones.
        seed, items: the start of an item is drawn from the two numbers `seed` and its entry in
            `items` (its row, if None). A result depends on nothing else: not on the batch, and
            not on its neighbours or the order.
        batch: items at a time; it bounds the memory.
        device: where to compute, by default where the model is.
        dtype: of the weights and activations; pseudo-tokens and losses are at least float32.

    Finished batches are kept on the disk, so that a search that was stopped goes on.

    Raises: ValueError for bad embeddings or arguments, a template or context that the pseudo-tokens
        do not fit, or a model whose text encoder is not a transformer of open_clip.
    """
    # Read before anything is computed: a model without the tower is refused at once.
    text, words = _sentence(model, template, tokens)
    about = {"method": "OTI", "template": template}

    def encoder(where: torch.device) -> Callable:
        return _text_encoder(text, words, where, dtype)

    width = text.token_embedding.embedding_dim
    settings = _Settings("text", tokens, width, steps, seed, batch, device, dtype, about)
    return _invert(model, image_embeddings, encoder, settings, items, start)


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

    As `oti`, with pseudo-patches in the place of the image encoder's patch embeddings: `tokens` (P)
    of them are spread over all patches by nearest-neighbour interpolation; the class token and the
    positions are the model's own. Source: Cross the Gap section 4.2, Equation 3, Algorithm 2; its
    code uses P = 1 (ViT-B/32), 2 or 4.

    Raises: ValueError for bad embeddings or arguments, or a model whose image encoder is not a ViT.
    """
    patches, width = _grid(model)
    if not 1 <= tokens <= patches:
        raise ValueError(f"tokens must be from 1 to the {patches} patches, not {tokens}.")

    def encoder(where: torch.device) -> Callable:
        return _image_encoder(model, tokens, patches, where, dtype)

    about = {"method": "OVI"}
    settings = _Settings("image", tokens, width, steps, seed, batch, device, dtype, about)
    return _invert(model, text_embeddings, encoder, settings, items, start)


def warm_start(embeddings, inverted, tokens, penalty: float = 1e-2) -> torch.Tensor:
    """Pseudo-tokens (n, tokens, width) to begin with, guessed from earlier inversions.

    A ridge regression from embeddings that were inverted before, `inverted` (m, d), to what was
    found for them, `tokens` (m, tokens, width); `penalty` is per embedding. Give the result as
    `start` to `oti` or `ovi`, with fewer steps. This is not the papers' method: it ends elsewhere.

    Raises: ValueError for bad embeddings, or tokens that are not one row per embedding.
    """
    from sklearn.linear_model import Ridge

    inverted, embeddings = checks.two_sets(inverted, embeddings)
    found = torch.as_tensor(checks.array(tokens)).double()
    if found.ndim != 3 or len(found) != len(inverted) or not found.isfinite().all():
        raise ValueError(f"tokens must be {len(inverted)} finite rows (tokens, width) each.")
    ridge = Ridge(alpha=penalty * len(inverted)).fit(inverted, found.flatten(1).numpy())
    guess = torch.from_numpy(ridge.predict(embeddings)).double()
    return guess.reshape(len(embeddings), *found.shape[1:])


def text_encoder(
    model: Model, tokens: int = 1, template: str = TEMPLATE, dtype: torch.dtype = torch.float32
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function that OTI inverts: pseudo-tokens (n, tokens, width) -> text embeddings (n, d).

    They stand in the template's place; embeddings are L2-normalised, on the model's device, and
    can be differentiated in the pseudo-tokens. `token_width(model)` is the width.

    Raises: ValueError as `oti`.
    """
    encode = _text_encoder(*_sentence(model, template, tokens), model.device, dtype)
    return _normalised(model, "text", encode, model.device, dtype)


def token_width(model: Model) -> int:
    """Entries of a pseudo-token: the width of the text encoder's token embeddings.

    Raises: ValueError for a model whose text encoder is not a transformer of open_clip.
    """
    return _text_tower(model).token_embedding.embedding_dim


def reachable(model: Model, side: str) -> torch.Tensor:
    """Orthonormal rows (k, d) of the subspace in which all embeddings of one encoder lie.

    An encoder ends with a linear map from its own width to the d dimensions of the common space.
    Where it is narrower than d, no input leads out of k = width dimensions: with P the projection
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


@dataclass(frozen=True)
class _Settings:
    side: str  # the modality that is inverted to
    tokens: int
    width: int
    steps: int | Sequence[int]
    seed: int
    batch: int
    device: str | None
    dtype: torch.dtype
    about: dict

    @property
    def kept(self) -> tuple[int, ...]:
        steps = [self.steps] if isinstance(self.steps, int) else list(self.steps)
        whole = all(isinstance(step, int | np.integer) and step >= 0 for step in steps)
        if not steps or not whole:
            raise ValueError(f"steps must be numbers of updates, 0 or more, not {self.steps!r}.")
        return tuple(sorted({int(step) for step in steps}))


def _invert(
    model: Model, embeddings, encoder: Callable, settings: _Settings, items, start
) -> Inversion:
    if settings.batch < 1:
        raise ValueError(f"batch must be at least 1, not {settings.batch}.")
    kept, n = settings.kept, len(checks.vectors(embeddings, "embeddings"))
    target = functional.normalize(torch.as_tensor(checks.array(embeddings)).double(), dim=-1)
    start = _start(settings, n, items) if start is None else _given_start(settings, n, start)
    where = torch.device(settings.device) if settings.device else model.device
    # Made once, and only if there is a batch that was not kept.
    encode = functools.cache(
        lambda: _normalised(model, settings.side, encoder(where), where, settings.dtype)
    )

    def compute(rows: slice, done: Callable[[int], None]) -> cache.Tensors:
        own = target[rows], start[rows]
        return _search(encode(), *own, kept, where, _precise(settings.dtype), done)

    parts = []
    slices = [slice(i, min(i + settings.batch, n)) for i in range(0, n, settings.batch)]
    # In updates of an item, because a single batch may take minutes.
    work = {"total": n * max(1, kept[-1]), "unit": "update", "unit_scale": True}
    bar = bars.bar(desc=settings.about["method"], **work)
    for rows in slices:
        key = settings.about | {
            "format": _FORMAT,
            "model": model.fingerprint,
            "target": cache.digest(target[rows]),
            "start": cache.digest(start[rows]),
            "steps": kept,
            "dtype": str(settings.dtype),
            "device": where.type,
        }
        search = functools.partial(compute, rows, bar.update)
        parts.append(cache.tensors("inversions", key, search, about={"name": model.name}))
        bar.update(rows.stop * max(1, kept[-1]) - bar.n)  # what was found on the disk
    bar.close()
    return Inversion(
        steps=kept,
        at=torch.cat([part["at"] for part in parts], dim=1),
        tokens=torch.cat([part["tokens"] for part in parts]),
        loss=torch.cat([part["loss"] for part in parts], dim=1),
    )


def _search(
    encode: Callable,
    target: torch.Tensor,
    start: torch.Tensor,
    kept: tuple[int, ...],
    where: torch.device,
    precise: torch.dtype,
    done: Callable[[int], None],
) -> cache.Tensors:
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


def _start(settings: _Settings, n: int, items: Sequence[int] | None) -> torch.Tensor:
    """(n, tokens, width) float64: each item's own draw."""
    items = range(n) if items is None else [int(item) for item in items]
    if len(items) != n or min(items) < 0 or settings.seed < 0:
        raise ValueError(f"items must be {n} numbers, 0 or more, one per embedding; seed likewise.")
    shape = settings.tokens, settings.width
    draws = [np.random.default_rng([settings.seed, item]).normal(0, 1, shape) for item in items]
    return START_STD * torch.from_numpy(np.stack(draws))


def _given_start(settings: _Settings, n: int, start) -> torch.Tensor:
    start = torch.as_tensor(checks.array(start)).double()
    shape = (n, settings.tokens, settings.width)
    if start.shape != shape or not start.isfinite().all():
        raise ValueError(f"start must be finite numbers of shape {shape}, not {(*start.shape,)}.")
    return start


# Transformers with frozen weights -----------------------------------------------------------------


class _Block:
    """A residual attention block of open_clip over tokens (n, t, width), its weights frozen."""

    def __init__(self, block: nn.Module, where: torch.device, dtype: torch.dtype):
        block = copy.deepcopy(block).to(where, dtype).requires_grad_(False)
        self.norm_1, self.norm_2 = block.ln_1, block.ln_2
        self.scale_1, self.scale_2 = block.ls_1, block.ls_2
        self.attention, self.heads = block.attn, block.attn.num_heads
        self.up, self.activation, self.down = block.mlp.c_fc, block.mlp.gelu, block.mlp.c_proj
        if isinstance(self.activation, QuickGELU):
            # x sigmoid(a x) = silu(a x) / a: one pass over the widest activations, not three
            self.up.weight.mul_(1.702), self.up.bias.mul_(1.702), self.down.weight.div_(1.702)
            self.activation = nn.SiLU()
        self.before = None

    def follow(self, before: torch.Tensor) -> None:
        """Let all tokens stand behind `before` (1, p, width), the same for every item.

        Those see nothing behind them, so their keys and values are constants.
        """
        self.before = self._project(self.norm_1(before), slice(1, 3))

    def _project(self, x: torch.Tensor, which: slice) -> tuple[torch.Tensor, ...]:
        """Queries, keys, values (or a part of the three), each (n, heads, t, width of a head)."""
        n, t, width = x.shape
        rows = slice(which.start * width, which.stop * width)
        weight, bias = self.attention.in_proj_weight[rows], self.attention.in_proj_bias[rows]
        parts = functional.linear(x, weight, bias)
        return parts.view(n, t, -1, self.heads, width // self.heads).transpose(1, 3).unbind(2)

    def __call__(
        self, x: torch.Tensor, mask: torch.Tensor | None, row: int | None = None
    ) -> torch.Tensor:
        """The block's output; with `row`, only this row of it, (n, 1, width)."""
        normed = self.norm_1(x)
        if row is None:
            query, key, value = self._project(normed, slice(0, 3))
        else:
            key, value = self._project(normed, slice(1, 3))
            (query,) = self._project(normed[:, row : row + 1], slice(0, 1))
            x = x[:, row : row + 1]
            mask = None if mask is None else mask[row : row + 1]
        if self.before is not None:
            key, value = (
                torch.cat([constant.expand(len(x), -1, -1, -1), own], dim=2)
                for constant, own in zip(self.before, (key, value), strict=True)
            )
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        seen = seen.transpose(1, 2).reshape(x.shape)
        x = x + self.scale_1(self.attention.out_proj(seen))
        return x + self.scale_2(self.down(self.activation(self.up(self.norm_2(x)))))


# Text encoder -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Words:
    """A template's token ids (context,), and where its pseudo-tokens begin and end."""

    ids: torch.Tensor
    first: int
    stop: int


def _text_tower(model: Model) -> nn.Module:
    """Where the text encoder is: the model itself (CLIP), or a part of it (CustomTextCLIP)."""
    text = getattr(model.clip, "text", model.clip)
    plain = is_plain(getattr(text, "transformer", None))
    if not plain or getattr(text, "cls_emb", None) is not None:
        raise ValueError(
            f"{model.name}: textual inversion needs a text encoder that is open_clip's own "
            "transformer, without a class token; this one is not."
        )
    return text


def _words(model: Model, template: str, tokens: int) -> _Words:
    """Where the pseudo-tokens stand, found with a stand-in word that is one token.

    Source: Cross the Gap's code, which uses the character "£".
    """
    if tokens < 1:
        raise ValueError(f"tokens must be at least 1, not {tokens}.")
    if template.count("{}") != 1:
        raise ValueError(f'The template {template!r} must hold "{{}}" once.')
    nothing = model.tokenizer([""])[0]
    for word in STAND_INS:
        own = model.tokenizer([word])[0]
        own = own[~torch.isin(own, nothing)]  # without start, end and padding
        ids = model.tokenizer([template.replace("{}", f" {word} ")])[0]
        at = torch.isin(ids, own).nonzero()[:, 0].tolist()
        room = bool((ids[-tokens:] == nothing[-1]).all())  # all of these are padding
        if len(own) == 1 and len(at) == 1 and tokens < len(ids) and room:
            more = own.expand(tokens - 1)
            ids = torch.cat([ids[: at[0]], more, ids[at[0] : len(ids) - len(more)]])
            return _Words(ids, at[0], at[0] + tokens)
    raise ValueError(
        f"{model.name}: the template {template!r} with {tokens} pseudo-tokens does not fit the "
        f"tokenizer, or its context of {len(nothing)} tokens."
    )


def _pooled_row(text: nn.Module, ids: torch.Tensor) -> int:
    """The row of the last layer that becomes the embedding."""
    kind = getattr(text, "pool_type", None) or text.text_pool_type
    if kind == "eos":
        end = text.eos_id if hasattr(text, "eos_id") else text.text_eos_id
        return int((ids == end).int().argmax())
    return {"first": 0, "last": len(ids) - 1, "argmax": int(ids.argmax())}.get(kind, -1)


def _sentence(model: Model, template: str, tokens: int) -> tuple[nn.Module, _Words]:
    """The text tower and the template's words; a model that cannot be inverted is refused."""
    text, words = _text_tower(model), _words(model, template, tokens)
    _check_pooling(model, text, words)
    return text, words


def _check_pooling(model: Model, text: nn.Module, words: _Words) -> None:
    """Refuse a model whose embedding cannot depend on the pseudo-tokens."""
    row = _pooled_row(text, words.ids)
    if row < 0 or (text.attn_mask is not None and row < words.first):
        raise ValueError(f"{model.name}: what the text encoder pools sees no pseudo-tokens.")


def _text_encoder(
    text: nn.Module, words: _Words, where: torch.device, dtype: torch.dtype
) -> Callable:
    """pseudo-tokens (n, tokens, width) -> text embeddings (n, d), not normalised."""
    row, causal = _pooled_row(text, words.ids), text.attn_mask is not None
    length = row + 1 if causal else len(words.ids)
    embedded = text.token_embedding.weight[
        words.ids[:length].to(text.token_embedding.weight.device)
    ]
    position = text.positional_embedding[:length].to(where, dtype)
    sequence = embedded.to(where, dtype)[None] + position
    front, slots = sequence[:, : words.first], position[words.first : words.stop]
    behind = sequence[:, words.stop :]
    constant = words.first if causal else 0  # rows that are the same for every item
    mask = torch.ones(length, length, device=where).tril().bool() if causal else None
    blocks = [_Block(block, where, dtype) for block in text.transformer.resblocks]
    if constant:
        before = front
        for block in blocks:
            after = block(before, mask[:constant, :constant])
            block.follow(before)
            before = after
        mask = mask[constant:]
    head = [] if constant else [front]
    final, project = _end(text.ln_final, text.text_projection, where, dtype)

    def encode(tokens: torch.Tensor) -> torch.Tensor:
        n = len(tokens)
        parts = [*(part.expand(n, -1, -1) for part in head), tokens + slots]
        x = torch.cat([*parts, behind.expand(n, -1, -1)], dim=1)
        for block in blocks[:-1]:
            x = block(x, mask)
        return project(final(blocks[-1](x, mask, row - constant)[:, 0]))

    return encode


def _end(norm: nn.Module, projection, where: torch.device, dtype: torch.dtype) -> tuple:
    """A tower's last normalisation, and its projection as a function."""
    norm = copy.deepcopy(norm).to(where, dtype)
    if projection is None:
        return norm, nn.Identity()
    if isinstance(projection, nn.Linear):
        return norm, copy.deepcopy(projection).to(where, dtype)
    matrix = projection.detach().to(where, dtype)
    return norm, lambda x: x @ matrix


# Image encoder ------------------------------------------------------------------------------------


def _grid(model: Model) -> tuple[int, int]:
    """Number of patches and their width."""
    visual = model.clip.visual
    if isinstance(visual, VisionTransformer):
        return math.prod(visual.grid_size), visual.conv1.out_channels
    trunk = getattr(visual, "trunk", None)  # timm's
    if hasattr(trunk, "patch_embed") and hasattr(trunk, "blocks"):
        return trunk.patch_embed.num_patches, trunk.embed_dim
    raise ValueError(
        f"{model.name}: visual inversion needs an image encoder that is a vision transformer "
        f"(ViT); this one is a {type(visual).__name__}."
    )


def _image_encoder(
    model: Model, tokens: int, patches: int, where: torch.device, dtype: torch.dtype
) -> Callable:
    """pseudo-patches (n, tokens, width) -> image embeddings (n, d), not normalised."""
    spread = functional.interpolate(torch.arange(float(tokens)).view(1, 1, -1), size=patches)
    spread = spread.flatten().long().to(where)  # which pseudo-patch stands at each patch
    visual = model.clip.visual
    kind = _class_token_encoder if pools_class_token(visual) else _whole_encoder
    encode = kind(visual, where, dtype)
    return lambda w: encode(w[:, spread])


def _class_token_encoder(visual: nn.Module, where: torch.device, dtype: torch.dtype) -> Callable:
    """patch embeddings (n, patches, width) -> image embeddings, where the class token is pooled."""
    blocks = [_Block(block, where, dtype) for block in visual.transformer.resblocks]
    first = visual.class_embedding.detach().to(where, dtype).view(1, 1, -1)
    position = visual.positional_embedding.detach().to(where, dtype)
    norm = copy.deepcopy(visual.ln_pre).to(where, dtype)
    final, project = _end(visual.ln_post, visual.proj, where, dtype)

    def encode(patches: torch.Tensor) -> torch.Tensor:
        x = torch.cat([first.expand(len(patches), -1, -1), patches], dim=1)
        x = norm(x + position)
        for block in blocks[:-1]:
            x = block(x, None)
        return project(final(blocks[-1](x, None, row=0)[:, 0]))

    return encode


def _whole_encoder(visual: nn.Module, where: torch.device, dtype: torch.dtype) -> Callable:
    """The same for any other ViT: its own code, behind the patch embedding."""
    visual = copy.deepcopy(visual).to(where, dtype).requires_grad_(False)
    if not hasattr(visual, "trunk"):
        visual.conv1.forward = lambda patches: patches
        return lambda patches: visual(patches.transpose(1, 2))
    stem = visual.trunk.patch_embed
    stem.forward = lambda patches: patches
    # timm's models for images of any size expect the patches' rows and columns.
    as_grid = getattr(visual.trunk, "dynamic_img_size", False)
    return lambda patches: visual(patches.unflatten(1, stem.grid_size) if as_grid else patches)

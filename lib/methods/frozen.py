"""The two encoders as functions of what an inversion searches: exact, with all weights frozen.

They give the embeddings of the model's own code (tested in float64), and leave out what cannot
change the result:
- the gradients of weights;
- under a causal mask, the tokens after the end token, which nothing sees;
- the words before the pseudo-tokens, which never change: their keys and values are computed once;
- in the last layer, every row but the one that is pooled.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from open_clip.transformer import QuickGELU, VisionTransformer
from torch import nn
from torch.nn import functional

from lib.encoders.towers import Model, is_plain, pools_class_token

STAND_INS = ("£", "*", "the")  # one token each: the paper's, and others where a tokenizer splits it

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
        """Put `before` (1, p, width), the same for every item, in front of all tokens.

        Attention is causal: what is in front never sees the tokens, so that its keys and values
        are constants.
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
class Words:
    """A template's token ids (context,), and where its pseudo-tokens begin and end."""

    ids: torch.Tensor
    first: int
    stop: int


def text_tower(model: Model) -> nn.Module:
    """Where the text encoder is: the model itself (CLIP), or a part of it (CustomTextCLIP)."""
    text = getattr(model.clip, "text", model.clip)
    plain = is_plain(getattr(text, "transformer", None))
    if not plain or getattr(text, "cls_emb", None) is not None:
        raise ValueError(
            f"{model.name}: textual inversion needs a text encoder that is open_clip's own "
            "transformer, without a class token; this one is not."
        )
    return text


def _words(model: Model, template: str, tokens: int) -> Words:
    """The positions of the pseudo-tokens, found with a placeholder word of one token.

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
            return Words(ids, at[0], at[0] + tokens)
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


def sentence(model: Model, template: str, tokens: int) -> tuple[nn.Module, Words]:
    """The text tower and the template's words; a model that cannot be inverted is refused."""
    text, words = text_tower(model), _words(model, template, tokens)
    _check_pooling(model, text, words)
    return text, words


def _check_pooling(model: Model, text: nn.Module, words: Words) -> None:
    """Refuse a model whose embedding cannot depend on the pseudo-tokens."""
    row = _pooled_row(text, words.ids)
    if row < 0 or (text.attn_mask is not None and row < words.first):
        raise ValueError(f"{model.name}: what the text encoder pools sees no pseudo-tokens.")


def text_encoder(
    text: nn.Module, words: Words, where: torch.device, dtype: torch.dtype
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


def patch_grid(model: Model) -> tuple[int, int]:
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


def image_encoder(
    model: Model, tokens: int, patches: int, where: torch.device, dtype: torch.dtype
) -> Callable:
    """pseudo-patches (n, tokens, width) -> image embeddings (n, d), not normalised."""
    spread = functional.interpolate(torch.arange(float(tokens)).view(1, 1, -1), size=patches)
    spread = spread.flatten().long().to(where)  # the pseudo-patch at each patch
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
        visual.output_tokens = False  # a CoCa's gives its tokens beside the embedding
        return lambda patches: visual(patches.transpose(1, 2))
    stem = visual.trunk.patch_embed
    stem.forward = lambda patches: patches
    # timm's models for images of any size expect the patches' rows and columns.
    as_grid = getattr(visual.trunk, "dynamic_img_size", False)
    return lambda patches: visual(patches.unflatten(1, stem.grid_size) if as_grid else patches)

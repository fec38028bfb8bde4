"""Image and text encoders over open_clip, and the short way through their last layer.

A loaded model is built when something is encoded with it: open_clip takes seconds to import, and
where all embeddings are on the disk, nobody needs it.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from PIL import Image
from torch.nn import functional

BATCH_IMAGES, BATCH_TEXTS = 64, 256  # encoded at a time; fixed, so that results do not depend on it
ALIKE = 64  # texts of about one length that go through the tower together


class Parts(NamedTuple):
    """What open_clip makes of a model's files: see the attributes of `Model`."""

    clip: torch.nn.Module
    preprocess: Callable
    tokenizer: Callable


@dataclass(frozen=True)
class Model:
    """An image encoder and a text encoder that share a space of d dimensions.

    Attributes:
        name: name in the registry, or as it was asked for.
        fingerprint: SHA-256 over configuration, weights and tokenizer.
        logit_scale: factor of the cosines in the softmax (1 / temperature).
        device: where it computes.
        build: makes the parts, at the first use of one of them.
        normalisation: "image" and "text" -> a layer on the L2-normalised embedding, which is
            L2-normalised again (I0T_async, I0T section 4.2); empty for most models.
        parameters: how many numbers open_clip's module learned.
        clip: the open_clip module: eval mode, float32, no gradients.
        preprocess: PIL image -> tensor (3, height, width), as the model's configuration says.
        tokenizer: list of strings -> LongTensor (n, context length).

    The first use of the last three raises ValueError if the model's files do not fit each other.
    """

    name: str
    fingerprint: str
    logit_scale: float
    device: torch.device
    build: Callable[[], Parts]
    normalisation: torch.nn.ModuleDict = field(default_factory=torch.nn.ModuleDict)
    parameters: int = 0

    @functools.cached_property
    def _parts(self) -> Parts:
        parts = self.build()
        if self.device.type == "cuda":
            # float32 means float32. TensorFloat-32 keeps 10 of its 23 bits: PyTorch uses it in
            # convolutions unless told not to, and in matrix products where somebody said so.
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        clip = parts.clip.float().eval().requires_grad_(False).to(self.device)
        return parts._replace(clip=clip)

    @property
    def clip(self) -> torch.nn.Module:
        return self._parts.clip

    @property
    def preprocess(self) -> Callable:
        return self._parts.preprocess

    @property
    def tokenizer(self) -> Callable:
        return self._parts.tokenizer

    @functools.cached_property
    def dimensions(self) -> int:
        """How many the embeddings have."""
        return self.encode_text(["a"]).shape[1]

    def encode_image(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """PIL images -> embeddings (n, d): float32, CPU, L2-normalised.

        Raises: ValueError if there is none, or an embedding is not finite.
        """

        def encode(batch: Sequence[Image.Image]) -> torch.Tensor:
            return encode_pixels(self.clip, self.pixels(batch).to(self.device))

        return self._encode(images, "image", BATCH_IMAGES, encode)

    def pixels(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """PIL images -> what the image encoder takes, (n, 3, height, width)."""
        return torch.stack([self.preprocess(image) for image in images])

    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """The embeddings of `encode_image`, from what `pixels` made of the images."""

        def encode(batch: torch.Tensor) -> torch.Tensor:
            return encode_pixels(self.clip, batch.to(self.device))

        return self._encode(pixels, "image", BATCH_IMAGES, encode)

    def encode_text(self, texts: Sequence[str]) -> torch.Tensor:
        """Texts -> embeddings (n, d): float32, CPU, L2-normalised.

        A text that is longer than the context is cut, and keeps its end token.

        Raises: ValueError if there is none, or an embedding is not finite.
        """

        def encode(batch: Sequence[str]) -> torch.Tensor:
            return encode_tokens(self.clip, self.tokenizer(list(batch)).to(self.device))

        return self._encode(texts, "text", BATCH_TEXTS, encode)

    def _encode(self, items: Sequence, kind: str, size: int, encode: Callable) -> torch.Tensor:
        if isinstance(items, str) or not len(items):
            raise ValueError(f"Give a list of at least one {kind} to encode.")
        with torch.no_grad():
            parts = [encode(items[i : i + size]).float().cpu() for i in range(0, len(items), size)]
        embeddings = functional.normalize(torch.cat(parts), dim=-1)
        if kind in self.normalisation:
            embeddings = functional.normalize(self.normalisation[kind](embeddings), dim=-1)
        if not embeddings.isfinite().all():
            row = int((~embeddings.isfinite()).any(dim=1).nonzero()[0, 0])
            raise ValueError(f"{self.name} gives no finite embedding of {kind} {row}.")
        return embeddings


def encode_pixels(clip: torch.nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Preprocessed images (n, 3, height, width) -> image embeddings (n, d), not normalised.

    What `clip.encode_image` gives, sooner: where the class token is pooled, of the last layer only
    its row is computed.
    """
    visual = clip.visual
    if not pools_class_token(visual) or visual.output_tokens:
        return clip.encode_image(pixels)
    x = visual.conv1(pixels).flatten(2).transpose(1, 2)
    first = visual.class_embedding.expand(len(x), 1, -1)
    x = visual.ln_pre(torch.cat([first, x], dim=1) + visual.positional_embedding)
    x = visual.ln_post(_one_row(visual.transformer, x, x.new_zeros(len(x), dtype=torch.long)))
    return x if visual.proj is None else x @ visual.proj


def encode_tokens(clip: torch.nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """Token ids (n, context length) -> text embeddings (n, d), not normalised.

    The same as `clip.encode_text`, but faster. In a causal tower, nothing sees the columns after
    the end token (in CLIP, the highest id), so they are cut. The last layer computes only the end
    token's row.
    """
    causal = getattr(clip, "attn_mask", None) is not None
    ends = getattr(clip, "text_pool_type", None) == "argmax"
    if not causal or not ends or not is_plain(clip.transformer):
        return clip.encode_text(tokens)
    end = tokens.argmax(1)
    order = end.argsort(stable=True)
    parts = [encode_cut(clip, tokens[o, : end[o[-1]] + 1]) for o in order.split(ALIKE)]
    return torch.cat(parts)[order.argsort()]


def encode_cut(clip: torch.nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """The same for the first columns of all texts, behind which no text has its end token."""
    n = tokens.shape[1]
    x = clip.token_embedding(tokens) + clip.positional_embedding[:n]
    x = clip.ln_final(_one_row(clip.transformer, x, tokens.argmax(1), clip.attn_mask[:n, :n]))
    project = clip.text_projection
    if project is None:
        return x
    return project(x) if isinstance(project, torch.nn.Linear) else x @ project


def _one_row(
    transformer: torch.nn.Module,
    x: torch.Tensor,
    row: torch.Tensor,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Of what a plain transformer makes of x (n, t, width), a row (n,) each: (n, width)."""
    *blocks, last = transformer.resblocks
    for block in blocks:
        x = block(x, attn_mask=mask)
    at, normed = (torch.arange(len(x), device=x.device), row), last.ln_1(x)
    if mask is not None:  # one for each item and head
        mask = mask[row].repeat_interleave(last.attn.num_heads, dim=0)[:, None]
    seen = last.attention(normed[at][:, None], normed, normed, attn_mask=mask)[:, 0]
    x = x[at] + last.ls_1(seen)
    return x + last.ls_2(last.mlp(last.ln_2(x)))


def is_plain(transformer: object) -> bool:
    """Whether this is open_clip's transformer, of its ordinary blocks, items first."""
    from open_clip.transformer import ResidualAttentionBlock, Transformer

    return (
        isinstance(transformer, Transformer)
        and transformer.batch_first
        and all(type(block) is ResidualAttentionBlock for block in transformer.resblocks)
    )


def pools_class_token(visual: object) -> bool:
    """Whether this is open_clip's plain vision transformer, whose class token is the embedding."""
    from open_clip.transformer import VisionTransformer

    return (
        isinstance(visual, VisionTransformer)
        and visual.pool_type == "tok"
        and visual.attn_pool is None
        and is_plain(visual.transformer)
    )

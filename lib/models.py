"""Encoders by name, through one interface over open_clip.

Weights are read from safetensors only. Public models come from the Hugging Face hub at a fixed
commit, as a folder in open_clip's format, which `local-dir:` loads with its own preprocessing.

A loaded model is built when something is encoded with it: open_clip takes seconds to import, and
where all embeddings are on the disk, nobody needs it.
"""

import argparse
import functools
import hashlib
import json
import logging
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch.nn import functional

from lib import hub, names, paths, profile
from lib.hub import NotAvailable

CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"
PICKLE = "open_clip_pytorch_model.bin"
NORMALISATION = "normalisation.safetensors"  # ours: I0T's last layers, where a model has them
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "spiece.model",
)
BATCH_IMAGES, BATCH_TEXTS = 64, 256  # encoded at a time; fixed, so that results do not depend on it
ALIKE = 64  # texts of about one length that go through the tower together


@dataclass(frozen=True)
class Spec:
    """Where a model is: a folder, or open_clip's (architecture, pretrained tag) and a commit.

    Attributes:
        folder: a folder in open_clip's format.
        arch, tag: open_clip's names; its table says which hub repository the tag stands for.
        revision: commit of that repository.
        trained: False for the randomly initialised twin of the architecture.
        pickle_sha256: of weights that are published as a PyTorch pickle only (see `convert`).
    """

    folder: Path | None = None
    arch: str = ""
    tag: str = ""
    revision: str = ""
    trained: bool = True
    pickle_sha256: str = ""

    @property
    def repo(self) -> str:
        return self._tag_config()["hf_hub"].rstrip("/")

    @property
    def quick_gelu(self) -> bool:
        """Whether the weights of the tag were trained with QuickGELU."""
        return self._tag_config().get("quick_gelu", False)

    def _tag_config(self) -> dict:
        import open_clip

        return open_clip.get_pretrained_cfg(self.arch, self.tag)


# Those of the default profile are the folders of `models/`; the others are downloaded.
MINI = profile.load(profile.FULL).models.values()
REGISTRY: dict[str, Spec] = {name: Spec(folder=paths.MODELS / name) for name in MINI} | {
    "openai-vit-b-32": Spec(
        arch="ViT-B-32-quickgelu",
        tag="openai",
        revision="a6f597a30f7b82c51704746581f9a4e41421e878",
    ),
    "openai-vit-b-32-untrained": Spec(arch="ViT-B-32-quickgelu", tag="openai", trained=False),
    "openai-vit-l-14": Spec(
        arch="ViT-L-14-quickgelu",
        tag="openai",
        revision="18d0535469bb561bf468d76c1d73aa35156c922b",
    ),
    "openai-rn50": Spec(
        arch="RN50-quickgelu",
        tag="openai",
        revision="ec3d92cf63a5f9d591f0d611b736895966c73076",
    ),
    "datacomp-vit-b-32": Spec(
        arch="ViT-B-32",
        tag="datacomp_xl_s13b_b90k",
        revision="f0e2ffa09cbadab3db6a261ec1ec56407ce42912",
    ),
    "datacomp-vit-l-14": Spec(
        arch="ViT-L-14",
        tag="datacomp_xl_s13b_b90k",
        revision="84c9828e63dc9a9351d1fe637c346d4c1c4db341",
        pickle_sha256="6509f07e6fc0da68f8e1ee881bf90803f0b053d2f7ed2013cc7c3a49ac4dd3db",
    ),
    "siglip-vit-b-16": Spec(
        arch="ViT-B-16-SigLIP",
        tag="webli",
        revision="41f575766f40e752fdd1383e9565b7f02388c1c4",
    ),
}


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

    @functools.cached_property
    def _parts(self) -> Parts:
        parts = self.build()
        if self.device.type == "cuda":
            torch.backends.cudnn.allow_tf32 = False  # float32 means float32, in convolutions too
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

    What `clip.encode_text` gives, sooner: in a causal tower nothing sees the columns behind the end
    token (the highest id, CLIP's way), so they are cut, from short texts more than from long ones;
    of the last layer, only the end token's row is computed.
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


def load(name: str, device: str | None = None) -> Model:
    """A model of REGISTRY, or your own: `local-dir:FOLDER` or `hf-hub:REPOSITORY@COMMIT`.

    A folder or repository must hold open_clip_config.json (with model_cfg, and preprocess_cfg with
    mean and std) and open_clip_model.safetensors; with text_cfg.hf_tokenizer_name set, a Hugging
    Face tokenizer too. `device` defaults to CUDA where there is one, except for models from a
    folder, whose results must not depend on the machine.

    Raises: ValueError for an unknown name or a folder in another format; NotAvailable if the model
    has not been trained or cannot be downloaded.
    """
    spec = REGISTRY.get(name)
    from_hub = name.startswith("hf-hub:") or (spec and spec.arch)
    device = device or ("cuda" if from_hub and torch.cuda.is_available() else "cpu")
    if spec and not spec.trained:
        return _untrained(name, spec, torch.device(device))
    folder = _folder(name, spec)
    if spec and spec.arch:
        _check_activation(name, spec, folder)
    return _load_folder(name, folder, torch.device(device))


def _folder(name: str, spec: Spec | None) -> Path:
    """The folder that holds a model, downloaded if need be."""
    if spec and spec.folder:
        if not (spec.folder / CONFIG).is_file() or not (spec.folder / WEIGHTS).is_file():
            raise NotAvailable(
                f"The model {name} is not in {spec.folder}: train it by "
                f"`./run_all.sh --retrain {name}`."
            )
        return spec.folder
    if spec and spec.pickle_sha256:
        folder = _converted(name)
        if not (folder / WEIGHTS).is_file():
            raise NotAvailable(
                f"{name} is published as a PyTorch pickle only, which is not loaded: "
                f"`python -m lib.models --convert {name}` checks it and rewrites it as safetensors."
            )
        return folder
    if spec:
        return hub.fetch(spec.repo, spec.revision, [CONFIG, WEIGHTS], also=TOKENIZER)
    if name.startswith("local-dir:"):
        return Path(name.removeprefix("local-dir:")).expanduser().resolve()
    if name.startswith("hf-hub:"):
        repo, _, revision = name.removeprefix("hf-hub:").partition("@")
        if revision and not re.fullmatch("[0-9a-f]{40}", revision):
            raise ValueError(f"{name}: after @ comes a commit, 40 hexadecimal digits.")
        return hub.fetch(repo, revision or None, [CONFIG, WEIGHTS], also=TOKENIZER)
    known = [*REGISTRY, "local-dir:FOLDER", "hf-hub:REPOSITORY@COMMIT"]
    raise ValueError(names.unknown("model", name, known))


def _config(name: str, folder: Path) -> dict:
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise ValueError(f"{name}: {folder} must hold {CONFIG} and {WEIGHTS}.")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{name}: {folder / CONFIG} is not valid JSON ({error}).") from error
    # Without them open_clip falls back to CLIP's preprocessing and says nothing.
    if not {"mean", "std"} <= set(config.get("preprocess_cfg", ())) or "model_cfg" not in config:
        raise ValueError(
            f"{name}: {CONFIG} must have model_cfg, and preprocess_cfg with mean, std."
        )
    return config


def _check_activation(name: str, spec: Spec, folder: Path) -> None:
    """Refuse a configuration whose activation is not the one the weights were trained with.

    The wrong one makes no error, only bad embeddings, and open_clip at most warns.
    """
    found = _config(name, folder)["model_cfg"].get("quick_gelu", False)
    if found != spec.quick_gelu:
        raise ValueError(
            f"{name}: {CONFIG} says quick_gelu = {found}, but the weights were trained with "
            f"quick_gelu = {spec.quick_gelu}."
        )


def _load_folder(name: str, folder: Path, device: torch.device) -> Model:
    own = bool(_config(name, folder)["model_cfg"]["text_cfg"].get("hf_tokenizer_name"))
    try:
        with safe_open(folder / WEIGHTS, "pt") as file:
            scale = file.get_tensor("logit_scale").float().exp().item()
    except SafetensorError as error:
        raise ValueError(_misfit(name, WEIGHTS, error)) from error
    files = [CONFIG, WEIGHTS, NORMALISATION, *(TOKENIZER if own else ())]
    return Model(
        name,
        _hash_files(folder, files),
        scale,
        device,
        functools.partial(_build, name, folder, own),
        _normalisation(name, folder),
    )


def _build(name: str, folder: Path, own_tokenizer: bool) -> Parts:
    import open_clip

    options = {"trust_remote_code": False} if own_tokenizer else {}
    try:
        clip, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    except (RuntimeError, ValueError, TypeError, SafetensorError) as error:
        raise ValueError(_misfit(name, f"{WEIGHTS} and {CONFIG}", error)) from error
    try:
        tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}", **options)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(_misfit(name, "the tokenizer's files", error)) from error
    return Parts(clip, preprocess, tokenizer)


def normalisation(kind: str, d: int) -> torch.nn.ModuleDict:
    """I0T's last layers: a "batch" or "layer" normalisation of d dimensions for each modality.

    Source: I0T section 4.2 and its code (model/model_longcyclip.py).
    """
    layer = {"batch": torch.nn.BatchNorm1d, "layer": torch.nn.LayerNorm}[kind]
    return torch.nn.ModuleDict({modality: layer(d) for modality in ("image", "text")})


def _normalisation(name: str, folder: Path) -> torch.nn.ModuleDict:
    if not (folder / NORMALISATION).is_file():
        return torch.nn.ModuleDict()
    try:
        with safe_open(folder / NORMALISATION, "pt") as file:
            kind = file.metadata()["kind"]
        weights = safetensors.torch.load_file(folder / NORMALISATION)
        layers = normalisation(kind, len(weights["image.weight"]))
        layers.load_state_dict(weights)
    except (RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError(_misfit(name, NORMALISATION, error)) from error
    return layers.eval().requires_grad_(False)


def _misfit(name: str, what: str, error: Exception) -> str:
    reason = " ".join(str(error).split())[:300]
    return f"{name}: {what} are damaged or do not fit each other ({reason})."


def _untrained(name: str, spec: Spec, device: torch.device) -> Model:
    import open_clip

    logging.disable(logging.WARNING)  # open_clip warns that there are no weights: that is meant
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            clip, _, preprocess = open_clip.create_model_and_transforms(spec.arch)
    finally:
        logging.disable(logging.NOTSET)
    digest = hashlib.sha256(spec.arch.encode())
    for key, value in sorted(clip.state_dict().items()):
        digest.update(key.encode() + value.contiguous().numpy().tobytes())
    parts = Parts(clip, preprocess, open_clip.get_tokenizer(spec.arch))
    scale = clip.logit_scale.float().exp().item()
    return Model(name, digest.hexdigest(), scale, device, lambda: parts)


def _hash_files(folder: Path, files: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for file in files:
        if (folder / file).is_file():
            digest.update(f"{file} {_sha256(folder / file)}\n".encode())
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _converted(name: str) -> Path:
    return paths.CACHE / "models" / name


def convert(name: str) -> Path:
    """Rewrite weights that are published as a PyTorch pickle only as safetensors, in the cache.

    The file's SHA-256 must be the one in REGISTRY, and only tensors are read from it
    (`weights_only`), so no code in it can run.

    Raises: ValueError if the model needs no conversion; NotAvailable if it cannot be downloaded or
    is another file.
    """
    spec = REGISTRY.get(name)
    if spec is None or not spec.pickle_sha256:
        known = [key for key, value in REGISTRY.items() if value.pickle_sha256]
        raise ValueError(names.unknown("model to convert", name, known))
    source = hub.fetch(spec.repo, spec.revision, [CONFIG, PICKLE], also=TOKENIZER)
    if _sha256(source / PICKLE) != spec.pickle_sha256:
        raise NotAvailable(f"{source / PICKLE} is not the published file: its SHA-256 differs.")
    tensors = torch.load(source / PICKLE, map_location="cpu", weights_only=True)
    target = _converted(name)
    target.mkdir(parents=True, exist_ok=True)
    for file in (CONFIG, *TOKENIZER):
        if (source / file).is_file():
            (target / file).write_bytes((source / file).read_bytes())
    with tempfile.TemporaryDirectory(dir=target) as temporary:
        tensors = {key: value.contiguous() for key, value in tensors.items()}
        safetensors.torch.save_file(tensors, Path(temporary) / WEIGHTS)
        os.replace(Path(temporary) / WEIGHTS, target / WEIGHTS)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lib.models", description=convert.__doc__)
    parser.add_argument("--convert", metavar="NAME", required=True, help="model of the registry")
    try:
        print(convert(parser.parse_args().convert))
    except (ValueError, NotAvailable) as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()

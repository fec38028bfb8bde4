"""Encoders by name, through one interface over open_clip.

Weights are read from safetensors only. Public models come from the Hugging Face hub at a fixed
commit, as a folder in open_clip's format, which `local-dir:` loads with its own preprocessing.
"""

import argparse
import functools
import hashlib
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from lib import files, paths, profiles, suggestions
from lib.encoders import download
from lib.encoders.download import NotAvailable
from lib.encoders.towers import Model, Parts

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


@dataclass(frozen=True)
class Spec:
    """Where a model is: a folder, or open_clip's (architecture, pretrained tag) and a commit.

    Attributes:
        folder: a folder in open_clip's format.
        arch, tag: open_clip's names; its table says which hub repository the tag stands for.
        revision: commit of that repository.
        trained: False for the randomly initialised twin of the architecture.
        pickle_sha256: of weights that are published as a PyTorch pickle only (see `convert`).
        parameters: of the architecture, counted from open_clip's configuration (0: unknown); as
            float32, weights are four bytes each.
    """

    folder: Path | None = None
    arch: str = ""
    tag: str = ""
    revision: str = ""
    trained: bool = True
    pickle_sha256: str = ""
    parameters: int = 0

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
MINI = profiles.load(profiles.FULL).models.values()
REGISTRY: dict[str, Spec] = {name: Spec(folder=paths.MODELS / name) for name in MINI} | {
    "openai-vit-b-32": Spec(
        arch="ViT-B-32-quickgelu",
        tag="openai",
        revision="a6f597a30f7b82c51704746581f9a4e41421e878",
        parameters=151_277_313,
    ),
    "openai-vit-b-32-untrained": Spec(
        arch="ViT-B-32-quickgelu",
        tag="openai",
        trained=False,
        parameters=151_277_313,
    ),
    "openai-vit-l-14": Spec(
        arch="ViT-L-14-quickgelu",
        tag="openai",
        revision="18d0535469bb561bf468d76c1d73aa35156c922b",
        parameters=427_616_513,
    ),
    "openai-rn50": Spec(
        arch="RN50-quickgelu",
        tag="openai",
        revision="ec3d92cf63a5f9d591f0d611b736895966c73076",
        parameters=102_007_137,
    ),
    "datacomp-vit-b-32": Spec(
        arch="ViT-B-32",
        tag="datacomp_xl_s13b_b90k",
        revision="f0e2ffa09cbadab3db6a261ec1ec56407ce42912",
        parameters=151_277_313,
    ),
    "datacomp-vit-l-14": Spec(
        arch="ViT-L-14",
        tag="datacomp_xl_s13b_b90k",
        revision="84c9828e63dc9a9351d1fe637c346d4c1c4db341",
        parameters=427_616_513,
        pickle_sha256="6509f07e6fc0da68f8e1ee881bf90803f0b053d2f7ed2013cc7c3a49ac4dd3db",
    ),
    "siglip-vit-b-16": Spec(
        arch="ViT-B-16-SigLIP",
        tag="webli",
        revision="41f575766f40e752fdd1383e9565b7f02388c1c4",
        parameters=203_155_970,
    ),
}


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
                f"`python -m lib.encoders.registry --convert {name}` checks it and rewrites it as "
                "safetensors."
            )
        return folder
    if spec:
        return download.fetch(spec.repo, spec.revision, [CONFIG, WEIGHTS], also=TOKENIZER)
    if name.startswith("local-dir:"):
        return Path(name.removeprefix("local-dir:")).expanduser().resolve()
    if name.startswith("hf-hub:"):
        repo, _, revision = name.removeprefix("hf-hub:").partition("@")
        if not re.fullmatch("[0-9a-f]{40}", revision):
            raise ValueError(
                f"{name}: name the commit, {repo}@ and 40 hexadecimal digits, so that it stays the "
                "same model."
            )
        return download.fetch(repo, revision, [CONFIG, WEIGHTS], also=TOKENIZER)
    known = [*REGISTRY, "local-dir:FOLDER", "hf-hub:REPOSITORY@COMMIT"]
    raise ValueError(suggestions.unknown("model", name, known))


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
    parts = [CONFIG, WEIGHTS, NORMALISATION, *(TOKENIZER if own else ())]
    return Model(
        name,
        _hash_files(folder, parts),
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


def _hash_files(folder: Path, names: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for file in names:
        if (folder / file).is_file():
            digest.update(f"{file} {files.sha256_of(folder / file)}\n".encode())
    return digest.hexdigest()


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
        raise ValueError(suggestions.unknown("model to convert", name, known))
    source = download.fetch(spec.repo, spec.revision, [CONFIG, PICKLE], also=TOKENIZER)
    if files.sha256_of(source / PICKLE) != spec.pickle_sha256:
        raise NotAvailable(f"{source / PICKLE} is not the published file: its SHA-256 differs.")
    tensors = torch.load(source / PICKLE, map_location="cpu", weights_only=True)
    target = _converted(name)
    with files.put(target) as part:
        part.mkdir()
        for file in (CONFIG, *TOKENIZER):
            if (source / file).is_file():
                (part / file).write_bytes((source / file).read_bytes())
        tensors = {key: value.contiguous() for key, value in tensors.items()}
        safetensors.torch.save_file(tensors, part / WEIGHTS)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m lib.encoders.registry", description=convert.__doc__
    )
    parser.add_argument("--convert", metavar="NAME", required=True, help="model of the registry")
    try:
        print(convert(parser.parse_args().convert))
    except (ValueError, NotAvailable) as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()

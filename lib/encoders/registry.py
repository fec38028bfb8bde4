"""Encoders by name, through one interface over open_clip.

Weights are read from safetensors only. Public models come from the Hugging Face hub at a fixed
commit, as a folder in open_clip's format, which `local-dir:` loads with its own preprocessing; BLIP
comes in the format of transformers (`lib.encoders.blip`).
"""

import argparse
import functools
import hashlib
import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from lib import files, paths, profiles, suggestions
from lib.encoders import blip, download
from lib.encoders.download import NotAvailable
from lib.encoders.formats import TOKENIZER
from lib.encoders.towers import Model, Parts

CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"
PICKLE = "open_clip_pytorch_model.bin"
UNTRAINED = "-untrained"  # behind the name of the user's own model: its architecture, drawn anew
NORMALISATION = "normalisation.safetensors"  # ours: I0T's last layers, where a model has them


@dataclass(frozen=True)
class Spec:
    """Where a model is: a folder, or a repository of the hub and a commit.

    Attributes:
        folder: a folder in open_clip's format.
        how: what to do where the folder is not there; by default, to train it.
        arch, tag: open_clip's names; its table gives the hub repository of the tag.
        blip: repository of a BLIP in the format of transformers.
        revision: commit of the repository; empty: that of its first use here (`download.present`).
        trained: False for the randomly initialised twin of the architecture.
        pickle_sha256: of weights that are published as a PyTorch pickle only (see `convert`).
        parameters: of the architecture, counted from open_clip's configuration (0: unknown); as
            float32, weights are four bytes each.
        note: what a reader of its findings has to know, as sentences.
    """

    folder: Path | None = None
    how: str = ""
    arch: str = ""
    tag: str = ""
    blip: str = ""
    revision: str = ""
    trained: bool = True
    pickle_sha256: str = ""
    parameters: int = 0
    note: str = ""

    @property
    def repo(self) -> str:
        return self.blip or self._tag_config()["hf_hub"].rstrip("/")

    @property
    def files(self) -> tuple[list[str], str, str]:
        """What a model has besides its weights, and names of the weights: safe, and as a pickle."""
        if self.blip:
            return [*blip.FILES], blip.WEIGHTS, blip.PICKLE
        return [CONFIG], WEIGHTS, PICKLE

    @property
    def quick_gelu(self) -> bool:
        """Whether the weights of the tag were trained with QuickGELU."""
        return self._tag_config().get("quick_gelu", False)

    def _tag_config(self) -> dict:
        import open_clip

        return open_clip.get_pretrained_cfg(self.arch, self.tag)


def _commonpool(filter_: str) -> Spec:
    """A ViT-B/32 of DataComp's medium scale: one recipe and one pool, `filter_` chooses from it."""
    parts = ["commonpool_m", *filter(None, [filter_]), "s128m_b4k"]
    return Spec(arch="ViT-B-32", tag="_".join(parts), parameters=151_277_313)


def _aligned(name: str) -> Spec:
    """A ViT-B/16 of AlignCLIP's authors, with a text tower as wide as the image tower."""
    return Spec(
        arch="ViT-B-16",
        folder=converted(name),
        how="get its checkpoint from huggingface.co/sarahESL/AlignCLIP and run "
        f"`./run_all.sh --convert alignclip FILE --as {name}`",
        parameters=210_039_553,
    )


def _async(start: str) -> Spec:
    """I0T_async on a public model: its files, and the layers of `lib.methods.normalisation`."""
    return replace(
        REGISTRY[start],
        folder=paths.CACHE / "trained" / f"{start}-async",
        how="train it by `./run_all.sh --profile clip --train async`, with a profile of which "
        f"{start} is the main model",
        revision="",
        pickle_sha256="",
        note=f"I0T_async is trained here on {start} and short captions, without MCSIE; the paper's "
        "on LCCOM and long captions.",
    )


def converted(name: str) -> Path:
    """Where the folder is that a model of other weights was rewritten to."""
    return paths.CACHE / "converted" / name


# Those of the default profile are the folders of `models/`; the others are downloaded. A commit is
# given where public material shows that it holds safetensors, or a pickle and its SHA-256.
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
    "openai-vit-l-14-untrained": Spec(
        arch="ViT-L-14-quickgelu",
        tag="openai",
        trained=False,
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
    "openai-vit-b-16": Spec(
        arch="ViT-B-16-quickgelu",
        tag="openai",
        revision="977e3dd0ec55ab8da155f2fbeb6b5f54948b6e3d",
        parameters=149_620_737,
    ),
    "laion2b-vit-b-32": Spec(
        arch="ViT-B-32",
        tag="laion2b_s34b_b79k",
        revision="1a25a446712ba5ee05982a381eed697ef9b435cf",
        parameters=151_277_313,
    ),
    "metaclip-vit-b-32": Spec(
        arch="ViT-B-32-quickgelu",
        tag="metaclip_400m",
        parameters=151_277_313,
    ),
    "siglip2-vit-b-16": Spec(
        arch="ViT-B-16-SigLIP2",
        tag="webli",
        revision="eee10eff6dd8cabae2d7f379d4e8cfcd352030aa",
        parameters=375_187_970,
    ),
    "mobileclip2-s0": Spec(
        arch="MobileCLIP2-S0",
        tag="dfndr2b",
        revision="095906d28bf54d7584dc411e8ffe448f34289e05",
        parameters=74_835_073,
    ),
    # Tuned on COCO, it writes sentences like COCO's; the other tag of this CoCa writes the alt
    # texts of web pages. That tuning left the contrastive loss out.
    "coca-vit-b-32": Spec(
        arch="coca_ViT-B-32",
        tag="mscoco_finetuned_laion2b_s13b_b90k",
        parameters=253_560_065,
    ),
    "commonpool-m-vit-b-32": _commonpool(""),
    "commonpool-m-basic-vit-b-32": _commonpool("basic"),
    "commonpool-m-text-vit-b-32": _commonpool("text"),
    "commonpool-m-image-vit-b-32": _commonpool("image"),
    "commonpool-m-laion-vit-b-32": _commonpool("laion"),
    "commonpool-m-clip-vit-b-32": _commonpool("clip"),
    "sharedclip-vit-b-16": _aligned("sharedclip-vit-b-16"),
    "alignclip-vit-b-16": _aligned("alignclip-vit-b-16"),
    "blip-itm-coco": Spec(
        blip="Salesforce/blip-itm-base-coco",
        revision="bed8ad38cb2d04a5a4bdf2d071b3c3c0a4aa724c",
        parameters=223_744_258,
        pickle_sha256="017fb3e7f4e125f13a8a4717f1402dbe0d0bb877474b4a203db13a4447b0227f",
    ),
}

REGISTRY |= {f"{name}-async": _async(name) for name, s in REGISTRY.items() if s.tag and s.trained}


def load(name: str, device: str | None = None) -> Model:
    """A model of REGISTRY, or your own: `local-dir:FOLDER` or `hf-hub:REPOSITORY@COMMIT`.

    A folder or repository must hold open_clip_config.json (with model_cfg, and preprocess_cfg with
    mean and std) and open_clip_model.safetensors; with text_cfg.hf_tokenizer_name set, a Hugging
    Face tokenizer too. What `./run_all.sh --model` was given has the name of its profile, and with
    "-untrained" behind it, random weights. `device` defaults to CUDA where there is one, except for
    the small models of this repository, whose results must not depend on the machine.

    Raises: ValueError for an unknown name or a folder in another format; NotAvailable if the model
    has not been trained or cannot be downloaded.
    """
    spec = REGISTRY.get(name)
    shipped = name in MINI
    device = device or ("cpu" if shipped or not torch.cuda.is_available() else "cuda")
    if spec and not spec.trained:
        return _untrained(name, spec, torch.device(device))
    trained = name.removesuffix(UNTRAINED)
    if not spec and trained != name and own(trained):
        model = load(trained, device)
        parts = Parts(random_twin(trained, 0), model.preprocess, model.tokenizer)
        return _with_random_weights(name, parts, model.device)
    folder = _folder(name, spec)
    if spec and spec.arch:
        check_training(name, spec, folder)
    if spec and spec.blip:
        return _load_blip(name, folder, torch.device(device))
    return _load_folder(name, folder, torch.device(device))


def roles(p: profiles.Profile, labels: Mapping[str, str]) -> tuple[dict[str, list[str]], str]:
    """Role -> names of its model and its training seeds, of those that a profile has here.

    Args:
        labels: role -> what to call it, in the order of the result.

    Returns: the names, and a note on each role that the profile lacks, or whose model is not
        available ("" if there is none).
    """
    named = {role: p.seeds(role) for role in labels if role in p.models}
    every = [name for names in named.values() for name in names]
    here, missing = download.available(load, every)
    absent = [label for role, label in labels.items() if role not in named]
    if absent:
        missing = f"Profile {p.name} has no {' and no '.join(absent)}. {missing}".strip()
    found = {role: [name for name in names if name in here] for role, names in named.items()}
    return {role: names for role, names in found.items() if p.models[role] in names}, missing


def revision(name: str) -> str:
    """The commit that public weights come from; empty for others, and where it is not yet fixed."""
    spec = REGISTRY.get(name)
    if spec is None or spec.folder or not spec.trained or not (spec.arch or spec.blip):
        return ""
    return spec.revision or download.known(spec.repo)


def note(name: str | None) -> str:
    """What a reader of a model's findings has to know; empty for most, and for no model."""
    return REGISTRY[name].note if name in REGISTRY else ""


def own(name: str) -> Path | None:
    """The folder of the model that `./run_all.sh --model` gave this name; None if there is none."""
    there = profiles.own(name).is_file() and profiles.load(name).own
    return Path(there) if there else None


def folder(name: str) -> Path:
    """The folder of a model that `load` gives, downloaded if need be. Raises: as `load`."""
    return _folder(name, REGISTRY.get(name))


def _folder(name: str, spec: Spec | None) -> Path:
    """The folder that holds a model, downloaded if need be."""
    if spec and spec.folder:
        if not (spec.folder / CONFIG).is_file() or not (spec.folder / WEIGHTS).is_file():
            how = spec.how or f"train it by `./run_all.sh --retrain {name}`"
            raise NotAvailable(f"The model {name} is not here: {how}.")
        return spec.folder
    if spec:
        return _public(name, spec)
    if there := own(name):
        return there
    if name.startswith("local-dir:"):
        return Path(name.removeprefix("local-dir:")).expanduser().resolve()
    if name.startswith("hf-hub:"):
        return download.fetch(*pinned(name), [CONFIG, WEIGHTS], also=[*TOKENIZER, "config.json"])
    known = [*REGISTRY, "local-dir:FOLDER", "hf-hub:REPOSITORY@COMMIT"]
    raise ValueError(suggestions.unknown("model", name, known))


def pinned(name: str) -> tuple[str, str]:
    """Repository and commit of `hf-hub:REPOSITORY@COMMIT`. Raises: ValueError without a commit."""
    repo, _, commit = name.removeprefix("hf-hub:").partition("@")
    if not re.fullmatch("[0-9a-f]{40}", commit):
        raise ValueError(
            f"{name}: name the commit, {repo}@ and 40 hexadecimal digits, so that it stays the "
            "same model."
        )
    return repo, commit


def _public(name: str, spec: Spec) -> Path:
    """The folder of public weights: rewritten from a pickle, or downloaded."""
    more, weights, pickle = spec.files
    if (converted(name) / weights).is_file():
        return converted(name)
    if spec.pickle_sha256:
        raise NotAvailable(
            f"{name} is published as a PyTorch pickle only, which is not loaded: "
            f"`python -m lib.encoders.registry --convert {name}` checks it and rewrites it as "
            "safetensors."
        )
    commit = spec.revision or download.present(spec.repo)
    try:
        return download.fetch(spec.repo, commit, [*more, weights], also=TOKENIZER)
    except download.Incomplete as error:
        raise NotAvailable(
            f"{str(error).rstrip('.')}: if it has {pickle}, `./run_all.sh --convert pickle "
            f"hf-hub:{spec.repo}@{commit} --as {name}` rewrites it."
        ) from error


def configuration(name: str, folder: Path) -> dict:
    """A model's open_clip_config.json. Raises: ValueError if it is not whole."""
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


def listed(repo: str) -> Spec | None:
    """What open_clip's table of published weights says of a repository; None if it has none."""
    import open_clip

    for arch, tag in open_clip.list_pretrained():
        if open_clip.get_pretrained_cfg(arch, tag).get("hf_hub", "").rstrip("/") == repo:
            return Spec(arch=arch, tag=tag)
    return None


def check_training(name: str, spec: Spec, folder: Path) -> None:
    """Refuse a configuration that is not the one the weights were trained with.

    The wrong activation, or texts in upper case for a SigLIP, make no error, only bad embeddings,
    and open_clip at most warns.
    """
    import open_clip

    found = configuration(name, folder)["model_cfg"]
    quick = found.get("quick_gelu", False)
    if quick != spec.quick_gelu:
        raise ValueError(
            f"{name}: {CONFIG} says quick_gelu = {quick}, but the weights were trained with "
            f"quick_gelu = {spec.quick_gelu}."
        )
    models = found, open_clip.get_model_config(spec.arch)
    clean, wanted = (each["text_cfg"].get("tokenizer_kwargs", {}).get("clean") for each in models)
    if clean != wanted:
        raise ValueError(
            f"{name}: {CONFIG} says that texts are cleaned by {clean}, but the weights were "
            f"trained with {wanted}."
        )


def _load_folder(name: str, folder: Path, device: torch.device) -> Model:
    text = configuration(name, folder)["model_cfg"]["text_cfg"]
    own_tokenizer = bool(text.get("hf_tokenizer_name"))
    try:
        with safe_open(folder / WEIGHTS, "pt") as file:
            scale = file.get_tensor("logit_scale").float().exp().item()
            sizes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(_misfit(name, WEIGHTS, error)) from error
    parts = [CONFIG, WEIGHTS, NORMALISATION, *(TOKENIZER if own_tokenizer else ())]
    return Model(
        name,
        _hash_files(folder, parts),
        scale,
        device,
        functools.partial(_build, name, folder, own_tokenizer),
        _normalisation(name, folder),
        parameters=sum(math.prod(size) for key, size in sizes.items() if not _running(key)),
    )


def _load_blip(name: str, folder: Path, device: torch.device) -> Model:
    try:
        with safe_open(folder / blip.WEIGHTS, "pt") as file:
            parts = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
            counted = [part for part in parts.values() if part.get_dtype() != "I64"]
            count = sum(math.prod(part.get_shape()) for part in counted)
    except SafetensorError as error:
        raise ValueError(_misfit(name, blip.WEIGHTS, error)) from error
    fingerprint = _hash_files(folder, [*blip.FILES, blip.WEIGHTS, *TOKENIZER[1:]])
    build = functools.partial(blip.build, name, folder)
    return Model(name, fingerprint, blip.SCALE, device, build, parameters=count)


def _running(tensor: str) -> bool:
    """Whether this is one of batch normalisation's running statistics, which are not trained."""
    return tensor.endswith(("running_mean", "running_var", "num_batches_tracked"))


def _build(name: str, folder: Path, own_tokenizer: bool) -> Parts:
    import open_clip

    options = {"trust_remote_code": False} if own_tokenizer else {}
    try:
        clip, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    except (RuntimeError, ValueError, TypeError, OSError, SafetensorError) as error:
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
    size = r"torch\.Size\(\[(.*?)\]\)"
    if found := re.search(rf"size mismatch for (\S+): .*?{size}.*?{size}", reason):
        reason = f"{found[1]} is ({found[2]}) in one and ({found[3]}) in the other"
    return f"{name}: {what} are damaged or do not fit each other ({reason})."


def _untrained(name: str, spec: Spec, device: torch.device) -> Model:
    import open_clip

    with _drawn_from(0):
        clip, _, preprocess = open_clip.create_model_and_transforms(spec.arch)
    parts = Parts(clip, preprocess, open_clip.get_tokenizer(spec.arch))
    return _with_random_weights(name, parts, device, spec.arch)


def _with_random_weights(name: str, parts: Parts, device: torch.device, arch: str = "") -> Model:
    digest = hashlib.sha256(arch.encode())
    for key, value in sorted(parts.clip.state_dict().items()):
        digest.update(key.encode() + value.contiguous().numpy().tobytes())
    scale = parts.clip.logit_scale.float().exp().item()
    count = sum(each.numel() for each in parts.clip.parameters())
    return Model(name, digest.hexdigest(), scale, device, lambda: parts, parameters=count)


@contextmanager
def _drawn_from(seed: int):
    """Random numbers from a seed, and open_clip does not warn that there are no weights."""
    logging.disable(logging.WARNING)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        logging.disable(logging.NOTSET)


def random_twin(name: str, seed: int) -> torch.nn.Module:
    """The architecture of a model that `load` gives, with random weights: open_clip's module.

    Raises: as `load`.
    """
    import open_clip

    folder = _folder(name, REGISTRY.get(name))
    configuration(name, folder)
    with _drawn_from(seed):
        return open_clip.create_model(f"local-dir:{folder}", load_weights=False).eval()


def _hash_files(folder: Path, names: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for file in names:
        if (folder / file).is_file():
            digest.update(f"{file} {files.sha256_of(folder / file)}\n".encode())
    return digest.hexdigest()


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
    more, weights, pickle = spec.files
    source = download.fetch(spec.repo, spec.revision, [*more, pickle], also=TOKENIZER)
    if files.sha256_of(source / pickle) != spec.pickle_sha256:
        raise NotAvailable(f"{source / pickle} is not the published file: its SHA-256 differs.")
    tensors = torch.load(source / pickle, map_location="cpu", weights_only=True)
    target = converted(name)
    with files.put(target) as part:
        part.mkdir()
        for file in (*more, *TOKENIZER):
            if (source / file).is_file():
                (part / file).write_bytes((source / file).read_bytes())
        tensors = {key: value.clone().contiguous() for key, value in tensors.items()}
        # transformers reads no weights that do not say so
        safetensors.torch.save_file(tensors, part / weights, metadata={"format": "pt"})
    return target


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m lib.encoders.registry", description=convert.__doc__
    )
    parser.add_argument("--convert", metavar="NAME", required=True, help="model of the registry")
    name = parser.parse_args().convert
    try:
        print(convert(name))
    except (ValueError, NotAvailable) as error:
        raise SystemExit(str(error)) from None
    except (SafetensorError, OSError) as error:  # while writing
        raise SystemExit(download.sentence(error, name)) from None


if __name__ == "__main__":
    main()

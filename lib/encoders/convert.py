"""Models that others publish in other formats, as folders that plain open_clip loads.

`./run_all.sh --convert KIND PATH` writes open_clip_config.json and safetensors, whole or not at
all; PATH is a file, a folder, or `hf-hub:REPOSITORY@COMMIT`. Of a pickle, only tensors and plain
values are read (`weights_only`), so that no code in it can run; nor is any code of a model's
repository.
"""

import argparse
import copy
import json
import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError

from lib import files
from lib.encoders import download, formats, registry
from lib.encoders.formats import BPE_SIZE, TOKENIZER, Converted
from lib.encoders.registry import CONFIG, PICKLE, WEIGHTS

# Numbers of numpy, such as the learning rate that a cosine schedule leaves in an optimizer's state.
_SCALAR = np._core.multiarray.scalar
_NUMBERS = [
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("float64", "float32", "int64")),
]


def convert(kind: str, source: Path, target: Path, sha256: str = "") -> None:
    """Write the model in `source` to the new folder `target` in open_clip's format.

    Args:
        kind: of KINDS: "alignclip", "transformers" or "pickle".
        sha256: of the weights; a "pickle" is not read without.

    Raises: ValueError, in one sentence, if there is something at `target` already, or `source` is
        not there, of another kind, damaged, or what open_clip cannot hold.
    """
    target = target.absolute()
    if target.exists():
        raise ValueError(f"{target} is there already: delete it, or give another name by --as.")
    if not source.exists():
        raise ValueError(f"There is no {source}: give the path of a file or folder.")
    made = KINDS[kind](source, sha256)
    with files.put(target) as part:
        part.mkdir()
        for name, content in made.files.items():
            (part / name).write_bytes(content)
        config = _with_trunk(made, part, part)
        own = {name: value.detach().clone().contiguous() for name, value in made.tensors.items()}
        safetensors.torch.save_file(own, part / WEIGHTS)
        (part / WEIGHTS).chmod(0o644)  # safetensors keeps it to its owner
        files.write_json(part / CONFIG, config)
        if kind == "pickle":
            _check_loading(str(source), part)
        else:
            _check_names(str(source), config["model_cfg"], made.tensors)
        _check_tokenizer(source, part, config["model_cfg"]["text_cfg"])
        files.write_json(part / CONFIG, _with_trunk(made, part, target))


# The kinds ----------------------------------------------------------------------------------------

OPENAI = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
BICUBIC = {"interpolation": "bicubic", "resize_mode": "shortest"}
HEAD_WIDTH = 64  # of every configuration of AlignCLIP; no tensor shows it

_SHARED = [
    (r"transformer\.(resblocks\..+)", r"transformer.\1", r"visual.transformer.\1"),
    (r"ln_post\.(.+)", r"ln_final.\1", r"visual.ln_post.\1"),
    (r"projection", r"text_projection", r"visual.proj"),
    (r"(visual\.(class_embedding|positional_embedding|conv1\.weight|ln_pre\..+))", r"\1"),
    (r"text\.(token_embedding\.weight|positional_embedding)", r"\1"),
    (r"logit_scale", r"logit_scale"),
    (r"text\.text_projection",),  # made and saved, but never used
]


def alignclip(file: Path, sha256: str = "") -> Converted:
    """A checkpoint of SharedCLIP or AlignCLIP: its one transformer goes to both towers' names.

    Source: align_clip/model.py and model_configs of github.com/sarahESL/AlignCLIP at a18e805. No
    tensor shows the number of heads and the activation: heads of 64 and GELU, as in its
    configurations and scripts.

    Raises: ValueError if it is another model's.
    """
    if not file.is_file():
        raise ValueError(f"{file} is a folder: give the checkpoint in it, such as epoch_30.pt.")
    _check_hash(file, sha256)
    tensors = formats.renamed(_unpickle(file), _SHARED, str(file), "SharedCLIP")
    try:
        width, _, patch, _ = tensors["visual.conv1.weight"].shape
        mlp, _ = tensors["transformer.resblocks.0.mlp.c_fc.weight"].shape
        embed_dim = tensors["visual.proj"].shape[1]
        places = len(tensors["visual.positional_embedding"]) - 1
        context, _ = tensors["positional_embedding"].shape
        vocabulary, _ = tensors["token_embedding.weight"].shape
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise ValueError(
            f"{file} is not a checkpoint of SharedCLIP or AlignCLIP ({error}): give a file that "
            "main/run.py of sarahESL/AlignCLIP saved."
        ) from None
    if width % HEAD_WIDTH or vocabulary != BPE_SIZE or math.isqrt(places) ** 2 != places:
        raise ValueError(
            f"{file} has width {width}, {vocabulary} tokens and {places} patches, and AlignCLIP's "
            f"models have heads of {HEAD_WIDTH}, CLIP's {BPE_SIZE} tokens and square images."
        )
    blocks = {key.split(".")[2] for key in tensors if key.startswith("transformer.resblocks.")}
    both = {"width": width, "layers": len(blocks), "mlp_ratio": formats.ratio(mlp, width)}
    vision = both | {"head_width": HEAD_WIDTH, "patch_size": patch}
    text = both | {"heads": width // HEAD_WIDTH, "context_length": context}
    model = {
        "embed_dim": embed_dim,
        "vision_cfg": vision | {"image_size": math.isqrt(places) * patch},
        "text_cfg": text | {"vocab_size": vocabulary},
    }
    return Converted({"model_cfg": model, "preprocess_cfg": OPENAI | BICUBIC}, tensors)


def transformers(folder: Path, sha256: str = "") -> Converted:
    """A folder of transformers' `save_pretrained`, with the weights as safetensors."""
    whole, index = "model.safetensors", "model.safetensors.index.json"
    names = {whole}
    if not (folder / whole).is_file() and (folder / index).is_file():
        names = {
            Path(name).name for name in formats.read(folder, index).get("weight_map", {}).values()
        }
    tensors = {}
    for name in sorted(names):
        if not (folder / name).is_file():
            raise ValueError(
                f"{folder} has no {name}: give the folder of a model that transformers' "
                "`save_pretrained` wrote as safetensors."
            )
        try:
            tensors |= safetensors.torch.load_file(folder / name)
        except SafetensorError as error:
            raise ValueError(f"{folder / name} is damaged ({error}): get it again.") from None
    return formats.transformers(folder, tensors)


def published_pickle(source: Path, sha256: str = "") -> Converted:
    """An open_clip folder whose weights are a pickle with the SHA-256 that its publisher gives."""
    folder = source if source.is_dir() else source.parent
    file = source / PICKLE if source.is_dir() else source
    config = formats.read(folder, CONFIG)
    if "text_cfg" not in config.get("model_cfg", {}):
        raise ValueError(f"{folder / CONFIG} has no model_cfg with text_cfg: is it open_clip's?")
    if not file.is_file():
        raise ValueError(f"{folder} has no {PICKLE}: give the file itself.")
    if not sha256:
        raise ValueError(
            f"{file} has the SHA-256 {files.sha256_of(file)}: if its publisher gives the same "
            "one, add it as --sha256."
        )
    _check_hash(file, sha256)
    own = {name: (folder / name).read_bytes() for name in TOKENIZER if (folder / name).is_file()}
    return Converted(config, _unpickle(file), own)


KINDS: dict[str, Callable[[Path, str], Converted]] = {
    "alignclip": alignclip,
    "transformers": transformers,
    "pickle": published_pickle,
}


def _unpickle(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint: of its `state_dict`, if it has one, without `module.`."""
    try:
        with torch.serialization.safe_globals(_NUMBERS):
            found = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        other = re.search(r"GLOBAL ([\w.]+)", str(error))
        why = f"it asks for {other[1]}" if other else "it is damaged or of another kind"
        raise ValueError(
            f"{file} is not a checkpoint of tensors and plain values, and nothing else is read: "
            f"{why}."
        ) from None
    found = found.get("state_dict", found) if isinstance(found, dict) else {}
    if not found or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise ValueError(f"{file} holds no state_dict: give a model's checkpoint.")
    if all(key.startswith("module.") for key in found):
        found = {key.removeprefix("module."): value for key, value in found.items()}
    return found


def _check_hash(file: Path, sha256: str) -> None:
    if sha256 and (own := files.sha256_of(file)) != sha256.strip().lower():
        raise ValueError(f"{file} is not the file with that SHA-256: its own is {own}.")


# What open_clip makes of it -----------------------------------------------------------------------


def _with_trunk(made: Converted, part: Path, place: Path) -> dict:
    """The configuration of a folder that will be at `place`; timm's own, if any, is in `part`.

    open_clip gives timm a name alone, and timm reads sizes from a folder by its absolute path.
    """
    config = copy.deepcopy(made.config)
    if made.trunk:
        about = {"architecture": "vit_base_patch16_siglip_224", "num_classes": 0}
        about |= {"pretrained_cfg": {}, "model_args": made.trunk}
        content = json.dumps(about, indent=1)
        name = f"trunk-{files.sha256(content.encode())[:16]}"  # so that the model's hash knows it
        (part / name).mkdir(exist_ok=True)
        (part / name / "config.json").write_text(content)
        vision = {"timm_model_name": f"local-dir:{place / name}", "timm_model_pretrained": False}
        config["model_cfg"]["vision_cfg"] |= vision
    return config


def _check_names(what: str, model_cfg: dict, tensors: dict) -> None:
    """Refuse tensors that are not exactly those of open_clip's module, by name and shape."""
    import open_clip

    config = copy.deepcopy(model_cfg)
    kind = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
    with torch.device("meta"):
        expected = {key: value.shape for key, value in kind(**config).state_dict().items()}
    if missing := expected.keys() - tensors.keys():
        raise ValueError(
            f"{what} is not whole: of what open_clip needs, {formats.some(missing)} cannot be made "
            "from it: get it again."
        )
    if more := tensors.keys() - expected.keys():
        raise ValueError(f"{what} has more than open_clip can hold: {formats.some(more)}.")
    for key, shape in expected.items():
        if tensors[key].shape != shape:
            found = tuple(tensors[key].shape)
            raise ValueError(
                f"{what}: open_clip's {key} gets shape {found}, and its settings ask for "
                f"{tuple(shape)}: do weights and settings belong to one model?"
            )


def _check_loading(what: str, part: Path) -> None:
    """Refuse a folder that open_clip does not load by its own rules for older names."""
    try:
        _ = registry.load(f"local-dir:{part}", "cpu").clip
    except ValueError as error:
        raise ValueError(str(error).replace(f"local-dir:{part}", what)) from None


def _check_tokenizer(source: Path, part: Path, text_cfg: dict) -> None:
    import open_clip

    if not text_cfg.get("hf_tokenizer_name"):
        return
    try:
        tokenizer = open_clip.get_tokenizer(f"local-dir:{part}", trust_remote_code=False)
        tokens = tokenizer(["a picture"])
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"The tokenizer of {source} cannot be loaded here ({reason}): save it as "
            "tokenizer.json, by transformers' `save_pretrained`."
        ) from None
    if int(tokens.max()) >= text_cfg.get("vocab_size", math.inf):
        raise ValueError(f"The tokenizer of {source} has more tokens than its text encoder.")


# The command --------------------------------------------------------------------------------------


# What a kind reads of a repository: files that it needs, and files that it may have.
HUB = {
    "transformers": (
        ["config.json", "model*.safetensors"],
        ["model.safetensors.index.json", "p*processor_config.json", *TOKENIZER],
    ),
    "pickle": ([CONFIG, PICKLE], TOKENIZER),
}


def fetched(kind: str, source: str) -> Path:
    """The folder of `hf-hub:REPOSITORY@COMMIT`, downloaded if need be.

    Raises: ValueError without a commit, or for a kind that is not a repository; NotAvailable.
    """
    if kind not in HUB:
        raise ValueError(f"{kind} is read from a file: download it, and give its path.")
    return download.fetch(*registry.pinned(source), *HUB[kind])


def place(source: str, name: str | None) -> Path:
    """Where a converted model goes: a folder of the cache, or the path that `name` is.

    Raises: ValueError for a name that is not a file name.
    """
    if name and "/" in name:
        return Path(name).expanduser().resolve()
    whole = Path(source.partition("@")[0] if source.startswith("hf-hub:") else source).resolve()
    name = name or (whole.stem if whole.is_file() else whole.name)
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(f"{name!r} cannot be the name of a folder: give one by --as.")
    return registry.converted(name)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="./run_all.sh --convert", description=convert.__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("source")
    parser.add_argument("--as", dest="name")
    parser.add_argument("--sha256", default="")
    options = parser.parse_args(arguments)
    try:
        target = place(options.source, options.name)
        hub = options.source.startswith("hf-hub:")
        source = fetched(options.kind, options.source) if hub else Path(options.source)
        if source.is_file():
            print(f"SHA-256 of {source}: {files.sha256_of(source)}")
        convert(options.kind, source, target, options.sha256)
    except (ValueError, download.NotAvailable) as error:
        raise SystemExit(str(error)) from None
    except OSError as error:
        raise SystemExit(f"{error.strerror or error}: {error.filename or target}.") from None
    except SafetensorError as error:  # while writing
        raise SystemExit(download.sentence(error, str(target))) from None
    print(f"Written: {target}")
    print(f'Use it as local-dir:{target}: in a profile, or by registry.load("local-dir:{target}").')
    if options.kind == "transformers" and list(target.glob("trunk-*")):
        print("Leave it there: its configuration names its own place. To move it, convert again.")


if __name__ == "__main__":
    main()

"""CLIP and SigLIP as transformers saves them, under open_clip's names.

Renaming, with the few tensors that are stored another way (joined, cut, transposed). What open_clip
cannot hold is refused in one sentence.
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError

TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "spiece.model",
)
BPE_SIZE, BPE_END = 49408, 49407  # open_clip's own tokenizer
LEGACY_END = 2  # transformers' sign for "the highest id", from before its issue 24773
TANH = {"gelu_pytorch_tanh", "gelu_new"}  # two names of GELU's approximation by tanh
TIMM_EPS = 1e-6  # of the layer norms in timm's vision transformers
INTERPOLATION = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers


@dataclass(frozen=True)
class Converted:
    """What an open_clip folder is made of.

    Attributes:
        config: open_clip_config.json.
        tensors: under open_clip's names.
        files: further files by name, the tokenizer's.
        trunk: arguments of timm's vision transformer, where the image encoder is one.
    """

    config: dict
    tensors: dict[str, torch.Tensor]
    files: dict[str, bytes] = field(default_factory=dict)
    trunk: dict = field(default_factory=dict)


def renamed(tensors: dict, rules: list[tuple[str, ...]], what: str, model: str) -> dict:
    """Tensors under the names that the first fitting rule gives them: (pattern, new names).

    A rule without new names drops a tensor. New names that end in /0, /1, /2 are one tensor's rows.

    Raises: ValueError naming the keys that no rule fits.
    """
    found, unknown = {}, []
    for key, tensor in tensors.items():
        fits = ((re.fullmatch(pattern, key), names) for pattern, *names in rules)
        match, names = next((fit for fit in fits if fit[0]), (None, ()))
        if match is None:
            unknown.append(key)
        found |= {match.expand(name): tensor for name in names}
    if unknown:
        raise ValueError(f"{what} has tensors that {model} has not: {some(unknown)}.")
    for first in [name for name in found if name.endswith("/0")]:
        rows = [found.pop(first[:-1] + i, None) for i in "012"]
        if all(part is not None for part in rows):
            found[first[:-2]] = torch.cat(rows)
    return found


def some(keys) -> str:
    keys = sorted(keys)
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return ", ".join(keys[:3]) + more


def ratio(inner: int, width: int) -> float:
    """open_clip and timm round down width times this: not to one less."""
    ratio = inner / width
    return ratio if int(width * ratio) == inner else (inner + 0.5) / width


def _layers(source: str, target: str, norm: str, attention: str, mlp: tuple[str, str]) -> list:
    """Rules for the blocks of a tower."""
    names = {"layer_norm1": rf"{norm}1.\2", "layer_norm2": rf"{norm}2.\2"}
    names |= {"mlp.fc1": rf"mlp.{mlp[0]}.\2", "mlp.fc2": rf"mlp.{mlp[1]}.\2"}
    names |= {f"self_attn.{part}_proj": rf"{attention}\2/{i}" for i, part in enumerate("qkv")}
    out = "attn.proj" if attention == "attn.qkv." else "attn.out_proj"
    names["self_attn.out_proj"] = rf"{out}.\2"
    start = rf"{source}\.encoder\.layers\.(\d+)\."
    return [
        (start + re.escape(theirs) + r"\.(weight|bias)", rf"{target}.\1.{ours}")
        for theirs, ours in names.items()
    ]


_OPEN_CLIP = "ln_", "attn.in_proj_", ("c_fc", "c_proj")
_TIMM = "norm", "attn.qkv.", ("fc1", "fc2")
_BOTH = [
    (r"logit_scale", r"logit_scale"),
    (r"(text|vision)_model\.embeddings\.position_ids",),  # only counts; old files have it
]
_TEXT = [
    (r"text_model\.embeddings\.token_embedding\.weight", "token_embedding.weight"),
    (r"text_model\.embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"text_model\.final_layer_norm\.(weight|bias)", r"ln_final.\1"),
    *_layers("text_model", "transformer.resblocks", *_OPEN_CLIP),
]
_CLIP = [
    *_BOTH,
    *_TEXT,
    (r"text_projection\.weight", "text_projection"),
    (r"visual_projection\.weight", "visual.proj"),
    (r"vision_model\.embeddings\.class_embedding", "visual.class_embedding"),
    (r"vision_model\.embeddings\.patch_embedding\.weight", "visual.conv1.weight"),
    (r"vision_model\.embeddings\.position_embedding\.weight", "visual.positional_embedding"),
    (r"vision_model\.pre_layrnorm\.(weight|bias)", r"visual.ln_pre.\1"),
    (r"vision_model\.post_layernorm\.(weight|bias)", r"visual.ln_post.\1"),
    *_layers("vision_model", "visual.transformer.resblocks", *_OPEN_CLIP),
]
_POOL = "visual.trunk.attn_pool"
_SIGLIP = [
    *_BOTH,
    (r"logit_bias", "logit_bias"),
    *((pattern, f"text.{name}") for pattern, name in _TEXT),
    (r"text_model\.head\.(weight|bias)", r"text.text_projection.\1"),
    (r"vision_model\.embeddings\.patch_embedding\.(.+)", r"visual.trunk.patch_embed.proj.\1"),
    (r"vision_model\.embeddings\.position_embedding\.weight", "visual.trunk.pos_embed"),
    (r"vision_model\.post_layernorm\.(weight|bias)", r"visual.trunk.norm.\1"),
    *_layers("vision_model", "visual.trunk.blocks", *_TIMM),
    (r"vision_model\.head\.probe", rf"{_POOL}.latent"),
    (r"vision_model\.head\.attention\.in_proj_(weight|bias)", rf"{_POOL}.qkv.\1"),
    (r"vision_model\.head\.attention\.out_proj\.(weight|bias)", rf"{_POOL}.proj.\1"),
    (r"vision_model\.head\.layernorm\.(weight|bias)", rf"{_POOL}.norm.\1"),
    (r"vision_model\.head\.mlp\.(fc[12]\.(?:weight|bias))", rf"{_POOL}.mlp.\1"),
]


def transformers(folder: Path, tensors: dict[str, torch.Tensor]) -> Converted:
    """A CLIPModel or SiglipModel as `save_pretrained` writes it, with its processor's files.

    Raises: ValueError for another model, or for what open_clip cannot hold.
    """
    from transformers import CLIPConfig, SiglipConfig

    raw = read(folder, "config.json")
    kind = raw.get("model_type")
    if kind not in ("clip", "siglip"):
        raise ValueError(f"{folder} holds a model of type {kind!r}: give one of type clip, siglip.")
    try:
        config = {"clip": CLIPConfig, "siglip": SiglipConfig}[kind].from_dict(raw)
    except (ValueError, TypeError, AttributeError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{folder}/config.json is not {kind}'s ({reason}).") from None
    size, channels = config.vision_config.image_size, config.vision_config.num_channels
    if not isinstance(size, int) or channels != 3:
        raise ValueError(f"{folder}: only square images with 3 channels can be held by open_clip.")
    model, tensors, trunk = (_clip if kind == "clip" else _siglip)(folder, config, tensors)
    words, files = _tokenizer(folder, kind, config.text_config)
    model["text_cfg"] |= words
    content = {"model_cfg": model, "preprocess_cfg": preprocessing(folder, size)}
    return Converted(content, tensors, files, trunk)


def _clip(folder: Path, config, tensors: dict) -> tuple[dict, dict, dict]:
    tensors = renamed(tensors, _CLIP, str(folder), "transformers' CLIP")
    for name in {"text_projection", "visual.proj"} & tensors.keys():
        tensors[name] = tensors[name].T
    towers = config.text_config, config.vision_config
    text, vision = (_tower(folder, tower) for tower in towers)
    quick = {tower.hidden_act == "quick_gelu" for tower in towers}
    if len(quick) > 1:
        raise ValueError(
            f"{folder}: one tower has quick_gelu and the other not, and open_clip has one setting "
            "for both: this model cannot be held."
        )
    look = config.vision_config
    vision |= {"head_width": look.hidden_size // look.num_attention_heads}
    vision |= {"image_size": look.image_size, "patch_size": look.patch_size}
    model = {"embed_dim": config.projection_dim, "vision_cfg": vision, "quick_gelu": quick.pop()}
    return model | {"text_cfg": text | _length(config.text_config)}, tensors, {}


def _siglip(folder: Path, config, tensors: dict) -> tuple[dict, dict, dict]:
    look, words = config.vision_config, config.text_config
    if not look.vision_use_head or look.layer_norm_eps != TIMM_EPS:
        raise ValueError(
            f"{folder}: timm holds a SigLIP with attention pooling and layer_norm_eps {TIMM_EPS} "
            "only, and this one has none or another."
        )
    tensors = renamed(tensors, _SIGLIP, str(folder), "transformers' SigLIP")
    for part in ("weight", "bias"):  # of the pooling: timm keeps the query apart
        if f"{_POOL}.qkv.{part}" in tensors:
            query, *rest = tensors.pop(f"{_POOL}.qkv.{part}").chunk(3)
            tensors |= {f"{_POOL}.q.{part}": query, f"{_POOL}.kv.{part}": torch.cat(rest)}
    if "visual.trunk.pos_embed" in tensors:
        tensors["visual.trunk.pos_embed"] = tensors["visual.trunk.pos_embed"][None]
    for name in {"logit_scale", "logit_bias"} & tensors.keys():
        tensors[name] = tensors[name].reshape(())
    eye = _tower(folder, look)
    tanh, quick = "act_kwargs" in eye, look.hidden_act == "quick_gelu"
    trunk = {
        "img_size": look.image_size,
        "patch_size": look.patch_size,
        "embed_dim": look.hidden_size,
        "depth": look.num_hidden_layers,
        "num_heads": look.num_attention_heads,
        "mlp_ratio": eye["mlp_ratio"],
        "act_layer": "gelu_tanh" if tanh else "quick_gelu" if quick else "gelu",
    }
    text = _tower(folder, words) | _length(words)
    model = {
        "embed_dim": words.projection_size,
        "init_logit_bias": -10,
        "custom_text": True,
        "quick_gelu": words.hidden_act == "quick_gelu",
        "vision_cfg": {"image_size": look.image_size, "timm_pool": "map", "timm_proj": "none"},
        "text_cfg": text | {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
    }
    return model, tensors, trunk


def _tower(folder: Path, config) -> dict:
    """What both towers' settings have in common."""
    act = config.hidden_act
    if act not in {"gelu", "quick_gelu", *TANH}:
        raise ValueError(f"{folder}: its activation is {act}, and open_clip has GELU's kinds only.")
    found = {"width": config.hidden_size, "layers": config.num_hidden_layers}
    found["mlp_ratio"] = ratio(config.intermediate_size, config.hidden_size)
    if act in TANH:
        found["act_kwargs"] = {"approximate": "tanh"}
    if config.layer_norm_eps != 1e-5:
        found["norm_kwargs"] = {"eps": config.layer_norm_eps}
    return found


def _length(text) -> dict:
    heads, length = text.num_attention_heads, text.max_position_embeddings
    return {"heads": heads, "context_length": length, "vocab_size": text.vocab_size}


def preprocessing(folder: Path, size: int) -> dict:
    """preprocess_cfg, if open_clip can do what the processor of a model for `size` pixels does."""
    names = ("preprocessor_config.json", "processor_config.json")
    name = next((name for name in names if (folder / name).is_file()), None)
    if name is None:
        raise ValueError(
            f"{folder} has no {names[0]}, which says how images are prepared: save the model's "
            "processor there too (`processor.save_pretrained`)."
        )
    about = read(folder, name)
    about = about.get("image_processor", about)
    given = about.get("size")
    edge = given if isinstance(given, int) else (given or {}).get("shortest_edge")
    crop = about.get("crop_size") if about.get("do_center_crop") else None
    square = {"height": size, "width": size}
    cropped = edge == size and crop in (size, square)
    squashed = given == square and crop in (None, size, square)
    plain = abs(about.get("rescale_factor", 1 / 255) - 1 / 255) < 1e-9
    plain &= all(about.get(f"do_{step}", True) for step in ("resize", "rescale", "normalize"))
    how = INTERPOLATION.get(about.get("resample"))
    if not how or not plain or not (squashed or cropped) or not about.get("image_mean"):
        raise ValueError(
            f"{folder}/{name}: open_clip resizes (bilinear or bicubic) to the {size} pixels of the "
            "image encoder and normalises, and this says something else: mend it, if it is wrong."
        )
    found = {"mean": about["image_mean"], "std": about["image_std"], "interpolation": how}
    return found | {"resize_mode": "shortest" if cropped else "squash"}


def _tokenizer(folder: Path, kind: str, text) -> tuple[dict, dict[str, bytes]]:
    """Settings of the text tower that belong to the tokenizer, and the tokenizer's files."""
    end = text.eos_token_id
    bpe = kind == "clip" and text.vocab_size == BPE_SIZE and end in (LEGACY_END, BPE_END)
    if bpe and _is_own(folder):
        return {}, {}
    files = {name: (folder / name).read_bytes() for name in TOKENIZER if (folder / name).is_file()}
    if not files.keys() & {"tokenizer.json", "vocab.json", "spiece.model"}:
        raise ValueError(
            f"{folder} has no tokenizer.json: save the model's tokenizer there too "
            "(`tokenizer.save_pretrained`)."
        )
    settings = {"hf_tokenizer_name": folder.name or "own"}
    if kind == "siglip":
        about = read(folder, "tokenizer_config.json")
        if about.get("tokenizer_class") == "SiglipTokenizer" and "tokenizer.json" in files:
            # That class needs another library; what it does is in tokenizer.json, too.
            about = {key: value for key, value in about.items() if key != "auto_map"}
            about["tokenizer_class"] = "PreTrainedTokenizerFast"
            files["tokenizer_config.json"] = json.dumps(about).encode()
        return settings | {"tokenizer_kwargs": {"clean": "canonicalize"}}, files
    if not isinstance(end, int):
        raise ValueError(f"{folder}/config.json: text_config needs one eos_token_id, not {end}.")
    if end != LEGACY_END:
        settings |= {"pool_type": "eos", "eos_id": end}
    return settings, files


def _is_own(folder: Path) -> bool:
    """Whether a folder's vocabulary, if it has one, is the one of open_clip's tokenizer."""
    from open_clip.tokenizer import SimpleTokenizer

    if (folder / "tokenizer.json").is_file():
        vocabulary = read(folder, "tokenizer.json").get("model", {}).get("vocab", {})
    elif (folder / "vocab.json").is_file():
        vocabulary = read(folder, "vocab.json")
    else:
        return True
    own = SimpleTokenizer().encoder
    # The two special tokens have other names there.
    return all(vocabulary.get(token) == i for token, i in own.items() if i < BPE_SIZE - 2)


def read(folder: Path, name: str) -> dict:
    """A JSON file of a folder. Raises: ValueError if it is not there, or is none."""
    try:
        found = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{folder} has no {name}: is it the right folder?") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{folder / name} is not JSON ({error}).") from None
    if not isinstance(found, dict):
        raise ValueError(f"{folder / name} is not a JSON object.")
    return found

"""Stand-ins in exactly the formats of the real models and data sets, made in milliseconds."""

import csv
import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import open_clip
import torch
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as Pictures
from safetensors.torch import save_file
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers import models as tokenizer_models

WORDS = ["a", "red", "blue", "green", "circle", "square", "star", "on", "the", ",", "."]
CONTEXT = 16


def picture(seed: int, size: int = 24) -> Pictures.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return Pictures.fromarray(pixels)


def encoded(seed: int, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture(seed).save(buffer, format=kind)
    return buffer.getvalue()


def word_tokenizer(folder: Path) -> int:
    """A word-level Hugging Face tokenizer as the mini models have it; returns its size."""
    words = ["<pad>", "<start>", "<unk>", *WORDS, "<end>"]
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(tokenizer_models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>",
        special_tokens=[("<start>", 1), ("<end>", vocabulary["<end>"])],
    )
    tokenizer.add_special_tokens(["<pad>", "<start>", "<unk>", "<end>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "bos_token": "<start>",
        "eos_token": "<end>",
        "unk_token": "<unk>",
        "model_max_length": CONTEXT,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    return len(vocabulary)


def sentencepiece_tokenizer(folder: Path, words=WORDS[:9], context: int = CONTEXT) -> int:
    """A unigram tokenizer as SigLIP's repository has it: end and padding are the same token."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(f"▁{word}", -3.0) for word in words]
    tokenizer = Tokenizer(tokenizer_models.Unigram(pieces, unk_id=2))
    tokenizer.save(str(folder / "tokenizer.json"))
    about = {
        "tokenizer_class": "T5Tokenizer",
        "pad_token": "</s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "extra_ids": 0,
        "model_max_length": context,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    return len(pieces)


def save(folder: Path, model_cfg: dict, seed: int, half: bool = True) -> Path:
    """A randomly initialised model in open_clip's folder format."""
    preprocess = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}
    preprocess |= {"interpolation": "bilinear", "resize_mode": "squash"}
    config = {"model_cfg": model_cfg, "preprocess_cfg": preprocess}
    arguments = {key: value for key, value in model_cfg.items() if key != "custom_text"}
    kind = open_clip.CustomTextCLIP if model_cfg.get("custom_text") else open_clip.CLIP
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        state = kind(**arguments).state_dict()
    tensors = {key: (value.half() if half else value).contiguous() for key, value in state.items()}
    save_file(tensors, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


TOWER = {"width": 32, "heads": 2, "layers": 1}
VISION = {"image_size": 24, "patch_size": 12, "width": 32, "layers": 1, "head_width": 16}


def tiny_clip(folder: Path, seed: int = 0, **options) -> Path:
    """A CLIP with its own word-level tokenizer, as the mini models are."""
    folder.mkdir(parents=True, exist_ok=True)
    text = TOWER | {"context_length": CONTEXT, "vocab_size": word_tokenizer(folder)}
    text |= {"hf_tokenizer_name": "own"}
    return save(folder, {"embed_dim": 8, "vision_cfg": VISION, "text_cfg": text} | options, seed)


def tiny_openai(folder: Path, seed: int = 0, **options) -> Path:
    """A CLIP with open_clip's own tokenizer, as OpenAI's and DataComp's repositories are."""
    folder.mkdir(parents=True, exist_ok=True)
    text = TOWER | {"context_length": CONTEXT, "vocab_size": 49408}
    return save(folder, {"embed_dim": 8, "vision_cfg": VISION, "text_cfg": text} | options, seed)


def tiny_siglip(folder: Path, seed: int = 0, words=WORDS[:9], context: int = CONTEXT) -> Path:
    """A two-tower model with a timm image tower and a T5 tokenizer, as SigLIP's repository is."""
    folder.mkdir(parents=True, exist_ok=True)
    text = TOWER | {
        "context_length": context,
        "vocab_size": sentencepiece_tokenizer(folder, words, context),
        "hf_tokenizer_name": "timm/ViT-B-16-SigLIP",
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
    }
    vision = {"image_size": 160, "timm_model_name": "test_vit", "timm_model_pretrained": False}
    vision |= {"timm_pool": "avg", "timm_proj": "linear"}
    config = {"embed_dim": 8, "init_logit_bias": -10, "custom_text": True}
    return save(folder, config | {"vision_cfg": vision, "text_cfg": text}, seed)


def put_in_hub(cache: Path, repo: str, revision: str, kind: str = "model") -> Path:
    """An empty snapshot in a Hugging Face cache, laid out as the hub's client does it."""
    storage = cache / f"{kind}s--{repo.replace('/', '--')}"
    snapshot = storage / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (storage / "refs").mkdir()
    (storage / "refs" / "main").write_text(revision)
    return snapshot


def captions(i: int, n: int = 5) -> list[str]:
    return [f"a {WORDS[1 + (i + k) % 3]} {WORDS[4 + (i * k) % 3]} ." for k in range(n)]


def write_captioned(folder: Path, table: str, archive: str, rows: int, split: str = "test"):
    """The csv and zip of the COCO and Flickr30k repositories; every third image has 6 captions."""
    with zipfile.ZipFile(folder / archive, "w") as images:
        for i in range(rows):
            images.writestr(f"{Path(archive).stem}/{i:06d}.jpg", encoded(i, "JPEG"))
            images.writestr(f"__MACOSX/{Path(archive).stem}/._{i:06d}.jpg", b"not an image")
    with open(folder / table, "w", newline="") as file:
        writer = csv.DictWriter(file, ["sentids", "split", "filename", "raw"])
        writer.writeheader()
        for i in range(rows):
            raw = json.dumps(captions(i, 6 if i % 3 == 0 else 5))
            writer.writerow({"split": split, "filename": f"{i:06d}.jpg", "raw": raw})


def write_shard(file: Path, rows: range) -> None:
    """A tar of COCO's train split: an image and its captions per row, six for every third."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as tar:
        for i in rows:
            about = {"captions": captions(i, 6 if i % 3 == 0 else 5), "cocoid": 1000 + i}
            for kind, content in (
                ("jpg", encoded(i, "JPEG")),
                ("json", json.dumps(about).encode()),
            ):
                entry = tarfile.TarInfo(f"{i:09d}.{kind}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))


def write_parquet(path: Path, rows: int, image: str, label: str, classes: list[str]) -> None:
    """Parquet as `push_to_hub` writes it: images as bytes, class names in the schema."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {image: Image(), label: ClassLabel(names=classes), "extra": Value("int64")}
    values = {
        image: [{"bytes": encoded(i), "path": None} for i in range(rows)],
        label: [i % len(classes) for i in range(rows)],
        "extra": list(range(rows)),
    }
    Dataset.from_dict(values, Features(columns)).to_parquet(path)


def write_tar(folder: Path, split: str, rows: int, classes: list[str], kind: str = "webp") -> None:
    """Tar shards as in the CLIP benchmark's repositories: two of them, and classnames.txt."""
    (folder / split).mkdir(parents=True, exist_ok=True)
    (folder / "classnames.txt").write_text("\n".join(classes) + "\n")
    for shard in range(2):
        with tarfile.open(folder / split / f"{shard}.tar", "w") as tar:
            for i in range(shard, rows, 2):
                for suffix, content in (
                    ("cls", str(i % len(classes)).encode()),
                    (kind, encoded(i, kind.upper())),
                ):
                    entry = tarfile.TarInfo(f"s{i:07d}.{suffix}")
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
    (folder / split / "nshards.txt").write_text("2")


def write_flickr8k(folder: Path) -> None:
    """The folder that the CLIPScore authors' flickr8k_example/download.py leaves behind."""
    images = folder / "Flicker8k_Dataset"
    images.mkdir(parents=True)
    expert, crowd = {}, {}
    for i in range(3):
        path = f"Flicker8k_Dataset/{i}.jpg"
        (folder / path).write_bytes(encoded(i, "JPEG"))
        about = {"image_id": str(i), "image_path": path, "ground_truth": captions(i)}
        one = {"image_path": path, "caption": "a  red star ."}
        two = {"image_path": path, "caption": "the blue star ."}
        ratings = [(one, 1.0), (one, 2.0), (one, 4.0), (two, 3.0), (two, 3.0), (two, 3.0)]
        expert[str(i)] = about | {
            "human_judgement": [entry | {"rating": rating} for entry, rating in ratings]
        }
        crowd[f"{i}.jpg"] = about | {
            "human_judgement": [one | {"rating": 0.25}, two | {"rating": float("nan")}]
        }
    (folder / "flickr8k.json").write_text(json.dumps(expert))
    (folder / "crowdflower_flickr8k.json").write_text(json.dumps(crowd))


def pairs(rows: int = 6, start: int = 0, n_captions: int = 5) -> Dataset:
    """A data set of pairs with the common columns."""
    values = {
        "image": [{"bytes": encoded(i), "path": None} for i in range(start, start + rows)],
        "image_id": [str(i) for i in range(start, start + rows)],
        "captions": [captions(i, n_captions) for i in range(start, start + rows)],
    }
    return Dataset.from_dict(values).cast_column("image", Image())

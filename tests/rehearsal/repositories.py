"""Stand-ins of every public repository, in the real formats, with pictures and small models.

The pictures are the world's, which the small models of `models/` know. Where one of these has the
architecture of a public model, the stand-in has its weights.
"""

import csv
import hashlib
import io
import itertools
import json
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import open_clip
import standins
import test_convert
import torch
import transformers
from datasets import ClassLabel, Dataset, Features, Image
from safetensors.torch import load_file, save_file

from lib import files, paths
from lib.data import sources
from lib.encoders import registry
from lib.encoders.registry import CONFIG, WEIGHTS
from mini import world

SHARED = ("sharedclip-vit-b-16", "alignclip-vit-b-16")
ROWS = 300  # of every split
N_JUDGED = 150
LONG = 64  # tokens that SigLIP's text encoder takes


def build(hub: Path, own: Path) -> dict[str, dict]:
    """Write all repositories into `hub`, as `hub.Hub` serves them, and our own data into `own`.

    In `own` is what nobody downloads for a user: Flickr8k's judged captions, and checkpoints of
    AlignCLIP and SharedCLIP.

    Returns: name of a model in the registry -> what is true of its stand-in.
    """
    donors = itertools.cycle(["mini-clip", "mini-slip", "mini-clip-seed1", "mini-cyclip"])
    about = {}
    for name, spec in registry.REGISTRY.items():
        if spec.trained and not spec.folder:
            commit = spec.revision or _commit(spec.repo)
            folder = hub / "models" / spec.repo / commit
            folder.mkdir(parents=True)
            about[name] = model(folder, spec, donors)
    for source, splits in _captioned().items():
        write = in_shards if isinstance(source, sources.Shards) else captioned
        write(_dataset(hub, source), source, splits)
    for k, (name, source) in enumerate(sources.LABELLED.items()):
        labelled(_dataset(hub, source), name, source, k)
    own.mkdir(parents=True)
    flickr8k(own / "flickr8k")
    for seed, name in enumerate(SHARED):
        about[name] = alignclip(own / f"{name}.pt", seed)
    return about


def _commit(repo: str) -> str:
    """The present commit of a repository that is not pinned."""
    return hashlib.sha1(repo.encode()).hexdigest()


def _dataset(hub: Path, source) -> Path:
    folder = hub / "datasets" / source.repo / (source.revision or _commit(source.repo))
    folder.mkdir(parents=True)
    return folder


# Models -------------------------------------------------------------------------------------------


def model(folder: Path, spec: registry.Spec, donors: Iterator[str]) -> dict:
    """A small model of the same kind as the public one, with the same files and tokenizer.

    Returns: how many numbers it learned, and the SHA-256 of a pickle.
    """
    config = {} if spec.blip else open_clip.get_model_config(spec.arch)
    vision, text = config.get("vision_cfg", {}), config.get("text_cfg", {})
    if spec.blip:
        tiny_blip(folder)
    elif "timm_model_name" in vision and "hf_tokenizer_name" in text:
        standins.tiny_siglip(folder, words=_words(), context=LONG)
    elif "timm_model_name" in vision:
        tiny_timm(folder)
    elif "multimodal_cfg" in config:
        from_mini(folder, "mini-coca", spec.quick_gelu)
    elif isinstance(vision["layers"], list):
        from_mini(folder, "mini-rn", spec.quick_gelu)
    else:
        from_mini(folder, next(donors), spec.quick_gelu)
    _, weights, pickle = spec.files
    tensors = load_file(folder / weights)
    learned = (value.numel() for key, value in tensors.items() if not _running(key))
    about = {"parameters": sum(learned)}
    if spec.pickle_sha256:
        torch.save({key: value.float() for key, value in tensors.items()}, folder / pickle)
        (folder / weights).unlink()
        about["pickle_sha256"] = files.sha256_of(folder / pickle)
    return about


def _running(tensor: str) -> bool:
    return tensor.endswith(("running_mean", "running_var", "num_batches_tracked"))


def tiny_timm(folder: Path) -> None:
    """An image tower of timm and CLIP's own tokenizer, as MobileCLIP has them."""
    vision = {"image_size": 160, "timm_model_name": "test_vit", "timm_model_pretrained": False}
    vision |= {"timm_pool": "avg", "timm_proj": "linear"}
    text = standins.TOWER | {"context_length": 77, "vocab_size": 49408, "no_causal_mask": True}
    both = {"embed_dim": 8, "custom_text": True}
    standins.save(folder, both | {"vision_cfg": vision, "text_cfg": text}, seed=0)


def tiny_blip(folder: Path) -> None:
    """A BLIP as transformers saves it, with the words of the small models."""
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    tower |= {"num_attention_heads": 2}
    shutil.copy(paths.MODELS / "mini-clip" / "tokenizer.json", folder)
    shutil.copy(paths.MODELS / "mini-clip" / "tokenizer_config.json", folder)
    words = tower | {"vocab_size": 169, "encoder_hidden_size": 32, "pad_token_id": 0}
    config = transformers.BlipConfig(
        text_config=words,
        vision_config=tower | {"image_size": 48, "patch_size": 8},
        projection_dim=16,
        image_text_hidden_size=16,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.BlipForImageTextRetrieval(config).save_pretrained(folder)
    square = {"height": 48, "width": 48}
    transformers.BlipImageProcessor(size=square).save_pretrained(folder)


def from_mini(folder: Path, name: str, quick_gelu: bool) -> None:
    """A small model, made to read CLIP's own tokens: each word's embedding goes to its token.

    Of a word of several tokens it goes to the last one. What the small model does not know gets
    the embedding of its unknown word.
    """
    config = json.loads((paths.MODELS / name / CONFIG).read_text())
    config["model_cfg"] |= {"quick_gelu": True} if quick_gelu else {}
    for part in ("text_cfg", "multimodal_cfg"):
        if part in config["model_cfg"]:
            config["model_cfg"][part]["vocab_size"] = 49408
            config["model_cfg"][part].pop("hf_tokenizer_name", None)
    (folder / CONFIG).write_text(json.dumps(config))
    rows = _rows_of_tokens(paths.MODELS / name)
    tensors = load_file(paths.MODELS / name / WEIGHTS)
    for key, value in tensors.items():
        if key.endswith("token_embedding.weight"):
            tensors[key] = value[rows]
        elif key == "text_decoder.text_projection":  # a CoCa's: embedding -> words
            tensors[key] = value[:, rows].contiguous()
    save_file(tensors, folder / WEIGHTS)


def _rows_of_tokens(model: Path) -> list[int]:
    """For each of CLIP's tokens, the row of the small model's vocabulary."""
    known = json.loads((model / "tokenizer.json").read_text())["model"]["vocab"]
    clip = open_clip.tokenizer.SimpleTokenizer()
    rows = [known["<unk>"]] * len(clip.encoder)
    for word, row in known.items():
        rows[clip.encode(word)[-1]] = row
    for word, token in (("<pad>", 0), ("<start>", 49406), ("<end>", 49407)):
        rows[token] = known[word]
    return rows


def _words() -> list[str]:
    known = json.loads((paths.MODELS / "mini-clip" / "tokenizer.json").read_text())["model"]
    return [word for word in known["vocab"] if word.isalpha()]


def alignclip(file: Path, seed: int) -> dict:
    """A checkpoint as the authors of AlignCLIP save it, with random weights."""
    state = test_convert.drawn(test_convert.Shared(), seed).state_dict()
    test_convert.checkpoint(file, state)
    del state["text.text_projection"]  # never used
    both = ("transformer.", "ln_post.", "projection")  # what the towers share, open_clip has twice
    learned = (value.numel() * (1 + key.startswith(both)) for key, value in state.items())
    return {"parameters": sum(learned)}


# Pictures and captions ----------------------------------------------------------------------------


def encoded(row: dict, kind: str) -> bytes:
    buffer = io.BytesIO()
    lossless = {"lossless": True} if kind == "WEBP" else {}
    row["image"].save(buffer, kind, **lossless)
    return buffer.getvalue()


def _captioned() -> dict[sources.Captioned | sources.Shards, dict[str, Dataset]]:
    """Repository -> split -> pairs; splits that are in one repository together."""
    wanted: dict[sources.Captioned | sources.Shards, dict[str, Dataset]] = {}
    kinds = itertools.cycle(["", "heldout", "rendition"])
    for splits in sources.PAIRS.values():
        kind = next(kinds)
        for split, source in splits.items():
            ours = f"{kind}_{split}".strip("_").removesuffix("_test") if kind else split
            ours = ours if ours in world.SPLITS else "val"
            wanted.setdefault(source, {})[split] = world.pairs(ours, ROWS)
    return wanted


def in_shards(folder: Path, source: sources.Shards, splits: dict[str, Dataset]) -> None:
    """One tar, with an image and its captions per row."""
    ((_, rows),) = splits.items()
    file = folder / source.pattern.format(0)
    file.parent.mkdir(parents=True)
    with tarfile.open(file, "w") as tar:
        for i, row in enumerate(rows):
            about = json.dumps({"captions": row["captions"], "cocoid": i}).encode()
            for kind, content in (("jpg", encoded(row, "JPEG")), ("json", about)):
                entry = tarfile.TarInfo(f"{i:09d}.{kind}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))


def captioned(folder: Path, source: sources.Captioned, splits: dict[str, Dataset]) -> None:
    """A csv and a zip: every third image has a sixth caption, as a few of COCO's do."""
    with (
        zipfile.ZipFile(folder / source.archive, "w") as images,
        open(folder / source.table, "w", newline="") as table,
    ):
        lines = csv.DictWriter(table, ["raw", "sentids", "split", "filename"])
        lines.writeheader()
        number = itertools.count()
        for split, rows in splits.items():
            for row in rows:
                i = next(number)
                images.writestr(f"{Path(source.archive).stem}/{i:06d}.jpg", encoded(row, "JPEG"))
                raw = json.dumps(row["captions"] + row["captions"][: i % 3 == 0])
                lines.writerow({"split": split, "filename": f"{i:06d}.jpg", "raw": raw})


# Labelled pictures --------------------------------------------------------------------------------

LABELS = {
    "cifar100": "shape-colour",
    "cifar10": "shape",
    "caltech101": "shape",
    "cars": "colour",
    "cub": "shape-colour-texture",
    "dtd": "background",
    "eurosat": "style",
    "pets": "texture",
}
SHIFTS = {"v2": "resampled", "r": "rendition", "a": "hard", "sketch": "ink"}  # of ImageNet


def labelled(folder: Path, name: str, source: sources.Labelled, place: int) -> None:
    """All splits of a data set; `place` decides which of the world's pictures it has."""
    labels = LABELS.get(name, "shape")
    for ours, theirs in source.splits.items():
        split = SHIFTS.get(name.removeprefix("imagenet-"), ours)
        start = 50 * place
        rows = world.labelled(labels, split, start + ROWS).select(range(start, start + ROWS))
        if source.tar:
            tar(folder, theirs, rows)
        else:
            path = theirs if "/" in theirs else f"data/{theirs}"
            parquet(folder / f"{path}-00000-of-00001.parquet", source, rows)


def tar(folder: Path, split: str, rows: Dataset) -> None:
    """Two shards with an image and its class each, and classnames.txt."""
    (folder / split).mkdir()
    names = rows.features["label"].names
    (folder / "classnames.txt").write_text("\n".join(names) + "\n")
    for shard in range(2):
        with tarfile.open(folder / split / f"{shard}.tar", "w") as file:
            for i in range(shard, len(rows), 2):
                content = {"cls": str(rows[i]["label"]).encode(), "webp": encoded(rows[i], "WEBP")}
                for suffix, part in content.items():
                    entry = tarfile.TarInfo(f"s{i:07d}.{suffix}")
                    entry.size = len(part)
                    file.addfile(entry, io.BytesIO(part))


def parquet(path: Path, source: sources.Labelled, rows: Dataset) -> None:
    """Parquet as `push_to_hub` writes it; with two labels where the source joins two."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [name.replace(" ", "_") for name in rows.features["label"].names]
    kinds = {"image": Image(), source.label: ClassLabel(names=names)}
    images = [{"bytes": encoded(row, "PNG"), "path": None} for row in rows]
    columns = {"image": images, source.label: rows["label"][:]}
    if source.label_2:  # race and gender
        kinds |= {source.label: ClassLabel(names=RACES), source.label_2: ClassLabel(names=GENDERS)}
        columns |= {source.label: [i % len(RACES) for i in range(len(rows))]}
        columns |= {source.label_2: [i // len(RACES) % 2 for i in range(len(rows))]}
    Dataset.from_dict(columns, Features(kinds)).to_parquet(path)


GENDERS = ["Male", "Female"]
RACES = [
    *("East Asian", "Indian", "Black", "White", "Middle Eastern"),
    *("Latino_Hispanic", "Southeast Asian"),
]


# Judged captions ----------------------------------------------------------------------------------


def flickr8k(folder: Path) -> None:
    """The folder that the authors of CLIPScore let everybody fill: two files, and the images."""
    images = folder / "Flicker8k_Dataset"
    images.mkdir(parents=True)
    for kind, file in (("expert", "flickr8k.json"), ("cf", "crowdflower_flickr8k.json")):
        judged: dict[str, dict] = {}
        for row in world.judgements(kind, N_JUDGED):
            path = images / f"{row['image_id']}.jpg"
            if not path.is_file():
                path.write_bytes(encoded(row, "JPEG"))
            place = path.relative_to(folder).as_posix()
            about = {"image_path": place, "ground_truth": row["references"], "human_judgement": []}
            entry = judged.setdefault(row["image_id"], about)
            for rating in row["ratings"][: 3 if kind == "expert" else 1]:
                one = {"image_path": place, "caption": row["caption"], "rating": rating}
                entry["human_judgement"].append(one)
        (folder / file).write_text(json.dumps(judged))

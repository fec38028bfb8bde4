"""Embeddings of real CLIP that others have published, and what belongs to them, checked by hash.

A file is taken from the folder that MODALITY_GAP_DATA names (itself or a subfolder), else from the
cache, else downloaded at a fixed commit; its SHA-256 must be the published file's.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pooch
import torch
from datasets import Dataset

from lib import paths, suggestions
from lib.data import sources
from lib.encoders import download, registry
from lib.encoders.download import NotAvailable
from lib.encoders.embeddings import Embeddings, embed

CLIP, CLIP_PAIRS = "published CLIP", "500 COCO pairs"  # how notebooks call it, and its data
OPENCLIP, CIFAR10_IMAGES = "published OpenCLIP ViT-B/32", "848 CIFAR-10 images"
# folder of our own data or cache -> where its files are published
_ADDRESS = {
    "mind_the_gap": "https://raw.githubusercontent.com/Weixin-Liang/Modality-Gap/"
    "8e20cb24efa4c5f89aad694f2f65eb43ffc46d10/Figure_1_Modality_Gap/",
    "coco_captions": "https://raw.githubusercontent.com/ruizewang/evaluate/"
    "1152656d3b8c66c48fc6a4357e159f5e21bd2d2d/annotations/",
    "cifar10_clip": "https://raw.githubusercontent.com/manu-kick/"
    "Deep-subspace-aligment-and-modality-gap-dimensions/241b47dd160728646561bbad6199ce0e9389947d/"
    "dataset/cifar10/precomputed_cifar10_text_vision_labels/"
    "cifar10_train_ViT-B-32_laion2b_s34b_b79k/",
}
CAPTIONS = "1018a8760deaf1fc71be2f1b8da1a1348b9c35994af4322ca2fd795a78abb79c"
CIFAR10 = "8684a368fe0db55c7decfcadccdada7b2394558aeca54d149d30a78e34054e3c"
PUBLISHED = {
    "clip": "7227280ace0f145d2c45afa8ab507a1cb280e9460aa271fe9052d08e35342adb",
    "clip_random": "c6a5f9ca3fba36d635fd47d20b3cdd5b9ac78dc462070240fdc2ee2786110403",
    "convirt": "8cfb9c31888d12726a3f8b551bed64f04b25d1c76d5353b0a3e9efeceb43edb9",
    "convirt_random": "2fd5698e712d5e0d72256a1b29044b2059818f0575ab12bfcb2c5ae13092007f",
    "clasp": "5a1d12a68729405003fe19b271a38ae35adab97c139e4b4a51d70b18c44bf628",
    "clasp_random": "2a159d008b7527e9fbd3de49daf9116d9500d1aaa250c3a5b009b162c5f4066b",
    "videoclip": "53255cac6105c5c47dd1850d77de084957d5f83841ba9ae9254bf7ae998573da",
    "videoclip_random": "c57ee05a606c4a9da0d71ad8b5d5c964d780af816890064a693eb178492c0f3b",
}


def published_embeddings(name: str) -> Embeddings:
    """Embeddings that the authors of Mind the Gap published for their Figure 1 (MIT licence).

    `name`: clip (OpenAI ViT-B/16, 500 pairs of COCO val2017), convirt, clasp or videoclip, each
    also with `_random` (the same pairs, randomly initialised weights). Both tensors are (n, d)
    float32, row i of one belongs to row i of the other; norms are 1 up to half precision, as
    published.

    Raises: ValueError for an unknown name; NotAvailable if there is no such file and no network.
    """
    if name not in PUBLISHED:
        raise ValueError(suggestions.unknown("published embedding", name, PUBLISHED))
    file = _fetched("mind_the_gap", f"features_{name}.npy", PUBLISHED[name])
    both = np.load(file, allow_pickle=False)
    image, text = (torch.from_numpy(np.array(part, np.float32)) for part in both)
    return Embeddings(image, text, torch.arange(len(image)))


def published_captions(n: int = 500) -> list[list[str]]:
    """The human captions of the published CLIP pairs (500 lists of five or more), image by image.

    The pairs are the first images of COCO val2017 in the order of its annotations, and the text
    that was encoded is the last caption of each: with it the cosines of the published texts follow
    the overlap of words best. Source: COCO Consortium, captions_val2017.json (CC BY 4.0).

    Raises: NotAvailable if there is no such file and no network.
    """
    file = _fetched("coco_captions", "captions_val2017.json", CAPTIONS)
    captions: dict[int, list[str]] = {}
    for entry in json.loads(file.read_text(encoding="utf-8"))["annotations"]:
        captions.setdefault(entry["image_id"], []).append(entry["caption"].strip())
    return list(captions.values())[:n]


class Classified(NamedTuple):
    """Image embeddings (n, d), the text embedding of each class (c, d), and labels (n,)."""

    image: np.ndarray
    classes: np.ndarray
    label: np.ndarray


def published_cifar10() -> Classified:
    """OpenCLIP ViT-B/32 (laion2b_s34b_b79k) on 848 training images of CIFAR-10, by others.

    Image and text embeddings of 512 dimensions, float32 and L2-normalised; a class's text is its
    bare name. Labels are those of CIFAR-10. Source: the repository
    manu-kick/Deep-subspace-aligment-and-modality-gap-dimensions (no licence: not redistributed).

    Raises: NotAvailable if there is no such file and no network.
    """
    with np.load(_fetched("cifar10_clip", "train_shard012.npz", CIFAR10), allow_pickle=False) as of:
        image, text, label = of["vision_emb"], of["text_emb"], of["label_ids"].astype(np.int64)
    first = np.unique(label, return_index=True)[1]
    return Classified(image.astype(np.float32), text[first].astype(np.float32), label)


def pairs_by_model(
    names: Sequence[str], pairs: Dataset, published: str = "clip"
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], str]:
    """Images and first captions (n, d) of pairs by each model, and of the published CLIP (`CLIP`).

    What is measured on the profile's models and on real embeddings alike. The second return value
    is a sentence where the published ones cannot be had, else empty.

    Args:
        names: models of the registry.
        pairs: what they are to encode.
        published: "clip" or "clip_random".
    """
    each = {name: embed(registry.load(name), pairs) for name in names}
    missing = ""
    try:
        each[CLIP] = published_embeddings(published)
    except NotAvailable as error:
        missing = f"Real CLIP embeddings are left out. {error}"
    return {name: (e.image.numpy(), e.first().numpy()) for name, e in each.items()}, missing


def data_of(model: str) -> str:
    """What a finding gives as its data: empty for a model of the profile, which has its own."""
    return CLIP_PAIRS if model == CLIP else ""


def _fetched(folder: str, file: str, sha256: str) -> Path:
    """A published file: our own, that of the cache, or downloaded."""
    own = sources.own_folder()
    for path in [own / file, own / folder / file] if own else []:
        if path.is_file():
            if pooch.file_hash(str(path)) != sha256:
                raise NotAvailable(f"{path} is not the published file: its SHA-256 differs.")
            return path
    kept = paths.CACHE / folder
    if download.offline() and not (kept / file).is_file():
        raise NotAvailable(_NO_PUBLISHED.format(file=file, why="HF_HUB_OFFLINE is set"))
    pooch.get_logger().setLevel("WARNING")
    try:
        get = pooch.HTTPDownloader(timeout=(5, 30))
        return Path(pooch.retrieve(_ADDRESS[folder] + file, sha256, file, kept, downloader=get))
    except OSError as error:  # requests' errors are OSErrors
        raise NotAvailable(_NO_PUBLISHED.format(file=file, why="there is no network")) from error
    except ValueError as error:
        raise NotAvailable(f"The download of {file} is damaged: its SHA-256 differs.") from error


_NO_PUBLISHED = (
    "{file} is not here and {why}: download it once, or let MODALITY_GAP_DATA name a folder that "
    "holds it."
)

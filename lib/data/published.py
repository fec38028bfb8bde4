"""Embeddings of real CLIP that others have published, and what belongs to them, checked by hash.

A file comes from the folder that MODALITY_GAP_DATA names (or a subfolder of it), else from the
cache, else from a download at a fixed commit. Its SHA-256 must be the published file's; for a file
that was never seen here, its git blob id must be.
"""

import hashlib
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
OPENCLIP = "published OpenCLIP ViT-B/32"
CIFAR10_IMAGES = {  # split -> what a finding gives as its data
    "sample": "848 CIFAR-10 images",
    "train": "50,000 CIFAR-10 images",
    "test": "10,000 CIFAR-10 images",
}
# folder of our own data or cache -> where its files are published
_ADDRESS = {
    "mind_the_gap": "https://raw.githubusercontent.com/Weixin-Liang/Modality-Gap/"
    "8e20cb24efa4c5f89aad694f2f65eb43ffc46d10/Figure_1_Modality_Gap/",
    "coco_captions": "https://raw.githubusercontent.com/ruizewang/evaluate/"
    "1152656d3b8c66c48fc6a4357e159f5e21bd2d2d/annotations/",
    "cifar10_clip": "https://raw.githubusercontent.com/manu-kick/"
    "Deep-subspace-aligment-and-modality-gap-dimensions/241b47dd160728646561bbad6199ce0e9389947d/"
    "dataset/cifar10/precomputed_cifar10_text_vision_labels/",
}
CAPTIONS = "1018a8760deaf1fc71be2f1b8da1a1348b9c35994af4322ca2fd795a78abb79c"
CIFAR10 = "8684a368fe0db55c7decfcadccdada7b2394558aeca54d149d30a78e34054e3c"
CIFAR10_BLOBS = {  # split -> git blob ids of its shards
    "train": [
        "556d4dbc717b8bd0a2fc9b1ce5fb627b615a1c3f",
        "e1089d74e6f4ae97135b65324403b9d24101c37a",
        "984a73ff3f0cef9f527393397af7a57756a0bf1c",
        "7b3f700605d254d6985e54bc4b215ebc29c7f074",
        "3416f44b8d62d6c4b877c09a9a3ff1941f0da904",
        "b1d948078017a7409435914e638441a137bc6e0f",
        "ab2eaab7174aad9c48ea5c968414ffbab68a747d",
        "b4b8843782b3556623d1e158029d76a48bc8ae65",
        "50ad984ab235599f18d0e45782a7e5192f4aa0f7",
        "2662c1373a319e2a055eafe984de567dd765c8da",
        "3988fdca5295f032661099ade6f918839e01c4cf",
        "e3306c25e638c8eabd7e128bbd9535db3968bc3d",
        "fec39dc22ddaec072730fd67bf0ca4e8c7a6bf91",
    ],
    "test": [
        "cbb1b7a1928bbc1ccb587bfd434297dc3bc0847a",
        "63055cd32f50c875140ced17a7884f82c7c24bae",
        "6fb5b41ac164b5dbdf0d3af4df7f4bf12d5f8b9a",
    ],
}
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

    The pairs are the first images of COCO val2017 in the order of its annotations. The text that
    was encoded is the last caption of each: of all choices, it makes the cosines of the published
    texts follow the overlap of words best. Source: COCO Consortium, captions_val2017.json
    (CC BY 4.0).

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


def published_cifar10(split: str = "sample") -> Classified:
    """OpenCLIP ViT-B/32 (laion2b_s34b_b79k) on images of CIFAR-10, by others.

    Image and text embeddings of 512 dimensions, float32 and L2-normalised; a class's text is its
    bare name. Labels are those of CIFAR-10. Source: the repository
    manu-kick/Deep-subspace-aligment-and-modality-gap-dimensions (no licence: not redistributed).

    Args:
        split: "sample" (848 training images, 2 MB), "train" (50,000, about 115 MB) or "test"
            (10,000, about 23 MB).

    Raises: ValueError for an unknown split; NotAvailable if a file is not there and there is no
        network, or if it is not the published one.
    """
    if split not in CIFAR10_IMAGES:
        raise ValueError(suggestions.unknown("split of CIFAR-10", split, CIFAR10_IMAGES))
    part = "train" if split == "sample" else split
    shards = {f"{part}_shard{i:03}.npz": blob for i, blob in enumerate(CIFAR10_BLOBS[part])}
    if split == "sample":
        shards = {"train_shard012.npz": CIFAR10}
    folder = f"cifar10_{part}_ViT-B-32_laion2b_s34b_b79k"
    files = [_fetched("cifar10_clip", f"{folder}/{name}", shards[name]) for name in shards]
    image, text, label = map(np.concatenate, zip(*map(_arrays, files), strict=True))
    first = np.unique(label, return_index=True)[1]
    return Classified(image.astype(np.float32), text[first].astype(np.float32), label)


def _arrays(shard: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image and text embeddings (n, d) and labels (n,) of a shard; pickled arrays are not read."""
    with np.load(shard, allow_pickle=False) as of:
        return of["vision_emb"], of["text_emb"], of["label_ids"].astype(np.int64)


def pairs_by_model(
    names: Sequence[str], pairs: Dataset, published: str = "clip"
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], str]:
    """Images and first captions (n, d) of pairs by each model, and of the published CLIP (`CLIP`).

    What is measured on the profile's models and on real embeddings alike. The second return value
    is a sentence where the published ones are not available, else empty.

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


def _fetched(folder: str, file: str, known: str) -> Path:
    """A published file: our own, that of the cache, or downloaded.

    `file` is its path below the address of the folder, of which only the name counts here; `known`
    is its SHA-256 or its git blob id. One of the cache that is not the published one is renewed.
    """
    name = Path(file).name
    own = sources.own_folder()
    for path in [own / name, own / folder / name] if own else []:
        if path.is_file():
            if not _is_published(path, known):
                raise NotAvailable(f"{path} is not the published file: its {_kind(known)} differs.")
            return path
    kept = paths.CACHE / folder / name
    if kept.is_file():
        if _is_published(kept, known):
            return kept
        kept.unlink()
    if download.offline():
        raise NotAvailable(_NO_PUBLISHED.format(file=name, why="HF_HUB_OFFLINE is set"))
    pooch.get_logger().setLevel("WARNING")
    try:
        get = pooch.HTTPDownloader(timeout=(5, 30))
        pooch.retrieve(_ADDRESS[folder] + file, None, name, kept.parent, downloader=get)
    except OSError as error:  # requests' errors are OSErrors
        raise NotAvailable(_NO_PUBLISHED.format(file=name, why="there is no network")) from error
    if not _is_published(kept, known):
        kept.unlink(missing_ok=True)
        raise NotAvailable(f"The download of {name} is damaged: its {_kind(known)} differs.")
    return kept


def _is_published(file: Path, known: str) -> bool:
    """Whether the file's SHA-256, or its git blob id, is `known`."""
    content = file.read_bytes()
    if _kind(known) == "SHA-256":
        return hashlib.sha256(content).hexdigest() == known
    whole = b"blob %d\0" % len(content) + content
    return hashlib.sha1(whole, usedforsecurity=False).hexdigest() == known


def _kind(known: str) -> str:
    return "SHA-256" if len(known) == 64 else "git blob id"


_NO_PUBLISHED = (
    "{file} is not here and {why}: download it once, or let MODALITY_GAP_DATA name a folder that "
    "holds it."
)

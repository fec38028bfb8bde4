"""The embeddings that the authors of Mind the Gap published, checked by hash."""

from collections.abc import Sequence
from pathlib import Path

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
_GAP_URL = (
    "https://raw.githubusercontent.com/Weixin-Liang/Modality-Gap/"
    "8e20cb24efa4c5f89aad694f2f65eb43ffc46d10/Figure_1_Modality_Gap/"
)
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
    published. Taken from the folder that MODALITY_GAP_DATA names (itself or its subfolder
    mind_the_gap), else from the cache, else downloaded; the SHA-256 must be the published file's.

    Raises: ValueError for an unknown name; NotAvailable if there is no such file and no network.
    """
    if name not in PUBLISHED:
        raise ValueError(suggestions.unknown("published embedding", name, PUBLISHED))
    both = np.load(_published_file(f"features_{name}.npy", PUBLISHED[name]), allow_pickle=False)
    image, text = (torch.from_numpy(np.array(part, np.float32)) for part in both)
    return Embeddings(image, text, torch.arange(len(image)))


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


def _published_file(file: str, sha256: str) -> Path:
    own = sources.own_folder()
    for path in [own / file, own / "mind_the_gap" / file] if own else []:
        if path.is_file():
            if pooch.file_hash(str(path)) != sha256:
                raise NotAvailable(f"{path} is not the published file: its SHA-256 differs.")
            return path
    folder = paths.CACHE / "mind_the_gap"
    if download.offline() and not (folder / file).is_file():
        raise NotAvailable(_NO_PUBLISHED.format(file=file, why="HF_HUB_OFFLINE is set"))
    pooch.get_logger().setLevel("WARNING")
    try:
        get = pooch.HTTPDownloader(timeout=(5, 30))
        return Path(pooch.retrieve(_GAP_URL + file, sha256, file, folder, downloader=get))
    except OSError as error:  # requests' errors are OSErrors
        raise NotAvailable(_NO_PUBLISHED.format(file=file, why="there is no network")) from error
    except ValueError as error:
        raise NotAvailable(f"The download of {file} is damaged: its SHA-256 differs.") from error


_NO_PUBLISHED = (
    "{file} is not here and {why}: download it once, or let MODALITY_GAP_DATA name a folder that "
    "holds it."
)

"""Tensors and data sets that were dear to make, kept on the disk by content.

A file's name is the SHA-256 of its key: everything that the tensors depend on. It is written under
another name and then renamed, and its own SHA-256 stands in the sidecar beside it: half a file, or
a damaged one, is computed again.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path

import datasets
import safetensors.torch
import torch

from lib import paths

logger = logging.getLogger(__name__)

Tensors = dict[str, torch.Tensor]


def tensors(room: str, key: dict, compute: Callable[[], Tensors], about: dict) -> Tensors:
    """What `compute()` gives, from the disk if it was computed before for the same key.

    Args:
        room: folder of the cache.
        key: plain values that determine the tensors.
        about: further notes for whoever looks into the sidecar; they play no part in the key.
    """
    path = _place(room, key).with_suffix(".safetensors")
    found = _read(path)
    if found is None:
        found = {what: tensor.contiguous() for what, tensor in compute().items()}
        _write(path, found, key | about)
    return found


def dataset(room: str, key: dict, compute: Callable[[], datasets.Dataset]) -> datasets.Dataset:
    """The data set that `compute()` gives, from the disk if it was made before for the same key."""
    path = _place(room, key)
    if path.exists():
        try:
            return datasets.load_from_disk(path)
        except Exception as error:  # of whatever reader
            logger.warning("%s is damaged (%s): making it again.", path.name, type(error).__name__)
            shutil.rmtree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".", suffix=".part") as temporary:
        with _quietly():
            compute().save_to_disk(Path(temporary) / path.name)
        with suppress(OSError):  # another process was faster, with the same rows
            (Path(temporary) / path.name).rename(path)
    return datasets.load_from_disk(path)


@contextmanager
def _quietly():
    """Without the bar that `datasets` would show for every small file."""
    silent = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not silent:
            datasets.enable_progress_bars()


def _place(room: str, key: dict) -> Path:
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    return paths.CACHE / room / name


def digest(tensor: torch.Tensor) -> str:
    """SHA-256 of a tensor's numbers, their type and shape."""
    content = tensor.detach().cpu().contiguous()
    about = f"{content.dtype} {tuple(content.shape)} ".encode()
    return hashlib.sha256(about + content.view(torch.uint8).numpy().tobytes()).hexdigest()


def _read(path: Path) -> Tensors | None:
    """The tensors in a cache file, or None if there is no whole one."""
    sidecar = path.with_suffix(".json")
    if not path.exists() and not sidecar.exists():
        return None
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() == json.loads(sidecar.read_text())["sha256"]:
            return safetensors.torch.load(content)
        reason = "its SHA-256 is not the one written down"
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
    logger.warning("The cached file %s is damaged (%s): computing it again.", path.name, reason)
    return None


def _write(path: Path, content: Tensors, about: dict) -> None:
    saved = safetensors.torch.save(content)
    about = about | {
        "shape": {what: list(tensor.shape) for what, tensor in content.items()},
        "sha256": hashlib.sha256(saved).hexdigest(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, saved)
    _replace(path.with_suffix(".json"), (json.dumps(about, indent=1) + "\n").encode())


def _replace(path: Path, content: bytes) -> None:
    """Write under a name of its own, then rename: no reader ever sees half a file."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise

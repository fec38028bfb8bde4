"""Files that are there whole or not at all, and tensors kept on the disk by content.

A kept tensor's file name is the SHA-256 of its key: everything that the tensor depends on. Its own
SHA-256 is in the sidecar beside it: half a file, or a damaged one, is computed again.
"""

import hashlib
import json
import logging
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lib import paths

logger = logging.getLogger(__name__)

# Writing ------------------------------------------------------------------------------------------


@contextmanager
def put(target: Path) -> Iterator[Path]:
    """A place beside `target` to write a file or a folder to; at the end it becomes `target`.

    No reader ever sees half of it, and if the writing fails, `target` stays as it was. A folder
    that is there already is replaced.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = beside(target)
    _remove(part)
    try:
        yield part
        if part.is_dir() and target.is_dir():
            _exchange(part, target)
        else:
            os.replace(part, target)
    finally:
        _remove(part)


def beside(target: Path) -> Path:
    """A path in the folder of `target` that is this process's own, also among several machines."""
    return target.with_name(f".{platform.node()}-{os.getpid()}.{target.name}")


def _exchange(part: Path, target: Path) -> None:
    """Swap a folder for another, which comes back if that fails."""
    old = beside(target.with_name(f"{target.name}.old"))
    _remove(old)
    os.replace(target, old)
    try:
        os.replace(part, target)
    except BaseException:
        os.replace(old, target)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_bytes(file: Path, content: bytes) -> None:
    """Write a whole file or nothing."""
    with put(file) as part:
        part.write_bytes(content)


def write_text(file: Path, text: str) -> None:
    """Write a whole text or nothing."""
    write_bytes(file, text.encode("utf-8"))


def write_json(file: Path, content: object) -> None:
    """Write plain values, one to a line where they are many."""
    write_text(file, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, which may be large: it is never in memory as a whole."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Kept tensors -------------------------------------------------------------------------------------


def tensors(room: str, key: dict, compute: Callable[[], dict], about: dict) -> dict:
    """The tensors by name that `compute()` gives, from the disk if they were computed before.

    Of two processes that ask for the same key, one computes and the other waits.

    Args:
        room: folder of the cache.
        key: plain values that determine the tensors.
        about: further notes for whoever looks into the sidecar; they play no part in the key.
    """
    name = sha256(json.dumps(key, sort_keys=True).encode())[:32]
    path = (paths.CACHE / room / name).with_suffix(".safetensors")
    kept = _read(path)
    if kept is None:
        with alone(path):
            kept = _read(path)  # meanwhile, another process may have computed it
            if kept is None:
                kept = {what: tensor.contiguous() for what, tensor in compute().items()}
                _write(path, kept, key | about)
    return kept


@contextmanager
def alone(path: Path):
    """One process at a time for a file; on a file system without locks, as many as there are."""
    from filelock import FileLock, Timeout

    # A few lock files for all keys, because they stay.
    lock = FileLock(path.parent / "locks" / path.name[:2])
    with suppress(OSError, NotImplementedError, Timeout):
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def digest(tensor) -> str:
    """SHA-256 of a tensor's numbers, their type and shape."""
    import torch

    content = tensor.detach().cpu().contiguous()
    about = f"{content.dtype} {tuple(content.shape)} ".encode()
    return sha256(about + content.view(torch.uint8).numpy().tobytes())


def _read(path: Path) -> dict | None:
    """The tensors in a cache file, or None if there is no whole one."""
    import safetensors.torch

    sidecar = path.with_suffix(".json")
    if not path.exists() and not sidecar.exists():
        return None
    try:
        content = path.read_bytes()
        if sha256(content) == json.loads(sidecar.read_text())["sha256"]:
            return safetensors.torch.load(content)
        reason = "its SHA-256 is not the one written down"
    except PermissionError as error:
        logger.warning("The cached file %s belongs to another user: computing it again.", error)
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
    logger.warning("The cached file %s is damaged (%s): computing it again.", path.name, reason)
    path.unlink(missing_ok=True)
    sidecar.unlink(missing_ok=True)
    return None


def _write(path: Path, content: dict, about: dict) -> None:
    import safetensors.torch

    saved = safetensors.torch.save(content)
    about = about | {
        "shape": {what: list(tensor.shape) for what, tensor in content.items()},
        "sha256": sha256(saved),
    }
    write_bytes(path, saved)
    write_json(path.with_suffix(".json"), about)

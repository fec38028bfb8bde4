"""Files of public repositories at a fixed revision: downloaded once, offline ever after."""

import errno
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub import errors as hub_errors

TIMEOUT = 10  # seconds; asked once, because the hub's own retries take 23 s without a network
_NETWORK = ("ConnectError", "ConnectionError", "ConnectTimeout", "ReadTimeout", "Timeout")


class NotAvailable(RuntimeError):
    """Data or weights that cannot be had here and now; the message says why, in one sentence."""


def fetch(repo: str, revision: str, files: list[str], also=(), kind="model") -> Path:
    """Folder in the Hugging Face cache that holds `files` of `repo` at the commit `revision`.

    `files` are names or shell patterns that must all match something; those in `also` may match.
    Files that are there already are used without asking the network. `kind` is "model" or
    "dataset".

    Raises: NotAvailable if the files are not there and cannot be downloaded.
    """
    patterns = [*files, *also]
    folder = _local(repo, revision, files, patterns, kind)
    if folder is None:
        _ask(repo, revision, kind)
        folder = _download(repo, revision, files, patterns, kind)
    return folder


def offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids every download."""
    return constants.HF_HUB_OFFLINE


def _local(repo: str, revision: str, files, patterns, kind: str) -> Path | None:
    try:
        folder = Path(
            snapshot_download(
                repo,
                repo_type=kind,
                revision=revision,
                allow_patterns=patterns,
                local_files_only=True,
            )
        )
    except hub_errors.LocalEntryNotFoundError:
        return None
    return None if _missing(folder, files) else folder


def _download(repo: str, revision: str, files, patterns, kind: str) -> Path:
    try:
        folder = Path(
            snapshot_download(repo, repo_type=kind, revision=revision, allow_patterns=patterns)
        )
    except Exception as error:
        raise NotAvailable(sentence(error, repo)) from error
    missing = _missing(folder, files)
    if missing:
        raise NotAvailable(f"{repo} at revision {revision[:12]} has no {' and no '.join(missing)}.")
    return folder


def _missing(folder: Path, files) -> list[str]:
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return [pattern for pattern in files if not any(fnmatch(name, pattern) for name in names)]


def _ask(repo: str, revision: str, kind: str) -> None:
    """One quick question first: the download itself would retry for half a minute."""
    try:
        HfApi().repo_info(repo, repo_type=kind, revision=revision, timeout=TIMEOUT)
    except Exception as error:
        raise NotAvailable(sentence(error, repo)) from error


def sentence(error: Exception, what: str) -> str:
    """One sentence that says why `what` could not be had, and what to do about it."""
    text = str(error)
    if isinstance(error, hub_errors.GatedRepoError):
        return (
            f"{what} is gated: accept its terms on https://huggingface.co, "
            "then run `hf auth login`."
        )
    if isinstance(error, hub_errors.RevisionNotFoundError):
        return f"{what} does not have the revision asked for."
    if isinstance(error, hub_errors.RepositoryNotFoundError):
        return f"There is no public repository {what} on https://huggingface.co."
    if getattr(error, "errno", None) == errno.ENOSPC or "disk space" in text:
        return f"The disk is too full for {what}: free some space, or set HF_HOME to another disk."
    if isinstance(error, hub_errors.OfflineModeIsEnabled):
        return f"{what} is not in the local cache, and HF_HUB_OFFLINE forbids to download it."
    if type(error).__name__ in _NETWORK:
        return f"{what} is not in the local cache, and there is no network to download it."
    first = (text.splitlines() or [""])[0][:200]
    return f"{what} could not be had ({type(error).__name__}: {first})."

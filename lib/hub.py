"""Files of public repositories at a fixed revision: downloaded once, offline ever after."""

import errno
import json
import os
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub import errors as hub_errors

from lib import paths

TIMEOUT = 10  # seconds; asked once, because the hub's own retries take 23 s without a network
_NETWORK = ("ConnectError", "ConnectionError", "ConnectTimeout", "ReadTimeout", "Timeout")


class NotAvailable(RuntimeError):
    """Data or weights that cannot be had here and now; the message says why, in one sentence."""


def fetch(repo: str, revision: str | None, files: list[str], also=(), kind="model") -> Path:
    """Folder in the Hugging Face cache that holds `files` of `repo` at `revision`.

    `files` are names or shell patterns that must all match something; those in `also` may match.
    `revision` is a commit hash. Without one, the commit that is current at the first download is
    taken, written down under CACHE/revisions, and kept from then on (trust on first use). Files
    that are there already are used without asking the network. `kind` is "model" or "dataset".

    Raises: NotAvailable if the files are not there and cannot be downloaded.
    """
    pinned = revision or _noted(repo, kind)
    patterns = [*files, *also]
    folder = _local(repo, pinned, files, patterns, kind)
    if folder is None:
        # One quick question first: the download below would retry for half a minute.
        pinned = _commit(repo, pinned, kind)
        folder = _download(repo, pinned, files, patterns, kind)
    if revision is None:
        _note(repo, kind, folder.name)
    return folder


def offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids every download."""
    return constants.HF_HUB_OFFLINE


def _local(repo: str, revision: str | None, files, patterns, kind: str) -> Path | None:
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


def _commit(repo: str, revision: str | None, kind: str) -> str:
    """The commit hash of `revision`, or of the main branch."""
    try:
        return HfApi().repo_info(repo, repo_type=kind, revision=revision, timeout=TIMEOUT).sha
    except Exception as error:
        raise NotAvailable(sentence(error, repo)) from error


def _note_path(repo: str, kind: str) -> Path:
    return paths.CACHE / "revisions" / f"{kind}--{repo.replace('/', '--')}.json"


def _noted(repo: str, kind: str) -> str | None:
    path = _note_path(repo, kind)
    return json.loads(path.read_text())["revision"] if path.exists() else None


def _note(repo: str, kind: str, revision: str) -> None:
    path = _note_path(repo, kind)
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps({"repo": repo, "revision": revision}) + "\n")
    os.replace(temporary, path)


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

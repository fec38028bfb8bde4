"""Files of public repositories at a fixed revision: downloaded once, offline ever after."""

import errno
import json
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub import errors as hub_errors

from lib import paths
from lib.files import alone, sha256_of, write_json

logger = logging.getLogger(__name__)

TIMEOUT = 10  # seconds; asked once, because the hub's own retries take 23 s without a network
_NETWORK = ("ConnectError", "ConnectionError", "ConnectTimeout", "ReadTimeout", "Timeout")
_BROKEN = ("RemoteProtocolError", "ReadError", "ChunkedEncodingError")


class NotAvailable(RuntimeError):
    """Data or weights that are not available now; the message says why, in one sentence."""


class Incomplete(NotAvailable):
    """A repository that lacks a file which is needed."""


def fetch(repo: str, revision: str, files: list[str], also=(), kind="model") -> Path:
    """Folder in the Hugging Face cache that holds `files` of `repo` at the commit `revision`.

    `files` are names or shell patterns that must all match something; those in `also` may match.
    Files that are there already are used without asking the network. `kind` is "model" or
    "dataset".

    Raises: NotAvailable if the files are not there and cannot be downloaded; Incomplete if the
    repository lacks one.
    """
    patterns = [*files, *also]
    folder = _local(repo, revision, files, patterns, kind)
    if folder is None:
        _ask(repo, revision, kind)
        folder = _download(repo, revision, files, patterns, kind)
    return folder


def present(repo: str, kind: str = "model") -> str:
    """The commit of a "model" or "dataset" that its first use here found, the same ever after.

    Raises: NotAvailable at the first use, if the hub cannot be asked.
    """
    file = _revisions()
    with alone(file):
        if not known(repo):
            commit = _ask(repo, "main", kind).sha
            fixed = json.loads(file.read_text()) if file.is_file() else {}
            write_json(file, dict(sorted((fixed | {repo: commit}).items())))
            logger.warning("%s is used at its present commit, %s, from now on.", repo, commit)
    return known(repo)


def known(repo: str) -> str:
    """The commit that `present` fixed; empty before."""
    file = _revisions()
    return json.loads(file.read_text()).get(repo, "") if file.is_file() else ""


def _revisions() -> Path:
    return paths.CACHE / "revisions.json"


def available(
    load: Callable[[object], object],
    names: Mapping[object, object] | Iterable,
    needed: Collection = (),
    most: int | None = None,
) -> tuple[dict, str]:
    """Which of several models or data sets are available now, and a note on the others.

    Args:
        load: gives what has a name, or raises NotAvailable; any other error is an error here, too.
        names: key -> name, or names that are their own keys.
        needed: keys without which there is nothing to do.
        most: this many available ones are enough; the others are not asked for.

    Returns: what was loaded by key, in the order of `names`, and "Without KEY: why." for each other
        ("" if there is none).

    Raises: NotAvailable if one of `needed` is not available.
    """
    named = names if isinstance(names, Mapping) else {name: name for name in names}
    found, missing = {}, []
    for key, name in named.items():
        if len(found) == most:
            break
        try:
            found[key] = load(name)
        except NotAvailable as error:
            if key in needed:
                raise
            called = ", ".join(map(str, key)) if isinstance(key, tuple) else key
            missing.append(f"Without {called}: {error}")
    return found, " ".join(missing)


def first_available(
    load: Callable[[object], object], names: Mapping[object, object] | Iterable
) -> tuple[object, object, str]:
    """The first available one, for what takes one of several: see `available`.

    Returns: its key, what was loaded, and a note on those before it.

    Raises: NotAvailable if none is available.
    """
    found, missing = available(load, names, most=1)
    for key, value in found.items():
        return key, value, missing
    raise NotAvailable(missing or "There is nothing to choose from.")


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
    _check_bytes(folder, repo)
    missing = _missing(folder, files)
    if missing:
        raise Incomplete(f"{repo} at revision {revision[:12]} has no {' and no '.join(missing)}.")
    return folder


def _missing(folder: Path, files) -> list[str]:
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return [pattern for pattern in files if not any(fnmatch(name, pattern) for name in names)]


def _check_bytes(folder: Path, repo: str) -> None:
    """Refuse files that are not what the hub says: its client compares their sizes alone.

    The cache keeps a large file under the SHA-256 that the hub gives for it.
    """
    for path in folder.rglob("*"):
        kept = path.resolve()
        if len(kept.name) == 64 and path.is_symlink() and sha256_of(kept) != kept.name:
            kept.unlink()
            path.unlink()
            raise NotAvailable(f"{repo}: {path.name} came damaged; run it again to get it anew.")


def _ask(repo: str, revision: str, kind: str):
    """What the hub says of a revision. Asked before a download, which would retry for long."""
    try:
        return HfApi().repo_info(repo, repo_type=kind, revision=revision, timeout=TIMEOUT)
    except Exception as error:
        raise NotAvailable(sentence(error, repo)) from error


def sentence(error: Exception, what: str) -> str:
    """One sentence that says why `what` is not available, and what to do about it."""
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
    full = "disk space" in text or "No space left" in text
    if full or getattr(error, "errno", None) == errno.ENOSPC:
        return f"The disk is too full for {what}: free some space, or set HF_HOME to another disk."
    if isinstance(error, hub_errors.OfflineModeIsEnabled):
        return f"{what} is not in the local cache, and HF_HUB_OFFLINE forbids to download it."
    if type(error).__name__ in _NETWORK:
        return f"{what} is not in the local cache, and there is no network to download it."
    if type(error).__name__ in _BROKEN or "Consistency check failed" in text:
        return f"The download of {what} broke off: run it again."
    first = (text.splitlines() or [""])[0][:200]
    return f"{what} is not available ({type(error).__name__}: {first})."

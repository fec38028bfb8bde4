"""Files of public repositories at a fixed revision: downloaded once, offline ever after."""

import errno
from collections.abc import Callable, Collection, Iterable, Mapping
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


def available(
    load: Callable[[object], object],
    names: Mapping[object, object] | Iterable,
    needed: Collection = (),
    most: int | None = None,
) -> tuple[dict, str]:
    """What can be had here and now of several models or data sets, and a word on the others.

    Args:
        load: gives what has a name, or raises NotAvailable; any other error is an error here, too.
        names: key -> name, or names that are their own keys.
        needed: keys without which there is nothing to do.
        most: the first so many that can be had are enough; the others are not asked for.

    Returns: what was loaded by key, in the order of `names`, and "Without KEY: why." for each other
        ("" if there is none).

    Raises: NotAvailable if one of `needed` cannot be had.
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
    """The first that can be had, for what takes one of several: see `available`.

    Returns: its key, what was loaded, and a word on those before it.

    Raises: NotAvailable if none can be had.
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

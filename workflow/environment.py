"""Find or make the Python environment that everything runs in. Standard library only.

`python -m workflow.environment` prints the path of its Python; `run_all.sh` goes on with that one.
An activated environment that satisfies the project is used as it is. Otherwise uv makes `.venv`
from `requirements.lock`, once for each version of the lock.
"""

import fcntl
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from contextlib import contextmanager
from pathlib import Path

from lib import paths

VENV = paths.ROOT / ".venv"
LOCK = paths.ROOT / "requirements.lock"
LOG = paths.CACHE / "logs" / "install.log"
COMPLETE, OURS = "complete", "made-by-run-all"  # marks inside .venv; the first is written last
NEEDED_GB = 7


class Unusable(RuntimeError):
    """No environment; the message is one sentence for the user, with what to do about it."""


def main() -> int:
    if sys.argv[1:] == ["--missing"]:
        print("".join(f"{requirement}\n" for requirement in missing()), end="")
        return 0
    try:
        print(find())
    except (Unusable, OSError) as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nrun_all.sh: interrupted; run it again, and it installs the rest.", file=sys.stderr)
        return 130
    return 0


def find() -> Path:
    """The Python to use; makes or brings up to date `.venv` if no activated environment will do.

    Raises: Unusable.
    """
    active = os.environ.get("VIRTUAL_ENV") or os.environ.get("CONDA_PREFIX")
    if active and Path(active).resolve() != VENV.resolve():
        lacking = _lacking(Path(active) / "bin" / "python")
        if not lacking:
            return Path(active) / "bin" / "python"
        if not VENV.exists():
            say(f"The activated environment {active} lacks {lacking[0]}: making .venv instead.")
    with _installing_alone():
        return own()


def _lacking(python: Path) -> list[str]:
    """Requirements that this Python's environment does not meet."""
    asked = [python, "-m", "workflow.environment", "--missing"]
    try:
        answer = subprocess.run(asked, cwd=paths.ROOT, capture_output=True, text=True)
    except OSError:
        return ["Python"]
    return answer.stdout.splitlines() if answer.returncode == 0 else ["Python 3.11 or newer"]


def project(root: Path = paths.ROOT) -> dict:
    """The table `project` of a repository's `pyproject.toml`: name, version, dependencies."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def missing() -> list[str]:
    """Requirements of `pyproject.toml` that the running Python does not meet."""
    needed = project()["dependencies"]
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return needed
    return [text for text in needed if not _met(Requirement(text))]


def _met(requirement) -> bool:
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return requirement.specifier.contains(version, prereleases=True)


# Our own ------------------------------------------------------------------------------------------


def own() -> Path:
    """The Python of `.venv`, complete and from the present lock.

    Raises: Unusable if it cannot be made, or is not ours to change.
    """
    python, complete = VENV / "bin" / "python", VENV / COMPLETE
    wanted = f"{paths.ROOT}\n{hashlib.sha256(LOCK.read_bytes()).hexdigest()}\n"
    if python.exists() and complete.exists() and complete.read_text() == wanted:
        return python
    if python.exists() and not (VENV / OURS).exists():
        if lacking := _lacking(python):
            raise Unusable(
                f".venv was made by somebody else and lacks {lacking[0]}: remove it, or run "
                ".venv/bin/pip install -r requirements.lock"
            )
        return python
    complete.unlink(missing_ok=True)
    _make(python)
    _install(python)
    complete.write_text(wanted, encoding="utf-8")
    say("Installed.")
    return python


def _make(python: Path) -> None:
    """An empty `.venv`, if there is none, and a path in it to this repository."""
    free = shutil.disk_usage(paths.ROOT).free / 1e9
    if not python.exists():
        if free < NEEDED_GB:
            raise Unusable(
                f"a new environment needs about {NEEDED_GB} GB, and {free:.1f} GB are free in "
                f"{paths.ROOT}: make room, or activate an environment that has requirements.lock."
            )
        say("Making .venv")
        shutil.rmtree(VENV, ignore_errors=True)
        VENV.mkdir()
        (VENV / OURS).touch()
        LOG.unlink(missing_ok=True)
        uv = shutil.which("uv")
        makers = [[uv, "venv", "--allow-existing", "--python", sys.executable]] if uv else []
        for maker in [*makers, [sys.executable, "-m", "venv"]]:
            if _watched(*maker, VENV)[0] == 0:
                break
        else:
            raise Unusable(
                f"{sys.executable} cannot make a virtual environment: install its venv module (on "
                "Debian and Ubuntu the package python3-venv), or uv."
            )
    # A notebook that is opened in JupyterLab finds the packages of this repository by it.
    (site,) = (VENV / "lib").glob("python3*/site-packages")
    (site / "modality_gap.pth").write_text(f"{paths.ROOT}\n", encoding="utf-8")


def _install(python: Path) -> None:
    """Everything in the lock, by uv, which pip brings where it is not there."""
    say(f"Installing requirements.lock into .venv: about 5 GB, some minutes (log: {LOG})")
    uv = shutil.which("uv") or python.with_name("uv")
    if not Path(uv).exists():
        code, said = _watched(python, "-m", "pip", "install", "--retries", "2", "uv")
        if code:
            raise Unusable(_explained(said))
    options = ["--python", python, "--require-hashes", "--compile-bytecode", "--no-progress"]
    code, said = _watched(uv, "pip", "sync", *options, LOCK)
    if code:
        raise Unusable(_explained(said))
    if _watched(python, "-c", "import open_clip")[0]:
        raise Unusable(
            "torch and torchvision were installed and do not import together: remove .venv and any "
            "package folder or index of your own that offers another torch, and run it again."
        )


_REASONS = {
    r"No space left|Errno 28|os error 28": "the disk is full: make room and run it again.",
    r"HASH|hash mismatch|do not match the hash": "a download did not have the checksum in "
    "requirements.lock: clear the cache of uv, or look at your package index.",
    r"Could not find a version|No matching distribution|Max retries|Connection|ProxyError|"
    r"timed out|resolve|Name or service|Network|error sending request|Failed to fetch|dns error":
    "no package index could be reached, or it lacks a package: check the network and the settings "
    "of pip and uv.",
}  # fmt: skip


def _explained(said: str) -> str:
    """One sentence for what pip or uv printed."""
    for pattern, reason in _REASONS.items():
        if re.search(pattern, said):
            return f"{reason} (all of it: {LOG})"
    last = [line for line in said.splitlines() if line.strip()][-1:] or ["no reason given"]
    return f"the installation failed: {last[0].strip()} (all of it: {LOG})"


# Small things -------------------------------------------------------------------------------------


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _watched(*command) -> tuple[int, str]:
    """Run a long command: its last line on a terminal, all of it in a log; (exit code, output)."""
    live, lines = sys.stderr.isatty(), []
    LOG.parent.mkdir(parents=True, exist_ok=True)
    with LOG.open("a", encoding="utf-8") as log:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            close_fds=False,  # it holds the lock as well: nobody starts while it still writes
        )
        for line in process.stdout:
            lines.append(line)
            log.write(line)
            if live:
                width = shutil.get_terminal_size().columns - 1
                print(f"\r\033[K{line.strip()[:width]}", end="", file=sys.stderr, flush=True)
    if live:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    return process.wait(), "".join(lines)


@contextmanager
def _installing_alone():
    """Two installations at a time would spoil each other: the second waits for the first."""
    paths.CACHE.mkdir(parents=True, exist_ok=True)
    with (paths.CACHE / "install.lock").open("a") as file:
        os.set_inheritable(file.fileno(), True)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Waiting for another ./run_all.sh that is installing")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            say("This file system has no locks: start no second ./run_all.sh.")
        yield


if __name__ == "__main__":
    sys.exit(main())

"""Find or make the Python environment that everything runs in. Standard library only.

`python -m workflow.environment` prints the path of its Python; `run_all.sh` goes on with that one.
An activated environment that satisfies the project is used as it is. Otherwise `.venv` is made
from `requirements.lock`, once for each version of the lock, with uv where that can be had.
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
COMPLETE, UNFINISHED = "complete", "unfinished"  # marks inside .venv; the first is written last
NEEDED_GB = 7
PAIR = ("torch", "torchvision")  # open_clip imports both, and they must be built for each other


class Unusable(RuntimeError):
    """No environment; the message is one sentence for the user, with what to do about it."""


def main() -> int:
    if sys.argv[1:] == ["--missing"]:
        print("".join(f"{requirement}\n" for requirement in missing()), end="")
        return 0
    try:
        print(find())
    except Unusable as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nrun_all.sh: interrupted; run it again to install anew.", file=sys.stderr)
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


# An environment that somebody else made -----------------------------------------------------------


def _lacking(python: Path) -> list[str]:
    """Requirements that this Python's environment does not meet."""
    asked = [python, "-m", "workflow.environment", "--missing"]
    try:
        answer = subprocess.run(asked, cwd=paths.ROOT, capture_output=True, text=True)
    except OSError:
        return ["Python"]
    return answer.stdout.splitlines() if answer.returncode == 0 else ["Python 3.11 or newer"]


def missing() -> list[str]:
    """Requirements of `pyproject.toml` that the running Python does not meet."""
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return project["dependencies"]
    lacking = [text for text in project["dependencies"] if not _met(Requirement(text))]
    return lacking or ([] if _pair_works() else ["a torch and a torchvision built for each other"])


def _met(requirement) -> bool:
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return requirement.specifier.contains(version, prereleases=True)


def _pair_works() -> bool:
    """Whether torchvision imports beside torch: seen once, and remembered for these versions."""
    try:
        versions = [importlib.metadata.version(name) for name in PAIR]
    except importlib.metadata.PackageNotFoundError:
        return True
    seen = paths.CACHE / "environments" / _sha256(f"{sys.prefix} {versions}".encode())
    if not seen.exists():
        tried = subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True)
        if tried.returncode:
            return False
        seen.parent.mkdir(parents=True, exist_ok=True)
        seen.touch()
    return True


# Our own ------------------------------------------------------------------------------------------


def own() -> Path:
    """The Python of `.venv`, complete and from the present lock.

    Raises: Unusable if it cannot be made, or is not ours to change.
    """
    python, wanted = VENV / "bin" / "python", f"{paths.ROOT}\n{_sha256(LOCK.read_bytes())}\n"
    complete, unfinished = VENV / COMPLETE, VENV / UNFINISHED
    if python.exists() and not unfinished.exists() and _read(complete) == wanted:
        return python
    if python.exists() and not unfinished.exists() and not complete.exists():
        lacking = _lacking(python)
        if lacking:
            raise Unusable(
                f".venv was made by somebody else and lacks {lacking[0]}: remove it, or run "
                ".venv/bin/pip install -r requirements.lock"
            )
        return python
    if unfinished.exists() or not python.exists():
        _make()
    unfinished.touch()
    complete.unlink(missing_ok=True)
    _install(python)
    complete.write_text(wanted, encoding="utf-8")
    unfinished.unlink()
    say("Installed.")
    return python


def _make() -> None:
    """An empty `.venv`, marked as unfinished; what an interrupted run left is removed first."""
    if VENV.exists():
        shutil.rmtree(VENV)
    free = shutil.disk_usage(paths.ROOT).free / 1e9
    if free < NEEDED_GB:
        raise Unusable(
            f"a new environment needs about {NEEDED_GB} GB, and {free:.1f} GB are free in "
            f"{paths.ROOT}: make room, or activate an environment that has requirements.lock."
        )
    VENV.mkdir()
    (VENV / UNFINISHED).touch()
    say("Making .venv")
    _log().unlink(missing_ok=True)
    if _quietly(sys.executable, "-m", "venv", VENV) == 0:
        return
    uv = shutil.which("uv")
    if uv and _quietly(uv, "venv", "--allow-existing", "--python", sys.executable, VENV) == 0:
        return
    raise Unusable(
        f"{sys.executable} cannot make a virtual environment: install its venv module (on Debian "
        "and Ubuntu the package python3-venv), or uv."
    )


def _install(python: Path) -> None:
    """Everything in the lock, and this project itself, by uv or else by pip."""
    say("Installing requirements.lock into .venv: about 5 GB, some minutes")
    locked = ["--require-hashes", "-r", LOCK]
    said = ""
    if uv := _uv(python):
        options = ["--python", python, "--compile-bytecode", "--no-progress"]
        code, said = _watched(uv, "pip", "install", *options, *locked)
        if code == 0:
            return _install_project(python, uv, "pip", "install", "--python", python)
        say("uv could not install it: trying pip")
    pip = [python, "-m", "pip", "install", "--progress-bar", "off", "--retries", "2"]
    code, said = _watched(*pip, *locked)
    if code:
        raise Unusable(_explained(said))
    return _install_project(python, *pip)


_SETUPTOOLS = "import setuptools as s; assert int(s.__version__.split('.')[0]) >= 77"


def _install_project(python: Path, *install) -> None:
    here = [*install, "--no-deps"]
    if (
        _quietly(python, "-c", "import setuptools; assert int(setuptools.__version__[:2]) >= 77")
        == 0
    ):
        here.append("--no-build-isolation")
    code, said = _watched(*here, "-e", paths.ROOT)
    if code:
        raise Unusable(_explained(said))
    if _quietly(python, "-c", "import open_clip"):
        raise Unusable(
            "torch and torchvision were installed and do not import together: remove .venv and any "
            "package folder or index of your own that offers another torch, and run it again."
        )


def _uv(python: Path) -> str | None:
    """uv from the PATH, or brought into `.venv` by pip."""
    if found := shutil.which("uv"):
        return found
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _quietly(*pip, "--retries", "1", "--timeout", "15", "uv")
    own_uv = python.with_name("uv")
    return str(own_uv) if own_uv.exists() else None


_REASONS = {
    r"No space left|Errno 28|os error 28": "the disk is full: make room and run it again.",
    r"HASH|hash mismatch|do not match the hash": "a download did not have the checksum in "
    "requirements.lock: clear the cache of pip, or look at your package index.",
    r"Could not find a version|No matching distribution|Max retries|Connection|ProxyError|"
    r"timed out|resolve|Name or service|Network": "no package index could be reached, or it lacks "
    "a package: check the network and the settings of pip.",
}


def _explained(said: str) -> str:
    """One sentence for what pip or uv printed."""
    log = f" (all of it: {_log()})"
    for pattern, reason in _REASONS.items():
        if re.search(pattern, said):
            return reason + log
    last = [line for line in said.splitlines() if line.strip()][-1:] or ["no reason given"]
    return f"the installation failed: {last[0].strip()}{log}"


# Small things -------------------------------------------------------------------------------------


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _quietly(*command) -> int:
    return subprocess.run(
        [str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ).returncode


def _watched(*command) -> tuple[int, str]:
    """Run a long command: its last line on a terminal, all of it in a log; (exit code, output)."""
    live, lines = sys.stderr.isatty(), []
    _log().parent.mkdir(parents=True, exist_ok=True)
    with _log().open("a", encoding="utf-8") as log:
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


def _log() -> Path:
    return paths.CACHE / "logs" / "install.log"


@contextmanager
def _installing_alone():
    """Two installations at a time would spoil each other: the second waits for the first."""
    with LOCK.open() as file:
        os.set_inheritable(file.fileno(), True)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Waiting for another ./run_all.sh that is installing")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    sys.exit(main())

"""A hub on the loopback interface: a folder of repositories, served as huggingface.co serves them.

What `huggingface_hub` asks for is answered: a repository at a revision, the list of its files, and
the files, whole or from a byte on. What can go wrong is data: `Hub.faults`.
"""

import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class Refused:
    """Every answer is an error; `code` is the hub's word for the reason."""

    status: int
    code: str = ""


@dataclass
class Dropped:
    """The connection breaks after three quarters of what is asked for, so many times."""

    times: int = 1


@dataclass(frozen=True)
class Altered:
    """The bytes that come are other ones than those that the hash was made of."""

    change: Callable[[bytes], bytes] = lambda content: content[:-1] + bytes([content[-1] ^ 1])


GATED = Refused(403, "GatedRepo")
GONE = Refused(404, "RepoNotFound")


class Request(NamedTuple):
    """A line of the log: `start` is the byte that an answer was asked to begin with."""

    method: str
    path: str
    start: int
    status: int


@dataclass
class Hub:
    """The server; as a context it runs, and outside of it nobody answers.

    Attributes:
        folder: what is served: `models/OWNER/NAME/COMMIT/` and `datasets/OWNER/NAME/COMMIT/`.
        faults: "OWNER/NAME" (the files of a repository; with `/api` added, what is said about it)
            or "OWNER/NAME/FILE" -> what goes wrong there.
        log: every request that was answered, in order.
    """

    folder: Path
    faults: dict[str, Refused | Dropped | Altered] = field(default_factory=dict)
    log: list[Request] = field(default_factory=list)
    port: int = 0

    def __enter__(self) -> "Hub":
        handler = type("Answers", (_Answers,), {"hub": self})
        self._server = _Server(("127.0.0.1", self.port), handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        """What HF_ENDPOINT has to be."""
        return f"http://127.0.0.1:{self.port}"

    def asked(self, method: str = "", part: str = "") -> list[Request]:
        """The requests of the log with this method, and with `part` in their path."""
        return [line for line in self.log if method in line.method and part in line.path]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_) -> None:
        """A client that ends early, such as one with a full disk, is no error of the hub."""


_ABOUT = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?(?:/.*)?")
_FILE = re.compile(r"/(?:(datasets)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


class _Answers(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"
    timeout = 30

    def log_message(self, *_) -> None:
        """Not on the screen: `Hub.log` has it."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if match := _ABOUT.fullmatch(path):
            self._about(*match.groups())
        elif match := _FILE.fullmatch(path):
            self._file(*match.groups())
        else:
            self._refuse(Refused(404, "EntryNotFound"))

    def _about(self, kinds: str, repo: str, what: str | None, revision: str | None) -> None:
        folder = self._found(kinds, repo, revision or "main", f"{repo}/api")
        if folder is None:
            return
        names = sorted(path for path in folder.rglob("*") if path.is_file())
        if what == "tree":
            content = [_entry(folder, path) for path in names]
        else:
            siblings = [{"rfilename": path.relative_to(folder).as_posix()} for path in names]
            content = {"id": repo, "sha": folder.name, "siblings": siblings, "tags": []}
            content |= {"private": False, "downloads": 0}
        self._answer(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _file(self, datasets: str | None, repo: str, revision: str, name: str) -> None:
        folder = self._found(datasets or "models", repo, revision, repo)
        if folder is None:
            return
        fault = self.hub.faults.get(f"{repo}/{name}")
        if isinstance(fault, Refused) or not (folder / name).is_file():
            return self._refuse(fault or Refused(404, "EntryNotFound"), folder.name)
        headers = {"X-Repo-Commit": folder.name, "ETag": f'"{_sha256(folder / name)}"'}
        content = (folder / name).read_bytes()
        if isinstance(fault, Altered) and self.command == "GET":
            content = fault.change(content)
        start = int((re.match(r"bytes=(\d+)-", self.headers.get("Range", "")) or (0, 0))[1])
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        sent = len(content)
        if self.command == "GET" and isinstance(fault, Dropped) and fault.times > 0:
            fault.times -= 1
            sent = (start + 3 * len(content)) // 4
        self._answer(206 if start else 200, content[start:], headers, start, sent - start)

    def _found(self, kinds: str, repo: str, revision: str, place: str) -> Path | None:
        """The folder of a repository at a revision, unless an error was the answer."""
        fault = self.hub.faults.get(place)
        if isinstance(fault, Refused):
            self._refuse(fault)
            return None
        folder = self.hub.folder / kinds / repo
        commits = sorted(folder.iterdir()) if folder.is_dir() else []
        if not commits:
            self._refuse(GONE)
            return None
        wanted = commits[-1] if revision == "main" else folder / revision
        if not wanted.is_dir():
            self._refuse(Refused(404, "RevisionNotFound"))
            return None
        return wanted

    def _refuse(self, fault: Refused, commit: str = "") -> None:
        headers = {"X-Error-Code": fault.code} if fault.code else {}
        if commit:
            headers["X-Repo-Commit"] = commit
        self._answer(fault.status, b"", headers)

    def _answer(
        self, status: int, content: bytes, headers: dict, start: int = 0, sent: int | None = None
    ) -> None:
        self.hub.log.append(Request(self.command, self.path, start, status))
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:sent])
        if sent is not None and sent < len(content):
            self.close_connection = True


def _entry(folder: Path, file: Path) -> dict:
    """A file in the list of a repository, as one that git keeps by its SHA-256."""
    size, name = file.stat().st_size, file.relative_to(folder).as_posix()
    stored = {"oid": _sha256(file), "size": size, "pointerSize": 130}
    return {"type": "file", "path": name, "size": size, "oid": _sha256(file)[:40], "lfs": stored}


def _sha256(file: Path) -> str:
    return _sha256_as_of(file, file.stat().st_mtime_ns)


@cache
def _sha256_as_of(file: Path, _changed: int) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()

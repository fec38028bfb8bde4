"""Files are there whole or not at all; tensors are computed once, and again if they are damaged."""

import errno
import json
import logging
import multiprocessing
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lib import files, paths

# Writing ------------------------------------------------------------------------------------------


def content(folder: Path) -> dict[str, str]:
    """The files in a folder, hidden ones too, with what they hold."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in found}


def test_a_file_becomes_what_was_written(tmp_path):
    target = tmp_path / "not" / "there yet" / "a.txt"
    for text in ("one", "two"):
        with files.put(target) as part:
            assert part.parent == target.parent and part != target
            part.write_text(text)
        assert content(target.parent) == {"a.txt": text}


def test_a_folder_replaces_another(tmp_path):
    """Nothing of the old one is left, and nothing beside it."""
    target = tmp_path / "model"
    for names in (["a", "b"], ["b", "c"]):
        with files.put(target) as part:
            part.mkdir()
            for name in names:
                (part / name).write_text(name)
        assert content(tmp_path) == {f"model/{name}": name for name in names}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_one(tmp_path, error):
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("old")
    folder.mkdir()
    (folder / "a").write_text("old")
    with pytest.raises(error), files.put(file) as part:
        part.write_text("half")
        raise error
    with pytest.raises(error), files.put(folder) as part:
        part.mkdir()
        (part / "a").write_text("half")
        raise error
    assert content(tmp_path) == {"file": "old", "folder/a": "old"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_folder_that_cannot_be_moved_leaves_the_old_one(tmp_path, monkeypatch):
    """The old folder is out of the way by then; it comes back."""
    target, own = tmp_path / "folder", os.replace
    target.mkdir()
    (target / "a").write_text("old")

    def replace(source, to):
        if Path(to) == target and not Path(source).name.endswith(".old"):
            raise OSError(errno.EIO, "Input/output error")
        own(source, to)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="Input/output"), files.put(target) as part:
        part.mkdir()
        (part / "a").write_text("new")
    assert content(tmp_path) == {"folder/a": "old"}


def test_what_an_earlier_process_of_the_same_number_left_is_no_obstacle(tmp_path):
    target = tmp_path / "model"
    name = files.beside(target).name
    target.mkdir()
    for left in (name, f"{name}.old"):
        (tmp_path / left).mkdir()
        (tmp_path / left / "stale").write_text("stale")
    with files.put(target) as part:
        assert not part.exists()
        part.mkdir()
        (part / "a").write_text("new")
    assert content(tmp_path) == {"model/a": "new"}
    (tmp_path / ".x").mkdir()
    leftover = files.beside(tmp_path / "file")
    leftover.write_text("stale")
    with files.put(tmp_path / "file") as part:
        assert not part.exists()
        part.write_text("new")
    assert (tmp_path / "file").read_text() == "new" and not leftover.exists()


@pytest.fixture
def umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_others_may_read_what_the_umask_lets_them(tmp_path, umask, monkeypatch):
    """Cache files were 0600 once: nobody else in a group could use them."""
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    files.write_text(tmp_path / "a.txt", "a")
    files.tensors("room", {"a": 1}, lambda: {"x": torch.zeros(2)}, {})
    written = [tmp_path / "a.txt", *(tmp_path / "cache" / "room").glob("*.*")]
    assert len(written) == 3
    for file in written:
        assert stat.S_IMODE(file.stat().st_mode) == 0o644, file.name
    os.umask(0o027)
    files.write_text(tmp_path / "b.txt", "b")
    assert stat.S_IMODE((tmp_path / "b.txt").stat().st_mode) == 0o640


def test_texts_and_plain_values(tmp_path):
    files.write_text(tmp_path / "a.txt", "é\n")
    assert (tmp_path / "a.txt").read_bytes() == "é\n".encode()
    files.write_json(tmp_path / "a.json", {"b": [1, None], "a": "é"})
    written = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(written) == {"b": [1, None], "a": "é"}
    assert "é" in written and written.endswith("}\n")
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(tmp_path / "a.json", float("nan"))
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == written


# Kept tensors -------------------------------------------------------------------------------------


@pytest.fixture
def room(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    return tmp_path / "cache" / "room"


class Compute:
    """Something dear: gives tensors, and counts how often."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return {"x": torch.arange(3.0)[:, None].T, "n": torch.tensor([7])}


def test_computed_once_for_each_key(room):
    compute = Compute()
    for key in ({"a": 1, "b": [2]}, {"b": [2], "a": 1}, {"a": 1, "b": [3]}):
        found = files.tensors("room", key, compute, {"name": "n"})
        assert found["x"].tolist() == [[0, 1, 2]] and found["n"].tolist() == [7]
    assert compute.calls == 2  # the order of the keys plays no part
    about = [json.loads(file.read_text()) for file in room.glob("*.json")]
    assert [entry["a"] for entry in about] == [1, 1]
    assert about[0]["shape"] == {"x": [1, 3], "n": [1]} and about[0]["name"] == "n"


@pytest.mark.parametrize(
    "damage",
    [
        lambda data, sidecar: data.write_bytes(data.read_bytes()[:-1]),
        lambda data, sidecar: data.unlink(),
        lambda data, sidecar: sidecar.unlink(),
        lambda data, sidecar: sidecar.write_text("{"),
        lambda data, sidecar: sidecar.write_text("[]"),
    ],
)
def test_a_damaged_file_is_computed_again(room, caplog, damage):
    compute = Compute()
    first = files.tensors("room", {}, compute, {})
    (data,), (sidecar,) = room.glob("*.safetensors"), room.glob("*.json")
    whole = data.read_bytes(), sidecar.read_bytes()
    damage(data, sidecar)
    with caplog.at_level(logging.WARNING, logger="lib.files"):
        assert torch.equal(files.tensors("room", {}, compute, {})["x"], first["x"])
    assert "damaged" in caplog.text and compute.calls == 2
    assert (data.read_bytes(), sidecar.read_bytes()) == whole


def test_a_file_of_another_user_is_computed_again_and_not_called_damaged(room, caplog, monkeypatch):
    compute = Compute()
    files.tensors("room", {}, compute, {})
    own = Path.read_bytes

    def refused(self):
        if self.suffix == ".safetensors":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return own(self)

    monkeypatch.setattr(Path, "read_bytes", refused)
    with caplog.at_level(logging.WARNING, logger="lib.files"):
        assert files.tensors("room", {}, compute, {})["n"].tolist() == [7]
    assert compute.calls == 2
    assert "another user" in caplog.text and "damaged" not in caplog.text


def test_a_file_system_without_locks_will_do(room, monkeypatch):
    import filelock

    def unknown(self, *arguments, **options):
        raise NotImplementedError("no flock here")

    monkeypatch.setattr(filelock.FileLock, "acquire", unknown)
    compute = Compute()
    for _ in range(2):
        assert files.tensors("room", {}, compute, {})["n"].tolist() == [7]
    assert compute.calls == 1


def slow_tensors(cache: Path, tally: Path, ready) -> None:
    paths.CACHE = cache

    def compute():
        with tally.open("a") as file:
            file.write("computed\n")
        time.sleep(1)
        return {"x": torch.ones(1)}

    ready.wait()
    assert files.tensors("room", {"the same": 1}, compute, {})["x"].tolist() == [1]


def test_of_two_processes_one_computes_and_the_other_waits(tmp_path):
    both = multiprocessing.get_context("fork")
    ready, tally = both.Barrier(2), tmp_path / "tally"
    arguments = tmp_path / "cache", tally, ready
    started = [both.Process(target=slow_tensors, args=arguments) for _ in range(2)]
    for process in started:
        process.start()
    for process in started:
        process.join(60)
    assert [process.exitcode for process in started] == [0, 0]
    assert tally.read_text() == "computed\n"


def test_a_digest_knows_numbers_type_and_shape():
    x = torch.arange(6.0)
    assert files.digest(x) == files.digest(x.clone()) == files.digest(torch.arange(12.0)[:6])
    others = [x + 1, x.double(), x.view(2, 3), x.view(3, 2), -x]
    assert len({files.digest(each) for each in [x, *others]}) == 6
    assert files.digest(x.view(2, 3).T) == files.digest(x.view(2, 3).T.contiguous())


@pytest.mark.parametrize("module", ["lib.files", "lib.profiles", "lib.paths"])
def test_the_foot_needs_no_torch(module):
    """The runner imports these before every step."""
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, check=True)

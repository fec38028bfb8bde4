"""What everybody has to download stays small."""

import subprocess

import pytest

from lib import paths

LARGEST, ALL = 5 * 10**6, 200 * 10**6  # bytes: of a file, and of all that is tracked


@pytest.fixture(scope="module")
def sizes() -> dict[str, int]:
    """Bytes of every tracked file by its name, as git keeps it."""
    if not (paths.ROOT / ".git").exists():
        pytest.skip("This copy has no .git, so that nothing says which files are tracked.")

    def git(*arguments: str, given: str = "") -> str:
        command = ["git", "-C", str(paths.ROOT), *arguments]
        return subprocess.run(
            command, input=given, capture_output=True, text=True, check=True
        ).stdout

    try:
        entries = [line for line in git("ls-files", "-s", "-z").split("\0") if line]
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"git does not say which files are tracked ({type(error).__name__}).")
    blobs, names = zip(*(entry.split("\t", 1) for entry in entries), strict=True)
    objects = [blob.split()[1] for blob in blobs]
    found = git("cat-file", "--batch-check=%(objectsize)", given="\n".join(objects) + "\n")
    return dict(zip(names, map(int, found.split()), strict=True))


def test_no_file_is_large(sizes):
    assert {name: size for name, size in sizes.items() if size > LARGEST} == {}


def test_all_files_together_are_not_large(sizes):
    assert len(sizes) > 100
    assert sum(sizes.values()) <= ALL


def test_no_figure_is_tracked_twice(sizes):
    """A PDF is made from the same drawing as the PNG beside it, and nobody reviews it."""
    assert [name for name in sizes if name.lower().endswith(".pdf")] == []

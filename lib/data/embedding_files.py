"""Embeddings in files of others: npy, npz, safetensors, parquet, or folders of shards of these.

What a file holds is read from its header; its rows are read in their order, once, a piece at a
time, so that memory does not grow with the files. Pickled arrays are never loaded. `FILE:KEY` names
an array of an npz or safetensors file, or a column of a parquet file.
"""

import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lib import suggestions, validation

FLOATS = ("float16", "bfloat16", "float32", "float64")
Reader = Callable[[int], np.ndarray | torch.Tensor]  # the next k rows, or fewer but not none


@dataclass(frozen=True)
class Shard:
    """A matrix (rows, width) in a file, and how to begin to read it."""

    name: str
    rows: int
    width: int
    open: Callable[[], Reader]


class Rows:
    """Embeddings (n, d) of a file, or of the shards of a folder one after the other.

    Shards are sorted by name, numbers in a name by value. Files that are hidden, or of another
    kind, are not shards.

    Raises: ValueError, in one sentence that names the file, if there is no such file or folder, or
    if it holds anything but finite matrices of floating-point numbers of one width.
    """

    def __init__(self, source: str):
        self.shards = [_shard(path, key) for path, key in _paths(source)]
        first, *others = self.shards
        for each in others:
            if each.width != first.width:
                raise ValueError(f"{each.name} has {each.width} dimensions, {first.name} has "
                    f"{first.width}: all shards must be of one model.")  # fmt: skip
        self.name, self.d = str(source), first.width
        self.n = sum(each.rows for each in self.shards)
        self._waiting = [each for each in self.shards if each.rows]
        self._left, self._read, self._reading = 0, None, ""

    def take(self, k: int) -> np.ndarray:
        """The next `k` rows (k, d), as float32. Raises: ValueError if the file is damaged."""
        rows, done = np.empty((k, self.d), np.float32), 0
        while done < k:
            if not self._left:
                shard = self._waiting.pop(0)
                self._left, self._read, self._reading = shard.rows, shard.open(), shard.name
            with _reading(self._reading):
                part = torch.as_tensor(self._read(min(k - done, self._left)))
            torch.from_numpy(rows[done : done + len(part)]).copy_(part)
            done, self._left = done + len(part), self._left - len(part)
        return rows

    def place(self, row: int) -> str:
        """Where a row is, in words: "Row 7 of part-2.npy"; both are counted from 0."""
        for shard in self.shards:
            if row < shard.rows:
                return f"Row {row} of {shard.name}"
            row -= shard.rows
        raise IndexError(row)


def read_owner(source: str) -> np.ndarray:
    """The row of each text's image (m,), from an npy, npz or safetensors file of integers.

    Raises: ValueError if the file holds anything else.
    """
    ((path, key),) = _paths(source, folders=False)
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        with _reading(path):
            columns = pq.read_table(path, columns=[key] if key else None).columns
        values = columns[0].to_numpy() if len(columns) == 1 else np.empty((0, len(columns)))
    elif path.suffix == ".safetensors":
        with _reading(path), _safetensors(path) as file:
            values = file.get_tensor(_chosen(path, key, list(file.keys()))).numpy()
    else:
        with _reading(path):
            values = np.load(path, allow_pickle=False)
            if path.suffix == ".npz":
                values = values[_chosen(path, key, values.files)]
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise ValueError(f"{source} must hold one whole number per text, the row of its image; its "
            f"shape is {values.shape} and its type {values.dtype}.")  # fmt: skip
    return values.astype(np.int64)


# Which files --------------------------------------------------------------------------------------


def _paths(source: str, folders: bool = True) -> list[tuple[Path, str]]:
    path, key = Path(source), ""
    if not path.exists() and ":" in path.name:
        file, _, key = str(source).rpartition(":")
        path = Path(file)
    if not path.exists():
        raise ValueError(f"There is no file or folder {path}: check the path.")
    if path.is_dir() and folders:
        shards = [each for each in path.iterdir() if each.suffix in _FORMATS and each.is_file()]
        if not (shards := [each for each in shards if not each.name.startswith(".")]):
            raise ValueError(f"The folder {path} holds no shard: no {_known()} file.")
        return [(each, key) for each in sorted(shards, key=_by_number)]
    if path.suffix not in _FORMATS:
        raise ValueError(f"{path} is not a {_known()} file: save the embeddings as one of these.")
    return [(path, key)]


def _by_number(path: Path) -> list:
    return [int(s) if s.isdigit() else s for s in re.split(r"([0-9]+)", path.name)]


def _known() -> str:
    *most, last = _FORMATS
    return f"{', '.join(most)} or {last}"


def _shard(path: Path, key: str) -> Shard:
    with _reading(path):
        return _FORMATS[path.suffix](path, key)


class _reading:
    """Turns what a reader says of a damaged file into one sentence."""

    def __init__(self, path: Path | str):
        self.path = path

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind and issubclass(kind, Exception) and kind is not _Refused:
            if isinstance(error, ValueError) and "pickle" in str(error):
                raise _Refused(_PICKLED.format(name=self.path)) from None
            said = " ".join(str(error).split()).rstrip(".")
            raise _Refused(f"{self.path} cannot be read, perhaps because it is incomplete "
                f"({said}): copy or save it again.") from error  # fmt: skip


class _Refused(ValueError):
    """Bad input, said in a sentence."""


_PICKLED = "{name} holds pickled objects, which are never loaded: save a plain array of floats."


def _chosen(path: Path, key: str, names: list[str]) -> str:
    """The array that is meant: the only one, or the one that is named."""
    if key and key not in names:
        raise _Refused(f"{path}: {suggestions.unknown('array', key, names)}")
    if not key and len(names) != 1:
        held = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        raise _Refused(f"{path} holds {len(names)} arrays ({held}): name one as {path}:KEY.")
    return key or names[0]


def _checked(name: str, shape: tuple[int, ...], kind: str, read: Callable[[], Reader]) -> Shard:
    if kind not in FLOATS:
        raise _Refused(f"{name} holds numbers of type {kind}; embeddings are of type "
            f"{', '.join(FLOATS[:-1])} or {FLOATS[-1]}.")  # fmt: skip
    if len(shape) != 2 or not shape[1]:
        raise _Refused(f"{name} must be a matrix, one embedding per row; its shape is {shape}.")
    return Shard(name, int(shape[0]), int(shape[1]), read)


# How each format is read --------------------------------------------------------------------------


def _npy(path: Path, key: str) -> Shard:
    if key:
        raise _Refused(f"{path} is one array: it has no {key!r}.")
    return _array(str(path), path.stat().st_size, lambda: path.open("rb"))


def _npz(path: Path, key: str) -> Shard:
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        member = _chosen(path, key, names) + ".npy"
        size = archive.getinfo(member).file_size
    name = f"{path}:{key}" if key else str(path)
    return _array(name, size, lambda: zipfile.ZipFile(path).open(member))


def _array(name: str, size: int, open_file: Callable) -> Shard:
    """A NumPy array in a file, or in a member of an archive, of `size` bytes."""

    def header():
        file = open_file()
        read = {(1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0}  # fmt: skip
        return file, *read[np.lib.format.read_magic(file)](file)

    file, shape, by_column, kind = header()
    with file:
        begins = file.tell()
    if kind.hasobject:
        raise _Refused(_PICKLED.format(name=name))
    if by_column and min(shape, default=0) > 1:
        raise _Refused(f"{name} is stored column by column: save np.ascontiguousarray of it.")
    wanted = begins + int(np.prod(shape)) * kind.itemsize
    if size < wanted:
        raise _Refused(f"{name} is cut off: it has {size:,} of {wanted:,} bytes; copy it again.")

    def read() -> Reader:
        file = header()[0]

        def rows(k: int) -> np.ndarray:
            part = np.empty((k, shape[1]), kind)
            if file.readinto(part.reshape(-1).view(np.uint8)) < part.nbytes:
                raise _Refused(f"{name} is cut off: copy it again.")
            return part if kind.isnative else part.astype(kind.newbyteorder("="))

        return rows

    return _checked(name, shape, kind.name, read)


def _safetensors(path: Path):
    from safetensors import safe_open

    return safe_open(path, "pt")


def _tensor(path: Path, key: str) -> Shard:
    with _safetensors(path) as file:
        key = _chosen(path, key, list(file.keys()))
        shape, kind = file.get_slice(key).get_shape(), file.get_slice(key).get_dtype()

    def read() -> Reader:
        begin = 0

        def rows(k: int) -> torch.Tensor:
            nonlocal begin
            with _safetensors(path) as file:  # opened again, so that what was read leaves memory
                part = file.get_slice(key)[begin : begin + k]
            begin += k
            return part

        return rows

    kinds = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}
    return _checked(str(path), tuple(shape), kinds.get(kind, kind), read)


def _parquet(path: Path, key: str) -> Shard:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def opened() -> pq.ParquetFile:
        return pq.ParquetFile(path, pre_buffer=False, buffer_size=2**20)

    with opened() as file:
        schema, n = file.schema_arrow, file.metadata.num_rows
        lists = [f.name for f in schema if hasattr(f.type, "value_type")]
        wide = not key and not lists and all(pa.types.is_floating(f.type) for f in schema)
        columns = schema.names if wide else [_column(path, key, schema.names, lists)]
        kind = schema.field(columns[0]).type
        kind = str(kind if wide else getattr(kind, "value_type", kind))
        head = next(file.iter_batches(1, columns=columns), None)
        width = 0 if head is None else len(columns) if wide else len(head[0][0].as_py() or ())

    def read() -> Reader:
        batches, left = opened().iter_batches(validation.BLOCK, columns=columns), np.empty((0, 0))

        def rows(k: int) -> np.ndarray:
            nonlocal left
            if not len(left):
                left = _matrix(path, next(batches), width, wide)
            part, left = left[:k], left[k:]
            return part

        return rows

    kinds = {"halffloat": "float16", "float": "float32", "double": "float64"}
    return _checked(str(path), (n, width), kinds.get(kind, kind), read)


def _column(path: Path, key: str, names: list[str], lists: list[str]) -> str:
    if key:
        return _chosen(path, key, names)
    if len(lists) != 1:
        held = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        raise _Refused(f"{path} has {len(lists)} columns of lists and not floats alone ({held}): "
            f"name the column of embeddings as {path}:KEY.")  # fmt: skip
    return lists[0]


def _matrix(path: Path, batch, width: int, wide: bool) -> np.ndarray:
    if wide:
        return np.stack([column.to_numpy(zero_copy_only=False) for column in batch.columns], 1)
    lengths = np.diff(np.append(0, np.cumsum(batch[0].value_lengths().fill_null(0))))
    if (lengths != width).any():
        raise _Refused(f"{path} has lists of {width} and of {lengths[lengths != width][0]} "
            "numbers: all embeddings must have one width.")  # fmt: skip
    return batch[0].flatten().to_numpy(zero_copy_only=False).reshape(-1, width).copy()


_FORMATS = {".npy": _npy, ".npz": _npz, ".safetensors": _tensor, ".parquet": _parquet}

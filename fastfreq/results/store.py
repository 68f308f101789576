"""Results in files: plain arrays and a JSON header in an .npz, without pickle, checked before memory is taken."""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _archive, atomic
from ._archive import MAX_BYTES
from .atomic import atomic_path, write_text

__all__ = [
    "FORMAT", "MAX_BYTES", "atomic_path", "check_writable", "named_damage", "read_kind", "read_result", "write_arrays",
    "write_text",
]  # fmt: skip

FORMAT = 2
_HEADER = "fastfreq"
_HEADER_BYTES = 32 << 20  # 8 million characters, of which JSON makes at most some 200 MB of objects
_WHAT = "a result saved by fastfreq"


def write_arrays(path: str | Path, kind: str, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
    """Write an .npz of plain arrays with a JSON header, all or nothing.

    Args:
        path: overwritten; `check_writable` tells beforehand whether it can be.
        kind: of result.
        header: what JSON can hold, and NumPy scalars.
        arrays: of numbers, truth values or text, by name.

    Raises:
        ValueError: an array that could not be read back, or a name that is taken.
        OSError: the file cannot be written.
    """
    text = json.dumps({"kind": kind, "format": FORMAT, **header}, sort_keys=True, default=_plain)
    members = {_HEADER: np.array(text)}
    for name, array in arrays.items():
        if name == _HEADER or array.dtype.kind not in _archive.KINDS or not array.dtype.itemsize:
            raise ValueError(f"expected arrays of numbers or text, none named {_HEADER!r}, got {name!r} {array.dtype}")
        members[name] = array
    with atomic_path(path) as temporary:
        _write(temporary, members, zipfile.ZIP_DEFLATED)
        if sum(array.nbytes for array in members.values()) + 1024 * len(members) > _archive.default_limit(
            temporary.stat().st_size
        ):
            # so many equal values that it would be taken for a zip bomb
            _write(temporary, members, zipfile.ZIP_STORED)


def read_result(
    path: str | Path, *, max_bytes: int | None = None
) -> tuple[str, int, dict[str, Any], dict[str, NDArray[Any]]]:
    """Read what `write_arrays` wrote: (kind, format, header, arrays); formats from 1 on.

    Args:
        path: of the file.
        max_bytes: that its arrays may take; None for 256 MiB or, where that is more, 100 times the file's own size,
            and 4 GiB (`MAX_BYTES`) at most.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a fastfreq result, is damaged, is larger, or is from a newer format.
    """
    path = _existing(path)
    arrays = _archive.read_members(path, what=_WHAT, choose=lambda names: _ours(path, names), max_bytes=max_bytes)
    kind, version, header = _header(path, arrays.pop(_HEADER))
    return kind, version, header, arrays


def read_kind(path: str | Path) -> tuple[str, dict[str, Any]]:
    """(kind, header) of a result, without its arrays.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a fastfreq result, is damaged, or is from a newer format.
    """
    path = _existing(path)
    found = _archive.read_members(path, what=_WHAT, choose=lambda names: _ours(path, names) and [_HEADER])
    kind, _, header = _header(path, found[_HEADER])
    return kind, header


def check_writable(path: str | Path, *, kind: str | None = None) -> None:
    """Refuse a path that `write_arrays` could not write, or should not, before anything is computed for it.

    Args:
        path: of a result. A result that is there already may be overwritten, any other file may not.
        kind: what an existing result must be; None for any.

    Raises:
        FileNotFoundError: its folder does not exist.
        NotADirectoryError: its folder is a file.
        IsADirectoryError: it is itself a folder.
        PermissionError: it, or its folder, cannot be written.
        OSError: its folder takes no files for another reason, which the message says.
        ValueError: it exists and is no result, or one of another kind.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.exists():
        raise FileNotFoundError(f"expected a folder at {target.parent} to write {target.name} to, found nothing")
    if not target.parent.is_dir():
        raise NotADirectoryError(f"expected a folder at {target.parent} to write {target.name} to, found a file")
    if target.is_dir():
        raise IsADirectoryError(f"expected the name of a file, {target} is a folder; write to {target / 'result.npz'}")
    if target.exists():
        if not target.is_file():
            raise ValueError(f"expected the name of a file, {target} is neither a file nor a folder")
        if not os.access(target, os.W_OK):
            raise PermissionError(f"expected a file that can be written, {target} is read-only; choose another name")
        try:
            found, _ = read_kind(target)
        except ValueError as error:
            raise ValueError(
                f"expected {target} to be new or {_WHAT}, which may be overwritten; it is another file or is damaged: "
                f"choose another name, or remove it"
            ) from error
        if kind is not None and found != kind:
            raise ValueError(
                f"expected {target} to be new or a result of kind {kind!r}, it holds a {found!r}; choose another name"
            )
    atomic.remove_stale(target)
    try:
        atomic.probe(target)
    except OSError as error:
        raise type(error)(
            error.errno,
            f"expected a folder that takes files, {target.parent} does not ({error.strerror}); choose another",
        ) from error


@contextlib.contextmanager
def named_damage(path: str | Path) -> Iterator[None]:
    """What goes wrong inside becomes a ValueError that names the file: for building a result from what it holds.

    Raises:
        ValueError: for any exception inside.
    """
    try:
        yield
    except Exception as error:  # a header can say anything: of each type, and of each size
        if isinstance(error, ValueError) and str(path) in str(error):
            raise
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"expected a complete result, {path} is damaged: {reason}") from error


def _plain(value: Any) -> Any:
    """NumPy scalars in headers are numbers."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"expected what JSON can hold in a header, got {type(value).__name__}")


def _write(path: Path, members: dict[str, NDArray[Any]], packing: int) -> None:
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, array in members.items():
            # a fixed date, so that equal results are equal files
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.compress_type = packing
            with archive.open(entry, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"expected a saved result at {path}, found no file")
    return path


def _ours(path: Path, names: list[str]) -> list[str]:
    """All members of a result."""
    if _HEADER not in names:
        raise ValueError(f"expected {_WHAT}, {path} is not one: it has no member {_HEADER!r}")
    return names


def _header(path: Path, text: NDArray[Any]) -> tuple[str, int, dict[str, Any]]:
    """(kind, format, the rest) of the JSON header."""
    try:
        if text.dtype.kind != "U" or text.shape or text.nbytes > _HEADER_BYTES:
            raise ValueError(f"its header is {text.dtype} {text.shape}")
        header = json.loads(str(text))
        kind, version = header.pop("kind"), header.pop("format")
        if not isinstance(kind, str):
            raise ValueError(f"its kind is {kind!r:.40}")
    except Exception as error:  # of decoding, of nesting, of a header that is no dict
        raise ValueError(f"expected {_WHAT}, {path} is not one or is damaged: {error}") from error
    if type(version) is not int or not 1 <= version <= FORMAT:
        raise ValueError(f"expected result format 1 to {FORMAT}, {path} has {version!r:.40}; use a newer fastfreq")
    return kind, version, header

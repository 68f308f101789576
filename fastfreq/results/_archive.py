"""An .npz archive read with suspicion: what it declares is checked before memory is taken, and nothing in it runs."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 4 << 30  # of arrays that a file may unpack to, unless `max_bytes` says otherwise
SMALL_BYTES = 256 << 20  # always allowed; beyond it, a file unpacks to at most RATIO times its own size
RATIO = 100  # deflate packs zeros 1,000 : 1, measurements and photographs at most some 20 : 1
KINDS = "biufcU"  # bool, integers, floats, complex and text: of a known size, and never objects

_DIRECTORY_BYTES = 16 << 20  # of the archive's list of members, which zipfile reads at once
_HEADER_BYTES = 1000  # of an array's description; numpy writes 118 for plain arrays
_STEP = 1 << 20  # read at once


class _RefusedError(ValueError):
    """A message that is complete: it names the file."""


class _Bounded(io.BufferedReader):
    """A file that no damaged length can make read gigabytes at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _DIRECTORY_BYTES:
            raise ValueError(f"a list of members or a piece of {size} bytes")
        return super().read(size)


def default_limit(file_bytes: int) -> int:
    """Bytes of arrays that a file of `file_bytes` may unpack to: 256 MiB, or 100 times its size up to 4 GiB."""
    return min(MAX_BYTES, max(SMALL_BYTES, RATIO * file_bytes))


def read_members(
    path: Path,
    *,
    what: str,
    choose: Callable[[list[str]], Sequence[str]],
    max_bytes: int | None = None,
) -> dict[str, NDArray[Any]]:
    """Arrays of an .npz, native in byte order and writable.

    The sizes that the archive and the arrays' own headers declare must agree and fit `max_bytes` before memory is
    taken, no more than declared is read, and checksums are compared.

    Args:
        path: an existing file.
        what: what was expected, for messages: "a result saved by fastfreq".
        choose: from the names in the archive to those to read; it may raise a ValueError, which is passed on.
        max_bytes: of all arrays read; None for `default_limit`.

    Raises:
        ValueError: the file is no archive, is damaged, holds objects, or unpacks to more; the message names it.
        OSError: the file cannot be opened.
    """
    with _Bounded(path.open("rb", buffering=0)) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                entries = _entries(archive)
                try:
                    names = list(choose(list(entries)))
                except ValueError as error:
                    raise _RefusedError(str(error)) from None
                _check_total(path, sum(entries[name].file_size for name in names), max_bytes)
                return {name: _array(archive, entries[name]) for name in names}
        except _RefusedError as error:
            raise ValueError(str(error)) from None
        except Exception as error:  # zipfile, zlib and numpy raise errors of any kind on damaged files
            reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            raise ValueError(f"expected {what}, {path} is not one or is damaged: {reason}") from error


def mapped_array(path: Path) -> NDArray[Any]:
    """An array of a .npy file, mapped into memory and not to be written; its header must agree with the file's size.

    Raises:
        ValueError: the file is no array, holds objects, or is longer or shorter than it declares; the message names it.
        OSError: the file cannot be opened.
    """
    with path.open("rb") as file:
        try:
            shape, fortran, dtype = _description(file, path.name)
            start, count = file.tell(), math.prod(shape)
            if start + count * dtype.itemsize != path.stat().st_size or not count:
                raise ValueError(f"it declares {dtype} {shape} in {path.stat().st_size} bytes")
        except Exception as error:  # numpy raises errors of any kind on damaged files
            reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            raise ValueError(f"expected a .npy file as numpy.save writes it, {path} is damaged: {reason}") from error
    return np.memmap(path, dtype, mode="r", offset=start, shape=shape, order="F" if fortran else "C")


def _check_total(path: Path, declared: int, max_bytes: int | None) -> None:
    size = path.stat().st_size
    limit = default_limit(size) if max_bytes is None else max_bytes
    if declared > limit:
        rule = "256 MiB, or 100 times a file's size up to 4 GiB" if max_bytes is None else "`max_bytes`"
        raise _RefusedError(
            f"expected at most {limit} bytes of arrays ({rule}), {path} of {size} bytes unpacks to {declared}; "
            f"pass max_bytes={declared} where you trust it and have the memory"
        )


def _entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        name = entry.filename.removesuffix(".npy")
        if name in entries:
            raise ValueError(f"{name!r} is in it twice")
        if name != entry.filename:
            entries[name] = entry
    return entries


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> NDArray[Any]:
    name = entry.filename
    if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name!r} is encrypted or packed in another way than numpy does")
    with archive.open(entry) as file:
        shape, fortran, dtype = _description(file, name)
        count = math.prod(shape)
        if file.tell() + count * dtype.itemsize != entry.file_size:
            raise ValueError(f"{name!r} declares {dtype} {shape} in {entry.file_size} bytes")
        try:
            data = np.empty(count, dtype)
        except MemoryError:
            raise ValueError(f"{name!r} takes {count * dtype.itemsize} bytes, more memory than there is") from None
        _fill(file, data, name)
    if dtype.kind == "b" and count and data.view(np.uint8).max() > 1:
        raise ValueError(f"{name!r} has truth values other than 0 and 1")
    data = data.astype(dtype.newbyteorder("="), copy=False)
    return data.reshape(shape, order="F" if fortran else "C")


def _description(file: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """(shape, Fortran order, type) that the header of an array declares."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{name!r} has a header of version {version}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file, max_header_size=_HEADER_BYTES)
    if dtype.hasobject:
        raise ValueError(f"{name!r} holds Python objects, which could run code when loaded (allow_pickle=False)")
    if dtype.kind not in KINDS or not dtype.itemsize or dtype.shape:
        raise ValueError(f"{name!r} is of type {dtype}, expected plain numbers")
    if len(shape) > 32 or any(type(side) is not int or side < 0 for side in shape):
        raise ValueError(f"{name!r} declares the shape {shape}")
    return shape, fortran, dtype


def _fill(file: IO[bytes], data: NDArray[Any], name: str) -> None:
    """Read all of `data`, and the end after it, where zipfile compares the checksum."""
    view, done = data.view(np.uint8).data, 0
    while done < len(view):
        piece = file.read(min(_STEP, len(view) - done))
        if not piece:
            raise ValueError(f"{name!r} ends after {done} of {len(view)} bytes")
        view[done : done + len(piece)] = piece
        done += len(piece)
    if file.read(1):
        raise ValueError(f"{name!r} is longer than it declares")

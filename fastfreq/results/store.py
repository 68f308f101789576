"""Files: written to a temporary name and renamed, read without pickle, sizes checked before memory is taken."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMAT = 1
_HEADER = "fastfreq"
_MAX_BYTES = 16 << 30


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path in the folder of `path`; renamed to it on success, removed on failure."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes private files; a result is as readable as any other
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, all or nothing."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_arrays(path: str | Path, kind: str, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
    """Write an .npz of plain arrays with a JSON header, all or nothing."""
    text = json.dumps({"kind": kind, "format": FORMAT, **header}, sort_keys=True)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **{_HEADER: np.array(text)}, **arrays)


def read_arrays(path: str | Path) -> tuple[str, dict[str, Any], dict[str, NDArray[Any]]]:
    """Read what `write_arrays` wrote: (kind, header, arrays).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a fastfreq result, is damaged, or is from a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"expected a saved result at {path}, found no file")
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > _MAX_BYTES:
            raise ValueError(f"expected at most {_MAX_BYTES >> 30} GiB of arrays, {path} unpacks to {size} bytes")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(str(arrays.pop(_HEADER)))
        kind, version = header.pop("kind"), header.pop("format")
    except (zipfile.BadZipFile, KeyError, OSError, EOFError, json.JSONDecodeError) as error:
        raise ValueError(f"expected a result saved by fastfreq, {path} is not one or is damaged: {error}") from error
    if version != FORMAT:
        raise ValueError(f"expected result format {FORMAT}, {path} has {version}; use the fastfreq that wrote it")
    return kind, header, arrays

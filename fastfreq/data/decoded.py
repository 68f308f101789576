"""Image files decoded once: their pixels in one file that any number of processes map into memory.

A folder holds, for every list of files and Preprocessing that was asked for, ``KEY.npy``, uint8 (n, 3, h, w) with a row
for each file, and ``KEY.npz``, which is written last: the checksum of every row, and why a file has none. KEY is a hash
of all that pixels depend on: paths, sizes and times of the files in their order, the Preprocessing, Pillow's version.
Names in a folder do not tell files apart: two folders that were unpacked with one time for all, of files that are as
long as each other, such as .ppm, differ in nothing else.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import shutil
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor
from tqdm import tqdm

from fastfreq.results import store

from .files import Preprocessing, in_order, pillow, size_text

_KIND = "decoded_images"
_AHEAD = 128  # files that may be decoded before they are written
_ROW = 4096  # bytes of checksum and reason that one file may take


@dataclasses.dataclass(frozen=True)
class Decoded:
    """Pixels of those of n files that could be read.

    Attributes:
        path: of the pixels.
        pixels: (n, 3, h, w) uint8, mapped into memory.
        rows: (m,) of the files that could be read, in their order.
        sums: (n,) CRC-32 of each row.
        reasons: why the other files could not be read, by row.
    """

    path: Path
    pixels: np.ndarray
    rows: np.ndarray
    sums: np.ndarray
    reasons: dict[int, str]

    def batches(self, size: int) -> Iterator[tuple[Tensor, np.ndarray]]:
        """(images uint8 (k, 3, h, w), their rows), k at most `size`.

        Raises:
            ValueError: pixels that are not those that were written.
        """
        for start in range(0, len(self.rows), size):
            rows = self.rows[start : start + size]
            images = np.asarray(self.pixels[rows])  # a copy: nobody writes into the file
            for row, image in zip(rows.tolist(), images, strict=True):
                if zlib.crc32(image) != self.sums[row]:
                    raise ValueError(
                        f"expected the pixels that were written in {self.path}, those of image {row} differ; remove "
                        f"the file, and it is decoded again"
                    )
            yield torch.from_numpy(images), rows


def once(
    folder: Path, names: Sequence[str], paths: Sequence[Path], preprocessing: Preprocessing | None, *, workers: int
) -> Decoded:
    """The pixels of files, decoded by the first process that asks for them; the others wait for it.

    Raises:
        ValueError: images of several sizes, none that can be read, too little room on the disk, or a damaged file of
            pixels; the message says what to do.
        OSError: the folder cannot be written.
    """
    pixels = folder / f"{_key(paths, preprocessing)}.npy"
    if not _there(pixels):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(pixels.with_suffix(".lock")):  # released by the system when its process dies
            if not _there(pixels):
                _write(pixels, names, paths, preprocessing, workers)
    return _read(pixels, len(paths))


def _there(pixels: Path) -> bool:
    return pixels.exists() and pixels.with_suffix(".npz").exists()


def _key(paths: Sequence[Path], preprocessing: Preprocessing | None) -> str:
    files = [(str(path.absolute()), *_stat(path)) for path in paths]
    geometry = None if preprocessing is None else dataclasses.asdict(preprocessing)
    text = json.dumps([_KIND, pillow().__version__, geometry, files])  # pyright: ignore[reportAttributeAccessIssue]
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _stat(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:  # which its decoding says
        return -1, -1, -1
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns  # the last is nobody's to choose


def _write(
    path: Path, names: Sequence[str], paths: Sequence[Path], preprocessing: Preprocessing | None, workers: int
) -> None:
    decoded = in_order(paths, preprocessing, workers=workers, ahead=_AHEAD)
    bar = tqdm(decoded, total=len(paths), desc="decoding once", unit="image", disable=None, leave=False)
    with store.atomic_path(path) as temporary:
        sums, reasons, shape = _rows(temporary, bar, names)
    if len(reasons) == len(paths):
        path.unlink()
        raise ValueError(f"expected images, none of {len(paths)} could be read, the first: {names[0]} ({reasons[0]})")
    rows = np.array(sorted(reasons), np.int64)
    said = np.array([reasons[row] for row in rows.tolist()] or [""])
    store.write_arrays(
        path.with_suffix(".npz"), _KIND, {}, {"sums": sums, "rows": rows, "reasons": said, "shape": shape}
    )


def _rows(
    path: Path, images: Iterable[np.ndarray | str], names: Sequence[str]
) -> tuple[np.ndarray, dict[int, str], np.ndarray]:
    """(checksums, reasons, shape) of what is written; a file that cannot be read leaves a row of zeros."""
    sums, reasons, first, shape = np.zeros(len(names), np.uint32), {}, None, ()
    with path.open("wb") as file:
        for row, image in enumerate(images):
            if isinstance(image, str):
                reasons[row] = image
            elif first is None:
                first = row, image.shape
                shape = (len(names), 3, *image.shape[:2])
                _check_room(path.parent, shape)
                file.write(_header(shape))
                file.seek(row * image.size, io.SEEK_CUR)
            elif image.shape != first[1]:
                raise ValueError(
                    f"expected images of one size, got {size_text(first[1])} ({names[first[0]]}) and "
                    f"{size_text(image.shape)} ({names[row]}); give a Preprocessing with the model's size"
                )
            if first is not None:
                pixels = bytes(math.prod(first[1])) if isinstance(image, str) else image.transpose(2, 0, 1).tobytes()
                sums[row] = zlib.crc32(pixels)
                file.write(pixels)
    return sums, reasons, np.array(shape, np.int64)


def _check_room(folder: Path, shape: tuple[int, ...]) -> None:
    needed, free = math.prod(shape), shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"expected {needed} bytes of room for the pixels of {shape[0]} images in {folder}, there are {free}; "
            f"choose another folder, or take fewer images with `limit`"
        )


def _header(shape: tuple[int, ...]) -> bytes:
    """Of an .npy of this shape."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue()


def _read(path: Path, count: int) -> Decoded:
    beside = path.with_suffix(".npz")
    kind, _, _, arrays = store.read_result(beside, max_bytes=_ROW * (count + 1))
    rows, sums, reasons, shape = (arrays.get(name, np.zeros(0)) for name in ("rows", "sums", "reasons", "shape"))
    fits = (
        kind == _KIND
        and shape.dtype == rows.dtype == np.int64
        and shape.shape == (4,)
        and tuple(shape[:2]) == (count, 3)
        and bool((shape >= 0).all() and ((rows >= 0) & (rows < count)).all())
        and (sums.dtype, sums.shape) == (np.uint32, (count,))
        and (reasons.dtype.kind, reasons.shape) == ("U", (max(1, len(rows)),))
    )
    if not fits:
        raise ValueError(f"expected checksums of {count} images in {beside}, got something else; remove it")
    whole = tuple(shape.tolist())
    header = _header(whole)
    with path.open("rb") as file:
        begins = file.read(len(header)) == header
    if not begins or path.stat().st_size != len(header) + math.prod(whole):
        raise ValueError(f"expected uint8 pixels of shape {whole} in {path}, got something else; remove it")
    pixels = np.memmap(path, np.uint8, "r", len(header), whole)
    read = np.ones(count, bool)
    read[rows] = False
    return Decoded(path, pixels, np.flatnonzero(read), sums, dict(zip(rows.tolist(), reasons.tolist(), strict=False)))

"""Image files -> pixels: decoded, resized and cropped by threads, in the order of the files."""

from __future__ import annotations

import dataclasses
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

Interpolation = Literal["nearest", "bilinear", "bicubic"]


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What happens to a decoded image before it is pixels in [0, 1]: resize, then centre crop.

    It stands for the geometry of a model's published evaluation and for nothing else: division by 255 follows it,
    and the normalisation ``(x - mean) / std`` belongs to the model (`NormalizedModel`).

    Attributes:
        size: (h, w) in pixels, after the crop.
        resize: pixels along the shorter side, the other keeping the aspect ratio (cut to whole pixels); or an
            exact (h, w); or None to leave the image as it is.
        interpolation: of the resize, antialiased as Pillow does it.
    """

    size: tuple[int, int]
    resize: int | tuple[int, int] | None
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"expected `size` as positive (h, w), got {self.size}")
        if self.interpolation not in get_args(Interpolation):
            raise ValueError(f"expected `interpolation` to be nearest, bilinear or bicubic, got {self.interpolation!r}")
        resized = (self.resize, self.resize) if isinstance(self.resize, int) else self.resize
        if resized is not None and (resized[0] < self.size[0] or resized[1] < self.size[1]):
            raise ValueError(
                f"expected `resize` no smaller than the crop of {self.size[0]} x {self.size[1]}, got {self.resize}; "
                f"images are not padded"
            )


def below(folder: Path, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """All files below a folder, those of linked folders too; folders are linked into data sets that others share.

    A link back to a folder that leads to it is not followed.

    Raises:
        OSError: a folder that cannot be read.
    """
    real = os.path.realpath(folder)
    if real in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from below(Path(entry.path), (*above, real))
            else:
                yield Path(entry.path)


def in_order(
    paths: Sequence[Path], preprocessing: Preprocessing | None, *, workers: int, ahead: int
) -> Iterator[np.ndarray | str]:
    """RGB pixels uint8 (h, w, 3) of each file, or the reason why there are none; at most `ahead` files ahead."""
    pillow()  # its absence is one error, not one skipped image after the other
    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[np.ndarray | str]] = deque()
    try:
        for path in paths:
            waiting.append(pool.submit(_decode, path, preprocessing))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # also when the loop over the images is left early
        pool.shutdown(cancel_futures=True)


def _decode(path: Path, preprocessing: Preprocessing | None) -> np.ndarray | str:
    """RGB pixels uint8 (h, w, 3) of one file, resized and cropped; or the reason why it cannot be read."""
    Image = pillow()
    try:
        if not path.is_file():
            return "no such file"
        with Image.open(path) as file:
            # Image.open itself raises only beyond twice the limit; its warning below that is not safe to turn into
            # an error here, since warning filters are shared between threads
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and file.width * file.height > limit:
                return f"decompression bomb: {file.height} x {file.width} pixels, Pillow's limit is {limit}"
            if file.mode in ("I", "F") or file.mode.startswith("I;"):
                return f"expected 8 bits per channel, got Pillow mode {file.mode}"
            image = file.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # decoders raise errors of any kind on damaged files
        return f"{type(error).__name__}: {error}"
    if preprocessing is None:
        return np.asarray(image)
    (height, width), resize = preprocessing.size, preprocessing.resize
    if resize is not None:
        w, h = image.size
        if isinstance(resize, int):
            target = (resize, int(resize * h / w)) if w <= h else (int(resize * w / h), resize)
        else:
            target = (resize[1], resize[0])
        if target != image.size:
            image = image.resize(target, getattr(Image.Resampling, preprocessing.interpolation.upper()))
    w, h = image.size
    if w < width or h < height:
        raise ValueError(
            f"expected images of at least {height} x {width}, the crop, got {h} x {w} ({path.name}); "
            f"give the Preprocessing a `resize`"
        )
    left, top = round((w - width) / 2), round((h - height) / 2)
    return np.asarray(image.crop((left, top, left + width, top + height)))


def size_text(shape: tuple[int, ...]) -> str:
    """Height and width, for messages."""
    return f"{shape[0]} x {shape[1]}"


def pillow() -> Any:
    """PIL.Image, or the way to it."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(f"expected Pillow to read images, {error}; pip install 'fastfreq[models]'") from error
    return Image

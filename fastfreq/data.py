"""Image folders and .npz files -> batches of pixels, each file decoded once per pass."""

from __future__ import annotations

import csv
import dataclasses
import os
import warnings
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif"}
_FILE_COLUMNS = ("file", "filename", "image", "path")
_LABEL_COLUMNS = ("label", "class_index", "class")
_NPZ_NAMES = (("images", "labels"), ("x", "y"), ("test_images", "test_labels"), ("x_test", "y_test"))


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What happens to a decoded image before it is pixels in [0, 1]: resize, then centre crop.

    Attributes:
        size: (h, w) after the crop.
        resize: length of the shorter side, or an exact (h, w), or None to leave the image as it is.
        interpolation: of the resize, antialiased as Pillow does it.
    """

    size: tuple[int, int]
    resize: int | tuple[int, int] | None
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bilinear"


class ImageData:
    """Labelled images, iterable in batches of (images uint8 (n, c, h, w), labels int64 (n,)).

    Every pass decodes each file once, in order, a few batches ahead. Images that cannot be decoded are left
    out, named in `skipped`, and counted in one warning at the end of the pass.

    Attributes:
        skipped: (file, reason) of images left out in the last pass.
        classes: class names by label, where folders named them.
    """

    def __init__(
        self,
        sources: list[Path] | Tensor,
        labels: Tensor,
        *,
        preprocessing: Preprocessing | None,
        batch_size: int,
        workers: int | None,
        classes: list[str] | None = None,
    ) -> None:
        """Use `load_data`."""
        self._sources, self._labels = sources, labels
        self._preprocessing, self._batch_size = preprocessing, batch_size
        self._workers = workers or min(8, os.cpu_count() or 1)
        self.classes = classes
        self.skipped: list[tuple[str, str]] = []

    def __len__(self) -> int:
        """Number of images listed, readable or not."""
        return len(self._sources)

    @property
    def batch_size(self) -> int:
        """Images in one batch."""
        return self._batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if isinstance(self._sources, Tensor):
            step = self._batch_size
            for start in range(0, len(self._sources), step):
                yield self._sources[start : start + step], self._labels[start : start + step]
            return
        self.skipped = []
        images, labels, first = [], [], None
        for path, label, image in self._decoded():
            if isinstance(image, Exception):
                self.skipped.append((path.name, f"{type(image).__name__}: {image}"))
                continue
            if first is None:
                first = (path.name, image.shape)
            if image.shape != first[1]:
                raise ValueError(
                    f"expected images of one size, got {first[1][0]} x {first[1][1]} ({first[0]}) and "
                    f"{image.shape[0]} x {image.shape[1]} ({path.name}); give a Preprocessing with the model's size"
                )
            images.append(image)
            labels.append(label)
            if len(images) == self._batch_size:
                yield _stacked(images), torch.stack(labels)
                images, labels = [], []
        if images:
            yield _stacked(images), torch.stack(labels)
        if self.skipped:
            name, reason = self.skipped[0]
            warnings.warn(
                f"{len(self.skipped)} of {len(self)} images could not be read and were left out, the first: "
                f"{name} ({reason}); all are in `.skipped`",
                stacklevel=2,
            )

    def _decoded(self) -> Iterator[tuple[Path, Tensor, Any]]:
        """(path, label, array or exception) in order, decoded by threads a few batches ahead."""
        assert not isinstance(self._sources, Tensor)
        items = zip(self._sources, self._labels, strict=True)
        with ThreadPoolExecutor(self._workers) as pool:
            ahead: deque[tuple[Path, Tensor, Any]] = deque()
            for path, label in items:
                ahead.append((path, label, pool.submit(_decode, path, self._preprocessing)))
                if len(ahead) > 2 * self._batch_size:
                    yield _finished(ahead.popleft())
            while ahead:
                yield _finished(ahead.popleft())


def _finished(item: tuple[Path, Tensor, Any]) -> tuple[Path, Tensor, Any]:
    path, label, future = item
    error = future.exception()
    if error is not None and not isinstance(error, Exception):
        raise error
    return path, label, error or future.result()


def _stacked(images: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def _decode(path: Path, preprocessing: Preprocessing | None) -> np.ndarray:
    """RGB pixels (h, w, 3) of one file, resized and cropped."""
    Image = pillow()
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # a bomb is left out and named
        with Image.open(path) as file:
            image = file.convert("RGB")
    if preprocessing is None:
        return np.asarray(image)
    (height, width), resize = preprocessing.size, preprocessing.resize
    if resize is not None:
        if isinstance(resize, int):
            w, h = image.size  # the longer side is cut to whole pixels, as torchvision does
            target = (resize, int(resize * h / w)) if w <= h else (int(resize * w / h), resize)
        else:
            target = (resize[1], resize[0])
        if target != image.size:
            image = image.resize(target, getattr(Image.Resampling, preprocessing.interpolation.upper()))
    w, h = image.size
    if w < width or h < height:
        raise ValueError(f"image of {h} x {w} is smaller than the crop of {height} x {width}")
    left, top = round((w - width) / 2), round((h - height) / 2)
    return np.asarray(image.crop((left, top, left + width, top + height)))


def pillow() -> Any:
    """PIL.Image, or the way to it."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("expected Pillow to read images; pip install 'fastfreq[models]'") from error
    return Image


def load_data(
    path: str | Path,
    *,
    preprocessing: Preprocessing | None = None,
    limit: int | None = None,
    num_classes: int | None = None,
    batch_size: int = 64,
    workers: int | None = None,
) -> ImageData:
    """Labelled images from a folder or an .npz file.

    Args:
        path: a folder with one folder per class (labels by sorted name), a folder with a ``labels.csv`` (columns
            ``file`` and one of ``label``, ``class_index``, ``class``), or an ``.npz`` with ``images`` and ``labels``
            (also ``x`` and ``y``, ``test_images`` and ``test_labels``), images (n, h, w), (n, h, w, c) or
            (n, c, h, w), uint8 or float in [0, 1].
        preprocessing: resize and crop of image files; without it all must have one size.
        limit: take this many images, number i being the floor(i n / limit)-th of n, so that classes stay balanced.
        num_classes: of the model; labels beyond it, and folders that cannot be matched to its classes, are refused.
        batch_size: images in one batch.
        workers: threads that decode; None for one per core, eight at most.

    Returns:
        ImageData, iterable any number of times.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        ValueError: no images, labels that do not fit, or an ambiguous layout; the message names the first culprit.
    """
    path = Path(path)
    if limit is not None and limit < 1:
        raise ValueError(f"expected a positive `limit`, got {limit}")
    classes = None
    if path.is_dir():
        if (path / "labels.csv").is_file():
            sources, labels = _from_csv(path, num_classes)
        else:
            sources, labels, classes = _from_folders(path, num_classes)
    elif path.suffix == ".npz" and path.is_file():
        sources, labels = _from_npz(path)
    elif path.exists():
        raise ValueError(f"expected a folder of images or an .npz file, got {path}")
    else:
        raise FileNotFoundError(f"expected a folder of images or an .npz file at {path}, found nothing")
    if num_classes is not None and len(labels) and int(labels.max()) >= num_classes:
        raise ValueError(f"expected labels below {num_classes}, the model's classes, {path} has {int(labels.max())}")
    if limit is not None and limit < len(labels):
        index = torch.arange(limit) * len(labels) // limit
        labels = labels[index]
        sources = sources[index] if isinstance(sources, Tensor) else [sources[i] for i in index.tolist()]
    return ImageData(
        sources, labels, preprocessing=preprocessing, batch_size=batch_size, workers=workers, classes=classes
    )


def _from_csv(folder: Path, num_classes: int | None) -> tuple[list[Path], Tensor]:
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = {name.strip().lower(): name for name in (rows[0] if rows else {}) if name}
    file_column = next((columns[c] for c in _FILE_COLUMNS if c in columns), None)
    label_column = next((columns[c] for c in _LABEL_COLUMNS if c in columns), None)
    if file_column is None or label_column is None:
        raise ValueError(
            f"expected labels.csv with a header naming `file` and one of {', '.join(_LABEL_COLUMNS)}, "
            f"got {', '.join(columns) or 'no rows'}"
        )
    paths, labels = [], []
    for number, row in enumerate(rows, start=2):
        text = (row[label_column] or "").strip()
        if not text.isdigit() or (num_classes is not None and int(text) >= num_classes):
            top = "" if num_classes is None else f" below {num_classes}"
            raise ValueError(f"expected a class index{top} in column {label_column!r}, line {number} has {text!r}")
        paths.append(folder / (row[file_column] or "").strip())
        labels.append(int(text))
    return paths, torch.tensor(labels)


def _from_folders(folder: Path, num_classes: int | None) -> tuple[list[Path], Tensor, list[str]]:
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    found = {name: sorted(p for p in (folder / name).rglob("*") if p.suffix.lower() in _SUFFIXES) for name in names}
    if not any(found.values()):
        raise ValueError(f"expected folders of images, one per class, or a labels.csv in {folder}, found neither")
    index = {name: i for i, name in enumerate(names)}
    if num_classes is not None and len(names) != num_classes:
        index = _synset_index(names, num_classes)
    labels = [index[name] for name in names for _ in found[name]]
    return [path for name in names for path in found[name]], torch.tensor(labels), names


def _synset_index(names: list[str], num_classes: int) -> dict[str, int]:
    """Labels of a part of ImageNet's 1,000 synset folders; sorted order would be silently wrong for a part."""
    synsets = all(len(name) == 9 and name[0] == "n" and name[1:].isdigit() for name in names)
    if synsets and num_classes == 1000:
        try:
            from timm.data import ImageNetInfo  # pyright: ignore[reportMissingImports]

            known = {name: i for i, name in enumerate(ImageNetInfo("imagenet-1k").label_names())}
            return {name: known[name] for name in names}
        except (ImportError, RuntimeError, KeyError):
            pass  # without the list, say so below
    raise ValueError(
        f"expected {num_classes} class folders, as many as the model's classes, got {len(names)}: numbering them in "
        f"sorted order would give wrong labels; add a labels.csv with columns file and class_index"
    )


def _from_npz(path: Path) -> tuple[Tensor, Tensor]:
    try:
        with np.load(path, allow_pickle=False) as file:
            pair = next((p for p in _NPZ_NAMES if set(p) <= set(file.files)), None)
            if pair is None:
                raise ValueError(f"expected arrays `images` and `labels` in {path}, got {', '.join(file.files)}")
            images, labels = file[pair[0]], file[pair[1]].reshape(-1)
    except OSError as error:
        raise ValueError(f"expected an .npz archive, {path} cannot be read: {error}") from error
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[3] in (1, 3) and images.shape[1] not in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    elif images.ndim != 4 or images.shape[1] not in (1, 3) or images.shape[3] in (1, 3):
        raise ValueError(
            f"expected images (n, h, w), (n, h, w, c) or (n, c, h, w) with 1 or 3 channels, got {images.shape}; "
            f"pass a tensor (n, c, h, w) to fastfreq.heatmap instead"
        )
    if len(images) != len(labels):
        raise ValueError(f"expected one label per image in {path}, got {len(images)} images and {len(labels)} labels")
    if images.dtype != np.uint8:
        images = images.astype(np.float32)
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"expected integer labels in {path}, got {labels.dtype}")
    return torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels.astype(np.int64))

"""Image folders and .npz files -> batches of pixels, each file decoded once per pass."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastfreq.vocabulary.numbers import as_int

from . import decoded as decoded_files
from .files import Interpolation as Interpolation
from .files import Preprocessing, below, in_order, size_text
from .label_table import read_label_table
from .npz import read_npz

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif"}


class ImageData:
    """Labelled images, iterable in batches of (images uint8 (n, c, h, w), labels int64 (n,)).

    Every pass decodes each file once, in order, at most two batches ahead; images of an .npz file may also be float32
    in [0, 1]. Images that cannot be decoded are left out, named in `skipped`, and counted in one warning at the end
    of the pass. The orientation tag of photographs is ignored, as in the evaluations that published figures rest on.

    Attributes:
        skipped: (file, reason) of images left out in the last pass.
        classes: class names by label, where folders named them.
    """

    def __init__(
        self,
        sources: list[Path] | Tensor,
        labels: Tensor,
        *,
        root: Path,
        preprocessing: Preprocessing | None,
        batch_size: int,
        workers: int | None,
        classes: list[str] | None = None,
        mixed: bool = False,
        decoded: Path | None = None,
    ) -> None:
        """Use `load_data` or `load_images`."""
        self._sources, self._labels, self._root = sources, labels, root
        self._preprocessing, self._batch_size = preprocessing, batch_size
        self._workers = workers or min(8, os.cpu_count() or 1)
        self.classes = classes
        self._mixed = mixed
        self.skipped: list[tuple[str, str]] = []
        self._decoded = None
        if decoded is not None:
            names = self.names()
            if names is None or isinstance(sources, Tensor):
                raise ValueError(f"expected no `decoded` beside {root}, whose images are pixels already, got {decoded}")
            self._decoded = decoded_files.once(Path(decoded), names, sources, preprocessing, workers=self._workers)

    def __len__(self) -> int:
        """Number of images listed, readable or not."""
        return len(self._sources)

    @property
    def batch_size(self) -> int:
        """Images in one batch."""
        return self._batch_size

    @property
    def labels(self) -> Tensor:
        """(n,) int64 of the images listed, readable or not."""
        return self._labels

    def names(self) -> list[str] | None:
        """The files listed, readable or not, relative to their folder; None of an .npz."""
        return None if isinstance(self._sources, Tensor) else [self._name(path) for path in self._sources]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass over the images.

        Raises:
            ValueError: images of different sizes without a Preprocessing, or not one that can be read.
        """
        if isinstance(self._sources, Tensor):
            step = self._batch_size
            for start in range(0, len(self._sources), step):
                yield self._sources[start : start + step], self._labels[start : start + step]
            return
        if self._decoded is not None:
            self.skipped = [(self._name(self._sources[row]), why) for row, why in self._decoded.reasons.items()]
            for batch, rows in self._decoded.batches(self._batch_size):
                yield batch, self._labels[torch.from_numpy(rows)]
            self._report(any_read=True)
            return
        self.skipped = []
        images, labels, first = [], [], None
        decoded = in_order(self._sources, self._preprocessing, workers=self._workers, ahead=2 * self._batch_size)
        for path, label, image in zip(self._sources, self._labels.tolist(), decoded, strict=True):
            if isinstance(image, str):
                self.skipped.append((self._name(path), image))
                continue
            first = first or (path, image.shape)
            if self._mixed and images and image.shape != images[0].shape:
                yield _stacked(images), torch.tensor(labels)
                images, labels = [], []
            if not self._mixed and image.shape != first[1]:
                raise ValueError(
                    f"expected images of one size, got {size_text(first[1])} ({self._name(first[0])}) and "
                    f"{size_text(image.shape)} ({self._name(path)}); give a Preprocessing with the model's size"
                )
            images.append(image)
            labels.append(label)
            if len(images) == self._batch_size:
                yield _stacked(images), torch.tensor(labels)
                images, labels = [], []
        if images:
            yield _stacked(images), torch.tensor(labels)
        self._report(any_read=first is not None)

    def _report(self, *, any_read: bool) -> None:
        if not self.skipped:
            return
        name, reason = self.skipped[0]
        if not any_read:
            raise ValueError(
                f"expected images in {self._root}, none of {len(self)} could be read, the first: {name} ({reason})"
            )
        warnings.warn(
            f"{len(self.skipped)} of {len(self)} images could not be read and were left out, the first: "
            f"{name} ({reason}); all are in `.skipped`",
            stacklevel=3,
        )

    def _name(self, path: Path) -> str:
        return (path.relative_to(self._root) if path.is_relative_to(self._root) else path).as_posix()


def _stacked(images: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def load_data(
    path: str | Path,
    *,
    preprocessing: Preprocessing | None = None,
    limit: int | None = None,
    num_classes: int | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    max_bytes: int | None = None,
    decoded: str | Path | None = None,
) -> ImageData:
    """Labelled images from a folder or an .npz file.

    Args:
        path: a folder with one folder per class (labels by sorted name), linked ones included; or a folder
            with a ``labels.csv`` (a header,
            columns ``file`` and one of ``label``, ``class_index``, ``class`` with integers from 0, each file once and
            inside the folder); or an ``.npz``
            with ``images`` and ``labels`` (also ``x`` and ``y``, ``test_images`` and ``test_labels``, ``x_test`` and
            ``y_test``), images (n, h, w), (n, h, w, c) or (n, c, h, w), uint8 or float in [0, 1].
        preprocessing: resize and crop of image files; without it all must have one size. The images of an .npz are
            taken as they are and must have its `size` already.
        limit: take this many images, number i being the floor(i n / limit)-th of n, so that classes stay balanced.
        num_classes: of the model; labels beyond it, and folders that cannot be matched to its classes, are refused.
            Some of ImageNet's synset folders are numbered by timm's list of all 1,000.
        batch_size: images in one batch.
        workers: threads that decode; None for one per core, eight at most.
        max_bytes: of images and labels in an .npz, as it stores them; None for 256 MiB or, where that is more, 100
            times the file's own size, and 4 GiB at most. Image files are read one after the other and need none.
        decoded: a folder for the pixels of image files, which are decoded once, by the first process that asks for
            these files in this order and geometry; passes, runs and ranks after it map them into memory. Changed
            files are decoded anew; what lies in the folder can be removed at any time.

    Returns:
        ImageData, iterable any number of times.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        ValueError: no images, labels that do not fit, an ambiguous layout, a file that is damaged or too large, or no
            room for `decoded`; the message names the file and the first culprit.
    """
    path = Path(path)
    limit, batch_size, workers = _counts(limit, batch_size, workers)
    classes = None
    if path.is_dir():
        if (path / "labels.csv").is_file():
            sources, labels = read_label_table(path / "labels.csv", num_classes)
        else:
            sources, labels, classes = _from_folders(path, num_classes)
    elif path.suffix.lower() == ".npz" and path.is_file():
        sources, labels = read_npz(path, None if preprocessing is None else preprocessing.size, max_bytes=max_bytes)
    elif path.exists():
        raise ValueError(f"expected a folder of images or an .npz file, got {path}")
    else:
        raise FileNotFoundError(f"expected a folder of images or an .npz file at {path}, found nothing")
    if num_classes is not None and int(labels.max()) >= num_classes:
        raise ValueError(f"expected labels below {num_classes}, the model's classes, {path} has {int(labels.max())}")
    if limit is not None and limit < len(labels):
        index = torch.arange(limit) * len(labels) // limit
        labels = labels[index]
        sources = sources[index] if isinstance(sources, Tensor) else [sources[i] for i in index.tolist()]
    return ImageData(
        sources,
        labels,
        root=path,
        preprocessing=preprocessing,
        batch_size=batch_size,
        workers=workers,
        classes=classes,
        decoded=None if decoded is None else Path(decoded),
    )


def load_images(
    path: str | Path,
    *,
    preprocessing: Preprocessing | None = None,
    limit: int | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    max_bytes: int | None = None,
    decoded: str | Path | None = None,
) -> ImageData:
    """Images without labels, of any sizes: every image file below a folder, by name, or the images of an .npz file.

    Args:
        path: a folder, searched to any depth; or an ``.npz`` as for `load_data`.
        preprocessing: resize and crop of image files; None leaves them as they are. Each batch holds images of one
            size: where sizes differ, consecutive images of the same size share one.
        limit: as for `load_data`.
        batch_size: as for `load_data`.
        workers: as for `load_data`.
        max_bytes: as for `load_data`.
        decoded: as for `load_data`; all images must then have one size.

    Returns:
        ImageData whose labels are 0 (those of the file for an .npz), for `image_spectrum` and `difference_spectrum`.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        ValueError: no images.
    """
    folder = Path(path)
    if not folder.is_dir():
        return load_data(
            path,
            preprocessing=preprocessing,
            limit=limit,
            batch_size=batch_size,
            workers=workers,
            max_bytes=max_bytes,
            decoded=decoded,
        )
    limit, batch_size, workers = _counts(limit, batch_size, workers)
    files = sorted(p for p in below(folder) if p.suffix.lower() in _SUFFIXES)
    if not files:
        raise ValueError(f"expected images in {folder}, found none with a suffix of {', '.join(sorted(_SUFFIXES))}")
    if limit is not None and limit < len(files):
        files = [files[i * len(files) // limit] for i in range(limit)]
    return ImageData(
        files,
        torch.zeros(len(files), dtype=torch.int64),
        root=folder,
        preprocessing=preprocessing,
        batch_size=batch_size,
        workers=workers,
        mixed=decoded is None,
        decoded=None if decoded is None else Path(decoded),
    )


def _counts(limit: Any, batch_size: Any, workers: Any) -> tuple[int | None, int, int | None]:
    found = {}
    for name, value in (("limit", limit), ("batch_size", batch_size), ("workers", workers)):
        found[name] = None if value is None and name != "batch_size" else as_int(name, value)
        if found[name] is not None and found[name] < 1:
            raise ValueError(f"expected a positive `{name}`, got {value}")
    return found["limit"], found["batch_size"], found["workers"]


def _from_folders(folder: Path, num_classes: int | None) -> tuple[list[Path], Tensor, list[str]]:
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    root = (os.path.realpath(folder),)
    found = {name: sorted(p for p in below(folder / name, root) if p.suffix.lower() in _SUFFIXES) for name in names}
    if not any(found.values()):
        raise ValueError(f"expected folders of images, one per class, or a labels.csv in {folder}, found neither")
    classes = names
    if num_classes is not None and len(names) != num_classes:
        # numbering a part of the classes in sorted order would be silently wrong
        classes = _synsets(names, num_classes)
    index = {name: i for i, name in enumerate(classes)}
    labels = [index[name] for name in names for _ in found[name]]
    return [path for name in names for path in found[name]], torch.tensor(labels), classes


def _synsets(names: list[str], num_classes: int) -> list[str]:
    """ImageNet's 1,000 synsets by class index, if `names` are some of them."""
    way_out = "add a labels.csv with columns file and class_index"
    if num_classes == 1000 and all(len(name) == 9 and name[0] == "n" and name[1:].isdigit() for name in names):
        try:
            from timm.data import ImageNetInfo  # pyright: ignore[reportMissingImports]
        except (ImportError, RuntimeError):  # a torchvision of another build than torch raises RuntimeError
            way_out = f"install timm, whose list of synsets is then used, or {way_out}"
        else:
            known = list(ImageNetInfo("imagenet-1k").label_names())
            if set(names) <= set(known):
                return known
            stranger = min(set(names) - set(known))
            way_out = f"{stranger} is not one of ImageNet's 1,000 synsets; {way_out}"
    raise ValueError(
        f"expected {num_classes} class folders, as many as the model's classes, got {len(names)}: numbering them in "
        f"sorted order would give wrong labels; {way_out}"
    )

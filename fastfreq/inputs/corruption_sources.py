"""Where corrupted images come from: a package's functions, the caller's functions, or files."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import random
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastfreq.data import ImageData
from fastfreq.engine.images import Chunk
from fastfreq.results._archive import mapped_array
from fastfreq.vocabulary import checks, numbers, streams

COMMON_CORRUPTIONS = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
EXTRA_CORRUPTIONS = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
_PACKAGE = "imagecorruptions-imaug"
_DRAWS = 100  # of a random corruption before it is given up
_FILE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}


@dataclasses.dataclass(frozen=True)
class ArrayCorruption:
    """A corruption of 8-bit arrays, for `corruption_report`.

    Attributes:
        function: (image uint8 (h, w, c), severity) -> array of the same shape, uint8 or numbers in 0 .. 255.
    """

    function: Callable[[NDArray[np.uint8], int], Any]

    def __call__(self, images: Tensor, severity: int) -> Tensor:
        """Corrupt images (1, c, h, w) whose pixels are multiples of 1/255."""
        array = (images[0] * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        found = np.asarray(self.function(np.ascontiguousarray(array), severity))
        if found.shape != array.shape:
            raise ValueError(f"expected an image of shape {array.shape} (h, w, c), got {found.shape}")
        values = torch.from_numpy(np.ascontiguousarray(found).astype(np.float32)) / 255
        return values.permute(2, 0, 1)[None].to(images.device)


Corruption = Callable[[Tensor, int], Tensor]


class Source(Protocol):
    """Corrupted images by name and severity."""

    names: tuple[str, ...]
    label: str  # what it is, stored with the result
    eight_bit: bool  # whether it starts from pixels rounded to 8 bits

    def corrupted(self, chunk: Chunk, name: str, severity: int) -> Tensor:
        """The images of a chunk (float (n, c, h, w) in [0, 1]) under one corruption, unchecked."""
        ...


class FunctionSource:
    """Functions, called image by image, each call with its own random state."""

    def __init__(self, functions: Mapping[str, Corruption], *, seed: int, label: str = "functions") -> None:
        self.names, self.label, self._functions, self._seed = tuple(functions), label, dict(functions), seed
        self.eight_bit = any(isinstance(function, ArrayCorruption) for function in functions.values())

    def corrupted(self, chunk: Chunk, name: str, severity: int) -> Tensor:
        """One call per image: what a random function returns depends on neither batch nor order."""
        function = self._functions[name]
        found = []
        for image, i in zip(chunk.images, chunk.ids.tolist(), strict=True):
            key = streams.domain("corruptions"), self._seed, zlib.crc32(name.encode()), severity, i
            with torch.inference_mode(False), _seeded(key, image.device):
                try:
                    # a copy: functions may overwrite it, and random ones follow its strides
                    found.append(
                        torch.as_tensor(
                            function(image[None].clone(memory_format=torch.contiguous_format), severity)
                        ).clone()  # it may return the same memory every time
                    )
                except Exception as error:
                    error.add_note(f"raised by the corruption {name!r} at severity {severity} on image {i}")
                    raise
            if found[-1].shape != (1, *image.shape):
                raise ValueError(
                    f"expected the corruption {name!r} to return images of the shape it got, (1, c, h, w) = "
                    f"{(1, *image.shape)}, got {tuple(found[-1].shape)} at severity {severity}"
                )
        return torch.cat(found)


def package_source(names: Sequence[str], *, seed: int) -> FunctionSource:
    """Corruptions of ImageNet-C by name, from the package imagecorruptions-imaug.

    Raises:
        ImportError: the package is missing.
        ValueError: a name it does not have.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # its own, of libraries it imports
            import imagecorruptions  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            f"expected {_PACKAGE} for corruptions by name, {error}; pip install 'fastfreq[corruptions]', or pass your "
            f"own functions, or a folder of corrupted images"
        ) from error
    known = imagecorruptions.corruption_dict
    for name in names:
        if name not in known:
            raise ValueError(f"expected corruptions of {list(known)}, got {name!r}")
    functions = {name: ArrayCorruption(_packaged(imagecorruptions, name)) for name in names}
    return FunctionSource(functions, seed=seed, label="imagecorruptions")


def _packaged(package: Any, name: str) -> Callable[[NDArray[np.uint8], int], NDArray[np.uint8]]:
    # two of its functions draw from generators of their own unless they are given a seed
    takes_seed = "seed" in inspect.signature(package.corruption_dict[name]).parameters

    def corrupt(image: NDArray[np.uint8], severity: int) -> NDArray[np.uint8]:
        if image.shape[-1] != 3 or min(image.shape[:2]) < 32:
            raise ValueError(f"expected colour images of at least 32 x 32, got (h, w, c) = {image.shape}")
        for _ in range(_DRAWS):
            options = {"seed": random.getrandbits(31)} if takes_seed else {}
            try:
                with np.errstate(divide="raise", invalid="raise"), warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)
                    return package.corrupt(image, severity=severity, corruption_name=name, **options)
            except FloatingPointError:  # `spatter` divides 0 by 0 where no drop falls on a small image: draw again
                continue
            except (AttributeError, TypeError) as error:
                raise RuntimeError(
                    f"the package failed, {error}; `imagecorruptions` itself does not work with NumPy 2 and "
                    f"scikit-image 0.19 or later: pip install {_PACKAGE} in its place"
                ) from error
        raise FloatingPointError(f"expected {name} to return numbers, got NaN in each of {_DRAWS} draws")

    return corrupt


class CommonCorruption:
    """One corruption of ImageNet-C, as a function of images; see `common_corruption`."""

    def __init__(self, name: str, severity: int, *, seed: int) -> None:
        self._name, self._severity, self._source = name, severity, package_source([name], seed=seed)
        self._seen = 0
        self.__name__ = f"{name} of severity {severity}"

    def __call__(self, images: Tensor) -> Tensor:
        """The corrupted images (n, c, h, w), numbered in the order in which they come."""
        ids = torch.arange(self._seen, self._seen + len(images))
        self._seen += len(images)
        return self.by_id(images, ids)

    def by_id(self, images: Tensor, ids: Tensor) -> Tensor:
        """The corrupted images of these ids, whatever came before."""
        pixels = (images * 255).round() / 255
        chunk = Chunk(pixels, torch.zeros_like(ids), ids, torch.zeros_like(ids))
        return self._source.corrupted(chunk, self._name, self._severity).to(images)


def common_corruption(name: str, severity: int, *, seed: int = 0) -> CommonCorruption:
    """One corruption of ImageNet-C, as a function of images for `difference_spectrum` or for training.

    Images are taken as 8 bits, as the package takes them. Calls are counted: image i of all images that the function
    was given draws from (seed, name, severity, i), so the first pass over images is what `corruption_report` makes of
    them. `difference_spectrum` counts by image id, in shards too.

    Args:
        name: one of `COMMON_CORRUPTIONS` or `EXTRA_CORRUPTIONS`.
        severity: 1 to 5.
        seed: of random corruptions.

    Returns:
        A function of float images (n, c, h, w) in [0, 1] that returns the corrupted ones.

    Raises:
        ImportError: the package imagecorruptions-imaug is missing.
        ValueError: a name or a severity that it does not have.

    Source: Hendrycks, Dietterich 2019.
    """
    severity, seed = numbers.as_int("severity", severity), checks.check_seed(seed)
    if severity not in range(1, 6):
        raise ValueError(f"expected a `severity` from 1 to 5, got {severity}")
    return CommonCorruption(name, severity, seed=seed)


@contextlib.contextmanager
def _seeded(entropy: tuple[int, ...], device: torch.device) -> Iterator[None]:
    """Random states of NumPy, Python and torch set from integers, and put back afterwards; one thread at a time."""
    key = np.random.SeedSequence(entropy).generate_state(2)
    long_key = int(key[0]) << 31 | int(key[1]) >> 1
    with streams.GLOBAL_STATES:
        numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002 (what corruptions draw from)
        on_gpu = device.type == "cuda"
        try:
            with torch.random.fork_rng(devices=[device] if on_gpu else []):
                np.random.seed(key)  # noqa: NPY002
                random.seed(long_key)
                torch.default_generator.manual_seed(long_key)
                if on_gpu:
                    with torch.cuda.device(device):
                        torch.cuda.manual_seed(long_key)
                yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)


class FolderSource:
    """Corrupted images in files: arrays as CIFAR-10-C ships them, or images as ImageNet-C does.

    ``NAME.npy``: uint8 (5 N, h, w, c), severity 1 first, image i of severity s in row (s - 1) N + i; labels in
    ``labels.npy`` if there are any. ``NAME/SEVERITY/CLASS/*``: image files, number i the i-th by class and name.
    """

    label = "folder"
    eight_bit = True

    def __init__(self, path: str | Path, names: Sequence[str] | None = None, *, check_labels: bool = True) -> None:
        self._path, self._check_labels = Path(path), check_labels
        if not self._path.is_dir():
            raise FileNotFoundError(f"expected a folder of corrupted images at {path}, found none")
        arrays = {p.stem for p in self._path.glob("*.npy")} - {"labels"}
        folders = {p.name for p in self._path.iterdir() if (p / "1").is_dir()}
        found = sorted(arrays | folders)
        if not found:
            raise ValueError(f"expected NAME.npy files (CIFAR-10-C) or NAME/SEVERITY folders (ImageNet-C) in {path}")
        missing = [name for name in names or () if name not in found]
        if missing:
            raise ValueError(f"expected the corruptions {missing} in {path}, it has {found}")
        self.names = tuple(names or found)
        self._arrays = {name: self._open(name) for name in self.names if name in arrays}
        self._labels = self._read_labels() if (self._path / "labels.npy").is_file() and self._arrays else None
        self._files: dict[tuple[str, int], list[tuple[Path, int]]] = {}

    def _open(self, name: str) -> NDArray[np.uint8]:
        array = mapped_array(self._path / f"{name}.npy")
        if array.dtype != np.uint8 or array.ndim != 4 or len(array) % 5:
            raise ValueError(f"expected {name}.npy as uint8 (5 n, h, w, c), got {array.dtype} {array.shape}")
        return array

    def _read_labels(self) -> NDArray[np.int64]:
        labels = mapped_array(self._path / "labels.npy")
        rows = {len(array) for array in self._arrays.values()}
        if labels.dtype.kind not in "iu" or rows != {labels.size}:
            raise ValueError(
                f"expected {self._path / 'labels.npy'} with an integer for each of the {sorted(rows)} rows of the "
                f"arrays beside it, got {labels.dtype} {labels.shape}"
            )
        return labels.reshape(-1).astype(np.int64)

    def corrupted(self, chunk: Chunk, name: str, severity: int) -> Tensor:
        """Rows or files by image id, refused where labels show that they are other images."""
        ids = chunk.ids.cpu().numpy()
        if name in self._arrays:
            pixels, labels = self._rows(name, severity, ids)
        else:
            pixels, labels = self._images(name, severity, ids)
        wanted = chunk.labels.cpu().numpy()
        if self._check_labels and labels is not None and not np.array_equal(labels, wanted):
            first = int(np.flatnonzero(labels != wanted)[0])
            raise ValueError(
                f"expected the corrupted images in the order of the clean ones, image {ids[first]} has label "
                f"{wanted[first]}, its corrupted one under {name!r} has {labels[first]}"
            )
        if pixels.shape != chunk.images.shape:
            raise ValueError(
                f"expected corrupted images of the clean images' (c, h, w) = {tuple(chunk.images.shape[1:])}, "
                f"{name!r} has {tuple(pixels.shape[1:])}"
            )
        return pixels.to(chunk.images.device).float() / 255

    def _rows(self, name: str, severity: int, ids: NDArray[np.int64]) -> tuple[Tensor, NDArray[np.int64] | None]:
        array = self._arrays[name]
        count = len(array) // 5
        if not (1 <= severity <= 5) or ids.max() >= count:
            raise ValueError(
                f"expected a severity from 1 to 5 and an image below {count} in {name}.npy, got severity {severity}, "
                f"image {ids.max()}"
            )
        rows = (severity - 1) * count + ids
        labels = None if self._labels is None else self._labels[rows]
        return torch.from_numpy(np.ascontiguousarray(array[rows].transpose(0, 3, 1, 2))), labels

    def _images(self, name: str, severity: int, ids: NDArray[np.int64]) -> tuple[Tensor, NDArray[np.int64]]:
        files = self._listed(name, severity)
        if ids.max() >= len(files):
            raise ValueError(
                f"expected an image {ids.max()} in {self._path / name / str(severity)}, it holds {len(files)}"
            )
        paths, labels = [files[i][0] for i in ids], [files[i][1] for i in ids]
        data = ImageData(
            paths,
            torch.tensor(labels),
            root=self._path,
            preprocessing=None,
            batch_size=len(paths),
            workers=None,
        )
        pixels = next(iter(data))[0]
        if data.skipped:
            raise ValueError(f"expected corrupted images that can be read, {data.skipped[0]} cannot")
        return pixels, np.array(labels)

    def _listed(self, name: str, severity: int) -> list[tuple[Path, int]]:
        folder = self._path / name / str(severity)
        if (name, severity) not in self._files:
            if not folder.is_dir():
                raise ValueError(f"expected a folder {folder} with images of severity {severity}, found none")
            classes = sorted(p for p in folder.iterdir() if p.is_dir())
            self._files[name, severity] = [
                (path, label)
                for label, one in enumerate(classes)
                for path in sorted(one.iterdir())
                if path.suffix.lower() in _FILE_SUFFIXES
            ]
        return self._files[name, severity]

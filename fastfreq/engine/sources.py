"""Images and labels as users bring them -> batches of (images (n, c, h, w), labels (n,)), one order, one type."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from fastfreq.vocabulary import checks

from . import workers

IMAGE_KEYS = ("pixel_values", "images", "image", "x", "img")
LABEL_KEYS = ("labels", "label", "y", "target")
_CHANNELS = (1, 3, 4)
_SMALLEST_SIDE = 8  # of an image whose channels stand last: smaller ones cannot be told from channels

Channels = Literal["first", "last"]


class Batch(NamedTuple):
    """Images as they go on, on their device; of an array in memory not copied unless their type has to change."""

    images: Tensor  # (n, c, h, w), uint8 or of a float type
    labels: Tensor | None  # (n,) int64
    ids: Tensor | None  # (n,) int64, where the source names them


class Batches:
    """One pass over a source; use `batches`.

    Attributes:
        total: number of images, or None where only the pass tells; of loaders and files what they say.
        in_memory: whether all images are there.
    """

    def __init__(
        self,
        items: Iterable[Any],
        total: int | None,
        batch_size: int,
        channels: Channels | None,
        *,
        in_memory: bool = False,
    ) -> None:
        self._items, self.total, self._batch_size = items, total, batch_size
        self._channels: Channels | None = channels
        self.in_memory = in_memory

    def __iter__(self) -> Iterator[Batch]:
        """The batches.

        Raises:
            ValueError, TypeError: as for `batches`.
        """
        items: Iterator[Any] = _items_of(self._items)
        first = next(items, None)
        if first is None:
            return
        items = itertools.chain([first], items)
        if _is_sample(first):
            items = _collated(items, self._batch_size)
        dtype: torch.dtype | None = None
        for item in items:
            batch = _batch(item, self._channels)
            dtype = dtype or batch.images.dtype
            if batch.images.dtype != dtype:  # joined later on, bytes would count as they are beside pixels in [0, 1]
                raise ValueError(f"expected all images of one type, {_types(dtype, batch.images.dtype)}")
            # whoever hands out one batch after the other may fill the same memory again
            yield batch if self.in_memory else _copied(batch)


def batches(
    images: Any,
    labels: Any = None,
    *,
    refuse_shuffle: bool = False,
    batch_size: int = 64,
    channels: Channels | None = None,
) -> Batches:
    """Whatever holds images, as batches of (images, labels, ids).

    Args:
        images: a tensor or array (n, c, h, w), or (n, h, w, c) with 1, 3 or 4 channels; a DataLoader; a Dataset, of
            torch or Hugging Face, of single images; an iterable of either batches or single images. A batch is
            (images, labels), images alone, or a mapping with one of "pixel_values", "images", "image", "x", "img" and
            one of "labels", "label", "y", "target", or none; "ids" there have to be one integer per image, measurements
            number images by their place all the same; what else there is is ignored.
        labels: (n,) integers beside a tensor or array, else None.
        refuse_shuffle: refuse loaders that give the images in another order every time.
        batch_size: of single images; batches stay as they are.
        channels: which axis of images holds the channels, "first" or "last". None: last where the last axis has 1, 3
            or 4 entries, the second has another number, and height and width are 8 at least; arrays (not tensors,
            which are (n, c, h, w) by torch's convention) where both axes have 1, 3 or 4 are refused.

    Returns:
        Batches, iterable (as often as `images` is), with `.total`.

    Raises:
        ValueError: images that are not (n, c, h, w), or whose channels cannot be told, labels that do not fit, a
            shuffling loader.
        TypeError: something else, Pillow images among them.
    """
    if channels not in (None, "first", "last"):
        raise ValueError(f"expected `channels` as 'first', 'last' or None, got {channels!r}")
    if isinstance(images, (Tensor, np.ndarray)):
        return _of_array(images, labels, batch_size, channels)
    if labels is not None:
        raise ValueError(f"expected no `labels` beside {_kind(images)}, which holds its own, got both")
    if isinstance(images, Mapping):
        whole = _batch(images, channels)
        return Batches([whole], len(whole.images), batch_size, "first", in_memory=True)
    if isinstance(images, DataLoader):
        if refuse_shuffle:
            _check_order(images)
        return Batches(images, _total(images), batch_size, channels)
    if isinstance(images, (str, bytes)):
        raise TypeError(f"expected images, got {_kind(images)}; fastfreq.load_data reads files")
    if _is_map(images):
        number = len(images)
        single = number > 0 and _is_sample(images[0])
        return Batches(_Items(images), number if single else None, batch_size, channels)
    if not isinstance(images, Iterable):
        raise TypeError(
            f"expected `images` as a tensor, an array, a DataLoader, a Dataset or an iterable of (images, labels) "
            f"batches, got {_kind(images)}"
        )
    if isinstance(images, tuple) and len(images) == 2 and _is_pair(*images):
        raise ValueError("expected images and labels as two arguments, got a tuple of both; pass them apart")
    total = len(images) if isinstance(images, Sized) and hasattr(images, "batch_size") else None  # ImageData
    return Batches(images, total, batch_size, channels)


# ---------------------------------------------------------------- where batches come from
class _Items(Iterable[Any]):
    """The samples of a map-style data set, by number: not all of them stop on their own."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __iter__(self) -> Iterator[Any]:
        return (self._dataset[i] for i in range(len(self._dataset)))


def _is_map(images: Any) -> bool:
    """A data set of numbered items: torch's, or one that looks like it (Hugging Face's)."""
    if isinstance(images, (IterableDataset, Sequence)):
        return False
    return hasattr(images, "__len__") and hasattr(images, "__getitem__")


def _of_array(images: Any, labels: Any, batch_size: int, channels: Channels | None) -> Batches:
    """Images in memory as one batch; an array that must not be written, which is copied, in small ones."""
    beside = None if labels is None else _labels(labels)
    if beside is not None and images.ndim == 4:
        checks.check_labels(beside, len(images))
    if isinstance(images, np.ndarray) and not images.flags.writeable and len(images.shape) == 4:
        return Batches(_Slices(images, beside, batch_size), len(images), batch_size, channels)
    whole = _batch((images, beside), channels)
    return Batches([whole], len(whole.images), batch_size, "first", in_memory=True)


class _Slices(Iterable[Any]):
    """A file that is mapped into memory, say, piece by piece."""

    def __init__(self, images: np.ndarray, labels: Tensor | None, batch_size: int) -> None:
        self._images, self._labels, self._step = images, labels, batch_size

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self._images), self._step):
            piece = slice(start, start + self._step)
            yield self._images[piece], None if self._labels is None else self._labels[piece]


def _check_order(loader: DataLoader[Any]) -> None:
    chain: list[Any] = [loader.sampler]
    inner: Any = loader.batch_sampler
    while inner is not None:
        chain.append(inner)
        inner = getattr(inner, "sampler", None)
    for candidate in chain:
        name = type(candidate).__name__
        if "Random" in name or "Shuffle" in name or getattr(candidate, "shuffle", False) is True:
            raise ValueError(
                f"expected a DataLoader that keeps the order of its images, its {name} shuffles them: results tell "
                f"images apart by their place; pass shuffle=False"
            )


def _total(loader: DataLoader[Any]) -> int | None:
    try:
        if loader.batch_size is None:  # its own batches, or samples that are batches
            return None
        images = len(loader.sampler)  # pyright: ignore[reportArgumentType]
    except TypeError:  # of an IterableDataset
        return None
    return images // loader.batch_size * loader.batch_size if loader.drop_last else images


def _items_of(items: Iterable[Any]) -> Iterator[Any]:
    """`items`; what a DataLoader says of Pillow images, and of workers that died, becomes advice."""
    count = getattr(items, "num_workers", 0) if isinstance(items, DataLoader) else 0
    iterator = iter(items)
    while True:
        try:
            item = workers.read(iterator)
        except StopIteration:
            return
        except TypeError as error:
            if "PIL." not in str(error):
                raise
            raise _pillow_error() from error
        except (RuntimeError, ConnectionError, EOFError) as error:
            # of a broken pipe or by a signal, whichever is first; what a worker itself raises is told by "Caught"
            if not count or str(error).startswith("Caught") or not _of_a_worker(error):
                raise
            raise RuntimeError(
                f"expected the DataLoader's workers to live, one died ({str(error).partition('.')[0]}): when memory "
                f"runs out the system ends them; try fewer workers, or num_workers=0, which shows where it happens"
            ) from error
        yield item


def _of_a_worker(error: BaseException) -> bool:
    return not isinstance(error, RuntimeError) or str(error).startswith("DataLoader worker")


def _pillow_error() -> TypeError:
    return TypeError(
        "expected tensors, got Pillow images; give the data set a transform that ends in "
        "torchvision.transforms.ToTensor(), or load the files with fastfreq.load_data"
    )


def _collated(samples: Iterable[Any], batch_size: int) -> Iterator[Any]:
    """Single (image, label) samples in batches."""
    samples = iter(samples)
    while pairs := [_kept(sample) for sample in itertools.islice(samples, batch_size)]:
        images = _stacked([image for image, _ in pairs])
        labels = [label for _, label in pairs]
        yield images, None if all(label is None for label in labels) else labels


def _kept(sample: Any) -> tuple[Tensor, Any]:
    """(image, label) of a sample, in memory that the next sample does not fill."""
    image, label, _ = _parts(sample)
    return _tensor(image).clone(), label.item() if isinstance(label, (Tensor, np.ndarray)) else label


def _stacked(images: Sequence[Any]) -> Tensor:
    tensors = [_tensor(image) for image in images]
    for tensor in tensors:
        if tensor.shape != tensors[0].shape:
            raise ValueError(
                f"expected all images of one shape, got {tuple(tensors[0].shape)} and {tuple(tensor.shape)}; "
                f"resize or crop them first"
            )
        if tensor.dtype != tensors[0].dtype:
            raise ValueError(f"expected all images of one type, {_types(tensors[0].dtype, tensor.dtype)}")
    return torch.stack(tensors)


def _types(first: torch.dtype, other: torch.dtype) -> str:
    """Two types of images, and the way out, for messages."""
    return f"got {first} and {other}; divide bytes by 255, or pass all as uint8"


# ---------------------------------------------------------------- what a batch is
def _parts(item: Any) -> tuple[Any, Any, Any]:
    """(images, labels or None, ids or None) of a batch or a sample."""
    if isinstance(item, Batch):
        return item
    if isinstance(item, Mapping):
        found = [_only(item, keys, what) for keys, what in ((IMAGE_KEYS, "images"), (LABEL_KEYS, "labels"))]
        if found[0] is None:
            raise ValueError(
                f"expected a batch with one of {', '.join(IMAGE_KEYS)}, got a dict of "
                f"{', '.join(map(str, list(item)[:10])) or 'nothing'}; pass an iterable of (images, labels)"
            )
        return found[0], found[1], item.get("ids")
    if isinstance(item, (tuple, list)) and item:
        return item[0], item[1] if len(item) > 1 else None, None
    if isinstance(item, (Tensor, np.ndarray)) or _is_pillow(item):
        return item, None, None
    raise TypeError(f"expected batches of (images, labels), got {_kind(item)}")


def _only(item: Mapping[Any, Any], keys: tuple[str, ...], what: str) -> Any:
    found = [key for key in keys if key in item]
    if len(found) > 1:
        raise ValueError(f"expected one entry of {what} in a batch, got {' and '.join(found)}; leave one out")
    return item[found[0]] if found else None


def _is_sample(item: Any) -> bool:
    """A single image, with or without its label, rather than a batch."""
    images, labels, _ = _parts(item)
    if _is_pillow(images):
        raise _pillow_error()
    alone = getattr(images, "ndim", None) == 3
    if alone and np.ndim(labels) and np.shape(labels) != (len(images),):
        raise ValueError(
            f"expected one integer as the label of an image, got one of shape {tuple(np.shape(labels))}; use "
            f"label.argmax() if it is one-hot"
        )
    return alone and (labels is None or np.ndim(labels) == 0)


def _is_pair(images: Any, labels: Any) -> bool:
    return hasattr(images, "shape") and len(images.shape) == 4 and np.ndim(labels) == 1


def _batch(item: Any, channels: Channels | None) -> Batch:
    images, labels, ids = _parts(item)
    pixels = _tensor(images)
    if pixels.ndim != 4 or 0 in pixels.shape[1:]:
        hint = "; add a batch axis with images[None]" if pixels.ndim == 3 else ""
        raise ValueError(f"expected `images` of shape (n, c, h, w), got {tuple(pixels.shape)}{hint}")
    if pixels.dtype != torch.uint8 and not pixels.dtype.is_floating_point:
        raise TypeError(f"expected `images` of a float type in [0, 1] or uint8, got {pixels.dtype}")
    if _channels_last(pixels, channels, is_array=isinstance(images, np.ndarray)):
        pixels = pixels.permute(0, 3, 1, 2)
    labels, ids = (None if v is None else _labels(v, name) for v, name in ((labels, "labels"), (ids, "ids")))
    if labels is not None:
        checks.check_labels(labels, len(pixels))
    if ids is not None and ids.shape != (len(pixels),):
        raise ValueError(f"expected `ids` of shape ({len(pixels)},), one per image, got {tuple(ids.shape)}")
    return Batch(pixels, labels, ids)


def _copied(batch: Batch) -> Batch:
    images, labels, ids = batch
    return Batch(images.clone(), None if labels is None else labels.clone(), None if ids is None else ids.clone())


def _channels_last(images: Tensor, channels: Channels | None, *, is_array: bool) -> bool:
    if channels is not None:
        return channels == "last"
    shape = tuple(images.shape)
    first, last = shape[1] in _CHANNELS, shape[3] in _CHANNELS
    if not last or (first and not is_array):
        return False
    if first or min(shape[1:3]) < _SMALLEST_SIDE:
        raise ValueError(
            f"expected `images` of shape (n, c, h, w) or (n, h, w, c), got {shape}, where channels cannot be told from "
            f"sides; pass a tensor (n, c, h, w) with 1, 3 or 4 channels, or images of at least {_SMALLEST_SIDE} pixels"
        )
    return True


def _tensor(values: Any) -> Tensor:
    """A tensor on the memory of `values`, where it can be."""
    if _is_pillow(values):
        raise _pillow_error()
    if isinstance(values, Tensor):
        return values.detach()
    if isinstance(values, (list, tuple)) and any(isinstance(v, (Tensor, np.ndarray)) or _is_pillow(v) for v in values):
        return _stacked(values)
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"expected numbers as `images`, got {_kind(values)}")
    native = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    return torch.from_numpy(native if native.flags.writeable else native.copy())


def _labels(values: Any, name: str = "labels") -> Tensor:
    """Integers as int64."""
    if isinstance(values, Tensor):
        tensor = values.detach()
    else:
        array = np.asarray(values)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"expected integer `{name}`, got {_kind(values)}")
        if array.dtype.kind == "u" and array.size and int(array.max()) >= 2**63:
            raise ValueError(f"expected `{name}` below 2**63, got {int(array.max())}")
        tensor = torch.from_numpy(array.astype(np.int64 if array.dtype.kind in "iu" else array.dtype.newbyteorder("=")))
    if tensor.dtype.is_floating_point or tensor.dtype.is_complex or tensor.dtype == torch.bool:
        raise TypeError(f"expected integer `{name}`, got {tensor.dtype}; use {name}.argmax(1) if they are one-hot")
    return tensor.long()


def _is_pillow(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "PIL"  # without importing it


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"

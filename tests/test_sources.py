"""Whatever holds images gives the same batches, and what cannot be told is refused by name."""

from __future__ import annotations

from collections import UserDict

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils import data

import fastfreq as ff
from fastfreq.engine.sources import Batch, batches

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (7, 3, 11, 14), dtype=np.uint8)
LABELS = np.array([3, 0, 2, 1, 4, 0, 2])
FLOATS = torch.from_numpy(PIXELS) / 255


class Pairs(data.Dataset):
    """A data set that never stops on its own."""

    def __init__(self, transform=lambda image: torch.from_numpy(image) / 255, keys=None):
        self.transform, self.keys = transform, keys

    def __len__(self):
        return len(LABELS)

    def __getitem__(self, index):
        sample = self.transform(PIXELS[index % 7]), int(LABELS[index % 7])
        return sample if self.keys is None else dict(zip(self.keys, sample, strict=True))


class Numbered:
    """As Hugging Face's Dataset: numbered, and no torch Dataset."""

    def __len__(self):
        return 7

    def __getitem__(self, index):
        return {"img": FLOATS[index], "label": int(LABELS[index]), "note": "x"}


class Stream(data.IterableDataset):
    def __iter__(self):
        return iter(Pairs()[i] for i in range(7))


def loader(**options):
    return data.DataLoader(Pairs(), batch_size=3, **options)


def parts(first, second, make=tuple):
    return [make((first[i : i + 3], second[i : i + 3])) for i in (0, 3, 6)]


def as_dict(images, labels):
    return lambda pair: {images: pair[0], labels: pair[1]}


SOURCES = {
    "tensors": lambda: batches(FLOATS, torch.from_numpy(LABELS)),
    "arrays": lambda: batches(FLOATS.numpy(), LABELS.astype(np.uint8)),
    "a list of labels": lambda: batches(FLOATS, LABELS.tolist()),
    "doubles": lambda: batches(FLOATS.double().numpy(), LABELS),
    "big endian": lambda: batches(FLOATS.numpy().astype(">f4"), LABELS.astype(">i4")),
    "channels last": lambda: batches(FLOATS.permute(0, 2, 3, 1).numpy(), LABELS),
    "channels last tensor": lambda: batches(FLOATS.permute(0, 2, 3, 1), LABELS),
    "reversed": lambda: batches(FLOATS.flip(0).numpy()[::-1], LABELS),
    "a loader": lambda: batches(loader(), refuse_shuffle=True),
    "a data set": lambda: batches(Pairs(), batch_size=2),
    "a tensor data set": lambda: batches(data.TensorDataset(FLOATS, torch.from_numpy(LABELS)), batch_size=4),
    "a subset": lambda: batches(data.Subset(Pairs(), range(7))),
    "a data set of arrays": lambda: batches(Pairs(lambda image: image / np.float32(255))),
    "a data set of dicts": lambda: batches(Pairs(keys=("pixel_values", "labels"))),
    "numbered dicts": lambda: batches(Numbered(), batch_size=2),
    "a stream of samples": lambda: batches(Stream(), batch_size=5),
    "a loader of a stream": lambda: batches(data.DataLoader(Stream(), batch_size=3)),
    "tuples": lambda: batches(parts(FLOATS, LABELS)),
    "lists": lambda: batches(iter(parts(FLOATS, LABELS, list))),
    "dicts": lambda: batches(parts(FLOATS, LABELS, as_dict("pixel_values", "labels"))),
    "user dicts": lambda: batches(parts(FLOATS, LABELS, lambda p: UserDict(x=p[0], y=p[1], extra=0))),
    "one dict": lambda: batches({"images": FLOATS, "label": LABELS}),
    "lists of images": lambda: batches([(list(FLOATS[:3]), LABELS[:3]), (list(FLOATS[3:]), LABELS[3:])]),
    "triples": lambda: batches([(FLOATS, LABELS, "metadata")]),
}


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_gives_the_same_images(name):
    source = SOURCES[name]()
    found = list(source)
    images, labels = torch.cat([b.images for b in found]), torch.cat([b.labels for b in found])
    assert images.dtype.is_floating_point and labels.dtype == torch.int64
    torch.testing.assert_close(images.float(), FLOATS, rtol=0, atol=0)
    assert labels.tolist() == LABELS.tolist() and all(b.ids is None for b in found)
    assert source.total in (7, None)
    if name not in ("lists", "tuples", "dicts", "user dicts", "lists of images", "triples") and "stream" not in name:
        assert source.total == 7


@pytest.mark.parametrize("last", [False, True])
def test_bytes_stay_bytes(last):
    pixels = PIXELS.transpose(0, 2, 3, 1) if last else PIXELS
    for source in (batches(pixels, LABELS), batches([(pixels, LABELS)])):
        (batch,) = source
        assert batch.images.dtype == torch.uint8
        np.testing.assert_array_equal(batch.images.numpy(), PIXELS)


def test_labels_and_ids_are_optional():
    for source in (
        batches(FLOATS),
        batches([FLOATS]),
        batches([(FLOATS,)]),
        batches({"x": FLOATS}),
        batches(FLOATS[:1]),
    ):
        assert [batch.labels for batch in source] == [None]
    unlabelled = list(batches(list(FLOATS), batch_size=4))  # single images
    assert [len(batch.images) for batch in unlabelled] == [4, 3] and unlabelled[0].labels is None
    (batch,) = batches([{"x": FLOATS, "y": LABELS, "ids": np.arange(7) * 2}])
    assert batch.ids is not None and batch.ids.tolist() == [0, 2, 4, 6, 8, 10, 12]
    (again,) = batches([Batch(*batch)])
    assert again.ids is not None and torch.equal(again.ids, batch.ids)
    assert list(batches(iter([]))) == []


def test_the_users_images_are_not_copied_and_not_tracked():
    leaf = FLOATS.clone().requires_grad_()
    (batch,) = batches(leaf, LABELS)
    assert batch.images.data_ptr() == leaf.data_ptr() and not batch.images.requires_grad


def test_a_mapped_file_is_read_piece_by_piece(tmp_path):
    np.save(tmp_path / "x.npy", PIXELS)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    source = batches(mapped, LABELS, batch_size=3)
    assert [len(b.images) for b in source] == [3, 3, 1] and source.total == 7
    np.testing.assert_array_equal(torch.cat([b.images for b in source]).numpy(), PIXELS)
    with pytest.raises(ValueError, match=r"`labels` of shape \(7,\)"):
        batches(mapped, LABELS[:3])


def test_image_folders_are_batches(tmp_path):
    (tmp_path / "a").mkdir()
    for i in range(3):
        Image.fromarray(PIXELS[i].transpose(1, 2, 0)).save(tmp_path / "a" / f"{i}.png")
    source = batches(ff.load_data(tmp_path, batch_size=2))
    assert source.total == 3
    np.testing.assert_array_equal(torch.cat([b.images for b in source]).numpy(), PIXELS[:3])


@pytest.mark.parametrize(
    ("shape", "last"),
    [((2, 3, 32, 32), False), ((2, 32, 32, 3), True), ((2, 9, 8, 1), True), ((2, 8, 9, 4), True), ((2, 1, 5, 7), False),
     ((2, 13, 64, 64), False), ((2, 2, 9, 9), False)],
    ids=str,
)  # fmt: skip
def test_channels_are_found(shape, last):
    for make in (np.zeros, torch.zeros):
        (batch,) = batches(make(shape))
        assert batch.images.shape == ((shape[0], shape[3], *shape[1:3]) if last else shape)


def test_channels_that_cannot_be_told_are_refused():
    for shape in (
        (2, 3, 3, 3),
        (2, 3, 224, 3),
        (2, 1, 9, 4),
        (2, 4, 9, 1),
        (2, 7, 32, 3),
        (2, 13, 5, 4),
        (2, 64, 1, 1),
    ):
        with pytest.raises(ValueError, match="channels cannot be told from sides; pass a tensor"):
            batches(np.zeros(shape))
        (batch,) = batches(np.zeros(shape), channels="first")
        assert batch.images.shape == shape
        (batch,) = batches(np.zeros(shape), channels="last")
        assert batch.images.shape == (shape[0], shape[3], *shape[1:3])
    (batch,) = batches(torch.zeros(2, 3, 5, 4))  # a tensor with 1, 3 or 4 channels is torch's (n, c, h, w)
    assert batch.images.shape == (2, 3, 5, 4)
    with pytest.raises(ValueError, match="channels cannot be told"):
        batches(torch.zeros(2, 2, 9, 4))
    with pytest.raises(ValueError, match="`channels` as 'first', 'last' or None, got 'middle'"):
        batches(FLOATS, channels="middle")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "options",
    [
        {"shuffle": True},
        {"sampler": data.SubsetRandomSampler(range(7))},
        {"sampler": data.WeightedRandomSampler([1.0] * 7, 7)},
        {"sampler": data.DistributedSampler(Pairs(), num_replicas=2, rank=0)},
    ],
    ids=["shuffle", "subset", "weighted", "distributed"],
)
def test_shuffling_loaders_are_refused_where_order_matters(options):
    with pytest.raises(ValueError, match="keeps the order of its images, its .*Sampler shuffles them.*shuffle=False"):
        batches(loader(**options), refuse_shuffle=True)
    assert sum(len(b.images) for b in batches(loader(**options))) in (4, 7)
    inner = data.BatchSampler(data.RandomSampler(Pairs()), 3, drop_last=False)
    with pytest.raises(ValueError, match="its RandomSampler shuffles"):
        batches(data.DataLoader(Pairs(), batch_sampler=inner), refuse_shuffle=True)


def test_totals_count_what_a_loader_drops():
    for source, total in (
        (batches(loader(drop_last=True)), 6),
        (batches(data.DataLoader(Stream(), batch_size=2)), None),
    ):
        assert source.total == total
        assert sum(len(b.images) for b in source) == (total or 7)


def picture(image):
    return Image.fromarray(image.transpose(1, 2, 0))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Pairs(picture),
        lambda: data.DataLoader(Pairs(picture), batch_size=2),
        lambda: [picture(image) for image in PIXELS],
        lambda: [([picture(PIXELS[0])], [0])],
        lambda: Pairs(picture, keys=("image", "label")),
    ],
    ids=["data set", "loader", "images", "batches", "dicts"],
)
def test_pillow_images_get_advice(make):
    with pytest.raises(
        TypeError, match=r"got Pillow images; .*ToTensor\(\), or load the files with fastfreq.load_data"
    ):
        list(batches(make()))


@pytest.mark.parametrize(
    ("images", "labels", "error", "message"),
    [
        (3, None, TypeError, "a tensor, an array, a DataLoader, .* got a int"),
        ("folder", None, TypeError, "got a str; fastfreq.load_data reads files"),
        ([3], None, TypeError, r"batches of \(images, labels\), got a int"),
        ((FLOATS, LABELS), None, ValueError, "as two arguments, got a tuple of both"),
        (loader(), LABELS, ValueError, "no `labels` beside a DataLoader"),
        ({"train": FLOATS}, None, ValueError, "one of pixel_values, images, image, x, img, got a dict of train"),
        ({"x": FLOATS, "image": FLOATS}, None, ValueError, "one entry of images in a batch, got image and x"),
        (
            {"x": FLOATS, "y": LABELS, "label": LABELS},
            None,
            ValueError,
            "one entry of labels in a batch, got label and y",
        ),
        ({"x": FLOATS, "ids": LABELS[:3]}, None, ValueError, r"`ids` of shape \(7,\), one per image, got \(3,\)"),
        (FLOATS[0], LABELS, ValueError, r"got \(3, 11, 14\); add a batch axis"),
        (FLOATS[:, :, :0], LABELS, ValueError, r"got \(7, 3, 0, 14\)"),
        (FLOATS.long(), LABELS, TypeError, "float type in .* or uint8, got torch.int64"),
        (PIXELS > 3, LABELS, TypeError, "got torch.bool"),
        (FLOATS.numpy().astype(complex), LABELS, TypeError, "expected numbers as `images`, got a ndarray"),
        (FLOATS, LABELS[:3], ValueError, r"`labels` of shape \(7,\), one per image, got \(3,\)"),
        (FLOATS, LABELS - 1, ValueError, "`labels` from 0, got -1"),
        (FLOATS, LABELS * 1.0, TypeError, "integer `labels`, got torch.float64; use labels.argmax"),
        (FLOATS, LABELS > 1, TypeError, "integer `labels`, got torch.bool"),
        (FLOATS, ["a"] * 7, TypeError, "integer `labels`, got a list"),
        (FLOATS, np.full(7, 2**63, np.uint64), ValueError, "`labels` below 2\\*\\*63"),
        ([(FLOATS[0], 1), (FLOATS[0, :, 1:], 1)], None, ValueError, r"all images of one shape, got \(3, 11, 14\) and"),
        (
            [(FLOATS, LABELS), (PIXELS, LABELS)],
            None,
            ValueError,
            "images of one type, got torch.float32 and torch.uint8",
        ),
        (
            [(PIXELS[0], 1), (FLOATS[0], 1)],
            None,
            ValueError,
            "one type, got torch.uint8 and torch.float32; divide bytes",
        ),
        ([(FLOATS[0], [0, 1])], None, ValueError, r"one integer as the label of an image, .* \(2,\); use label.argmax"),
        ([(FLOATS[0], 1), (FLOATS[0], None)], None, TypeError, "integer `labels`, got a list"),
        ([(FLOATS[0], 1.5)], None, TypeError, "integer `labels`, got torch.float64"),
    ],
    ids=lambda value: str(value)[:24] if isinstance(value, str) else "",
)
def test_refusals(images, labels, error, message):
    with pytest.raises(error, match=message):
        list(batches(images, labels))

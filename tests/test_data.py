from __future__ import annotations

import sys
import tracemalloc
import types

import numpy as np
import pytest
import torch
from PIL import Image

import fastfreq as ff
from fastfreq.data import Preprocessing

RNG = np.random.default_rng(0)


def picture(height=20, width=30) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture
def class_folders(tmp_path):
    for name in ("cat", "dog", "eel"):
        (tmp_path / name).mkdir()
        for i in range(3):
            picture().save(tmp_path / name / f"{i}.png")
    return tmp_path


def gathered(data):
    batches = list(data)
    return torch.cat([b[0] for b in batches]), torch.cat([b[1] for b in batches])


def test_class_folders_are_labelled_by_sorted_name(class_folders):
    data = ff.load_data(class_folders, batch_size=4)
    images, labels = gathered(data)
    assert data.classes == ["cat", "dog", "eel"] and len(data) == 9
    assert labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert images.dtype == torch.uint8 and images.shape == (9, 3, 20, 30)
    expected = np.array(Image.open(class_folders / "dog" / "2.png")).transpose(2, 0, 1)
    np.testing.assert_array_equal(images[5], expected)
    again, _ = gathered(data)
    assert torch.equal(images, again)


def test_labels_csv(tmp_path):
    for i in range(4):
        picture().save(tmp_path / f"{i}.png")
    (tmp_path / "labels.csv").write_text("File,wnid,Class_Index\n3.png,a,7\n0.png,b,2\n")
    data = ff.load_data(tmp_path)
    images, labels = gathered(data)
    assert labels.tolist() == [7, 2]
    np.testing.assert_array_equal(images[0], np.array(Image.open(tmp_path / "3.png")).transpose(2, 0, 1))
    with pytest.raises(ValueError, match="below 5 in column 'Class_Index', line 2 of .*labels.csv has '7'"):
        ff.load_data(tmp_path, num_classes=5)
    (tmp_path / "labels.csv").write_text("name,kind\n3.png,7\n")
    with pytest.raises(ValueError, match="naming `file` and one of label, class_index, class, got name, kind"):
        ff.load_data(tmp_path)


@pytest.mark.parametrize("resize", [16, (18, 22), None])
def test_resize_and_crop_are_those_of_pillow(tmp_path, resize):
    (tmp_path / "only").mkdir()
    image = picture(33, 47)
    image.save(tmp_path / "only" / "a.png")
    images, _ = gathered(ff.load_data(tmp_path, preprocessing=Preprocessing((14, 15), resize, "bicubic")))
    if resize == 16:
        image = image.resize((int(16 * 47 / 33), 16), Image.Resampling.BICUBIC)
    elif resize is not None:
        image = image.resize((22, 18), Image.Resampling.BICUBIC)
    left, top = round((image.width - 15) / 2), round((image.height - 14) / 2)
    expected = np.array(image.crop((left, top, left + 15, top + 14)))
    np.testing.assert_array_equal(images[0].permute(1, 2, 0), expected)


def test_an_image_that_cannot_be_decoded_is_named_and_counted(class_folders):
    (class_folders / "dog" / "1.png").write_bytes(b"not an image")
    data = ff.load_data(class_folders)
    with pytest.warns(UserWarning, match=r"1 of 9 images could not be read and were left out, the first: dog/1\.png"):
        images, labels = gathered(data)
    assert len(images) == 8 and labels.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert data.skipped[0][0] == "dog/1.png" and "cannot identify" in data.skipped[0][1]


def test_reasons_for_leaving_an_image_out(tmp_path, monkeypatch):
    picture().save(tmp_path / "good.png")
    picture(30, 30).save(tmp_path / "cut.jpg", quality=95)
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:900])
    Image.fromarray(np.zeros((20, 30), np.uint16)).save(tmp_path / "deep.png")
    picture(90, 90).save(tmp_path / "bomb.png")
    names = ["absent.png", "good.png", "cut.jpg", "deep.png", "bomb.png"]
    (tmp_path / "labels.csv").write_text("file,label\n" + "".join(f"{name},{i}\n" for i, name in enumerate(names)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    data = ff.load_data(tmp_path, preprocessing=Preprocessing((8, 8), 8))
    with pytest.warns(UserWarning, match=r"4 of 5 images .* the first: absent.png \(no such file\)"):
        _, labels = gathered(data)
    assert labels.tolist() == [1]
    reasons = dict(data.skipped)
    assert list(reasons) == ["absent.png", "cut.jpg", "deep.png", "bomb.png"]
    assert "truncated" in reasons["cut.jpg"]
    assert reasons["deep.png"].startswith("expected 8 bits per channel, got Pillow mode I")
    assert "DecompressionBombError" in reasons["bomb.png"]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_between_pillows_warning_and_its_error_is_left_out(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    picture(20, 30).save(tmp_path / "a" / "0.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(ValueError, match=r"none of 1 could be read, .*0.png \(decompression bomb: 20 x 30 pixels"):
        gathered(ff.load_data(tmp_path))


def test_order_is_kept_and_a_pass_can_be_left_early(tmp_path):
    (tmp_path / "a").mkdir()
    for i in range(30):
        Image.new("L", (200 if i % 7 == 0 else 9, 9), i).save(tmp_path / "a" / f"{i:02}.png")
    data = ff.load_data(tmp_path, preprocessing=Preprocessing((9, 9), None), batch_size=4, workers=3)
    for _ in range(2):
        next(iter(data))
    images, _ = gathered(data)
    assert images[:, 0, 0, 0].tolist() == list(range(30))


def test_a_limit_spreads_over_the_classes(class_folders):
    assert gathered(ff.load_data(class_folders, limit=3))[1].tolist() == [0, 1, 2]
    assert len(ff.load_data(class_folders, limit=100)) == 9


def test_folders_that_do_not_match_the_classes_are_refused(class_folders, tmp_path):
    with pytest.raises(ValueError, match="expected 1000 class folders, .* got 3: .* add a labels.csv"):
        ff.load_data(class_folders, num_classes=1000)


def test_some_synset_folders_are_numbered_by_timm(tmp_path, monkeypatch):
    for name in ("n00000003", "n00000700"):
        (tmp_path / name).mkdir()
        picture().save(tmp_path / name / "0.png")
    synsets = [f"n{i:08}" for i in range(1000)]
    info = types.SimpleNamespace(ImageNetInfo=lambda name: types.SimpleNamespace(label_names=lambda: synsets))
    monkeypatch.setitem(sys.modules, "timm", types.SimpleNamespace(data=info))
    monkeypatch.setitem(sys.modules, "timm.data", info)
    data = ff.load_data(tmp_path, num_classes=1000)
    assert gathered(data)[1].tolist() == [3, 700] and data.classes == synsets
    (tmp_path / "n99999999").mkdir()
    with pytest.raises(ValueError, match="n99999999 is not one of ImageNet's 1,000 synsets; add a labels.csv"):
        ff.load_data(tmp_path, num_classes=1000)
    monkeypatch.setitem(sys.modules, "timm.data", None)
    with pytest.raises(ValueError, match="expected 1000 class folders, .* got 3: .* install timm"):
        ff.load_data(tmp_path, num_classes=1000)


def test_images_of_different_sizes_need_preprocessing(class_folders):
    picture(21, 30).save(class_folders / "eel" / "2.png")
    with pytest.raises(
        ValueError, match=r"one size, got 20 x 30 \(cat/0.png\) and 21 x 30 \(eel/2.png\); give a Preprocessing"
    ):
        gathered(ff.load_data(class_folders))


@pytest.mark.parametrize(
    ("images", "shape"),
    [
        (np.zeros((4, 8, 9), np.uint8), (4, 1, 8, 9)),
        (np.zeros((4, 8, 9, 3), np.uint8), (4, 3, 8, 9)),
        (np.zeros((4, 3, 8, 9), np.float64), (4, 3, 8, 9)),
    ],
    ids=["gray", "channels last", "channels first"],
)
def test_npz_layouts(tmp_path, images, shape):
    np.savez(tmp_path / "d.npz", images=images, labels=np.arange(4)[:, None])
    found, labels = gathered(ff.load_data(tmp_path / "d.npz", batch_size=3))
    assert found.shape == shape and labels.tolist() == [0, 1, 2, 3]
    assert found.dtype == (torch.uint8 if images.dtype == np.uint8 else torch.float32)


def test_refusals(tmp_path):
    with pytest.raises(FileNotFoundError, match="found nothing"):
        ff.load_data(tmp_path / "missing")
    with pytest.raises(ValueError, match="one per class, or a labels.csv"):
        ff.load_data(tmp_path)
    np.savez(tmp_path / "d.npz", images=np.zeros((4, 3, 3, 3)), labels=np.arange(4))
    with pytest.raises(ValueError, match="pass a tensor"):
        ff.load_data(tmp_path / "d.npz")
    np.savez(tmp_path / "e.npz", pictures=np.zeros((4, 8, 8)))
    with pytest.raises(ValueError, match="expected arrays `images` and `labels` in .*, got pictures"):
        ff.load_data(tmp_path / "e.npz")
    np.savez(tmp_path / "f.npz", images=np.array([{}], dtype=object), labels=np.arange(1))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        ff.load_data(tmp_path / "f.npz")
    (tmp_path / "g.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="expected an .npz archive"):
        ff.load_data(tmp_path / "g.npz")
    with pytest.raises(ValueError, match="expected a positive `limit`, got 0"):
        ff.load_data(tmp_path, limit=0)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 8, 8), np.int64), [0, 1], r"uint8 or float in .*, got int64; save images.astype\(np.uint8\)"),
        (np.full((2, 8, 8), 255.0), [0, 1], r"float images in \[0, 1\] in .*, got values from 255 to 255"),
        (np.full((2, 8, 8), np.nan), [0, 1], "got values from nan to nan"),
        (np.zeros((2, 9, 8), np.uint8), [0, 1], "expected images of 8 x 8, the model's size, in .*, got 9 x 8"),
        (np.zeros((2, 8, 8), np.uint8), [0, -1], "integer labels from 0 in .*, got -1"),
        (np.zeros((2, 8, 8), np.uint8), [0.0, 1.0], "integer labels from 0 in .*, got float64"),
        (np.zeros((2, 8, 8), np.uint8), [0, 7], "labels below 5, the model's classes, .* has 7"),
        (np.zeros((2, 8, 8), np.uint8), [0], "got 2 images and 1 labels"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, images, labels, message):
    np.savez(tmp_path / "d.npz", x_test=images, y_test=labels)
    with pytest.raises(ValueError, match=message):
        ff.load_data(tmp_path / "d.npz", preprocessing=Preprocessing((8, 8), 8), num_classes=5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "got an empty file"),
        (b"file,label\n", "got a header alone"),
        (b"file,label\n,3\n", "expected a file in column 'file', line 2 of .*labels.csv has none"),
        (b"file,class\na.png,0\nb.png,cat\n", "class index in column 'class', line 3 of .*labels.csv has 'cat'"),
        (b"file,label,label\na.png,0,1\n", "line 1 of .* names 'label' twice"),
        (b"file,label\na.png,0\n./a.png,1\n", "each file once, line 3 of .*labels.csv names a.png of line 2"),
        (
            b"file,label\n../a.png,0\n",
            r"a file inside .*, in column 'file', line 2 of .* has '\.\./a\.png'; put or link",
        ),
        (b"file,label\nb/../../a.png,0\n", "a file inside "),
        (b"file,label\n/etc/passwd,0\n", "a file inside .* has '/etc/passwd'"),
        (b"file,label\n.,0\n", "a file inside "),
        (b"file,label\na.png,9223372036854775808\n", "index below 9223372036854775808 in .*, line 2 of .* has '92"),
        (b"file,label\na.png," + b"9" * 5000, "index below 9223372036854775808 in .*, line 2 of "),
        (b"file,label\na.png,\xd9\xa3\n", "expected a class index in "),  # a digit, but not of ours
        (b"file,label\n\xff\xfea.png,0\n", "text in UTF-8, line 2 of .*labels.csv is none"),
        ("file,label\na.png,0\n".encode("utf-16"), "text in UTF-8, line 1 of "),
        (b"file,label\na\0.png,0\n", "text in UTF-8, line 2 of "),
        (b"file,label\n" + b"a" * 300 + b".png,0\n", "a name of at most 255 bytes in .*, line 2 of "),
        (b"file,label\n" + b"a/" * 2500 + b"b.png,0\n", "a name of at most 255 bytes in .* of 5005 characters"),
        (b"file,label\n" + b"a" * 70_000, "lines of at most 65536 characters, line 2 of .* is longer"),
        (b'file,label\na.png,0\n"b.png,1\nc.png,2\n', "comma-separated values, line 4 of .*: unexpected end of data"),
        (b'file,label\n"a\nb.png",0\n', "line 3 of .* has control characters"),
        (b"file,label\na,b.png,0\n", "expected 2 values, as in the header, line 2 of .* has 3; .* in quotes"),
        (b"file,label\na.png\n", "expected 2 values, as in the header, line 2 of .* has 1"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_labels_csv_refusals(tmp_path, text, message):
    (tmp_path / "labels.csv").write_bytes(text)
    with pytest.raises(ValueError, match=message) as caught:
        ff.load_data(tmp_path)
    assert str(tmp_path / "labels.csv") in str(caught.value)


def test_labels_csv_of_other_systems(tmp_path):
    for i in range(2):
        picture().save(tmp_path / f"{i}, a.png")
    for end in ("\n", "\r\n", "\r"):
        text = end.join(("\ufefffile,label", '"0, a.png",7', "", '"1, a.png",002', ""))
        (tmp_path / "labels.csv").write_bytes(text.encode())
        assert gathered(ff.load_data(tmp_path))[1].tolist() == [7, 2]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((), np.uint8), np.arange(1), r"\(n, c, h, w\) in .*, got \(\)"),
        (np.zeros((2, 0, 8), np.uint8), np.arange(2), r"got \(2, 0, 8\)"),
        (
            np.zeros((4, 8, 8), np.uint8),
            np.zeros((2, 2), int),
            r"labels of shape \(n,\) in .*, got \(2, 2\); .* one-hot",
        ),
        (np.zeros((2, 8, 8), np.uint8), np.array([1, 2**63], np.uint64), "from 0 in .*, got 9223372036854775808"),
        (np.zeros((2, 8, 8), bool), np.arange(2), "uint8 or float in .*, got bool"),
        (np.zeros((2, 8, 8), complex), np.arange(2), "uint8 or float in .*, got complex128"),
    ],
)
def test_arrays_of_odd_shapes_and_types(tmp_path, images, labels, message):
    np.savez(tmp_path / "d.npz", images=images, labels=labels)
    with pytest.raises(ValueError, match=message) as caught:
        ff.load_data(tmp_path / "d.npz")
    assert str(tmp_path / "d.npz") in str(caught.value)


def test_a_damaged_npz_is_a_value_error_that_names_it(tmp_path):
    path = tmp_path / "d.npz"
    np.savez_compressed(path, images=RNG.integers(0, 256, (9, 8, 8), dtype=np.uint8), labels=np.arange(9))
    whole = path.read_bytes()
    middle = whole.index(b"images.npy") + 200
    for content in (
        whole[:-40],
        whole[:middle] + b"\xff" * 8 + whole[middle + 8 :],
        whole.replace(b"\x08\0", b"\x63\0"),
    ):
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match="an .npz archive as numpy.savez writes it, .*d.npz is not one or is damaged"
        ):
            ff.load_data(path)


def test_the_memory_of_an_npz_is_bounded_by_what_is_read(tmp_path):
    path = tmp_path / "d.npz"
    np.savez_compressed(path, other=np.zeros(300 << 20, np.uint8), images=np.zeros((2, 8, 8), np.uint8), labels=[0, 1])
    assert len(ff.load_data(path)) == 2  # what is not read does not count
    with pytest.raises(ValueError, match=r"at most 200 bytes of arrays \(`max_bytes`\), .* pass max_bytes="):
        ff.load_data(path, max_bytes=200)
    np.savez_compressed(path, images=np.zeros((300, 1024, 1024), np.uint8), labels=np.arange(300))
    tracemalloc.start()
    with pytest.raises(ValueError, match="at most 268435456 bytes of arrays"):
        ff.load_data(path)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_numbers_of_numpy_are_numbers(class_folders):
    assert len(ff.load_data(class_folders, limit=np.int64(3), batch_size=np.int8(2))) == 3
    with pytest.raises(TypeError, match="expected `limit` as an integer, got 2.5"):
        ff.load_data(class_folders, limit=2.5)


def test_preprocessing_never_pads(tmp_path):
    with pytest.raises(ValueError, match="`resize` no smaller than the crop of 8 x 9, got 8; images are not padded"):
        Preprocessing((8, 9), 8)
    with pytest.raises(ValueError, match="nearest, bilinear or bicubic, got 'area'"):
        Preprocessing((8, 8), 8, "area")
    (tmp_path / "a").mkdir()
    picture(20, 30).save(tmp_path / "a" / "0.png")
    with pytest.raises(ValueError, match=r"at least 24 x 24, the crop, got 20 x 30 \(0.png\); .* a `resize`"):
        gathered(ff.load_data(tmp_path, preprocessing=Preprocessing((24, 24), None)))


def test_real_photographs(shared_data):
    data = ff.load_data(shared_data / "imagenet_sample", preprocessing=Preprocessing((224, 224), 256), limit=8)
    images, labels = gathered(data)
    assert images.shape == (8, 3, 224, 224) and labels.tolist() == [0, 125, 250, 375, 500, 625, 750, 875]
    assert not data.skipped and 60 < images.float().mean() < 190


def test_images_without_labels_of_any_sizes(tmp_path):
    sizes = [(9, 12), (9, 12), (7, 5), (9, 12)]
    for i, size in enumerate(sizes):
        path = tmp_path / ("deep/er" if i % 2 else "flat") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((*size, 3), 10 * i, dtype=np.uint8)).save(path)
    (tmp_path / "notes.txt").write_text("no image")
    data = ff.load_images(tmp_path)
    batches = [images for images, _ in data]
    assert [tuple(b.shape) for b in batches] == [(3, 3, 9, 12), (1, 3, 7, 5)]  # by name, a batch for every size
    assert [int(image[0, 0, 0]) for batch in batches for image in batch] == [10, 30, 0, 20]
    assert len(ff.load_images(tmp_path, limit=2)) == 2
    assert ff.image_spectrum(data, side=5).count == 4
    with pytest.raises(ValueError, match=r"expected images in .*, found none with a suffix of \.bmp"):
        (tmp_path / "empty").mkdir()
        ff.load_images(tmp_path / "empty")
    with pytest.raises(ValueError, match="positive `limit`"):
        ff.load_images(tmp_path, limit=0)


def test_linked_folders_are_looked_into_and_loops_are_not(tmp_path):
    for name in ("there/0.png", "val/a/1.png", "val/b/2.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name)
    for link, target in (("val/b/more", "there"), ("val/c", "there"), ("val/a/loop", "val")):
        (tmp_path / link).symlink_to(tmp_path / target)
    data = ff.load_data(tmp_path / "val")
    assert data.names() == ["a/1.png", "b/2.png", "b/more/0.png", "c/0.png"] and data.labels.tolist() == [0, 1, 1, 2]
    assert len(ff.data.load_images(tmp_path / "val")) == 4

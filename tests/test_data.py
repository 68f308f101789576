from __future__ import annotations

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
    with pytest.raises(ValueError, match="below 5 in column 'Class_Index', line 2 has '7'"):
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
    with pytest.warns(UserWarning, match=r"1 of 9 images could not be read and were left out, the first: 1\.png"):
        images, labels = gathered(data)
    assert len(images) == 8 and labels.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert data.skipped[0][0] == "1.png" and "cannot identify" in data.skipped[0][1]


def test_a_limit_spreads_over_the_classes(class_folders):
    assert gathered(ff.load_data(class_folders, limit=3))[1].tolist() == [0, 1, 2]
    assert len(ff.load_data(class_folders, limit=100)) == 9


def test_folders_that_do_not_match_the_classes_are_refused(class_folders, tmp_path):
    with pytest.raises(ValueError, match="expected 1000 class folders, .* got 3: .* add a labels.csv"):
        ff.load_data(class_folders, num_classes=1000)


def test_images_of_different_sizes_need_preprocessing(class_folders):
    picture(21, 30).save(class_folders / "eel" / "2.png")
    with pytest.raises(
        ValueError, match=r"one size, got 20 x 30 \(0.png\) and 21 x 30 \(2.png\); give a Preprocessing"
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


def test_real_photographs(shared_data):
    data = ff.load_data(shared_data / "imagenet_sample", preprocessing=Preprocessing((224, 224), 256), limit=8)
    images, labels = gathered(data)
    assert images.shape == (8, 3, 224, 224) and labels.tolist() == [0, 125, 250, 375, 500, 625, 750, 875]
    assert not data.skipped and 60 < images.float().mean() < 190

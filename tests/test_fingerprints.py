from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from fastfreq.vocabulary.fingerprints import fingerprints


@pytest.fixture
def bytes_():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 3, 9, 14), dtype=np.uint8))


def test_8_bit_images_are_the_same_image_in_every_type(bytes_):
    wanted = fingerprints(bytes_)
    assert wanted.dtype == np.uint64 and len(set(wanted.tolist())) == 5
    whole = bytes_.numpy()
    for values in (
        torch.from_numpy(whole / np.float32(255)),
        torch.from_numpy((whole / 255).astype(np.float32)),
        torch.from_numpy(whole.astype(np.float32) * np.float32(1 / 255)),  # as some transforms and some GPUs divide
        torch.from_numpy(whole / 255),
    ):
        np.testing.assert_array_equal(fingerprints(values), wanted)


def test_every_8_bit_value_is_found(bytes_):
    ramp = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    for divided in (ramp / 255, ramp.float() * np.float32(1 / 255)):
        assert fingerprints(ramp)[0] == fingerprints(divided)[0]


@pytest.mark.parametrize("kind", ["uint8", "8 bits as floats", "floats"])
def test_layout_and_batch_do_not_matter(bytes_, kind):
    images = {"uint8": bytes_, "8 bits as floats": bytes_ / 255, "floats": (bytes_ / 255).sqrt()}[kind]
    wanted = fingerprints(images)
    strided = torch.zeros(5, 3, 9, 28, dtype=images.dtype)[..., ::2].copy_(images)
    for same in (
        images.contiguous(memory_format=torch.channels_last),
        images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
        strided,
    ):
        np.testing.assert_array_equal(fingerprints(same), wanted)
    np.testing.assert_array_equal([fingerprints(images[i : i + 1])[0] for i in range(5)], wanted)
    np.testing.assert_array_equal(fingerprints(images.flip(0)), wanted[::-1])


def test_the_hash_is_that_of_the_pixels(bytes_):
    text = hashlib.blake2b(b"u1(3, 9, 14)" + bytes_[1].numpy().tobytes(), digest_size=8).digest()
    assert fingerprints(bytes_)[1] == int.from_bytes(text, "little")
    floats = torch.rand(1, 2, 3, 5)
    text = hashlib.blake2b(b"f4(2, 3, 5)" + floats.numpy().tobytes(), digest_size=8).digest()
    assert fingerprints(floats)[0] == int.from_bytes(text, "little")


@pytest.mark.parametrize("side", [5, 130])  # images that are hashed in one thread, and in several
def test_each_image_is_judged_and_hashed_alone(side):
    codes = torch.randint(0, 256, (6, 1, side, side), dtype=torch.uint8)
    images = codes / 255
    images[1] = images[1].sqrt()
    images[2, 0, -1, -1] += 2.0**-21  # which the first pixels do not show
    images[3, 0, -1, -1] = torch.nan
    images[4, 0, -1, -1] = 256 / 255
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        found = fingerprints(images)
    finally:
        torch.set_num_threads(threads)
    for i, hashed in enumerate(found):
        array = codes[i].numpy() if i in (0, 5) else images[i].numpy()
        kind = f"{'u1' if i in (0, 5) else 'f4'}(1, {side}, {side})".encode()
        wanted = hashlib.blake2b(kind + array.tobytes(), digest_size=8).digest()
        assert hashed == int.from_bytes(wanted, "little"), i
    np.testing.assert_array_equal(found, [fingerprints(image)[0] for image in images.split(1)])


def test_the_smallest_change_is_another_image(bytes_):
    changed = bytes_.clone()
    changed[2, 1, 3, 4] ^= 1
    assert (fingerprints(changed) != fingerprints(bytes_)).tolist() == [False, False, True, False, False]
    floats = (bytes_ / 255).sqrt()
    changed = floats.clone()
    changed[3, 0, 0, 1] = torch.nextafter(floats[3, 0, 0, 1], torch.tensor(2.0))
    assert (fingerprints(changed) != fingerprints(floats)).tolist() == [False, False, False, True, False]
    dark = torch.rand(4, 1, 5, 7) * 1e-5
    assert len(set(fingerprints(dark).tolist())) == 4


def test_shapes_and_zeros():
    black = [torch.zeros(1, *shape) for shape in ((1, 4, 9), (1, 6, 6), (3, 4, 3))]
    assert len({int(fingerprints(image)[0]) for image in black}) == 3
    assert fingerprints(-black[0])[0] == fingerprints(black[0])[0] == fingerprints(black[0].byte())[0]
    assert fingerprints(torch.zeros(0, 3, 4, 5)).shape == (0,)


def test_refusals():
    with pytest.raises(ValueError, match=r"shape \(n, c, h, w\), got \(3, 4, 5\)"):
        fingerprints(torch.zeros(3, 4, 5))
    with pytest.raises(TypeError, match="uint8 or of a float type, got torch.int64"):
        fingerprints(torch.zeros(1, 3, 4, 5).long())

from __future__ import annotations

import math
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

import fastfreq as ff
from tests.test_attacks import ATTACKS, EPS, Linear, pixels


# -------------------------------------------------------------------- spectra
def magnitude(change: torch.Tensor) -> np.ndarray:
    """E|F| by NumPy, centred."""
    spectrum = np.abs(np.fft.fft2(change.double().numpy(), norm="ortho")).mean(axis=(0, 1))
    return np.fft.fftshift(spectrum)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 9, 14)], ids=str)
@pytest.mark.parametrize("attack", ATTACKS[::2], ids=str)
def test_the_spectrum_is_that_of_the_fooled_images_alone(make_net, shape, attack):
    net, images = make_net(channels=shape[0]), pixels(20, shape)
    labels = net(images).argmax(dim=1)
    labels[:3] = (labels[:3] + 1) % 5  # wrong before: they count if they are wrong afterwards
    adversarial = attack(net, images, labels)
    wrong = net(adversarial).argmax(dim=1) != labels
    assert 3 <= wrong.sum() < 20
    result = ff.adversarial_spectrum(net, images, labels, attack=attack)
    assert (result.count, result.seen) == (int(wrong.sum()), 20)
    np.testing.assert_allclose(result.map, magnitude((adversarial - images)[wrong]), rtol=1e-4, atol=1e-6)
    assert result.attack == str(attack)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_batches_and_shards_do_not_matter(norm, tmp_path):
    shape = (3, 9, 6)
    net, images = Linear(shape, scale=3.0).eval(), 0.3 + 0.4 * pixels(11, shape)
    labels = net(images).argmax(dim=1)
    attack = ff.PGD(0.3 if norm == "l2" else 0.02, norm=norm, steps=2)  # random starts survive two steps
    whole = ff.adversarial_spectrum(net, images, labels, attack=attack)
    assert 0 < whole.count < 11
    parts = [ff.adversarial_spectrum(net, images, labels, attack=attack, shard=(i, 3)) for i in range(3)]
    parts[0].save(tmp_path / "part.npz")
    loader = [(images[i : i + 3], labels[i : i + 3]) for i in range(0, 11, 3)]
    for other in (
        ff.adversarial_spectrum(net, images, labels, attack=attack, batch_size=1),
        ff.adversarial_spectrum(net, loader, attack=attack, batch_size=4),
        ff.load(tmp_path / "part.npz") + parts[1] + parts[2],
    ):
        assert (other.count, other.seen) == (whole.count, 11)
        np.testing.assert_array_equal(other.labels, labels)
        np.testing.assert_allclose(other.map, whole.map, rtol=1e-4)


def test_spectra_of_other_attacks_and_weights_do_not_merge(make_net, make_images):
    images, labels = make_images(make_net())
    first, larger, l2 = (
        ff.adversarial_spectrum(make_net(), images, labels, attack=attack)
        for attack in (ff.PGD(EPS), ff.PGD(2 * EPS), ff.PGD(EPS, norm="l2"))
    )
    other = ff.adversarial_spectrum(make_net(seed=1), images, labels, attack=ff.PGD(EPS))
    more = ff.adversarial_spectrum(make_net(), images, labels, attack=ff.PGD(EPS, steps=11))
    half = ff.adversarial_spectrum(make_net(), images, labels, attack=ff.PGD(EPS), precision="bf16")
    unlikes = ((larger, "eps=0.06"), (l2, "norm='l2'"), (other, "different weights"), (more, "steps=11"))
    for unlike, message in (*unlikes, (half, "precision"), (first, "image ids are in both")):
        with pytest.raises(ValueError, match=message):
            _ = first + unlike


def test_no_fooled_image_is_a_count_of_zero_and_still_merges():
    images, labels = pixels(5, (1, 7, 8)), torch.ones(5, dtype=torch.int64)
    images[0] = 0.1  # brightness decides: one image can be fooled

    class Bright(nn.Module):
        def forward(self, x):
            z = (x.mean(dim=(1, 2, 3)) - 0.101) * 50
            return torch.stack([-z, z], dim=1)

    attack = ff.FGSM(1e-4)
    none = ff.adversarial_spectrum(Bright().eval(), images[1:], labels[1:], attack=attack, first_image=1)
    assert (none.count, none.seen) == (0, 4)
    with pytest.raises(ValueError, match="none of 4 entered the spectrum of what FGSM of radius 0.0001 adds"):
        _ = none.map
    both = none + ff.adversarial_spectrum(Bright().eval(), images[:1], labels[:1], attack=attack)
    assert (both.count, both.seen) == (1, 5)
    np.testing.assert_allclose(both.map, magnitude(torch.full((1, 1, 7, 8), -1e-4)), atol=1e-6)


# -------------------------------------------------------------------- attacks of other packages
class WrappedModel:
    """What a package with foolbox's interface wraps models in."""

    def __init__(self, model: nn.Module, bounds: tuple[float, float]) -> None:
        self.model, self.bounds = model, bounds


class Shift:
    """An attack that is called as those of foolbox: (raw, clipped, success)."""

    def __call__(self, model, inputs, criterion, *, epsilons, **kwargs):
        assert model.bounds == (0, 1) and criterion.dtype == torch.int64
        out = (inputs - epsilons).clamp(*model.bounds)
        return inputs - 2, out, model.model(out).argmax(dim=1) != criterion


@pytest.fixture
def shift(monkeypatch):
    """An attack in a class of the user's own that inherits from a package's."""
    package = types.ModuleType("a_package")
    package.__dict__["PyTorchModel"] = WrappedModel
    monkeypatch.setitem(sys.modules, "a_package", package)
    theirs = type("Attack", (Shift,), {"__module__": "a_package.attacks.gradient"})
    return type("Shifted", (theirs,), {"__module__": __name__})()


class HoldsItsModel:
    """An attack that is called as those of torchattacks."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __call__(self, inputs, labels=None, *args, **kwargs):
        return ff.FGSM(EPS)(self.model, inputs, labels)


def test_attacks_called_as_those_of_foolbox_and_torchattacks_are_taken(make_net, shift):
    net, images = make_net(), pixels(12, (3, 11, 14))
    labels = torch.full((12,), 2)
    result = ff.adversarial_spectrum(net, images, labels, attack=(shift, 0.1))
    moved = (images - 0.1).clamp(0, 1)
    wrong = net(moved).argmax(dim=1) != 2
    assert result.count == wrong.sum() and result.subject == "what Shifted of radius 0.1 adds"
    np.testing.assert_allclose(result.map, magnitude((moved - images)[wrong]), rtol=1e-4, atol=1e-6)

    held = ff.adversarial_spectrum(net, images, labels, attack=HoldsItsModel(net))
    own = ff.adversarial_spectrum(net, images, labels, attack=ff.FGSM(EPS))
    assert held.count == own.count
    np.testing.assert_allclose(held.map, own.map, rtol=1e-5)


def test_attacks_of_others_may_overwrite_what_they_get(make_net, make_images):
    net = make_net()
    images, labels = make_images(net)
    before = images.clone(), labels.clone()

    def attack(x, y):
        y.fill_(0)
        return x.sub_(0.3).clamp_(0, 1)

    def careful(x, y):
        return (x - 0.3).clamp(0, 1)

    found = ff.adversarial_spectrum(net, images, labels, attack=attack, channels_last=False)
    wanted = ff.adversarial_spectrum(net, images, labels, attack=careful, channels_last=False)
    assert 0 < found.count == wanted.count
    np.testing.assert_array_equal(found.plane_sum.parts, wanted.plane_sum.parts)
    assert torch.equal(images, before[0]) and torch.equal(labels, before[1])


def test_an_attack_of_foolbox_leaves_no_gradient_in_the_model(make_net, make_images, shift, monkeypatch):
    net = make_net()
    images, labels = make_images(net, n=4)

    def backward(self, model, inputs, criterion, *, epsilons, **kwargs):
        inputs.requires_grad_(True)
        nn.functional.cross_entropy(model.model(inputs), criterion).backward()
        out = (inputs + epsilons * inputs.grad.sign()).clamp(0, 1).detach()
        return out, out, None

    monkeypatch.setattr(Shift, "__call__", backward)
    result = ff.adversarial_spectrum(net, images, labels, attack=(shift, EPS))
    assert result.count == ff.adversarial_spectrum(net, images, labels, attack=ff.FGSM(EPS)).count
    assert all(weight.grad is None for weight in net.parameters())


# -------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (lambda x, y: x - 1, r"stays in \[0, 1\], it returned pixels from -0.79\d+ to -0.2"),
        (lambda x, y: x * math.nan, "finite pixels, got NaN"),
        (lambda x, y: x[:, :, 1:], r"shape \(4, 3, 11, 14\), got \(4, 3, 10, 14\)"),
        (lambda x, y: 255 * x, "divide by 255"),
    ],
    ids=["outside", "nan", "size", "bytes"],
)
def test_attacks_that_return_no_images_are_refused(make_net, make_images, attack, message):
    images, labels = make_images(make_net(), n=4)
    with pytest.raises(ValueError, match=message):
        ff.adversarial_spectrum(make_net(), images, labels, attack=attack)


def test_bad_arguments_are_refused(make_net, make_images):
    net = make_net()
    images, labels = make_images(net)
    for arguments, error, message in (
        ({"attack": (ff.PGD(EPS), 0.1)}, ValueError, "inside the attack"),
        ({"attack": Shift()}, ValueError, "expected Shift with its radius"),
        ({"attack": (HoldsItsModel(net), 0.1)}, ValueError, "HoldsItsModel object> takes none"),
        ({"attack": (Shift(), 0.1)}, TypeError, "its package has no PyTorchModel"),
        ({"attack": "pgd"}, TypeError, "can be called, got str"),
        ({"attack": ff.PGD(EPS), "batch_size": 0}, ValueError, "positive `batch_size`"),
        ({"attack": ff.PGD(EPS), "kind": "energy"}, ValueError, "`kind`"),
    ):
        with pytest.raises(error, match=message):
            ff.adversarial_spectrum(net, images, labels, **arguments)
    with pytest.raises(ValueError, match="at least one image, got none"):
        ff.adversarial_spectrum(net, [], attack=ff.PGD(EPS))
    with pytest.raises(ValueError, match="labels below 5"):
        ff.adversarial_spectrum(net, images, labels + 5, attack=ff.PGD(EPS))

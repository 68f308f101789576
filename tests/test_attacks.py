from __future__ import annotations

import math
import sys
import types

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

import fastfreq as ff

EPS = 0.03
ATTACKS = [
    ff.FGSM(EPS),
    ff.PGD(EPS),
    ff.PGD(EPS, steps=3, step=EPS, random_start=False),
    ff.PGD(0.4, norm="l2", seed=5),
    ff.PGD(0.4, norm="l2", steps=2, step=1.0, random_start=False),
]


class Linear(nn.Module):
    """Logits (z, -z) of z = <w, x> + b: the cross entropy of class 0 rises along -w, that of class 1 along w."""

    def __init__(self, shape: tuple[int, int, int], *, scale: float = 1.0, seed: int = 0) -> None:
        super().__init__()
        weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        self.weight = nn.Parameter(scale * weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = ((x - 0.5) * self.weight).sum(dim=(1, 2, 3))
        return torch.stack([z, -z], dim=1)


def pixels(n: int, shape: tuple[int, int, int], seed: int = 0) -> torch.Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))


def lengths(change: torch.Tensor) -> torch.Tensor:
    return change.flatten(1).norm(dim=1)


# -------------------------------------------------------------------- gradient attacks
@pytest.mark.parametrize("attack", ATTACKS, ids=str)
@pytest.mark.parametrize("shape", [(1, 9, 14), (3, 11, 7)], ids=str)
def test_attacks_stay_in_the_ball_and_in_the_image_and_raise_the_loss(make_net, attack, shape):
    net = make_net(channels=shape[0])
    images = pixels(6, shape)
    images[0], images[1] = 0, 1  # only the box stops these
    labels = net(images).argmax(dim=1)
    adversarial = attack(net, images, labels)
    assert adversarial.shape == images.shape and not adversarial.requires_grad
    assert adversarial.min() >= 0 and adversarial.max() <= 1
    change = adversarial - images
    size = lengths(change) if getattr(attack, "norm", "linf") == "l2" else change.flatten(1).abs().amax(dim=1)
    assert (size <= attack.eps + 1e-6).all() and (size[2:] > 0.9 * attack.eps).all()
    loss = nn.CrossEntropyLoss(reduction="none")
    assert (loss(net(adversarial), labels) > loss(net(images), labels)).all()
    assert all(weight.grad is None for weight in net.parameters())


@pytest.mark.parametrize("shape", [(1, 9, 14), (3, 11, 7)], ids=str)
def test_steps_on_a_linear_model_are_the_closed_form(shape):
    net, images = Linear(shape).eval(), 0.2 + 0.6 * pixels(4, shape)
    labels = torch.tensor([0, 1, 1, 0])
    weight = net.weight.detach()
    uphill = (2 * labels - 1)[:, None, None, None] * weight  # the direction in which the true logit falls
    along = uphill / weight.norm()

    def close(attack, expected):
        torch.testing.assert_close(attack(net, images, labels), expected, rtol=0, atol=1e-6)

    close(ff.FGSM(EPS), images + EPS * uphill.sign())
    close(ff.PGD(EPS, steps=1, step=0.01, random_start=False), images + 0.01 * uphill.sign())
    close(ff.PGD(EPS, steps=7, random_start=False), images + EPS * uphill.sign())
    close(ff.PGD(0.15, norm="l2", steps=2, step=0.05, random_start=False), images + 0.1 * along)
    close(ff.PGD(0.15, norm="l2", steps=2, step=0.4, random_start=False), images + 0.15 * along)
    close(ff.FGSM(0.9), (uphill > 0).float())  # everything is at the border of [0, 1]


def test_bytes_are_pixels(make_net):
    net, whole = make_net(), torch.randint(0, 256, (3, 3, 11, 14), dtype=torch.uint8)
    labels = torch.tensor([0, 1, 2])
    for attack in ATTACKS:
        torch.testing.assert_close(attack(net, whole, labels), attack(net, whole / 255, labels))


# -------------------------------------------------------------------- random starts
class Blind(nn.Module):
    """Logits that do not depend on the image: PGD stays where it starts."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 0 * x.flatten(1)[:, :2]


def starts(attack: ff.PGD, ids: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    grey = torch.full((len(ids), *shape), 0.5)
    return attack(Blind().eval(), grey, torch.zeros(len(ids), dtype=torch.int64), image_ids=ids) - 0.5


def test_starts_are_uniform_in_the_cube():
    found = starts(ff.PGD(0.25, seed=3), torch.arange(40), (3, 7, 9)).double().numpy() / 0.25
    assert stats.kstest(found.ravel(), "uniform", args=(-1, 2)).pvalue > 0.01


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 1), (2, 1, 3)], ids=str)
def test_starts_are_uniform_in_the_ball(shape):
    found = starts(ff.PGD(0.25, norm="l2", seed=3), torch.arange(500), shape).double() / 0.25
    radius, d = lengths(found).numpy(), math.prod(shape)
    assert stats.kstest(radius**d, "uniform").pvalue > 0.01  # the volume inside a point of the ball is uniform
    direction = (found.flatten(1) / lengths(found)[:, None]).mean(dim=0).norm()
    assert direction < 3 / math.sqrt(500)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_start_belongs_to_its_image_and_seed(norm):
    ids, shape = torch.tensor([9, 2**40, 0, 3]), (3, 5, 8)
    together = starts(ff.PGD(0.2, norm=norm), ids, shape)
    for k in range(4):
        assert torch.equal(starts(ff.PGD(0.2, norm=norm), ids[k : k + 1], shape)[0], together[k])
    assert not torch.allclose(together[0], together[1])
    assert not torch.allclose(starts(ff.PGD(0.2, norm=norm, seed=1), ids, shape), together)


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
    assert result.details["attack"] == str(attack)


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
        np.testing.assert_allclose(other.map, whole.map, rtol=1e-4)


def test_spectra_of_other_attacks_and_weights_do_not_merge(make_net, make_images):
    images, labels = make_images(make_net())
    first, larger, l2 = (
        ff.adversarial_spectrum(make_net(), images, labels, attack=attack)
        for attack in (ff.PGD(EPS), ff.PGD(2 * EPS), ff.PGD(EPS, norm="l2"))
    )
    other = ff.adversarial_spectrum(make_net(seed=1), images, labels, attack=ff.PGD(EPS))
    for unlike, message in ((larger, "radius 0.06"), (l2, "what l2 PGD"), (other, "different weights")):
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
    result = ff.adversarial_spectrum(net, images, labels, attack=shift, eps=0.1)
    moved = (images - 0.1).clamp(0, 1)
    wrong = net(moved).argmax(dim=1) != 2
    assert result.count == wrong.sum() and result.subject == "what Shifted of radius 0.1 adds"
    np.testing.assert_allclose(result.map, magnitude((moved - images)[wrong]), rtol=1e-4, atol=1e-6)

    held = ff.adversarial_spectrum(net, images, labels, attack=HoldsItsModel(net))
    own = ff.adversarial_spectrum(net, images, labels, attack=ff.FGSM(EPS))
    assert held.count == own.count
    np.testing.assert_allclose(held.map, own.map, rtol=1e-5)


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
        ({"attack": ff.PGD(EPS), "eps": 0.1}, ValueError, "inside the attack"),
        ({"attack": Shift()}, ValueError, "expected `eps` for Shift"),
        ({"attack": HoldsItsModel(net), "eps": 0.1}, ValueError, "HoldsItsModel takes none"),
        ({"attack": Shift(), "eps": 0.1}, TypeError, "its package has no PyTorchModel"),
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
    with pytest.raises(ValueError, match=r"`image_ids` of shape \(12,\)"):
        ff.PGD(EPS)(net, images, labels, image_ids=torch.arange(3))
    with pytest.raises(ValueError, match=r"`images` in \[0, 1\]"):
        ff.FGSM(EPS)(net, images - 1, labels)
    with torch.no_grad():
        net.head.weight[0, 0] = math.nan
    with pytest.raises(FloatingPointError, match="finite gradients"):
        ff.FGSM(EPS)(net, images, labels)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ff.FGSM(0), "positive radius `eps`"),
        (lambda: ff.PGD(math.inf), "positive radius `eps`"),
        (lambda: ff.PGD(EPS, norm="l1"), "'linf' or 'l2', got 'l1'"),  # pyright: ignore[reportArgumentType]
        (lambda: ff.PGD(EPS, steps=0), "at least one of `steps`"),
        (lambda: ff.PGD(EPS, step=-1.0), "positive `step`"),
    ],
)
def test_attacks_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()

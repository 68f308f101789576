from __future__ import annotations

import math

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


# -------------------------------------------------------------------- refusals
def test_bad_arguments_are_refused(make_net, make_images):
    net = make_net()
    images, labels = make_images(net)
    with pytest.raises(ValueError, match=r"`image_ids` of shape \(12,\)"):
        ff.PGD(EPS)(net, images, labels, image_ids=torch.arange(3))
    with pytest.raises(ValueError, match=r"`images` in \[0, 1\]"):
        ff.FGSM(EPS)(net, images - 1, labels)
    with torch.no_grad():
        net.head.weight[0, 0] = math.nan
    with pytest.raises(FloatingPointError, match="finite gradients"):
        ff.FGSM(EPS)(net, images, labels)


def test_models_may_work_in_place_and_callers_in_inference_mode(make_net):
    """A model that normalises in place used to stop at "a leaf Variable that requires grad"."""
    net = make_net()

    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x.sub_(0.1).div_(0.9))

    normalised = ff.NormalizedModel(net, mean=[0.1] * 3, std=[0.9] * 3).eval()
    images, labels = pixels(4, (3, 9, 14)), torch.tensor([0, 1, 2, 3])
    before = images.clone()
    for attack in ATTACKS:
        found = attack(InPlace().eval(), images, labels)
        torch.testing.assert_close(found, attack(normalised, images, labels), rtol=0, atol=1e-5)
        with torch.inference_mode():
            inside = attack(net, images.clone(), labels.clone())
        torch.testing.assert_close(inside, attack(net, images, labels), rtol=0, atol=1e-6)
    assert torch.equal(images, before)


def test_scalars_of_numpy_are_numbers():
    assert ff.PGD(np.float32(0.5), steps=np.int64(3), seed=np.uint8(2)) == ff.PGD(0.5, steps=3, seed=2)
    assert repr(ff.FGSM(np.float64(0.25))) == "FGSM(eps=0.25)"


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

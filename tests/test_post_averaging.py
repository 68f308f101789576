"""Models averaged over points around their input: attenuation in closed form, the points, and what it defends."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import special, stats
from torch import nn

import fastfreq as ff
from fastfreq import demo
from fastfreq.inputs.post_averaging import Points
from fastfreq.vocabulary.attenuation import ball_attenuation, sphere_attenuation

pytestmark = pytest.mark.usefixtures("one_thread")


# ---------------------------------------------------------------- attenuation
@pytest.mark.parametrize("n", [1, 2, 3, 8, 9, 64, 171])
def test_attenuation_is_the_bessel_function(n):
    z = np.concatenate([np.geomspace(1e-2, 80, 150), [700.0, 3001.5]])
    log_scale = lambda order: special.gammaln(order + 1) + order * np.log(2 / z)  # noqa: E731
    with np.errstate(over="ignore", invalid="ignore"):
        sphere = np.exp(log_scale(n / 2 - 1)) * special.jv(n / 2 - 1, z)
        ball = np.exp(log_scale(n / 2)) * special.jv(n / 2, z)
    known = np.isfinite(sphere) & np.isfinite(ball) & (log_scale(n / 2) < 700)
    assert known.sum() > 100
    radius = 0.7
    np.testing.assert_allclose(
        sphere_attenuation(z / radius, radius=radius, dimensions=n)[known], sphere[known], atol=1e-12
    )
    np.testing.assert_allclose(
        ball_attenuation(-z / radius, radius=radius, dimensions=n)[known], ball[known], atol=1e-12
    )


@pytest.mark.parametrize("n", [301, 3072, 150_528])
def test_many_dimensions_attenuate_as_gaussian_noise(n):
    w = np.linspace(0, 4, 23)
    gaussian = np.exp(-(w**2) / 2)
    for attenuation in (sphere_attenuation, ball_attenuation):
        found = attenuation(w.reshape(1, -1), radius=math.sqrt(n), dimensions=n)
        assert found.shape == (1, 23)
        np.testing.assert_allclose(found[0], gaussian, atol=1.2 / n)  # the next term: z^2 (4 - z^2) / 4n exp(-z^2 / 2)


@pytest.mark.parametrize(("sampling", "shape"), [("sphere", (64, 1, 1)), ("ball", (2, 8, 8))])
def test_averaged_waves_are_attenuated_as_predicted(sampling, shape):  # G1
    n, radius = math.prod(shape), 1.3
    points = Points(radius, directions=100_000, sampling=sampling, seed=31)
    offsets = points.offsets(shape, torch.device("cpu")).flatten(1).double()
    assert len(offsets) == 100_000 and offsets.norm(dim=1).max() < radius * (1 + 1e-6)
    attenuation = sphere_attenuation if sampling == "sphere" else ball_attenuation
    for frequency in (2.0, 5.0, 9.0, 20.0):
        direction = F.normalize(torch.randn(n, generator=torch.Generator().manual_seed(7)).double(), dim=0)
        average = torch.cos(offsets @ (frequency * direction)).mean()  # of both signs: their sines cancel
        assert abs(average.item() - attenuation(frequency, radius=radius, dimensions=n)) < 0.01


def test_attenuation_refuses():
    with pytest.raises(ValueError, match="`radius` of at least 0, got -1"):
        sphere_attenuation(1.0, radius=-1, dimensions=3)
    for attenuation in (sphere_attenuation, ball_attenuation):
        with pytest.raises(ValueError, match="at least one of `dimensions`, got 0"):
            attenuation(1.0, radius=1, dimensions=0)
    with pytest.raises(ValueError, match="finite frequencies"):
        sphere_attenuation([1.0, np.nan], radius=1, dimensions=3)


# ---------------------------------------------------------------- the points
def test_points_lie_where_they_should():
    shape = (3, 5, 7)
    shells = Points(2.0, directions=4, seed=9).offsets(shape, torch.device("cpu"))
    lengths = shells.flatten(1).norm(dim=1).view(3, 4)
    torch.testing.assert_close(lengths, torch.tensor([[2 / 3], [4 / 3], [2.0]]).expand(3, 4))
    torch.testing.assert_close(shells[:4] * 3, shells[8:])
    ball = Points(2.0, directions=600, sampling="ball", seed=9).offsets((1, 1, 3), torch.device("cpu"))
    assert stats.kstest((ball.flatten(1).norm(dim=1) / 2).numpy() ** 3, "uniform").pvalue > 1e-3
    gaussian = Points(2.0, directions=500, sampling="gaussian", seed=9).offsets(shape, torch.device("cpu"))
    assert stats.kstest((gaussian.flatten() * math.sqrt(105) / 2).numpy(), "norm").pvalue > 1e-3
    few, many = (Points(1.0, directions=k, sampling="sphere").offsets(shape, torch.device("cpu")) for k in (2, 5))
    assert torch.equal(few, many[:2])
    assert [Points(1.0, sampling=s).count for s in ("shells", "sphere", "ball")] == [91, 31, 31]
    assert Points(1.0, directions=2, include_original=False).count == 12


# ---------------------------------------------------------------- the module
class Counted(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net, self.seen, self.largest = net, 0, 0

    def forward(self, images):
        self.seen, self.largest = self.seen + len(images), max(self.largest, len(images))
        return self.net(images)


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_average_is_a_loop_over_points(make_net, make_images, average):
    net = Counted(make_net()).eval()
    images, _ = make_images(net.net, n=5)
    model = ff.PostAveraging(net, radius=3.0, directions=2, seed=4, average=average)
    offsets = Points(3.0, directions=2, seed=4).offsets((3, 11, 14), torch.device("cpu"))
    every = torch.cat([torch.zeros(1, 3, 11, 14), offsets, -offsets])
    logits = torch.stack([net(images + offset).double() for offset in every])
    wanted = logits.softmax(dim=2).mean(dim=0).log() if average == "probabilities" else logits.mean(dim=0)
    net.seen = net.largest = 0
    with torch.no_grad():
        found = model(images)
    assert (net.seen, net.largest) == (5 * 13, 5) and model.forwards == 13 and not model.training
    torch.testing.assert_close(found.double(), wanted, atol=1e-5, rtol=1e-5)
    model.batch_size = 10
    net.largest = 0
    torch.testing.assert_close(model(images), found, atol=1e-5, rtol=1e-5)
    assert net.largest == 10
    torch.testing.assert_close(model(images[[3]])[0], found[3], atol=1e-5, rtol=1e-5)  # whatever the batch


def test_gradient_passes_through_the_average(make_net, make_images):
    net = make_net()
    images, labels = make_images(net, n=2)
    model = ff.PostAveraging(net, radius=3.0, directions=1, seed=4)
    pixels = images.clone().requires_grad_(True)
    offsets = Points(3.0, directions=1, seed=4).offsets((3, 11, 14), torch.device("cpu"))
    every = torch.cat([torch.zeros(1, 3, 11, 14), offsets, -offsets])
    probability = torch.stack([net(pixels + offset).softmax(dim=1) for offset in every]).mean(dim=0)
    wanted = torch.autograd.grad(F.nll_loss(probability.log(), labels), pixels)[0]
    found = torch.autograd.grad(F.cross_entropy(model(pixels), labels), pixels)[0]
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-4)
    frozen = copy_without_checkpoint(model)
    torch.testing.assert_close(torch.autograd.grad(F.cross_entropy(frozen(pixels), labels), pixels)[0], found)


def copy_without_checkpoint(model):
    frozen = ff.PostAveraging(model.model, radius=3.0, directions=1, seed=4)
    frozen.training = True  # its net stays in evaluation mode
    return frozen


def test_extreme_logits_stay_finite():
    class Steep(nn.Module):
        def forward(self, images):
            return images.sum(dim=(1, 2, 3))[:, None] * torch.tensor([0.0, 1e4])

    model = ff.PostAveraging(Steep().eval(), radius=0.1, directions=3).eval()
    out = model(torch.full((1, 1, 4, 5), 0.5))
    assert torch.isfinite(out).all() and out[0, 0] < -9e4  # where the mean of the softmax rounds to zero


def test_every_measurement_takes_it(make_net, make_images):
    pixels_in = ff.NormalizedModel(make_net(), mean=(0.5, 0.4, 0.6), std=(0.2, 0.25, 0.3)).eval()
    images, labels = make_images(pixels_in, n=6)
    model = ff.PostAveraging(pixels_in, radius=0.5, directions=2)
    assert ff.heatmap(model, images, labels, eps=2.0, size=3).error.shape == (3, 3)
    assert ff.adversarial_spectrum(model, images, labels, attack=ff.FGSM(0.05)).seen == 6
    assert ff.filter_curve(model, images, labels, bandwidths=(3, 9), precision="bf16").n_images == 6
    other = ff.PostAveraging(pixels_in, radius=0.6, directions=2)
    first = ff.filter_curve(model, images, labels, bandwidths=(3,), shard=(0, 2))
    with pytest.raises(ValueError, match="different weights"):
        first + ff.filter_curve(other, images, labels, bandwidths=(3,), shard=(1, 2))
    with pytest.raises(ValueError, match="first convolution runs 13 times"):  # each time on other points
        near = ff.PostAveraging(pixels_in.net, radius=1e-3, directions=2)
        ff.heatmap(near, images, labels, eps=2.0, size=3, clip=False, share_stem=True)
    with pytest.raises(ValueError, match="expected the weights of .*radius=0.6.*, got those of .*radius=0.5"):
        other.load_state_dict(model.state_dict())
    model.load_state_dict(model.state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radius": 0}, "positive `radius`"),
        ({"radius": math.nan}, "positive `radius`"),
        ({"directions": 0}, "at least one of `directions`"),
        ({"sampling": "cube"}, "`sampling` of"),
        ({"average": "votes"}, "`average` of"),
        ({"batch_size": 0}, "positive `batch_size`"),
    ],
)
def test_bad_arguments_are_refused(make_net, change, message):
    with pytest.raises(ValueError, match=message):
        ff.PostAveraging(make_net(), **{"radius": 1.0} | change)


def test_bad_images_are_refused(make_net):
    with pytest.raises(ValueError, match=r"\(n, c, h, w\) of a float type, got torch.uint8"):
        ff.PostAveraging(make_net(), radius=1.0)(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))


# ---------------------------------------------------------------- the curve
class Ripple(nn.Module):
    """Logits (-f, f) of f = <w, x> + A r(x): r is 200 plane waves of |omega| = 40, with a standard deviation of 1."""

    def __init__(self, seed: int, amplitude: float) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.w = nn.Parameter(F.normalize(torch.randn(64, generator=generator), dim=0))
        self.omega = nn.Parameter(40 * F.normalize(torch.randn(200, 64, generator=generator), dim=1))
        self.phase = nn.Parameter(2 * torch.pi * torch.rand(200, generator=generator))
        self.amplitude = amplitude

    def forward(self, images):
        x = images.flatten(1) - 0.5
        ripple = torch.cos(x @ self.omega.T + self.phase).mean(dim=1) * math.sqrt(2 * 200)
        f = x @ self.w + self.amplitude * ripple
        return torch.stack([-f, f], dim=1)


def test_averaging_removes_ripples_from_some_radius_on():  # G2
    net = Ripple(seed=17, amplitude=0.3).eval()
    generator = torch.Generator().manual_seed(18)
    labels = torch.randint(0, 2, (150,), generator=generator)
    noise = 0.05 * torch.randn(150, 64, generator=generator)
    w = net.w.detach()
    images = 0.5 + (2 * labels - 1)[:, None] * w + noise - (noise @ w)[:, None] * w  # margin 1, in [0, 1]
    attack = ff.PGD(0.25, norm="l2", steps=20, seed=3)
    curve = ff.post_averaging_curve(
        net, images.view(-1, 1, 8, 8), labels, radii=(0.1, 0.2, 0.6, 1.0), attack=attack, seed=5
    )
    assert curve.accuracy >= 0.99 and curve.attacked_accuracy <= 0.01
    assert (curve.curve("clean") >= 0.99).all()
    recovered = curve.curve("recovered")
    assert (recovered[:2] <= 0.2).all() and (recovered[2:] >= 0.95).all()


@pytest.fixture
def setting(make_net, make_images):
    net = ff.NormalizedModel(make_net(), mean=(0.5, 0.4, 0.6), std=(0.2, 0.25, 0.3)).eval()
    return net, *make_images(net, n=13)


@pytest.mark.parametrize(("normalised", "adaptive"), [(False, True), (True, False)])
def test_curve_is_a_plain_evaluation(setting, normalised, adaptive):
    net, images, labels = setting
    labels[0] = (labels[0] + 1) % 5  # wrong to begin with
    attack = ff.PGD(0.02, seed=2, steps=3)
    options = {"directions": 2, "seed": 8, "normalised": normalised, "adaptive": adaptive}
    curve = ff.post_averaging_curve(net, images, labels, radii=(1.0, 4.0), attack=attack, batch_size=13, **options)
    attacked = attack(net, images, labels)
    fooled = (net(images).argmax(dim=1) == labels) & (net(attacked).argmax(dim=1) != labels)
    np.testing.assert_array_equal(curve.fooled, fooled)
    assert fooled.any() and curve.accuracy == pytest.approx(12 / 13)
    for r, radius in enumerate((1.0, 4.0)):
        inner = ff.PostAveraging(net.net if normalised else net, radius=radius, directions=2, seed=8)
        model = inner
        if normalised:
            model = ff.NormalizedModel(inner, mean=net.mean.tolist(), std=net.std.tolist()).eval()
        here = attack(model, images, labels) if adaptive else attacked
        clean, right = ((model(x).argmax(dim=1) == labels).numpy() for x in (images, here))
        assert curve.curve("clean")[r] == clean.mean() and curve.curve("attacked")[r] == right.mean()
        assert curve.curve("recovered")[r] == right[curve.fooled].mean()
    low, high = curve.interval("recovered")
    expected = stats.binomtest(int(right[curve.fooled].sum()), int(fooled.sum())).proportion_ci(method="wilson")
    assert (low[1], high[1]) == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_shards_merge_and_files_come_back(setting, tmp_path):
    net, images, labels = setting
    options = {"radii": (1.0, 4.0), "attack": ff.FGSM(0.02), "directions": 2}
    whole = ff.post_averaging_curve(net, images, labels, **options)
    parts = [ff.post_averaging_curve(net, images, labels, shard=(i, 2), batch_size=3, **options) for i in (0, 1)]
    (parts[1] + parts[0]).save(tmp_path / "p.npz")
    loaded = ff.load(tmp_path / "p.npz")
    assert type(loaded) is type(whole) and loaded.radii.tolist() == [1.0, 4.0] and loaded.forwards == 13
    for name in ("image_ids", "labels", "predicted", "predicted_attacked", "averaged", "averaged_attacked"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(whole, name))
    frame = loaded.to_dataframe()
    assert frame["attacked_count"].tolist() == [13, 13] and "recovered_to" in frame
    figure = loaded.plot()
    assert len(figure.axes) == 1 and loaded.plot(ax=figure.axes[0]) is figure
    with pytest.raises(ValueError, match="different images, 13 image ids are in both"):
        whole + whole
    one, other = (ff.post_averaging_curve(net, images, labels, **{**options, "radii": (r,)}) for r in (4.0, 1.0))
    np.testing.assert_array_equal((one + other).averaged_attacked, whole.averaged_attacked)
    with pytest.raises(ValueError, match="differ in both"):
        parts[0] + ff.post_averaging_curve(net, images, labels, shard=(1, 2), **{**options, "radii": (1.0,)})
    for change in ({"attack": ff.FGSM(0.03)}, {"directions": 3}, {"sampling": "ball"}, {"include_original": False}):
        with pytest.raises(ValueError, match="expected two results with the same"):
            parts[0] + ff.post_averaging_curve(net, images, labels, shard=(1, 2), **{**options, **change})


@pytest.mark.parametrize("adaptive", [False, True])
def test_memory_that_runs_out_models_in_place_and_low_precision(make_net, make_images, adaptive):
    net = make_net()
    images, labels = make_images(net, n=9)
    most = [99]

    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            if len(x) > most[0]:
                raise torch.OutOfMemoryError("too large")
            return self.net(x.sub_(0.1))

    attack = ff.PGD(0.02, steps=2)
    options: dict[str, Any] = {"radii": (0.5, 2.0), "attack": attack, "directions": 2, "adaptive": adaptive}
    before = images.clone()
    whole = ff.post_averaging_curve(Small().eval(), images, labels, **options)
    most[0] = 3
    small = ff.post_averaging_curve(Small().eval(), images, labels, **options)
    plain = ff.NormalizedModel(net, mean=[0.1] * 3, std=[1.0] * 3).eval()
    wanted = ff.post_averaging_curve(plain, images, labels, **options)
    for other in (small, wanted):
        np.testing.assert_array_equal(other.averaged, whole.averaged)
        np.testing.assert_array_equal(other.averaged_attacked, whole.averaged_attacked)
    assert torch.equal(images, before)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for normalised in (False, True):
            low = ff.post_averaging_curve(plain, images, labels, precision="bf16", normalised=normalised, **options)
            assert low.n_images == 9
            with pytest.raises(ValueError, match="precision"):
                low + wanted


def test_curves_that_cannot_be_measured_are_refused(setting):
    net, images, labels = setting
    for radii in ((), (2, 1)):
        with pytest.raises(ValueError, match="`radii` ascending"):
            ff.post_averaging_curve(net, images, labels, radii=radii, attack=ff.FGSM(0.1))
    with pytest.raises(TypeError, match="adaptive=True, function holds a model of its own"):
        ff.post_averaging_curve(net, images, labels, radii=(1,), attack=lambda x, y: x, adaptive=True)
    with pytest.raises(ValueError, match="expected a NormalizedModel with normalised=True"):
        ff.post_averaging_curve(net.net, images, labels, radii=(1,), attack=ff.FGSM(0.1), normalised=True)
    with pytest.raises(ValueError, match="a share of"):
        unfooled = ff.post_averaging_curve(net, images, labels, radii=(1,), attack=lambda x, y: x, directions=1)
        assert np.isnan(unfooled.curve("recovered")).all() and np.isnan(unfooled.table()[0]["recovered_to"])
        unfooled.curve("all")


# ---------------------------------------------------------------- handwritten digits
class DeepFool:
    """Steps to the nearest linearised boundary, the sum of them lengthened (Moosavi-Dezfooli et al. 2016, L2)."""

    def __init__(self, net, overshoot):
        self.net, self.overshoot = net, overshoot

    def __call__(self, images, labels):
        total, i = torch.zeros_like(images), torch.arange(len(images))
        for _ in range(30):
            x = (images + (1 + self.overshoot) * total).clamp(0, 1).requires_grad_(True)
            logits = self.net(x)
            live = logits.argmax(dim=1) == labels
            if not live.any():
                break
            slopes = [torch.autograd.grad(column.sum(), x, retain_graph=True)[0] for column in logits.T]
            slope = torch.stack(slopes, dim=1) - torch.stack(slopes, dim=1)[i, labels][:, None]
            gap = (logits.detach() - logits.detach()[i, labels][:, None]).abs()
            length = slope.flatten(2).norm(dim=2).clamp_min(1e-9)
            nearest = (gap / length).index_put((i, labels), torch.tensor(math.inf)).argmin(dim=1)
            step = ((gap[i, nearest] + 1e-4) / length[i, nearest] ** 2)[:, None, None, None] * slope[i, nearest]
            total = total + live[:, None, None, None] * step
        return x.detach() if not live.any() else (images + (1 + self.overshoot) * total).clamp(0, 1).detach()


def test_digits_keep_their_accuracy_and_few_attacks_are_undone():  # G3
    images, labels = demo.load_digits("train")
    with torch.random.fork_rng():
        torch.manual_seed(5)
        net = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10)),
        )
        optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
        for _ in range(12):
            for batch in torch.randperm(len(images)).split(50):
                optimizer.zero_grad()
                F.cross_entropy(net(images[batch]), labels[batch]).backward()
                optimizer.step()
    net.eval()
    images, labels = (t[:100] for t in demo.load_digits("test"))
    # at the usual overshoot of 0.02 images lie on the boundary itself, and any average undoes some 45 % of them
    attack = DeepFool(net, overshoot=0.2)
    curve = ff.post_averaging_curve(net, images, labels, radii=(0.5, 2.0, 3.0), attack=attack, batch_size=100)
    assert curve.forwards == 91 and curve.attacked_accuracy <= 0.02
    assert curve.curve("clean")[1] >= curve.accuracy - 0.01
    recovered = curve.curve("recovered")
    assert recovered[2] > recovered[0]

"""Second moments of activations by frequency: against NumPy and SciPy, and energies against sums over pixels."""

import numpy as np
import pytest
import scipy.linalg
import torch
from reproductions.wen2024_training import band_pass
from torch import nn

import fastfreq as ff
from fastfreq.layers.activations import MomentLimits, half_plane

pytestmark = pytest.mark.usefixtures("one_thread")


def one_layer(layer, seed=0):
    """A model of one layer with seeded Gaussian weights, in float64."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return nn.Sequential(layer).double().eval()


def random_images(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def of_one_layer(layer, x, **options):
    model = one_layer(layer)
    return model, ff.bottleneck(model, input_size=tuple(x.shape[1:]), images=x, accuracy="exact", **options)


@pytest.mark.parametrize("count", [3, 40], ids=["inputs", "outer products"])
@pytest.mark.parametrize("size", [(5, 4), (3, 7)])
def test_second_moments_are_those_of_numpy(count, size):
    x = random_images(count, 4, *size)
    model, result = of_one_layer(nn.Conv2d(4, 3, 3, padding=1, padding_mode="circular"), x, batch_size=7)
    seen = result.activations["0"]
    kept = result.kept_frequencies("0")
    taps = model[0].weight.detach().numpy()
    spectrum = np.fft.fft2(x.numpy(), norm="ortho")
    every = {tuple(k) for k in half_plane(size)[0].tolist()}
    assert {tuple(k) for k in seen.frequencies.tolist()} == every
    for row, (ky, kx) in enumerate(seen.frequencies):
        at = spectrum[:, :, ky, kx]
        moment = at.T @ at.conj() / count
        eigenvalues, vectors = np.linalg.eigh(moment)
        width = seen.eigenvalues.shape[1]
        np.testing.assert_allclose(seen.eigenvalues[row], eigenvalues[::-1][:width], atol=1e-12)
        phase = np.exp(2j * np.pi * (ky * np.arange(-1, 2)[:, None] / size[0] + kx * np.arange(-1, 2) / size[1]))
        left, values, right = np.linalg.svd((taps * phase).sum(axis=(2, 3)))
        k = kept.get((int(ky), int(kx)), 0)
        assert seen.kept[row] == k
        weight = seen.multiplicity[row]
        assert seen.energy[row] == pytest.approx(weight * np.trace(moment).real)
        basis = right[:k].conj().T
        assert seen.kept_energy[row] == pytest.approx(weight * np.trace(basis.conj().T @ moment @ basis).real)
        out = (left[:, :3] * values) @ right[:3]
        passed = out @ moment @ out.conj().T
        assert seen.output_energy[row] == pytest.approx(weight * np.trace(passed).real)
        through = left[:, :k].conj().T @ passed @ left[:, :k]
        assert seen.kept_output_energy[row] == pytest.approx(weight * np.trace(through).real)
        if 0 < k <= width:
            leading = vectors[:, ::-1][:, :k]
            expected = np.sort(scipy.linalg.subspace_angles(basis, leading))
            np.testing.assert_allclose(seen.angles[row, :k], expected, atol=2e-7)
        assert np.isnan(seen.angles[row, k:]).all()
        p = np.clip(eigenvalues, 1e-300, None) / eigenvalues.sum()
        assert seen.effective_rank[row] == pytest.approx(np.exp(-(p * np.log(p)).sum()))
    assert seen.kept_share <= seen.top_share + 1e-12


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (nn.Conv2d(4, 3, (3, 5), stride=(2, 1), padding=(1, 2), padding_mode="circular"), (6, 5)),
        (nn.Conv2d(4, 6, 3, groups=2, padding=1, padding_mode="circular"), (5, 3)),
        (nn.Conv2d(4, 4, 3, groups=4, padding=2), (5, 7)),
        (nn.Conv2d(4, 5, 1), (3, 4)),
        (nn.Conv1d(4, 2, 3, dilation=2, padding=4), (9,)),
        (nn.ConvTranspose2d(4, 3, 3, stride=2), (3, 5)),
        (nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2), (4, 3)),
        (nn.Conv3d(4, 2, 2, padding=1), (3, 2, 4)),
    ],
    ids=str,
)
def test_energies_are_those_of_input_and_output(layer, size):
    """By Parseval, for layers that give the whole output of their periodic map."""
    x = random_images(9, 4, *size)
    model, result = of_one_layer(layer, x)
    seen = result.activations["0"]
    with torch.no_grad():
        output = model(x) - model(torch.zeros_like(x))
    assert seen.energy.sum() == pytest.approx(float(x.square().sum()) / len(x))
    assert seen.output_energy.sum() == pytest.approx(float(output.square().sum()) / len(x))
    assert (seen.energy * (1 + 1e-12) >= seen.kept_energy).all()


def test_input_in_what_a_layer_keeps_is_found_there():
    """A 1 x 1 layer of rank 1 on (1, 1, 0): images along it, across it, and half of each."""
    layer = nn.Conv2d(3, 2, 1, bias=False).double()
    with torch.no_grad():
        layer.weight[:, :, 0, 0] = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    pattern = random_images(50, 1, 4, 5)
    along, across = torch.tensor([1.0, 1.0, 0.0]), torch.tensor([1.0, -1.0, 0.0])
    for direction, share, angle in ((along, 1, 0), (across, 0, 90), (torch.tensor([1.0, 0.0, 0.0]), 0.5, 45)):
        x = pattern * direction.double().reshape(3, 1, 1)
        seen = ff.bottleneck(nn.Sequential(layer).eval(), input_size=(3, 4, 5), images=x).activations["0"]
        assert seen.kept_share == pytest.approx(share, abs=1e-12)
        assert seen.top_share == pytest.approx(1)
        assert np.degrees(seen.mean_angle) == pytest.approx(angle, abs=1e-5)
        assert seen.mean_effective_rank == pytest.approx(1)


def test_profile_of_a_wave_is_at_its_radius():
    x = torch.cos(2 * torch.pi * 2 * torch.arange(9.0) / 9).double().expand(3, 1, 5, 9).clone()
    seen = of_one_layer(nn.Conv2d(1, 1, 1), x)[1].activations["0"]
    place = int(2 / 9 / (2**0.5 / 2) * 10)
    np.testing.assert_allclose(seen.profile((5, 9), 10), np.eye(10)[place], atol=1e-12)


def test_batches_and_passes_change_nothing(make_net, make_images):
    net = make_net()
    x, _ = make_images(net, n=13)
    every = [
        ff.bottleneck(net, input_size=(3, 11, 14), images=x, batch_size=size, limits=MomentLimits(memory=memory))
        for size, memory in ((13, 1 << 30), (4, 1 << 30), (5, 200_000))  # the last: one layer at a time
    ]
    for other in every[1:]:
        for name, seen in every[0].activations.items():
            assert seen.measured.all()
            for key, array in vars(seen).items():
                if key == "angles":  # of nearly equal eigenvalues
                    continue
                np.testing.assert_allclose(getattr(other.activations[name], key), array, rtol=1e-6, atol=1e-9)


def test_memory_is_checked_before_it_is_taken(make_net, make_images):
    net = make_net()
    x, _ = make_images(net, n=20)
    whole = ff.bottleneck(net, input_size=(3, 11, 14), images=x).activations["stem"]
    few = ff.bottleneck(
        net, input_size=(3, 11, 14), images=x, limits=MomentLimits(memory=16 * 3 * 3 * 10), layers=["stem"]
    )
    seen = few.activations["stem"]
    rows = np.flatnonzero(seen.measured)
    assert len(rows) == 10 and rows[0] == 0 and rows[-1] == len(seen.energy) - 1
    assert np.ptp(np.diff(rows)) <= 1
    np.testing.assert_allclose(seen.energy, whole.energy)
    np.testing.assert_allclose(seen.eigenvalues[rows], whole.eigenvalues[rows])
    assert 0 < seen.kept_share <= 1
    ten = ff.bottleneck(
        net, input_size=(3, 11, 14), images=x, limits=MomentLimits(frequencies=10), layers=["stem"]
    ).activations["stem"]
    np.testing.assert_array_equal(ten.measured, seen.measured)
    assert "a part of their frequencies" in few.plot_activations().get_supxlabel().replace("\n", " ")
    with pytest.raises(ValueError, match="second moment of at least one frequency, layer 'body' takes"):
        ff.bottleneck(net, input_size=(3, 11, 14), images=x, limits=MomentLimits(memory=16 * 20))


def test_a_layer_called_twice_counts_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 1)

        def forward(self, x):
            return self.conv(2 * self.conv(x))

    x = random_images(4, 2, 3, 3).float()
    net = Twice().eval()
    seen = ff.bottleneck(net, input_size=(2, 3, 3), images=x).activations["conv"]
    with torch.no_grad():
        total = x.square().sum() + (2 * net.conv(x)).square().sum()
    assert seen.images == 8
    assert seen.energy.sum() == pytest.approx(float(total) / 8, rel=1e-5)


def test_refusals_and_mode(make_net, make_images):
    net = make_net()
    x, _ = make_images(net, n=2)
    net.train()
    ff.bottleneck(net, input_size=(3, 11, 14), images=x)
    assert net.training and net.norm.training
    for images, message in (
        (x[:, :2], "expected `images` of shape"),
        ((255 * x).byte(), "as floats"),
        (x * float("nan"), "finite"),
        (x[:0], "at least one image"),
    ):
        with pytest.raises(ValueError, match=message):
            ff.bottleneck(net, input_size=(3, 11, 14), images=images)
    with pytest.raises(ValueError, match="of at least 1"):
        ff.bottleneck(net, input_size=(3, 11, 14), images=x, limits=MomentLimits(frequencies=0))
    with pytest.raises(ValueError, match="measured with images"):
        ff.bottleneck(net, input_size=(3, 11, 14)).plot_activations()


def test_saved_tabulated_and_drawn(make_net, make_images, tmp_path):
    net = make_net()
    x, _ = make_images(net, n=6)
    result = ff.bottleneck(net, input_size=(3, 11, 14), images=x)
    result.save(tmp_path / "kept.npz")
    again = ff.load(tmp_path / "kept.npz")
    assert repr(again.table()) == repr(result.table())
    np.testing.assert_array_equal(again.activations["body"].angles, result.activations["body"].angles)
    row = result.table()[1]
    assert row["energy_kept"] == result.activations["body"].kept_share
    assert "energy_kept" not in ff.bottleneck(net, input_size=(3, 11, 14)).table()[0]
    figure = result.plot_activations()
    assert [label.get_text() for label in figure.axes[3].get_xticklabels()] == ["stem", "body"]
    np.testing.assert_allclose(figure.axes[1].lines[1].get_ydata()[1], row["energy_kept"])


@pytest.mark.slow
@pytest.mark.parametrize("seed", [31, 47])
def test_activations_of_a_trained_network_lie_in_the_bottleneck(seed):
    """Theorems 4.1 and 4.2 on a network with a bottleneck: weights near isometries, pre-activations near their span."""
    torch.set_flush_denormal(True)
    net, _ = band_pass(seed=seed)
    torch.set_flush_denormal(False)
    x = random_images(400, 1, 16, seed=seed).float()
    result = ff.bottleneck(net, input_size=(1, 16), images=x, smallest_gap=1.05)
    assert result.network_kept == {(0,): 2, (-1,): 1, (1,): 1}
    for name in result.middle:
        assert result.kept[name].counts.sum() <= 6  # of 8 x 9
        assert result.activations[name].output_share > 0.95
    cost = ff.layers.representation_cost(net, result)
    assert sum(cost.distances) <= cost.distance_bound
    assert sum(cost.distances) > 0

"""Fixed first layers against PyWavelets, dense frames and definitions written out, on hostile images."""

import copy
import math

import fastfreq_kernels as kernels
import numpy as np
import pytest
import torch
from torch import nn

import fastfreq as ff
from fastfreq.features import Threshold, TwoLayerNet, curvelet_stem, init_stem, scattering_stem, wavelet_stem
from fastfreq.features.scattering_stem import _morlets
from fastfreq.features.shrinkage import shrunk

pywt = pytest.importorskip("pywt")


def images(*shape, dtype=torch.float64, seed=0):
    return torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def curvelets_or_skip():
    pytest.importorskip("curvelets.torch")


STEMS = {
    "wavelet": lambda size, sigma: wavelet_stem("db2", levels=2, threshold=sigma),
    "scattering": lambda size, sigma: scattering_stem(size, scales=2, orientations=3),
    "curvelet": lambda size, sigma: curvelets_or_skip() or curvelet_stem(size, threshold=sigma),
}


# ---------------------------------------------------------------- thresholds
def test_thresholds_are_those_of_the_lecture():
    x = torch.tensor([-3.0, -0.5, -0.2, 0.0, 0.2, 0.5, 3.0, math.nan, math.inf])
    hard, soft = shrunk(x, 0.5), shrunk(x, 0.5, kind="soft")
    torch.testing.assert_close(hard, torch.tensor([3.0, 0, 0, 0, 0, 0, 3, math.nan, math.inf]), equal_nan=True)
    torch.testing.assert_close(soft, torch.tensor([2.5, 0, 0, 0, 0, 0, 2.5, math.nan, math.inf]), equal_nan=True)
    signed = shrunk(x[:-2], 0.2, kind="soft", signed=True)
    torch.testing.assert_close(signed, torch.from_numpy(pywt.threshold(x[:-2].numpy(), 0.2, "soft")))
    torch.testing.assert_close(
        shrunk(x[:-2], 0.3, signed=True), torch.from_numpy(pywt.threshold(x[:-2].numpy(), 0.3, "hard"))
    )
    z = torch.tensor([3 + 4j, 0.3 + 0.4j, 0j])
    torch.testing.assert_close(shrunk(z, 1.0, kind="soft", signed=True), z * torch.tensor([0.8, 0, 0]))


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("signed", [False, True])
def test_gradients_go_through_thresholds(kind, signed):
    x = images(40) * 2 - 1
    x = x[((x.abs() - 0.3).abs() > 0.01) & (x.abs() > 0.01)].requires_grad_()
    assert torch.autograd.gradcheck(lambda v: shrunk(v, 0.3, kind=kind, signed=signed), x)
    assert torch.autograd.grad(shrunk(x, 0.3, kind=kind).sum(), x)[0].count_nonzero() == (x.abs() > 0.3).sum()


def test_a_learned_threshold_starts_where_it_is_told_and_moves():
    for tau in (1e-4, 0.2, 30.0):
        assert Threshold("soft", tau=tau, mode="learned").of(images(3, 4)).item() == pytest.approx(tau, rel=1e-5)
    stem = wavelet_stem("haar", threshold=Threshold("soft", tau=0.4, mode="learned"))
    net = TwoLayerNet(stem, shape=(1, 6, 6), classes=2)
    before = [p.detach().clone() for p in net.parameters()]
    net(images(5, 1, 6, 6, dtype=torch.float32)).square().sum().backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    assert len(before) == 3 and all(not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_a_relative_threshold_takes_no_notice_of_contrast():
    stem = wavelet_stem("db2", levels=2, threshold=Threshold(tau=0.5, mode="relative"))
    x = images(3, 2, 12, 13)
    torch.testing.assert_close(stem.codes(0.01 * x), 0.01 * stem.codes(x))
    alone = stem.codes(x[1:2])
    torch.testing.assert_close(stem.codes(x)[1:2], alone, rtol=0, atol=0)
    assert stem.codes(torch.zeros(1, 1, 8, 8)).count_nonzero() == 0


@pytest.mark.parametrize("exponent", [-44, -38, -25, -10, 0, 15, 25, 38])
def test_relative_thresholds_neither_underflow_nor_overflow(exponent):
    """Squares of single precision do below 1e-19 and above 1e19; what is kept is what float64 keeps."""
    codes = (
        torch.randn(2, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 10.0**exponent
    ).float()
    threshold = Threshold("soft", tau=0.5, mode="relative")
    rms = codes.double().square().mean(dim=1, keepdim=True).sqrt()
    smallest = float(torch.finfo(torch.float32).smallest_normal * torch.finfo(torch.float32).eps)
    torch.testing.assert_close(threshold.of(codes).double(), 0.5 * rms, rtol=1e-6, atol=smallest)
    expected = torch.relu(codes.double().abs() - 0.5 * rms)
    torch.testing.assert_close(threshold(codes).double(), expected, rtol=1e-5, atol=2 * smallest)


@pytest.mark.parametrize("kind", ["wavelet", "curvelet"])
@pytest.mark.parametrize("mode", ["relative", "learned", "fixed"])
@pytest.mark.parametrize("signed", [False, True])
def test_black_images_have_finite_gradients(kind, mode, signed):
    stem = STEMS[kind]((32, 32), Threshold("soft", tau=0.1, mode=mode, signed=signed))
    x = torch.cat([torch.zeros(1, 1, 32, 32), images(1, 1, 32, 32, dtype=torch.float32)]).requires_grad_()
    stem.codes(x).square().sum().backward()
    assert torch.isfinite(x.grad).all() and x.grad[1].any()


def test_relative_thresholds_of_half_precision_do_not_overflow():
    codes = torch.tensor([[400.0, -500.0, 10.0]], dtype=torch.float16)
    found = Threshold(tau=0.5, mode="relative")(codes)
    assert found.dtype == torch.float16
    torch.testing.assert_close(found, torch.tensor([[400.0, 500.0, 0.0]], dtype=torch.float16))


def test_thresholds_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="expected kind='soft' beside mode='learned'.*no gradient would ever move it"):
        Threshold("hard", mode="learned")
    with pytest.raises(ValueError, match="expected `tau` above 0"):
        Threshold("soft", tau=0, mode="learned")
    with pytest.raises(ValueError, match="expected `tau` of at least 0, got -1"):
        Threshold(tau=-1)
    with pytest.raises(ValueError, match="expected a finite number|expected a number"):
        Threshold(tau=math.nan)
    with pytest.raises(ValueError, match="expected `kind` of"):
        Threshold("firm")
    with pytest.raises(ValueError, match="expected `mode` of"):
        Threshold(mode="quantile")


# ---------------------------------------------------------------- wavelets
@pytest.mark.parametrize("mode", ["periodization", "symmetric", "zero"])
@pytest.mark.parametrize("name", ["haar", "db4", "bior2.2"])
@pytest.mark.parametrize("size", [(28, 28), (33, 47), (16, 19)], ids=str)
def test_codes_are_those_of_pywavelets(name, mode, size):
    x, levels = images(2, 3, *size), max(1, min(2, pywt.dwt_max_level(min(size), name)))
    smooth, *details = pywt.wavedec2(x.numpy(), name, mode, levels)
    wanted = [smooth.reshape(2, -1)] + [np.stack(each, axis=2).reshape(2, -1) for each in details]
    stem = wavelet_stem(name, levels=levels, mode=mode)
    np.testing.assert_allclose(stem.codes(x), np.concatenate(wanted, axis=1), atol=1e-12)
    tau = 0.3
    sparse = wavelet_stem(name, levels=levels, mode=mode, threshold=Threshold("soft", tau=tau))
    np.testing.assert_allclose(sparse.codes(x), np.maximum(np.abs(np.concatenate(wanted, axis=1)) - tau, 0), atol=1e-12)


@pytest.mark.parametrize("size", [(16, 24), (15, 21)], ids=str)
def test_maps_hold_the_codes_and_stand_where_they_belong(size):
    x = images(2, 3, *size)
    stem = wavelet_stem("haar", levels=2)
    maps, codes = stem(x), stem.codes(x)
    assert maps.shape == (2, 48, -(-size[0] // 4), -(-size[1] // 4))
    for a, b in zip(maps, codes, strict=True):
        a, b = a[a != 0].sort().values, b[b != 0].sort().values
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    if size == (16, 24):  # haar of two levels sees 4 x 4 blocks and nothing else
        moved = stem(torch.roll(x, (4, 8), dims=(2, 3)))
        torch.testing.assert_close(moved, torch.roll(maps, (1, 2), dims=(2, 3)))


def test_a_fixed_threshold_in_the_kernel_is_that_of_the_layer():
    x = images(2, 2, 21, 18)
    for kind in ("hard", "soft"):
        for signed in (False, True):
            sigma = Threshold(kind, tau=0.3, signed=signed)
            plain = wavelet_stem("db3", levels=2).codes(x)
            torch.testing.assert_close(wavelet_stem("db3", levels=2, threshold=sigma).codes(x), sigma(plain))


# ---------------------------------------------------------------- scattering
def test_scattering_is_its_definition_written_out():
    """Moduli and averages of circular convolutions at full size on the mirrored image, no sampling in between."""
    x, scales, turns = images(1, 1, 16, 24), 2, 4
    step = 1 << scales
    stem = scattering_stem((16, 24), scales=scales, orientations=turns).double()
    big = np.pad(x[0, 0].numpy(), step, mode="reflect")
    h, w = big.shape
    yy, xx = (np.minimum(np.arange(n), n - np.arange(n)) * np.where(np.arange(n) <= n // 2, 1, -1) for n in (h, w))

    def convolved(u, kernel_hat):
        return np.fft.ifft2(np.fft.fft2(u) * kernel_hat)

    sigma = 0.8 * 2 ** (scales - 1)
    gauss = np.exp(-(yy[:, None] ** 2 + xx[None] ** 2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)
    phi = np.fft.fft2(gauss)
    psi = [_morlets((h, w), j, turns) for j in range(scales)]
    first = [np.abs(convolved(big, psi[j][i])) for j in range(scales) for i in range(turns)]
    second = [np.abs(convolved(u, psi[1][i])) for u in first[:turns] for i in range(turns)]
    wanted = np.stack([convolved(u, phi).real[step:-step:step, step:-step:step] for u in (big, *first, *second)])
    found = stem(x)[0].numpy()
    assert found.shape == wanted.shape == (1 + 8 + 16, 4, 6)
    np.testing.assert_allclose(found[0], wanted[0], atol=1e-5)
    np.testing.assert_allclose(found[1:9], wanted[1:9], atol=4e-3 * wanted[0].max())
    np.testing.assert_allclose(found[9:], wanted[9:], atol=4e-3 * wanted[0].max())
    off = np.abs(found - wanted).max(axis=(1, 2)) / wanted.max(axis=(1, 2))
    assert off[1:5].max() < 1e-6 and 0.01 < off[5:].max() < 0.06  # what the docstring says


def test_morlets_are_their_formula_in_space():
    grid, turns = (24, 36), 5
    for j in range(2):
        sigma, xi, slant = 0.8 * 2**j, 3 * np.pi / 4 / 2**j, 4 / turns
        for i, hat in enumerate(_morlets(grid, j, turns)):
            theta, values = (turns // 2 - 1 - i) * np.pi / turns, []
            for wave in (xi, 0.0):
                y, x = np.mgrid[-3 * 24 : 3 * 24, -3 * 36 : 3 * 36].astype(float)
                along, across = y * np.cos(theta) + x * np.sin(theta), x * np.cos(theta) - y * np.sin(theta)
                bell = np.exp(-(along**2 + (slant * across) ** 2) / (2 * sigma**2) + 1j * wave * along)
                periods = bell.reshape(6, 24, 6, 36).sum(axis=(0, 2)) * slant / (2 * np.pi * sigma**2)
                values.append(np.fft.fft2(periods))
            wanted = values[0] - values[0][0, 0] / values[1][0, 0] * values[1]
            np.testing.assert_allclose(hat, wanted, atol=1e-12)


def test_scattering_moves_less_than_wavelets_when_the_image_moves():
    x = images(4, 1, 32, 32, seed=3)
    smooth = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(x, (2, 2, 2, 2), mode="circular"), 5, 1)
    moved = torch.roll(smooth, 1, dims=3)

    def distance(stem):
        a, b = stem.codes(smooth), stem.codes(moved)
        return float(((a - b).norm(dim=1) / a.norm(dim=1)).mean())

    assert distance(scattering_stem((32, 32), scales=3)) < 0.5 * distance(wavelet_stem("db4", levels=2))


# ---------------------------------------------------------------- curvelets
FLOATS = (torch.float32, torch.float64)


@pytest.mark.parametrize(
    ("size", "dtype"),
    [
        ((32, 32), torch.float64),
        ((33, 47), torch.float32),
        *(pytest.param(size, dtype, marks=pytest.mark.slow) for size in [(64, 50), (128, 129)] for dtype in FLOATS),
    ],
)
def test_curvelets_are_a_tight_frame_of_any_size(size, dtype):
    pytest.importorskip("curvelets.torch")
    x = images(2, 2, *size, dtype=dtype) - 0.3
    stem = curvelet_stem(size)
    codes = stem(x)
    assert codes.dtype == dtype
    torch.testing.assert_close(
        codes.double().square().sum(dim=1), x.double().square().sum(dim=(1, 2, 3)), rtol=1e-5, atol=0
    )
    torch.testing.assert_close(stem.inverse(codes), x, rtol=0, atol=1e-5)
    other = images(2, 2, *size, dtype=dtype, seed=1)
    inner = (codes * stem(other)).double().sum(dim=1)
    torch.testing.assert_close(inner, (x * other).double().sum(dim=(1, 2, 3)), rtol=1e-5, atol=1e-4)


def test_curvelets_are_thresholded_by_their_magnitude():
    pytest.importorskip("curvelets.torch")
    x = images(1, 1, 36, 40)
    plain = torch.view_as_complex(curvelet_stem((36, 40))(x).reshape(-1, 2))
    sparse = curvelet_stem((36, 40), threshold=Threshold(tau=0.1))(x)[0]
    torch.testing.assert_close(sparse, plain.abs() * (plain.abs() > 0.1))
    signed = curvelet_stem((36, 40), threshold=Threshold(tau=0.1, signed=True))
    kept = torch.view_as_complex(signed(x).reshape(-1, 2))
    torch.testing.assert_close(kept, plain * (plain.abs() > 0.1))
    assert float((signed.inverse(signed(x)) - x).abs().max()) < 0.5
    with pytest.raises(ValueError, match=r"expected codes \(n, k\) with real and imaginary parts"):
        signed.inverse(sparse[None, :-1])


# ---------------------------------------------------------------- what all of them promise
@pytest.mark.parametrize("kind", STEMS)
@pytest.mark.parametrize("mode", ["fixed", "relative", "learned"])
def test_any_type_and_layout_of_images(kind, mode):
    stem = STEMS[kind]((33, 34), Threshold("soft", tau=0.1, mode=mode))
    x = images(2, 5, 33, 34)
    exact = copy.deepcopy(stem).double()(x)
    assert exact.dtype == torch.float64
    before = x.clone()
    for dtype, atol in ((torch.float32, 1e-5), (torch.float16, 2e-2), (torch.bfloat16, 2e-1)):
        found = stem(x.to(dtype))
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), exact, rtol=1e-2, atol=atol)
    last = stem(x.float().contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, stem(x.float()), rtol=1e-5, atol=1e-5)
    assert last.ndim != 4 or last.is_contiguous(memory_format=torch.channels_last)
    strided = images(2, 5, 66, 34)[:, :, ::2]
    torch.testing.assert_close(stem(strided.float()), stem(strided.float().contiguous()))
    half = copy.deepcopy(stem).half()
    torch.testing.assert_close(half(x.half()).double(), exact, rtol=1e-2, atol=2e-2)
    assert torch.equal(x, before)
    torch.testing.assert_close(stem(x[:1].float()), stem(x.float())[:1], rtol=1e-5, atol=1e-5)
    assert stem.codes(x[:0].float()).shape == (0, stem.codes(x.float()).shape[1])


@pytest.mark.parametrize("kind", STEMS)
def test_states_copies_and_other_settings(kind, tmp_path):
    stem = STEMS[kind]((33, 34), Threshold("soft", tau=0.1, mode="learned"))
    x = images(2, 3, 33, 34, dtype=torch.float32)
    torch.save(stem.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in state.values())  # as safetensors wants them
    again = STEMS[kind]((33, 34), Threshold("soft", tau=0.3, mode="learned"))
    again.load_state_dict(state)
    torch.testing.assert_close(again(x), stem(x), rtol=0, atol=0)
    torch.testing.assert_close(copy.deepcopy(stem)(x), stem(x), rtol=0, atol=0)
    torch.testing.assert_close(copy.deepcopy(stem).half().float()(x), stem(x), rtol=2e-3, atol=2e-3)
    other = {
        "wavelet": lambda: wavelet_stem("db3", levels=2, threshold=Threshold("soft", mode="learned")),
        "scattering": lambda: scattering_stem((33, 34), scales=2, orientations=4),
        "curvelet": lambda: curvelet_stem((35, 34), threshold=Threshold("soft", mode="learned")),
    }[kind]()
    with pytest.raises(ValueError, match=rf"expected the state of a {kind} stem .*, got that of a {kind} stem"):
        other.load_state_dict(state)


@pytest.mark.parametrize("kind", STEMS)
def test_gradients_reach_the_images(kind):
    size = (32, 33) if kind == "curvelet" else (8, 9)
    stem = STEMS[kind](size, Threshold("soft", tau=0.05, mode="learned")).double()
    x = (images(1, 1, *size) + 0.1).requires_grad_()
    found = stem.codes(x)
    weights = images(*found.shape, seed=5)
    (slope,) = torch.autograd.grad((found * weights).sum(), x)
    direction = images(*x.shape, seed=6)
    step = 1e-6
    with torch.no_grad():
        ahead, back = ((stem.codes(x + s * direction) * weights).sum() for s in (step, -step))
    assert float((ahead - back) / (2 * step)) == pytest.approx(float((slope * direction).sum()), rel=1e-5)


@pytest.mark.parametrize("kind", ["wavelet", "scattering"])
def test_one_graph_for_the_compiler(kind):
    net = nn.Sequential(STEMS[kind]((16, 17), Threshold(tau=0.1)), nn.Flatten())
    x = images(2, 3, 16, 17, dtype=torch.float32)
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), net(x))
    leaf = x.clone().requires_grad_()
    compiled(leaf).sum().backward()
    wanted = x.clone().requires_grad_()
    net(wanted).sum().backward()
    torch.testing.assert_close(leaf.grad, wanted.grad)


def test_images_that_are_too_small_are_refused_by_name():
    with pytest.raises(ValueError, match=r"expected sides of at least the 8 taps of db4 at each of 3 levels, images "
                       r"of 28 x 30 have 7 at level 3; take fewer levels"):  # fmt: skip
        wavelet_stem("db4", levels=3)(images(1, 1, 28, 30))
    with pytest.raises(ValueError, match=r"expected sides of at least 16 for 3 scales, got \(15, 40\)"):
        scattering_stem((15, 40), scales=3)
    with pytest.raises(ValueError, match=r"expected sides of at least 32 for curvelets, got \(31, 64\)"):
        curvelet_stem((31, 64))
    with pytest.raises(ValueError, match="expected images of 16 x 17, for which the filters were made, got"):
        scattering_stem((16, 17))(images(1, 1, 17, 16))
    with pytest.raises(ValueError, match=r"expected images of shape \(n, c, h, w\), got \(3, 8, 8\)"):
        wavelet_stem("haar")(images(3, 8, 8))
    with pytest.raises(TypeError, match="expected images of a float type, got torch.uint8"):
        wavelet_stem("haar")(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="expected the name of a discrete wavelet"):
        wavelet_stem("morl")
    with pytest.raises(ValueError, match="expected `mode` of"):
        wavelet_stem(mode="periodic_")
    with pytest.raises(TypeError, match="expected `threshold` as a features.Threshold or None, got float"):
        wavelet_stem(threshold=0.2)


def test_nan_in_an_image_is_not_hidden():
    x = images(2, 1, 32, 32)
    x[0, 0, 5, 5] = math.nan
    for kind in STEMS:
        codes = STEMS[kind]((32, 32), Threshold(tau=10.0)).double().codes(x)
        assert codes[0].isnan().any() and not codes[1].isnan().any()


# ---------------------------------------------------------------- nets
def test_the_net_is_the_lectures():
    stem = wavelet_stem("haar", threshold=Threshold(tau=0.3))
    net = TwoLayerNet(stem, shape=(2, 7, 6), classes=4)
    x = images(3, 2, 7, 6, dtype=torch.float32)
    bands = pywt.wavedec2(x.numpy(), "haar", "periodization", 1)
    h1 = np.concatenate([bands[0].reshape(3, -1), np.stack(bands[1], axis=2).reshape(3, -1)], axis=1)
    h2 = np.abs(h1) * (np.abs(h1) > 0.3)
    wanted = h2 @ net.linear.weight.detach().numpy().T + net.linear.bias.detach().numpy()
    np.testing.assert_allclose(net(x).detach(), wanted, atol=1e-5)
    assert net.kept(x) == pytest.approx((h2 > 0).mean())
    assert [name for name, _ in net.named_parameters()] == ["linear.weight", "linear.bias"]
    with pytest.raises(TypeError, match="expected `stem` such as ff.wavelet_stem"):
        TwoLayerNet(nn.Flatten(), shape=(1, 8, 8), classes=2)
    with pytest.raises(ValueError, match="expected sides of at least the 8 taps of db4"):
        TwoLayerNet(ff.wavelet_stem(), shape=(1, 7, 7), classes=2)


def test_a_convolution_started_from_haar_is_the_transform():
    conv = nn.Conv2d(1, 4, 2, stride=2, bias=False)
    assert init_stem(conv, "wavelet", scale=1.0) is conv
    x = images(2, 1, 8, 10, dtype=torch.float32)
    low, high = pywt.Wavelet("haar").dec_lo, pywt.Wavelet("haar").dec_hi
    smooth, (details,) = kernels.dwt2(x, low, high, mode="periodization")
    torch.testing.assert_close(conv(x), torch.cat([details[:, 0], smooth], dim=1))


def test_started_filters_are_distinct_and_as_large_as_before():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 64, 7, stride=2, padding=3), nn.ReLU(), nn.Conv2d(64, 8, 3))
    old = net[0].weight.detach().clone()
    later, bias = net[2].weight.detach().clone(), net[0].bias.detach().clone()
    init_stem(net, wavelet="db2")
    new = net[0].weight.detach()
    torch.testing.assert_close(new.square().sum(dim=(1, 2, 3)), old.square().sum(dim=(1, 2, 3)).mean().expand(64))
    cosines = torch.corrcoef(new.flatten(1)).fill_diagonal_(0)
    assert float(cosines.abs().max()) < 0.999
    means = new.mean(dim=(2, 3)).abs().amax(dim=1)
    assert int((means < 1e-6).sum()) >= 47  # details have mean zero in every channel
    assert torch.equal(net[2].weight, later) and torch.equal(net[0].bias, bias)
    few = nn.Conv2d(1, 64, 3)
    old = few.weight.detach().clone()
    init_stem(few)
    changed = (few.weight != old).flatten(1).any(dim=1)
    assert changed[:16].all() and not changed[16:].any()  # 4 patterns at 4 places


def test_stems_that_cannot_be_started_are_refused():
    with pytest.raises(ValueError, match="expected a kernel of at least the 8 taps of db4, layer '0' has 3 x 3"):
        init_stem(nn.Sequential(nn.Conv2d(1, 2, 3)), wavelet="db4")
    with pytest.raises(ValueError, match="expected a model with a two-dimensional convolution, Linear has none"):
        init_stem(nn.Linear(2, 2))
    with pytest.raises(KeyError, match="expected a layer named as in model.named_modules"):
        init_stem(nn.Sequential(nn.Conv2d(1, 2, 3)), layer="1")
    with pytest.raises(TypeError, match="expected layer '0' to be a Conv2d, it is a ReLU"):
        init_stem(nn.Sequential(nn.ReLU(), nn.Conv2d(1, 2, 3)), layer="0")
    with pytest.raises(ValueError, match="expected the weight of layer '' to be a parameter"):
        init_stem(nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 2, 3)))
    with pytest.raises(ValueError, match=r"expected `kind` of \['wavelet'\], got 'gabor'"):
        init_stem(nn.Conv2d(1, 2, 3), "gabor")
    with pytest.raises(ValueError, match="expected layer '' to know its input channels"):
        init_stem(nn.LazyConv2d(2, 3))

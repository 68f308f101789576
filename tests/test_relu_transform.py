"""`relu_transform`: dense quadrature, closed forms of a pyramid, the theorem's orders, and what is refused by name."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import fastfreq as ff
from fastfreq.training import linear_regions, piecewise_linear

SQUARE = np.array([[-1.5, -1.5], [1.5, -1.5], [1.5, 1.5], [-1.5, 1.5]])


def network(*widths, seed=0, gain=2.0):
    """ReLU, leaky ReLU and hard tanh in turn."""
    torch.manual_seed(seed)
    bends = [nn.ReLU(), nn.LeakyReLU(0.2), nn.Hardtanh(-0.7, 0.9)]
    layers = []
    for i, (a, b) in enumerate(zip(widths, widths[1:], strict=False)):
        layers += [nn.Linear(a, b), bends[i % 3]]
    net = nn.Sequential(*layers[:-1])
    with torch.no_grad():
        for weights in net.parameters():
            weights *= gain
    return net


def pyramid():
    """max(0, 1 - max(|x|, |y|))."""
    sides, larger, top = nn.Linear(2, 4, bias=False), nn.Linear(4, 2, bias=False), nn.Linear(2, 1)
    with torch.no_grad():
        sides.weight[:] = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
        larger.weight[:] = torch.tensor([[1.0, 1, -1, -1], [0, 0, 1, 1]])  # |x| - |y|, and |y|
        top.weight[:], top.bias[:] = -1.0, 1.0
    return nn.Sequential(sides, nn.ReLU(), larger, nn.ReLU(), top, nn.ReLU())


def run(net, points):
    with torch.no_grad():
        return net.double()(torch.from_numpy(points)).numpy()


# ------------------------------------------------------------------ quadrature
def test_line_equals_dense_quadrature():
    net = network(5, 16, 16, 12, 2)
    rng = np.random.default_rng(0)
    origin, direction = rng.standard_normal(5), rng.standard_normal(5)
    direction /= np.linalg.norm(direction)
    k = np.array([0, 1e-9, 0.02, 0.4, -1, 3.3, 17])
    result = ff.training.relu_transform(net, k, window=(-2, 1.5), origin=origin, directions=direction)
    n = 400_000
    t = -2 + 3.5 * (np.arange(n) + 0.5) / n
    values = run(net, origin + t[:, None] * direction)
    expected = np.exp(-2j * np.pi * np.outer(k, t)) @ values * 3.5 / n
    assert result.pieces > 20 and result.transform.shape == (7, 2)
    np.testing.assert_allclose(result.transform, expected, rtol=0, atol=1e-8)


def test_plane_equals_dense_quadrature():
    """On a quadrilateral, with three inputs; Gauss's rule in cells of a square that it is the image of."""
    net = network(3, 10, 8, 2, gain=1.5)
    axes = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 2)))[0].T
    window = np.array([[-1, -1], [1.2, -1], [1.0, 0.9], [-0.3, 1.3]])
    k = np.array([[0, 0], [1e-7, 0], [0.05, 0.02], [0.3, -0.2], [1, 0], [0, 3], [2.2, 5.1]])
    origin = np.array([0.1, -0.2, 0.3])
    result = ff.training.relu_transform(net, k, window=window[::-1], origin=origin, directions=axes)
    n = 900
    ends = np.arange(n // 2)[:, None] + (1 + np.array([-1, 1]) / np.sqrt(3)) / 2  # Gauss's two nodes in each cell
    u, v = np.meshgrid(ends.ravel() / (n // 2), ends.ravel() / (n // 2), indexing="ij")
    corner = np.stack([(1 - u) * (1 - v), u * (1 - v), u * v, (1 - u) * v], axis=-1)
    du = np.stack([v - 1, 1 - v, v, -v], axis=-1) @ window
    dv = np.stack([u - 1, -u, u, 1 - u], axis=-1) @ window
    mass = (du[..., 0] * dv[..., 1] - du[..., 1] * dv[..., 0]).reshape(-1, 1) / n**2
    points = (corner @ window).reshape(-1, 2)
    values = run(net, origin + points @ axes) * mass
    expected = np.stack([np.exp(-2j * np.pi * (points @ each)) @ values for each in k])
    assert result.pieces > 20
    np.testing.assert_allclose(result.transform, expected, rtol=0, atol=1e-6)


def test_low_and_high_frequencies_meet():
    """By Gauss's rule below a threshold, by edges above: at the threshold they are one number."""
    net = network(2, 12, 8, 1)
    steps = piecewise_linear.steps_of(net)
    regions = linear_regions.linear_regions(steps, np.zeros(2), np.eye(2), SQUARE, most=10_000)
    transforms = ff.training.relu_transform.__globals__["affine_transforms"]
    kappa = np.array([[0.4, 0.2], [-0.1, 0.45]])
    by_edges = sum(transforms.over_edges(regions, kappa))
    np.testing.assert_allclose(by_edges, transforms.by_gauss(regions, kappa), rtol=1e-11)


# ------------------------------------------------------------------ pieces
def test_regions_tile_the_window_and_are_the_network():
    net = network(2, 14, 14, 10, 2)
    steps = piecewise_linear.steps_of(net)
    regions = linear_regions.linear_regions(steps, np.zeros(2), np.eye(2), SQUARE, most=10_000)
    assert min(region.area for region in regions) > 0
    assert sum(region.area for region in regions) == pytest.approx(9, rel=1e-12)
    rng = np.random.default_rng(2)
    for region in regions:
        points = rng.dirichlet(np.ones(len(region.corners)), 3) @ region.corners
        np.testing.assert_allclose(points @ region.slopes + region.offset, run(net, points), rtol=0, atol=1e-9)


def test_a_pyramid_has_sixteen_regions_and_a_triangle_wave_its_transform():
    result = ff.training.relu_transform(pyramid(), [[0.0, 0.0], [0.0, 0.5]], window=SQUARE)
    assert result.pieces == 16
    assert result.transform[0, 0] == pytest.approx(4 / 3)  # the volume
    hat = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1), nn.ReLU())
    with torch.no_grad():
        hat[0].weight[:] = torch.tensor([[1.0], [-1.0]])
        hat[2].weight[:], hat[2].bias[:] = -1.0, 1.0
    k = np.array([0, 0.3, 1.7, 25.5])
    line = ff.training.relu_transform(hat, k, window=(-3, 2))
    np.testing.assert_allclose(line.transform[:, 0], np.sinc(k) ** 2, rtol=0, atol=1e-15)
    np.testing.assert_allclose(line.facets[1:], line.transform[1:], rtol=0, atol=1e-15)
    assert line.pieces == 4 and line.facet_length == 3


# ------------------------------------------------------------------ orders of decay
def test_orders_on_facet_normals_and_elsewhere():
    radius = np.geomspace(20, 160, 2000)
    degrees = {0: -2, 45: -2, 90: -2, 17: -3, 31: -3, 62: -3}
    units = {a: np.array([np.cos(np.radians(a)), np.sin(np.radians(a))]) for a in degrees}
    k = np.concatenate([radius[:, None] * unit for unit in units.values()])
    result = ff.training.relu_transform(pyramid(), k, window=SQUARE)
    for angle, order in degrees.items():
        slope = result.decay(along=units[angle], from_=20, to=160)
        assert abs(slope - order) <= (0.15 if order == -2 else 0.25), (angle, slope)
    assert (np.abs(result.facets[:, 0]) <= result.bounds).all()


@pytest.mark.parametrize("inputs", [1, 2])
def test_bends_never_exceed_the_lipschitz_bound(inputs):
    net = network(inputs, 12, 12, 2)
    k = np.random.default_rng(3).uniform(-30, 30, (200, inputs))
    result = ff.training.relu_transform(net, k, window=(-1.5, 1.5) if inputs == 1 else SQUARE)
    assert (np.abs(result.facets) <= result.bounds[:, None]).all()
    assert np.abs(result.facets).max() > 0


# ------------------------------------------------------------------ files, tables, wrong use
def test_saves_loads_tables_and_plots(tmp_path):
    result = ff.training.relu_transform(pyramid(), np.geomspace(1, 9, 40)[:, None] * [[0.6, 0.8]], window=SQUARE)
    result.save(tmp_path / "pyramid.npz")
    loaded = ff.load(tmp_path / "pyramid.npz")
    assert loaded.table() == result.table() and loaded.pieces == 16 and "16 pieces" in repr(loaded)
    assert len(result.table()) == 40 and set(result.table()[0]) >= {"k1", "k2", "amplitude", "facets", "bound"}
    assert result.plot().axes
    with pytest.raises(TypeError, match="whole"):
        result + loaded


def test_modules_that_stand_there_twice_run_twice():
    torch.manual_seed(4)
    middle, bend = nn.Linear(2, 2), nn.ReLU()
    net = nn.Sequential(middle, bend, nn.Sequential(middle, bend), middle, nn.Identity())
    steps = piecewise_linear.steps_of(net)
    points = np.random.default_rng(5).standard_normal((20, 2))
    values, _ = piecewise_linear.values_and_slopes(steps, points, np.eye(2))
    assert len(steps) == 5
    np.testing.assert_allclose(values, run(net, points), rtol=0, atol=1e-12)


def test_half_weights_are_taken_as_they_are():
    net = network(2, 8, 1).half()
    half = ff.training.relu_transform(net, [[0.3, 0.1]], window=SQUARE)
    double = ff.training.relu_transform(net.double(), [[0.3, 0.1]], window=SQUARE)
    np.testing.assert_allclose(half.transform, double.transform, rtol=0, atol=1e-14)


def test_network_is_read_and_never_touched():
    """An in-place rectifier, and a layer that writes while it is read, in train mode."""
    net = nn.Sequential(nn.Linear(2, 6), nn.ReLU(inplace=True), parametrizations.spectral_norm(nn.Linear(6, 1)))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    result = ff.training.relu_transform(net, [[0.0, 0.0]], window=SQUARE)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert result.transform.dtype == np.complex128


@pytest.mark.parametrize(
    ("net", "keywords", "message"),
    [
        (nn.Sequential(nn.Linear(2, 3), nn.Tanh()), {}, r"got Tanh \(1\)"),
        (nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU(), nn.Dropout())), {}, r"got Dropout \(1.1\)"),
        (nn.ReLU(), {}, "at least one Linear"),
        (nn.Linear(2, 1), {"window": (1.0, 0.0)}, "expected `directions`"),
        (nn.Linear(1, 1), {"window": (1.0, 0.0), "frequencies": [1.0]}, "a < b"),
        (nn.Linear(2, 1), {"window": SQUARE[[0, 2, 1, 3]]}, "convex polygon"),
        (nn.Linear(2, 1), {"window": SQUARE[:2]}, "at least three corners"),
        (nn.Linear(2, 1), {"directions": [[1.0, 0.0], [1.0, 0.0]]}, "orthonormal"),
        (nn.Linear(2, 1), {"origin": [0.0]}, r"`origin` of shape \(2,\)"),
        (nn.Linear(3, 1), {}, "expected `directions`"),
        (nn.Linear(2, 1), {"frequencies": [1.0, 2.0]}, r"`frequencies` of shape \(K, 2\)"),
        (nn.Linear(2, 1), {"frequencies": [[1.0, np.nan]]}, "finite numbers as `frequencies`"),
        (network(2, 12, 12, 1), {"most_pieces": 5}, "at most 5 regions"),
    ],
)  # fmt: skip
def test_refusals(net, keywords, message):
    given = {"frequencies": [[1.0, 2.0]], "window": SQUARE, **keywords}
    with pytest.raises(ValueError, match=message):
        ff.training.relu_transform(net, given.pop("frequencies"), **given)


def test_hooks_and_weights_that_are_not_finite_are_refused():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    handle = net[1].register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="without hooks, '1' has some"):
        ff.training.relu_transform(net, [[0.0, 0.0]], window=SQUARE)
    handle.remove()
    with torch.no_grad():
        net[2].weight[0, 0] = torch.inf
    with pytest.raises(ValueError, match="finite weights, those of '2'"):
        ff.training.relu_transform(net, [[0.0, 0.0]], window=SQUARE)


@pytest.mark.parametrize("window", [(-2.0, 2.0), [(-2, -2), (2, -2), (2, 2), (-2, 2)]], ids=["line", "plane"])
def test_small_weights_bend_where_large_ones_do(window):
    d = np.ndim(window)
    transforms = []
    for size in (1.0, 1e-170):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = nn.Sequential(nn.Linear(d, 6), nn.ReLU(), nn.Linear(6, 1, bias=False)).double()
        with torch.no_grad():
            net[0].weight.mul_(size)
            net[0].bias.mul_(size)
        frequencies = [1.0, 2.5] if d == 1 else [(1.0, 0.5), (0, 2.5)]
        found = ff.training.relu_transform(net, frequencies, window=window)
        transforms.append((found.transform / size, found.pieces))
    assert transforms[0][1] == transforms[1][1] > 3
    np.testing.assert_allclose(transforms[1][0], transforms[0][0], rtol=1e-9)

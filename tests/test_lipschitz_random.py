"""Small random networks of operations with odd arguments: Lipschitz bounds have to hold for all of them."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.nn.utils import weight_norm as hooked_weight_norm
from torch.utils import _pytree as pytree

import fastfreq as ff

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning"),
]
LARGEST = 120  # elements that one step hands to the next


class Step(nn.Module):
    """A function with the modules that it uses, and arguments that were drawn for it."""

    def __init__(self, function: Callable[..., Tensor], *modules: nn.Module, **drawn: object) -> None:
        super().__init__()
        self.function, self.parts, self.drawn = function, nn.ModuleList(modules), drawn

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.parts, **self.drawn)


class Chain(nn.Module):
    """Steps one after the other, and what the end returns."""

    def __init__(self, steps: list[nn.Module], end: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.steps, self.end = nn.ModuleList(steps), end
        self.kind = nn.Parameter(torch.zeros((), dtype=torch.float64))  # images are of the weights' type

    def forward(self, x: Tensor) -> object:
        for step in self.steps:
            x = step(x)
        return self.end(x)


def network(seed: int, refused: bool = False) -> tuple[nn.Module, tuple[int, int, int]]:
    """A float64 network in train mode, and the size of its images; if `refused` with one step that has no constant."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    shape = (rng.randint(2, 4), rng.randint(3, 6), rng.randint(3, 6))
    steps: list[nn.Module] = []
    x = torch.rand(1, *shape, dtype=torch.float64)
    depth = rng.randint(1, 5)
    at = rng.randrange(depth) if refused else -1
    while len(steps) < depth:
        kind = rng.choice([WITHOUT] if len(steps) == at else [POINTWISE, SUMS, SHAPES, POOLS, LAYERS, LAYERS, NORMS])
        step = rng.choice(kind)(rng, x.shape).double()
        try:
            with torch.no_grad():
                y = step.eval()(x.clone())
        except (RuntimeError, ValueError, IndexError):
            continue  # an argument that this shape does not allow
        if y.ndim != 4 or not 0 < y.numel() <= LARGEST:
            continue
        steps.append(step.train())
        x = y
    ends = [lambda y: y, lambda y: {"a": y, "b": (y.mean(dim=(2, 3)), None)}, lambda y: [y.flatten(1), 3.0 * y]]
    return Chain(steps, rng.choice(ends)), shape


def _randomised(norm: nn.Module) -> nn.Module:
    for name, tensor in (*norm.named_parameters(), *norm.named_buffers()):
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.2, 2.0) if name == "running_var" else nn.init.normal_(tensor)
    return norm


def _two(rng: random.Random, low: int, high: int) -> tuple[int, int]:
    return rng.randint(low, high), rng.randint(low, high)


def _inplace(change: Callable[[Tensor], object]) -> Callable[[Tensor], Tensor]:
    def function(x: Tensor) -> Tensor:
        y = x.clone()
        change(y)
        return y

    return function


# ---------------------------------------------------------------- element-wise functions
POINTWISE = [
    lambda r, s: nn.LeakyReLU(r.uniform(-4, 4)),
    lambda r, s: Step(lambda x, a: F.leaky_relu_(1 * x, a), a=r.uniform(0, 4)),
    lambda r, s: nn.ELU(r.uniform(-4, 4)),
    lambda r, s: nn.CELU(r.uniform(0.1, 4)),
    lambda r, s: nn.SELU(),
    lambda r, s: nn.GELU(r.choice(["none", "tanh"])),
    lambda r, s: nn.SiLU(),
    lambda r, s: nn.Mish(),
    lambda r, s: r.choice([nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.LogSigmoid, nn.ReLU6])(),
    lambda r, s: nn.Hardtanh(-0.3, 2.5),
    lambda r, s: nn.Softplus(r.uniform(0.2, 5)),
    lambda r, s: nn.Softshrink(r.random()),
    lambda r, s: _randomised(nn.PReLU(s[1])),
    lambda r, s: nn.RReLU(-3, r.uniform(-2, 5)),
    lambda r, s: nn.Threshold(0.4, 0.4),
    lambda r, s: Step(lambda x, relu: relu(1 * x), nn.ReLU(inplace=True)),
    lambda r, s: Step(lambda x: x.clamp(min=-0.2).abs().sin()),
    lambda r, s: Step(lambda x: torch.atan(torch.neg(x))),
    lambda r, s: Step(lambda x: F.dropout(x, 0.9, training=False)),
    lambda r, s: nn.Sequential(nn.Dropout2d(0.7), nn.AlphaDropout()),
    lambda r, s: nn.Softmax(dim=r.randint(1, 3)),
    lambda r, s: Step(lambda x, d: F.log_softmax(x, d), d=r.randint(1, 3)),
]
# ---------------------------------------------------------------- sums and products
SUMS = [
    lambda r, s: Step(lambda x, a: torch.add(x, x.flip(3), alpha=a), a=r.uniform(-3, 3)),
    lambda r, s: Step(lambda x, a: torch.sub(x, other=x.tanh(), alpha=a), a=r.uniform(-3, 3)),
    lambda r, s: Step(lambda x: torch.add(x, other=3 * x.roll(1, 2))),
    lambda r, s: Step(lambda x, a: torch.rsub(x, x.relu(), alpha=a), a=r.uniform(-3, 3)),
    lambda r, s: Step(lambda x: 2 - x / 0.3),
    lambda r, s: Step(lambda x, w: w.weight[:, None] * x, _randomised(nn.BatchNorm1d(s[3]))),
    lambda r, s: Step(lambda x: x[:, :1] * torch.arange(1.0, 4.0, dtype=x.dtype)[:, None, None]),
    lambda r, s: Step(lambda x: x - x.mean(dim=(1, 3), keepdim=True)),
    lambda r, s: Step(lambda x: x + x.sum(dim=2, keepdim=True) - x.mean()),
    lambda r, s: Step(lambda x: torch.maximum(x, -2 * x) + torch.minimum(x, torch.ones_like(x))),
    lambda r, s: Step(lambda x: torch.where(torch.arange(x.shape[3]) % 2 == 0, x, 3 * x)),
    lambda r, s: Step(lambda x: x.masked_fill(torch.arange(x.shape[3]) > 1, 0.5)),
    lambda r, s: Step(_inplace(lambda y: y.mul_(2).add_(y.flip(2), alpha=-3))),
    lambda r, s: Step(_inplace(lambda y: y[:, ::2].mul_(-3))),
    lambda r, s: Step(_inplace(lambda y: y[..., 1:].add_(y[..., :-1].clone(), alpha=2))),
    lambda r, s: Step(_inplace(lambda y: y.__setitem__((slice(None), slice(0, 1)), 4 * y[:, -1:]))),
    lambda r, s: Step(_inplace(lambda y: y.flatten()[:7].zero_())),
    lambda r, s: Step(lambda x, d: x.cumsum(d), d=r.randint(1, 3)),
    lambda r, s: Step(lambda x, m: x @ m, m=torch.randn(s[3], 4).double()),
    lambda r, s: Step(lambda x, m: torch.matmul(m, x), m=torch.randn(3, s[2]).double()),
]
# ---------------------------------------------------------------- copies and selections
SHAPES = [
    lambda r, s: Step(lambda x: torch.cat(tensors=[x, -x, x.relu()], dim=1)),
    lambda r, s: Step(lambda x: torch.stack([x, 2 * x]).flatten(0, 1).reshape(1, -1, *x.shape[2:])),
    lambda r, s: Step(lambda x: x[:, [0, 0, -1, 1]]),
    lambda r, s: Step(lambda x: x[..., ::2].index_select(2, torch.tensor([0, 0, 1, 0]))),
    lambda r, s: Step(lambda x: torch.cat(x.chunk(2, dim=1)[::-1], 1) + x),
    lambda r, s: Step(lambda x: torch.cat([p.relu() for p in x.split([1, x.shape[1] - 1], 1)], 1)),
    lambda r, s: Step(lambda x: x.unbind(2)[0][:, :, None] - x.select(2, 1).unsqueeze(2)),
    lambda r, s: Step(lambda x: x.permute(0, 2, 1, 3).contiguous()),
    lambda r, s: Step(lambda x: x.mean(1, keepdim=True).expand(-1, 3, -1, -1)),
    lambda r, s: Step(lambda x: x[:, :2].repeat(1, 1, 2, 1).repeat_interleave(2, 3)),
    lambda r, s: Step(lambda x, m: F.pad(x, (1, 2, 0, 1), mode=m), m=r.choice(["circular", "reflect", "replicate"])),
    lambda r, s: Step(lambda x, v: F.pad(x, (2, -1, -1, 0), value=v), v=r.random()),
    lambda r, s: Step(lambda x: F.unfold(x, (2, 2), dilation=(1, 2), padding=1, stride=2)[:, :, None]),
    lambda r, s: Step(lambda x: x[:, :1].unfold(3, 2, 1).flatten(2, 3).transpose(1, 3)),
    lambda r, s: nn.Upsample(size=_two(r, 3, 7), mode="nearest"),
    lambda r, s: nn.Upsample(scale_factor=r.uniform(0.6, 1.8), mode="bilinear", align_corners=r.random() < 0.5),
    lambda r, s: Step(lambda x: F.interpolate(x, (5, 3), mode="nearest-exact")),
    lambda r, s: Step(lambda x: F.interpolate(x, (3, 3), mode="bilinear", antialias=True)),
    lambda r, s: nn.PixelUnshuffle(2),
    lambda r, s: Step(
        lambda x, d: x.amax(dim=d, keepdim=True) + x.max(dim=3, keepdim=True)[0], d=r.choice([1, 2, (2, 3)])
    ),
]
# ---------------------------------------------------------------- windows
POOLS = [
    lambda r, s: nn.AvgPool2d(
        _two(r, 1, 3), _two(r, 1, 3), padding=r.randint(0, 1), ceil_mode=r.random() < 0.5,
        count_include_pad=r.random() < 0.5, divisor_override=r.choice([None, None, 1, 7]),
    ),
    lambda r, s: nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False),
    lambda r, s: nn.MaxPool2d(
        _two(r, 1, 3), _two(r, 1, 3), padding=r.randint(0, 1), dilation=_two(r, 1, 2), ceil_mode=r.random() < 0.5
    ),
    lambda r, s: Step(lambda x: F.max_pool2d(x, 3, 1, dilation=2, padding=1)),
    lambda r, s: nn.AdaptiveAvgPool2d(_two(r, 1, 7)),
    lambda r, s: Step(lambda x: F.avg_pool2d(x, (2, 3), ceil_mode=True)),
]  # fmt: skip


# ---------------------------------------------------------------- layers with weights
def _conv(r: random.Random, s: tuple[int, ...], **more: object) -> nn.Conv2d:
    groups = s[1] if r.random() < 0.2 else 1
    mode = r.choice(["zeros", "zeros", "circular", "reflect", "replicate"])
    return nn.Conv2d(
        s[1], groups * r.randint(1, 3), _two(r, 1, 3), r.choice([1, 1, 2, (2, 1)]), padding=r.randint(0, 2),
        dilation=r.choice([1, 1, 2]), groups=groups, padding_mode=mode, **more,
    )  # fmt: skip


def _with_norm(r: random.Random, s: tuple[int, ...], between: list[nn.Module]) -> nn.Module:
    conv = _conv(r, s)
    return nn.Sequential(conv, *between, _randomised(nn.BatchNorm2d(conv.out_channels)))


def _transposed(r: random.Random, s: tuple[int, ...]) -> nn.Module:
    stride = r.randint(1, 2)
    return nn.ConvTranspose2d(
        s[1], 2, _two(r, 1, 3), stride, padding=r.randint(0, 1), output_padding=r.randint(0, stride - 1),
        dilation=r.randint(1, 2),
    )  # fmt: skip


def _louder(conv: nn.Conv2d) -> nn.Conv2d:
    conv.register_forward_hook(lambda _m, _x, y: -5 * y)
    return conv


def _residual(x: Tensor, body: nn.Module) -> Tensor:
    y = body(x)
    y += x
    return y


LAYERS = [
    _conv,
    lambda r, s: _with_norm(r, s, []),
    lambda r, s: _with_norm(r, s, [nn.ReLU(inplace=True)]),
    lambda r, s: nn.Conv2d(s[1], 2, _two(r, 1, 4), padding="same", dilation=_two(r, 1, 2)),
    _transposed,
    lambda r, s: nn.Sequential(_transposed(r, s), _randomised(nn.BatchNorm2d(2)), nn.ELU(2.0)),
    lambda r, s: parametrizations.weight_norm(_conv(r, s)),
    lambda r, s: parametrizations.spectral_norm(_conv(r, s)),
    lambda r, s: hooked_weight_norm(_conv(r, s)),
    lambda r, s: _louder(_conv(r, s)),
    lambda r, s: Step(lambda x, body: x + body(x), nn.Conv2d(s[1], s[1], 3, padding=1)),
    lambda r, s: Step(_residual, nn.Sequential(nn.Conv2d(s[1], s[1], 3, padding=1), _randomised(nn.BatchNorm2d(s[1])))),
    lambda r, s: Step(lambda x, body: body(F.avg_pool2d(body(x), 2)), nn.Conv2d(s[1], s[1], 3, padding=1)),
    lambda r, s: Step(lambda x, norm: (lambda y: norm(y) + y)(2 * x), _randomised(nn.BatchNorm2d(s[1]))),
    lambda r, s: nn.Linear(s[3], r.randint(1, 5)),
    lambda r, s: nn.Sequential(
        nn.Flatten(), nn.Linear(s[1] * s[2] * s[3], 6), _randomised(nn.BatchNorm1d(6)), nn.Unflatten(1, (2, 3, 1))
    ),
]
NORMS = [
    lambda r, s: _randomised(nn.BatchNorm2d(s[1], eps=0.1)),
    lambda r, s: _randomised(nn.LayerNorm(s[2:], eps=r.uniform(0.05, 1))),
    lambda r, s: _randomised(nn.GroupNorm(1, s[1], eps=r.uniform(0.05, 1))),
    lambda r, s: nn.InstanceNorm2d(s[1], eps=0.2),
    lambda r, s: _randomised(nn.InstanceNorm2d(s[1], affine=True, track_running_stats=True)),
    lambda r, s: _randomised(nn.RMSNorm(s[3], eps=0.1)),
]
# ---------------------------------------------------------------- what has no constant
WITHOUT = [
    lambda r, s: Step(lambda x: x.exp()),
    lambda r, s: Step(lambda x: x * x.sigmoid()),
    lambda r, s: Step(lambda x: x.square()),
    lambda r, s: Step(lambda x: 1.0 / (2 + x.abs())),
    lambda r, s: Step(lambda x: x.round()),
    lambda r, s: Step(lambda x: F.dropout(x, 0.5, training=True)),
    lambda r, s: Step(lambda x: F.scaled_dot_product_attention(x, x, x)),
    lambda r, s: Step(lambda x: x @ x.transpose(2, 3)),
    lambda r, s: Step(lambda x: x + torch.rand_like(x)),
    lambda r, s: Step(lambda x: torch.where(x > 0, x, 2 * x)),
    lambda r, s: Step(lambda x: x + x.argmax(dim=1, keepdim=True)),
    lambda r, s: Step(lambda x: x * float(x.detach().sum())),
    lambda r, s: Step(lambda x: x + x.data),
    lambda r, s: Step(lambda x: x if x.sum() > 0 else 3 * x),
    lambda r, s: Step(lambda x: F.normalize(x, dim=1)),
    lambda r, s: nn.Hardshrink(),
    lambda r, s: nn.Softplus(threshold=1),
    lambda r, s: nn.Threshold(1.0, 0.0),
    lambda r, s: nn.Upsample(scale_factor=1.5, mode="bicubic"),
    lambda r, s: nn.GroupNorm(1, s[1], eps=0.0),
    lambda r, s: nn.BatchNorm2d(s[1], track_running_stats=False),
    lambda r, s: nn.LPPool2d(2, 2),
]


# ---------------------------------------------------------------- how steep they are
def flat(net):
    """The network of one vector, all its outputs in one vector."""
    return lambda x: torch.cat([y.reshape(-1) for y in pytree.tree_leaves(net(x.clone())) if torch.is_tensor(y)])


def slope(function, x):
    """Largest singular value of the Jacobian at x, its gradient with respect to x, and x."""
    x = x.clone().requires_grad_()
    y = function(x)
    rows = [torch.autograd.grad(one, x, retain_graph=True, allow_unused=True)[0] for one in y]
    jacobian = torch.stack([torch.zeros_like(x) if row is None else row for row in rows]).flatten(1)
    return float(torch.linalg.matrix_norm(jacobian, 2))


def steepest(net, size, points, climbs, seed):
    """The largest Jacobian norm found: random points of three scales, then a climb from the best; and secants."""
    generator = torch.Generator().manual_seed(seed)
    function = flat(net)

    def draw(scale):
        return scale * torch.randn(1, *size, generator=generator, dtype=torch.float64)

    tried = [draw(scale) for scale in (0.3, 2.0, 20.0) for _ in range(points)] + [draw(0.0)]
    best, at = max(((slope(function, x), i) for i, x in enumerate(tried)), key=lambda pair: pair[0])
    x, step = tried[at], 0.5 * float(tried[at].std()) + 0.1
    for _ in range(climbs):
        other = x + draw(step)
        there = slope(function, other)
        step = step * (1.5 if there > best else 0.7)
        if there > best:
            best, x = there, other
    with torch.no_grad():
        for scale in (1e-3, 0.3, 5.0):
            for _ in range(points):
                change = draw(scale)
                best = max(best, float((function(x + change) - function(x)).norm() / change.norm()))
    return best


def check(seeds, points, climbs):
    """Number of networks, and of those whose bound is within a tenth of the steepest place found."""
    tight = 0
    for seed in seeds:
        net, size = network(seed)
        bound = ff.lipschitz_bound(net, input_size=size).bound
        assert net.training
        found = steepest(net.eval(), size, points, climbs, seed)
        assert found <= bound * (1 + 1e-9), (seed, found, bound)
        tight += found >= 0.9 * bound
    return tight


def test_random_networks_are_never_steeper_than_their_bound():
    check(range(1000, 1016), points=2, climbs=4)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, 500, 25))
def test_five_hundred_random_networks_are_never_steeper_than_their_bound(start):
    assert check(range(start, start + 25), points=8, climbs=40) >= 3


def test_what_has_no_constant_is_refused_by_name():
    for seed in range(24):
        net, size = network(seed, refused=True)
        with pytest.raises(ValueError, match=r"'steps\.\d|'steps\.\d\.\d|Chain (reads|calls|raised|computes)"):
            ff.lipschitz_bound(net, input_size=size)

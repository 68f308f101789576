"""Lipschitz bounds in closed form, and what has none; `test_lipschitz_random` compares them with Jacobians."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fastfreq as ff

pytestmark = pytest.mark.usefixtures("one_thread")


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def net_of(function):
    return function if isinstance(function, nn.Module) else Function(function)


def bound(function, size=(4, 5, 6)):
    return ff.lipschitz_bound(net_of(function), input_size=size).bound


def set_in_place(x):
    y = torch.zeros(1, 4, 5, 6)
    y[:, :2] = 3 * x[:, :2]
    y[:, 2:] = x[:, 2:]
    return y


def through_its_view(x):
    y = x.clone()
    z = y.view(4, 30)
    z[:2].mul_(3)
    return y


CLOSED = {
    # arguments of element-wise functions
    "leaky relu": (nn.LeakyReLU(3.0), 3),
    "leaky relu, function": (lambda x: F.leaky_relu(x, -3.0), 3),
    "elu": (nn.ELU(4.0), 4),
    "prelu": (nn.PReLU(4, init=-2.5), 2.5),
    "rrelu": (nn.RReLU(1, 4), 2.5),
    "hardswish": (nn.Hardswish(), 1.5),
    "sigmoid": (nn.Sigmoid(), 0.25),
    "softmax": (nn.Softmax(1), 0.5),
    "log softmax": (nn.LogSoftmax(1), 2),
    # sums and products
    "add with alpha": (lambda x: torch.add(x, x, alpha=3), 4),
    "sub with alpha": (lambda x: torch.sub(x, x.flip(1), alpha=-3), 4),
    "add by keyword": (lambda x: torch.add(x, other=2 * x), 3),
    "rsub": (lambda x: 1 - 2 * x, 2),
    "a channel added to all": (lambda x: torch.zeros(4, 1, 1) + x[:, :1], 2),
    "times a constant of channels": (lambda x: x * torch.tensor([1.0, -5, 2, 0])[:, None, None], 5),
    "times a larger constant": (lambda x: x[:, :1] * torch.tensor([1.0, -2, 2])[:, None, None], 3),
    "matrix from the left": (lambda x: torch.diag(torch.tensor([1.0, -7, 2, 3, 4])) @ x, 7),
    # copies and selections
    "index with repeats": (lambda x: x[:, [0, 0, 0, 1]], math.sqrt(3)),
    "cat by keyword": (lambda x: torch.cat(tensors=[x, x, 2 * x], dim=1), math.sqrt(6)),
    "expand": (lambda x: x[:, :1].expand(-1, 7, -1, -1), math.sqrt(7)),
    "mean": (lambda x: x.mean(dim=(2, 3)), 1 / math.sqrt(30)),
    "reflection": (nn.ReflectionPad2d(2), math.sqrt(6)),  # one of five rows is there three times
    # windows: rounding up, padding, dilation
    "average, last window smaller": (nn.AvgPool2d(2, ceil_mode=True), math.sqrt(1 / 2)),
    "average of two pixels": (lambda x: F.avg_pool2d(x, 4, ceil_mode=True), math.sqrt(1 / 2)),
    "average, other divisor": (nn.AvgPool2d(2, divisor_override=1), 2),
    "average, padding left out": (nn.AvgPool2d(3, padding=1, count_include_pad=False), 1 / math.sqrt(4)),
    "adaptive, larger": (nn.AdaptiveAvgPool2d((10, 12)), 2),
    "maximum, dilated": (nn.MaxPool2d(2, 1, dilation=2), 2),
    "maximum, overlapping": (nn.MaxPool2d(3, 2, padding=1), 2),
    # outputs and memory
    "two outputs": (lambda x: (x, x), math.sqrt(2)),
    "nested outputs": (lambda x: {"a": x, "b": [2 * x, None, 3]}, math.sqrt(5)),
    "assigned in place": (set_in_place, math.sqrt(10)),  # of two parts, not known to lie apart
    "changed through a view": (through_its_view, math.sqrt(10)),
    "a constant of its kind": (lambda x: x - torch.ones(1).double().to(x).expand_as(x).type_as(x), 1),
    "a constant": (lambda x: torch.ones(3), 0),
    "sizes": (lambda x: x * (x.shape[2] if x.size(1) == 4 else 1), 5),
    # normalisation
    "layer norm": (nn.LayerNorm((4, 5, 6), eps=0.01), 10),
    "group norm": (nn.GroupNorm(2, 4, eps=0.04), 5),
}


@pytest.mark.parametrize("case", CLOSED)
def test_bounds_in_closed_form(case):
    function, expected = CLOSED[case]
    assert bound(function) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("layer", "slope"),
    [
        (nn.GELU(), 1.1290), (nn.GELU("tanh"), 1.1290), (nn.SiLU(), 1.0999), (nn.Mish(), 1.0885),
        (nn.Hardswish(), 1.5001), (nn.Softplus(2.0), 1.0001), (nn.SELU(), 1.7581), (nn.ELU(-3.0), 3.0001),
        (nn.CELU(0.3), 1.0001), (nn.LogSigmoid(), 1.0001), (nn.Hardsigmoid(), 0.1667), (nn.Tanh(), 1.0001),
    ],
)  # fmt: skip
def test_slopes_are_the_largest_there_are(layer, slope):
    x = torch.linspace(-30, 30, 600_001, dtype=torch.float64, requires_grad=True)
    (steep,) = torch.autograd.grad(layer(x).sum(), x)
    found = bound(layer)
    assert float(steep.abs().max()) <= found * (1 + 1e-12) and found <= slope
    assert found <= 1.0001 * float(steep.abs().max())


REFUSED = {
    "a quotient": (lambda x: 1.0 / x.sigmoid(), "calls reciprocal: its slope grows"),
    "dropout in training": (lambda x: F.dropout(x, 0.9, training=True), "calls dropout: it is random"),
    "noise": (lambda x: x + torch.randn(4, 1, 1), "calls randn: it is random"),
    "a gate": (lambda x: x * x.sigmoid(), "a product of two tensors that both depend"),
    "attention": (lambda x: F.scaled_dot_product_attention(x, x, x), "dot-product attention has no Lipschitz"),
    "attention by hand": (lambda x: (x @ x.mT).softmax(-1), "a product of two tensors"),
    "a choice": (lambda x: torch.where(x > 0, x, 2 * x), "calls gt: it jumps"),
    "an index": (lambda x: x.max(dim=1)[1], "one is the index of a maximum"),
    "a branch": (lambda x: x if x.sum() > 0 else 3 * x, "reads values of the image"),
    "numpy": (lambda x: x * float(np.abs(x.detach().numpy()).max()), "calls .numpy"),
    "another name": (lambda x: x.data * 2, "calls .data"),
    "softplus that jumps": (nn.Softplus(1, 1), "jumps where it becomes the identity"),
    "elu that grows": (lambda x: F.elu(x) + torch.ops.aten.elu(x, 1, 1, -1), "grows like an exponential"),
    "batch statistics": (nn.BatchNorm2d(4, track_running_stats=False), "statistics of the batch"),
    "no eps": (nn.GroupNorm(2, 4, eps=0), "divides by the deviation"),
    "unknown": (lambda x: torch.cdist(x, torch.ones(4, 5, 6)), "no constant is known for it here"),
    "rounding": (lambda x: torch.div(x, 2, rounding_mode="floor"), "it rounds, which jumps"),
    "other bits": (lambda x: x.view(torch.int32).float(), "`dtype` is not accounted for"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_known_is_refused_by_name(case):
    function, words = REFUSED[case]
    with pytest.raises(ValueError, match=words) as error:
        bound(function)
    assert "bound the parts before and after it" in str(error.value) or "leave it out" in str(error.value)


def test_a_module_is_named_where_it_is():
    net = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Sequential(nn.ReLU(), nn.LPPool2d(2, 2)))
    with pytest.raises(ValueError, match=r"'1\.1' \(LPPool2d\) calls pow: its slope grows without bound"):
        bound(net)


def test_a_model_that_changes_itself_is_refused():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return x * self.calls

    net = Counting()
    with pytest.raises(ValueError, match="changes the network's own parameters or buffers|a constant that is not one"):
        bound(net)
    assert float(net.calls) == 0


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.pool = nn.MaxPool2d(3, 2)
        self.head = nn.Linear(3, 2)
        nn.init.uniform_(self.norm.running_var, 0.5, 2.0)

    def forward(self, x):
        y = torch.relu(self.norm(self.conv(x)))
        return self.head(self.pool(x + y + y).mean(dim=(2, 3)))


def test_a_residual_network_in_train_mode():
    net = Residual().train()
    result = ff.lipschitz_bound(net, input_size=(3, 8, 8))
    assert net.training and net.norm.num_batches_tracked == 0
    with torch.no_grad():
        conv = float(ff.spectral_norm(net.conv, input_size=(8, 8), batch_norm=net.norm))
        head = float(torch.linalg.matrix_norm(net.head.weight, 2))
    np.testing.assert_allclose(result.bound, (1 + 2 * conv) * 2 / 3 * head, rtol=1e-5)
    assert [(row["layer"], row["kind"]) for row in result.table()] == [
        ("conv", "Conv2d"), ("pool", "MaxPool2d"), ("mean", "mean"), ("head", "Linear"),
    ]  # fmt: skip


def test_batch_norm_is_counted_with_its_layer_only_if_it_takes_its_output():
    def chain(between):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(4, 4, 3), between, nn.BatchNorm2d(4))
        net[2].running_var.copy_(torch.tensor([1e-2, 1, 1, 1]))
        return net

    alone, apart = chain(nn.Identity()), chain(nn.ReLU(inplace=True))
    with torch.no_grad():
        joint = float(ff.spectral_norm(alone[0], input_size=(5, 6), batch_norm=alone[2]))
        own = float(ff.spectral_norm(alone[0], input_size=(5, 6)))
    assert bound(alone) == pytest.approx(joint, rel=1e-5)
    assert bound(apart) == pytest.approx(own / math.sqrt(1e-2 + 1e-5), rel=1e-5) and bound(apart) > 1.2 * joint


def test_hooks_and_circular_padding_are_what_they_are():
    layer = nn.Conv2d(4, 3, 3, padding=1, padding_mode="circular")
    with torch.no_grad():
        norm = float(ff.spectral_norm(layer, input_size=(5, 6)))
    assert bound(layer) == pytest.approx(norm, rel=2e-6)
    layer.register_forward_hook(lambda _module, _x, y: -10 * y)
    assert bound(nn.Sequential(layer)) == pytest.approx(10 * norm, rel=2e-6)


def test_a_layer_used_at_two_sizes_counts_with_each():
    conv = nn.Conv2d(2, 2, 3, padding=1)
    net = nn.Sequential(conv, nn.AvgPool2d(2), conv)
    with torch.no_grad():
        norms = [float(ff.spectral_norm(conv, input_size=size)) for size in ((8, 10), (4, 5))]
    assert bound(net, (2, 8, 10)) == pytest.approx(norms[0] * 0.5 * norms[1], rel=1e-5)
    assert norms[0] != norms[1]


def test_deep_networks_leave_the_range_of_floats():
    net = nn.Sequential(*[Function(lambda x: 1e30 * x) for _ in range(20)])
    result = ff.lipschitz_bound(net, input_size=(1, 2, 2))
    assert result.bound == math.inf and result.log10 == pytest.approx(600)

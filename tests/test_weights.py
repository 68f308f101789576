"""Weights that a hook or a parametrisation makes at each call: read as the next evaluation pass would take them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

import fastfreq as ff

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*spectral_norm. is deprecated:FutureWarning"),
]


def conv():
    return nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular")


MADE = {
    "weight norm": lambda: parametrizations.weight_norm(conv()),
    "spectral norm": lambda: parametrizations.spectral_norm(conv()),
    "weight norm by hook": lambda: weight_norm(conv()),
    "spectral norm by hook": lambda: spectral_norm(conv()),
    "pruned": lambda: prune.l1_unstructured(conv(), "weight", amount=0.5),
    "pruned twice": lambda: prune.random_unstructured(prune.l1_unstructured(conv(), "weight", 0.3), "weight", 5),
    "frozen": lambda: conv().requires_grad_(False),
}


def stepped(make):
    """In train mode, its parameters changed since the last forward pass, as by a training step."""
    torch.manual_seed(0)
    layer = make().train()
    layer(torch.rand(1, 3, 5, 6))
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.mul_(1.7).add_(0.3 * torch.rand_like(parameter))
            if name == "weight_g":
                parameter.mul_(5)
    return layer


def dense(layer, size):
    """The matrix of the layer in evaluation mode, in float32 as it is."""
    n = layer.in_channels * size[0] * size[1]
    with torch.no_grad():
        unit = torch.eye(n).reshape(n, layer.in_channels, *size)
        return (layer.eval()(unit) - layer(torch.zeros_like(unit))).reshape(n, -1).T.double().numpy()


@pytest.mark.parametrize("case", MADE)
def test_every_function_reads_the_weight_of_the_next_pass(case):
    layer, size = stepped(MADE[case]), (5, 6)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    net = nn.Sequential(layer, nn.ReLU())
    found: dict[str, float | torch.Tensor] = {
        "values": ff.singular_values(layer, input_size=size, padding="circular").norm,
        "model": ff.singular_values(net, input_size=(3, *size), padding="circular")["0"].norm,
        "norm": ff.spectral_norm(layer, input_size=size, padding="circular"),
        "norms": ff.layers.spectral_norms(net, input_size=(3, *size), padding="circular")["0"],
        "bottleneck": ff.bottleneck(net, input_size=(3, *size)).spectrum["0"].norm,
        "penalty": ff.layers.SpectralPenalty(net, input_size=(3, *size), padding="circular").norms()["0"],
        "as it pads": ff.layers.zero_padded_norm(layer, input_size=size),
        "bound": ff.lipschitz_bound(net, input_size=(3, *size)).bound,
    }
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items()) and layer.training
    truth = np.linalg.norm(dense(layer, size), 2)
    for name, value in found.items():
        assert torch.as_tensor(value).item() == pytest.approx(truth, rel=2e-5), name


@pytest.mark.parametrize("case", MADE)
def test_clipped_layers_are_plain(case):
    layer, size = stepped(MADE[case]), (5, 6)
    clipped = ff.layers.clip_singular_values(layer, input_size=size, bound=0.5)
    assert type(clipped) is nn.Conv2d and set(dict(clipped.named_parameters())) == {"weight", "bias"}
    assert not clipped._forward_pre_hooks
    clipped.train()(torch.rand(1, 3, *size))
    assert 0.49 < np.linalg.norm(dense(clipped, size), 2) <= 0.5 * (1 + 1e-6)


@pytest.mark.parametrize("case", [name for name in MADE if name != "frozen"])
def test_gradients_reach_the_parameters(case):
    layer, size = stepped(MADE[case]), (4, 5)
    penalty = ff.layers.SpectralPenalty(nn.Sequential(layer), input_size=(3, *size), bound=0.1)
    before = penalty()
    before.backward()
    moved = [(p, -1e-3 * p.grad / p.grad.norm()) for p in layer.parameters() if p.grad is not None]
    assert moved
    slope = sum((p.grad * step).sum() for p, step in moved)
    with torch.no_grad():
        for parameter, step in moved:
            parameter.add_(step)
        assert (penalty() - before).item() == pytest.approx(slope.item(), rel=0.1)
    ff.layers.zero_padded_norm(layer, input_size=size).backward()


def test_a_weight_that_something_unknown_makes_is_refused_by_name():
    layer = conv()
    own = nn.Parameter(layer.weight.detach())
    del layer.weight
    layer.register_parameter("own", own)
    layer.register_forward_pre_hook(lambda module, _x: setattr(module, "weight", module.own / 3))
    layer(torch.rand(1, 3, 5, 6))
    for function in (ff.spectral_norm, ff.layers.zero_padded_norm, ff.layers.clip_singular_values, ff.singular_values):
        with pytest.raises(ValueError, match="something computes it from others before a call; pass a plain layer"):
            function(layer, input_size=(5, 6))
    with pytest.raises(ValueError, match="something computes it from others"):
        ff.layers.SpectralPenalty(nn.Sequential(layer), input_size=(3, 5, 6))()
    truth = np.linalg.norm(dense(layer, (5, 6)), 2)  # a trace sees what the hook does
    assert ff.lipschitz_bound(nn.Sequential(layer), input_size=(3, 5, 6)).bound == pytest.approx(truth, rel=2e-5)

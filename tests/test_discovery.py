"""Convolutions found in models: order, sizes, batch norms, subclasses with forwards of their own."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fastfreq as ff
from fastfreq.layers.discovery import find_convolutions


class SameConv(nn.Conv2d):
    """Pads to ceil(n / stride) outputs, as TensorFlow does: more after than before."""

    def forward(self, x):
        pads = []
        for n, k, s in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-n // s) - 1) * s + k - n, 0)
            pads += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, pads), self.weight, self.bias, self.stride)


class StandardisedConv(nn.Conv2d):
    def forward(self, x):
        weight = (self.weight - self.weight.mean()) / self.weight.std()
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class LoudConv(nn.Conv2d):
    def forward(self, x):
        return super().forward(x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.unused = nn.Conv2d(3, 3, 3)
        self.second = nn.Conv2d(4, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.first = SameConv(3, 4, 3, stride=2)
        self.third = StandardisedConv(4, 4, 3)
        self.fourth = LoudConv(4, 2, 1)
        self.up = nn.ConvTranspose2d(2, 2, 2, stride=2)

    def forward(self, x):
        return self.up(self.fourth(self.third(self.norm(self.second(self.first(x))))))


def test_layers_come_in_order_with_their_input_sizes_and_batch_norms():
    net = Net()
    found, skipped = find_convolutions(net, (3, 15, 18))
    assert [(layer.name, layer.input_size) for layer in found] == [
        ("first", (15, 18)), ("second", (8, 9)), ("fourth", (4, 5)), ("up", (4, 5)),
    ]  # fmt: skip
    assert {layer.name: layer.batch_norm for layer in found}["second"] is net.norm
    reasons = {name: reason for name, _, reason in skipped}
    assert reasons.keys() == {"unused", "third", "norm"}
    assert "did not reach" in reasons["unused"] and "its weight alone is not what it applies" in reasons["third"]


def test_a_layer_padded_as_tensorflow_does_is_bounded():
    net = Net()
    bound = ff.singular_values(net, input_size=(3, 15, 18))["first"]
    with torch.no_grad():
        images = torch.eye(3 * 15 * 18).reshape(-1, 3, 15, 18)
        dense = (net.first(images) - net.first.bias[:, None, None]).reshape(len(images), -1).T.numpy()
    truth = np.linalg.svd(dense.astype(float), compute_uv=False)
    assert not bound.exact and (truth <= np.sort(bound.values.ravel())[::-1][: len(truth)] * (1 + 1e-6)).all()


def test_lazy_models_say_what_to_do():
    with pytest.raises(TypeError, match="run one batch through the model first"):
        find_convolutions(nn.Sequential(nn.LazyConv2d(3, 3)), (3, 8, 8))


def test_the_penalty_compiles():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1))
    penalty = ff.SpectralPenalty(net, input_size=(3, 6, 6), bound=0.5)
    plain = torch.autograd.grad(penalty(), list(net.parameters())[0])[0]
    compiled = torch.compile(lambda: penalty(), backend="aot_eager")
    torch.testing.assert_close(torch.autograd.grad(compiled(), list(net.parameters())[0])[0], plain)

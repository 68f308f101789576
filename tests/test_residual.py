"""Residual blocks as linear maps against their dense matrices, and every kind of network in one call."""

import numpy as np
import pytest
import torch
from networks import residual_network
from torch import nn
from torch.nn.utils import prune

import fastfreq as ff
from fastfreq.layers.residual import find_blocks

pytestmark = pytest.mark.usefixtures("one_thread")


def conv(inputs, outputs, kernel=3, stride=1, groups=1):
    """Circular, so that the block on a circular grid is the block itself."""
    return nn.Conv2d(
        inputs, outputs, kernel, stride, kernel // 2, groups=groups, padding_mode="circular", bias=False
    )  # fmt: skip


class Block(nn.Module):
    def __init__(self, branch, shortcut=None):
        super().__init__()
        self.branch, self.shortcut = nn.Sequential(*branch), shortcut or nn.Identity()
        self.pad = nn.Identity()

    def forward(self, x):
        return torch.relu(self.branch(x) + self.shortcut(x))


def ready(net, seed=0):
    """Seeded weights and batch statistics, in float64 and evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2, generator=generator)
            nn.init.uniform_(module.weight, 0.5, 2, generator=generator)
        elif isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.3, generator=generator)
    return net.double().eval()


def dense(linear, channels, size):
    """The matrix of a linear function of images, by its action on unit images."""
    n = channels * size[0] * size[1]
    with torch.no_grad():
        unit = torch.eye(n, dtype=torch.float64).reshape(n, channels, *size)
        return (linear(unit) - linear(torch.zeros_like(unit))).reshape(n, -1).T.numpy()


CASES = {
    "basic": (Block([conv(3, 4), nn.BatchNorm2d(4), nn.ReLU(), conv(4, 3), nn.BatchNorm2d(3)]), 3, (5, 4)),
    "pre-activation": (Block([nn.BatchNorm2d(2), nn.ReLU(), conv(2, 5), nn.GELU(), conv(5, 2, 1)]), 2, (3, 7)),
    "stride in the middle": (
        Block([conv(2, 3, 1), nn.ReLU(), conv(3, 3, 3, 2), nn.ReLU(), conv(3, 4, 1)], conv(2, 4, 1, 2)), 2, (6, 4)),
    "two strides": (Block([conv(2, 3, 3, 2), nn.ReLU(), conv(3, 3, 3, (1, 3))], conv(2, 3, 1, (2, 6))), 2, (4, 6)),
    "depthwise": (Block([conv(4, 4, 5, groups=4), conv(4, 8, 1), nn.GELU(), conv(8, 4, 1)]), 4, (5, 3)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_block_has_the_singular_values_of_its_dense_matrix(case):
    block, channels, size = CASES[case]
    net = ready(nn.Sequential(block))
    result = ff.bottleneck(net, input_size=(channels, *size), residual=True, accuracy="exact")
    assert len(result.blocks) == 2 and not set(result.blocks) & set(result.layers)
    linear = nn.Sequential(*[m for m in block.branch if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))])
    matrices = [dense(linear, channels, size)]
    matrices.append(matrices[0] + dense(block.shortcut, channels, size))
    for name, matrix in zip(result.blocks, matrices, strict=True):
        expected = np.linalg.svd(matrix, compute_uv=False)
        values = np.sort(result.spectrum[name].values.reshape(-1))[::-1]
        np.testing.assert_allclose(values[: len(expected)], expected, atol=2e-7 * expected[0])
        assert not values[len(expected) :].any()


def test_blocks_of_resnet_shapes_stand_behind_their_branch(tmp_path):
    net = residual_network("resnet20")
    result = ff.bottleneck(net, input_size=(3, 16, 16), residual=True)
    blocks, left = find_blocks(net, (3, 16, 16))
    assert len(blocks) == 9 and not left and len(result.blocks) == 18
    assert [len(block.shortcut) for block in blocks] == [0, 0, 0, 2, 0, 0, 2, 0, 0]
    names = list(result.spectrum)
    assert names[names.index("3.0.branch.3") + 1] == "3.0.branch: branch"
    assert names[names.index("3.3.branch.3") + 2] == "3.3.branch: branch + shortcut"
    assert len(result.table()) == len(names)
    plain = ff.bottleneck(net, input_size=(3, 16, 16))
    assert plain.squared_parameter_norm == result.squared_parameter_norm and plain.layers == result.layers
    result.save(tmp_path / "kept.npz")
    assert ff.load(tmp_path / "kept.npz").blocks == result.blocks
    assert "branch + shortcut" in " ".join(label.get_text() for label in result.plot().axes[0].get_xticklabels())


def test_what_is_no_block_is_named():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.pool = conv(2, 2), conv(2, 2), nn.MaxPool2d(3, 1, 1)
            self.even = Block([conv(2, 2, 3, 2)], conv(2, 2, 1, 2))

        def forward(self, x):
            return self.even(self.pool(self.a(x)) + self.b(x))

    result = ff.bottleneck(ready(Net()), input_size=(2, 5, 4), residual=True)
    reasons = [reason for _, _, reason in result.spectrum.skipped]
    assert any("do not meet" in reason and "pool" in reason for reason in reasons)
    assert any("the stride (2, 2) divides" in reason for reason in reasons)

    class Untraceable(Net):
        def forward(self, x):
            return super().forward(x) if x.sum() > -1e9 else x

    with pytest.raises(ValueError, match="residual=False"):
        ff.bottleneck(ready(Untraceable()), input_size=(2, 5, 4), residual=True)


class Sum(nn.Module):
    def __init__(self, add, *convolutions):
        super().__init__()
        self.add, self.convolutions = add, nn.ModuleList(convolutions)

    def forward(self, x):
        return self.add(x, *self.convolutions)


def test_a_sum_with_a_factor_or_a_hook_is_no_block():
    hooked = conv(2, 2)
    hooked.register_forward_hook(lambda _module, _x, y: 3 * y)
    for add, layer, reason in (
        (lambda x, c: torch.add(x, c(x), alpha=3), conv(2, 2), "other arguments than what it adds"),
        (lambda x, c: x + c(x), hooked, "do not meet"),
    ):
        result = ff.bottleneck(ready(nn.Sequential(conv(2, 2), Sum(add, layer))), input_size=(2, 5, 4), residual=True)
        assert not result.blocks and any(reason in words for _, _, words in result.spectrum.skipped)


@pytest.mark.parametrize("pruned", [False, True], ids=["plain", "pruned"])
def test_a_layer_that_is_called_twice_counts_twice(pruned):
    inner = prune.l1_unstructured(conv(2, 2), "weight", 0.3) if pruned else conv(2, 2)
    net = ready(nn.Sequential(Sum(lambda x, c: x + c(torch.relu(c(x))), inner)))
    layer = net[0].convolutions[0]
    result = ff.bottleneck(net, input_size=(2, 5, 4), residual=True, accuracy="exact")
    matrix = dense(lambda x: x + layer(layer(x)), 2, (5, 4))
    values = np.sort(result.spectrum[result.blocks[1]].values.reshape(-1))[::-1]
    np.testing.assert_allclose(values, np.linalg.svd(matrix, compute_uv=False), atol=2e-7 * values[0])


class ConvNeXtBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.wide, self.narrow = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), 0.1))

    def forward(self, x):
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.gamma * self.narrow(torch.nn.functional.gelu(self.wide(y)))
        return x + y.permute(0, 3, 1, 2)


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(2, 4, 3, padding=1)
        self.deep = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(6, 4, 2, stride=2)
        self.out = nn.Conv2d(8, 1, 1)

    def forward(self, x):
        kept = torch.relu(self.down(x))
        return self.out(torch.cat([kept, torch.relu(self.up(torch.relu(self.deep(kept))))], dim=1))


def vgg():
    layers = [nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 3)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(3 * 2 * 3, 5))


def convnext():
    return nn.Sequential(nn.Conv2d(2, 3, 2, 2), ConvNeXtBlock(3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def autoencoder():
    up = [nn.Upsample(scale_factor=2), nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()]
    return nn.Sequential(
        nn.Conv2d(2, 3, 4, stride=2, padding=1), nn.ReLU(), *up, nn.Conv2d(4, 3, 3, stride=2, padding=1), nn.ReLU(),
        nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1, output_padding=1),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("make", "layers"),
    [
        (vgg, ["0", "4"]),
        (convnext, ["0", "1.depthwise"]),
        (UNet, ["down", "deep", "up", "out"]),
        (autoencoder, ["0", "3", "5", "7"]),
    ],
)
def test_every_kind_of_network_in_one_call(make, layers):
    """Each layer's spectrum and energies bound its own zero-padded matrix, batch norm left out of both."""
    net = ready(make())
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.fill_(1 - module.eps)
            nn.init.ones_(module.weight)
    x = torch.randn(5, 2, 8, 10, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    result = ff.bottleneck(net, input_size=(2, 8, 10), images=x, residual=True)
    assert result.layers == layers and list(result.activations) == layers
    modules, inputs = dict(net.named_modules()), {}
    for name in layers:
        modules[name].register_forward_pre_hook(lambda _module, seen, name=name: inputs.update({name: seen[0]}))
    with torch.no_grad():
        net(x)
    for name, signal in inputs.items():
        seen, layer = result.activations[name], modules[name]
        norm = np.linalg.svd(dense(layer, signal.shape[1], signal.shape[2:]), compute_uv=False)[0]
        assert 0.5 * result.spectrum[name].norm <= norm <= result.spectrum[name].norm * (1 + 1e-6)
        assert seen.energy.sum() == pytest.approx(float(signal.square().sum()) / 5)
        with torch.no_grad():
            output = layer(signal) - layer(torch.zeros_like(signal))
        assert float(output.square().sum()) / 5 <= seen.output_energy.sum() * (1 + 1e-9)
    assert result.plot_activations().axes

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import fastfreq as ff
from fastfreq.engine.folding import fold_batch_norms
from fastfreq.engine.network import Network


def randomised(model):
    """`model` in evaluation mode with batch statistics and affine maps that are not trivial."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            module.running_mean.normal_(0, 0.5, generator=generator)
            module.running_var.uniform_(0.3, 3, generator=generator)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 2, generator=generator)
                nn.init.normal_(module.bias, generator=generator)
    return model.eval()


def folded(model, images, layers=()):
    """(network, what was folded)."""
    network = Network(model, precision="fp32", channels_last=True, device=None)
    with torch.inference_mode():
        return network, fold_batch_norms(network, network.clean_batch(images), layers=layers)


def photographs(channels=3, n=2):
    return torch.rand(n, channels, 11, 14, generator=torch.Generator().manual_seed(0))


class Residual(nn.Module):
    """Grouped, strided and dilated convolutions, a shortcut, batch norm without affine map and after a linear layer."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8, affine=False))
        self.conv = nn.Conv2d(8, 12, 3, padding=2, dilation=2, groups=4, bias=False)
        self.norm = nn.BatchNorm2d(12, eps=1e-3)
        self.shortcut = nn.Sequential(nn.Conv2d(8, 12, 1, bias=False), nn.BatchNorm2d(12))
        self.head = nn.Sequential(nn.Linear(12, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 5))

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = torch.relu(self.norm(self.conv(x)) + self.shortcut(x))
        return self.head(x.mean(dim=(2, 3)))


def test_folding_keeps_the_function_and_the_model():
    torch.manual_seed(0)
    model, images = randomised(Residual()), photographs()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    network, found = folded(model, images)
    assert set(found.folded) == {
        ("stem.0", "stem.1"), ("conv", "norm"), ("shortcut.0", "shortcut.1"), ("head.0", "head.1"),
    }  # fmt: skip
    assert str(found) == "4 of 4" and found.left == {}
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.net.modules())
    other = photographs(n=5)
    with torch.inference_mode():
        expected = model.double()(other.double())
        np.testing.assert_allclose(network.net.double()(other.double()), expected, rtol=1e-5, atol=1e-6)
    for name, value in model.float().state_dict().items():
        assert torch.equal(value, before[name])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.net.modules())


def one(conv=None, norm=None, between=lambda x: x, after=lambda y, x: y):
    """A network whose only batch norm follows its only convolution, but for what `between` and `after` do."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.conv = conv or nn.Conv2d(3, 6, 3)
            self.norm = norm or nn.BatchNorm2d(6)
            self.other = nn.Sequential(nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6))  # always folded
            self.head = nn.Linear(6, 4)

        def forward(self, x):
            x = self.conv(x)
            y = after(self.norm(between(x)), x)
            return self.head(self.other(y).mean(dim=(2, 3)))

    return randomised(Net())


def hooked(module, register):
    getattr(module, register)(lambda *_: None)
    return module


class Standardised(nn.Conv2d):
    def forward(self, x):
        return self._conv_forward(x, self.weight - self.weight.mean(dim=(1, 2, 3), keepdim=True), self.bias)


def behind_torch(x):
    with torch._C._DisableTorchDispatch(), torch._C.DisableTorchFunction():
        return x.relu_()


LEFT = {
    "a sum with its input": ({"after": lambda y, x: y + x}, "also used by add"),
    "its size is no use of it": ({"after": lambda y, x: y * x.shape[1] / x.size(1)}, ""),
    "changed in between": ({"between": torch.relu}, "not the output of a convolution"),
    "changed in place": ({"between": torch.relu_}, "also used by relu_"),
    "changed unseen": ({"between": behind_torch}, "also used by an operation in place"),
    "a slice of it": ({"after": lambda y, x: y + x[:, :1]}, "also used by __getitem__"),
    "a list of it": ({"after": lambda y, x: y + torch.cat([x, x])[: len(x)]}, "also used by cat"),
    "statistics of the batch": ({"norm": nn.BatchNorm2d(6, track_running_stats=False)}, "statistics of the batch"),
    "instance norm": ({"norm": nn.InstanceNorm2d(6, track_running_stats=True)}, None),
    "hook": ({"conv": hooked(nn.Conv2d(3, 6, 3), "register_forward_hook")}, "hooks or parametrised"),
    "hook on the norm": ({"norm": hooked(nn.BatchNorm2d(6), "register_forward_pre_hook")}, "hooks or parametrised"),
    "parametrised": ({"conv": parametrizations.weight_norm(nn.Conv2d(3, 6, 3))}, "hooks or parametrised"),
    "another forward": ({"conv": Standardised(3, 6, 3)}, "not the output of a convolution"),
    "transposed": ({"conv": nn.ConvTranspose2d(3, 6, 3)}, "not the output of a convolution"),
}  # fmt: skip


@pytest.mark.parametrize("case", LEFT)
def test_a_norm_that_cannot_be_folded_stays(case):
    options, reason = LEFT[case]
    model = one(**options)
    network, found = folded(model, photographs())
    assert ("other.0", "other.1") in found.folded
    if reason:
        assert reason in found.left["norm"] and str(found) == "1 of 2"
        assert isinstance(network.net.norm, nn.BatchNorm2d)
    else:
        assert "norm" not in found.left and str(found) == ("1 of 1" if reason is None else "2 of 2")


def test_shared_modules_stay():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6))
            self.conv, self.norms = nn.Conv2d(6, 6, 1), nn.ModuleList([nn.BatchNorm2d(6), nn.BatchNorm2d(6)])
            self.convs, self.norm = nn.ModuleList([nn.Conv2d(6, 6, 1), nn.Conv2d(6, 4, 1)]), nn.BatchNorm2d(6)
            self.alias = self.first[1]

        def forward(self, x):
            x = self.norms[1](self.conv(self.norms[0](self.conv(self.first[0](x)))))
            return self.convs[1](self.norm(self.convs[0](self.norm(self.alias(x))))).mean(dim=(2, 3))

    with pytest.raises(ValueError, match=r"no batch norm directly follows .* runs 2 times"):
        folded(randomised(Twice()), photographs())

    class Alias(Twice):
        def forward(self, x):
            return self.alias(self.first[0](x)).mean(dim=(2, 3))

    network, found = folded(randomised(Alias()), photographs())
    assert found.folded == (("first.0", "first.1"),) and isinstance(network.net.alias, nn.Identity)
    assert "did not reach it" in found.left["norm"]


@pytest.mark.filterwarnings("ignore:the map is flat")
def test_outputs_of_recorded_layers_stay(make_images):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.body = nn.Sequential(
                nn.Sequential(nn.Conv2d(3, 6, 3)), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3)
            )
            self.norm, self.head = nn.BatchNorm2d(6), nn.Linear(6, 4)

        def forward(self, x):
            return self.head(self.norm(self.body(x)).mean(dim=(2, 3)))

    model = randomised(Wrapped())
    images, labels = make_images(model, n=5)
    for layers, left in (
        (["body.0"], {"body.1"}), (["body.0.0"], {"body.1"}), (["body"], {"norm"}), (["body.1"], set()),
        (["norm", "body.2"], set()),
    ):  # fmt: skip
        _, found = folded(model, images[:2], layers)
        assert set(found.left) == left
        plain = ff.heatmap(model, images, labels, eps=1.0, size=3, layers=layers)
        other = ff.heatmap(model, images, labels, eps=1.0, size=3, layers=layers, fold_batch_norm=True)
        for name in layers:
            np.testing.assert_allclose(other.layers[name], plain.layers[name], rtol=1e-4)
    assert other.details["fold_batch_norm"] == "2 of 2"


def test_what_cannot_be_seen_is_refused(make_net, make_images):
    net = one()

    class WeightUsed(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x) + self.net.conv.weight.sum()

    class NormUsed(WeightUsed):
        def forward(self, x):
            return self.net(x) + self.net.norm.weight.sum()

    with pytest.raises(ValueError, match="changes the logits by .* also used elsewhere"):
        folded(WeightUsed().eval(), photographs())
    with pytest.raises(ValueError, match="fails when its batch norms are folded"):
        folded(NormUsed().eval(), photographs())
    with pytest.raises(ValueError, match="it has no batch norm"):
        folded(nn.Sequential(nn.Flatten(), nn.Linear(462, 5)).eval(), photographs())


@pytest.mark.parametrize("layout", [True, False], ids=["channels_last", "contiguous"])
@pytest.mark.parametrize("options", [{}, {"clip": False, "share_stem": True}], ids=["plain", "shared stem"])
def test_a_folded_network_gives_the_same_map(make_net, make_images, options, layout):
    net = ff.NormalizedModel(make_net(), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25)).eval()
    images, labels = make_images(net, n=11)
    common = dict(eps=1.0, channels_last=layout, metrics=("loss",), **options)
    plain = ff.heatmap(net, images, labels, **common)
    fast = ff.heatmap(net, images, labels, fold_batch_norm=True, **common)
    np.testing.assert_array_equal(fast.wrong, plain.wrong)
    np.testing.assert_allclose(fast.metric("loss"), plain.metric("loss"), rtol=1e-4, atol=1e-6)
    assert plain.details["fold_batch_norm"] == "False" and fast.details["fold_batch_norm"] == "1 of 1"


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_is_as_near_with_folding_as_without(make_net, make_images, precision):
    net = make_net()
    images, labels = make_images(net, n=40)
    full = ff.heatmap(net, images, labels, eps=2.0, size=5, metrics=("loss",)).metric("loss")
    misses = [
        np.abs(
            ff.heatmap(
                net, images, labels, eps=2.0, size=5, metrics=("loss",), precision=precision, fold_batch_norm=fold
            ).metric("loss") - full
        ).mean()
        for fold in (False, True)
    ]  # fmt: skip
    assert misses[1] <= 3 * misses[0] + 1e-6


@pytest.mark.filterwarnings("ignore:the map is flat")
def test_a_checkpoint_goes_on_only_as_it_began(make_net, make_images, tmp_path):
    net = make_net()
    images, labels = make_images(net, n=8)
    path = tmp_path / "half.npz"
    ff.heatmap(net, images[:4], labels[:4], eps=2.0, size=3, checkpoint=path, fold_batch_norm=True)
    with pytest.raises(ValueError, match="rounding .fold_batch_norm=False, fold_batch_norm=True"):
        ff.heatmap(net, images, labels, eps=2.0, size=3, checkpoint=path)
    with pytest.raises(ValueError, match="rounding .*precision=bf16, precision=fp32"):
        ff.heatmap(net, images, labels, eps=2.0, size=3, checkpoint=path, fold_batch_norm=True, precision="bf16")
    whole = ff.heatmap(net, images, labels, eps=2.0, size=3, checkpoint=path, fold_batch_norm=True)
    assert whole.n_images == 8

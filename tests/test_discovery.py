"""Convolutions found in models: order, sizes, batch norms, subclasses with forwards of their own."""

from concurrent.futures import ThreadPoolExecutor

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


class Between(nn.Module):
    """conv, something, batch norm, something with both."""

    def __init__(self, between, after=lambda y, _x: y, norm=None):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), norm or nn.BatchNorm2d(4)
        self.shortcut = nn.Conv2d(3, 4, 1)
        self.norm.running_var.uniform_(0.01, 0.02)
        self.between, self.after = between, after

    def forward(self, x):
        y = self.conv(x)
        return self.after(self.norm(self.between(y, self.shortcut(x))), y)


def added(y, other):
    y += other
    return y


def through_a_view(y, _):
    y[:, :1].mul_(2)
    return y


def behind_torch(y, _):
    with torch._C._DisableTorchDispatch(), torch._C.DisableTorchFunction():
        return y.relu_()


class Louder(nn.BatchNorm2d):
    def forward(self, x):
        return 3 * super().forward(x)


class Joint(nn.BatchNorm2d):
    """Batch norm and activation in one, as timm has them."""

    def __init__(self, channels):
        super().__init__(channels)
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(super().forward(x))


NOT_FOLDED = {
    "relu in place": Between(lambda y, _: nn.ReLU(inplace=True)(y)),
    "a shortcut added in place": Between(added),
    "a view changed in place": Between(through_a_view),
    "its memory by another name": Between(lambda y, _: y.data.mul_(2) is None or y),
    "unseen by torch's functions": Between(behind_torch),
    "used again": Between(lambda y, _: y, lambda z, y: z + y),
    "a norm that does more": Between(lambda y, _: y, norm=Louder(4)),
}


@pytest.mark.parametrize("case", NOT_FOLDED)
def test_batch_norm_is_folded_only_into_what_it_takes(case):
    net = NOT_FOLDED[case].eval()
    plain, folded = (ff.singular_values(net, input_size=(3, 5, 6), fold_batch_norm=fold) for fold in (False, True))
    assert folded["conv"].norm == plain["conv"].norm
    assert ff.bottleneck(net, input_size=(3, 5, 6)).spectrum["conv"].norm == plain["conv"].norm


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(4), Joint(4)], ids=["plain", "joint"])
def test_batch_norm_that_takes_the_output_is_folded(norm):
    net = Between(lambda y, _: y, norm=norm).eval()
    folded = ff.singular_values(net, input_size=(3, 5, 6), fold_batch_norm=True)
    with torch.inference_mode():
        again = ff.singular_values(net, input_size=(3, 5, 6), fold_batch_norm=True)
        alone = ff.spectral_norm(net.conv, input_size=(5, 6), batch_norm=net.norm)
    assert folded["conv"].norm == again["conv"].norm == pytest.approx(float(alone), rel=1e-6)


def test_a_layer_that_is_called_again_says_so():
    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.norms = nn.Conv2d(2, 2, 3, padding=1), nn.ModuleList([nn.BatchNorm2d(2) for _ in range(2)])

        def forward(self, x):
            return self.norms[0](self.conv(x)).mean() + self.norms[1](self.conv(F.avg_pool2d(x, 2))).mean()

    net = Head().eval()
    reasons = {name: reason for name, _, reason in ff.singular_values(net, input_size=(2, 6, 8)).skipped}
    assert reasons["conv at 3 x 4"] == "a further input size; its row is for 6 x 8" and len(reasons) == 3
    folded = ff.singular_values(net, input_size=(2, 6, 8), fold_batch_norm=True, layers=["conv"])
    assert [name for name, _, _ in folded.skipped] == ["conv at 3 x 4", "conv before norms.1"]
    norms = [float(ff.spectral_norm(net.conv, input_size=size).detach()) for size in ((6, 8), (3, 4))]
    assert float(ff.layers.SpectralPenalty(net, input_size=(2, 6, 8)).norms()["conv"].detach()) == max(norms)


def test_layers_with_hooks_are_what_they_apply():
    net = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3)).eval()
    seen = []
    net[0].register_forward_hook(lambda _m, _x, y: seen.append(y))
    net[1].register_forward_hook(lambda _m, _x, y: 5 * y)
    spectrum = ff.singular_values(net, input_size=(3, 7, 8))
    assert list(spectrum) == ["0"] and seen
    assert spectrum.skipped[0][0] == "1" and "has hooks, and its weight alone is not" in spectrum.skipped[0][2]
    with pytest.raises(ValueError, match="has hooks"):
        ff.singular_values(net[1], input_size=(7, 8))
    with pytest.raises(ValueError, match="overrides the forward of Conv2d"):
        ff.singular_values(StandardisedConv(3, 4, 3), input_size=(7, 8))


def state(net):
    """Everything of a model that a forward pass with hooks could leave changed."""
    return [
        (name, module.training, len(module._forward_hooks), len(module._forward_pre_hooks), sorted(vars(module)))
        for name, module in net.named_modules()
    ]


def test_threads_share_a_model(make_net):
    net, images = make_net().train(), torch.rand(3, 3, 9, 8, generator=torch.Generator().manual_seed(0))
    before = state(net)

    def everything(_=None):
        result = ff.bottleneck(net, input_size=(3, 9, 8), images=images, residual=True)
        values = ff.singular_values(net, input_size=(3, 9, 8), fold_batch_norm=True)
        bound = ff.lipschitz_bound(net, input_size=(3, 9, 8))
        return repr(result.table()), repr(values.table()), bound

    alone = everything()
    with ThreadPoolExecutor(4) as pool:
        assert all(one == alone for one in pool.map(everything, range(8)))
    assert state(net) == before


def test_an_interrupted_call_leaves_the_model_as_it_was():
    class Interrupted(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.calls = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), [0]

        def forward(self, x):
            self.calls[0] += 1
            y = self.norm(self.conv(x))
            if self.stop:
                raise KeyboardInterrupt
            return y

    net = Interrupted().train()
    net.stop = True
    before = state(net)
    for function in (ff.bottleneck, ff.singular_values, ff.lipschitz_bound):
        with pytest.raises(KeyboardInterrupt):
            function(net, input_size=(3, 5, 6))
        assert state(net) == before


def test_lazy_models_say_what_to_do():
    with pytest.raises(TypeError, match="run one batch through the model first"):
        find_convolutions(nn.Sequential(nn.LazyConv2d(3, 3)), (3, 8, 8))


def test_the_penalty_compiles():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1))
    penalty = ff.layers.SpectralPenalty(net, input_size=(3, 6, 6), bound=0.5)
    plain = torch.autograd.grad(penalty(), list(net.parameters())[0])[0]
    compiled = torch.compile(lambda: penalty(), backend="aot_eager")
    torch.testing.assert_close(torch.autograd.grad(compiled(), list(net.parameters())[0])[0], plain)

"""Dictionaries written out as matrices, codes that theory finds, and what `ff.sparse_coding` sees of networks."""

import numpy as np
import pytest
import scipy.fft
import torch
from torch import nn
from torch.nn import functional as F

import fastfreq as ff
from fastfreq.features import LayeredThresholding, mutual_coherence
from fastfreq.features.coherence import stripe_counts

pytestmark = pytest.mark.usefixtures("one_thread")

CASES = {
    "plain": ((4, 2, 3, 2), 1, 1, 1),
    "stride": ((3, 2, 5, 4), (2, 3), 1, 1),
    "dilation": ((3, 1, 3, 3), 1, (2, 3), 1),
    "both": ((2, 2, 4, 5), (4, 2), (2, 3), 1),
    "groups": ((6, 1, 3, 3), (1, 2), 1, 3),
    "single": ((5, 7, 1, 1), 1, 1, 1),
    "far": ((3, 1, 2, 2), 5, 1, 1),
}


def dictionary(weight, stride, dilation, groups, places=(7, 8)):
    """((m, places), pixels) every atom on a plane without borders, from torch's own transposed convolution."""
    m = len(weight)
    codes = torch.eye(m * places[0] * places[1], dtype=torch.float64).view(-1, m, *places)
    atoms = F.conv_transpose2d(codes, weight, stride=stride, dilation=dilation, groups=groups)
    return atoms.flatten(1).numpy()


@pytest.mark.parametrize("case", CASES)
def test_coherence_and_stripes_are_those_of_the_dictionary_as_a_matrix(case):
    shape, stride, dilation, groups = CASES[case]
    torch.manual_seed(3)
    weight = torch.randn(shape, dtype=torch.float64)
    atoms = dictionary(weight, stride, dilation, groups)
    unit = atoms / np.linalg.norm(atoms, axis=1, keepdims=True)
    gram = np.abs(unit @ unit.T)
    np.fill_diagonal(gram, 0)
    mu, zero = mutual_coherence(weight, stride=stride, dilation=dilation, groups=groups)
    assert mu == pytest.approx(gram.max(), abs=1e-14) and zero == 0
    code = torch.randn(2, shape[0], 7, 8) * (torch.rand(2, shape[0], 7, 8) < 0.3)
    counts = stripe_counts(code, shape[2:], stride=stride, dilation=dilation, groups=groups)
    structure = dictionary(torch.ones(shape, dtype=torch.float64), stride, dilation, groups)
    meet = (structure @ structure.T) > 0
    expected = (meet @ (code.flatten(1) != 0).double().numpy().T).T.reshape(2, groups, -1, 7, 8)
    np.testing.assert_array_equal(counts.numpy(), expected[:, :, 0])  # atoms of one place and group meet the same
    np.testing.assert_array_equal(expected, np.repeat(expected[:, :, :1], expected.shape[2], axis=2))


def test_coherence_of_equal_orthogonal_and_zero_filters():
    weight = torch.zeros(3, 1, 2, 2)
    weight[0, 0, 0, 0], weight[1, 0, 1, 1] = 2.0, -5.0
    assert mutual_coherence(weight, stride=2) == (0.0, 1)
    assert mutual_coherence(weight) == (1.0, 1)  # one is the other, elsewhere
    assert mutual_coherence(weight.half() * 1e-4)[0] == 1.0
    for bad in (torch.full((1, 1, 2, 2), torch.nan), torch.zeros(2, 3)):
        with pytest.raises(ValueError, match="expected"):
            mutual_coherence(bad)


# ---------------------------------------------------------------- layered thresholding
def test_supports_are_found_where_theory_says_so():
    """Points and cosines, 256 numbers: mu = sqrt(2 / 256), so 6 non-zeros of size 1 are always found."""
    n = 256
    atoms = np.concatenate([np.eye(n), scipy.fft.dct(np.eye(n), norm="ortho", axis=0).T])
    weight = torch.from_numpy(atoms)[:, :, None, None]
    mu, _ = mutual_coherence(weight)
    assert mu == pytest.approx(np.sqrt(2 / n), rel=1e-3)
    rng = np.random.default_rng(5)
    for rule, k in (("hard", 6), ("soft", 6)):
        assert k < 0.5 * (1 + 1 / mu)
        net = LayeredThresholding([weight], [0.5], rule=rule)
        codes = np.zeros((200, 2 * n))
        for row in codes:
            row[rng.choice(2 * n, k, replace=False)] = rng.choice([-1, 1], k)
        code = torch.from_numpy(codes)[:, :, None, None]
        found = net(net.synthesis(code)).detach()
        assert torch.equal(found != 0, code != 0) and torch.equal(found.sign(), code.sign())


def test_a_network_of_convolutions_and_relu_is_layered_thresholding():
    torch.manual_seed(0)
    first, second = nn.Conv2d(2, 5, 3, stride=2, padding=1), nn.Conv2d(5, 4, (2, 3))
    net = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())
    same = LayeredThresholding(
        [first.weight, second.weight], [-first.bias, -second.bias], strides=(2, 1), paddings=(1, 0)
    )
    x = torch.randn(3, 2, 13, 10, requires_grad=True)
    torch.testing.assert_close(same(x), net(x))
    assert [tuple(code.shape[1:]) for code in same.codes(x)] == [(5, 7, 5), (4, 6, 3)]
    same(x).sum().backward()
    assert x.grad is not None and same.atoms[0].grad is not None and len(same.state_dict()) == 4
    z, y = torch.randn(3, 5, 7, 5), torch.randn(3, 2, 13, 9)
    synthesis = same.synthesis(z, layers=1)
    torch.testing.assert_close((synthesis * y).sum(), (F.conv2d(y, first.weight, stride=2, padding=1) * z).sum())


def test_rules_and_refusals():
    one = torch.ones(1, 1, 1, 1)
    x = torch.tensor([-2.0, -0.5, 0.5, 2.0]).view(1, 1, 1, 4)
    for rule, expected in (
        ("soft_nonnegative", [0, 0, 0, 1]), ("soft", [-1, 0, 0, 1]), ("hard", [-2, 0, 0, 2])
    ):  # fmt: skip
        assert LayeredThresholding([one], [1.0], rule=rule)(x).flatten().tolist() == expected
    for words in (
        {"atoms": [one], "thresholds": [1.0], "rule": "other"},
        {"atoms": [], "thresholds": []},
        {"atoms": [one, torch.ones(1, 2, 1, 1)], "thresholds": [1, 1]},
        {"atoms": [one], "thresholds": [torch.ones(2)]},
        {"atoms": [one], "thresholds": [1.0], "strides": (1, 1)},
    ):
        with pytest.raises(ValueError, match="expected"):
            LayeredThresholding(words.pop("atoms"), words.pop("thresholds"), **words)


# ---------------------------------------------------------------- networks
class Watched(nn.Module):
    """Codes of its own, of another's sum in place and not, after a change, and unreached."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6)
        self.second, self.third = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 1)
        self.fourth, self.never = nn.Conv2d(6, 4, 3, dilation=2), nn.Conv2d(6, 4, 3)

    def forward(self, x):
        x = F.relu(self.norm(self.first(x)), inplace=True)
        y = self.second(x)
        y += x
        x = torch.relu(y)
        x = torch.relu(self.third(x) + x)
        return F.leaky_relu(self.fourth(x)).mean(dim=(2, 3))


def test_codes_are_those_of_activations_that_take_a_convolutions_own_output():
    torch.manual_seed(0)
    net = Watched().eval()
    with torch.no_grad():
        net.norm.running_var.uniform_(0.5, 2)
        net.norm.bias.fill_(-0.5)
    x = torch.randn(7, 3, 15, 18)
    found = ff.sparse_coding(net, x, batch_size=3)
    assert list(found.layers) == ["first", "second", "third", "fourth"]
    assert found.skipped == (("never", "the forward pass did not reach it"),)
    assert [layer.activation for layer in found.layers.values()] == ["relu", "", "", "leaky_relu"]
    assert "added to another" in found.layers["second"].reason and np.isnan(found.layers["second"].unique)
    first = found.layers["first"]
    code = F.relu(net.norm(net.first(x))).detach()
    counts = stripe_counts(code, (3, 3), stride=2)
    np.testing.assert_array_equal(first.stripes, counts.amax(dim=(1, 2, 3)))
    np.testing.assert_allclose(first.mean_stripes, counts.mean(dim=(1, 2, 3)))
    np.testing.assert_allclose(first.density, (code > 0).double().mean(dim=(1, 2, 3)))
    assert first.coherence == mutual_coherence(net.first.weight, stride=2)[0] and first.stripe_size == 6 * 9
    assert (
        first.bound == 0.5 * (1 + 1 / first.coherence)
        and first.unique == 0
        and found.layers["fourth"].density.min() == 1
    )
    whole = ff.sparse_coding(net, x.double())
    assert whole.layers["first"].coherence == pytest.approx(first.coherence, abs=1e-7)


def test_a_layer_that_runs_again_has_the_codes_of_each_use():
    class Again(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.added = nn.Conv2d(3, 3, 3, padding=1), False

        def forward(self, x):
            first = self.conv(x) + x if self.added else self.conv(x)
            return F.relu(self.conv(F.relu(first))).mean(dim=(2, 3))

    torch.manual_seed(0)
    net, x = Again().eval(), torch.randn(5, 3, 9, 8)
    found = ff.sparse_coding(net, x, batch_size=2)
    assert list(found.layers) == ["conv", "conv (use 2)"]
    net.added = True
    other = ff.sparse_coding(net, x).layers
    assert "added to another" in other["conv"].reason and other["conv (use 2)"].activation == "relu"
    with torch.no_grad():
        first = F.relu(net.conv(x))
        second = F.relu(net.conv(first))
    for name, code in (("conv", first), ("conv (use 2)", second)):
        np.testing.assert_allclose(found.layers[name].density, (code > 0).double().mean(dim=(1, 2, 3)))
        np.testing.assert_array_equal(found.layers[name].stripes, stripe_counts(code, (3, 3)).amax(dim=(1, 2, 3)))
    assert found.layers["conv"].coherence == found.layers["conv (use 2)"].coherence


def test_a_code_that_is_sparse_enough_is_told(tmp_path):
    """Orthogonal filters and one bright pixel: one non-zero, and the bound is infinite."""
    net = nn.Sequential(nn.Conv2d(2, 2, 1, bias=False), nn.ReLU(), nn.Flatten())
    net[0].weight.data = torch.eye(2)[:, :, None, None]
    x = torch.zeros(2, 2, 5, 6)
    x[0, 1, 2, 3] = 1.0
    found = ff.sparse_coding(net.eval(), x)
    layer = found.layers["0"]
    assert layer.coherence == 0 and layer.bound == np.inf and layer.stripes.tolist() == [1, 0]
    assert layer.unique == 1 and layer.found == 1 and "1 of 1 layers" in found.headline()
    found.save(tmp_path / "a.npz")
    assert repr(ff.load(tmp_path / "a.npz").table()) == repr(found.table()) and found.plot().axes


def test_arguments_are_refused(make_net):
    net = make_net()
    for images, message in (
        (torch.zeros(0, 3, 8, 8), "at least one"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "floats"),
        (torch.full((1, 3, 8, 8), torch.nan), "finite"),
    ):
        with pytest.raises(ValueError, match=message):
            ff.sparse_coding(net, images)
    with pytest.raises(ValueError, match="train mode"):
        ff.sparse_coding(make_net().train(), torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="found none"):
        ff.sparse_coding(nn.Flatten().eval(), torch.zeros(1, 3, 8, 8))

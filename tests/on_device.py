"""Every measurement on an emulated device; `test_emulated_device.py` runs this file where kernels are interpreted."""

from __future__ import annotations

import warnings

import fastfreq_kernels
import pytest
import torch
import torch.utils._pytree as tree

import fastfreq as ff
from tests.contract import subjects
from tests.contract.conftest import quiet  # noqa: F401 - a fixture
from tests.contract.table import BY_NAME, TABLE, Row
from tests.emulated_device import emulated
from tests.kernels.calls import CALLS, placed

# what a card would show and this cannot
CANNOT = {
    "compile": "torch.compile generates code for devices that are there",
    "speed": "batch sizes and layouts that are timed are those of the CPU",
    "memory": "a device's memory is the host's; tests of running out of it make networks say so",
    "rounding": "arithmetic is the CPU's, so TF32, cuDNN's and cuFFT's rounding do not show",
    "random numbers": "torch's generator of a device is the CPU's, another one than a card's",
    "threads": "what one thread does is emulated; the device is not there in others",
}
# interpreted eigenvalue kernels take a second for twenty matrices
SMALLER = {
    "singular_values": {"input_size": (3, 3, 2), "layers": ("stem",)},
    "bottleneck": {"input_size": (3, 3, 2), "layers": ("stem",)},
}
LESS = {"invariance": {"fixed": ()}}  # and wavelets of many images as long; `dwt2` is among the operations
rows = pytest.mark.parametrize("row", TABLE, ids=[row.name for row in TABLE])


@pytest.fixture
def log():
    """What happens on the devices."""
    with emulated() as log:
        yield log


def on(device: str, row: Row, **options):
    """A measurement on a device; where it has no option for that, of a model and images that are there."""
    model, images, labels = subjects.network(), subjects.images(), subjects.labels()
    options = {**LESS.get(row.name, {}), **options}
    if row.name in SMALLER:
        options, images = {**SMALLER[row.name], **options}, images[..., :3, :2]
    if "device" not in row.cannot:
        return row.measure(model, images, labels, device=device, **options)
    return row.measure(model.to(device), images.to(device), labels.to(device), **options)


# ---------------------------------------------------------------- the contract's rows
WITHOUT_GRAPHS = {
    "gradient_heatmap": "is differentiated",
    "adversarial_spectrum": "is differentiated",
    "post_averaging_curve": "is differentiated",
    **dict.fromkeys(("feature_spectra", "invariance"), "reads every layer in one pass, and checks each"),
    **dict.fromkeys(("image_spectrum", "difference_spectrum", "approximation_curve"), "runs no network"),
    **dict.fromkeys(("singular_values", "filters", "bottleneck"), "is of the weights"),
    **dict.fromkeys(("maximize", "invert"), "searches by gradients"),
    "top_patches": "watches a layer of the network as it is",
    "downsampling": "times the networks as they are",
    "sparse_coding": "watches the network as it is",
}


@rows
def test_a_second_device_gives_the_cpus_numbers(row, log):
    expected = row.numbers(on("cpu", row))
    log.clear()
    log.stream = torch.cuda.Stream("cuda:0")  # something was captured on the first device before
    found = row.numbers(on("cuda:1", row))
    subjects.assert_same_outcomes(found, expected)
    assert all(log.captured) and bool(log.replays) == (row.name not in WITHOUT_GRAPHS)


MOVED = [row for row in TABLE if "device" not in row.cannot]


@pytest.mark.parametrize("row", MOVED, ids=[row.name for row in MOVED])
def test_models_and_images_may_be_on_a_device_already(row):
    less = LESS.get(row.name, {})
    expected = row.numbers(row.plain(**less))
    with emulated():
        data = [tensor.to("cuda:1") for tensor in (subjects.images(), subjects.labels())]
        found = row.numbers(row.measure(subjects.network().to("cuda:1"), *data, **less))
    subjects.assert_same_outcomes(found, expected)


# ---------------------------------------------------------------- arithmetic
@pytest.mark.parametrize("row", [BY_NAME[name] for name in ("noise_curve", "gradient_heatmap", "corruption_report")])
def test_tf32_is_asked_for_by_name_and_recorded(log, row):
    seen = []
    subjects.EVENTS.on_call = lambda: seen.append(torch.backends.cudnn.conv.fp32_precision)
    found = on("cuda", row, precision="tf32")
    assert seen[0] == "ieee" and seen[-1] == "tf32" and torch.backends.cudnn.conv.fp32_precision == "tf32"
    assert "precision=tf32" in found.model.numerics and found.details["precision"] == "tf32"
    with pytest.raises(ValueError, match="precision=fp32, precision=tf32"):
        _ = found + on("cuda", row, first_image=100)


def test_changes_to_the_network_are_checked_in_ieee_arithmetic(log):
    seen = []
    subjects.EVENTS.on_call = lambda: seen.append(torch.backends.cudnn.conv.fp32_precision)
    on("cuda", BY_NAME["heatmap"], layers=(), clip=False, share_stem=True, fold_batch_norm=True, precision="tf32")
    ieee = len(seen) - seen[::-1].index("ieee")
    assert ieee >= 7 and set(seen[:ieee]) == {"ieee"} and set(seen[ieee:]) == {"tf32"}


# ---------------------------------------------------------------- graphs
STEM = {"layers": (), "clip": False, "share_stem": True}


def test_a_shared_first_layer_leaves_the_rest_of_the_network_to_a_graph(log):
    row = BY_NAME["heatmap"]
    expected = row.numbers(row.plain(**STEM))
    subjects.EVENTS.reset()
    found = on("cuda", row, **STEM)
    subjects.assert_same_outcomes(row.numbers(found), expected)
    assert log.replays >= len(found.frequencies) and subjects.EVENTS.calls < 30


def test_running_out_of_memory_lets_graphs_go_and_captures_smaller_ones(log):
    row = BY_NAME["heatmap"]
    expected = row.numbers(row.plain())
    subjects.EVENTS.largest = 5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = on("cuda", row, batch_size=12)
    assert all(log.captured) and log.replays
    subjects.assert_same_outcomes(row.numbers(found), expected)


class Forgetful(subjects.Net):
    """Runs on another device than it is asked to: what a graph is captured of is empty."""

    def forward(self, x):
        with torch.cuda.device("cuda:0"):
            return super().forward(x)


def test_an_empty_graph_is_not_believed(log):
    row = BY_NAME["noise_curve"]
    found = row.plain(subjects.network(Forgetful), device="cuda:1")
    assert set(log.captured) == {1} and log.replays <= 4 * len(log.captured)  # the copy of the logits, and the check
    subjects.assert_same_outcomes(row.numbers(found), row.numbers(row.plain()))


# ---------------------------------------------------------------- batches
LARGE = {
    "heatmap": {**STEM, "frequencies": [(0, 1)]},
    "gradient_heatmap": {"size": (1, 3), "class_maps": False},
}  # the other two, attacks, make noise of whole images, which takes the interpreter ten seconds


@pytest.mark.parametrize("name", LARGE)
def test_batches_that_spare_a_cpus_cache_are_larger_on_a_device(log, name):
    images = torch.rand(2, 3, 129, 130, generator=torch.Generator().manual_seed(0))
    row, model, labels = BY_NAME[name], subjects.network(), torch.tensor([0, 1])
    on_cpu, found = (row.measure(model, images, labels, device=each, **LARGE[name]) for each in ("cpu", "cuda"))
    assert on_cpu.details["batch_size"] == "8" and found.details["batch_size"] == "64"


def test_a_heat_map_hands_its_kernel_images_laid_out_as_its_output(log):
    for images in (subjects.images(), subjects.pixels()):
        log.clear()
        BY_NAME["heatmap"].measure(subjects.network(), images, subjects.labels(), device="cuda", channels_last=True)
        perturb = [launch.arguments for launch in log.launches if launch.kernel.__name__ == "perturb_kernel"]
        loop = [each for each in perturb if each["CHANNELS_LAST"]]
        assert loop and all(each["images"].dtype == torch.float32 for each in loop)
        assert max(each["f"] for each in loop) > 1  # images are read once for several frequencies


# ---------------------------------------------------------------- waiting
MORE = {  # the same with a few conditions and with more
    "heatmap": ({"size": (1, 3)}, {"size": (3, 3)}),
    "filter_curve": ({"bandwidths": (2,)}, {"bandwidths": (2, 3)}),
    "noise_curve": ({"bandwidths": (2,)}, {"bandwidths": (2, 3)}),
    "critical_band": ({"deviations": (0.1,)}, {"deviations": (0.1, 0.2)}),
    "dominant_frequencies": ({"size": (3, 3)}, {"size": (5, 5)}),
    "component_curves": ({"radii": (2,)}, {"radii": (2, 3, 4)}),
}


@pytest.mark.parametrize("name", MORE)
def test_no_forward_pass_waits_for_the_one_before_it(log, name):
    waits = []
    for options in MORE[name]:
        log.clear()
        on("cuda", BY_NAME[name], batch_size=4, channels_last=True, **options)
        waits.append(log.waits)
    assert sorted(waits[0]) == sorted(waits[1])


def test_the_values_of_all_layers_come_in_one_copy(log):
    net = torch.nn.Sequential(*(torch.nn.Conv2d(2, 2, 3, padding=1) for _ in range(3))).to("cuda")
    waits = []
    for layers in (["0"], ["0", "1", "2"]):
        log.clear()
        ff.singular_values(net, input_size=(2, 3, 3), layers=layers)
        waits.append(len(log.waits))
    assert waits[1] - waits[0] <= 2 * 3  # finite weights, their largest, the layer's frequencies


# ---------------------------------------------------------------- augmentation
def test_a_batch_is_augmented_in_one_launch(log):
    augment, keys = ff.FourierAugmentation(eps=(0.1, 1.0), band=(1, 4), probability=0.7), torch.arange(6)
    images = subjects.images()[:6]
    expected = augment(images, keys=keys)
    there = images.to("cuda:1")
    augment(there, keys=keys)
    log.clear()
    found = augment(there, keys=keys)
    assert [launch.kernel.__name__ for launch in log.launches] == ["gaussian_kernel", "waves_kernel"]
    assert all("checks.py" in each for each in log.waits)  # that the pixels are in [0, 1]
    assert torch.equal((found.cpu() != images).flatten(1).any(1), (expected != images).flatten(1).any(1))
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=2e-6)


# ---------------------------------------------------------------- the device itself
def test_devices_do_not_mix(log):
    here, there = torch.ones(3, device="cuda"), torch.ones(3, device="cuda:1")
    for other in (there, torch.ones(3)):
        with pytest.raises(RuntimeError, match="on the same device"):
            _ = here + other
    assert (here + torch.tensor(1.0)).device == torch.device("cuda", 0) and not log.waits
    with pytest.raises(TypeError, match="convert cuda:1"):
        there.numpy()


@pytest.mark.parametrize(
    "read", [torch.Tensor.cpu, float, bool, torch.nonzero, torch.Tensor.tolist, lambda x: x[x > 0]], ids=str
)
def test_what_waits_is_logged(log, read):
    one = torch.ones(1, device="cuda")
    assert not log.waits
    read(one)
    assert log.waits


def test_a_graph_replays_what_was_done_on_its_device_alone(log):
    held, other = torch.ones(3, device="cuda"), torch.ones(3, device="cuda:1")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        twice, _ = (held + 1).mul_(2), other.add_(1)
        with pytest.raises(RuntimeError, match="is capturing"):
            twice.tolist()
    held.fill_(2)
    graph.replay()
    assert log.captured == [2] and twice.tolist() == [6, 6, 6] and other.tolist() == [2, 2, 2]


# ---------------------------------------------------------------- kernels do not wait
@pytest.mark.parametrize(
    ("name", "arguments", "options"), CALLS, ids=[f"{i} {name}" for i, (name, _, _) in enumerate(CALLS)]
)
def test_operations_run_on_their_device_and_do_not_wait(log, name, arguments, options):
    operation = getattr(fastfreq_kernels, name)
    expected = operation(*arguments, **options)
    there, settings = placed(name, arguments, options, "cuda:1")
    operation(*there, **settings)  # tables by size of the images come from the host once
    log.clear()
    found = operation(*there, **settings)
    assert not log.waits and (log.launches or name == "ring_moments")
    for one, other in zip(tree.tree_leaves(found), tree.tree_leaves(expected), strict=True):
        torch.testing.assert_close(one.cpu(), other, rtol=1e-4, atol=1e-5)

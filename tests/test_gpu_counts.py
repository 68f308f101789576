"""What `benchmarks/gpu/counts.py` counts, asked of the dispatcher and of the layers' own code."""

import pytest
import torch
from gpu.counts import floor, layers_of, shares, together_ms
from networks import residual_network


def test_layers_of_one_side_are_one_launch():
    layers, launches = layers_of(residual_network("resnet20"), (3, 32, 32), "high")
    share = shares(layers)
    assert len(layers) == 22 and share["matrices_own"] == share["arithmetic_own"] == 1
    assert sorted(launch["side"] for launch in launches) == [3, 10, 16, 32, 64]
    assert sum(launch["matrices"] for launch in launches) == sum(
        count for one in layers for _, _, count, _ in one.wants
    )


@pytest.mark.slow
@pytest.mark.parametrize("accuracy", ["high", "fast"])
def test_our_kernels_take_a_resnet_50(accuracy):
    layers, launches = layers_of(residual_network("resnet50"), (3, 224, 224), accuracy)
    share = shares(layers)
    assert len(layers) == 54 and share["by_formula"] == 0
    assert share["matrices_own"] >= 0.95 and share["arithmetic_own"] >= 0.8
    assert sum(launch["matrices"] for launch in launches) >= 13_876
    assert together_ms(launches) > 0
    if accuracy == "high":  # one launch for each side
        assert len(launches) == len({launch["side"] for launch in launches}) == 7


def test_floors_grow_with_what_is_asked():
    for dtype in (torch.float32, torch.float64):
        for side in (8, 64, 65, 256, 1000):
            one, more = floor(side, dtype, 100, side), floor(side, dtype, 1000, side)
            assert 0 < one.seconds <= more.seconds and more.bytes == pytest.approx(10 * one.bytes)
    assert floor(256, torch.float32, 100, 256).bytes == pytest.approx(256**3 * 16 / 3 * 100)

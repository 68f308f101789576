"""A loader without images: every measurement says so, and none returns a number."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import fastfreq as ff

MEASUREMENTS = {
    "heatmap": lambda net, data: ff.heatmap(net, data, eps=1.0),
    "gradient_heatmap": ff.gradient_heatmap,
    "filter_curve": ff.filter_curve,
    "noise_curve": lambda net, data: ff.noise_curve(net, data, norm=1.0),
    "component_curves": ff.component_curves,
    "critical_band_masking": ff.critical_band,
    "dominant_frequencies": ff.dominant_frequencies,
    "feature_spectra": ff.feature_spectra,
    "invariance": ff.invariance,
    "corruption_report": lambda net, data: ff.corruption_report(net, data, corruptions={"same": lambda x, s: x}),
    "adversarial_spectrum": lambda net, data: ff.adversarial_spectrum(net, data, attack=ff.FGSM(0.1)),
    "fourier_attack": lambda net, data: ff.fourier_attack(net, data, eps=1.0),
    "image_spectrum": lambda net, data: ff.image_spectrum(data),
    "difference_spectrum": lambda net, data: ff.difference_spectrum(data, lambda x: 1 - x),
}


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_a_loader_without_images_is_refused(name, make_net):
    empty = TensorDataset(torch.zeros(0, 3, 9, 12), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match="at least one image, got none"):
        MEASUREMENTS[name](make_net(), DataLoader(empty, batch_size=4))

"""Yin et al. 2019, Figures 2 and 6: spectra of images and corruptions, and what training gains against frequency.

    python benchmarks/reproductions/yin2019_figure2_and_6.py --data cifar10.npz \\
        --network natural nets.py:resnet20 natural.safetensors --network adversarial nets.py:robust robust.safetensors

The first network is the baseline of the others. Figure 2: E|F(X)| and, at severity 3, E|F(C(X) - X)|. Figure 6: the
accuracy gained over the baseline under each corruption, mean over severities 1 to 5, against the share of the
corruption's energy at high frequencies, with the slope k and the residual sum of squares r of the line.

Corruptions are those of the package imagecorruptions-imaug 1.1.5: ImageNet-C's constants, harsher at 32 x 32 than those
of CIFAR-10-C, which the paper uses with WideResNet-28-10. Tried with NumPy 2.4: it makes all 19. imagecorruptions 1.1.2
does not import (pkg_resources is gone from setuptools), imagenet-c 0.0.3 needs wand and ImageMagick.

Checked, as published: natural images fall off with frequency; noise is white (0.70 to 0.71 of its energy is high) and
fog and contrast lie low, below a quarter of noise's share; adversarial training gains the more the higher a corruption
(k > 0) and loses under fog and contrast. The published k and r are those of other networks and milder corruptions.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

import fastfreq as ff
from fastfreq import plots
from fastfreq.inputs.corruption_report.result import CorruptionReport
from fastfreq.inputs.corruption_sources import COMMON_CORRUPTIONS
from fastfreq.inputs.spectra import Spectrum
from fastfreq.plots import spectra as spectra_plots
from fastfreq.results import store

CORRUPTIONS = (*COMMON_CORRUPTIONS, "speckle_noise", "gaussian_blur")
NOISES = ("gaussian_noise", "shot_noise", "speckle_noise")
LOW = ("fog", "contrast")
PUBLISHED_NOISE = "0.70 to 0.71"
PUBLISHED = {  # Figure 6: network -> slope k, residual sum of squares r
    "gaussian": (0.52, 0.11),
    "adversarial": (0.35, 0.05),
    "autoaugment": (0.16, 0.08),
}


def figure2(images: torch.Tensor, corruptions: list[str], seed: int) -> dict[str, Spectrum]:
    """Mean magnitudes of the images and of what each corruption of severity 3 changes."""
    found = {"images": ff.image_spectrum(images)}
    for name in corruptions:
        found[name] = ff.difference_spectrum(images, ff.common_corruption(name, 3, seed=seed), name=name)
        print(f"{name}: {exponent(found[name])}", flush=True)
    return found


def exponent(result: Spectrum) -> str:
    """The power law of a spectrum, in words."""
    fit = result.slope()
    return f"falls as 1 / f^{fit.alpha:.2f} [{fit.low:.2f}, {fit.high:.2f}]"


def figure6(report: CorruptionReport, name: str) -> dict[str, Any]:
    """Slope and residual beside the published ones, and the figures of every corruption."""
    fit = report.fit()
    k, r = PUBLISHED.get(name, (None, None))
    return {
        "clean accuracy": round(report.clean_accuracy, 3),
        "slope k": round(fit.slope, 3),
        "slope k, 95 % interval": [round(fit.low, 3), round(fit.high, 3)],
        "slope k, published": k,
        "residual r": round(fit.residual, 3),
        "residual r, published": r,
        "corruptions": [
            {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()}
            for row in report.summary()
        ],
    }


def checked(report: CorruptionReport, images: Spectrum) -> dict[str, bool]:
    """The published claims that can be checked, by name."""
    share = dict(zip(report.corruptions, report.high_fraction.tolist(), strict=True))
    gain = dict(zip(report.corruptions, report.gain_interval()[1].tolist(), strict=True))
    fit = report.fit()
    claims = {
        "images fall off with frequency": images.slope().low > 0.5,
        "noise is white": all(abs(share[name] - 0.705) < 0.02 for name in NOISES if name in share),
        "fog and contrast lie low": all(share[name] < 0.705 / 4 for name in LOW if name in share),
        "the gain grows with the high fraction": fit.low > 0,
    }
    return claims | {f"loses under {name}": gain[name] < 0 for name in LOW if name in gain}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--network", nargs=3, action="append", required=True, metavar=("NAME", "SPEC", "WEIGHTS"))
    parser.add_argument("--corruptions", nargs="+", default=list(CORRUPTIONS))
    parser.add_argument("--severities", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("figure2_and_6"))
    options = parser.parse_args()
    models = {name: ff.load_model(spec, weights=weights).model for name, spec, weights in options.network}
    data = ff.load_data(options.data, limit=options.limit)
    spectra = figure2(torch.cat([images for images, _ in data]), options.corruptions, options.seed)
    (base, baseline), *others = models.items()
    text: dict[str, Any] = {"images": options.limit, "severities": options.severities, "baseline": base}
    text["high fraction of noise, published"] = PUBLISHED_NOISE
    text["exponent of the images"] = exponent(spectra["images"])
    text["exponents at severity 3"] = {name: exponent(spectra[name]) for name in options.corruptions}
    for name, model in others:
        report = ff.corruption_report(
            model,
            data,
            corruptions=options.corruptions,
            severities=options.severities,
            baseline=baseline,
            seed=options.seed,
            progress=True,
        )
        report = dataclasses.replace(report, details={**report.details, "model": name, "baseline": base})
        text[name] = figure6(report, name) | {"reproduced": checked(report, spectra["images"])}
        print(json.dumps(text[name], indent=1), flush=True)
        report.save(options.out / f"figure6_{name}.npz")
        plots.save_png(report.plot(), options.out / f"figure6_{name}.png")
    store.write_text(options.out / "figure2_and_6.json", json.dumps(text, indent=2) + "\n")
    plots.save_png(spectra_plots.plot_many(spectra), options.out / "figure2.png")


if __name__ == "__main__":
    main()

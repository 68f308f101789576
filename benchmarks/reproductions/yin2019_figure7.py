"""Yin et al. 2019, Figure 7: spectra of adversarial perturbations, natural against adversarial training.

    python benchmarks/reproductions/yin2019_figure7.py --data cifar10.npz \\
        --network natural nets.py:resnet20 natural.safetensors --network adversarial nets.py:robust robust.safetensors

E|F(C(X) - X)| over the images that end up misclassified, C being FGSM, PGD in L-inf and PGD in L2. The paper shows PGD
on CIFAR-10 and names neither its radius nor its steps; it has no figures, only maps.

Checked, as published: what fools the naturally trained network is spread over the frequencies, what fools the
adversarially trained one lies at low ones. With alpha the exponent of 1 / f^alpha, 0 for white noise, the natural one's
interval lies below the adversarial one's, under every attack.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import fastfreq as ff
from fastfreq import plots
from fastfreq.inputs.adversarial_spectrum import AdversarialSpectrum
from fastfreq.plots import spectra as spectra_plots
from fastfreq.results import store
from fastfreq.vocabulary import fourier, statistics

NATURAL, ADVERSARIAL = "natural", "adversarial"


def attacks(eps: float, eps_l2: float, steps: int) -> dict[str, ff.FGSM | ff.PGD]:
    """Those that are drawn, by name."""
    return {"FGSM": ff.FGSM(eps), "PGD L-inf": ff.PGD(eps, steps=steps), "PGD L2": ff.PGD(eps_l2, "l2", steps=steps)}


def figures(result: AdversarialSpectrum) -> dict[str, object]:
    """Accuracy after the attack, the exponent, and how much of the magnitude is low, each beside white noise's."""
    low, high = statistics.wilson(result.seen - result.count, result.seen)
    found: dict[str, object] = {"accuracy": round(1 - result.count / result.seen, 3)}
    found["accuracy, 95 % interval"] = [round(float(low), 3), round(float(high), 3)]
    if not result.count:
        return found
    fit = result.slope()
    radius = fourier.radius(fourier.centred_grid(result.map.shape), result.map.shape)
    inside = radius <= min(result.map.shape) / 8
    found["alpha"] = round(fit.alpha, 3)
    found["alpha, 95 % interval"] = [round(fit.low, 3), round(fit.high, 3)]
    found["mean |F| up to an eighth, over the mean of all"] = round(
        float(result.map[inside].mean() / result.map.mean()), 3
    )
    return found


def checked(spectra: dict[str, AdversarialSpectrum]) -> bool | None:
    """Whether the natural network's exponent lies below the adversarial one's, intervals apart; None without both."""
    if not all(name in spectra and spectra[name].count > 1 for name in (NATURAL, ADVERSARIAL)):
        return None
    return spectra[NATURAL].slope().high < spectra[ADVERSARIAL].slope().low


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--network", nargs=3, action="append", required=True, metavar=("NAME", "SPEC", "WEIGHTS"))
    parser.add_argument("--eps", type=float, default=8 / 255, help="of FGSM and L-inf PGD")
    parser.add_argument("--eps-l2", type=float, default=0.5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("figure7"))
    options = parser.parse_args()
    text: dict[str, object] = {"images": options.limit, "eps": options.eps, "eps, L2": options.eps_l2}
    text["steps"] = options.steps
    drawn: dict[str, AdversarialSpectrum] = {}
    models = {name: ff.load_model(spec, weights=weights).model for name, spec, weights in options.network}
    for title, attack in attacks(options.eps, options.eps_l2, options.steps).items():
        spectra = {}
        for name, model in models.items():
            data = ff.load_data(options.data, limit=options.limit)
            spectra[name] = ff.adversarial_spectrum(model, data, attack=attack, progress=True)
            print(name, title, figures(spectra[name]), flush=True)
        drawn |= {f"{name}, {title}": result for name, result in spectra.items() if result.count}
        text[title] = {name: figures(result) for name, result in spectra.items()}
        text[title] |= {"reproduced": checked(spectra)}
    store.write_text(options.out / "figure7.json", json.dumps(text, indent=2) + "\n")
    plots.save_png(spectra_plots.plot_many(drawn), options.out / "figure7.png")


if __name__ == "__main__":
    main()

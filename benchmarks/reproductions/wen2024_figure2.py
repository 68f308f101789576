"""Wen and Jacot 2024, Figure 2: an autoencoder of MNIST's zeros keeps few directions; phases encode position.

    python benchmarks/reproductions/wen2024_figure2.py --images t10k-images-idx3-ubyte.gz \\
        --labels t10k-labels-idx1-ubyte.gz

Published: 13 x 13, 12 layers of 50 channels, lambda 0.04, beta 1; the kept singular values are directions in which
zeros vary, the arguments of those that are not constant their position along x and y.
Scaled, to take minutes on one core: 9 layers of 12 channels on the zeros of the 10,000 test images (the last 100 held
out), cropped to 26 x 26 and mean-pooled; lambda 0.01 beside a loss that is the mean over pixels.

Position is the place of the digit's mass on the circle. MNIST is centred: it is measured on held-out images moved by
random whole pixels, and on the same images as they are, where it varies by fractions of a pixel. On moved images a
network that commutes with translations cannot but do well as far as it keeps the frequency; the others are the test.
The correlation is the root of R^2 of position = +-phase + constant, both as angles: no slope is fitted.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from wen2024_training import Claim, circular_fit, conclude, first_phase, gaps, options, read_idx, train_as_chosen

from fastfreq import plots
from fastfreq.layers.bottleneck import bottleneck
from fastfreq.layers.cyclic import CyclicNet
from fastfreq.layers.editing import edit_latent, latent_coefficients

PUBLISHED = "13 x 13, 12 layers of 50 channels, lambda 0.04, beta 1; phases of the kept directions encode position"
SIZE = (13, 13)
AXES = {"y": (1, 0), "x": (0, 1)}


def move(images: Tensor, seed: int) -> Tensor:
    rng = np.random.default_rng(seed)
    shifts = [tuple(int(pixels) for pixels in rng.integers(SIZE)) for _ in images]
    return torch.stack([torch.roll(x, shift, dims=(1, 2)) for x, shift in zip(images, shifts, strict=True)])


def turn(net: CyclicNet, layer: str, images: Tensor, axis: int) -> float:
    """Degrees, 0 to 180, that the output turns by at an axis's first frequency when the latent one is turned by 90."""
    edit = edit_latent(net, layer, images, frequency=list(AXES.values())[axis], factor=1j)
    before, after = first_phase(edit.outputs[:, 0], axis), first_phase(edit.edited[0][:, 0], axis)
    return float(np.degrees(np.abs(np.angle(np.exp(1j * (after - before)).mean()))))


def main() -> None:
    chosen = options(__doc__ or "", steps=1200, layers=9, decay=0.01, gain=1.15, mnist=True)
    pixels = read_idx(chosen.images)[read_idx(chosen.labels) == 0][:, 1:27, 1:27].astype(np.float32) / 255
    images = torch.nn.functional.avg_pool2d(torch.from_numpy(pixels)[:, None], 2)
    known, test = images[:-100], images[-100:]
    net = CyclicNet([1, *[chosen.channels] * (chosen.layers - 1), 1], SIZE, beta=1.0)

    def batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = known[torch.randint(len(known), (chosen.batch,), generator=generator)]
        return x, x

    seconds = train_as_chosen(net, batch, torch.nn.functional.mse_loss, chosen)
    with torch.no_grad():
        error = ((net(test) - test).square().mean() / (known.mean(dim=0) - test).square().mean()).item()
    result = bottleneck(net, input_size=(1, *SIZE))
    layer = result.middle[len(result.middle) // 2]
    kept = result.kept_frequencies(layer)
    fits, turns = {}, {}
    for axis, (name, frequency) in enumerate(AXES.items()):
        for kind, shown in (("moved", move(test, chosen.seed)), ("as they are", test)):
            phase = np.angle(latent_coefficients(net, layer, shown, frequency=frequency).numpy())
            fits[name, kind] = max(0.0, circular_fit(phase, first_phase(shown[:, 0].numpy(), axis))) ** 0.5
        turns[name] = turn(net, layer, test, axis)
    claims = [
        Claim("learnt: error / error of the mean image below 0.5", "not given", error, error < 0.5),
        Claim("every middle layer has a gap", "yes", *gaps(result)),
        Claim(
            "channels kept at (1, 0) and (0, 1)",
            "some",
            ", ".join(str(kept.get(k, 0)) for k in AXES.values()),
            all(k in kept for k in AXES.values()),
        ),
        *(
            Claim(f"correlation of {name} with the phase, images {kind}, at least 0.9", "high", fit, fit >= 0.9)
            for (name, kind), fit in fits.items()
        ),
        *(
            Claim(f"times i turns the output along {name} by 45 to 135 degrees", "it moves", angle, 45 <= angle <= 135)
            for name, angle in turns.items()
        ),
    ]
    conclude("figure2", chosen, result, claims, published=PUBLISHED, seconds=seconds, details={"edited layer": layer})
    for frequency in ((0, 0), *AXES.values()):
        factors = (2, 0.5, 1j, -1j) if any(frequency) else (2, 0.5)
        edit = edit_latent(net, layer, test[:5], frequency=frequency, factor=factors)
        plots.save_png(edit.plot(), chosen.out / f"figure2_edit_{frequency[0]}_{frequency[1]}.png")


if __name__ == "__main__":
    main()

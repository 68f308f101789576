"""`fastfreq noise`: accuracy under filtered Gaussian noise of a fixed norm."""

from __future__ import annotations

import argparse

from fastfreq.inputs.noise import noise_curve

from . import _arguments, _bands


def add(verbs: _arguments.Verbs) -> None:
    """Declare the verb."""
    verb = verbs.add_parser("noise", help="accuracy under low-, high- or band-pass filtered noise, over bandwidths")
    _bands.add(verb)
    _arguments.add_seed(verb, "the noise")
    verb.add_argument("--norm", type=float, required=True, help="L2 norm per channel: 8.0 at 32 x 32, 56 at 224 x 224")
    verb.add_argument("--no-clip", action="store_true", help="do not clip noisy pixels to [0, 1]")
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure, save, draw."""
    return _bands.run("noise", options, noise_curve, norm=options.norm, clip=not options.no_clip, seed=options.seed)

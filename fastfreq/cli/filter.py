"""`fastfreq filter`: accuracy on filtered images."""

from __future__ import annotations

import argparse

from fastfreq.inputs.bands import filter_curve

from . import _arguments, _bands


def add(verbs: _arguments.Verbs) -> None:
    """Declare the verb."""
    verb = verbs.add_parser("filter", help="accuracy on low-, high- or band-pass filtered images, over bandwidths")
    _bands.add(verb)
    verb.add_argument("--clip", action="store_true", help="clip filtered pixels to [0, 1]")
    verb.add_argument(
        "--normalise-contrast", action="store_true", help="give filtered images the mean and contrast of the originals"
    )
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure, save, draw."""
    return _bands.run("filter", options, filter_curve, clip=options.clip, normalise_contrast=options.normalise_contrast)

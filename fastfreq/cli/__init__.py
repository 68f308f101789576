"""`fastfreq`: one verb per question, under the name of the function that answers it.

A verb is a module of this package with a `VERB`, which declares its words and runs. Modules import torch and
matplotlib only when they run: `fastfreq --help` and `fastfreq VERB --help` need neither.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any

import fastfreq

# name -> what it answers; the module has the same name with underscores. In the order of the help.
VERBS = {
    "heatmap": "error of a model at every frequency (Yin et al. 2019)",
    "adaptive-heatmap": "the same to a stated precision, with the fewest forward passes, or in a stated time",
    "quick-heatmap": "the same predicted from a few percent of the forward passes",
    "gradient-heatmap": "the same to first order, from one backward pass per image",
    "fourier-attack": "search each image for the one wave that fools the model",
    "adversarial-spectrum": "mean spectrum of what FGSM and PGD add where they fool",
    "corruption-report": "accuracy under common corruptions, against a baseline model",
    "post-averaging-curve": "accuracy with predictions averaged around each image, over radii",
    "filter-curve": "accuracy on low-, high- or band-pass filtered images, over bandwidths",
    "noise-curve": "accuracy under low-, high- or band-pass filtered noise, over bandwidths",
    "critical-band": "the frequency channel of a network, from noise in octave bands",
    "dominant-frequencies": "those whose removal raises the loss of each class most",
    "component-curves": "predictions for the low and the high part of images, over radii",
    "feature-spectra": "spectra of feature maps, every layer on one axis in cycles per image",
    "image-spectrum": "mean spectrum of images",
    "difference-spectrum": "mean spectrum of what a corruption changes in images",
    "approximation-curve": "how few numbers of a Fourier, wavelet or curvelet frame give images again",
    "invariance": "how far codes move when the image is shifted, rotated or dilated, layer by layer",
    "filters": "filters of convolutions as images, beside the Gabor functions and wavelets they are like",
    "sparse-coding": "layers as dictionaries: coherence of filters, non-zeros of activations, the guarantee",
    "maximize": "images made to raise units of a layer: what they look for",
    "top-patches": "patches of real images that raise units of a layer most",
    "invert": "images made again from the code of a layer, with the error by depth; caricatures",
    "singular-values": "singular values of every convolution, frequency by frequency",
    "bottleneck": "which frequencies and channels each layer keeps",
    "downsampling": "where layers could work on a coarser grid, with the accuracy that costs",
    "train-demo": "train a small network on digits and show which frequencies it learns first",
    "merge": "one result from shards: of images, of conditions, of a model's layers",
    "report": "one page of results of any kind, or of the built-in example",
    "repeat": "run the command of a saved result again and say whether the figures agree",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0; 1 from `repeat` where figures differ; 2 after a message on what was expected; 130 after Ctrl-C.

    Raises:
        SystemExit: from argparse: 0 after help, 2 after words that it refuses.
        Exception: whatever is no refusal of ours, a bug here or in the model, with its traceback; as a program this
            ends in exit code 1.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser(next((word for word in words if not word.startswith("-")), "")).parse_args(words)
    options.words = words
    from . import _refusals  # the first to import more than argparse

    return _refusals.guarded(options)


class _Help(argparse.HelpFormatter):
    """Room for the longest verb."""

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, max_help_position=26, **options)


def _parser(verb: str | None = None) -> argparse.ArgumentParser:
    """The parser, with the words of one verb, or of all."""
    parser = argparse.ArgumentParser(
        prog="fastfreq",
        formatter_class=_Help,
        description="Which input frequencies an image network uses, which break it, and which its layers keep.",
        epilog="`fastfreq VERB --help` has the words of a verb. `fastfreq report` shows a built-in example.",
    )
    parser.add_argument("--version", action="version", version=f"fastfreq {fastfreq.__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, text in VERBS.items():
        added = verbs.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False, formatter_class=_Help
        )
        if verb in (None, name):
            module: Any = importlib.import_module(f".{name.replace('-', '_')}", __package__)
            module.VERB.declare(added)
            added.set_defaults(run=module.VERB.run)
    return parser

"""`fastfreq difference-spectrum`: the mean spectrum of what a corruption changes in images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from . import _arguments, _measure, image_spectrum
from ._measure import Measure, Subject


class _DifferenceSpectrum(Measure):
    kind, model, data, run_words = "difference_spectrum", False, "unlabelled", image_spectrum.RUN

    def add(self, parser: argparse.ArgumentParser) -> None:
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--corruption", metavar="NAME", help="of imagecorruptions-imaug: fog, gaussian_noise ...")
        what.add_argument("--against", type=Path, metavar="PATH", help="the corrupted images, in the same order")
        parser.add_argument(
            "--severity", type=_arguments.positive, default=3, metavar="S", help="of --corruption, 1 to 5; default: 3"
        )
        _arguments.add_seed(parser, "a random corruption")
        image_spectrum.add(parser)

    def arguments(self, options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
        from ._refusals import about

        found: dict[str, Any] = {"kind": "power" if options.power else "magnitude", "side": options.side}
        if options.against is None:
            import fastfreq

            with about("--corruption"):
                corruption = fastfreq.common_corruption(options.corruption, options.severity, seed=options.seed)
            return found | {"corruption": corruption}
        from fastfreq.data import load_images

        assert subject.data is not None
        with about("--against"):
            other = load_images(
                options.against,
                preprocessing=_measure.preprocessing(options),
                limit=options.limit,
                batch_size=subject.data.batch_size,
            )
        if len(other) != len(subject.data):
            raise ValueError(
                f"expected as many images in --against {options.against} as in --data {options.data}, "
                f"{len(subject.data)}; got {len(other)}"
            )
        return found | {"corruption": other, "name": options.against.stem}

    def keeps(self, options: argparse.Namespace) -> bool:
        return options.against is None  # corrupted images by themselves are not told from others


VERB = _DifferenceSpectrum()

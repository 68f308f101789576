"""`fastfreq critical-band`: the spatial-frequency channel of a network, by critical-band masking."""

from __future__ import annotations

import argparse
from typing import Any

from . import _arguments
from ._measure import Measure, Subject


class _CriticalBand(Measure):
    kind = "critical_band"

    def add(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--bands",
            nargs="+",
            type=float,
            metavar="C",
            help="centres, cycles per image; default: half the shorter side and its halves, 1 2 4 8 16 at 32 x 32",
        )
        parser.add_argument(
            "--deviations",
            nargs="+",
            type=float,
            metavar="S",
            help="standard deviations of the noise; default: 0.02 0.04 0.08 0.16 0.32",
        )
        parser.add_argument("--grayscale", action="store_true", help="make the images grey")
        parser.add_argument(
            "--contrast", type=float, default=1.0, help="factor on departures from the mean; default: 1"
        )
        parser.add_argument(
            "--grey-level", type=float, metavar="M", help="in place of each image's mean, which stays if left out"
        )
        parser.add_argument("--chromatic", action="store_true", help="other noise in each colour channel")
        parser.add_argument("--no-clip", action="store_true", help="do not clip noisy pixels to [0, 1]")
        _arguments.add_seed(parser, "the noise")
        parser.add_argument("--criterion", type=float, default=0.5, help="accuracy at the threshold; default: 0.5")
        parser.add_argument(
            "--scale", default="octaves", choices=["octaves", "gain"], help="of the fit; default: octaves"
        )

    def check(self, options: argparse.Namespace) -> None:
        if not 0 < options.criterion < 1:
            raise ValueError(f"expected --criterion between 0 and 1, got {options.criterion:g}")

    def arguments(self, options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
        names = ("bands", "deviations", "grayscale", "contrast", "chromatic", "seed")
        grey = {} if options.grey_level is None else {"mean": options.grey_level}
        return _arguments.given(options, *names) | grey | {"clip": not options.no_clip}

    def picture(self, options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
        return {"criterion": options.criterion, "scale": options.scale}

    def summary(self, result: Any, options: argparse.Namespace) -> list[dict[str, Any]]:
        return result.summary(criterion=options.criterion)

    def more(self, result: Any, options: argparse.Namespace, subject: Subject) -> list[str]:
        try:
            channel = result.channel(criterion=options.criterion, scale=options.scale)
        except ValueError as error:  # clean images do not reach the criterion, or no noise does
            return [f"no channel: {error} (--criterion, --deviations)"]
        figures = {"centre": (channel.centre, "cycles per image"), "bandwidth": (channel.bandwidth, "octaves")}
        figures["peak"] = channel.peak, "of 1 / standard deviation"
        text = "; ".join(
            f"{key} {e.value:.3g} [{e.low:.3g}, {e.high:.3g}] {unit}" for key, (e, unit) in figures.items()
        )
        edge = f"; the centre may lie beyond the {channel.edge} edge of the bands" if channel.edge else ""
        return [f"channel: {text}{edge}"]


VERB = _CriticalBand()

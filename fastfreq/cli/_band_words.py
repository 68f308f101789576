"""What `filter-curve` and `noise-curve` share: families of masks, one measurement for each."""

from __future__ import annotations

import argparse
from typing import Any

from . import _arguments
from ._measure import Measure


class BandVerb(Measure):
    """A curve over bandwidths for each family of masks."""

    def add(self, parser: argparse.ArgumentParser) -> None:
        """--kind, --bandwidths, --metrics."""
        parser.add_argument(
            "--kind",
            nargs="+",
            default=["low", "high"],
            metavar="NAME",
            help="families of masks: low, high, band, radial, radial_open, diamond, complement_...; default: low high",
        )
        parser.add_argument(
            "--bandwidths",
            nargs="+",
            type=float,
            metavar="B",
            help="in the family's unit; default: eighths of the plane, 0 3 7 11 ... 31 32 for low at 32 x 32",
        )
        _arguments.add_metrics(parser)

    def variants(self, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
        """One for each family; a wrong name ends here, not after the first curve."""
        from fastfreq.vocabulary import masks

        from ._refusals import about

        with about("--kind"):
            named = {masks.named(kind).name: {"kind": kind} for kind in options.kind}
        if len(named) < len(options.kind):
            raise ValueError(f"expected each family of --kind once, got {' '.join(options.kind)}")
        return named

    def check(self, options: argparse.Namespace) -> None:
        """A checkpoint is of one curve."""
        if options.checkpoint is not None and len(options.kind) > 1:
            raise ValueError(f"expected one --kind with --checkpoint, got {' '.join(options.kind)}")

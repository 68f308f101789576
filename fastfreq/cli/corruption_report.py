"""`fastfreq corruption-report`: accuracy under common corruptions, and the frequencies that they change."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from . import _arguments
from ._measure import Measure, Subject


class _CorruptionReport(Measure):
    kind = "corruption_report"

    def add(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--baseline", metavar="MODEL", help="a second model, written as --model is")
        parser.add_argument("--baseline-weights", type=Path, metavar="FILE", help="of the second model")
        parser.add_argument(
            "--corruptions", nargs="+", metavar="NAME", help="of imagecorruptions-imaug; default: the 15 of ImageNet-C"
        )
        parser.add_argument(
            "--folder", type=Path, metavar="DIR", help="corrupted images, as CIFAR-10-C or ImageNet-C ship them"
        )
        parser.add_argument("--severities", type=_arguments.positive, nargs="+", metavar="S", help="default: 1 to 5")
        _arguments.add_seed(parser, "random corruptions")

    def check(self, options: argparse.Namespace) -> None:
        if options.folder is not None and options.limit is not None:
            raise ValueError("expected no --limit with --folder, whose images belong to all of --data by number")
        if options.folder is not None and options.corruptions is not None:
            raise ValueError("expected --folder or --corruptions, got both")
        if options.folder is not None and not options.folder.is_dir():
            raise ValueError(f"expected a folder for --folder, found none at {options.folder}")
        if options.baseline_weights is not None and options.baseline is None:
            raise ValueError("expected --baseline with --baseline-weights")

    def arguments(self, options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
        found = _arguments.given(options, "corruptions", "severities", "seed")
        if options.folder is not None:
            found["corruptions"] = options.folder
        if options.baseline is not None:
            from . import _loading

            assert subject.model is not None
            baseline = _loading.model(options, options.baseline, options.baseline_weights)
            if baseline.preprocessing not in (None, subject.model.preprocessing):
                raise ValueError(
                    f"expected a --baseline on the same images, {options.baseline} takes {baseline.preprocessing}, "
                    f"{options.model} {subject.model.preprocessing}"
                )
            found["baseline"] = baseline.model
        return found

    def more(self, result: Any, options: argparse.Namespace, subject: Subject) -> list[str]:
        if options.baseline is None:
            return []
        try:
            fit = result.fit()
        except ValueError as error:
            return [f"no line: {error}"]
        return [
            f"gain over {options.baseline} against the high fraction: slope k {fit.slope:.3f} "
            f"[{fit.low:.3f}, {fit.high:.3f}], residual r {fit.residual:.3f}"
        ]


VERB = _CorruptionReport()

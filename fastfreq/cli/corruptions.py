"""`fastfreq corruptions`: accuracy under common corruptions, and the frequencies that they change."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from fastfreq.core.corruption_report import CorruptionReport
from fastfreq.inputs.corruptions import COMMON_CORRUPTIONS, EXTRA_CORRUPTIONS, corruption_report
from fastfreq.models import load_model

from . import _arguments, _results


def add(verbs: _arguments.Verbs) -> None:
    """Declare the verb."""
    verb = verbs.add_parser("corruptions", help="accuracy under common corruptions, against a baseline model")
    _arguments.add_model(verb)
    verb.add_argument("--baseline", metavar="MODEL", help="a second model, written as --model is")
    verb.add_argument("--baseline-weights", type=Path, metavar="FILE", help="of the second model")
    _arguments.add_data(verb)
    _arguments.add_seed(verb, "random corruptions")
    _arguments.add_device_and_out(verb)
    verb.add_argument(
        "--corruptions",
        nargs="+",
        default=COMMON_CORRUPTIONS,
        metavar="NAME",
        help=f"of imagecorruptions-imaug; default: the 15 of ImageNet-C; also {', '.join(EXTRA_CORRUPTIONS)}",
    )
    verb.add_argument(
        "--folder", type=Path, metavar="DIR", help="corrupted images, as CIFAR-10-C or ImageNet-C ship them"
    )
    verb.add_argument("--severities", type=int, nargs="+", default=[1, 2, 3, 4, 5], metavar="S", help="default: 1 to 5")
    _results.add_run(verb, precision=False)
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure, save, draw."""
    if options.folder is not None and options.limit is not None:
        raise ValueError("expected no --limit with --folder, whose images belong to all of --data by their number")
    loaded, data = _arguments.model_and_data(options)
    baseline = None
    if options.baseline is not None:
        baseline = load_model(options.baseline, weights=options.baseline_weights)
        if baseline.preprocessing not in (None, loaded.preprocessing):
            raise ValueError(
                f"expected a baseline on the same images, {options.baseline} takes {baseline.preprocessing}, "
                f"{options.model} {loaded.preprocessing}"
            )
        baseline = _arguments.normalised(baseline, options)
        baseline.model.to(_arguments.device_of(options))
    elif options.baseline_weights is not None:
        raise ValueError("expected --baseline with --baseline-weights")
    report = corruption_report(
        loaded.model,
        data,
        corruptions=options.corruptions if options.folder is None else options.folder,
        severities=options.severities,
        baseline=None if baseline is None else baseline.model,
        seed=options.seed,
        **_results.running(options),
    )
    report = _results.with_model(report, loaded.name)
    if baseline is not None:
        report = dataclasses.replace(report, details={**report.details, "baseline": baseline.name})
    print(f"{loaded.name}: {_results.accuracy(report.clean_accuracy, report.n_images)}")
    file = _results.stem("corruptions", options)
    _results.save({file: report}, options.out)
    if baseline is not None:
        print(_fit_text(report))
    _results.draw(options.out / f"{file}.png", report.plot)
    return 0


def _fit_text(report: CorruptionReport) -> str:
    try:
        fit = report.fit()
    except ValueError as error:
        return f"no line: {error}"
    return (
        f"gain over {report.details['baseline']} against the high fraction: slope k {fit.slope:.3f} "
        f"[{fit.low:.3f}, {fit.high:.3f}], residual r {fit.residual:.3f}"
    )

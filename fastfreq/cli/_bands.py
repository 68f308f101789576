"""What `filter` and `noise` share: families of masks, bandwidths, files and the picture."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from fastfreq.core.curves import BandCurve
from fastfreq.vocabulary import masks

from . import _arguments, _results


def add(verb: argparse.ArgumentParser) -> None:
    """--kind, --bandwidths, --metrics and what every verb that measures a model has."""
    _arguments.add_model(verb)
    _arguments.add_data(verb)
    _arguments.add_device_and_out(verb)
    verb.add_argument(
        "--kind",
        nargs="+",
        default=["low", "high"],
        metavar="NAME",
        help=f"families of masks: {', '.join([*masks.ALIASES, *masks.MASKS])}; default: low high",
    )
    verb.add_argument("--bandwidths", nargs="+", type=float, metavar="B", help="in the family's unit; default: a few")
    verb.add_argument("--metrics", nargs="+", default=["error"], metavar="NAME", help="error, loss, top5_error ...")
    _results.add_run(verb)


def run(name: str, options: argparse.Namespace, measure: Callable[..., BandCurve], **settings: Any) -> int:
    """Measure every family, save the curves, draw them in one picture."""
    for kind in options.kind:
        masks.named(kind)  # a wrong name ends here, not after the first curve
    if len({masks.named(kind).name for kind in options.kind}) < len(options.kind):
        raise ValueError(f"expected each family of masks once, got {' '.join(options.kind)}")
    loaded, data = _arguments.model_and_data(options)
    curves: dict[str, BandCurve] = {}
    for kind in options.kind:
        curve = measure(
            loaded.model,
            data,
            kind=kind,
            bandwidths=options.bandwidths,
            metrics=options.metrics,
            **settings,
            **_results.running(options),
        )
        file = _results.stem(f"{name}-{masks.named(kind).name.replace('_', '-')}", options)
        curves[file] = _results.with_model(curve, loaded.name)
    first = next(iter(curves.values()))
    print(f"{loaded.name}: {_results.accuracy(first.clean_accuracy, first.n_images)}")

    def figure() -> Any:
        from fastfreq import plots  # loads matplotlib, an extra

        return plots.plot_band_curves({loaded.name: list(curves.values())})

    _results.write(curves, options.out, figure=figure, picture=_results.stem(name, options))
    return 0

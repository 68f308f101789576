"""`fastfreq components`: predictions for the low part and the high part of each image."""

from __future__ import annotations

import argparse

from fastfreq.inputs.components import component_curves

from . import _arguments, _results


def add(verbs: _arguments.Verbs) -> None:
    """Declare the verb."""
    verb = verbs.add_parser("components", help="predictions for the low and the high part of images, over radii")
    _arguments.add_model(verb)
    _arguments.add_data(verb)
    _arguments.add_device_and_out(verb)
    verb.add_argument("--radii", nargs="+", type=float, metavar="R", help="cycles per image; default: eighths of it")
    verb.add_argument("--inclusive", action="store_true", help="the circle belongs to the low part, as in the paper")
    verb.add_argument("--clip", action="store_true", help="clip both parts to [0, 1]")
    _results.add_run(verb, precision=False)
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure, save, draw."""
    loaded, data = _arguments.model_and_data(options)
    result = component_curves(
        loaded.model,
        data,
        radii=options.radii,
        inclusive=options.inclusive,
        clip=options.clip,
        **_results.running(options),
    )
    result = _results.with_model(result, loaded.name)
    print(f"{loaded.name}: {_results.accuracy(result.accuracy, result.n_images)}")
    file = _results.stem("components", options)
    _results.write({file: result}, options.out, figure=result.plot, picture=file)
    return 0

"""`fastfreq classes`: the frequencies whose removal hurts each class most."""

from __future__ import annotations

import argparse

from fastfreq.inputs.dominant_frequencies import dominant_frequencies

from . import _arguments, _results


def add(verbs: _arguments.Verbs) -> None:
    """Declare the verb."""
    verb = verbs.add_parser("classes", help="dominant frequencies of each class: those whose removal raises the loss")
    _arguments.add_model(verb)
    _arguments.add_data(verb)
    _arguments.add_device_and_out(verb)
    verb.add_argument("--size", type=int, help="side of the centred map; all frequencies if left out")
    verb.add_argument("--patch", type=int, default=1, help="width of the square of frequencies removed; default: 1")
    verb.add_argument("--share", type=float, default=0.05, help="of the cells that is outlined; default: %(default)s")
    _results.add_run(verb)
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure, save, draw."""
    if not 0 < options.share <= 1:
        raise ValueError(f"expected --share above 0 and at most 1, got {options.share:g}")
    loaded, data = _arguments.model_and_data(options)
    result = dominant_frequencies(
        loaded.model, data, size=options.size, patch=options.patch, **_results.running(options)
    )
    result = _results.with_model(result, loaded.name)
    names = None if data.classes is None else dict(enumerate(data.classes))
    clean = 1 - float(result.clean_wrong.sum()) / result.n_images
    print(f"{loaded.name}: {_results.accuracy(clean, result.n_images)}")
    file = _results.stem("classes", options)
    _results.write(
        {file: result}, options.out, figure=lambda: result.plot(share=options.share, names=names), picture=file
    )
    return 0

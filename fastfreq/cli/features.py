"""`fastfreq features`: what the feature maps of each layer hold, by frequency."""

from __future__ import annotations

import argparse

from fastfreq.inputs.feature_spectra import feature_spectra

from . import _arguments, _results


def add(verbs: _arguments.Verbs) -> None:
    """Declare the verb."""
    verb = verbs.add_parser("features", help="spectra of feature maps, every layer on one axis in cycles per image")
    _arguments.add_model(verb)
    _arguments.add_data(verb)
    _arguments.add_device_and_out(verb)
    verb.add_argument("--layers", nargs="+", metavar="NAME", help="default: the innermost blocks")
    verb.add_argument("--token-grid", type=int, nargs=2, metavar=("ROWS", "COLUMNS"), help="of a transformer's tokens")
    verb.add_argument("--skip-dead", action="store_true", help="leave out maps that are zero everywhere")
    _results.add_run(verb)
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure, save, draw."""
    loaded, data = _arguments.model_and_data(options)
    result = feature_spectra(
        loaded.model,
        data,
        layers=options.layers,
        token_grid=None if options.token_grid is None else tuple(options.token_grid),
        skip_dead=options.skip_dead,
        **_results.running(options),
    )
    result = _results.with_model(result, loaded.name)
    print(f"{loaded.name}: {result.n_images:,} images; log amplitude at each layer's highest frequency")
    file = _results.stem("features", options)
    _results.write({file: result}, options.out, figure=result.plot, picture=file)
    return 0

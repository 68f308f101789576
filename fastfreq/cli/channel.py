"""`fastfreq channel`: the spatial-frequency channel of a network, by critical-band masking."""

from __future__ import annotations

import argparse
from typing import Any, get_args

from fastfreq.core.channels import Channel, Scale
from fastfreq.inputs.critical_band import critical_band_masking

from . import _arguments, _results


def add(verbs: _arguments.Verbs) -> None:
    """Declare the verb."""
    verb = verbs.add_parser("channel", help="the network's spatial-frequency channel, from noise in octave bands")
    _arguments.add_model(verb)
    _arguments.add_data(verb)
    _arguments.add_seed(verb, "the noise")
    _arguments.add_device_and_out(verb)
    verb.add_argument("--bands", nargs="+", type=float, metavar="C", help="centres, cycles per image; default: octaves")
    verb.add_argument("--deviations", nargs="+", type=float, metavar="S", help="standard deviations of the noise")
    verb.add_argument("--grayscale", action="store_true", help="make the images grey")
    verb.add_argument("--contrast", type=float, default=1.0, help="factor on departures from the mean; default: 1")
    verb.add_argument("--grey-level", type=float, metavar="M", help="in place of each image's mean")
    verb.add_argument("--chromatic", action="store_true", help="other noise in each colour channel")
    verb.add_argument("--no-clip", action="store_true", help="do not clip noisy pixels to [0, 1]")
    verb.add_argument("--criterion", type=float, default=0.5, help="accuracy at the threshold; default: %(default)s")
    verb.add_argument("--scale", default="octaves", choices=get_args(Scale), help="of the fit; default: %(default)s")
    _results.add_run(verb)
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure, save, draw."""
    loaded, data = _arguments.model_and_data(options)
    chosen: dict[str, Any] = {} if options.deviations is None else {"deviations": options.deviations}
    result = critical_band_masking(
        loaded.model,
        data,
        bands=options.bands,
        grayscale=options.grayscale,
        contrast=options.contrast,
        mean=options.grey_level,
        chromatic=options.chromatic,
        clip=not options.no_clip,
        seed=options.seed,
        **chosen,
        **_results.running(options),
    )
    result = _results.with_model(result, loaded.name)
    print(f"{loaded.name}: {_results.accuracy(result.clean_accuracy, result.n_images)}")
    file = _results.stem("channel", options)
    _results.save({file: result}, options.out, rows=result.summary(criterion=options.criterion))
    try:
        print(_channel_text(result.channel(criterion=options.criterion, scale=options.scale)))
    except ValueError as error:  # clean images do not reach the criterion, or no noise does
        print(f"no channel: {error} (--criterion, --deviations)")
    _results.draw(options.out / f"{file}.png", lambda: result.plot(criterion=options.criterion, scale=options.scale))
    return 0


def _channel_text(channel: Channel) -> str:
    figures = {"centre": (channel.centre, "cycles per image"), "bandwidth": (channel.bandwidth, "octaves")}
    figures["peak"] = channel.peak, "of 1 / standard deviation"
    text = "; ".join(f"{name} {e.value:.3g} [{e.low:.3g}, {e.high:.3g}] {unit}" for name, (e, unit) in figures.items())
    edge = f"; the centre may lie beyond the {channel.edge} edge of the bands" if channel.edge else ""
    return f"channel: {text}{edge}"

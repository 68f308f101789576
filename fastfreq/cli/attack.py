"""`fastfreq attack`: spectra of what gradient attacks add, and the search for single waves that fool."""

from __future__ import annotations

import argparse
from fractions import Fraction
from typing import get_args

from fastfreq.inputs.attacks import FGSM, PGD, Norm, adversarial_spectrum
from fastfreq.inputs.fourier_attack import Order, fourier_attack
from fastfreq.vocabulary.conventions import CONVENTIONS

from . import _arguments, _results


def add(verbs: _arguments.Verbs) -> None:
    """Declare the verb and its methods."""
    verb = verbs.add_parser("attack", help="fool a model: the spectrum of what FGSM and PGD add, or single waves")
    methods = verb.add_subparsers(dest="method", required=True, metavar="METHOD")
    fgsm = methods.add_parser("fgsm", help="fast gradient sign method; mean spectrum of what fools")
    pgd = methods.add_parser("pgd", help="projected gradient descent; mean spectrum of what fools")
    fourier = methods.add_parser("fourier", help="search each image for the one Fourier basis image that fools")
    for method in (fgsm, pgd, fourier):
        _arguments.add_model(method)
        _arguments.add_data(method)
        _arguments.add_device_and_out(method)
        _results.add_run(method, precision=method is fourier)
    for method in (fgsm, pgd):
        method.add_argument("--eps", type=_number, required=True, help="radius in pixels of [0, 1], such as 8/255")
        method.add_argument("--power", action="store_true", help="E|F|^2 in place of E|F|")
        method.set_defaults(run=run_gradient)
    _arguments.add_seed(pgd, "the random starts")
    pgd.add_argument("--norm", default="linf", choices=get_args(Norm), help="default: %(default)s")
    pgd.add_argument("--steps", type=int, default=10, help="default: %(default)s")
    pgd.add_argument("--step", type=_number, help="length of one; default: 2.5 eps / steps")
    pgd.add_argument("--no-random-start", action="store_true", help="start from the image itself")
    _arguments.add_seed(fourier, "the order random")
    fourier.add_argument("--eps", type=_number, required=True, help="L2 norm per channel: 4 at 32 x 32, 15.7 at 224")
    fourier.add_argument("--size", type=int, help="side of the centred map of frequencies tried; all if left out")
    fourier.add_argument("--queries", type=int, help="most queries per image; all frequencies and signs if left out")
    fourier.add_argument("--order", default="low", choices=get_args(Order), help="of the queries; default: %(default)s")
    fourier.add_argument("--convention", default="yin2019", choices=CONVENTIONS, help="default: %(default)s")
    fourier.set_defaults(run=run_fourier)


def _number(text: str) -> float:
    """A number, or a fraction such as 8/255."""
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"expected a number or a fraction such as 8/255, got {text!r}") from None


def run_gradient(options: argparse.Namespace) -> int:
    """Attack by gradients, save the spectrum, draw it."""
    attack = FGSM(options.eps)
    if options.method == "pgd":
        attack = PGD(
            options.eps,
            norm=options.norm,
            steps=options.steps,
            step=options.step,
            random_start=not options.no_random_start,
            seed=options.seed,
        )
    loaded, data = _arguments.model_and_data(options)
    kind = "power" if options.power else "magnitude"
    result = adversarial_spectrum(loaded.model, data, attack=attack, kind=kind, **_results.running(options))
    result = _results.with_model(result, loaded.name)
    right = 1 - result.count / result.seen
    print(f"{loaded.name} under {options.method}: {_results.accuracy(right, result.seen, what='accuracy')}")
    file = _results.stem(f"attack-{options.method}", options)
    if not result.count:  # merges with other shards, but has no spectrum
        result.save(options.out / f"{file}.npz")
        print(f"no image was fooled: wrote {file}.npz alone in {options.out}")
        return 0
    _results.write({file: result}, options.out, figure=result.plot, picture=file)
    return 0


def run_fourier(options: argparse.Namespace) -> int:
    """Search single waves, save what was found, draw it."""
    loaded, data = _arguments.model_and_data(options)
    result = fourier_attack(
        loaded.model,
        data,
        eps=options.eps,
        size=options.size,
        queries=options.queries,
        order=options.order,
        convention=options.convention,
        seed=options.seed,
        **_results.running(options),
    )
    result = _results.with_model(result, loaded.name)
    clean = 1 - float(result.clean_wrong.mean())
    print(f"{loaded.name}: {_results.accuracy(clean, result.n_images)}")
    file = _results.stem("attack-fourier", options)
    _results.write({file: result}, options.out, figure=result.plot, picture=file)
    return 0

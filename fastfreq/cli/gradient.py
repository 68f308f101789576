"""`fastfreq gradient`: every frequency from one backward pass per image."""

from __future__ import annotations

import argparse

from fastfreq.inputs.gradient import gradient_heatmap

from . import _arguments


def add(verbs: _arguments.Verbs) -> None:
    """Declare the verb."""
    verb = verbs.add_parser("gradient", help="every frequency from one backward pass per image")
    _arguments.add_model(verb)
    _arguments.add_data(verb)
    _arguments.add_seed(verb)
    _arguments.add_device_and_out(verb)
    verb.add_argument("--eps", type=float, help="predict the error at this L2 norm per channel")
    verb.add_argument("--margins", type=int, default=1, help="competing classes that are linearised; default: 1")
    verb.add_argument("--size", type=int, help="side of the centred map; all frequencies if left out")
    verb.add_argument("--batch-size", type=int, default=16)
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure, save the result, draw it."""
    loaded, data = _arguments.model_and_data(options)
    result = gradient_heatmap(
        loaded.model,
        data,
        eps=options.eps,
        margins=options.margins,
        size=options.size,
        seed=options.seed,
        batch_size=options.batch_size,
        progress=True,
    )
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "gradient.npz"
    result.save(path)
    from fastfreq import plots  # loads matplotlib, an extra

    plots.save_png(result.plot(), options.out / "gradient.png")
    print(f"wrote {path} and {options.out / 'gradient.png'}")
    return 0

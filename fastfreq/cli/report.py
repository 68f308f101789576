"""`fastfreq report`: an HTML page of saved results, or of the built-in example."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fastfreq import demo
from fastfreq.core.loading import load
from fastfreq.core.results import HeatmapResult
from fastfreq.core.sensitivity import SensitivityResult
from fastfreq.inputs.gradient import gradient_heatmap
from fastfreq.inputs.heatmap import heatmap

from . import _arguments

_DEMO_IMAGES_NOTE = (
    "scikit-learn's handwritten digits (8 x 8, held-out images) and three small networks that ship with the package: "
    "naturally trained, trained with Gaussian noise, and adversarially trained. The natural one breaks most at high "
    "frequencies; the other two resist those and break only near the centre, the trade-off of Yin et al. 2019 in small."
)


def add(verbs: _arguments.Verbs) -> None:
    """Declare the verb."""
    verb = verbs.add_parser("report", help="an HTML page: of saved results, or of the built-in example")
    verb.add_argument("results", nargs="*", type=Path, metavar="RESULT.npz", help="the built-in example if left out")
    verb.add_argument("--out", type=Path, default=Path("fastfreq-report"), metavar="DIR", help="default: %(default)s")
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the page."""
    if not options.results:
        return _demo(options.out)
    results: dict[str, HeatmapResult] = {}
    sensitivities: dict[str, SensitivityResult] = {}
    others: dict[str, Any] = {}
    for path in options.results:
        result: Any = load(path)
        kind: dict[str, Any] = others
        if isinstance(result, HeatmapResult | SensitivityResult):
            kind = results if isinstance(result, HeatmapResult) else sensitivities
        name = _name(result, path)
        tried = (name, f"{name} ({path.stem})", f"{name} ({path})", f"{name} ({len(kind) + 1})")
        shown = next(each for each in tried if each not in kind)
        kind[shown] = result
    if not results and not others:
        raise ValueError("expected at least one heat map among the results, got gradient maps only")
    from fastfreq import report  # loads matplotlib, an extra

    title = "Which frequencies break it?" if results else "Frequencies of a network"
    page = report.write_report(
        results, options.out / "report.html", title=title, sensitivities=sensitivities, others=others, pngs=True
    )
    print(f"wrote {page}")
    return 0


def _name(result: Any, path: Path) -> str:
    """What the result says that it was measured on, or its file."""
    said = (getattr(result, "details", {}).get("model"), getattr(result, "model", None), getattr(result, "name", None))
    return next((name for name in said if isinstance(name, str) and name), path.stem)


def _demo(out: Path) -> int:
    from fastfreq import report  # loads matplotlib, an extra

    images, labels = demo.load_digits()
    results, sensitivities = {}, {}
    for name in demo.NETWORKS:
        print(f"{name} network, {len(images)} digits, every frequency of 8 x 8")
        network = demo.load_network(name)
        results[name] = heatmap(network, images, labels, eps=demo.EPS, metrics=("error", "loss"), progress=True)
        sensitivities[name] = gradient_heatmap(network, images, labels, eps=demo.EPS)
        results[name].save(out / f"{name}.npz")
    page = report.write_report(
        results,
        out / "report.html",
        title="Three ways to train, three ways to break",
        sensitivities=sensitivities,
        example=images[0],
        notes=[_DEMO_IMAGES_NOTE],
        pngs=True,
    )
    print(f"wrote {page}")
    return 0

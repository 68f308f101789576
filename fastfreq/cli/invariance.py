"""`fastfreq invariance`: how far codes move when the image does, layer by layer."""

from __future__ import annotations

import argparse
from typing import Any

from . import _arguments
from ._measure import Measure, Subject


class _Invariance(Measure):
    kind, data = "invariance", "unlabelled"
    run_words = tuple(word for word in _arguments.RUN if word != "compile")

    def add(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--layers", nargs="+", metavar="NAME", help="default: the innermost blocks")
        parser.add_argument("--kind", choices=["shift", "rotation", "dilation"], default="shift", help="default: shift")
        amounts = "pixels, degrees or factors; default: .5 to 8 pixels, 2.5 to 20 degrees, .8 to 1.25"
        parser.add_argument("--amounts", nargs="+", type=float, metavar="A", help=amounts)
        fixed = "codes of the pixels beside; default: none"
        parser.add_argument("--fixed", nargs="+", choices=["wavelet", "scattering", "curvelet"], default=[], help=fixed)

    def arguments(self, options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
        given = _arguments.given(options, "layers", "amounts")
        return {"kind": options.kind, "fixed": tuple(options.fixed), **given}


VERB = _Invariance()

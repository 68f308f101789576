"""`fastfreq adversarial-spectrum`: what gradient attacks add where they fool."""

from __future__ import annotations

import argparse
from typing import Any

from . import _arguments
from ._measure import Measure, Subject


class _AdversarialSpectrum(Measure):
    kind = "adversarial_spectrum"

    def add(self, parser: argparse.ArgumentParser) -> None:
        _arguments.add_attack(parser)
        _arguments.add_seed(parser, "pgd's random starts")
        parser.add_argument("--power", action="store_true", help="E|F|^2 in place of E|F|")

    def arguments(self, options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
        return {"attack": _arguments.attack(options), "kind": "power" if options.power else "magnitude"}


VERB = _AdversarialSpectrum()

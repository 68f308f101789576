"""`fastfreq heatmap`: error of a model at every frequency."""

from __future__ import annotations

import argparse
from typing import Any

from . import _arguments
from ._measure import Measure, Subject


class _Heatmap(Measure):
    kind = "heatmap"

    def add(self, parser: argparse.ArgumentParser) -> None:
        _arguments.add_eps(parser)
        _arguments.add_size(parser)
        _arguments.add_seed(parser)
        parser.add_argument(
            "--convention", default="yin2019", help="yin2019, common_signs, fhmap or rai; default: yin2019"
        )
        parser.add_argument("--no-clip", action="store_true", help="do not clip perturbed pixels to [0, 1]")
        _arguments.add_metrics(parser)
        parser.add_argument("--layers", nargs="+", metavar="NAME", help="hidden layers whose change is measured")
        parser.add_argument("--share-stem", action="store_true", help="compute the first layer once; needs --no-clip")

    def arguments(self, options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
        clip = {"clip": False} if options.no_clip else {}
        names = ("eps", "size", "seed", "convention", "metrics", "layers", "share_stem")
        return _arguments.given(options, *names) | clip

    def example(self, subject: Subject) -> Any:
        assert subject.data is not None
        image = next(iter(subject.data))[0][0]
        return image if image.shape[0] in (1, 3) else None


VERB = _Heatmap()

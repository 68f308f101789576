"""`fastfreq`: one verb per question.

A verb is a module here with `add(verbs)`, which declares its arguments, and `run(options)`, which answers and returns
the exit code. What drawing needs is imported in `run`: `fastfreq --help` needs no extras.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from . import (
    attack,
    bottleneck,
    channel,
    classes,
    components,
    corruptions,
    features,
    filter,
    gradient,
    heatmap,
    merge,
    noise,
    report,
    spectrum,
    svd,
)

_BREAKS = (heatmap, gradient, attack, corruptions)
_NEEDS = (filter, noise, channel, classes, components)
_HOLDS = (features, spectrum, svd, bottleneck)
VERBS = (*_BREAKS, *_NEEDS, *_HOLDS, merge, report)  # in the order of the help


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0, or 2 after a message on what was expected."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except (ValueError, TypeError, KeyError, OSError, ImportError, RuntimeError, FloatingPointError) as error:
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"fastfreq {options.verb}: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        way_out = "; with --checkpoint the same command goes on" if hasattr(options, "checkpoint") else ""
        print(f"fastfreq {options.verb}: interrupted{way_out}", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastfreq",
        description="Which input frequencies an image network uses, which break it, and which its layers keep.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in VERBS:
        verb.add(verbs)
    return parser

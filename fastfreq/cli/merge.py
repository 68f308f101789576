"""`fastfreq merge`: shards of one measurement become one result."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fastfreq.core.loading import load

from . import _arguments


def add(verbs: _arguments.Verbs) -> None:
    """Declare the verb."""
    verb = verbs.add_parser("merge", help="one result from shards: of images, of frequencies, of a model's layers")
    verb.add_argument("shards", nargs="+", type=Path, metavar="SHARD.npz")
    verb.add_argument("--out", type=Path, required=True, metavar="FILE.npz")
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Add the shards up."""
    merged: Any = load(options.shards[0])
    for path in options.shards[1:]:
        shard = load(path)
        if not isinstance(shard, type(merged)):
            raise ValueError(f"expected shards of one kind, {path} is of another than {options.shards[0]}")
        if not hasattr(merged, "__add__"):
            raise ValueError(f"expected results that merge, {path} holds a {type(shard).__name__}, which is whole")
        merged = merged + shard
    merged.save(options.out)
    print(f"wrote {options.out}")
    return 0

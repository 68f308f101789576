"""`fastfreq merge`: shards of one measurement become one result."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from pathlib import Path
from typing import Any

from . import _arguments


class _Merge:
    def declare(self, parser: argparse.ArgumentParser) -> None:
        """Declare the words."""
        parser.add_argument("shards", nargs="+", type=Path, metavar="SHARD.npz")
        parser.add_argument("--out", type=Path, required=True, metavar="FILE.npz")
        parser.add_argument("--force", action="store_true", help="overwrite another run's result")
        _arguments.add_said(parser)

    def run(self, options: argparse.Namespace) -> int:
        """Add the shards up."""
        from fastfreq.results.registry import load

        from . import _files
        from ._said import Said

        if options.out.suffix.lower() != ".npz":
            raise ValueError(f"expected --out as FILE.npz, got {options.out}")
        said = Said(options)
        with said.alone():
            shards: list[Any] = [load(path) for path in options.shards]
            merged = shards[0]
            for path, shard in zip(options.shards[1:], shards[1:], strict=True):
                if type(shard) is not type(merged):
                    raise ValueError(
                        f"expected shards of one kind, {options.shards[0]} holds a {merged.kind}, {path} a {shard.kind}"
                    )
                merged = merged + shard
            merged = dataclasses.replace(merged, details=_details([shard.details for shard in shards]))
            _files.check_free(options.out, merged.details.get("request", ""), force=options.force)
            merged.save(options.out)
            said.result(str(options.out), merged, summary=merged.summary(), file=str(options.out))
        return 0


def _details(each: list[dict[str, str]]) -> dict[str, str]:
    """Those of the whole: what all shards say; the command without --shard where no shard is missing."""
    found = {key: value for key, value in each[0].items() if all(other.get(key) == value for other in each)}
    if len(each) == 1:
        return each[0]
    found["merged"] = f"{len(each)} shards"
    shards = {details.get("shard", "") for details in each}
    count = next(iter(shards)).partition("/")[2]
    if count.isdecimal() and shards == {f"{i}/{count}" for i in range(int(count))} and "request" in found:
        words = shlex.split(each[0].get("command", ""))
        found["command"] = shlex.join(without(words, "--shard", "--checkpoint", "--out"))
    return found


def without(words: list[str], *flags: str) -> list[str]:
    """Words of a command without flags and the one value that each has."""
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word in flags:
            skip = True
        elif not word.startswith(tuple(f"{flag}=" for flag in flags)):
            kept.append(word)
    return kept


VERB = _Merge()

"""`fastfreq merge`: shards of one measurement become one result."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import warnings
from pathlib import Path
from typing import Any

from . import _arguments


class _Merge:
    def declare(self, parser: argparse.ArgumentParser) -> None:
        """Declare the words."""
        parser.add_argument(
            "shards", nargs="+", type=Path, metavar="SHARD", help="files, or run directories: those in them"
        )
        parser.add_argument("--out", type=Path, required=True, metavar="FILE.npz")
        parser.add_argument(
            "--force", action="store_true", help="overwrite another run's result; add shards of other data too"
        )
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
            paths = [file for path in options.shards for file in _results(path)]
            shards: list[Any] = [load(path) for path in paths]
            merged = shards[0]
            for path, shard in zip(paths[1:], shards[1:], strict=True):
                if type(shard) is not type(merged):
                    raise ValueError(
                        f"expected shards of one kind, {paths[0]} holds a {merged.kind}, {path} a {shard.kind}"
                    )
                if not options.force:
                    _check_same_images(paths[0], shards[0].details, path, shard.details)
                try:
                    merged = merged + shard
                except ValueError as error:
                    raise ValueError(f"expected shards of one measurement, {path} does not fit: {error}") from error
            merged = dataclasses.replace(merged, details=_details([shard.details for shard in shards]))
            _files.check_free(options.out, merged.details.get("request", ""), force=options.force)
            merged.save(options.out)
            said.result(str(options.out), merged, summary=merged.summary(), file=str(options.out))
        return 0


def _results(path: Path) -> list[Path]:
    """The file itself, or the results in a run directory.

    Raises:
        ValueError: there are none, or one of its runs is not finished.
    """
    if not path.is_dir():
        return [path]
    missing = [file for run in sorted(path.glob("*.run")) if not (file := run.with_suffix(".npz")).exists()]
    if missing:
        raise ValueError(f"expected finished runs, {missing[0]} is not there yet: finish its run with --resume")
    found = sorted(path.glob("*.npz"))
    if not found:
        raise ValueError(f"expected results in {path}, found none")
    return found


def _check_same_images(first: Path, asked: dict[str, str], path: Path, other: dict[str, str]) -> None:
    """Refuse shards of commands with other images: equal numbers would be other images, and some be there twice.

    Raises:
        ValueError: of two results of the command line, which say of what they are.
    """
    if "request" not in asked or "request" not in other:
        return
    for name in ("data_sha256", "against_sha256", "folder_sha256", "limit", "resize", "crop"):
        if asked.get(name) != other.get(name):
            word = name.removesuffix("_sha256")
            said = [details.get(word, "nothing") for details in (asked, other)]
            raise ValueError(
                f"expected shards of the same images, {first} is of --{word} {said[0]}, {path} of --{word} {said[1]}"
                f"{', whose contents differ' * (word != name)}; measure one of them again, or add them with --force"
            )


def _details(each: list[dict[str, str]]) -> dict[str, str]:
    """Those of the whole: what all shards say; the command without --shard where no shard is missing."""
    found = {key: value for key, value in each[0].items() if all(other.get(key) == value for other in each)}
    if len(each) == 1:
        return each[0]
    found["merged"] = f"{len(each)} shards"
    shards = {shard for details in each for shard in details.get("shards", details.get("shard", "")).split(", ")}
    counts = {shard.partition("/")[2] for shard in shards}
    if len(counts) != 1 or not (count := counts.pop()).isdecimal():
        return found
    missing = [shard for shard in (f"{i}/{count}" for i in range(int(count))) if shard not in shards]
    if missing:
        found["shards"] = ", ".join(sorted(shards))
        warnings.warn(
            f"{len(missing)} of {count} shards are not among these, the first: {missing[0]}; the result is of a part "
            f"of the images",
            stacklevel=2,
        )
    elif "request" in found:
        words = shlex.split(each[0].get("command", ""))
        words = [word for word in without(words, "--shard", "--checkpoint", "--out") if word != "--resume"]
        found["command"] = shlex.join(words)
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

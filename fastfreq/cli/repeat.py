"""`fastfreq repeat`: the command of a saved result again, and whether the figures agree."""

from __future__ import annotations

import argparse
import shlex
import tempfile
from pathlib import Path
from typing import Any

from . import _arguments, merge

_VERSIONS = ("fastfreq", "torch", "numpy", "device", "data_sha256", "weights_sha256", "model_file_sha256")
_NOT_REPEATED = ("--out", "--checkpoint")
_FLAGS = ("--force", "--json", "--quiet", "--traceback", "--resume")


class _Repeat:
    def declare(self, parser: argparse.ArgumentParser) -> None:
        """Declare the words."""
        parser.add_argument(
            "result", type=Path, metavar="RESULT.npz", help="whose command is run, a FILE.py that it names included"
        )
        parser.add_argument("--out", type=Path, metavar="DIR", help="keep the files there; none are kept if left out")
        parser.add_argument("--force", action="store_true", help="overwrite results of other runs")
        _arguments.add_said(parser)

    def run(self, options: argparse.Namespace) -> int:
        """Run and compare; 1 where figures differ."""
        from fastfreq.results.registry import load

        from ._said import Said

        said = Said(options)
        before: Any = load(options.result)
        words = _command(before, options.result)
        with said.alone():
            said.line(f"fastfreq {shlex.join(words)}")
            if options.out is not None:
                after = _measured(words, options.out, before, options)
            else:
                with tempfile.TemporaryDirectory() as folder:
                    after = _measured(words, Path(folder), before, options)
            differences = _differences(before, after)
            for line in differences or ["the same figures again, to the last bit"]:
                said.line(line)
            said.result(after.details.get("model", after.kind), after, summary=after.summary(), differences=differences)
        return 1 if differences else 0


def _command(result: Any, path: Path) -> list[str]:
    """Words of a measurement, as they were, with the batch size and layout that were found.

    Raises:
        ValueError: the result names no command, or one of no measurement.
    """
    from fastfreq.results import registry

    words = shlex.split(result.details.get("command", ""))
    verbs = {kind.name.replace("_", "-") for kind in registry.KINDS} | {"train-demo"}
    if len(words) < 2 or words[0] != "fastfreq":
        raise ValueError(
            f"expected a result that the command line measured, {path} names no command; results from Python are "
            f"repeated there, and merged ones where no shard is missing"
        )
    if words[1] not in verbs:
        raise ValueError(f"expected a result of a measurement, {path} is of `{shlex.join(words[:2])}`; run that again")
    words = merge.without(words[1:], *_NOT_REPEATED)
    words = [word for word in words if word not in _FLAGS]
    size, layout = result.details.get("batch_size", ""), result.details.get("layout", "")
    verb_has = words[0] not in ("singular-values", "image-spectrum", "difference-spectrum")
    if verb_has and size.isdecimal() and not _given(words, "--batch-size"):
        words += ["--batch-size", size]
    if verb_has and layout and not _given(words, "--channels-last") and "--no-channels-last" not in words:
        words += ["--channels-last" if layout == "channels_last" else "--no-channels-last"]
    return words


def _given(words: list[str], flag: str) -> bool:
    return any(word == flag or word.startswith(f"{flag}=") for word in words)


def _measured(words: list[str], out: Path, before: Any, options: argparse.Namespace) -> Any:
    """The result of the same kind and settings that a command leaves in a folder."""
    from fastfreq import cli
    from fastfreq.results.registry import load

    asked = cli._parser(words[0]).parse_args([*words, "--out", str(out), "--quiet"])
    asked.words = words
    asked.force = options.force
    asked.run(asked)
    found = [load(file) for file in sorted(out.glob("*.npz"))]
    same = [
        each for each in found if each.kind == before.kind and getattr(each, "mask", 0) == getattr(before, "mask", 0)
    ]
    if not same:
        raise ValueError(f"expected a {before.kind} from the command, got {[each.kind for each in found]}")
    return same[0]


def _differences(before: Any, after: Any) -> list[str]:
    """What is not the same, in words: fields, then the largest change of each figure of the table."""
    from fastfreq.results import folds

    names = [name for name, fold in folds.folds(before).items() if fold.how != "text" and name != "model"]
    fields = [name for name in names if not folds.equal(getattr(before, name), getattr(after, name))]
    found = [f"other {', '.join(fields)}"] if fields else []
    model, again = getattr(before, "model", None), getattr(after, "model", None)
    if model is not None and again is not None and (reason := model.difference(again)) is not None:
        found.append(f"another model: {reason}")
    versions = [
        f"{name} {before.details[name]} then, {after.details[name]} now"
        for name in _VERSIONS
        if name in before.details and name in after.details and before.details[name] != after.details[name]
    ]
    return found + _changes(before.table(), after.table()) + versions if found else []


def _changes(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[str]:
    if len(before) != len(after) or (before and list(before[0]) != list(after[0])):
        return [f"{len(before)} rows then, {len(after)} now"]
    lines = []
    for name in before[0] if before else ():
        pairs = [(a[name], b[name]) for a, b in zip(before, after, strict=True)]
        moved = [abs(a - b) for a, b in pairs if isinstance(a, (int, float)) and isinstance(b, (int, float)) and a != b]
        moved = [size for size in moved if size == size]
        if moved:
            lines.append(f"{name}: {len(moved)} of {len(pairs)} rows differ, by up to {max(moved):.3g}")
    return lines


VERB = _Repeat()

"""What the command line prints: lines for people, or one JSON for programs."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
from collections.abc import Iterator
from typing import Any

from fastfreq.results import tables

_ROWS = 40  # of a table that is printed


class Said:
    """Where lines and figures go: to stdout, to nobody with --quiet; with --json only the figures do."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._json = options.json
        self._quiet = options.quiet or options.json
        self._out = sys.stdout
        self._found: list[dict[str, Any]] = []

    def line(self, text: str) -> None:
        """A line for people."""
        if not self._quiet:  # names of files need not be what the terminal can show
            shown = text.encode(sys.stdout.encoding or "utf-8", "backslashreplace")
            print(shown.decode(sys.stdout.encoding or "utf-8"), flush=True)

    def result(self, name: str, result: Any, *, summary: list[dict[str, Any]], **also: Any) -> None:
        """A result in short."""
        headline = result.headline()
        counted = f", {result.n_images:,} images" if getattr(result, "n_images", 0) else ""
        self.line(f"{name}{counted}: {headline}" if headline else f"{name}{counted}")
        if summary:
            self.line(tables.to_text(tables.table_rows(summary[:_ROWS])))
        if len(summary) > _ROWS:
            self.line(f"... and {len(summary) - _ROWS} rows more, in the .csv")
        short = {"name": name, "kind": result.kind, "headline": headline, "summary": summary}
        self._found.append(short | {"details": dict(result.details)} | also)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """With --json, what models and packages print goes to stderr, and the figures, at the end, to stdout."""
        with contextlib.redirect_stdout(sys.stderr) if self._json else contextlib.nullcontext():
            yield
        if self._json:
            print(json.dumps(_plain(self._found), indent=1, allow_nan=False), file=self._out)


def _plain(value: Any) -> Any:
    """What JSON can hold; figures that are no numbers are null."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""Tables of results as people read them: text for terminals and pages, CSV for other programs."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Rows = tuple[list[str], list[list[str]]]
_ENDS = (("_low", "_high"), ("_from", "_to"))  # the second of shares that are called low and high


def table_rows(table: Sequence[dict[str, Any]]) -> Rows:
    """(head, rows) of a result's `table`; a figure and its interval, such as x, x_low and x_high, share a column."""
    names = list(table[0]) if table else []
    pairs = [(f"{name}{low}", f"{name}{high}") for name in names for low, high in _ENDS]
    ends = {end for pair in pairs if set(pair) <= set(names) for end in pair}
    head = [name for name in names if name not in ends]
    shown = [[_figure(row, name) for name in head] for row in table]
    return [name.replace("_", " ") for name in head], shown


def _figure(row: Mapping[str, Any], name: str) -> str:
    """A figure with its interval, to two digits of its half-width; alone without one, or with one of a single image."""
    for low, high in ((row.get(f"{name}{low}"), row.get(f"{name}{high}")) for low, high in _ENDS):
        if isinstance(low, float) and isinstance(high, float) and not math.isnan(low + high):
            half = (high - low) / 2
            digits = 1 - math.floor(math.log10(half)) if 1e-5 < half < 1e5 else None
            if digits is None or not isinstance(row[name], float) or abs(row[name]) > 1e6:
                return f"{cell(row[name])} [{low:.3g}, {high:.3g}]"
            return f"{row[name]:.{max(0, digits)}f} [{low:.{max(0, digits)}f}, {high:.{max(0, digits)}f}]"
    return cell(row[name])


def from_columns(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Columns of one length, and single values that stand in every row, as rows of plain Python values."""
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    count = max(len(a) for a in arrays.values() if a.ndim)
    lists = [np.broadcast_to(a, (count,)).tolist() for a in arrays.values()]
    return [dict(zip(arrays, row, strict=True)) for row in zip(*lists, strict=True)]


def to_text(rows: Rows) -> str:
    """Columns of even width: the first ones, names, to the left, figures to the right."""
    head, body = rows
    lines = [head, *body]
    widths = [max(len(line[k]) for line in lines) for k in range(len(head))]
    left = [not any(_is_figure(line[k]) for line in body) for k in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if to_left else cell.rjust(width)
            for cell, width, to_left in zip(line, widths, left, strict=True)
        ).rstrip()
        for line in lines
    )


def to_csv(table: Sequence[dict[str, Any]]) -> str:
    """A result's `table` as CSV, figures in full."""
    file = io.StringIO()
    writer = csv.DictWriter(file, fieldnames=list(table[0]) if table else [], lineterminator="\n")
    writer.writeheader()
    for row in table:
        writer.writerow({key: _sizes(value) if isinstance(value, tuple) else value for key, value in row.items()})
    return file.getvalue()


def _sizes(value: Sequence[object]) -> str:
    return " x ".join(map(str, value))


def cell(value: Any) -> str:
    """A value as text, figures to four digits."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return _sizes(value) if isinstance(value, tuple) else str(value)


def _is_figure(text: str) -> bool:
    return text.lstrip("<>= -")[:1].isdigit() and " x " not in text

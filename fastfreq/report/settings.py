"""What was asked for, and the command that asks for it again."""

from __future__ import annotations

import html
from typing import Any

import numpy as np

from fastfreq.results import folds, tables
from fastfreq.results.identity import Identity
from fastfreq.vocabulary.conventions import Convention

from .page import Page, table

_ELSEWHERE = ("command", "request")  # of the details


def add(page: Page, shown: list[tuple[str, Any]]) -> None:
    """One folded table for each result, and the commands."""
    page.section("Settings")
    for name, result in shown:
        rows = [[key, value] for key, value in {**_settings(result), **result.details}.items() if key not in _ELSEWHERE]
        what = html.escape(f"{result.kind.replace('_', ' ')} of {name}")
        page.add(f"<details><summary>{what}</summary>{table(['setting', 'value'], rows)}</details>")
    commands = list(dict.fromkeys(r.details["command"] for _, r in shown if r.details.get("command")))
    if commands:
        page.add("<p>The same figures again:</p>", f"<pre>{html.escape(chr(10).join(commands))}</pre>")
        page.text("`fastfreq repeat RESULT.npz` runs the command of a result and says whether its figures agree.")


def _settings(result: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    if getattr(result, "n_images", 0):
        found["images"] = f"{result.n_images:,}"
    for name, fold in folds.folds(result).items():
        value = getattr(result, name)
        if isinstance(value, Identity):
            found[name] = f"weights {value.weights}, {', '.join(value.numerics)}"
            if value.mean is not None and value.std is not None:
                found["normalised"] = f"mean {tables.cell(value.mean)}, std {tables.cell(value.std)}"
        elif fold.how == "same" and (text := _text(value)):
            found[name] = text
        elif fold.how == "condition" and isinstance(value, np.ndarray) and value.size:
            ends = "" if value.ndim > 1 else f", {value[0]:g} to {value[-1]:g}"
            found[name] = f"{len(value)}{ends}"
        elif fold.how == "condition":
            found[name] = ", ".join(map(str, value))[:400]
    return {key.replace("_", " "): value for key, value in found.items()}


def _text(value: Any) -> str:
    if isinstance(value, Convention):
        phase = f"phase {value.phase:.4g} of the {value.phase_of} wave"
        return f"{value.name}: {phase}, sign per {value.signs}, clip {value.clip}"
    if isinstance(value, (bool, int, float, str)):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, tuple) and len(str(value)) < 200:
        return ", ".join(map(str, value))
    return ""

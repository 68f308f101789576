"""Saved results back, whatever their kind."""

from __future__ import annotations

from pathlib import Path

from . import store
from .results import HeatmapResult
from .sensitivity import SensitivityResult


def load(path: str | Path) -> HeatmapResult | SensitivityResult:
    """Read a result that was written by its `.save`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no result, is damaged, or is of a newer format.
    """
    kind, header, arrays = store.read_arrays(path)
    kinds = {"heatmap": HeatmapResult, "sensitivity": SensitivityResult}
    if kind not in kinds:
        raise ValueError(f"expected a result of kind {list(kinds)}, {path} holds {kind!r}")
    try:
        return kinds[kind].from_arrays(header, arrays)
    except (KeyError, TypeError) as error:
        raise ValueError(f"expected a complete result, {path} is damaged: {error}") from error

"""Results of any kinds -> one HTML file that opens anywhere, offline, and explains itself."""

from __future__ import annotations

import html
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from tqdm import tqdm

from fastfreq.results import registry, tables
from fastfreq.results.result import Result

from . import heatmaps, kinds, settings
from .page import Page

__all__ = ["write_report"]

Several: TypeAlias = "Result | Sequence[Result]"
_KINDS = [kind.name for kind in registry.KINDS]


def write_report(
    results: Mapping[str, Several],
    path: str | Path,
    *,
    title: str = "Which frequencies?",
    notes: Sequence[str] = (),
    example: Any = None,
    pngs: bool | str = False,
    options: Mapping[str, Any] | None = None,
    command: str = "",
    progress: bool = False,
) -> Path:
    """Write one self-contained HTML page: pictures inside, no scripts, nothing loaded from elsewhere.

    Each kind has a section: what was found in a line, pictures, the figures in short, how to read them. Several
    results of one kind are drawn together where the kind has a picture for that; heat maps are compared in pairs too.
    Maps of one colour are folded away, and that is said.

    Args:
        results: name -> a result of any kind, or several of them.
        path: of the page; written all or nothing.
        title: of the page.
        notes: paragraphs on the data and the models.
        example: an image (c, h, w) in [0, 1] that is shown with a heat map's perturbations added.
        pngs: also write every picture as a PNG beside the page; a text begins their names.
        options: of `Result.plot`.
        command: that made the page, kept in it.
        progress: show a bar over what is drawn.

    Returns:
        The path of the page.

    Raises:
        ValueError: no results.
        TypeError: something else than results.
    """
    shown = _flat(results)
    page = Page(
        Path(path), None if pngs is False else "" if pngs is True else pngs, alone=len({name for name, _ in shown}) == 1
    )
    page.add(f"<h1>{html.escape(title)}</h1>")
    page.text(*notes)
    order = sorted({r.kind for _, r in shown}, key=lambda kind: _KINDS.index(kind) if kind in _KINDS else len(_KINDS))
    with tqdm(total=len(shown), desc="drawing", unit="result", disable=not progress, leave=False) as bar:
        for kind in order:
            given = [(name, result) for name, result in shown if result.kind == kind]
            _section(page, kind, given, example, dict(options or {}))
            bar.update(len(given))
    settings.add(page, shown)
    page.write(title, command=command)
    return page.path


def _flat(results: Mapping[str, Several]) -> list[tuple[str, Result]]:
    shown: list[tuple[str, Any]] = [
        (str(name), each)
        for name, value in results.items()
        for each in (value if isinstance(value, (list, tuple)) else [value])
    ]
    if not shown:
        raise ValueError("expected at least one result, as in {'resnet50': result}, got none")
    for name, each in shown:
        if not isinstance(each, Result):
            raise TypeError(f"expected results, {name!r} is {type(each).__name__}")
    return shown


def _section(page: Page, kind: str, shown: list[tuple[str, Any]], example: Any, options: dict[str, Any]) -> None:
    page.section(kinds.title(kind))
    for name, result in shown:
        counted = f", {result.n_images:,} images" if result.n_images else ""
        page.add(f"<p><b>{html.escape(name)}</b>{counted}: {html.escape(result.headline())}</p>")
    named = _named(shown)
    if kind == "heatmap":
        heatmaps.before(page, named)
    if not _drawn_together(page, kind, shown, named, options):
        for name, result in named.items():
            _drawn(page, kind, name, result, options)
    if kind == "bottleneck":
        for name, result in named.items():
            if result.activations:
                page.picture("activations", result.plot_activations(), f"{name}: what the images hold.", of=name)
    page.add(kinds.NOTES.get(kind, ""))
    _tables(page, {name: tables.table_rows(result.summary()) for name, result in named.items()})
    for name, result in named.items():
        if left_out := getattr(result, "skipped", ()):
            page.table(["left out", "kind", "reason"], left_out, title=f"{name}: what has weights and is not above")
    if kind == "heatmap":
        heatmaps.after(page, named, example)


def _tables(page: Page, shown: dict[str, Any]) -> None:
    """The table of each, (head, rows); where all have one column beside the same first one, one table of all."""
    head, rows = next(iter(shown.values()))
    keys = [row[0] for row in rows]
    alike = all(h == head and [row[0] for row in r] == keys for h, r in shown.values())
    if len(shown) > 1 and len(head) == 2 and alike:
        columns = [[row[1] for row in r] for _, r in shown.values()]
        page.table([head[0], *shown], list(zip(keys, *columns, strict=True)), title=head[1])
        return
    for name, (head, rows) in shown.items():
        page.table(head, rows, title=name)


def _named(shown: list[tuple[str, Any]]) -> dict[str, Any]:
    """Each under a name of its own."""
    named: dict[str, Any] = {}
    for name, result in shown:
        own = f"{name}, {mask.replace('_', ' ')}" if (mask := getattr(result, "mask", "")) and len(shown) > 1 else name
        i = 1
        while own in named:
            i += 1
            own = f"{name} ({i})"
        named[own] = result
    return named


def _drawn_together(
    page: Page, kind: str, shown: list[tuple[str, Any]], named: dict[str, Any], options: dict[str, Any]
) -> bool:
    """Draw all results of a kind in one picture, where it has one and they fit."""
    plot_many = getattr(importlib.import_module(f"fastfreq.plots.{kind}"), "plot_many", None)
    if plot_many is None or len(shown) < 2 or options:
        return False
    given: dict[str, Any] = named
    if kind in kinds.TOGETHER:
        given = {name: [r for other, r in shown if other == name] for name, _ in shown}
    try:
        figure = plot_many(given)
    except ValueError as error:
        page.text(f"Drawn one by one: {error}.", small=True)
        return False
    page.picture(_what(page, kind), figure, "")
    return True


def _drawn(page: Page, kind: str, name: str, result: Any, options: dict[str, Any]) -> None:
    try:
        figure = result.plot(**options)
    except ValueError as error:  # such as the spectrum of an attack that fooled nobody
        page.text(f"{name} has no picture: {error}.")
        return
    page.picture(_what(page, kind), figure, name, of=name)


def _what(page: Page, kind: str) -> str:
    """The kind, where the names of the page's files do not begin with it."""
    plain = kind.replace("_", "-")
    return "" if (page.pngs or "").startswith(plain) else plain

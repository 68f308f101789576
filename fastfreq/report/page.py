"""Pieces of one HTML page that is complete in itself: no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastfreq import plots
from fastfreq.results import store

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 17px/1.6 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1rem; }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; background: #fff; border-radius: 6px; }
figcaption, .small { font-size: 16px; opacity: .8; } summary { cursor: pointer; }
.wide { overflow-x: auto; } .wide img { max-width: none; width: max(100%, 44rem); }
table { border-collapse: collapse; font-size: 16px; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); }
pre { overflow-x: auto; padding: 1rem; border: 1px solid var(--line); border-radius: 6px; font-size: 16px; }
"""
_ONE_COLOUR = 0.05  # of the colour scale: maps within it look alike everywhere
_ROWS = 12  # of a table that is shown unfolded


class Page:
    """A page as it grows.

    Args:
        path: where it will be.
        pngs: what names of pictures beside the page begin with; "" for none but their own names, None for no files.
        alone: whether all of it is about one name, which pictures then need not have in theirs.
    """

    def __init__(self, path: Path, pngs: str | None, *, alone: bool) -> None:
        self.path, self.pngs, self._alone = path, pngs, alone
        self._body: list[str] = []
        self._files: set[str] = set()

    def add(self, *pieces: str) -> None:
        """HTML as it is."""
        self._body.extend(pieces)

    def text(self, *paragraphs: str, small: bool = False) -> None:
        """Paragraphs of plain text."""
        mark = ' class="small"' if small else ""
        self.add(*(f"<p{mark}>{html.escape(paragraph)}</p>" for paragraph in paragraphs))

    def section(self, title: str) -> None:
        """A heading."""
        self.add(f"<h2>{html.escape(title)}</h2>")

    def picture(self, what: str, figure: Figure, caption: str, *, of: str = "") -> None:
        """A figure; folded away where it is one colour all over, which is said.

        Args:
            what: it is, for the name of its file; "" for what the file's name says already.
            figure: drawn once.
            caption: below it.
            of: whose it is.
        """
        data = plots.figure_png(figure)
        if self.pngs is not None:
            self._write_png("-".join(part for part in (self.pngs, what, "" if self._alone else of) if part), data)
        name = " ".join(part for part in (what, of) if part)
        encoded = base64.b64encode(data).decode()
        alt = html.escape(caption or name, quote=True)
        width, height = figure.get_size_inches()
        wide = ' class="wide"' if width > 1.7 * height else ""  # scrolls on a phone instead of shrinking
        image = (
            f'<figure{wide}><img alt="{alt}" src="data:image/png;base64,{encoded}">'
            + (f"<figcaption>{html.escape(caption)}</figcaption>" if caption else "")
            + "</figure>"
        )
        if is_flat(figure):
            said = html.escape(caption or name)
            image = (
                f"<details><summary>Nearly the same value in every cell, folded away: {said}</summary>{image}</details>"
            )
        self.add(image)

    def _write_png(self, name: str, data: bytes) -> None:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[-120:] or "picture"
        file, i = f"{plain}.png", 1
        while file in self._files:
            i += 1
            file = f"{plain}-{i}.png"
        self._files.add(file)
        with store.atomic_path(self.path.parent / file) as temporary:
            temporary.write_bytes(data)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
        """A table; a long one is folded."""
        shown = table(head, rows)
        if len(rows) > _ROWS:
            said = html.escape(f"{title}: {len(rows)} rows" if title else f"{len(rows)} rows")
            shown = f"<details><summary>{said}</summary>{shown}</details>"
        elif title:
            shown = f"<p><b>{html.escape(title)}</b></p>{shown}"
        self.add(shown)

    def write(self, title: str, *, command: str = "") -> None:
        """All of it, or nothing."""
        body = "\n".join(self._body)
        made = f'<meta name="fastfreq-command" content="{html.escape(command, quote=True)}">' if command else ""
        store.write_text(
            self.path,
            f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">{made}'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n",
        )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as HTML."""

    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return f'<div class="wide"><table>{line(head, "th")}{"".join(line(row, "td") for row in rows)}</table></div>'


def is_flat(figure: Figure) -> bool:
    """Whether a figure holds maps and nothing else, and each of them is one colour."""
    drawn = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    images: list[Any] = [image for axes in drawn for image in axes.images]
    if not images or any(axes.lines or axes.collections for axes in drawn):
        return False
    return all(map(_is_one_colour, images))


def _is_one_colour(image: Any) -> bool:
    values = np.ma.masked_invalid(image.get_array()).compressed()
    if image.get_array().ndim != 2 or not values.size:  # colours themselves, such as photographs
        return False
    low, high = image.get_clim()
    return bool(np.ptp(values) <= _ONE_COLOUR * (high - low))

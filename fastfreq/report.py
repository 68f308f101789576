"""Results -> one HTML file that opens anywhere, offline, and explains itself."""

from __future__ import annotations

import base64
import html
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fastfreq import plots
from fastfreq.core.bottleneck import BottleneckResult
from fastfreq.core.downsampling import DownsamplingSuggestion
from fastfreq.core.results import HeatmapResult
from fastfreq.core.sensitivity import SensitivityResult
from fastfreq.core.spectrum import LayerSpectrum, ModelSpectrum
from fastfreq.results import store, tables
from fastfreq.vocabulary import fourier

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 17px/1.6 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1rem; }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; background: #fff; border-radius: 6px; }
figcaption, .small { font-size: 16px; opacity: .8; }
.wide { overflow-x: auto; } .wide img { max-width: none; width: max(100%, 44rem); }
table { border-collapse: collapse; font-size: 16px; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); }
pre { overflow-x: auto; padding: 1rem; border: 1px solid var(--line); border-radius: 6px; font-size: 16px; }
"""

_HOW_TO_READ = """
<p>Each cell of a map is one experiment: a wave of a single spatial frequency is added to every image, and the cell
shows how many images the network then gets wrong. The centre is zero frequency, a uniform change of brightness. The
further from the centre, the finer the wave: the axes count how often it repeats across the image, vertically and
horizontally. Opposite cells are the same wave, so every map is symmetric about its centre.</p>
<p>Photographs and digits keep most of their energy near the centre. A naturally trained network usually leans on
everything it can find, fine detail included: its map is dark only around the centre, and errors rise away from it.
Networks trained with noise or against attacks ignore fine waves, so the rim of their map is dark, and they pay for it
near the centre, where they now find their evidence. Robust at one place is not robust everywhere: that is the
trade-off.</p>
<p>Two traps. A map of one colour rarely means a robust network: more often the wave never reached it, because it was
added after normalisation, or the norm is too small or too large. And the norm <i>eps</i> is counted for each colour
channel; clipping to valid pixel values takes a little of it away, most where images are very dark or very bright.</p>
"""

_SPECTRUM_NOTE = """
<p class="small">A convolution is a linear map of images: one small matrix per spatial frequency, whose singular values
are the map's. The norm is the largest, the most that the layer stretches any input; "&lt;=" marks upper bounds, for
layers with zero padding. The condition number is the largest over the smallest. The effective rank is the exponential
of the entropy of the values: how many directions the layer uses, of as many as the last column says. Both are those of
the periodic map, of which a layer with zero padding is a part.</p>
"""


_BOTTLENECK_NOTE = """
<p>A convolution treats every spatial frequency by itself: at each one it is a small matrix, from input channels to
output channels. Its singular values say how strongly it passes on each pattern of channels there. A dot near zero is a
pattern that the layer drops, a dot near one it passes on unchanged. A strip is one layer, first to last; in a strip the
frequencies run from left, a uniform brightness, to right, the finest detail.</p>
<p>In a deep network that was trained with weight decay, keeping a pattern costs something in every layer. The cheapest
network therefore carries only the few patterns that the task needs, the same few in all its middle layers: a few dots
stand near one, all others sink. That is the bottleneck. A bar in a strip marks the largest gap between dots; what is
above it is kept. If only dots at the left edge stand above the bars, the network carries no positions, only what is
in the image. Strips without a bar have no gap: dots fall off gradually, and every frequency is used a little. That is
what most networks from the shelf look like, and it is no fault.</p>
<p class="small">Kept: values above the bar, of as many as there are; without a gap all above a tenth of the largest.
Frequencies: at how many something is kept. Gap: the last value kept over the first dropped; 1 where none was found.
With images: the share of the layer's input, and of its output, that lies in what the layer keeps, and the effective
rank of the input at a frequency. Layers with zero padding are taken as parts of periodic ones. Wen and Jacot, "Which
Frequencies do CNNs Need?", ICML 2024.</p>
"""

_DOWNSAMPLING_NOTE = """
<p>A layer whose output holds no fine detail need not be computed at every pixel: every second one and a smooth curve
through them say the same. Above: the share of each layer's output that is lost at each spacing, and the share that was
allowed. Below: the side of the layer's grid now, and of the smallest that holds the allowed share by its frequencies.
Layers that stay below the allowed line, and for which it saves work, were changed all at once; the caption has the
accuracy on the same images before and after, with 95 % intervals, and the time.</p>
"""


class Drawn(Protocol):
    """A result that draws itself; the rows of its `summary()`, or else its `table()`, are shown with it."""

    def plot(self) -> Figure:
        """The result as a figure."""
        ...


def write_report(
    results: Mapping[str, HeatmapResult],
    path: str | Path,
    *,
    title: str = "Which frequencies break it?",
    sensitivities: Mapping[str, SensitivityResult] | None = None,
    others: Mapping[str, Drawn] | None = None,
    example: Any = None,
    notes: Sequence[str] = (),
    pngs: bool = False,
) -> Path:
    """Write one self-contained HTML page: pictures inside, no scripts, nothing loaded from elsewhere.

    Args:
        results: name -> heat map; several are drawn side by side and compared in pairs where that is possible.
        path: of the page; written all or nothing.
        title: of the page.
        sensitivities: name -> gradient map, drawn in a section of their own.
        others: name -> any other result, such as singular values: its picture and its table.
        example: an image (c, h, w) in [0, 1] that is shown with perturbations added.
        notes: paragraphs on the data and the models.
        pngs: also write every picture as a PNG beside the page.

    Returns:
        The path of the page.

    Raises:
        ValueError: no results.
    """
    if not results and not others:
        raise ValueError("expected at least one result, as in {'resnet50': result}, got none")
    page = _Page(Path(path), pngs)
    page.add(f"<h1>{html.escape(title)}</h1>")
    page.add(*(f"<p>{html.escape(note)}</p>" for note in notes))
    if results:
        _add_maps(page, results)
    for name, result in (sensitivities or {}).items():
        page.section(f"From one backward pass per image: {name}")
        page.picture(f"gradient-{name}", result.plot(), "First-order sensitivity of the loss; see the documentation.")
    for name, other in (others or {}).items():
        _add_other(page, name, other)
    if results:
        _add_settings(page, results, example)
    page.write(title)
    return page.path


class _Page:
    """Pieces of the page as they are added."""

    def __init__(self, path: Path, pngs: bool) -> None:
        self.path, self._pngs = path, pngs
        self._body: list[str] = []

    def add(self, *pieces: str) -> None:
        self._body.extend(pieces)

    def section(self, title: str) -> None:
        self.add(f"<h2>{html.escape(title)}</h2>")

    def picture(self, name: str, figure: Figure, caption: str) -> None:
        data = plots.figure_png(figure)
        if self._pngs:
            file = self.path.parent / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name).strip('.-')}.png"
            with store.atomic_path(file) as temporary:
                temporary.write_bytes(data)
        encoded = base64.b64encode(data).decode()
        alt = html.escape(caption or name, quote=True)
        width, height = figure.get_size_inches()
        wide = ' class="wide"' if width > 1.7 * height else ""  # scrolls on a phone instead of shrinking
        self.add(
            f'<figure{wide}><img alt="{alt}" src="data:image/png;base64,{encoded}">'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        )

    def write(self, title: str) -> None:
        body = "\n".join(self._body)
        store.write_text(
            self.path,
            f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n",
        )


def _add_maps(page: _Page, results: Mapping[str, HeatmapResult]) -> None:
    page.section("In short")
    page.add(_summary_table(results), *(f"<p>{html.escape(line)}</p>" for line in _comparisons_in_words(results)))
    page.section("Error at every frequency")
    page.picture("maps", plots.plot_heatmaps(results), "Scale from 0 to 1 on every map; zero frequency in the centre.")
    page.section("How to read this map")
    page.add(_HOW_TO_READ)
    page.section("By distance from the centre")
    complete = {name: r for name, r in results.items() if not np.isnan(r.error).any()}
    if complete:
        page.picture("radial", plots.plot_radial(complete), "Bands are 95 % intervals over images.")
    _add_details(page, results)
    _add_pairs(page, results)


def _add_other(page: _Page, name: str, result: Drawn) -> None:
    """Picture and table of a result of any kind."""
    spectrum = isinstance(result, LayerSpectrum | ModelSpectrum)
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(result).__name__.removesuffix("Result")).capitalize()
    page.section(f"{'Singular values' if spectrum else words}: {name}")
    page.picture(f"{words}-{name}".lower(), result.plot(), "")
    if spectrum:
        layers = result.values() if isinstance(result, ModelSpectrum) else [result]
        page.add(_table(*tables.spectrum_rows(layers)), _SPECTRUM_NOTE)
        return
    if isinstance(result, BottleneckResult) and result.activations:
        page.picture(f"activations-{name}".lower(), result.plot_activations(), "")
    if isinstance(result, BottleneckResult | DownsamplingSuggestion):
        page.add(_BOTTLENECK_NOTE if isinstance(result, BottleneckResult) else _DOWNSAMPLING_NOTE)
    table = getattr(result, "summary", None) or getattr(result, "table", None)
    if table is not None:
        page.add(_table(*tables.table_rows(table())))


def _add_settings(page: _Page, results: Mapping[str, HeatmapResult], example: Any) -> None:
    first = next(iter(results.values()))
    page.section("What was added to the images")
    gallery = plots.plot_basis_gallery(first.shape[1:], convention=first.convention, eps=first.eps, image=example)
    page.picture("basis", gallery, "Basis images, and an image with each of them added." if example is not None else "")
    page.section("Settings")
    page.add(_settings_table(results), _repeat(first))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return f'<div class="wide"><table>{line(head, "th")}{"".join(line(row, "td") for row in rows)}</table></div>'


def _bands(result: HeatmapResult) -> list[str]:
    """Mean error in the inner quarter, the middle and the outer half of the map's radii."""
    radius = fourier.radius(fourier.centred_grid(result.size), result.shape[1:]) / (min(result.size) / 2)
    cells = [radius <= 0.25, (radius > 0.25) & (radius <= 0.75), radius > 0.75]
    with np.errstate(invalid="ignore"):
        return [f"{np.nanmean(result.error[c]):.3f}" if np.isfinite(result.error[c]).any() else "-" for c in cells]


def _summary_table(results: Mapping[str, HeatmapResult]) -> str:
    rows = []
    for name, result in results.items():
        low, high = (_interval.reshape(-1) for _interval in result.interval())
        worst = int(np.nanargmax(result.error))
        ky, kx = (int(k) for k in fourier.centred_grid(result.size).reshape(-1, 2)[worst])
        where = f"{result.error.reshape(-1)[worst]:.3f} [{low[worst]:.3f}, {high[worst]:.3f}] at ({ky}, {kx})"
        rows.append([name, f"{result.clean_error:.3f}", *_bands(result), where])
    head = ["network", "clean error", "low frequencies", "middle", "high", "worst, 95 % interval, (ky, kx)"]
    return _table(head, rows) + '<p class="small">Mean error of the inner quarter, the middle half and the rest.</p>'


def _pairs(results: Mapping[str, HeatmapResult]) -> list[tuple[str, str]]:
    """Neighbours of the first model and, with few models, every pair."""
    names = list(results)
    return list(itertools.combinations(names, 2)) if len(names) <= 3 else [(names[0], other) for other in names[1:]]


def _comparisons_in_words(results: Mapping[str, HeatmapResult]) -> list[str]:
    lines = []
    for a, b in _pairs(results):
        try:
            comparison = results[a].compare(results[b])
        except ValueError as error:
            lines.append(f"{a} and {b} cannot be compared image by image: {error}.")
            continue
        sure, difference = comparison.significant(), comparison.difference
        better, worse = int((sure & (difference > 0)).sum()), int((sure & (difference < 0)).sum())
        lines.append(
            f"{a} is more robust than {b} in {better} of {sure.size} cells and less robust in {worse}; in the others "
            f"the difference may be chance (McNemar's test on the same images, false discovery rate 5 %)."
        )
    return lines


def _add_pairs(page: _Page, results: Mapping[str, HeatmapResult]) -> None:
    drawn = False
    for a, b in _pairs(results):
        try:
            comparison = results[a].compare(results[b])
        except ValueError:
            continue  # said in words above
        if not drawn:
            page.section("Where two networks differ")
            drawn = True
        page.picture(f"{b}-minus-{a}", plots.plot_comparison(comparison, names=(a, b)), f"{b} against {a}.")


def _add_details(page: _Page, results: Mapping[str, HeatmapResult]) -> None:
    page.section("Map by map")
    for name, result in results.items():
        page.picture(f"difference-{name}", result.plot(difference=True), f"{name}: error minus clean error.")
        for metric in result.metrics[1:]:
            page.picture(f"{metric}-{name}", result.plot(metric=metric), f"{name}: {metric}.")
        if result.layers:
            page.picture(f"layers-{name}", plots.plot_layers(result), f"{name}: relative change of hidden layers.")
        if result.convention.clip:
            caption = f"{name}: norm per channel that clipping left of eps = {result.eps:g}."
            page.picture(f"effective-eps-{name}", plots.plot_effective_eps(result), caption)


def _settings_table(results: Mapping[str, HeatmapResult]) -> str:
    rows = []
    for name, r in results.items():
        c = r.convention
        settings = {
            "convention": f"{c.name}: phase {c.phase:.4g}, sign per {c.signs}, clip {c.clip}",
            "eps (L2 per channel, pixels in [0, 1])": f"{r.eps:g}",
            "images": f"{r.n_images} of {r.shape[0]} x {r.shape[1]} x {r.shape[2]}",
            "map": f"{r.size[0]} x {r.size[1]}, {len(r.frequencies)} distinct frequencies evaluated",
            "seed": str(r.seed),
            **r.details,
        }
        rows += [[name, key, value] for key, value in settings.items()]
    return _table(["network", "setting", "value"], rows)


def _repeat(result: HeatmapResult) -> str:
    code = (
        "import fastfreq as ff\n"
        f"result = ff.heatmap(model, images, labels, eps={result.eps:g}, size={result.size}, seed={result.seed},\n"
        f"                    convention={result.convention!r})\n"
        "result.plot()"
    ).replace("Convention(", "ff.Convention(")
    return f"<p>The same figures again:</p><pre>{html.escape(code)}</pre>"

"""What heat maps have beside their picture: regions, pairs of networks, rings, layers, what was added to images."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastfreq import plots
from fastfreq.plots import comparison as comparison_plot
from fastfreq.plots import heatmap as heatmap_plot
from fastfreq.vocabulary import fourier

from .page import Page

Results = Mapping[str, Any]  # of heat maps


def before(page: Page, results: Results) -> None:
    """In short: regions of each map, and what pairs of networks differ in."""
    rows = []
    for name, result in results.items():
        low, high = (interval.reshape(-1) for interval in result.interval())
        worst = int(np.nanargmax(result.error))
        ky, kx = (int(k) for k in fourier.centred_grid(result.size).reshape(-1, 2)[worst])
        where = f"{result.error.reshape(-1)[worst]:.3f} [{low[worst]:.3f}, {high[worst]:.3f}] at ({ky}, {kx})"
        rows.append([name, f"{result.clean_error:.3f}", *_regions(result), where])
    head = ["network", "clean error", "low frequencies", "middle", "high", "worst, 95 % interval, (ky, kx)"]
    page.table(head, rows)
    page.text("Mean error of the inner quarter, the middle half and the rest.", small=True)
    page.text(*_in_words(results))


def _regions(result: Any) -> list[str]:
    """Mean error in the inner quarter, the middle and the outer part of the map's radii."""
    radius = fourier.radius(fourier.centred_grid(result.size), result.shape[1:]) / (min(result.size) / 2)
    cells = [radius <= 0.25, (radius > 0.25) & (radius <= 0.75), radius > 0.75]
    with np.errstate(invalid="ignore"):
        return [f"{np.nanmean(result.error[c]):.3f}" if np.isfinite(result.error[c]).any() else "-" for c in cells]


def _pairs(results: Results) -> list[tuple[str, str]]:
    """Neighbours of the first model and, with few models, every pair."""
    names = list(results)
    return list(itertools.combinations(names, 2)) if len(names) <= 3 else [(names[0], other) for other in names[1:]]


def _in_words(results: Results) -> list[str]:
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


def after(page: Page, results: Results, example: Any) -> None:
    """Rings, map by map, pairs, what was added."""
    complete = {name: r for name, r in results.items() if not np.isnan(r.error).any()}
    if complete:
        page.section("By distance from the centre")
        page.picture("radial", heatmap_plot.plot_radial(complete), "Bands are 95 % intervals over images.")
    page.section("Map by map")
    for name, result in results.items():
        _details(page, name, result)
    _comparisons(page, results)
    first = next(iter(results.values()))
    page.section("What was added to the images")
    gallery = plots.plot_basis_gallery(first.shape[1:], convention=first.convention, eps=first.eps, image=example)
    page.picture("basis", gallery, "Basis images, and an image with each of them added." if example is not None else "")


def _details(page: Page, name: str, result: Any) -> None:
    page.picture("difference", result.plot(difference=True), f"{name}: error minus clean error.", of=name)
    for metric in result.metrics[1:]:
        page.picture(metric, result.plot(metric=metric), f"{name}: {metric}.", of=name)
    if result.layers:
        layers = heatmap_plot.plot_layers(result)
        page.picture("layers", layers, f"{name}: relative change of hidden layers.", of=name)
    if result.convention.clip:
        caption = f"{name}: norm per channel that clipping left of eps = {result.eps:g}."
        page.picture("effective-eps", heatmap_plot.plot_effective_eps(result), caption, of=name)


def _comparisons(page: Page, results: Results) -> None:
    drawn = False
    for a, b in _pairs(results):
        try:
            comparison = results[a].compare(results[b])
        except ValueError:
            continue  # said in words above
        if not drawn:
            page.section("Where two networks differ")
            drawn = True
        page.picture(f"{b}-minus-{a}", comparison_plot.plot(comparison, names=(a, b)), f"{b} against {a}.")

"""The page: complete in itself, of any mix of kinds, and it says what was measured."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure

import fastfreq as ff
from fastfreq.report import kinds, write_report
from fastfreq.report.page import is_flat
from fastfreq.results import registry


@pytest.fixture
def results(make_net, make_images, one_thread):
    net, other = make_net(), make_net(seed=1)
    images, labels = make_images(net, n=16)
    return {
        "natural": ff.heatmap(net, images, labels, eps=2.0, size=7, metrics=("loss",), layers=["stem"]),
        "<b>robust</b>": ff.heatmap(other, images, labels, eps=2.0, size=7),
    }


@pytest.fixture
def undrawn(monkeypatch):
    """Pictures are files of nothing."""
    monkeypatch.setattr(Figure, "savefig", lambda _figure, file, **_: file.write(b"\x89PNG\r\n\x1a\n"))


class Page(HTMLParser):
    """Collects sources, text and tags that were opened and not closed."""

    def __init__(self, text):
        super().__init__()
        self.sources, self.open, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def words(path) -> str:
    return " ".join(Page(path.read_text()).text)


def test_the_page_is_complete_in_itself(results, tmp_path):
    path = write_report(results, tmp_path / "report.html", notes=["digits & co"])
    text = path.read_text()
    page = Page(text)
    assert not page.open  # every tag is closed
    assert len(page.sources) > 6 and all(s.startswith("data:image/png;base64,") for s in page.sources)
    assert "<script" not in text and "@import" not in text and "url(" not in text
    assert 'name="viewport"' in text
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_the_page_says_what_was_measured(results, tmp_path, undrawn):
    natural = results["natural"]
    results["natural"] = dataclasses.replace(natural, details={**natural.details, "command": "fastfreq heatmap ..."})
    said = words(write_report(results, tmp_path / "r.html", notes=["digits & co"]))
    for expected in (
        "digits & co", "<b>robust</b>", f"{natural.clean_error:.3f}", f"{natural.error.max():.3f}", "Two traps",
        "McNemar", "phase 0.7854", natural.model.weights, "relative change of hidden layers", natural.headline(),
        "fastfreq heatmap ...",
    ):  # fmt: skip
        assert expected in said, expected


def test_maps_that_cannot_be_compared_are_said_so(results, tmp_path, undrawn):
    names = list(results)
    results[names[1]] = dataclasses.replace(results[names[1]], eps=1.0)
    text = write_report(results, tmp_path / "r.html").read_text()
    assert "cannot be compared image by image: expected two results of the same eps" in text


def test_any_mix_of_kinds_stands_in_one_mapping(make_net, make_images, tmp_path, undrawn, one_thread):
    net, other = make_net(), make_net(seed=1)
    images, labels = make_images(net)
    part = ff.heatmap(net, images, labels, eps=2.0, frequencies=[(0, 0), (1, 2), (3, 3)])
    curves = [
        ff.filter_curve(n, images, labels, kind=kind, bandwidths=[2, 4])
        for n in (net, other)
        for kind in ("low", "high")
    ]
    shown = {"net": [part, ff.gradient_heatmap(net, images, labels, eps=2.0), *curves[:2]], "other": curves[2:]}
    path = write_report(shown, tmp_path / "r.html", example=images[0], pngs=True)
    assert not Page(path.read_text()).open
    headings = re.findall("<h2>(.*?)</h2>", path.read_text())
    sections = ["heatmap", "gradient_heatmap", "filter_curve"]  # in the order of the registry
    assert [h for h in headings if h in kinds.TITLES.values()] == [kinds.TITLES[kind] for kind in sections]
    names = {p.name for p in tmp_path.iterdir()}
    assert {"heatmap-net.png", "gradient-heatmap-net.png", "basis.png", "filter-curve.png"} <= names
    assert "radial.png" not in names  # of complete maps only


def test_results_that_do_not_fit_one_picture_are_drawn_one_by_one(make_net, make_images, tmp_path, undrawn, one_thread):
    net = make_net()
    images, labels = make_images(net)
    curve = ff.noise_curve(net, images, labels, norm=1.0, bandwidths=[2])
    path = write_report({"net": [curve, curve]}, tmp_path / "r.html", pngs="noise")
    assert "Drawn one by one" in path.read_text()
    assert {p.name for p in tmp_path.iterdir()} == {"r.html", "noise-noise-curve.png", "noise-noise-curve-2.png"}


def test_maps_of_one_colour_are_folded_and_said(make_net, make_images, tmp_path, one_thread):
    figure = Figure()
    image = figure.subplots().imshow(np.full((3, 5), 0.5), vmin=0, vmax=1)
    figure.colorbar(image)
    assert is_flat(figure)
    image.set_data([[0.0, 1.0]])
    assert not is_flat(figure)
    assert not is_flat(Figure())
    curve = Figure()
    curve.subplots().plot([0, 1], [0, 0])
    assert not is_flat(curve)
    net = make_net()
    images, labels = make_images(net)
    with pytest.warns(UserWarning, match="flat"):
        flat = ff.heatmap(net, images, labels, eps=1e-4, size=3)
    text = write_report({"net": flat}, tmp_path / "r.html").read_text()
    assert "<details><summary>Nearly the same value in every cell, folded away: net" in text


def test_every_kind_has_a_title_and_a_note():
    names = {kind.name for kind in registry.KINDS}
    assert set(kinds.TITLES) == names and set(kinds.NOTES) >= names - {"latent_edit"}


def test_the_page_needs_no_measurement():
    code = "import fastfreq.report, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not [name for name in loaded if name.startswith(("fastfreq.inputs", "fastfreq.layers"))]


def test_what_is_no_result_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one result"):
        write_report({}, tmp_path / "r.html")
    with pytest.raises(TypeError, match="'net' is dict"):
        write_report({"net": {}}, tmp_path / "r.html")  # pyright: ignore[reportArgumentType]

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser

import pytest

import fastfreq as ff
from fastfreq.report import write_report


@pytest.fixture
def results(make_net, make_images):
    net, other = make_net(), make_net(seed=1)
    images, labels = make_images(net, n=16)
    return {
        "natural": ff.heatmap(net, images, labels, eps=2.0, metrics=("loss",), layers=["stem"]),
        "<b>robust</b>": ff.heatmap(other, images, labels, eps=2.0),
    }


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


def test_the_page_is_complete_in_itself(results, tmp_path):
    path = write_report(results, tmp_path / "report.html", notes=["digits & co"])
    text = path.read_text()
    page = Page(text)
    assert not page.open  # every tag is closed
    assert len(page.sources) > 6 and all(s.startswith("data:image/png;base64,") for s in page.sources)
    assert "<script" not in text and "@import" not in text and "url(" not in text
    assert 'name="viewport"' in text
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_the_page_says_what_was_measured(results, tmp_path):
    words = " ".join(Page(write_report(results, tmp_path / "r.html", notes=["digits & co"]).read_text()).text)
    natural = results["natural"]
    for expected in (
        "digits & co", "<b>robust</b>", f"{natural.clean_error:.3f}", f"{natural.error.max():.3f}", "How to read",
        "McNemar", "phase 0.7854", natural.details["model_fingerprint"], "relative change of hidden layers",
    ):  # fmt: skip
        assert expected in words, expected


def test_maps_that_cannot_be_compared_are_said_so(results, tmp_path):
    names = list(results)
    results[names[1]] = dataclasses.replace(results[names[1]], eps=1.0)
    text = write_report(results, tmp_path / "r.html").read_text()
    assert "cannot be compared image by image: expected two heat maps with the same eps, got 2.0 and 1.0" in text


def test_an_incomplete_map_and_one_result_are_drawn_too(make_net, make_images, tmp_path):
    net = make_net()
    images, labels = make_images(net)
    part = ff.heatmap(net, images, labels, eps=2.0, frequencies=[(0, 0), (1, 2), (3, 3)])
    sensitivity = ff.gradient_heatmap(net, images, labels)
    path = write_report(
        {"part": part}, tmp_path / "r.html", sensitivities={"part": sensitivity}, example=images[0], pngs=True
    )
    assert not Page(path.read_text()).open
    assert {"maps.png", "gradient-part.png", "basis.png"} <= {p.name for p in tmp_path.iterdir()}


def test_no_results_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one result"):
        write_report({}, tmp_path / "r.html")

"""Files that earlier versions wrote are read, and say what they said."""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastfreq as ff

FOLDER = Path(__file__).parent
EXPECTED: dict[str, dict[str, Any]] = json.loads((FOLDER / "expected.json").read_text())


def figure(result: Any, path: str) -> Any:
    """What stands at an attribute path such as ``radial('input').value[1]``."""

    def read(node: ast.expr) -> Any:
        if isinstance(node, ast.Name):
            return getattr(result, node.id)
        if isinstance(node, ast.Attribute):
            return getattr(read(node.value), node.attr)
        if isinstance(node, ast.Subscript):
            return read(node.value)[ast.literal_eval(node.slice)]
        if isinstance(node, ast.Call):
            return read(node.func)(*map(ast.literal_eval, node.args))
        raise TypeError(f"expected attributes, indices and calls with literals, got {ast.dump(node)}")

    return read(ast.parse(path, mode="eval").body)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_saved_file_gives_the_figures_that_it_gave(name):
    result = ff.load(FOLDER / f"{name}.npz")
    for path, expected in EXPECTED[name].items():
        found = figure(result, path)
        if isinstance(expected, float):
            assert found == pytest.approx(expected, rel=1e-12), path
        else:
            assert found == expected, path


def test_an_interrupted_run_goes_on_or_is_refused(make_net, tmp_path):
    with np.load(FOLDER / "images_labels.npz") as file:
        images, labels = file["images"], file["labels"]
    shutil.copy(FOLDER / "heatmap_interrupted.npz", tmp_path / "c.npz")
    asked: dict[str, Any] = {"eps": 1.0, "size": (5, 5), "metrics": ("error", "loss"), "layers": ("body",), "seed": 1}
    net = make_net(seed=0)
    expected = ff.heatmap(net, images, labels, **asked)
    try:
        found = ff.heatmap(net, images, labels, **asked, checkpoint=tmp_path / "c.npz")
    except ValueError as error:  # a later format knows more of the images than the file says
        assert "expected" in str(error)
        return
    np.testing.assert_array_equal(found.error, expected.error)
    assert found.n_images == 6


def test_every_file_has_its_expectations():
    files = {file.stem for file in FOLDER.glob("*.npz")} - {"images_labels"}
    assert files == set(EXPECTED)

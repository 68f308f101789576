"""Tables as text and CSV."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest

from fastfreq.layers.layer_singular_values import LayerSingularValues, condition_text, spectrum_rows
from fastfreq.results import tables


def layer(values, *, accuracy="exact", exact=True):
    return LayerSingularValues(
        name="conv", layer_type="Conv2d", weight_shape=(4, 3, 3, 3), input_size=(8, 9), grid=(1, 2),
        frequencies=np.zeros((1, 2), int), cells=np.zeros((1, 2), int), multiplicity=np.array([2]),
        distinct=np.array([values], dtype=np.float64), accuracy=accuracy, exact=exact, note="",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("values", "accuracy", "text"),
    [
        ((6, 3), "high", "2"),
        ((1e-3, 1e-9), "high", "1e+06"),
        ((1, 0), "high", ">1e7"),
        ((1, 9e-8), "high", ">5.2e6"),  # 1 / 1.9e-7 is 5.26e6: rounded down, or it would not be certain
        ((5, 0), "fast", ">2.8e3"),
        ((1, 0), "exact", ">1e12"),
        ((0, 0), "exact", "-"),
    ],
)
def test_conditions_that_are_not_resolved_are_bounds(values, accuracy, text):
    assert condition_text(layer(values, accuracy=accuracy)) == text


def test_rows_of_spectra_mark_upper_bounds():
    head, rows = spectrum_rows([layer((2, 1)), layer((2, 1), exact=False)])
    assert rows[0] == ["conv", "Conv2d", "4 x 3 x 3 x 3", "8 x 9", "2", "2", "4", "4"]
    assert rows[1][head.index("norm")] == "<= 2"


def test_names_are_set_left_and_figures_right():
    text = tables.to_text((["layer", "size", "norm"], [["a", "3 x 3", "<= 2"], ["block.1", "10 x 10", "12.5"]]))
    assert text.splitlines() == [
        "layer    size     norm",
        "a        3 x 3    <= 2",
        "block.1  10 x 10  12.5",
    ]


def test_csv_keeps_figures_in_full():
    table = [{"layer": "a,b", "shape": (3, 4), "norm": 1 / 3}]
    row = next(csv.DictReader(io.StringIO(tables.to_csv(table))))
    assert row == {"layer": "a,b", "shape": "3 x 4", "norm": repr(1 / 3)}
    assert tables.table_rows(table) == (["layer", "shape", "norm"], [["a,b", "3 x 4", "0.3333"]])


def test_a_figure_and_its_interval_share_a_column():
    table = [{"x": 1, "x_low": 0.5, "x_high": 1.25, "low": 2.0, "low_from": 1.0, "low_to": 3.0, "y_low": 0.0}]
    expected = (["x", "low", "y low"], [["1 [0.5, 1.25]", "2.0 [1.0, 3.0]", "0"]])
    assert tables.table_rows(table) == expected
    assert tables.table_rows([{"x": 1.0, "x_low": math.nan, "x_high": math.nan}]) == (["x"], [["1"]])


def test_columns_become_rows_of_plain_values():
    rows = tables.from_columns({"band": np.array([1.5, 3]), "count": 7, "name": ["a", "b"]})
    assert rows == [{"band": 1.5, "count": 7, "name": "a"}, {"band": 3.0, "count": 7, "name": "b"}]
    assert all(type(value) in (float, int, str) for row in rows for value in row.values())

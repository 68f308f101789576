"""Pictures of singular values: what is drawn is what was measured."""

import dataclasses

import numpy as np
import pytest

from fastfreq import plots
from fastfreq.layers.layer_singular_values import LayerSingularValues
from fastfreq.layers.singular_values import SingularValues
from fastfreq.plots import singular_values


def layer(grid, *, name="conv", seed=0, r=3, exact=True, constant=False):
    """A spectrum with values of its own at every frequency, or one matrix for all of them."""
    n = int(np.prod(grid))
    frequencies = np.stack(np.unravel_index(np.arange(n), grid), axis=1)
    cells = np.zeros(grid, int) if constant else np.arange(n).reshape(grid)
    f = cells.max() + 1
    return LayerSingularValues(
        name=name, layer_type="Conv2d", weight_shape=(5, 3, 3, 3), input_size=grid, grid=grid,
        frequencies=frequencies[:f],
        cells=cells, multiplicity=np.bincount(cells.reshape(-1)), accuracy="exact", exact=exact, note="a note",
        distinct=-np.sort(-np.random.default_rng(seed).uniform(0.5, 2, (f, r)), axis=1),
    )  # fmt: skip


def model(*layers):
    return SingularValues(model="net $x^$", input_size=(3, 9, 8), layers={each.name: each for each in layers})


def test_the_curve_goes_through_all_values_in_descending_order():
    spectrum = layer((9, 8))
    axes = spectrum.plot().axes[0]
    expected = np.sort(spectrum.values, axis=None)[::-1]
    rank, drawn = axes.lines[0].get_data()
    at = np.linspace(0, len(expected) - 1, len(drawn)).astype(int)
    np.testing.assert_array_equal(drawn, expected[at])
    assert rank[0] == 0 and rank[-1] == spectrum.count == axes.get_xlim()[1]


def test_colours_under_the_curve_are_the_radii_of_the_values_there():
    spectrum = layer((6, 6), r=1)
    by_radius = spectrum.radius.reshape(-1)
    spectrum = dataclasses.replace(spectrum, distinct=1 - by_radius[:, None])  # low frequencies have the large values
    mesh = spectrum.plot().axes[0].collections[0]
    colours = np.asarray(mesh.get_array())  # (slivers, columns)
    assert (np.diff(colours, axis=0) >= 0).all() and (np.diff(colours.mean(axis=0)) >= -1e-12).all()
    assert colours.min() == 0 and colours.max() == by_radius.max()
    assert mesh.get_clim() == (0, 0.5 * 2**0.5)
    np.testing.assert_allclose(colours.mean(), by_radius.mean(), atol=0.02)


def test_frequencies_that_share_a_matrix_keep_their_own_colours():
    spectrum = layer((1, 4), r=1)
    shared = dataclasses.replace(
        spectrum, distinct=np.array([[1.0], [1.0]]), cells=np.array([[0, 1, 0, 1]]), multiplicity=np.array([2, 2]),
        frequencies=np.array([[0, 0], [0, 1]]),
    )  # fmt: skip
    colours = np.asarray(shared.plot().axes[0].collections[0].get_array())
    np.testing.assert_allclose(np.unique(colours), [0, 0.25, 0.5])


@pytest.mark.parametrize("grid", [(5, 8), (9, 4), (7, 7), (1, 3)], ids=str)
def test_the_map_has_zero_frequency_in_the_centre(grid):
    spectrum = layer(grid)
    axes = next(a for a in spectrum.plot().axes if a.images)
    image = axes.images[0]
    left, right, bottom, top = image.get_extent()
    np.testing.assert_allclose([right - left, bottom - top], 1)  # cycles per pixel
    row, column = int(-top * grid[0]), int(-left * grid[1])  # the cell that covers (0, 0)
    assert image.get_array()[row, column] == spectrum.distinct[0, 0]
    np.testing.assert_array_equal(np.sort(image.get_array(), axis=None), np.sort(spectrum.values[..., 0], axis=None))


@pytest.mark.parametrize("grid", [(9,), (3, 4, 5)], ids=str)
def test_one_and_three_dimensions_have_a_radial_profile(grid):
    spectrum = layer(grid)
    axes = next(a for a in spectrum.plot().axes[1:] if a.lines)
    np.testing.assert_array_equal(axes.lines[0].get_data(), (spectrum.profile().radius, spectrum.profile().largest))


def test_headings_say_what_was_measured():
    figure = layer((5, 8), exact=False).plot()
    assert figure.get_suptitle() == "conv: Conv2d 5 x 3 x 3 x 3, input 5 x 8, upper bound"
    assert "120 values" in figure.get_supxlabel() and "A note." in figure.get_supxlabel()
    assert "exact" in layer((5, 8)).plot().get_suptitle()


def test_one_matrix_for_all_frequencies_has_one_panel_and_no_colours():
    figure = layer((5, 8), constant=True).plot()
    assert len(figure.axes) == 1 and "One matrix" in figure.get_supxlabel()


def test_zeros_and_what_is_not_resolved_are_marked():
    zero = layer((4, 5))
    zero = dataclasses.replace(zero, distinct=np.zeros_like(zero.distinct))
    assert plots.figure_png(zero.plot()).startswith(b"\x89PNG")
    partly = layer((4, 5))
    values = partly.distinct.copy()
    values[:, -1] = 0
    figure = dataclasses.replace(partly, distinct=values, accuracy="high").plot()
    assert figure.axes[0].get_yscale() == "log" and "not told from zero" in figure.get_supxlabel()
    assert np.isnan(figure.axes[0].lines[0].get_ydata()).any()  # no line where a logarithm has no value


def test_a_model_has_a_summary_and_a_panel_per_layer():
    layers = [layer((5, 8), name="a"), layer((4, 4), name="b", constant=True), layer((3, 9), name="c", exact=False)]
    figure = model(*layers).plot()
    summary, *panels = figure.axes
    np.testing.assert_array_equal(summary.lines[0].get_ydata(), [each.norm for each in layers])
    np.testing.assert_array_equal(summary.lines[1].get_ydata(), [each.median for each in layers])
    assert [text.get_text() for text in summary.get_xticklabels()] == ["a", "b", "c"]
    assert [axes.get_title() for axes in panels if axes.get_title()] == ["a", "b", "c"]
    assert figure.get_suptitle() == "net $x^$, input 3 x 9 x 8: singular values of 3 layers, 1 of them upper bounds"
    assert plots.figure_png(figure).startswith(b"\x89PNG")


def test_a_deep_model_shows_the_first_the_last_and_some_between():
    deep = model(*(layer((4, 5), name=f"block.{i}") for i in range(30)))
    titles = [axes.get_title() for axes in singular_values.plot(deep, max_layers=4).axes]
    assert [title for title in titles if title] == ["block.0", "block.10", "block.19", "block.29"]
    with pytest.raises(ValueError, match="max_layers=0"):
        singular_values.plot(deep, max_layers=0)
    with pytest.raises(ValueError, match="expected at least one layer"):
        singular_values.plot(model())

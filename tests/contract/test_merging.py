"""`a + b`: shards of one measurement become the whole, and nothing else is ever mixed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import fastfreq as ff
from tests.contract import subjects
from tests.contract.table import Row, rows, rows_and, rows_and_settings, whole

HALVES = ({"shard": (0, 2)}, {"shard": (1, 2)})


def halves(row: Row) -> tuple[dict, dict]:
    """Arguments of two shards."""
    first, second = HALVES if "shard" in row.shards[0] else row.shards[:2]
    return dict(first), dict(second)


@rows("shards")
def test_shards_merged_in_any_order_are_the_whole(row):
    parts = [row.plain(**shard) for shard in row.shards]
    expected = row.numbers(whole(row.name))
    for order in itertools.permutations(parts):
        merged = order[0]
        for part in order[1:]:
            merged = merged + part
        subjects.assert_same(row.numbers(merged), expected)


@rows("shards")
def test_merging_is_associative(row):
    parts = [row.plain(**shard) for shard in row.shards]
    if len(parts) < 3:
        pytest.skip("two shards: the other test has both orders")
    left, right = (parts[0] + parts[1]) + parts[2], parts[0] + (parts[1] + parts[2])
    subjects.assert_same(row.numbers(left), row.numbers(right))


@rows_and("change", tuple(subjects.MODEL_CHANGES), "shards", "model")
def test_shards_of_two_models_are_refused(row, change):
    first, second = halves(row)
    model, other = subjects.MODEL_CHANGES[change]()
    a, b = row.plain(model, **first), row.plain(other, **second)
    a + row.plain(model, **second)
    with pytest.raises(ValueError, match="expected"):
        a + b


@rows("shards", "precision")
def test_shards_of_two_precisions_are_refused(row):
    first, second = halves(row)
    a, b = row.plain(**first), row.plain(precision="bf16", **second)
    with pytest.raises(ValueError, match="precision"):
        a + b


@rows("shards", "fold_batch_norm", "precision")
def test_shards_with_and_without_folding_are_refused(row):
    first, second = halves(row)
    a, b = row.plain(**first), row.plain(fold_batch_norm=True, **second)
    with pytest.raises(ValueError, match="expected"):
        a + b


@rows_and_settings("shards")
def test_shards_of_two_settings_are_refused(row, other):
    first, second = halves(row)
    a, b = row.plain(**{**first, **other}), row.plain(**second)
    with pytest.raises(ValueError, match="expected"):
        a + b


@rows("shards")
def test_the_same_images_twice_are_refused(row):
    first, _ = halves(row)
    a = row.plain(**first)
    for again in (a, row.plain(**first), whole(row.name)):
        with pytest.raises(ValueError, match="expected"):
            a + again


@rows("shards", "images")
def test_other_images_under_the_same_ids_are_refused(row):
    a = row.plain(shard=(0, 2))
    b = row.measure(subjects.network(), subjects.images().flip(0), subjects.labels().flip(0), shard=(0, 2))
    with pytest.raises(ValueError, match="expected"):
        a + b


@rows("shards", "images")
def test_images_of_another_size_are_refused(row):
    a = row.plain(shard=(0, 2))
    b = row.measure(subjects.network(), subjects.images()[..., :12], subjects.labels(), shard=(1, 2))
    with pytest.raises(ValueError, match="expected"):
        a + b


def test_frequencies_of_other_images_are_refused():
    frequencies = ([(0, 0), (0, 1)], [(1, 0)])
    model, images, labels = subjects.network(), subjects.images(), subjects.labels()
    a = ff.heatmap(model, images, labels, eps=1.0, size=(3, 3), frequencies=frequencies[0])
    b = ff.heatmap(model, images * 0.999, labels, eps=1.0, size=(3, 3), frequencies=frequencies[1])
    with pytest.raises(ValueError, match="images"):
        a + b


@rows("shards", "images")
def test_outcomes_and_labels_follow_the_ids(row):
    """Halves by `first_image`, the later one first, are the whole with the same ids."""
    images, labels, model = subjects.images(), subjects.labels(), subjects.network()
    together = row.measure(model, images, labels, first_image=100)
    later = row.measure(model, images[5:], labels[5:], first_image=105)
    merged = later + row.measure(model, images[:5], labels[:5], first_image=100)
    subjects.assert_same(row.numbers(merged), row.numbers(together))
    np.testing.assert_array_equal(merged.image_ids, np.arange(100, 112))
    if hasattr(merged, "labels"):
        np.testing.assert_array_equal(merged.labels, labels.numpy())


@rows()
def test_a_result_comes_back_from_its_file(row, tmp_path):
    result = whole(row.name)
    result.save(tmp_path / "a.npz")
    loaded = ff.load(tmp_path / "a.npz")
    assert type(loaded) is type(result) and repr(loaded) == repr(result)
    subjects.assert_same(subjects.numbers(loaded), subjects.numbers(result))


@rows("shards")
def test_loaded_and_fresh_shards_merge(row, tmp_path):
    parts = [row.plain(**shard) for shard in row.shards]
    parts[0].save(tmp_path / "a.npz")
    merged = ff.load(tmp_path / "a.npz")
    for part in parts[1:]:
        merged = merged + part
    subjects.assert_same(row.numbers(merged), row.numbers(whole(row.name)))
    merged.save(tmp_path / "b.npz")
    subjects.assert_same(row.numbers(ff.load(tmp_path / "b.npz")), row.numbers(merged))


@rows("shards")
def test_a_loaded_shard_of_other_weights_is_refused(row, tmp_path):
    if "model" in row.cannot:
        pytest.skip(f"{row.name}: {row.cannot['model']}")
    first, second = halves(row)
    row.plain(subjects.network(seed=1), **first).save(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="expected"):
        ff.load(tmp_path / "a.npz") + row.plain(**second)


@rows("shards")
def test_results_of_two_kinds_are_refused(row):
    """In words or by Python's own TypeError, never with a sum."""
    other = ff.image_spectrum(subjects.images()) if row.name != "image_spectrum" else whole("filter_curve")
    if type(other) is type(whole(row.name)):
        other = whole("filter_curve")
    with pytest.raises((TypeError, ValueError), match="expected|unsupported operand"):
        whole(row.name) + other

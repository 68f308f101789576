from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fastfreq.vocabulary.sums import ExactSum


@pytest.fixture
def terms():
    rng = np.random.default_rng(0)
    return rng.normal(size=(1000, 3)) * 10.0 ** rng.integers(-25, 25, size=(1000, 3))


def test_a_sum_is_exact(terms):
    wanted = [math.fsum(column) for column in terms.T]
    np.testing.assert_array_equal(ExactSum.of(terms, axis=0).value, wanted)


def test_no_order_and_no_split_changes_a_bit(terms):
    whole = ExactSum.of(terms, axis=0)
    rng = np.random.default_rng(1)
    for _ in range(5):
        shuffled = terms[rng.permutation(len(terms))]
        a, b, c = (ExactSum.of(part, axis=0) for part in np.split(shuffled, np.sort(rng.integers(0, 1000, 2))))
        np.testing.assert_array_equal((c + (a + b)).parts, whole.parts)


def test_float32_terms_and_devices_agree():
    values = torch.rand(50, 4) * 1e-7
    np.testing.assert_array_equal(ExactSum.of(values, axis=0).value, [math.fsum(v.tolist()) for v in values.T])
    np.testing.assert_array_equal(ExactSum.of(values.numpy(), axis=0).parts, ExactSum.of(values, axis=0).parts)


def test_nan_and_infinity_stay_what_they_are():
    total = ExactSum.of(np.array([[np.nan, 1.0, np.inf], [2.0, 2.0, 1.0]]), axis=0)
    np.testing.assert_array_equal((total + ExactSum.of(np.ones(3))).value, [np.nan, 4.0, np.inf])


def test_sums_of_nothing_and_of_parts():
    assert ExactSum.of(np.zeros((0, 3)), axis=0).value.tolist() == [0, 0, 0]
    both = ExactSum.concatenate([ExactSum.of(np.ones((2, 3))), ExactSum.zeros((1, 3))])
    assert both.shape == (3, 3) and both[1].value.tolist() == [1, 1, 1]
    assert both.sum(0).value.tolist() == [2, 2, 2]


def test_sums_by_class_are_those_of_each_classs_terms(terms):
    labels = torch.from_numpy(np.random.default_rng(2).integers(0, 3, len(terms)) * 2)
    sums = ExactSum.by_class(torch.from_numpy(terms), labels, np.array([0, 2, 3, 4]))
    for row, label in enumerate((0, 2, 3, 4)):
        wanted = [math.fsum(column) for column in terms[labels.numpy() == label].T]
        np.testing.assert_allclose(sums.value[row], wanted, rtol=4e-16)


def test_parts_that_no_terms_have_are_refused(terms):
    parts = ExactSum.of(terms, axis=0).parts
    np.testing.assert_array_equal(ExactSum.of_parts(parts).parts, parts)
    for wrong in (0.3, 1e300, np.inf, np.nan):
        damaged = parts.copy()
        damaged[3].flat[0] = wrong
        with pytest.raises(ValueError, match="parts of a sum"):
            ExactSum.of_parts(damaged)

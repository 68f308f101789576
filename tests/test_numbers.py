from __future__ import annotations

import fractions
import math

import numpy as np
import pytest
import torch

from fastfreq.vocabulary.numbers import as_float, as_int, as_ints


@pytest.mark.parametrize("value", [5, np.int8(5), np.uint64(5), np.array(5), torch.tensor(5), torch.tensor(5).byte()])
def test_integers_of_every_library(value):
    found = as_int("size", value)
    assert found == 5 and type(found) is int


@pytest.mark.parametrize(
    "value", [True, np.True_, torch.tensor(True), np.array(True), 5.0, np.float32(5), torch.tensor(5.0), "5", None,
              np.array([5]), torch.tensor([5]), 5j, math.nan],
    ids=repr,
)  # fmt: skip
def test_what_is_no_integer_is_refused_by_name(value):
    with pytest.raises(TypeError, match="expected `size` as an integer, got "):
        as_int("size", value)


@pytest.mark.parametrize(
    "value", [1.5, np.float32(1.5), np.float16(1.5), np.array(1.5), torch.tensor(1.5), torch.tensor(1.5).bfloat16(),
              torch.tensor(1.5, requires_grad=True), fractions.Fraction(3, 2)],
    ids=repr,
)  # fmt: skip
def test_floats_of_every_library(value):
    found = as_float("eps", value)
    assert found == 1.5 and type(found) is float
    assert as_float("eps", np.int64(4)) == 4.0


@pytest.mark.parametrize(
    "value", [False, np.False_, torch.tensor(False), "1.5", None, np.array([1.5]), torch.ones(1), 1j, np.array("1.5")],
    ids=repr,
)  # fmt: skip
def test_what_is_no_number_is_refused_by_name(value):
    with pytest.raises(TypeError, match="expected `eps` as a number, got "):
        as_float("eps", value)


@pytest.mark.parametrize("value", [math.nan, np.float32("nan"), math.inf, 10**400, torch.tensor(-math.inf)])
def test_numbers_that_are_not_finite_are_refused_by_name(value):
    with pytest.raises(ValueError, match="expected a finite number as `eps`, got "):
        as_float("eps", value)


def test_infinity_where_it_means_something():
    assert as_float("norm", np.float64("inf"), finite=False) == math.inf
    with pytest.raises(ValueError, match="expected a number as `norm`, got nan"):
        as_float("norm", math.nan, finite=False)


def test_sizes_that_no_memory_holds_are_refused():
    with pytest.raises(ValueError, match=r"`size` as \(h, w\) of integers below 2\^31"):
        as_ints("size", (2**63, 3), of="(h, w)")

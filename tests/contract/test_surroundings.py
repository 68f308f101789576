"""A measurement leaves the model and torch as they were, whatever happens; threads and precision are no traps."""

from __future__ import annotations

import concurrent.futures
import copy
import functools
from typing import Any

import pytest
import torch

from tests.contract import subjects
from tests.contract.subjects import EVENTS, surroundings
from tests.contract.table import BY_NAME, Row, rows, rows_and, whole


def lively() -> torch.nn.Module:
    """A network whose state is not the usual one: a frozen weight, a hook, a weight laid out channels last."""
    net = subjects.network()
    net.body.weight.requires_grad_(False)
    net.stem.register_forward_hook(lambda *_: None)
    net.body.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return net


@rows()
def test_everything_is_as_it_was(row):
    model, images, labels = lively(), subjects.images(), subjects.labels()
    before = surroundings(model, images, labels)
    row.measure(model, images, labels)
    assert surroundings(model, images, labels) == before


@functools.cache
def passes(name: str) -> int:
    """Forward passes of a measurement."""
    EVENTS.reset()
    BY_NAME[name].measure(lively(), subjects.images(), subjects.labels())
    return EVENTS.calls


STOPS = {"exception": RuntimeError, "KeyboardInterrupt": KeyboardInterrupt}


@rows_and("error", STOPS)
def test_everything_is_as_it_was_after(row, error):
    model, images, labels = lively(), subjects.images(), subjects.labels()
    before = surroundings(model, images, labels)
    if "model" in row.cannot:

        def stop() -> None:
            raise error("stopped")

        with pytest.raises(error, match="stopped"):
            row.measure(None, subjects.batches(before={1: stop}))
    else:
        stop_after = passes(row.name) // 2
        EVENTS.stop_after, EVENTS.error, EVENTS.calls = stop_after, error, 0
        with pytest.raises((error, ValueError), match="stopped"):
            row.measure(model, images, labels)
    assert surroundings(model, images, labels) == before


@rows("model", "images")
def test_float32_is_ieee_arithmetic_whatever_the_caller_allows(row):
    seen = set()
    EVENTS.on_call = lambda: seen.add((torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32))
    torch.set_float32_matmul_precision("medium")
    try:
        row.plain()
        assert torch.get_float32_matmul_precision() == "medium" and torch.backends.cudnn.allow_tf32
    finally:
        torch.set_float32_matmul_precision("highest")
    assert seen == {("highest", False)}


@rows("model")
def test_the_networks_own_error_is_not_lost(row):
    EVENTS.stop_after, EVENTS.error = 0, ZeroDivisionError
    with pytest.raises((ZeroDivisionError, ValueError), match="stopped inside the network"):
        row.plain()


@rows("model")
def test_gradients_of_the_model_are_as_they_were(row):
    model = subjects.network()
    model(subjects.images()).sum().backward()
    before = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    row.plain(model)
    assert all(torch.equal(p.grad, before[name]) for name, p in model.named_parameters() if p.grad is not None)
    assert len(before) == len([p for p in model.parameters() if p.grad is not None])


@rows("model", "train mode")
def test_a_network_in_train_mode_is_refused(row):
    for model in (subjects.network().train(), subjects.network()):
        model.norm.train()
        with pytest.raises(ValueError, match="eval"):
            row.plain(model)


# ---------------------------------------------------------------- threads
def in_threads(calls: list[Any]) -> list[Any]:
    """Results of calls that run at the same time."""
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


@rows("model")
def test_two_threads_on_one_model_agree_with_one(row):
    model = subjects.network()
    expected = row.numbers(whole(row.name))
    EVENTS.pause = 0.002  # so that passes of both fall between each other
    for found in in_threads([lambda: row.plain(model)] * 2):
        subjects.assert_same(row.numbers(found), expected)


@rows("model", "images")
def test_two_threads_with_other_images_do_not_mix(row):
    model, images, labels = subjects.network(), subjects.images(), subjects.labels()
    parts = [(images[:5], labels[:5]), (images[5:], labels[5:])]
    expected = [row.measure(model, *part) for part in parts]
    EVENTS.pause = 0.002
    found = in_threads([lambda part=part: row.measure(model, *part) for part in parts])
    for one, other in zip(found, expected, strict=True):
        subjects.assert_same(row.numbers(one), row.numbers(other))


# ---------------------------------------------------------------- chance
@rows("model", "random")
def test_a_network_random_in_evaluation_mode_is_noticed(row):
    with pytest.warns((UserWarning, RuntimeWarning), match="Dropping"):
        row.plain(subjects.network(subjects.Dropping))


@rows()
def test_two_calls_agree_and_draw_nothing_from_global_generators(row):
    torch.manual_seed(1)
    found = row.plain()
    torch.manual_seed(2)
    again = row.plain()
    subjects.assert_same(row.numbers(found), row.numbers(again))


# ---------------------------------------------------------------- precision
DTYPES = {"bf16 weights": torch.bfloat16, "half weights": torch.float16, "double weights": torch.float64}


def assert_float32_or_refused(row: Row, model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Figures are those of the weights in float32, or the message names their type."""
    expected = row.numbers(row.plain(copy.deepcopy(model).float()))
    before = surroundings(model)
    try:
        found = row.plain(model)
    except (TypeError, ValueError) as error:
        assert "expected" in str(error) and str(dtype).removeprefix("torch.") in str(error)
        return
    finally:
        assert surroundings(model) == before
    subjects.assert_same_outcomes(row.numbers(found), expected)  # bf16 and half round to 4e-3 and 5e-4


@rows_and("dtype", DTYPES, "model")
def test_other_weights_are_measured_in_float32_or_refused(row, dtype):
    assert_float32_or_refused(row, subjects.network().to(dtype), dtype)


@rows_and("dtype", DTYPES, "model")
def test_networks_that_cast_their_input_are_measured_in_float32_or_refused(row, dtype):
    assert_float32_or_refused(row, subjects.network(subjects.Casting).to(dtype), dtype)

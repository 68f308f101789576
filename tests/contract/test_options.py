"""How a measurement is run: the same words everywhere, none of which changes an outcome."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.contract import subjects
from tests.contract.table import rows, rows_and, whole

VALUES: dict[str, Any] = {
    "precision": "fp32",
    "batch_size": 5,
    "device": torch.device("cpu"),
    "first_image": 0,
    "shard": (0, 1),
    "progress": True,
    "channels_last": False,
    "fold_batch_norm": True,
    "distributed": False,  # True: test_ranks.py
    "compile": False,  # True takes seconds: test_compilation.py
}
BAD: dict[str, Any] = {"precision": "fp8", "batch_size": 0, "first_image": -1, "shard": (2, 2), "distributed": "yes"}


def each(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """One keyword at a time."""
    return {name: {name: value} for name, value in values.items()}


def test_every_option_is_tried():
    assert {*VALUES, "checkpoint"} == set(subjects.RUN)


@rows_and("option", each(VALUES))
def test_options_change_no_outcome(row, option):
    found = row.plain(**option)
    subjects.assert_same_outcomes(row.numbers(found), row.numbers(whole(row.name)))


@rows("checkpoint", "images")
def test_checkpoint_changes_no_outcome(row, tmp_path):
    found = row.plain(checkpoint=str(tmp_path / "a.npz"))
    subjects.assert_same(row.numbers(found), row.numbers(whole(row.name)))
    assert Path(tmp_path / "a.npz").exists()


@rows_and("option", each(BAD))
def test_bad_options_are_refused_by_name(row, option):
    with pytest.raises(ValueError, match=next(iter(option))):
        row.plain(**option)


@rows()
def test_unknown_options_are_refused(row):
    with pytest.raises(TypeError, match="batchsize"):
        row.plain(batchsize=4)


@rows("progress")
def test_progress_is_shown_when_asked_for(row, capsys):
    row.plain()
    assert capsys.readouterr().err == ""
    row.plain(progress=True)
    assert capsys.readouterr().err

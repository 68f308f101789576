"""The bottleneck report against the singular values that it is made of; the answers are compared before timing.

pytest benchmarks/bench_bottleneck.py --results benchmarks/results/NAME.json
"""

from __future__ import annotations

import numpy as np
import pytest
from networks import residual_network

import fastfreq as ff
from fastfreq.results import tables

SIZES = {"resnet20": 32, "resnet18": 224, "resnet50": 224}
ROUNDS = {"resnet20": 5, "resnet18": 3, "resnet50": 3}


@pytest.mark.parametrize("name", SIZES)
def bench_report(name, paired, record):
    """All layers: kept values, ranks, table and words, over the singular values with batch norm folded in."""
    model, size = residual_network(name), (3, SIZES[name], SIZES[name])

    def ours():
        result = ff.bottleneck(model, input_size=size)
        return result, tables.to_text(tables.table_rows(result.table())), repr(result)

    def theirs():
        return ff.singular_values(model, input_size=size, fold_batch_norm=True)

    (result, _, _), spectrum = ours(), theirs()
    assert result.layers == list(spectrum)
    for layer in spectrum:
        np.testing.assert_array_equal(result.spectrum[layer].distinct, spectrum[layer].distinct)
        assert 0 < result.rank(layer) <= spectrum[layer].count
    seconds, their_seconds, ratio = paired(ours, theirs, rounds=ROUNDS[name])
    record(report_s=seconds, singular_values_s=their_seconds, ratio=ratio, layers=len(result.layers))

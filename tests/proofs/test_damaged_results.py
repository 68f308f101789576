"""Results of every kind, changed at random as files: read, or refused with a ValueError that names the file."""

from __future__ import annotations

import numpy as np
import pytest

import fastfreq as ff
from tests import test_damaged_files as damage
from tests.contract import subjects
from tests.contract.table import TABLE, whole


@pytest.mark.slow
@pytest.mark.parametrize("count", [20_000])
def test_a_changed_result_of_any_kind_is_read_or_refused_by_name(tmp_path, monkeypatch, count):
    subjects.EVENTS.reset()
    files = []
    for row in TABLE:
        whole(row.name).save(tmp_path / "whole.npz")
        files.append((tmp_path / "whole.npz").read_bytes())
    monkeypatch.setitem(
        damage.KINDS, "every", ("r.npz", lambda: files, [damage.changed_bytes, damage.changed_archive], ff.load)
    )
    refused, longest, most = damage.check("every", count, tmp_path)
    print(f"{refused} of {count} files of {len(files)} kinds refused, {longest:.3f} s, {most / 2**20:.1f} MiB at most")
    assert refused > count // 4 and longest < 2 and most < 32 << 20


@pytest.mark.slow
@pytest.mark.parametrize("row", [row for row in TABLE if not {"images", "checkpoint"} & set(row.cannot)], ids=str)
@pytest.mark.parametrize("count", [1_500])  # of each: 21,000 in all
def test_a_changed_checkpoint_is_gone_on_with_or_refused_by_name(tmp_path, monkeypatch, row, count):
    """Half of the images are finished; what is read is gone on with, to the other half."""
    subjects.EVENTS.reset()
    network, images, labels = subjects.network(), subjects.images(), subjects.labels()
    row.measure(network, images[:6], labels[:6], checkpoint=tmp_path / "half.npz")
    half = (tmp_path / "half.npz").read_bytes()

    def go_on(path):
        result = row.measure(network, images, labels, checkpoint=path)
        np.testing.assert_array_equal(result.image_ids, np.arange(12))

    monkeypatch.setitem(
        damage.KINDS, "half", ("c.npz", lambda: [half], [damage.changed_bytes, damage.changed_archive], go_on)
    )
    refused, longest, most = damage.check("half", count, tmp_path)
    print(f"{row.name}: {refused} of {count} checkpoints refused, {longest:.3f} s, {most / 2**20:.1f} MiB at most")
    assert refused > count // 4 and longest < 10 and most < 64 << 20

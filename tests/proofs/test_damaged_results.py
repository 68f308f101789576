"""Results of every kind, changed at random as files: read, or refused with a ValueError that names the file."""

from __future__ import annotations

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

"""Half a minute of the soak: what a process holds stays what it was, whatever goes wrong around measurements."""

from __future__ import annotations

import pytest

from tests.contract import subjects
from tests.proofs import soak


@pytest.mark.slow
def test_nothing_piles_up(one_thread):
    subjects.EVENTS.reset()
    found = soak.soak(60, 25)
    print(found)
    assert found["nothing_left"], found["ranges_after_warm_up"]
    assert found["rss_moved"] < 0.05  # allocators still warm up: two hours of it are held to 0.02

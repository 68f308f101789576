"""The scripts on the theory of the frequency principle, once through in small."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

SCRIPTS = Path(__file__).parents[1] / "benchmarks" / "reproductions"
SMALL = {
    "zhang2019_linear_frequency_principle": [
        *("--seeds", "1", "2", "--widths", "40", "1000", "--largest", "1200", "--steps", "30", "--cutoff", "50"),
    ],
    "luo2019_high_frequency_share": ["--seeds", "1", "--width", "5", "--steps", "3", "--size", "1024"],
    "e2019_frequency_order": ["--seeds", "1", "--steps", "3", "--width", "20", "--samples", "12"],
}


@pytest.mark.parametrize("name", SMALL)
def test_script_writes_claims_and_pictures(name, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, "argv", [name, *SMALL[name], "--out", str(tmp_path)])
    threads = torch.get_num_threads()
    try:
        importlib.import_module(name).main()
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)
    text = json.loads((tmp_path / f"{name}.json").read_text())
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    holds = [claim["holds"] for claim in text["claims"]]
    assert len(holds) >= 6 and any(holds) and not all(holds)  # a few steps teach nothing, and the claims say so
    assert "claim" in capsys.readouterr().out and "our reading" in text["published"]

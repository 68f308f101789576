"""Runs `on_device.py` in a process of its own, in which Triton interprets kernels."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.kernels.conftest import _interpreter_is_missing

FILE = Path(__file__).with_name("on_device.py")


def test_every_measurement_on_an_emulated_device(tmp_path, request):
    if _interpreter_is_missing():
        pytest.skip(_interpreter_is_missing())
    written = tmp_path / "written.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", FILE, "--junitxml", written]
    settings = os.environ | {"TRITON_INTERPRET": "1"}
    said = subprocess.run(command, env=settings, cwd=FILE.parents[1], capture_output=True, text=True)
    assert written.exists(), said.stdout[-6000:] + said.stderr[-2000:]
    cases = list(ElementTree.parse(written).iter("testcase"))
    bad = [(case.get("name"), child.text) for case in cases for child in case if child.tag in ("failure", "error")]
    assert cases and not bad and said.returncode == 0, "\n\n".join(f"{name}\n{text}" for name, text in bad[:5])

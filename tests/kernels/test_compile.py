"""Every kernel at its production launch settings, compiled for GPUs that are not there."""

import importlib
import json
import re
from pathlib import Path

import fastfreq_kernels
import pytest

pytest.importorskip("triton")
ONE_TARGET = importlib.import_module("tests.kernels._compile_all").ONE_TARGET
TARGETS = ("cuda 80", "cuda 90", "hip gfx942")


@pytest.fixture(scope="module", params=["usual", pytest.param("every", marks=pytest.mark.slow)])
def rows(request, compiled_launches):
    """What compiling the launches gave; "every" includes those that the usual ones bound."""
    found = json.loads(compiled_launches(*["--every"] * (request.param == "every")))
    titles = f"{'warps':>6}{'registers':>10}{'spilled':>8}{'wide':>5}{'narrow stores':>14}"
    print(f"\n{'target':12}{'kernel':20}{'call':48}{titles}")
    columns = "{target:12}{function:20}{kernel:48}{warps:6}{registers:10}{spilled:8}{wide_stores:5}{narrow_stores:14}"
    for row in found:
        print(columns.format(**row))
    return found


@pytest.mark.parametrize("target", TARGETS)
def test_every_kernel_is_compiled(rows, target):
    """As the source names them: an operation or a kernel without a case in its `launches_<operation>.py` fails."""
    written = {
        (file.parent.name, name)
        for file in Path(fastfreq_kernels.__file__).parent.glob("*/_triton*.py")
        for name in re.findall(r"^def (\w+_kernel)\(", file.read_text(), flags=re.MULTILINE)
    }
    assert ("fourier_perturb", "perturb_kernel") in written
    functions = {
        each: {(row["operation"], row["function"]) for row in rows if row["target"] == each} for each in TARGETS
    }
    assert functions["cuda 90"] == written
    nowhere_else = {(row["operation"], row["function"]) for row in rows if row["kernel"].endswith(ONE_TARGET)}
    assert functions[target] | nowhere_else == written


def test_nothing_spills(rows):
    assert not [row for row in rows if row["spilled"]]


@pytest.mark.parametrize("target", TARGETS)
def test_stores_are_16_bytes_wide_where_rows_allow_it(rows, target):
    chosen = [row for row in rows if row["target"] == target and row["function"] == "perturb_kernel"]
    odd = [row for row in chosen if "33x47" in row["kernel"] or "1x7" in row["kernel"]]
    assert len(odd) == 2 and not any(row["wide_stores"] for row in odd)  # rows of 47 x 3 elements start anywhere
    assert not [row for row in chosen if row not in odd and (row["narrow_stores"] or not row["wide_stores"])]


def test_no_layout_conversion_stands_between_arithmetic_and_store(rows):
    assert not [row for row in rows if row["function"] == "perturb_kernel" and row["conversions"]]

"""How code is compiled for a CPU: once, and again where anything it is made of has changed."""

import gc
import importlib.util
import sys

import pytest
import torch

pytest.importorskip("numba")
import numba
from fastfreq_kernels import radial_power
from fastfreq_kernels.simd import entry, fft


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Two files of compiled code in a folder of their own; one calls the other."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(entry, "_ROOT", tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "outer_code.py").write_text(
        "from inner_code import inner\nfrom fastfreq_kernels.simd.entry import entry\n\n"
        "@entry\ndef outer(x):\n    return 10 * inner(x)\n"
    )

    def write(text):
        """The other file's answer; the function of the first as a new process has it."""
        (tmp_path / "inner_code.py").write_text(
            f"from fastfreq_kernels.simd.vector import jit\n\n@jit\ndef inner(x):\n    return {text}\n"
        )
        entry.stamp.cache_clear()
        found = {}
        for name in ("inner_code", "outer_code"):
            spec = importlib.util.spec_from_file_location(name, tmp_path / f"{name}.py")
            found[name] = importlib.util.module_from_spec(spec)
            monkeypatch.setitem(sys.modules, name, found[name])
            exec(compile((tmp_path / f"{name}.py").read_text(), tmp_path / f"{name}.py", "exec"), vars(found[name]))
        return found["outer_code"].outer

    yield write
    entry.stamp.cache_clear()


def test_a_change_of_what_is_called_is_noticed(written):
    outer = written("x + 1")
    assert outer(1) == 20 and sum(outer.stats.cache_misses.values()) == 1
    again = written("x + 1")
    assert again(1) == 20 and sum(again.stats.cache_hits.values()) == 1
    changed = written("x + 2")  # numba's own cache looks at the file of `outer`, which is as old as it was
    assert changed(1) == 30 and not changed.stats.cache_hits


def test_without_a_place_to_write_code_is_compiled_anyway(written, monkeypatch):
    monkeypatch.setattr(entry, "_Cache", lambda _: exec("raise RuntimeError('no locator available')"))
    assert written("x + 3")(1) == 40


def test_errors_of_linked_code_reach_python(written):
    outer = written("np.zeros(int(x)).reshape(3)[0]\n\nimport numpy as np")  # of numba's code for NumPy
    assert outer(3) == 0
    with pytest.raises(ValueError, match="size"):
        outer(4)


def test_python_cannot_call_what_is_linked(written):
    outer = written("x + 1")
    outer(1)
    with pytest.raises(TypeError, match="expected compiled code to call inner, got Python"):
        outer.py_func.__globals__["inner"](1)


def test_every_pass_of_a_transform_is_compiled_once():
    radial_power(torch.rand(2, 1, 16, 21))
    assert {len(getattr(fft, name).overloads) for name in ("_pass2", "_pass3", "_pass7", "_pass8")} <= {0, 1}


def test_no_garbage_is_looked_for_while_code_is_compiled(written):
    outer, looks = written("x + 5"), []
    gc.callbacks.append(lambda phase, _info: looks.append(phase))
    try:
        assert outer(1) == 60
    finally:
        gc.callbacks.pop()
    assert len(looks) <= 4 and gc.isenabled()  # before and after

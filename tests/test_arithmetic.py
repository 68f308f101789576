"""Float32 is IEEE arithmetic while something is measured, and afterwards what it was before."""

import threading

import pytest
import torch
from torch import backends

from fastfreq.engine.arithmetic import float32

SWITCHES = [(backend, "all") for backend in ("generic", "cuda", "mkldnn")]
SWITCHES += [(backend, operation) for backend in ("cuda", "mkldnn") for operation in ("conv", "rnn", "matmul")]


def older():
    """What the switches before torch 2.9 say, or that torch refuses to read them."""
    for read in (lambda: backends.cudnn.allow_tf32, lambda: backends.cuda.matmul.allow_tf32,
                 torch.get_float32_matmul_precision):  # fmt: skip
        try:
            yield read()
        except RuntimeError:
            yield "contradicted"


def state():
    """All that can be read."""
    return [*older(), *(torch._C._get_fp32_precision_getter(*switch) for switch in SWITCHES)]


@pytest.fixture(autouse=True)
def as_new():
    """Every switch as torch is imported with."""
    yield
    torch.set_float32_matmul_precision("highest")
    for switch in SWITCHES:
        put(*switch, "none")
    backends.cudnn.allow_tf32 = True


def put(backend, operation, value):
    torch._C._set_fp32_precision_setter(backend, operation, value)


CALLERS = {
    "as new": lambda: None,
    "matmul high": lambda: torch.set_float32_matmul_precision("high"),
    "matmul medium": lambda: torch.set_float32_matmul_precision("medium"),
    "old cudnn off": lambda: setattr(backends.cudnn, "allow_tf32", False),
    "old matmul on": lambda: setattr(backends.cuda.matmul, "allow_tf32", True),
    "all tf32": lambda: put("generic", "all", "tf32"),
    "all ieee": lambda: put("generic", "all", "ieee"),
    "GPU ieee": lambda: put("cuda", "all", "ieee"),
    "CPU bf16": lambda: put("mkldnn", "all", "bf16"),
    "conv ieee": lambda: put("cuda", "conv", "ieee"),
    "conv tf32 under ieee": lambda: (put("generic", "all", "ieee"), put("cuda", "conv", "tf32")),
    "matmul tf32": lambda: put("cuda", "matmul", "tf32"),
    "CPU matmul bf16": lambda: put("mkldnn", "matmul", "bf16"),
}


@pytest.mark.parametrize("caller", CALLERS.values(), ids=list(CALLERS))
@pytest.mark.parametrize("how", ["ieee", "tf32"])
def test_what_a_caller_has_set_does_not_count_and_is_put_back(caller, how):
    caller()
    before = state()
    with float32(how):
        assert state()[-6:] == [how] * 3 + ["ieee"] * 3
        assert list(older()) == ([True, True, "high"] if how == "tf32" else [False, False, "highest"])
        with backends.cudnn.flags(enabled=True, deterministic=True):  # networks do that, and it reads them all
            pass
    assert state() == before


def test_an_inner_one_replaces_the_outer_until_it_ends():
    with float32("ieee"):
        with float32("tf32"), float32("tf32"):
            assert backends.cudnn.allow_tf32
        assert not backends.cudnn.allow_tf32
        with pytest.raises(KeyError), float32("tf32"):
            raise KeyError
        assert not backends.cudnn.allow_tf32


def test_threads_of_one_arithmetic_share_it_and_others_wait():
    order, started, go = [], threading.Event(), threading.Event()

    def run(how, wait):
        with float32(how):
            started.set()
            order.append(how)
            assert not wait or go.wait(10)
            assert backends.cudnn.allow_tf32 == (how == "tf32")

    first = threading.Thread(target=run, args=("ieee", True))
    first.start()
    assert started.wait(10)
    other, same = threading.Thread(target=run, args=("tf32", False)), threading.Thread(target=run, args=("ieee", False))
    other.start()
    same.start()
    same.join(10)
    assert order == ["ieee", "ieee"]
    go.set()
    for thread in (first, other):
        thread.join(10)
        assert not thread.is_alive()
    assert order[2:] == ["tf32"] and backends.cudnn.allow_tf32

"""On a GPU no operation waits for it; `tests/on_device.py` holds the same against an emulated one."""

import fastfreq_kernels
import pytest
import torch

from tests.kernels.calls import CALLS, placed


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(
    ("name", "arguments", "options"), CALLS, ids=[f"{i} {name}" for i, (name, _, _) in enumerate(CALLS)]
)
def test_an_operation_never_waits_for_its_gpu(name, arguments, options):
    there, settings = placed(name, arguments, options, "cuda")
    operation = getattr(fastfreq_kernels, name)
    operation(*there, **settings)  # compiles kernels, and brings tables by size of the images there
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        operation(*there, **settings)
    finally:
        torch.cuda.set_sync_debug_mode(before)

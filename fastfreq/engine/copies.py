"""A copy of the user's model to run, hook and trace: the model itself is never touched, whatever other threads do."""

from __future__ import annotations

import contextlib
import copy
import sys
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

# torch.fx patches nn.Module while it traces: two traces at a time would leave a patch behind
TRACING = threading.RLock()


def private_copy(model: nn.Module) -> nn.Module:
    """`model` with weights, buffers and hooks of its own, in evaluation mode.

    Raises:
        TypeError: a model that copy.deepcopy cannot copy.
    """
    memo: dict[int, object] = {}
    for module in model.modules():
        for value in list(vars(module).values()):
            # such as the weight that torch.nn.utils.weight_norm leaves behind, which deepcopy refuses
            if isinstance(value, Tensor) and value.grad_fn is not None:
                memo[id(value)] = value.detach().clone()
    try:
        with torch.inference_mode(False):
            return copy.deepcopy(model, memo).eval()
    except Exception as error:
        raise TypeError(
            f"expected a model that copy.deepcopy can copy (the original stays untouched), {type(model).__name__} "
            f"cannot be: {error}"
        ) from error


class _Eager:
    """The stance of torch.compile is the whole process's: the first who asks sets it, the last to leave restores it."""

    lock: ClassVar = threading.Lock()
    users: ClassVar[int] = 0
    stance: ClassVar[Any] = None


@contextlib.contextmanager
def as_written() -> Iterator[None]:
    """Models that torch.compile has wrapped run as they are written, so that what watches a pass is not compiled."""
    if "torch._dynamo" not in sys.modules:  # loading it takes a second
        yield
        return
    with _Eager.lock:
        if not _Eager.users:
            _Eager.stance = torch.compiler.set_stance("force_eager")  # from here on
        _Eager.users += 1
    try:
        yield
    finally:
        with _Eager.lock:
            _Eager.users -= 1
            if not _Eager.users and _Eager.stance is not None:
                _Eager.stance.__exit__(None, None, None)

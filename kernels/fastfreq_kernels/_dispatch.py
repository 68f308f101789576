"""Chooses Triton, CPU or reference: the only place that does, and the only one that loads a `_triton.py`.

Operators are registered with the low-level `torch.library.Library`, whose dispatch costs under 3 us; they pass
through `torch.compile`, export and `torch.library.opcheck`.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

__all__ = ["BACKENDS", "Path", "choose", "interpreted", "register"]

BACKENDS = ("triton", "cpu", "reference")
Path = Literal["operator", "interpreter", "reference"]

# found, not imported: `import fastfreq_kernels` stays light. At import, since Dynamo cannot trace find_spec.
_HAS_TRITON = importlib.util.find_spec("triton") is not None
_LIBRARY = torch.library.Library("fastfreq", "DEF")


def register(
    name: str, schema: str, *, cpu: Callable[..., Tensor], triton: str, fake: Callable[..., Tensor]
) -> Callable[..., Tensor]:
    """Define the operator `fastfreq::name`.

    Args:
        name: of the operator.
        schema: its arguments and result in the schema language of torch.
        cpu: implementation for CPU tensors.
        triton: "operation:function" in that operation's `_triton.py`, loaded on the first GPU call.
        fake: result's shape, dtype and strides from the same arguments.
    """
    _LIBRARY.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
    _LIBRARY.impl(name, cpu, "CPU")
    _LIBRARY.impl(name, lambda *arguments: _triton(triton)(*arguments), "CUDA")  # ROCm has the same key
    torch.library.register_fake(f"fastfreq::{name}", fake, lib=_LIBRARY)
    return getattr(torch.ops.fastfreq, name).default


def choose(backend: str | None, device: str, *, differentiated: bool) -> Path:
    """How a call runs: through the operator, in Triton's interpreter, or as the reference.

    Args:
        backend: what the caller asked for; None leaves the choice here, anything else never falls back.
        device: type of the tensors' device.
        differentiated: whether autograd must see inside.

    Raises:
        ValueError: an unknown backend.
        RuntimeError: a backend that cannot run here; the message says why.
    """
    if backend is None:
        if differentiated or (device == "cuda" and not _HAS_TRITON):
            return "reference"
        if device in ("cpu", "cuda", "meta"):
            return "operator"
        raise RuntimeError(
            f"expected tensors on 'cpu' or 'cuda', got {device!r}; move them, or pass backend='reference'"
        )
    if backend == "reference":
        return "reference"
    if backend not in BACKENDS:
        raise ValueError(f"expected `backend` to be None or one of {BACKENDS}, got {backend!r}")
    if differentiated:
        raise RuntimeError(
            f"expected inputs that do not require grad for backend={backend!r}, which has no backward; detach them, "
            "or use backend=None or 'reference'"
        )
    if backend == "cpu":
        if device != "cpu":
            raise RuntimeError(f"expected tensors on 'cpu' for backend='cpu', got {device!r}; move them with .cpu()")
        return "operator"
    if not _HAS_TRITON:
        raise RuntimeError("expected triton to be installed for backend='triton', it is not; pip install triton")
    if device == "cuda":
        return "operator"
    if device == "cpu" and os.environ.get("TRITON_INTERPRET") == "1":
        return "interpreter"
    raise RuntimeError(
        f"expected tensors on 'cuda' for backend='triton', got {device!r}; move them with .cuda(), or set "
        "TRITON_INTERPRET=1 before triton is first imported to interpret the kernel on the CPU"
    )


def interpreted(target: str) -> Callable[..., Tensor]:
    """The launcher "operation:function" of a kernel that Triton interprets on the CPU."""
    module = _module(target)
    if not module.INTERPRETED:
        raise RuntimeError(
            "expected TRITON_INTERPRET=1 before triton was first imported, got it later; set it before Python starts"
        )
    return getattr(module, target.partition(":")[2])


def _triton(target: str) -> Callable[..., Tensor]:
    return getattr(_module(target), target.partition(":")[2])


def _module(target: str) -> Any:
    return importlib.import_module(f"fastfreq_kernels.{target.partition(':')[0]}._triton")

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

from ._output import OUTPUT, Output

__all__ = ["BACKENDS", "Path", "choose", "register"]

BACKENDS = ("triton", "cpu", "reference")
Path = Literal["operator", "interpreter", "reference"]

# found, not imported: `import fastfreq_kernels` stays light. At import, since Dynamo cannot trace find_spec.
_HAS_TRITON = importlib.util.find_spec("triton") is not None
_LIBRARY = torch.library.Library("fastfreq", "DEF")


def register(
    name: str,
    schema: str,
    *,
    reference: Callable[..., Any],
    cpu: Callable[..., Any],
    fake: Callable[..., Any],
    gradient: tuple[Callable[..., Any], Callable[..., Any]] | None = None,
) -> Callable[..., Any]:
    """Define the operator `fastfreq::name`; the function that is returned calls one of its implementations.

    That function takes the operator's arguments and `backend`. All implementations have the same arguments, and the
    one in the operation's `_triton.py`, loaded on the first call for a GPU, the name of the reference. Where the
    schema ends with `OUTPUT`, implementations and the function have one `Output` in place of its fields.

    Args:
        name: of the operator.
        schema: its arguments and result in the schema language of torch.
        reference: the specification, differentiable.
        cpu: implementation for CPU tensors.
        fake: result's shape, dtype and strides from the same arguments.
        gradient: `backward` and `setup_context` of `torch.library.register_autograd`; without, the reference runs where
            a gradient is needed.
    """
    package, function = reference.__module__.rpartition(".")[0], reference.__name__
    fields = len(Output._fields) if OUTPUT in schema else 0

    def by_triton(*arguments: Any) -> Any:
        return getattr(importlib.import_module(f"{package}._triton"), function)(*arguments)

    def gathered(run: Callable[..., Any]) -> Callable[..., Any]:
        return (lambda *flat: run(*flat[:-fields], Output(*flat[-fields:]))) if fields else run

    _LIBRARY.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
    _LIBRARY.impl(name, gathered(cpu), "CPU")
    _LIBRARY.impl(name, gathered(by_triton), "CUDA")  # ROCm has the same key
    torch.library.register_fake(f"fastfreq::{name}", gathered(fake), lib=_LIBRARY)
    if gradient is not None:
        backward, setup = gradient
        torch.library.register_autograd(f"fastfreq::{name}", backward, setup_context=setup, lib=_LIBRARY)
    operator = getattr(torch.ops.fastfreq, name).default

    def call(*arguments: Any, backend: str | None) -> Any:
        flat = (*arguments[:-1], *arguments[-1]) if fields else arguments
        needed = torch.is_grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in flat)
        device = arguments[0].device.type
        unseen = gradient is None or (backend == "triton" and device == "cpu")  # the interpreter is no operator
        path = choose(backend, device, differentiated=needed and unseen)
        if path == "reference":
            return reference(*arguments)
        if path == "operator":
            return operator(*flat)
        _check_interpreter()
        return by_triton(*arguments)

    return call


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


def _check_interpreter() -> None:
    if not importlib.import_module("fastfreq_kernels._device").INTERPRETED:
        raise RuntimeError(
            "expected TRITON_INTERPRET=1 before triton was first imported, got it later; set it before Python starts"
        )

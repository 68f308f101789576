"""Jacobian-vector products of a function of parameters, in whichever way its operations allow."""

from __future__ import annotations

import contextlib
import functools
import importlib
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

Parameters = dict[str, Tensor]


def pulled(function: Callable[[Parameters], Tensor], here: Parameters, v: Tensor) -> Parameters:
    """J^T v, with J the Jacobian of `function` at `here`."""
    return torch.func.vjp(function, here)[1](v)[0]


def pushed(function: Callable[[Parameters], Tensor], here: Parameters, u: Parameters) -> Tensor:
    """J u: by forward-mode derivatives, or where an operation has none as the derivative of J^T w by w, which is exact.

    Raises:
        RuntimeError: an operation has neither a forward-mode nor a second derivative.
    """
    _load_forward_mode()
    try:
        return torch.func.jvp(function, (here,), (u,))[1].detach()
    except (NotImplementedError, RuntimeError) as error:
        if not any(word in str(error) for word in ("forward AD", "forward-mode", "jvp", "setup_context")):
            raise
    value, pull, *_ = torch.func.vjp(function, here)
    return torch.func.vjp(lambda w: pull(w)[0], torch.zeros_like(value))[1](u)[0].detach()


@functools.cache
def _load_forward_mode() -> None:
    """What torch loads at the first forward-mode derivative warns of its own use of torch.jit: not for our users."""
    with warnings.catch_warnings(), contextlib.suppress(ImportError):
        warnings.simplefilter("ignore", DeprecationWarning)
        importlib.import_module("torch._decomp.decompositions_for_jvp")

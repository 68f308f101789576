"""Jacobian-vector products of a function of parameters, in whichever way its operations allow."""

from __future__ import annotations

import contextlib
import functools
import importlib
import threading
import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import forward_ad

Parameters = dict[str, Tensor]
Function = Callable[[Parameters], Tensor]
_FORWARD = threading.Lock()  # the level of forward-mode derivatives is the process's, not the thread's
_NO_FORWARD = ("forward AD", "forward mode AD", "forward-mode", "jvp")  # in what torch says of operations without


def pulled(function: Function, here: Parameters, v: Tensor) -> Parameters:
    """J^T v, with J the Jacobian of `function` at `here`. Plain autograd: users' own derivatives work in it too."""
    with torch.enable_grad():
        leaves = {name: value.detach().requires_grad_() for name, value in here.items()}
        found = torch.autograd.grad(function(leaves), list(leaves.values()), v, materialize_grads=True)
    return dict(zip(here, found, strict=True))


def pushed(function: Function, here: Parameters, u: Parameters) -> Tensor:
    """J u: by forward-mode derivatives, or where an operation has none as the derivative of J^T w by w, which is exact.

    Raises:
        RuntimeError: an operation has neither a forward-mode nor a second derivative.
    """
    _load_forward_mode()
    try:
        with _FORWARD, forward_ad.dual_level(), torch.no_grad():
            dual = {name: forward_ad.make_dual(value.detach(), u[name]) for name, value in here.items()}
            value, tangent = forward_ad.unpack_dual(function(dual))
            return torch.zeros_like(value) if tangent is None else tangent.detach().clone()
    except (NotImplementedError, RuntimeError) as error:
        if not any(words in str(error) for words in _NO_FORWARD):
            raise
    with torch.enable_grad():
        leaves = {name: value.detach().requires_grad_() for name, value in here.items()}
        value = function(leaves)
        w = torch.zeros_like(value).requires_grad_()
        back = torch.autograd.grad(value, list(leaves.values()), w, create_graph=True, materialize_grads=True)
        inner = torch.stack([(g * u[name]).sum() for name, g in zip(here, back, strict=True)]).sum()
        return torch.autograd.grad(inner, w, materialize_grads=True)[0].detach()


@functools.cache
def _load_forward_mode() -> None:
    """What torch loads at the first forward-mode derivative warns of its own use of torch.jit: not for our users."""
    with warnings.catch_warnings(), contextlib.suppress(ImportError):
        warnings.simplefilter("ignore", DeprecationWarning)
        importlib.import_module("torch._decomp.decompositions_for_jvp")

"""The network inside wrappers that share it among processes or compile it: what is measured is as it was written."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from .pixels import NormalizedModel

_SHARED = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside DataParallel, DistributedDataParallel and torch.compile: looking at it is no step of theirs.

    Raises:
        TypeError: no module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected `model` to be a torch.nn.Module, got {type(model).__name__}")
    while True:
        if isinstance(model, _SHARED):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):  # of torch.compile
            model = inner
        else:
            return model


def plain(model: nn.Module) -> nn.Module:
    """`unwrapped`, and of a model whose weights FSDP shards a copy with whole weights, made by all ranks together.

    A normalisation may be around the wrapper or inside it.

    Raises:
        TypeError: no module; wrappers around a part of it; weights that are sharded in another way.
    """
    model = unwrapped(model)
    if isinstance(model, NormalizedModel) and (net := plain(model.net)) is not model.net:
        model = copy.copy(model)
        model._modules = {**model._modules, "net": net}
    elif any(map(_is_fsdp, model.modules())):
        model = _whole(model)
    for name, module in model.named_modules():
        if isinstance(module, _SHARED):
            raise TypeError(
                f"expected {type(module).__name__} around the whole model, it is around its module {name!r}, where "
                f"forward passes wait for other processes; wrap the model itself, or pass it unwrapped"
            )
    for name, weight in model.named_parameters():
        if _is_sharded(weight):
            raise TypeError(
                f"expected whole weights or a model that FSDP shards, {name!r} is a DTensor of another kind "
                f"(tensor parallel?): its forward pass cannot be repeated on one process; load the model unsharded"
            )
    return model


def _is_fsdp(module: nn.Module) -> bool:
    """Of FullyShardedDataParallel or fully_shard, without loading either: a model that they shard has done so."""
    return any(kind.__name__ in ("FSDPModule", "FullyShardedDataParallel") for kind in type(module).__mro__)


def _is_sharded(weight: Tensor) -> bool:
    return type(weight).__name__ == "DTensor" or type(getattr(weight, "data", None)).__name__ == "DTensor"


def _whole(model: nn.Module) -> nn.Module:
    """A copy of a sharded model with whole weights and without the wrappers, modules under their own names."""
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.fsdp import FullyShardedDataParallel as Wrapper

    wrapped = [module for module in model.modules() if isinstance(module, Wrapper)]
    if wrapped and any(isinstance(module, FSDPModule) for module in model.modules()):
        raise TypeError("expected one kind of FSDP in a model, got FullyShardedDataParallel and fully_shard")
    if wrapped:
        if not isinstance(model, Wrapper):
            raise TypeError(
                f"expected FullyShardedDataParallel around the whole model, {type(model).__name__} has it inside; "
                f"wrap the model itself too, or pass it unwrapped"
            )
        with torch.inference_mode(False), torch.no_grad(), Wrapper.summon_full_params(model, writeback=False):
            memo: dict[int, Any] = {}
            for each in reversed(wrapped):  # the inner ones first
                memo[id(each)] = copy.deepcopy(each.module, memo)
            return memo[id(model)]
    return _gathered(model, FSDPModule)


def _gathered(model: nn.Module, kind: type) -> nn.Module:
    """The same of fully_shard, which turns each module into one of a subclass and its weights into DTensors."""
    memo: dict[int, Any] = {}
    with torch.inference_mode(False), torch.no_grad():
        for name, weight in model.named_parameters():
            if _is_sharded(weight):
                given: Any = weight
                if sum(placement.is_shard() for placement in given.placements) > 1:
                    raise TypeError(
                        f"expected weights that FSDP alone shards, {name!r} is sharded along "
                        f"{len(given.placements)} dimensions of a mesh (tensor parallel?); load the model unsharded"
                    )
                memo[id(weight)] = nn.Parameter(given.full_tensor().clone(), requires_grad=False)
        sharded = [module for module in model.modules() if isinstance(module, kind)]
        for module in sharded:
            own = next(base for base in type(module).__mro__[1:] if base is not kind and issubclass(base, nn.Module))
            memo[id(module)] = own.__new__(own)
        for module in sharded:
            vars(memo[id(module)]).update(copy.deepcopy(_own(module), memo))
        return memo[id(model)] if id(model) in memo else copy.deepcopy(model, memo)


def _own(module: nn.Module) -> dict[str, Any]:
    """The attributes of a module but those that FSDP gave it."""
    found = dict(vars(module))
    for name in found:
        if "hooks" in name and isinstance(found[name], dict):
            hooks = found[name].items()
            found[name] = type(found[name])({key: hook for key, hook in hooks if not _of_fsdp(hook)})
    return {
        name: value for name, value in found.items() if not name.startswith(("__composable_api", "_fsdp", "_is_fsdp"))
    }


def _of_fsdp(hook: Any) -> bool:
    owner = getattr(hook, "__self__", hook)
    home = getattr(owner, "__module__", None) or type(owner).__module__
    return str(home).startswith("torch.distributed")

"""A layer's weight as its forward pass in evaluation mode takes it, where something makes it anew at each call."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

_MADE = ("weight", "bias")
_WAY_OUT = "take it off (remove_weight_norm, remove_parametrizations, prune.remove), or pass a plain layer"


def as_applied(layer: nn.Module) -> nn.Module:
    """The layer itself, or a plain one with the weight that an evaluation pass would use now, gradients included.

    Parametrisations and the hooks of ``torch.nn.utils`` (weight_norm, spectral_norm, prune) are computed, not read
    off: what a hook left in ``layer.weight`` belongs to the last forward pass. Power iterations are not run.

    Raises:
        ValueError: a weight that something else makes; the message names it.
    """
    kind, weight = type(layer).__name__, vars(layer).get("weight")
    hooks = _makers(layer, kind)
    parametrised = parametrize.is_parametrized(layer)
    made = {}
    for name in _MADE:
        if parametrised and parametrize.is_parametrized(layer, name):
            made[name] = _parametrised(layer, name)
        elif name in hooks:
            made[name] = _hooked(layer, hooks[name])
    if not made:
        if isinstance(weight, Tensor) and layer._forward_pre_hooks:
            raise ValueError(
                f"expected a {kind} whose weight is a parameter, something computes it from others before a call; "
                "pass a plain layer with that weight"
            )
        return layer
    return plain_layer(layer, made)


def plain_layer(layer: nn.Module, made: dict[str, Tensor]) -> nn.Module:
    """`layer` without hooks and parametrisations, with these tensors instead; they need not be parameters."""
    base: Any = parametrize.type_before_parametrizations(layer)
    plain = base.__new__(base)
    plain.__dict__.update(layer.__dict__)
    plain._parameters = {name: value for name, value in layer._parameters.items() if name not in made}
    plain._modules = {name: value for name, value in layer._modules.items() if name != "parametrizations"}
    for hooks in (
        "_forward_hooks",
        "_forward_pre_hooks",
        "_forward_hooks_with_kwargs",
        "_forward_pre_hooks_with_kwargs",
    ):
        plain.__dict__[hooks] = type(layer.__dict__[hooks])()
    plain.__dict__.update(made)
    return plain


def detached_copy(layer: nn.Module) -> nn.Module:
    """A copy of what `as_applied` gives, in which a weight that was made is a parameter."""
    made = {name: vars(layer)[name] for name in _MADE if isinstance(vars(layer).get(name), Tensor)}
    if not made:
        return copy.deepcopy(layer)
    plain = plain_layer(layer, {})
    plain._parameters = {name: value for name, value in layer._parameters.items() if name in _MADE}
    for name, value in made.items():
        del plain.__dict__[name]
        plain._parameters[name] = nn.Parameter(value.detach().clone())
    return copy.deepcopy(plain)


def other_hooks(layer: nn.Module) -> bool:
    """Whether a layer has hooks around its forward, or a forward put on the object, beside those that make weights."""
    pre = [hook for hook in layer._forward_pre_hooks.values() if not _makes_weights(hook)]
    return bool(pre or layer._forward_hooks or "forward" in vars(layer))


def _makes_weights(hook: Any) -> bool:
    return isinstance(hook, WeightNorm | SpectralNorm | prune.BasePruningMethod)


def _makers(layer: nn.Module, kind: str) -> dict[str, Any]:
    """The hooks of torch.nn.utils that make weights before each call, by what they make."""
    hooks = [hook for hook in layer._forward_pre_hooks.values() if _makes_weights(hook)]
    found = {_name(hook): hook for hook in hooks}
    alone = len(found) == len(hooks) and not (found and parametrize.is_parametrized(layer))
    if not alone or not set(found) <= set(_MADE):
        raise ValueError(f"expected one thing that makes the weight of a {kind}, got several; {_WAY_OUT}")
    return found


def _name(hook: Any) -> str:
    return hook._tensor_name if isinstance(hook, prune.BasePruningMethod) else hook.name


def _hooked(layer: nn.Module, hook: Any) -> Tensor:
    if isinstance(hook, SpectralNorm):
        return hook.compute_weight(layer, do_power_iteration=False)
    return hook.apply_mask(layer) if isinstance(hook, prune.BasePruningMethod) else hook.compute_weight(layer)


def _parametrised(layer: Any, name: str) -> Tensor:
    """What a parametrisation gives in evaluation mode: on a copy of its modules, with the parameters themselves."""
    steps = layer.parametrizations[name]
    if not any(module.training for module in steps.modules()):
        return steps()
    shared = {id(tensor): tensor for tensor in (*steps.parameters(), *steps.buffers())}
    return copy.deepcopy(steps, shared).eval()()

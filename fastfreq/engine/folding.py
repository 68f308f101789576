"""Batch norm in evaluation mode is an affine map per channel: it is folded into the convolution before it.

norm(conv(x)) = g (conv(x) - m) / sqrt(v + e) + b is one convolution with weight g w / sqrt(v + e) and a new bias.
Pairs are found by watching one forward pass, so that a network need not be traceable.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import fusion, parametrize

from fastfreq.engine.uses import LayerUses, Use

from .arithmetic import float32
from .network import Network

_LAYERS: dict[type[nn.Module], str] = {
    nn.Conv1d: "_conv_forward",
    nn.Conv2d: "_conv_forward",
    nn.Conv3d: "_conv_forward",
    nn.Linear: "forward",
}
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_BatchNorm = nn.modules.batchnorm._BatchNorm  # and what derives from it
_TOLERANCE = 1e-4  # of the largest logit, in float32: rounding stays near 1e-6, a wrong fold near 1
_REFUSED = "expected `fold_batch_norm=True` to apply, it cannot be used with this model"


@dataclasses.dataclass(frozen=True)
class Folded:
    """What `fold_batch_norms` did.

    Attributes:
        folded: (layer, norm) names of the pairs that became one layer.
        left: names of batch norms that stay, and why.
    """

    folded: tuple[tuple[str, str], ...]
    left: dict[str, str]

    def __str__(self) -> str:
        return f"{len(self.folded)} of {len(self.folded) + len(self.left)}"


@float32("ieee")
def fold_batch_norms(network: Network, example: Tensor, *, layers: Iterable[str] = ()) -> Folded:
    """Fold every batch norm of `network` that directly follows a convolution or linear layer into it, in place.

    A norm stays where folding would change something else: its input is used twice or recorded, a module runs more
    than once, has hooks or parametrised weights, or normalises by the statistics of the batch. Done on the float32
    network, before `Network.cast`. Where a norm was there is an identity, so that names stay.

    Args:
        network: the copy of the user's model.
        example: (n, c, h, w) real images, normalised.
        layers: names of modules whose outputs must not change.

    Raises:
        ValueError: there is nothing to fold, or the logits of `example` change by more than rounding; the reason is
            said.
    """
    watch = _Watch(network, frozenset(layers))
    before = watch.run(example)
    pairs, left = watch.pairs()
    if not pairs:
        why = "; ".join(f"{name}: {reason}" for name, reason in list(left.items())[:5]) or "it has no batch norm"
        raise ValueError(f"{_REFUSED}: no batch norm directly follows a convolution or linear layer ({why})")
    names = _names(network.net)
    for layer, norm in pairs:
        fuse: Any = fusion.fuse_linear_bn_eval if isinstance(layer, nn.Linear) else fusion.fuse_conv_bn_eval
        one = fuse(layer, norm)
        for module, instead in ((layer, one), (norm, nn.Identity().eval())):
            for name in names[module]:
                network.net.set_submodule(name, instead)
    _check(network, example, before)
    return Folded(tuple((names[layer][0], names[norm][0]) for layer, norm in pairs), left)


def _check(network: Network, example: Tensor, before: Tensor) -> None:
    try:
        after = network(example).float()
        miss = float((after - before).abs().max() / before.abs().max().clamp_min(1e-6))
    except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError) as error:
        raise ValueError(f"{_REFUSED}: the network fails when its batch norms are folded ({error})") from error
    if not miss <= _TOLERANCE:
        raise ValueError(
            f"{_REFUSED}: folding changes the logits by {miss:.1e} of the largest (allowed {_TOLERANCE:.0e}), so the "
            f"weights or what lies between them and the batch norms are also used elsewhere"
        )


def _names(net: nn.Module) -> dict[nn.Module, list[str]]:
    """Every name of every module: one that is shared has several."""
    names: dict[nn.Module, list[str]] = {}
    for name, module in net.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    return names


class _Watch:
    """One forward pass, seen from outside: which layer's output each norm takes, and who else touches it."""

    def __init__(self, network: Network, recorded: frozenset[str]) -> None:
        self._network = network
        modules = list(network.net.modules())
        self._seen = LayerUses(
            [module for module in modules if _is_layer(module)],
            [module for module in modules if isinstance(module, _BatchNorm)],
            {network.module(name): name for name in sorted(recorded)},
        )

    def run(self, example: Tensor) -> Tensor:
        """Logits (n, classes) of `example`."""
        try:
            with torch.inference_mode(False), torch.no_grad(), self._seen.watching():
                return self._network(example.clone()).float()
        except RuntimeError as error:
            raise ValueError(f"{_REFUSED}: the network fails on float32 images ({error})") from error

    def pairs(self) -> tuple[list[tuple[nn.Module, nn.Module]], dict[str, str]]:
        """(layer, norm) to fold, and the other norms by name with the reason."""
        found: list[tuple[nn.Module, nn.Module]] = []
        left: dict[str, str] = {}
        for norm, names in _names(self._network.net).items():
            if not isinstance(norm, _BatchNorm) or "" in names:
                continue
            uses = self._seen.before(norm)
            reason = self._reason(norm, uses[0] if uses else None)
            if reason:
                left[names[0]] = reason
            else:
                found.append((uses[0].layer, norm))
        return found, left

    def _reason(self, norm: nn.Module, use: Use | None) -> str:
        """Why `norm` is not folded into the layer before it; empty if it can be."""
        runs = self._seen.runs
        if type(norm) not in _NORMS:
            return f"{type(norm).__name__} is not a plain batch norm"
        if norm.training or norm.running_mean is None or norm.running_var is None:
            return "it normalises by the statistics of the batch"
        if norm not in runs:
            return "the forward pass did not reach it"
        if use is None:
            return "its input is not the output of a convolution or linear layer"
        layer = use.layer
        for module, role in ((norm, "it"), (layer, "the layer before it")):
            if runs[module] != 1:
                return f"{role} runs {runs[module]} times"
            if _altered(module):
                return f"{role} has hooks or parametrised weights"
        if use.output_ndim != (2 if isinstance(layer, nn.Linear) else layer.weight.ndim):  # pyright: ignore
            return "its channels are not those of the layer before it"
        return f"its input is also used by {use.other}" if use.other else ""


def _is_layer(module: nn.Module) -> bool:
    """Whether `module` applies its weight as the plain layer does; a subclass may override it."""
    for base, method in _LAYERS.items():
        if isinstance(module, base):
            kind: Any = type(module)
            return kind.forward is base.forward and getattr(kind, method) is getattr(base, method)
    return False


def _altered(module: Any) -> bool:
    """Whether something runs around the module's forward, or makes its weights."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks) or parametrize.is_parametrized(module) or "forward" in vars(module)

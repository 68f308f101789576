"""The convolutions of any model, with the input size that each sees and the batch norm that follows it."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from fastfreq.engine.copies import as_written, private_copy
from fastfreq.engine.model_checks import check_inputs
from fastfreq.engine.uses import LayerUses, Use

from ._weights import as_applied, other_hooks, plain_layer
from .symbols import BatchNorm, Convolution

Skipped = tuple[str, str, str]
Applied = tuple[tuple[int, ...], str]


UNREACHED = "the forward pass did not reach it"  # a reason to leave a layer out


@dataclasses.dataclass(frozen=True)
class FoundLayer:
    """A layer of a model.

    Attributes:
        name: where it sits in the model.
        module: the layer.
        input_size: (d,) spatial size of its input; () for a linear layer. Of its first call.
        batch_norm: the batch norm that alone takes its output at its first call, or None.
        others: (size, name of the batch norm or "") of its further calls, where they differ from the first.
        not_folded: why a batch norm that takes its output is not `batch_norm`; empty if there is none.
    """

    name: str
    module: nn.Module
    input_size: tuple[int, ...]
    batch_norm: nn.Module | None
    others: tuple[Applied, ...] = ()
    not_folded: str = ""

    @property
    def sizes(self) -> list[tuple[int, ...]]:
        """All input sizes that it sees."""
        return list(dict.fromkeys([self.input_size, *(size for size, _ in self.others)]))

    def left_out(self, fold_batch_norm: bool) -> list[Skipped]:
        """What a row for its first call does not say, as (name, kind, reason)."""
        kind = type(self.module).__name__
        first = " x ".join(map(str, self.input_size))
        rows = [
            (f"{self.name} at {' x '.join(map(str, size))}", kind, f"a further input size; its row is for {first}")
            for size in self.sizes[1:]
        ]
        if fold_batch_norm:
            rows += [
                (f"{self.name} before {norm or 'no batch norm'}", kind, "a further call; its row is for the first")
                for norm in dict.fromkeys(norm for _, norm in self.others)
            ]
            if self.not_folded:
                rows.append((f"batch norm after {self.name}", "batch norm", self.not_folded))
        return rows


def find_convolutions(
    model: nn.Module, input_size: tuple[int, ...], *, linear: bool = False
) -> tuple[list[FoundLayer], list[Skipped]]:
    """Convolutions in order of execution, and what was skipped with the reason.

    One forward pass of zeros on a copy in evaluation mode, with hooks, gives the sizes; the model is not touched.

    Args:
        model: any module that takes one batch of images.
        input_size: (c, ...) of one image.
        linear: linear layers too.

    Raises:
        ValueError: an input size that the model does not take; its own error is the cause.
        TypeError: lazy modules; a model that cannot be copied, or that takes more than images.
    """
    if len(input_size) < 2 or any(int(n) < 1 for n in input_size):
        raise ValueError(f"expected `input_size` (c, ...) of one image with positive sides, got {tuple(input_size)}")
    check_inputs(model)
    names: dict[nn.Module, str] = {}
    for name, module in model.named_modules():
        names.setdefault(module, name)
        lazy = [
            key for key, value in module.named_parameters(recurse=False) if isinstance(value, nn.UninitializedParameter)
        ]
        if lazy:
            raise TypeError(f"expected weights, layer {name!r} is lazy; run one batch through the model first")
    kinds = (*Convolution.__args__, nn.Linear) if linear else Convolution.__args__
    watched = {module: name for module, name in names.items() if isinstance(module, kinds)}
    own = private_copy(model)
    copies = dict(own.named_modules())
    of = {copies[name]: module for module, name in names.items()}
    uses: dict[nn.Module, list[Use]] = {}
    for use in _watch(own, [copies[name] for name in watched.values()], input_size):
        uses.setdefault(of[use.layer], []).append(use)
    found: list[FoundLayer] = []
    skipped: list[Skipped] = []
    for module, calls in uses.items():
        layer, reason = understood(module, _size(calls[0]), copies[names[module]])
        if reason:
            skipped.append((watched[module], type(module).__name__, reason))
        else:
            found.append(_found(names[module], layer, calls, of, names))
    skipped += _others(names, watched, uses)
    return found, skipped


def _size(use: Use) -> tuple[int, ...]:
    return () if isinstance(use.layer, nn.Linear) else use.input_shape[2:]


def _found(
    name: str, layer: nn.Module, calls: list[Use], of: dict[nn.Module, nn.Module], names: dict[nn.Module, str]
) -> FoundLayer:
    norms, reasons = [], []
    for use in calls:
        reason = _not_folded(use) if use.norm is not None else ""
        norms.append(None if reason or use.norm is None else of[use.norm])
        reasons.append(reason)
    applied = [(_size(use), "" if norm is None else names[norm]) for use, norm in zip(calls, norms, strict=True)]
    others = tuple(one for one in dict.fromkeys(applied) if one != applied[0])
    return FoundLayer(name, layer, applied[0][0], norms[0], others, next(filter(None, reasons), ""))


def _not_folded(use: Use) -> str:
    """Why a batch norm is not a part of the layer whose output it takes."""
    norm: Any = use.norm
    if use.other:
        return f"not folded: what it takes is also used by {use.other}"
    if isinstance(use.layer, nn.Linear) and use.output_ndim != 2:
        return "not folded: its channels are not those of the linear layer"
    if norm.running_var is None:
        return ""  # refused, with its own words, where it would be folded in
    x = torch.randn(2, norm.num_features, *[2] * (use.output_ndim - 2), generator=torch.Generator().manual_seed(0))
    x = x.to(norm.running_var)
    with torch.inference_mode(False), torch.no_grad():
        plain = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)
        seen, act = norm(x.clone()), getattr(norm, "act", None)
        # its own activation may follow, as in the joint layers of timm
        same = _agree(plain, seen) or (isinstance(act, nn.Module) and _agree(act(plain), seen))
    return "" if same else f"not folded: {type(norm).__name__} does more than scale and shift"


def _watch(model: nn.Module, layers: list[nn.Module], input_size: tuple[int, ...]) -> list[Use]:
    """The calls of `layers` in one forward pass of zeros, in order, with the batch norms that take their outputs."""
    example = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    norms = [module for module in model.modules() if isinstance(module, BatchNorm)]
    seen = LayerUses(layers, norms)
    with torch.inference_mode(False), torch.no_grad():
        try:
            zeros = torch.zeros(1, *(int(n) for n in input_size), dtype=example.dtype, device=example.device)
        except (RuntimeError, TypeError) as error:  # too much memory, or no number of bytes at all
            raise ValueError(
                f"expected an `input_size` whose zeros fit into memory, got {tuple(input_size)}: "
                f"{str(error).splitlines()[0]:.120}"
            ) from error
        try:
            with as_written(), seen.watching():
                model(zeros)
        except Exception as error:
            raise ValueError(
                f"expected a model that runs on zeros of shape {tuple(zeros.shape)}, it raised "
                f"{type(error).__name__}: {error}; pass the `input_size` (c, height, width) that it takes"
            ) from error
    return seen.uses


def understood(module: nn.Module, size: tuple[int, ...], own: nn.Module | None = None) -> tuple[nn.Module, str]:
    """The layer to take for `module`, or why there is none: a subclass or a hook may apply more than its weight.

    One that overrides the forward or has hooks is compared with its weight as it pads and padded to ceil(n / stride)
    outputs ("same" as in TensorFlow); what agrees with neither, such as standardised weights, is left out.

    Args:
        module: the layer.
        size: (d,) of its input.
        own: a copy of it to run; made if None.
    """
    base: Any = next(kind for kind in (*Convolution.__args__, nn.Linear) if isinstance(module, kind))
    kind = parametrize.type_before_parametrizations(module)
    try:
        plain = as_applied(module)
    except ValueError as error:
        return module, str(error)
    plain_forward = kind.forward is base.forward and getattr(kind, "_conv_forward", None) is getattr(
        base, "_conv_forward", None
    )
    if plain_forward and not other_hooks(module):
        return module, ""
    own = private_copy(module) if own is None else own
    bare: Any = plain_layer(plain, {})
    bare.__class__ = type(kind.__name__, (base,), {})  # torch's forward, under the layer's own name
    vars(bare)["stands_for"] = module
    vars(bare).pop("forward", None)
    why = "has hooks" if plain_forward else f"overrides the forward of {base.__name__}"
    reason = f"its class {why}, and its weight alone is not what it applies"
    channels = bare.in_features if base is nn.Linear else bare.in_channels
    with torch.inference_mode(False), torch.no_grad():
        x = torch.randn(1, channels, *size, generator=torch.Generator().manual_seed(0)).to(bare.weight)
        seen = own(x.clone()) - own(torch.zeros_like(x))
        if _agree(_linear_part(bare, x), seen):
            return bare, ""
        if base not in _CONVOLVE or bare.padding_mode != "zeros":
            return module, reason
        geometry = zip(size, bare.kernel_size, bare.stride, bare.dilation, strict=True)
        totals = [max((-(-n // s) - 1) * s + dil * (k - 1) + 1 - n, 0) for n, k, s, dil in geometry]
        same = [side for total in reversed(totals) for side in (total // 2, total - total // 2)]
        padded = _CONVOLVE[base](F.pad(x, same), bare.weight, None, bare.stride, 0, bare.dilation, bare.groups)
        if not _agree(padded, seen):
            return module, reason
    plain: Any = copy.copy(bare)  # the same weight, padded by the larger side on both: still an upper bound
    plain.padding = tuple(-(-total // 2) for total in totals)
    del plain.stands_for
    return plain, ""


_CONVOLVE: dict[type, Any] = {nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}


def _linear_part(bare: nn.Module, x: Tensor) -> Tensor:
    try:
        return bare(x) - bare(torch.zeros_like(x))
    except RuntimeError:
        return torch.full((), torch.nan, dtype=x.dtype, device=x.device)  # agrees with nothing


def _agree(a: Tensor, b: Tensor) -> bool:
    tolerance = min(1e-2, 200 * torch.finfo(a.dtype).eps)
    return a.shape == b.shape and float((a - b).abs().max()) <= tolerance * float(b.abs().max())


def _others(
    names: dict[nn.Module, str], watched: dict[nn.Module, str], uses: dict[nn.Module, list[Use]]
) -> list[Skipped]:
    """Modules with parameters of their own that were not taken."""
    skipped: list[Skipped] = []
    for module, name in names.items():
        kind = type(module).__name__
        if module in watched:
            if module not in uses:
                skipped.append((name, kind, UNREACHED))
            continue
        if not any(True for _ in module.parameters(recurse=False)) and "quantized" not in type(module).__module__:
            continue
        if isinstance(module, nn.Linear):
            skipped.append((name, kind, "linear, not a convolution; pass linear=True to take it"))
        elif "norm" in kind.lower():
            skipped.append((name, kind, "normalisation, not a convolution"))
        else:
            skipped.append((name, kind, "not a convolution"))
    return skipped

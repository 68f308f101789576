"""The convolutions of any model, with the input size that each sees and the batch norm that follows it."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .symbols import BatchNorm, Convolution

Skipped = tuple[str, str, str]


@dataclasses.dataclass(frozen=True)
class FoundLayer:
    """A layer of a model.

    Attributes:
        name: where it sits in the model.
        module: the layer.
        input_size: (d,) spatial size of its input; () for a linear layer.
        batch_norm: the batch norm that takes its output, or None.
    """

    name: str
    module: nn.Module
    input_size: tuple[int, ...]
    batch_norm: nn.Module | None


def find_convolutions(
    model: nn.Module, input_size: tuple[int, ...], *, linear: bool = False
) -> tuple[list[FoundLayer], list[Skipped]]:
    """Convolutions in order of execution, and what was skipped with the reason.

    One forward pass of zeros in evaluation mode, with hooks, gives the sizes; the model's own mode is restored.

    Args:
        model: any module that takes one batch of images.
        input_size: (c, ...) of one image.
        linear: linear layers too.

    Raises:
        ValueError: an input size that the model does not take; its own error is the cause.
        TypeError: lazy modules.
    """
    if len(input_size) < 2 or any(int(n) < 1 for n in input_size):
        raise ValueError(f"expected `input_size` (c, ...) of one image with positive sides, got {tuple(input_size)}")
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
    sizes, norms = _watch(model, watched, input_size)
    found: list[FoundLayer] = []
    skipped: list[Skipped] = []
    for module, size in sizes.items():
        layer, reason = _understood(module, size)
        if reason:
            skipped.append((watched[module], type(module).__name__, reason))
        else:
            found.append(FoundLayer(watched[module], layer, size, norms.get(module)))
    skipped += _others(names, watched, sizes)
    return found, skipped


def _watch(
    model: nn.Module, watched: dict[nn.Module, str], input_size: tuple[int, ...]
) -> tuple[dict[nn.Module, tuple[int, ...]], dict[nn.Module, nn.Module]]:
    """Input sizes by module in order of execution, and the batch norm that takes each module's output."""
    sizes: dict[nn.Module, tuple[int, ...]] = {}
    norms: dict[nn.Module, nn.Module] = {}
    latest: dict[int, tuple[nn.Module, Tensor]] = {}  # the tensor is kept: its id must not be given to another

    def after(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        shape = () if isinstance(module, nn.Linear) else tuple(inputs[0].shape[2:])
        sizes.setdefault(module, shape)
        if isinstance(output, Tensor):
            latest[id(output)] = (module, output)

    def before_norm(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        maker = latest.get(id(inputs[0]))
        if maker is not None:
            norms.setdefault(maker[0], module)
        latest.clear()

    example = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    zeros = torch.zeros(1, *(int(n) for n in input_size), dtype=example.dtype, device=example.device)
    with contextlib.ExitStack() as stack:
        stack.enter_context(evaluation(model))
        for module in watched:
            stack.callback(module.register_forward_hook(after).remove)
        for module in model.modules():
            if isinstance(module, BatchNorm):
                stack.callback(module.register_forward_pre_hook(before_norm).remove)
        try:
            with torch.no_grad():
                model(zeros)
        except Exception as error:
            raise ValueError(
                f"expected a model that runs on zeros of shape {tuple(zeros.shape)}, it raised "
                f"{type(error).__name__}: {error}; pass the `input_size` (c, height, width) that it takes"
            ) from error
    return sizes, norms


@contextlib.contextmanager
def evaluation(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode; afterwards each module in its own mode again."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _understood(module: nn.Module, size: tuple[int, ...]) -> tuple[nn.Module, str]:
    """The layer to take for `module`, or why there is none: a subclass may apply more than its weight.

    One that overrides the forward is compared with its weight as it pads and padded to ceil(n / stride) outputs
    ("same" as in TensorFlow); what agrees with neither, such as standardised weights, is left out.
    """
    base = next(kind for kind in (*Convolution.__args__, nn.Linear) if isinstance(module, kind))
    kind = type(module)
    if kind.forward is base.forward and getattr(kind, "_conv_forward", None) is getattr(base, "_conv_forward", None):
        return module, ""
    reason = f"its class overrides the forward of {base.__name__}, and its weight alone is not what it applies"
    if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) or module.padding_mode != "zeros":
        return module, reason
    convolve: Any = {nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}[base]
    weight = module.weight
    x = torch.randn(1, module.in_channels, *size, generator=torch.Generator().manual_seed(0)).to(weight)
    geometry = zip(size, module.kernel_size, module.stride, module.dilation, strict=True)
    totals = [max((-(-n // s) - 1) * s + dil * (k - 1) + 1 - n, 0) for n, k, s, dil in geometry]
    same = [side for total in reversed(totals) for side in (total // 2, total - total // 2)]
    rest = (module.stride, 0, module.dilation, module.groups)
    with torch.no_grad(), evaluation(module):
        seen = module(x) - module(torch.zeros_like(x))
        if _agree(convolve(x, weight, None, module.stride, module.padding, *rest[2:]), seen):
            return module, ""
        if not _agree(convolve(F.pad(x, same), weight, None, *rest), seen):
            return module, reason
    plain = copy.copy(module)  # the same weight, padded by the larger side on both: still an upper bound
    plain.padding = tuple(-(-total // 2) for total in totals)
    return plain, ""


def _agree(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max()))


def _others(
    names: dict[nn.Module, str], watched: dict[nn.Module, str], sizes: dict[nn.Module, tuple[int, ...]]
) -> list[Skipped]:
    """Modules with parameters of their own that were not taken."""
    skipped: list[Skipped] = []
    for module, name in names.items():
        kind = type(module).__name__
        if module in watched:
            if module not in sizes:
                skipped.append((name, kind, "the forward pass did not reach it"))
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

"""Watches a network's passes: which convolution's output an activation takes, and how sparse what it makes is."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fastfreq.engine import layer_names

from .coherence import Pair, mutual_coherence, pair, shift_steps, stripe_counts
from .layer_code import LayerCode
from .linear_parts import ACTIVATIONS

_PASSED_ON = ("batch_norm", "dropout", "contiguous")  # channels stay what they are
_NO_CODE = "no activation takes its output as it is: it is added to another, or changed first"


class _Dictionary:
    """One convolution: its weight as it was applied, its geometry, and what was seen of its codes."""

    def __init__(self, weight: Tensor, stride: Pair, dilation: Pair, groups: int) -> None:
        self.weight, self.stride, self.dilation, self.groups = weight.detach().clone(), stride, dilation, groups
        norms = self.weight.double().flatten(1).norm(dim=1)
        self._norms = norms[:, None, None]
        self.activation = ""
        self._rows: list[Tensor] = []

    def see(self, activation: str, code: Tensor) -> None:
        """Take in a batch of codes (n, m, h, w)."""
        self.activation = activation
        kernel = self.weight.shape[2], self.weight.shape[3]
        stripes = stripe_counts(code, kernel, stride=self.stride, dilation=self.dilation, groups=self.groups).flatten(1)
        sizes = (code.double() * self._norms).abs().flatten(1)
        largest = sizes.amax(dim=1)
        least = torch.where(sizes > 0, sizes, torch.inf).amin(dim=1)
        density = (sizes > 0).double().mean(dim=1)
        share = torch.where(largest > 0, least / largest, torch.nan)
        rows = [stripes.amax(dim=1), stripes.mean(dim=1), density, share]
        self._rows.append(torch.stack(rows).cpu())

    def result(self) -> LayerCode:
        """What was seen."""
        coherence, zero = mutual_coherence(self.weight, stride=self.stride, dilation=self.dilation, groups=self.groups)
        rows = torch.cat(self._rows, dim=1).numpy() if self._rows else np.zeros((4, 0))
        m, _, h, w = self.weight.shape
        steps = shift_steps(self.stride, self.dilation)
        reach = [2 * ((k - 1) // step) + 1 for k, step in zip((h, w), steps, strict=True)]
        return LayerCode(
            weight_shape=tuple(self.weight.shape),
            coherence=coherence,
            zero_atoms=zero,
            activation=self.activation,
            reason="" if self._rows else _NO_CODE,
            stripes=rows[0],
            mean_stripes=rows[1],
            density=rows[2],
            smallest_share=rows[3],
            stripe_size=m // self.groups * reach[0] * reach[1],
        )


class CodeWatch(TorchFunctionMode):
    """A mode under which a network runs, batch by batch.

    A tensor is known by its identity and its version: what was changed in place is no longer a layer's output. Each use
    of a layer in a pass has codes of its own.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self._names = {module: name for name, module in net.named_modules() if isinstance(module, nn.Conv2d)}
        self._dictionaries: dict[str, _Dictionary] = {}
        self._inside: list[str] = []
        self._stack = contextlib.ExitStack()
        self._forget()
        for module in self._names:
            self._stack.callback(module.register_forward_pre_hook(self._enters).remove)
            self._stack.callback(module.register_forward_hook(self._leaves, always_call=True).remove)

    def close(self) -> None:
        """Take the hooks off."""
        self._stack.close()

    def end(self) -> None:
        """After each batch."""
        self._forget()

    def _forget(self) -> None:
        self._made: dict[int, tuple[Tensor, int, str]] = {}
        self._uses: Counter[str] = Counter()
        self._coded: set[str] = set()

    # ---------------------------------------------------------------- what happens in the pass
    def _enters(self, module: Any, _args: Any) -> None:
        name = self._names[module]
        self._uses[name] += 1
        self._inside.append(layer_names.of_use(name, self._uses[name]))

    def _leaves(self, module: Any, _args: Any, output: Any) -> None:
        name = self._inside.pop()
        if isinstance(output, Tensor) and output.ndim == 4:
            self._tag(output, name)

    def _tag(self, tensor: Tensor, name: str) -> None:
        self._made[id(tensor)] = (tensor, tensor._version, name)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """As the function; what it takes and makes is noted."""
        words = kwargs or {}
        called = getattr(func, "__name__", "").lstrip("_").removesuffix("_")
        x = args[0] if args else words.get("input")
        of = self._layer(x) if isinstance(x, Tensor) else None
        out = func(*args, **words)
        if called == "conv2d" and self._inside:
            self._applied(self._inside[-1], *args, **words)
        elif of is not None and isinstance(out, Tensor):
            if called in _PASSED_ON:
                self._tag(out, of)
            elif called in ACTIVATIONS and of not in self._coded and of in self._dictionaries:
                self._coded.add(of)
                self._dictionaries[of].see(called, out)
        return out

    def _layer(self, tensor: Tensor) -> str | None:
        made = self._made.get(id(tensor))
        return made[2] if made is not None and tensor._version == made[1] else None

    def _applied(
        self, name: str, _x: Tensor, weight: Tensor, _bias: Any = None, stride: Any = 1, _padding: Any = 0,
        dilation: Any = 1, groups: int = 1, **_words: Any,
    ) -> None:  # fmt: skip
        if name not in self._dictionaries:
            self._dictionaries[name] = _Dictionary(weight, pair(stride), pair(dilation), groups)

    def layers(self) -> tuple[dict[str, LayerCode], list[tuple[str, str]]]:
        """By name in order of execution, and what the passes did not reach."""
        found = {name: dictionary.result() for name, dictionary in self._dictionaries.items()}
        return found, [
            (name, "the forward pass did not reach it") for name in self._names.values() if name not in found
        ]

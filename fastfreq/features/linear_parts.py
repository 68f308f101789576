"""A network as the linear map that is left when its activations are taken out: the filter of every unit, exactly."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from fastfreq.engine import layer_names
from fastfreq.engine.contexts import undisturbed
from fastfreq.engine.copies import as_written, private_copy
from fastfreq.engine.model_checks import check_inputs
from fastfreq.vocabulary import streams

FloatArray = NDArray[np.float64]
# element by element; what makes new kinds of numbers, as a softmax, is refused where it shows
ACTIVATIONS = frozenset(
    {"relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "celu", "selu", "gelu", "silu", "mish", "tanh", "sigmoid",
     "softplus", "softsign", "hardswish", "hardtanh", "hardsigmoid", "logsigmoid", "tanhshrink", "softshrink",
     "hardshrink", "threshold", "clamp", "clamp_min", "clamp_max", "clip"}
)  # fmt: skip
_TOLERANCE = 1e-8  # of the largest value: by how much float64 may miss a linear map


class _AllSeenError(BaseException):
    """Ends a pass behind the last layer of interest, whatever errors the model handles."""


class LinearParts(TorchFunctionMode):
    """Runs a network without its activations; maxima over windows take the middle of each window instead.

    The middle of an even window is the pixel before it. Only what depends on the input is replaced: a weight that is
    made by an activation stays as it is. So parameters must not require gradients, and the input must.

    Args:
        structure: source of random positive weights for every convolution: gradients then do not cancel, and are zero
            just where an input cannot matter.
        borders: source of random numbers to pad with in place of zeros: outputs then change where padding reaches.
    """

    def __init__(self, *, structure: torch.Generator | None = None, borders: torch.Generator | None = None) -> None:
        super().__init__()
        self._structure, self._borders = structure, borders
        self.left_out: list[tuple[str, Any]] = []  # what, and the node of autograd's graph that made what it took

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """As the function, or without it."""
        words = dict(kwargs or {})
        name = getattr(func, "__name__", "").lstrip("_")
        x = args[0] if args else words.get("input")
        if not isinstance(x, Tensor) or not x.requires_grad:
            return func(*args, **words)
        if name.removesuffix("_") in ACTIVATIONS:
            self.left_out.append((name.removesuffix("_"), x.grad_fn))
            return x
        if name in ("max_pool2d", "max_pool2d_with_indices"):
            self.left_out.append(("max_pool2d", x.grad_fn))
            taken = self._middle(func, x, args[1:], words)
            return (taken, torch.zeros_like(taken, dtype=torch.int64)) if words.get("return_indices") else taken
        if name == "conv2d":
            return self._convolved(func, *args, **words)
        if name == "avg_pool2d" and self._borders is not None:
            return self._averaged(func, *args, **words)
        out = func(*args, **words)
        return self._noisy(out, args[1]) if name == "pad" and self._borders is not None and len(args) > 1 else out

    def _middle(self, func: Any, x: Tensor, args: tuple[Any, ...], words: dict[str, Any]) -> Tensor:
        names = ("kernel_size", "stride", "padding", "dilation")
        given = dict(zip(names, args, strict=False)) | words
        size = func(x.detach(), *args, **words)
        size = (size[0] if isinstance(size, tuple) else size).shape[-2:]
        for axis, n in zip((-2, -1), size, strict=True):
            defaults = (("kernel_size", 1), ("padding", 0), ("dilation", 1))
            kernel, padding, dilation = (_pair(given.get(key, default))[axis] for key, default in defaults)
            stride = _pair(given.get("stride") or given["kernel_size"])[axis]
            at = torch.arange(n, device=x.device) * stride - padding + (kernel - 1) // 2 * dilation
            inside = at.clamp(0, x.shape[axis] - 1)
            x = x.index_select(axis, inside)
            if self._borders is not None and bool((inside != at).any()):
                shape = [1] * x.ndim
                shape[axis] = n
                x = torch.where((inside == at).view(shape), x, self._noise(x, self._borders))
        return x

    def _convolved(
        self, func: Any, input: Tensor, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0,
        dilation: Any = 1, groups: int = 1,
    ) -> Tensor:  # fmt: skip
        if self._structure is not None:
            weight = torch.rand(weight.shape, generator=self._structure, dtype=torch.float64).to(weight) + 0.5
        if self._borders is not None and padding != "valid":
            sides = []
            for axis in (1, 0):
                reach = _pair(dilation)[axis] * (weight.shape[2 + axis] - 1)
                same = (reach // 2, reach - reach // 2)
                sides += same if padding == "same" else [_pair(padding)[axis]] * 2
            input, padding = self._noisy(F.pad(input, sides), sides), 0
        return func(input, weight, bias, stride, padding, dilation, groups)

    def _averaged(self, func: Any, input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
                  *args: Any, **words: Any) -> Tensor:  # fmt: skip
        p = _pair(padding)
        sides = [p[1], p[1], p[0], p[0]]
        return func(self._noisy(F.pad(input, sides), sides), kernel_size, stride, 0, *args, **words)

    def _noisy(self, padded: Tensor, sides: Sequence[int]) -> Tensor:
        """`padded` with random numbers wherever it is padding."""
        assert self._borders is not None
        sides = [*(int(s) for s in sides), 0, 0, 0, 0][:4]
        inside = padded.new_zeros(padded.shape[-2:], dtype=torch.bool)
        h, w = padded.shape[-2:]
        inside[max(sides[2], 0) : h - max(sides[3], 0), max(sides[0], 0) : w - max(sides[1], 0)] = True
        return torch.where(inside, padded, self._noise(padded, self._borders))

    @staticmethod
    def _noise(like: Tensor, generator: torch.Generator) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, (tuple, list)):
        return (int(value[0]), int(value[-1]))
    return int(value), int(value)


@dataclasses.dataclass(frozen=True, eq=False)
class Composed:
    """The linear map from the image to the units of one layer.

    Attributes:
        units: (u,) channels.
        channels: of the layer, in all.
        filters: (u, c, h, w) so that the output at a place is the sum of the filter times the image under it.
        stride: (2,) pixels of the image from one place of the output to the next.
        ignored: what was taken out between the image and the layer, with how often, such as "2 x relu".
    """

    units: NDArray[np.int64]
    channels: int
    filters: FloatArray
    stride: tuple[int, int]
    ignored: tuple[str, ...]


@dataclasses.dataclass(eq=False)
class _Seen:
    """The output of a layer at the middle and one place before it in each direction: (channels,) each."""

    here: Tensor
    before: Tensor | None
    left_out: list[tuple[str, Any]]  # in the whole pass so far


class Compositions:
    """Filters of the layers of a copy of a model, made of its linear parts; of each use where one runs again.

    Args:
        model: it is not changed.
        input_size: (c, h, w) of the images.
        largest: side in pixels of the largest filter that is wanted; larger images are cut to what that needs.

    Raises:
        ValueError: no two-dimensional convolution, or a model that does not run on images of this size.
        TypeError: a model that cannot be copied.
    """

    def __init__(self, model: nn.Module, input_size: Sequence[int], *, largest: int) -> None:
        check_inputs(model)
        with undisturbed(gradients=True):
            self._net = private_copy(model).double().requires_grad_(False)
        # in the order of their modules: the pass brings the order of execution
        self._layers = {m: name for name, m in reversed([*self._net.named_modules()]) if isinstance(m, nn.Conv2d)}
        if not self._layers:
            raise ValueError(f"expected a model with two-dimensional convolutions, {type(model).__name__} has none")
        self._wanted: set[str] = set()
        self._device, self._largest = next(iter(self._net.parameters())).device, largest
        channels, *size = (int(n) for n in input_size)
        side = 32 * math.ceil((largest + 48) / 32)
        small = (channels, *(min(n, side) for n in size))
        with undisturbed(gradients=True), torch.enable_grad(), as_written():
            self._run((channels, *size), small)

    def _run(self, full: tuple[int, ...], small: tuple[int, ...]) -> None:
        error: Exception | None = None
        for size in dict.fromkeys((small, full)):
            self._said, self.input_size = " x ".join(map(str, size[1:])), size
            self._leaf, self._seen, error = self._pass(LinearParts(), torch.zeros(1, *size))
            if error is None or self._seen.keys() == set(self._layers.values()):  # each, and none again behind it
                break
        if not self._seen:
            raise ValueError(
                f"expected a model that runs on zeros of shape {(1, *full)}, it raised {type(error).__name__}: "
                f"{error}; pass the `input_size` (c, height, width) that it takes"
            ) from error
        self._error = error

    def prepare(self, names: Sequence[str]) -> None:
        """The further passes that `of` needs, as far as the last of these layers.

        Raises:
            ValueError: the model does not do the same in each.
        """
        self._wanted = set(names)
        with undisturbed(gradients=True), torch.enable_grad(), as_written():
            self._check()

    def _check(self) -> None:
        generator = torch.Generator().manual_seed(int(streams.generator("probes", 0).integers(2**62)))
        self._noise = torch.randn(2, *self.input_size, generator=generator, dtype=torch.float64)
        self._tried = [self._again(LinearParts(), x[None])[1] for x in self._noise]
        seed = int(streams.generator("probes", 1).integers(2**62))

        def own() -> torch.Generator:
            return torch.Generator().manual_seed(seed)

        zeros = torch.zeros(1, *self.input_size)
        self._box_leaf, self._boxes = self._again(LinearParts(structure=own()), zeros)
        self._padded = self._again(LinearParts(structure=own(), borders=generator), zeros)[1]

    def _again(self, mode: LinearParts, image: Tensor) -> tuple[Tensor, dict[str, _Seen]]:
        """Another pass over the same layers."""
        leaf, seen, error = self._pass(mode, image)
        if not seen.keys() >= self._wanted:
            why = f"{type(error).__name__}: {error}" if error is not None else "it took another way through the network"
            raise ValueError(f"expected a model that does the same in each pass, one ended otherwise: {why}") from error
        return leaf, seen

    def _pass(self, mode: LinearParts, image: Tensor) -> tuple[Tensor, dict[str, _Seen], Exception | None]:
        seen: dict[str, _Seen] = {}
        uses: Counter[str] = Counter()

        def see(module: Any, _inputs: Any, y: Any) -> None:
            if not isinstance(y, Tensor) or y.ndim != 4:
                return
            uses[self._layers[module]] += 1
            name = layer_names.of_use(self._layers[module], uses[self._layers[module]])
            i, j = y.shape[2] // 2, y.shape[3] // 2
            before = y[0, :, i - 1, j - 1].clone() if min(i, j) else None
            seen[name] = _Seen(y[0, :, i, j].clone(), before, list(mode.left_out))
            if self._wanted and seen.keys() >= self._wanted:
                raise _AllSeenError

        hooks = [module.register_forward_hook(see) for module in self._layers]
        leaf = image.to(self._device, torch.float64).requires_grad_()
        error = None
        try:
            with mode:
                self._net(leaf.clone())
        except _AllSeenError:
            pass
        except Exception as raised:  # noqa: BLE001 - what it has reached is there; the rest is said by name
            error = raised
        finally:
            for hook in hooks:
                hook.remove()
        return leaf, seen, error

    @property
    def names(self) -> tuple[str, ...]:
        """Layers in order of execution, further uses of one by `layer_names.of_use`."""
        return tuple(self._seen)

    def uses(self, name: str) -> tuple[str, ...]:
        """The names of all uses of a layer."""
        every = (layer_names.of_use(name, count) for count in range(1, len(self._seen) + 1))
        return tuple(itertools.takewhile(self._seen.__contains__, every))

    @property
    def unreached(self) -> Iterator[tuple[str, str]]:
        """(name, reason) of layers that the pass has not come to."""
        why = "the forward pass did not reach it"
        if self._error is not None:
            why += f" before {type(self._error).__name__}: {self._error}"
        yield from ((name, why) for name in reversed(self._layers.values()) if name not in self._seen)

    def of(self, name: str, units: int, advance: Callable[[], object] = lambda: None) -> Composed:
        """The filters of at most `units` channels of a layer, at even distances.

        Raises:
            ValueError: they are not filters, or larger than asked for; the message says why.
        """
        with undisturbed(gradients=True), torch.enable_grad():
            seen = self._seen[name]
            if not seen.here.requires_grad:
                raise ValueError(
                    "what the image does to it is cut off: the pass detaches it, or runs without gradients"
                )
            mean = seen.here.detach()
            (gradient,) = torch.autograd.grad(_mixture(mean) @ seen.here, self._leaf, retain_graph=True)
            if not torch.isfinite(gradient).all() or not torch.isfinite(mean).all():
                raise ValueError("weights before it, or its own, are NaN or infinite")
            for x, tried in zip(self._noise, self._tried, strict=True):
                value = float(_mixture(mean) @ (tried[name].here.detach() - mean))
                size = float(gradient.norm() * x.norm()) + float(_mixture(mean).norm() * mean.norm())
                if not abs(value - float((gradient.cpu() * x).sum())) <= _TOLERANCE * size:
                    raise ValueError("something before it is neither linear nor an activation or pooling by itself")
            box, stride = self._box(name)
            self._check_next(seen, gradient[0], stride)
            channels = len(mean)
            chosen = np.unique(np.linspace(0, channels - 1, min(units, channels)).round().astype(np.int64))
            filters = []
            for unit in chosen:
                (whole,) = torch.autograd.grad(seen.here[int(unit)], self._leaf, retain_graph=True)
                filters.append(whole[(0, slice(None), *box)].cpu().numpy())
                advance()
        nodes = _behind(seen.here.grad_fn)
        left_out = Counter(what for what, node in seen.left_out if node in nodes)
        ignored = tuple(f"{count} x {what}" for what, count in sorted(left_out.items()))
        return Composed(chosen, channels, np.stack(filters), stride, ignored)

    def _box(self, name: str) -> tuple[tuple[slice, slice], tuple[int, int]]:
        """Where the filters of the middle place lie, and how far those of the place before it are away."""
        seen, padded = self._boxes[name], self._padded[name]
        if seen.before is None or padded.before is None:
            raise ValueError("its output is one pixel high or wide: pass a larger `input_size`")
        both = torch.stack([seen.here, seen.before])
        other = torch.stack([padded.here, padded.before])
        apart = (both - other).detach().abs().max()
        here, before = (
            torch.autograd.grad(part.sum(), self._box_leaf, retain_graph=True)[0][0].abs().sum(dim=0) > 0
            for part in (seen.here, seen.before)
        )
        if not here.any():
            raise ValueError("no pixel reaches it")
        ends = [[_ends(mask.any(dim=1 - axis)) for mask in (here, before)] for axis in (0, 1)]
        size = tuple(b - a for (a, b), _ in ends)
        cut = float(apart) > _TOLERANCE * float(both.detach().abs().max())
        said = f"sees {'at least ' if cut else ''}{size[0]} x {size[1]} pixels"
        if max(size) > self._largest:
            raise ValueError(f"{said}, more than `largest`, {self._largest}")
        if cut:
            raise ValueError(f"{said}, beyond the borders of {self._said}; pass a larger `input_size`, or `largest`")
        strides = tuple(here[1] - before[1] for here, before in ends)
        if min(strides) < 1:
            raise ValueError("it looks at the same pixels everywhere: not a filter")
        (top, left) = ends
        return (slice(*top[0]), slice(*left[0])), (strides[0], strides[1])

    def _check_next(self, seen: _Seen, here: Tensor, stride: tuple[int, int]) -> None:
        """The gradient of the mixture moves with the place: else it is no filter."""
        assert seen.before is not None
        (before,) = torch.autograd.grad(_mixture(seen.before) @ seen.before, self._leaf, retain_graph=True)
        moved = torch.zeros_like(here)
        moved[:, : -stride[0], : -stride[1]] = here[:, stride[0] :, stride[1] :]
        if not float((moved - before[0]).abs().max()) <= _TOLERANCE * float(here.abs().max()):
            raise ValueError("it is another map at another place: not a filter")


def _mixture(channels: Tensor) -> Tensor:
    """A fixed combination of channels, none left out."""
    return torch.cos(torch.arange(len(channels), dtype=torch.float64) + 0.5).to(channels)


def _behind(node: Any) -> set[Any]:
    """All nodes of autograd's graph that a node is made of."""
    found, ahead = {node}, [node]
    while ahead:
        new = {each for each, _ in ahead.pop().next_functions if each is not None} - found
        found |= new
        ahead += new
    return found


def _ends(along: Tensor) -> tuple[int, int]:
    at = along.nonzero()[:, 0]
    return int(at[0]), int(at[-1]) + 1

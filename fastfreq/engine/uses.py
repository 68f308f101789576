"""Who takes a layer's output: whether a batch norm, and nothing else, gets it as it was made."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_FACTS = frozenset(
    {"shape", "dtype", "device", "ndim", "layout", "is_cuda", "requires_grad"}
)  # read, not computed with
_FACTS |= {"size", "dim", "numel", "is_floating_point", "stride", "is_contiguous", "_version", "is_inference"}


@dataclasses.dataclass(eq=False)
class Use:
    """One call of a layer.

    Attributes:
        layer: the module.
        input_shape: of its first argument.
        output_ndim: number of axes of its output.
        norm: the batch norm that takes its output, as the first to do so.
        other: what else uses its output, or has changed it before the norm; empty if nothing does.
    """

    layer: nn.Module
    input_shape: tuple[int, ...]
    output_ndim: int
    norm: nn.Module | None = None
    other: str = ""


class LayerUses(TorchFunctionMode):
    """Watches forward passes from outside: each call of some layers, and what becomes of its output.

    A tensor is known by its identity, which an operation in place keeps. So every function of torch that takes it is
    noted, and its version is compared when a norm gets it: that counts changes through views, and by code that is not
    torch's. Outside inference mode only, where versions are not kept.
    """

    def __init__(
        self, layers: Iterable[nn.Module], norms: Iterable[nn.Module], recorded: dict[nn.Module, str] | None = None
    ) -> None:
        """Watch `layers` and `norms`; `recorded` modules give their output to somebody by name."""
        super().__init__()
        self._layers, self._norms, self._recorded = list(layers), list(norms), recorded or {}
        self.uses: list[Use] = []
        self.runs: dict[nn.Module, int] = {}
        self._made: dict[int, tuple[Use, Tensor, int | None]] = {}  # the tensor is kept: its id must stay its own
        self._inside: list[nn.Module] = []  # norms that are running

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Hooks on the modules, removed at the end."""
        with contextlib.ExitStack() as stack:

            def on(register: Callable[..., Any], hook: Callable[..., None], **options: bool) -> None:
                stack.callback(register(hook, **options).remove)

            for module in self._layers:
                on(module.register_forward_hook, self._makes)
            for module in self._norms:
                on(module.register_forward_pre_hook, self._enters)
                on(module.register_forward_hook, self._leaves, always_call=True)
            for module in self._recorded:
                on(module.register_forward_hook, self._records)
            stack.enter_context(self)
            yield

    def of(self, layer: nn.Module) -> list[Use]:
        """The calls of one layer in order."""
        return [use for use in self.uses if use.layer is layer]

    def before(self, norm: nn.Module) -> list[Use]:
        """The calls whose output a norm takes."""
        return [use for use in self.uses if use.norm is norm]

    # ---------------------------------------------------------------- what happens in the pass
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Note who uses a layer's output, other than the norm that runs."""
        name = getattr(func, "__name__", str(func))
        if name == "__get__":
            name = getattr(func.__self__, "__name__", name)
        if name not in _FACTS:
            for tensor in tensors_in((args, kwargs or {})):
                use = self._use(tensor)
                if use is not None and (not self._inside or use.norm is not self._inside[-1]):
                    use.other = use.other or name
        return func(*args, **(kwargs or {}))

    def _use(self, tensor: Tensor) -> Use | None:
        made = self._made.get(id(tensor))
        return None if made is None else made[0]

    def _makes(self, layer: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self.runs[layer] = self.runs.get(layer, 0) + 1
        if not isinstance(output, Tensor):
            return
        shape = next((tuple(x.shape) for x in args if isinstance(x, Tensor)), ())
        use = Use(layer, shape, output.ndim)
        self.uses.append(use)
        if id(output) in self._made:  # a layer that hands on what another has made
            self._made[id(output)][0].other = f"the layer {type(layer).__name__}, which returns it"
            use.other = "another layer, which made it"
        self._made[id(output)] = (use, output, _version(output))

    def _enters(self, norm: nn.Module, args: tuple[Any, ...]) -> None:
        self.runs[norm] = self.runs.get(norm, 0) + 1
        self._inside.append(norm)
        made = self._made.get(id(args[0])) if args else None
        if made is None:
            return
        use, tensor, version = made
        if use.norm is not None:
            use.other = use.other or "another batch norm"
        elif _version(tensor) != version:
            use.other = use.other or "an operation in place"
        use.norm = use.norm or norm

    def _leaves(self, _norm: nn.Module, _args: Any, _output: Any) -> None:
        self._inside.pop()

    def _records(self, module: nn.Module, _args: Any, output: Any) -> None:
        for tensor in tensors_in(output):
            use = self._use(tensor)
            if use is not None:
                use.other = use.other or f"layer {self._recorded[module]!r}, which is recorded"


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)

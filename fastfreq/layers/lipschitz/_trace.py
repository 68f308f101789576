"""The operations of a network in order, as torch.fx sees them below modules: hooks and arguments included."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx import traceback
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.node import map_arg
from torch.overrides import TorchFunctionMode

from fastfreq.engine.copies import TRACING, private_copy
from fastfreq.engine.model_checks import check_inputs

_ESCAPES = frozenset({"numpy", "tolist", "data", "data_ptr", "untyped_storage", "storage", "__array__", "__dlpack__"})


def traced(model: nn.Module, input_size: tuple[int, ...]) -> tuple[fx.GraphModule, Tensor, dict[str, nn.Module]]:
    """The graph of one image's forward pass in evaluation mode, an image for it, and the modules by name.

    Every node is one operation of torch with the arguments that it gets; ``node.meta["custom"]["module"]`` names the
    module that calls it. Control flow over sizes is resolved. Values must not steer it, nor leave torch: that raises,
    and what slips through shows as a constant that differs between two images.

    Raises:
        ValueError: a model that does not run on such images, or whose operations depend on the image.
        TypeError: a model that cannot be copied.
    """
    check_inputs(model)
    own = _as_written(private_copy(model))
    if any(isinstance(module, torch.jit.ScriptModule) for module in own.modules()):
        raise ValueError(
            "expected a model that runs in Python, a part of it is a ScriptModule; pass what it was made of"
        )
    example = next((p for p in own.parameters() if p.is_floating_point()), torch.zeros(()))
    shape, like = (1, *input_size), {"dtype": example.dtype, "device": example.device}
    with torch.inference_mode(False), torch.no_grad(), TRACING, traceback.preserve_node_meta(), _named(own):
        images = [torch.zeros(shape, **like), torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(**like)]
        graphs = [_graph(own, image.clone()) for image in images]
    difference = _difference(*graphs)
    if difference:
        raise ValueError(
            f"expected operations that are the same for every image, {type(model).__name__} {difference}: values leave "
            "torch, or it is random or keeps state; bound the parts before and after it"
        )
    return graphs[1], images[1], dict(own.named_modules())


def _as_written(model: nn.Module) -> nn.Module:
    """Without what torch.compile has put around a model or its modules, which torch.fx does not look into."""

    def inner(module: nn.Module | None) -> Any:
        return inner(module._orig_mod) if isinstance(getattr(module, "_orig_mod", None), nn.Module) else module  # pyright: ignore

    model = inner(model)
    for module in list(model.modules()):
        module._modules.update({name: inner(child) for name, child in module._modules.items()})
        module._compiled_call_impl = None
    return model


def _graph(model: nn.Module, image: Tensor) -> fx.GraphModule:
    state = {id(t) for t in (*model.parameters(), *model.buffers())}
    try:
        with _Inside(state):
            return make_fx(model, pre_dispatch=True, tracing_mode="real")(image)
    except Exception as error:
        why = f"raised {type(error).__name__}: {error}"
        if "get value out of a tracing tensor" in why:
            why = "reads values of the image in its forward pass, such as in an `if`"
        raise ValueError(
            f"expected a model that torch.fx can trace on one image of shape {tuple(image.shape)}, "
            f"{type(model).__name__} {why}; bound the parts before and after it"
        ) from error


class _Inside(TorchFunctionMode):
    """Refuses to hand values of the image to anything that is not torch."""

    def __init__(self, state: set[int]) -> None:
        super().__init__()
        self.state = state

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        name = getattr(func.__self__, "__name__", name) if name == "__get__" else name
        if name in _ESCAPES and args and id(args[0]) not in self.state:
            raise RuntimeError(f"its forward pass calls .{name}, behind which an operation cannot be seen")
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def _named(model: nn.Module) -> Iterator[None]:
    """Operations note the module that calls them."""
    open_names: list[contextlib.AbstractContextManager[Any]] = []

    def enter(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            open_names.append(traceback.annotate({"module": name}))
            open_names[-1].__enter__()

        return hook

    def leave(*_: Any) -> None:
        open_names.pop().__exit__(None, None, None)

    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(enter(name), prepend=True))
        handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        while open_names:  # those that an interrupt left open
            leave()
        for handle in handles:
            handle.remove()


def _difference(first: fx.GraphModule, second: fx.GraphModule) -> str:
    """What two graphs do not share, in words; empty if they are the same."""
    nodes = [list(graph.graph.nodes) for graph in (first, second)]
    if len(nodes[0]) != len(nodes[1]):
        return f"runs {len(nodes[0])} operations for one image and {len(nodes[1])} for another"
    names = [{node: i for i, node in enumerate(part)} for part in nodes]
    for a, b in zip(*nodes, strict=True):
        where = f"calls {a.target} in {(a.meta.get('custom') or {}).get('module') or 'its forward pass'!r}"
        if a.op == "get_attr" and b.op == "get_attr":
            if not _same(getattr(first, str(a.target)), getattr(second, str(b.target))):
                return "computes with a constant that is not one"
            continue
        flat = [
            map_arg((node.args, node.kwargs), lambda n, own=own: f"node {own[n]}")
            for node, own in zip((a, b), names, strict=True)
        ]
        if a.op != b.op or a.target != b.target or repr(flat[0]) != repr(flat[1]):
            return f"{where} with arguments that depend on the image"
    return ""


def _same(a: Any, b: Any) -> bool:
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return a is b
    return a is b or (a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b))

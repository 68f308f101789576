"""Two CUDA devices that are not there: what only shows on a card, such as a tensor on the wrong device, shows here.

A tensor that says cuda:0 or cuda:1 holds another on the CPU, and every operation on it is made there. As on a card,

- tensors of several devices do not mix, `numpy()` is refused, and what waits for the host is logged;
- operations of fastfreq run the host code of their `_triton.py`, whose kernels Triton interprets (TRITON_INTERPRET=1
  must be set before Triton is imported); a launch from under another current device is an error;
- a graph holds what was done on the current device while it was captured, and replays that alone: no line of Python
  runs again, and waiting is an error.

Speed, memory, other rounding and other random numbers than the CPU's, and torch.compile are not emulated.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import threading
import traceback
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from fastfreq_kernels import _dispatch
from fastfreq_kernels._launch import Launch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

_CUDA = torch._C.DispatchKey.CUDA
_ATEN = torch.ops.aten
_READS = {  # operations whose result, or its shape, the host has to see
    _ATEN._local_scalar_dense, _ATEN.item, _ATEN.is_nonzero, _ATEN.equal, _ATEN.nonzero, _ATEN.masked_select,
    _ATEN.unique_dim, _ATEN._unique2, _ATEN.unique_consecutive, _ATEN.unique_dim_consecutive, _ATEN.bincount,
    _ATEN.linalg_eigh, _ATEN._linalg_eigh, _ATEN._linalg_svd, _ATEN.linalg_qr, _ATEN.linalg_cholesky_ex,
}  # fmt: skip
_INDEXES = {_ATEN.index, _ATEN.index_put, _ATEN.index_put_, _ATEN._index_put_impl_}


class _State(threading.local):
    """Of one thread, as in torch."""

    current = 0  # device
    graph: _Graph | None = None  # that is being captured


_STATE = _State()


class Log:
    """What happened on the devices."""

    def __init__(self) -> None:
        self.waits: list[str] = []  # what made the host wait, and which line of the project asked for it
        self.launches: list[Launch] = []  # with tensors as the kernel saw them
        self.captured, self.replays = list[int](), 0  # graphs, by how many operations they hold; runs of all of them
        self.stream: _Stream | None = None  # in which graphs are captured, where no other is named

    clear = __init__

    def wait(self, why: str) -> None:
        """The host waits for the device."""
        if _STATE.graph is not None:
            raise RuntimeError(f"CUDA error: operation not permitted when stream is capturing ({why})")
        frames = [f for f in traceback.extract_stack() if "/fastfreq" in f.filename]
        at = f"{frames[-1].filename.partition('/fastfreq')[2]}:{frames[-1].lineno}" if frames else "a test"
        self.waits.append(f"{why} at {at}")


LOG = Log()


# ---------------------------------------------------------------- tensors
class OnCard(Tensor):
    """A tensor on a device. To torch's C++ it is one on the CPU without memory; `inner` has the numbers."""

    @staticmethod
    def __new__(cls, inner: Tensor, index: int) -> OnCard:
        assert not isinstance(inner, OnCard)
        how = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        made = Tensor._make_wrapper_subclass(cls, inner.shape, **how)
        made.inner, made.index = inner.detach(), index
        return made

    device = property(lambda self: torch.device("cuda", self.index))
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    def __deepcopy__(self, memo: dict[int, Any]) -> OnCard:
        if id(self) not in memo:
            copied = OnCard(self.inner.clone(memory_format=torch.preserve_format), self.index)
            memo[id(self)] = copied.requires_grad_(self.requires_grad)
            if getattr(self, "_is_param", False):
                copied._is_param = True
        return memo[id(self)]

    def numpy(self, **_: Any) -> Any:
        raise TypeError(f"can't convert {self.device} device type tensor to numpy")

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    @classmethod
    def __torch_dispatch__(cls, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "fastfreq":
            return func._op_dk(_CUDA, *args, **kwargs)
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        cards = [t for t in tensors if isinstance(t, OnCard)]
        _check(func, args, tensors, cards)
        plain_args, plain_kwargs = tree_map(_inner, args), tree_map(_inner, kwargs)
        out = func(*plain_args, **plain_kwargs)
        if func.overloadpacket is _ATEN._local_scalar_dense or out is args[0]:
            return out  # a number, or a tensor of the host that was copied to
        index, known = cards[0].index, {id(t.inner): t for t in cards}
        if _STATE.graph is not None and index == _STATE.current:
            _STATE.graph.steps.append(_again(func, plain_args, plain_kwargs, out))

        def wrapped(value: Any) -> Any:
            return known.get(id(value), OnCard(value, index)) if isinstance(value, Tensor) else value

        # a view of a tensor from outside inference mode is none of that mode, wherever it is made
        inside = torch.is_inference_mode_enabled() and any(t.is_inference() for t in cards)
        with torch.inference_mode(inside):
            return tree_map(wrapped, out)


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, OnCard) else value


def _check(func: Any, args: Any, tensors: list[Tensor], cards: list[OnCard]) -> None:
    """Refuse mixed devices, and log what waits."""
    packet, name = func.overloadpacket, func._schema.name
    strangers = [t for t in tensors if not isinstance(t, OnCard) and t.dim() > 0]
    if packet in _INDEXES and isinstance(args[0], OnCard):  # indices may come from the host
        indices = [i for i in args[1] if i is not None]
        strangers = [t for t in strangers if not any(t is i for i in indices)]
        if any(not isinstance(i, OnCard) or i.dtype in (torch.bool, torch.uint8) for i in indices):
            LOG.wait(f"{name} by truth values or by indices of the host")
    elif packet is _ATEN.copy_:
        if strangers and not (len(args) > 2 and args[2]):
            LOG.wait("copy_ from another device")
        strangers = []
    elif packet in _READS:
        LOG.wait(name)
    if strangers or len({t.index for t in cards}) > (2 if packet is _ATEN.copy_ else 1):
        found = sorted({str(t.device) for t in tensors})
        raise RuntimeError(f"Expected all tensors to be on the same device, but found {found} in {name}")


def _moved(tensor: Tensor, *args: Any, copy: bool = False, **kwargs: Any) -> Tensor:
    """`Tensor.to`."""
    if args and isinstance(args[0], Tensor):
        args = (args[0].device, args[0].dtype, *args[1:])
    device, dtype, non_blocking, layout = torch._C._nn._parse_to(*args, **kwargs)
    device = tensor.device if device is None else _indexed(device)
    how = {"copy": copy or device != tensor.device, "memory_format": layout or torch.preserve_format}
    with torch._C.DisableTorchFunction():
        if device == tensor.device:
            return Tensor.to(tensor, dtype or tensor.dtype, **how)
        if tensor.requires_grad and torch.is_grad_enabled():
            raise NotImplementedError("gradients from one device to another are not emulated")
        if device.type == "cpu" or not non_blocking:
            LOG.wait(f"to {device.type}")
        inner = _inner(tensor.detach()).to(dtype or tensor.dtype, **how)
    return inner if device.type == "cpu" else OnCard(inner, device.index)


def _indexed(device: Any) -> torch.device:
    found = torch.device(device)
    return torch.device("cuda", _STATE.current) if found.type == "cuda" and found.index is None else found


class _Functions(TorchFunctionMode, contextlib.ContextDecorator):
    """What makes tensors on a device, or takes them there."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch._has_compatible_shallow_copy_type:
            return False  # modules make new parameters
        if func in (Tensor.to, Tensor.cuda, Tensor.cpu):
            return _moved(*args, **({} if func is Tensor.to else {"device": func.__name__}), **kwargs)
        if func is Tensor.tolist and isinstance(args[0], OnCard):
            return _moved(args[0], "cpu").tolist()
        device = kwargs.get("device")
        if isinstance(device, (str, torch.device)) and torch.device(device).type == "cuda":
            made = func(*args, **kwargs | {"device": "cpu" if not isinstance(args[0], OnCard) else None})
            if func in (torch.tensor, torch.as_tensor):
                LOG.wait(func.__name__)
            return made if isinstance(made, OnCard) else OnCard(made, _indexed(device).index)
        return func(*args, **kwargs)


class _Loader:
    """In place of `importlib` where a `_triton.py` is loaded: its functions make tensors on devices, too."""

    @staticmethod
    def import_module(name: str) -> Any:
        module = vars(importlib.import_module(name))
        own = {name: _Functions()(each) if inspect.isfunction(each) else each for name, each in module.items()}
        return types.SimpleNamespace(**own)


# ---------------------------------------------------------------- launches and graphs
_LAUNCH = Launch.__call__


def _launched(launch: Launch) -> None:
    tensors = {name: value for name, value in launch.arguments.items() if isinstance(value, Tensor)}
    wrong = {name: str(t.device) for name, t in tensors.items() if t.device != torch.device("cuda", _STATE.current)}
    if wrong:
        raise RuntimeError(f"{launch.kernel.__name__} runs on cuda:{_STATE.current}, its arguments are on {wrong}")
    seen = launch._replace(arguments={name: _inner(value) for name, value in launch.arguments.items()})
    LOG.launches.append(seen)
    with torch._C.DisableTorchFunction():
        _LAUNCH(seen)
    if _STATE.graph is not None:
        _STATE.graph.steps.append(lambda: _LAUNCH(seen))


def _again(func: Any, args: Any, kwargs: Any, out: Any) -> Callable[[], None]:
    """The same operation on what its arguments hold by then, into the memory of its first results."""

    def step() -> None:
        for old, new in zip(tree_leaves(out), tree_leaves(func(*args, **kwargs)), strict=True):
            if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                old.copy_(new)

    return step


class _Graph:
    """`torch.cuda.CUDAGraph`."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.steps: list[Callable[[], None]] = []

    def replay(self) -> None:
        LOG.replays += 1
        with torch._C.DisableTorchFunction(), torch.inference_mode():
            for step in self.steps:
                step()


@contextlib.contextmanager
def _graph(graph: _Graph, stream: _Stream | None = None, **_: Any) -> Iterator[None]:
    """`torch.cuda.graph`: without a stream it takes one that was made on the device of the first capture."""
    LOG.stream = LOG.stream or _Stream()
    _STATE.graph = graph
    try:
        with _on((stream or LOG.stream).device):
            yield
    finally:
        _STATE.graph = None
    LOG.captured.append(len(graph.steps))


class _Stream:
    """Of a device, in which everything happens at once."""

    def __init__(self, device: Any = None, **_: Any) -> None:
        self.device = _indexed(device or "cuda")

    def wait_stream(self, other: _Stream) -> None:
        assert self.device == other.device, f"a stream of {self.device} waits for one of {other.device}"


@contextlib.contextmanager
def _on(device: Any) -> Iterator[None]:
    """`torch.cuda.device`."""
    before, _STATE.current = _STATE.current, _indexed(device).index
    try:
        yield
    finally:
        _STATE.current = before


@contextlib.contextmanager
def emulated() -> Iterator[Log]:
    """cuda:0 and cuda:1 are there, in this thread; what happens on them is in the log."""
    there: dict[str, Any] = {
        "is_available": lambda: True, "current_device": lambda: _STATE.current, "device": _on, "Stream": _Stream,
        "stream": lambda stream: _on(stream.device), "current_stream": _Stream, "CUDAGraph": _Graph, "graph": _graph,
        "synchronize": lambda at="cuda": LOG.wait(f"synchronize {_indexed(at)}"), "manual_seed": lambda _: None,
        "empty_cache": lambda: None, "get_device_name": lambda *_: "emulated", "set_rng_state": lambda *_: None,
        "get_rng_state": lambda *_: torch.empty(0),
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, _Functions():
        for name, value in there.items():
            patch.setattr(torch.cuda, name, value)
        patch.setattr(Launch, "__call__", _launched)
        patch.setattr(_dispatch, "importlib", _Loader)
        LOG.clear()
        yield LOG

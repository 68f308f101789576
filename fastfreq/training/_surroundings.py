"""A look at a network in the midst of its training, after which nothing of it is other than before."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from fastfreq.engine.copies import as_written
from fastfreq.engine.wrappers import unwrapped as unwrapped
from fastfreq.vocabulary import streams

_SEED = 0x5EED  # of whatever a forward pass draws: the same at every step


def device_of(model: nn.Module) -> torch.device:
    """Of its first parameter or buffer; the CPU where it has none."""
    first = next(iter([*model.parameters(), *model.buffers()]), None)
    return torch.device("cpu") if first is None else first.device


@contextlib.contextmanager
def left_as_it_was(model: nn.Module) -> Iterator[None]:
    """The network in evaluation mode; afterwards all is as it was, whatever happens inside.

    Kept and put back: the mode of every module, one by one; gradients, which are out of reach inside; buffers; the
    random states of torch on the CPU and the network's GPUs, of NumPy and of Python; what is drawn inside comes from
    one seed. Autocast is off. Gradients can be taken inside: `without_graph` is for forward passes. Hooks of the
    network run as in any forward pass.

    Raises:
        RuntimeError: a forward pass that overwrote weights in evaluation mode, which no copy can undo.
    """
    modes = [(module, module.training) for module in model.modules()]
    grads = [(weight, weight.grad) for weight in model.parameters()]
    versions = [(name, weight, _version(weight)) for name, weight in model.named_parameters()]
    buffers = _buffers(model)
    with contextlib.ExitStack() as stack:
        stack.callback(_put_back, modes, grads, buffers)
        stack.enter_context(_own_chance(model))
        stack.enter_context(as_written())
        for kind in {"cpu", device_of(model).type}:
            if torch.amp.is_autocast_available(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        for module, _ in modes:
            module.training = False  # not `eval()`: some modules do more in it, such as merging weights
        for weight, _ in grads:
            weight.grad = None
        yield
    changed = [name for name, weight, version in versions if _version(weight) != version]
    if changed:
        raise RuntimeError(
            f"expected a forward pass that leaves weights alone in evaluation mode, {type(model).__name__} overwrote "
            f"{changed[:3]}; run one training step first where weights are made from the first batch, or follow a copy "
            f"where another thread trains it"
        )


@contextlib.contextmanager
def without_graph() -> Iterator[None]:
    """No graph is recorded. Not inference mode: what a module caches must still serve in training."""
    with torch.inference_mode(False), torch.no_grad():
        yield


Buffers = list[tuple[nn.Module, str, Tensor, Tensor, int]]


def _version(tensor: Tensor) -> int:
    """How often a tensor was written to; -1 of inference tensors, which nobody can write to here."""
    return -1 if tensor.is_inference() else tensor._version


def _buffers(model: nn.Module) -> Buffers:
    return [
        (module, name, buffer, buffer.detach().clone(), _version(buffer))
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]


def _put_back(
    modes: list[tuple[nn.Module, bool]], grads: list[tuple[nn.Parameter, Tensor | None]], buffers: Buffers
) -> None:
    for module, training in modes:
        module.training = training
    for weight, grad in grads:
        weight.grad = grad
    with torch.no_grad():
        for module, name, buffer, before, version in buffers:
            # batch norm in training mode writes to its buffers without counting
            if _version(buffer) != version or not torch.equal(buffer, before):
                buffer.copy_(before)
            module._buffers[name] = buffer


@contextlib.contextmanager
def _own_chance(model: nn.Module) -> Iterator[None]:
    """Random numbers inside come from one seed, and those outside know nothing of it; one thread at a time."""
    gpus = sorted({weight.device.index or 0 for weight in model.parameters() if weight.device.type == "cuda"})
    with streams.GLOBAL_STATES:
        numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002 - networks may use it
        try:
            with torch.random.fork_rng(devices=gpus):
                torch.default_generator.manual_seed(_SEED)
                for gpu in gpus:
                    torch.cuda.default_generators[gpu].manual_seed(_SEED)
                np.random.seed(_SEED)  # noqa: NPY002
                random.seed(_SEED)
                yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)

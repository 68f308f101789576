"""What every measurement is tried on: small networks that tell on whoever calls them, images, and how to compare."""

from __future__ import annotations

import copy
import dataclasses
import functools
import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

import fastfreq as ff
from tests.conftest import TinyNet

Numbers = dict[str, NDArray[Any]]

SHAPE = (3, 11, 14)
N = 12


class Events:
    """What happens inside forward passes: global, so that copies of a network, weights and class are the same ones."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Nothing happens, nothing was counted."""
        self.calls = 0
        self.stop_after: int | None = None
        self.error: type[BaseException] = KeyboardInterrupt
        self.largest: int | None = None
        self.pause = 0.0
        self.on_call: Callable[[], object] | None = None

    def called(self, batch: Tensor) -> None:
        """A forward pass begins."""
        self.calls += 1
        if self.pause:
            time.sleep(self.pause)
        if self.on_call is not None:
            self.on_call()
        if self.stop_after is not None and self.calls > self.stop_after:
            raise self.error("stopped inside the network")
        if self.largest is not None and len(batch) > self.largest:
            raise torch.OutOfMemoryError(f"expected batches of at most {self.largest}, got {len(batch)}")


EVENTS = Events()


# ---------------------------------------------------------------- networks
class Net(TinyNet):
    """A TinyNet that reports each forward pass to `EVENTS`."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        EVENTS.called(x)
        return super().forward(x)


class Scaled(Net):
    """A number that is neither parameter nor buffer changes the function."""

    scale: float = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Logits of scaled input."""
        return super().forward(x * self.scale)


class OtherForward(Net):
    """The same weights in another function."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits, with another activation."""
        EVENTS.called(x)
        x = F.gelu(self.norm(self.stem(x)))
        return self.head(F.gelu(self.body(x)).mean(dim=(2, 3)))


OtherForward.__name__ = OtherForward.__qualname__ = "Net"  # nor does its name tell


class Normalising(Net):
    """Normalises its input itself, into a new tensor."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return super().forward((x - 0.05) / 0.9)


class InPlace(Net):
    """`Normalising`, in place: a usual pattern."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits; `x` is overwritten."""
        return super().forward(x.sub_(0.05).div_(0.9))


class Dropping(Net):
    """Random in evaluation mode too."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits of input with a tenth of it dropped."""
        return super().forward(F.dropout(x, 0.1, training=True))


class Casting(Net):
    """Runs in the precision of its weights, whatever it is given."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return super().forward(x.to(self.stem.weight.dtype))


@functools.cache
def _plain(seed: int) -> TinyNet:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = TinyNet(SHAPE[0], 5)
        nn.init.normal_(net.head.weight, std=2.0)
        nn.init.normal_(net.norm.get_buffer("running_mean"), 0, 0.1)
        nn.init.uniform_(net.norm.get_buffer("running_var"), 0.5, 2)
        net.eval()
        with torch.no_grad():  # classes are equally likely, so that small changes matter
            net.head.bias -= net(torch.rand(64, *SHAPE) * 0.6 + 0.2).mean(dim=0)
    return net


def network(kind: type[Net] = Net, seed: int = 0) -> Net:
    """A network of a kind in evaluation mode; those of one seed have the same weights."""
    with torch.random.fork_rng():
        net = kind(SHAPE[0], 5)
    net.load_state_dict(_plain(seed).state_dict())
    return net.eval()


def normalised(mean: float = 0.1) -> ff.NormalizedModel:
    """The network of seed 0 behind a normalisation."""
    return ff.NormalizedModel(network(), mean=[mean] * SHAPE[0], std=[0.9] * SHAPE[0]).eval()


def scaled(scale: float) -> Net:
    """The network of seed 0, with a factor that no weight holds."""
    net = network(Scaled)
    vars(net)["scale"] = scale
    return net


# name of what differs -> (one model, the other); the pair has the same weights but for the first
MODEL_CHANGES: dict[str, Callable[[], tuple[nn.Module, nn.Module]]] = {
    "weights": lambda: (network(), network(seed=1)),
    "normalisation": lambda: (normalised(0.1), normalised(0.2)),
    "forward": lambda: (network(), network(OtherForward)),
    "attribute": lambda: (scaled(1.0), scaled(1.2)),
}


# ---------------------------------------------------------------- images
@functools.cache
def _pixels() -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(50, 206, (N, *SHAPE), dtype=np.uint8))


def pixels() -> Tensor:
    """(12, 3, 11, 14) uint8."""
    return _pixels().clone()


def images() -> Tensor:
    """The same as floats."""
    return _pixels().float() / 255


@functools.cache
def many() -> Tensor:
    """(96, 3, 11, 14) uint8, the first 12 of them `pixels`: more than anybody looks at beforehand."""
    more = np.random.default_rng(1).integers(50, 206, (96 - N, *SHAPE), dtype=np.uint8)
    return torch.cat([_pixels(), torch.from_numpy(more)])


@functools.cache
def _labels() -> Tensor:
    with torch.no_grad():
        found = _plain(0)(images()).argmax(dim=1)
    found[1], found[7] = (found[1] + 1) % 5, (found[7] + 2) % 5  # a clean error that is not 0
    return found


def labels() -> Tensor:
    """(12,) the network's own, but for two."""
    return _labels().clone()


def batches(size: int = 4, before: Mapping[int, Callable[[], object]] | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """The images in batches; something may happen before the i-th is handed out."""
    for i, start in enumerate(range(0, N, size)):
        if before is not None and i in before:
            before[i]()
        yield images()[start : start + size], labels()[start : start + size]


# ---------------------------------------------------------------- comparing
RUN = ("precision", "batch_size", "device", "first_image", "shard", "checkpoint", "progress", "channels_last",
       "fold_batch_norm", "compile", "distributed")  # fmt: skip


def numbers(result: Any, *, without: frozenset[str] = frozenset(), prefix: str = "") -> Numbers:
    """Every number of a result by its path, fields of fields too; not text, fingerprints and how it was run."""
    found: Numbers = {}
    for field in dataclasses.fields(result):
        if field.name in without or field.name in RUN or "fingerprint" in field.name:
            continue
        _collect(getattr(result, field.name), f"{prefix}{field.name}", found)
    return found


def _collect(value: Any, path: str, found: Numbers) -> None:
    if value is None or isinstance(value, str | bytes):
        return
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        found.update(numbers(value, prefix=f"{path}."))
    elif isinstance(value, Mapping):
        for key, each in value.items():
            _collect(each, f"{path}[{key!r}]", found)
    elif isinstance(value, bool | int | float | complex | np.ndarray | np.generic) or hasattr(value, "__array__"):
        array = np.asarray(value)
        if array.dtype.kind in "biufc":
            found[path] = array
    elif isinstance(value, tuple | list | frozenset):
        for i, each in enumerate(value):
            _collect(each, f"{path}[{i}]", found)
    else:
        raise TypeError(f"expected numbers, or what holds them, at {path}, got {type(value).__name__}")


def assert_same(found: Numbers, expected: Numbers) -> None:
    """Bit for bit, NaN where NaN is."""
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_array_equal(found[path], value, err_msg=path, strict=True)


def assert_same_outcomes(found: Numbers, expected: Numbers) -> None:
    """Integers and truth values are the same, floats to the rounding of another order of summation."""
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        if value.dtype.kind in "biu":
            np.testing.assert_array_equal(found[path], value, err_msg=path)
        else:
            largest = float(np.nanmax(np.abs(value), initial=0))
            atol = 1e-6 if path.endswith("angles") else 1e-5 * largest  # angles of a space with itself are rounding
            np.testing.assert_allclose(found[path], value, rtol=1e-4, atol=atol, err_msg=path)


def surroundings(model: nn.Module, *tensors: Tensor) -> dict[str, Any]:
    """All of the model, the tensors and torch's globals that a measurement has no business to change."""
    state: dict[str, Any] = {}
    for name, module in model.named_modules():
        hooks = {key: list(value) for key, value in vars(module).items() if "hook" in key and hasattr(value, "__len__")}
        state[f"module {name}"] = (module.training, hooks, sorted(vars(module)))
    for name, tensor in model.state_dict(keep_vars=True).items():
        state[f"weight {name}"] = (
            _bytes(tensor),
            tensor.dtype,
            tensor.requires_grad,
            tensor.grad is None,
            tensor.stride(),
        )
    for i, tensor in enumerate(tensors):
        state[f"tensor {i}"] = (_bytes(tensor), tensor.requires_grad, tensor.stride(), tensor.grad_fn)
    state["grad"] = (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"))
    state["threads"] = torch.get_num_threads()
    state["dtype"] = torch.get_default_dtype()
    state["torch's random numbers"] = torch.get_rng_state().numpy().tobytes()
    state["numpy's random numbers"] = repr(np.random.get_state())  # noqa: NPY002 - the global one is watched
    state["python's random numbers"] = random.getstate()
    state["deterministic"] = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    cudnn = torch.backends.cudnn
    state["cudnn"] = (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32)
    state["matmul"] = (torch.get_float32_matmul_precision(), torch.backends.mkldnn.enabled)
    return state


def _bytes(tensor: Tensor) -> bytes:
    return copy.copy(tensor.detach()).contiguous().view(-1).view(torch.uint8).numpy().tobytes()

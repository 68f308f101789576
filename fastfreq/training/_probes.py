"""The fixed inputs on which a network is looked at during training, and what it makes of them."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from types import CodeType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastfreq.engine.contexts import callers_level, fitting, warn_if_not_alone, warn_if_unsteady
from fastfreq.engine.memory import is_out_of_memory
from fastfreq.vocabulary import streams

from . import _surroundings
from ._checkpoint import digest_of

Response = str | Callable[[Tensor], Tensor]
RESPONSES = ("auto", "softmax", "raw")


class Probes:
    """Inputs, targets and the points that inputs are.

    Args:
        inputs: (n, ...) or a dict of such tensors, keywords of the network.
        targets: (n,) integer classes, or (n, ...) floats.
        points: (n, d) where probes lie; None for the inputs themselves, flattened.
        response: what is done to outputs before they are compared.
        limit: of probes; more are drawn from at random.
        seed: of that draw.

    Attributes:
        targets: (n, m) float64; classes are one-hot.
        points: (n, d) float64.
        fingerprint: of inputs and targets.
        response: its name.

    Raises:
        TypeError: inputs, targets or a response of another type.
        ValueError: of other lengths, not finite, or fewer than two.
    """

    def __init__(self, inputs: Any, targets: Any, *, points: Any, response: Response, limit: int, seed: int) -> None:
        self._named = {str(k): _tensor(k, v) for k, v in inputs.items()} if isinstance(inputs, Mapping) else None
        self._plain = None if self._named is not None else _tensor("inputs", inputs)
        given = _tensor("targets", targets)
        n = len(given)
        for tensor in self._tensors:
            if len(tensor) != n:
                raise ValueError(f"expected as many targets as inputs, got {n} and {len(tensor)}")
        if n < 2:
            raise ValueError(f"expected at least two probes, got {n}")
        rows = _rows(n, limit, seed)
        self._select(rows)
        given = given[rows].cpu()
        self.fingerprint = _fingerprint([*self._tensors, given])
        self.classes = not given.dtype.is_floating_point
        self.targets = _as_targets(given)
        given_points = None if points is None else _tensor("points", points)
        if given_points is not None and len(given_points) != n:
            raise ValueError(f"expected as many `points` as inputs, got {len(given_points)} and {n}")
        where = self._inputs_as_points() if given_points is None else given_points[rows].cpu()
        self.points = where.double().flatten(1) if where.ndim > 1 else where.double()[:, None]
        if not torch.isfinite(self.points).all():
            raise ValueError("expected probes at finite points, got NaN or infinite coordinates")
        self._apply, self.response = _response(response, self.classes)
        self._batch = 0
        self._shape: tuple[int, ...] | None = None
        self._steady = False  # looked at for chance and for neighbours

    @property
    def _tensors(self) -> list[Tensor]:
        return [self._plain] if self._plain is not None else list((self._named or {}).values())

    def _select(self, rows: Tensor) -> None:
        if self._plain is not None:
            self._plain = self._plain[rows].cpu()
        else:
            self._named = {name: tensor[rows].cpu() for name, tensor in (self._named or {}).items()}

    def __len__(self) -> int:
        return len(self.targets)

    def _inputs_as_points(self) -> Tensor:
        if self._plain is None or not (self._plain.dtype.is_floating_point or self._plain.dtype == torch.uint8):
            raise ValueError(
                "expected `points`, where each probe lies in the space that frequencies are of: inputs are a dict, or "
                "integers such as tokens; give their embeddings, (n, d)"
            )
        return self._plain / 255 if self._plain.dtype == torch.uint8 else self._plain

    # ---------------------------------------------------------------- what a network makes of them
    def residual(self, model: nn.Module, batch_size: int | None) -> Tensor:
        """(n, m) float64 outputs less targets, m the larger of their numbers of columns.

        Raises:
            ValueError: outputs of another shape than the targets, or than at the steps before.
            TypeError: no tensor of floats comes out.
            FloatingPointError: NaN or infinite outputs.
        """
        found: list[Tensor] = []

        def run(size: int) -> None:
            found[:] = [self._outputs(model, slice(i, i + size)) for i in range(0, len(self), size)]
            self._batch = size

        size = batch_size or (64 if _surroundings.device_of(model).type == "cpu" else 512)
        with _surroundings.left_as_it_was(model), _surroundings.without_graph():
            fitting(run, self._batch or min(size, len(self)))
            self._warn_if_unsteady(model)
        outputs = torch.cat(found)
        self._check(outputs, type(model).__name__)
        if self.classes:
            return outputs - torch.nn.functional.pad(self.targets, (0, outputs.shape[1] - self.targets.shape[1]))
        return outputs - self.targets

    def _warn_if_unsteady(self, model: nn.Module) -> None:
        """Warn, once, where outputs for a probe depend on chance, or on the probes beside it.

        Of one shape throughout, for equal rounding: the first batch twice, then its first probe in all places.
        """
        if self._steady:
            return
        self._steady, size = True, min(self._batch, len(self))
        rows = torch.arange(size)
        first, again, alone = (self._outputs(model, some) for some in (rows, rows, torch.zeros_like(rows)))
        name = type(model).__name__
        if not warn_if_unsteady(name, first, again, stacklevel=callers_level()):
            warn_if_not_alone(name, first[0], alone[0])

    def _outputs(self, model: nn.Module, rows: slice | Tensor) -> Tensor:
        """(b, m) of some probes, in memory of their own."""
        device, dtype = _surroundings.device_of(model), _floats_of(model)

        def ready(tensor: Tensor) -> Tensor:
            some = tensor[rows].clone()  # a network may overwrite what it is given
            some = some / 255 if some.dtype == torch.uint8 else some
            return some.to(device, dtype) if some.dtype.is_floating_point else some.to(device)

        if self._plain is not None:
            given = model(ready(self._plain))
        else:
            given = model(**{name: ready(tensor) for name, tensor in (self._named or {}).items()})
        output = _tensor_of(given)
        count = len(self.targets[rows])
        if not output.ndim or len(output) != count:
            raise ValueError(
                f"expected one output for each probe, {type(model).__name__} returns shape {tuple(output.shape)} for "
                f"{count}"
            )
        own = output.detach().clone() if output.dtype == torch.float64 else output.detach().float().clone()
        answer = self._apply(own)
        if not isinstance(answer, Tensor) or answer.is_complex():
            got = answer.dtype if isinstance(answer, Tensor) else type(answer).__name__
            raise TypeError(f"expected a tensor of real numbers from `response`, got {got}")
        found = answer.detach().cpu().double()
        if not found.ndim or len(found) != count:
            raise ValueError(f"expected one row for each probe from `response`, got shape {tuple(found.shape)}")
        return found.reshape(count, -1)

    def _check(self, outputs: Tensor, name: str) -> None:
        if self._shape is not None and tuple(outputs.shape) != self._shape:
            raise ValueError(
                f"expected outputs of shape {self._shape} as at the steps before, {name} returns "
                f"{tuple(outputs.shape)} now; begin another tracker where a network changes its outputs"
            )
        classes, m = self.targets.shape[1], outputs.shape[1]
        if (m < max(2, classes)) if self.classes else (m != classes):
            what = f"classes up to {classes - 1}" if self.classes else f"{classes} numbers as target"
            raise ValueError(
                f"expected outputs that fit the targets, {name} returns {m} numbers for a probe, which has {what}"
            )
        bad = int((~torch.isfinite(outputs)).any(dim=1).sum())
        if bad:
            raise FloatingPointError(
                f"expected finite outputs, {name} returns NaN or infinity for {bad} of {len(outputs)} probes"
            )
        self._shape = tuple(outputs.shape)


def architecture(model: nn.Module) -> str:
    """Fingerprint of a network's class and the names and shapes of its weights: the same at every step.

    Raises:
        ValueError: lazy weights that are not made yet.
    """
    digest = hashlib.sha256(type(model).__name__.encode())
    for name, weight in model.named_parameters():
        if nn.parameter.is_lazy(weight):
            raise ValueError(f"expected weights, {name} is not made yet; run the network on one batch first")
        digest.update(f"{name} {tuple(weight.shape)}".encode())
    return f"{type(model).__name__} {digest.hexdigest()[:16]}"


def _tensor(name: object, value: Any) -> Tensor:
    try:
        tensor = value if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"expected `{name}` as a tensor or an array, got {type(value).__name__}") from error
    if not tensor.ndim or tensor.dtype.is_complex:
        raise TypeError(f"expected `{name}` as real numbers by probe, got {tensor.dtype} {tuple(tensor.shape)}")
    return tensor.detach()


def _rows(n: int, limit: int, seed: int) -> Tensor:
    if n <= limit:
        return torch.arange(n)
    drawn = streams.generator("training", seed).permutation(n)[:limit]
    return torch.from_numpy(np.sort(drawn))


def _as_targets(given: Tensor) -> Tensor:
    """(n, m) float64."""
    if given.dtype.is_floating_point:
        found = given.double().reshape(len(given), -1)
        if not torch.isfinite(found).all():
            raise ValueError("expected finite targets, got NaN or infinity")
        return found
    if given.ndim != 1 or given.dtype == torch.bool or int(given.min()) < 0:
        raise ValueError(
            f"expected targets as classes (n,) from 0, or as floats, got {given.dtype} {tuple(given.shape)}, least "
            f"{int(given.min())}"
        )
    try:
        return torch.nn.functional.one_hot(given.long()).double()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(
            f"expected classes that are few enough for a column each, got some up to {int(given.max())} for "
            f"{len(given)} probes; number them from 0 without gaps, or take fewer probes by `limit`"
        ) from error


def _response(asked: Response, classes: bool) -> tuple[Callable[[Tensor], Tensor], str]:
    if callable(asked):
        return asked, _named(asked)
    if asked not in RESPONSES:
        raise ValueError(f"expected `response` of {list(RESPONSES)} or a function of the outputs, got {asked!r}")
    if asked == "raw" or (asked == "auto" and not classes):
        return lambda outputs: outputs, "raw"
    return lambda outputs: outputs.softmax(dim=1), "softmax"


def _named(function: Any) -> str:
    """A function's name and a hash of what it does, as far as that shows: every lambda has the same name."""
    if isinstance(function, functools.partial):
        return f"{_named(function.func)} of {_hash([function.args, sorted(function.keywords.items())])}"
    if isinstance(function, nn.Module):
        return f"{type(function).__name__} {digest_of([str(function), function.state_dict()])[:8]}"
    name = getattr(function, "__name__", type(function).__name__)
    code = getattr(function, "__code__", None)
    if code is None:
        return name
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    return f"{name} {_hash([code, function.__defaults__, function.__kwdefaults__, cells])}"


def _hash(value: Any) -> str:
    return hashlib.sha256(_shown(value).encode()).hexdigest()[:8]


def _shown(value: Any) -> str:
    """A value as text that is the same in another process; of what has none, the type."""
    if isinstance(value, CodeType):
        return f"{value.co_code.hex()} {_shown(value.co_consts)} {value.co_names}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, Mapping):
        return _shown([*value.items()])
    if isinstance(value, (Tensor, np.ndarray)):
        return digest_of(value)
    if callable(value) and not isinstance(value, type):
        return _named(value)
    return repr(value) if isinstance(value, (bool, int, float, complex, str, type(None))) else type(value).__name__


def _tensor_of(output: Any) -> Tensor:
    """The floats in whatever a network returns: a tensor, a dict or object with `logits`, the first of a tuple."""
    value = output
    if isinstance(value, Mapping):
        value = value.get("logits")
    elif not isinstance(value, Tensor) and hasattr(value, "logits"):
        value = value.logits
    elif isinstance(value, (tuple, list)) and value:
        value = value[0]
    if not isinstance(value, Tensor) or not value.dtype.is_floating_point:
        raise TypeError(
            f"expected the network to return a tensor of floats, or one as its 'logits', got {type(output).__name__}"
        )
    return value


def _floats_of(model: nn.Module) -> torch.dtype:
    """What inputs are cast to: the type of the first weight of floats."""
    return next((w.dtype for w in model.parameters() if w.dtype.is_floating_point), torch.float32)


def _fingerprint(tensors: list[Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        plain = tensor.contiguous().reshape(-1)
        if plain.numel():
            digest.update(plain.view(torch.uint8).numpy().data)
    return digest.hexdigest()

"""The network that is evaluated: a copy of the user's model, with its normalisation taken out and its precision set."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastfreq.results.identity import Identity
from fastfreq.vocabulary import checks, metrics, streams
from fastfreq.vocabulary.metrics import Metric

from .arithmetic import Float32
from .contexts import warn_if_not_alone, warn_if_unsteady
from .copies import private_copy
from .model_checks import check_eval, check_inputs, logits_of
from .pixels import split_normalization
from .wrappers import plain

Precision = Literal["fp32", "tf32", "bf16", "fp16", "int8"]
# of torch's messages about sizes that do not fit
_SHAPES = re.compile(
    r"size of tensor|shapes cannot|to have \d+ channels|expected input|must match|Sizes of|kernel size"
)
# int8: what goes in and comes out is float32
DTYPES: dict[str, torch.dtype] = {
    "fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.float32,
}  # fmt: skip
FASTEST = "fastest"  # "fp32" or "bf16", whichever is found by timing
_PROBES = 3  # noise images whose logits tell one forward pass from another
_PROBED = 32  # classes of them that are kept


class Network:
    """What every measurement calls: a copy on normalised input, whose original is never touched.

    Attributes:
        name: the class of the user's network.
        net: the copied network, on normalised input, in evaluation mode.
        mean: (c,) subtracted from pixels before `net`, or None.
        std: (c,) divided by, or None.
        dtype: of input and weights; batch norm keeps float32 statistics.
        channels_last: whether input and weights are laid out channels last.
        device: where it runs.
        weights: the fingerprint of the user's model.
        chosen: whether its precision was found by timing.
        classes: how many logits it has, once `identity` has looked.
    """

    chosen = False

    def __init__(self, model: nn.Module, *, precision: str, channels_last: bool, device: torch.device | None) -> None:
        model = plain(model)
        check_eval(model)
        net, mean, std = split_normalization(model)
        check_inputs(net)
        self.name = network_name(model)
        self.weights = fingerprint(model)
        weight = next(iter([*net.parameters(), *net.buffers()]), None)
        self.device = device or (weight.device if weight is not None else torch.device("cpu"))
        if precision == "tf32" and self.device.type != "cuda":
            raise ValueError(
                f"expected a GPU for precision='tf32', which {self.device.type!r} does not have; use 'fp32', or "
                f"device='cuda'"
            )
        self.precision, self.dtype = "fp32", torch.float32
        self.take_precision(precision)
        self._current = torch.float32
        self.classes = 0
        self.net = private_copy(net)
        self.net.requires_grad_(False)
        # half and double models are measured in the precision that was asked for
        self.net.to(self.device)
        self.net.float()
        self.convolutional = any(isinstance(m, nn.Conv2d) for m in net.modules())
        self.channels_last = False
        self.lay_out(channels_last)
        self.mean = None if mean is None else mean.to(self.device, torch.float32)
        self.std = None if std is None else std.to(self.device, torch.float32)

    def take_precision(self, precision: str) -> None:
        """What `cast` brings the weights to.

        Raises:
            ValueError: another name.
        """
        if precision not in get_args(Precision):
            raise ValueError(f"expected `precision` of {[*DTYPES, FASTEST]}, got {precision!r}")
        self.precision, self.dtype = precision, DTYPES[precision]

    def lay_out(self, channels_last: bool) -> None:
        """Lay weights and input out channels last, or contiguous; networks without convolutions stay as they are."""
        wanted = channels_last and self.convolutional
        if wanted != self.channels_last:
            layout: Any = torch.channels_last if wanted else torch.contiguous_format
            self.net.to(memory_format=layout)  # pyright: ignore[reportCallIssue]
            self.channels_last = wanted

    def cast(self) -> None:
        """Bring weights to `dtype`; batch norm stays in float32, where its statistics were measured."""
        self._current = self.dtype
        if self.dtype == torch.float32:
            return
        normalisations = [m for m in self.net.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
        self.net.to(self.dtype)
        for module in normalisations:
            module.float()

    def take_pixels(self) -> None:
        """From now on `net` is one that takes pixels in [0, 1], as float32: it normalises and casts by itself."""
        self.mean = self.std = None
        self._current = torch.float32

    @property
    def arithmetic(self) -> Float32:
        """What float32 means in its passes once it is cast; before, it is IEEE."""
        return "tf32" if self.precision == "tf32" else "ieee"

    @property
    def layout(self) -> torch.memory_format:
        """Of its input."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    @property
    def takes(self) -> dict[str, Any]:
        """How a kernel has to hand its output to `net`: normalised by mean and std, in what type and layout."""
        return {"mean": self.mean, "std": self.std, "dtype": self.dtype, "channels_last": self.channels_last}

    def clean_batch(self, images: Tensor) -> Tensor:
        """Images (n, c, h, w) normalised and cast as `net` wants them; always new memory, which `net` may overwrite."""
        pixels = images.float() / 255 if images.dtype == torch.uint8 else images.float()
        if self.mean is not None and self.std is not None:
            pixels = (pixels - self.mean[:, None, None]) / self.std[:, None, None]
        batch = pixels.to(self._current).contiguous(memory_format=self.layout)
        return batch.clone() if batch.data_ptr() == images.data_ptr() else batch

    def module(self, name: str) -> nn.Module:
        """A submodule by name.

        Raises:
            KeyError: there is no such module.
        """
        modules = dict(self.net.named_modules())
        if not name or name not in modules:
            known = [key for key in modules if key]
            close = checks.near_names(name, known, otherwise=11)
            raise KeyError(f"expected a layer named as in model.named_modules(), such as {close}; got {name!r}")
        return modules[name]

    def __call__(self, batch: Tensor) -> Tensor:
        """Logits (n, classes) of a normalised batch, in memory that the next call leaves alone.

        Raises:
            ValueError: not one row per image.
        """
        logits = logits_of(self.net(batch))
        if len(logits) != len(batch):
            raise ValueError(
                f"expected one row of logits per image, {self.name} returns {len(logits)} for {len(batch)} images: "
                f"does it flatten images of another size than it was made for?"
            )
        return logits.clone()  # a network may keep one output buffer for all its calls

    # ---------------------------------------------------------------- which model this is
    def identity(
        self, shape: tuple[int, int, int], numerics: dict[str, object], named: Mapping[str, Metric] | None = None
    ) -> Identity:
        """Which model this is; before `cast` and folding, in float32.

        Two passes over the same noise tell a model that is random, or that changes as it runs; a third, of an image
        beside another one, a model that takes images of a batch together.

        Raises:
            ValueError: a normalisation of another number of channels, or a model that does not take such images.
            TypeError: a model that computes in another precision than that of its weights.
        """
        for values in (self.mean, self.std):
            if values is not None and len(values) != shape[0]:
                raise ValueError(
                    f"expected images of the {len(values)} channels that the model is normalised for, got {shape[0]}; "
                    f"give one mean and std for each channel"
                )
        first, second = self._probe(shape, [0, 1]), self._probe(shape, [0, 1])
        if not warn_if_unsteady(self.name, torch.from_numpy(first), torch.from_numpy(second), stacklevel=5):
            beside = self._probe(shape, [0, 2])
            warn_if_not_alone(self.name, torch.from_numpy(first[0]), torch.from_numpy(beside[0]))
        texts = tuple(f"{key}={value}" for key, value in numerics.items())
        mean, std = (None if t is None else tuple(t.tolist()) for t in (self.mean, self.std))
        functions = metrics.probed(named or {}, self.classes, self.device)
        return Identity(self.weights, mean, std, texts, first, functions)

    def _probe(self, shape: tuple[int, int, int], rows: list[int]) -> NDArray[np.float32]:
        noise = streams.generator("probes", 0).random((_PROBES, *shape), dtype=np.float32)[rows]
        try:
            logits = self(self.clean_batch(torch.from_numpy(noise).to(self.device)))
        except RuntimeError as error:
            if "dtype" in str(error) or "scalar type" in str(error) or "Half" in str(error):
                raise TypeError(
                    f"expected a model that computes in the precision of its weights, {type(self.net).__name__} casts "
                    f"inside its forward pass and fails in float32 ({error}); take the cast out"
                ) from error
            if _SHAPES.search(str(error)):
                raise ValueError(
                    f"expected a model that takes images of (c, h, w) = {shape}, {type(self.net).__name__} does not: "
                    f"{error}"
                ) from error
            raise
        if logits.dtype != torch.float32:
            raise TypeError(
                f"expected a model that computes in the precision of its weights, {type(self.net).__name__} returns "
                f"{logits.dtype} for float32 weights and images; take the cast (or autocast) out of its forward pass"
            )
        self.classes = logits.shape[1]
        return logits[:, :_PROBED].cpu().numpy()


def network_name(model: nn.Module) -> str:
    """What the model was asked for as, such as "timm/resnet50", or the class of its network."""
    net, _, _ = split_normalization(model)
    asked = getattr(model, "asked_for", None) or getattr(net, "asked_for", None)
    return asked if isinstance(asked, str) else type(net).__name__


class NoNetwork:
    """In place of a `Network` where a measurement is of images alone: what the engine asks of one.

    Attributes:
        device: where images are looked at.
    """

    name, weights, precision, classes = "", "", "fp32", 0
    dtype = torch.float32
    convolutional = channels_last = False

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def lay_out(self, channels_last: bool) -> None:
        """Nothing to lay out."""

    def cast(self) -> None:
        """Nothing to cast."""


def fingerprint(model: nn.Module) -> str:
    """SHA-256 over names, shapes and bytes of all weights, shortened: tells one model from another."""
    digest = hashlib.sha256(type(model).__name__.encode())
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, Tensor):
            continue
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        plain = tensor.detach().cpu().contiguous().reshape(-1)
        if plain.numel():
            digest.update(plain.view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]

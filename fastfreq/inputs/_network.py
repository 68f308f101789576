"""A copy of the user's model in the wanted precision and layout; the original is never touched."""

from __future__ import annotations

import copy
import hashlib
from typing import Literal

import torch
from torch import Tensor, nn

from fastfreq.engine.pixels import split_normalization
from fastfreq.vocabulary import checks

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Network:
    """What the frequency loop calls.

    Attributes:
        net: the copied network, on normalised input.
        mean: (c,) subtracted from pixels before `net`, or None.
        std: (c,) divided by, or None.
        dtype: of input and weights; batch norm keeps float32 statistics.
        channels_last: whether input and weights are laid out channels last.
        device: where it runs.
    """

    def __init__(self, model: nn.Module, *, precision: str, channels_last: bool, device: torch.device | None) -> None:
        checks.check_eval(model)
        if precision not in DTYPES:
            raise ValueError(f"expected `precision` of {list(DTYPES)}, got {precision!r}")
        self.name = type(model).__name__
        net, mean, std = split_normalization(model)
        if net is not model:
            self.name = type(net).__name__
        weight = next(iter([*net.parameters(), *net.buffers()]), None)
        self.device = device or (weight.device if weight is not None else torch.device("cpu"))
        self.dtype = DTYPES[precision]
        self._current = torch.float32
        has_convolution = any(isinstance(m, nn.Conv2d) for m in net.modules())
        self.channels_last = channels_last and has_convolution
        try:
            self.net = copy.deepcopy(net)
        except Exception as error:
            raise TypeError(
                f"expected a model that copy.deepcopy can copy (the original stays untouched), "
                f"{type(net).__name__} cannot be: {error}"
            ) from error
        self.net.requires_grad_(False)
        self.net.to(self.device)
        if self.channels_last:
            self.net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.mean = None if mean is None else mean.to(self.device, torch.float32)
        self.std = None if std is None else std.to(self.device, torch.float32)

    def cast(self) -> None:
        """Bring weights to `dtype`; batch norm stays in float32, where its statistics were measured."""
        self._current = self.dtype
        if self.dtype == torch.float32:
            return
        normalisations = [m for m in self.net.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
        self.net.to(self.dtype)
        for module in normalisations:
            module.float()

    def clean_batch(self, images: Tensor) -> Tensor:
        """Unperturbed images (n, c, h, w), normalised and cast as `net` wants them."""
        pixels = images.float() / 255 if images.dtype == torch.uint8 else images.float()
        if self.mean is not None and self.std is not None:
            pixels = (pixels - self.mean[:, None, None]) / self.std[:, None, None]
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return pixels.to(self._current).contiguous(memory_format=layout)

    def module(self, name: str) -> nn.Module:
        """A submodule by name.

        Raises:
            KeyError: there is no such module.
        """
        modules = dict(self.net.named_modules())
        if not name or name not in modules:
            known = ", ".join(list(modules)[1:12])
            raise KeyError(f"expected a layer named as in model.named_modules(), such as {known}; got {name!r}")
        return modules[name]

    def __call__(self, batch: Tensor) -> Tensor:
        return checks.logits_of(self.net(batch))


def fingerprint(model: nn.Module) -> str:
    """SHA-256 over names, shapes and bytes of all weights, shortened: tells shards of one model from another's."""
    digest = hashlib.sha256(type(model).__name__.encode())
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, Tensor):
            continue
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]

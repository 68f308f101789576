"""The first layer is linear: its response to a basis image is computed once and added, for all images.

conv(x + sum_c s_c eps U e_c) = conv(x) + sum_c s_c eps conv'(U e_c), conv' without bias: per frequency c
convolutions instead of n, and one (n x c) (c x outputs) product. Only without clipping, which is not linear.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from .arithmetic import float32
from .network import Network

_TOLERANCE = 1e-3  # of the largest logit, in float32: rounding stays near 1e-5, a wrong stem near 1
_LONG = 1 << 17  # outputs from which one addition per image is faster than gathering the sums first


class SharedStem:
    """The first convolution of a network, replaced by a given response.

    Built on the float32 network, before `Network.cast`.

    Raises:
        ValueError: no first convolution, or replacing it does not reproduce the network; the reason is said.
    """

    @float32("ieee")
    def __init__(self, network: Network, example: Tensor) -> None:
        """Find the first layer by running `example` (n, c, h, w), normalised, through `network`."""
        self._network = network
        self._input = tuple(example.shape[1:])
        self._stem = _first_convolution(network, example)
        self._linear = copy.deepcopy(self._stem)
        self._linear.bias = None
        self._forward = self._stem.forward
        self._shape: torch.Size | None = None
        self._scratch: Tensor | None = None
        self._sums: Tensor | None = None
        self._check(example)

    def _check(self, example: Tensor) -> None:
        network = self._network
        delta = 0.05 * torch.randn(example.shape, generator=torch.Generator().manual_seed(0)).to(example)
        wanted = network(example + delta).float()
        scale = wanted.abs().max().clamp_min(1e-6)
        try:
            got = self(self.clean(example) + self._response(delta)).float()
            miss = float((got - wanted).abs().max() / scale)
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            raise ValueError(f"{_REFUSED}: the network fails when its first layer is replaced ({error})") from error
        if not miss <= _TOLERANCE:
            raise ValueError(
                f"{_REFUSED}: replacing the first layer changes the logits by {miss:.1e} of the largest "
                f"(allowed {_TOLERANCE:.0e}), so the input is also used elsewhere or the layer is not linear"
            )

    def cast(self, dtype: torch.dtype) -> None:
        """Follow `Network.cast`."""
        self._linear.to(dtype)

    @property
    def bytes_per_image(self) -> int:
        """Memory that the first layer's response to one image takes."""
        assert self._shape is not None, "clean() or basis() comes first"
        return self._shape.numel() * self._network.dtype.itemsize

    def clean(self, batch: Tensor) -> Tensor:
        """The first layer's response to unperturbed normalised images, (n, outputs) in storage order."""
        return self._flat(self._forward(batch))

    def _response(self, batch: Tensor) -> Tensor:
        return self._flat(self._linear(batch))

    def basis(self, waves: Tensor) -> Tensor:
        """Responses b_c to waves (f c, c, h, w), each in one channel, eps and normalisation included.

        (f, c, outputs), or on a CPU (f, 2^c, outputs): every sum +- b_0 +- b_1 +- b_2 that signs can make, in
        memory that the next call writes again.
        """
        channels = waves.shape[1]
        response = self._response(waves)
        each = response.view(-1, channels, response.shape[1])
        if not self._few_sums(channels):
            return each
        shape = (len(each), 1 << channels, each.shape[2])
        if self._sums is None or self._sums.shape != shape:
            self._sums = each.new_empty(shape)
        sums = self._sums
        sums[:, 0] = each[:, 0]
        torch.neg(each[:, 0], out=sums[:, 1])
        for c in range(1, channels):
            half, added = 1 << c, each[:, c : c + 1]
            torch.sub(sums[:, :half], added, out=sums[:, half : 2 * half])
            sums[:, :half] += added
        return sums

    def select(self, signs: Tensor) -> Tensor:
        """What `moved` takes for signs (f, n, c): rows of `basis` (f, n), or the signs themselves."""
        channels = signs.shape[2]
        if not self._few_sums(channels):
            return signs.to(self._network.dtype)
        return ((signs < 0).long() << torch.arange(channels)).sum(dim=2)

    def moved(self, responses: Tensor, basis: Tensor, selected: Tensor) -> Tensor:
        """The responses (n, outputs) of images moved by one frequency's `basis`, as `select` says for each image.

        The memory is written again by the next call: fresh pages cost a CPU more than the sum.
        """
        if self._scratch is None or self._scratch.shape != responses.shape:
            self._scratch = torch.empty_like(responses)
        out = self._scratch
        if selected.ndim == 2:
            return torch.addmm(responses, selected, basis, out=out)
        if responses.shape[1] < _LONG:
            return torch.index_select(basis, 0, selected, out=out).add_(responses)
        for i, row in enumerate(selected.tolist()):
            torch.add(responses[i], basis[row], out=out[i])
        return out

    def _few_sums(self, channels: int) -> bool:
        """Whether the sums b_0 +- b_1 +- b_2 over channels are few enough to be made once for all images."""
        return self._network.device.type == "cpu" and channels <= 4

    def _flat(self, response: Tensor) -> Tensor:
        if self._network.channels_last and response.ndim == 4:
            response = response.permute(0, 2, 3, 1).contiguous()
        self._shape = response.shape[1:]
        return response.reshape(len(response), -1)

    def __call__(self, response: Tensor) -> Tensor:
        """Logits of the rest of the network, given the first layer's response (n, outputs)."""
        assert self._shape is not None, "clean() or basis() comes first"
        given = response.view(-1, *self._shape)
        if self._network.channels_last and given.ndim == 4:
            given = given.permute(0, 3, 1, 2)
        self._stem.forward = lambda *_args, **_kwargs: given
        try:
            # one element, seen as a batch: shape checks pass, and a network that reads its values is found out
            return self._network(response.new_full((1, 1, 1, 1), 0.5).expand(len(response), *self._input))
        finally:
            self._stem.forward = self._forward


_REFUSED = "expected `share_stem=True` to apply, it cannot be used with this model"


def _first_convolution(network: Network, example: Tensor) -> Any:
    """The first leaf module to run, if it is a convolution of the input itself."""
    first: list[tuple[nn.Module, Any]] = []
    ran: list[nn.Module] = []

    def note(module: nn.Module, args: tuple[Any, ...]) -> None:
        ran.append(module)
        if not first:
            first.append((module, args[0] if args else None))

    leaves = [m for m in network.net.modules() if not any(True for _ in m.children())]
    hooks = [m.register_forward_pre_hook(note) for m in leaves]
    try:
        network(example)
    finally:
        for hook in hooks:
            hook.remove()
    if not first:
        raise ValueError(f"{_REFUSED}: it has no modules")
    module, received = first[0]
    if not isinstance(module, nn.Conv2d):
        raise ValueError(f"{_REFUSED}: its first layer is {type(module).__name__}, not a convolution")
    if not isinstance(received, Tensor) or received.shape != example.shape or not torch.equal(received, example):
        raise ValueError(
            f"{_REFUSED}: something changes the images before the first convolution; a normalisation belongs in "
            f"fastfreq.NormalizedModel(net, mean=..., std=...)"
        )
    if ran.count(module) > 1:
        raise ValueError(f"{_REFUSED}: its first convolution runs {ran.count(module)} times, perhaps on other images")
    return module

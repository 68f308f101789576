"""The output of one layer of a network that runs no further than that."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastfreq.engine import maps
from fastfreq.engine.copies import as_written
from fastfreq.engine.map_layouts import channels_last
from fastfreq.engine.network import Network


class _Reached(BaseException):  # noqa: N818 - no error, and no model's `except Exception` may take it for one
    """The layer has run."""


class LayerView:
    """Pixels (n, c, h, w) in [0, 1] -> what a layer returns for them.

    Attributes:
        name: of the layer.
        sample: its output for one grey image, (1, ...).
        image: (h, w) of the images.
    """

    def __init__(self, network: Network, layer: str, shape: tuple[int, int, int]) -> None:
        """Find the layer.

        Raises:
            KeyError: there is none of this name.
            ValueError: it runs not once in a forward pass, the network takes no such images, or which axis holds the
                layer's channels is not known.
            TypeError: it returns no tensor.
        """
        if not isinstance(layer, str):
            raise TypeError(f"expected `layer` as one name, got {layer!r}")
        self._network, self.name, self._shape, self.image = network, layer, shape, shape[1:]
        self._module = network.module(layer)
        self._grids = maps.patch_grids(network.net, shape[1:])
        grey = torch.full((1, *shape), 0.5, device=network.device)
        self.sample = self._whole(grey)
        self._channels_last = layer in channels_last(network, [layer], shape)

    def _whole(self, pixels: Tensor) -> Tensor:
        """One whole pass, which tells whether the layer runs once."""
        seen: list[Any] = []
        hook = self._module.register_forward_hook(
            lambda _m, _a, output: seen.append(output.clone() if isinstance(output, Tensor) else output)
        )
        try:
            with torch.no_grad(), as_written():
                self._network.net(self._network.clean_batch(pixels))
        except (RuntimeError, AssertionError) as error:
            raise ValueError(
                f"expected a model that takes images of (c, h, w) = {self._shape}, {self._network.name} does not: "
                f"{error}; pass the `input_size` that it takes"
            ) from error
        finally:
            hook.remove()
        if len(seen) != 1:
            raise ValueError(
                f"expected layer {self.name!r} to run once in a forward pass, it runs {len(seen)} times; name another"
            )
        return self._tensor(seen[0], 1)

    def _tensor(self, output: Any, count: int) -> Tensor:
        value = output[0] if isinstance(output, (tuple, list)) and output else output
        if not isinstance(value, Tensor):
            raise TypeError(f"expected layer {self.name!r} to return a tensor, got {type(output).__name__}")
        if value.ndim < 2 or len(value) != count:
            raise ValueError(
                f"expected layer {self.name!r} to return one row per image, got shape {tuple(value.shape)} for "
                f"{count} images (windows, or parts of a batch); name another"
            )
        return value

    def __call__(self, pixels: Tensor) -> Tensor:
        """(n, ...) of the layer, with a graph where pixels have one."""
        found: list[Any] = []

        def stop(_module: Any, _args: Any, output: Any) -> None:
            found.append(output)
            raise _Reached

        hook = self._module.register_forward_hook(stop)
        try:
            with as_written():
                self._network.net(self._network.clean_batch(pixels))
        except _Reached:
            pass
        finally:
            hook.remove()
        if not found:
            raise ValueError(f"expected layer {self.name!r} to run for all images alike, for some it does not run")
        return self._tensor(found[0], len(pixels))

    @property
    def stride(self) -> float:
        """Pixels from one place of its maps to the next."""
        return min(n / m for n, m in zip(self._shape[1:], self.maps(self.sample).shape[2:], strict=True))

    def maps(self, output: Tensor) -> Tensor:
        """(n, units, rows, columns) of the layer's output; rows without places are maps of one place."""
        if output.ndim == 2:
            return output[:, :, None, None]
        return maps.as_maps(self.name, output, self._shape[1:], last=self._channels_last, grids=self._grids)[0]

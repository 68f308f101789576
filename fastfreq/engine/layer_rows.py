"""Whether the first axis of what layers return is that of the images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .copies import as_written
from .network import Network

_FEW = (2, 3)  # images in the two passes: what has the same number of rows in both has no row for each image


def check_rows(network: Network, names: Sequence[str], shape: tuple[int, int, int]) -> None:
    """Refuse layers whose first axis is another one, such as tokens first: batches of as many images pass for them.

    Raises:
        ValueError: a layer returns as many rows for two images as for three.
    """
    if not names:
        return
    rows: dict[str, list[int]] = {name: [] for name in names}

    def note(name: str) -> Any:
        def read(_module: Any, _args: Any, output: Any) -> None:
            value = output[0] if isinstance(output, (tuple, list)) and output else output
            if isinstance(value, Tensor) and value.ndim:
                rows[name].append(len(value))

        return read

    hooks = [network.module(name).register_forward_hook(note(name)) for name in names]
    try:
        with torch.no_grad(), as_written():
            for count in _FEW:
                network.net(network.clean_batch(torch.full((count, *shape), 0.5, device=network.device)))
    finally:
        for hook in hooks:
            hook.remove()
    for name, seen in rows.items():
        if len(seen) == len(_FEW) and len(set(seen)) == 1:
            raise ValueError(
                f"expected layer {name!r} to return one row per image, it returns {seen[0]} for {_FEW[0]} images and "
                f"for {_FEW[1]} alike (tokens first, as of batch_first=False?); name another layer"
            )

"""Running out of memory, and CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from fastfreq_kernels._launch import is_out_of_memory
from torch import Tensor

__all__ = ["Graphed", "is_out_of_memory"]


class Graphed:
    """A function of one batch, replayed from a CUDA graph that is captured once per shape.

    The output is overwritten by the next call of the same shape.
    """

    def __init__(self, forward: Callable[[Tensor], Tensor], device: torch.device) -> None:
        self._forward, self._device = forward, device
        self._graphs: dict[tuple[int, ...], Any] = {}

    def clear(self) -> None:
        """Let all graphs and their memory go."""
        self._graphs.clear()

    def __call__(self, batch: Tensor) -> Tensor:
        """The function's value."""
        key = tuple(batch.shape)
        if key not in self._graphs:
            with torch.cuda.device(self._device):
                self._graphs[key] = _capture(self._forward, batch)
        graph = self._graphs[key]
        if graph is None:  # this network cannot be captured
            return self._forward(batch)
        replay, static, output = graph
        static.copy_(batch)
        replay()
        return output


def _capture(function: Callable[[Tensor], Tensor], example: Tensor) -> Any:
    """(replay, static input, static output) of `function`, or None if it cannot be captured."""
    static = example.clone()
    wanted = example
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):  # lazy initialisation and autotuning happen outside the capture
            wanted = function(static.copy_(example))
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            output = function(static)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        torch.cuda.synchronize()
        return None
    # an empty graph, or one whose network overwrites its input, repeats the first answer or makes up others
    for _ in range(2):
        output.zero_()
        static.copy_(example)
        graph.replay()
    if not torch.allclose(output.float(), wanted.float(), rtol=1e-2, atol=1e-2 * float(wanted.abs().max())):
        return None
    return graph.replay, static, output

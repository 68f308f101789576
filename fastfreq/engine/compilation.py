"""torch.compile for the frequency loop: one shape, so one compilation, compared with the network as it is."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from .memory import is_out_of_memory
from .model_checks import logits_of
from .network import Network

_TOLERANCES = {"fp32": 1e-3, "tf32": 1e-2, "fp16": 1e-2, "bf16": 5e-2}  # of the largest logit, by precision


class Compiled:
    """`network` through torch.compile, always called with `batch_size` images: fewer are filled up.

    A second shape would be compiled anew, or for all sizes, which is slower. Constants are not frozen: it gained less
    than 5 % with or without folded batch norms, on AVX2 and AVX-512 (benchmarks/bench_cpu_passes.py), and a graph that
    holds its weights is compiled again for every copy of a model. Inductor may take from its cache what it compiled for
    another instruction set, with wrong logits: `compiled` compares them.
    """

    def __init__(self, network: Network, batch_size: int) -> None:
        self._network = network
        self._size = batch_size
        self._model = torch.compile(network.net, dynamic=False)

    def __call__(self, batch: Tensor) -> Tensor:
        """Logits (n, classes) of a batch (n, c, h, w)."""
        n = len(batch)
        if n < self._size:
            whole = torch.zeros(self._size, *batch.shape[1:], dtype=batch.dtype, device=batch.device)
            whole = whole.contiguous(memory_format=self._network.layout)
            whole[:n] = batch
            batch = whole
        try:
            return logits_of(self._model(batch))[:n]
        except RuntimeError as error:
            if is_out_of_memory(error):
                self._size = 1  # the loop halves its batches: they are no longer filled up
            raise


def compiled(network: Network, example: Tensor, batch_size: int) -> Callable[[Tensor], Tensor]:
    """`network` compiled for batches of `batch_size`, or `network` itself, with one warning that says why.

    Args:
        network: after `Network.cast`, with every hook in place.
        example: (n, c, h, w) real images, normalised and cast.
        batch_size: images in one forward pass.
    """
    try:
        fast = Compiled(network, batch_size)
        got = fast(example).float().clone()  # the next call may overwrite it
    except Exception as error:
        if isinstance(error, RuntimeError) and is_out_of_memory(error):
            raise
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    else:
        wanted = network(example).float()
        miss = float((got - wanted).abs().max() / wanted.abs().max().clamp_min(1e-6))
        allowed = _TOLERANCES[network.precision]
        if miss <= allowed:
            return fast
        reason = f"its logits differ by {miss:.1e} of the largest (allowed {allowed:.0e})"
    warnings.warn(f"the network runs without torch.compile, which cannot be used: {reason}", stacklevel=3)
    return network

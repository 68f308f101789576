"""Many layers at once on a GPU: matrices of one side and precision are one batch, whichever layers they belong to.

A launch of a few large matrices leaves most of a GPU idle, and a network has many layers but few sides. The values of a
matrix are the same bits in any batch, however many programs share it. Launches of fewer matrices than a GPU has
multiprocessors have streams of their own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TypeVar

import fastfreq_kernels as kernels
import torch
from fastfreq_kernels._configs import eigenvalues_route
from torch import Tensor

from ._values import Wanted

TOGETHER_BYTES = 512 << 20  # of matrices in one launch, which needs twice as much again; predicted, not measured
FEW = 128  # matrices that leave multiprocessors to other launches: these run beside them
T = TypeVar("T")
Part = tuple[int, Tensor]  # which of the wanted values, and a block of its frequencies


def together(
    layers: Sequence[Generator[Wanted, Tensor, T]],
    finished: Callable[[int], object] = lambda _i: None,
    evaluate: Callable[[Sequence[Wanted]], Iterable[Tensor]] | None = None,
) -> list[T]:
    """What every generator returns, after it was sent the values that it asked for, in rounds of all that ask.

    Args:
        layers: of `values_of`, one for each layer.
        finished: takes the number of a layer that is done.
        evaluate: wanted values -> (g, f, r) float64 on the CPU for each; None for `of_all`.
    """
    results: dict[int, T] = {}
    evaluate = of_all if evaluate is None else evaluate
    answers: dict[int, Tensor | None] = dict.fromkeys(range(len(layers)))
    while answers:
        wanted: dict[int, Wanted] = {}
        for i, answer in answers.items():
            try:
                wanted[i] = next(layers[i]) if answer is None else layers[i].send(answer)
            except StopIteration as ended:
                results[i] = ended.value
                finished(i)
        answers = dict(zip(wanted, evaluate(list(wanted.values())) if wanted else [], strict=True))
    return [results[i] for i in range(len(layers))]


def of_all(wanted: Sequence[Wanted]) -> list[Tensor]:
    """(g, f, r) float64 on the CPU of each: everything is launched before the host waits for the first."""
    found: list[list[Tensor]] = [[] for _ in wanted]
    for i in left_to_the_host(wanted):
        found[i].append(wanted[i].alone())
    beside: list[torch.cuda.Stream] = []
    for parts in launches_of(wanted):
        block = parts[0][1]
        if not block.is_cuda or sum(wanted[i].groups * len(block) for i, block in parts) >= FEW:
            _launch(wanted, parts, found)
            continue
        beside.append(torch.cuda.Stream(block.device))
        beside[-1].wait_stream(torch.cuda.current_stream(block.device))
        with torch.cuda.stream(beside[-1]):
            _launch(wanted, parts, found)
    for stream in beside:  # nothing that they use is freed before the values have come
        torch.cuda.current_stream(stream.device).wait_stream(stream)
    return _on_the_host([torch.cat(parts, dim=1).double() for parts in found])


def _on_the_host(values: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of one type on the CPU, in one copy from each device."""
    there: dict[int, Tensor] = {}
    for device in dict.fromkeys(value.device for value in values):
        own = [i for i, value in enumerate(values) if value.device == device]
        flat = torch.cat([values[i].reshape(-1) for i in own]).cpu()
        parts = flat.split([values[i].numel() for i in own])
        there |= {i: part.view(values[i].shape) for i, part in zip(own, parts, strict=True)}
    return [there[i] for i in range(len(values))]


def _launch(wanted: Sequence[Wanted], parts: Sequence[Part], found: list[list[Tensor]]) -> None:
    """Append to `found` the values of blocks of one kind."""
    side, count = wanted[parts[0][0]].side, wanted[parts[0][0]].largest
    matrices = [wanted[i].packed(block).reshape(-1, side, side) for i, block in parts]
    sizes = [len(m) for m in matrices]
    packed = torch.cat(matrices) if len(parts) > 1 else matrices[0]
    del matrices  # before as much is needed again
    values = kernels.hermitian_eigenvalues(packed, count=count)
    for (i, _), own in zip(parts, values.split(sizes), strict=True):
        own = own.reshape(wanted[i].groups, -1, count).clamp_min(0)
        found[i].append(own.sqrt() if wanted[i].squared else own)


def left_to_the_host(wanted: Sequence[Wanted]) -> list[int]:
    """Which are too large for a GPU's programs."""
    return [i for i, one in enumerate(wanted) if eigenvalues_route(one.side, one.dtype) == "host"]


def launches_of(wanted: Sequence[Wanted]) -> list[list[Part]]:
    """Which blocks of frequencies of which layers make one launch: of one kind, `TOGETHER_BYTES`, large sides first."""
    kinds: dict[tuple[int, int, int, str], list[Part]] = defaultdict(list)
    host = set(left_to_the_host(wanted))
    for i, one in enumerate(wanted):
        for block in () if i in host else one.blocks:
            kinds[one.side, one.dtype.itemsize, one.largest, str(block.device)].append((i, block))
    launches: list[list[Part]] = []
    for kind in sorted(kinds, reverse=True):
        space = 0
        for i, block in kinds[kind]:
            size = wanted[i].groups * len(block) * kind[0] ** 2 * kind[1]
            if size > space:
                launches.append([])
                space = max(TOGETHER_BYTES, size)
            launches[-1].append((i, block))
            space -= size
    return launches

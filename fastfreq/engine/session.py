"""Conditions x images -> logits: the one loop, which survives running out of memory and refuses NaN."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from fastfreq.results.identity import Identity
from fastfreq.vocabulary import checks, metrics
from fastfreq.vocabulary.metrics import Metric

from .images import Chunk
from .memory import Graphed, is_out_of_memory
from .model_checks import FirstLook
from .network import Network
from .run import Run
from .tuning import Pace

AHEAD_BYTES = 4 << 20  # of network input made in one call on a CPU: it stays in the last-level cache
# times as much on a GPU, and the most: a perturbation reads its images once for several conditions; predicted
_AHEAD_ON_GPU, _MOST_AHEAD = 64, 256 << 20

# (images of the chunk, conditions, conditions in one forward pass) -> batches (k m, c, h, w), condition-major
Make = Callable[[slice, slice, int], Iterable[Tensor]]
# (images of the chunk, conditions, logits (k, m, classes)): assigns, so that doing a batch again changes nothing
Take = Callable[[slice, slice, Tensor], None]


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a network said, by condition and image, on the host.

    Attributes:
        predicted: (conditions, n) int64 classes.
        values: metric -> (conditions, n) float64.
    """

    predicted: Tensor
    values: dict[str, Tensor]

    def wrong(self, labels: Tensor) -> Any:
        """(conditions, n) where the class is not the label, as a NumPy array."""
        return (self.predicted != labels.cpu()).numpy()


class Session:
    """A network, ready to run, and how.

    Attributes:
        network: the copy that is evaluated.
        run: the options.
        shape: (c, h, w) of the images.
        identity: which model this is; None where images are measured alone.
        forward: batch -> logits; the network itself, or compiled, or from a CUDA graph.
        batch_size: images in one forward pass; halved when memory runs out.
        pace: how it was chosen to run.
        total: how many images there are; None where nobody knows.
        notes: what was done to the network, for people.
        until_end: what holds until the measurement ends.
        advance: reports forward passes to the bar.
        first_look: told what each clean pass says, where anybody asks whether the model is any good.
    """

    def __init__(self, network: Network, run: Run, shape: tuple[int, int, int], identity: Identity | None) -> None:
        self.network, self.run, self.shape, self.identity = network, run, shape, identity
        self.forward: Callable[[Tensor], Tensor] = network
        self.batch_size = 1
        self.pace = Pace(1, False, float("nan"))
        self.total: int | None = None
        self.notes = {"compile": "False", "fold_batch_norm": "False"}
        self.until_end = contextlib.ExitStack()
        self._graphs: list[Graphed] = []
        self.advance: Callable[[int], object] = lambda _passes: None
        self.first_look: FirstLook | None = None

    @property
    def device(self) -> torch.device:
        """Where everything happens."""
        return self.network.device

    def graphed(
        self, forward: Callable[[Tensor], Tensor], *, beside: dict[str, Tensor] | None = None
    ) -> Callable[[Tensor], Tensor]:
        """`forward` from CUDA graphs on a GPU, itself elsewhere; hooks in it leave tensors in `beside`."""
        if self.device.type != "cuda":
            return forward
        self._graphs.append(Graphed(forward, self.device, beside))
        return self._graphs[-1]

    # ---------------------------------------------------------------- the loop
    def each(
        self,
        chunk: Chunk,
        count: int,
        make: Make,
        take: Take,
        *,
        forward: Callable[[Tensor], Tensor] | None = None,
        describe: Callable[[int], str] = "under condition {}".format,
        ahead: int = AHEAD_BYTES,
        one: bool = False,
    ) -> None:
        """Run every condition on every image of a chunk.

        Args:
            chunk: on the network's device.
            count: conditions.
            make: the network's input, in batches of as many conditions as it is told.
            take: what is kept of the logits.
            forward: in place of `Session.forward`.
            describe: a condition, in words, for the error.
            ahead: bytes of input made in one call on a CPU; on a GPU up to 64 times as much.
            one: one condition in each forward pass.

        Raises:
            FloatingPointError: logits that are NaN or infinite; the first condition and image are named.
            RuntimeError: not even one image fits into memory.
        """
        n, run = len(chunk), forward or self.forward
        ahead = ahead if self.device.type == "cpu" else min(_AHEAD_ON_GPU * ahead, _MOST_AHEAD)
        finite = torch.ones(count, n, dtype=torch.bool, device=self.device)
        itemsize = chunk.images[:1].numel() * self.network.dtype.itemsize
        at = 0
        while at < count:
            m = min(n, self.batch_size)
            k = max(1, self.batch_size // m) if m == n and not one else 1
            passes = max(1, ahead // max(1, k * m * itemsize))
            rows = slice(at, min(count, at + k * passes))
            try:
                for i in range(0, n, m):
                    part = slice(i, min(n, i + m))
                    start = rows.start
                    for batch in make(part, rows, k):
                        logits = run(batch).float()
                        shaped = logits.view(-1, part.stop - i, logits.shape[-1])
                        these = slice(start, start + len(shaped))
                        finite[these, part] = torch.isfinite(shaped.abs().amax(dim=-1))  # NaN is the largest
                        take(part, these, shaped)
                        start = these.stop
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self.halve(error)
                continue
            at = rows.stop
            self.advance(n * (rows.stop - rows.start))
        good = finite.cpu()
        if not good.all():
            row, column = (int(v) for v in (~good).nonzero()[0])
            raise FloatingPointError(
                f"expected finite logits, got NaN or infinity {describe(row)} for image "
                f"{int(chunk.ids[column])}; check the weights, or try precision='fp32'"
            )

    def halve(self, error: BaseException) -> None:
        """Go on with half the batch.

        Raises:
            RuntimeError: it was one image.
        """
        if self.batch_size == 1:
            raise RuntimeError("expected one image to fit in memory, it does not; use a smaller precision") from error
        self.batch_size = -(-self.batch_size // 2)
        for graphed in self._graphs:
            graphed.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def in_batches(self, chunk: Chunk, function: Callable[[Chunk], Any]) -> list[Any]:
        """`function` of parts of a chunk that fit into memory, in order: what needs more than logits."""
        found, at = [], 0
        while at < len(chunk):
            part = chunk.part(slice(at, at + self.batch_size))
            try:
                value = function(part)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self.halve(error)
                continue
            found.append(value)
            at += len(part)
        return found

    # ---------------------------------------------------------------- outcomes
    def outcomes(
        self,
        chunk: Chunk,
        count: int,
        make: Make,
        *,
        measured: Mapping[str, Metric] | None = None,
        clean: Tensor | None = None,
        also: Take | None = None,
        **options: Any,
    ) -> Seen:
        """Classes and metrics under every condition; `clean` (n,) are the classes of the images as they are.

        `also` sees what is taken, after each forward pass. Options and errors are those of `each`.
        """
        n, named = len(chunk), dict(measured or {})
        predicted = torch.zeros(count, n, dtype=torch.int64, device=self.device)
        values = torch.zeros(len(named), count, n, device=self.device)

        def take(part: slice, rows: slice, logits: Tensor) -> None:
            predicted[rows, part] = logits.argmax(dim=-1)
            labels = chunk.labels[part]
            for j, metric in enumerate(named.values()):
                if metric is metrics.flip:
                    assert clean is not None, "the clean pass comes first"
                    values[j, rows, part] = (predicted[rows, part] != clean[part]).float()
                else:
                    values[j, rows, part] = metrics.per_image(metric, logits.flatten(0, 1), labels, len(logits)).float()
            if also is not None:
                also(part, rows, logits)

        self.each(chunk, count, make, take, **options)
        return Seen(predicted.cpu(), dict(zip(named, values.double().cpu(), strict=True)))

    def clean(self, chunk: Chunk, *, measured: Mapping[str, Metric] | None = None, also: Take | None = None) -> Seen:
        """Classes and metrics of the images as they are.

        Raises:
            ValueError: labels that the model has no logit for.
        """

        def make(part: slice, _rows: slice, _each: int) -> list[Tensor]:
            return [self.network.clean_batch(chunk.images[part])]

        def describe(_: int) -> str:
            return "without any change"

        named = {name: metric for name, metric in (measured or {}).items() if metric is not metrics.flip}
        classes: list[int] = []

        def count_classes(batch: Tensor) -> Tensor:
            logits = self.forward(batch)
            if not classes:
                checks.check_classes(chunk.labels, logits)
                classes.append(logits.shape[1])
            return logits

        seen = self.outcomes(chunk, 1, make, measured=named, also=also, forward=count_classes, describe=describe)
        if self.first_look is not None and classes:
            self.first_look.take(seen.predicted[0], chunk.labels.cpu(), classes[0])
        flips = {
            name: torch.zeros(1, len(chunk), dtype=torch.float64) for name in (measured or {}) if name not in named
        }
        return Seen(seen.predicted, {name: (seen.values | flips)[name] for name in (measured or {})})

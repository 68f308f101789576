"""Metrics by name or as callables on (logits, labels), one value per image."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import streams
from .sums import ExactSum

Metric = Callable[[Tensor, Tensor], Tensor]


class GivenMetric:
    """A caller's metric, which may return one value per image or a mean over them.

    Attributes:
        is_mean: whether it was seen to return a mean, whose spread over images nobody knows.
    """

    def __init__(self, function: Metric) -> None:
        self._function, self.is_mean = function, False

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """One value per image (n,), or the mean n times."""
        # copies both ways: it may work in place, and return the same memory every time
        value = torch.as_tensor(self._function(logits.clone(), labels.clone()), device=logits.device).clone()
        if value.ndim > 1 or (value.ndim == 1 and len(value) != len(labels)):
            raise ValueError(
                f"expected a metric to return one value per image ({len(labels)},) or a mean, got {tuple(value.shape)}"
            )
        self.is_mean |= value.ndim == 0
        return value.expand(len(labels))


def flip(logits: Tensor, labels: Tensor) -> Tensor:
    """Whether the prediction changed against that of the image as it is; the loop fills it in."""
    raise AssertionError("'flip' compares with the clean pass, which only the loop has")


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none")


def _top_k_error(k: int) -> Metric:
    def top_k_error(logits: Tensor, labels: Tensor) -> Tensor:
        if k > logits.shape[1]:
            raise ValueError(f"expected at most the {logits.shape[1]} classes of the model for top-k, got k = {k}")
        return (logits.topk(k, dim=1).indices != labels[:, None]).all(dim=1)

    return top_k_error


def resolve(metrics: Sequence[str] | Mapping[str, str | Metric]) -> dict[str, Metric]:
    """Map names to functions; the top-1 error is always measured and needs no entry.

    Args:
        metrics: names ("error", "loss", "top5_error", "flip"), or a mapping from names to functions of
            (logits (n, classes), labels (n,)) that return one value per image, or one mean over the images.

    Raises:
        ValueError: a name that is not known.
    """
    named = metrics if isinstance(metrics, Mapping) else {name: name for name in metrics}
    found: dict[str, Metric] = {}
    for name, metric in named.items():
        if callable(metric):
            if name == "error":
                raise ValueError("expected another name for your own metric: 'error' is the top-1 error")
            found[name] = GivenMetric(metric)
        elif metric == "loss":
            found[name] = _loss
        elif metric == "flip":
            found[name] = flip
        elif match := re.fullmatch(r"top([1-9]\d*)_error", str(metric)):
            found[name] = _top_k_error(int(match[1]))
        elif metric != "error":
            raise ValueError(f"expected a metric 'error', 'loss', 'top5_error', 'flip' or a function, got {metric!r}")
    return found


def per_image(metric: Metric, logits: Tensor, labels: Tensor, frequencies: int) -> Tensor:
    """Values (frequencies, n) of a metric on frequency-major logits; a mean counts for each of its images."""
    if not isinstance(metric, GivenMetric):  # ours look at one image at a time
        return metric(logits, labels.repeat(frequencies)).view(frequencies, -1)
    return torch.stack([metric(part, labels) for part in logits.view(frequencies, len(labels), -1)])


def probed(metrics: Mapping[str, Metric], classes: int, device: torch.device) -> tuple[float, ...]:
    """Values of metrics, in the order of their names, on fixed noise as logits: they tell one function from another."""
    noise = streams.generator("probes", 1).standard_normal((4, classes), dtype=np.float32)
    logits, labels = torch.from_numpy(noise).to(device), torch.arange(4, device=device) % classes
    values = [metrics[name](logits, labels) for name in sorted(metrics) if metrics[name] is not flip]
    return tuple(torch.cat(values).double().tolist()) if values else ()


def moments(values: Sequence[Tensor], metric: Metric) -> ExactSum:
    """(conditions, 2) sum and sum of squares over images of values (conditions, n), given in blocks of conditions.

    A metric that returned means over images has no squares: their spread nobody knows.
    """
    each = torch.cat(list(values)).double()
    total, squares = ExactSum.of(each, axis=1), ExactSum.of(each.square(), axis=1)
    if isinstance(metric, GivenMetric) and metric.is_mean:
        squares = ExactSum.of(torch.full(squares.shape, float("nan")))
    return ExactSum.stack([total, squares])

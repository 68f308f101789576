"""What a model must be like, and the logits in what it returns."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fastfreq.vocabulary import statistics

from .contexts import callers_level

PEEK = 64  # images looked at first: their shape, and whether the model is any good on them
_TEXT = ("input_ids", "text", "text_input_ids")  # arguments of CLIP and its like


def check_eval(model: nn.Module) -> None:
    """Refuse a model in train mode: dropout and batch statistics would make every figure depend on the batch."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected `model` to be a torch.nn.Module, got {type(model).__name__}")
    for name, module in model.named_modules():
        if module.training and (module is model or not any(True for _ in module.children())):
            where = f"its module {name!r} is" if name else "it is"
            raise ValueError(f"expected a model in evaluation mode, {where} in train mode; call model.eval() first")
    check_inputs(model)


def check_inputs(net: nn.Module) -> None:
    """Refuse a network that takes more than a batch of images: what it makes of images alone are no logits.

    Raises:
        TypeError: it is no module, is scripted or traced, needs several inputs, or takes text.
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"expected `model` to be a torch.nn.Module, got {type(net).__name__}")
    if isinstance(net, torch.jit.ScriptModule):
        raise TypeError(
            f"expected the torch.nn.Module that {type(net).__name__} was scripted or traced from: a scripted model "
            "keeps no layers to look at, and its precision and layout are fixed"
        )
    inputs = inspect.signature(net.forward).parameters.values()
    text = [p.name for p in inputs if p.name in _TEXT]
    needed = [p.name for p in inputs if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if text or (len(needed) > 1 and not net._forward_pre_hooks):
        what = f"takes text ({text[0]!r})" if text else f"needs {', '.join(map(repr, needed))}"
        raise TypeError(
            f"expected a model that takes a batch of images alone, {type(net).__name__} {what}; wrap it in a module "
            "whose forward takes the images and returns the logits"
        )


def logits_of(output: Any) -> Tensor:
    """The (n, classes) logits in whatever a model returns: a tensor, a dict or object with `logits`, a tuple.

    Raises:
        TypeError: none, or several tensors that could be them.
        ValueError: logits of another shape.
    """
    value = output
    if isinstance(value, Mapping):
        if "logits" not in value:
            raise TypeError(f"expected a model output with 'logits', got a dict of {sorted(map(str, value))}")
        value = value["logits"]
    elif not isinstance(value, Tensor) and hasattr(value, "logits"):
        value = value.logits
    elif isinstance(value, (tuple, list)) and value:
        tables = [tuple(each.shape) for each in value if isinstance(each, Tensor) and each.ndim == 2]
        if len(tables) > 1:  # features and logits, say
            raise TypeError(
                f"expected one tensor of shape (n, classes) in what the model returns, got {len(tables)}, of "
                f"{' and '.join(map(str, tables[:4]))}; wrap it in a module that returns the logits alone"
            )
        value = value[0]
    if not isinstance(value, Tensor):
        raise TypeError(f"expected the model to return logits, got {type(output).__name__}; wrap it to return a tensor")
    if value.ndim != 2:
        raise ValueError(f"expected logits of shape (n, classes), got {tuple(value.shape)}; wrap the model")
    return value


def judge_accuracy(predicted: Tensor, labels: Tensor, classes: int) -> str:
    """Warn where images as they are give an accuracy that chance gives too; the accuracy, for people.

    Args:
        predicted: (n,) int64 classes.
        labels: (n,) int64, on the same device.
        classes: how many there are.
    """
    n, right = len(labels), int((predicted == labels).sum())
    low, high = (float(v) for v in statistics.wilson(right, n))
    if n >= 32 and classes > 1 and low <= 1 / classes:
        warnings.warn(
            f"the model is right on {right} of the first {n} images, which chance among {classes} classes gives "
            f"too: is the normalisation missing (fastfreq.NormalizedModel), or do the labels belong to other "
            f"classes?",
            stacklevel=callers_level(),
        )
    return f"accuracy {right / n:.3f} [{low:.3f}, {high:.3f}] on the first {n} images"


class FirstLook:
    """Whether a model is any good on the first images as they are, said once.

    Args:
        enough: images that tell.
        say: takes the accuracy, for people.
    """

    def __init__(self, enough: int, say: Callable[[str], object]) -> None:
        self._enough, self._say = enough, say
        self._seen: list[tuple[Tensor, Tensor]] = []
        self._count = self._classes = 0

    def take(self, predicted: Tensor, labels: Tensor, classes: int) -> None:
        """What a clean pass told, (n,) classes and labels on the host; clean passes are gathered until they tell."""
        if self._enough:
            self._seen.append((predicted, labels))
            self._count, self._classes = self._count + len(labels), classes
        if self._count >= self._enough:
            self.end()

    def end(self) -> None:
        """Judge by what there is: there may be fewer images left than are enough."""
        seen, self._seen, self._count, self._enough = self._seen, [], 0, 0
        if seen:
            predicted, labels = (torch.cat(each)[:PEEK] for each in zip(*seen, strict=True))
            self._say(judge_accuracy(predicted, labels, self._classes))

"""What verbs on layers share: the size of the input, all images as one tensor."""

from __future__ import annotations

import argparse
import dataclasses
from collections import Counter
from typing import Any

from . import _arguments
from ._measure import Measure, Subject
from ._refusals import RefusedError


def input_size(options: argparse.Namespace, subject: Subject, images: Any = None) -> tuple[int, ...]:
    """(c, h, w) as asked for, or as it is known."""
    assert subject.model is not None
    if options.input_size is not None:
        if len(options.input_size) < 2:
            raise RefusedError(f"--input-size: expected C H W, such as 3 224 224, got {options.input_size[0]}")
        return tuple(options.input_size)
    if images is not None:
        return tuple(images.shape[1:])
    if subject.model.preprocessing is None:
        raise RefusedError(f"expected --input-size C H W, such as 3 224 224: that of {options.model} is not known")
    return (3, *subject.model.preprocessing.size)  # colour images, as files are decoded


def tensors(subject: Subject) -> tuple[Any, Any]:
    """All images, in [0, 1], and labels, on the device."""
    import torch

    assert subject.data is not None
    parts = [(x.float() / 255 if x.dtype == torch.uint8 else x.float(), y) for x, y in subject.data]
    images, labels = (torch.cat(each).to(subject.device) for each in zip(*parts, strict=True))
    return images, labels


_SEARCH = {
    "steps": "of the search",
    "rate": "of Adam",
    "jitter": "largest shift at each step, as a share of the shorter side",
    "scale": "largest change of size at each step",
    "rotation": "largest at each step, in degrees",
    "total_variation": "weight of total variation",
    "alpha_norm": "weight of the alpha-norm",
}


def add_search(parser: argparse.ArgumentParser, defaults: dict[str, str]) -> None:
    """How an image is searched for; words that are left out leave the function's own, which `defaults` says."""
    for name, text in _SEARCH.items():
        kind = {"type": _arguments.positive, "metavar": "N"} if name == "steps" else {"type": float, "metavar": "X"}
        parser.add_argument(f"--{name.replace('_', '-')}", help=f"{text}; default: {defaults[name]}", **kind)


def search(options: argparse.Namespace, default: Any = None) -> Any:
    """What `add_search` declared, in place of what `default` has."""
    from fastfreq.features import ImageSearch

    given = _arguments.given(options, *_SEARCH)
    return dataclasses.replace(ImageSearch() if default is None else default, **given)


def left_out(result: Any) -> list[str]:
    """What a result on layers leaves out: one line per reason."""
    reasons = Counter((kind, reason) for _, kind, reason in getattr(result, "skipped", ()))
    return [f"left out: {count} {kind} ({reason})" for (kind, reason), count in reasons.items()]


class LayerVerb(Measure):
    """A verb whose function takes a model on the device, and images as one tensor or none."""

    def plain(self, subject: Subject, *, normalised: bool) -> Any:
        """The network on its device; without its normalisation, which is no layer, unless it sees images."""
        from fastfreq.engine.pixels import split_normalization

        assert subject.model is not None
        model = subject.model.model if normalised else split_normalization(subject.model.model)[0]
        return model.to(subject.device)

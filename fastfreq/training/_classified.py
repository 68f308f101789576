"""Images and classes of experiments that train classifiers, as users bring them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .spectral_bias._samples import flat


class Classified(NamedTuple):
    """Samples and their classes.

    Attributes:
        samples: (n, d) or (n, c, h, w) float32.
        classes: (n,) int64 from 0.
    """

    samples: Tensor
    classes: Tensor


def classified(
    images: Any, labels: Any, test: tuple[Any, Any], *, device: str | torch.device, shaped: bool = False
) -> tuple[Classified, Classified, int]:
    """Both sets, labels as classes in the order of those to train on, and how many classes there are.

    Args:
        images: (n, ...); bytes are divided by 255.
        labels: (n,) integers.
        test: (images, labels) to test on, of the same shape and of classes that are among those to train on.
        device: where they go.
        shaped: keep images as (n, c, h, w) in place of rows of numbers.

    Raises:
        ValueError: arguments that do not belong together, or a single class.
        TypeError: labels that are no integers.
    """
    if not isinstance(test, (tuple, list)) or len(test) != 2:
        raise TypeError(f"expected `test` as (images, labels), got {type(test).__name__}")
    names: np.ndarray[Any, Any] | None = None
    found = []
    for name, x, y in (("images", images, labels), ("test", *test)):
        shape = tuple(np.shape(x)) if not isinstance(x, Tensor) else tuple(x.shape)
        rows, given = flat(name, x), np.asarray(y.detach().cpu() if isinstance(y, Tensor) else y)
        if given.shape != (len(rows),):
            raise ValueError(f"expected {len(rows)} labels, one per sample of `{name}`, got shape {given.shape}")
        if given.dtype.kind not in "iu":
            raise TypeError(f"expected labels of `{name}` as integers, got {given.dtype}")
        names = np.unique(given) if names is None else names
        if len(names) < 2 or not np.isin(given, names).all():
            raise ValueError(
                f"expected labels of at least two classes, and no others in `test`, got {np.union1d(names, given)[:12]}"
            )
        if shaped and len(shape) not in (3, 4):
            raise ValueError(f"expected `{name}` of shape (n, h, w) or (n, c, h, w), got {shape}")
        samples = torch.from_numpy(rows).float()
        if not torch.isfinite(samples).all():
            raise ValueError(
                f"expected `{name}` of numbers that float32 holds, got some up to {np.abs(rows).max():.3g}"
            )
        if shaped:
            samples = samples.view(len(rows), -1, *shape[-2:])
        classes = torch.from_numpy(np.searchsorted(names, given)).long()
        found.append(Classified(samples.to(device), classes.to(device)))
    if found[0].samples.shape[1:] != found[1].samples.shape[1:]:
        a, b = (tuple(each.samples.shape[1:]) for each in found)
        raise ValueError(f"expected images to test on of the shape {a} of those to train on, got {b}")
    assert names is not None
    return found[0], found[1], len(names)


def accuracies(logits: Tensor, classes: Tensor) -> Tensor:
    """(b,) shares of samples whose largest of logits (b, n, classes) is that of their class; NaN where one is none."""
    share = (logits.argmax(dim=-1) == classes).double().mean(dim=-1)
    return torch.where(logits.isnan().any(dim=-1).any(dim=-1), torch.nan, share)

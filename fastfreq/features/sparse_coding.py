"""A network's layers as dictionaries and their activations as codes: could the theory's guarantee hold?"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from fastfreq.engine.contexts import fitting, undisturbed, warn_if_unsteady
from fastfreq.engine.copies import as_written, private_copy
from fastfreq.engine.model_checks import check_eval
from fastfreq.engine.network import network_name
from fastfreq.results.folds import same, text
from fastfreq.results.result import Result
from fastfreq.vocabulary import numbers

from .code_watch import CodeWatch
from .layer_code import LayerCode


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SparseCoding(Result, kind="sparse_coding"):
    """Mutual coherence of each layer, stripe sparsity of its activations, and what theory would need.

    Attributes:
        model: class of the model.
        input_size: (c, h, w) of the images.
        images: how many.
        layers: by name, in order of execution; one that runs again in a pass also as "name (use 2)" and so on.
        skipped: (name, reason) of convolutions that were left out.
    """

    model: str = same()
    input_size: tuple[int, ...] = same()
    images: int = same()
    layers: dict[str, LayerCode] = same()
    skipped: tuple[tuple[str, str], ...] = text(())

    @property
    def n_images(self) -> int:
        """Number of images."""
        return self.images

    def _check_shapes(self) -> None:
        super()._check_shapes()
        for name, layer in self.layers.items():
            n = 0 if layer.reason else self.images
            own = (layer.stripes, layer.mean_stripes, layer.density, layer.smallest_share)
            if any(array.shape != (n,) for array in own):
                raise ValueError(f"expected {n} of everything by image in layer {name!r}")

    def table(self) -> list[dict[str, Any]]:
        """One row per layer: mu, the bound on non-zeros in a stripe, what activations have, and whether it holds."""
        rows = []
        for name, layer in self.layers.items():
            known = len(layer.stripes) > 0
            rows.append(
                {
                    "layer": name,
                    "weight_shape": " x ".join(map(str, layer.weight_shape)),
                    "coherence": layer.coherence,
                    "zero_atoms": layer.zero_atoms,
                    "bound": layer.bound,
                    "least_stripe": float(layer.stripes.min()) if known else float("nan"),
                    "mean_stripe": float(layer.mean_stripes.mean()) if known else float("nan"),
                    "largest_stripe": float(layer.stripes.max()) if known else float("nan"),
                    "stripe_size": layer.stripe_size,
                    "density": float(layer.density.mean()) if known else float("nan"),
                    "unique": layer.unique,
                    "found": layer.found,
                    "note": layer.reason or f"after {layer.activation}",
                }
            )
        return rows

    def summary(self) -> list[dict[str, Any]]:
        """In short, the first 40 layers."""
        keys = ("layer", "coherence", "bound", "mean_stripe", "largest_stripe", "density", "unique", "note")
        return [{key: row[key] for key in keys} for row in self.table()[:40]]

    def headline(self) -> str:
        """In how many layers the guarantee could hold."""
        judged = [layer for layer in self.layers.values() if len(layer.stripes)]
        holds = sum(layer.unique == 1 for layer in judged)
        if not judged:
            return "no layer whose activation is a code of its own"
        return f"codes are sparse enough to be unique for all images in {holds} of {len(judged)} layers"


def sparse_coding(model: nn.Module, images: Tensor, *, batch_size: int = 32) -> SparseCoding:
    """Whether a network's layers could be what convolutional sparse coding says that they are.

    Papyan et al. read a layer of convolution and ReLU as one step of layered thresholding: the filters are atoms of a
    dictionary D, activations a code G with x = D G. Their guarantees need at most (1 + 1 / mu) / 2 non-zeros in any
    stripe: all atoms that meet those of one place. Trained networks nearly always miss it by far; the rows say by how
    much. mu is exact, over all pairs of filters at all places. A code counts where the activation takes the
    convolution's own output, a batch norm between allowed; an output that is added to another first has none. A layer
    that runs again in a pass has the codes of each use: "conv", "conv (use 2)".

    Args:
        model: in evaluation mode. It is not changed.
        images: (n, c, h, w) as the model takes them.
        batch_size: images per forward pass.

    Raises:
        ValueError: a model in train mode or without two-dimensional convolutions that its pass reaches; images that
            are not finite floats.
        TypeError: a model that cannot be copied.

    Source: Papyan, Romano, Elad 2017 (JMLR), Theorems 4, 8 and 10.
    """
    check_eval(model)
    batch_size = numbers.as_int("batch_size", batch_size)
    if not isinstance(images, Tensor) or images.ndim != 4 or not len(images) or not images.dtype.is_floating_point:
        raise ValueError("expected `images` (n, c, h, w) of floats as one tensor, at least one")
    if not torch.isfinite(images).all() or batch_size < 1:
        raise ValueError(f"expected finite `images` and a `batch_size` from 1, got {batch_size}")
    name = network_name(model)
    with undisturbed(gradients=True), as_written():  # inference tensors have no version to compare
        net = private_copy(model).to(torch.float64 if images.dtype == torch.float64 else torch.float32)
        images = images.to(next((p.dtype for p in net.parameters()), images.dtype))
        few = [net(images[:2].clone()) for _ in range(2)]
        if all(isinstance(out, Tensor) for out in few):
            warn_if_unsteady(name, *few, stacklevel=3)
        batch_size = fitting(lambda size: net(images[:size].clone()), min(batch_size, len(images)))
        watch = CodeWatch(net)
        try:
            for part in images.split(batch_size):
                with watch:
                    net(part.clone())
                watch.end()
        finally:
            watch.close()
        layers, skipped = watch.layers()
    if not layers:
        raise ValueError(f"expected two-dimensional convolutions that the pass of {name} reaches, found none")
    return SparseCoding(
        details={"model": name, "torch": str(torch.__version__)},
        model=name,
        input_size=tuple(images.shape[1:]),
        images=len(images),
        layers=layers,
        skipped=tuple(skipped),
    )

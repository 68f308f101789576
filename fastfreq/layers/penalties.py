"""A penalty on spectral norms, ready to add to a loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ._eager import outside_graphs
from .discovery import FoundLayer, find_convolutions
from .spectral_norms import spectral_norm


class SpectralPenalty:
    """sum over layers of max(0, ||A_l|| - bound)^2, differentiable with respect to the weights.

    The layers and their input sizes are found once; a call takes the norms of the present weights, also where a
    parametrisation or a hook of torch.nn.utils makes them. A layer that sees several input sizes counts with the
    largest of its norms::

        penalty = ff.layers.SpectralPenalty(model, input_size=(3, 32, 32), bound=1.0)
        loss = criterion(model(images), labels) + 1e-3 * penalty()

    Attributes:
        layers: what is penalised.
        skipped: (name, kind, reason) of the modules with parameters that are not.

    Args:
        model: any module.
        input_size: (c, height, width) of its images.
        bound: norm up to which a layer costs nothing, at least 0.
        padding: as in `spectral_norm`.
        fold_batch_norm: take each layer with the batch norm that follows it, at its running statistics.
        linear: linear layers too.

    Raises:
        ValueError: a negative bound, or a model without such layers; a call raises what `spectral_norm` does.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        input_size: Sequence[int],
        bound: float = 1.0,
        padding: str | None = None,
        fold_batch_norm: bool = False,
        linear: bool = False,
    ) -> None:
        if not bound >= 0:
            raise ValueError(f"expected a `bound` of at least 0, got {bound}")
        self.layers, self.skipped = find_convolutions(model, tuple(input_size), linear=linear)
        if not self.layers:
            reasons = "; ".join(f"{name!r}: {reason}" for name, _, reason in self.skipped[:3]) or "it has no layers"
            raise ValueError(f"expected a model with convolutions that run, found none ({reasons})")
        self.bound, self.padding, self.fold_batch_norm = bound, padding, fold_batch_norm

    def norms(self) -> dict[str, Tensor]:
        """Spectral norm of each layer now, by name, with gradients."""
        return {layer.name: self._norm(layer) for layer in self.layers}

    def _norm(self, layer: FoundLayer) -> Tensor:
        norms = [
            spectral_norm(
                layer.module,
                input_size=size,
                padding=self.padding,
                batch_norm=layer.batch_norm if self.fold_batch_norm else None,
            )
            for size in layer.sizes
        ]
        return norms[0] if len(norms) == 1 else torch.stack(norms).max()

    @outside_graphs
    def __call__(self) -> Tensor:
        """The penalty, a scalar."""
        return torch.stack([(norm - self.bound).clamp_min(0).square() for norm in self.norms().values()]).sum()

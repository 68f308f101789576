"""Training on all samples at once, looked at from time to time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from fastfreq.layers import spectral_norm

from ._ensemble import Ensemble, ensemble
from .recipe import Recipe, Training, description, recorded_steps

FloatArray = NDArray[np.float64]
Loss: TypeAlias = Literal["squares", "logistic"]
Record = Callable[[Ensemble, FloatArray], None]  # the networks, and their outputs (b, n) on all samples


class Fit:
    """Networks that are trained on targets of their own.

    Args:
        recipe: filled in.
        networks: one for each target.
        inputs: (n, d), or (b, n, d) one by one.
        targets: (b, n).
        names: of the networks, for messages.
        seeds: of the networks.
        loss: "squares", the mean square of the difference, or "logistic", cross-entropy against targets of 0 and 1.
        clip: largest magnitude that a parameter is left with after a step; None for any.
    """

    def __init__(
        self,
        recipe: Recipe,
        networks: Sequence[nn.Module],
        inputs: Any,
        targets: Any,
        *,
        names: Sequence[str],
        seeds: Sequence[int],
        loss: Loss = "squares",
        clip: float | None = None,
    ) -> None:
        assert recipe.optimizer is not None and recipe.steps is not None
        self._recipe, self._names, self._clip, self._loss = recipe, list(names), clip, loss
        dtype = next((p.dtype for p in networks[0].parameters()), torch.float32)
        self._inputs = torch.as_tensor(inputs).to(recipe.device, dtype)
        self._targets = torch.as_tensor(targets).to(recipe.device, dtype)
        self.networks = ensemble(networks, recipe.optimizer, recipe.schedule, seeds=seeds)
        self.training: Training = description(recipe, networks[0], self.networks.optimizer, self.networks.schedule)
        self.steps = np.array(recorded_steps(recipe), dtype=np.int64)

    def run(self, record: Record) -> FloatArray:
        """Train; `record` is called at every recorded step. The losses (b, records).

        A network whose loss is no number any more keeps what was recorded before; a warning names it.
        """
        due, history = set(self.steps.tolist()), []
        with torch.enable_grad(), torch.autocast(self._inputs.device.type, enabled=False):
            self._clip_parameters()
            bar = tqdm(range(int(self.steps[-1]) + 1), desc="training", unit="step", disable=not self._recipe.progress)
            for step in bar:
                if step in due:
                    with torch.no_grad():
                        outputs = self._predict()
                        history.append(self._losses(outputs, slice(None)).double().cpu().numpy())
                        record(self.networks, outputs.double().cpu().numpy())
                if step < self.steps[-1]:
                    self.networks.step(self._inputs, self._losses)
                    self._clip_parameters()
        losses = np.stack(history, axis=1)
        self._warn_of_divergence(losses)
        return losses

    def predict(self, inputs: Any) -> FloatArray:
        """(b, n) outputs on other inputs."""
        with torch.no_grad():
            return self.networks.predict(torch.as_tensor(inputs).to(self._inputs)).double().cpu().numpy()

    def _predict(self) -> Tensor:
        outputs = self.networks.predict(self._inputs)
        if outputs.shape != self._targets.shape:
            got, asked = tuple(outputs.shape[1:]), self._targets.shape[1]
            raise ValueError(f"expected one output for each of the {asked} samples, got {got}")
        return outputs

    def _losses(self, outputs: Tensor, which: slice) -> Tensor:
        targets = self._targets[which]
        if self._loss == "logistic":
            each = nn.functional.binary_cross_entropy_with_logits(outputs, targets, reduction="none")
        else:
            each = (outputs - targets).square()
        return each.mean(dim=1)

    @torch.no_grad()
    def _clip_parameters(self) -> None:
        if self._clip is not None:
            for parameter in self.networks.parameters():
                parameter.clamp_(-self._clip, self._clip)

    def _warn_of_divergence(self, losses: FloatArray) -> None:
        for name, row in zip(self._names, losses, strict=True):
            bad = np.flatnonzero(~np.isfinite(row))
            if len(bad):
                warnings.warn(
                    f"the loss of the network of {name} is no number from step {self.steps[bad[0]]} on; what was "
                    f"recorded before stands, try a smaller learning rate",
                    RuntimeWarning,
                    stacklevel=4,
                )


def layer_norms(network: nn.Module) -> dict[str, float]:
    """Largest singular value of every linear layer, by name; NaN of weights that have one, or of another map."""
    found = {}
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Linear):
            try:
                found[name] = float(spectral_norm(layer, input_size=()))
            except (ValueError, TypeError):  # training goes on: norms stand beside what is asked for
                found[name] = float("nan")
    return found

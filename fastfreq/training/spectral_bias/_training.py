"""Training on all samples at once, looked at from time to time."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from fastfreq.layers import spectral_norm
from fastfreq.training._checkpoint import Checkpoint

from ._ensemble import Ensemble, ensemble
from .recipe import Recipe, Training, description, recorded_steps

FloatArray = NDArray[np.float64]
_LOSSES = "losses"
Loss: TypeAlias = Literal["squares", "logistic"]
Records = dict[str, NDArray[Any]]
Record = Callable[[Ensemble, FloatArray], Records]  # the networks, and their outputs (b, n) on all samples


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
        recorded: what `record` depends on beside networks and outputs, for the checkpoint: texts and arrays.
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
        recorded: Sequence[Any] = (),
    ) -> None:
        assert recipe.optimizer is not None and recipe.steps is not None
        self._recipe, self._names, self._clip, self._loss = recipe, list(names), clip, loss
        kinds = {next((p.dtype for p in network.parameters()), torch.float32) for network in networks}
        if len(kinds) > 1:
            raise ValueError(f"expected networks of one type, the factory gave {sorted(map(str, kinds))}")
        dtype = kinds.pop()
        self._inputs = torch.as_tensor(inputs).to(recipe.device, dtype)
        self._targets = torch.as_tensor(targets).to(recipe.device, dtype)
        self.networks = ensemble(networks, recipe.optimizer, recipe.schedule, seeds=seeds)
        self.training: Training = description(recipe, networks[0], self.networks.optimizer, self.networks.schedule)
        self.steps = np.array(recorded_steps(recipe), dtype=np.int64)
        self._recorded = list(recorded)

    def run(self, record: Record) -> tuple[FloatArray, Records]:
        """Train; `record` is called at every recorded step. The losses (b, records), and records (records, ...).

        A network whose loss is no number any more keeps what was recorded before; a warning names it. What an earlier
        run left in the checkpoint is gone on from.
        """
        last, history = int(self.steps[-1]), list[Records]()
        with torch.enable_grad(), torch.autocast(self._inputs.device.type, enabled=False):
            self._clip_parameters()
            checkpoint = Checkpoint(
                self._recipe.checkpoint, self._request(), parts=("step", "networks", _LOSSES, "records"),
                way="Recipe(checkpoint=FOLDER)",
            )  # fmt: skip
            first = self._go_on(checkpoint.before(), history)
            bar = tqdm(
                range(first, last + 1), desc="training", unit="step", initial=first, total=last + 1,
                disable=not self._recipe.progress,
            )  # fmt: skip
            with checkpoint.guarded():
                self._train(bar, checkpoint, record, history)
        found = {name: np.stack([each[name] for each in history]) for name in history[0]}
        losses = found.pop(_LOSSES).T
        self._warn_of_divergence(losses)
        return losses, found

    def _train(self, steps: Iterable[int], checkpoint: Checkpoint, record: Record, history: list[Records]) -> None:
        due, last = set(self.steps.tolist()), int(self.steps[-1])
        for step in steps:
            if step in due and len(history) <= np.searchsorted(self.steps, step):
                with torch.no_grad():
                    outputs = self._predict()
                    losses = self._losses(outputs, slice(None)).double().cpu().numpy()
                    history.append(record(self.networks, outputs.double().cpu().numpy()) | {_LOSSES: losses})
                checkpoint.keep(lambda at=step: self._state(at, history), at=f"step {step}", last=step == last)
            if step < last:
                self.networks.step(self._inputs, self._losses)
                self._clip_parameters()

    def _request(self) -> list[Any]:
        """All that the training depends on."""
        r = self._recipe
        if r.checkpoint is None:
            return []
        return [
            dataclasses.asdict(self.training), self._names, self._loss, self._clip, str(r.device),
            self.steps, self._inputs, self._targets, self.networks.state(), self._recorded,
        ]  # fmt: skip

    def _state(self, step: int, history: Sequence[Records]) -> dict[str, Any]:
        records = {name: torch.from_numpy(np.stack([each[name] for each in history])) for name in history[0]}
        return {"step": step, "networks": self.networks.state(), "losses": records.pop(_LOSSES), "records": records}

    def _go_on(self, before: dict[str, Any] | None, history: list[Records]) -> int:
        """The step to go on from; `history` takes in what was recorded up to it."""
        if before is None:
            return 0
        kept = before["records"] | {_LOSSES: before["losses"]}
        self.networks.restore(before["networks"])
        history += [{name: values[i].numpy() for name, values in kept.items()} for i in range(len(kept[_LOSSES]))]
        return int(before["step"])

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
    for name, layer in linear_layers(network):
        try:
            found[name] = float(spectral_norm(layer, input_size=()))
        except (ValueError, TypeError):  # training goes on: norms stand beside what is asked for
            found[name] = float("nan")
    return found


def linear_layers(network: nn.Module) -> list[tuple[str, nn.Linear]]:
    """Their names, and they."""
    return [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]

"""A tracker in other people's trainers: Lightning's and transformers', loaded when they are asked for."""

from __future__ import annotations

import contextlib
import importlib
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .frequency_tracker import FrequencyTracker

_WHEN = ("epoch", "step")


def lightning_callback(tracker: FrequencyTracker, *, when: str = "epoch") -> Any:
    """A `lightning.pytorch.Callback`, or one of `pytorch_lightning` where only that is installed.

    After each epoch it looks at the LightningModule, whose `forward` takes the probes; the step is the number of
    epochs, or of optimizer steps. A "loss" or "train_loss" that was logged is kept. Figures go to the trainer's
    loggers under "frequency/". Every rank looks, the first one writes.

    Args:
        tracker: that is asked.
        when: "epoch" or "step".

    Raises:
        ImportError: lightning is not installed.
        ValueError: another `when`.
    """
    base: Any = _first_of("lightning.pytorch", "pytorch_lightning", extra="lightning").Callback
    _check(when)

    class FrequencyCallback(base):
        """Looks at the network as it trains."""

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            if when == "epoch":
                _look(trainer, pl_module, trainer.current_epoch + 1)

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any, **__: Any) -> None:
            if when == "step" and trainer.global_step != getattr(self, "_last", None):  # accumulated gradients
                self._last = trainer.global_step
                _look(trainer, pl_module, trainer.global_step)

        def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
            tracker.flush()

        def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
            tracker.flush()

    def _look(trainer: Any, module: Any, step: int) -> None:
        logged = trainer.callback_metrics
        loss = next((logged[name] for name in ("loss", "train_loss") if name in logged), None)
        figures = tracker.step(module, step, loss=loss)
        for logger in trainer.loggers if figures else ():
            logger.log_metrics(_named(figures), step=trainer.global_step)

    return FrequencyCallback()


def transformers_callback(tracker: FrequencyTracker, *, when: str = "epoch") -> Any:
    """A `transformers.TrainerCallback`.

    After each epoch, or optimizer step, it looks at the model, which takes the probes as keywords where they are a
    dict. The step is the number of epochs, or of optimizer steps. Figures are added to the trainer's log history.

    Args:
        tracker: that is asked.
        when: "epoch" or "step".

    Raises:
        ImportError: transformers is not installed.
        ValueError: another `when`.
    """
    base: Any = _first_of("transformers", extra="transformers").TrainerCallback
    _check(when)

    class FrequencyCallback(base):
        """Looks at the network as it trains."""

        def on_epoch_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            if when == "epoch":
                _look(state, model, math.floor(state.epoch + 0.5))

        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            if when == "step":
                _look(state, model, state.global_step)

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            tracker.flush()

    def _look(state: Any, model: Any, step: int) -> None:
        losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
        figures = tracker.step(model, step, loss=losses[-1] if losses else None)
        if figures:
            state.log_history.append({"epoch": state.epoch, "step": state.global_step, **_named(figures)})

    return FrequencyCallback()


def _first_of(*modules: str, extra: str) -> Any:
    for name in modules:
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    raise ImportError(f"expected {' or '.join(modules)} for this callback; pip install 'fastfreq[{extra}]'")


def _check(when: str) -> None:
    if when not in _WHEN:
        raise ValueError(f"expected `when` of {list(_WHEN)}, got {when!r}")


def _named(figures: dict[str, float]) -> dict[str, float]:
    return {f"frequency/{name}": value for name, value in figures.items()}

"""Which frequencies a network has learned, at every step of its training."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastfreq.results.result import conflict
from fastfreq.vocabulary import checks, numbers, streams

from . import _probes, _surroundings
from ._measures import Measure, Reading, Split
from ._probes import Probes, Response
from ._recording import Recording
from .exact_dft import ExactDFT
from .filtering import Filtering
from .frequency_history import FrequencyHistory
from .measurement_history import MeasurementHistory, Watch
from .projection import Projection

_BY_NAME: dict[str, Callable[[], Measure]] = {"dft": ExactDFT, "projection": Projection, "filtering": Filtering}
Measures = str | Measure | Sequence[str | Measure]


class FrequencyTracker:
    """Relative error of a network at each frequency of its target, on fixed probes, over training.

    >>> tracker = FrequencyTracker(images, labels, measures=("filtering", "projection"), path="run.npz")
    >>> for epoch in range(epochs):
    ...     train(model)
    ...     tracker.step(model, epoch)
    >>> tracker.history.plot()

    A frequency here is one of the map from inputs to outputs, not of an image: high is what changes under small moves
    of the input. Networks mostly learn low frequencies first.

    A look leaves the training as it was: modes of modules, gradients, buffers, random states, autocast. The network
    itself runs, in evaluation mode, without its wrappers (DDP, torch.compile); its hooks run too.

    Args:
        inputs: (n, ...) as the network takes them (uint8 is divided by 255; floats are cast to the type of the
            network's weights), or a dict of such tensors, its keywords.
        targets: (n,) integer classes, or (n, ...) floats, what outputs should be.
        measures: "filtering", "projection" or "dft", an `ExactDFT`, `Projection` or `Filtering` with settings, or
            several of different names.
        points: (n, d) where the probes lie; None for the inputs, flattened. Inputs that are tokens or a dict need them:
            embeddings, for example.
        response: what is done to outputs before they are compared: "raw", "softmax" over the first axis after the
            probes', or a function of them; "auto" for softmax with classes and raw with floats.
        limit: of probes; of more inputs so many are drawn at random, once.
        every: steps between two looks; `step` does nothing at others than its multiples.
        batch_size: probes in one forward pass, halved where memory runs out; None for 64 on a CPU, whose caches larger
            batches leave, and 512 on a GPU.
        path: of a file that is written as records come, and gone on with where it is there.
        run: number of the run, such as its seed: histories of several add up.
        seed: of the draw of probes.

    Attributes:
        measures: names of the measures.
        watches: name -> what `watch` records.
        seconds: that looks have taken.

    Raises:
        ValueError: probes, targets, measures or a file that do not go together; the message says what was expected.
        TypeError: arguments of other types.

    Source: Xu, Zhang, Luo, Xiao, Ma 2020, "Frequency Principle: Fourier Analysis Sheds Light on Deep Neural Networks".
    """

    def __init__(
        self,
        inputs: Any,
        targets: Any,
        *,
        measures: Measures = "filtering",
        points: Any = None,
        response: Response = "auto",
        limit: int = 4096,
        every: int = 1,
        batch_size: int | None = None,
        path: str | Path | None = None,
        run: int = 0,
        seed: int = 0,
    ) -> None:
        self._every = _from_one("every", every)
        self._batch = None if batch_size is None else _from_one("batch_size", batch_size)
        self._run = numbers.as_int("run", run)
        chosen = _chosen(measures)
        limit, seed = _from_one("limit", limit), checks.check_seed(seed)
        self._probes = Probes(inputs, targets, points=points, response=response, limit=limit, seed=seed)
        if any(isinstance(measure, ExactDFT) for measure in chosen) and len(targets) > limit:
            raise ValueError(
                f"expected a grid of at most `limit` = {limit} probes for the exact DFT, got {len(targets)}: a part of "
                f"a grid is none; give limit={len(targets)}"
            )
        probes = self._probes
        self._splits: dict[str, Split] = {m.name: m.split(probes.points, probes.targets) for m in chosen}
        self._norm = float(probes.targets.norm())
        self._network = ""
        self.measures = tuple(self._splits)
        self.watches: dict[str, Watch] = {}
        self.seconds = 0.0
        self._recording: Recording[_Record] = Recording(
            path, kind=FrequencyHistory.kind, result=self._history_of, restore=self._restored
        )

    # ---------------------------------------------------------------- during training
    def step(self, model: nn.Module, step: int, *, loss: float | Tensor | None = None) -> dict[str, float]:
        """Look at the network.

        Args:
            model: in any mode; it is left as it was.
            step: of the training, or its epoch; ascending.
            loss: of the training there, kept beside the errors.

        Returns:
            Name -> figure, for a logger: errors of every row, spectral bias; empty where no look is due.

        Raises:
            ValueError: a step that does not follow the last one, outputs of another shape, another network than that
                of the file.
            FloatingPointError: outputs or a loss that are NaN or infinite; what was recorded before is kept.

        Warns, once, of a network whose outputs for a probe depend on chance or on the probes beside it.
        """
        step = numbers.as_int("step", step)
        found: dict[str, float] = {}
        start = time.perf_counter()
        try:
            if step % self._every == 0:
                with streams.GLOBAL_STATES:  # one thread at a time
                    found = self._look(model, step, loss)
        except BaseException as error:
            self.flush()
            error.add_note(f"at step {step}; {self._recording.kept()}")
            raise
        finally:
            self.seconds += time.perf_counter() - start
        for watch in self.watches.values():
            found |= watch.step(model, step)
        return found

    def _look(self, model: nn.Module, step: int, loss: float | Tensor | None) -> dict[str, float]:
        model = _surroundings.unwrapped(model)
        network = self._checked(model)
        step = self._recording.check(step)
        value = math.nan if loss is None else _finite_loss(loss)
        residual = self._probes.residual(model, self._batch)
        device = _surroundings.device_of(model)
        record = _Record(value, float(residual.norm()) / max(self._norm, 1e-300), {})
        for name, split in self._splits.items():
            split.place(device)
            record.readings[name] = split.read(residual)
        self._network = network
        self._recording.add(step, record)
        return self._logged(record)

    def _checked(self, model: nn.Module) -> str:
        network = _probes.architecture(model)
        if self._network and network != self._network:
            raise ValueError(
                f"expected the network that was followed before, {self._network}, got {network}: other weights, or "
                f"another class; begin another tracker"
            )
        return network

    def _logged(self, record: _Record) -> dict[str, float]:
        found = {"total_error": record.total_error}
        for name, reading in record.readings.items():
            labels = self._splits[name].labels
            found |= {f"{name}/{label}": float(e) for label, e in zip(labels, reading.errors, strict=True)}
            low, high = reading.parts
            if low + high > 0:
                found[f"{name}/spectral_bias"] = float((high - low) / (high + low))
        return found

    # ---------------------------------------------------------------- other measurements on the way
    def watch(
        self,
        name: str,
        measurement: Callable[[nn.Module], Any],
        *,
        every: int = 1,
        path: str | Path | None = None,
    ) -> Watch:
        """Take any measurement of the toolkit at steps of the training.

        >>> tracker.watch("heatmap", lambda net: ff.heatmap(net, images, labels, eps=4.0, size=15), every=5)
        >>> tracker.watches["heatmap"].history.plot()

        Args:
            name: of what is watched.
            measurement: network in evaluation mode -> a result of the toolkit, or a dict of floats such as norms.
            every: steps between two of them.
            path: of its file; None for one beside the tracker's, ``STEM-NAME.npz``, where that has one.

        Returns:
            The watch; its `history` is a `MeasurementHistory`.

        Raises:
            ValueError: a name or a file that is taken.
        """
        if name in self.watches:
            raise ValueError(f"expected a name of its own for each watch, {name!r} is taken")
        own = self._recording.path
        if path is None and own is not None:
            path = own.with_name(re.sub(r"[/\\\0]", "-", f"{own.stem}-{name}{own.suffix}"))
        taken = {own, *(watch.path for watch in self.watches.values())} - {None}
        if path is not None and Path(path).absolute() in taken:
            raise ValueError(f"expected a file of its own for each watch, {path} is taken")
        self.watches[name] = Watch(name, measurement, every=every, path=path)
        return self.watches[name]

    # ---------------------------------------------------------------- what was found
    @property
    def history(self) -> FrequencyHistory:
        """All that was recorded, as a result."""
        return self._history_of(self._recording.records)

    @property
    def histories(self) -> dict[str, FrequencyHistory | MeasurementHistory]:
        """The history and those of what is watched, by name, as a report takes them."""
        watched = {name: watch.history for name, watch in self.watches.items()}
        return {"frequencies": self.history, **watched}

    def flush(self) -> None:
        """Write what was recorded to the files, where there are any."""
        self._recording.flush()
        for watch in self.watches.values():
            watch.flush()

    def lightning_callback(self, *, when: str = "epoch") -> Any:
        """A callback for `lightning.Trainer(callbacks=[...])` that looks after each epoch, or each training step.

        Raises:
            ImportError: lightning is not installed.
            ValueError: `when` is neither "epoch" nor "step".
        """
        from . import callbacks

        return callbacks.lightning_callback(self, when=when)

    def transformers_callback(self, *, when: str = "epoch") -> Any:
        """A callback for `transformers.Trainer(callbacks=[...])` that looks after each epoch, or each training step.

        Raises:
            ImportError: transformers is not installed.
            ValueError: `when` is neither "epoch" nor "step".
        """
        from . import callbacks

        return callbacks.transformers_callback(self, when=when)

    def _same(self) -> dict[str, Any]:
        """What histories must share before they are one."""
        return {
            "probes": self._probes.fingerprint,
            "response": self._probes.response,
            "settings": {name: split.settings for name, split in self._splits.items()},
            "labels": {name: split.labels for name, split in self._splits.items()},
        }

    def _history_of(self, records: dict[int, _Record]) -> FrequencyHistory:
        some = [records[step] for step in sorted(records)]
        return FrequencyHistory(
            details={"model": self._network.partition(" ")[0], "torch": str(torch.__version__)},
            **self._same(),
            network=self._network,
            radii=self._each(lambda split: split.radii),
            amplitudes=self._each(lambda split: split.amplitudes),
            widths=self._each(lambda split: split.widths),
            self_weights=self._each(lambda split: split.self_weights),
            high_shares=self._each(lambda split: split.high_shares),
            steps=np.array(sorted(records), np.int64),
            run_ids=np.array([self._run]),
            errors={n: _stacked(some, n, "errors", len(s.labels)) for n, s in self._splits.items()},
            magnitude_errors={
                n: _stacked(some, n, "magnitude_errors", len(s.labels))
                for n, s in self._splits.items()
                if not len(s.widths)
            },
            parts={n: _stacked(some, n, "parts", 2) for n in self._splits},
            total_errors=np.array([r.total_error for r in some], np.float64)[:, None],
            losses=np.array([r.loss for r in some], np.float64)[:, None],
        )

    def _each(self, of: Callable[[Split], Any]) -> dict[str, Any]:
        return {name: of(split) for name, split in self._splits.items()}

    def _restored(self, before: FrequencyHistory) -> dict[int, _Record]:
        """The records of a file, which must be of this very tracker.

        Raises:
            ValueError: it is of another.
        """
        for name, value in [*self._same().items(), ("run_ids", np.array([self._run]))]:
            try:
                conflict(name, value, getattr(before, name))
            except ValueError as error:
                raise ValueError(
                    f"expected a file of this very tracker, it is of another: {error}; name another file"
                ) from error
        self._network = before.network
        found: dict[int, _Record] = {}
        for i, step in enumerate(before.steps.tolist()):
            readings = {}
            for name in self._splits:
                magnitudes = before.magnitude_errors.get(name)
                moduli = None if magnitudes is None else magnitudes[i, :, 0]
                readings[name] = Reading(before.errors[name][i, :, 0], moduli, before.parts[name][i, :, 0])
            found[step] = _Record(float(before.losses[i, 0]), float(before.total_errors[i, 0]), readings)
        return found


class _Record:
    """What one look found."""

    def __init__(self, loss: float, total_error: float, readings: dict[str, Reading]) -> None:
        self.loss, self.total_error, self.readings = loss, total_error, readings


def _stacked(records: Sequence[_Record], measure: str, field: str, rows: int) -> Any:
    """(s, rows, 1)."""
    found = [getattr(record.readings[measure], field) for record in records]
    return np.array(found, np.float64).reshape(len(found), rows, 1)


def _chosen(measures: Measures) -> list[Measure]:
    given = [measures] if isinstance(measures, (str, Measure)) else numbers.sequence("measures", measures)
    found: list[Measure] = []
    for each in given:
        if isinstance(each, str) and each not in _BY_NAME:
            raise ValueError(f"expected a measure of {list(_BY_NAME)}, got {each!r}")
        measure = _BY_NAME[each]() if isinstance(each, str) else each
        if not isinstance(measure, Measure):
            raise TypeError(f"expected measures as names or an ExactDFT, Projection or Filtering, got {measure!r:.60}")
        found.append(measure)
    names = [measure.name for measure in found]
    if not found or len(set(names)) < len(names):
        raise ValueError(f"expected measures, each kind once, got {names}; give each its own tracker")
    return found


def _finite_loss(loss: Any) -> float:
    given = loss.reshape(()) if isinstance(loss, Tensor) and loss.numel() == 1 else loss
    try:
        return numbers.as_float("loss", given)
    except ValueError as error:
        raise FloatingPointError(f"{error}: training has diverged") from error


def _from_one(name: str, value: Any) -> int:
    number = numbers.as_int(name, value)
    if number < 1:
        raise ValueError(f"expected `{name}` from 1, got {number}")
    return number

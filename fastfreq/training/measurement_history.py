"""Any measurement of the toolkit, taken again and again during training."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import nn

from fastfreq.engine.ranks import apart
from fastfreq.results import codec, registry, store
from fastfreq.results.folds import same, union
from fastfreq.results.result import Result
from fastfreq.vocabulary import numbers

from . import _surroundings
from ._recording import Recording

FloatArray = NDArray[np.float64]
Entry = Result | dict[str, float]
_FIGURES = "figures"  # the kind of entries that are plain figures


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class MeasurementHistory(Result, kind="measurement_history"):
    """Results of one measurement by step of a training.

    ``a + b`` merges histories of one name and kind that share no step. ``history[step]`` is the result there.

    Attributes:
        name: of what was watched.
        measured: kind of the results; "figures" for plain ones by name.
        entries: step -> result, or figures by name.
    """

    name: str = same()
    measured: str = same()
    entries: dict[int, Any] = union()

    @property
    def steps(self) -> NDArray[np.int64]:
        """(s,) of training, ascending."""
        return np.array(sorted(self.entries), np.int64)

    def __getitem__(self, step: int) -> Any:
        """The result at a step.

        Raises:
            KeyError: nothing was measured there.
        """
        if step not in self.entries:
            raise KeyError(f"expected a step that was measured, one of {self.steps.tolist()}, got {step}")
        return self.entries[step]

    def columns(self) -> list[str]:
        """Names of the figures that `series` follows."""
        if self.measured == _FIGURES:
            return ["value"]
        rows = self._rows(int(self.steps[-1])) if len(self.entries) else []
        first = rows[0] if rows else {}
        found = [name for name, value in first.items() if isinstance(value, float)]
        return [n for n in found if not n.endswith(("_low", "_high", "_from", "_to"))] or found

    def row_name(self) -> str:
        """What rows are called in the results' summaries, such as "layer"; "" where there are none."""
        rows = self._rows(int(self.steps[-1])) if len(self.entries) else []
        return str(next(iter(rows[0]))).replace("_", " ") if rows and self.measured != _FIGURES else ""

    def main_column(self) -> str:
        """The first of `columns` that is no axis: not the same at every step, unless all are.

        Raises:
            ValueError: the results have no figures in their summary.
        """
        known = self.columns()
        if not known:
            raise ValueError(f"expected results with figures to follow, a {self.measured} has none in its summary")
        every = self._every()
        moving = (name for name in known if _moves(_collected(every, name)[1]))
        return next(moving, known[-1])

    def series(self, column: str | None = None) -> tuple[list[str], FloatArray]:
        """(names of rows (K), (s, K) figures) of one column of the results' summaries; NaN where a row is missing.

        Args:
            column: of `columns`; None for `main_column`.

        Raises:
            ValueError: no such column, or no figures at all.
        """
        name = self.main_column() if column is None else column
        if name not in self.columns():
            raise ValueError(f"expected a column of {self.columns()}, got {column!r}")
        return _collected(self._every(), name)

    def _every(self) -> dict[int, list[dict[str, Any]]]:
        return {step: self._rows(step) for step in self.steps.tolist()}

    def _rows(self, step: int) -> list[dict[str, Any]]:
        entry = self.entries[step]
        if isinstance(entry, dict):
            return [{"row": name, "value": float(value)} for name, value in entry.items()]
        return entry.summary()

    # ---------------------------------------------------------------- out of the toolkit
    def table(self) -> list[dict[str, Any]]:
        """The rows of every result's table, with their step."""
        rows = []
        for step in self.steps.tolist():
            entry = self.entries[step]
            given = self._rows(step) if isinstance(entry, dict) else entry.table()
            rows += [{"step": step, **row} for row in given]
        return rows

    def summary(self) -> list[dict[str, Any]]:
        """One row per row of the results' summaries: what it was first and last."""
        if not self.entries:
            return []
        try:
            labels, values = self.series()
        except ValueError:  # results without figures
            return [{"step": step, "headline": self.entries[step].headline()} for step in self.steps.tolist()]
        return [
            {"row": label, "first": float(first), "last": float(last)}
            for label, first, last in zip(labels, values[0], values[-1], strict=True)
        ]

    def headline(self) -> str:
        """What was measured, when, and the last result in a line."""
        if not self.entries:
            return f"{self.measured or 'nothing'}, not measured yet"
        last = self.entries[int(self.steps[-1])]
        said = "" if isinstance(last, dict) else f": {last.headline()}"
        return f"{self.measured} at {len(self.entries)} steps from {self.steps[0]} to {self.steps[-1]}{said}"

    def save(self, path: str | Path) -> None:
        """Write everything to an .npz without pickle, all or nothing."""
        fields = {"details": self.details, "name": self.name, "measured": self.measured}
        header, arrays = codec.encode(fields)
        inner = {}
        for step in self.steps.tolist():
            entry = self.entries[step]
            given = {"figures": entry} if isinstance(entry, dict) else _fields(entry)
            own, theirs = codec.encode(given)
            inner[str(step)] = own
            arrays |= {f"{step}:{name}": array for name, array in theirs.items()}
        store.write_arrays(path, self.kind, {**header, "entries": inner}, arrays)

    @classmethod
    def from_arrays(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """What `save` wrote.

        Raises:
            ValueError: fields are missing, or do not fit each other.
        """
        fields = codec.decode(header, arrays)
        inner = header.get("entries")
        texts = (fields.get("name"), fields.get("measured"))
        if not isinstance(inner, dict) or not all(isinstance(text, str) for text in texts):
            raise ValueError("expected a name, a kind and entries by step")
        entries: dict[int, Any] = {}
        for text, own in inner.items():
            if not text.lstrip("-").isdecimal() or not isinstance(own, dict):
                raise ValueError(f"expected entries by step, got {text!r:.40}")
            theirs = {k.partition(":")[2]: v for k, v in arrays.items() if k.partition(":")[0] == text}
            if fields["measured"] == _FIGURES:
                entries[int(text)] = _figures(codec.decode(own, theirs).get("figures"))
            else:
                entries[int(text)] = registry.result_class(fields["measured"]).from_arrays(own, theirs)
        details = fields.get("details")
        if not isinstance(details, dict):
            raise ValueError("expected `details` as text by name")
        return cls(details=details, name=fields["name"], measured=fields["measured"], entries=entries)


class Watch:
    """A measurement that is taken at steps of a training.

    Args:
        name: of what is watched.
        measurement: network in evaluation mode -> a result of the toolkit, or a dict of floats.
        every: steps between two of them.
        path: of a file that is written as results come, and gone on with where it is there.

    Attributes:
        seconds: that measurements have taken.

    Raises:
        TypeError: no function, or a name that is no text.
        ValueError: a file of something else.
    """

    def __init__(
        self,
        name: str,
        measurement: Callable[[nn.Module], Any],
        *,
        every: int = 1,
        path: str | Path | None = None,
    ) -> None:
        if not callable(measurement):
            raise TypeError(f"expected `measurement` as a function of the network, got {type(measurement).__name__}")
        if not isinstance(name, str) or not name:
            raise TypeError(f"expected `name` as text, got {name!r}")
        self.name, self._measurement = name, measurement
        self._every = numbers.as_int("every", every)
        if self._every < 1:
            raise ValueError(f"expected `every` from 1, got {self._every}")
        self._measured = ""
        self.seconds = 0.0
        self._recording: Recording[Entry] = Recording(
            path, kind=MeasurementHistory.kind, result=self._history_of, restore=self._restored
        )

    @property
    def path(self) -> Path | None:
        """Of its file."""
        return self._recording.path

    @property
    def history(self) -> MeasurementHistory:
        """All that was measured, as a result."""
        return self._history_of(self._recording.records)

    def step(self, model: nn.Module, step: int) -> dict[str, float]:
        """Measure where it is due.

        Returns:
            Name -> figure, for a logger, where the measurement gives plain figures; else empty.

        Raises:
            TypeError: a measurement that gives neither a result nor figures.
            ValueError: results of another kind than before, or a step that does not follow the last one.
        """
        step = numbers.as_int("step", step)
        if step % self._every:
            return {}
        step = self._recording.check(step)
        start = time.perf_counter()
        try:
            network = _surroundings.unwrapped(model)
            # each process by itself: batch norm differs between them, and perhaps only one of them looks
            with _surroundings.left_as_it_was(network), apart(), warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="the model is right on")  # chance is where training begins
                found = self._measurement(network)
            entry, measured = _entry(found)
            if self._measured not in ("", measured):
                raise ValueError(
                    f"expected results of kind {self._measured!r} as at the steps before, got {measured!r}"
                )
        except BaseException as error:
            self.flush()
            error.add_note(f"{self.name!r} at step {step}; {self._recording.kept()}")
            raise
        finally:
            self.seconds += time.perf_counter() - start
        self._measured = measured
        self._recording.add(step, entry)
        return {f"{self.name}/{k}": v for k, v in entry.items()} if isinstance(entry, dict) else {}

    def flush(self) -> None:
        """Write what was measured to the file, where there is one."""
        self._recording.flush()

    def _history_of(self, records: dict[int, Entry]) -> MeasurementHistory:
        first = next(iter(records.values()), None)
        details = {} if first is None or isinstance(first, dict) else first.details
        model = {"model": details["model"]} if "model" in details else {}
        return MeasurementHistory(details=model, name=self.name, measured=self._measured, entries=dict(records))

    def _restored(self, before: MeasurementHistory) -> dict[int, Entry]:
        if before.name != self.name:
            raise ValueError(f"expected a file of {self.name!r}, it is of {before.name!r}; name another file")
        self._measured = before.measured
        return dict(before.entries)


def _entry(found: Any) -> tuple[Entry, str]:
    if isinstance(found, Result):
        return found, found.kind
    if isinstance(found, Mapping):
        return _figures({str(k): numbers.as_float(str(k), v) for k, v in found.items()}), _FIGURES
    raise TypeError(f"expected a result of the toolkit or a dict of floats to keep, got {type(found).__name__}")


def _figures(given: Any) -> dict[str, float]:
    if not isinstance(given, dict) or not all(isinstance(v, float) for v in given.values()):
        raise ValueError("expected figures by name")
    return given


def _fields(result: Result) -> dict[str, Any]:
    return {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}


def _collected(every: dict[int, list[dict[str, Any]]], column: str) -> tuple[list[str], FloatArray]:
    """(names of rows, (s, K) values of a column)."""
    places: dict[str, int] = {}
    cells: list[tuple[int, int, float]] = []
    for s, rows in enumerate(every.values()):
        seen: dict[str, int] = {}
        for row in rows:
            label = next(iter(row.values()))
            name = f"{label:g}" if isinstance(label, float) else str(label)
            seen[name] = seen.get(name, 0) + 1
            name = name if seen[name] == 1 else f"{name} ({seen[name]})"
            value = row.get(column)
            cells.append((s, places.setdefault(name, len(places)), float("nan") if value is None else float(value)))
    values = np.full((len(every), len(places)), np.nan)
    for s, k, value in cells:
        values[s, k] = value
    return list(places), values


def _moves(values: FloatArray) -> bool:
    """Whether a column changes from step to step: frequencies, radii and norms of what was added do not."""
    return len(values) > 1 and not np.allclose(values, values[:1], equal_nan=True)

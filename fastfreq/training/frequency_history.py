"""What a `FrequencyTracker` recorded: how far a network was from its target at each frequency, step by step."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from fastfreq.results.folds import by_image, condition, same, text
from fastfreq.results.result import Result
from fastfreq.vocabulary import numbers

FloatArray = NDArray[np.float64]
Mode = Literal["complex", "magnitude"]
MEASURES = ("dft", "projection", "filtering")


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class FrequencyHistory(Result, kind="frequency_history"):
    """Relative errors by step, frequency and run of a training, of one or several measures.

    ``a + b`` merges histories on the same probes: other steps of the same runs (a run that went on), or other runs,
    such as seeds, at the same steps. Probes do not come in shards: a filter needs all of them at once.

    Dicts are by measure: "dft", "projection", "filtering". A measure has K rows: frequencies, bands of them, or the
    low and the high part at each width of a filter.

    Attributes:
        probes: fingerprint of inputs and targets.
        network: fingerprint of the network's class and the names and shapes of its weights.
        response: what was done to outputs before they were compared: "raw", "softmax" or a function's name.
        settings: measure -> what was asked of it, in words.
        labels: measure -> (K) names of its rows.
        radii: measure -> (K,) frequency of each row: cycles per grid ("dft"), per range of the projection, or the
            cut-off 1 / (2 pi sqrt(delta)) in cycles per unit of the inputs ("filtering").
        amplitudes: measure -> (K,) of the target.
        widths: measure -> (d,) delta of each filter, a variance; empty for other measures.
        self_weights: measure -> (d,) mean weight that a filter gives to a probe itself; above .05 it hardly filters.
        high_shares: measure -> (d,) norm of the target's high part over the target's; 0.3 to 0.9 is a split.
        steps: (s,) of training, ascending.
        run_ids: (r,) numbers of the runs, ascending.
        errors: measure -> (s, K, r) ||h - f|| / ||f|| of the row's coefficients, phases counted.
        magnitude_errors: measure -> (s, K, r) || |h| - |f| || / ||f||, as the authors' code has it; not of filters.
        parts: measure -> (s, 2, r) squared relative error below and above the frequency that halves the target.
        total_errors: (s, r) ||h - f|| / ||f|| on the probes themselves.
        losses: (s, r) that the training loop gave; NaN where it gave none.
    """

    SHAPES: ClassVar[dict[str, str]] = {
        "steps": "s", "run_ids": "r", "errors": "s _ r", "magnitude_errors": "s _ r", "parts": "s 2 r",
        "total_errors": "s r", "losses": "s r",
    }  # fmt: skip

    items = "run"
    probes: str = same()
    network: str = same()
    response: str = same()
    settings: dict[str, str] = same()
    labels: dict[str, tuple[str, ...]] = same()
    radii: dict[str, FloatArray] = text()  # what follows from the probes may differ in its last digit by machine
    amplitudes: dict[str, FloatArray] = text()
    widths: dict[str, FloatArray] = text()
    self_weights: dict[str, FloatArray] = text()
    high_shares: dict[str, FloatArray] = text()
    steps: NDArray[np.int64] = condition()
    run_ids: NDArray[np.int64] = by_image()
    errors: dict[str, FloatArray] = by_image(conditions=0)
    magnitude_errors: dict[str, FloatArray] = by_image(conditions=0)
    parts: dict[str, FloatArray] = by_image(conditions=0)
    total_errors: FloatArray = by_image(conditions=0)
    losses: FloatArray = by_image(conditions=0)

    def _check_shapes(self) -> None:
        """Refuse steps and runs out of order, and rows without a name too."""
        super()._check_shapes()
        if not (np.diff(self.steps) > 0).all() or not (np.diff(self.run_ids) > 0).all():
            raise ValueError("expected `steps` and `run_ids` ascending, each once")
        for name, labels in self.labels.items():
            count = (len(self.steps), len(labels), len(self.run_ids))
            shapes = [field[name].shape for field in (self.errors, self.magnitude_errors) if name in field]
            rows = [field.get(name, np.zeros(0)).shape for field in (self.radii, self.amplitudes)]
            if name not in self.errors or name not in self.parts or {*shapes} != {count} or {*rows} != {(count[1],)}:
                raise ValueError(f"expected {len(labels)} rows of {name!r} in every field, got {shapes}, {rows}")

    # ---------------------------------------------------------------- figures
    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the measures."""
        return tuple(self.labels)

    def error(self, measure: str, *, mode: Mode = "complex") -> FloatArray:
        """(s, K, r) relative error Delta_F of each row.

        Args:
            measure: a name of `measures`.
            mode: "complex" compares coefficients with their phases, |h - f| / |f|; "magnitude" their moduli alone,
                ||h| - |f|| / |f|, the authors' code, which is blind to shifts.

        Raises:
            KeyError: no such measure.
            ValueError: another mode, or magnitudes of a filter, which has none.

        Source: Xu, Zhang, Luo, Xiao, Ma 2020, "Frequency Principle: Fourier Analysis Sheds Light on Deep Neural
            Networks".
        """
        self._known(measure)
        if mode not in ("complex", "magnitude"):
            raise ValueError(f"expected `mode` 'complex' or 'magnitude', got {mode!r}")
        if mode == "magnitude" and measure not in self.magnitude_errors:
            raise ValueError(f"expected a measure that has phases for mode='magnitude', {measure!r} has none")
        return self.errors[measure] if mode == "complex" else self.magnitude_errors[measure]

    def low_high(self, measure: str = "filtering") -> tuple[FloatArray, FloatArray]:
        """(e_low, e_high), each (s, d, r), of a filter at each width.

        Raises:
            KeyError: no such measure.
            ValueError: it is no filter.
        """
        self._known(measure)
        count = len(self.widths[measure])
        if not count:
            raise ValueError(f"expected a filter, {measure!r} has no widths")
        return self.errors[measure][:, :count], self.errors[measure][:, count:]

    def meaningful(self, measure: str = "filtering") -> NDArray[np.bool_]:
        """(d,) whether a filter splits at each width: mean self-weight below .05, high part .3 to .9 of the norm."""
        self._known(measure)
        share = self.high_shares[measure]
        return (self.self_weights[measure] < 0.05) & (share > 0.3) & (share < 0.9)

    def spectral_bias(self, measure: str) -> FloatArray:
        """(s, r) SB = (E_high - E_low) / (E_high + E_low), from -1 to 1: positive where low frequencies are ahead.

        E is the squared error of a part over the target's energy there. Low and high part meet at the frequency that
        divides the target's energy, its mean left out, into halves as nearly as the frequencies at hand allow; for a
        filter, at the width whose high part has nearly half the energy. An untrained network that returns zero has
        SB = 0. NaN where one part is empty.

        Source: Kiessling, Thor 2022, "A Computable Definition of the Spectral Bias"; the halves, and parts by a
            Gaussian filter in place of their sinc, are our reading.
        """
        self._known(measure)
        low, high = self.parts[measure][:, 0], self.parts[measure][:, 1]
        with np.errstate(invalid="ignore"):
            return (high - low) / (high + low)

    def first_hit(self, measure: str, *, tolerance: float = 0.2, hold: int = 10, mode: Mode = "complex") -> FloatArray:
        """(K, r) the first step from which on the error stays below `tolerance` for `hold` records; NaN where none.

        Raises:
            ValueError: a tolerance or hold that is not positive.
        """
        if not tolerance > 0 or numbers.as_int("hold", hold) < 1:
            raise ValueError(f"expected a positive `tolerance` and a `hold` from 1, got {tolerance} and {hold}")
        below = self.error(measure, mode=mode) < tolerance
        found = np.full(below.shape[1:], np.nan)
        if len(below) < hold:
            return found
        windows = np.lib.stride_tricks.sliding_window_view(below, hold, axis=0).all(axis=-1)
        hit = windows.any(axis=0)
        found[hit] = self.steps[windows.argmax(axis=0)[hit]]
        return found

    def _known(self, measure: str) -> None:
        if measure not in self.labels:
            raise KeyError(f"expected a measure of {list(self.labels)}, got {measure!r}")

    # ---------------------------------------------------------------- out of the toolkit
    def table(self) -> list[dict[str, Any]]:
        """One row for each measure, row of it, run and step."""
        rows = []
        for measure, labels in self.labels.items():
            bias = self.spectral_bias(measure)
            for k, label in enumerate(labels):
                for r, run in enumerate(self.run_ids.tolist()):
                    for s, step in enumerate(self.steps.tolist()):
                        row: dict[str, Any] = {"measure": measure, "row": label}
                        row |= {"frequency": float(self.radii[measure][k]), "run": run, "step": step}
                        row |= {"error": float(self.errors[measure][s, k, r]), "spectral_bias": float(bias[s, r])}
                        rows.append(row | {"total_error": float(self.total_errors[s, r])})
        return rows

    def summary(self) -> list[dict[str, Any]]:
        """One row for each measure, row of it and run: when it was learned, and how well at the end."""
        hold = min(10, max(1, len(self.steps) // 10))
        rows = []
        for measure, labels in self.labels.items():
            hits = self.first_hit(measure, hold=hold)
            for k, label in enumerate(labels):
                for r, run in enumerate(self.run_ids.tolist()):
                    row: dict[str, Any] = {"measure": measure, "row": label}
                    row |= {"frequency": float(self.radii[measure][k]), "run": run}
                    row |= {"target": float(self.amplitudes[measure][k]), "first_below_0.2": float(hits[k, r])}
                    ends = self.errors[measure][[0, -1], k, r] if len(self.steps) else np.full(2, np.nan)
                    rows.append(row | {"first_error": float(ends[0]), "last_error": float(ends[1])})
        return rows

    def headline(self) -> str:
        """Steps, runs, and in how many records the low part was ahead."""
        if not len(self.steps):
            return "nothing recorded yet"
        runs = f", {len(self.run_ids)} runs" if len(self.run_ids) > 1 else ""
        said = [f"steps {self.steps[0]} to {self.steps[-1]}{runs}"]
        for measure in self.labels:
            low, high = self.parts[measure][:, 0], self.parts[measure][:, 1]
            known = np.isfinite(low) & np.isfinite(high)
            if known.any():
                said.append(f"{measure}: low frequencies ahead in {(low < high)[known].mean():.0%} of the records")
        return ", ".join(said)

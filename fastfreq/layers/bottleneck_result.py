"""What the convolution bottleneck of a network is: the singular values it keeps, at which frequencies, at what cost."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastfreq.results import codec, registry
from fastfreq.results.folds import same
from fastfreq.results.result import Result

from .layer_activations import LayerActivations
from .layer_singular_values import LayerSingularValues
from .singular_values import SingularValues

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Frequency = tuple[int, ...]


@codec.record
@dataclasses.dataclass(frozen=True, eq=False)
class KeptValues:
    """Which singular values of a layer stand above the gap.

    Attributes:
        counts: (f,) values kept at each distinct frequency of the layer's spectrum.
        threshold: values above it are kept; the geometric mean of the two sides of the gap.
        gap: last value kept / first value not kept; inf where that one is zero, 1 where no gap was found.
        margin: half the difference of these two: no change of the weights whose spectral norm is below it changes
            how many values are kept (Weyl).
        found: whether a gap was found; if not, every value above the floor counts as kept.
    """

    SHAPES: ClassVar[dict[str, str]] = {"counts": "_"}

    counts: IntArray
    threshold: float
    gap: float
    margin: float
    found: bool


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Bottleneck(Result, kind="bottleneck"):
    """The singular values of a network by layer and frequency, and which of them its layers keep.

    Attributes:
        spectrum: the singular values of every layer, pooling, stride and folded batch norm included.
        kept: layer -> what stands above the gap.
        pooling: layer -> (f,) eigenvalue m_w of the pooling before it, included in its singular values; 1 without.
        norms: layer -> (||W||_F^2, ||b||^2) of its own parameters.
        activations: layer -> its input's second moments by frequency and how they lie to what the layer keeps; empty
            where no images were given.
        blocks: names of those entries of `spectrum` that are residual branches, or branches plus identity.
    """

    spectrum: SingularValues = same()
    kept: dict[str, KeptValues] = same()
    pooling: dict[str, FloatArray] = same()
    norms: dict[str, tuple[float, float]] = same()
    activations: dict[str, LayerActivations] = same()
    blocks: tuple[str, ...] = same(())

    def _check_shapes(self) -> None:
        super()._check_shapes()
        for name in self.spectrum:
            f = len(self.spectrum[name].distinct)
            for field, shape in (("kept", self.kept[name].counts.shape), ("pooling", self.pooling[name].shape)):
                if shape != (f,):
                    raise ValueError(f"expected `{field}` of {name} of shape ({f},), got {shape}")

    # ---------------------------------------------------------------- layers
    @property
    def layers(self) -> list[str]:
        """Names of the layers in order of execution, residual branches left out."""
        return [name for name in self.spectrum if name not in self.blocks]

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self.layers)

    def kept_frequencies(self, layer: str) -> dict[Frequency, int]:
        """Channels kept at each frequency of a layer that keeps any: signed cycles per image, k and -k both."""
        return _by_frequency(self.spectrum[layer], self.kept[layer].counts)

    def rank(self, layer: str) -> float:
        """sum_w m_w^-2 k_w over all frequencies of the layer's grid: its CBN rank."""
        return weighted_rank(self.spectrum[layer].multiplicity, self.kept[layer].counts, self.pooling[layer])

    # ---------------------------------------------------------------- the network
    @property
    def middle(self) -> list[str]:
        """The layers between the first and the last quarter, at least one: where a bottleneck shows."""
        names = self.layers
        quarter = len(names) // 4
        return names[quarter : len(names) - quarter] or names

    @property
    def network_kept(self) -> dict[Frequency, int]:
        """k_w: at each frequency the number of channels that most middle layers keep; of equals the smaller.

        A layer on a reduced grid has no say about frequencies that its grid does not have.
        """
        every = {name: self.kept_frequencies(name) for name in self.middle}
        wanted = sorted({k for kept in every.values() for k in kept}, key=_low_first)
        if not wanted:
            return {}
        modes = _modes(np.stack([self._counts(name, wanted) for name in self.middle]))
        return {k: int(count) for k, count in zip(wanted, modes, strict=True) if count > 0}

    def _counts(self, layer: str, frequencies: list[Frequency]) -> IntArray:
        """(f,) channels that a layer keeps at signed frequencies, -1 where its grid does not have them."""
        spectrum = self.spectrum[layer]
        here = np.array([len(k) == len(spectrum.grid) for k in frequencies])
        counts = np.full(len(frequencies), -1)
        if here.any():
            k, n = np.array([k for k, own in zip(frequencies, here, strict=True) if own]), np.asarray(spectrum.grid)
            inside = ((k + n // 2) % n - n // 2 == k).all(axis=1)
            found = self.kept[layer].counts[spectrum.cells[tuple((k % n).T)]]
            counts[here] = np.where(inside, found, -1)
        return counts

    @property
    def rank_cbn(self) -> float:
        """sum_w m_w^-2 k_w with the `network_kept` k_w, and m_w of the middle layers: the network's CBN rank."""
        return self._rank_of(self.network_kept)

    def _rank_of(self, kept: dict[Frequency, int]) -> float:
        total = 0.0
        for frequency, count in kept.items():
            name = next(name for name in self.middle if _has(self.spectrum[name].grid, frequency))
            grid = self.spectrum[name].grid
            row = self.spectrum[name].cells[tuple(k % n for k, n in zip(frequency, grid, strict=True))]
            total += count / float(self.pooling[name][row]) ** 2
        return total

    @property
    def squared_parameter_norm(self) -> float:
        """||theta||^2 = sum over layers of ||W_l||_F^2 + ||b_l||^2, batch norm not folded in."""
        return sum(weight + bias for weight, bias in self.norms.values())

    # ---------------------------------------------------------------- out of the toolkit
    def table(self) -> list[dict[str, Any]]:
        """One row per layer, in order of execution.

        Keys: layer, grid, kept (values, multiplicities counted), of, frequencies (that keep any), rank, gap,
        gap_found, threshold, margin, norm (spectral), stable_rank, weight_norm, bias_norm, exact; with images also
        energy_kept, energy_top, output_kept, activation_rank and angle, which are `kept_share`, `top_share`,
        `output_share`, `mean_effective_rank` and `mean_angle` (radians) of `LayerActivations`.
        """
        rows = []
        for name, spectrum in self.spectrum.layers.items():
            kept, seen = self.kept[name], self.activations.get(name)
            weight, bias = self.norms.get(name, (math.nan, math.nan))
            rows.append(
                {
                    "layer": name,
                    "grid": spectrum.grid,
                    "kept": int(spectrum.multiplicity @ kept.counts),
                    "of": spectrum.count,
                    "frequencies": int(spectrum.multiplicity @ (kept.counts > 0)),
                    "rank": self.rank(name),
                    "gap": kept.gap,
                    "gap_found": kept.found,
                    "threshold": kept.threshold,
                    "margin": kept.margin,
                    "norm": spectrum.norm,
                    "stable_rank": spectrum.stable_rank,
                    "weight_norm": weight,
                    "bias_norm": bias,
                    "exact": spectrum.exact,
                }
                | (_seen(seen) if self.activations else {})
            )
        return rows

    def summary(self) -> list[dict[str, Any]]:
        """The columns of `table` that say most, for terminals and pages."""
        names = ["layer", "grid", "kept", "of", "frequencies", "gap", "norm", "stable_rank"]
        names += ["energy_kept", "output_kept", "activation_rank"] if self.activations else []
        rows = self.table()
        shown = {round(i) for i in np.linspace(0, len(rows) - 1, min(len(rows), 40))}  # evenly, of very deep ones
        return [{name: row[name] for name in names} for i, row in enumerate(rows) if i in shown]

    @property
    def skipped(self) -> tuple[tuple[str, str, str], ...]:
        """(name, kind, reason) of what has weights and is not in the result."""
        return self.spectrum.skipped

    @property
    def left_out(self) -> tuple[str, ...]:
        """What has weights and is not in the result, counted by kind and reason; normalisation aside."""
        reasons = Counter((kind, reason.partition(";")[0]) for _, kind, reason in self.spectrum.skipped)
        return tuple(
            f"{count} {kind} ({reason})"
            for (kind, reason), count in reasons.items()
            if not reason.startswith("normalisation")
        )

    def in_words(self) -> str:
        """What the middle layers keep, and what was left out, in a sentence or two."""
        left = f"; left out: {', '.join(self.left_out)}" if self.left_out else ""
        return self._kept_in_words() + left

    def _kept_in_words(self) -> str:
        found = sum(self.kept[name].found for name in self.middle)
        if 2 * found <= len(self.middle):
            return f"no bottleneck: {found} of {len(self.middle)} middle layers have a gap in their singular values"
        kept = self.network_kept
        first = ", ".join(f"{count} at {k}" for k, count in list(kept.items())[:6])
        more = f" and at {len(kept) - 6} more frequencies" if len(kept) > 6 else ""
        return f"channels that most middle layers keep: {first or 'none'}{more}; rank {self._rank_of(kept):.4g}"

    def plot_activations(self) -> Any:
        """By layer: the input's energy by frequency, the part in what the layer keeps, angles and effective rank.

        Raises:
            ValueError: a result that was measured without images.
        """
        return registry.plotter("layer_activations")(self)

    def headline(self) -> str:
        """What the middle layers keep."""
        return self.in_words()

    @classmethod
    def from_format_1(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Bottleneck:
        """What version 0.1 wrote."""
        spectrum = SingularValues.from_format_1(header, arrays)
        place = {name: i for i, name in enumerate(spectrum)}
        return cls(
            details=spectrum.details,
            spectrum=spectrum,
            kept={
                name: KeptValues(counts=arrays[f"{i}/counts"], **header["kept"][name]) for name, i in place.items()
            },
            pooling={name: arrays[f"{i}/pooling"] for name, i in place.items()},
            norms={name: (weight, bias) for name, (weight, bias) in header["norms"].items()},
            activations={
                name: LayerActivations(images=header["images"][name], **_below(arrays, f"{i}/seen/"))
                for name, i in place.items()
                if name in header["images"]
            },
            blocks=tuple(header["blocks"]),
        )  # fmt: skip


def _seen(seen: LayerActivations | None) -> dict[str, float]:
    names = {
        "energy_kept": "kept_share",
        "energy_top": "top_share",
        "output_kept": "output_share",
        "activation_rank": "mean_effective_rank",
        "angle": "mean_angle",
    }
    return {key: math.nan if seen is None else getattr(seen, name) for key, name in names.items()}


def _below(arrays: dict[str, NDArray[Any]], start: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}


def weighted_rank(multiplicity: IntArray, counts: IntArray, pooling: FloatArray) -> float:
    """sum_w m_w^-2 k_w over all frequencies; one that the pooling removes (m = 0) keeps nothing and costs nothing."""
    some = counts > 0
    return float((multiplicity[some] * counts[some] / np.square(pooling[some])).sum())


def signed(frequency: Frequency, grid: tuple[int, ...]) -> Frequency:
    """The frequency with every entry from -floor(n / 2) to ceil(n / 2) - 1."""
    return tuple((k + n // 2) % n - n // 2 for k, n in zip(frequency, grid, strict=True))


def _by_frequency(spectrum: LayerSingularValues, counts: IntArray) -> dict[Frequency, int]:
    every = counts[spectrum.cells]
    found, n = np.argwhere(every > 0), np.asarray(spectrum.grid)
    frequencies = (found + n // 2) % n - n // 2
    order = np.lexsort([*frequencies.T[::-1], np.square(frequencies).sum(axis=1)])
    values = every[tuple(found.T)][order].tolist()
    return dict(zip(map(tuple, frequencies[order].tolist()), values, strict=True))


def _has(grid: tuple[int, ...], frequency: Frequency) -> bool:
    return len(grid) == len(frequency) and signed(frequency, grid) == frequency


def _low_first(frequency: Frequency) -> tuple[int, Frequency]:
    return sum(k * k for k in frequency), frequency


def _modes(counts: IntArray) -> IntArray:
    """(f,) most frequent entry of each column of (layers, f), of equals the smaller; entries of -1 have no vote."""
    votes = np.stack([np.where(row >= 0, (counts == row).sum(axis=0), -1) for row in counts])
    most = votes.max(axis=0)
    return np.where(votes == most, counts, np.iinfo(np.int64).max).min(axis=0)

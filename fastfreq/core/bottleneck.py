"""What the convolution bottleneck of a network is: the singular values it keeps, at which frequencies, at what cost."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastfreq.core.activations import LayerActivations
from fastfreq.core.results import import_pandas
from fastfreq.core.spectrum import LayerSpectrum, ModelSpectrum
from fastfreq.results import store

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Frequency = tuple[int, ...]


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

    counts: IntArray
    threshold: float
    gap: float
    margin: float
    found: bool


@dataclasses.dataclass(frozen=True)
class RepresentationCost:
    """Parameter norm of one network beside what theory says that its function costs.

    R(f; Omega, L) is the smallest ||theta||^2 of a network of L layers that represents f on Omega; for large L it is
    L R0 + R1. With A_l(w) the operator of layer l at frequency w, n pixels, pooling m_w and J(w) the Jacobian at a
    constant input:

    Attributes:
        depth: L, the number of layers.
        parameter_norm: ||theta||^2 = sum_l ||W_l||_F^2 + ||b_l||^2.
        weight_norm: the part of the weights.
        lower_bound: (1/n) sum_w L m_w^-2 sum_i s_i(J(w))^(2/L), at most `weight_norm` for every L.
        r0: (1/n) sum_w m_w^-2 Rank J(w), a lower bound of R0 (Theorem 3.2); rank by the gap of all s_i(J(w)).
        r1: (2/n) sum_w m_w^-2 sum_i log s_i(J(w)) over the values above that gap, a lower bound of R1.
        rank_cbn: sum_w m_w^-2 k_w, with k_w the channels that the middle layers keep; counts, not divided by n.
        upper_rate: rank_cbn / n: by Theorem 3.1 R <= L upper_rate + c, where c depends on f only.
        constant: parameter_norm - L upper_rate, the c with which this network meets Theorem 3.1.
        distances: (L,) (1/n) sum_w m_w^-2 ||A_l(w) - U V^H||_F^2 of each layer from the nearest map that is an
            isometry on Rank J(w) channels at each frequency and zero elsewhere: U, V its leading singular vectors.
        distance_bound: weight_norm - L r0 - r1, at least the sum of `distances` (Theorem 4.1, made explicit): all but
            p L layers are within distance_bound / (p L). Nearness to zero of it is what makes the bottleneck.
    """

    depth: int
    parameter_norm: float
    weight_norm: float
    lower_bound: float
    r0: float
    r1: float
    rank_cbn: float
    upper_rate: float
    constant: float
    distances: tuple[float, ...]
    distance_bound: float


@dataclasses.dataclass(frozen=True, eq=False)
class LatentEdit:
    """What a network returns when one coordinate of a hidden representation is multiplied by a number.

    Attributes:
        layer: whose input was edited.
        frequency: k, cycles per image of that input.
        own_twin: whether k and -k are one frequency of the layer's grid.
        index: which singular vector at k.
        factors: (m,) complex, what the coordinate was multiplied by.
        singular_value: of the layer at k and index.
        coefficients: (n,) complex, the coordinate of each image before; its angle encodes position along k.
        images: (n, c, ...) that went in.
        outputs: (n, ...) what came out unchanged.
        edited: (m, n, ...) what came out for each factor.
    """

    layer: str
    frequency: Frequency
    own_twin: bool
    index: int
    factors: NDArray[np.complex128]
    singular_value: float
    coefficients: NDArray[np.complex128]
    images: NDArray[Any]
    outputs: NDArray[Any]
    edited: NDArray[Any]

    def plot(self) -> Figure:
        """One row per image: input, output, and the output for each factor."""
        from fastfreq.plots import plot_latent_edit

        return plot_latent_edit(self)

    _PLAIN = ("layer", "frequency", "own_twin", "index", "singular_value")
    _ARRAYS = ("factors", "coefficients", "images", "outputs", "edited")

    def save(self, path: str | Path) -> None:
        """Write everything to an .npz without pickle, all or nothing."""
        header = {name: getattr(self, name) for name in self._PLAIN}
        store.write_arrays(path, "latent_edit", header, {name: getattr(self, name) for name in self._ARRAYS})

    @classmethod
    def from_arrays(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> LatentEdit:
        """What `save` wrote."""
        fields: dict[str, Any] = {name: header[name] for name in cls._PLAIN}
        fields["frequency"] = tuple(header["frequency"])
        fields.update({name: arrays[name] for name in cls._ARRAYS})
        return cls(**fields)


@dataclasses.dataclass(frozen=True, eq=False)
class BottleneckResult:
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

    spectrum: ModelSpectrum
    kept: dict[str, KeptValues]
    pooling: dict[str, FloatArray]
    norms: dict[str, tuple[float, float]]
    activations: dict[str, LayerActivations]
    blocks: tuple[str, ...] = ()

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
    def parameter_norm(self) -> float:
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

    def to_dataframe(self) -> pd.DataFrame:
        """`table` as a data frame."""
        return import_pandas().DataFrame(self.table())

    def summary(self) -> list[dict[str, Any]]:
        """The columns of `table` that say most, for terminals and pages."""
        names = ["layer", "grid", "kept", "of", "frequencies", "gap", "norm", "stable_rank"]
        names += ["energy_kept", "output_kept", "activation_rank"] if self.activations else []
        return [{name: row[name] for name in names} for row in self.table()]

    def in_words(self) -> str:
        """What the middle layers keep, in a sentence or two."""
        found = sum(self.kept[name].found for name in self.middle)
        if 2 * found <= len(self.middle):
            return f"no bottleneck: {found} of {len(self.middle)} middle layers have a gap in their singular values"
        kept = self.network_kept
        first = ", ".join(f"{count} at {k}" for k, count in list(kept.items())[:6])
        more = f" and at {len(kept) - 6} more frequencies" if len(kept) > 6 else ""
        return f"channels that most middle layers keep: {first or 'none'}{more}; rank {self._rank_of(kept):.4g}"

    def plot(self) -> Figure:
        """Singular values against the layer, coloured by frequency, with what they say in words."""
        from fastfreq.plots import plot_bottleneck

        return plot_bottleneck(self)

    def plot_activations(self) -> Figure:
        """By layer: the input's energy by frequency, the part in what the layer keeps, angles and effective rank.

        Raises:
            ValueError: a result that was measured without images.
        """
        from fastfreq.plots import plot_activations

        return plot_activations(self)

    def __repr__(self) -> str:
        kept = self.network_kept
        first = ", ".join(f"{k}: {count}" for k, count in list(kept.items())[:4])
        rank = self._rank_of(kept)
        return f"BottleneckResult({self.spectrum.model!r}, {self.depth} layers, rank {rank:.4g}, {{{first}}})"

    _KEPT = ("threshold", "gap", "margin", "found")

    def save(self, path: str | Path) -> None:
        """Write everything to an .npz without pickle, all or nothing."""
        header, arrays = self.spectrum._parts()
        header["norms"], header["blocks"] = self.norms, self.blocks
        header["kept"] = {name: {key: getattr(kept, key) for key in self._KEPT} for name, kept in self.kept.items()}
        header["images"] = {name: seen.images for name, seen in self.activations.items()}
        for i, name in enumerate(self.spectrum):
            arrays[f"{i}/counts"], arrays[f"{i}/pooling"] = self.kept[name].counts, self.pooling[name]
            if name in self.activations:
                arrays |= {f"{i}/seen/{key}": array for key, array in self.activations[name].saved().items()}
        store.write_arrays(path, "bottleneck", header, arrays)

    @classmethod
    def from_arrays(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> BottleneckResult:
        """What `save` wrote."""
        spectrum = ModelSpectrum.from_arrays(header, arrays)
        place = {name: i for i, name in enumerate(spectrum)}
        return cls(
            spectrum=spectrum,
            kept={
                name: KeptValues(counts=arrays[f"{i}/counts"], **header["kept"][name]) for name, i in place.items()
            },
            pooling={name: arrays[f"{i}/pooling"] for name, i in place.items()},
            norms={name: (weight, bias) for name, (weight, bias) in header["norms"].items()},
            activations={
                name: LayerActivations.from_arrays(header["images"][name], _below(arrays, f"{i}/seen/"))
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


def _by_frequency(spectrum: LayerSpectrum, counts: IntArray) -> dict[Frequency, int]:
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

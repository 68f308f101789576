"""What of a code stays where the image moves a little: layers of a network beside pixels and fixed codes."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastfreq.engine import layer_names
from fastfreq.engine.images import Chunk
from fastfreq.engine.layer_rows import check_rows
from fastfreq.engine.measure import measure
from fastfreq.engine.measurement import Measurement
from fastfreq.engine.model_checks import check_eval
from fastfreq.engine.pixels import split_normalization
from fastfreq.engine.run import RunOptions
from fastfreq.engine.session import Session
from fastfreq.results import tables
from fastfreq.results.folds import by_image, condition, same
from fastfreq.results.result import ModelResult
from fastfreq.vocabulary import checks, numbers, statistics

from . import motions
from .fixed_codes import FixedCodes, fixed_codes
from .fixed_layer import FixedLayer

FloatArray = NDArray[np.float64]
UNITS = ("norm", "contrast")
_OWN = ("pixels", "output")


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Invariance(ModelResult, kind="invariance"):
    """Distances of codes of moved images from those of the images, code by code.

    Attributes:
        motion: "shift", "rotation" or "dilation".
        amounts: (k,) pixels, degrees, or factors of size, ascending.
        asked: names of the layers asked for.
        fixed: name -> how a fixed code was made.
        sizes: code -> how many numbers of an image it has: "pixels", the fixed codes, the layers in order of
            execution, "output".
        distances: code -> (k, n) L2 distance, the root of the mean square over directions.
        norms: code -> (n,) L2 norm of the code of each image as it is.
        contrasts: code -> (n,) L2 distance from the code of an image of the same mean colour without any content.
    """

    SHAPES: ClassVar[dict[str, str]] = {"amounts": "k", "distances": "k n", "norms": "n", "contrasts": "n"}

    motion: str = same()
    asked: tuple[str, ...] = same()
    fixed: dict[str, str] = same()
    sizes: dict[str, int] = same()
    amounts: FloatArray = condition()
    distances: dict[str, FloatArray] = by_image(conditions=0)
    norms: dict[str, FloatArray] = by_image()
    contrasts: dict[str, FloatArray] = by_image()

    # ---------------------------------------------------------------- figures
    def relative(self, code: str, *, to: str = "norm") -> FloatArray:
        """(k, n) distances of a code over its norm, or over its contrast; NaN where that is 0.

        Norms count what all images share, such as a network's biases: a code that hardly depends on the image moves
        little by that measure. Contrasts do not: 1 is as far as an image without content.

        Raises:
            KeyError: a code that was not measured.
            ValueError: another unit.
        """
        if code not in self.distances:
            raise KeyError(f"expected one of the codes measured, {list(self.sizes)}, got {code!r}")
        if to not in UNITS:
            raise ValueError(f"expected `to` of {list(UNITS)}, got {to!r}")
        unit = (self.norms if to == "norm" else self.contrasts)[code]
        return np.divide(self.distances[code], unit, out=np.full_like(self.distances[code], np.nan), where=unit > 0)

    def curve(self, code: str, *, to: str = "norm") -> FloatArray:
        """(k,) mean of `relative` over the images that have one."""
        values = self.relative(code, to=to)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # no image has one
            return np.nanmean(values, axis=1)

    def interval(self, code: str, *, to: str = "norm", confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """(low, high) Student's interval of `curve` over images, at least 0; NaN below two."""
        values = self.relative(code, to=to)
        known = np.isfinite(values)
        low, high = statistics.student_interval(
            np.nansum(values, axis=1), np.nansum(values**2, axis=1), known.sum(axis=1), confidence=confidence
        )
        return np.maximum(low, 0), high

    # ---------------------------------------------------------------- out of the toolkit
    def table(self) -> list[dict[str, Any]]:
        """One row per code and amount: both relative distances, each with its interval."""
        rows: list[dict[str, Any]] = []
        for depth, (code, size) in enumerate(self.sizes.items()):
            columns: dict[str, Any] = {
                "code": code, "depth": depth, "numbers": size, "amount": self.amounts, "count": self.n_images,
            }  # fmt: skip
            for unit in UNITS:
                columns[f"to_{unit}"] = self.curve(code, to=unit)
                columns[f"to_{unit}_low"], columns[f"to_{unit}_high"] = self.interval(code, to=unit)
            rows += tables.from_columns(columns)
        return rows

    def summary(self) -> list[dict[str, Any]]:
        """In short: one row per code with its mean over all amounts."""
        return [
            {"code": code, "numbers": size} | {f"to {unit}": float(self.curve(code, to=unit).mean()) for unit in UNITS}
            for code, size in self.sizes.items()
        ]

    def headline(self) -> str:
        """The codes that moved most and least, relative to their contrast."""
        means = {row["code"]: row["to contrast"] for row in self.summary()}
        known = {code: value for code, value in means.items() if np.isfinite(value)}
        if not known:
            return f"{self.motion}: no code depends on the images"
        least, most = (pick(known, key=lambda code: known[code]) for pick in (min, max))
        return (
            f"{self.motion}: least moved {least} ({known[least]:.3f} of its contrast), most {most} ({known[most]:.3f})"
        )


def invariance(
    model: nn.Module,
    images: Any,
    *,
    layers: Sequence[str] | None = None,
    kind: str = "shift",
    amounts: Sequence[float] | None = None,
    fixed: Sequence[str] | Mapping[str, FixedLayer] = (),
    **run: Unpack[RunOptions],
) -> Invariance:
    """Measure how far codes of an image move when the image does, layer by layer, beside pixels and fixed codes.

    d = ||f(T x) - f(x)||, as it is, over ||f(x)|| and over ||f(x) - f(mean colour of x)||, for pixels, fixed codes of
    them, every layer and the network's output, all on one axis. T x is x shifted by `amount` pixels (down, and to the
    right), rotated by `amount` degrees (both ways) or `amount` times as large, mirrored at the edges; of two directions
    it is the root mean square. Fractions of a pixel are interpolated by the waves of the mirrored image, which blurs
    nothing. Codes at the same place are compared, so that a map that moves with the image
    counts as changed.

    Args:
        model: as for `heatmap`, or a fixed first layer such as `ff.wavelet_stem()`, in evaluation mode.
        images: as for `heatmap`.
        layers: names of submodules, each of which runs once in a forward pass; None for the innermost blocks, or all
            convolutions where there are none; of a fixed layer its output alone.
        kind: "shift", "rotation" or "dilation".
        amounts: ascending; None for shifts of .5, 1, 2, 3, 4, 6, 8 pixels, as far as they are below half the shorter
            side, rotations of 2.5, 5, 10, 15, 20 degrees, dilations by .8, .9, .95, 1.05, 1.1, 1.25.
        fixed: codes of the pixels beside: "wavelet" (db4 of two levels, hard threshold at half the root mean square),
            "scattering" (up to three scales, eight orientations), "curvelet"; or name -> fixed layer.
        **run: `RunOptions`: precision, batch_size, device, shard, checkpoint, progress and more. `compile` is refused:
            compiled networks may skip the hooks that record layers.

    Returns:
        Invariance: `.curve(code)`, `.interval(code)`, `.plot()`; `a + b` merges shards of images or of amounts.

    Raises:
        ValueError: a bad argument, images too small for a shift or a fixed code, or a layer that runs more than once,
            not at all, or on other images than those of the batch.
        KeyError: a layer that the model does not have.
        TypeError: a layer that does not return a tensor.
        FloatingPointError: codes that are NaN or infinite.
        ImportError: the library that has a fixed code is not installed.

    Source: Goodfellow et al. 2009 and Bruna, Mallat 2013 for the question; the last slide of Tanner's lecture.
    """
    if run.get("compile"):
        raise ValueError("expected compile=False: compiled networks may skip the hooks that record layers, got True")
    checks.check_choice("kind", kind, motions.KINDS)
    check_eval(model)
    bare = isinstance(model, FixedLayer)
    if layers is None:
        names = () if bare else layer_names.blocks(split_normalization(model)[0])
    else:
        names = layer_names.checked(layers)
    what = _Invariance(names, kind, amounts, fixed)
    return measure(what, FixedCodes(model) if bare else model, images, None, run)


class _Invariance(Measurement):
    """Every image as it is, without content, and moved; each layer is read in each pass."""

    result, label, needs_labels = Invariance, "invariance", False

    def __init__(
        self,
        names: tuple[str, ...],
        kind: str,
        amounts: Sequence[float] | None,
        fixed: Sequence[str] | Mapping[str, FixedLayer],
    ) -> None:
        self.watched, self._kind, self._asked, self._fixed_asked = names, kind, amounts, fixed
        self._hooks: list[Any] = []
        self._seen: dict[str, Tensor] | None = None  # None while a network is only timed or checked

    def settings(self, shape: tuple[int, int, int]) -> dict[str, Any]:
        """As in `Measurement`."""
        given = motions.defaults(self._kind, shape) if self._asked is None else self._asked
        self._amounts = numbers.ascending("amounts", given, numbers.as_float) if not _empty(given) else ()
        motions.checked(self._kind, self._amounts, shape)
        self._fixed = fixed_codes(self._fixed_asked, shape)
        names = [*_OWN, *self._fixed, *self.watched]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"expected names of codes each once, got {sorted(twice)} twice; call them otherwise")
        said = {name: stem.made_as for name, stem in self._fixed.items()}
        return {
            "motion": self._kind, "asked": self.watched, "fixed": said, "amounts": np.array(self._amounts, np.float64),
        }  # fmt: skip

    def passes(self, shape: tuple[int, int, int]) -> float:
        """As in `Measurement`."""
        return 2 + len(self._amounts) * (1 if self._kind == "dilation" else 2)

    def batch_size(self, shape: tuple[int, int, int], device: torch.device) -> int | None:
        """As in `Measurement`: codes of all layers are kept."""
        return max(1, min(64, (1 << 21) // (shape[0] * shape[1] * shape[2]))) if device.type == "cpu" else None

    def attach(self, session: Session) -> None:
        """As in `Measurement`."""
        check_rows(session.network, self.watched, session.shape)
        for name in self.watched:
            self._hooks.append(session.network.module(name).register_forward_hook(self._hook(name)))
        self._fixed = {name: stem.to(session.device) for name, stem in self._fixed.items()}

    def close(self) -> None:
        """As in `Measurement`."""
        for hook in self._hooks:
            hook.remove()

    def evaluate(self, session: Session, chunk: Chunk) -> dict[str, Any]:
        """As in `Measurement`."""
        parts = session.in_batches(chunk, lambda part: self._measured(session, part))
        sizes = parts[0]["sizes"]
        for part in parts[1:]:
            if part["sizes"] != sizes:
                raise ValueError(f"expected codes of one size, got {sizes} and {part['sizes']}")
        joined = {
            field: {code: np.concatenate([part[field][code] for part in parts], axis=-1) for code in sizes}
            for field in ("distances", "norms", "contrasts")
        }
        return {"sizes": sizes, **joined}

    def _measured(self, session: Session, part: Chunk) -> dict[str, Any]:
        """Of one batch; a pass that runs out of memory leaves nothing behind."""
        pixels = part.images
        plain = self._codes(session, pixels)
        sizes = {code: value[:1].numel() for code, value in plain.items()}
        norms = {code: _length(value) for code, value in plain.items()}
        grey = self._codes(session, pixels.mean(dim=(2, 3), keepdim=True).expand_as(pixels).contiguous())
        contrasts = {code: _length(value - grey[code]) for code, value in plain.items()}
        del grey
        squares: dict[str, list[Any]] = {code: [] for code in plain}
        for amount in self._amounts:
            each = [self._apart(session, x, plain) for x in motions.moved(pixels, self._kind, amount)]
            for code, found in squares.items():
                found.append(np.sqrt(np.mean([np.square(one[code]) for one in each], axis=0)))
        distances = {code: np.stack(found) for code, found in squares.items()}
        for code in plain:
            if not all(np.isfinite(v).all() for v in (distances[code], norms[code], contrasts[code])):
                raise FloatingPointError(f"expected finite codes, got NaN or infinity in {code!r}")
        return {"sizes": sizes, "norms": norms, "contrasts": contrasts, "distances": distances}

    def _apart(self, session: Session, pixels: Tensor, plain: dict[str, Tensor]) -> dict[str, FloatArray]:
        return {code: _length(value - plain[code]) for code, value in self._codes(session, pixels).items()}

    def _codes(self, session: Session, pixels: Tensor) -> dict[str, Tensor]:
        """(n, size) of every code, float32."""
        n = len(pixels)
        self._seen = {"pixels": pixels.float().reshape(n, -1)}
        try:
            for name, stem in self._fixed.items():
                self._seen[name] = stem.codes(pixels.float())
            logits = session.network(session.network.clean_batch(pixels))
            missing = [name for name in self.watched if name not in self._seen]
            if missing:
                raise ValueError(f"expected every layer to run, {missing} did not")
            for name, value in self._seen.items():
                if len(value) != n:
                    raise ValueError(
                        f"expected layer {name!r} to return one code for each of {n} images, got {len(value)} "
                        f"(windows, or parts of a batch); leave it out of `layers`"
                    )
            session.advance(n)
            return {**self._seen, "output": logits.float()}
        finally:
            self._seen = None

    def _hook(self, name: str) -> Any:
        """A forward hook that copies the layer's output at once: the network may go on in place."""

        def read(_module: nn.Module, _args: Any, output: Any) -> None:
            if self._seen is None:
                return
            value = output[0] if isinstance(output, (tuple, list)) and output else output
            if not isinstance(value, Tensor):
                raise TypeError(f"expected layer {name!r} to return a tensor, got {type(output).__name__}")
            if name in self._seen:
                raise ValueError(
                    f"expected layer {name!r} to run once in a forward pass, it runs again; leave it out of `layers`"
                )
            self._seen[name] = value.detach().to(torch.float32, copy=True).reshape(len(value), -1)

        return read


def _empty(values: Any) -> bool:
    return isinstance(values, Sequence | np.ndarray) and np.ndim(values) > 0 and not len(values)


def _length(rows: Tensor) -> FloatArray:
    """(n,) L2 norms of rows, in float64."""
    return torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64).cpu().numpy()

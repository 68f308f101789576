"""How fast the Fourier transforms of activations fall: a power where they have a kink, an exponential where not."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import fastfreq_kernels as kernels
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from fastfreq.results.folds import same
from fastfreq.results.result import Result
from fastfreq.vocabulary import numbers

from . import decay_laws
from .decay_laws import Law

FloatArray = NDArray[np.float64]
Activation = Callable[[Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class Known:
    """An activation and what theory says of it; `law` of its transform, and why."""

    function: Activation
    law: Law
    constant: float
    why: str


# of 1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)): where the argument is i pi / 2; the next are at +-3.096 + 3.263 i
_TANH_GELU = float(min(root.imag for root in np.roots([0.044715, 0, 1, -1j * (math.pi / 2) ** 1.5]) if root.imag > 0))
_KINK, _CURVE = "slope jumps", "curvature jumps"
KNOWN = {
    "ReLU": Known(F.relu, "power", 2, _KINK),
    "leaky ReLU": Known(F.leaky_relu, "power", 2, _KINK),
    "SELU": Known(F.selu, "power", 2, _KINK),
    "hard-swish": Known(F.hardswish, "power", 2, _KINK),
    "ELU": Known(F.elu, "power", 3, _CURVE),
    "CELU": Known(F.celu, "power", 3, _CURVE),
    "ReLU^2": Known(lambda x: F.relu(x).square(), "power", 3, _CURVE),
    "tanh": Known(torch.tanh, "exponential", math.pi / 2, "pole at i pi / 2"),
    "Mish": Known(F.mish, "exponential", 3 * math.pi / 4, "pole at ln sqrt 2 + 3 i pi / 4"),
    "SiLU": Known(F.silu, "exponential", math.pi, "pole at i pi"),
    # torch's own is x beyond 20: a jump of 2e-9, whose 1 / k is all that is left from k = 6 on
    "softplus": Known(lambda x: F.softplus(x, threshold=100), "exponential", math.pi, "branch point at i pi"),
    "sigmoid": Known(torch.sigmoid, "exponential", math.pi, "pole at i pi"),
    "GELU": Known(F.gelu, "Gaussian", 1 / 2, "entire: a Gaussian's derivatives"),
    "GELU (tanh)": Known(
        functools.partial(F.gelu, approximate="tanh"), "exponential", _TANH_GELU, "poles at +-0.634 + 2.755 i"
    ),
}

_STEP = 1 / 1024  # between samples; a power of two, so that differences of straight parts are exact
_REACH = 48  # samples from -48 to 48, where exp(-x) is below rounding
_FINEST = 0.25  # between frequencies
_HIGHEST = 300.0
_WIDE, _NARROW = 1 / 4, 1 / 64  # differences, for frequencies below and from `_APART` on: zero at none of them
_APART = 20.0
_ORDERS = (2, 3, 4, 5)  # of differences that are tried
_SETTLED = 1e-13  # of the largest difference, that may be left at the ends
_OVER_NOISE = 300.0  # what counts is this far above rounding


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ActivationDecay(Result, kind="activation_decay"):
    """|sigma^(k)| of activations, sigma^(k) = integral of sigma(x) exp(-i k x) dx away from k = 0, and its law.

    The law is |sigma^| ~ k^-c ("power"), k^p exp(-c k) ("exponential") or k^p exp(-c k^2) ("Gaussian"); with
    |cos(w k + a phase)| where poles lie off the axis.

    Attributes:
        names: of the activations.
        frequencies: (K,) k, radians per unit.
        amplitudes: (a, K) |sigma^(k)|.
        noise: (a, K) what rounding may leave there.
        laws: of each, as measured; "none" where no law fits.
        measured: (a,) c.
        powers: (a,) p; 0 for a power law.
        oscillations: (a,) w; 0 where it does not swing.
        residuals: (a,) root mean square of what the law, or where there is none the nearest, leaves of log |sigma^|;
            of one that swings, of sigma^ over the amplitudes around.
        stated_laws: of each, as theory has it, "" where it is not known.
        stated: (a,) c as theory has it, NaN where it is not known.
    """

    SHAPES: ClassVar[dict[str, str]] = {
        "names": "a",
        "frequencies": "k",
        "amplitudes": "a k",
        "noise": "a k",
        "laws": "a",
        "measured": "a",
        "powers": "a",
        "oscillations": "a",
        "residuals": "a",
        "stated_laws": "a",
        "stated": "a",
    }

    names: tuple[str, ...] = same()
    frequencies: FloatArray = same()
    amplitudes: FloatArray = same()
    noise: FloatArray = same()
    laws: tuple[str, ...] = same()
    measured: FloatArray = same()
    powers: FloatArray = same()
    oscillations: FloatArray = same()
    residuals: FloatArray = same()
    stated_laws: tuple[str, ...] = same()
    stated: FloatArray = same()

    @property
    def seen(self) -> NDArray[np.bool_]:
        """(a, K) where an amplitude is far enough above rounding to count."""
        return self.amplitudes > _OVER_NOISE * self.noise

    def table(self) -> list[dict[str, Any]]:
        """One row per activation: law and constant as measured and as stated, and how far they are apart."""
        rows = []
        for i, name in enumerate(self.names):
            stated = float(self.stated[i])
            known = self.stated_laws[i] != ""
            rows.append(
                {
                    "activation": name,
                    "law": self.laws[i],
                    "constant": float(self.measured[i]),
                    "power": float(self.powers[i]),
                    "oscillation": float(self.oscillations[i]),
                    "residual": float(self.residuals[i]),
                    "stated": decay_laws.written(self.stated_laws[i], stated) if known else "",
                    "why": KNOWN[name].why if known and name in KNOWN else "",
                    "off": float(self.measured[i] / stated - 1) if known and self.agrees(i) else None,
                }
            )
        return rows

    def agrees(self, i: int) -> bool:
        """Whether the i-th law is the stated one."""
        return self.laws[i] == self.stated_laws[i]

    def headline(self) -> str:
        """The slowest and the fastest."""
        return ", ".join(
            f"{name} {decay_laws.written(self.laws[i], float(self.measured[i]), float(self.oscillations[i]))}"
            for i, name in enumerate(self.names[:4])
        )


def activation_decay(activations: Sequence[str] | Mapping[str, Activation] | None = None) -> ActivationDecay:
    """How the Fourier transform of an activation falls with frequency, measured from the function.

    Differences of order n take away what grows: those of sigma with distance h have the transform
    (2 i sin(k h / 2))^n sigma^(k), kinks and all, and vanish where sigma is a polynomial below degree n. Their
    integral is a sum over 98,305 samples, `kernels.frequency_response`; what rounding may leave is computed beside it.
    The law is fitted to the highest frequencies that are far enough above that.

    Args:
        activations: names of `KNOWN`, None for all of them; or your own by name, functions of a tensor or modules,
            applied to each element alone.

    Returns:
        Amplitudes and laws; with what theory says, for those of `KNOWN`.

    Raises:
        ValueError: a name that is not known; a function that depends on more than each element, is not finite, or
            settles to no polynomial at both ends; one whose transform is below rounding.

    Warns where no law fits, which has no constant then.

    Source: kinks: Bracewell 2000, "The Fourier Transform and Its Applications", ch. 8; poles: Paley and Wiener 1934,
    section 3; for what it means in training, Xu et al. 2019, Theorem 1.
    """
    chosen = _chosen(activations)
    k: FloatArray = np.arange(1, round(_HIGHEST / _FINEST) + 1, dtype=np.float64) * _FINEST
    found = [_transform(name, function, k) for name, (function, _) in chosen.items()]
    fits = [
        decay_laws.fitted(name, k, transform, np.abs(transform) > _OVER_NOISE * noise)
        for name, (transform, noise) in zip(chosen, found, strict=True)
    ]
    for name, fit in zip(chosen, fits, strict=True):
        if fit.law == "none":
            warnings.warn(
                f"no law fits the transform of {name!r}: the nearest is off by {fit.residual:.2g} of log amplitudes, "
                f"and there is no constant; look at its `amplitudes`",
                stacklevel=2,
            )
    known = [entry for _, entry in chosen.values()]
    return ActivationDecay(
        names=tuple(chosen),
        frequencies=k,
        amplitudes=np.stack([np.abs(transform) for transform, _ in found]),
        noise=np.stack([noise for _, noise in found]),
        laws=tuple(fit.law for fit in fits),
        measured=np.array([fit.constant for fit in fits]),
        powers=np.array([fit.power for fit in fits]),
        oscillations=np.array([fit.oscillation for fit in fits]),
        residuals=np.array([fit.residual for fit in fits]),
        stated_laws=tuple(entry.law if entry else "" for entry in known),
        stated=np.array([entry.constant if entry else np.nan for entry in known]),
    )


def _chosen(given: Sequence[str] | Mapping[str, Activation] | None) -> dict[str, tuple[Activation, Known | None]]:
    if isinstance(given, Mapping):
        wrong = [name for name, function in given.items() if not callable(function) or not isinstance(name, str)]
        if wrong:
            raise TypeError(f"expected functions by name, {wrong[0]!r:.40} is none or has no name")
        chosen: dict[str, tuple[Activation, Known | None]] = {
            name: (function, None) for name, function in given.items()
        }
    else:
        names = (
            list(KNOWN)
            if given is None
            else [given]
            if isinstance(given, str)
            else list(numbers.sequence("activations", given))
        )
        unknown = [name for name in names if name not in KNOWN]
        if unknown:
            raise ValueError(f"expected names of {sorted(KNOWN)}, got {unknown}; pass your own as a dict of functions")
        chosen = {name: (KNOWN[name].function, KNOWN[name]) for name in names}
    if not chosen:
        raise ValueError("expected at least one activation, got none")
    return chosen


def _samples(name: str, function: Activation, x: Tensor) -> Tensor:
    """The function's values, float64; the caller's module is not touched."""
    run = copy.deepcopy(function).double().eval() if isinstance(function, nn.Module) else function
    with torch.no_grad():
        y, half = run(x.clone()), run(x[::2].clone())
    if not isinstance(y, Tensor) or y.shape != x.shape or not torch.equal(y[::2].double(), half.double()):
        raise ValueError(f"expected {name!r} to be applied to each element alone, it is not; pass such a function")
    if not torch.isfinite(y).all():
        raise ValueError(f"expected finite values of {name!r} from {-_REACH} to {_REACH}, got others")
    if y.dtype != torch.float64:
        raise ValueError(f"expected {name!r} to keep float64, got {y.dtype}")
    return y


def _transform(name: str, function: Activation, k: FloatArray) -> tuple[NDArray[np.complex128], FloatArray]:
    """sigma^(k) and what rounding may leave there."""
    x = torch.arange(-_REACH / _STEP, _REACH / _STEP + 1, dtype=torch.float64) * _STEP
    y = _samples(name, function, x)
    transform, noise = np.empty(k.shape, np.complex128), np.empty_like(k)
    for h, chosen in ((_WIDE, k < _APART), (_NARROW, k >= _APART)):
        shift = round(h / _STEP)
        order, differences = _settled(name, y, shift)
        points = (torch.arange(len(differences), dtype=torch.float64) - (len(differences) - 1) / 2) * _STEP
        waves = torch.from_numpy(k[chosen] / (2 * math.pi))[:, None]
        sums = kernels.frequency_response(points[:, None], differences[:, None], waves, reduction="sum")
        gain = (2j * np.sin(k[chosen] * h / 2)) ** order
        transform[chosen] = sums[:, 0].numpy() * _STEP / gain
        # samples are rounded once each, differences of order n have binomial(2 n, n) times their variance
        rounding = math.sqrt(math.comb(2 * order, order)) * float(y.square().sum().sqrt()) * 1.1e-16 * _STEP
        noise[chosen] = rounding / np.abs(gain)
    return transform, noise


def _settled(name: str, y: Tensor, shift: int) -> tuple[int, Tensor]:
    """The lowest order whose differences vanish at both ends, and these."""
    differences, rounded = y, 2.3e-16 * float(y.abs().max())
    for order in range(1, _ORDERS[-1] + 1):
        differences = differences[shift:] - differences[:-shift]
        ends = torch.cat([differences[:shift], differences[-shift:]]).abs().max()
        left = _SETTLED * float(differences.abs().max()) + 2**order * rounded
        if order in _ORDERS and float(ends) <= left:
            return order, differences
    raise ValueError(
        f"expected {name!r} to settle to a polynomial below degree {_ORDERS[-1]} at {-_REACH} and {_REACH}, it does "
        "not: its transform is no function"
    )

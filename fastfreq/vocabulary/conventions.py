"""What "a Fourier perturbation" means, in one frozen object that travels with every result."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

from . import fourier
from .fourier import IntArray, PhaseOf

Signs = Literal["channel", "image", "none"]


@dataclasses.dataclass(frozen=True)
class Convention:
    """How a basis image U (unit L2 over h x w) is added to an image x with pixels in [0, 1].

    x~ = x + s eps U, then clipped to [0, 1] if `clip`, then normalised by the model. `eps` is the L2 norm
    *per channel* (over c channels the total is sqrt(c) eps), s the random sign.

    Attributes:
        name: shown on plots and stored with results.
        phase: phase of the cosine in radians; self-conjugate frequencies have phase 0.
        phase_of: which of k and -k has that phase (the other has its negative): the "first" one in row-major order of
            the centred plane, as in the authors' code, or the "canonical" one, see `fourier.oriented`. Signs belong to
            the canonical one under both rules.
        signs: whose sign is drawn: each "channel" of each image, each "image", or "none" (always +1).
        clip: whether perturbed pixels are clipped to [0, 1].
        common: whether an image's signs are the same at all frequencies ("common random numbers"). Each frequency on
            its own is as before, so that its error has the same distribution; outcomes of neighbouring frequencies
            are more alike, which makes their differences, and what predicts one from the other, more certain.
    """

    name: str
    phase: float
    signs: Signs
    clip: bool
    phase_of: PhaseOf = "canonical"
    common: bool = False

    def __post_init__(self) -> None:
        if not math.isfinite(self.phase):
            raise ValueError(f"expected a finite phase in radians, got {self.phase}")
        if self.signs not in ("channel", "image", "none"):
            raise ValueError(f"expected signs 'channel', 'image' or 'none', got {self.signs!r}")
        fourier.check_phase_of(self.phase_of)

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> Convention:
        """A convention out of a saved file, ``dataclasses.asdict`` of it.

        Files from before there was a choice of `phase_of` mean "canonical", and the name says so where that matters;
        those from before there was one of `common` mean False.
        """
        fields = dict(header)
        if "phase_of" not in fields:
            fields["phase_of"] = "canonical"
            if fields["phase"] != 0:
                fields["name"] = f"{fields['name']}, phase_of=canonical"
        return cls(**fields)

    def oriented(self, frequencies: IntArray, shape: tuple[int, int]) -> IntArray:
        """The member of each pair (..., 2) that has `phase`: what goes into `fourier_perturb` or `basis_image`."""
        return fourier.oriented(frequencies, shape, self.phase_of)

    def replace(
        self,
        *,
        phase: float | None = None,
        signs: Signs | None = None,
        clip: bool | None = None,
        phase_of: PhaseOf | None = None,
        common: bool | None = None,
    ) -> Convention:
        """A copy with some choices changed; the name says so, e.g. ``yin2019, clip=False``."""
        chosen = {"phase": phase, "signs": signs, "clip": clip, "phase_of": phase_of, "common": common}
        changes = {key: value for key, value in chosen.items() if value not in (None, getattr(self, key))}
        name = ", ".join([self.name, *(f"{key}={value}" for key, value in changes.items())])
        return dataclasses.replace(self, name=name, **changes)  # pyright: ignore[reportArgumentType]


CONVENTIONS: dict[str, Convention] = {
    # The paper: sign uniform on {-1, 1}, every channel on its own, pixels clipped; phase from the authors' code.
    "yin2019": Convention("yin2019", phase=math.pi / 4, signs="channel", clip=True, phase_of="first"),
    # The same perturbations with common random numbers: an image's signs hold for all frequencies.
    "common_signs": Convention(
        "common_signs", phase=math.pi / 4, signs="channel", clip=True, phase_of="first", common=True
    ),
    # gatheluck/FourierHeatmap 0.2: real half-spectrum one-hot, so phase 0; sign always drawn, always clipped.
    "fhmap": Convention("fhmap", phase=0.0, signs="channel", clip=True),
    # rai-toolbox: phase pi/4, no clipping of its own; its flag rand_flip_per_channel on.
    "rai": Convention("rai", phase=math.pi / 4, signs="channel", clip=False, phase_of="first"),
}


def resolve(convention: str | Convention) -> Convention:
    """The preset of that name, or the object itself.

    Raises:
        ValueError: no preset has that name.
    """
    if isinstance(convention, Convention):
        return convention
    if convention not in CONVENTIONS:
        raise ValueError(
            f"expected a convention named {', '.join(map(repr, CONVENTIONS))} or a Convention, got {convention!r}"
        )
    return CONVENTIONS[convention]

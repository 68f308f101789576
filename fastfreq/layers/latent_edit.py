"""What comes out when one coordinate of a hidden representation is changed."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastfreq.results.folds import same
from fastfreq.results.result import Result


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LatentEdit(Result, kind="latent_edit"):
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

    SHAPES: ClassVar[dict[str, str]] = {
        "factors": "m", "coefficients": "n", "images": "n *image", "outputs": "n *output",
        "edited": "m n *output",
    }  # fmt: skip

    layer: str = same()
    frequency: tuple[int, ...] = same()
    own_twin: bool = same()
    index: int = same()
    factors: NDArray[np.complex128] = same()
    singular_value: float = same()
    coefficients: NDArray[np.complex128] = same()
    images: NDArray[Any] = same()
    outputs: NDArray[Any] = same()
    edited: NDArray[Any] = same()

    def table(self) -> list[dict[str, Any]]:
        """One row per image and factor: the coordinate before, the factor, and how far the output moved."""
        rows = []
        for i, coefficient in enumerate(self.coefficients):
            for j, factor in enumerate(self.factors):
                moved = float(np.linalg.norm(self.edited[j, i] - self.outputs[i]))
                rows.append(
                    {
                        "image": i,
                        "modulus": float(np.abs(coefficient)),
                        "angle": float(np.angle(coefficient)),
                        "factor": str(complex(factor)),
                        "output_change": moved,
                    }
                )
        return rows

    def headline(self) -> str:
        """What was edited."""
        return f"layer {self.layer}, frequency {self.frequency}, singular value {self.singular_value:.4g}"

    @classmethod
    def from_format_1(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> LatentEdit:
        """What version 0.1 wrote."""
        fields: dict[str, Any] = {name: header[name] for name in ("layer", "own_twin", "index", "singular_value")}
        fields |= {name: arrays[name] for name in ("factors", "coefficients", "images", "outputs", "edited")}
        return cls(frequency=tuple(header["frequency"]), **fields)

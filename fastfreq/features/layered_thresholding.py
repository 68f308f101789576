"""Layered thresholding: the codes that a chain of convolutional dictionaries gives an image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastfreq.vocabulary import checks, numbers

RULES = ("soft_nonnegative", "soft", "hard")


class LayeredThresholding(nn.Module):
    """G_0 = x, G_i = P_i(D_i^T G_{i-1}): the estimate of codes with x = D_1 G_1, G_1 = D_2 G_2, ...

    D_i^T is a convolution with the atoms of layer i. P_i with threshold b is max(z - b, 0) for "soft_nonnegative", so
    that a network of convolutions with biases -b and ReLU is just this; sign(z) max(|z| - b, 0) for "soft"; z where
    |z| > b for "hard".

    If the codes have fewer than (1 + m_i / (mu_i M_i)) / 2 non-zeros in any stripe, mu_i the mutual coherence of
    layer i, m_i and M_i the least and the largest magnitude of the non-zeros, and atoms of norm 1, "hard" and "soft"
    find their supports with suitable thresholds. `ff.sparse_coding` says by how much real networks miss that.

    Args:
        atoms: (m_i, m_{i-1}, kh, kw) of each layer; m_0 are the image's channels. Copied; they can be trained.
        thresholds: one number, or (m_i,) of them, for each layer.
        strides: of each layer; 1 if None.
        paddings: of each layer, with zeros; 0 if None.
        rule: one of `RULES`.

    Raises:
        ValueError: layers that do not fit each other, another rule, NaN; when called, images that do not fit.
        TypeError: atoms that are no tensors, or arguments of another type.

    Source: Papyan, Romano, Elad 2017, "Convolutional neural networks analyzed via convolutional sparse coding" (JMLR),
        Algorithm 1 and Theorem 8.
    """

    def __init__(
        self,
        atoms: Sequence[Tensor],
        thresholds: Sequence[float | Tensor],
        *,
        strides: Sequence[int] | None = None,
        paddings: Sequence[int] | None = None,
        rule: str = "soft_nonnegative",
    ) -> None:
        super().__init__()
        atoms, thresholds = _listed("atoms", atoms), _listed("thresholds", thresholds)
        self.strides = _counts("strides", strides, 1, len(atoms))
        self.paddings = _counts("paddings", paddings, 0, len(atoms))
        checks.check_choice("rule", rule, RULES)
        if not len(atoms) or {len(thresholds), len(self.strides), len(self.paddings)} != {len(atoms)}:
            raise ValueError(
                f"expected as many thresholds, strides and paddings as the {len(atoms)} layers of atoms, from 1"
            )
        for i, weight in enumerate(atoms):
            checks.check_tensor(f"atoms[{i}]", weight, "(m, channels, kh, kw)")
            if weight.ndim != 4 or (i and weight.shape[1] != len(atoms[i - 1])):
                raise ValueError(
                    f"expected atoms of layer {i} of shape (m, {len(atoms[i - 1]) if i else 'channels'}, kh, kw), got "
                    f"{tuple(weight.shape)}"
                )
        self.rule = rule
        self.atoms = nn.ParameterList([weight.detach().clone() for weight in atoms])
        self.thresholds = nn.ParameterList()
        for weight, given in zip(atoms, thresholds, strict=True):
            values = _threshold(given).to(weight)
            if values.ndim > 1 or (values.ndim == 1 and len(values) != len(weight)):
                raise ValueError(
                    f"expected a threshold, or one for each of {len(weight)} atoms, got {tuple(values.shape)}"
                )
            self.thresholds.append(values.expand(len(weight)).clone())

    def codes(self, images: Tensor) -> list[Tensor]:
        """G_1, G_2, ... (n, m_i, h_i, w_i) of images (n, c, h, w)."""
        self._check("images", images, self.atoms[0].shape[1], self.atoms[0])
        found, code = [], images
        for weight, threshold, stride, padding in zip(
            self.atoms, self.thresholds, self.strides, self.paddings, strict=True
        ):
            code = self._shrunk(F.conv2d(code, weight, stride=stride, padding=padding), threshold[:, None, None])
            found.append(code)
        return found

    def forward(self, images: Tensor) -> Tensor:
        """The last code."""
        return self.codes(images)[-1]

    def synthesis(self, code: Tensor, *, layers: int | None = None) -> Tensor:
        """D_1 D_2 ... D_i of the code of layer i; of the last one if None.

        Raises:
            ValueError: no such layer, or a code that does not fit.
            TypeError: a code that is no tensor of the atoms' type.
        """
        count = len(self.atoms) if layers is None else numbers.as_int("layers", layers)
        if not 1 <= count <= len(self.atoms):
            raise ValueError(f"expected `layers` from 1 to {len(self.atoms)}, got {count}")
        self._check("code", code, len(self.atoms[count - 1]), self.atoms[0])
        chain = list(zip(self.atoms, self.strides, self.paddings, strict=True))[:count]
        for weight, stride, padding in reversed(chain):
            code = F.conv_transpose2d(code, weight, stride=stride, padding=padding)
        return code

    @staticmethod
    def _check(name: str, value: Tensor, channels: int, atoms: Tensor) -> None:
        checks.check_tensor(name, value, "(n, c, h, w)")
        if value.ndim != 4 or value.shape[1] != channels:
            raise ValueError(
                f"expected `{name}` of shape (n, {channels}, h, w), got {tuple(value.shape)}; add a batch axis with "
                f"{name}[None]"
            )
        if value.dtype != atoms.dtype:
            raise TypeError(f"expected `{name}` of the atoms' type, {atoms.dtype}, got {value.dtype}; use .to(...)")

    def _shrunk(self, z: Tensor, threshold: Tensor) -> Tensor:
        if self.rule == "soft_nonnegative":
            return F.relu(z - threshold)
        if self.rule == "soft":
            return z.sign() * F.relu(z.abs() - threshold)
        return torch.where(z.abs() > threshold, z, 0)


def _listed(name: str, values: Any) -> list[Any]:
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable) or getattr(values, "ndim", 1) == 0:
        raise TypeError(f"expected `{name}` as a list with one entry a layer, got {values!r:.60}")
    return list(values)


def _counts(name: str, values: Sequence[int] | None, least: int, count: int) -> tuple[int, ...]:
    found = tuple(
        numbers.as_int(name, value) for value in ((least,) * count if values is None else _listed(name, values))
    )
    if any(value < least for value in found):
        raise ValueError(f"expected `{name}` from {least}, got {found}")
    return found


def _threshold(given: float | Tensor) -> Tensor:
    """A number, or one for each atom."""
    values = given.detach() if isinstance(given, Tensor) else torch.tensor(numbers.as_float("thresholds", given))
    if values.is_complex() or torch.isnan(values).any():
        raise ValueError("expected real `thresholds`, got NaN or complex numbers")
    return values

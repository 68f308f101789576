"""Layered thresholding: the codes that a chain of convolutional dictionaries gives an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
        ValueError: layers that do not fit each other, or another rule.

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
        self.strides = tuple(strides) if strides is not None else (1,) * len(atoms)
        self.paddings = tuple(paddings) if paddings is not None else (0,) * len(atoms)
        if rule not in RULES:
            raise ValueError(f"expected `rule` of {list(RULES)}, got {rule!r}")
        if not len(atoms) or {len(thresholds), len(self.strides), len(self.paddings)} != {len(atoms)}:
            raise ValueError(
                f"expected as many thresholds, strides and paddings as the {len(atoms)} layers of atoms, from 1"
            )
        for i, weight in enumerate(atoms):
            if weight.ndim != 4 or (i and weight.shape[1] != len(atoms[i - 1])):
                raise ValueError(
                    f"expected atoms of layer {i} of shape (m, {len(atoms[i - 1]) if i else 'channels'}, kh, kw), got "
                    f"{tuple(weight.shape)}"
                )
        self.rule = rule
        self.atoms = nn.ParameterList([weight.detach().clone() for weight in atoms])
        self.thresholds = nn.ParameterList()
        for weight, given in zip(atoms, thresholds, strict=True):
            values = torch.as_tensor(given).detach().to(weight)
            if values.ndim > 1 or (values.ndim == 1 and len(values) != len(weight)):
                raise ValueError(
                    f"expected a threshold, or one for each of {len(weight)} atoms, got {tuple(values.shape)}"
                )
            self.thresholds.append(values.expand(len(weight)).clone())

    def codes(self, images: Tensor) -> list[Tensor]:
        """G_1, G_2, ... (n, m_i, h_i, w_i) of images (n, c, h, w)."""
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
        """D_1 D_2 ... D_i of the code of layer i; of the last one if None."""
        chain = list(zip(self.atoms, self.strides, self.paddings, strict=True))[:layers]
        for weight, stride, padding in reversed(chain):
            code = F.conv_transpose2d(code, weight, stride=stride, padding=padding)
        return code

    def _shrunk(self, z: Tensor, threshold: Tensor) -> Tensor:
        if self.rule == "soft_nonnegative":
            return F.relu(z - threshold)
        if self.rule == "soft":
            return z.sign() * F.relu(z.abs() - threshold)
        return torch.where(z.abs() > threshold, z, 0)

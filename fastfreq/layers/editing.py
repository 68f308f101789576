"""Change a network's hidden representation along one singular vector at one frequency, and see what comes out."""

from __future__ import annotations

import cmath
import contextlib
from collections.abc import Callable, Iterator, Sequence

import fastfreq_kernels as kernels
import torch
from torch import Tensor, nn

from fastfreq.engine.copies import private_copy
from fastfreq.engine.model_checks import check_eval
from fastfreq.layers.latent_edit import LatentEdit

from ._latent import from_channels, layer_symbols, symbol_matrices, to_channels, wave

FACTORS = (2, 0.5, 1j, -1j)


class Direction:
    """The right singular vector v of a layer's matrix A(k), and what an input has of it.

    Attributes:
        singular_value: s_index of A(k).
        own_twin: whether k and -k are the same frequency: the representation has one real number there.
    """

    def __init__(self, layer: nn.Module, input_size: Sequence[int], frequency: Sequence[int], index: int) -> None:
        self.symbols = layer_symbols(layer, input_size, padding="circular")
        grid = self.symbols.grid
        if len(frequency) != len(grid):
            raise ValueError(f"expected `frequency` of {len(grid)} integers for a grid of {grid}, got {frequency}")
        if len(self.symbols.taps) != 1:
            raise ValueError(f"expected a layer without groups, got one with {len(self.symbols.taps)}")
        self.frequency = tuple(int(k) for k in frequency)
        self.own_twin = all((2 * k) % n == 0 for k, n in zip(self.frequency, grid, strict=True))
        matrix = symbol_matrices(self.symbols, torch.tensor([self.frequency], device=self.symbols.taps.device))[0, 0]
        if self.own_twin:
            matrix = matrix.real  # what is left is rounding
        _, values, right = kernels.channel_svd(matrix)
        if not 0 <= index < len(values):
            raise ValueError(f"expected `index` from 0 to {len(values) - 1}, the singular values there, got {index}")
        self.singular_value = float(values[index])
        self.vector = right[index].conj().to(torch.complex128)
        self.wave = wave(self.frequency, grid, self.vector)

    def coefficients(self, x: Tensor) -> Tensor:
        """(n,) complex128 a = v^H x^(k) of inputs (n, c, *size), with the orthonormal DFT x^."""
        channels = to_channels(x.double(), self.symbols).to(torch.complex128)
        at_frequency = channels.flatten(2) @ self.wave.conj().reshape(-1)
        return at_frequency @ self.vector.conj()

    def multiplied(self, x: Tensor, factor: complex) -> Tensor:
        """Inputs with a -> factor a at k, and its conjugate at -k, so that they stay real."""
        change = (factor - 1) * self.coefficients(x)
        pattern = self.vector.reshape(-1, *[1] * self.wave.ndim) * self.wave
        real = (change.reshape(-1, *[1] * pattern.ndim) * pattern).real * (1 if self.own_twin else 2)
        return x + from_channels(real, self.symbols, x.shape).to(x.dtype)


def edit_latent(
    model: nn.Module,
    layer: str,
    images: Tensor,
    *,
    frequency: Sequence[int],
    index: int = 0,
    factor: complex | Sequence[complex] = FACTORS,
) -> LatentEdit:
    """What a network makes of images when one latent coordinate inside it is multiplied by a number.

    The input x of the layer has the coordinate a = v^H x^(k) along the right singular vector v of the layer's matrix
    at frequency k. It is replaced by factor a, its conjugate partner at -k by the conjugate, everything else stays,
    and the forward pass goes on. A factor exp(i phi) moves what the coordinate encodes by phi / (2 pi) of the
    wavelength of k, towards the origin; 2 and 0.5 make it stronger and weaker. Zero-padded layers are taken as
    circular on their input's size.

    Args:
        model: in evaluation mode.
        layer: name of a convolution in it.
        images: (n, c, ...) as the model takes them.
        frequency: k, one integer per axis, cycles per image of the layer's input (of the reduced grid with a stride).
        index: which singular value at k, 0 for the largest.
        factor: one number or several; real where k = -k on the layer's grid.

    Returns:
        Unchanged and edited outputs, and the coordinate of each image.

    Raises:
        ValueError: a frequency, index or factor that does not fit, a grouped layer, a stride that does not divide the
            layer's input, a layer that one forward pass does not call exactly once, a model in train mode, images
            that are none or not finite, outputs that are not finite.
        KeyError: no layer of that name.
        TypeError: a layer that is no convolution, a model that does not return a tensor or that copy.deepcopy cannot
            copy (a copy is run, the model stays untouched).

    Source: Wen and Jacot 2024, figures 2b and 4b.
    """
    factors = [complex(f) for f in ([factor] if isinstance(factor, int | float | complex) else factor)]
    if not factors or not all(cmath.isfinite(f) for f in factors):
        raise ValueError(f"expected at least one finite `factor`, got {factors}")
    model = _own(model)
    module, inputs, outputs = _input_of(model, layer, images)
    direction = Direction(module, inputs.shape[2:], frequency, index)
    if direction.own_twin and any(f.imag for f in factors):
        raise ValueError(
            f"expected real factors at frequency {direction.frequency}, which is its own conjugate, got {factors}; "
            "its coordinate has a sign but no phase"
        )
    edited = []
    for f in factors:
        with _input_changed(module, lambda x, f=f: direction.multiplied(x, f)), torch.no_grad():
            edited.append(model(images.clone()))
    return LatentEdit(
        layer=layer,
        frequency=direction.frequency,
        own_twin=direction.own_twin,
        index=index,
        factors=torch.tensor(factors, dtype=torch.complex128).numpy(),
        singular_value=direction.singular_value,
        coefficients=direction.coefficients(inputs).cpu().numpy(),
        images=images.detach().cpu().numpy(),
        outputs=outputs.detach().cpu().numpy(),
        edited=torch.stack(edited).cpu().numpy(),
    )


def latent_coefficients(
    model: nn.Module, layer: str, images: Tensor, *, frequency: Sequence[int], index: int = 0
) -> Tensor:
    """(n,) complex128 coordinates a = v^H x^(k) of the layer's input, as in `edit_latent`, with its refusals."""
    module, inputs, _ = _input_of(_own(model), layer, images)
    return Direction(module, inputs.shape[2:], frequency, index).coefficients(inputs)


def _own(model: nn.Module) -> nn.Module:
    """A copy to hook, so that the user's model serves other threads meanwhile."""
    check_eval(model)
    return private_copy(model)


def _input_of(model: nn.Module, name: str, images: Tensor) -> tuple[nn.Module, Tensor, Tensor]:
    """A layer, its input, and the output of the model."""
    modules = dict(model.named_modules())
    if name not in modules:
        known = ", ".join(list(modules)[1:9])
        raise KeyError(f"expected a layer named as in model.named_modules(), such as {known}; got {name!r}")
    if not len(images) or not torch.isfinite(images).all():
        raise ValueError(f"expected `images` of finite numbers, at least one image, got shape {tuple(images.shape)}")
    seen: list[Tensor] = []
    handle = modules[name].register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach().clone()))
    try:
        with torch.no_grad():
            output = model(images.clone())
    finally:
        handle.remove()
    if len(seen) != 1:
        raise ValueError(f"expected a layer that the forward pass calls once, it calls {name!r} {len(seen)} times")
    if not isinstance(output, Tensor):
        raise TypeError(f"expected a model that returns a tensor, got {type(output).__name__}; wrap it")
    if not torch.isfinite(output).all():
        raise ValueError("expected finite outputs of the model, got NaN or infinite ones")
    return modules[name], seen[0], output


@contextlib.contextmanager
def _input_changed(layer: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    handle = layer.register_forward_pre_hook(lambda _module, inputs: (change(inputs[0]), *inputs[1:]))
    try:
        yield
    finally:
        handle.remove()

"""What the units of a layer look for: images made to raise them, all units of a batch at once."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from fastfreq.engine.contexts import undisturbed, warn_if_not_alone, warn_if_unsteady
from fastfreq.engine.memory import is_out_of_memory
from fastfreq.engine.network import Network
from fastfreq.engine.run import device_of
from fastfreq.results import codec
from fastfreq.results.folds import same, union
from fastfreq.results.identity import Identity
from fastfreq.results.result import Result
from fastfreq.vocabulary import checks, numbers, streams

from ._layer_view import LayerView
from ._objectives import Objective, objective_of
from ._shut_relu import OpenRectifiers
from .image_search import FourierImages, ImageSearch, checked_search, draw_moves, high_frequency_share, moved, penalty

_SHIFT = 4  # pixels by which an image is shifted to see whether its activation hangs on single pixels
_PROBED = 32  # numbers of the layer's output that tell one forward from another


@codec.record
@dataclasses.dataclass(frozen=True, eq=False)
class UnitImage:
    """The image found for one unit.

    Attributes:
        image: (c, h, w) float32 in [0, 1].
        activation: the objective at the image as it is.
        shifted: the least of four, the image shifted by 4 pixels up, down, left and right, cyclically; of a unit at one
            place the one where its pattern has come to, the larger of two places between which that is.
        start: the objective where the search began.
        high_frequency_share: of the image's energy, its mean left out, above 1/4 cycle per pixel.
        dead: whether not one pixel changes the objective at the image: its gradient is exactly 0.
        path: (steps,) float32 objective of the moved image at each step.
    """

    SHAPES: ClassVar[dict[str, str]] = {"image": "c h w", "path": "_"}

    image: NDArray[np.float32]
    activation: float
    shifted: float
    start: float
    high_frequency_share: float
    dead: bool
    path: NDArray[np.float32]


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class UnitImages(Result, kind="maximize"):
    """Images that raise units of a layer; ``a + b`` merges other units.

    Attributes:
        model: which model.
        layer: its name.
        input_size: (c, h, w).
        objective: "channel", "center", "cls" or "token 5".
        search: how it was searched.
        seed: of starts and moves.
        units: unit -> what was found.
    """

    model: Identity = same()
    layer: str = same()
    input_size: tuple[int, int, int] = same()
    objective: str = same()
    search: ImageSearch = same()
    seed: int = same()
    units: dict[int, UnitImage] = union()

    def __post_init__(self) -> None:
        super().__post_init__()
        for unit, found in self.units.items():
            if found.image.shape != tuple(self.input_size):
                raise ValueError(f"expected images of {self.input_size}, got {found.image.shape} for unit {unit}")

    def __getitem__(self, unit: int) -> UnitImage:
        if unit not in self.units:
            raise KeyError(f"expected one of the units {sorted(self.units)}, got {unit!r}")
        return self.units[unit]

    @property
    def images(self) -> NDArray[np.float32]:
        """(u, c, h, w) in the order of the units."""
        return np.stack([self.units[unit].image for unit in sorted(self.units)])

    @property
    def activations(self) -> NDArray[np.float64]:
        """(u,) in the order of the units."""
        return np.array([self.units[unit].activation for unit in sorted(self.units)])

    @property
    def dead(self) -> list[int]:
        """Units that no small change of their image changes."""
        return [unit for unit in sorted(self.units) if self.units[unit].dead]

    def table(self) -> list[dict[str, Any]]:
        """One row per unit."""
        names = ("activation", "shifted", "start", "high_frequency_share", "dead")
        return [
            {"layer": self.layer, "unit": unit, **{name: getattr(self.units[unit], name) for name in names}}
            for unit in sorted(self.units)
        ]

    def summary(self) -> list[dict[str, Any]]:
        """At most 32 units."""
        return self.table()[:32]

    def headline(self) -> str:
        """How many units, and which are dead."""
        dead = self.dead
        silent = f"{len(dead)} dead: {', '.join(map(str, dead[:8]))}" if dead else "none dead"
        share = np.median([found.high_frequency_share for found in self.units.values()])
        return f"{len(self.units)} units of {self.layer}, {silent}; median share of high frequencies {share:.3f}"


def maximize(
    model: nn.Module,
    layer: str,
    units: Sequence[int] | None = None,
    *,
    input_size: tuple[int, int, int],
    objective: str | int = "channel",
    search: ImageSearch | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    progress: bool = False,
) -> UnitImages:
    """Search, for each unit of a layer, for an image that raises it: ascent on Fourier coefficients, in batches.

    At each step an image is shifted, resized and turned at random, and Adam lowers -a / Z plus penalties, where a is
    the unit's activation and Z the largest |a| so far. The network runs as far as the layer. Where a starts and how it
    is moved belongs to (seed, unit), and every pass has `batch_size` rows, the last filled up: so on a CPU the image of
    a unit is the same, bit for bit, whatever other units are asked for. Another batch size rounds in another way, which
    ascent of many steps enlarges; on a GPU sums of gradients may be taken in any order, too.

    Args:
        model: in evaluation mode, on pixels in [0, 1]: a `NormalizedModel` where the network wants normalised ones.
        layer: as in model.named_modules(), which runs once in a forward pass.
        units: channels of its maps, features of its tokens, or places of its rows; None for all.
        input_size: (c, h, w) of an image.
        objective: "channel", the mean of the unit over all places; "center", the unit at the central place; "cls", the
            unit of the first token; or the index of a token.
        search: steps, moves, penalties; None for `ImageSearch()`.
        seed: from 0.
        batch_size: units at a time; None for what fills a CPU's core or a GPU with images of this size.
        device: where to run; None for where the model is.
        progress: show a bar.

    Returns:
        UnitImages: `[unit]`, `.images`, `.dead`, `.plot()`; `a + b` merges other units.

    Raises:
        KeyError: a layer that there is not; the message lists near names.
        ValueError: units out of range or twice, an objective that the layer's output does not have, a layer that runs
            not once, a model in train mode, or one that takes no such images.
        TypeError: a layer that returns no tensor, or arguments of another type.
        FloatingPointError: an activation or gradient that is NaN or infinite; the unit is named.

    Source: Erhan et al. 2009; Mahendran, Vedaldi 2016 (penalties); Olah et al. 2017 (coefficients, moves).
    """
    shape, progress = _input_size(input_size), numbers.as_flag("progress", progress)
    search, seed = ImageSearch() if search is None else checked_search(search), checks.check_seed(seed)
    with undisturbed(gradients=True):
        network = Network(model, precision="fp32", channels_last=False, device=device_of(device))
        view = LayerView(network, layer, shape)
        aim = objective_of(view, objective)
        if search.jitter is None and aim.stride is not None:
            search = dataclasses.replace(search, jitter=min(0.5, aim.stride / 4 / min(shape[1:])))
        asked = _units(units, aim.count(view.sample), layer)
        size = _rows(shape, network.device) if batch_size is None else numbers.as_int("batch_size", batch_size)
        if size < 1:
            raise ValueError(f"expected a positive `batch_size`, got {size}")
        identity = identity_of(network, view, shape)
        ascent = _Ascent(view, aim, search, shape, seed, network.device)
        found: dict[int, UnitImage] = {}
        with tqdm(total=len(asked) * search.steps, desc=layer, unit="step", disable=not progress) as bar:
            while len(found) < len(asked):
                some = asked[len(found) : len(found) + size]
                try:
                    found |= ascent(some, size, bar.update)
                except (RuntimeError, MemoryError) as error:
                    if not is_out_of_memory(error) or size == 1:
                        raise
                    size = -(-size // 2)
    return UnitImages(
        model=identity,
        layer=layer,
        input_size=shape,
        objective=aim.name,
        search=search,
        seed=seed,
        units=found,
        details={**details_of(network), "batch_size": str(size)},
    )


# ---------------------------------------------------------------- arguments
def _input_size(input_size: tuple[int, int, int]) -> tuple[int, int, int]:
    c, h, w = numbers.as_ints("input_size", input_size, of="(c, h, w)")
    if c < 1 or min(h, w) < 2:
        raise ValueError(f"expected `input_size` (c, h, w) of an image of at least 2 x 2, got {(c, h, w)}")
    return c, h, w


def _units(units: Sequence[int] | None, count: int, layer: str) -> list[int]:
    if units is None:
        return list(range(count))
    asked = [numbers.as_int("units", unit) for unit in ([units] if np.ndim(units) == 0 else units)]
    wrong = [unit for unit in asked if not 0 <= unit < count]
    if wrong or not asked or len(set(asked)) < len(asked):
        what = f"{wrong[0]} out of range" if wrong else "none" if not asked else "one twice"
        raise ValueError(f"expected `units` from 0 to {count - 1} of layer {layer!r}, each once, got {what}")
    return asked


def _rows(shape: tuple[int, int, int], device: torch.device) -> int:
    """Rows that fill the machine with images of a size; of nothing else, so that a unit's neighbours do not matter."""
    pixels = shape[1] * shape[2]
    return max(1, min(16, 50176 // pixels) if device.type == "cpu" else min(256, 32 * 50176 // pixels))


def details_of(network: Network) -> dict[str, str]:
    """What was run, for people."""
    device = torch.cuda.get_device_name(network.device) if network.device.type == "cuda" else platform.machine()
    return {"model": network.name, "model_fingerprint": network.weights, "device": device, "torch": torch.__version__}


def identity_of(network: Network, view: LayerView, shape: tuple[int, int, int]) -> Identity:
    """Which model this is, by what the layer returns for noise; a warning where it is not the same twice."""
    for values in (network.mean, network.std):
        if values is not None and len(values) != shape[0]:
            raise ValueError(f"expected images of the {len(values)} channels of the normalisation, got {shape[0]}")
    noise = torch.from_numpy(streams.generator("probes", 0).random((3, *shape), dtype=np.float32)).to(network.device)
    with torch.no_grad():
        first, second, beside = (view(noise[rows]).flatten(1) for rows in ([0, 1], [0, 1], [0, 2]))
    if not warn_if_unsteady(network.name, first, second, stacklevel=4):
        warn_if_not_alone(network.name, first[0], beside[0])
    spread = np.linspace(0, first.shape[1] - 1, min(_PROBED, first.shape[1])).round().astype(int)
    mean, std = (None if t is None else tuple(t.tolist()) for t in (network.mean, network.std))
    return Identity(network.weights, mean, std, ("precision=fp32",), first[:, spread].float().cpu().numpy())


# ---------------------------------------------------------------- the search
class _Ascent:
    """Images of some units together."""

    def __init__(
        self,
        view: LayerView,
        aim: Objective,
        search: ImageSearch,
        shape: tuple[int, int, int],
        seed: int,
        device: torch.device,
    ) -> None:
        self._view, self._aim, self._search, self._shape = view, aim, search, shape
        self._seed, self._device = seed, device
        self._pixels = FourierImages(search, shape, device)

    def __call__(self, units: list[int], size: int, advance: Callable[[int], object]) -> dict[int, UnitImage]:
        """What is found; the batch is filled up to `size` rows with the last unit again."""
        rows = torch.tensor(units + units[-1:] * (size - len(units)), device=self._device)
        starts, moves = self._draw(rows.tolist())
        coefficients = torch.from_numpy(starts).to(self._device).requires_grad_()
        adam = torch.optim.Adam([coefficients], lr=self._search.rate)
        path = torch.zeros(self._search.steps, size, device=self._device)
        scale = torch.zeros(size, device=self._device)
        silent = torch.ones(size, dtype=torch.bool, device=self._device)  # units that have not answered yet
        through = self._search.through_relu
        with torch.enable_grad():
            start = self._plain(self._pixels(coefficients).detach(), rows)[0]
            for step in range(self._search.steps):
                adam.zero_grad()
                pixels = self._pixels(coefficients)
                seen = pixels if moves is None else moved(pixels, moves[step])
                shut = torch.full_like(silent, step < through) | (silent & (through > 0))
                a = self._activation(seen, rows, opened=shut)
                silent &= a.detach() == 0
                path[step] = a.detach()
                scale = torch.maximum(scale, a.detach().abs())
                loss = -a / torch.where(scale > 0, scale, 1)
                held = penalty(pixels, self._search)
                (loss if held is None else loss + held).sum().backward()
                adam.step()
                advance(len(units))
            found = self._pixels(coefficients).detach()
        return self._result(units, rows, found, start, path)

    def _draw(self, rows: list[int]) -> tuple[NDArray[np.float32], Tensor | None]:
        starts, moves = [], []
        for unit in rows:
            generator = streams.generator("maximize", self._seed, item=unit)
            starts.append(self._pixels.start(generator))
            moves.append(draw_moves(self._search, self._shape, generator))
        if moves[0] is None:
            return np.stack(starts), None
        return np.stack(starts), torch.from_numpy(np.stack([m for m in moves if m is not None], 1)).to(self._device)

    def _activation(
        self, pixels: Tensor, rows: Tensor, *, opened: Tensor | None = None, shift: tuple[int, int] = (0, 0)
    ) -> Tensor:
        if opened is None or not opened.any():
            return self._aim.of(self._view(pixels), rows, shift).float()
        with OpenRectifiers(opened):
            return self._aim.of(self._view(pixels), rows, shift).float()

    def _plain(self, pixels: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(n,) objective, and whether its gradient is 0, of images as they are."""
        pixels = pixels.requires_grad_()
        with torch.enable_grad():
            a = self._activation(pixels, rows)
            if not a.requires_grad:
                raise ValueError(
                    f"expected layer {self._view.name!r} to have gradients with respect to pixels, it has none: does "
                    f"the model run under no_grad, or round what it takes?"
                )
            (gradient,) = torch.autograd.grad(a.sum(), pixels)
        return a.detach(), (gradient == 0).flatten(1).all(dim=1)

    def _result(
        self, units: list[int], rows: Tensor, pixels: Tensor, start: Tensor, path: Tensor
    ) -> dict[int, UnitImage]:
        activation, dead = self._plain(pixels, rows)
        with torch.no_grad():
            ways = [(-_SHIFT, 0), (_SHIFT, 0), (0, -_SHIFT), (0, _SHIFT)]
            turned = [self._activation(torch.roll(pixels, way, dims=(2, 3)), rows, shift=way) for way in ways]
            shifted = torch.stack(turned).amin(dim=0)
        images = pixels.detach().cpu().numpy()
        found = {}
        for i, unit in enumerate(units):
            now, least, before = (float(values[i]) for values in (activation, shifted, start))
            if not np.isfinite((now, least, before)).all() or not np.isfinite(images[i]).all():
                raise FloatingPointError(
                    f"expected finite activations, got NaN or infinity for unit {unit} of layer {self._view.name!r}; "
                    f"check the weights"
                )
            share = high_frequency_share(images[i])
            own = path[:, i].cpu().numpy().copy()
            found[unit] = UnitImage(images[i].copy(), now, least, before, share, bool(dead[i]), own)
        return found

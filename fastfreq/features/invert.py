"""What a layer keeps of an image: another image with the same code; and a caricature, which has more of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Unpack, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastfreq.engine import layer_names
from fastfreq.engine.images import Chunk
from fastfreq.engine.measure import measure
from fastfreq.engine.measurement import Measurement
from fastfreq.engine.run import RunOptions
from fastfreq.engine.session import Session
from fastfreq.results.folds import by_image, condition, same
from fastfreq.results.result import ModelResult
from fastfreq.vocabulary import checks, streams

from ._layer_view import LayerView
from ._shut_relu import OpenRectifiers
from .image_search import FourierImages, ImageSearch, checked_search, draw_moves, moved, penalty

FloatArray = NDArray[np.float64]
Objective = Literal["code", "caricature"]

# the image itself is wanted, where it is: nothing is moved
INVERSION = ImageSearch(jitter=0, scale=0, rotation=0, total_variation=1e-2)
CARICATURE = ImageSearch(steps=64, rate=0.02)


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Inversion(ModelResult, kind="invert"):
    """Images made of codes, layer by layer; ``a + b`` merges shards, and other layers.

    Attributes:
        objective: "code", an image of the same code, or "caricature".
        search: how it was searched.
        seed: of starts and moves.
        layers: names, in the order asked for.
        originals: (c, h, w, n) float32 in [0, 1].
        images: (l, c, h, w, n) float32, what was found.
        code_errors: (l, n) ||code of what was found - code||^2 / ||code||^2; NaN for a code that is 0.
        pixel_errors: (l, n) ||what was found - image||^2 / ||image - its mean||^2; NaN for a flat image.
        gains: (l, n) <code, code of what was found> / ||code||^2.
    """

    SHAPES: ClassVar[dict[str, str]] = {
        "originals": "c h w n", "images": "l c h w n", "code_errors": "l n", "pixel_errors": "l n",
        "gains": "l n",
    }  # fmt: skip

    objective: str = same()
    search: ImageSearch = same()
    seed: int = same()
    layers: tuple[str, ...] = condition()
    originals: NDArray[np.float32] = by_image()
    images: NDArray[np.float32] = by_image(conditions=0)
    code_errors: FloatArray = by_image(conditions=0)
    pixel_errors: FloatArray = by_image(conditions=0)
    gains: FloatArray = by_image(conditions=0)

    def table(self) -> list[dict[str, Any]]:
        """One row per layer and image."""
        return [
            {
                "layer": layer,
                "image": int(image),
                "code_error": float(self.code_errors[i, j]),
                "pixel_error": float(self.pixel_errors[i, j]),
                "gain": float(self.gains[i, j]),
            }
            for i, layer in enumerate(self.layers)
            for j, image in enumerate(self.image_ids)
        ]

    def summary(self) -> list[dict[str, Any]]:
        """One row per layer, at most 32 of them: medians over images."""
        columns = {"code_error": self.code_errors, "pixel_error": self.pixel_errors, "gain": self.gains}
        return [
            {"layer": layer, "images": self.n_images} | {k: float(np.median(v[i])) for k, v in columns.items()}
            for i, layer in enumerate(self.layers[:32])
        ]

    def headline(self) -> str:
        """The error of pixels, first layer to last; how much more of a code a caricature has."""
        rows = self.summary()
        name = "gain" if self.objective == "caricature" else "pixel_error"
        what = "more of the code than the image has" if name == "gain" else "error of pixels by depth"
        return f"{what}: " + ", ".join(f"{row['layer']} {row[name]:.3g}" for row in rows[:6])


def invert(
    model: nn.Module,
    layers: str | Sequence[str],
    images: Any,
    labels: Any = None,
    *,
    objective: Objective = "code",
    search: ImageSearch | None = None,
    seed: int = 0,
    **run: Unpack[RunOptions],
) -> Inversion:
    """Search for an image whose code at a layer is that of a given one: what is lost is what the layer does not keep.

    Lowers ||code(x) - code||^2 / ||code||^2 plus penalties over Fourier coefficients of x, from noise. A caricature
    starts at the image and raises <code(x), code> / ||code||^2 instead: more of what the layer sees in it. Images are
    searched for one at a time, so that shards and batches change not a bit; starts belong to (seed, image).

    Args:
        model: as for `heatmap`.
        layers: one name or several, as in model.named_modules(), each of which runs once in a forward pass.
        images: as for `heatmap`, few: each takes `steps` passes and gradients for each layer.
        labels: not used; may be left out.
        objective: "code" or "caricature".
        search: steps, moves, penalties; None for no moves and a little total variation, or for a caricature for few,
            short steps with moves.
        seed: from 0.
        **run: `RunOptions` but `compile` and `fold_batch_norm`; `precision` "fp32".

    Returns:
        Inversion: `.images`, `.pixel_errors` and `.code_errors` by layer, `.plot()`; `a + b` merges shards.

    Raises:
        KeyError: a layer that there is not; the message lists near names.
        ValueError: a layer that runs not once, or another bad argument.
        TypeError: a layer that returns no tensor.
        FloatingPointError: codes that are NaN or infinite.

    Source: Mahendran, Vedaldi 2016, sections 3 to 5 and 7.
    """
    if run.get("precision", "fp32") != "fp32" or run.get("compile") or run.get("fold_batch_norm"):
        raise ValueError(
            "expected precision='fp32', compile=False and fold_batch_norm=False: gradients are taken through the "
            f"network as it is, got {run}"
        )
    checks.check_choice("objective", objective, get_args(Objective))
    names = layer_names.checked((layers,) if isinstance(layers, str) else layers)
    if not names:
        raise ValueError("expected at least one of `layers`, got none")
    default = INVERSION if objective == "code" else CARICATURE
    what = _Inversion(names, objective, default if search is None else checked_search(search), checks.check_seed(seed))
    return measure(what, model, images, None, run)


def caricature(
    model: nn.Module,
    layers: str | Sequence[str],
    images: Any,
    *,
    search: ImageSearch | None = None,
    seed: int = 0,
    **run: Unpack[RunOptions],
) -> Inversion:
    """`invert` with objective "caricature": the image changed so that a layer sees more of what it sees in it."""
    return invert(model, layers, images, objective="caricature", search=search, seed=seed, **run)


class _Inversion(Measurement):
    """Image by image and layer by layer."""

    result, label, gradients, needs_labels = Inversion, "inversion", True, False

    def __init__(self, layers: tuple[str, ...], objective: str, search: ImageSearch, seed: int) -> None:
        self._layers, self._objective, self._search, self._seed = layers, objective, search, seed
        self.watched = layers

    def settings(self, shape: tuple[int, int, int]) -> dict[str, Any]:
        """As in `Measurement`."""
        if min(shape[1:]) < 2:
            raise ValueError(f"expected images of at least 2 x 2, got {shape[1]} x {shape[2]}")
        self._search.mixing(shape[0])
        asked = {"objective": self._objective, "search": self._search, "seed": self._seed}
        return {**asked, "layers": self._layers}

    def passes(self, shape: tuple[int, int, int]) -> float:
        """As in `Measurement`."""
        return self._search.steps * len(self._layers)

    def batch_size(self, shape: tuple[int, int, int], device: torch.device) -> int | None:
        """As in `Measurement`."""
        return 1

    def attach(self, session: Session) -> None:
        """As in `Measurement`."""
        self._views = [LayerView(session.network, layer, session.shape) for layer in self._layers]
        self._pixels = FourierImages(self._search, session.shape, session.device)

    def evaluate(self, session: Session, chunk: Chunk) -> dict[str, Any]:
        """As in `Measurement`."""
        found = []
        for image, number in zip(chunk.images, chunk.ids.tolist(), strict=True):
            found.append([self._one(session, view, image[None].contiguous(), number) for view in self._views])
        images = [[pixels for pixels, _ in each] for each in found]
        errors = np.array([[values for _, values in each] for each in found])  # (n, l, 3)
        return {
            "originals": chunk.images.permute(1, 2, 3, 0).cpu().contiguous().numpy(),
            "images": np.ascontiguousarray(np.moveaxis(np.array(images), 0, -1)),
            "code_errors": errors[..., 0].T.copy(),
            "pixel_errors": errors[..., 1].T.copy(),
            "gains": errors[..., 2].T.copy(),
        }

    def _one(
        self, session: Session, view: LayerView, image: Tensor, number: int
    ) -> tuple[NDArray[np.float32], tuple[float, float, float]]:
        generator = streams.generator("invert", self._seed, item=number)
        start = torch.from_numpy(self._pixels.start(generator)[None]).to(session.device)
        drawn = draw_moves(self._search, session.shape, generator)
        moves = None if drawn is None else torch.from_numpy(drawn).to(session.device)
        with torch.no_grad():
            code = view(image).float().clone()
        energy = float(code.double().square().sum())
        if not np.isfinite(energy):
            raise FloatingPointError(
                f"expected finite codes, got NaN or infinity in layer {view.name!r} for image {number}; check the "
                "weights"
            )
        if self._objective == "caricature":
            start = self._pixels.coefficients(image)
        pixels = self._descend(session, view, code, energy or 1.0, start, moves)
        with torch.no_grad():
            again = view(pixels).double()
            off, gain = float((again - code).square().sum()), float((again * code).sum())
        x, y = image.double(), pixels.double()
        spread = float((x - x.mean()).square().sum())
        far = float((x - y).square().sum())
        errors = (
            off / energy if energy else np.nan,
            far / spread if spread > 1e-12 * x.numel() else np.nan,
            gain / energy if energy else np.nan,
        )
        return pixels[0].cpu().numpy(), errors

    def _descend(
        self, session: Session, view: LayerView, code: Tensor, energy: float, start: Tensor, moves: Tensor | None
    ) -> Tensor:
        coefficients = start.clone().requires_grad_()
        adam = torch.optim.Adam([coefficients], lr=self._search.rate)
        caricature = self._objective == "caricature"
        every = torch.ones(1, dtype=torch.bool, device=code.device)
        with torch.enable_grad():
            for step in range(self._search.steps):
                adam.zero_grad()
                pixels = self._pixels(coefficients)
                seen = pixels if moves is None else moved(pixels, moves[step][None])
                if step < self._search.through_relu:
                    with OpenRectifiers(every):
                        now = view(seen).float()
                else:
                    now = view(seen).float()
                loss = -(now * code).sum() / energy if caricature else (now - code).square().sum() / energy
                held = penalty(pixels, self._search)
                (loss if held is None else loss + held.sum()).backward()
                adam.step()
                session.advance(1)
            return self._pixels(coefficients).detach()

"""A model averaged over points around its input: a low-pass filter of the function, not of the image."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, get_args

import fastfreq_kernels as kernels
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fastfreq.engine.model_checks import logits_of
from fastfreq.vocabulary import streams

Sampling = Literal["shells", "sphere", "ball", "gaussian"]
Average = Literal["probabilities", "logits"]

_SHELLS = (1 / 3, 2 / 3, 1.0)


@dataclasses.dataclass(frozen=True)
class Points:
    """The points around an input over which a model is averaged, the same for every input.

    Attributes:
        radius: R, the L2 length over all channels, in the unit of the input of the model that is averaged.
        directions: K; each is taken with both signs.
        sampling: how far along each direction: "shells" at R/3, 2R/3 and R, as published; "sphere" at R; "ball" at a
            distance that makes the points uniform in the ball of radius R; "gaussian" adds normal noise with a
            standard deviation of R / sqrt(c h w), in many dimensions nearly the same as "sphere".
        include_original: the input itself is one of the points.
        seed: key of the directions.

    Raises:
        ValueError: a radius that is not positive, no direction, or another sampling.
    """

    radius: float
    directions: int = 15
    sampling: Sampling = "shells"
    include_original: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if not (isinstance(self.radius, (int, float)) and math.isfinite(self.radius) and self.radius > 0):
            raise ValueError(
                f"expected a positive `radius`, the L2 length over all channels of an image (Lin and Jiang take 6 for "
                f"normalised images of 32 x 32 and 30 of 224 x 224), got {self.radius!r}"
            )
        if self.directions < 1:
            raise ValueError(f"expected at least one of `directions`, got {self.directions}")
        if self.sampling not in get_args(Sampling):
            raise ValueError(f"expected `sampling` of {list(get_args(Sampling))}, got {self.sampling!r}")

    @property
    def count(self) -> int:
        """Forward passes per input: 6 K + 1 for shells, 2 K + 1 for the others, one less without the original."""
        return 2 * self.directions * (3 if self.sampling == "shells" else 1) + self.include_original

    def offsets(self, shape: tuple[int, int, int], device: torch.device) -> Tensor:
        """(k, c, h, w) float32 from the input to one point of each antithetic pair."""
        c, h, w = shape
        ids = torch.arange(self.directions, device=device)
        more = 2 if self.sampling == "ball" else 0
        noise = kernels.gaussian_noise(ids, (c + more, h, w), seed=self.seed, domain=streams.domain("post_averaging"))
        inside, outside = noise[:, :c], noise[:, c:, 0, 0]
        if self.sampling == "gaussian":
            return inside * (self.radius / math.sqrt(c * h * w))
        # the ball is the sphere two dimensions up, seen from above
        squares = inside.square().sum(dim=(1, 2, 3)) + outside.square().sum(dim=1)
        unit = inside / squares.sqrt()[:, None, None, None]
        return torch.cat(
            [fraction * self.radius * unit for fraction in (_SHELLS if self.sampling == "shells" else (1,))]
        )


class PostAveraging(nn.Module):
    """A classifier averaged over points around its input: f_C(x) = mean over offsets d of f(x + d).

    Averaging over a ball or sphere of radius R is a low-pass filter of f as a function of the image: a component
    exp(i <w, x>) of f is multiplied by `ball_attenuation` or `sphere_attenuation` of (|w|, R). By default K = 15
    directions with both signs at R/3, 2R/3 and R, and the input itself: 91 forward passes, of which the softmax
    outputs are averaged. Points are not clipped. The offsets are a function of (seed, index of the direction,
    channel, pixel): the same for every image, whatever its batch.

    The place of the wrapper says what R is measured in::

        defended = ff.PostAveraging(pixels_in, radius=1.2)  # in pixels of [0, 1]
        defended = ff.NormalizedModel(ff.PostAveraging(net, radius=6.0), mean=mean, std=std).eval()  # as published

    It is a model like any other, for all measurements and attacks of this package; gradients pass through the average
    (which is the adaptive attack on it), the points recomputed one by one in the backward pass. The output is the
    logarithm of the averaged probabilities: its softmax is the average, its argmax the vote.

    Args:
        model: maps images (n, c, h, w) to logits (n, classes).
        radius: R, the L2 length over all channels, in the unit of the input of `model`.
        directions: K.
        sampling: "shells" (the published one), "sphere", "ball" or "gaussian": see `Points`.
        include_original: whether the input itself is among the points.
        average: "probabilities", the mean of the softmax; "logits", the mean of the logits, as the formula has it.
        seed: key of the directions.
        batch_size: inputs in one forward pass of `model`: several points of a small batch go together. None: one point
            of all images at a time, so that the memory is that of `model`.

    Raises:
        ValueError: a radius that is not positive, no direction, a choice other than these.

    Source: Lin, Jiang 2019, "Bandlimiting Neural Networks Against Adversarial Attacks", section 4. Directions are
        random; their variants that point at the nearest decision boundaries are not offered.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        radius: float,
        directions: int = 15,
        sampling: Sampling = "shells",
        include_original: bool = True,
        average: Average = "probabilities",
        seed: int = 0,
        batch_size: int | None = None,
    ) -> None:
        super().__init__()
        if average not in get_args(Average):
            raise ValueError(f"expected `average` of {list(get_args(Average))}, got {average!r}")
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"expected a positive `batch_size`, got {batch_size}")
        self.model = model
        self.points = Points(float(radius), directions, sampling, include_original, seed)
        self.average: Average = average
        self.batch_size = batch_size
        self.training = model.training

    @property
    def forwards(self) -> int:
        """Forward passes of `model` per image."""
        return self.points.count

    def forward(self, images: Tensor) -> Tensor:
        """(n, classes): logarithms of the averaged probabilities, or averaged logits, float32.

        Raises:
            ValueError: images that are not (n, c, h, w) floats.
        """
        if images.ndim != 4 or not images.dtype.is_floating_point:
            raise ValueError(
                f"expected images of shape (n, c, h, w) of a float type, got {images.dtype} {tuple(images.shape)}"
            )
        offsets = self.points.offsets((images.shape[1], images.shape[2], images.shape[3]), images.device)
        at_once = max(1, (self.batch_size or 0) // max(1, len(images)))
        total = self._sum(images, torch.zeros_like(offsets[:1])) if self.points.include_original else None
        for some in offsets.split(at_once):
            for sign in (1, -1):
                found = self._sum(images, sign * some)
                total = found if total is None else self._joined(torch.stack([total, found]))
        assert total is not None
        return total - math.log(self.forwards) if self.average == "probabilities" else total / self.forwards

    def _sum(self, images: Tensor, offsets: Tensor) -> Tensor:
        """(n, classes) over a few offsets; a training step keeps the activations, an attack's gradient does not."""
        if torch.is_grad_enabled() and not self.training:
            return checkpoint(self._evaluate, images, offsets, use_reentrant=False, preserve_rng_state=False)
        return self._evaluate(images, offsets)

    def _evaluate(self, images: Tensor, offsets: Tensor) -> Tensor:
        moved = (images[None].float() + offsets[:, None]).flatten(0, 1).to(images.dtype)
        if images.is_contiguous(memory_format=torch.channels_last):
            moved = moved.contiguous(memory_format=torch.channels_last)
        logits = logits_of(self.model(moved)).float()
        values = logits.log_softmax(dim=1) if self.average == "probabilities" else logits
        return self._joined(values.view(len(offsets), len(images), -1))

    def _joined(self, values: Tensor) -> Tensor:
        """Sums over the first axis: of probabilities, given and returned as their logarithms, or of logits."""
        return values.logsumexp(dim=0) if self.average == "probabilities" else values.sum(dim=0)

    def get_extra_state(self) -> Tensor:
        """What tells one averaging from another in a state dict, beside the weights."""
        text = repr((self.points, self.average))
        return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Check that weights were saved by the same averaging.

        Raises:
            ValueError: they were not.
        """
        if not torch.equal(state.cpu(), self.get_extra_state()):
            saved = bytes(state.cpu().tolist()).decode(errors="replace")
            raise ValueError(f"expected the weights of {(self.points, self.average)!r}, got those of {saved}")

    def extra_repr(self) -> str:
        """The points and the average, for print."""
        return f"{self.points}, average={self.average!r}"

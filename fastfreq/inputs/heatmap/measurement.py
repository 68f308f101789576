"""The Fourier heat map: the error of a classifier under a perturbation of every single frequency."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Unpack

import fastfreq_kernels as kernels
import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from fastfreq.engine.images import Chunk
from fastfreq.engine.layer_rows import check_rows
from fastfreq.engine.measure import measure
from fastfreq.engine.measurement import Measurement, images_of_a_chunk
from fastfreq.engine.run import RunOptions
from fastfreq.engine.session import AHEAD_BYTES, Make, Seen, Session, Take
from fastfreq.engine.stem import SharedStem
from fastfreq.results.folds import Outcomes
from fastfreq.vocabulary import checks, conventions
from fastfreq.vocabulary.conventions import Convention
from fastfreq.vocabulary.metrics import Metric, moments
from fastfreq.vocabulary.metrics import resolve as resolve_metrics
from fastfreq.vocabulary.sums import ExactSum

from .result import Heatmap

_BLOCK = 512  # frequencies between two read-backs: bounds every buffer, whatever the map's size
_STEM_BYTES = 256 << 20  # of first-layer responses kept at a time, for images that share a basis response
_NORM_SAMPLE = 32  # the norm left after clipping is measured on images whose id is a multiple of this


def heatmap(
    model: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    eps: float,
    size: int | tuple[int, int] | None = None,
    convention: str | Convention = "yin2019",
    clip: bool | None = None,
    seed: int = 0,
    metrics: Sequence[str] | Mapping[str, str | Metric] = ("error",),
    layers: Sequence[str] = (),
    frequencies: ArrayLike | None = None,
    share_stem: bool = False,
    **run: Unpack[RunOptions],
) -> Heatmap:
    """Measure the Fourier heat map of an image classifier.

    For every distinct frequency k of the centred `size` map and every image x the model sees
    clip(x + s eps U_k), U_k the unit basis image and s a random sign (see `Convention`), in pixels of
    [0, 1] before normalisation. The map is the top-1 error as a function of k.

    Args:
        model: maps images (n, c, h, w) in [0, 1] to logits (n, classes), in evaluation mode. A network that
            expects normalised input is wrapped in `NormalizedModel`. Outputs with `logits`, and tuples whose
            first entry is the logits, are taken as they are. The model itself is not changed.
        images: (n, c, h, w) tensor or array, float in [0, 1] or uint8; or an iterable of (images, labels)
            batches, read once. Any size, odd, even or rectangular; any number of channels.
        labels: (n,) integers with tensors; None with an iterable; "predicted" takes the model's own predictions, so
            that every error is a changed prediction.
        eps: L2 norm of the perturbation per channel; Yin et al. use 4.0 at 32 x 32 and 15.7 at 224 x 224.
        size: side, or (rows, columns), of the centred map; None for all h x w frequencies.
        convention: "yin2019", "common_signs", "fhmap", "rai", or a Convention.
        clip: overrides the convention's clipping.
        seed: key of the random signs. Signs belong to (seed, image, channel, frequency), of `common_signs` to (seed,
            image, channel): the batch size, the order and the sharding do not change them.
        metrics: besides the top-1 error: "loss", "top5_error" (any k), "flip" (the prediction changed), or a mapping
            from names to functions of (logits, labels) that return one value per image, or their mean (which then
            has no interval: NaN).
        layers: names of submodules whose change is measured (see `Heatmap.layer`).
        frequencies: (f, 2) a subset of the map to evaluate, for sharding; None for all.
        share_stem: compute the first convolution's response to each basis image once for all images. Needs
            clip=False, and is refused with the reason unless a numeric check passes.
        **run: `RunOptions`: precision, batch_size, device, shard, checkpoint, progress and more.

    Returns:
        A Heatmap: `.error`, `.low`, `.high`, `.clean_error`, `.count` and more.

    Raises:
        ValueError: a bad argument; the message says what was expected, what came and the way out.
        TypeError: an argument of the wrong type, or a model whose output holds no logits.
        FloatingPointError: logits that are NaN or infinite.

    Source: Yin, Gontijo Lopes, Shlens, Cubuk, Gilmer 2019, "A Fourier Perspective on Model Robustness in
        Computer Vision", section 3 and Figures 3 and 4.
    """
    what = _HeatmapMeasurement(
        eps=checks.check_eps(eps),
        size=size,
        convention=conventions.resolve(convention).replace(clip=clip),
        seed=checks.check_seed(seed),
        named=metrics,
        layers=tuple(layers),
        frequencies=frequencies,
        share_stem=share_stem,
    )
    what.check_run(run)
    return measure(what, model, images, labels, run)


class _HeatmapMeasurement(Measurement):
    """Every frequency on every image."""

    result, label, clean_first = Heatmap, "heat map", True

    def __init__(
        self,
        *,
        eps: float,
        size: int | tuple[int, int] | None,
        convention: Convention,
        seed: int,
        named: Sequence[str] | Mapping[str, str | Metric],
        layers: tuple[str, ...],
        frequencies: ArrayLike | None,
        share_stem: bool,
    ) -> None:
        self.eps, self.convention, self.seed, self.share_stem = eps, convention, seed, share_stem
        self._size, self._asked = size, frequencies
        self.metrics, self.watched = resolve_metrics(named), layers
        self.numerics = {"share_stem": share_stem}
        self.activations = {}
        self._hooks: list[Any] = []
        self._stem: SharedStem | None = None

    def check_run(self, run: RunOptions) -> None:
        """Refuse options that do not go together."""
        if self.share_stem and self.convention.clip:
            raise ValueError(
                "expected clip=False with share_stem=True: clipping is not linear, got a clipping convention"
            )
        if self.share_stem and (run.get("compile") or self.watched):
            raise ValueError("expected share_stem=True on its own, it does not combine with `compile` or `layers`")
        if run.get("compile") and self.watched:
            raise ValueError(
                "expected compile=False with `layers`: compiled networks may skip the hooks that record them"
            )

    def settings(self, shape: tuple[int, int, int]) -> dict[str, Any]:
        self._map_size = checks.check_size(self._size, shape[1:])
        self._frequencies = checks.check_frequencies(self._asked, shape[1:], self._map_size)
        return {
            "convention": self.convention,
            "eps": self.eps,
            "seed": self.seed,
            "size": self._map_size,
            "frequencies": self._frequencies,
        }

    def keys(self) -> dict[str, list[str]]:
        return {"sums": list(self.metrics), "layers": list(self.watched)}

    def passes(self, shape: tuple[int, int, int]) -> float:
        return 1 + len(self._frequencies)

    # ---------------------------------------------------------------- getting ready
    def attach(self, session: Session) -> None:
        check_rows(session.network, self.watched, session.shape)
        self._hooks = [session.network.module(name).register_forward_hook(self._keeper(name)) for name in self.watched]
        if self.share_stem:
            few = torch.full((2, *session.shape), 0.5, device=session.device)
            few += 0.4 * torch.rand(few.shape, generator=torch.Generator().manual_seed(0)).to(few)
            self._stem = SharedStem(session.network, session.network.clean_batch(few.clamp_max(1)))

    def start(self, session: Session) -> None:
        self._tensor = torch.from_numpy(self._frequencies).to(session.device)
        waves = self.convention.oriented(self._frequencies, session.shape[1:])
        self._oriented = torch.from_numpy(waves).to(session.device)
        if self._stem is not None:
            self._stem.cast(session.network.dtype)
            self._rest = session.graphed(self._stem)

    def batch_size(self, shape: tuple[int, int, int], device: torch.device) -> int | None:
        if not self.share_stem or device.type != "cpu":
            return None
        return 128 if shape[1] * shape[2] <= 64 * 64 else 8

    def chunk_size(self, session: Session) -> int:
        if self._stem is None:
            return images_of_a_chunk(session.pace.batch_size, self.passes(session.shape), session.total)
        return max(session.pace.batch_size, _STEM_BYTES // self._stem.bytes_per_image)

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def _keeper(self, name: str) -> Any:
        def keep(_module: Any, _args: Any, output: Any) -> None:
            value = output[0] if isinstance(output, (tuple, list)) else output
            if not isinstance(value, Tensor):
                raise TypeError(f"expected layer {name!r} to return a tensor, got {type(output).__name__}")
            self.activations[name] = value.float().clone()  # the network may go on in place

        return keep

    # ---------------------------------------------------------------- one chunk
    def evaluate(self, session: Session, chunk: Chunk) -> dict[str, Any]:
        clean, before = self._clean(session, chunk)
        responses = None if self._stem is None else self._responses(session, chunk)
        classes = clean.predicted[0].to(session.device)
        wrong, values, changes, norms = [], [], [], []
        # signs belong to the canonical member of {k, -k}, the phase to the one that the convention says
        for block, waves in zip(self._tensor.split(_BLOCK), self._oriented.split(_BLOCK), strict=True):
            signs = _signs(self.convention, chunk.ids, block, session.shape, self.seed)
            changed = torch.zeros(len(self.watched), 3, len(block), len(chunk), device=session.device)
            make, options = self._waves(session, chunk, waves, signs, responses)
            seen = session.outcomes(
                chunk,
                len(block),
                make,
                measured=self.metrics,
                clean=classes,
                also=self._changes(before, changed) if self.watched else None,
                describe=lambda row, block=block: f"at frequency {tuple(block[row].tolist())}",
                **options,
            )
            wrong.append(seen.wrong(chunk.labels))
            values.append(seen.values)
            changes.append(ExactSum.of(changed, axis=3))
            norms.append(self._norms_left(chunk, waves, signs))
        return {
            "wrong": Outcomes.of(np.concatenate(wrong)),
            "clean_wrong": clean.wrong(chunk.labels)[0],
            "sums": {name: moments([v[name] for v in values], metric) for name, metric in self.metrics.items()},
            "clean_sums": {name: moments([clean.values[name]], m)[0] for name, m in self.metrics.items()},
            "layers": {
                name: ExactSum.concatenate([ExactSum.stack([c[j, kind] for kind in range(3)]) for c in changes])
                for j, name in enumerate(self.watched)
            },
            "norms": ExactSum.concatenate(norms),
        }

    def _clean(self, session: Session, chunk: Chunk) -> tuple[Seen, dict[str, Tensor]]:
        """What the network says of the images as they are, and the outputs of the watched layers."""
        kept: dict[str, list[Tensor]] = {}

        def keep(part: slice, _rows: slice, _logits: Tensor) -> None:
            if part.start == 0:  # from the start again, after running out of memory
                kept.update({name: [] for name in self.watched})
            for name in self.watched:
                kept[name].append(self.activations[name].clone())

        seen = session.clean(chunk, measured=self.metrics, also=keep)
        return seen, {name: torch.cat(parts) for name, parts in kept.items()}

    def _changes(self, before: dict[str, Tensor], changed: Tensor) -> Take:
        def note(part: slice, rows: slice, logits: Tensor) -> None:
            for j, name in enumerate(self.watched):
                changed[j, :, rows, part] = _change(self.activations[name], before[name][part], len(logits))

        return note

    # ---------------------------------------------------------------- what the network sees
    def _waves(
        self, session: Session, chunk: Chunk, block: Tensor, signs: Tensor, responses: Tensor | None
    ) -> tuple[Make, dict[str, Any]]:
        """Images plus waves, or the first layer's responses to them."""
        if self._stem is not None and responses is not None:
            return self._moved(session, chunk, block, signs, responses, self._stem)
        return perturbed(session, chunk, block, signs, eps=self.eps, convention=self.convention), {}

    def _moved(
        self,
        session: Session,
        chunk: Chunk,
        block: Tensor,
        signs: Tensor,
        responses: Tensor,
        stem: SharedStem,
    ) -> tuple[Make, dict[str, Any]]:
        last: list[Any] = [None, None]  # rows, and the responses to their waves, which all images share

        def make(part: slice, rows: slice, _each: int) -> Iterator[Tensor]:
            if last[0] != rows:
                last[:] = rows, stem.basis(self._basis_waves(session, block[rows]))
            for basis, selected in zip(last[1], stem.select(signs[rows, part]), strict=True):
                yield stem.moved(responses[part], basis, selected)

        m, c = min(len(chunk), session.batch_size), session.shape[0]
        image_bytes = chunk.images[0].numel() * session.network.dtype.itemsize
        ahead = AHEAD_BYTES * m * image_bytes // (c * stem.bytes_per_image)
        return make, {"forward": self._rest, "one": True, "ahead": ahead}

    def _responses(self, session: Session, chunk: Chunk) -> Tensor:
        """The first layer's responses to the images as they are."""
        stem, network = self._stem, session.network
        assert stem is not None
        found = session.in_batches(chunk, lambda part: stem.clean(network.clean_batch(part.images)))
        return torch.cat(found)

    def _basis_waves(self, session: Session, frequencies: Tensor) -> Tensor:
        """What `SharedStem.basis` takes: each frequency's wave in each channel."""
        c, h, w = session.shape
        network, std = session.network, session.network.std
        waves = kernels.fourier_perturb(
            torch.zeros(1, c, h, w, device=session.device),
            frequencies,
            torch.ones(len(frequencies), 1, c, dtype=torch.int8, device=session.device),
            eps=self.eps,
            phase=self.convention.phase,
            clip=False,
            mean=None if std is None else torch.zeros_like(std),
            std=std,
        )
        each = torch.diag_embed(waves.permute(0, 2, 3, 1)).permute(0, 3, 4, 1, 2).reshape(-1, c, h, w)
        return each.to(network.dtype).contiguous(memory_format=network.layout)

    def _norms_left(self, chunk: Chunk, frequencies: Tensor, signs: Tensor) -> ExactSum:
        """(f, 2): sum of ||clip(x + d) - x|| / eps over sampled images and channels, and how many."""
        sample = (chunk.ids % _NORM_SAMPLE == 0).nonzero()[:, 0]
        images, signs = chunk.images[sample].contiguous(), signs[:, sample]
        f, count = len(frequencies), len(images) * chunk.images.shape[1]
        left = torch.ones(f, count, dtype=torch.float64, device=frequencies.device)
        if self.convention.clip and len(images):
            step = max(1, (64 if images.device.type == "cpu" else 1024) * 224 * 224 // images.numel())
            for i in range(0, f, step):
                rows = slice(i, i + step)
                moved = kernels.fourier_perturb(
                    images,
                    frequencies[rows],
                    signs[rows],
                    eps=self.eps,
                    phase=self.convention.phase,
                    clip=True,
                )
                delta = moved.view(-1, *images.shape) - images
                left[rows] = torch.linalg.vector_norm(delta, dim=(-2, -1)).double().flatten(1) / self.eps
        total = ExactSum.of(left, axis=1)
        return ExactSum.stack([total, ExactSum.of(np.full(f, float(count)))])

    def finish(self, result: Heatmap) -> None:
        counts = result.wrong_counts
        if len(counts) > 1 and counts.min() == counts.max():
            warnings.warn(
                f"the map is flat: every frequency gave {counts[0]} errors on {result.n_images} images. Either `eps` "
                f"is too small or too large for this model, there are too few images, or the perturbation does not "
                f"reach the network (a model that rescales or quantises its input?)",
                stacklevel=4,
            )


def _signs(convention: Convention, ids: Tensor, frequencies: Tensor, shape: tuple[int, int, int], seed: int) -> Tensor:
    """(f, n, c) signs that a convention draws."""
    return kernels.fourier_signs(ids, frequencies, shape, seed=seed, signs=convention.signs, common=convention.common)


def _change(after: Tensor, before: Tensor, frequencies: int) -> Tensor:
    """(3, f, n): absolute and relative L2 change and cosine of activations, image by image."""
    n = len(before)
    a, b = after.float().reshape(frequencies, n, -1), before.float().reshape(1, n, -1)
    absolute = torch.linalg.vector_norm(a - b, dim=-1)
    norm = torch.linalg.vector_norm(b, dim=-1).clamp_min(torch.finfo(torch.float32).tiny)
    return torch.stack([absolute, absolute / norm, torch.cosine_similarity(a, b, dim=-1)])


def perturbed(
    session: Session, chunk: Chunk, waves: Tensor, signs: Tensor, *, eps: float, convention: Convention
) -> Make:
    """Makes batches of images plus waves (k, 2), as the network takes them, for `Session.outcomes`.

    Args:
        session: of the run.
        chunk: its images.
        waves: (k, 2) int64, oriented as the convention says.
        signs: (k, n, channels) int8.
        eps: L2 norm per channel.
        convention: what a perturbation is.
    """

    def make(part: slice, rows: slice, each: int) -> tuple[Tensor, ...]:
        return kernels.fourier_perturb(
            chunk.images[part],
            waves[rows],
            signs[rows, part],
            eps=eps,
            phase=convention.phase,
            clip=convention.clip,
            **session.network.takes,
        ).split(each * (part.stop - part.start))

    return make

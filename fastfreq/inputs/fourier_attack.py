"""The single-frequency attack: one wave at a time is added to an image until the network misclassifies it."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any, ClassVar, Literal, Unpack

import fastfreq_kernels as kernels
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from fastfreq.engine.images import Chunk
from fastfreq.engine.measure import measure
from fastfreq.engine.measurement import Measurement
from fastfreq.engine.memory import Graphed
from fastfreq.engine.run import RunOptions
from fastfreq.engine.session import Session
from fastfreq.results import tables
from fastfreq.results.folds import by_image, same
from fastfreq.results.result import ModelResult
from fastfreq.vocabulary import checks, conventions, fourier, numbers, statistics, streams
from fastfreq.vocabulary.conventions import Convention

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Order = Literal["low", "high", "random"]
_MOST_CHANNELS = 8  # 256 combinations of signs at each frequency


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class FourierAttack(ModelResult, kind="fourier_attack"):
    """The first wave, in a fixed order of queries, under which each image is misclassified.

    A query is one frequency with one sign per channel; all images were asked the same queries in the same order, each
    until it was fooled. Images that were misclassified to begin with cost no query and count for no rate but `error`.

    Attributes:
        size: (rows, columns) of the centred map that holds the frequencies.
        eps: L2 norm of the perturbation per channel.
        convention: phase, signs and clipping.
        order: of the queries, "low", "high" or "random".
        seed: of the random order.
        frequencies: (q, 2) of each query, cycles per image.
        signs: (q, c) int8 of each query.
        labels: (n,) true classes; -1 where unknown (files of version 0.1).
        clean_wrong: (n,) bool, misclassified without any perturbation.
        found: (n,) index of the query that fooled the image, -1 where none did.
    """

    SHAPES: ClassVar[dict[str, str]] = {
        "frequencies": "q 2", "signs": "q c", "labels": "n", "clean_wrong": "n", "found": "n",
    }  # fmt: skip

    size: tuple[int, int] = same()
    eps: float = same()
    convention: Convention = same()
    order: str = same()
    seed: int = same()
    frequencies: IntArray = same()
    signs: NDArray[np.int8] = same()
    labels: IntArray = by_image()
    clean_wrong: NDArray[np.bool_] = by_image()
    found: IntArray = by_image()

    def _check_shapes(self) -> None:
        super()._check_shapes()
        q, c = len(self.frequencies), self.shape[0]
        for name, expected in {"frequencies": (q, 2), "signs": (q, c)}.items():
            if getattr(self, name).shape != expected:
                raise ValueError(f"expected `{name}` of shape {expected}, got {getattr(self, name).shape}")
        if self.found.size and not (self.found.min() >= -1 and self.found.max() < q):
            raise ValueError(f"expected `found` from -1 to {q - 1}, got {self.found.min()} to {self.found.max()}")

    # ---------------------------------------------------------------- image by image
    @property
    def success(self) -> NDArray[np.bool_]:
        """(n,) fooled by a query."""
        return self.found >= 0

    @property
    def queries(self) -> IntArray:
        """(n,) queries asked about each image: 0 if it was misclassified to begin with, all if none fooled it."""
        asked = np.where(self.success, self.found + 1, len(self.frequencies))
        return np.where(self.clean_wrong, 0, asked)

    def perturbation(self, image_id: int) -> FloatArray:
        """(c, h, w) what fools an image, in pixels of [0, 1], before clipping.

        Raises:
            KeyError: no such image, or one that no query fooled.
        """
        row = np.flatnonzero(self.image_ids == image_id)
        if not len(row) or self.found[row[0]] < 0:
            raise KeyError(f"expected the id of an image that a query fooled, got {image_id}")
        query = self.found[row[0]]
        ky, kx = (int(k) for k in self.convention.oriented(self.frequencies[query], self.shape[1:]))
        wave = fourier.basis_image((ky, kx), self.shape[1:], self.convention.phase)
        return self.eps * self.signs[query][:, None, None] * wave

    # ---------------------------------------------------------------- rates
    @property
    def n_attacked(self) -> int:
        """Images that were right to begin with."""
        return int((~self.clean_wrong).sum())

    @property
    def success_rate(self) -> float:
        """Share of the images right to begin with that a query fooled; NaN if there are none."""
        return float(self.success.sum() / self.n_attacked) if self.n_attacked else float("nan")

    def interval(self, *, confidence: float = 0.95) -> tuple[float, float]:
        """(low, high) Wilson interval of `success_rate` over images."""
        low, high = statistics.wilson(self.success.sum(), self.n_attacked, confidence=confidence)
        return float(low), float(high)

    @property
    def error(self) -> float:
        """Share of all images that are misclassified, without a perturbation or under the worst query."""
        return float((self.clean_wrong | self.success).mean())

    def curve(self) -> tuple[IntArray, FloatArray]:
        """(queries, success rate after as many), at every count of queries at which it rises, and at all of them."""
        taken, fooled = np.unique(self.queries[self.success], return_counts=True)
        taken = np.concatenate([[0], taken, [len(self.frequencies)]])
        return taken, np.concatenate([[0], np.cumsum(fooled), [self.success.sum()]]) / max(self.n_attacked, 1)

    @property
    def map(self) -> FloatArray:
        """Centred map: images whose first success was at this frequency (k and -k are one), NaN where none was tried.

        Frequencies asked early win ties: with the order "random" the map favours none.
        """
        counts = np.bincount(self.found[self.success], minlength=len(self.frequencies))
        return fourier.to_map(counts, self.frequencies, self.shape[1:], self.size)

    # ---------------------------------------------------------------- out of the toolkit
    def table(self) -> list[dict[str, Any]]:
        """One row per image: id, clean_wrong, success, queries, and ky, kx, radius, signs of what fooled it."""
        query = np.maximum(self.found, 0)
        frequency = self.frequencies[query]
        text = ["".join("+" if sign > 0 else "-" for sign in signs) for signs in self.signs[query]]
        columns: dict[str, Any] = {"image_id": self.image_ids, "clean_wrong": self.clean_wrong}
        columns |= {"success": self.success, "queries": self.queries}
        radius = fourier.radius(frequency, self.shape[1:])
        for name, values in (("ky", frequency[:, 0]), ("kx", frequency[:, 1]), ("radius", radius)):
            columns[name] = np.where(self.success, values, np.nan)
        columns["signs"] = np.where(self.success, text, "")
        return tables.from_columns(columns)

    def summary(self) -> list[dict[str, Any]]:
        """In short, one row: images, those right to begin with, the rate at which they are fooled, median queries."""
        low, high = self.interval()
        row: dict[str, Any] = {
            "images": self.n_images,
            "attacked": self.n_attacked,
            "queries each": len(self.frequencies),
        }
        row |= {"success rate": self.success_rate, "success rate_low": low, "success rate_high": high}
        if self.success.any():
            row["median queries to success"] = float(np.median(self.queries[self.success]))
        return [row]

    def headline(self) -> str:
        """The rate at which images are fooled, with its interval."""
        low, high = self.interval()
        return f"{self.success_rate:.3f} [{low:.3f}, {high:.3f}] of {self.n_attacked:,} images fooled by one wave"

    @classmethod
    def from_format_1(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> FourierAttack:
        """What version 0.1 wrote."""
        fields: dict[str, Any] = {name: arrays[name] for name in ("frequencies", "signs", "clean_wrong", "found")}
        return cls(
            **cls._of_format_1(header, arrays["image_ids"]),
            size=tuple(header["size"]),
            eps=float(header["eps"]),
            convention=Convention.from_header(header["convention"]),
            order=header["order"],
            seed=int(header["seed"]),
            labels=np.full(len(arrays["image_ids"]), -1),
            **fields,
        )


def fourier_attack(
    model: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    eps: float,
    size: int | tuple[int, int] | None = None,
    frequencies: ArrayLike | None = None,
    queries: int | None = None,
    order: Order = "low",
    convention: str | Convention = "yin2019",
    clip: bool | None = None,
    seed: int = 0,
    **run: Unpack[RunOptions],
) -> FourierAttack:
    """Search each image for one Fourier basis image that fools the network: no gradients, only its decisions.

    A query shows clip(x + eps s_c U_k), U_k the unit basis image of frequency k and s_c the sign of channel c. All
    frequencies asked for are tried with all 2^c combinations of signs, in one order for all images, until the image is
    misclassified: an image that no query fools is certified against every single wave of this norm, phase and map.
    Memory is that of one batch, whatever the number of queries: waves are made as they are needed.

    Args:
        model: as for `heatmap`.
        images: as for `heatmap`.
        labels: as for `heatmap`.
        eps: L2 norm of the perturbation per channel, in pixels of [0, 1]; 15.7 and 24 are usual at 224 x 224.
        size: side, or (rows, columns), of the centred map whose frequencies are tried; None for all h x w.
        frequencies: (f, 2) a subset of the map; None for all.
        queries: most queries per image; None for all frequencies and signs, exhaustively.
        order: "low" from low to high radius, "high" the other way round, both with all signs of a frequency after each
            other; "random" draws frequencies with signs from `seed`, without repetition.
        convention: phase of the waves, whether to clip, and the signs searched: "channel" all 2^c combinations,
            "image" both signs of all channels together, "none" only +.
        clip: overrides the convention's clipping.
        seed: of the order "random".
        **run: `RunOptions`: precision, batch_size, device, shard, checkpoint, progress and more.

    Returns:
        A FourierAttack: `.success_rate`, `.interval()`, `.queries`, `.curve()`, `.map`, `.perturbation(id)`.

    Raises:
        ValueError: a bad argument.
        TypeError: an argument of the wrong type, or a model whose output holds no logits.
        FloatingPointError: logits that are NaN or infinite.

    Source: Tsuzuku, Sato 2019, "On the structural sensitivity of deep convolutional networks to the directions of
        Fourier basis functions" (CVPR), section 4; the basis of Yin et al. 2019.
    """
    what = _Search(
        eps=checks.check_eps(eps),
        convention=conventions.resolve(convention).replace(clip=clip),
        size=size,
        frequencies=frequencies,
        queries=None if queries is None else numbers.as_int("queries", queries),
        order=order,
        seed=checks.check_seed(seed),
    )
    return measure(what, model, images, labels, run)


def _questions(
    frequencies: NDArray[np.int64], shape: tuple[int, int, int], order: str, convention: Convention, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """(frequencies (q, 2), signs (q, c)) of all queries, in their order.

    Raises:
        ValueError: an unknown order, or too many channels for all combinations of signs.
    """
    if order not in ("low", "high", "random"):
        raise ValueError(f"expected an `order` of 'low', 'high' or 'random', got {order!r}")
    c = shape[0]
    if convention.signs == "channel" and c > _MOST_CHANNELS:
        raise ValueError(
            f"expected at most {_MOST_CHANNELS} channels to search all signs of, got {c}; search fewer with "
            f"convention=fastfreq.CONVENTIONS['yin2019'].replace(signs='image')"
        )
    combinations = {
        "channel": [(first, *(first * s for s in rest)) for rest in itertools.product((1, -1), repeat=c - 1)
                    for first in (1, -1)],
        "image": [(1,) * c, (-1,) * c],
        "none": [(1,) * c],
    }[convention.signs]  # fmt: skip
    radius = fourier.radius(frequencies, shape[1:])
    by_radius = np.argsort(-radius if order == "high" else radius, kind="stable")
    asked = np.repeat(frequencies[by_radius], len(combinations), axis=0)
    signs = np.tile(np.array(combinations, dtype=np.int8), (len(frequencies), 1))
    if order != "random":
        return asked, signs
    shuffled = streams.generator("fourier_attack", seed).permutation(len(asked))
    return asked[shuffled], signs[shuffled]


class _Search(Measurement):
    """Asks queries about images, all of which fit into one batch, until they are fooled."""

    result, label, clean_first = FourierAttack, "attack", True

    def __init__(
        self,
        *,
        eps: float,
        convention: Convention,
        size: int | tuple[int, int] | None,
        frequencies: ArrayLike | None,
        queries: int | None,
        order: str,
        seed: int,
    ) -> None:
        if queries is not None and queries < 1:
            raise ValueError(f"expected at least one of `queries`, or None for all, got {queries}")
        self._eps, self._convention, self._order, self._seed = eps, convention, order, seed
        self._size, self._frequencies, self._queries = size, frequencies, queries

    def settings(self, shape: tuple[int, int, int]) -> dict[str, Any]:
        """As in `Measurement`."""
        map_size = checks.check_size(self._size, shape[1:])
        wanted = checks.check_frequencies(self._frequencies, shape[1:], map_size)
        asked, signs = _questions(wanted, shape, self._order, self._convention, self._seed)
        self._asked, self._signs = asked[: self._queries], signs[: self._queries]
        return {
            "size": map_size,
            "eps": self._eps,
            "convention": self._convention,
            "order": self._order,
            "seed": self._seed,
            "frequencies": self._asked,
            "signs": self._signs,
        }

    def passes(self, shape: tuple[int, int, int]) -> float:
        """As in `Measurement`: at most, where no query fools any image."""
        return 1 + len(self._asked)

    def start(self, session: Session) -> None:
        """As in `Measurement`."""
        waves = self._convention.oriented(self._asked, session.shape[1:])  # the phase belongs to this member
        self._waves = torch.from_numpy(waves).to(session.device)
        self._channels = torch.from_numpy(self._signs).to(session.device)
        # batches shrink as images fall: a CUDA graph would be captured for each of their sizes
        self._forward = session.network if isinstance(session.forward, Graphed) else session.forward

    def evaluate(self, session: Session, chunk: Chunk) -> dict[str, Any]:
        """As in `Measurement`."""
        before = session.clean(chunk).wrong(chunk.labels)[0]
        found = np.full(len(before), -1, dtype=np.int64)
        left, at = np.flatnonzero(~before), 0
        while len(left) and at < len(self._waves):
            some = chunk.part(torch.from_numpy(left).to(session.device))
            first, at = self._until_one_is_fooled(session, some, at)
            found[left] = first
            left = left[first < 0]
        return {"clean_wrong": before, "found": found}

    def _until_one_is_fooled(self, session: Session, chunk: Chunk, at: int) -> tuple[IntArray, int]:
        """The next queries, batch by batch: (query that fools each image, or -1; the first query not asked)."""
        total = len(self._waves)
        while at < total:
            count = min(max(1, session.batch_size // len(chunk)), total - at)
            wrong = self._ask(session, chunk, slice(at, at + count))
            if wrong.any():
                return np.where(wrong.any(axis=0), at + wrong.argmax(axis=0), -1), at + count
            at += count
        return np.full(len(chunk), -1, dtype=np.int64), total

    def _ask(self, session: Session, chunk: Chunk, queries: slice) -> NDArray[np.bool_]:
        """(q, n) whether each query fools each image."""
        network, waves, channels = session.network, self._waves[queries], self._channels[queries]

        def make(part: slice, rows: slice, each: int) -> tuple[Tensor, ...]:
            some = chunk.images[part]
            return kernels.fourier_perturb(
                some,
                waves[rows],
                channels[rows][:, None].expand(-1, len(some), -1),
                eps=self._eps,
                phase=self._convention.phase,
                clip=self._convention.clip,
                **network.takes,
            ).split(each * len(some))

        def describe(row: int) -> str:
            return f"query {queries.start + row}, frequency {tuple(waves[row].tolist())}"

        seen = session.outcomes(chunk, len(waves), make, forward=self._forward, describe=describe)
        return seen.wrong(chunk.labels)

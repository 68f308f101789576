"""The single-frequency attack: one wave at a time is added to an image until the network misclassifies it."""

from __future__ import annotations

import itertools
from typing import Any, Literal

import fastfreq_kernels as kernels
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from tqdm import tqdm

from fastfreq.core.fourier_attack import FourierAttackResult
from fastfreq.vocabulary import checks, conventions, fourier
from fastfreq.vocabulary.conventions import Convention

from ._conditions import Alter, ConditionLoop, on_device, prepare
from ._network import Precision
from ._stream import Chunk

Order = Literal["low", "high", "random"]
_MOST_CHANNELS = 8  # 256 combinations of signs at each frequency


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
    precision: Precision = "fp32",
    channels_last: bool = True,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    first_image: int = 0,
    shard: tuple[int, int] = (0, 1),
    progress: bool = False,
) -> FourierAttackResult:
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
        precision: as for `heatmap`.
        channels_last: as for `heatmap`.
        batch_size: perturbed images in one forward pass; halved when memory runs out.
        device: where to run; None for where the model is.
        first_image: id of the first image.
        shard: (i, n) attacks the images whose id is i modulo n; results of all shards merge with ``+``.
        progress: show a progress bar.

    Returns:
        A FourierAttackResult: `.success_rate`, `.interval()`, `.queries`, `.curve()`, `.map`, `.perturbation(id)`.

    Raises:
        ValueError: a bad argument.
        TypeError: an argument of the wrong type, or a model whose output holds no logits.
        FloatingPointError: logits that are NaN or infinite.

    Source: Tsuzuku, Sato 2019, "On the structural sensitivity of deep convolutional networks to the directions of
        Fourier basis functions" (CVPR), section 4; the basis of Yin et al. 2019.
    """
    eps = checks.check_eps(eps)
    chosen = conventions.resolve(convention).replace(clip=clip)
    if queries is not None and queries < 1:
        raise ValueError(f"expected at least one of `queries`, or None for all, got {queries}")
    network, stream, shape, details = prepare(
        model,
        images,
        labels,
        precision=precision,
        channels_last=channels_last,
        device=device,
        first_image=first_image,
        shard=shard,
    )
    map_size = checks.check_size(size, shape[1:])
    wanted = checks.check_frequencies(frequencies, shape[1:], map_size)
    asked, signs = _questions(wanted, shape, order, chosen, seed)
    search = _Search(
        ConditionLoop(network, batch_size=batch_size, shape=shape),
        torch.from_numpy(asked[:queries]).to(network.device),
        torch.from_numpy(signs[:queries]).to(network.device),
        eps=eps,
        convention=chosen,
    )
    ids, wrong, found = [], [], []
    with torch.inference_mode(), tqdm(total=stream.total, unit="img", desc="attack", disable=not progress) as bar:
        for chunk in stream.chunks(search.loop.batch_size):
            before, query = search.run(on_device(chunk, network.device))
            ids.append(chunk.ids.numpy())
            wrong.append(before)
            found.append(query)
            bar.update(len(before))
    return FourierAttackResult(
        shape=shape,
        size=map_size,
        eps=eps,
        convention=chosen,
        order=order,
        seed=seed,
        frequencies=asked[:queries],
        signs=signs[:queries],
        image_ids=np.concatenate(ids),
        clean_wrong=np.concatenate(wrong),
        found=np.concatenate(found),
        details=details,
    )


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
    shuffled = np.random.default_rng(seed).permutation(len(asked))
    return asked[shuffled], signs[shuffled]


class _Search:
    """Asks queries (q, 2), (q, c) about images, all of which fit into one batch, until they are fooled."""

    def __init__(
        self, loop: ConditionLoop, frequencies: Tensor, signs: Tensor, *, eps: float, convention: Convention
    ) -> None:
        self.loop, self.frequencies, self.signs = loop, frequencies, signs
        self.eps, self.convention = eps, convention

    def run(self, chunk: Chunk) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """(misclassified to begin with, index of the query that fools, or -1), both (n,)."""
        wrong, _ = self.loop.outcomes(chunk, 1, lambda part, _: chunk.images[part], lambda _: None)
        before = wrong[0].numpy()
        found = np.full(len(before), -1, dtype=np.int64)
        left, at = np.flatnonzero(~before), 0
        while len(left) and at < len(self.frequencies):
            some = Chunk(*(t[torch.from_numpy(left).to(t.device)] for t in chunk))
            first, at = self._until_one_is_fooled(some, at)
            found[left] = first
            left = left[first < 0]
        return before, found

    def _until_one_is_fooled(self, chunk: Chunk, at: int) -> tuple[NDArray[np.int64], int]:
        """The next queries, batch by batch: (query that fools each image, or -1; the first query not asked)."""
        total = len(self.frequencies)
        while at < total:
            count = min(max(1, self.loop.batch_size // len(chunk.ids)), total - at)
            wrong = self.loop.outcomes(chunk, count, self._perturbed(chunk.images, at), lambda _: None)[0].numpy()
            if wrong.any():
                return np.where(wrong.any(axis=0), at + wrong.argmax(axis=0), -1), at + count
            at += count
        return np.full(len(chunk.ids), -1, dtype=np.int64), total

    def _perturbed(self, images: Tensor, at: int) -> Alter:
        """Images under the queries `at` + condition, in pixels."""

        def alter(part: slice, conditions: slice) -> Tensor:
            rows = slice(at + conditions.start, at + conditions.stop)
            some, frequencies = images[part], self.frequencies[rows]
            return kernels.fourier_perturb(
                some,
                frequencies,
                self.signs[rows][:, None].expand(-1, len(some), -1),
                eps=self.eps,
                phase=self.convention.phase,
                clip=self.convention.clip,
            )

        return alter

"""a + b: shards of images or of frequencies become one heat map."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from fastfreq.core.results import HeatmapResult

MEASUREMENT = ("convention", "eps", "seed", "shape", "size", "sums", "layers")
_BLOCK = 256  # frequencies whose outcomes are unpacked at a time


def check_same_measurement(a: HeatmapResult, b: HeatmapResult, names: tuple[str, ...]) -> None:
    """Refuse two results that do not measure the same thing, naming what differs."""
    for name in names:
        left, right = getattr(a, name), getattr(b, name)
        if name in ("sums", "layers"):
            left, right = sorted(left), sorted(right)
        if left != right:
            raise ValueError(f"expected two heat maps with the same {name}, got {left} and {right}")


def merge(a: HeatmapResult, b: HeatmapResult) -> HeatmapResult:
    """The heat map of both shards together: other images, or other frequencies.

    Counts are exact integers: any split and any order of merging gives the same map to the last digit.

    Raises:
        ValueError: the shards measure different things, overlap, or differ in images *and* frequencies.
    """
    check_same_measurement(a, b, MEASUREMENT)
    if a.details.get("model_fingerprint") != b.details.get("model_fingerprint"):
        raise ValueError("expected two shards of one model, got different weights; compare them with a.compare(b)")
    if np.array_equal(a.frequencies, b.frequencies):
        return _merge_images(a, b)
    if np.array_equal(a.image_ids, b.image_ids):
        return _merge_frequencies(a, b)
    raise ValueError(
        "expected shards with the same frequencies and other images, or the same images and other frequencies; "
        "these differ in both: first merge the shards that share one of the two"
    )


def _merge_images(a: HeatmapResult, b: HeatmapResult) -> HeatmapResult:
    common = np.intersect1d(a.image_ids, b.image_ids)
    if len(common):
        raise ValueError(
            f"expected shards of different images, {len(common)} image ids are in both (the first: {common[0]}); "
            f"give each shard its own `first_image`, or use `shard=(i, n)`"
        )
    ids = np.concatenate([a.image_ids, b.image_ids])
    order = np.argsort(ids)
    wrong = np.empty((len(a.frequencies), (len(ids) + 7) // 8), dtype=np.uint8)
    for start in range(0, len(wrong), _BLOCK):
        block = slice(start, start + _BLOCK)
        bits = [np.unpackbits(r.wrong[block], axis=1, count=r.n_images) for r in (a, b)]
        wrong[block] = np.packbits(np.concatenate(bits, axis=1)[:, order], axis=1)

    return dataclasses.replace(
        a,
        image_ids=ids[order],
        labels=np.concatenate([a.labels, b.labels])[order],
        wrong=wrong,
        clean_wrong=np.concatenate([a.clean_wrong, b.clean_wrong])[order],
        sums={k: v + b.sums[k] for k, v in a.sums.items()},
        clean_sums={k: v + b.clean_sums[k] for k, v in a.clean_sums.items()},
        layers={k: v + b.layers[k] for k, v in a.layers.items()},
        norms=a.norms + b.norms,
    )


def _merge_frequencies(a: HeatmapResult, b: HeatmapResult) -> HeatmapResult:
    if not (np.array_equal(a.labels, b.labels) and np.array_equal(a.clean_wrong, b.clean_wrong)):
        raise ValueError("expected shards of the same images; their labels or clean predictions differ")
    both = np.concatenate([a.frequencies, b.frequencies])
    frequencies, first = np.unique(both, axis=0, return_index=True)
    if len(frequencies) != len(both):
        raise ValueError(f"expected shards of different frequencies, {len(both) - len(frequencies)} are in both")

    def joined(x: NDArray, y: NDArray) -> NDArray:
        return np.concatenate([x, y])[first]

    return dataclasses.replace(
        a,
        frequencies=frequencies,
        wrong=joined(a.wrong, b.wrong),
        sums={k: joined(v, b.sums[k]) for k, v in a.sums.items()},
        layers={k: joined(v, b.layers[k]) for k, v in a.layers.items()},
        norms=joined(a.norms, b.norms),
    )

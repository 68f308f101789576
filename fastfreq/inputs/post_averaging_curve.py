"""Does averaging a model over points around its input defend it? Accuracy, clean and attacked, by radius."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from fastfreq.core.averaging_curve import PostAveragingCurve
from fastfreq.engine.pixels import NormalizedModel

from ._conditions import on_device, prepare
from ._network import Network
from ._predictions import predicted_classes
from .attacks import FGSM, PGD, attack_name, is_foolbox, resolve_attack
from .post_averaging import Average, Points, PostAveraging, Sampling


def post_averaging_curve(
    model: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    radii: Sequence[float],
    attack: Any,
    eps: float | None = None,
    adaptive: bool = False,
    normalised: bool = False,
    directions: int = 15,
    sampling: Sampling = "shells",
    include_original: bool = True,
    average: Average = "probabilities",
    seed: int = 0,
    batch_size: int = 64,
    device: torch.device | str | None = None,
    first_image: int = 0,
    shard: tuple[int, int] = (0, 1),
    progress: bool = False,
) -> PostAveragingCurve:
    """Accuracy of `PostAveraging` of a model, on images and on attacked images, as the radius grows.

    By default the attack sees the model without averaging, as in the paper: a defence that the attacker does not know
    of, whose figures say nothing about one who does. With `adaptive` each average is attacked through its own
    gradient.

    Args:
        model: maps images in [0, 1] to logits, in evaluation mode; it is not changed.
        images: (n, c, h, w) tensor or array, float in [0, 1] or uint8; or an iterable of (images, labels) batches.
        labels: (n,) true classes with tensors; None with an iterable.
        radii: R of each average, ascending.
        attack: as for `adversarial_spectrum`.
        eps: as for `adversarial_spectrum`.
        adaptive: attack each average, with an `FGSM`, a `PGD` or an attack of foolbox.
        normalised: R in units of the input of the network inside a NormalizedModel, as in the authors' code; else in
            pixels of [0, 1].
        directions: as for `PostAveraging`.
        sampling: as for `PostAveraging`.
        include_original: as for `PostAveraging`.
        average: as for `PostAveraging`.
        seed: key of the directions.
        batch_size: images in one forward pass.
        device: where to run; None for where the model is.
        first_image: id of the first image.
        shard: (i, n) takes the images whose id is i modulo n; results of all shards merge with ``+``.
        progress: show a progress bar.

    Returns:
        A PostAveragingCurve: `.curve("clean")`, `.curve("attacked")`, `.curve("recovered")`, with `.interval`.

    Raises:
        ValueError: a bad argument, or an attack that returns another size, NaN, or pixels outside [0, 1].
        TypeError: an argument of the wrong type, or a model whose output holds no logits.
        FloatingPointError: logits or a gradient that are NaN or infinite.

    Source: Lin, Jiang 2019, section 5.
    """
    if batch_size < 1:
        raise ValueError(f"expected a positive `batch_size`, got {batch_size}")
    chosen = tuple(float(radius) for radius in radii)
    if not chosen or list(chosen) != sorted(set(chosen)):
        raise ValueError(f"expected `radii` ascending, each once, got {radii}")
    points = [Points(radius, directions, sampling, include_original, seed) for radius in chosen]
    own_attack = resolve_attack(attack, model, eps)
    network, stream, shape, details = prepare(
        model,
        images,
        labels,
        precision="fp32",
        channels_last=True,
        device=device,
        first_image=first_image,
        shard=shard,
    )
    averaged = [_averaged(network, each, average, normalised) for each in points]
    attacks = [own_attack] * len(averaged)
    if adaptive:
        _check_adaptive(attack)
        attacks = [resolve_attack(attack, _as_module(each), eps) for each in averaged]
    passes = None if stream.total is None else stream.total * 2 * (1 + len(points))
    ids, true, found = [], [], []
    with tqdm(total=passes, unit="img", desc="post-averaging", disable=not progress) as bar:
        for chunk in stream.chunks(batch_size):
            here = on_device(chunk, network.device)

            def classes(by: Network, pixels: Tensor, here: Any = here) -> Any:
                bar.update(len(pixels))
                with torch.inference_mode():
                    return predicted_classes(by, here, pixels, batch_size)

            adversarial = own_attack(network, here)
            rows = [classes(network, here.images), classes(network, adversarial)]
            rows += [classes(each, here.images) for each in averaged]
            for each, run in zip(averaged, attacks, strict=True):
                rows.append(classes(each, run(each, here) if adaptive else adversarial))
            ids.append(chunk.ids.numpy())
            true.append(chunk.labels.cpu().numpy())
            found.append(np.stack(rows))
    predicted, r = np.concatenate(found, axis=1), len(chosen)
    return PostAveragingCurve(
        radii=chosen,
        normalised=normalised,
        points=f"{directions} directions and their opposites, {sampling}, mean of {average}, seed {seed}",
        forwards=points[0].count,
        attack=attack_name(attack, eps),
        adaptive=adaptive,
        shape=shape,
        image_ids=np.concatenate(ids),
        labels=np.concatenate(true),
        predicted=predicted[0],
        predicted_attacked=predicted[1],
        averaged=predicted[2 : 2 + r],
        averaged_attacked=predicted[2 + r :],
        details=details,
    )


def _averaged(network: Network, points: Points, average: Average, normalised: bool) -> Network:
    """The average of a network, which shares its weights; its points lie in pixels or in normalised input."""
    if normalised and network.mean is None:
        raise ValueError(
            "expected a NormalizedModel with normalised=True, whose network's input R is measured in; leave it out to "
            "measure R in what the model takes"
        )
    other = copy.copy(network)
    inner = network.net if normalised else _as_module(network)
    other.net = PostAveraging(inner, average=average, **dataclasses.asdict(points))
    if not normalised:
        other.mean = other.std = None
    return other


def _as_module(network: Network) -> nn.Module:
    """What takes pixels in [0, 1]."""
    if network.mean is None or network.std is None:
        return network.net
    wrapped = NormalizedModel(network.net, mean=network.mean.tolist(), std=network.std.tolist())
    return wrapped.to(network.device).eval()


def _check_adaptive(attack: Any) -> None:
    if not isinstance(attack, (FGSM, PGD)) and not is_foolbox(attack):
        raise TypeError(
            f"expected an FGSM, a PGD or an attack of foolbox with adaptive=True, {type(attack).__name__} holds a "
            f"model of its own; make it of a PostAveraging and measure one radius at a time"
        )

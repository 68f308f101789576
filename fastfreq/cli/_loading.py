"""The model and the images that words name."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fastfreq.data import load_data, load_images
from fastfreq.engine.model_checks import logits_of
from fastfreq.engine.network import fingerprint as fingerprint_of
from fastfreq.engine.pixels import NormalizedModel
from fastfreq.models import LoadedModel, load_model

from . import _measure, _request
from ._refusals import RefusedError, about

if TYPE_CHECKING:
    from fastfreq.data import ImageData

    from ._measure import Measure, Subject


def subject(verb: Measure, options: argparse.Namespace) -> Subject:
    """What a verb measures.

    Raises:
        RefusedError: words that cannot be followed; the message begins with the word.
    """
    where = _device(options)
    geometry = _measure.preprocessing(options) if verb.data else None
    if not verb.model:
        with about("--data"):
            data = load_images(
                options.data,
                preprocessing=geometry,
                limit=options.limit,
                batch_size=_batch(options),
                decoded=options.decoded,
            )
        name = options.data.with_suffix("") if options.data.is_file() else options.data
        return _measure.Subject(_request.plain(str(name)), None, data, where)
    loaded = model(options, options.model, options.weights)
    if geometry is not None:
        if loaded.preprocessing is not None:
            raise RefusedError(f"--crop: expected none, {options.model} already knows its preprocessing")
        loaded = dataclasses.replace(loaded, preprocessing=geometry)
    data = None if not verb.data or options.data is None else _images(options, loaded)
    return _measure.Subject(loaded.name, loaded, data, where)


def model(options: argparse.Namespace, spec: str, weights: Path | None) -> LoadedModel:
    """A model with --mean and --std inside it, if given."""
    with about("--model" if weights is None or not weights.is_file() else "--model with --weights"):
        if weights is not None and not weights.is_file():
            raise RefusedError(f"--weights: expected a file at {weights}, found nothing")
        loaded = load_model(spec, weights=weights)
    mean, std = getattr(options, "mean", None), getattr(options, "std", None)
    if mean is None and std is None:
        return loaded
    if mean is None or std is None:
        raise RefusedError("expected --mean and --std together, got one of them")
    if isinstance(loaded.model, NormalizedModel):
        raise RefusedError(f"--mean: expected none, {loaded.name} already knows its normalisation")
    with about("--mean and --std"):
        normalised = NormalizedModel(loaded.model, mean=mean, std=std).eval()
    return dataclasses.replace(loaded, model=normalised)


def fingerprint(what: Subject) -> str:
    """Of the model's weights."""
    return "" if what.model is None else fingerprint_of(what.model.model)


def _images(options: argparse.Namespace, loaded: LoadedModel) -> ImageData:
    how = {"preprocessing": loaded.preprocessing, "limit": options.limit, "decoded": options.decoded}
    with about("--data"):
        if getattr(options, "labels", "given") == "predicted":
            return load_images(options.data, **how)
        return load_data(options.data, **how, num_classes=_classes(options, loaded))


def _classes(options: argparse.Namespace, loaded: LoadedModel) -> int | None:
    """Classes of the model, so that the labels of a part of them are refused; None where its input is not known."""
    if loaded.preprocessing is None or not options.data.is_dir():
        return None
    h, w = loaded.preprocessing.size
    try:
        with torch.inference_mode():
            return logits_of(loaded.model(torch.zeros(1, 3, h, w))).shape[1]
    except RuntimeError as error:
        raise RefusedError(
            f"--data: expected a model of colour images of {h} x {w}, as files are decoded, {loaded.name} fails on "
            f"one: {str(error).splitlines()[0]}"
        ) from error


def _batch(options: argparse.Namespace) -> int:
    return getattr(options, "batch_size", None) or 64


def _device(options: argparse.Namespace) -> str:
    """What --device says, or the best there is."""
    asked = getattr(options, "device", None)
    if asked is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if torch.empty(0, device=asked).is_meta:
            raise RuntimeError("it has no numbers")
    except (RuntimeError, AssertionError) as error:  # as torch says both an unknown name and a missing device
        text = str(error).splitlines()[0][:60]
        raise RefusedError(
            f"--device: expected a device of this machine, such as cpu or cuda, got {asked}: {text}"
        ) from error
    return asked

"""Arguments that several verbs share, and the model and images that they name."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TypeAlias

import torch

from fastfreq.data import ImageData, Preprocessing, load_data
from fastfreq.engine.pixels import NormalizedModel
from fastfreq.models import LoadedModel, load_model
from fastfreq.vocabulary.checks import logits_of

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_model(verb: argparse.ArgumentParser) -> None:
    """--model and --weights."""
    verb.add_argument("--model", required=True, help="timm/NAME, torchvision/NAME or FILE.py:FACTORY")
    verb.add_argument("--weights", type=Path, help=".safetensors, or a .pt that weights_only loading accepts")


def add_data(verb: argparse.ArgumentParser) -> None:
    """--data and how its images become what the model takes; for `model_and_data`, together with `add_model`."""
    verb.add_argument(
        "--data", required=True, type=Path, help="a folder of classes, a folder with labels.csv, or an .npz"
    )
    add_geometry(verb, " of FILE.py models' images")
    verb.add_argument("--mean", type=float, nargs="+", metavar="M", help="normalise FILE.py models inside: mean ...")
    verb.add_argument("--std", type=float, nargs="+", metavar="S", help="... and standard deviation per channel")


def add_geometry(verb: argparse.ArgumentParser, of: str = "") -> None:
    """--limit, --resize and --crop."""
    verb.add_argument("--limit", type=int, help="take this many images, spread evenly over the data")
    verb.add_argument("--resize", type=int, metavar="N", help=f"shorter side{of}, before the crop")
    verb.add_argument("--crop", type=int, metavar="N", help=f"side of the centre crop{of}")


def add_seed(verb: argparse.ArgumentParser, of: str = "the random signs") -> None:
    """--seed."""
    verb.add_argument("--seed", type=int, default=0, help=f"key of {of}; default: %(default)s")


def add_device_and_out(verb: argparse.ArgumentParser) -> None:
    """--device and --out."""
    verb.add_argument("--device", help="cuda, cpu ...; default: a GPU if there is one")
    verb.add_argument("--out", type=Path, default=Path("fastfreq-report"), metavar="DIR", help="default: %(default)s")


def device_of(options: argparse.Namespace) -> str:
    """What --device says, or the best there is."""
    return options.device or ("cuda" if torch.cuda.is_available() else "cpu")


def model_and_data(options: argparse.Namespace) -> tuple[LoadedModel, ImageData]:
    """The model on its device and the images, as `add_model`, `add_data` and `add_device_and_out` describe them."""
    loaded = normalised(load_model(options.model, weights=options.weights), options)
    geometry = preprocessing_of(options)
    if geometry is not None:
        if loaded.preprocessing is not None:
            raise ValueError(f"expected no --crop, {options.model} already knows its preprocessing")
        loaded = LoadedModel(loaded.model, loaded.name, geometry)
    device = device_of(options)
    loaded.model.to(device)
    classes = None
    if loaded.preprocessing is not None:  # known size: ask the model, so that labels of a partial folder are refused
        with torch.inference_mode():  # colour images, as files are decoded
            classes = logits_of(loaded.model(torch.zeros(1, 3, *loaded.preprocessing.size, device=device))).shape[1]
    data = load_data(options.data, preprocessing=loaded.preprocessing, limit=options.limit, num_classes=classes)
    return loaded, data


def normalised(loaded: LoadedModel, options: argparse.Namespace) -> LoadedModel:
    """The model with --mean and --std inside it, if given."""
    if (options.mean is None) != (options.std is None):
        raise ValueError("expected --mean and --std together")
    if options.mean is None:
        return loaded
    if isinstance(loaded.model, NormalizedModel):
        raise ValueError(f"expected no --mean, {loaded.name} already knows its normalisation")
    model = NormalizedModel(loaded.model, mean=options.mean, std=options.std).eval()
    return LoadedModel(model, loaded.name, loaded.preprocessing)


def preprocessing_of(options: argparse.Namespace) -> Preprocessing | None:
    """What --resize and --crop say."""
    if options.crop is not None:
        return Preprocessing((options.crop, options.crop), options.resize)
    if options.resize is not None:
        raise ValueError("expected --crop with --resize")
    return None

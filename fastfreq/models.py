"""'timm/NAME', 'torchvision/NAME' or 'file.py:factory' -> a model on pixels in [0, 1]."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import math
import pickle
import re
import sys
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from fastfreq.engine.pixels import NormalizedModel
from fastfreq.vocabulary import checks

from .data import Interpolation, Preprocessing

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_WRAPPERS = ("module.", "_orig_mod.", "net.")  # DataParallel, torch.compile, NormalizedModel


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A model and what its images must go through.

    Attributes:
        model: in evaluation mode, on pixels in [0, 1]; a NormalizedModel where the normalisation is known.
        name: as it was asked for.
        preprocessing: resize and crop that the model was evaluated with, or None where it is not known.
    """

    model: nn.Module
    name: str
    preprocessing: Preprocessing | None


def load_model(spec: str, *, weights: str | Path | None = None, pretrained: bool = True) -> LoadedModel:
    """A model by name, its own preprocessing split into geometry outside and normalisation inside.

    The geometry, resize and crop, is for `load_data`; the normalisation ``(x - mean) / std`` becomes part of the
    model, so that it takes pixels in [0, 1]. Models of a file are returned as their factory made them.

    Args:
        spec: ``timm/NAME``, ``torchvision/NAME``, or ``path/to/file.py:factory`` with a function that takes no
            arguments and returns an nn.Module. The file is run.
        weights: a ``.safetensors`` file, or one that ``torch.load(weights_only=True)`` accepts; a state dict, alone
            or under "state_dict" or "model". Half-precision weights are cast to the model's type.
        pretrained: load the published weights of timm and torchvision models, unless `weights` are given.

    Returns:
        LoadedModel, its model in evaluation mode on the CPU.

    Raises:
        ValueError: a spec of another form, an unknown name, a model that does not classify images by one resize and
            centre crop, or weights that do not fit.
        ImportError: the package is missing, or does not fit the installed torch.
        FileNotFoundError: no such file.
        ConnectionError: published weights could not be fetched.
    """
    kind, _, name = spec.partition("/")
    pretrained = pretrained and weights is None
    if ".py:" in spec:
        loaded = _factory(spec)
    elif kind == "timm" and name:
        loaded = _timm(spec, name, pretrained)
    elif kind == "torchvision" and name:
        loaded = _torchvision(spec, name, pretrained)
    else:
        raise ValueError(f"expected a model as timm/NAME, torchvision/NAME or path/to/file.py:factory, got {spec!r}")
    if weights is not None:
        net = loaded.model.net if isinstance(loaded.model, NormalizedModel) else loaded.model
        load_weights(net, weights)
    loaded.model.eval()
    vars(loaded.model)["asked_for"] = loaded.name  # results are called by it
    return loaded


# ---------------------------------------------------------------- where models come from
def _import(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        raise ImportError(
            f"expected a torchvision built for the installed torch {torch.__version__}, importing {package} failed "
            f"with {error}; install the torchvision of the same build (CPU or CUDA) as torch"
        ) from error
    except ImportError as error:
        raise ImportError(f"expected {package} for this model, {error}; pip install 'fastfreq[models]'") from error


def _timm(spec: str, name: str, pretrained: bool) -> LoadedModel:
    timm = _import("timm")
    if not timm.is_model(name.split(".")[0]):
        raise ValueError(f"expected the name of a timm model, got {name!r}; {_suggestion(name, timm.list_models())}")
    try:
        net = timm.create_model(name, pretrained=pretrained)
    except RuntimeError as error:
        if "pretrained" not in str(error):
            raise
        known = timm.list_models(f"{name.split('.')[0]}*", pretrained=True)
        way_out = _suggestion(name, known) if known else "give a file of `weights`"
        raise ValueError(f"expected a timm model with published weights: {error} {way_out}") from error
    except OSError as error:
        raise _offline(spec, error) from error
    config = timm.data.resolve_model_data_config(net)
    _, h, w = config["input_size"]
    mode = config.get("crop_mode") or "center"
    if mode not in ("center", "squash"):
        raise ValueError(f"expected a timm model evaluated with a centre crop or a squash, {name} uses {mode!r}")
    if mode == "center" and h != w:
        raise ValueError(f"expected a timm model with a square centre crop, {name} takes {h} x {w}")
    scaled = (math.floor(h / config["crop_pct"]), math.floor(w / config["crop_pct"]))
    preprocessing = Preprocessing(
        (h, w), scaled[0] if mode == "center" else scaled, _interpolation(config["interpolation"])
    )
    model = NormalizedModel(net, mean=config["mean"], std=config["std"])
    return LoadedModel(model, spec, preprocessing)


def _torchvision(spec: str, name: str, pretrained: bool) -> LoadedModel:
    models = _import("torchvision.models")
    if name not in models.list_models():
        raise ValueError(
            f"expected the name of a torchvision model, got {name!r}; {_suggestion(name, models.list_models())}"
        )
    weights = models.get_model_weights(name).DEFAULT
    transforms = weights.transforms()
    if type(transforms).__name__ != "ImageClassification":
        raise ValueError(
            f"expected a torchvision classifier of images, {name} has the transforms {type(transforms).__name__}"
        )
    try:
        net = models.get_model(name, weights=weights if pretrained else None)
    except OSError as error:
        raise _offline(spec, error) from error
    side = transforms.crop_size[0]
    interpolation = _interpolation(transforms.interpolation.value)
    preprocessing = Preprocessing((side, side), transforms.resize_size[0], interpolation)
    return LoadedModel(NormalizedModel(net, mean=transforms.mean, std=transforms.std), spec, preprocessing)


def _suggestion(name: str, known: list[str]) -> str:
    return f"did you mean {checks.near_names(name, known, cutoff=0.6)}?"


def _offline(spec: str, error: OSError) -> ConnectionError:
    return ConnectionError(
        f"expected to fetch the published weights of {spec}, {type(error).__name__}: {error}; "
        f"give a file of `weights` instead"
    )


def _interpolation(name: str) -> Interpolation:
    for known in get_args(Interpolation):
        if name == known:
            return known
    raise ValueError(f"expected a model resized with nearest, bilinear or bicubic interpolation, got {name!r}")


def _factory(spec: str) -> LoadedModel:
    text, _, name = spec.rpartition(":")
    path = Path(text)
    if not path.is_file():
        raise FileNotFoundError(f"expected a Python file at {path}, found nothing")
    found = importlib.util.spec_from_file_location(f"fastfreq_user_{path.stem}", path)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[module.__name__] = module  # dataclasses and pickle look a class's module up there
    try:
        found.loader.exec_module(module)
    except BaseException:
        del sys.modules[module.__name__]
        raise
    factory = getattr(module, name, None)
    if not callable(factory):
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        close = checks.near_names(name, public, otherwise=5, cutoff=0.3)
        raise ValueError(f"expected a function {name!r} in {path}, found {close or 'none'}")
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise ValueError(
            f"expected {name} in {path} to take no arguments, got {error}; write a function that fills them in"
        ) from error
    model = factory()
    if not isinstance(model, nn.Module):
        raise ValueError(f"expected {name} in {path} to return a torch.nn.Module, got {type(model).__name__}")
    return LoadedModel(model, spec, None)


# ---------------------------------------------------------------- weights
def load_weights(net: nn.Module, path: str | Path) -> None:
    """Load a state dict into `net`: every key must be there, with its shape.

    A prefix that wrappers put before every key (``module.``, ``_orig_mod.``, ``net.``) is taken off, floats of 16, 32
    and 64 bits are cast to those of `net`, integers to integers that hold them, and only batch norm's counters, which
    evaluation does not use, may be missing.

    Args:
        net: changed in place.
        path: a ``.safetensors`` file, or one that ``torch.load(weights_only=True)`` accepts.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no state dict, would run code, or does not fit; complex, quantised (integers and floats
            of 8 bits for floats) and sparse weights, and values that the types of `net` cannot hold, do not.
    """
    own = net.state_dict()
    state = _without_wrappers(_read_state(Path(path)), own)
    missing = sorted(own.keys() - state.keys())
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    unexpected = sorted(state.keys() - own.keys())
    shapes = [
        f"{key} {tuple(state[key].shape)} for {tuple(own[key].shape)}"
        for key in sorted(own.keys() & state.keys())
        if state[key].shape != own[key].shape
    ]
    if missing or unexpected or shapes:
        parts = [
            f"{title}: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"
            for title, names in (("missing", missing), ("unexpected", unexpected), ("wrong shape", shapes))
            if names
        ]
        raise ValueError(f"expected weights of {type(net).__name__}, {path} does not fit; {'; '.join(parts)}")
    net.load_state_dict({key: _cast(key, value, own[key].dtype, path) for key, value in state.items()}, strict=False)


def _cast(key: str, value: Tensor, wanted: torch.dtype, path: str | Path) -> Tensor:
    """`value` as the type of the network, where that keeps what it means."""
    way_out = "save the state_dict() of the network in float32"
    if value.layout != torch.strided or value.is_quantized or value.is_meta:
        kind = "quantised" if value.is_quantized else "without values" if value.is_meta else "sparse"
        raise ValueError(f"expected plain weights in {path}, {key} is {kind} ({value.dtype}); {way_out}")
    if wanted.is_floating_point:
        fits = value.dtype in _FLOATS
    elif wanted.is_complex:
        fits = value.dtype.is_complex
    elif wanted == torch.bool:
        fits = value.dtype == torch.bool
    else:
        fits = value.dtype in _INTEGERS
    if not fits:
        hint = "its scale is not in it" if value.dtype.itemsize == 1 and wanted.is_floating_point else "another kind"
        raise ValueError(f"expected {key} as {wanted} in {path}, got {value.dtype}, {hint}; {way_out}")
    cast = value.to(wanted)
    if wanted.is_floating_point or wanted.is_complex:
        kept = bool((cast.isfinite() == value.isfinite()).all())
    else:
        kept = bool((cast.long() == value.long()).all())
    if not kept:
        raise ValueError(f"expected {key} as {wanted} in {path}, got {value.dtype} with values too large for it")
    return cast


def _without_wrappers(state: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """`state` with the prefixes taken off that all its keys share and that `own` does not."""
    while state:
        prefix = next((p for p in _WRAPPERS if all(key.startswith(p) for key in state)), None)
        if prefix is None or all(key.startswith(prefix) for key in own):
            break
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _read_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"expected weights at {path}, found nothing")
    if path.suffix.lower() == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"expected a safetensors file, {path} is damaged: {error}") from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        if found is None:
            raise ValueError(f"expected a file written by torch.save, {path} is damaged or another format") from error
        raise ValueError(
            f"expected plain weights, {path} holds objects that would run code when loaded ({found[1]}); "
            f"save its state_dict() with safetensors.torch.save_file where you trust it"
        ) from error
    except Exception as error:  # damaged files raise errors of any kind
        raise ValueError(
            f"expected a file written by torch.save, {path} cannot be read: {type(error).__name__}: {error}"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        came = f"the keys {', '.join(map(str, list(state)[:5]))}" if isinstance(state, dict) else type(state).__name__
        raise ValueError(
            f"expected a state dict of tensors in {path}, alone or under 'state_dict' or 'model', got {came}"
        )
    return state

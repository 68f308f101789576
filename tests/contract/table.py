"""One row per measurement: how it is called, what it takes, and which promises it cannot keep, with the reason."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

import fastfreq as ff
from fastfreq.features import ImageSearch
from tests.contract import subjects

Settings = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Row:
    """A measurement.

    Attributes:
        name: of the public function.
        arguments: the smallest real ones.
        others: name -> other arguments, each another measurement that neither `+` nor a checkpoint may mix with it.
        shards: arguments of the shards that add up to the whole.
        in_place: (arguments, the same with functions of the caller's that overwrite what they are given).
        timed: fields that hold seconds, never the same twice, and how they were taken.
        one_axes: whether its picture is one axes, so that it can be drawn into the caller's.
        words: of the command line, after the verb and what all verbs share.
        cannot: promise -> why it makes no sense here.
    """

    name: str
    arguments: Settings = dataclasses.field(default_factory=dict)
    others: Mapping[str, Settings] = dataclasses.field(default_factory=dict)
    shards: tuple[Settings, ...] = tuple({"shard": (i, 3)} for i in range(3))
    in_place: tuple[Settings, Settings] | None = None
    timed: frozenset[str] = frozenset()
    one_axes: bool = False
    words: tuple[str, ...] = ()
    cannot: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def function(self) -> Callable[..., Any]:
        """The measurement."""
        return getattr(ff, self.name)

    def measure(self, model: Any, images: Any, labels: Any = None, **options: Any) -> Any:
        """Call it; `options` replace `arguments`. With a batch size the layout is fixed too: it is timed otherwise."""
        if "batch_size" in options and not {"model", "channels_last"} & set(self.cannot):
            options = {"channels_last": False, **options}
        given = {**self.arguments, **options}
        if "model" in self.cannot:
            return self.function(images, **given)
        if "images" in self.cannot:
            return self.function(model, **given)
        if self.name == "bottleneck":
            return self.function(model, images=images, **given)
        if self.name == "invert":
            return self.function(model, given.pop("layers"), images, **given)
        if labels is None or "labels" in self.cannot:
            return self.function(model, images, **given)
        return self.function(model, images, labels, **given)

    def plain(self, model: Any = None, **options: Any) -> Any:
        """Measure the network of seed 0, or another model, on the 12 images."""
        return self.measure(model or subjects.network(), subjects.images(), subjects.labels(), **options)

    def numbers(self, result: Any) -> subjects.Numbers:
        """Every number of a result that a second run gives again."""
        return subjects.numbers(result, without=self.timed)

    @property
    def changes(self) -> list[str]:
        """What of a model the figures depend on."""
        return [change for change in subjects.MODEL_CHANGES if change not in self.cannot]


@functools.cache
def whole(name: str) -> Any:
    """A measurement of all images, made once; nobody changes it."""
    return BY_NAME[name].plain()


def darker(images: Tensor, severity: int = 1) -> Tensor:
    """A corruption."""
    return images * (1 - 0.1 * severity)


def darker_in_place(images: Tensor, severity: int = 1) -> Tensor:
    """The same, in the caller's own memory."""
    return images.mul_(1 - 0.1 * severity)


def noisy(images: Tensor, severity: int = 1) -> Tensor:
    """A random corruption, the same on every device."""
    return (images + 0.02 * severity * torch.randn(images.shape).to(images)).clamp(0, 1)


def attack(images: Tensor, _labels: Tensor) -> Tensor:
    """What a caller's attack may look like."""
    return (images - 0.3).clamp(0, 1)


def attack_in_place(images: Tensor, _labels: Tensor) -> Tensor:
    """The same, in place."""
    return images.sub_(0.3).clamp_(0, 1)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """A metric of the caller's."""
    return (logits * 2).gather(1, labels[:, None])[:, 0]


def margin_in_place(logits: Tensor, labels: Tensor) -> Tensor:
    """The same, in place."""
    return logits.mul_(2).gather(1, labels[:, None])[:, 0]


_METRICS = ({"metrics": {"error": "error", "own": margin}}, {"metrics": {"error": "error", "own": margin_in_place}})
_ATTACKS = ({"attack": attack}, {"attack": attack_in_place})
_LAYERS = "of the weights: a layer's own map"
_NO_MODEL = dict.fromkeys(
    ("model", *subjects.MODEL_CHANGES, "labels", "precision", "channels_last", "fold_batch_norm", "compile"),
    "has no model",
)
_WHOLE = {
    "shards": "is whole: the result of all images at once does not merge",
    "shared passes": "is whole: ranks share no batches of it",
    "checkpoint": "has no checkpoint",
}
_NO_RUN = dict.fromkeys(subjects.RUN, "no measurement under conditions: only what it needs of these")
_NO_FUNCTIONS = {"in_place": "takes no functions of the caller's"}
_AS_IT_IS = {
    **dict.fromkeys(("uint8", "pixels"), "takes images as the network does, normalised or not"),
    "loaders": "takes one tensor of images",
}
_MAP = {"eps": 1.0, "size": (3, 5)}

TABLE = (
    Row(
        "heatmap",
        arguments={**_MAP, "metrics": ("error", "loss"), "layers": ("body",)},
        others={
            "eps": {"eps": 2.0},
            "seed": {"seed": 1},
            "convention": {"convention": "fhmap"},
            "common signs": {"convention": "common_signs"},
            "clip": {"clip": False},
            "size": {"size": (3, 3)},
            "metrics": {"metrics": ("error",)},
            "layers": {"layers": ()},
            "frequencies": {"frequencies": [(0, 1), (1, 0)]},
        },
        in_place=_METRICS,
        one_axes=True,
        words=("--eps", "1", "--size", "3"),
    ),
    Row(
        "adaptive_heatmap",
        arguments={**_MAP, "precision_goal": 0.3, "method": "exact"},
        others={},
        words=("--eps", "1", "--size", "3", "--precision-goal", "0.3"),
        cannot={
            **_NO_FUNCTIONS,
            "shards": "is whole: which images a cell needs depends on all of them",
            "checkpoint": "its file is the map so far, beside what it goes on from: test_ranks.py",
            "generator": "reads images more than once",
            "shard": "takes all images",
            "first_image": "takes all images",
        },
    ),
    Row(
        "quick_heatmap",
        arguments={**_MAP, "share": 0.7},
        others={
            "eps": {"eps": 2.0},
            "seed": {"seed": 1},
            "convention": {"convention": "fhmap"},
            "common signs": {"convention": "common_signs"},
            "size": {"size": (3, 3)},
            "share": {"share": 0.6},
        },
        words=("--eps", "1", "--size", "3", "--share", "0.7"),
        cannot=_NO_FUNCTIONS,
    ),
    Row(
        "gradient_heatmap",
        arguments={**_MAP, "class_maps": True},
        others={
            "eps": {"eps": 2.0},
            "seed": {"seed": 1},
            "convention": {"convention": "fhmap"},
            "size": {"size": (3, 3)},
            "margins": {"margins": 2},
            "class_maps": {"class_maps": False},
        },
        words=("--eps", "1", "--size", "3"),
        cannot=_NO_FUNCTIONS,
    ),
    Row(
        "filter_curve",
        arguments={"kind": "low", "bandwidths": (2, 4), "metrics": ("error", "loss")},
        others={
            "kind": {"kind": "high"},
            "bandwidths": {"bandwidths": (2, 5)},
            "clip": {"clip": True},
            "contrast": {"normalise_contrast": True},
            "metrics": {"metrics": ("error",)},
        },
        in_place=_METRICS,
        one_axes=True,
        words=("--kind", "low", "--bandwidths", "2", "4"),
    ),
    Row(
        "noise_curve",
        arguments={"norm": 2.0, "kind": "high", "bandwidths": (1, 3), "metrics": ("error", "loss")},
        others={
            "norm": {"norm": 1.0},
            "seed": {"seed": 1},
            "kind": {"kind": "low"},
            "bandwidths": {"bandwidths": (1, 4)},
            "clip": {"clip": False},
            "metrics": {"metrics": ("error",)},
        },
        in_place=_METRICS,
        one_axes=True,
        words=("--norm", "2", "--kind", "high", "--bandwidths", "1", "3"),
    ),
    Row(
        "critical_band",
        arguments={"bands": (1.75, 3.5), "deviations": (0.1, 0.3)},
        others={
            "bands": {"bands": (1.5, 3.5)},
            "deviations": {"deviations": (0.1, 0.2)},
            "seed": {"seed": 1},
            "grayscale": {"grayscale": True},
            "contrast": {"contrast": 0.5},
            "mean": {"mean": 0.5},
            "chromatic": {"chromatic": True},
            "clip": {"clip": False},
        },
        words=("--bands", "1.75", "3.5", "--deviations", "0.1", "0.3"),
        cannot=_NO_FUNCTIONS,
    ),
    Row(
        "dominant_frequencies",
        arguments={"size": (3, 5)},
        others={"size": {"size": (3, 3)}, "patch": {"patch": 2}},
        words=("--size", "3"),
        cannot=_NO_FUNCTIONS,
    ),
    Row(
        "component_curves",
        arguments={"radii": (2, 4)},
        others={"radii": {"radii": (2, 5)}, "inclusive": {"inclusive": True}, "clip": {"clip": True}},
        words=("--radii", "2", "4"),
        cannot=_NO_FUNCTIONS,
    ),
    Row(
        "feature_spectra",
        arguments={"layers": ("body",)},
        others={"layers": {"layers": ("stem",)}, "skip_dead": {"skip_dead": True}},
        words=("--layers", "body"),
        cannot={**_NO_FUNCTIONS, "labels": "takes no notice of labels"},
    ),
    Row(
        "fourier_attack",
        arguments={"eps": 1.0, "size": (3, 3), "queries": 12},
        others={
            "eps": {"eps": 2.0},
            "size": {"size": (3, 5)},
            "queries": {"queries": 8},
            "order": {"order": "high"},
            "seed": {"order": "random", "seed": 1},
            "convention": {"convention": "fhmap"},
            "clip": {"clip": False},
        },
        words=("--eps", "1", "--size", "3", "--queries", "12"),
        cannot=_NO_FUNCTIONS,
    ),
    Row(
        "adversarial_spectrum",
        arguments={"attack": ff.FGSM(0.05)},
        others={
            "eps": {"attack": ff.FGSM(0.03)},
            "attack": {"attack": ff.PGD(0.05, steps=2)},
            "steps": {"attack": ff.PGD(0.05, steps=3)},
            "kind": {"kind": "power"},
        },
        in_place=_ATTACKS,
        words=("--attack", "fgsm", "--eps", "0.05"),
    ),
    Row(
        "image_spectrum",
        others={"kind": {"kind": "power"}, "side": {"side": 5}},
        cannot={**_NO_MODEL, **_NO_FUNCTIONS},
    ),
    Row(
        "approximation_curve",
        arguments={"counts": (1, 5, 20)},
        others={
            "counts": {"counts": (1, 5, 21)}
        },  # other frames: `test_approximation_curve`, on sides that they divide
        one_axes=True,
        words=("--counts", "1", "5", "20"),
        cannot={**_NO_MODEL, **_NO_FUNCTIONS},
    ),
    Row(
        "invariance",
        arguments={"layers": ("body",), "amounts": (0.5, 2), "fixed": ("wavelet",)},
        others={
            "kind": {"kind": "rotation"},
            "amounts": {"amounts": (0.5, 3)},
            "layers": {"layers": ("stem",)},
            "fixed": {"fixed": ("scattering",)},  # ten times as slow
        },
        words=("--layers", "body", "--amounts", "0.5", "2"),
        cannot={**_NO_FUNCTIONS, "labels": "takes no labels", "compile": "layers are read by hooks"},
    ),
    Row(
        "maximize",
        arguments={"layer": "body", "input_size": subjects.SHAPE, "search": ImageSearch(steps=3)},
        others={
            "layer": {"layer": "stem"},
            "input_size": {"input_size": (3, 9, 14)},
            "objective": {"objective": "center"},
            "search": {"search": ImageSearch(steps=2)},
            "seed": {"seed": 1},
        },
        shards=({"units": (0, 2)}, {"units": (1,)}, {"units": tuple(range(3, 16))}),
        words=("--layer", "body", "--input-size", "3", "11", "14", "--steps", "2"),
        cannot={
            **_NO_FUNCTIONS,
            **{option: reason for option, reason in _NO_RUN.items() if option != "progress"},
            **dict.fromkeys(("images", "labels"), "makes its images"),
        },
    ),
    Row(
        "top_patches",
        arguments={"layer": "body", "units": (0, 3, 5)},
        others={"layer": {"layer": "norm"}, "units": {"units": (0, 3)}},
        one_axes=True,
        words=("--layer", "body", "--units", "0", "3", "5"),
        cannot={
            **_NO_FUNCTIONS,
            "labels": "takes no notice of labels",
            "compile": "compiled networks may skip the hook that reads the layer",
        },
    ),
    Row(
        "invert",
        arguments={"layers": ("stem", "body"), "search": ImageSearch(steps=2)},
        others={
            "layers": {"layers": ("stem", "norm")},
            "objective": {"objective": "caricature"},
            "search": {"search": ImageSearch(steps=3)},
            "seed": {"seed": 1},
        },
        words=("--layers", "stem", "body", "--steps", "2"),
        cannot={
            **_NO_FUNCTIONS,
            "labels": "takes no notice of labels",
            **dict.fromkeys(
                ("precision", "fold_batch_norm", "compile"), "takes gradients through the network as it is"
            ),
        },
    ),
    Row(
        "difference_spectrum",
        arguments={"corruption": darker},
        others={
            "corruption": {"corruption": noisy},
            "name": {"name": "dusk"},
            "kind": {"kind": "power"},
            "side": {"side": 5},
        },
        in_place=({"corruption": darker, "name": "darker"}, {"corruption": darker_in_place, "name": "darker"}),
        words=("--against", "darker.npz"),
        cannot=_NO_MODEL,
    ),
    Row(
        "corruption_report",
        arguments={"corruptions": {"darker": darker, "noisy": noisy}, "severities": (1, 3)},
        others={
            "corruptions": {"corruptions": {"darker": darker}},
            "severities": {"severities": (1, 2)},
            "seed": {"seed": 1},
            "baseline": {"baseline": subjects.network(seed=1)},
        },
        in_place=(
            {"corruptions": {"darker": darker}, "severities": (1, 2, 3)},
            {"corruptions": {"darker": darker_in_place}, "severities": (1, 2, 3)},
        ),
        words=("--folder", "corrupted", "--severities", "1", "3"),
    ),
    Row(
        "post_averaging_curve",
        arguments={"radii": (0.3, 0.8), "attack": ff.FGSM(0.03), "directions": 2, "sampling": "sphere"},
        others={
            "radii": {"radii": (0.3, 0.9)},
            "attack": {"attack": ff.FGSM(0.05)},
            "adaptive": {"adaptive": True},
            "directions": {"directions": 3},
            "sampling": {"sampling": "ball"},
            "original": {"include_original": False},
            "average": {"average": "logits"},
            "seed": {"seed": 1},
        },
        in_place=_ATTACKS,
        one_axes=True,
        words=(
            "--radii",
            "0.3",
            "0.8",
            "--directions",
            "2",
            "--sampling",
            "sphere",
            "--attack",
            "fgsm",
            "--eps",
            "0.03",
        ),
    ),
    Row(
        "singular_values",
        arguments={"input_size": subjects.SHAPE},
        others={
            "accuracy": {"accuracy": "fast"},
            "padding": {"padding": "circular"},
            "batch norm": {"fold_batch_norm": True},
            "input_size": {"input_size": (3, 9, 14)},
        },
        shards=({"layers": ("stem",)}, {"layers": ("body",)}),
        words=("--input-size", "3", "11", "14"),
        cannot={
            **_NO_FUNCTIONS,
            **{option: reason for option, reason in _NO_RUN.items() if option not in ("progress", "distributed")},
            "fold_batch_norm": "folding is another measurement there",
            "train mode": "brings the network to evaluation mode and back",
            **dict.fromkeys(("images", "labels", "normalisation", "forward", "attribute", "random"), _LAYERS),
        },
    ),
    Row(
        "filters",
        arguments={"input_size": subjects.SHAPE},
        others={"input_size": {"input_size": (3, 12, 14)}, "units": {"units": 3}, "wavelets": {"wavelets": ()}},
        shards=({"layers": ("stem",)}, {"layers": ("body",)}),
        words=("--input-size", "3", "11", "14"),
        cannot={
            **_NO_FUNCTIONS,
            **{option: reason for option, reason in _NO_RUN.items() if option != "progress"},
            "train mode": "brings a copy of the network to evaluation mode",
            **dict.fromkeys(("images", "labels", "normalisation", "forward", "attribute", "random"), _LAYERS),
        },
    ),
    Row(
        "sparse_coding",
        cannot={
            **_NO_FUNCTIONS,
            **_WHOLE,
            **{option: reason for option, reason in _NO_RUN.items() if option != "batch_size"},
            "labels": "takes no notice of labels",
            **_AS_IT_IS,
        },
    ),
    Row(
        "bottleneck",
        arguments={"input_size": subjects.SHAPE},
        one_axes=True,
        words=("--input-size", "3", "11", "14"),
        cannot={
            **_NO_FUNCTIONS,
            **_WHOLE,
            **{
                option: reason
                for option, reason in _NO_RUN.items()
                if option not in ("batch_size", "progress", "distributed")
            },
            "labels": "takes no notice of labels",
            **_AS_IT_IS,
            "train mode": "brings the network to evaluation mode and back",
            "n_images": "is of the weights; images are optional",
        },
    ),
    Row(
        "downsampling",
        arguments={"energy": 0.5, "strides": (2,), "rounds": 1},
        timed=frozenset({"seconds", "batch"}),
        words=("--energy", "0.5"),
        cannot={
            **_NO_FUNCTIONS,
            **_WHOLE,
            **{option: reason for option, reason in _NO_RUN.items() if option != "batch_size"},
            **_AS_IT_IS,
        },
    ),
)
BY_NAME = {row.name: row for row in TABLE}


# ---------------------------------------------------------------- rows and promises as cells
def _cell(row: Row, needs: tuple[str, ...], *more: Any, id: str = "") -> Any:
    reason = next((row.cannot[promise] for promise in needs if promise in row.cannot), None)
    marks = [] if reason is None else [pytest.mark.skip(reason=f"{row.name}: {reason}")]
    return pytest.param(row, *more, id=f"{row.name}-{id}" if id else row.name, marks=marks)


def rows(*needs: str) -> pytest.MarkDecorator:
    """A cell for every row; skipped with the reason where it cannot keep one of the promises that are needed."""
    return pytest.mark.parametrize("row", [_cell(row, needs) for row in TABLE])


def rows_and(name: str, values: Mapping[str, Any] | tuple[str, ...], *needs: str) -> pytest.MarkDecorator:
    """A cell for every row and value; a value that the row `cannot` is skipped."""
    given = dict(zip(values, values, strict=True)) if isinstance(values, tuple) else values
    cells = [_cell(row, (*needs, key), value, id=key) for row in TABLE for key, value in given.items()]
    return pytest.mark.parametrize(("row", name), cells)


def rows_and_settings(*needs: str) -> pytest.MarkDecorator:
    """A cell for every row and other setting of it."""
    cells = [_cell(row, needs, other, id=key) for row in TABLE for key, other in row.others.items()]
    return pytest.mark.parametrize(("row", "other"), cells)

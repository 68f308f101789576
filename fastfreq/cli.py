"""`fastfreq`: one verb per question."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fastfreq import demo
from fastfreq.core._checks import logits_of
from fastfreq.core.conventions import CONVENTIONS
from fastfreq.core.loading import load
from fastfreq.core.pixels import NormalizedModel
from fastfreq.core.results import HeatmapResult
from fastfreq.core.sensitivity import SensitivityResult
from fastfreq.data import ImageData, Preprocessing, load_data
from fastfreq.inputs.gradient import gradient_heatmap
from fastfreq.inputs.heatmap import heatmap
from fastfreq.models import LoadedModel, load_model

_DEMO_IMAGES_NOTE = (
    "scikit-learn's handwritten digits (8 x 8, held-out images) and three small networks that ship with the package: "
    "naturally trained, trained with Gaussian noise, and adversarially trained. The natural one breaks most at high "
    "frequencies; the other two resist those and break only near the centre, the trade-off of Yin et al. 2019 in small."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0, or 2 after a message on what was expected."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except (ValueError, TypeError, KeyError, OSError, ImportError, RuntimeError, FloatingPointError) as error:
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"fastfreq {options.verb}: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"fastfreq {options.verb}: interrupted; with --checkpoint the same command goes on", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastfreq", description="Which input frequencies an image network uses, and which break it."
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    verb = verbs.add_parser("heatmap", help="error of a model at every frequency (Yin et al. 2019)")
    _add_model_and_data(verb)
    verb.add_argument("--eps", type=float, required=True, help="L2 norm per channel: 4.0 at 32 x 32, 15.7 at 224 x 224")
    verb.add_argument("--size", type=int, help="side of the centred map; all frequencies if left out")
    verb.add_argument("--convention", default="yin2019", choices=CONVENTIONS, help="default: %(default)s")
    verb.add_argument("--no-clip", action="store_true", help="do not clip perturbed pixels to [0, 1]")
    verb.add_argument("--metrics", nargs="+", default=["error"], metavar="NAME", help="error, loss, top5_error ...")
    verb.add_argument("--layers", nargs="+", default=[], metavar="NAME", help="hidden layers whose change is measured")
    verb.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "fp16"], help="default: %(default)s")
    verb.add_argument("--compile", action="store_true", help="run the network through torch.compile")
    verb.add_argument("--share-stem", action="store_true", help="compute the first layer once; needs --no-clip")
    verb.add_argument("--batch-size", type=int, help="images in one forward pass; found by timing if left out")
    verb.add_argument("--shard", default="0/1", metavar="I/N", help="evaluate every N-th image from the I-th on")
    verb.add_argument("--checkpoint", type=Path, metavar="FILE", help="save progress there and go on from it")
    verb.set_defaults(run=_heatmap)

    verb = verbs.add_parser("gradient", help="every frequency from one backward pass per image")
    _add_model_and_data(verb)
    verb.add_argument("--eps", type=float, help="predict the error at this L2 norm per channel")
    verb.add_argument("--margins", type=int, default=1, help="competing classes that are linearised; default: 1")
    verb.add_argument("--size", type=int, help="side of the centred map; all frequencies if left out")
    verb.add_argument("--batch-size", type=int, default=16)
    verb.set_defaults(run=_gradient)

    verb = verbs.add_parser("merge", help="one heat map from the shards of one model")
    verb.add_argument("shards", nargs="+", type=Path, metavar="SHARD.npz")
    verb.add_argument("--out", type=Path, required=True, metavar="FILE.npz")
    verb.set_defaults(run=_merge)

    verb = verbs.add_parser("report", help="an HTML page: of saved results, or of the built-in example")
    verb.add_argument("results", nargs="*", type=Path, metavar="RESULT.npz", help="the built-in example if left out")
    verb.add_argument("--out", type=Path, default=Path("fastfreq-report"), metavar="DIR", help="default: %(default)s")
    verb.set_defaults(run=_report)
    return parser


def _add_model_and_data(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--model", required=True, help="timm/NAME, torchvision/NAME or FILE.py:FACTORY")
    verb.add_argument("--weights", type=Path, help=".safetensors, or a .pt that weights_only loading accepts")
    verb.add_argument(
        "--data", required=True, type=Path, help="a folder of classes, a folder with labels.csv, or an .npz"
    )
    verb.add_argument("--limit", type=int, help="take this many images, spread evenly over the data")
    verb.add_argument("--resize", type=int, metavar="N", help="shorter side of FILE.py models' images, before the crop")
    verb.add_argument("--crop", type=int, metavar="N", help="side of the centre crop of FILE.py models' images")
    verb.add_argument("--mean", type=float, nargs="+", metavar="M", help="normalise FILE.py models inside: mean ...")
    verb.add_argument("--std", type=float, nargs="+", metavar="S", help="... and standard deviation per channel")
    verb.add_argument("--seed", type=int, default=0, help="key of the random signs; default: %(default)s")
    verb.add_argument("--device", help="cuda, cpu ...; default: a GPU if there is one")
    verb.add_argument("--out", type=Path, default=Path("fastfreq-report"), metavar="DIR", help="default: %(default)s")


def _model_and_data(options: argparse.Namespace) -> tuple[LoadedModel, ImageData]:
    loaded = load_model(options.model, weights=options.weights)
    model = loaded.model
    if (options.mean is None) != (options.std is None):
        raise ValueError("expected --mean and --std together")
    if options.mean is not None:
        if isinstance(model, NormalizedModel):
            raise ValueError(f"expected no --mean, {options.model} already knows its normalisation")
        loaded = LoadedModel(
            NormalizedModel(model, mean=options.mean, std=options.std).eval(), loaded.name, loaded.preprocessing
        )
    if options.crop is not None:
        if loaded.preprocessing is not None:
            raise ValueError(f"expected no --crop, {options.model} already knows its preprocessing")
        geometry = Preprocessing((options.crop, options.crop), options.resize)
        loaded = LoadedModel(loaded.model, loaded.name, geometry)
    elif options.resize is not None:
        raise ValueError("expected --crop with --resize")
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    loaded.model.to(device)
    classes = None
    if loaded.preprocessing is not None:  # known size: ask the model, so that labels of a partial folder are refused
        with torch.inference_mode():  # colour images, as files are decoded
            classes = logits_of(loaded.model(torch.zeros(1, 3, *loaded.preprocessing.size, device=device))).shape[1]
    data = load_data(options.data, preprocessing=loaded.preprocessing, limit=options.limit, num_classes=classes)
    return loaded, data


def _heatmap(options: argparse.Namespace) -> int:
    index, _, number = options.shard.partition("/")
    if not (index.isdigit() and number.isdigit()):
        raise ValueError(f"expected --shard as I/N, such as 0/4, got {options.shard}")
    loaded, data = _model_and_data(options)
    result = heatmap(
        loaded.model,
        data,
        eps=options.eps,
        size=options.size,
        convention=options.convention,
        clip=False if options.no_clip else None,
        seed=options.seed,
        metrics=options.metrics,
        layers=options.layers,
        precision=options.precision,
        compile=options.compile,
        share_stem=options.share_stem,
        batch_size=options.batch_size,
        shard=(int(index), int(number)),
        checkpoint=options.checkpoint,
        progress=True,
    )
    options.out.mkdir(parents=True, exist_ok=True)
    suffix = "" if int(number) == 1 else f"-{index}-of-{number}"
    result.save(options.out / f"map{suffix}.npz")
    from fastfreq import report  # loads matplotlib, an extra

    notes = [f"Model: {loaded.name}. Data: {options.data}."]
    if data.skipped:
        notes.append(f"{len(data.skipped)} images could not be read and were left out: " + _listed(data.skipped))
    page = report.write_report({loaded.name: result}, options.out / "report.html", notes=notes, pngs=True)
    print(f"clean error {result.clean_error:.3f}, mean over the map {_mean(result):.3f}")
    print(f"wrote {options.out / f'map{suffix}.npz'} and {page}")
    return 0


def _mean(result: HeatmapResult) -> float:
    return float(result.wrong_counts.mean() / result.n_images)


def _listed(skipped: list[tuple[str, str]]) -> str:
    shown = "; ".join(f"{name} ({reason})" for name, reason in skipped[:10])
    return shown + (f"; and {len(skipped) - 10} more" if len(skipped) > 10 else "")


def _gradient(options: argparse.Namespace) -> int:
    loaded, data = _model_and_data(options)
    result = gradient_heatmap(
        loaded.model,
        data,
        eps=options.eps,
        margins=options.margins,
        size=options.size,
        seed=options.seed,
        batch_size=options.batch_size,
        progress=True,
    )
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "gradient.npz"
    result.save(path)
    from fastfreq import plots  # loads matplotlib, an extra

    plots.save_png(result.plot(), options.out / "gradient.png")
    print(f"wrote {path} and {options.out / 'gradient.png'}")
    return 0


def _merge(options: argparse.Namespace) -> int:
    merged: Any = load(options.shards[0])
    for path in options.shards[1:]:
        shard = load(path)
        if not isinstance(shard, type(merged)):
            raise ValueError(f"expected shards of one kind, {path} is of another than {options.shards[0]}")
        merged = merged + shard
    merged.save(options.out)
    print(f"wrote {options.out}")
    return 0


def _report(options: argparse.Namespace) -> int:
    if not options.results:
        return _demo(options.out)
    results: dict[str, HeatmapResult] = {}
    sensitivities: dict[str, SensitivityResult] = {}
    for path in options.results:
        result = load(path)
        if not isinstance(result, HeatmapResult | SensitivityResult):
            raise ValueError(f"expected heat maps and gradient maps, {path} holds singular values; ff.load(...).plot()")
        name = result.details.get("model", path.stem)
        kind = results if isinstance(result, HeatmapResult) else sensitivities
        kind[name if name not in kind else f"{name} ({path.stem})"] = result  # pyright: ignore[reportArgumentType]
    from fastfreq import report  # loads matplotlib, an extra

    if not results:
        raise ValueError("expected at least one heat map among the results, got gradient maps only")
    page = report.write_report(results, options.out / "report.html", sensitivities=sensitivities, pngs=True)
    print(f"wrote {page}")
    return 0


def _demo(out: Path) -> int:
    from fastfreq import report  # loads matplotlib, an extra

    images, labels = demo.load_digits()
    results, sensitivities = {}, {}
    for name in demo.NETWORKS:
        print(f"{name} network, {len(images)} digits, every frequency of 8 x 8")
        network = demo.load_network(name)
        results[name] = heatmap(network, images, labels, eps=demo.EPS, metrics=("error", "loss"), progress=True)
        sensitivities[name] = gradient_heatmap(network, images, labels, eps=demo.EPS)
        results[name].save(out / f"{name}.npz")
    page = report.write_report(
        results,
        out / "report.html",
        title="Three ways to train, three ways to break",
        sensitivities=sensitivities,
        example=images[0],
        notes=[_DEMO_IMAGES_NOTE],
        pngs=True,
    )
    print(f"wrote {page}")
    return 0

"""`fastfreq heatmap`: error of a model at every frequency."""

from __future__ import annotations

import argparse
from pathlib import Path

from fastfreq.inputs.heatmap import heatmap
from fastfreq.vocabulary.conventions import CONVENTIONS

from . import _arguments, _results


def add(verbs: _arguments.Verbs) -> None:
    """Declare the verb."""
    verb = verbs.add_parser("heatmap", help="error of a model at every frequency (Yin et al. 2019)")
    _arguments.add_model(verb)
    _arguments.add_data(verb)
    _arguments.add_seed(verb)
    _arguments.add_device_and_out(verb)
    verb.add_argument("--eps", type=float, required=True, help="L2 norm per channel: 4.0 at 32 x 32, 15.7 at 224 x 224")
    verb.add_argument("--size", type=int, help="side of the centred map; all frequencies if left out")
    verb.add_argument("--convention", default="yin2019", choices=CONVENTIONS, help="default: %(default)s")
    verb.add_argument("--no-clip", action="store_true", help="do not clip perturbed pixels to [0, 1]")
    verb.add_argument("--metrics", nargs="+", default=["error"], metavar="NAME", help="error, loss, top5_error ...")
    verb.add_argument("--layers", nargs="+", default=[], metavar="NAME", help="hidden layers whose change is measured")
    verb.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "fp16"], help="default: %(default)s")
    verb.add_argument("--compile", action="store_true", help="run the network through torch.compile")
    verb.add_argument("--share-stem", action="store_true", help="compute the first layer once; needs --no-clip")
    verb.add_argument("--fold-batch-norm", action="store_true", help="fold batch norms into the layers before them")
    verb.add_argument("--batch-size", type=int, help="images in one forward pass; found by timing if left out")
    verb.add_argument("--shard", default="0/1", metavar="I/N", help="evaluate every N-th image from the I-th on")
    verb.add_argument("--checkpoint", type=Path, metavar="FILE", help="save progress there and go on from it")
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure, save the result, draw the page."""
    shard = _results.shard(options)  # a bad one is refused before anything is loaded
    loaded, data = _arguments.model_and_data(options)
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
        fold_batch_norm=options.fold_batch_norm,
        batch_size=options.batch_size,
        shard=shard,
        checkpoint=options.checkpoint,
        progress=True,
    )
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / f"{_results.stem('map', options)}.npz"
    result.save(file)
    from fastfreq import report  # loads matplotlib, an extra

    notes = [f"Model: {loaded.name}. Data: {options.data}."]
    if data.skipped:
        notes.append(f"{len(data.skipped)} images could not be read and were left out: " + _listed(data.skipped))
    page = report.write_report({loaded.name: result}, options.out / "report.html", notes=notes, pngs=True)
    mean = result.wrong_counts.mean() / result.n_images
    print(f"clean error {result.clean_error:.3f}, mean over the map {mean:.3f}")
    print(f"wrote {file} and {page}")
    return 0


def _listed(skipped: list[tuple[str, str]]) -> str:
    shown = "; ".join(f"{name} ({reason})" for name, reason in skipped[:10])
    return shown + (f"; and {len(skipped) - 10} more" if len(skipped) > 10 else "")

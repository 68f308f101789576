"""What verbs that measure a model do alike: how they run, and how results become files and a short table."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastfreq.results import store, tables
from fastfreq.vocabulary import statistics

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def add_run(verb: argparse.ArgumentParser, *, precision: bool = True) -> None:
    """--precision where the measurement has it, --batch-size and --shard."""
    if precision:
        verb.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "fp16"], help="default: %(default)s")
    verb.add_argument("--batch-size", type=int, metavar="N", help="images in one forward pass")
    verb.add_argument("--shard", default="0/1", metavar="I/N", help="take every N-th image from the I-th on")


def shard(options: argparse.Namespace) -> tuple[int, int]:
    """What --shard says."""
    index, _, number = options.shard.partition("/")
    if not (index.isdigit() and number.isdigit()):
        raise ValueError(f"expected --shard as I/N, such as 0/4, got {options.shard}")
    return int(index), int(number)


def running(options: argparse.Namespace) -> dict[str, Any]:
    """What `add_run` declared, as arguments of a measurement."""
    found: dict[str, Any] = {"shard": shard(options), "progress": True}
    if "precision" in options:
        found["precision"] = options.precision
    if options.batch_size is not None:
        found["batch_size"] = options.batch_size
    return found


def stem(name: str, options: argparse.Namespace) -> str:
    """The name of a result's files, with its shard."""
    index, number = shard(options)
    return name if number == 1 else f"{name}-{index}-of-{number}"


def with_model(result: Any, name: str) -> Any:
    """The result under the name that the model was asked for by, which is what legends and pages show."""
    return dataclasses.replace(result, details={**result.details, "model": name})


def accuracy(right: float, images: int, *, what: str = "clean accuracy") -> str:
    """An accuracy on so many images, with its 95 % interval."""
    low, high = statistics.wilson(right * images, images)
    return f"{images:,} images, {what} {right:.3f} [{low:.3f}, {high:.3f}]"


def write(results: Mapping[str, Any], out: Path, *, figure: Callable[[], Figure], picture: str) -> None:
    """Save results, by the name of their files, and draw one picture of them."""
    save(results, out)
    draw(out / f"{picture}.png", figure)


def save(results: Mapping[str, Any], out: Path, *, rows: list[dict[str, Any]] | None = None) -> None:
    """Save each result as NAME.npz and NAME.csv and print what it says in short, or `rows`."""
    written = []
    for name, result in results.items():
        result.save(out / f"{name}.npz")
        store.write_text(out / f"{name}.csv", tables.to_csv(result.table()))
        written += [f"{name}.npz", f"{name}.csv"]
        short = rows or (result.summary() if hasattr(result, "summary") else result.table())
        print(tables.to_text(tables.table_rows(short)))
    print(f"wrote {', '.join(written)} in {out}")


def draw(path: Path, figure: Callable[[], Figure]) -> None:
    """Draw the picture."""
    from fastfreq import plots  # loads matplotlib, an extra

    plots.save_png(figure(), path)
    print(f"drew {path}")

"""What the reproductions of Rahaman et al. 2019 share: a command line, claims beside what was measured, files.

The committed figures come from one thread each of a machine that eight others used: seconds are no benchmark.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import fastfreq as ff
from fastfreq import plots
from fastfreq.results import store
from fastfreq.results.result import Result

SECONDS = "seconds of the processor"
PAPER = "Rahaman et al. 2019, On the Spectral Bias of Neural Networks, arXiv:1806.08734"


class Claim(NamedTuple):
    """One row of a table."""

    claim: str
    asked: str
    measured: str
    holds: bool


def claim(name: str, asked: str, values: Any, holds: Any) -> Claim:
    """A row with the values measured, short; it holds where all of `holds` do."""
    measured = ", ".join(f"{float(v):.3g}" for v in np.asarray(values).reshape(-1))
    return Claim(name, asked, measured, bool(np.all(holds)))


def options(description: str, *, seeds: Sequence[int], mnist: bool = False, **settings: Any) -> argparse.Namespace:
    """Command line of a reproduction: every setting with its default; one thread and no subnormal numbers."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(seeds))
    if mnist:
        parser.add_argument(
            "--mnist", type=Path, required=True, help="npz with `images` (n, 28, 28) uint8 and `labels`"
        )
    for name, value in settings.items():
        many = isinstance(value, (list, tuple))
        kind = type(value[0]) if many else type(value)
        parser.add_argument(f"--{name}", type=kind, nargs="+" if many else None, default=value)
    parser.add_argument("--saved", type=Path, help="folder of an earlier run: its results are read, nothing is trained")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("rahaman2019"), help="folder for JSON, results and figures")
    chosen = parser.parse_args()
    chosen.checkpoint = chosen.out / "checkpoint"  # what is interrupted goes on from there
    torch.set_num_threads(chosen.threads)
    torch.set_flush_denormal(True)
    return chosen


def trained(chosen: argparse.Namespace, name: str, train: Callable[[], Any]) -> Any:
    """A result: an earlier run's, or trained now and saved at once."""
    if chosen.saved is not None:
        return ff.load(chosen.saved / f"rahaman2019_{name}.npz")
    start = time.process_time()
    result = train()
    seconds = {SECONDS: str(round(time.process_time() - start))}
    result = dataclasses.replace(result, details=result.details | seconds)
    chosen.out.mkdir(parents=True, exist_ok=True)
    result.save(chosen.out / f"rahaman2019_{name}.npz")
    return result


def table(claims: Sequence[Claim]) -> str:
    """Claims as columns of text."""
    rows = [(*Claim._fields,), *((*claim[:3], "yes" if claim.holds else "no") for claim in claims)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def conclude(
    name: str,
    chosen: argparse.Namespace,
    results: dict[str, Result],
    claims: Sequence[Claim],
    *,
    published: str,
    scaled: str,
    figures: dict[str, Any],
) -> None:
    """Print the claims, write them beside the figures as JSON and draw the results, by name."""
    chosen.out.mkdir(parents=True, exist_ok=True)
    settings = {k: v for k, v in vars(chosen).items() if k not in ("out", "mnist", "saved", "checkpoint")}
    text = {
        "paper": PAPER,
        "published": published,
        "scaled": scaled,
        "settings": settings,
        "claims": [claim._asdict() for claim in claims],
        "figures": figures,
        "machine": {"processor": platform.machine(), "shared": True, "torch": str(torch.__version__)},
        "processor seconds": {stem: result.details.get(SECONDS) for stem, result in results.items()},
    }
    for stem, result in results.items():
        plots.save_png(result.plot(), chosen.out / f"rahaman2019_{stem}.png")
    path = chosen.out / f"rahaman2019_{name}.json"
    with store.atomic_path(path) as temporary:
        temporary.write_text(json.dumps(text, indent=1, default=rounded) + "\n")
    print(table(claims))
    print(f"wrote {path}")


def rounded(values: Any) -> Any:
    """NumPy's numbers as JSON's, to four digits; infinity as text."""
    if isinstance(values, np.ndarray):
        return [rounded(v) for v in values]
    if isinstance(values, np.integer):
        return int(values)
    if isinstance(values, (float, np.floating)):
        return float(f"{values:.4g}") if np.isfinite(values) else str(values)
    raise TypeError(f"expected numbers, got {type(values).__name__}")


def figures(values: Any) -> Any:
    """The same for lists and dicts of them."""
    if isinstance(values, dict):
        return {str(k): figures(v) for k, v in values.items()}
    if isinstance(values, (list, tuple)):
        return [figures(v) for v in values]
    return rounded(values) if isinstance(values, (np.ndarray, np.generic, float)) else values

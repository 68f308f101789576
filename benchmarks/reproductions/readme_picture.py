"""The picture of the README: the error maps of the three networks of `fastfreq report`, side by side.

python benchmarks/reproductions/readme_picture.py [--out benchmarks/results/demo.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import fastfreq as ff
from fastfreq import demo, plots
from fastfreq.inputs.heatmap import Heatmap
from fastfreq.plots import heatmap as heatmap_plots

TITLES = {
    "natural": "trained naturally",
    "gaussian": "trained with Gaussian noise",
    "adversarial": "trained adversarially",
}


def maps(limit: int | None = None) -> dict[str, Heatmap]:
    """The measured maps by what stands above each, of the first images."""
    images, labels = demo.load_digits()
    return {
        title: ff.heatmap(demo.load_network(name), images[:limit], labels[:limit], eps=demo.EPS)
        for name, title in TITLES.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).parents[2] / "benchmarks" / "results" / "demo.png"
    parser.add_argument("--out", type=Path, default=default, help="default: where the README looks for it")
    out = parser.parse_args().out
    plots.save_png(heatmap_plots.plot_many(maps()), out)
    print(f"wrote {out}, {out.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()

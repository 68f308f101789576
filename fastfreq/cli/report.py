"""`fastfreq report`: an HTML page of saved results, or of the built-in example."""

from __future__ import annotations

import argparse
import html
import itertools
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _arguments

if TYPE_CHECKING:
    from ._said import Said

_DEMO_NOTE = (
    "scikit-learn's handwritten digits (8 x 8, held-out images) and three small networks that ship with the package: "
    "naturally trained, trained with Gaussian noise, and adversarially trained. The natural one breaks most at high "
    "frequencies; the other two resist those and break only near the centre, the trade-off of Yin et al. 2019 in small."
)
_HOME = Path("fastfreq-report")


class _Report:
    def declare(self, parser: argparse.ArgumentParser) -> None:
        """Declare the words."""
        parser.add_argument(
            "results", nargs="*", type=Path, metavar="RESULT.npz", help="of any kinds; the built-in example if left out"
        )
        parser.add_argument("--title", help="of the page")
        parser.add_argument(
            "--out", type=Path, metavar="DIR", help="default: fastfreq-report, or a fresh name beside it"
        )
        parser.add_argument("--force", action="store_true", help="overwrite another page, and other results")
        _arguments.add_said(parser)

    def run(self, options: argparse.Namespace) -> int:
        """Write the page."""
        from ._said import Said

        said = Said(options)
        with said.alone():
            if options.results:
                _of_files(options, said)
            else:
                _of_the_example(options, said)
        return 0


def _of_files(options: argparse.Namespace, said: Said) -> None:
    from fastfreq import report
    from fastfreq.results.registry import load

    shown: dict[str, list[Any]] = {}
    for path in options.results:
        result = load(path)
        own = result.details.get("model") or path.stem
        tried = (own, f"{own} ({path.stem})", f"{own} ({path})")
        free = (name for name in tried if _what(result) not in map(_what, shown.get(name, [])))
        name = next(free, f"{own} ({len(shown) + 1})")
        shown.setdefault(name, []).append(result)
        said.result(name, result, summary=[], file=str(path))
    file = _page(options)
    only = {result.kind for results in shown.values() for result in results} == {"heatmap"}
    title = options.title or ("Which frequencies break it?" if only else "Frequencies of a network")
    page = report.write_report(
        shown, file, title=title, pngs=True, command=_command(options), progress=not options.quiet
    )
    said.line(f"wrote {page}")


def _what(result: Any) -> tuple[str, str]:
    """Kind and family: one of each under a name."""
    return result.kind, getattr(result, "mask", "")


def _command(options: argparse.Namespace) -> str:
    """What a page was made of: the same files, the same page."""
    return shlex.join(["fastfreq", "report", *map(str, options.results)])


def _page(options: argparse.Namespace) -> Path:
    """Where the page goes: never over one of other results, but with --force.

    Raises:
        ValueError: --out holds a page of other results.
    """
    tried = itertools.chain([_HOME], (_HOME.with_name(f"{_HOME.name}-{i}") for i in itertools.count(2)))
    page = _HOME / "report.html"
    for folder in tried if options.out is None else [options.out]:
        page = folder / "report.html"
        if options.force or not page.exists() or _made_by(_command(options), page):
            return page
    raise ValueError(f"expected an --out without a page, {page} is of other results; choose another, or give --force")


def _made_by(command: str, page: Path) -> bool:
    with page.open("rb") as file:
        written = f'content="{html.escape(command, quote=True)}"'.encode(errors="backslashreplace")
        return written in file.read(65536)


def _of_the_example(options: argparse.Namespace, said: Said) -> None:
    import dataclasses

    import fastfreq as ff
    from fastfreq import demo, report

    from . import _files, _request

    details = _request.describe(options)
    details["command"] = "fastfreq report"
    page = _page(options)
    out = page.parent
    for name in demo.NETWORKS:
        _files.check_free(out / f"{name}.npz", details["request"], force=options.force)
    images, labels = demo.load_digits()
    shown: dict[str, list[Any]] = {}
    for name in demo.NETWORKS:
        said.line(f"{name} network, {len(images)} digits, every frequency of 8 x 8")
        network = demo.load_network(name)
        run: dict[str, Any] = {"progress": not options.quiet}
        heat = ff.heatmap(network, images, labels, eps=demo.EPS, metrics=("error", "loss"), **run)
        shown[name] = [heat, ff.gradient_heatmap(network, images, labels, eps=demo.EPS)]
        shown[name] = [dataclasses.replace(r, details={**r.details, **details, "model": name}) for r in shown[name]]
        shown[name][0].save(out / f"{name}.npz")
        said.result(name, shown[name][0], summary=[], file=str(out / f"{name}.npz"))
    title = options.title or "Three ways to train, three ways to break"
    report.write_report(
        shown, page, title=title, example=images[0], notes=[_DEMO_NOTE], pngs=True, command=_command(options),
        progress=not options.quiet,
    )  # fmt: skip
    said.line(f"wrote {page}")


VERB = _Report()

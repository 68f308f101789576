"""What verbs that measure do alike: load, choose where to write, measure, save, draw, say."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from . import _arguments, _refusals

if TYPE_CHECKING:
    from fastfreq.data import ImageData, Preprocessing
    from fastfreq.engine.ranks import Ranks
    from fastfreq.models import LoadedModel

    from ._said import Said


@dataclasses.dataclass
class Subject:
    """What is measured.

    Attributes:
        name: of the model as it was asked for, or of the images.
        model: None where only images are measured.
        data: None where only a model is.
        device: where it runs.
    """

    name: str
    model: LoadedModel | None
    data: ImageData | None
    device: str


class Measure:
    """A verb that measures.

    A subclass declares its own words and says how they become arguments of the function of its name.

    Attributes:
        kind: of the result, and the function's name.
        model: whether it has --model.
        data: whether it has --data; "optional", or "unlabelled" for images that need no labels.
        run_words: its words of `_arguments.RUN`.
    """

    kind: ClassVar[str]
    model: ClassVar[bool] = True
    data: ClassVar[str] = "labelled"
    run_words: ClassVar[tuple[str, ...]] = _arguments.RUN

    # ---------------------------------------------------------------- what a verb says of itself
    def add(self, parser: argparse.ArgumentParser) -> None:
        """Declare its own words."""

    def check(self, options: argparse.Namespace) -> None:
        """Refuse words that do not go together, before anything is loaded."""

    def arguments(self, options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
        """Keywords of the function."""
        return {}

    def keeps(self, options: argparse.Namespace) -> bool:
        """Whether images that are finished are kept for `--resume`."""
        return "checkpoint" in self.run_words

    def variants(self, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
        """Where one command measures several times: part of a file's name -> keywords of one measurement."""
        return {"": {}}

    def certainty(self, options: argparse.Namespace, images: int) -> str:
        """What so many images can tell."""
        return f"a share of them is known to ± {0.98 / math.sqrt(images):.2g} at worst (95 %)"

    def call(self, function: Any, subject: Subject, arguments: dict[str, Any]) -> Any:
        """The measurement."""
        positional = [subject.model.model] if subject.model is not None else []
        return function(*positional, *([] if subject.data is None else [subject.data]), **arguments)

    def picture(self, options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
        """Keywords of `Result.plot`."""
        return {}

    def summary(self, result: Any, options: argparse.Namespace) -> list[dict[str, Any]]:
        """The rows that are printed."""
        return result.summary()

    def more(self, result: Any, options: argparse.Namespace, subject: Subject) -> list[str]:
        """Lines after the table."""
        return []

    def example(self, subject: Subject) -> Any:
        """An image for the page."""

    def draw_more(self, result: Any, options: argparse.Namespace, out: Path) -> None:
        """Draw what was asked for beside the page."""

    # ---------------------------------------------------------------- what all do
    def declare(self, parser: argparse.ArgumentParser) -> None:
        """Declare all words."""
        if self.model:
            _arguments.add_model(parser)
        if self.data:
            required, labels = self.data != "optional", self.data != "unlabelled"
            _arguments.add_data(parser, required=required, labels=labels, model=self.model)
        self.add(parser)
        _arguments.add_run(parser, self.run_words)
        name = "MODEL" if self.model else "DATA"
        _arguments.add_out(parser, f"fastfreq-report/{self.kind.replace('_', '-')}-{name}")
        _arguments.add_said(parser)

    def run(self, options: argparse.Namespace) -> int:
        """Measure, save, draw, say; of several processes that a launcher started, one saves, draws and says."""
        from ._said import Said

        if _refusals.rank() > 0:
            options.quiet, options.json = True, False
        said = Said(options)
        with said.alone():
            self._run(options, said)
        return 0

    def _run(self, options: argparse.Namespace, said: Said) -> None:
        """Alone, or as one of the processes that a launcher such as torchrun started."""
        from fastfreq.engine import ranks

        if _refusals.rank() < 0:
            self._measure(options, said, ranks.Ranks())
            return
        import torch.distributed as dist

        ranks.initialise()
        try:
            with ranks.joined(True, self.kind) as group:
                self._measure(options, said, group)
                group.agreed(lambda: None)  # nobody ends, and is missed, before all have
        finally:
            dist.destroy_process_group()

    def _measure(self, options: argparse.Namespace, said: Said, group: Ranks) -> None:
        import fastfreq
        from fastfreq.engine import ranks

        from . import _files, _loading, _request
        from ._run_folder import RunFolder

        function = getattr(fastfreq, self.kind)
        self.check(options)
        variants = self.variants(options)
        subject = _loading.subject(self, options)
        details = _request.describe(options, fingerprint=_loading.fingerprint(subject)) if group.first else {}
        shard = getattr(options, "shard", None)
        stems = {v: _request.stem(self.kind, subject.name, v, shard) for v in variants}
        out, where = group.agreed(
            lambda: [str(v) for v in _files.folder(options, subject.name, details["request"], stems.values())]
        )
        out = Path(out)
        if where:
            said.line(where)
        self._announce(subject, options, said)
        shared = self._how(options, subject)
        arguments = self.arguments(options, subject)
        results: list[Any] = []
        for variant, own in variants.items():
            file = out / f"{stems[variant]}.npz"
            folder = RunFolder(file)
            group.agreed(lambda f=folder: f.begin(options, subject, details, ranks=group.size))
            if self.keeps(options) and options.checkpoint is None:
                options.partial = shared["checkpoint"] = folder.partial
            try:
                found = self.call(function, subject, {**arguments, **own, **shared})
            except Exception:
                if group.first:
                    folder.withdraw()
                raise
            if not group.first:
                continue
            found = dataclasses.replace(found, details={**found.details, **details})
            _save(found, file.with_suffix(""))  # what is measured is safe, whatever drawing does
            folder.end()
            name = f"{subject.name}, {variant.replace('_', ' ')}" if variant else subject.name
            with ranks.apart():
                self._say(said, name, found, options, subject, str(file))
                self.draw_more(found, options, out)
            results.append(found)
        if group.first:
            name = f"{_request.stem(self.kind, subject.name, '-'.join(variants), shard)}.html"
            page = self._draw(options, subject, results, out / name, said)
            files = f"{', '.join(f'{stem}.npz' for stem in stems.values())} and .csv in {out}"
            said.line(f"wrote {files}" + (f"; the page is {page}" if page else ""))

    def _say(
        self, said: Said, name: str, result: Any, options: argparse.Namespace, subject: Subject, file: str
    ) -> None:
        said.result(name, result, summary=self.summary(result, options), file=file)
        for line in self.more(result, options, subject):
            said.line(_refusals.in_words(line, options))

    def _how(self, options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
        """Options of the run."""
        found: dict[str, Any] = {"progress": not options.quiet}
        for name in self.run_words:
            value = getattr(options, name, None)
            if value is not None and value is not False or name == "channels_last" and value is False:
                found[name] = value
        if "device" in self.run_words:
            found["device"] = subject.device
        if getattr(options, "labels", "given") == "predicted":
            found["labels"] = "predicted"
        return found

    def _draw(
        self, options: argparse.Namespace, subject: Subject, results: list[Any], page: Path, said: Said
    ) -> Path | None:
        try:
            from fastfreq import report
        except ImportError as error:  # an extra; figures are saved without it
            said.line(f"no page: {error}")
            return None
        notes = [f"Images: {options.data}."] if getattr(options, "data", None) else []
        skipped = [] if subject.data is None else subject.data.skipped
        if skipped:
            notes.append(f"{len(skipped)} images could not be read and were left out: {_listed(skipped)}")
        return report.write_report(
            {subject.name: results},
            page,
            title=f"{self.kind.replace('_', ' ').capitalize()} of {subject.name}",
            notes=notes,
            example=self.example(subject),
            pngs=page.stem,
            options=self.picture(options, subject),
            progress=not options.quiet,
        )

    def _announce(self, subject: Subject, options: argparse.Namespace, said: Said) -> None:
        if subject.data is None or subject.model is None:
            return
        n = len(subject.data)
        shard = getattr(options, "shard", None)
        whole = f" in all {shard[1]} shards together" if shard is not None and shard[1] > 1 else ""
        said.line(f"{n:,} images{whole}: {self.certainty(options, n)}")


def _save(result: Any, stem: Path) -> None:
    from fastfreq.results import store, tables

    result.save(stem.with_name(f"{stem.name}.npz"))
    with contextlib.suppress(ValueError):  # the spectrum of an attack that fooled nobody has no rows, which is said
        store.write_text(stem.with_name(f"{stem.name}.csv"), tables.to_csv(result.table()))


def _listed(skipped: list[tuple[str, str]]) -> str:
    shown = "; ".join(f"{name} ({reason})" for name, reason in skipped[:10])
    return shown + (f"; and {len(skipped) - 10} more" if len(skipped) > 10 else "")


def preprocessing(options: argparse.Namespace) -> Preprocessing | None:
    """What --resize and --crop say."""
    from fastfreq.data import Preprocessing

    if options.crop is not None:
        if options.resize is not None and options.resize < options.crop:
            raise ValueError(
                f"expected --resize no smaller than --crop, got {options.resize} and {options.crop}; images are not "
                f"padded"
            )
        return Preprocessing((options.crop, options.crop), options.resize)
    if options.resize is not None:
        raise ValueError(f"expected --crop with --resize, such as --crop {options.resize}, got none")
    return None

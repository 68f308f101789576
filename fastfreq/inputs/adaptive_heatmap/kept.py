"""What a map to a stated precision leaves on disk: itself after every round, and the rounds that a later call needs."""

from __future__ import annotations

import contextlib
import re
import shutil
import warnings
from pathlib import Path
from typing import Self

from fastfreq.engine.ranks import Ranks
from fastfreq.results import registry, store

from .result import AdaptiveHeatmap

_ROUND = re.compile(r"\.?round-\d{4,}\.npz")  # begins the names of all that a round leaves


class Kept:
    """The file named by `checkpoint`, and the checkpoints of rounds in the folder beside it.

    A call that goes on makes all rounds again, in the same order: those that are finished are read, not measured.

    Attributes:
        ranks: whose file it is.

    Raises:
        ValueError: the file exists, and no rounds that a call could go on from.
        OSError: a path that cannot be written to.
    """

    def __init__(self, path: str | Path | None, ranks: Ranks) -> None:
        self.ranks = ranks
        self._path = None if path is None else Path(path).absolute()  # programs change their folder
        self._rounds, self._passes = 0, 0
        why = ranks.agreed(self._refusal)
        if why is not None:
            raise ValueError(why)

    def _refusal(self) -> str | None:
        if self._path is None:
            return None
        store.check_writable(self._path)
        if self._path.exists():
            if not self._left():
                return f"expected a new file for `checkpoint`, {self._path} exists and is finished; name another"
            found = registry.load(self._path)
            if not isinstance(found, AdaptiveHeatmap):
                return f"expected a new file for `checkpoint`, {self._path} holds a {found.kind}; name another"
            self._passes = found.passes
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """The map is whole, and nobody goes on from its rounds; or somebody will, if there are any."""
        if self._path is None or not self.ranks.first:
            return
        with contextlib.suppress(OSError):
            for path in self._left() if kind is None else ():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            self._folder.rmdir()  # or not, where there is anything else

    @property
    def _folder(self) -> Path:
        return Path(f"{self._path}.parts")

    def _left(self) -> list[Path]:
        """What rounds have left."""
        return [path for path in self._folder.iterdir() if _ROUND.match(path.name)] if self._folder.is_dir() else []

    def next_round(self) -> Path | None:
        """The checkpoint of the next round."""
        self._rounds += 1
        if self._path is not None and self.ranks.first:
            self._folder.mkdir(parents=True, exist_ok=True)  # also where somebody has removed it
        return None if self._path is None else self._folder / f"round-{self._rounds:04}.npz"

    def save(self, result: AdaptiveHeatmap) -> None:
        """The map so far; not one with fewer passes than the file already has."""
        if self._path is None or not self.ranks.first or result.passes < self._passes:
            return
        try:
            result.save(self._path)
        except (OSError, MemoryError) as error:  # what was measured is not lost for it
            warnings.warn(
                f"the map so far could not be written to {self._path} ({error}); the run goes on", stacklevel=3
            )

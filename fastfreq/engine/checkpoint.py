"""Finished images on disk: saved as they come, checked before they are believed.

One process saves in one file. Several save what each has finished in files of their own, in a folder beside that file;
the first of them makes one of all at the end. A later run takes the file and the folder together, whoever left them:
nothing is ever written to a file of an earlier run before all of it is in another one.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fastfreq.results import folds, registry, result, store
from fastfreq.results.result import ImagesResult

from .images import Chunk
from .ranks import Ranks

_SAVE_EVERY = 30  # seconds between two saves
_PART = re.compile(r"[0-9a-f]{16}-\d{1,6}\.npz")  # of one run and rank
_REFUSED = re.compile(r"[0-9a-f]{16}\.refused")  # a run whose images turned out to be others
_LEFT = re.compile(rf"\.{_PART.pattern}\.[\w-]+\.\d{{1,9}}-\d+\.tmp")  # of one that was killed as it wrote


class Checkpoint:
    """The file of a run that may be interrupted, or nothing.

    Attributes:
        before: what earlier runs left, the same on all ranks, or None.
        ranks: whose run it is.

    Raises:
        ValueError: a file that is no result of this kind.
        OSError: a path that cannot be written to, said before anything is computed.
    """

    def __init__(self, path: str | Path | None, kind: type[ImagesResult], ranks: Ranks | None = None) -> None:
        self.ranks = ranks or Ranks()
        self._path = None if path is None else Path(path).absolute()  # programs change their folder
        self.before: Any = None
        self._saved = time.monotonic()
        self._verified = 0
        self._written: tuple[int, int] | None = None
        self._parts: list[Path] = []  # that earlier runs left
        self._token = ""  # of this run, where it is one of several ranks
        if self._path is None:
            return
        if self.ranks.first:
            store.check_writable(self._path)
            self._written = self._stamp()
            self.before = self._read(kind)
        if self.ranks.size > 1:
            self._token = self.ranks.agreed(lambda: secrets.token_hex(8))
            self.before = self.ranks.from_first(self.before)

    @property
    def _folder(self) -> Path:
        """Where ranks save."""
        return Path(f"{self._path}.parts")

    def _read(self, kind: type[ImagesResult]) -> Any:
        """What the file and the folder hold; of parts that share an image, the first counts."""
        assert self._path is not None
        names = sorted(file.name for file in self._folder.iterdir()) if self._folder.is_dir() else []
        refused = {name[:16] for name in names if _REFUSED.fullmatch(name)}
        self._parts = [self._folder / name for name in names if _PART.fullmatch(name)]
        found: Any = None
        for file in [self._path, *self._parts]:
            if not file.exists() or file.name[:16] in refused:
                continue
            part = registry.load(file)
            if type(part) is not kind:
                raise ValueError(f"expected a {kind.kind} as checkpoint, {file} holds a {part.kind}")
            if found is None:
                found = part
            elif not np.isin(part.image_ids, found.image_ids).any():
                try:
                    found = found + part
                except ValueError as error:
                    raise ValueError(
                        f"expected checkpoints of one request, {file} is of another than the rest of {self._path}: "
                        f"{error}; name another file"
                    ) from error
        return found

    def check(self, settings: dict[str, Any], keys: dict[str, list[str]]) -> None:
        """Refuse a file of another request, naming what differs.

        Args:
            settings: fields that must be the same.
            keys: names that dicts must have.

        Raises:
            ValueError: it is of another request.
        """
        if self.before is None:
            return
        held = {name: sorted(getattr(self.before, name)) for name in keys}
        for name, value in [*settings.items(), *((name, sorted(names)) for name, names in keys.items())]:
            try:
                result.conflict(name, value, held[name] if name in held else getattr(self.before, name))
            except ValueError as error:
                raise ValueError(
                    f"expected a checkpoint of this very request, {self._path} is of another: {error}; name another "
                    f"file"
                ) from error

    def check_fits(self, found: ImagesResult) -> None:
        """Refuse a file that cannot be added to what this run finds.

        Raises:
            ValueError: a field of the file has another layout: it was changed.
        """
        if self.before is None:
            return
        try:
            self.before.check_fits(found)
        except ValueError as error:
            raise ValueError(
                f"expected a checkpoint of this very request, {self._path} cannot be gone on from: {error}; name "
                f"another file"
            ) from error

    def left(self, chunk: Chunk, *, predicted: bool) -> Chunk:
        """The images of a chunk that are not finished yet; the finished ones must be the same images.

        Raises:
            ValueError: another image or label under an id that is finished.
        """
        if self.before is None:
            return chunk
        ids = chunk.ids.numpy()
        done, at = self._found(chunk.ids)
        rows = at[done]
        same = self.before.image_hashes[rows] == chunk.hashes.numpy().view(np.uint64)[done]
        if hasattr(self.before, "labels") and not predicted:
            same &= self.before.labels[rows] == chunk.labels.cpu().numpy()[done]
        if not same.all():
            self._refuse()
            raise ValueError(
                f"expected a checkpoint of these images, image {ids[done][~same][0]} of {self._path} is another, or "
                f"has another label; were they shuffled?"
            )
        self._verified += len(rows)
        return chunk.part(np.flatnonzero(~done))

    def has(self, ids: Tensor) -> bool:
        """Whether all these images are finished."""
        return self.before is not None and bool(self._found(ids)[0].all())

    def _found(self, ids: Tensor) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """(which of the images are finished, where they are among all that are)."""
        wanted, known = ids.numpy(), self.before.image_ids
        at = np.searchsorted(known, wanted)
        return (at < len(known)) & (known[np.minimum(at, len(known) - 1)] == wanted) if len(known) else wanted < 0, at

    @property
    def _believed(self) -> bool:
        """Whether every image of the file was seen to be one of this run's; until then nothing is written to it."""
        return self.before is None or self._verified == len(self.before.image_ids)

    def check_all_seen(self, told: dict[str, Any] | None = None) -> None:
        """Refuse ranks that passed over other images, `told`, and a file of images which this run does not have.

        Raises:
            ValueError: it does, or they did.
        """
        if told is not None:
            try:
                self.ranks.same(told)
            except ValueError:
                self._refuse()
                raise
        if self.before is None:
            return
        self._verified = sum(self.ranks.told(self._verified))
        if not self._believed:
            self._refuse()
            raise self._of_others(len(self.before.image_ids) - self._verified)

    def check_may_hold(self, may_hold: Callable[[NDArray[np.int64]], NDArray[np.bool_]]) -> None:
        """Refuse a file of images that this run cannot have, before anything is computed.

        Raises:
            ValueError: it holds one.
        """
        others = 0 if self.before is None else int((~may_hold(self.before.image_ids)).sum())
        if others:
            raise self._of_others(others)

    def _of_others(self, count: int) -> ValueError:
        return ValueError(
            f"expected a checkpoint of these images, {self._path} holds {count} that this run does not have; was it "
            f"made with another `shard`, `first_image` or more images?"
        )

    def due(self) -> bool:
        """Whether it is time to save."""
        ready = self._path is not None and (self._token or self._believed)
        return bool(ready) and time.monotonic() - self._saved > _SAVE_EVERY

    def save(self, value: Any) -> bool:
        """Save what this process has finished; where that fails, warn: what was computed is not lost for it."""
        if self._path is None or value is None:
            return False
        done = False
        if self._token:  # a file of this run alone: nothing is overwritten, whatever the others turn out to be
            done = self._write(value, self._folder / f"{self._token}-{self.ranks.rank}.npz")
        elif self._believed:
            done = self._write_whole(value)
        self._saved = time.monotonic()
        return done

    @contextlib.contextmanager
    def keeping(self, merged: result.Merger) -> Iterator[None]:
        """Save what is finished at the end, also when it is an error or Ctrl-C, which then says what was kept."""
        try:
            yield
        except BaseException as error:
            if said := self._kept(merged.result()):
                error.add_note(said)
            raise
        else:
            self._kept(merged.result())

    def _kept(self, value: Any) -> str:
        """Save what is finished; what to say of it."""
        if value is None:
            return ""
        count = f"{len(value.image_ids)} images are finished"
        if value is self.before or self.save(value):
            return f"{count} and kept in {self._path}: the same call goes on from there"
        return f"{count} and lost: checkpoint=FILE keeps them" if self._path is None else ""

    def finished(self, value: Any) -> Any:
        """The result of all ranks and earlier runs, on each of them; saved by the first, in one file."""
        if self.ranks.size > 1:
            value = self.ranks.whole(value, self.before)
        if self._path is None or not self.ranks.first or not (self._token or self._parts):
            return value
        if (value is self.before and not self._parts) or self._write_whole(value):
            self._remove_parts()
        return value

    def _write_whole(self, value: Any) -> bool:
        """Save the one file, unless another run writes it too; whether it is there."""
        if self._path is None:
            return False
        if self._is_of_another_run(value):
            warnings.warn(
                f"another run writes the checkpoint {self._path} too: this one goes on without; give each run a "
                f"file of its own",
                stacklevel=2,
            )
            self._path = None
            return False
        done = self._write(value, self._path)
        self._written = self._stamp()
        return done

    def _write(self, value: Any, path: Path) -> bool:
        try:
            value.save(path)
        except (OSError, MemoryError) as error:
            reason = str(error) or type(error).__name__
            warnings.warn(f"the checkpoint {path} could not be written ({reason}); the run goes on", stacklevel=3)
            return False
        return True

    def _refuse(self) -> None:
        """Nobody is to go on from what the ranks of this run have saved: it is of other images."""
        if self._token and self._folder.is_dir():
            with contextlib.suppress(OSError):
                (self._folder / f"{self._token}.refused").touch()

    def _remove_parts(self) -> None:
        """Remove what is in the file now, and what killed runs left beside it."""
        if not self._folder.is_dir():
            return
        with contextlib.suppress(OSError):
            for file in self._folder.iterdir():
                known = file in self._parts or (self._token and file.name.startswith(self._token))
                if known or _REFUSED.fullmatch(file.name) or _LEFT.fullmatch(file.name):
                    file.unlink(missing_ok=True)
            self._folder.rmdir()

    def _stamp(self) -> tuple[int, int] | None:
        """What changes when the file is written; None where there is none."""
        try:
            found = Path(str(self._path)).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size

    def _is_of_another_run(self, value: Any) -> bool:
        """Whether the file was written meanwhile, with anything that `value` does not hold."""
        now = self._stamp()
        if now is None or now == self._written:
            return False
        try:
            there = registry.load(str(self._path))
        except ValueError:  # not even a result
            return True
        except (OSError, MemoryError):  # which the writing says
            return False
        if type(there) is not type(value) or not np.isin(there.image_ids, value.image_ids).all():
            return True
        asked = [name for name, fold in folds.folds(value).items() if fold.how in ("same", "condition")]
        return not all(folds.equal(getattr(there, name), getattr(value, name)) for name in asked)

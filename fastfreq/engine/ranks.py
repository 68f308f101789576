"""Processes that measure together: who does what, what they agree on, one result of all, and none waits for the dead.

Torch's own processes (torchrun, srun, mpirun with `torch.distributed`), whatever their backend: results are small, so
they travel over a gloo group beside it, in the format in which they are saved. Every process passes over all images and
evaluates some of the chunks that one process would make, a fast one more of them: no batch differs, so no bit can.
"""

from __future__ import annotations

import contextlib
import contextvars
import datetime
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import distributed_c10d

from fastfreq.results import registry

SILENT = 60.0  # seconds without a sign of life after which a rank is given up
MEETING = 600.0  # that ranks wait for each other before a measurement: some read, draw or compile meanwhile
_BEATS = 20  # signs of life in that time
_TRUSTED = 1 << 50  # bytes that a result from another rank may take: it is ours
_APART: contextvars.ContextVar[bool] = contextvars.ContextVar("apart", default=False)
_HELD: contextvars.ContextVar[Ranks | None] = contextvars.ContextVar("held", default=None)


class Ranks:
    """One process that measures alone; `_Together` is several.

    Attributes:
        rank: which of them this is.
        size: how many there are.
    """

    rank, size = 0, 1

    def __init__(self) -> None:
        self._round = 0
        self._seen, self._taken = [0, 0], [-1, -1]  # of chunks that are not finished, and of those that are

    def next_round(self) -> None:
        """Another pass over all images, whose chunks nobody has taken yet."""
        self._round += 1
        self._seen, self._taken = [0, 0], [-1, -1]

    @property
    def first(self) -> bool:
        """Whether this one speaks and writes for all."""
        return self.rank == 0

    def turn(self, finished: bool) -> bool:
        """Whether the next chunk is this rank's: who has done its last one takes the next that nobody has taken.

        All ranks ask for every chunk in the same order, of those that are finished and of the others.
        """
        seen = self._seen[finished]
        self._seen[finished] += 1
        if self._taken[finished] < seen:
            self._taken[finished] = self._take(finished)
        return self._taken[finished] == seen

    def _take(self, finished: bool) -> int:
        """The number of the first chunk that nobody has taken."""
        return self._taken[finished] + 1

    def dealt(self, costs: Sequence[float]) -> list[int]:
        """Numbers of the items that are this rank's: the dearest first, each to the one that has least to do."""
        loads, mine = [0.0] * self.size, []
        for item in sorted(range(len(costs)), key=lambda i: -costs[i]):
            owner = loads.index(min(loads))
            loads[owner] += costs[item]
            mine += [item] * (owner == self.rank)
        return sorted(mine)

    def check(self) -> None:
        """Refuse to go on where another rank does not.

        Raises:
            RuntimeError: one has stopped, or has not been heard of for `SILENT` seconds.
        """

    def agreed(self, decide: Callable[[], Any]) -> Any:
        """What the first rank decides, of what JSON can hold; nobody else decides anything."""
        return decide()

    def told(self, mine: Any) -> list[Any]:
        """What each rank says, of what JSON can hold."""
        return [mine]

    def same(self, mine: dict[str, Any]) -> None:
        """Refuse ranks that were asked for different things.

        Raises:
            ValueError: they were; the first name under which they differ is in the message.
        """
        others = self.told(mine)
        own = others[self.rank]
        for name in own:
            if any(other.get(name) != own[name] for other in others):
                raise ValueError(
                    f"expected the same {name} on every rank, got others; give each of them all images in one order "
                    f"and the same model: they are shared out here (or distributed=False: each by itself)"
                )

    def results(self, mine: Any) -> list[Any]:
        """The result of each rank, None where it has none."""
        return [mine]

    def whole(self, mine: Any, before: Any = None) -> Any:
        """`before` and the results of all ranks together; the same on each of them."""
        total = before
        for part in self.results(mine):
            if part is not None:
                total = part if total is None else total + part
        return total

    def from_first(self, mine: Any) -> Any:
        """The first rank's result, or None where it has none."""
        return self.results(mine if self.first else None)[0]


@contextlib.contextmanager
def joined(asked: bool | None, what: str) -> Iterator[Ranks]:
    """The ranks that make one measurement, from its beginning to its end.

    Args:
        asked: True for all processes of `torch.distributed`, which is initialised from the environment of torchrun
            where nobody has; None for those of one that is initialised; False for this process alone.
        what: for messages.

    Raises:
        ValueError: `asked` is something else, or True without a launcher.
        RuntimeError: a rank did not come, has stopped or was not heard of.
    """
    if asked not in (None, True, False):
        raise ValueError(f"expected `distributed` as True, False or None, got {asked!r}")
    if asked and not _initialised():
        initialise()
    if asked is False or not _initialised() or (asked is None and _APART.get()) or dist.get_world_size() == 1:
        yield Ranks()
        return
    together = _HELD.get()
    if together is not None:
        together.next_round()
        yield together
        return
    with _LOCK:
        ranks = _Together(what)
        try:
            ranks.meet()
            yield ranks
        except BaseException as error:
            ranks.stopped(error)
            raise
        finally:
            ranks.close()


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """Inside, this process measures alone unless it is told distributed=True."""
    token = _APART.set(True)
    try:
        yield
    finally:
        _APART.reset(token)


@contextlib.contextmanager
def held(ranks: Ranks) -> Iterator[None]:
    """Inside, what `joined` gives is these ranks, who have met: they make many measurements as one.

    Who dies between two of them is missed as in the middle of one.
    """
    token = _HELD.set(ranks if ranks.size > 1 else None)
    try:
        yield
    finally:
        _HELD.reset(token)


def initialise() -> None:
    """`torch.distributed` from the environment that torchrun makes.

    Raises:
        ValueError: there is none.
    """
    missing = [name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ValueError(
            f"expected processes that torchrun started, {', '.join(missing)} is not set; start the script with "
            f"`torchrun --nproc-per-node N`, call torch.distributed.init_process_group first, or leave out "
            f"`distributed`"
        )
    dist.init_process_group("gloo")


def _initialised() -> bool:
    return dist.is_available() and dist.is_initialized()


class _Together(Ranks):
    """Several processes: signs of life and last words through torch's key-value store, results over gloo."""

    _count = 0  # measurements so far: the same on every rank

    def __init__(self, what: str) -> None:
        super().__init__()
        self.rank, self.size, self._what = dist.get_rank(), dist.get_world_size(), what
        store = distributed_c10d._get_default_store()
        self._store = distributed_c10d.PrefixStore(f"fastfreq/{_Together._count}", store)
        self._next = (self.rank + 1) % self.size  # everybody watches one
        self._heard, self._beats, self._looked = time.monotonic(), -1, 0.0
        self._over, self._alive = threading.Event(), threading.Thread(target=self._live, daemon=True)
        self._group: Any = None
        self._steps, self._met = 0, False

    def meet(self) -> None:
        """Wait for all ranks to ask for this measurement.

        Raises:
            RuntimeError: some did not within `MEETING` seconds.
        """
        end = time.monotonic() + MEETING
        self._add(f"here/{self.rank}", 1)
        while absent := [r for r in range(self.size) if not self._add(f"here/{r}", 0)]:
            if time.monotonic() > end:
                self._add(f"here/{self.rank}", -1)
                raise RuntimeError(
                    f"expected all {self.size} ranks to ask for the {self._what}, ranks {absent} did not within "
                    f"{MEETING:g} seconds; call it on every rank, or with distributed=False on one alone"
                )
            time.sleep(0.01)
        _Together._count += 1
        self._heard, self._met = time.monotonic(), True
        self._alive.start()
        self._group = _gloo()

    def close(self) -> None:
        """No more signs of life."""
        self._over.set()
        if self._met:
            self._alive.join(SILENT)

    # ---------------------------------------------------------------- who lives
    def _live(self) -> None:
        while not self._over.wait(SILENT / _BEATS):
            try:
                self._store.add(f"beat/{self.rank}", 1)
            except RuntimeError:  # its keeper is gone, which `check` says
                return

    def stopped(self, error: BaseException) -> None:
        """Tell the others why this rank stops; the first to say so is heard."""
        with contextlib.suppress(RuntimeError):
            if self._met and self._store.add("stopped", 1) == 1:
                self._store.set("why", f"rank {self.rank} stopped: {type(error).__name__}: {error}")

    def check(self) -> None:
        """As in `Ranks`."""
        now = time.monotonic()
        if now - self._looked < min(0.5, SILENT / _BEATS):
            return
        self._looked = now
        if self._add("stopped", 0):
            raise self._stop(self._last_words())
        beats = self._add(f"beat/{self._next}", 0)
        if beats != self._beats:
            self._beats, self._heard = beats, now
        elif now - self._heard > SILENT:
            raise self._stop(f"rank {self._next} has not been heard of for {SILENT:g} seconds")

    def _last_words(self) -> str:
        for _ in range(50):
            if self._store.check(["why"]):
                text = self._store.get("why").decode()
                relayed = f"expected all {self.size} ranks of the" in text  # what a third one had said
                return text.partition("to finish, ")[2].partition(";")[0] if relayed else text
            time.sleep(0.01)
        return "another rank stopped"

    def _add(self, key: str, number: int) -> int:
        try:
            return self._store.add(key, number)
        except RuntimeError as error:
            raise self._stop(f"the one that keeps torch's store (rank 0, or its launcher) is gone ({error})") from error

    def _stop(self, why: str) -> RuntimeError:
        return RuntimeError(
            f"expected all {self.size} ranks of the {self._what} to finish, {why}; images that were finished are in "
            f"the checkpoint, if there is one: the same call goes on from there, with any number of ranks"
        )

    def wait(self, step: str) -> None:
        """Until all ranks have come this far.

        Raises:
            RuntimeError: one never will.
        """
        self._add(step, 1)
        pause = 1e-3
        while self._add(step, 0) < self.size:
            self.check()
            time.sleep(pause)
            pause = min(0.1, 1.5 * pause)

    def _take(self, finished: bool) -> int:
        """As in `Ranks`."""
        return self._add(f"taken/{self._round}/{int(finished)}", 1) - 1

    # ---------------------------------------------------------------- what they say to each other
    def told(self, mine: Any) -> list[Any]:
        """As in `Ranks`."""
        return [json.loads(data) for data in self._exchanged(json.dumps(mine).encode())]

    def agreed(self, decide: Callable[[], Any]) -> Any:
        """As in `Ranks`."""
        return self.told(decide() if self.first else None)[0]

    def results(self, mine: Any) -> list[Any]:
        """As in `Ranks`."""
        with tempfile.TemporaryDirectory(prefix="fastfreq-") as folder:
            path, found = Path(folder) / "result.npz", []
            if mine is not None:
                mine.save(path)
            for rank, data in enumerate(self._exchanged(path.read_bytes() if mine is not None else b"")):
                if rank == self.rank or not data:
                    found.append(mine if rank == self.rank else None)
                    continue
                path.write_bytes(data)
                found.append(registry.load(path, max_bytes=_TRUSTED))
            return found

    def _exchanged(self, mine: bytes) -> list[bytes]:
        """The bytes of every rank, once all are there: nobody is in a collective call for long."""
        self._steps += 1
        self.wait(f"step/{self._steps}")
        try:
            sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
            dist.all_gather(sizes, torch.tensor([len(mine)]), group=self._group)
            return [self._sent(rank, mine, int(size)) for rank, size in enumerate(sizes)]
        except RuntimeError as error:
            raise self._stop(f"one of them was lost ({error})") from error

    def _sent(self, rank: int, mine: bytes, size: int) -> bytes:
        if not size:
            return b""
        data: Tensor = torch.empty(size, dtype=torch.uint8)
        if rank == self.rank:
            data = torch.frombuffer(bytearray(mine), dtype=torch.uint8)
        dist.broadcast(data, src=rank, group=self._group)
        return data.numpy().tobytes()


_LOCK = threading.RLock()  # one measurement of several ranks at a time in a process
_GROUPS: dict[int, tuple[Any, Any]] = {}


def _gloo() -> Any:
    """A group of all ranks on host memory, made once for each that torch was initialised with."""
    world = dist.group.WORLD
    if id(world) not in _GROUPS:
        _GROUPS.clear()
        timeout = datetime.timedelta(seconds=max(SILENT, 1.0))
        _GROUPS[id(world)] = world, dist.new_group(backend="gloo", timeout=timeout)
    return _GROUPS[id(world)][1]

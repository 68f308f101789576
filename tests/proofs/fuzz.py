"""Hostile input for every loader and the command line: read, or refused by name; nothing else happens.

    python -m tests.proofs.fuzz --cases 1000000 --folder STATE --json FOUND.json  # when stopped, it goes on
    python -m tests.proofs.fuzz --target result --cases 5000

An input that reaches a line of fastfreq, or a wording of a refusal, that none before it did is kept and changed
further: guided by coverage. Case i of a target draws from (seed, target, i) alone. Of every case it is held that

- it ends, within `SECONDS` of a core, with a value or with an error of a documented type that names file or flag;
- nothing is unpickled, but by numba what it compiled itself; no process is started, no connection made;
- no file is written, moved, removed or, but for Python's own, read outside the folder of the case;
- the memory of the process stays within `BYTES` of what it was.

What breaks one of these is a finding: its bytes and its traceback are written to STATE/findings.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import platform
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
SECONDS = 10.0  # of a core, in one case
BYTES = 256 << 20  # that the process may grow by in one target
TRACED = 4  # one case in so many is looked at line by line
KEPT = 400  # inputs of one target
LONGEST = 1 << 17  # bytes of an input that is kept
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Finding(BaseException):
    """An input does what none may."""


# ---------------------------------------------------------------- what nothing may do
class Guard:
    """Sees what a case does to the rest of the system; one for a process, as audit hooks stay."""

    _MOVES = frozenset(
        f"{module}.{name}"
        for module, names in {
            "os": "remove rename mkdir rmdir link symlink truncate chmod chown",
            "shutil": "rmtree",
        }.items()
        for name in names.split()
    )
    _STARTS = frozenset(
        ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn",
         "socket.connect", "socket.bind", "pickle.find_class", "webbrowser.open", "urllib.Request")
    )  # fmt: skip

    def __init__(self) -> None:
        self.folder = ""
        self.seen: list[str] = []
        own = {
            sys.prefix,
            sys.base_prefix,
            str(ROOT),
            "/proc",
            "/sys",
            "/dev/null",
            "/dev/urandom",
            "/usr",
            "/lib",
            "/etc",
        }
        self._readable = tuple(own | {str(Path(path).resolve()) for path in own})
        sys.addaudithook(self._heard)

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.folder:
            return
        if event == "open":
            self._opened(*arguments[:3])
        elif event in self._MOVES:
            for path in arguments[:2]:
                if isinstance(path, (str, bytes)) and not self._inside(path):
                    self.seen.append(f"{event} {path!r:.200}")
        elif event in self._STARTS and not (event == "pickle.find_class" and _by_numba()):
            self.seen.append(f"{event} {arguments!r:.200}")

    def _opened(self, path: Any, mode: Any, flags: Any) -> None:
        if not isinstance(path, (str, bytes)) or self._inside(path):
            return
        text = os.fsdecode(path)
        writes = any(c in (mode or "") for c in "wax+") or bool((flags or 0) & _WRITES)
        if writes and text != os.devnull or not _absolute(text).startswith(self._readable):
            self.seen.append(f"open {text!r:.200} {mode} {flags}")

    def _inside(self, path: str | bytes) -> bool:
        found = _absolute(os.fsdecode(path))
        own = found.startswith(str(ROOT)) and "__pycache__" in found  # of compiled code, kept for the next process
        return own or found == self.folder or found.startswith(f"{self.folder}/")


def _by_numba() -> bool:
    """Whether numba looks up code that it compiled in this installation's own cache."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and not frame.f_code.co_filename.endswith("numba/core/caching.py"):
        frame = frame.f_back
    return frame is not None


# ---------------------------------------------------------------- what it reaches
class Coverage:
    """Lines of fastfreq that were reached, and wordings of its refusals."""

    def __init__(self) -> None:
        self.lines: set[tuple[str, int]] = set()
        self.wordings: set[int] = set()
        self._left: dict[CodeType, set[int] | None] = {}
        self._new = False

    def trace(self, run: Callable[[], object]) -> object:
        """`run`, line by line."""
        sys.settrace(self._call)
        try:
            return run()
        finally:
            sys.settrace(None)

    def _call(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        code = frame.f_code
        if code not in self._left:
            ours = "/fastfreq/" in code.co_filename and "/tests/" not in code.co_filename
            self._left[code] = {line for _, _, line in code.co_lines() if line} if ours else None
        return self._line if self._left[code] else None

    def _line(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line":
            left = self._left[frame.f_code]
            if left and frame.f_lineno in left:
                left.discard(frame.f_lineno)
                self.lines.add((frame.f_code.co_filename, frame.f_lineno))
                self._new = True
        return self._line

    def said(self, text: str) -> None:
        """A refusal; what differs from input to input is taken out of it."""
        plain = re.sub(r"'[^']*'|\"[^\"]*\"|/\S*|[\d.]+|[^\x20-\x7e]+", "_", text)[:160]
        key = zlib.crc32(re.sub(r"(_[ ,]*)+", "_", plain).encode())
        if key not in self.wordings:
            self.wordings.add(key)
            self._new = True

    def new(self) -> bool:
        """Whether anything was new since the last time."""
        found, self._new = self._new, False
        return found


# ---------------------------------------------------------------- cases
class Session:
    """One target: its inputs, what became of them."""

    def __init__(self, target: Any, guard: Guard, folder: Path, seed: int) -> None:
        self.target, self._guard, self._seed = target, guard, seed
        self._state = folder
        self._coverage = Coverage()
        self._base = Path(tempfile.mkdtemp(prefix="fuzz-", dir=_memory()))
        self._work, self._cache = self._base / "work", self._base / "cache"
        self._work.mkdir(), self._cache.mkdir()
        self._number = zlib.crc32(target.name.encode())
        self.found: dict[str, dict[str, Any]] = {}
        self.done = self.refused = self.taken = 0
        self.seconds = self.longest = 0.0
        self.grown = 0
        self._corpus: list[bytes] = []
        self._load()

    # ------------------------------------------------------------ between runs
    def _load(self) -> None:
        file = self._state / f"{self.target.name}.json"
        if file.exists():
            said = json.loads(file.read_text())
            self.__dict__.update(
                {k: said[k] for k in ("done", "refused", "taken", "seconds", "longest", "grown", "found")}
            )
            kept = sorted((self._state / "kept" / self.target.name).iterdir())
            self._corpus = [path.read_bytes() for path in kept]
            self._coverage.lines = {(name, line) for name, line in said["lines"]}
            self._coverage.wordings = set(said["wordings"])

    def save(self) -> None:
        """What a later run goes on from."""
        kept = self._state / "kept" / self.target.name
        kept.mkdir(parents=True, exist_ok=True)
        for i, content in enumerate(self._corpus):
            (kept / f"{i:05}").write_bytes(content)
        said = self.report() | {"lines": sorted(self._coverage.lines), "wordings": sorted(self._coverage.wordings)}
        (self._state / f"{self.target.name}.json").write_text(json.dumps(said))

    def close(self) -> None:
        """Nothing is left but what was saved."""
        shutil.rmtree(self._base, ignore_errors=True)

    def report(self) -> dict[str, Any]:
        """Counts."""
        return {
            "done": self.done, "refused": self.refused, "taken": self.taken, "found": self.found,
            "seconds": round(self.seconds, 1), "longest": round(self.longest, 3), "grown": self.grown,
            "kept": len(self._corpus), "reached": [len(self._coverage.lines), len(self._coverage.wordings)],
        }  # fmt: skip

    # ------------------------------------------------------------ cases
    def run(self, count: int, until: float = float("inf")) -> None:
        """So many more cases, or what fits until then."""
        gc.collect()  # what others left may write files when it goes
        here, cache = Path.cwd(), os.environ.get("FASTFREQ_CACHE_DIR", "")
        os.environ["FASTFREQ_CACHE_DIR"] = str(self._cache)
        with self.target.prepared(self._work):
            os.chdir(self._work)
            try:
                if not self._corpus:
                    self._corpus = list(self.target.seeds())
                    for content in self._corpus:
                        self._case(content, traced=True)  # whole ones first: what they reach is nothing new
                    self._coverage.new()
                before = _most()
                for _ in range(count):
                    if time.monotonic() > until:
                        break
                    rng = np.random.default_rng([self._seed, self._number, self.done])
                    content = self._changed(rng)
                    self._case(content, traced=self.done % TRACED == 0)
                    if self._coverage.new() and len(self._corpus) < KEPT and len(content) <= LONGEST:
                        self._corpus.append(content)
                    self.done += 1
                    if self.done % 64 == 0:
                        self.grown = max(self.grown, _most() - before)
                        if self.grown > BYTES:
                            self._note(content, Finding(f"the process grew by {self.grown} bytes"))
                            before, self.grown = _most(), 0
            finally:
                os.chdir(here)
                os.environ["FASTFREQ_CACHE_DIR"] = cache

    def _changed(self, rng: np.random.Generator) -> bytes:
        """An input that is kept, the latest more often, changed once to three times."""
        size = len(self._corpus)
        at = size - 1 - int(size * rng.random() ** 2) if rng.random() < 0.5 else int(rng.integers(size))
        content = self._corpus[at]
        for _ in range(1 + int(rng.integers(3)) // 2):
            change = self.target.changes[int(rng.integers(len(self.target.changes)))]
            try:
                content = change(content, rng)
            except Exception:  # it was changed before, into what this kind of change cannot read
                continue
        return content

    def _case(self, content: bytes, *, traced: bool) -> None:
        start = time.process_time()
        self._guard.seen.clear()
        try:
            with _limited():
                self._guard.folder = str(self._base)
                try:
                    run = self._coverage.trace if traced else _plainly
                    said = run(lambda: self.target.run(content, self._work))
                finally:
                    self._guard.folder = ""
            if self._guard.seen:
                raise Finding(f"it did {self._guard.seen[:3]}")
            if isinstance(said, str):
                self.refused += 1
                self._coverage.said(said)
            else:
                self.taken += 1
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            self._note(content, error)
        spent = time.process_time() - start
        self.seconds, self.longest = self.seconds + spent, max(self.longest, spent)

    def _note(self, content: bytes, error: BaseException) -> None:
        """A finding, the first of its kind with what made it."""
        frames = traceback.extract_tb(error.__traceback__)
        ours = [f for f in frames if "/fastfreq" in f.filename] or frames or [None]
        at = "" if ours[-1] is None else f"{Path(ours[-1].filename).name}:{ours[-1].name}"
        text = re.sub(r"\d+|'[^']*'", "_", str(error))[:60] if isinstance(error, Finding) else ""
        name = f"{type(error).__name__} {at} {text}".strip()
        if name in self.found:
            self.found[name]["times"] += 1
            return
        key = hashlib.sha256(f"{self.target.name} {name}".encode()).hexdigest()[:10]
        folder = self._state / "findings"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.target.name}-{key}.bin").write_bytes(content)
        lines = traceback.format_exception(type(error), error, error.__traceback__, limit=-12)
        (folder / f"{self.target.name}-{key}.txt").write_text("".join(lines), errors="backslashreplace")
        self.found[name] = {"times": 1, "case": self.done, "input": key, "message": ascii(str(error))[:300]}
        print(f"FOUND {self.target.name} {name}: {ascii(str(error))[:200]}", flush=True)


def _absolute(path: str) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - as it was written: links are not followed, nothing is looked up


def _plainly(run: Callable[[], object]) -> object:
    return run()


def _memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _most() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class _limited:  # noqa: N801 - reads as what it is in a with statement
    """A case that runs on is a finding: `SECONDS` of a core, ten times as long by the clock."""

    def __enter__(self) -> None:
        def late(number: int, _frame: FrameType | None) -> None:
            raise Finding(f"expected an end within {SECONDS:g} s" + (", it waits" if number == signal.SIGALRM else ""))

        signal.signal(signal.SIGPROF, late)
        signal.signal(signal.SIGALRM, late)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.setitimer(signal.ITIMER_REAL, 20 * SECONDS)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


# ---------------------------------------------------------------- a run of all targets
def shares(targets: dict[str, Any], cases: int) -> dict[str, int]:
    """Cases of each target, the same whichever of them run."""
    from tests.proofs import fuzz_words

    whole = sum(target.share for target in fuzz_words.TARGETS.values())
    return {name: round(cases * target.share / whole) for name, target in targets.items()}


def chunks(counts: dict[str, int], size: int) -> Iterator[tuple[str, int]]:
    """All targets in turn, so that a run that is stopped has seen each."""
    for part in range(1, size + 1):
        for name, count in counts.items():
            yield name, count * part // size


def fuzz(
    names: list[str], cases: int, folder: Path, seed: int, *, until: float = float("inf"), parts: int = 20
) -> dict[str, Any]:
    """So many cases over the targets of those names; what was found."""
    from tests.proofs import fuzz_words

    folder.mkdir(parents=True, exist_ok=True)
    guard = Guard()
    targets = {name: fuzz_words.TARGETS[name] for name in names}
    counts = shares(targets, cases)
    sessions: dict[str, Session] = {}
    for name, goal in chunks(counts, parts):
        if time.monotonic() > until:
            break
        if name not in sessions:
            sessions[name] = Session(targets[name], guard, folder, seed)
        session = sessions[name]
        if session.done < goal:
            session.run(goal - session.done, until)
            session.save()
            print(f"{time.strftime('%H:%M:%S')} {name} {session.done}/{counts[name]} {session.report()['reached']}"
                  f" {session.seconds:.0f} s, {len(session.found)} found", flush=True)  # fmt: skip
    for session in sessions.values():
        session.close()
    return {
        "seed": seed,
        "cases": sum(s.done for s in sessions.values()),
        "findings": sum(len(s.found) for s in sessions.values()),
        "seconds_of_a_core": round(sum(s.seconds for s in sessions.values())),
        "bounds": {"seconds": SECONDS, "bytes": BYTES},
        "python": platform.python_version(),
        "targets": {name: s.report() for name, s in sessions.items()},
    }


def main() -> int:
    from tests.proofs import fuzz_words

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", nargs="+", choices=list(fuzz_words.TARGETS), default=list(fuzz_words.TARGETS))
    parser.add_argument("--folder", type=Path, default=Path("fuzz-state"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop then; the same command goes on")
    parser.add_argument("--parts", type=int, default=20, help="how often each target has its turn")
    options = parser.parse_args()
    until = time.monotonic() + 60 * options.minutes
    sys.dont_write_bytecode = True  # of the models' files
    warnings.simplefilter("ignore")  # numpy's, of NaN in what was changed
    found = fuzz(options.target, options.cases, options.folder, options.seed, until=until, parts=options.parts)
    print(json.dumps({name: {k: v for k, v in t.items() if k != "found"} for name, t in found["targets"].items()}))
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if found["findings"] else 0


if __name__ == "__main__":
    sys.exit(main())

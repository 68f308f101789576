"""Files written to a temporary name and renamed: whole or not at all, and nothing left behind by a killed run."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

_DAY = 24 * 3600.0


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path in the folder of `path`; renamed to it on success, removed on failure.

    Folders that are missing are made, and a link is followed. What killed runs left of the same target is removed:
    the temporary name, ``.NAME.HOST.PID-THREAD.tmp``, says who wrote it.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(target)
    temporary = _create(target)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, all or nothing; what has no UTF-8, such as bytes in names of files, is written out."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def probe(target: Path) -> None:
    """Create a temporary file for `target` and remove it again.

    Raises:
        OSError: its folder takes no files.
    """
    _create(target).unlink(missing_ok=True)


def remove_stale(target: Path) -> None:
    """Remove temporary files of `target` whose process is gone, or that nobody has touched for a day.

    Whether a process lives can be asked only on its own host and in its own process namespace: files of others, on
    a shared file system, go by their age.
    """
    pattern = re.compile(rf"\.{re.escape(_stem(target))}\.([\w-]+)\.(\d{{1,9}})-\d+\.tmp")
    with contextlib.suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            found = pattern.fullmatch(entry.name)
            if found is None:
                continue
            with contextlib.suppress(OSError):  # removed by another process meanwhile, or not ours to remove
                age = time.time() - entry.stat(follow_symlinks=False).st_mtime
                if age > _DAY or (found[1] == _place() and not _alive(int(found[2]))):
                    Path(entry.path).unlink(missing_ok=True)


def _create(target: Path) -> Path:
    name = f".{_stem(target)}.{_place()}.{os.getpid()}-{threading.get_native_id()}.tmp"
    temporary = target.with_name(name)
    # exclusive, so that a link which another user put there is never followed; a file of this name is from an earlier
    # process with our number, as in containers that restart
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    try:
        handle = os.open(temporary, flags, 0o666)  # as readable as any other file: the umask applies
    except FileExistsError:
        temporary.unlink(missing_ok=True)
        handle = os.open(temporary, flags, 0o666)
    os.close(handle)
    return temporary


def _stem(target: Path) -> str:
    """The name of `target`, or a hash where the temporary name would exceed the 255 bytes of most file systems."""
    encoded = os.fsencode(target.name)
    return target.name if len(encoded) <= 120 else hashlib.blake2b(encoded, digest_size=8).hexdigest()


@functools.cache
def _place() -> str:
    """Where process numbers mean the same: host and process namespace (containers share host names)."""
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:60] or "host"
    try:
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:  # not Linux
        namespace = 0
    return f"{host}-{namespace}"


def _alive(pid: int) -> bool:
    if os.name == "nt":  # there, os.kill(pid, 0) is no question
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True

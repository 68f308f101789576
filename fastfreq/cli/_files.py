"""Where results go, without ever taking another run's place."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable
from pathlib import Path

from fastfreq.results import store

from . import _request, _run_folder
from ._refusals import RefusedError, message_of

HOME = Path("fastfreq-report")


def folder(options: argparse.Namespace, subject: str, request: str, stems: Iterable[str]) -> tuple[Path, str]:
    """(folder, what to say about it): --out, or one of the verb's and the model's that holds no other run.

    Raises:
        RefusedError: --out holds a file of one of the names that belongs to another run, or cannot be written.
    """
    names = [f"{stem}.npz" for stem in stems]
    said = ""
    if options.out is not None:
        out = options.out
        taken = [out / name for name in names if not options.force and _of_another(out / name, request)]
        if taken:
            held = "is the result" if taken[0].exists() else "will be the result"
            raise RefusedError(
                f"--out: expected names that no other run has, {taken[0]} {held} of another one; choose another "
                f"--out, or overwrite it with --force"
            )
    else:
        first = HOME / _request.plain(f"{options.verb}-{subject}")
        tried = itertools.chain([first], (first.with_name(f"{first.name}-{i}") for i in itertools.count(2)))
        out = first if options.force else next(each for each in tried if not _holds_another(each, request))
        if out != first:
            said = f"{first} holds another run; this one goes to {out}"
    _check_writable(out, names)
    return out, said


def check_free(file: Path, request: str, *, force: bool) -> None:
    """Refuse a file that holds another run's result, or that cannot be written.

    Raises:
        RefusedError: it does.
    """
    if not force and _of_another(file, request):
        raise RefusedError(
            f"--out: expected a new name, {file} is the result of another run; choose another, or give --force"
        )
    _check_writable(file.parent, [file.name])


def request_of(file: Path) -> str | None:
    """The request of a saved result: "" where it names none, None where the file is no result."""
    try:
        _, header = store.read_kind(file)
    except (ValueError, OSError):
        return None
    return _details(header).get("request", "")


def _details(header: dict[str, object]) -> dict[str, str]:
    """The details in a header, as format 2 writes them."""
    match header:
        case {"fields": {"details": {"dict": list(pairs)}}}:
            return {str(pair[0]): str(pair[1]) for pair in pairs if isinstance(pair, list) and len(pair) == 2}
    return {}


def _of_another(file: Path, request: str) -> bool:
    taken = _run_folder.request_of(file)
    if taken not in (None, request):
        return True
    return file.exists() and (not request or request_of(file) != request)


def _holds_another(out: Path, request: str) -> bool:
    if out.exists() and not out.is_dir():
        return True
    found = [request_of(file) for file in sorted(out.glob("*.npz"))]
    found += [_run_folder.request_of(folder.with_suffix(".npz")) for folder in sorted(out.glob("*.run"))]
    return any(each not in (None, request) for each in found)


def _check_writable(out: Path, names: Iterable[str]) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in names:
            store.check_writable(out / name)
    except OSError as error:
        raise RefusedError(f"--out: expected a folder that takes files, {out} does not: {message_of(error)}") from error

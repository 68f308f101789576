"""What goes wrong: a refusal is one line that names words of the command line, a bug keeps its traceback."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_OURS = (
    Path(__file__).parents[1],
    Path(__file__).parents[2] / "kernels",
    Path(__file__).parents[2] / "fastfreq_kernels",
)

# what functions say of their arguments -> what it is called here
_PYTHON = (
    (r"give a Preprocessing with the model's size", "give --crop, with --resize where images are larger"),
    (r"give the Preprocessing a `resize`", "give --resize"),
    (r"Preprocessing", "--resize and --crop"),
    (r" \(fastfreq\.NormalizedModel\)", " (--mean and --std)"),
    (r"the images' `shape`", "the images' shape"),
    (r"pass them, or labels='predicted'", "add a labels.csv, or give --labels predicted"),
    (r"give each shard its own `first_image`, or use `shard=\(i, n\)`", "is one of them a sum of others?"),
    (r"`?shard=\(i, n\)`?", "--shard I/N"),
    (r"`?clip=False`?", "--no-clip"),
    (r"`images` and `labels`", "--data"),
    (r"a file of `weights`", "--weights FILE"),
    (r"or a labels\.csv in (.+), found neither", r"or a labels.csv in \1, found neither; or give --labels predicted"),
    (r" or a Convention\b", ""),
    (r"or leave out `distributed`", "or unset RANK and WORLD_SIZE for one process"),
    (r"named as in model\.named_modules\(\)", "of the model"),
)
_DIFFERENT = {"images": "data"}
_WITHOUT_A_WORD = ("run", "verb", "words", "shards", "results", "result")  # values of options that no --word gave


class RefusedError(ValueError):
    """A refusal that already names its word."""


@contextlib.contextmanager
def about(word: str) -> Iterator[None]:
    """Refusals inside are of this word."""
    try:
        yield
    except Exception as error:
        if isinstance(error, RefusedError) or not is_refusal(error):
            raise
        raise RefusedError(f"{word}: {message_of(error)}") from error


def guarded(options: argparse.Namespace) -> int:
    """Run the verb; the exit code."""
    try:
        with _warnings(options):
            return options.run(options)
    except KeyboardInterrupt:
        _say(options, f"interrupted; {_kept(options)}")
        return 130
    except Exception as error:
        if not is_refusal(error):
            kept = f"; {_kept(options)}" if _had_begun(error) else ""
            error.add_note(
                f"fastfreq {options.verb}: no argument was refused; this is a bug, here or in the model{kept}"
            )
            raise
        if getattr(options, "traceback", False):
            traceback.print_exc()
        _say(options, in_words(message_of(error), options))
        if _had_begun(error):
            _say(options, _kept(options))
        return 2


def _had_begun(error: BaseException) -> bool:
    """Whether images were finished before it: the engine has noted so."""
    return any("images are finished" in note for note in getattr(error, "__notes__", ()))


def rank() -> int:
    """Which of the processes that a launcher such as torchrun started this is; -1 where there is one alone."""
    found, size = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "1")
    numbers = all(text.isdecimal() and len(text) < 10 for text in (found, size))
    return int(found) if numbers and int(size) > 1 else -1


def is_refusal(error: BaseException) -> bool:
    """Whether the toolkit refused what it was given, or the system did; everything else is a bug."""
    if isinstance(error, (RefusedError, OSError)):
        return True
    known = (ValueError, FloatingPointError, TypeError, KeyError, ImportError, RuntimeError)
    # numpy and torch raise the same types for what we should not have asked of them
    return isinstance(error, known) and message_of(error).startswith("expected ") and _raised_here(error)


def _raised_here(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and any(Path(frames[-1].filename).is_relative_to(folder) for folder in _OURS)


def message_of(error: BaseException) -> str:
    """What an exception says."""
    if isinstance(error, OSError) and error.filename and not str(error).startswith("expected"):
        return f"{error.filename}: {error.strerror}"
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return text or type(error).__name__


def in_words(message: str, options: argparse.Namespace) -> str:
    """A message on arguments of a function as one on words of the command line, on one line."""
    for pattern, text in _PYTHON:
        message = re.sub(pattern, text, message)
    known = vars(options)

    def word(name: str) -> str | None:
        if f"no_{name}" in known:
            return f"--no-{name.replace('_', '-')}"
        name = _DIFFERENT.get(name, name)
        return f"--{name.replace('_', '-')}" if name in known else None

    def assigned(found: re.Match[str]) -> str:
        flag = word(found[1])
        if flag is None:
            return found[0]
        return flag if found[2] == "True" else f"{flag} {found[2].strip(chr(39))}"

    message = re.sub(r"`(\w+)`", lambda found: word(found[1]) or found[0], message)
    message = re.sub(r"\b([a-z_]+)=('[\w.-]+'|[\w.-]+)", assigned, message)
    message = " ".join(message.split())
    return message if "--" in message else _about(message, options)


def _about(message: str, options: argparse.Namespace) -> str:
    """The message after the word whose value it shows; of two with one value, that of the file to be written."""
    for name, value in sorted(vars(options).items(), key=lambda item: item[0] not in ("checkpoint", "out")):
        if name in _WITHOUT_A_WORD or value is None or isinstance(value, bool):
            continue
        for each in value if isinstance(value, (list, tuple)) else [value]:
            shown = (f"got {each}", f"got {each!r}")
            if message.endswith(shown) or (isinstance(each, Path) and str(each) in message):
                return f"--{name.replace('_', '-')}: {message}"
    return message


def _kept(options: argparse.Namespace) -> str:
    file = getattr(options, "checkpoint", None)
    if file is not None:
        found = "finished images are in it" if Path(file).exists() else "nothing is in it yet"
        return f"the checkpoint is {file}, {found}: the same command goes on from there"
    partial = getattr(options, "partial", None)
    if partial is not None and (partial.exists() or Path(f"{partial}.parts").exists()):
        return f"finished images are in {partial.parent}: the same command with --resume goes on from there"
    if hasattr(options, "checkpoint"):
        return "nothing is kept; with --checkpoint FILE the same command goes on"
    return "nothing is kept"


@contextlib.contextmanager
def _warnings(options: argparse.Namespace) -> Iterator[None]:
    """Warnings as lines like any other; each once."""
    said: set[str] = set()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        text = in_words(str(message), options)
        if text not in said and rank() <= 0:
            said.add(text)
            _say(options, f"warning: {text}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _say(options: argparse.Namespace, text: str) -> None:
    """To stderr, above a progress bar."""
    which = f", rank {rank()}" if rank() >= 0 else ""
    line = f"fastfreq {options.verb}{which}: {text}"
    if "tqdm" in sys.modules:
        from tqdm import tqdm

        tqdm.write(line, file=sys.stderr)
    else:
        print(line, file=sys.stderr)

"""What stands beside a result, in NAME.run: what was asked for, on what it ran, what it was of, unfinished images."""

from __future__ import annotations

import argparse
import datetime
import hashlib
import inspect
import json
import os
import platform
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastfreq.results import store

from ._refusals import RefusedError

if TYPE_CHECKING:
    from torch import nn

    from ._measure import Subject

_PLAIN = (bool, int, float, str, type(None))


class RunFolder:
    """The folder of one run, which no other run's files ever replace.

    Attributes:
        partial: finished images of an unfinished run.
    """

    def __init__(self, file: Path) -> None:
        """Beside the result `file`."""
        self._file = file
        self._folder = folder_of(file)
        self.partial = self._folder / "partial.npz"
        self._said: dict[str, Any] = {}
        self._made: list[Path] = []

    def begin(self, options: argparse.Namespace, subject: Subject, details: dict[str, str], *, ranks: int) -> None:
        """Take the folder and write down what is known before anything is computed.

        Raises:
            RefusedError: images of this very run are finished, and neither --resume nor --force was given; or another
                run has taken the folder since somebody looked.
        """
        request = details["request"]
        there = self._folder.exists()
        if not options.force and request_of(self._file) not in (None, request):
            raise self._taken()
        if options.force and request_of(self._file) not in (None, request):
            self._forget()
        kept, resume = self.partial.exists() or self._parts.is_dir(), getattr(options, "resume", False)
        # where there is a result, a run was killed after it was saved
        if kept and (self._file.exists() or (options.force and not resume)):
            self._forget()
        elif kept and not resume:
            raise RefusedError(
                f"--resume: expected it, or --force to begin again: images of this very run are finished in "
                f"{self._folder}"
            )
        self._made = [folder for folder in (self._folder, *self._folder.parents) if not folder.exists()]
        try:
            self._folder.mkdir(parents=True, exist_ok=there)
        except FileExistsError:
            raise self._taken() from None
        names = None if subject.data is None else subject.data.names()
        if names is not None and subject.data is not None:
            rows = zip(names, subject.data.labels.tolist(), strict=True)
            store.write_text(self._folder / "images.txt", "".join(f"{name}\t{label}\n" for name, label in rows))
        self._said = {
            "request": request,
            "command": details["command"],
            "config": {name: _plain(v) for name, v in sorted(vars(options).items()) if name not in ("run", "words")},
            "environment": environment(subject.device) | {"processes": ranks},
            "fingerprints": fingerprints(subject, details),
            "started": _now(),
            "finished": None,
        }
        self._write()

    def _taken(self) -> RefusedError:
        return RefusedError(
            f"--out: expected a name that no other run has, one that started at the same moment has just taken "
            f"{self._folder}; give the same command again, or another --out"
        )

    def end(self) -> None:
        """The result is saved: what was kept for a later run goes."""
        self._forget()
        self._said["finished"] = _now()
        self._write()

    def withdraw(self) -> None:
        """The run was refused before it had anything: the name is free again."""
        if self._folder not in self._made or self.partial.exists() or self._parts.is_dir() or self._file.exists():
            return
        for name in ("run.json", "images.txt"):
            (self._folder / name).unlink(missing_ok=True)
        for folder in self._made:  # the innermost first
            if any(folder.iterdir()):
                return
            folder.rmdir()

    @property
    def _parts(self) -> Path:
        return Path(f"{self.partial}.parts")

    def _forget(self) -> None:
        self.partial.unlink(missing_ok=True)
        if self._parts.is_dir():
            shutil.rmtree(self._parts)

    def _write(self) -> None:
        store.write_text(self._folder / "run.json", json.dumps(self._said, indent=1) + "\n")


def folder_of(file: Path) -> Path:
    """The folder of the run whose result is, or will be, `file`."""
    return file.with_name(f"{file.stem}.run")


def request_of(file: Path) -> str | None:
    """The request that has taken the name of a result; "" where it says none, None where nobody has."""
    folder = folder_of(file)
    if not folder.exists():
        return None
    try:
        found = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        return str(found["request"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


# ---------------------------------------------------------------- what is written down
def environment(device: str) -> dict[str, Any]:
    """On what it runs; nothing that names the machine or its user."""
    import numpy
    import torch

    import fastfreq

    found: dict[str, Any] = {
        "fastfreq": fastfreq.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": numpy.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
    }
    if device.startswith("cuda"):
        found |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return found


def fingerprints(subject: Subject, details: dict[str, str]) -> dict[str, Any]:
    """Of weights, normalisation, code and data, in this order."""
    found: dict[str, Any] = {}
    if subject.model is not None:
        from fastfreq.engine.network import fingerprint
        from fastfreq.engine.pixels import split_normalization

        net, mean, std = split_normalization(subject.model.model)
        found["weights"] = fingerprint(subject.model.model)
        found["normalisation"] = None if mean is None or std is None else [mean.tolist(), std.tolist()]
        found["code"], found["code_unknown"] = code(net)
    found |= {name: text for name, text in details.items() if name.endswith("sha256")}
    if subject.data is not None:
        names = subject.data.names() or []
        listed = json.dumps([names, subject.data.labels.tolist()]).encode()
        found["images"], found["image_list"] = len(subject.data), hashlib.sha256(listed).hexdigest()
    return found


def code(model: nn.Module) -> tuple[str, list[str]]:
    """(SHA-256 of the source of all classes of a model but torch's own, names of those whose source is not there)."""
    digest, unknown = hashlib.sha256(), []
    for kind in sorted({type(module) for module in model.modules()}, key=lambda kind: f"{kind.__module__}.{kind}"):
        if kind.__module__.partition(".")[0] == "torch":
            continue
        try:
            digest.update(inspect.getsource(kind).encode())
        except (OSError, TypeError):
            unknown.append(f"{kind.__module__}.{kind.__qualname__}")
    return digest.hexdigest(), unknown


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value if isinstance(value, _PLAIN) else str(value)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")

"""What a run was asked for: text that goes with its results, repeats them, and tells one run from another."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
from pathlib import Path

# words that change no figure, or only which of the images are looked at
_NOT_THE_QUESTION = {
    *("run", "verb", "words", "out", "force", "quiet", "json", "traceback", "resume", "partial"),
    *("device", "batch_size", "channels_last", "shard", "checkpoint", "criterion", "scale", "share", "pictures"),
    "decoded",
    *("data", "against", "folder", "weights", "baseline_weights"),  # paths: what is in them counts
}
_BLOCK = 1 << 20


def describe(options: argparse.Namespace, *, fingerprint: str = "") -> dict[str, str]:
    """What stands in a result's `details` beside what the measurement says itself.

    Args:
        options: the words.
        fingerprint: of the loaded model's weights.

    Returns:
        text by name: the command, versions, files with their SHA-256, limit, resize, crop, mean and std as given,
        and `request`, which two runs share that ask for the same figures.
    """
    import numpy
    import torch

    import fastfreq

    found = {"model": options.model} if "model" in options else {}
    for name in ("weights", "baseline_weights", "data", "against", "folder"):
        path = getattr(options, name, None)
        if path is not None:
            found |= {name: str(path), f"{name}_sha256": sha256(path)}
    for name in ("limit", "resize", "crop", "mean", "std"):
        value = getattr(options, name, None)
        if value is not None:
            found[name] = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    if "model" in options and ".py:" in options.model:
        found["model_file_sha256"] = sha256(Path(options.model.rpartition(":")[0]))
    asked = {name: str(value) for name, value in vars(options).items() if name not in _NOT_THE_QUESTION}
    asked |= {name: text for name, text in found.items() if name.endswith("sha256")}
    asked |= {"verb": options.verb, "fingerprint": fingerprint}
    request = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
    shard = getattr(options, "shard", None)
    if shard is not None:
        found["shard"] = f"{shard[0]}/{shard[1]}"
    versions = {"fastfreq": fastfreq.__version__, "torch": str(torch.__version__), "numpy": numpy.__version__}
    return found | versions | {"command": shlex.join(["fastfreq", *options.words]), "request": request}


def sha256(path: Path) -> str:
    """Of a file; of a folder, over the names and sizes of all files below it, and over its labels.csv."""
    digest = hashlib.sha256()
    if path.is_dir():
        from fastfreq.data.files import below

        files = (file for file in below(path) if file.is_file())
        for name, size in sorted((file.relative_to(path).as_posix(), file.stat().st_size) for file in files):
            digest.update(f"{name}\n{size}\n".encode(errors="surrogateescape"))  # names need not be UTF-8
        path = path / "labels.csv"
    if path.is_file():
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def stem(kind: str, subject: str, variant: str = "", shard: tuple[int, int] | None = None) -> str:
    """The name of a result's files: kind, model and shard."""
    part = "" if shard is None or shard[1] == 1 else f"{shard[0]}-of-{shard[1]}"
    named = (kind.replace("_", "-"), subject, variant.replace("_", "-"), part)
    return "-".join(plain(piece) for piece in named if piece)


def plain(name: str) -> str:
    """A name as part of a file's."""
    kept = "".join(c if c.isalnum() or c in "._" else "-" for c in os.path.normpath(name))
    return "-".join(part for part in kept.split("-") if part).strip(".")[-80:].lstrip("-.") or "model"

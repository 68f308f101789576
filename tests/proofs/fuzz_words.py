"""The command line, fuzzed: words of every verb with odd values, damaged folders, the environment, names of models."""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

import fastfreq as ff
from fastfreq import cli
from fastfreq.cli import _measure, _refusals, report, train_demo
from fastfreq.engine import ranks
from tests import test_damaged_files as damage
from tests.conftest import TinyNet
from tests.contract import subjects
from tests.contract.table import BY_NAME, whole
from tests.proofs import fuzz_targets
from tests.proofs.fuzz import Finding
from tests.proofs.fuzz_targets import Target, bundle, in_bundle, saved

ONE_IN = 40  # cases of words that measure to the end; the others stop at the first forward pass
NETS = "from tests.proofs.fuzz_words import build\nclass Other: pass\nnumber = 3\ndef sized(width): return build()\n"


class Reached(BaseException):
    """A forward pass begins: all words were understood."""


class Net(TinyNet):
    """Whether its first forward pass ends the case."""

    stops = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        if Net.stops:
            raise Reached
        return super().forward(x)


def build() -> Net:
    """The network of the command line's cases."""
    return Net(3, 5)


# ---------------------------------------------------------------- words
NUMBERS = ["0", "1", "2", "3", "5", "-1", "1.5", "0.5", "1e3", "1e308", "1e-400", "nan", "inf", "-inf", "8/255",
           "1/0", "4/2", "0/4", "3/4", "9" * 400 + "/1", "1_0", "\u0663", "\u00b2", "0x10", str(10**12), str(2**31),
           str(2**63), str(2**64), "9" * 4400]  # fmt: skip
TEXTS = ["", " ", "-", "--", "x", "a b", "\u00e9", "\udcff", "a" * 300, "a" * 5000, "../x", ".", "%s", "{}", "\n", "=",
         "low", "high", "error", "loss", "body", "stem", "head", "fog", "gaussian_noise", "cpu", "meta", "cuda", "mps",
         "cuda:99", "cpu:7", "xla", "nets.py:build"]  # fmt: skip
PATHS = ["data.npz", "weights.safetensors", "nets.py", "corrupted", "photos", "nothing.npz", "empty", "table", ".", "",
         "notes.txt", "r.npz", "\udcff.npz", "a" * 300, "/dev/null", "photos/a.png"]  # fmt: skip
MODELS = ["nets.py:build", "nets.py:nothing", "nets.py:number", "nets.py:Other", "nets.py:sized", "nets.py:", ":build",
          "nets.py", "other.py:build", "timm/", "timm/resnet18", "torchvision/resnet18", "torchvision/", "", "a/b",
          "photos.py:build", "nets.py:build:build", "nets.py:\udcff", "nets.py:__doc__"]  # fmt: skip
OUTS = ["out", "out/deep/er", "notes.txt", "notes.txt/x", "", ".", "a" * 300, "\udcff", "out.npz", "data.npz", "photos"]
FULL = {"--model": MODELS, "--baseline": MODELS, "--out": OUTS, "--checkpoint": [*OUTS, "c.npz", "r.npz"]}
HEAVY = {"--compile"}  # it compiles for a minute


@functools.cache
def options_of(verb: str) -> list[argparse.Action]:
    """All words of a verb."""
    (verbs,) = (a for a in cli._parser(verb)._actions if isinstance(a, argparse._SubParsersAction))
    return [a for a in verbs.choices[verb]._actions if a.dest != "help"]


def good(verb: str) -> list[str]:
    """Words that the verb follows."""
    if verb in ("report", "repeat", "merge"):
        return [verb, "r.npz", "--out", "m.npz" if verb == "merge" else "out"]
    if verb == "train-demo":
        return [verb, "--epochs", "1", "--out", "out"]
    row = BY_NAME[verb.replace("-", "_")]
    data = [] if "images" in row.cannot else ["--data", "data.npz"]
    model = [] if "model" in row.cannot else ["--model", "nets.py:build", "--weights", "weights.safetensors"]
    return [verb, *row.words, *model, *data, "--out", "out"]


def value(action: argparse.Action, rng: np.random.Generator) -> str:
    """An odd one, or one that is meant."""
    flag = action.option_strings[0] if action.option_strings else ""
    if flag in FULL:
        pool = FULL[flag]
    elif action.type is Path or not flag:
        pool = PATHS
    elif action.choices and rng.random() < 0.8:
        pool = [str(choice) for choice in action.choices]
    elif action.type is not None or rng.random() < 0.3:
        pool = NUMBERS
    else:
        pool = TEXTS
    return pool[int(rng.integers(len(pool)))]


def changed_words(content: bytes, rng: np.random.Generator) -> bytes:
    """A word more, less or other; an option of the verb with values that it does not expect."""
    words: list[str] = json.loads(content)
    verb = words[0] if words and words[0] in cli.VERBS else list(cli.VERBS)[int(rng.integers(len(cli.VERBS)))]
    at, kind = int(rng.integers(1, len(words) + 1)), rng.integers(8)
    if kind == 0 and len(words) > 2:
        del words[min(at, len(words) - 1)]
    elif kind == 1:
        words.insert(at, TEXTS[int(rng.integers(len(TEXTS)))])
    elif kind == 2 and at < len(words):
        words[at] = NUMBERS[int(rng.integers(len(NUMBERS)))]
    else:
        known = [a for a in options_of(verb) if not HEAVY & set(a.option_strings)]
        action = known[int(rng.integers(len(known)))]
        count = 0 if action.nargs == 0 else int(rng.choice([1, 1, 1, 2, 3])) if action.nargs in ("+", "*") else 1
        given = [value(action, rng) for _ in range(count)]
        flags = list(action.option_strings[-1 - int(rng.integers(len(action.option_strings))) :][:1])
        if flags and flags[0] in words and rng.random() < 0.7:  # in place of what is there
            start = words.index(flags[0])
            words[start : start + 1 + count] = [*flags, *given]
        elif flags and given and rng.random() < 0.1:
            words.append(f"{flags[0]}={given[0]}")
        else:
            words += [*flags, *given]
    return json.dumps(words).encode()


def all_good() -> list[bytes]:
    """Words that every verb follows."""
    return [json.dumps(words).encode() for words in [*map(good, cli.VERBS), ["--help"], ["--version"], []]]


def say(words: list[str]) -> str | None:
    """Run the command line: what it refused, or None."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", errors=e) for e in ("strict", "backslashreplace"))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code: Any = cli.main(words)
        except Reached:
            return None
        except SystemExit as end:
            code = end.code
    err.flush()
    said = err.buffer.getvalue().decode()
    if code not in (0, 1, 2):
        raise Finding(f"exit code {code!r}")
    if code != 2:
        return None
    lines = [line for line in said.splitlines() if "error:" in line or line.startswith("fastfreq ")]
    if not lines or ("Traceback" in said and "--traceback" not in words):
        raise Finding(f"exit code 2 without a message: {said[-200:]}")
    return lines[-1]


def run_words(content: bytes, folder: Path) -> str | None:
    """One command in a folder with what it may name."""
    for path in folder.iterdir():
        if path.name not in KEPT:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    words = json.loads(content)
    Net.stops = sum(content) % ONE_IN != 0
    return say([str(word) for word in words])


# ---------------------------------------------------------------- a folder with what words may name
KEPT = {
    "nets.py",
    "weights.safetensors",
    "data.npz",
    "darker.npz",
    "corrupted",
    "photos",
    "empty",
    "table",
    "notes.txt",
    "r.npz",
}


@contextlib.contextmanager
def job(folder: Path) -> Iterator[None]:
    """The files of the words, nothing drawn, nothing trained."""
    subjects.EVENTS.reset()
    (folder / "nets.py").write_text(NETS)
    save_file(subjects.network().state_dict(), folder / "weights.safetensors")
    pixels, labels = subjects.pixels().numpy(), subjects.labels().numpy()
    np.savez(folder / "data.npz", images=pixels, labels=labels)
    np.savez(folder / "darker.npz", images=pixels // 2, labels=labels)
    for name in ("corrupted", "photos", "empty", "table"):
        (folder / name).mkdir(exist_ok=True)
    five = np.concatenate([pixels.transpose(0, 2, 3, 1) // (1 + severity) for severity in range(5)])
    np.save(folder / "corrupted" / "darker.npy", five)
    photographs = fuzz_targets.photographs()
    for name, content in (("a.png", photographs[1]), ("b.jpg", photographs[0])):
        (folder / "photos" / name).write_bytes(content)
        (folder / "table" / name).write_bytes(content)
    (folder / "table" / "labels.csv").write_text("file,label\na.png,0\nb.jpg,4\n")
    (folder / "notes.txt").write_text("mine")
    whole("filter_curve").save(folder / "r.npz")
    before = _measure.Measure._draw, train_demo._followed, report._of_the_example, report_writer()

    def reached(*_: Any, **__: Any) -> Any:
        raise Reached

    _measure.Measure._draw = lambda *_: None
    train_demo._followed = report._of_the_example = reached
    set_report_writer(lambda shown, path, **_: path)
    try:
        yield
    finally:
        _measure.Measure._draw, train_demo._followed, report._of_the_example = before[:3]
        set_report_writer(before[3])


def report_writer() -> Any:
    """What draws a page."""
    from fastfreq import report as page

    return page.write_report


def set_report_writer(write: Any) -> None:
    """Draw in another way, or not at all."""
    from fastfreq import report as page

    page.write_report = write


# ---------------------------------------------------------------- damaged results in verbs
def shard_files() -> list[bytes]:
    """Shards of several measurements, and a result that the command line made."""
    found = []
    for name in ("heatmap", "filter_curve", "singular_values", "corruption_report", "image_spectrum"):
        row = BY_NAME[name]
        parts = {f"{i}.npz": saved(row.plain(**shard)) for i, shard in enumerate(row.shards)}
        found.append(bundle(parts))
    result = whole("filter_curve")
    details = result.details | {"command": "fastfreq filter-curve --model nets.py:build --data data.npz --kind low",
                                "shard": "0/1", "request": "abc"}  # fmt: skip
    found.append(bundle({"0.npz": saved(type(result)(**{**vars(result), "details": details}))}))
    return found


def run_damaged(content: bytes, folder: Path) -> str | None:
    """merge, repeat or report on what is in the bundle; nothing is drawn."""
    for path in folder.iterdir():
        if path.name not in KEPT:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (folder / "in").mkdir()
    fuzz_targets.unbundle(content, folder / "in")
    Net.stops = True
    files = sorted(str(path) for path in Path("in").glob("*.npz"))
    which = sum(content) % 4
    if which == 0:
        return say(["merge", *files, "--out", "m.npz"])
    if which == 1:
        return say(["merge", "in", "--out", "m.npz", "--json"])
    if which == 2:
        return say(["report", *files, "--out", "page", "--json"])
    return say(["repeat", *files[:1], "--out", "again"])


def run_folders() -> list[bytes]:
    """What stands beside a result, of a run that was stopped."""
    words = good("filter-curve")
    said = {"request": "abc", "command": "fastfreq x", "config": {}, "environment": {}, "finished": None}
    row, stem = BY_NAME["filter_curve"], "out/filter-curve-nets.py-build-yin-low"
    half = saved(row.measure(subjects.network(), subjects.images()[:4], subjects.labels()[:4]))
    files = {"words": json.dumps(words).encode(), f"{stem}.run/run.json": json.dumps(said).encode()}
    part = f"{stem}.run/partial.npz.parts/0123456789abcdef-0.npz"
    return [
        bundle(files | {f"{stem}.run/partial.npz": half}),
        bundle(files | {part: half}),
        bundle(files | {f"{stem}.npz": saved(whole("filter_curve"))}),
    ]


def run_beside(content: bytes, folder: Path) -> str | None:
    """Measure into a folder where somebody else was."""
    for path in folder.iterdir():
        if path.name not in KEPT:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    fuzz_targets.unbundle(content, folder)
    more = [[], ["--resume"], ["--force"], ["--resume", "--force"]][sum(content) % 4]
    Net.stops = sum(content) % ONE_IN != 0
    return say([*good("filter-curve"), "--quiet", *more])


# ---------------------------------------------------------------- names of models, the environment
def run_spec(content: bytes, folder: Path) -> str | None:
    """A name of a model."""
    spec = content.decode("utf-8", "surrogateescape").replace("\0", "")  # no argument can hold it
    try:
        ff.load_model(spec)
    except (ValueError, ImportError, OSError) as error:
        if not str(error).startswith("expected") and not isinstance(error, OSError):
            raise
        return str(error)
    return None


def changed_spec(content: bytes, rng: np.random.Generator) -> bytes:
    """Pieces of names, in another order."""
    parts = [b"nets.py", b":", b"/", b"timm", b"torchvision", b"build", b"..", b".", b".py", b"__class__", b"photos",
             b"\xff", b"a" * 300, b" ", b"~", b"hub", b"number", b"resnet18"]  # fmt: skip
    at = int(rng.integers(len(content) + 1))
    return content[:at] + parts[int(rng.integers(len(parts)))] + content[at + int(rng.integers(3)) :]


VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK", "FASTFREQ_CACHE_DIR", "XDG_CACHE_HOME",
             "HOME", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "TRITON_INTERPRET")  # fmt: skip


def changed_variables(content: bytes, rng: np.random.Generator) -> bytes:
    """One of them set, to anything."""
    found = json.loads(content)
    pool = NUMBERS + TEXTS + ["notes.txt", "empty", "photos"]
    found[VARIABLES[int(rng.integers(len(VARIABLES)))]] = pool[int(rng.integers(len(pool)))]
    return json.dumps(found).encode()


def run_variables(content: bytes, folder: Path) -> str | None:
    """Which rank this is, what ranks need, where choices are remembered, and a refusal on the command line."""
    kept = dict(os.environ)
    try:
        os.environ |= {"HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache")} | json.loads(content)
        said = None
        _refusals.rank()
        if {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} - set(os.environ):  # else it waits for the others
            try:
                ranks.initialise()
            except ValueError as error:
                said = str(error)
        fuzz_targets.tuning._REMEMBERED.clear()
        fuzz_targets.tuning._remember("key", fuzz_targets.tuning.Pace(3, False, 0.5))
        fuzz_targets.tuning._remembered("other")
        return say(["merge", "nothing.npz", "--out", "m.npz"]) or said
    finally:
        os.environ.clear()
        os.environ.update(kept)
        fuzz_targets.tuning._REMEMBERED.clear()


def targets() -> Iterator[Target]:
    """All of the command line."""
    raw, inside = damage.changed_bytes, damage.changed_archive
    yield Target("words", all_good, [changed_words], run_words, 8, job)
    verbs = [in_bundle(raw), in_bundle(inside), in_bundle(inside)]
    yield Target("verbs", shard_files, verbs, run_damaged, 4, job)
    beside = [in_bundle(raw), in_bundle(fuzz_targets.changed_text), in_bundle(inside)]
    yield Target("run folder", run_folders, beside, run_beside, 1, job)
    specs = [name.encode("utf-8", "surrogateescape") for name in MODELS]
    yield Target("model name", lambda: specs, [raw, changed_spec], run_spec, 50, job)
    yield Target("environment", lambda: [b"{}"], [changed_variables], run_variables, 3, job)


TARGETS = {target.name: target for target in (*fuzz_targets.targets(), *targets())}

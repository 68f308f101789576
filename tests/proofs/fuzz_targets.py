"""What is fuzzed: whole inputs, ways to change them, what reads them, and the errors that it may raise."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import pickle
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save as safetensors_bytes
from torch import nn

import fastfreq as ff
from fastfreq.data import load_images
from fastfreq.engine import tuning
from fastfreq.engine.images import Chunk
from fastfreq.inputs.corruption_sources import FolderSource
from fastfreq.models import load_weights
from tests import test_damaged_files as damage
from tests.contract import subjects
from tests.contract.table import BY_NAME, TABLE, whole
from tests.proofs.fuzz import LONGEST, Finding

Change = Callable[[bytes, np.random.Generator], bytes]
SEEDS = Path(__file__).parent / "seeds"  # results of trainings, which take too long to make


def nothing_prepared(_folder: Path) -> contextlib.AbstractContextManager[None]:
    """No surroundings."""
    return contextlib.nullcontext()


@dataclasses.dataclass(frozen=True)
class Target:
    """Something that reads what others wrote.

    Attributes:
        name: of it.
        seeds: inputs that are whole.
        changes: of an input.
        run: reads the input in a folder; the text of the refusal, or None.
        share: of all cases.
        prepared: what has to be around.
    """

    name: str
    seeds: Callable[[], list[bytes]]
    changes: list[Change]
    run: Callable[[bytes, Path], str | None]
    share: float
    prepared: Callable[[Path], contextlib.AbstractContextManager[Any]] = nothing_prepared


def of_file(
    name: str, read: Callable[[Path], object], *documented: type[Exception]
) -> Callable[[bytes, Path], str | None]:
    """Read one file; what is refused names it."""
    expected = documented or (ValueError,)

    def run(content: bytes, folder: Path) -> str | None:
        path = folder / name
        path.write_bytes(content)
        try:
            read(path)
        except expected as error:
            if str(folder) not in str(error):
                raise Finding(f"{type(error).__name__} does not name the file: {error}") from error
            return str(error)
        return None

    return run


def only_refusals(function: Callable[[], object]) -> None:
    """What is read may still say that it has nothing to say."""
    try:
        function()
    except (ValueError, TypeError) as error:  # some kinds are whole, and do not merge
        if not str(error).startswith("expected"):
            raise


# ---------------------------------------------------------------- results
def results() -> list[bytes]:
    """One of every kind that there is."""
    subjects.EVENTS.reset()
    found = [*damage.results(), *(path.read_bytes() for path in sorted(SEEDS.glob("*.npz")))]
    for row in TABLE:
        found.append(saved(whole(row.name)))
    return found


def changed_numbers(content: bytes, rng: np.random.Generator) -> bytes:
    """An array of another length, order, type or content, in an archive that is whole."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    names = [name for name in members if name != "fastfreq.npy"]
    name = names[int(rng.integers(len(names)))]
    array = np.load(io.BytesIO(members[name]), allow_pickle=False)
    if max(array.shape, default=0) > LONGEST:  # a billion empty rows: NumPy goes through them one by one
        return content
    axis, kind = (int(rng.integers(array.ndim)) if array.ndim else 0), rng.integers(8)
    if kind <= 1 and array.ndim:
        array = array[(slice(None),) * axis + (slice(max(0, array.shape[axis] - int(rng.integers(1, 4)))),)]
    elif kind == 2 and array.ndim and array.nbytes <= LONGEST:
        array = np.concatenate([array, array], axis)
    elif kind == 3:
        array = array.T if rng.random() < 0.5 else array[None]
    elif kind == 4 and array.dtype.kind in "iuf":
        array = array.astype(rng.choice(["f8", "f4", "i8", "u1", "i2"]))
    elif array.size and array.dtype.kind in "iufb":
        array = array.copy()
        pool = [0, 1, -1, 2**31, 2**62, np.nan, np.inf, -np.inf, 1e300] if array.dtype.kind == "f" else [0, 1, 2, 100]
        where = slice(None) if rng.random() < 0.2 else int(rng.integers(array.size))
        array.reshape(-1)[where] = pool[int(rng.integers(len(pool)))]
    out = io.BytesIO()
    np.save(out, array)
    members[name] = out.getvalue()
    return bundle(members)


def saved(result: Any) -> bytes:
    """A result as its file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "whole.npz"
        result.save(path)
        return path.read_bytes()


def use(path: Path) -> None:
    """Read a result, say what is in it, save it and read it again; merge it with itself."""
    result = ff.load(path)
    again = path.with_name("again.npz")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy of NaN and infinity
        repr(result)
        for said in (result.summary, result.table, result.headline, result._repr_html_, lambda: result + result):
            only_refusals(said)
    result.save(again)
    assert type(ff.load(again)) is type(result)


# ---------------------------------------------------------------- checkpoints
CHECKPOINTS = ("heatmap", "filter_curve", "gradient_heatmap", "component_curves", "corruption_report")


def checkpoints() -> list[bytes]:
    """Half of the images finished, of several measurements; the name of which comes first."""
    subjects.EVENTS.reset()
    network, images, labels = subjects.network(), subjects.images(), subjects.labels()
    path = Path(os.environ["FASTFREQ_CACHE_DIR"]) / "half.npz"
    found = []
    for name in CHECKPOINTS:
        path.unlink(missing_ok=True)
        BY_NAME[name].measure(network, images[:6], labels[:6], batch_size=4, channels_last=False, checkpoint=path)
        found.append(name.encode() + b"\n" + path.read_bytes())
    return found


def after_the_name(change: Change) -> Change:
    """Of what follows the first line."""

    def changed(content: bytes, rng: np.random.Generator) -> bytes:
        name, _, rest = content.partition(b"\n")
        return name + b"\n" + change(rest, rng)

    return changed


def go_on(content: bytes, folder: Path) -> str | None:
    """Go on from a checkpoint, to all images or to a refusal."""
    name, _, rest = content.partition(b"\n")
    path = folder / "c.npz"
    path.write_bytes(rest)
    network, images, labels = subjects.network(), subjects.images(), subjects.labels()
    options = {"batch_size": 4, "channels_last": False, "checkpoint": path}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = BY_NAME[name.decode()].measure(network, images, labels, **options)
        except ValueError as error:
            if str(folder) not in str(error):
                raise Finding(f"ValueError does not name the file: {error}") from error
            return str(error)
    np.testing.assert_array_equal(result.image_ids, np.arange(12))
    return None


# ---------------------------------------------------------------- data
def read_data(path: Path) -> None:
    """The first batch."""
    for images, labels in ff.load_data(path, batch_size=4):
        assert images.ndim == 4 and len(images) == len(labels)
        break


def corrupted_arrays() -> list[bytes]:
    """CIFAR-10-C in small, one array and its labels."""
    rng = np.random.default_rng(2)
    found = []
    for array in (rng.integers(0, 256, (10, 5, 6, 3), dtype=np.uint8), np.arange(10) % 2, np.arange(2)):
        out = io.BytesIO()
        np.save(out, array)
        found.append(out.getvalue())
    return [bundle({"fog.npy": found[0], "labels.npy": each}) for each in found[1:]]


def read_corrupted(content: bytes, folder: Path) -> str | None:
    """Rows of a severity, as `corruption_report` asks for them."""
    clear(folder)
    unbundle(content, folder)
    images = torch.zeros(2, 3, 5, 6)
    chunk = Chunk(images, torch.tensor([0, 1]), torch.tensor([0, 1]), torch.zeros(2, dtype=torch.int64))
    try:
        source = FolderSource(folder)
        for severity in (1, 5):
            source.corrupted(chunk, source.names[0], severity)
    except (ValueError, FileNotFoundError) as error:
        if not str(error).startswith("expected"):
            raise
        return str(error)
    return None


# ---------------------------------------------------------------- photographs
def photographs() -> list[bytes]:
    """Every format that is listed, and photographs with an orientation and a palette."""
    rng = np.random.default_rng(3)
    image = Image.fromarray(np.kron(rng.integers(0, 256, (4, 5, 3)), np.ones((4, 4, 1))).astype(np.uint8))
    found = []
    for kind in ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM", "GIF"):
        out = io.BytesIO()
        image.save(out, kind)
        found.append(out.getvalue())
    for mode in ("L", "P", "RGBA", "I;16", "1", "CMYK", "LA"):
        out = io.BytesIO()
        made = (
            Image.fromarray(np.arange(320, dtype=np.uint16).reshape(16, 20)) if mode == "I;16" else image.convert(mode)
        )
        made.save(out, "TIFF" if mode == "CMYK" else "PNG")
        found.append(out.getvalue())
    exif = Image.Exif()
    exif[0x0112] = 6
    for options in ({"exif": exif, "progressive": True}, {"quality": 95, "subsampling": 0, "comment": b"x" * 40}):
        out = io.BytesIO()
        image.save(out, "JPEG", **options)
        found.append(out.getvalue())
    return found


def read_photograph(content: bytes, folder: Path) -> str | None:
    """A folder of this file and a whole one: left out with its name, or pixels."""
    path = folder / "a.png"  # formats are told by content
    path.write_bytes(content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = load_images(folder, workers=1)
        try:
            for images, _ in data:
                assert images.dtype == torch.uint8 and images.ndim == 4
        except ValueError as error:
            if str(folder) not in str(error) or "a.png" not in str(error):
                raise Finding(f"ValueError does not name the file: {error}") from error
            return str(error)
    del caught
    return None


# ---------------------------------------------------------------- weights
def net() -> nn.Module:
    """One with buffers, integers and two types of floats."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def safetensors() -> list[bytes]:
    """Weights, plain, half, wrapped."""
    state = net().state_dict()
    half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    return [safetensors_bytes(each) for each in (state, half, {f"module.{k}": v for k, v in state.items()})]


def changed_safetensors(content: bytes, rng: np.random.Generator) -> bytes:
    """What the header says, changed."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    for _ in range(rng.integers(1, 3)):
        header = damage.changed_json(header, rng)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def pickled() -> list[bytes]:
    """Weights as torch.save writes them, in its formats, and files that would run code."""
    state = net().state_dict()
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # quantised tensors are going
        eighths = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
    sparse = {"0.weight": torch.eye(3).to_sparse(), "q": eighths}
    for value in (
        state,
        {"state_dict": state, "epoch": 3},
        {f"module.{k}": v for k, v in state.items()},
        sparse,
        net(),
    ):
        for zipped in (True, False):
            out = io.BytesIO()
            with contextlib.suppress(pickle.PicklingError), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.save(value, out, _use_new_zipfile_serialization=zipped)
                found.append(out.getvalue())
    return [*found, pickle.dumps({"a": os.system}), pickle.dumps([1, 2, 3])]


def changed_pickled(content: bytes, rng: np.random.Generator) -> bytes:
    """The pickle inside the archive, changed."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in members if name.endswith("data.pkl"))
    if rng.random() < 0.3:
        name = list(members)[int(rng.integers(len(members)))]
    members[name] = changed_opcodes(members[name], rng)
    return bundle(members)


def changed_opcodes(content: bytes, rng: np.random.Generator) -> bytes:
    """Numbers, names and opcodes of a pickle, replaced."""
    words = [b"K\xff", b"J\xff\xff\xff\x7f", b"cos\nsystem\n", b"cbuiltins\neval\n", b"(", b"t", b"R", b"b", b".", b"0",
             b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", b"X\xff\xff\xff\x7f", b"ctorch\nload\n", b"h\x00", b"N",
             b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n", b"Q", b"\x81", b"s", b"u",
             b"}"]  # fmt: skip
    work = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(work) + 1))
        word = words[int(rng.integers(len(words)))]
        work[at : at + int(rng.integers(0, len(word) + 1))] = word
    return bytes(work)


def read_weights(path: Path) -> None:
    """Into a network."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load_weights(net(), path)


# ---------------------------------------------------------------- the memory of choices
def read_pace(content: bytes, folder: Path) -> str | None:
    """What earlier runs remembered: believed, or as if it were not there."""
    (folder / "pace.json").write_bytes(content)
    before = os.environ["FASTFREQ_CACHE_DIR"]
    os.environ["FASTFREQ_CACHE_DIR"] = str(folder)
    tuning._REMEMBERED.clear()
    try:
        found = tuning._remembered("key")
        tuning._remember("other", tuning.Pace(3, False, 0.5))
        assert found is None or (type(found[0]) is int and 0 < found[0] <= 4096 and type(found[1]) is bool)
        assert tuning._read()["other"] == [3, False, 0.5]
    finally:
        os.environ["FASTFREQ_CACHE_DIR"] = before
        tuning._REMEMBERED.clear()
    return None


def changed_text(content: bytes, rng: np.random.Generator) -> bytes:
    """JSON, changed in what it says."""
    value = json.loads(content)
    for _ in range(rng.integers(1, 3)):
        value = damage.changed_json(value, rng)
    return json.dumps(value).encode()


# ---------------------------------------------------------------- several files
def bundle(files: dict[str, bytes]) -> bytes:
    """Files in one input."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return out.getvalue()


def unbundle(content: bytes, folder: Path) -> None:
    """Files where they belong."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(name))


def clear(folder: Path) -> None:
    """Nothing of the case before."""
    for path in folder.iterdir():
        if path.is_file():
            path.unlink()


def in_bundle(change: Change) -> Change:
    """Of one of the files."""

    def changed(content: bytes, rng: np.random.Generator) -> bytes:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        name = list(files)[int(rng.integers(len(files)))]
        files[name] = change(files[name], rng)
        return bundle(files)

    return changed


def beside(name: str, content: bytes) -> Callable[[Path], contextlib.AbstractContextManager[Any]]:
    """A whole file beside the damaged one."""

    @contextlib.contextmanager
    def prepared(folder: Path) -> Iterator[None]:
        (folder / name).write_bytes(content)
        yield

    return prepared


def targets() -> Iterator[Target]:
    """All that read files."""
    raw, inside = damage.changed_bytes, damage.changed_archive
    yield Target("result", results, [raw, inside, changed_numbers, changed_numbers], of_file("r.npz", use), 120)
    yield Target("data", damage.data_sets, [raw, inside, changed_numbers], of_file("d.npz", read_data), 250)
    yield Target("table", damage.tables, [raw, damage.changed_table], of_file("labels.csv", damage.read_table), 270)
    yield Target("safetensors", safetensors, [raw, changed_safetensors], of_file("w.safetensors", read_weights), 70)
    pickles = [raw, changed_opcodes, changed_pickled, inside]
    yield Target("pickled", pickled, pickles, of_file("w.pt", read_weights), 50)
    photograph = beside("b.png", photographs()[1])
    yield Target("photograph", photographs, [raw], read_photograph, 80, photograph)
    arrays = [in_bundle(raw), in_bundle(damage.changed_array)]
    yield Target("corrupted", corrupted_arrays, arrays, read_corrupted, 50)
    yield Target("pace", lambda: [b'{"key": [4, true, 0.5]}', b"{}"], [raw, changed_text], read_pace, 40)
    half = [after_the_name(raw), after_the_name(inside)]
    yield Target("checkpoint", checkpoints, half, go_on, 4)

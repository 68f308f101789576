"""Files changed at random, in their bytes and in what they say: read, or refused with a ValueError that names them."""

from __future__ import annotations

import contextlib
import io
import json
import time
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import fastfreq as ff
from fastfreq.data import files as image_files
from fastfreq.results import store

FEW, MANY = 200, 20_000
SAVED = Path(__file__).parent / "saved"
JUNK = [
    None,
    True,
    -1,
    0,
    1,
    2.5,
    10**30,
    2**63,
    float("nan"),
    "",
    "x",
    "\0",
    "\ud800",
    "a" * 5000,
    [],
    [[]],
    {},
    [3] * 9,
]
TYPES = [
    "<f8",
    ">f8",
    "<f4",
    "<i8",
    ">i2",
    "|u1",
    "|b1",
    "<U5",
    "<U0",
    "|S3",
    "|O",
    "<M8[s]",
    "<c16",
    "<f2",
    "|V8",
    "x",
]
SIDES = [-1, 0, 1, 2, 3, 7, 10**3, 10**9, 2**40, 2**63, 10**40]
WORDS = [
    b'"',
    b"\0",
    b"\r",
    b"\n",
    b",",
    b"../",
    b"/",
    b"\xef\xbb\xbf",
    b"\xff",
    b"9" * 30,
    b"9" * 5000,
    b"-1",
    b"a" * 400,
]


# ---------------------------------------------------------------- mutations
def changed_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes flipped, cut, inserted or repeated, half of them at the end, where an archive keeps its list."""
    work = bytearray(content)
    for _ in range(rng.integers(1, 6)):
        low = max(0, len(work) - 300) if rng.random() < 0.5 else 0
        at = int(rng.integers(low, len(work) + 1))
        kind = rng.integers(5)
        if kind <= 1 and at < len(work):
            work[at] ^= int(rng.integers(1, 256))
        elif kind == 2:
            work[at : at + 4] = rng.choice([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f"])
        elif kind == 3:
            del work[at : at + int(rng.integers(1, 50))]
        else:
            work[at:at] = work[at : at + int(rng.integers(1, 50))]
    return bytes(work[: int(rng.integers(len(work)))] if rng.random() < 0.1 and work else work)


def changed_array(content: bytes, rng: np.random.Generator) -> bytes:
    """An array whose header says something else."""
    file = io.BytesIO(content)
    try:
        np.lib.format.read_magic(file)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    except Exception:
        return changed_bytes(content, rng)
    sides, kind = list(shape), rng.integers(5)
    if kind == 0:
        sides.insert(int(rng.integers(len(sides) + 1)), SIDES[rng.integers(len(SIDES))])
    elif kind == 1 and sides:
        sides[rng.integers(len(sides))] = SIDES[rng.integers(len(SIDES))]
    elif kind == 2:
        sides = sides[::-1] if rng.random() < 0.5 else [int(np.prod(sides, dtype=object))]
    descr = TYPES[rng.integers(len(TYPES))] if kind == 3 else dtype.str
    header = {"descr": descr, "fortran_order": fortran ^ bool(rng.random() < 0.2), "shape": tuple(sides)}
    body = content[file.tell() :]
    if kind == 4:
        body = rng.bytes(len(body))
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, header)
    return out.getvalue() + body


def changed_json(value: object, rng: np.random.Generator) -> object:
    """A part of what a header says, replaced."""
    if rng.random() < 0.2:
        return JUNK[rng.integers(len(JUNK))]
    if isinstance(value, dict) and value:
        key = list(value)[rng.integers(len(value))]
        if rng.random() < 0.2:
            return {k: v for k, v in value.items() if k != key}
        return value | {key: changed_json(value[key], rng)}
    if isinstance(value, list) and value:
        at = int(rng.integers(len(value)))
        return value[:at] + ([] if rng.random() < 0.2 else [changed_json(value[at], rng)]) + value[at + 1 :]
    return JUNK[rng.integers(len(JUNK))]


def changed_header(content: bytes, rng: np.random.Generator) -> bytes:
    text = str(np.load(io.BytesIO(content)))
    if rng.random() < 0.1:
        text = rng.choice(["[" * 50_000, '{"a":' * 20_000, text * 2, text[: len(text) // 2], "", "9" * 9000])
    else:
        value = json.loads(text)
        for _ in range(rng.integers(1, 4)):
            value = changed_json(value, rng)
        text = json.dumps(value)
    out = io.BytesIO()
    np.save(out, np.array(str(text)))
    return out.getvalue()


def changed_archive(content: bytes, rng: np.random.Generator) -> bytes:
    """Members lost, doubled, exchanged, renamed, or changed inside, in an archive that is whole."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(members)))
        name, inside = members[at]
        kind = rng.integers(8)
        if kind == 0 and len(members) > 1:
            del members[at]
        elif kind == 1:
            members.append((name, inside))
        elif kind == 2:
            members[at] = (
                rng.choice([".npy", "x", "../x.npy", "fastfreq.npy", "images.npy", name[:-4] or "y", name * 2]),
                inside,
            )
        elif kind == 3:
            members[at] = (name, members[rng.integers(len(members))][1])
        elif name == "fastfreq.npy" and kind < 7:
            with contextlib.suppress(Exception):  # it was changed before
                members[at] = (name, changed_header(inside, rng))
        elif kind == 7:
            members[at] = (name, changed_bytes(inside, rng))
        else:
            members[at] = (name, changed_array(inside, rng))
    out = io.BytesIO()
    packing = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    with (
        warnings.catch_warnings(),
        zipfile.ZipFile(out, "w", packing[rng.choice(4, p=[0.3, 0.6, 0.05, 0.05])]) as archive,
    ):
        warnings.simplefilter("ignore")  # a name twice
        for name, inside in members:
            archive.writestr(str(name), inside)
    return out.getvalue()


def changed_table(content: bytes, rng: np.random.Generator) -> bytes:
    lines = content.splitlines(keepends=True)
    for _ in range(rng.integers(1, 4)):
        at, kind = int(rng.integers(len(lines))), rng.integers(4)
        if kind == 0:
            lines.append(lines[at])
        elif kind == 1 and len(lines) > 1:
            del lines[at]
        else:
            line, where = lines[at], int(rng.integers(len(lines[at]) + 1))
            lines[at] = line[:where] + WORDS[rng.integers(len(WORDS))] + line[where:]
    return b"".join(lines)


# ---------------------------------------------------------------- files
def a_result() -> bytes:
    rng = np.random.default_rng(0)
    header = {
        "convention": {"name": "yin2019", "clip": True}, "eps": 1.0, "seed": 1, "shape": [3, 7, 9], "size": [5, 5],
        "details": {"model": "TinyNet"}, "metrics": ["loss"], "layers": ["stem"],
    }  # fmt: skip
    shapes = {"frequencies": (13, 2), "norms": (13, 2), "sums/0": (13, 2), "clean_sums/0": (2,), "layers/0": (13, 3)}
    arrays: dict[str, np.ndarray] = {name: rng.random(shape) for name, shape in shapes.items()}
    arrays |= {"image_ids": np.arange(6), "labels": np.arange(6), "clean_wrong": np.zeros(6, bool)}
    arrays["wrong"] = rng.integers(0, 256, (13, 1), dtype=np.uint8)
    out = io.BytesIO()
    text = json.dumps({"kind": "heatmap", "format": store.FORMAT, **header})
    np.savez_compressed(out, allow_pickle=False, fastfreq=np.array(text), **arrays)
    return out.getvalue()


def results() -> list[bytes]:
    """A result of every kind where a development checkout has them, else one like a heat map."""
    return [a_result()] + [p.read_bytes() for p in sorted(SAVED.glob("*.npz")) if "images_labels" not in p.name]


def data_sets() -> list[bytes]:
    rng = np.random.default_rng(1)
    found = []
    for save in (np.savez, np.savez_compressed):
        for shape in ((6, 8, 9), (6, 3, 8, 9), (6, 8, 9, 3)):
            for images in (rng.integers(0, 256, shape, dtype=np.uint8), rng.random(shape)):
                out = io.BytesIO()
                save(out, images=images, labels=np.arange(6))
                found.append(out.getvalue())
    return found


def tables() -> list[bytes]:
    rows = "".join(f"folder/{i}.png,{i % 5}\n" for i in range(12))
    return [f"file,label\n{rows}".encode(), f'\ufeffpath,Class\r\n"a, b.png",3\r\n{rows}'.encode()]


def read_table(path: Path) -> None:
    loaded = ff.load_data(path.parent)
    assert isinstance(loaded._sources, list)
    for file in loaded._sources[:3]:
        assert image_files._decode(file, None) == "no such file"


Mutation = Callable[[bytes, np.random.Generator], bytes]
KINDS: dict[str, tuple[str, Callable[[], list[bytes]], list[Mutation], Callable[[Path], object]]] = {
    "result": ("r.npz", results, [changed_bytes, changed_archive], ff.load),
    "data": ("d.npz", data_sets, [changed_bytes, changed_archive], ff.load_data),
    "table": ("labels.csv", tables, [changed_bytes, changed_table], read_table),
}


def cases(kind: str, count: int) -> Iterator[bytes]:
    _, make, mutations, _ = KINDS[kind]
    files = make()
    for number in range(count):
        rng = np.random.default_rng([number, len(kind)])
        yield mutations[number % len(mutations)](files[number // 2 % len(files)], rng)


def check(kind: str, count: int, folder: Path) -> tuple[int, float, int]:
    """(files refused, longest seconds of a core, most bytes); what is not a ValueError naming the file goes through."""
    name, _, _, read = KINDS[kind]
    path = folder / name
    refused, longest, most = 0, 0.0, 0
    tracemalloc.start()
    try:
        for content in cases(kind, count):
            path.write_bytes(content)
            tracemalloc.reset_peak()
            before, start = tracemalloc.get_traced_memory()[0], time.process_time()
            try:
                read(path)
            except ValueError as error:
                assert str(folder) in str(error), f"{error!r} does not name the file"
                refused += 1
            longest = max(longest, time.process_time() - start)
            most = max(most, tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    return refused, longest, most


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_file_is_read_or_refused_by_name(tmp_path, kind, count):
    refused, longest, most = check(kind, count, tmp_path)
    print(f"{kind}: {refused} of {count} refused, longest {longest:.3f} s of a core, most {most / 2**20:.1f} MiB")
    assert refused > count // 4 and longest < 2 and most < 32 << 20

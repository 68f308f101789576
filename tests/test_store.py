"""Files of results: whole or not at all, checked before memory is taken, and only documented exceptions."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
import threading
import tracemalloc
import zipfile

import numpy as np
import pytest

from fastfreq.results import _archive, atomic, store

HEADER = {"kind": "some", "format": store.FORMAT, "note": "x"}


def npy(array, **changes) -> bytes:
    """An array as numpy writes it, with parts of its header replaced."""
    out = io.BytesIO()
    fields = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape} | changes
    np.lib.format.write_array_header_1_0(out, fields)
    return out.getvalue() + array.tobytes()


def write_members(path, members, packing=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, content in members:
            archive.writestr(name, content)


def a_file(path, *members, header="", packing=zipfile.ZIP_DEFLATED):
    text = header if isinstance(header, bytes) else npy(np.array(header or json.dumps(HEADER)))
    write_members(path, [("fastfreq.npy", text), *members], packing)
    return path


def test_arrays_come_back_as_they_were(tmp_path):
    arrays = {
        "floats": np.arange(15.0).reshape(3, 5)[:, ::2],
        "fortran": np.asfortranarray(np.arange(6, dtype=np.int8).reshape(2, 3)),
        "big endian": np.arange(4, dtype=">f8"),
        "flags": np.array([True, False, True]),
        "complex": np.array([1 + 2j]),
        "text": np.array(["a", "longer"]),
        "a/b": np.array(3.5, np.float32),
        "none": np.zeros((0, 7), np.uint8),
    }
    store.write_arrays(tmp_path / "r.npz", "some", {"count": np.int64(3), "eps": np.float32(0.5)}, arrays)
    kind, _, header, back = store.read_result(tmp_path / "r.npz")
    assert kind == "some" and header == {"count": 3, "eps": 0.5} and list(back) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype.newbyteorder("=") and back[name].flags.writeable
    assert store.read_kind(tmp_path / "r.npz") == (kind, header)
    with np.load(tmp_path / "r.npz") as file:  # numpy reads them too
        np.testing.assert_array_equal(file["complex"], arrays["complex"])


def test_what_could_not_be_read_back_is_not_written(tmp_path):
    for array in (np.array([{}]), np.zeros(2, [("a", int)]), np.zeros(2, "M8[s]")):
        with pytest.raises(ValueError, match="expected arrays of numbers or text"):
            store.write_arrays(tmp_path / "r.npz", "some", {}, {"a": array})
    assert not list(tmp_path.iterdir())


DAMAGED = {
    "twice": ([("a.npy", npy(np.zeros(3)))] * 2, "'a' is in it twice"),
    "objects": ([("a.npy", npy(np.zeros(3), descr="|O"))], "holds Python objects"),
    "dates": ([("a.npy", npy(np.zeros(3), descr="<M8[s]"))], "expected plain numbers"),
    "no size": ([("a.npy", npy(np.zeros(0), descr="<U0", shape=(10**18,)))], "expected plain numbers"),
    "477 GiB": ([("a.npy", npy(np.zeros(3), shape=(1 << 36,)))], r"declares float64 \(68719476736,\) in 152 bytes"),
    "fewer": ([("a.npy", npy(np.zeros(3), shape=(2,)))], r"declares float64 \(2,\) in 152 bytes"),
    "negative": ([("a.npy", npy(np.zeros(6), shape=(-2, -3)))], "declares the shape"),
    "nested": ([("a.npy", b"\x93NUMPY\x01\x00\xe7\x03" + b"(" * 999)], "damaged: TokenError"),
    "truth": ([("a.npy", npy(np.full(3, 2, np.uint8), descr="|b1"))], "truth values other than 0 and 1"),
    "no array": ([("a.npy", b"text")], "damaged"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_array_is_a_value_error_that_names_the_file(tmp_path, name):
    members, message = DAMAGED[name]
    path = a_file(tmp_path / "r.npz", *members)
    with pytest.raises(ValueError, match=message) as caught:
        store.read_result(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "header",
    [
        "[" * 100_000,
        '{"kind": ' + "[" * 100_000,
        "[1]",
        "3",
        "{}",
        '{"kind": "a"}',
        '{"kind": 3, "format": 1}',
        '{"kind": "a", "format": ' + "9" * 5000 + "}",
        npy(np.zeros(3)),
        npy(np.array(["{}"])),
        npy(np.full(1, 0x7FFFFFFF, "<u4"), descr="<U1", shape=()),
    ],
    ids=lambda text: str(text[:20]),
)
def test_a_damaged_header_is_a_value_error_that_names_the_file(tmp_path, header):
    path = a_file(tmp_path / "r.npz", header=header)
    with pytest.raises(ValueError, match="is not one or is damaged") as caught:
        store.read_result(path)
    assert str(path) in str(caught.value)


def test_other_formats_and_other_files(tmp_path):
    path = a_file(tmp_path / "r.npz", header=json.dumps(HEADER | {"format": 7}))
    with pytest.raises(ValueError, match="format 1 to 2, .* has 7; use a newer fastfreq"):
        store.read_result(path)
    write_members(path, [("a.npy", npy(np.zeros(3)))])
    with pytest.raises(ValueError, match="is not one: it has no member 'fastfreq'"):
        store.read_result(path)
    a_file(path, ("a.npy", npy(np.zeros(300))), packing=zipfile.ZIP_BZIP2)
    with pytest.raises(ValueError, match="packed in another way"):
        store.read_result(path)
    content = bytearray(a_file(path).read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="encrypted"):  # zipfile's own is a RuntimeError
        store.read_result(path)


def test_every_changed_byte_of_the_data_is_noticed(tmp_path):
    path = a_file(tmp_path / "r.npz", ("a.npy", npy(np.arange(40.0))), packing=zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[content.index(np.arange(40.0).tobytes()) + 100] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="Bad CRC-32"):
        store.read_result(path)


def test_a_small_file_of_zeros_takes_no_memory(tmp_path):
    count = 300 << 20  # some 300 kB as a file
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("fastfreq.npy", npy(np.array(json.dumps(HEADER))))
        with archive.open("a.npy", "w") as file:
            file.write(npy(np.zeros(0, np.uint8), shape=(count,)))
            for _ in range(count >> 20):
                file.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"expected at most 268435456 bytes .* unpacks to 314573\d{3}; pass"):
        store.read_result(path)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()
    assert store.read_kind(path)[0] == "some"  # which needs the header alone


def test_the_limit_is_an_argument(tmp_path):
    path = tmp_path / "r.npz"
    store.write_arrays(path, "some", {}, {"a": np.zeros(1000)})
    with pytest.raises(
        ValueError, match=r"at most 8000 bytes of arrays \(`max_bytes`\), .* pass max_bytes=8\d\d\d where"
    ):
        store.read_result(path, max_bytes=8000)
    assert len(store.read_result(path, max_bytes=9000)[3]["a"]) == 1000


def test_a_file_that_lies_about_its_size_is_not_read_further(tmp_path):
    path = tmp_path / "r.npz"
    write_members(path, [("fastfreq.npy", npy(np.array(json.dumps(HEADER)))), ("a.npy", npy(np.zeros(1 << 20)))])
    content = path.read_bytes()
    short = npy(np.zeros(4))
    declared = len(npy(np.zeros(1 << 20))).to_bytes(4, "little")
    assert content.count(declared) == 2
    path.write_bytes(content.replace(declared, len(short).to_bytes(4, "little")))
    with pytest.raises(ValueError, match="damaged: .*Bad CRC-32"):
        store.read_result(path)


def test_what_was_written_is_always_read(tmp_path, monkeypatch):
    monkeypatch.setattr(_archive, "SMALL_BYTES", 1 << 16)
    store.write_arrays(tmp_path / "r.npz", "some", {}, {"a": np.zeros(1 << 20)})  # packs to 1,000 : 1
    assert store.read_result(tmp_path / "r.npz")[3]["a"].shape == (1 << 20,)


def test_a_list_of_members_is_bounded(tmp_path):
    path = a_file(tmp_path / "r.npz")
    content = bytearray(path.read_bytes()) + bytes(32 << 20)
    end = content.index(b"PK\x05\x06")
    trailer = content[end : end + 22]
    trailer[12:16] = (20 << 20).to_bytes(4, "little")  # bytes of the list
    trailer[16:20] = (0).to_bytes(4, "little")
    path.write_bytes(bytes(content) + bytes(trailer))
    with pytest.raises(ValueError, match="a list of members or a piece of 20971520 bytes"):
        store.read_result(path)


# ---------------------------------------------------------------- temporary files
def wait_in_the_middle(path):
    """A process that is killed while it writes `path`."""
    code = (
        "import sys, time\nfrom fastfreq.results import atomic\n"
        "with atomic.atomic_path(sys.argv[1]) as path:\n"
        "    path.write_text('half'); print('there', flush=True); time.sleep(60)\n"
    )
    return subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path):
    target = tmp_path / "r.npz"
    (tmp_path / ".other.tmp").write_text("not ours")
    process = wait_in_the_middle(target)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "there\n"
        (left,) = tmp_path.glob(".r.npz.*.tmp")
        assert f".{process.pid}-" in left.name
        store.write_arrays(target, "some", {}, {})
        assert left.exists()  # its process still writes
    finally:
        process.kill()
        process.communicate()
    assert left.exists()
    elsewhere = tmp_path / left.name.replace(atomic._place(), "elsewhere-1")
    elsewhere.write_text("another host's, whose processes cannot be asked")
    store.write_arrays(target, "some", {}, {})
    assert {p.name for p in tmp_path.iterdir()} == {"r.npz", ".other.tmp", elsewhere.name}
    os.utime(elsewhere, (0, 0))
    store.write_arrays(target, "some", {}, {})
    assert not elsewhere.exists()


def test_threads_that_write_one_file_leave_it_whole(tmp_path):
    arrays = [{"a": np.full(5000, i)} for i in range(8)]
    threads = [
        threading.Thread(target=lambda a=a: [store.write_arrays(tmp_path / "r.npz", "some", {}, a) for _ in range(5)])
        for a in arrays
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(store.read_result(tmp_path / "r.npz")[3]["a"].tolist())) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["r.npz"]


def test_names_modes_and_links(tmp_path):
    long = tmp_path / ("n" * 250 + ".npz")  # 255 bytes, the longest there is
    store.write_arrays(long, "some", {}, {})
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(long.stat().st_mode) == 0o666 & ~umask
    (tmp_path / "far").mkdir()
    (tmp_path / "link.npz").symlink_to(tmp_path / "far" / "r.npz")
    store.write_arrays(tmp_path / "link.npz", "some", {}, {})
    assert (tmp_path / "link.npz").is_symlink() and (tmp_path / "far" / "r.npz").is_file()


def test_a_failed_write_leaves_the_old_file(tmp_path):
    atomic.write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError), atomic.atomic_path(tmp_path / "a.txt") as path:
        path.write_text("new")
        raise RuntimeError
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.txt", "old")]


# ---------------------------------------------------------------- before anything is computed
def test_a_path_that_can_be_written_is_left_alone(tmp_path):
    store.check_writable(tmp_path / "new.npz")
    assert not list(tmp_path.iterdir())
    store.write_arrays(tmp_path / "old.npz", "some", {}, {"a": np.arange(3)})
    before = (tmp_path / "old.npz").read_bytes()
    store.check_writable(tmp_path / "old.npz", kind="some")
    assert [p.name for p in tmp_path.iterdir()] == ["old.npz"] and (tmp_path / "old.npz").read_bytes() == before


def test_a_path_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    store.write_arrays(tmp_path / "old.npz", "some", {}, {})
    (tmp_path / "cut.npz").write_bytes((tmp_path / "old.npz").read_bytes()[:-30])
    for path, error, message in (
        (tmp_path / "no" / "r.npz", FileNotFoundError, "expected a folder at .*/no to write r.npz to, found nothing"),
        (tmp_path / "file" / "r.npz", NotADirectoryError, "a folder at .*/file to write r.npz to, found a file"),
        (tmp_path, IsADirectoryError, "is a folder; write to .*/result.npz"),
        (tmp_path / "file", ValueError, "to be new or a result saved by fastfreq.*; it is another file or is damaged"),
        (tmp_path / "cut.npz", ValueError, "choose another name, or remove it"),
        ("/dev/null", ValueError, "neither a file nor a folder"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            store.check_writable(path)
    with pytest.raises(ValueError, match="a result of kind 'heatmap', it holds a 'some'; choose another name"):
        store.check_writable(tmp_path / "old.npz", kind="heatmap")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_takes_no_files_is_refused(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "open", full)  # tests may run as root, who may write everywhere
    with pytest.raises(OSError, match=r"expected a folder that takes files, .* does not \(No space left on device\)"):
        store.check_writable(tmp_path / "r.npz")
    monkeypatch.undo()
    store.write_arrays(tmp_path / "r.npz", "some", {}, {})
    monkeypatch.setattr(os, "access", lambda *arguments: False)
    with pytest.raises(PermissionError, match="r.npz is read-only; choose another name"):
        store.check_writable(tmp_path / "r.npz")


def test_damage_of_any_kind_names_the_file():
    for error in (KeyError("a"), RecursionError("deep"), MemoryError("much"), AttributeError("x"), ValueError("low")):
        with pytest.raises(ValueError, match=r"a complete result, r\.npz is damaged: "), store.named_damage("r.npz"):
            raise error

"""A table of image files and their labels, labels.csv: what it says is checked before any file is opened."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

_FILE_COLUMNS = ("file", "filename", "image", "path")
_LABEL_COLUMNS = ("label", "class_index", "class")
_LONGEST_LINE = 1 << 16
_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # bytes that are no UTF-8 come as the second kind
_CONTROL = re.compile("[\x00-\x1f\x7f]")


def read_label_table(path: Path, num_classes: int | None) -> tuple[list[Path], Tensor]:
    """(files, labels int64 (n,)) of a labels.csv; files are relative to its folder and inside it.

    Raises:
        ValueError: no such columns, or a line that does not fit; the message names the file and the line.
        OSError: the file cannot be opened.
    """
    rows = _rows(path)
    line, header = next(rows, (0, []))
    names = [name.strip().lower() for name in header]
    file_column = next((c for c in _FILE_COLUMNS if c in names), None)
    label_column = next((c for c in _LABEL_COLUMNS if c in names), None)
    if file_column is None or label_column is None:
        raise ValueError(
            f"expected {path} with a header naming `file` and one of {', '.join(_LABEL_COLUMNS)}, "
            f"got {', '.join(f'{name:.40}' for name in names[:20]) or 'an empty file'}"
        )
    for column in (file_column, label_column):
        if names.count(column) > 1:
            raise ValueError(f"expected each column once, line {line} of {path} names {column!r} twice")
    at_file, at_label = names.index(file_column), names.index(label_column)
    known: dict[Path, int] = {}
    labels: list[int] = []
    for line, row in rows:
        if len(row) != len(header):
            raise ValueError(
                f"expected {len(header)} values, as in the header, line {line} of {path} has {len(row)}; a name with "
                f"a comma stands in quotes"
            )
        labels.append(_label(row[at_label].strip(), num_classes, f"column {header[at_label]!r}, line {line} of {path}"))
        file = _inside(path.parent, row[at_file].strip(), f"column {header[at_file]!r}, line {line} of {path}")
        if file in known:
            raise ValueError(f"expected each file once, line {line} of {path} names {file.name} of line {known[file]}")
        known[file] = line
    if not known:
        raise ValueError(f"expected one row per image in {path}, got a header alone")
    return list(known), torch.tensor(labels, dtype=torch.int64)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, values) of each line that is not empty, the header first."""
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        reader = csv.reader(_lines(file, path), strict=True)  # else an open quote swallows what follows
        try:
            for row in reader:
                if row:
                    yield reader.line_num, row
        except csv.Error as error:
            raise ValueError(f"expected comma-separated values, line {reader.line_num} of {path}: {error}") from error


def _lines(file: io.TextIOBase, path: Path) -> Iterator[str]:
    number = 0
    while line := file.readline(_LONGEST_LINE + 1):
        number += 1
        if len(line) > _LONGEST_LINE:
            raise ValueError(f"expected lines of at most {_LONGEST_LINE} characters, line {number} of {path} is longer")
        if _NO_TEXT.search(line):
            raise ValueError(f"expected text in UTF-8, line {number} of {path} is none; save it with that encoding")
        yield line


def _label(text: str, num_classes: int | None, where: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"expected a class index in {where} has {text!r:.60}")
    top = 2**63 if num_classes is None else num_classes
    if len(text.lstrip("0")) > 19 or int(text) >= top:
        raise ValueError(f"expected a class index below {top} in {where} has {text!r:.60}")
    return int(text)


def _inside(folder: Path, name: str, where: str) -> Path:
    """The file `name` of `folder`."""
    if not name:
        raise ValueError(f"expected a file in {where} has none")
    if _CONTROL.search(name):
        raise ValueError(f"expected the name of a file in {where} has control characters: {name!r:.60}")
    path = folder / name
    if ".." in path.parts[len(folder.parts) :] or not path.is_relative_to(folder) or path == folder:
        raise ValueError(f"expected a file inside {folder}, in {where} has {name!r:.200}; put or link it there")
    try:
        longest, whole = max(len(os.fsencode(part)) for part in path.parts), len(os.fsencode(path))
    except UnicodeEncodeError as error:
        raise ValueError(f"expected a name that this system can write in {where}: {error}") from error
    if longest > 255 or whole > 4095:
        raise ValueError(f"expected a name of at most 255 bytes in {where} has {name!r:.60} of {len(name)} characters")
    return path

"""Every result shows itself in the same ways: words, tables, pictures, pages, files of the command line."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import fastfreq as ff
from fastfreq import report
from fastfreq.cli import main
from tests.contract import subjects
from tests.contract.table import Row, rows, whole


@rows()
def test_repr_is_three_lines(row):
    text = repr(whole(row.name))
    assert len(text.splitlines()) == 3 and max(map(len, text.splitlines())) <= 120
    assert type(whole(row.name)).__name__ in text and "array(" not in text and " at 0x" not in text


@rows()
def test_repr_html(row):
    page = whole(row.name)._repr_html_()
    assert page.lstrip().startswith("<") and "<table" in page and "<script" not in page


def assert_rows(table: Any) -> None:
    """A list of dicts with the same keys and plain values."""
    assert isinstance(table, list) and table and all(isinstance(each, dict) for each in table)
    assert all(list(each) == list(table[0]) and all(isinstance(key, str) for key in each) for each in table)
    plain = (str, bool, int, float, tuple, type(None))
    assert all(
        isinstance(value, plain) and not isinstance(value, np.generic) for each in table for value in each.values()
    )


@rows()
def test_summary(row):
    summary = whole(row.name).summary()
    assert_rows(summary)
    assert len(summary) <= 40


@rows()
def test_table(row):
    assert_rows(whole(row.name).table())


@rows()
def test_dataframe(row):
    frame = whole(row.name).to_dataframe()
    assert len(frame) >= 1 and all(isinstance(column, str) for column in frame.columns)


@rows()
def test_details_say_what_was_run(row):
    details = whole(row.name).details
    assert "torch" in details and all(isinstance(value, str) for value in details.values())
    assert "model" in row.cannot or details["model"] == "Net"


@rows("images", "n_images")
def test_the_number_of_images_is_said(row):
    assert whole(row.name).n_images == subjects.N


@rows()
def test_plot_gives_a_figure(row):
    figure = whole(row.name).plot()
    assert isinstance(figure, Figure) and figure.axes
    import matplotlib.pyplot as plt

    assert not plt.get_fignums(), "expected no figure of pyplot's"


@rows()
def test_plot_into_the_callers_axes(row):
    if not row.one_axes:
        pytest.skip(f"{row.name}: draws several axes")
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert whole(row.name).plot(ax=left) is figure
    assert left.has_data() and not right.has_data()


@rows()
def test_the_page_takes_it(row, tmp_path):
    page = report.write_report({"tiny <net>": whole(row.name)}, tmp_path / "page.html")
    text = Path(page).read_text()
    assert "data:image/png" in text and "tiny &lt;net&gt;" in text and "<net>" not in text


# ---------------------------------------------------------------- the command line
@pytest.fixture
def undrawn(monkeypatch) -> None:
    """Pictures are files of nothing: what the page test draws need not be drawn again."""

    def write(_figure: Figure, file: Any, **_: Any) -> None:
        png = b"\x89PNG\r\n\x1a\n"
        Path(file).write_bytes(png) if isinstance(file, str | Path) else file.write(png)

    monkeypatch.setattr(Figure, "savefig", write)


def run_verb(row: Row, folder: str, *words: str) -> int:
    """The row's verb on the job's files; the exit code."""
    data = [] if "images" in row.cannot else ["--data", "data.npz"]
    model = [] if "model" in row.cannot else ["--model", "nets.py:build", "--weights", "weights.safetensors"]
    shared = [*model, *data, "--out", folder, *words]
    return main([row.name.replace("_", "-"), *row.words, *shared])


def results(folder: Path) -> list[Any]:
    """Saved results in a folder, in the order of their names."""
    return [ff.load(file) for file in sorted(folder.rglob("*.npz"))]


def of_kind(row: Row, folder: Path) -> Any:
    """The one saved result of the row's kind."""
    found = [result for result in results(folder) if type(result) is type(whole(row.name))]
    assert len(found) == 1, f"expected one result of the kind in {folder}, got {len(found)}"
    return found[0]


@rows()
def test_the_verb_writes_the_result_and_its_csv(row, in_job, undrawn, capsys):
    assert run_verb(row, "out") == 0, capsys.readouterr().err
    assert of_kind(row, in_job / "out") is not None
    tables = sorted((in_job / "out").glob("*.csv"))
    assert tables
    with tables[0].open(newline="") as file:
        lines = list(csv.reader(file))
    assert len(lines) >= 2 and len({len(line) for line in lines}) == 1


@rows("shards", "shard")
def test_shards_of_the_verb_merge(row, in_job, undrawn, capsys):
    for i in range(2):
        assert run_verb(row, f"part{i}", "--shard", f"{i}/2") == 0, capsys.readouterr().err
    files = [str(next(iter(sorted((in_job / f"part{i}").glob("*.npz"))))) for i in (1, 0)]
    assert main(["merge", *files, "--out", "merged.npz"]) == 0, capsys.readouterr().err
    merged: Any = ff.load("merged.npz")
    assert merged.n_images == subjects.N


@rows("shards")
def test_merge_takes_its_files(row, tmp_path, capsys):
    parts = [row.plain(**shard) for shard in row.shards]
    files = []
    for i, part in enumerate(parts):
        part.save(tmp_path / f"{i}.npz")
        files.append(str(tmp_path / f"{i}.npz"))
    out = tmp_path / "merged.npz"
    assert main(["merge", *reversed(files), "--out", str(out)]) == 0, capsys.readouterr().err
    subjects.assert_same(row.numbers(ff.load(out)), row.numbers(whole(row.name)))
    assert main(["merge", files[0], files[0], "--out", str(tmp_path / "twice.npz")]) == 2
    assert not (tmp_path / "twice.npz").exists() and "expected" in capsys.readouterr().err


@rows()
def test_report_takes_its_file(row, tmp_path, undrawn, capsys):
    whole(row.name).save(tmp_path / "a.npz")
    assert main(["report", str(tmp_path / "a.npz"), "--out", str(tmp_path / "page")]) == 0, capsys.readouterr().err
    assert "data:image/png" in (tmp_path / "page" / "report.html").read_text()

"""The command line: what it prints, what it refuses and how, and that it never takes another run's place."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import fastfreq as ff
from fastfreq import cli, demo
from fastfreq.cli import _measure, main
from fastfreq.results import registry

NETS = """
from fastfreq.demo import load_network

def natural():
    return load_network("natural")

def adversarial():
    return load_network("adversarial")

def chatty():
    print("loading ...")
    return load_network("natural")

def broken():
    net = load_network("natural")
    net.forward = lambda x: {}["a key that is not there"]
    return net
"""
MODEL = ["--model", "nets.py:natural", "--data", "digits.npz"]
HEATMAP = ["heatmap", *MODEL, "--eps", "2.5", "--size", "3", "--batch-size", "64"]


@pytest.fixture
def job(tmp_path, monkeypatch, one_thread):
    """A working folder with models, 40 digits and photographs of several sizes; pictures are files of nothing."""
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(NETS)
    images, labels = demo.load_digits()
    np.savez("digits.npz", images=images[:40].numpy(), labels=labels[:40].numpy())
    np.savez("other.npz", images=images[40:80].numpy(), labels=labels[40:80].numpy())
    rng = np.random.default_rng(0)
    for name, size in (("photos/a/1.png", (17, 24)), ("photos/b/2.png", (17, 24)), ("photos/b/3.png", (30, 19))):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(name)
    Path("photos/notes.txt").write_text("no image")

    def write(_figure: Figure, file, **_) -> None:
        file.write(b"\x89PNG\r\n\x1a\n")

    monkeypatch.setattr(Figure, "savefig", write)
    return tmp_path


def files(folder: str, suffix: str = ".npz") -> list[str]:
    return sorted(path.name for path in Path(folder).rglob(f"*{suffix}"))


# ---------------------------------------------------------------- help
def test_help_needs_neither_torch_nor_extras():
    for words in (["--version"], ["--help"], ["heatmap", "--help"], ["report", "--help"]):
        program = (
            f"import sys\nfrom fastfreq.cli import main\n"
            f"try: main({words})\nexcept SystemExit as end: print(end.code, *sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        code, *modules = done.stdout.splitlines()[-1].split()
        assert code == "0" and not {"torch", "numpy", "matplotlib", "tqdm"} & set(modules), words


def test_every_verb_explains_itself(capsys):
    assert set(cli.VERBS) - {"train-demo", "merge", "report", "repeat"} == {
        kind.name.replace("_", "-")
        for kind in registry.KINDS
        # made in Python only, and by train-demo
        if kind.name not in ("layer_singular_values", "latent_edit") and "training" not in kind.home
    }
    for verb in cli.VERBS:
        with pytest.raises(SystemExit) as done:
            main([verb, "--help"])
        said = capsys.readouterr().out
        assert done.value.code == 0 and "--out" in said and "--json" in said


NEED_NO_DEFAULT = {"weights", "resize", "crop", "mean", "std", "checkpoint", "shard", "title", "folder", "baseline"}
NEED_NO_DEFAULT |= {"baseline_weights", "input_size", "token_grid", "side", "layers"}


@pytest.mark.parametrize("verb", sorted(set(cli.VERBS) - {"merge", "report", "repeat"}))
def test_every_word_that_takes_a_value_says_its_default(verb):
    (verbs,) = (a for a in cli._parser(verb)._actions if isinstance(a.choices, dict))
    for action in verbs.choices[verb]._actions:
        if action.nargs == 0 or action.dest in NEED_NO_DEFAULT or not action.option_strings:
            continue
        said = action.help or ""
        assert action.dest in ("model", "data") or "needed: " in said or action.required == ("needed: " in said), verb
        told = "default: " in said or "left out" in said or "needed: " in said or action.dest in ("model", "data")
        assert told or action.dest in ("corruption", "against"), (verb, action.dest)
        if isinstance(action.default, int | float) and not isinstance(action.default, bool):
            assert f"{action.default:g}" in said, (verb, action.dest)


def test_as_a_module():
    done = subprocess.run([sys.executable, "-m", "fastfreq", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"fastfreq {ff.__version__}\n"


# ---------------------------------------------------------------- what it prints
def test_figures_are_printed_with_what_they_rest_on(job, capsys):
    assert main(HEATMAP) == 0
    said = capsys.readouterr().out
    result = ff.load("fastfreq-report/heatmap-nets.py-natural/heatmap-nets.py-natural.npz")
    assert f"nets.py:natural, 40 images: {result.headline()}" in said and "± 0.15 at worst" in said
    assert "heatmap-nets.py-natural.html" in said


def test_quiet_prints_nothing(job, capsys):
    assert main([*HEATMAP, "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == ""


def test_json_is_all_there_is_on_stdout(job, capsys):
    assert main([*HEATMAP, "--model", "nets.py:chatty", "--json", "--out", "out"]) == 0
    captured = capsys.readouterr()
    (found,) = json.loads(captured.out)
    result = ff.load(found["file"])
    assert found["kind"] == "heatmap" and found["headline"] == result.headline()
    assert found["summary"] == result.summary() and "loading ..." in captured.err


# ---------------------------------------------------------------- what goes wrong
def refused(words: list[str], capsys) -> str:
    """The one line of a refusal."""
    try:
        code = main(words)
    except SystemExit as end:
        code = end.code
    captured = capsys.readouterr()
    assert code == 2, (words, captured)
    assert "Traceback" not in captured.err
    return captured.err.splitlines()[-1]


REFUSALS = {
    "no model": (["heatmap", "--data", "digits.npz", "--eps", "1"], "--model"),
    "no eps": (["heatmap", *MODEL], "--eps"),
    "unknown verb": (["heat"], "invalid choice: 'heat'"),
    "abbreviated": ([*HEATMAP, "--prec", "bf16"], "--prec"),
    "bad number": ([*HEATMAP, "--eps", "much"], "--eps"),
    "bad shard": ([*HEATMAP, "--shard", "3"], "--shard: expected I/N"),
    "shard beyond": ([*HEATMAP, "--shard", "2/2"], "--shard: expected I/N"),
    "no limit": ([*HEATMAP, "--limit", "0"], "--limit: expected a whole number from 1"),
    "bad device": ([*HEATMAP, "--device", "toaster"], "--device: expected a device"),
    "form of model": ([*HEATMAP, "--model", "resnet50"], "--model: expected a model as timm/NAME"),
    "no model file": ([*HEATMAP, "--model", "nots.py:build"], "--model: expected a Python file"),
    "no factory": ([*HEATMAP, "--model", "nets.py:nature"], "natural"),
    "no weights": ([*HEATMAP, "--weights", "w.safetensors"], "--weights: expected a file at w.safetensors"),
    "other weights": ([*HEATMAP, "--weights", "digits.npz"], "--model with --weights: expected"),
    "no data": ([*HEATMAP, "--data", "nothing"], "--data: expected a folder of images or an .npz file at nothing"),
    "no images": ([*HEATMAP, "--data", "nets.py"], "--data: expected"),
    "no labels": ([*HEATMAP, "--data", "photos/a"], "give --labels predicted"),
    "several sizes": ([*HEATMAP, "--data", "photos"], "--crop"),
    "grey model": ([*HEATMAP, "--data", "photos", "--crop", "8"], "--data: expected a model of colour images"),
    "resize alone": ([*HEATMAP, "--resize", "9"], "--crop with --resize"),
    "resize below crop": ([*HEATMAP, "--resize", "7", "--crop", "8"], "--resize no smaller than --crop"),
    "mean alone": ([*HEATMAP, "--mean", "0.5"], "--mean and --std together"),
    "size": ([*HEATMAP, "--size", "9"], "--size from 1 to the image's 8 x 8"),
    "negative eps": ([*HEATMAP, "--eps", "-1"], "--eps"),
    "stem": ([*HEATMAP, "--share-stem"], "--no-clip"),
    "layer": ([*HEATMAP, "--layers", "9"], "--layers: expected a layer of the model"),
    "convention": ([*HEATMAP, "--convention", "mine"], "--convention: expected a convention named"),
    "family": (["filter-curve", *MODEL, "--kind", "lo"], "--kind: expected a mask of"),
    "family twice": (["filter-curve", *MODEL, "--kind", "low", "yin_low"], "--kind once"),
    "bandwidth": (["filter-curve", *MODEL, "--kind", "low", "--bandwidths", "9"], "--bandwidths: expected an integer"),
    "norm": (["noise-curve", *MODEL, "--norm", "-1"], "--norm"),
    "share": (["dominant-frequencies", *MODEL, "--share", "0"], "--share above 0"),
    "criterion": (["critical-band", *MODEL, "--criterion", "2"], "--criterion between 0 and 1"),
    "energy": (["downsampling", *MODEL, "--energy", "2"], "--energy between 0 and 1"),
    "fraction": (["adversarial-spectrum", *MODEL, "--eps", "8/x"], "--eps: expected a number or a fraction"),
    "radius": (["adversarial-spectrum", *MODEL, "--eps", "0"], "positive radius --eps"),
    "baseline": (["corruption-report", *MODEL, "--baseline-weights", "x"], "--baseline with --baseline-weights"),
    "folder": (["corruption-report", *MODEL, "--folder", "nowhere"], "--folder"),
    "limit of folder": (["corruption-report", *MODEL, "--folder", "photos", "--limit", "3"], "no --limit with"),
    "no corruption": (["difference-spectrum", "--data", "photos"], "--corruption --against"),
    "counts": (["difference-spectrum", "--data", "photos", "--against", "digits.npz"], "--against digits.npz"),
    "input size": (["singular-values", "--model", "nets.py:natural"], "--input-size C H W"),
    "no result": (["report", "missing.npz"], "missing.npz"),
    "not a result": (["report", "digits.npz"], "digits.npz"),
    "merged name": (["merge", "a.npz", "--out", "b.png"], "--out as FILE.npz"),
    "nothing to repeat": (["repeat", "missing.npz"], "missing.npz"),
    "out is a file": ([*HEATMAP, "--out", "nets.py"], "--out: expected a folder"),
    "checkpoint": ([*HEATMAP, "--checkpoint", "other.npz"], "--checkpoint: expected"),
    "data as checkpoint": ([*HEATMAP, "--checkpoint", "digits.npz"], "--checkpoint: expected"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_a_mistake_ends_in_one_line_that_names_its_word(case, job, capsys):
    words, expected = REFUSALS[case]
    said = refused(words, capsys)
    assert expected in said and said.startswith("fastfreq")
    assert "Preprocessing" not in said and "`" not in said.replace("`fastfreq", "")
    assert not files(".") or set(files(".")) == {"digits.npz", "other.npz"}


def test_traceback_shows_where_a_refusal_came_from(job, capsys):
    assert main([*HEATMAP, "--size", "9", "--traceback"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("error", [TypeError, KeyError, RuntimeError, AssertionError, ValueError], ids=str)
def test_a_bug_keeps_its_traceback(error, job, monkeypatch):
    def fail(*_, **__):
        raise error("something else")

    monkeypatch.setitem(vars(ff), "heatmap", fail)
    with pytest.raises(error, match="something else"):
        main(HEATMAP)


def test_a_bug_in_the_model_keeps_its_traceback(job):
    with pytest.raises(KeyError, match="a key that is not there") as caught:
        main([*HEATMAP, "--model", "nets.py:broken"])
    assert str(caught.traceback[-1].path).endswith("nets.py") and "bug" in caught.value.__notes__[0]


def test_warnings_are_lines(job, capsys):
    np.savez("grey.npz", images=np.full((40, 1, 8, 8), 0.5, np.float32), labels=np.arange(40) % 10)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main([*HEATMAP, "--data", "grey.npz"]) == 0
    said = capsys.readouterr().err
    assert "fastfreq heatmap: warning: the model is right on" in said and "(--mean and --std)" in said
    assert "UserWarning" not in said


def test_ctrl_c_says_where_the_checkpoint_is(job, monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setitem(vars(ff), "heatmap", stop)
    assert main([*HEATMAP, "--checkpoint", "half.npz"]) == 130
    assert "the checkpoint is half.npz, nothing is in it yet" in capsys.readouterr().err
    assert main(HEATMAP) == 130
    assert "with --checkpoint FILE" in capsys.readouterr().err


# ---------------------------------------------------------------- never over another's result
def test_the_default_folder_is_the_models_and_never_another_runs(job, capsys):
    assert main([*HEATMAP, "--quiet"]) == 0
    assert main([*HEATMAP, "--quiet"]) == 0  # the same again
    assert main([*HEATMAP, "--eps", "2"]) == 0
    assert "heatmap-nets.py-natural holds another run; this one goes to" in capsys.readouterr().out
    assert main([*HEATMAP, "--data", "other.npz", "--quiet"]) == 0
    assert main([*HEATMAP, "--model", "nets.py:adversarial", "--quiet"]) == 0
    home = Path("fastfreq-report")
    name = "heatmap-nets.py-natural"
    folders = ["heatmap-nets.py-adversarial", name, f"{name}-2", f"{name}-3"]
    assert sorted(path.name for path in home.iterdir()) == folders
    assert [ff.load(home / f"{name}{i}" / f"{name}.npz").eps for i in ("", "-2", "-3")] == [2.5, 2, 2.5]
    assert main([*HEATMAP, "--eps", "1", "--force", "--quiet"]) == 0
    assert ff.load(home / name / f"{name}.npz").eps == 1


def test_other_weights_and_other_images_under_the_same_names_are_another_run(job):
    assert main([*HEATMAP, "--quiet"]) == 0
    Path("other.npz").rename("digits.npz")
    assert main([*HEATMAP, "--quiet"]) == 0
    Path("nets.py").write_text(NETS.replace('load_network("natural")', 'load_network("gaussian")'))
    assert main([*HEATMAP, "--quiet"]) == 0
    assert len(list(Path("fastfreq-report").iterdir())) == 3


def test_two_runs_into_one_folder_keep_both_results(job, capsys):
    for words in (HEATMAP, [*HEATMAP, "--model", "nets.py:adversarial"], [*HEATMAP, "--shard", "0/2"]):
        assert main([*words, "--out", "out", "--quiet"]) == 0
    names = {"heatmap-nets.py-adversarial", "heatmap-nets.py-natural", "heatmap-nets.py-natural-0-of-2"}
    assert {Path(name).stem for name in files("out")} == {Path(name).stem for name in files("out", ".html")} == names
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(vars(ff), "heatmap", lambda *_, **__: seen.append(1))
        said = refused([*HEATMAP, "--eps", "2", "--out", "out"], capsys)
    assert "--out: expected names that no other run has" in said and "--force" in said and not seen
    assert main([*HEATMAP, "--eps", "2", "--out", "out", "--force", "--quiet"]) == 0
    assert ff.load("out/heatmap-nets.py-natural.npz").eps == 2


def test_a_name_that_a_run_has_taken_is_left_to_it(job, monkeypatch):
    """Two runs that overlap go to two folders."""
    measure = ff.heatmap

    def slow(*arguments, **settings):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(vars(ff), "heatmap", measure)
            assert main([*HEATMAP, "--eps", "1", "--quiet"]) == 0
        return measure(*arguments, **settings)

    monkeypatch.setitem(vars(ff), "heatmap", slow)
    assert main([*HEATMAP, "--quiet"]) == 0
    name = "heatmap-nets.py-natural"
    assert ff.load(f"fastfreq-report/{name}/{name}.npz").eps == 2.5
    assert ff.load(f"fastfreq-report/{name}-2/{name}.npz").eps == 1


def test_a_name_that_a_run_takes_at_the_same_moment_is_left_to_it(job, monkeypatch, capsys):
    """Between one's look at the folder and its first file there."""
    announce = _measure.Measure._announce

    def late(*arguments):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_measure.Measure, "_announce", announce)
            assert main([*HEATMAP, "--eps", "1", "--quiet"]) == 0

    monkeypatch.setattr(_measure.Measure, "_announce", late)
    assert "--out: expected a name that no other run has" in refused([*HEATMAP, "--quiet"], capsys)
    name = "heatmap-nets.py-natural"
    assert ff.load(f"fastfreq-report/{name}/{name}.npz").eps == 1 and not Path(f"fastfreq-report/{name}-2").exists()


# ---------------------------------------------------------------- merge, report, repeat
def test_shards_merge_to_the_whole_and_open_in_a_page(job, capsys):
    for i in range(2):
        assert main([*HEATMAP, "--shard", f"{i}/2", "--quiet"]) == 0
    folder = Path("fastfreq-report/heatmap-nets.py-natural")  # shards of one run share it
    parts = [str(folder / name) for name in files(str(folder))]
    assert len(parts) == 2 and main(["merge", *parts, "--out", "merged.npz"]) == 0
    assert main([*HEATMAP, "--out", "whole", "--quiet"]) == 0
    merged, whole = ff.load("merged.npz"), ff.load("whole/heatmap-nets.py-natural.npz")
    np.testing.assert_array_equal(merged.wrong.unpack(), whole.wrong.unpack())
    assert "--shard" not in merged.details["command"] and merged.details["merged"] == "2 shards"
    assert main(["repeat", "merged.npz"]) == 0
    assert "same figures again" in capsys.readouterr().out
    assert main(["merge", *parts, "--out", "merged.npz"]) == 0
    other = [*HEATMAP, "--eps", "1", "--out", "one", "--quiet"]
    assert main(other) == 0
    assert "--force" in refused(["merge", "one/heatmap-nets.py-natural.npz", "--out", "merged.npz"], capsys)
    assert "one kind" in refused(["merge", parts[0], _noise(), "--out", "x.npz"], capsys)


def _noise() -> str:
    words = ["noise-curve", *MODEL, "--norm", "2", "--kind", "low", "--bandwidths", "2", "--batch-size", "64"]
    assert main([*words, "--out", "noise", "--quiet"]) == 0
    return "noise/noise-curve-nets.py-natural-yin-low.npz"


def test_a_result_says_what_repeats_it(job):
    words = [*HEATMAP, "--limit", "30", "--mean", "0.1", "--std", "0.9", "--out", "out", "--quiet"]
    assert main(words) == 0
    details = ff.load("out/heatmap-nets.py-natural.npz").details
    assert details["model"] == "nets.py:natural" and details["data"] == "digits.npz" and details["limit"] == "30"
    assert details["mean"] == "0.1" and details["std"] == "0.9" and len(details["data_sha256"]) == 64
    assert details["fastfreq"] == ff.__version__ and details["torch"] == str(torch.__version__)
    assert details["numpy"] == np.__version__
    page = Path("out/heatmap-nets.py-natural.html").read_text()
    assert details["command"] in page and details["data_sha256"] in page


def test_the_same_figures_again_is_a_command_that_runs(job, capsys):
    noise = _noise()
    assert main(["repeat", noise, "--out", "again"]) == 0
    said = capsys.readouterr().out
    assert "--norm 2" in said and "the same figures again, to the last bit" in said
    assert ff.load(f"again/{Path(noise).name}").accuracy.tolist() == ff.load(noise).accuracy.tolist()
    Path("other.npz").rename("digits.npz")
    assert main(["repeat", noise]) == 1
    said = capsys.readouterr().out
    assert "accuracy: " in said and "data_sha256" in said
    assert not list(Path("fastfreq-report").glob("*")) if Path("fastfreq-report").exists() else True


def test_results_that_no_command_made_are_not_repeated(job, capsys):
    images, labels = demo.load_digits()
    ff.noise_curve(demo.load_network("natural"), images[:9], labels[:9], norm=2, bandwidths=[2]).save("own.npz")
    assert "names no command" in refused(["repeat", "own.npz"], capsys)
    for command in ("rm -rf .", "fastfreq report", "fastfreq merge a b --out c", "fastfreq"):
        result = ff.load("own.npz")
        result.details["command"] = command
        result.save("own.npz")
        assert "expected a result" in refused(["repeat", "own.npz"], capsys)


def test_pages_of_results_do_not_take_each_others_place(job, capsys):
    noise = _noise()
    assert main([*HEATMAP, "--out", "out", "--quiet"]) == 0
    heat = "out/heatmap-nets.py-natural.npz"
    for results in ([noise], [heat], [noise], [noise, heat, heat]):
        assert main(["report", *results, "--quiet"]) == 0
    pages = sorted(Path().glob("fastfreq-report*/report.html"))
    assert [str(page.parent) for page in pages] == ["fastfreq-report", "fastfreq-report-2", "fastfreq-report-3"]
    text = pages[2].read_text()
    assert "Error at every frequency" in text and "Accuracy under filtered noise" in text
    assert "nets.py:natural (heatmap-nets.py-natural)" in text
    assert "--force" in refused(["report", heat, "--out", "fastfreq-report"], capsys)


def test_the_built_in_example(job, monkeypatch, capsys):
    few = [part[:50] for part in demo.load_digits()]
    monkeypatch.setattr(demo, "load_digits", lambda: few)
    assert main(["report", "--out", "page"]) == 0
    page = Path("page/report.html").read_text()
    assert all(name in page for name in demo.NETWORKS) and "fastfreq report" in page
    assert ff.load("page/natural.npz").n_images == 50 and "page/report.html" in capsys.readouterr().out


def test_without_matplotlib_figures_are_saved_all_the_same(job, monkeypatch, capsys):
    monkeypatch.delattr(ff, "report", raising=False)
    monkeypatch.setitem(sys.modules, "fastfreq.report", None)
    assert main([*HEATMAP, "--out", "out"]) == 0
    assert "no page: " in capsys.readouterr().out and files("out") == ["heatmap-nets.py-natural.npz"]

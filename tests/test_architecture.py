"""How the house is built: what no import rule and no type checker says."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import fastfreq as ff
from fastfreq import cli
from fastfreq.report import kinds
from fastfreq.results import registry
from fastfreq.results.result import Result
from tests.contract.table import BY_NAME

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "numpy", "numba", "matplotlib", "triton", "timm", "torchvision", "PIL", "pandas", "scipy", "sklearn"}
# kinds that no measurement of images or of a model makes by itself
PARTS = {
    "layer_singular_values": "one layer of singular_values",
    "latent_edit": "what one edit made of a few images",
    "linear_frequency_principle": "a prediction from weights' statistics, of functions of few variables",
    "high_frequency_share": "of functions of few variables",
    "torus_flow": "of functions on the torus, without a model",
    "tangent_kernel_decay": "of any network at a few inputs, whatever they are",
    "frequency_order": "of networks of its own",
    "frequency_history": "what a FrequencyTracker recorded of a training",
    "measurement_history": "what it watched",
    "relu_transform": "of a network on a line or plane of its inputs, whatever they are",
    "activation_decay": "of functions of one variable",
}
# kinds of `fastfreq.training` that make and train networks of their own
EXPERIMENTS = {
    "sinusoid_learning", "parameter_robustness", "manifold_learning", "manifold_classification", "label_noise",
    "kernel_learning", "delta_fit", "neighbour_spectra", "single_layer_training", "transfer_learning",
}  # fmt: skip


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}}, sep=chr(0))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split("\0"))


# ---------------------------------------------------------------- imports
@pytest.mark.parametrize(
    "statement",
    [
        "import fastfreq; dir(fastfreq)",
        "import fastfreq.cli, contextlib\nwith contextlib.suppress(SystemExit): fastfreq.cli.main(['--help'])",
        "import fastfreq.cli; fastfreq.cli._parser()",  # the words of every verb
    ],
    ids=["import", "help", "words"],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(statement):
    assert not loaded_by(statement) & HEAVY


def test_measuring_needs_no_extra():
    extras = HEAVY - {"torch", "numpy", "triton", "numba"}  # torch itself may look for triton
    loaded = loaded_by("import fastfreq; fastfreq.heatmap; fastfreq.bottleneck")
    assert "torch" in loaded and not (loaded - loaded_by("import torch")) & extras


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """What runs when a module is imported: no functions, nothing for type checkers alone."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from statements(node.orelse)
            continue
        yield node
        for name in ("body", "orelse", "finalbody", "handlers"):
            inner = getattr(node, name, [])
            yield from statements([s for each in inner for s in (each.body if name == "handlers" else [each])])


def imported(module: str, path: Path, modules: dict[str, Path]) -> set[str]:
    """Modules of the toolkit that a module names when it is imported."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()
    for node in statements(ast.parse(path.read_text()).body):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            names = {f"{source}.{alias.name}" for alias in node.names}
            found |= names & modules.keys()
            found |= {source} if names - modules.keys() else set()
    return found & modules.keys()


def test_imports_have_no_circles(tmp_path):
    def order(root: Path, top: str) -> list[str]:
        files = {".".join(p.relative_to(root).with_suffix("").parts): p for p in sorted((root / top).rglob("*.py"))}
        modules = {name.removesuffix(".__init__"): path for name, path in files.items()}
        return list(TopologicalSorter({m: imported(m, p, modules) for m, p in modules.items()}).static_order())

    assert len(order(ROOT, "fastfreq")) > 100 and len(order(ROOT / "kernels", "fastfreq_kernels")) > 20
    for name, text in {
        "a": "from . import b",
        "b": "try:\n  from .a import c\nfinally:\n  pass",
        "__init__": "",
    }.items():
        (tmp_path / "circle").mkdir(exist_ok=True)
        (tmp_path / "circle" / f"{name}.py").write_text(text)
    with pytest.raises(CycleError):
        order(tmp_path, "circle")


# ---------------------------------------------------------------- one of each
@pytest.mark.parametrize("kind", [kind.name for kind in registry.KINDS])
def test_every_kind_has_a_room_of_its_name_everywhere(kind):
    assert registry.result_class(kind).kind == kind
    assert callable(registry.plotter(kind))
    assert kinds.TITLES[kind]
    if kind in PARTS:
        return
    assert kinds.NOTES[kind].strip()
    if kind in EXPERIMENTS:
        assert callable(getattr(ff.training, kind))
        return
    verb = kind.replace("_", "-")
    assert verb in cli.VERBS and importlib.util.find_spec(f"fastfreq.cli.{kind}") is not None
    assert kind in BY_NAME and callable(getattr(ff, kind))


def test_everything_by_kind_is_of_a_kind():
    names = {kind.name for kind in registry.KINDS}
    assert kinds.TITLES.keys() == names and kinds.NOTES.keys() <= names
    assert BY_NAME.keys() == names - PARTS.keys() - EXPERIMENTS
    others = {"train_demo", "merge", "report", "repeat"}
    assert {verb.replace("-", "_") for verb in cli.VERBS} == BY_NAME.keys() | others


# ---------------------------------------------------------------- the public surface
def public() -> dict[str, object]:
    found = {name: getattr(ff, name) for name in ff.__all__}
    for room in ("layers", "training"):
        found |= {f"{room}.{name}": getattr(getattr(ff, room), name) for name in getattr(ff, room).__all__}
    return found


def test_no_call_has_more_than_twelve_parameters():
    kinds_of_words = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    for name, value in public().items():
        if callable(value) and not (isinstance(value, type) and issubclass(value, Result)):  # measurements make those
            own = [p for p in inspect.signature(value).parameters.values() if p.kind not in kinds_of_words]
            assert len(own) <= 12, name


def test_public_names_are_listed_once_and_typed():
    """What is loaded by name is what editors see."""
    assert len(set(ff.__all__)) == len(ff.__all__) and set(ff.__all__) == ff._HOMES.keys() | ff._MODULES.keys()
    tree = ast.parse(Path(ff.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        a.asname or a.name for node in block.body if isinstance(node, ast.Import | ast.ImportFrom) for a in node.names
    }
    assert seen == set(ff.__all__)


def test_the_hugging_face_name_stays_free():
    for folder in ("kernels", "tests", "benchmarks"):
        assert not (ROOT / folder / "__init__.py").exists()


def test_every_public_name_exists_and_is_documented():
    for name, value in public().items():
        assert not callable(value) or value.__doc__, name


def test_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == ff.__version__
    assert f"\nversion: {ff.__version__}\n" in (ROOT / "CITATION.cff").read_text()


@pytest.mark.parametrize("folder", ["fastfreq", "kernels"])
def test_files_stay_readable(folder):
    long = {str(path): n for path in (ROOT / folder).rglob("*.py") if (n := len(path.read_text().splitlines())) > 420}
    assert not long

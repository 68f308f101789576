from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import fastfreq as ff

ROOT = Path(__file__).parents[1]


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}; import sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_is_light():
    heavy = {"matplotlib", "triton", "timm", "torchvision", "PIL", "pandas", "scipy", "sklearn"}
    # torch itself may look for triton; what counts is what fastfreq adds
    assert not (loaded_by("import fastfreq") - loaded_by("import torch")) & heavy


def test_the_hugging_face_name_stays_free():
    for folder in ("kernels", "tests", "benchmarks"):
        assert not (ROOT / folder / "__init__.py").exists()


def test_every_public_name_exists_and_is_documented():
    for name in ff.__all__:
        value = getattr(ff, name)
        assert not callable(value) or value.__doc__, name


def test_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == ff.__version__


@pytest.mark.parametrize("folder", ["fastfreq", "kernels"])
def test_files_stay_readable(folder):
    long = {str(path): n for path in (ROOT / folder).rglob("*.py") if (n := len(path.read_text().splitlines())) > 420}
    assert not long

"""What tests of several operations share: Triton's interpreter and its compiler, each in a process of its own.

Both start once tests are collected and run beside the others; what waits for them is moved to the end.
"""

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
TARGETS = ("cuda 90", "cuda 80", "hip gfx942")  # of all but the first one launch of each kernel is usual
_WAITING = ("run_under_the_interpreter", "rows")  # fixtures


def _interpreter_is_missing():
    """Why there is none, or an empty string."""
    if importlib.util.find_spec("triton") is None:
        return "needs triton"
    release = [int(part) for part in re.findall(r"\d+", importlib.metadata.version("triton"))[:2]]
    if release < [3, 7] and np.lib.NumpyVersion(np.__version__) >= "2.4.0":
        return "the interpreter of triton 3.6 takes scalars in a way that numpy 2.4 refuses"
    return ""


class _Process:
    """One that runs beside the tests; what it prints, and a file that it writes."""

    def __init__(self, command, folder=None, **environment):
        self._shared = folder is not None  # another worker may wait for it
        folder = folder or Path(tempfile.mkdtemp())
        self.file, self._printed, self._code = folder / "written", folder / "printed", None
        settings = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | environment
        with self._printed.open("w") as printed:
            command = [sys.executable, *command, self.file]
            self._process = subprocess.Popen(command, env=settings, cwd=ROOT, stdout=printed, stderr=subprocess.STDOUT)

    def written(self):
        """The file, once the process is through; its last words where it failed to write one."""
        self._process.wait()
        assert self.file.exists(), self._printed.read_text()[-6000:]
        return self.file.read_text()

    def end(self):
        if not self._shared:
            self._process.kill()
        self._process.wait()


class _Another:
    """The process of another worker of this run."""

    def __init__(self, folder):
        self._folder = folder

    def written(self):
        """As of `_Process`."""
        for _ in range(6000):
            if (self._folder / "written").exists():
                return (self._folder / "written").read_text()
            printed = self._folder / "printed"
            if printed.exists() and "Traceback" in (said := printed.read_text()):
                raise RuntimeError(said[-6000:])
            time.sleep(0.1)
        raise TimeoutError("expected another worker to compile the launches within ten minutes, it did not")

    def end(self):
        pass


class _Processes:
    """Those of one run of pytest: asked for again, the same answer."""

    def __init__(self, config):
        self._kept, cache = {}, getattr(config, "cache", None)
        self._folder = str(cache.mkdir("triton")) if cache else tempfile.mkdtemp()  # what did not change is kept

    def interpreter(self, files):
        """One process for these files, or the one that has them."""
        select = "triton and not under_the_interpreter and not cannot_run"
        command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", select, *files, "--junitxml"]
        if not set(files) <= self._kept.keys():
            self._kept |= dict.fromkeys(files, _Process(command, TRITON_INTERPRET="1"))
        return self._kept[files[0]]

    def compiler(self, *options):
        """The process that compiles all launches."""
        if options not in self._kept:
            command = [HERE / "_compile_all.py", *TARGETS, *options, "--to"]
            run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
            folder = Path(tempfile.gettempdir(), f"fastfreq-{run}{''.join(options)}") if run else None
            try:
                if folder:
                    folder.mkdir()
                self._kept[options] = _Process(command, folder, TRITON_CACHE_DIR=self._folder)
            except FileExistsError:  # one worker compiles for all
                self._kept[options] = _Another(folder)
        return self._kept[options]

    def end(self):
        for process in self._kept.values():
            process.end()


_KEY = pytest.StashKey()


def pytest_configure(config):
    config.stash[_KEY] = _Processes(config)


def pytest_unconfigure(config):
    config.stash[_KEY].end()


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: any(name in _WAITING for name in getattr(item, "fixturenames", ())))


def pytest_collection_finish(session):
    """Start what will be waited for; workers of xdist start theirs when they are asked."""
    config = session.config
    if config.option.collectonly or hasattr(config, "workerinput") or os.environ.get("TRITON_INTERPRET") == "1":
        return
    waiting = [(item.fixturenames, item.path) for item in session.items if hasattr(item, "fixturenames")]
    files = sorted({str(path) for names, path in waiting if "run_under_the_interpreter" in names})
    if files and not _interpreter_is_missing():
        config.stash[_KEY].interpreter(files)
    if any("rows" in names for names, _ in waiting):
        config.stash[_KEY].compiler()


@pytest.fixture
def run_under_the_interpreter(request):
    """Run the tests of a file whose names hold "triton" in Triton's interpreter."""
    if _interpreter_is_missing():
        pytest.skip(_interpreter_is_missing())

    def run(file):
        cases = ElementTree.fromstring(request.config.stash[_KEY].interpreter([str(file)]).written()).iter("testcase")
        own = [case for case in cases if case.get("classname").endswith(f".{Path(file).stem}")]
        bad = [(case.get("name"), child.tag, child.text) for case in own for child in case if child.tag != "system-out"]
        assert own and not bad, bad[:5]

    return run


@pytest.fixture(scope="session")
def compiled_launches(request):
    """What `_compile_all.py` finds, as JSON text."""
    return lambda *options: request.config.stash[_KEY].compiler(*options).written()

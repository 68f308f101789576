"""Changes that tests once did not notice, each with the tests that do: `python tests/proofs/mutate.py --named`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Change:
    """One text in place of another in a module."""

    name: str
    module: str
    before: str
    after: str
    tests: tuple[str, ...]


def _uncompared(name: str, module: str, field: str, *fields: str) -> Change:
    """A result that merges whatever `fields` are; stands before the line of `field`."""
    method = (
        f"    def _check_same(self, other, names):\n"
        f"        super()._check_same(other, [n for n in names if n not in {fields!r}])\n\n"
    )
    tests = ("tests/contract/test_merging.py", "-k", module.split("/")[2].removesuffix(".py"))
    return Change(name, module, field, method + field, tests)


def _domain(module: str, stream: str) -> Change:
    tests = ("tests/test_streams.py",)
    return Change(f"domain of {stream} is 0", module, f'streams.domain("{stream}")', "0", tests)


CHANGES = (
    Change(
        "labels keep their order when heat maps merge",
        "fastfreq/results/result.py",
        "folds.join_images(x, y, order)",
        'folds.join_images(x, y, np.arange(len(order)) if name == "labels" else order)',
        ("tests/contract/test_merging.py", "-k", "heatmap"),
    ),
    _uncompared(
        "weights of critical_band", "fastfreq/inputs/critical_band/result.py", "    bands: FloatArray = same()", "model"
    ),
    _uncompared(
        "weights of feature_spectra",
        "fastfreq/inputs/feature_spectra/result.py",
        "    asked: tuple[str, ...] = same()",
        "model",
    ),
    _uncompared(
        "weights of dominant_frequencies",
        "fastfreq/inputs/dominant_frequencies/result.py",
        "    size: tuple[int, int] = same()",
        "model",
    ),
    _uncompared(
        "settings of component_curves",
        "fastfreq/inputs/component_curves.py",
        "    inclusive: bool = same()",
        "inclusive",
        "clip",
    ),
    Change(
        "Wald's interval for paired differences",
        "fastfreq/vocabulary/statistics.py",
        "dtype=np.float64) + 0.5\n    c = np.asarray(only_second, dtype=np.float64) + 0.5\n"
        "    n = np.asarray(count, dtype=np.float64) + 2",
        "dtype=np.float64)\n    c = np.asarray(only_second, dtype=np.float64)\n"
        "    n = np.asarray(count, dtype=np.float64)",
        ("tests/test_statistics.py",),
    ),
    Change(
        "all domains are 0",
        "fastfreq/vocabulary/streams.py",
        "    return DOMAINS[name]",
        "    return 0",
        ("tests/test_streams.py",),
    ),
    _domain("fastfreq/inputs/noise_curve.py", "noise_curve"),
    _domain("fastfreq/inputs/critical_band/measurement.py", "critical_band"),
    _domain("fastfreq/attacks.py", "pgd_start"),
    _domain("fastfreq/inputs/post_averaging.py", "post_averaging"),
    _domain("fastfreq/inputs/augmentation.py", "augmentation"),
    _domain("fastfreq/inputs/corruption_sources.py", "corruptions"),
    Change(
        "cat is bounded by its largest part",
        "fastfreq/layers/lipschitz/_rules.py",
        'return together(log for log in call.logs["tensors"] if log is not None)',
        'return max(log for log in call.logs["tensors"] if log is not None)',
        ("tests/test_lipschitz.py",),
    ),
    Change(
        "equal_energy_rings: not from the middle of a distance",
        "fastfreq/vocabulary/masks.py",
        "middle = np.cumsum(each) - each / 2",
        "middle = np.cumsum(each) - each",
        ("tests/test_masks.py",),
    ),
    Change(
        "equal_energy_rings: zero frequency counts",
        "fastfreq/vocabulary/masks.py",
        "    energy[0, 0] = 0\n",
        "",
        ("tests/test_masks.py",),
    ),
    Change(
        "equal_energy_rings: circles for diamonds",
        "fastfreq/vocabulary/masks.py",
        '_l1_distances(shape) if distance == "l1" else _squares(shape)',
        "_squares(shape)",
        ("tests/test_masks.py",),
    ),
)


def try_all(root: Path, tried: Callable[[Path, str, str, list[list[str]]], bool]) -> int:
    """How many changes no test notices, each said; a change that does not apply, or tests that fail anyway, raise."""
    survivors = 0
    for change in CHANGES:
        text = (root / change.module).read_text()
        if change.before not in text:
            raise AssertionError(f"expected {change.before!r} in {change.module}")
        tests = [list(change.tests)]
        if tried(root, change.module, text, tests):
            raise AssertionError(f"expected {tests} to pass without a change")
        noticed = tried(root, change.module, text.replace(change.before, change.after), tests)
        survivors += not noticed
        print(f"{'noticed ' if noticed else 'SURVIVED'}: {change.name}", flush=True)
    print(f"{len(CHANGES)} changes, {survivors} survived")
    return survivors

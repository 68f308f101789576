"""Launch settings, measured on this card: a table, and `_configs.py` as it would be with the best of them.

    export PYTHONPATH=.:kernels PYTHONUNBUFFERED=1 TRITON_CACHE_DIR=/tmp/triton
    mkdir -p "$OUT"; timeout 400 python3 benchmarks/gpu/tune.py --out "$OUT" 2>&1 | tee "$OUT/tune.log"

Writes OUT/tuned.json after each operation (setting -> milliseconds of every value, the chosen one, the card) and
OUT/_configs.py, which a person looks at, formats and commits. The same measurements give the same file, byte for byte.
A value is chosen if it is 3 % faster than the one that stands and gives the same answer; one that does not compile,
needs more than the card has or spills registers is not. `--dry` tries two values of a few settings in Triton's
interpreter.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import sys
import time
import warnings
from pathlib import Path
from typing import Any

SECONDS = 60.0  # of one operation, compilation included
GAIN = 0.97  # of the time with the value that stands
DRY = ("fourier_signs", "conv_symbols")


def main() -> int:
    """Tune, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=360)
    parser.add_argument("--only", default="", help="operations, by how their names begin, with commas between")
    parser.add_argument("--dry", action="store_true")
    asked = parser.parse_args()
    if asked.dry:
        importlib.import_module("prove").interpret()
    sys.path.append(str(Path(__file__).parents[1]))

    import torch
    from fastfreq_kernels import _configs
    from knobs import works
    from proving import Proof

    if not asked.dry and not torch.cuda.is_available():
        print("expected a CUDA device, found none; --dry tries the command")
        return 1
    warnings.simplefilter("ignore")
    proof = Proof(asked.out / "tuned.json", "cpu" if asked.dry else "cuda", asked.dry, asked.seconds)
    wanted = DRY if asked.dry else tuple(word for word in asked.only.split(",") if word)
    text = Path(_configs.__file__).read_text()
    for work in works():
        if not wanted or work.name.startswith(wanted):
            proof.phase(f"tune {work.name}", SECONDS, lambda p, w=work: tune(p, w))
    text = rewritten(text, proof.rows, "a dry run" if asked.dry else torch.cuda.get_device_name())
    (asked.out / "_configs.py").write_text(text)
    changed = [name for name, row in proof.rows.items() if row["chosen"] != row["stood"]]
    print(f"{len(proof.rows)} settings, changed: {', '.join(changed) or 'none'}; exit code {proof.code}")
    return proof.code


def tune(proof: Any, work: Any) -> None:
    """Setting by setting, the others at their best so far."""
    call = work.call(proof.device, proof.dry)
    truth = call()
    for knob in work.knobs:
        stood = knob.get()
        values = sorted({*knob.values, stood})
        if proof.dry:
            values = sorted({stood, values[0]})
        found = {value: _measured(proof, knob, value, call, truth, work.allowed) for value in values}
        times = {value: ms for value, ms in found.items() if isinstance(ms, float)}
        best = min(times, key=lambda value: (times[value], value), default=stood)
        chosen = best if times.get(best, 1.0) < GAIN * times.get(stood, float("inf")) else stood
        knob.set(chosen)
        ms = {str(value): round(ms, 5) if isinstance(ms, float) else ms for value, ms in found.items()}
        proof.row(str(knob), stood=stood, chosen=chosen, call=work.name, ms=ms)


def _measured(proof: Any, knob: Any, value: Any, call: Any, truth: Any, allowed: float) -> float | str:
    """Milliseconds of the call with a value, or why it will not do."""
    from proving import relative

    knob.set(value)
    try:
        spilled = _spills(call)
        if spilled:
            return f"spills {spilled}"
        error = relative(call(), truth)
        if not error <= allowed:
            return f"differs by {error:.2g}"
        if proof.dry:
            begin = time.perf_counter()
            call()
            return 1e3 * (time.perf_counter() - begin)
        return proof.ms(call, repeats=15, seconds=0.5)
    except TimeoutError:
        raise
    except Exception as failed:  # noqa: BLE001 - a tile that is too large fails in many ways
        return f"{type(failed).__name__}: {failed}"[:120]


def _spills(call: Any) -> int:
    """Bytes that the kernels of a call spill, as the compiler of this card says."""
    from fastfreq_kernels import _launch

    original, found = _launch.Launch.__call__, [0]

    def counting(launch: Any) -> None:
        compiled = launch.kernel[launch.grid](**launch.arguments, **launch.options)
        found.append(getattr(compiled, "n_spills", 0) or 0)

    _launch.Launch.__call__ = counting
    try:
        call()
    finally:
        _launch.Launch.__call__ = original
    return max(found)


# ---------------------------------------------------------------- the file
def rewritten(text: str, rows: dict[str, dict[str, Any]], card: str) -> str:
    """`_configs.py` with the chosen values, and the card in place of "not yet measured on any GPU"."""
    for name in sorted({key.partition("[")[0] for key in rows}):
        chosen = {key: row["chosen"] for key, row in rows.items() if key.partition("[")[0] == name}
        text = _constant(text, name, chosen, card) if name in chosen else _table(text, name, chosen, card)
    return text


def _constant(text: str, name: str, chosen: dict[str, Any], card: str) -> str:
    value = chosen[name]
    shown = f"{value >> 20} << 20" if value >= 1 << 20 and value % (1 << 20) == 0 else str(value)
    pattern = rf"^({re.escape(name)} = )[^#\n]*?(  #.*)?$"

    def line(match: re.Match[str]) -> str:
        comment = re.sub(r"(not yet measured on any GPU|measured on [^;]*)$", f"measured on {card}", match[2] or "")
        return f"{match[1]}{shown}{comment}"

    found, count = re.subn(pattern, line, text, flags=re.MULTILINE)
    assert count == 1, f"expected one line '{name} = ...' in _configs.py, got {count}"
    return found


def _table(text: str, name: str, chosen: dict[str, Any], card: str) -> str:
    """A dict of dicts, keyed by dtype and by side or tile; what was measured of it stands in the line before."""
    from fastfreq_kernels import _configs

    node = next(n for n in ast.parse(text).body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == name)
    table = {
        str(dtype): {str(place): value for place, value in row.items()} for dtype, row in vars(_configs)[name].items()
    }
    which = []
    for key, value in chosen.items():
        dtype, place = re.findall(r"\[(.*?)\](?=\[|$)", key)
        table[dtype][place] = value
        which.append(f"{dtype.removeprefix('torch.')} {place}")
    inner = [f"    {d}: {{" + ", ".join(f"{p}: {v}" for p, v in row.items()) + "}," for d, row in table.items()]
    rows, said = text.splitlines(), "# Measured on "
    assert node.end_lineno is not None
    first = node.lineno - 1
    first -= rows[first - 1].startswith(said)
    rows[first : node.end_lineno] = [f"{said}{card}: {', '.join(sorted(which))}.", f"{name} = {{", *inner, "}"]
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())

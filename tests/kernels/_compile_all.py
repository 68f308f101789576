"""Compile every kernel, as it is launched, for GPUs that are not there, and print what came out as JSON.

The cases come from `cases()` of every `launches_<operation>.py` beside this file: pairs (name, call), where the call is
one of the public function at sizes that are used. It runs the host code of `_triton.py` as on a GPU, but launches are
kept and compiled instead of run: for the first target all, for the others of most kernels one. With `--every` all for
all, also from its `more_cases()`, if any.

Run in its own process, without TRITON_INTERPRET: `python tests/kernels/_compile_all.py 'cuda 90' ...`, with
`--only OPERATION` to compile the launches of one operation.
"""

import argparse
import importlib
import itertools
import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

import torch
import triton
from fastfreq_kernels import _dispatch, _launch
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

PREFIX = "launches_"
ONE_TARGET = "sm_90 only"  # how the names of launches end that are tried on such GPUs and nowhere else
TYPES = {
    torch.float64: "*fp64",
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.uint8: "*u8",
    torch.int8: "*i8",
    torch.int32: "*i32",
    torch.int64: "*i64",
}


def collected(only=None, every=False):
    """(operation, name, launch) of every operation's cases, or of one's; of launches that compile alike the first."""
    kept = []
    _launch.Launch.__call__ = lambda launch: kept.append(launch)
    # on tensors of the CPU, what an operation does on a GPU; nothing is computed, so nothing may be looked at
    _dispatch.choose = lambda backend, device, **_: "interpreter"
    _dispatch._check_interpreter = lambda: None
    seen = set()
    for file in sorted(Path(__file__).parent.glob(f"{PREFIX}{only or '*'}.py")):
        module = importlib.import_module(file.stem)
        more = getattr(module, "more_cases", tuple) if every else tuple
        for name, call in itertools.chain(module.cases(), more()):
            kept.clear()
            call()
            for launch in kept:
                operation = launch.kernel.__module__.split(".")[1]
                key = (launch.kernel.__name__, repr(specialised(launch)), repr(launch.options))
                if (only in (None, operation)) and key not in seen:
                    seen.add(key)
                    yield operation, name, launch


def specialised(launch):
    """(signature, constants, attributes), as Triton specialises: 1 is a constant, multiples of 16 are known."""
    kernel, signature, constants, attributes = launch.kernel, {}, {}, {}
    fixed = {p.name: (p.is_constexpr, p.do_not_specialize) for p in kernel.params}
    for i, name in enumerate(kernel.arg_names):
        value, (constant, plain) = launch.arguments[name], fixed[name]
        aligned = value.data_ptr() if isinstance(value, torch.Tensor) else value
        if constant or (type(value) is int and value == 1 and not plain):
            signature[name], constants[name] = "constexpr", value
            continue
        if isinstance(value, torch.Tensor):
            signature[name] = TYPES[value.dtype]
        elif isinstance(value, float):
            signature[name] = "fp32"
        else:
            signature[name] = "i32" if -(2**31) <= value < 2**31 else "i64"
        if not isinstance(value, float) and aligned % 16 == 0 and not plain:
            attributes[(i,)] = [["tt.divisibility", 16]]
    return signature, constants, attributes


def compiled(launch, target):
    """The kernel for these arguments."""
    signature, constants, attributes = specialised(launch)
    source = ASTSource(fn=launch.kernel, signature=signature, constexprs=constants, attrs=attributes)
    return triton.compile(source, target=target, options=launch.options)


def registers_of_cubin(cubin):
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        text = subprocess.run([tool, "-res-usage", file], check=True, capture_output=True, text=True).stdout
    found = {key: int(re.search(rf"\b{key}:(\d+)", text)[1]) for key in ("REG", "STACK", "LOCAL")}
    return found["REG"], found["STACK"] + found["LOCAL"]


def row(target, operation, name, launch):
    """What the compiled launch needs, as one row of the table."""
    backend, architecture = target.split()
    cuda = backend == "cuda"
    found = compiled(launch, GPUTarget(backend, int(architecture) if cuda else architecture, 32 if cuda else 64))
    asm = found.asm
    if cuda:
        registers, spilled = registers_of_cubin(asm["cubin"])
        wide = len(re.findall(r"st\.global\.v4\.b32", asm["ptx"]))
        narrow = len(re.findall(r"st\.global\.", asm["ptx"])) - wide
    else:
        registers = int(re.search(r"\.vgpr_count:\s*(\d+)", asm["amdgcn"])[1])
        spilled = sum(int(v) for v in re.findall(r"\.vgpr_spill_count:\s*(\d+)", asm["amdgcn"]))
        wide = len(re.findall(r"(?:global|buffer)_store_dwordx4", asm["amdgcn"]))
        narrow = len(re.findall(r"(?:global|buffer)_store_", asm["amdgcn"])) - wide
    return {
        "target": target, "operation": operation, "function": launch.kernel.__name__, "kernel": name,
        "warps": launch.warps, "registers": registers, "spilled": spilled, "wide_stores": wide,
        "narrow_stores": narrow, "shared": found.metadata.shared,
        "conversions": asm["ttgir"].count("ttg.convert_layout"),
    }  # fmt: skip


def main():
    assert os.environ.get("TRITON_INTERPRET") != "1"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--only")
    parser.add_argument("--every", action="store_true")
    parser.add_argument("--to", type=Path)
    arguments = parser.parse_args()
    cases = list(collected(arguments.only, arguments.every))
    few = cases
    if not arguments.every:  # of each kernel one launch, and all of the one whose stores are looked at
        one = {case[2].kernel: case for case in cases}
        few = [case for case in cases if case is one[case[2].kernel] or case[0] == "fourier_perturb"]
    jobs = [(target, *case) for i, target in enumerate(arguments.targets) for case in (few if i else cases)]
    jobs = [job for job in jobs if job[0] == "cuda 90" or not job[2].endswith(ONE_TARGET)]
    found = json.dumps([row(*job) for job in jobs])
    if arguments.to:
        part = arguments.to.with_suffix(".part")
        part.write_text(found)
        part.replace(arguments.to)  # whoever waits for the file reads all of it
    else:
        print(found)


if __name__ == "__main__":
    main()

"""Compile every kernel, as it is launched, for GPUs that are not there, and print what came out as JSON.

Run in its own process, without TRITON_INTERPRET: `python tests/kernels/_compile_all.py 'cuda 90' ...`.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from fastfreq_kernels.fourier_perturb import _triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

TYPES = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.uint8: "*u8",
    torch.int8: "*i8",
    torch.int64: "*i64",
}


def cases():
    """(name, launch): what the engine launches at CIFAR's and ImageNet's sizes, and an odd one."""
    for side, n, f in ((32, 256, 4), (224, 16, 8)):
        for images, dtype, channels_last in (
            (torch.float32, torch.bfloat16, True),
            (torch.uint8, torch.bfloat16, True),
            (torch.float32, torch.float32, False),
            (torch.bfloat16, torch.float16, False),
        ):
            kinds = [str(t).removeprefix("torch.") for t in (images, dtype)]
            name = (
                f"perturb {side}x{side} {kinds[0]} to {kinds[1]} {'channels_last' if channels_last else 'contiguous'}"
            )
            tables, perturb = launches(n, side, side, f, images, dtype, channels_last)
            yield name, perturb
        yield f"tables {side}x{side}", tables
    yield (
        "perturb 33x47 float32 to bfloat16 channels_last",
        launches(2, 33, 47, 3, torch.float32, torch.bfloat16, True)[1],
    )
    out = torch.empty(512, 256, 3, dtype=torch.int8)
    ids, frequencies = torch.arange(256), torch.zeros(512, 2, dtype=torch.int64)
    yield "signs", _triton.signs_launch(out, ids, frequencies, 224, 224, 2**40)


def launches(n, h, w, f, images, dtype, channels_last):
    c = 3
    shape = (f * n, h, w, c) if channels_last else (f * n, c, h, w)
    pixels = torch.zeros(n, c, h, w, dtype=images)
    if channels_last:
        pixels = pixels.contiguous(memory_format=torch.channels_last)
    return _triton.launches(
        torch.empty(shape, dtype=dtype),
        pixels,
        torch.zeros(f, 2, dtype=torch.int64),
        torch.ones(f, n, c, dtype=torch.int8),
        4.0,
        0.7,
        True,
        torch.zeros(c),
        torch.ones(c),
        channels_last,
    )


def compiled(launch, target):
    """The kernel, specialised as Triton specialises these arguments: 1 is a constant, multiples of 16 are known."""
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
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    return triton.compile(source, target=target, options=launch.options)


def registers_of_cubin(cubin):
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        text = subprocess.run([tool, "-res-usage", file], check=True, capture_output=True, text=True).stdout
    found = {key: int(re.search(rf"\b{key}:(\d+)", text)[1]) for key in ("REG", "STACK", "LOCAL")}
    return found["REG"], found["STACK"] + found["LOCAL"]


def main(targets):
    assert os.environ.get("TRITON_INTERPRET") != "1"
    rows = []
    for backend, architecture in (t.split() for t in targets):
        target = GPUTarget(
            backend, int(architecture) if backend == "cuda" else architecture, 32 if backend == "cuda" else 64
        )
        for name, launch in cases():
            asm = compiled(launch, target).asm
            if backend == "cuda":
                registers, spilled = registers_of_cubin(asm["cubin"])
                wide = len(re.findall(r"st\.global\.v4\.b32", asm["ptx"]))
                narrow = len(re.findall(r"st\.global\.", asm["ptx"])) - wide
            else:
                registers = int(re.search(r"\.vgpr_count:\s*(\d+)", asm["amdgcn"])[1])
                spilled = sum(int(v) for v in re.findall(r"\.vgpr_spill_count:\s*(\d+)", asm["amdgcn"]))
                wide = len(re.findall(r"(?:global|buffer)_store_dwordx4", asm["amdgcn"]))
                narrow = len(re.findall(r"(?:global|buffer)_store_", asm["amdgcn"])) - wide
            rows.append(
                {"target": f"{backend} {architecture}", "kernel": name, "warps": launch.warps, "registers": registers,
                 "spilled": spilled, "wide_stores": wide, "narrow_stores": narrow,
                 "conversions": asm["ttgir"].count("ttg.convert_layout")}
            )  # fmt: skip
    print(json.dumps(rows))


if __name__ == "__main__":
    main(sys.argv[1:])

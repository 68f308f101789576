"""What Triton kernels share on the device: exact angles, and words of Philox."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def turn(k, x, side):
    """Cos and sin of 2 pi k x / side, to one ulp: integers down to an eighth of a turn, then a short series."""
    r = (k * x) % side
    quarter = (8 * r + side) // (2 * side)  # nearest quarter turn, 0 .. 4
    a = (4 * r - quarter * side).to(tl.float32) * 1.5707963267948966 / side.to(tl.float32)
    s = a * a
    cos = 1.0 + s * (-0.5 + s * (1 / 24 + s * (-1 / 720 + s * (1 / 40320))))
    sin = a + a * s * (-1 / 6 + s * (1 / 120 + s * (-1 / 5040 + s * (1 / 362880))))
    odd = quarter % 2 == 1
    flip_cos = (quarter == 1) | (quarter == 2)
    flip_sin = (quarter == 2) | (quarter == 3)
    turned_cos = tl.where(odd, sin, cos)
    turned_sin = tl.where(odd, cos, sin)
    return tl.where(flip_cos, -turned_cos, turned_cos), tl.where(flip_sin, -turned_sin, turned_sin)


@triton.jit
def words(seed, stream, image, channel, index):
    """Philox at the counter of `_philox.counter`, from int64 values."""
    return tl.philox(seed, _low(image), _low(image >> 32), _low(channel + stream), _low(index))


@triton.jit
def _low(value):
    return (value & 0xFFFFFFFF).to(tl.uint32)


INTERPRETED = not isinstance(turn, triton.JITFunction)  # TRITON_INTERPRET=1 when triton was imported

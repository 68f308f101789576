"""Philox4x32-10, the counter-based generator of every random number here: equal on all devices, bit for bit.

The key is the seed, 64 bits. The counter, 128 bits in four words, says which number it is; all layouts are this one:

    word 0    image id, low 32 bits
    word 1    image id, high 32 bits: an id is any int64
    word 2    bit 31        kind: 0 signs, 1 Gaussian values
              bits 16..30   domain, 0 .. 32767: what the numbers are for, so that two uses under one seed share none
              bits 0..15    channel, 0 .. 65535
    word 3    signs: 65536 (ky mod h) + (kx mod w), sides below 65536
              Gaussian values: pixel div 4 in row-major order, below 2^30; its four words give four values

No field reaches into another, so different (kind, domain, image, channel, index) never share a counter.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["CHANNELS", "DOMAINS", "GAUSSIAN", "MASK", "SIGNS", "counter", "philox", "signed", "stream"]

MASK = 0xFFFFFFFF
SIGNS, GAUSSIAN = 0, 1  # kinds
CHANNELS, DOMAINS = 1 << 16, 1 << 15  # how many there are
_M0, _M1 = 0xD2511F53, 0xCD9E8D57  # multipliers
_W0, _W1 = 0x9E3779B9, 0xBB67AE85  # Weyl key increments


def stream(kind: int, domain: int) -> int:
    """Word 2 of channel 0."""
    return kind << 31 | domain << 16


def counter(stream: int, image_ids: Tensor, channel: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four words, from broadcastable int64 tensors."""
    return image_ids & MASK, (image_ids >> 32) & MASK, channel + stream, index


def signed(seed: int) -> int:
    """The same 64 bits as the signed integer that operators take."""
    return seed if seed < 2**63 else seed - 2**64


def philox(seed: int, counter: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four output words, as int64 in 0 .. 2^32 - 1.

    Args:
        seed: 64-bit key, signed or not.
        counter: four broadcastable int64 tensors, each in 0 .. 2^32 - 1.

    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 4.3.
    """
    k0, k1 = seed & MASK, (seed >> 32) & MASK
    c0, c1, c2, c3 = counter
    for _ in range(10):
        # int64 products wrap modulo 2^64, so both 32-bit halves are those of the unsigned product
        p0, p1 = c0 * _M0, c2 * _M1
        c0, c1, c2, c3 = ((p1 >> 32) & MASK) ^ c1 ^ k0, p1 & MASK, ((p0 >> 32) & MASK) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + _W0) & MASK, (k1 + _W1) & MASK
    return c0, c1, c2, c3

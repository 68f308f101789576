"""As `_triton_memory`, with a third of its traffic: one real matrix for R and J, and updates of several steps at once.

`fold_kernel` writes M = R + J of H = R + i J, R symmetric and J antisymmetric, so M holds both (see `_triton`):
    H v  =  (M q + M^T p) / 2 + i (M p - M^T q) / 2        v = a + i b, p = a + b, q = a - b
Sums across rows are the price. Tiles are (parts, rows, wide): `wide` is what one warp loads at a time, warps lie along
rows, so a sum across a row needs no other warp. Each tile of columns keeps its own partial sums of rows, which every
program adds in the order of tiles: the same bits however many programs share a matrix, as in `_triton_memory`.

`held_kernel` holds back the updates of HELD steps, S being the matrix before them:
    H v  =  S v - sum over held x, w of x (w^H v) + w (x^H v)
and subtracts all of them, in the pass of the step that has no room for one more. All other passes only read.

Per matrix of side c, b bytes a number:
    L2           (1 + 1 / HELD) c^3 b / 3    against 4 c^3 b / 3 of `_triton_memory`
    held         3 HELD c^2 b     vectors, from L1 or L2
    arithmetic   8 c^3 / 3 FMA    and 2 log2(32) shuffles of a warp for each row of a tile
    latency      c steps of four reductions and three barriers, one of them between programs
Speed not yet measured on any GPU.

Source: Dongarra, Sorensen, Hammarling 1989 (updates held back, as LAPACK's latrd).
"""

# pyright: reportArgumentType=false, reportGeneralTypeIssues=false
# (Triton's annotations give neither what a product with a scalar returns nor `static_range` a type)

from __future__ import annotations

import triton
import triton.language as tl

from ._triton_steps import normalise, reflector, store_reflector, wait_for_all


@triton.jit
def fold_kernel(matrices, packed, scales, c, stride, TILE: tl.constexpr):
    """R + J over their scale from a packed matrix: one tile on or below the diagonal, and its mirror image."""
    tiles = tl.cdiv(c, TILE)
    n, tile = (tl.program_id(0) // (tiles * tiles)).to(tl.int64), tl.program_id(0) % (tiles * tiles)
    if tile % tiles <= tile // tiles:
        i, j = tile // tiles * TILE + tl.arange(0, TILE), tile % tiles * TILE + tl.arange(0, TILE)
        inside, mirrored = (i < c)[:, None] & (j < c)[None, :], (j < c)[:, None] & (i < c)[None, :]
        here, there = packed + n * c * c + i[:, None] * c + j[None, :], packed + n * c * c + j[:, None] * c + i[None, :]
        real, imaginary = tl.load(here, mask=inside, other=0), tl.trans(tl.load(there, mask=mirrored, other=0))
        scale = tl.load(scales + n)
        scale = tl.where(scale == 0, 1, scale)
        real, imaginary = real / scale, tl.where(i[:, None] > j[None, :], imaginary, 0) / scale
        M = matrices + n * c * stride
        below = inside & (i[:, None] >= j[None, :])
        tl.store(M + i[:, None] * stride + j[None, :], real + imaginary, mask=below)
        mirrored = mirrored & (i[None, :] > j[:, None])
        tl.store(M + j[:, None] * stride + i[None, :], tl.trans(real - imaginary), mask=mirrored)


@triton.jit(do_not_specialize=["begin", "end"])
def held_kernel(
    diagonal, squares, scales, phases, reflectors, matrices, products, vectors, arrived, c, stride, programs,
    begin, end, SIDE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDE: tl.constexpr,
    HELD: tl.constexpr, NEGLIGIBLE: tl.constexpr, KEEP: tl.constexpr, WAIT: tl.constexpr,
):  # fmt: skip
    """Steps `begin` to `end` of one matrix, which is overwritten; after the last T over its Frobenius norm."""
    TILES: tl.constexpr = SIDE // COLUMNS
    n, own = (tl.program_id(0) // programs).to(tl.int64), tl.program_id(0) % programs
    matrix, d, e = matrices + n * c * stride, diagonal + n * c, squares + n * c
    index = tl.arange(0, SIDE)
    inside = index < c
    # of this program: real parts of HELD reflectors x and their w, then imaginary parts, then the newest x
    held = vectors + tl.program_id(0).to(tl.int64) * ((4 * HELD + 2) * SIDE)
    imaginary = held + 2 * HELD * SIDE
    fresh = held + 4 * HELD * SIDE
    # of all that share the matrix, of two steps: M^T p, M^T q, then M p and M q, in turn, of each tile of columns
    products += n * (2 * (2 + 2 * TILES) * SIDE)
    which = tl.arange(0, 2 * HELD)
    other = (which + HELD) % (2 * HELD)  # the w of an x, the x of a w
    natural, partner = (which * SIDE)[:, None] + index[None, :], (other * SIDE)[:, None] + index[None, :]
    part, low, column = tl.arange(0, COLUMNS // WIDE), tl.arange(0, ROWS), tl.arange(0, WIDE)

    for k in range(begin, end):
        slot = (k + HELD - 1) % HELD  # of the newest reflector; those before it in this round are older
        new = products + k % 2 * ((2 + 2 * TILES) * SIDE)
        old = products + (1 - k % 2) * ((2 + 2 * TILES) * SIDE)
        known = inside & (index >= k)
        va, vb = tl.load(fresh + index), tl.load(fresh + SIDE + index)
        older = (which % HELD < slot)[:, None] & known[None, :]
        A, B = tl.load(held + partner, mask=older, other=0), tl.load(imaginary + partner, mask=older, other=0)
        real = tl.sum(A * va[None, :] + B * vb[None, :], axis=1)[:, None]
        imag = tl.sum(A * vb[None, :] - B * va[None, :], axis=1)[:, None]
        down_p = tl.load(old + index, mask=known, other=0, cache_modifier=".cg")
        down_q = tl.load(old + SIDE + index, mask=known, other=0, cache_modifier=".cg")
        across_p, across_q = tl.zeros((SIDE,), va.dtype), tl.zeros((SIDE,), va.dtype)
        for t in tl.static_range(TILES):
            partial, there = old + (2 + 2 * t) * SIDE + 2 * index, known & (t >= k // COLUMNS)
            across_p += tl.load(partial, mask=there, other=0, cache_modifier=".cg")
            across_q += tl.load(partial + 1, mask=there, other=0, cache_modifier=".cg")
        A, B = tl.load(held + natural, mask=older, other=0), tl.load(imaginary + natural, mask=older, other=0)
        ya = (across_q + down_p) * 0.5 - tl.sum(A * real - B * imag, axis=0)
        yb = (across_p - down_q) * 0.5 - tl.sum(A * imag + B * real, axis=0)
        length, product = tl.sum(va * va + vb * vb), tl.sum(va * ya + vb * yb)
        reflected = length > 0  # pyright: ignore[reportOperatorIssue]
        twice = tl.where(reflected, 2 / tl.where(reflected, length, 1), 0)
        half = product * twice * twice * 0.5
        at = slot * SIDE + index
        tl.store(held + at, va)
        tl.store(imaginary + at, vb)
        tl.store(held + HELD * SIDE + at, ya * twice - half * va)
        tl.store(imaginary + HELD * SIDE + at, yb * twice - half * vb)
        row = tl.load(matrix + k * stride + index, mask=known, other=0, cache_modifier=".cg")
        beside = tl.load(matrix + index * stride + k, mask=known, other=0, cache_modifier=".cg")
        tl.debug_barrier()

        pending = which % HELD <= slot
        real = tl.load(held + other * SIDE + k, mask=pending, other=0)
        imag = tl.load(imaginary + other * SIDE + k, mask=pending, other=0)
        below = tl.minimum(k + 1, c - 1)
        near = tl.load(held + which * SIDE + below, mask=pending, other=0)
        far = tl.load(imaginary + which * SIDE + below, mask=pending, other=0)
        right = tl.load(matrix + k * stride + below, cache_modifier=".cg")
        under = tl.load(matrix + below * stride + k, cache_modifier=".cg")
        head_a = tl.where(k + 1 < c, (under + right) * 0.5 - tl.sum(near * real + far * imag), 0)
        head_b = tl.where(k + 1 < c, (under - right) * 0.5 - tl.sum(far * real - near * imag), 0)
        mask = pending[:, None] & known[None, :]
        A, B = tl.load(held + natural, mask=mask, other=0), tl.load(imaginary + natural, mask=mask, other=0)
        a = (beside + row) * 0.5 - tl.sum(A * real[:, None] + B * imag[:, None], axis=0)
        b = (beside - row) * 0.5 - tl.sum(B * real[:, None] - A * imag[:, None], axis=0)
        if own == 0:
            tl.store(d + index, a, mask=index == k)
        later = inside & (index > k)
        a, b = tl.where(later, a, 0), tl.where(later, b, 0)
        a, b, phase_a, phase_b, square = reflector(a, b, head_a, head_b, index, k, c, NEGLIGIBLE)
        tl.store(fresh + index, a)
        tl.store(fresh + SIDE + index, b)
        if own == 0:
            tl.store(e + k, square)
            if KEEP:
                store_reflector(phases, reflectors, a, b, phase_a, phase_b, n, k, c, index, inside)
        tl.debug_barrier()

        full = slot == HELD - 1
        first = (k + 1) // COLUMNS
        for tile in range(first + (own - first % programs + programs) % programs, tl.cdiv(c, COLUMNS), programs):
            j = tile * COLUMNS + part[:, None, None] * WIDE + column[None, None, :]
            a_j, b_j = tl.load(fresh + j), tl.load(fresh + SIDE + j)
            sums_p = tl.zeros((COLUMNS // WIDE, ROWS, WIDE), va.dtype)
            sums_q = tl.zeros((COLUMNS // WIDE, ROWS, WIDE), va.dtype)
            across = new + (2 + 2 * tile) * SIDE
            i = (k + 1) // ROWS * ROWS + low[None, :, None]
            M = tl.load(matrix + i * stride + j, mask=(i > k) & (i < c) & (j < stride), other=0)
            for top in range((k + 1) // ROWS * ROWS, c, ROWS):
                i = top + low[None, :, None]
                cell = matrix + i * stride + j
                ahead = tl.load(cell + ROWS * stride, mask=(i + ROWS < c) & (j < stride), other=0)
                if full:
                    for h in range(0, HELD):
                        x_a, w_a = held + h * SIDE, held + (HELD + h) * SIDE
                        x_b, w_b = imaginary + h * SIDE, imaginary + (HELD + h) * SIDE
                        xa_j, xb_j, wa_j, wb_j = tl.load(x_a + j), tl.load(x_b + j), tl.load(w_a + j), tl.load(w_b + j)
                        M -= tl.load(x_a + i) * (wa_j - wb_j) + tl.load(x_b + i) * (wa_j + wb_j)
                        M -= tl.load(w_a + i) * (xa_j - xb_j) + tl.load(w_b + i) * (xa_j + xb_j)
                    here = (i > k) & (i < c) & (j < stride)
                    # column k, which another program may be about to read, stays as it was
                    M = tl.where(here & (j > k), M, tl.load(cell, mask=here, other=0))
                    tl.store(cell, M, mask=here)
                a_i, b_i = tl.load(fresh + i), tl.load(fresh + SIDE + i)
                sums_p += M * (a_i + b_i)
                sums_q += M * (a_i - b_i)
                across_a = tl.sum(tl.sum(M * (a_j + b_j), axis=0, keep_dims=True), axis=2, keep_dims=True)
                across_b = tl.sum(tl.sum(M * (a_j - b_j), axis=0, keep_dims=True), axis=2, keep_dims=True)
                both = tl.where(column[None, None, :] == 0, across_a, across_b)  # one store, in the layout of M
                tl.store(across + 2 * i + column[None, None, :], both, mask=(column < 2)[None, None, :] & (i >= 0))
                M = ahead
            down = new + tile * COLUMNS + part[:, None] * WIDE + column[None, :]
            tl.store(down, tl.sum(sums_p, axis=1))
            tl.store(down + SIDE, tl.sum(sums_q, axis=1))
        tl.debug_barrier()
        if WAIT:
            wait_for_all(arrived + n, (k + 1) * programs)

    if (own == 0) & (end == c):
        normalise(d, e, scales + n, index, inside)

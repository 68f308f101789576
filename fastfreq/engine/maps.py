"""What a layer returns, as maps: of convolutions, channels first or last, or tokens laid out on their grid."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

_MOST_PREFIX = 16  # tokens that may stand before the grid: one class token and registers
_MERGES = 5  # halvings of the grid in a hierarchical transformer


def as_maps(
    name: str, output: Tensor, shape: tuple[int, int], *, last: bool, grids: Sequence[tuple[int, int]] = ()
) -> tuple[Tensor, int]:
    """(maps (n, c, rows, columns), tokens dropped) of a layer's output.

    Args:
        name: of the layer.
        output: (n, c, h, w), (n, h, w, c) or tokens (n, t, c).
        shape: (h, w) of the image.
        last: whether an output with four axes is (n, h, w, c), see `map_layouts.channels_last`.
        grids: (rows, columns) that tokens may have, the first that fits is taken; none for the image's aspect ratio.

    Raises:
        ValueError: something else, or tokens that fit no grid.
    """
    if output.ndim == 4:
        return (output.permute(0, 3, 1, 2) if last else output), 0
    if output.ndim != 3:
        raise ValueError(
            f"expected layer {name!r} to return maps (n, c, h, w) or tokens (n, t, c), got {tuple(output.shape)}; "
            f"leave it out of `layers`"
        )
    rows, columns = _grid(name, output.shape[1], shape, grids)
    dropped = output.shape[1] - rows * columns
    return output[:, dropped:].transpose(1, 2).unflatten(2, (rows, columns)), dropped


def _grid(name: str, tokens: int, shape: tuple[int, int], grids: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """(rows, columns) of the largest grid that leaves at most 16 tokens before it."""
    h, w = shape
    if not grids:  # no patch embedding was found: any grid of the image's aspect ratio
        sides = ((rows, round(rows * w / h)) for rows in range(int(tokens**0.5 * max(1, h / w)) + 1, 0, -1))
        grids = [(rows, columns) for rows, columns in sides if columns and rows * w == columns * h]
    for rows, columns in grids:
        if 0 <= tokens - rows * columns <= min(_MOST_PREFIX, rows * columns - 1):
            return rows, columns
    tried = ", ".join(f"{rows} x {columns}" for rows, columns in grids[:4]) or "none"
    raise ValueError(
        f"expected the {tokens} tokens of layer {name!r} to be a grid after at most {_MOST_PREFIX} others, tried "
        f"{tried}; give `token_grid=(rows, columns)`"
    )


def patch_grids(net: nn.Module, shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Grids of the patch embedding and its halvings; none if the first convolution does not cut into patches."""
    first = next((m for m in net.modules() if isinstance(m, nn.Conv2d)), None)
    if first is None or first.kernel_size != first.stride or first.stride == (1, 1):
        return []
    rows, columns = (
        (n + 2 * p - k) // s + 1
        for n, p, k, s in zip(shape, _padding(first), first.kernel_size, first.stride, strict=True)
    )
    return [(-(-rows // 2**i), -(-columns // 2**i)) for i in range(_MERGES)]


def _padding(conv: nn.Conv2d) -> tuple[int, int]:
    return (0, 0) if isinstance(conv.padding, str) else (int(conv.padding[0]), int(conv.padding[1]))

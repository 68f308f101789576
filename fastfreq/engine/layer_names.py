"""Which layers a measurement watches: names as users give them, or the innermost blocks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn

__all__ = ["blocks", "checked", "of_use"]


def checked(layers: Sequence[str]) -> tuple[str, ...]:
    """Names as they were given.

    Raises:
        TypeError: something else than names.
        ValueError: a name twice.
    """
    some = isinstance(layers, Iterable) and not isinstance(layers, (str, bytes))
    if not some or not all(isinstance(name, str) for name in layers):
        raise TypeError(f"expected `layers` as a list of names, got {layers!r:.60}")
    if len(set(layers)) != len(layers):
        raise ValueError(f"expected `layers` each once, got {list(layers)}")
    return tuple(layers)


def blocks(net: nn.Module) -> tuple[str, ...]:
    """Innermost items of Sequentials and ModuleLists that have parts of their own; convolutions if there are none.

    Raises:
        ValueError: there are neither.
    """
    inside = [
        f"{prefix}.{name}" if prefix else name
        for prefix, holder in net.named_modules()
        if isinstance(holder, (nn.Sequential, nn.ModuleList))
        for name, item in holder.named_children()
        if any(True for _ in item.children()) and any(True for _ in item.parameters())
    ]
    innermost = [name for name in inside if not any(other.startswith(f"{name}.") for other in inside)]
    found = innermost or [name for name, m in net.named_modules() if name and isinstance(m, nn.Conv2d)]
    if not found:
        raise ValueError("expected a model with blocks or convolutions, found neither; name the `layers`")
    return tuple(found)


def of_use(name: str, count: int) -> str:
    """The name of a layer's first, second ... use in one pass: its own, then with the number."""
    return name if count == 1 else f"{name} (use {count})"

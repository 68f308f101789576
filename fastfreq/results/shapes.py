"""Shapes that arrays of a result, or of a record in one, must have together: a file can say anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fastfreq.vocabulary.sums import ExactSum


def check(holder: Any) -> None:
    """Refuse a holder whose arrays do not have the shapes that its class declares in `SHAPES`.

    There, a field has one word for each axis: a number is its length, "_" any length, and another word the length that
    the same word has in other fields; "*name", the last, stands for all axes that are left. Of a dict, every value has
    that shape; None has none, and a tuple one axis.

    Raises:
        ValueError: the first field of another shape.
    """
    known: dict[str, Any] = {}
    for name, declared in declared_of(type(holder)).items():
        for value in _arrays(getattr(holder, name)):
            shape = _shape(value)
            if not _bound(shape, declared.split(), known):
                where = ", ".join(f"{word} = {known[word]}" for word in declared.split() if word in known)
                raise ValueError(f"expected `{name}` of shape ({declared}){' with ' * bool(where)}{where}, got {shape}")


def declared_of(kind: type) -> dict[str, str]:
    """Field -> axes, of a class and those that it extends."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        own: Mapping[str, str] = vars(each).get("SHAPES", {})
        found |= own
    return found


def _arrays(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif value is not None:
        yield value


def _shape(value: Any) -> tuple[int, ...]:
    if isinstance(value, tuple):
        return (len(value),)
    return value.parts.shape[1:] if isinstance(value, ExactSum) else tuple(value.shape)


def _bound(shape: tuple[int, ...], words: list[str], known: dict[str, Any]) -> bool:
    """Whether a shape has these axes; words that are new take its lengths."""
    if words and words[-1].startswith("*"):
        rest = words.pop()
        if len(shape) < len(words) or known.setdefault(rest, shape[len(words) :]) != shape[len(words) :]:
            return False
        shape = shape[: len(words)]
    if len(shape) != len(words):
        return False
    return all(
        side == int(word) if word.isdecimal() else word == "_" or known.setdefault(word, side) == side
        for side, word in zip(shape, words, strict=True)
    )

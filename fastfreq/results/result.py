"""The result of a measurement: fields that say how they merge. Everything else is written here, once."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import codec, comparison, folds, registry, shapes, store, tables
from .folds import Fold, by_image, same, text
from .identity import Identity

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure

    from .comparison import Comparison


_WIDTH = 120  # of a line of a result's repr


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Result:
    """Base of all results. Subclasses are frozen dataclasses that declare each field with its fold.

    Attributes:
        details: name of the model as asked for, versions, what repeats the run: text for people.
        items: what fields `by_image` hold one entry of, which `ITEMS_ids` tell apart: images, or runs of a training.
    """

    kind: ClassVar[str] = ""
    items: ClassVar[str] = "image"
    details: dict[str, str] = text({})

    def __init_subclass__(cls, *, kind: str = "", **options: Any) -> None:
        super().__init_subclass__(**options)
        if kind:
            cls.kind = kind
            registry.register(cls)

    def __post_init__(self) -> None:
        self._check_shapes()

    # ---------------------------------------------------------------- fields
    @classmethod
    def _folds(cls) -> dict[str, Fold]:
        return folds.folds(cls)

    def _named(self, how: str) -> list[str]:
        return [name for name, fold in self._folds().items() if fold.how == how]

    @property
    def _ids(self) -> NDArray[np.int64]:
        return getattr(self, f"{self.items}_ids", np.zeros(0, np.int64))

    @property
    def n_images(self) -> int:
        """Number of images."""
        return len(self._ids) if self.items == "image" else 0

    def _check_shapes(self) -> None:
        """Refuse arrays that do not fit each other.

        Raises:
            ValueError: the first that does not.
        """
        shapes.check(self)
        declared = self._folds()
        n = len(self._ids)
        counts = {len(getattr(self, name)) for name in self._named("condition")}
        if len(counts) > 1:
            raise ValueError(f"expected as many of each of {self._named('condition')}, got {sorted(counts)}")
        m = counts.pop() if counts else None
        k = len(getattr(self, "classes", ()))
        for name, fold in declared.items():
            value = getattr(self, name)
            for part in value.values() if isinstance(value, dict) and fold.how not in ("same", "text") else [value]:
                self._check_shape(name, fold, part, n, m, k)

    def _check_shape(self, name: str, fold: Fold, value: Any, n: int, m: int | None, k: int) -> None:
        shape = getattr(value, "shape", None)
        if fold.how == "by_image" and (shape is None or shape[-1:] != (n,)):
            raise ValueError(f"expected `{name}` with {n} {self.items}s along its last axis, got shape {shape}")
        if fold.how == "by_class" and (shape is None or shape[:1] != (k,)):
            raise ValueError(f"expected `{name}` with {k} classes along its first axis, got shape {shape}")
        if fold.conditions is not None and fold.how != "condition" and m is not None:
            axis = fold.conditions
            if shape is None or len(shape) <= axis or shape[axis] != m:
                raise ValueError(f"expected `{name}` with {m} conditions along axis {axis}, got shape {shape}")

    # ---------------------------------------------------------------- merging
    def __add__(self, other: Self) -> Self:
        """Both shards together: other images under the same conditions, or other conditions on the same images.

        Counts are integers and sums are exact, so that any split and any order give the same result to the last bit.

        Raises:
            TypeError: results of different kinds, or of a kind that does not merge.
            ValueError: shards that measure different things, or overlap; the message says in what.
        """
        if type(self) is not type(other):
            raise TypeError(f"expected two results of one kind, got {type(self).__name__} and {type(other).__name__}")
        if f"{self.items}_ids" not in self._folds() and not self._named("union"):
            raise TypeError(f"expected results that merge, a {type(self).__name__} is whole")
        self.check_fits(other)
        if self._named("union"):
            return self._with_entries(other)
        keys = self._named("condition")
        if all(folds.equal(getattr(self, key), getattr(other, key)) for key in keys):
            return self._with_images(other)
        if np.array_equal(self._ids, other._ids):
            return self._with_conditions(other)
        raise ValueError(
            f"expected shards with the same {keys[0]} and other {self.items}s, or the same {self.items}s and other "
            f"{keys[0]}; "
            f"these differ in both: first merge the shards that share one of the two"
        )

    def check_fits(self, other: Self) -> None:
        """Refuse with a ValueError what cannot be added to this, whatever its images; the message says why."""
        for name in self._named("same"):
            conflict(name, getattr(self, name), getattr(other, name))
        for name, fold in self._folds().items():  # dicts of metrics and layers
            mine, theirs = getattr(self, name), getattr(other, name)
            added = fold.how in ("summed", "by_image", "by_class")
            if added and isinstance(mine, dict) and sorted(mine) != sorted(theirs):
                raise ValueError(f"expected two results with the same {name}, got {sorted(mine)}, {sorted(theirs)}")
        folds.check_layouts(self, other)

    def _with_images(self, other: Self) -> Self:
        check_other_images(self, other)
        order = np.argsort(np.concatenate([self._ids, other._ids]), kind="stable")
        merged: dict[str, Any] = {}
        for name, fold in self._folds().items():
            a, b = getattr(self, name), getattr(other, name)
            if fold.how == "by_image":
                merged[name] = folds.each(lambda x, y: folds.join_images(x, y, order), a, b)
            elif fold.how == "summed":
                merged[name] = folds.each(lambda x, y: x + y, a, b)
        if self._named("class"):
            (key,) = self._named("class")
            a, b = getattr(self, key), getattr(other, key)
            union = np.union1d(a, b)
            places = np.searchsorted(union, a), np.searchsorted(union, b), len(union)
            merged[key] = union
            for name in self._named("by_class"):
                merged[name] = folds.join_classes(getattr(self, name), getattr(other, name), *places)
        return dataclasses.replace(self, **merged)

    def _with_entries(self, other: Self) -> Self:
        merged: dict[str, Any] = {}
        for name in self._named("union"):
            a, b = getattr(self, name), getattr(other, name)
            common = [key for key in a if key in b]
            if common:
                raise ValueError(
                    f"expected shards of different {name}, {len(common)} are in both (the first: {common[0]})"
                )
            merged[name] = a | b
        return dataclasses.replace(self, **merged)

    def _with_conditions(self, other: Self) -> Self:
        for name, fold in self._folds().items():
            shared = fold.how in ("by_image", "summed", "by_class") and fold.conditions is None
            if shared and not folds.equal(getattr(self, name), getattr(other, name)):
                raise ValueError(f"expected shards of the same {self.items}s; their {name.replace('_', ' ')} differ")
        key = self._named("condition")[0]
        order = condition_order(key, getattr(self, key), getattr(other, key))
        merged: dict[str, Any] = {}
        for name, fold in self._folds().items():
            if fold.conditions is not None:
                axis = fold.conditions
                a, b = getattr(self, name), getattr(other, name)
                merged[name] = folds.each(lambda x, y, axis=axis: folds.join_conditions(x, y, axis, order), a, b)
        return dataclasses.replace(self, **merged)

    # ---------------------------------------------------------------- out of the toolkit
    def save(self, path: str | Path) -> None:
        """Write everything to an .npz without pickle, all or nothing."""
        header, arrays = codec.encode({f.name: getattr(self, f.name) for f in dataclasses.fields(self)})
        store.write_arrays(path, self.kind, header, arrays)

    @classmethod
    def from_arrays(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """What `save` wrote.

        Raises:
            ValueError: fields are missing, or do not fit each other.
        """
        fields = codec.decode(header, arrays)
        known = {f.name: f for f in dataclasses.fields(cls)}
        needed = {
            name
            for name, f in known.items()
            if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        }
        if not needed <= set(fields) <= set(known):
            wrong = sorted(needed - set(fields)) or sorted(set(fields) - set(known))
            raise ValueError(f"expected the fields of a {cls.__name__}, {wrong} are missing or unknown")
        codec.check_types(cls, fields)
        return cls(**fields)

    @classmethod
    def from_format_1(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """What version 0.1 wrote before results declared their folds."""
        raise ValueError(f"expected a {cls.kind} of format 2, got one of format 1")

    def table(self) -> list[dict[str, Any]]:
        """All figures, row by row, as plain Python values."""
        raise NotImplementedError

    def summary(self) -> list[dict[str, Any]]:
        """The figures in short; `table` unless a result has fewer."""
        return self.table()

    def headline(self) -> str:
        """The one line that matters most."""
        return ""

    def to_dataframe(self) -> pd.DataFrame:
        """`table` as a data frame."""
        return import_pandas().DataFrame(self.table())

    def to_xarray(self) -> xr.Dataset:
        """`table` as an xarray Dataset over its rows."""
        try:
            import xarray  # pyright: ignore[reportMissingImports]  # noqa: F401
        except ImportError as error:
            raise ImportError("expected xarray for a data set; pip install 'fastfreq[dataframe]' xarray") from error
        return self.to_dataframe().to_xarray()

    def plot(self, **options: Any) -> Figure:
        """The result as a matplotlib figure; `ax=` draws into yours where there is one panel."""
        return registry.plotter(self.kind)(self, **options)

    def __repr__(self) -> str:
        name = self.details.get("model", "")
        images = f"{self.n_images:,} images" if "image_ids" in self._folds() else ""
        first = ", ".join(part for part in (name, images) if part)
        lines = ": ".join(part for part in (f"<{type(self).__name__}", first) if part), ", ".join(self._shown())
        wide = [line for line in (lines[0], f" {lines[1]}" if lines[1] else "", f" {self.headline()}>") if line]
        return "\n".join(line if len(line) <= _WIDTH else line[: _WIDTH - 4] + " ..." for line in wide)

    def _shown(self) -> list[str]:
        """The settings that fit into a line, those of results inside too."""
        shown = []
        for key in self._named("same"):
            value = getattr(self, key)
            if isinstance(value, Result):
                shown += value._shown()
            elif isinstance(value, (bool, int, float, str)) or (isinstance(value, tuple) and 2 < len(str(value)) < 40):
                shown.append(f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}")
            elif isinstance(called := getattr(value, "name", None), str):
                shown.append(f"{key}={called}")
        return shown

    def _repr_html_(self) -> str:
        head, rows = tables.table_rows(self.summary()[:12])
        cells = "".join(f"<th>{html.escape(name)}</th>" for name in head)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        caption = html.escape(repr(self).splitlines()[0].lstrip("<"))
        return f"<table><caption>{caption}</caption><tr>{cells}</tr>{body}</table>"


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ImagesResult(Result):
    """A result over images.

    Attributes:
        image_ids: (n,) what identified each image, ascending: its place among all images.
        image_hashes: (n,) uint64 of each image's pixels; 0 where unknown (files of version 0.1).
    """

    SHAPES: ClassVar[dict[str, str]] = {"image_ids": "n", "image_hashes": "n"}

    image_ids: NDArray[np.int64] = by_image()
    image_hashes: NDArray[np.uint64] = by_image()

    def _check_shapes(self) -> None:
        """Refuse ids that are not ascending, an image twice would count twice, and classes other than the labels'."""
        super()._check_shapes()
        if not (np.diff(self.image_ids) > 0).all():
            raise ValueError("expected `image_ids` ascending, each once")
        for name in self._named("class"):
            if not np.array_equal(getattr(self, name), np.unique(self.__dict__["labels"])):
                raise ValueError(f"expected `{name}` to be those of `labels`, ascending, each once")


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ModelResult(ImagesResult):
    """A result of a model over images of one shape.

    Attributes:
        model: which model, and how it ran; None where unknown (files of version 0.1).
        shape: (c, h, w) of the images.
        labelled: "given", or "predicted" where the model's own predictions stood in for labels.
    """

    model: Identity | None = same()
    shape: tuple[int, int, int] = same()
    labelled: str = same("given")

    @staticmethod
    def _of_format_1(header: dict[str, Any], image_ids: NDArray[np.int64]) -> dict[str, Any]:
        """The fields of every result of a model, of a file that knows neither the model nor the images' pixels."""
        return {
            "details": dict(header["details"]),
            "model": None,
            "shape": tuple(header["shape"]),
            "image_ids": image_ids,
            "image_hashes": np.zeros(len(image_ids), np.uint64),
        }

    def arrange(self, values: ArrayLike) -> NDArray[np.float64]:
        """Values by condition as the result shows them."""
        return np.asarray(values, dtype=np.float64)

    def compare(self, other: Self) -> Comparison:
        """Paired comparison with another model on the same images under the same conditions.

        Raises:
            TypeError: results of different kinds, or without outcomes by image.
            ValueError: results that differ in images, labels, conditions, settings or precision.
        """
        return comparison.compare(self, other)


def conflict(name: str, a: Any, b: Any) -> None:
    """Refuse two values of a field that must be the same.

    Raises:
        ValueError: they differ; the message says how.
    """
    if isinstance(a, Identity) and isinstance(b, Identity):
        found = a.difference(b)
        if found is not None:
            raise ValueError(
                f"expected two results of one model, these have different {found}; results of two models are "
                f"compared with a.compare(b)"
            )
    elif name == "model" and (a is None or b is None):
        if (a is None) != (b is None):
            raise ValueError("expected two results that know their model, one is from a file of version 0.1")
    elif not folds.equal(a, b):
        values = "" if isinstance(a, (np.ndarray, dict)) else f", got {a} and {b}"
        raise ValueError(f"expected two results with the same {name}{values}")


def check_other_images(a: Any, b: Any) -> None:
    """Refuse shards with an image in common. Equal pixels under two ids are two images: data sets hold some twice.

    Raises:
        ValueError: they have one.
    """
    common = np.intersect1d(a._ids, b._ids)
    if len(common):
        ways = {"image": "give each shard its own `first_image`, or use `shard=(i, n)`"}
        raise ValueError(
            f"expected shards of different {a.items}s, {len(common)} {a.items} ids are in both (the first: "
            f"{common[0]}); {ways.get(a.items, f'give each {a.items} a number of its own')}"
        )


def condition_order(key: str, a: Any, b: Any) -> NDArray[np.int64]:
    """The order of a's and b's conditions together: ascending, as given where they are names.

    Raises:
        ValueError: a condition is in both.
    """
    if isinstance(a, tuple):
        twice = sorted(set(a) & set(b))
        order = np.arange(len(a) + len(b))
    else:
        both = np.concatenate([a, b])
        distinct, order = np.unique(both, axis=0, return_index=True)
        twice = list(range(len(both) - len(distinct)))
    if twice:
        raise ValueError(f"expected shards of different {key}, {len(twice)} are in both")
    return order


class Merger:
    """Results as they come -> one, with few copies: as in a binary counter, equal numbers are added to each other."""

    def __init__(self, add: Callable[[Any, Any], Any] = lambda a, b: a + b) -> None:
        self._add = add
        self._levels: list[Any] = []

    def add(self, result: Any) -> None:
        """Take in one result; interrupted, all the earlier ones are still there."""
        level = 0
        while level < len(self._levels) and self._levels[level] is not None:
            result = self._add(self._levels[level], result)
            level += 1
        self._levels[: level + 1] = [*[None] * level, result]

    def result(self) -> Any:
        """All of them, or None."""
        total = None
        for part in self._levels:
            if part is not None:
                total = part if total is None else self._add(part, total)
        return total


def import_pandas() -> Any:
    """pandas, or the way to it."""
    try:
        import pandas
    except ImportError as error:
        raise ImportError("expected pandas for a data frame; pip install 'fastfreq[dataframe]'") from error
    return pandas

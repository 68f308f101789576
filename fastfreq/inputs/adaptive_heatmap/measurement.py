"""A heat map that stops where it is precise enough: plans on one side, the engine's one loop on the other."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any, Literal, Unpack

import fastfreq_kernels as kernels
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from fastfreq.engine import sources
from fastfreq.engine.images import Chunk
from fastfreq.engine.measure import measure
from fastfreq.engine.measurement import Measurement
from fastfreq.engine.ranks import apart
from fastfreq.engine.run import RunOptions
from fastfreq.engine.session import Session
from fastfreq.inputs.heatmap.measurement import perturbed
from fastfreq.results.folds import Outcomes, by_image, condition, same
from fastfreq.results.result import ModelResult
from fastfreq.vocabulary import checks, conventions, streams
from fastfreq.vocabulary.conventions import Convention

from . import plans
from .arguments import half_width, seconds
from .controlled import Controlled, spread
from .result import AdaptiveHeatmap

Method = Literal["controls", "exact", "anytime"]
Target = Literal["images", "source"]

_CHUNK_BYTES = 64 << 20  # of images looked at together: those that lack the same frequencies are run together
_CONTROLS = 40  # frequencies that may become controls, half of which at most do
_TIED = 1e-30  # margin below zero of a wrong class whose logit is the true one's


def adaptive_heatmap(
    model: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    eps: float,
    precision_goal: float = 0.03,
    method: Method = "controls",
    whole_map: bool = False,
    target: Target = "images",
    budget: float | str | None = None,
    size: int | tuple[int, int] | None = None,
    convention: str | Convention = "common_signs",
    seed: int = 0,
    **run: Unpack[RunOptions],
) -> AdaptiveHeatmap:
    """Measure a Fourier heat map to a stated precision with as few forward passes as its intervals allow.

    What `heatmap` measures, but images come in a random order, and a frequency is evaluated on no more of them than
    its interval needs to be at most `precision_goal` to each side.

    - "exact": group-sequential, Clopper and Pearson's intervals for sampling without replacement. Coverage is at least
      95 % for every model and all images, computed for every possible count (`finite_samples.sequential`). It
      spends 4 p (1 - p) of the images of a fixed number, and about a tenth more for looking.
    - "controls": a pilot of 64 images, then a few frequencies on many images and all others on few, with what the
      former and the clean image predict of the latter (`controlled.Controlled`). The fewest passes. Its 95 % is that
      of large samples, no theorem: 95 % of the cells of three measured networks, 90 % of made outcomes of which a
      twentieth to a tenth is wrong: take "exact" there. It needs signs common to all frequencies to be worth it.
    - "anytime": intervals that hold at all moments at once, whatever makes you stop. For 0.03 a cell needs at most 1.5
      times the images that a fixed number needs of 1,000, 2.8 times of 10,000, 3.5 times with target="source".

    Args:
        model: as for `heatmap`.
        images: as for `heatmap`, of known number, and readable more than once.
        labels: as for `heatmap`.
        eps: as for `heatmap`.
        precision_goal: half-width of every interval, in 0 .. 0.5.
        method: "controls", "exact" or "anytime".
        whole_map: let 95 % be the confidence of all cells at once, by Bonferroni's inequality, not of each.
        target: what the intervals hold of: "images", the error on all images given, which `heatmap` would measure; or
            "source", the error on what they are a sample of, which all images together do not tell exactly.
        budget: seconds, or "90s", "10min", "2h": the map after that time, its intervals those of "anytime", which
            becomes the method. Of coarse grids of frequencies first. `.expected_passes`, in every file on disk, and
            `details["finish"]`, in seconds, say what `precision_goal` will take; by few images too little.
        size: as for `heatmap`.
        convention: as for `heatmap`; common signs are the default.
        seed: key of the random signs and of the order of the images.
        **run: `RunOptions`, without `shard` and `first_image`; processes of `torch.distributed` make the whole map
            each, and distributed=True is refused. `checkpoint` names a new file that holds a whole, valid
            result after every step; a measurement does not go on from it.

    Returns:
        An AdaptiveHeatmap: `.error`, `.low`, `.high`, `.count`, `.share_of_passes`.

    Raises:
        ValueError: a bad argument; the message says what was expected, what came and the way out.
        TypeError: an argument of the wrong type, or a model whose output holds no logits.
        FloatingPointError: logits that are NaN or infinite.

    Source: Yin et al. 2019 for the map; Waudby-Smith, Ramdas 2020 for sampling without replacement.
    """
    for name in ("shard", "first_image"):
        if name in run:
            raise TypeError(f"expected no `{name}`: which images a cell needs depends on all of them; use `heatmap`")
    if run.get("distributed") is True:
        raise ValueError(
            "expected `distributed` left out: which images a cell needs depends on all of them, so each process makes "
            "the whole map; share out a `heatmap` instead"
        )
    request = _Request(
        eps=checks.check_eps(eps),
        convention=conventions.resolve(convention),
        seed=checks.check_seed(seed),
        size=size,
        method="anytime" if budget is not None else method,
        precision_goal=half_width(precision_goal),
        whole_map=bool(whole_map),
        target=target,
        seconds=None if budget is None else seconds(budget),
    )
    return request.measured(model, images, labels, run)


# ---------------------------------------------------------------- rounds
@dataclasses.dataclass(frozen=True, kw_only=True)
class _Request:
    """What was asked for."""

    eps: float
    convention: Convention
    seed: int
    size: int | tuple[int, int] | None
    method: str
    precision_goal: float
    whole_map: bool
    target: str
    seconds: float | None
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if self.method not in ("controls", "exact", "anytime"):
            raise ValueError(f"expected a `method` 'controls', 'exact' or 'anytime', got {self.method!r}")
        if self.target not in ("images", "source"):
            raise ValueError(f"expected a `target` of 'images' or 'source', got {self.target!r}")

    def measured(self, model: nn.Module, images: Any, labels: Any, run: RunOptions) -> AdaptiveHeatmap:
        """Round after round until the plan is done, or the time."""
        started = time.monotonic()
        options = run.copy()
        out = None if options.get("checkpoint") is None else Path(str(options.pop("checkpoint"))).absolute()
        if out is not None and out.exists():
            raise ValueError(f"expected a new file for `checkpoint`, {out} exists; name another")
        if iter_once(images):
            raise ValueError("expected images that can be read more than once, got an iterator; make it a list")
        total, shape = _extent(images, labels)
        size = checks.check_size(self.size, shape[1:])
        frequencies = checks.check_frequencies(None, shape[1:], size)
        ranks = streams.generator("sampling", self.seed).permutation(total)
        found = _Found.empty(len(frequencies), ranks)
        plan = self._plan(frequencies, total)
        limit = None if self.seconds is None else started + self.seconds
        result: AdaptiveHeatmap | None = None
        with tqdm(unit="pass", unit_scale=True, desc="precision", disable=not options.get("progress")) as bar:
            while (counts := plan.next_counts(found.known)) is not None:
                kind = _LaterRound if found.known.counts.any() else _Round
                what = kind(self, size, frequencies, ranks, found.known.counts, counts)
                with apart():
                    each: _Outcomes = measure(what, model, images, labels, options)
                options["progress"] = False  # the first round has said what the model is worth; this bar goes on
                found = found.with_round(each, counts)
                result = self._result(plan, found, each, time.monotonic() - started)
                bar.total = result.expected_passes
                bar.set_postfix_str(f"± {result.half_width:.3f}", refresh=False)
                bar.update(result.passes - bar.n)
                if out is not None:
                    result.save(out)
                if limit is not None and time.monotonic() >= limit:
                    break
        assert result is not None, "every plan wants images first"
        return result

    def _plan(self, frequencies: NDArray[np.int64], total: int) -> plans.Plan:
        population = total if self.target == "images" else None
        confidence = 1 - (1 - self.confidence) / (len(frequencies) if self.whole_map else 1)
        if self.method == "exact":
            return plans.Exact(self.precision_goal, confidence, population)
        if self.method == "anytime":
            coarse = (
                [] if self.seconds is None else [np.flatnonzero((frequencies % s == 0).all(axis=1)) for s in (6, 3)]
            )
            return plans.Anytime(self.precision_goal, confidence, population, coarse=coarse)
        step = max(1, min(16, total // 250))
        order = spread(frequencies, _CONTROLS)
        return Controlled(self.precision_goal, confidence, population, order, step=step)

    def _result(self, plan: plans.Plan, found: _Found, each: _Outcomes, elapsed: float) -> AdaptiveHeatmap:
        estimate, low, high = plan.read(found.known)
        ranks, counts = found.ranks, found.known.counts
        population = len(ranks) if self.target == "images" else None
        later = plans.expected_counts(found.known, low, high, self.precision_goal, population)
        left = int((later - counts).sum() + later.max() - counts.max())
        said = {}
        if self.seconds is not None:  # a map that time may cut short says when it would be done
            whole = elapsed * (1 + left / max(found.passes, 1))
            said["finish"] = f"± {self.precision_goal:g} after about {whole:.3g} seconds in all, {elapsed:.3g} so far"
        tried = ranks[None, :] < counts[:, None]
        chosen = plan.controls[0] if isinstance(plan, Controlled) else []
        return AdaptiveHeatmap(
            details=each.details | said,
            model=each.model,
            shape=each.shape,
            labelled=each.labelled,
            image_ids=each.image_ids,
            image_hashes=each.image_hashes,
            **{f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("size", "seconds")},
            size=each.size,
            frequencies=each.frequencies,
            labels=each.labels,
            clean_wrong=(found.known.clean < 0)[ranks],
            tried=Outcomes.of(tried),
            wrong=Outcomes.of(found.known.wrong[:, ranks] & tried),
            estimates=estimate,
            lows=low,
            highs=high,
            controls=each.frequencies[chosen],
            passes=found.passes,
            expected_passes=found.passes + left,
        )


def iter_once(images: Any) -> bool:
    """Whether images can be read only once."""
    return hasattr(images, "__next__")


def _extent(images: Any, labels: Any) -> tuple[int, tuple[int, int, int]]:
    """How many images there are, read once where nothing else tells, and the (c, h, w) of the first."""
    batches = sources.batches(images, None if isinstance(labels, str) else labels)
    first = next(iter(batches), None)
    if first is None or not len(first[0]):
        raise ValueError("expected at least one image, got none")
    checks.check_images(first[0])
    c, h, w = (int(side) for side in first[0].shape[1:])
    total = batches.total
    return sum(len(batch) for batch, *_ in batches) if total is None else total, (c, h, w)


@dataclasses.dataclass(frozen=True)
class _Found:
    """What all rounds found, by rank, and the ranks (n,) of the images."""

    known: plans.Known
    ranks: NDArray[np.int64]
    passes: int

    @classmethod
    def empty(cls, cells: int, ranks: NDArray[np.int64]) -> _Found:
        n = len(ranks)
        nothing = plans.Known(
            np.zeros(cells, np.int64), np.zeros((cells, n), bool), np.zeros((cells, n), np.float16), np.zeros(n)
        )
        return cls(nothing, ranks, 0)

    def with_round(self, each: _Outcomes, counts: NDArray[np.int64]) -> _Found:
        """With what one more round found; that of earlier ones stays."""
        before = self.known.counts
        order = np.argsort(self.ranks)
        place = np.arange(len(order))
        new = (place[None] >= before[:, None]) & (place[None] < counts[:, None])
        wrong = np.where(new, each.wrong.unpack()[:, order], self.known.wrong)
        margins = np.where(new, each.margins[:, order], self.known.margins)
        fresh = (place >= before.max()) & (place < counts.max())
        clean = np.where(fresh, each.clean_margin[order], self.known.clean)
        predicted = len(order) if each.labelled == "predicted" else 0
        passes = self.passes + int((counts - before).sum()) + int(fresh.sum()) + predicted
        return _Found(plans.Known(counts, wrong, margins, clean), self.ranks, passes)


# ---------------------------------------------------------------- one round, as the engine sees it
@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class _Outcomes(ModelResult):
    """What one round found of all images; zeros where it did not look."""

    size: tuple[int, int] = same()
    frequencies: NDArray[np.int64] = condition()
    labels: NDArray[np.int64] = by_image()
    clean_margin: NDArray[np.float64] = by_image()
    wrong: Outcomes = by_image(conditions=0)
    margins: NDArray[np.float16] = by_image(conditions=0)


class _Round(Measurement):
    """The frequencies that each image lacks."""

    result, label = _Outcomes, "heat map"

    def __init__(
        self,
        request: _Request,
        size: tuple[int, int],
        frequencies: NDArray[np.int64],
        ranks: NDArray[np.int64],
        before: NDArray[np.int64],
        counts: NDArray[np.int64],
    ) -> None:
        self._request, self._size, self._frequencies = request, size, frequencies
        self._ranks, self._before, self._counts = ranks, before, counts
        self.metrics, self.numerics, self.activations = {}, {}, {}

    def settings(self, shape: tuple[int, int, int]) -> dict[str, Any]:
        """As in `Measurement`."""
        return {"size": self._size, "frequencies": self._frequencies}

    def passes(self, shape: tuple[int, int, int]) -> float:
        """As in `Measurement`: those of an average image."""
        clean = int(self._counts.max()) - int(self._before.max())
        return float((self._counts - self._before).sum() + clean) / len(self._ranks)

    def chunk_size(self, session: Session) -> int:
        """As in `Measurement`."""
        c, h, w = session.shape
        return max(session.pace.batch_size, _CHUNK_BYTES // (4 * c * h * w))

    def start(self, session: Session) -> None:
        """As in `Measurement`."""
        self._tensor = torch.from_numpy(self._frequencies).to(session.device)
        oriented = self._request.convention.oriented(self._frequencies, session.shape[1:])
        self._oriented = torch.from_numpy(oriented).to(session.device)

    def evaluate(self, session: Session, chunk: Chunk) -> dict[str, Any]:
        """As in `Measurement`."""
        ranks = self._ranks[chunk.ids.cpu().numpy()]
        f, n = len(self._frequencies), len(chunk)
        wrong, margins, clean = np.zeros((f, n), bool), np.zeros((f, n), np.float16), np.zeros(n)
        fresh = np.flatnonzero((ranks >= self._before.max()) & (ranks < self._counts.max()))
        if len(fresh):
            part = chunk.part(torch.from_numpy(fresh))
            seen = session.clean(part, measured={"margin": margin})
            values = seen.values["margin"][0].numpy()
            # logits that are equal, as in half precision: the class is the one that a network's argmax says
            clean[fresh] = np.where((values == 0) & seen.wrong(part.labels)[0], -_TIED, values)
        lacks = (ranks[None] >= self._before[:, None]) & (ranks[None] < self._counts[:, None])
        groups: dict[bytes, list[np.intp]] = {}
        for i in np.flatnonzero(lacks.any(axis=0)):
            groups.setdefault(lacks[:, i].tobytes(), []).append(i)
        for members in groups.values():
            rows = np.flatnonzero(lacks[:, members[0]])
            part = chunk.part(torch.tensor(np.array(members)))
            at = np.ix_(rows, np.array(members))
            wrong[at], margins[at] = self._outcomes(session, part, torch.from_numpy(rows).to(session.device))
        return {"clean_margin": clean, "wrong": Outcomes.of(wrong), "margins": margins}

    def _outcomes(self, session: Session, chunk: Chunk, rows: Tensor) -> tuple[NDArray[np.bool_], NDArray[np.float16]]:
        how = self._request
        these, waves = self._tensor[rows], self._oriented[rows]
        signs = kernels.fourier_signs(
            chunk.ids, these, session.shape, seed=how.seed, signs=how.convention.signs, common=how.convention.common
        )

        make = perturbed(session, chunk, waves, signs, eps=how.eps, convention=how.convention)
        seen = session.outcomes(
            chunk,
            len(rows),
            make,
            measured={"margin": margin},
            describe=lambda row: f"at frequency {tuple(these[row].tolist())}",
        )
        return seen.wrong(chunk.labels), seen.values["margin"].numpy().clip(-6e4, 6e4).astype(np.float16)


class _LaterRound(_Round):
    """After the first: labels were looked at there."""

    needs_labels = False


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """(n,) logit of the true class less the largest other: below zero where the prediction is wrong."""
    true = labels[:, None]
    others = logits.scatter(1, true, float("-inf")).amax(dim=1)
    return logits.gather(1, true)[:, 0] - others

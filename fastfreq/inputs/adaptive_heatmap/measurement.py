"""A heat map that stops where it is precise enough: plans on one side, the engine's one loop on the other."""

from __future__ import annotations

import dataclasses
import time
from typing import Any, Literal, Unpack, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from fastfreq.engine import sources
from fastfreq.engine.measure import measure
from fastfreq.engine.ranks import held, joined
from fastfreq.engine.run import RunOptions
from fastfreq.results.folds import Outcomes
from fastfreq.vocabulary import checks, conventions, streams
from fastfreq.vocabulary.conventions import Convention

from . import plans
from .arguments import Request, half_width, seconds
from .controlled import Controlled
from .kept import Kept
from .result import AdaptiveHeatmap
from .rounds import LaterRound, Round, RoundOutcomes

Method = Literal["controls", "exact", "anytime"]
Target = Literal["images", "source"]


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

    - "exact": group-sequential, exact intervals for sampling without replacement. Coverage is at least 95 % for every
      model and all images, computed for every possible count (`sequential_draws.sequential`). It spends 4 p (1 - p) of
      the images of a fixed number, at most a tenth more from p = 0.05 on; where fewer are wrong more, as nobody can
      tell with less than some 60 images that no more than 0.06 are.
    - "controls": each image at some frequencies, each frequency on images of its own, with what those frequencies and
      the image as it is foretell of all others as control variates (`controlled.Controlled`). The fewest passes. Its
      95 % is that of large samples, no theorem, but was measured to hold on four networks, and on made outcomes of
      which 1 to 50 % are wrong. It needs signs common to all frequencies to be worth it.
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
        **run: `RunOptions`, without `shard` and `first_image`; ranks share the images of every step. `checkpoint`
            names a new file that holds a whole, valid result after every step; beside it, in `checkpoint`.parts, is
            what an interrupted call goes on from, until the map is done.

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
    request = Request(
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
    return _measured(request, model, images, labels, run)


# ---------------------------------------------------------------- rounds
def _measured(request: Request, model: nn.Module, images: Any, labels: Any, run: RunOptions) -> AdaptiveHeatmap:
    """All rounds, by all ranks."""
    if iter_once(images):
        raise ValueError("expected images that can be read more than once, got an iterator; make it a list")
    with joined(run.get("distributed"), Round.label) as ranks, held(ranks), Kept(run.get("checkpoint"), ranks) as kept:
        return _rounds(request, model, images, labels, run.copy(), kept)


def _rounds(
    request: Request, model: nn.Module, images: Any, labels: Any, options: RunOptions, kept: Kept
) -> AdaptiveHeatmap:
    """Round after round until the plan is done, or the time."""
    started, group = time.monotonic(), kept.ranks
    group.same({"budget": request.seconds})
    total, shape = _extent(images, labels)
    size = checks.check_size(request.size, shape[1:])
    frequencies = checks.check_frequencies(None, shape[1:], size)
    ranks = streams.generator("sampling", request.seed).permutation(total)
    found = _Found.empty(len(frequencies), ranks)
    plan = _plan(request, frequencies, total)
    result: AdaptiveHeatmap | None = None
    first: RoundOutcomes | None = None
    silent = not (options.get("progress") and group.first)
    with tqdm(unit="pass", unit_scale=True, desc="precision", disable=silent) as bar:
        while (wanted := plan.next_wanted(found.known)) is not None:
            kind = LaterRound if found.known.images else Round
            what = kind(request, size, frequencies, ranks, found.known, wanted)
            if first is not None and isinstance(what, LaterRound):
                what.labels = first.labels
            options["checkpoint"] = kept.next_round()
            each: RoundOutcomes = measure(what, model, images, labels, options)
            first = first or each
            _check_same_images(first, each, total)
            _settle(options, each)
            found = found.with_round(each, wanted)
            elapsed = 0.0 if request.seconds is None else group.agreed(lambda: time.monotonic() - started)
            result = _result(request, plan, found, each, elapsed)
            bar.total = result.expected_passes
            bar.set_postfix_str(f"± {result.half_width:.3f}", refresh=False)
            bar.update(result.passes - bar.n)
            kept.save(result)
            if request.seconds is not None and elapsed >= request.seconds:
                break
    assert result is not None, "every plan wants images first"
    return result


def _settle(options: RunOptions, each: RoundOutcomes) -> None:
    """What the first round found out holds for all."""
    options["progress"] = False  # it has said what the model is worth; the bar of all rounds goes on
    options["precision"] = cast(Any, each.details["precision"])  # of "fastest"
    if options.get("batch_size") is None:
        options["batch_size"] = int(each.details["batch_size"])
        options.setdefault("channels_last", each.details["layout"] == "channels_last")


def _plan(request: Request, frequencies: NDArray[np.int64], total: int) -> plans.Plan:
    population = total if request.target == "images" else None
    confidence = 1 - (1 - request.confidence) / (len(frequencies) if request.whole_map else 1)
    if request.method == "exact" or total == 1:  # nothing is foretold from one image
        return plans.Exact(request.precision_goal, confidence, population)
    if request.method == "anytime":
        coarse = [] if request.seconds is None else [np.flatnonzero((frequencies % s == 0).all(axis=1)) for s in (6, 3)]
        return plans.Anytime(request.precision_goal, confidence, population, coarse=coarse)
    step = max(1, min(16, total // 250))
    return Controlled(request.precision_goal, confidence, population, frequencies, seed=request.seed, step=step)


def _result(request: Request, plan: plans.Plan, found: _Found, each: RoundOutcomes, elapsed: float) -> AdaptiveHeatmap:
    estimate, low, high = plan.read(found.known)
    ranks, counts = found.ranks, found.known.counts
    population = len(ranks) if request.target == "images" else None
    later = plans.expected_counts(found.known, low, high, request.precision_goal, population)
    left = int((later - counts).sum()) + max(int(later.max()) - found.known.images, 0)
    said = {}
    if request.seconds is not None:  # a map that time may cut short says when it would be done
        whole = elapsed * (1 + left / max(found.passes, 1))
        said["finish"] = f"± {request.precision_goal:g} after about {whole:.3g} seconds in all, {elapsed:.3g} so far"
    tried = found.known.tried[:, ranks]
    return AdaptiveHeatmap(
        details=each.details | said,
        model=each.model,
        shape=each.shape,
        labelled=each.labelled,
        image_ids=each.image_ids,
        image_hashes=each.image_hashes,
        **{f.name: getattr(request, f.name) for f in dataclasses.fields(request) if f.name not in ("size", "seconds")},
        size=each.size,
        frequencies=each.frequencies,
        labels=each.labels,
        clean_wrong=(found.known.clean < 0)[ranks],
        reached=ranks < found.known.images,
        tried=Outcomes.of(tried),
        wrong=Outcomes.of(found.known.wrong[:, ranks] & tried),
        estimates=estimate,
        lows=low,
        highs=high,
        passes=found.passes,
        expected_passes=found.passes + left,
    )


def iter_once(images: Any) -> bool:
    """Whether images can be read only once."""
    return hasattr(images, "__next__")


def _extent(images: Any, labels: Any) -> tuple[int, tuple[int, int, int]]:
    """How many images there are, and the (c, h, w) of the first.

    What is not in memory is read once: files that cannot be read, and what loaders make of samples, change the number.
    """
    batches = sources.batches(images, None if isinstance(labels, str) else labels)
    first = next((batch for batch in batches if len(batch.images)), None)
    if first is None:
        raise ValueError("expected at least one image, got none")
    checks.check_images(first.images)
    c, h, w = (int(side) for side in first.images.shape[1:])
    known = batches.total if isinstance(images, (Tensor, np.ndarray)) else None
    return sum(len(batch) for batch, *_ in batches) if known is None else known, (c, h, w)


def _check_same_images(first: RoundOutcomes, each: RoundOutcomes, total: int) -> None:
    """Refuse images that are others in another pass: outcomes of two would count as those of one.

    Raises:
        ValueError: the first that is.
    """
    n = len(each.image_ids)
    if n != total:
        raise ValueError(f"expected as many images in every pass, got {total} and {n}; read them into a list first")
    other = (first.image_hashes != each.image_hashes) | ((first.labels != each.labels) & (each.labelled == "given"))
    if other.any():
        raise ValueError(
            f"expected the same images and labels in every pass, image {int(np.flatnonzero(other)[0])} is another one "
            f"in a later pass: are they cropped or ordered at random? read them into a list first"
        )


@dataclasses.dataclass(frozen=True)
class _Found:
    """What all rounds found, by rank, and the ranks (n,) of the images."""

    known: plans.Known
    ranks: NDArray[np.int64]
    passes: int

    @classmethod
    def empty(cls, cells: int, ranks: NDArray[np.int64]) -> _Found:
        n = len(ranks)
        nothing = plans.Known.nothing(np.zeros((cells, n), bool), np.zeros((cells, n), np.float16), np.zeros(n))
        return cls(nothing, ranks, 0)

    def with_round(self, each: RoundOutcomes, wanted: plans.Wanted) -> _Found:
        """With what one more round found; that of earlier ones stays."""
        known, order = self.known, np.argsort(self.ranks)
        new = wanted.tried & ~known.tried
        wrong = np.where(new, each.wrong.unpack()[:, order], known.wrong)
        margins = np.where(new, each.margins[:, order], known.margins)
        fresh = slice(known.images, wanted.images)
        clean = known.clean.copy()
        clean[fresh] = each.clean_margin[order][fresh]
        predicted = len(order) if each.labelled == "predicted" and not known.images else 0  # once for all rounds
        passes = self.passes + int(new.sum()) + wanted.images - known.images + predicted
        return _Found(plans.Known(wanted.tried, wanted.images, wrong, margins, clean), self.ranks, passes)

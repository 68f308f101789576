"""The one way from a model and images to a result: chunks, folds, checkpoints, progress."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import platform
import re
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from fastfreq.results import codec
from fastfreq.results.result import ImagesResult, Merger
from fastfreq.vocabulary import checks

from . import folding, quantized, tuning
from .arithmetic import float32
from .checkpoint import Checkpoint
from .compilation import compiled
from .contexts import undisturbed
from .images import Chunk, ImageStream
from .measurement import Measurement
from .model_checks import PEEK, FirstLook
from .network import FASTEST, Network, NoNetwork, Precision
from .ranks import Ranks, joined
from .run import Run, RunOptions
from .session import Session

_EXAMPLE = 2  # images on which a changed network is compared with the original
_AT_ONCE = 1e-3  # of the passes of a run: a look at the first images that takes no more does not wait for them


def measure(what: Measurement, model: nn.Module, images: Any, labels: Any, options: RunOptions) -> Any:
    """Make a measurement: every chunk of images is evaluated, and the results of all are added.

    Returns:
        A result of `what.result`.

    Raises:
        ValueError: a bad argument, no images, or a checkpoint of another request.
        TypeError: an argument of the wrong type, or a model whose output holds no logits.
        FloatingPointError: logits or gradients that are NaN or infinite.
        OSError: a checkpoint that cannot be written; said before the first forward pass.
    """
    run = Run.of(options)
    with joined(run.distributed, what.label) as ranks, undisturbed(what.gradients):
        checkpoint = Checkpoint(run.checkpoint, what.result, ranks)
        asked = "fp32" if run.precision == FASTEST else run.precision
        network = Network(model, precision=asked, channels_last=run.channels_last is not False, device=run.torch_device)
        stream = _stream(what, images, labels, run, ranks)
        first = _first(stream, run)
        shape = _shape(first)
        if run.precision == FASTEST:
            run = _settled(network, run, first, checkpoint)
        settings = {"shape": shape, "labelled": "predicted" if stream.predicted else "given", **what.settings(shape)}
        numerics = {"precision": run.precision, "compile": run.compile, "fold_batch_norm": run.fold_batch_norm}
        with _on(network.device):
            named = getattr(what, "metrics", {})
            identity = network.identity(shape, numerics | getattr(what, "numerics", {}), named)
            if what.needs_labels or stream.predicted:
                checks.check_several_classes(network.classes)
            session = Session(network, run, shape, identity)
            return _measure(what, session, stream, first, {"model": identity, **settings}, checkpoint)


def measure_images(what: Measurement, images: Any, options: RunOptions) -> Any:
    """`measure` of images alone, without a model.

    Raises:
        ValueError: a bad argument, no images, or a checkpoint of another request.
        TypeError: an option that only a model needs.
        OSError: a checkpoint that cannot be written; said before anything is computed.
    """
    for name in ("precision", "channels_last", "compile", "fold_batch_norm"):
        if name in options:
            raise TypeError(f"expected no `{name}`: a {what.label} has no model that it could apply to; leave it out")
    run = Run.of(options)
    with joined(run.distributed, what.label) as ranks, undisturbed(what.gradients):
        checkpoint = Checkpoint(run.checkpoint, what.result, ranks)
        stream = _stream(what, images, None, run, ranks)
        first = _first(stream, run)
        network: Any = NoNetwork(run.torch_device or first.images.device)
        shape = _shape(first)
        with _on(network.device):
            session = Session(network, run, shape, None)
            return _measure(what, session, stream, first, {"shape": shape, **what.settings(shape)}, checkpoint)


def _measure(
    what: Measurement,
    session: Session,
    stream: ImageStream,
    first: Chunk,
    settings: dict[str, Any],
    checkpoint: Checkpoint,
) -> Any:
    run, shape, ranks = session.run, session.shape, checkpoint.ranks
    session.total = stream.total
    settings = {name: value for name, value in settings.items() if name in what.result.__dataclass_fields__}
    _check_alike(what, session, stream, first, settings, ranks)
    checkpoint.check(settings, what.keys())
    checkpoint.check_may_hold(stream.may_hold)
    few = first.as_given_on(session.device) if what.as_given else first.on(session.device, channels_last=False)
    try:
        _prepare(what, session, few, stream.total, checkpoint)
        details = _details(session)
        passes = what.passes(shape) + stream.predicted  # one more tells the classes
        total = None if stream.total is None else round(stream.total * passes)
        merged = Merger()
        if checkpoint.before is not None and ranks.size == 1:
            merged.add(checkpoint.before)
        with tqdm(
            total=total,
            unit="img" if isinstance(session.network, NoNetwork) else "pass",
            unit_scale=True,
            desc=what.label,
            disable=not (run.progress and ranks.first),
        ) as bar:

            def advance(count: int) -> None:
                bar.update(count)
                ranks.check()

            def mine(ids: Tensor) -> bool:
                """Whether a chunk is this process's; the others' go into the bar as they are passed over."""
                found = ranks.turn(checkpoint.has(ids))
                if not found:
                    advance(round(len(ids) * passes))
                return found

            _announce(what, session, few, bar, total, first=ranks.first)
            session.advance = advance
            with checkpoint.keeping(merged):
                for chunk in _shares(what, session, stream, ranks, mine):
                    todo = checkpoint.left(chunk, predicted=stream.predicted)
                    if not len(todo):
                        advance(round(len(chunk) * passes))
                        continue
                    with _named_images(todo):
                        found = _evaluate(what, session, todo, settings, details, stream.predicted)
                    checkpoint.check_fits(found)
                    merged.add(found)
                    if checkpoint.due():
                        checkpoint.save(merged.result())
                checkpoint.check_all_seen(stream.told)
                if session.first_look is not None:
                    session.first_look.end()
            result = merged.result()
        result = checkpoint.finished(result)
    finally:
        session.until_end.close()
        what.close()
    what.finish(result)
    return result


def _shares(
    what: Measurement, session: Session, stream: ImageStream, ranks: Ranks, mine: Callable[[Tensor], bool]
) -> Iterator[Chunk]:
    """The chunks that are `mine`, or the pieces of all chunks that are."""
    size = ranks.agreed(lambda: what.chunk_size(session))
    if type(what).pieces is Measurement.pieces:  # the others' images need not even be hashed
        yield from stream.chunks(size, mine)
        return
    for chunk in stream.chunks(size):
        for places in what.pieces(session, chunk.ids):
            if mine(chunk.ids[places]):
                yield chunk.part(places)


def _check_alike(
    what: Measurement, session: Session, stream: ImageStream, first: Chunk, settings: dict[str, Any], ranks: Ranks
) -> None:
    """Refuse ranks with another model, other images or another request.

    Raises:
        ValueError: the message says in what they differ.
    """
    if ranks.size == 1:
        return
    header, arrays = codec.encode({name: value for name, value in settings.items() if name != "model"})
    asked = [header, {name: [array.tobytes().hex(), array.shape] for name, array in arrays.items()}]
    model = session.identity
    ranks.same(
        {
            "measurement": what.result.kind,
            "settings": hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest(),
            "names of metrics or layers": what.keys(),
            "model": None if model is None else [model.weights, model.mean, model.std],
            "precision": None if model is None else model.numerics,
            "batch_size": [session.run.batch_size, session.run.channels_last],
            "number of images": stream.total,
            "images": [first.ids.tolist(), first.hashes.tolist()],
            "labels": first.labels.tolist(),
            "checkpoint": None if session.run.checkpoint is None else str(session.run.checkpoint),
        }
    )


def _settled(network: Network, run: Run, first: Chunk, checkpoint: Checkpoint) -> Run:
    """With the precision that the checkpoint has, or the faster one, in place of "fastest"."""
    before = {} if checkpoint.before is None else checkpoint.before.details
    found = str(before.get("precision", ""))
    if found not in tuning.PRECISIONS:
        with _on(network.device):
            few = first.on(network.device, channels_last=False).images
            found = checkpoint.ranks.agreed(lambda: tuning.faster_precision(network, few))
    network.take_precision(found)
    network.chosen = True
    return dataclasses.replace(run, precision=cast(Precision, found))


def _prepare(what: Measurement, session: Session, few: Chunk, total: int | None, checkpoint: Checkpoint) -> None:
    """Fold, cast, lay out, compile: in this order."""
    network, run = session.network, session.run
    if isinstance(network, NoNetwork):
        size = _pace(what, session, few, total, checkpoint)
        session.pace, session.batch_size = size, size.batch_size
        what.start(session)
        return
    example = network.clean_batch(few.images[:_EXAMPLE])
    if run.fold_batch_norm:
        session.notes["fold_batch_norm"] = str(folding.fold_batch_norms(network, example, layers=what.watched))
    if run.precision == "int8":
        quantized.check(what, network, compiled=run.compile)
        session.notes["int8"] = quantized.quantize(network, few.images)
    what.attach(session)
    if not network.chosen:
        tuning.warn_if_slower(network, few.images)
    network.cast()
    session.until_end.enter_context(float32(network.arithmetic))
    session.pace = _pace(what, session, few, total, checkpoint)
    session.batch_size = session.pace.batch_size
    network.lay_out(session.pace.channels_last)
    if run.compile:
        session.forward = compiled(network, network.clean_batch(few.images[:_EXAMPLE]), session.batch_size)
        session.notes["compile"] = str(session.forward is not network)
    elif not what.gradients:
        session.forward = session.graphed(network, beside=getattr(what, "activations", None))
    what.start(session)


def _pace(what: Measurement, session: Session, few: Chunk, total: int | None, checkpoint: Checkpoint) -> tuning.Pace:
    """The batch size and layout: given, those of the checkpoint, the measurement's own, or timed."""
    network, run = session.network, session.run
    before = {} if checkpoint.before is None else checkpoint.before.details
    size = run.batch_size or what.batch_size(session.shape, session.device)
    layout = run.channels_last
    if re.fullmatch(r"[1-9]\d{0,5}", str(before.get("batch_size", "")), re.ASCII):
        size = run.batch_size or int(before["batch_size"])
        layout = before.get("layout") == "channels_last" if layout is None else layout
    if size is not None and (layout is not None or not network.convolutional or what.gradients):
        return tuning.Pace(size, network.channels_last if layout is None else layout, float("nan"))
    chosen = Run(precision=run.precision, channels_last=layout, batch_size=size, fold_batch_norm=run.fold_batch_norm)
    passes = (total or 10_000) * what.passes(session.shape)

    def timed() -> list[Any]:
        return [*dataclasses.astuple(tuning.pace(network, session.shape, chosen, few.images, passes))]

    return tuning.Pace(*checkpoint.ranks.agreed(timed))


@contextlib.contextmanager
def _named_images(chunk: Chunk) -> Iterator[None]:
    """An error of the model's says of which images, whatever its own message."""
    try:
        yield
    except Exception as error:
        first, last = int(chunk.ids[0]), int(chunk.ids[-1])
        which = f"image {first} was" if first == last else f"images {first} to {last} were"
        error.add_note(f"{which} being evaluated")
        raise


def _evaluate(
    what: Measurement,
    session: Session,
    todo: Chunk,
    settings: dict[str, Any],
    details: dict[str, str],
    predicted: bool,
) -> ImagesResult:
    """The result of some images."""
    if what.needs_labels and session.network.classes:  # not every image has a clean pass, which would tell
        checks.check_below(todo.labels, session.network.classes)
    here = todo.as_given_on(session.device)
    if not what.as_given:
        here = todo.on(session.device, channels_last=session.network.channels_last)
    if predicted:
        known = what.predicted(todo.ids)
        classes = session.clean(here).predicted[0] if known is None else known
        here = Chunk(here.images, classes.to(here.labels.device), here.ids, here.hashes)
    fields = what.evaluate(session, here)
    fields |= {"image_ids": todo.ids.numpy(), "image_hashes": todo.hashes.numpy().view(np.uint64)}
    known = what.result.__dataclass_fields__
    if "labels" in known:
        fields["labels"] = here.labels.cpu().numpy().copy()  # the caller's may change later
    return what.result(**settings, **fields, details=details)


def _announce(what: Measurement, session: Session, few: Chunk, bar: Any, total: int | None, *, first: bool) -> None:
    """What the run will take, and whether the model is any good on images as they are: said first.

    The first clean passes tell, where a measurement makes them; where they come late in a long run, or never, a few
    are made for it.
    """
    talks = first and session.run.progress and not isinstance(session.network, NoNetwork)
    if total is not None and talks:
        seconds = total * session.pace.seconds
        bar.write(f"{total:,} forward passes" + (f", about {_duration(seconds)}" if seconds == seconds else ""))
    if not first or not what.needs_labels or int(few.labels.min()) < 0:
        return
    session.first_look = FirstLook(len(few), bar.write if talks else lambda _said: None)
    passes = len(few) * what.passes(session.shape) if total is None else total
    late = what.chunk_size(session) < len(few) <= _AT_ONCE * passes
    if late or not what.clean_first:
        session.clean(few.on(session.device, channels_last=session.network.channels_last))


def _duration(seconds: float) -> str:
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def _details(session: Session) -> dict[str, str]:
    network = session.network
    device = torch.cuda.get_device_name(network.device) if network.device.type == "cuda" else platform.machine()
    how = {"batch_size": str(session.batch_size), "device": device, "torch": str(torch.__version__)}
    if isinstance(network, NoNetwork):
        return how
    return {
        "model": network.name,
        "model_fingerprint": network.weights,
        "precision": session.run.precision,
        "layout": "channels_last" if network.channels_last else "contiguous",
        **session.notes,
        **how,
    }


def _stream(what: Measurement, images: Any, labels: Any, run: Run, ranks: Ranks) -> ImageStream:
    return ImageStream(
        images,
        labels,
        first_image=run.first_image,
        shard=run.shard,
        needs_labels=what.needs_labels,
        one_shape=what.one_shape,
        tell=ranks.size > 1,
    )


def _first(stream: ImageStream, run: Run) -> Chunk:
    """The first images.

    Raises:
        ValueError: there are none.
    """
    first = stream.peek(PEEK)
    if first is None:
        index, number = run.shard
        few = f" in shard {index} of {number}; make fewer shards, or leave this one out" if number > 1 else ""
        raise ValueError(f"expected at least one image, got none{few}")
    return first


def _shape(first: Chunk) -> tuple[int, int, int]:
    c, h, w = (int(side) for side in first.images.shape[1:])
    return c, h, w


def _on(device: torch.device) -> Any:
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()

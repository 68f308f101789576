"""Networks, loaders and functions that keep hold of memory, or break a promise in another way that Python allows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from tqdm import tqdm

import fastfreq as ff
from fastfreq.engine import checkpoint, measure
from fastfreq.engine.measurement import images_of_a_chunk
from fastfreq.inputs.heatmap import measurement as heatmap
from fastfreq.results import atomic, store
from fastfreq.results.result import Merger
from tests.contract import subjects

SIZE = {"eps": 1.0, "size": (3, 5), "batch_size": 8, "channels_last": False}


@pytest.fixture(autouse=True)
def quiet(one_thread):
    subjects.EVENTS.reset()


def data() -> tuple[Tensor, Tensor]:
    """96 images and what the network of seed 0 says of them, but for some."""
    images = subjects.many().float() / 255
    with torch.no_grad():
        labels = subjects.network()(images).argmax(dim=1)
    labels[::9] = (labels[::9] + 1) % 5
    return images, labels


def measured(model: nn.Module, images: Any, labels: Any = None, **options: Any) -> subjects.Numbers:
    """The numbers of a heat map."""
    result = ff.heatmap(model, images, labels, **{**SIZE, "metrics": ("error", "loss"), **options})
    return subjects.numbers(result)


# ---------------------------------------------------------------- networks
class OneBuffer(subjects.Net):
    """Writes all its answers to the same memory."""

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        kept = vars(self).setdefault("kept", torch.empty(4096, logits.shape[1]))
        return kept[: len(logits)].copy_(logits)


def test_a_network_may_overwrite_what_it_returned():
    images, labels = data()
    model = subjects.network(OneBuffer)
    subjects.assert_same(measured(model, images, labels), measured(subjects.network(), images, labels))
    a, b = (ff.heatmap(model, images, labels, shard=(i, 2), **SIZE) for i in range(2))
    assert (a + b).n_images == len(images)  # they know each other as one model


class Flattening(nn.Module):
    """Of a tutorial, for images of half the width."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 11 * 7, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.contiguous().view(-1, 3 * 11 * 7))


def test_a_network_with_another_number_of_rows_is_refused_by_name():
    with pytest.raises(ValueError, match="one row of logits per image, Flattening returns 4 for 2"):
        measured(Flattening().eval(), *data())


class Together(subjects.Net):
    """Takes the images of a batch together."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(dim=0) + 0.5)


def test_a_network_whose_outputs_depend_on_the_batch_is_noticed():
    with pytest.warns(UserWarning, match="Together gives other outputs .* batch_size"):
        measured(subjects.network(Together), *data())


def test_images_that_the_network_does_not_take_are_refused_by_shape():
    with pytest.raises(ValueError, match=r"takes images of \(c, h, w\) = \(4, 11, 14\)"):
        measured(subjects.network(), torch.rand(3, 4, 11, 14), [0, 1, 2])


class Failing(subjects.Net):
    """Fails for a reason of its own."""

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("the weather")


def test_a_networks_own_failure_keeps_its_type():
    with pytest.raises(RuntimeError, match="^the weather$"):
        measured(subjects.network(Failing), *data())


@pytest.mark.parametrize("frequencies", [np.zeros((0, 2), int), [1, 0], [[1, 0, 0]], [[1.0, 0.0]]])
def test_frequencies_that_are_no_list_of_pairs_are_refused(frequencies):
    with pytest.raises(ValueError, match="frequencies"):
        measured(subjects.network(), *data(), frequencies=frequencies)


# ---------------------------------------------------------------- metrics
def doubled(logits: Tensor, labels: Tensor) -> Tensor:
    return 2 * logits.gather(1, labels[:, None])[:, 0]


BUFFER = torch.empty(4096)


def doubled_in_place(logits: Tensor, labels: Tensor) -> Tensor:
    """Overwrites what it is given, and returns the same memory every time."""
    value = BUFFER[: len(labels)].copy_(logits.mul_(2).gather(1, labels[:, None])[:, 0])
    logits.zero_()
    labels.zero_()
    return value


def test_a_metric_may_overwrite_logits_and_labels():
    images, labels = data()
    given, found = labels.clone(), {}
    for function in (doubled, doubled_in_place):
        metrics = {"own": function, "loss": "loss"}
        found[function] = measured(subjects.network(), images, given, metrics=metrics, batch_size=256)
    subjects.assert_same(found[doubled_in_place], found[doubled])
    assert torch.equal(given, labels)


@pytest.mark.parametrize("function", ["top2_error", doubled])
def test_another_metric_under_the_same_name_is_refused(tmp_path, function):
    images, labels = data()
    path, model = tmp_path / "c.npz", subjects.network()
    half = ff.heatmap(model, images[:48], labels[:48], metrics={"own": "loss"}, checkpoint=path, **SIZE)
    with pytest.raises(ValueError, match="metrics"):
        ff.heatmap(model, images, labels, metrics={"own": function}, checkpoint=path, **SIZE)
    other = ff.heatmap(model, images[48:], labels[48:], metrics={"own": function}, first_image=48, **SIZE)
    with pytest.raises(ValueError, match="metrics"):
        half + other


def test_a_result_keeps_its_labels_when_the_callers_change():
    images, labels = data()
    given = labels[:8].clone()
    result = ff.heatmap(subjects.network(), images[:8], given, **SIZE)
    given.zero_()
    np.testing.assert_array_equal(result.labels, labels[:8])


def test_a_corruption_may_return_the_same_memory_every_time():
    images, labels = data()
    kept = torch.empty(1, *images.shape[1:])

    def darker(image: Tensor, severity: int) -> Tensor:
        return image * (1 - 0.3 * severity)

    def in_one_buffer(image: Tensor, severity: int) -> Tensor:
        return kept.copy_(darker(image, severity))

    found, expected = (
        ff.corruption_report(subjects.network(), images, labels, corruptions={"darker": f}, severities=(1, 2))
        for f in (in_one_buffer, darker)
    )
    subjects.assert_same(subjects.numbers(found), subjects.numbers(expected))


# ---------------------------------------------------------------- loaders
def refilled(images: Tensor, labels: Tensor, size: int) -> Iterator[tuple[Any, Any]]:
    """Batches, or (size 0) single images, all in the same memory."""
    image_buffer, label_buffer = images[: max(1, size)].clone(), labels[: max(1, size)].clone()
    for start in range(0, len(images), max(1, size)):
        image_buffer.copy_(images[start : start + max(1, size)])
        label_buffer.copy_(labels[start : start + max(1, size)])
        yield (image_buffer, label_buffer) if size else (image_buffer[0], label_buffer[0])


@pytest.mark.parametrize("size", [0, 1, 8])
@pytest.mark.parametrize("array", [False, True])
def test_a_loader_may_fill_the_same_memory_again(size, array):
    images, labels = data()
    loader: Any = refilled(images, labels, size)
    if array:
        loader = ((image.numpy(), label.numpy()) for image, label in loader)
    subjects.assert_same(measured(subjects.network(), loader), measured(subjects.network(), images, labels))


# ---------------------------------------------------------------- interruptions
def test_an_addition_that_is_interrupted_loses_none_of_the_results_before():
    additions = 0

    def add(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
        nonlocal additions
        additions += 1
        if additions == 6:  # the second of three that the eighth result leads to
            raise KeyboardInterrupt
        return (*a, *b)

    merger = Merger(add)
    for i in range(7):
        merger.add((i,))
    with pytest.raises(KeyboardInterrupt):
        merger.add((7,))
    assert merger.result() == tuple(range(7))


# ---------------------------------------------------------------- checkpoints
def test_two_runs_with_one_checkpoint_do_not_take_it_from_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_SAVE_EVERY", 0)
    images, labels = data()
    path = tmp_path / "c.npz"

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for i, start in enumerate(range(0, 96, 8)):
            if i == 11:  # when the first run has saved a few times
                ff.heatmap(subjects.network(), images, labels, shard=(1, 2), checkpoint=tmp_path / "other.npz", **SIZE)
                (tmp_path / "other.npz").replace(path)
            yield images[start : start + 8], labels[start : start + 8]

    with pytest.warns(UserWarning, match="another run writes the checkpoint"):
        found = ff.heatmap(subjects.network(), batches(), shard=(0, 2), checkpoint=path, **SIZE)
    expected = ff.heatmap(subjects.network(), images, labels, shard=(0, 2), **SIZE)
    subjects.assert_same(subjects.numbers(found), subjects.numbers(expected))
    assert (found + ff.load(path)).n_images == 96


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError()])
def test_a_save_that_fails_loses_no_result(tmp_path, monkeypatch, error):
    images, labels = data()

    def full(*_: Any) -> None:
        raise error

    monkeypatch.setattr(store, "_write", full)
    with pytest.warns(UserWarning, match="could not be written"):
        found = measured(subjects.network(), images, labels, checkpoint=tmp_path / "c.npz")
    subjects.assert_same(found, measured(subjects.network(), images, labels))
    assert not list(tmp_path.iterdir())


def test_a_save_that_is_interrupted_leaves_the_one_before(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_SAVE_EVERY", 0)
    images, labels = data()
    path, write, saves = tmp_path / "c.npz", store._write, []

    def interrupted(*given: Any) -> None:
        write(*given)
        saves.append(given)
        if len(saves) >= 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(store, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measured(subjects.network(), images, labels, checkpoint=path)
    monkeypatch.setattr(store, "_write", write)
    assert [file.name for file in tmp_path.iterdir()] == ["c.npz"] and 0 < ff.load(path).n_images < 96
    again = measured(subjects.network(), images, labels, checkpoint=path)
    subjects.assert_same(again, measured(subjects.network(), images, labels))


@pytest.mark.parametrize("size", ["9" * 5000, "\u00b2", "-1", "x"])
def test_a_checkpoint_with_a_strange_batch_size_goes_on(tmp_path, size):
    images, labels = data()
    path = tmp_path / "c.npz"
    half = ff.heatmap(subjects.network(), images[:16], labels[:16], **SIZE)
    dataclasses.replace(half, details=half.details | {"batch_size": size}).save(path)
    found = ff.heatmap(subjects.network(), images, labels, checkpoint=path, **{**SIZE, "batch_size": None})
    assert found.n_images == 96


@pytest.mark.parametrize(
    "options", [{"first_image": 2**63 - 4}, {"first_image": 2**64}, {"shard": 5}, {"shard": (0, 2, 3)}]
)
def test_ids_beyond_64_bits_and_shards_that_are_no_pair_are_refused_by_name(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        measured(subjects.network(), *data(), **options)


@pytest.mark.parametrize("ids", [np.zeros(4, np.int64), np.arange(4)[::-1].copy()])
def test_a_file_with_an_image_twice_or_out_of_order_is_refused(tmp_path, ids):
    images, labels = data()
    good = ff.heatmap(subjects.network(), images[:4], labels[:4], **SIZE)
    object.__setattr__(good, "image_ids", ids)
    good.save(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="image_ids"):
        ff.load(tmp_path / "a.npz")


def test_a_field_with_another_number_of_conditions_is_refused():
    images, labels = data()
    good = ff.heatmap(subjects.network(), images[:4], labels[:4], **SIZE)
    for name, value in (("norms", good.norms[1:]), ("wrong", good.wrong[1:])):
        with pytest.raises(ValueError, match=r"expected `\w+` of shape .* with m = \d"):
            dataclasses.replace(good, **{name: value})


def test_details_of_images_alone_name_no_model():
    details = ff.image_spectrum(data()[0]).details
    assert "torch" in details and not {"model", "precision", "layout"} & set(details)


def test_a_field_with_another_number_of_classes_is_refused():
    images, labels = data()
    good = ff.dominant_frequencies(subjects.network(), images[:8], labels[:8], size=(3, 3))
    with pytest.raises(ValueError, match=f"expected `loss_sum` of shape .* with k = {len(good.classes)}"):
        dataclasses.replace(good, loss_sum=good.loss_sum[1:])
    with pytest.raises(ValueError, match="expected `classes` to be those of `labels`"):
        dataclasses.replace(good, labels=good.labels * 0)


def test_models_of_two_precisions_are_not_compared():
    images, labels = data()
    one, other = (ff.heatmap(subjects.network(), images[:8], labels[:8], precision=p, **SIZE) for p in ("fp32", "bf16"))
    with pytest.raises(ValueError, match="same precision and rounding"):
        one.compare(other)


def test_a_file_left_by_an_earlier_process_of_this_number_is_in_nobodys_way(tmp_path):
    with atomic.atomic_path(tmp_path / "a.txt") as temporary:
        name = temporary.name
    (tmp_path / name).write_text("left")
    atomic.write_text(tmp_path / "a.txt", "written")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.txt", "written")]


@pytest.mark.parametrize("labels", ["given", "predicted"])
def test_the_bar_counts_every_pass_and_no_more(labels, monkeypatch, tmp_path):
    bars = []

    class Bar(tqdm):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            bars.append(self)

    monkeypatch.setattr(measure, "tqdm", Bar)
    images, own = data()
    taken = "predicted" if labels == "predicted" else own
    for _ in range(2):  # a second time from the checkpoint: as many
        run = {"progress": True, "checkpoint": tmp_path / "a.npz"}
        ff.heatmap(subjects.network(), images, taken, **SIZE, **run)
    assert [bar.n for bar in bars] == [bar.total for bar in bars] and len(bars) == 2


def test_tf32_is_refused_where_there_is_none():
    with pytest.raises(ValueError, match="expected a GPU for precision='tf32', which 'cpu' does not have"):
        ff.heatmap(subjects.network(), subjects.images(), subjects.labels(), precision="tf32", **SIZE)


# ---------------------------------------------------------------- chunks
def test_chunks_are_small_where_batches_fill_all_the_same():
    assert images_of_a_chunk(256, 1986, 50_000) == 16  # 3,125 chunks, where a batch each made 196
    assert images_of_a_chunk(256, 1986, 10**7) == 256
    assert images_of_a_chunk(256, 20, 50_000) == images_of_a_chunk(256, 1986, None) == 256
    for batch, passes in ((60, 300.0), (37, 5000.0), (1, 2.0)):
        size = images_of_a_chunk(batch, passes, 1000)
        assert batch % size == 0 and (size == batch or size * passes >= 64 * batch)


def test_small_chunks_change_no_figure(monkeypatch, tmp_path):
    """171 frequencies fill 64 batches of two passes with one image; a run that stops goes on in the same chunks."""
    images = torch.rand(10, 3, 17, 20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        labels = subjects.network()(images).argmax(dim=1)
    options = {"size": None, "batch_size": 2}
    subjects.EVENTS.reset()
    expected, calls = measured(subjects.network(), images, labels, **options), subjects.EVENTS.calls
    subjects.EVENTS.reset()
    subjects.EVENTS.stop_after = calls // 2
    with pytest.raises(KeyboardInterrupt):
        measured(subjects.network(), images, labels, checkpoint=tmp_path / "c.npz", **options)
    kept = ff.load(tmp_path / "c.npz").n_images
    subjects.EVENTS.reset()
    resumed = measured(subjects.network(), images, labels, checkpoint=tmp_path / "c.npz", **options)
    assert 2 < kept < 8
    subjects.assert_same(resumed, expected)
    sizes = set()
    monkeypatch.setattr(heatmap, "images_of_a_chunk", lambda *asked: sizes.add(images_of_a_chunk(*asked)) or asked[0])
    subjects.EVENTS.reset()
    subjects.assert_same_outcomes(measured(subjects.network(), images, labels, **options), expected)
    assert sizes == {1} and calls < 1.03 * subjects.EVENTS.calls


@pytest.mark.parametrize("other", [{"shard": (0, 2)}, {"first_image": 1}, {"count": 8}])
def test_a_checkpoint_of_images_that_a_run_cannot_have_is_refused_before_it_runs(other, tmp_path):
    images, labels = data()
    measured(subjects.network(), images[:16], labels[:16], checkpoint=tmp_path / "c.npz")
    subjects.EVENTS.reset()
    count, options = other.get("count", 96), {name: value for name, value in other.items() if name != "count"}
    with pytest.raises(ValueError, match=r"c.npz holds \d+ that this run does not have"):
        measured(subjects.network(), images[:count], labels[:count], checkpoint=tmp_path / "c.npz", **options)
    assert subjects.EVENTS.calls <= 6, "expected the images that tell models apart, and no others"

from __future__ import annotations

import numpy as np
import pytest
import torch

import fastfreq as ff
from fastfreq.engine.copies import as_written

EPS, SIZE = 2.0, 5


@pytest.fixture
def compile_with(monkeypatch):
    """compile_with(backend): what torch.compile hands graphs to, so that no compiler is needed."""
    real = torch.compile

    def use(backend):
        torch._dynamo.reset()
        monkeypatch.setattr(torch, "compile", lambda m, **options: real(m, backend=backend, fullgraph=True, **options))

    yield use
    torch._dynamo.reset()


@pytest.mark.parametrize("fold", [False, True], ids=["plain", "folded"])
@pytest.mark.parametrize("n", [8, 11, 3])  # whole batches, a rest, and several frequencies in one batch
def test_one_shape_is_compiled_once_for_all_calls(make_net, make_images, compile_with, n, fold):
    shapes, graphs = set(), []

    def backend(graph, _inputs):
        graphs.append(graph)

        def run(*args):
            shapes.update(tuple(a.shape) for a in args if a.ndim == 4 and a.shape[1:] == (3, 11, 14))
            return graph(*args)

        return run

    compile_with(backend)
    net = make_net()
    images, labels = make_images(net, n=n)
    plain = ff.heatmap(net, images, labels, eps=EPS, size=SIZE, batch_size=4)
    for _ in range(2):
        fast = ff.heatmap(
            net, images, labels, eps=EPS, size=SIZE, batch_size=4, compile=True, fold_batch_norm=fold,
            channels_last=True,  # else timed, and a layout is part of what is compiled
        )  # fmt: skip
        np.testing.assert_array_equal(fast.wrong, plain.wrong)
        assert fast.details["compile"] == "True"
    assert shapes == {(4, 3, 11, 14)} and len(graphs) == 1


def test_other_weights_of_one_class_are_not_mixed_up(make_net, make_images, compile_with):
    compile_with("eager")
    for seed in range(3):
        net = make_net(seed=seed)
        images, labels = make_images(net, seed=seed)
        plain = ff.heatmap(net, images, labels, eps=EPS, size=SIZE)
        fast = ff.heatmap(net, images, labels, eps=EPS, size=SIZE, compile=True)
        np.testing.assert_array_equal(fast.wrong, plain.wrong)


def failing(_net, **_options):
    def run(_batch):
        raise RuntimeError("no working compiler\nand a long trace")

    return run


@pytest.mark.parametrize(
    ("instead", "reason"),
    [
        (failing, "cannot be used: RuntimeError: no working compiler$"),
        (lambda net, **_: lambda batch: net(batch) + 1, "its logits differ by .* of the largest"),
        (lambda net, **_: lambda batch: net(batch) * float("nan"), "its logits differ by nan"),
    ],
    ids=["fails", "wrong", "nan"],
)
def test_what_cannot_be_compiled_runs_as_it_is_with_one_warning(make_net, make_images, monkeypatch, instead, reason):
    monkeypatch.setattr(torch, "compile", instead)
    net = make_net()
    images, labels = make_images(net)
    with pytest.warns(UserWarning, match=reason) as caught:
        result = ff.heatmap(net, images, labels, eps=EPS, size=SIZE, compile=True)
    assert len(caught) == 1 and result.details["compile"] == "False"
    np.testing.assert_array_equal(result.wrong, ff.heatmap(net, images, labels, eps=EPS, size=SIZE).wrong)


def test_running_out_of_memory_when_compiled_loses_no_count(make_net, make_images, monkeypatch):
    sizes = []

    def small(net, **_options):
        def run(batch):
            sizes.append(len(batch))
            if len(batch) > 5 and len(sizes) > 1:
                raise torch.OutOfMemoryError("out of memory")
            return net(batch)

        return run

    monkeypatch.setattr(torch, "compile", small)
    net = make_net()
    images, labels = make_images(net, n=20)
    expected = ff.heatmap(net, images, labels, eps=EPS, size=SIZE)
    part = ff.heatmap(net, images, labels, eps=EPS, size=SIZE, batch_size=16, compile=True)
    np.testing.assert_array_equal(part.wrong, expected.wrong)
    assert max(sizes[-20:]) <= 5


def test_layers_are_not_recorded_in_compiled_networks(make_net, make_images):
    net = make_net()
    images, labels = make_images(net)
    with pytest.raises(ValueError, match="compile=False with `layers`"):
        ff.heatmap(net, images, labels, eps=EPS, compile=True, layers=["stem"])


def test_threads_that_watch_at_once_leave_the_compiler_as_it_was():
    before = torch._dynamo.eval_frame._stance.stance
    first, second = as_written(), as_written()
    first.__enter__()
    second.__enter__()
    assert torch._dynamo.eval_frame._stance.stance == "force_eager"
    first.__exit__(None, None, None)
    assert torch._dynamo.eval_frame._stance.stance == "force_eager"
    second.__exit__(None, None, None)
    assert torch._dynamo.eval_frame._stance.stance == before == "default"

"""Batches over threads: every part once, errors seen, torch's own number of threads as before, one answer."""

import threading

import pytest
import torch
from fastfreq_kernels._threads import each_in_threads, own_threads_only, split_over_threads
from torch import nn

import fastfreq as ff


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("count", [0, 1, 7, 40])
def test_ranges_cover_everything_once(threads, count, inside):
    parts, seen = [], []

    def run(start, stop):
        parts.append((start, stop))
        seen.append(torch.get_num_threads())
        split_over_threads(lambda *_: None, 5)  # from within

    if inside:
        with own_threads_only():
            assert torch.get_num_threads() == 1
            split_over_threads(run, count, multiple=4)
            assert torch.get_num_threads() == 1
    else:
        split_over_threads(run, count, multiple=4)
    assert torch.get_num_threads() == threads
    parts.sort()
    assert [i for start, stop in parts for i in range(start, stop)] == list(range(count))
    assert all(start % 4 == 0 for start, _ in parts)
    assert set(seen) == (set() if not count else {threads} if len(parts) == 1 and not inside else {1})


def test_an_error_of_any_task_reaches_the_caller(threads):
    def fail():
        raise IndexError("from a task")

    for at in range(3):
        tasks = [fail if i == at else list for i in range(3)]
        with pytest.raises(IndexError, match="from a task"):
            each_in_threads(tasks)
        assert torch.get_num_threads() == threads


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_tasks_run_in_the_callers_mode(threads, mode):
    waiting, seen = threading.Barrier(threads, timeout=20), []

    def look():
        waiting.wait()  # one task per thread
        seen.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled()))

    with mode():
        each_in_threads([look] * threads)
        assert seen == [(torch.is_grad_enabled(), torch.is_inference_mode_enabled())] * threads


@pytest.mark.parametrize("accuracy", ["exact", "high", "fast"])
@pytest.mark.parametrize(("channels", "groups"), [(36, 1), (80, 1), (72, 3)])
def test_values_do_not_depend_on_the_number_of_threads(channels, groups, accuracy):
    torch.manual_seed(channels)
    layer = nn.Conv2d(channels, channels, 3, groups=groups, padding=1)
    before, answers = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        answers.append(ff.singular_values(layer, input_size=(9, 8), accuracy=accuracy).distinct)
    torch.set_num_threads(before)
    assert (answers[0] == answers[1]).all() and (answers[0] == answers[2]).all()

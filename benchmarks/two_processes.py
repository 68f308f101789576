"""Two processes of one thread that measure on command: one alone, both by themselves, both together."""

from __future__ import annotations

import multiprocessing
import socket
import time
import warnings
from multiprocessing.connection import Connection
from typing import Any, Self

import numpy as np
import torch
import torch.distributed as dist
from networks import residual_network

import fastfreq as ff

IMAGES, BATCH = 64, 8
HOW = {"alone": (False, (0,)), "independent": (False, (0, 1)), "together": (True, (0, 1))}


def _serve(rank: int, port: int, pipe: Connection) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # a network that nobody has trained
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.random((IMAGES, 3, 32, 32), dtype=np.float32))
    labels = torch.from_numpy(rng.integers(0, 10, IMAGES))
    torch.manual_seed(0)
    net = residual_network("resnet20").eval()
    while (distributed := pipe.recv()) is not None:
        start, cpu = time.perf_counter(), time.process_time()
        found = ff.heatmap(
            net, images, labels, eps=4.0, size=(7, 7), metrics=("error", "loss"), batch_size=BATCH,
            channels_last=False, distributed=distributed,
        )  # fmt: skip
        seconds, used = time.perf_counter() - start, time.process_time() - cpu
        pipe.send((seconds, used, found.wrong.packed.tobytes() + found.sums["loss"].parts.tobytes()))
    dist.destroy_process_group()


class TwoProcesses:
    """`measure` tells both what to do and waits for them."""

    def __init__(self) -> None:
        """They meet at a free port."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        context = multiprocessing.get_context("spawn")
        self._pipes, self._group = [], []
        for rank in range(2):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(rank, port, theirs), daemon=True)
            process.start()
            self._pipes.append(ours)
            self._group.append(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        for pipe, process in zip(self._pipes, self._group, strict=True):
            pipe.send(None)
            process.join(10)
            process.kill()

    def measure(self, how: str) -> tuple[float, float, list[bytes]]:
        """(seconds of the slower, processor seconds of both, bytes of each result) in one of the ways of `HOW`."""
        distributed, who = HOW[how]
        for rank in who:
            self._pipes[rank].send(distributed)
        found = [self._pipes[rank].recv() for rank in who]
        return max(f[0] for f in found), sum(f[1] for f in found), [f[2] for f in found]

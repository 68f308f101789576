"""What one of several processes does for `test_ranks.py`: import nothing of pytest's, measure, save, end."""

from __future__ import annotations

import os
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

import fastfreq as ff
from fastfreq.engine import ranks
from tests.contract import subjects
from tests.contract.table import BY_NAME

BATCH = {2: 5, 3: 7}  # of 12 images: three batches for two ranks, two for three ranks, one of which has none


def options(row: Any, size: int) -> dict[str, Any]:
    """So that images come in batches that ranks share unevenly."""
    return {} if "batch_size" in row.cannot else {"batch_size": BATCH[size]}


def join(rank: int, size: int, folder: Path) -> None:
    """Become one of the processes that meet in a folder."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    os.environ["FASTFREQ_CACHE_DIR"] = str(folder)
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting-{size}", rank=rank, world_size=size)


def every_row(rank: int, size: int, folder: Path, names: list[str]) -> None:
    """Measure rows of these names, then wrapped models; leave each result, or what went wrong, in `folder`."""
    join(rank, size, folder)
    ranks.SILENT = 20.0
    tasks: dict[str, Callable[[], Any]] = {
        name: lambda row=BY_NAME[name]: row.plain(**options(row, size)) for name in names
    }
    tasks |= {f"wrapped-{name}": lambda wrap=wrap: heatmap(wrap()) for name, wrap in WRAPPED.items()}
    for name, task in tasks.items():
        try:
            torch.manual_seed(0)
            subjects.EVENTS.reset()
            result = task()
            (folder / f"{name}-{size}-{rank}.calls").write_text(str(subjects.EVENTS.calls))
            result.save(folder / f"{name}-{size}-{rank}.npz")
        except Exception:
            (folder / f"{name}-{size}-{rank}.txt").write_text(traceback.format_exc())
    dist.destroy_process_group()


# ---------------------------------------------------------------- wrappers
def heatmap(model: nn.Module) -> Any:
    """A small one, with a hidden layer by its name in the network that was wrapped."""
    images, labels = subjects.images(), subjects.labels()
    return ff.heatmap(model, images, labels, eps=1.0, size=(3, 3), layers=("body",), metrics=("error", "loss"),
                      batch_size=5)  # fmt: skip


def _sharded() -> nn.Module:
    from torch.distributed.fsdp import fully_shard

    net = subjects.network()
    fully_shard(net.body)
    return fully_shard(net)


def _fsdp() -> nn.Module:
    from torch.distributed.fsdp import FullyShardedDataParallel

    return FullyShardedDataParallel(subjects.network(), device_id=torch.device("cpu")).eval()


def _compiled() -> nn.Module:
    return torch.compile(subjects.network())  # pyright: ignore[reportReturnType]


def _part() -> nn.Module:
    net = subjects.network()
    net.body = nn.parallel.DistributedDataParallel(net.body)  # pyright: ignore
    return net.eval()


def _tensor_parallel() -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

    net = subjects.network()
    return parallelize_module(net, init_device_mesh("cpu", (dist.get_world_size(),)), {"head": ColwiseParallel()})


WRAPPED: dict[str, Callable[[], nn.Module]] = {
    "plain": subjects.network,
    "ddp": lambda: nn.parallel.DistributedDataParallel(subjects.network()).eval(),
    "compiled": _compiled,
    "compiled ddp": lambda: torch.compile(nn.parallel.DistributedDataParallel(subjects.network()).eval()),  # pyright: ignore
    "fsdp": _fsdp,
    "fully_shard": _sharded,
    "ddp part": _part,
    "tensor parallel": _tensor_parallel,
    "other weights": lambda: subjects.network(seed=dist.get_rank()),
}
REFUSED = {
    "ddp part": "expected DistributedDataParallel around the whole model, it is around its module 'body'",
    "tensor parallel": "expected whole weights or a model that FSDP shards, 'head.weight' is a DTensor of another kind",
    "other weights": "expected the same model on every rank",
}

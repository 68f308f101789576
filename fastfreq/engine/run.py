"""How a measurement runs: options that every measurement takes, and that change no figure but by rounding."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal, TypedDict

import torch

from fastfreq.vocabulary import checks, numbers

from .network import Precision

_LAST = 1 << 62  # so that the ids of all images fit into 64 bits


class RunOptions(TypedDict, total=False):
    """Options of every measurement.

    precision: of weights and activations, "fp32" (default), "bf16" or "fp16"; batch norm keeps its float32 statistics.
        On a CPU without instructions for it a lower precision is slower: it is timed, and a warning says so. "fastest"
        is "bf16" where that is the faster by a tenth on this machine and "fp32" elsewhere; the result says which, and a
        run that goes on from a checkpoint takes that of the checkpoint. Name one for shards: two do not merge. "int8",
        on x86 CPUs for convolutional networks that torch.fx can trace, is two to four times faster; of the outcomes of
        two ResNets 1 to 3 % changed, every count within the 95 % interval of some hundred images. `details` says how
        many classes stay; of tens of thousands of images intervals are narrower than that.
        "fp32" is IEEE arithmetic on every device, whatever torch's own switches say; "tf32", on a GPU alone, rounds the
        factors of float32 products to ten bits.
    channels_last: lay out convolutional networks channels last or not; None (default) times both.
    compile: run the network through torch.compile: the first call takes seconds, so for long runs. Where it cannot be
        used, or changes logits by more than rounding, one warning says so and the network runs as it is.
    fold_batch_norm: fold each batch norm that directly follows a convolution or linear layer into it, on the copy of
        the model that is run. The same function up to rounding; refused with the reason unless logits agree.
    batch_size: images in one forward pass; None (default) times a few, once per model and machine. Halved when memory
        runs out, without losing an image.
    device: where to run; None (default) for where the model is.
    first_image: id of the first image, for shards that are split by hand.
    shard: (i, n) takes the images whose id is i modulo n; results of all shards merge with ``+``.
    checkpoint: an .npz file to which finished images are saved about every half minute, and from which an interrupted
        run goes on; refused if it is of another request. Several processes save in a folder beside it, which all of
        them have to see, and go on from each other's images, however many they are.
    distributed: whether the processes of `torch.distributed` make this measurement together: they take turns at the
        batches that one process would make, and each gets the whole result, the same to the last bit. None (default)
        where it is initialised; True initialises it from the environment of torchrun; False leaves each process to
        itself. Called on every rank, with all images on each; one that stops or dies ends the others with a message.
    progress: show a progress bar, with what the run will take.
    """

    precision: Precision | Literal["fastest"]
    channels_last: bool | None
    compile: bool
    fold_batch_norm: bool
    batch_size: int | None
    device: torch.device | str | None
    first_image: int
    shard: tuple[int, int]
    checkpoint: str | Path | None
    distributed: bool | None
    progress: bool


@dataclasses.dataclass(frozen=True)
class Run:
    """`RunOptions` with their defaults, checked."""

    precision: Precision | Literal["fastest"] = "fp32"
    channels_last: bool | None = None
    compile: bool = False
    fold_batch_norm: bool = False
    batch_size: int | None = None
    device: torch.device | str | None = None
    first_image: int = 0
    shard: tuple[int, int] = (0, 1)
    checkpoint: str | Path | None = None
    distributed: bool | None = None
    progress: bool = False

    @classmethod
    def of(cls, options: RunOptions) -> Run:
        """From keywords.

        Raises:
            TypeError: an option that does not exist.
        """
        known = [f.name for f in dataclasses.fields(cls)]
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise TypeError(f"expected options of {known}, got {unknown[0]!r}")
        return cls(**options)

    def __post_init__(self) -> None:
        if self.batch_size is not None:
            object.__setattr__(self, "batch_size", numbers.as_int("batch_size", self.batch_size))
            if self.batch_size < 1:
                raise ValueError(f"expected a positive `batch_size`, got {self.batch_size}")
        object.__setattr__(self, "first_image", numbers.as_int("first_image", self.first_image))
        if not 0 <= self.first_image <= _LAST:
            raise ValueError(f"expected `first_image` from 0 to 2**62, got {self.first_image}")
        try:
            index, number = self.shard
        except (TypeError, ValueError):
            raise ValueError(f"expected `shard=(i, n)` with 0 <= i < n, got {self.shard!r}") from None
        shard = checks.check_shard((numbers.as_int("shard", index), numbers.as_int("shard", number)))
        object.__setattr__(self, "shard", shard)

    @property
    def torch_device(self) -> torch.device | None:
        """`device` as torch knows it."""
        return device_of(self.device)


def device_of(device: torch.device | str | None) -> torch.device | None:
    """As torch knows it.

    Raises:
        TypeError: no device.
        ValueError: a name that torch does not know.
    """
    if device is None or isinstance(device, torch.device):
        return device
    if not isinstance(device, str):
        raise TypeError(f"expected `device` such as 'cpu' or 'cuda:0', or a torch.device, got {device!r:.60}")
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"expected `device` such as 'cpu' or 'cuda:0', got {device!r}: torch knows none") from error

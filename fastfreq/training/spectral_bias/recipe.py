"""How the networks of an experiment are made and trained, and what is remembered of it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastfreq.engine.copies import private_copy
from fastfreq.results import codec
from fastfreq.training._checkpoint import check_folder
from fastfreq.vocabulary import checks, numbers, streams

NetworkFactory = Callable[[int], nn.Module]
OptimizerFactory = Callable[[Iterable[Tensor]], torch.optim.Optimizer]
ScheduleFactory = Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]


def relu_network(inputs: int, *, depth: int = 6, width: int = 256) -> nn.Sequential:
    """A fully connected ReLU network with one output and torch's own initial weights.

    Args:
        inputs: numbers per sample.
        depth: linear layers, the last included; from 2.
        width: outputs of each but the last.

    Raises:
        ValueError: a depth below 2, or no inputs or units.

    Source: Rahaman et al. 2019 (depth 6, width 256).
    """
    inputs, depth, width = (numbers.as_int(*pair) for pair in (("inputs", inputs), ("depth", depth), ("width", width)))
    if depth < 2 or width < 1 or inputs < 1:
        raise ValueError(f"expected a `depth` from 2, `inputs` and a `width` from 1, got {depth}, {inputs} and {width}")
    layers: list[nn.Module] = []
    for before in (inputs, *[width] * (depth - 2)):
        layers += [nn.Linear(before, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 1))


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How networks are made and trained; what is left None is as in the paper.

    Training is on all samples at once. Networks that are linear layers and activations in a `Sequential`, under an
    optimiser of torch that moves each number by itself (Adam, SGD, ...), are trained together, as one stack of
    matrices; any other network or optimiser is trained alone. On one thread a seed gives the same bits in both the
    company of other seeds and without. Subnormal numbers can slow small networks tenfold on a CPU:
    `torch.set_flush_denormal(True)` before.

    Attributes:
        network: number of inputs -> a module from (n, inputs) to (n, 1), of which a copy is trained, with weights from
            torch's generator, which is seeded before and put back after. None for `relu_network`; others by
            `functools.partial(relu_network, depth=4, width=128)`.
        optimizer: parameters -> optimiser, such as `functools.partial(torch.optim.Adam, lr=1e-3)`.
        schedule: optimiser -> learning rate scheduler, which makes a step after each of the optimiser's.
        steps: of the optimiser.
        record_every: steps between two records; the first and the last are always recorded.
        device: where training runs.
        progress: whether to show a bar of steps.
        checkpoint: folder in which each training keeps where it stands, every 30 seconds and where it is interrupted.
            The same call goes on from there, bit for bit on one thread; another one begins a file of its own. Of a
            network, what its `state_dict` has.
    """

    network: NetworkFactory | None = None
    optimizer: OptimizerFactory | None = None
    schedule: ScheduleFactory | None = None
    steps: int | None = None
    record_every: int | None = None
    device: str | torch.device = "cpu"
    progress: bool = False
    checkpoint: str | Path | None = None

    def __post_init__(self) -> None:
        for name, kind in (("network", nn.Module), ("optimizer", torch.optim.Optimizer)):
            if isinstance(getattr(self, name), kind):
                raise TypeError(
                    f"expected `{name}` as a function that makes one for each seed, got a {kind.__name__} made already"
                )
        for name in ("network", "optimizer", "schedule"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise TypeError(f"expected `{name}` as a function that makes one, got {value!r:.40}")
        for name in ("steps", "record_every"):
            value = getattr(self, name)
            if value is not None and numbers.as_int(name, value) < 1:
                raise ValueError(f"expected `{name}` from 1, got {value}")
        check_folder(self.checkpoint)


def filled(recipe: Recipe | None, *, rate: float, steps: int, record_every: int) -> Recipe:
    """The recipe with an experiment's own settings where it has none: Adam at `rate`, without a schedule.

    A recipe of fewer steps than `record_every` records a hundred times, or at each step.
    """
    given = recipe if recipe is not None else Recipe()
    if not isinstance(given, Recipe):
        raise TypeError(f"expected `recipe` as fastfreq.training.Recipe, got {type(given).__name__}")
    asked = given.steps or steps
    return dataclasses.replace(
        given,
        network=given.network or relu_network,
        optimizer=given.optimizer or functools.partial(torch.optim.Adam, lr=rate),
        steps=asked,
        record_every=given.record_every or max(1, min(record_every, asked // 100)),
    )


def recorded_steps(recipe: Recipe) -> list[int]:
    """Steps after which networks are looked at, from 0 to the last."""
    assert recipe.steps is not None and recipe.record_every is not None
    every = list(range(0, recipe.steps, recipe.record_every))
    return [*every, recipe.steps]


def check_seeds(seeds: Sequence[int]) -> tuple[int, ...]:
    """`seeds` as integers, each once.

    Raises:
        ValueError: none, or one twice, or a negative one.
    """
    found = tuple(checks.check_seed(seed) for seed in numbers.sequence("seeds", seeds))
    if not found or len(set(found)) < len(found):
        raise ValueError(f"expected at least one of `seeds`, each once, got {found}")
    return found


class OwnRandomness:
    """What a network draws from torch's generators while it is trained: of its seed, whoever else draws.

    Args:
        seed: of the network.
        device: where it runs.

    Attributes:
        states: of the generators, where they were left.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        generator = streams.generator("training_data", seed)
        self._gpu = [device] if device.type == "cuda" else []
        with self._kept():
            _seed(int(generator.integers(2**63)), self._gpu)
            self.states = self._current()

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Inside, the generators go on where they were left the last time; outside they are as before."""
        with self._kept():
            torch.set_rng_state(self.states[0])
            for device, state in zip(self._gpu, self.states[1:], strict=True):
                torch.cuda.set_rng_state(state, device)
            yield
            self.states = self._current()

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        with streams.GLOBAL_STATES, torch.random.fork_rng(devices=self._gpu):
            yield

    def _current(self) -> list[Tensor]:
        return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in self._gpu)]


def _seed(value: int, gpus: Sequence[torch.device]) -> None:
    """Not torch.manual_seed, which would seed the generators of every GPU and leave them so."""
    torch.default_generator.manual_seed(value)
    for device in gpus:
        with torch.cuda.device(device):
            torch.cuda.manual_seed(value)


def make_network(recipe: Recipe, inputs: int, seed: int) -> nn.Module:
    """A new network whose weights depend on the seed alone; torch's generator is put back.

    Raises:
        TypeError: the factory makes something else than a module.
        ValueError: weights with hooks.
    """
    assert recipe.network is not None
    with streams.GLOBAL_STATES, torch.random.fork_rng(devices=[]):
        _seed(int(streams.generator("training", seed).integers(2**63)), [])
        network = recipe.network(inputs)
    if not isinstance(network, nn.Module):
        raise TypeError(f"expected `network` to make a torch module, got {type(network).__name__}")
    hooked = [name for name, p in network.named_parameters() if p._backward_hooks or p._post_accumulate_grad_hooks]
    if hooked:
        raise ValueError(f"expected weights without hooks of their own, which no copy has, {hooked[:3]} have some")
    own = private_copy(network)  # a factory may give the same module, or the same part of one, again
    for module, given in zip(own.modules(), network.modules(), strict=True):
        module.training = given.training
    return own.to(recipe.device)


@codec.record
@dataclasses.dataclass(frozen=True)
class Training:
    """How the networks of a result were made and trained.

    Attributes:
        network: the module as text.
        parameters: how many numbers it has.
        optimizer: the optimiser and its settings as text.
        schedule: class of the learning rate scheduler, or "none".
        steps: of the optimiser.
    """

    network: str
    parameters: int
    optimizer: str
    schedule: str
    steps: int


def description(recipe: Recipe, network: nn.Module, optimizer: torch.optim.Optimizer, schedule: Any) -> Training:
    """What a result says of its networks."""
    settings = {k: v for k, v in optimizer.defaults.items() if isinstance(v, (bool, int, float, str, tuple))}
    shown = ", ".join(f"{name}={value}" for name, value in sorted(settings.items()))
    assert recipe.steps is not None
    return Training(
        network=str(network),
        parameters=sum(p.numel() for p in network.parameters()),
        optimizer=f"{type(optimizer).__name__}({shown})",
        schedule="none" if schedule is None else type(schedule).__name__,
        steps=recipe.steps,
    )


def short_name(network: nn.Module) -> str:
    """A network in a few words: sizes of its linear layers, or its class."""
    sizes = [m for m in network.modules() if isinstance(m, nn.Linear)]
    if isinstance(network, nn.Sequential) and sizes:
        return " - ".join(str(n) for n in (sizes[0].in_features, *[m.out_features for m in sizes]))
    return type(network).__name__

"""Several networks of one making that are trained beside each other, each as if it were alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .recipe import OptimizerFactory, OwnRandomness, ScheduleFactory

Losses = Callable[[Tensor, slice], Tensor]  # outputs (b, n) of some of the networks, and which -> (b,)
_ACTIVATIONS = (
    nn.ReLU, nn.LeakyReLU, nn.ReLU6, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid,
    nn.Softplus, nn.Softsign, nn.Hardswish, nn.Hardtanh, nn.Hardsigmoid, nn.Tanhshrink, nn.LogSigmoid, nn.Identity,
)  # fmt: skip
# those that move each number by itself: of a stack of networks, each as alone
_BY_NUMBER = (
    torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adagrad,
    torch.optim.Adadelta, torch.optim.Adamax, torch.optim.NAdam, torch.optim.RAdam, torch.optim.Rprop,
)  # fmt: skip


class Ensemble(Protocol):
    """Networks that are trained beside each other."""

    optimizer: torch.optim.Optimizer
    schedule: Any

    def predict(self, inputs: Tensor) -> Tensor:
        """(b, n) outputs of b networks; inputs (n, d) for all of them, or (b, n, d) one by one."""
        ...

    def step(self, inputs: Tensor, losses: Losses) -> None:
        """One step of every network down its own loss."""
        ...

    def parameters(self) -> list[Tensor]:
        """All that is trained."""
        ...

    def modules(self) -> list[nn.Module]:
        """The networks as they are now."""
        ...

    def state(self) -> dict[str, Any]:
        """All that the next step depends on."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state of networks of this making."""
        ...


def ensemble(
    networks: Sequence[nn.Module],
    optimizer: OptimizerFactory,
    schedule: ScheduleFactory | None = None,
    *,
    seeds: Sequence[int],
) -> Ensemble:
    """The networks as one stack where that changes nothing for any of them, else one by one."""
    optimizer, schedule = _checked(optimizer, schedule)
    if stackable(networks):
        stack = Stack(networks)
        stack.optimizer = optimizer(stack.parameters())
        alone = optimizer(list(networks[0].parameters()))
        if type(alone) in _BY_NUMBER and _told(alone, [*networks[0].parameters()]) == _told(
            stack.optimizer, stack.parameters()
        ):
            stack.schedule = schedule(stack.optimizer) if schedule is not None else None
            return stack
    return OneByOne(networks, optimizer, schedule, seeds=seeds)


def _checked(
    optimizer: OptimizerFactory, schedule: ScheduleFactory | None
) -> tuple[OptimizerFactory, ScheduleFactory | None]:
    """The same, which refuse by name what they make where it is none."""

    def make(parameters: Any) -> torch.optim.Optimizer:
        made = optimizer(parameters)
        if not isinstance(made, torch.optim.Optimizer):
            raise TypeError(f"expected `optimizer` to make an optimizer of torch, got {type(made).__name__}")
        return made

    def plan(of: torch.optim.Optimizer) -> Any:
        assert schedule is not None
        made = schedule(of)
        if not hasattr(made, "step") or isinstance(made, torch.optim.lr_scheduler.ReduceLROnPlateau):
            raise TypeError(f"expected `schedule` to make one that goes by steps alone, got {type(made).__name__}")
        return made

    return make, None if schedule is None else plan


def _told(optimizer: torch.optim.Optimizer, parameters: list[Any]) -> str:
    """Which parameters are in which group, with which settings, and what else a step does: shapes may decide."""
    places = {id(parameter): i for i, parameter in enumerate(parameters)}
    groups = [[places.get(id(p)) for p in group["params"]] for group in optimizer.param_groups]
    settings = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    hooks = [bool(hook) for name, hook in vars(optimizer).items() if name.endswith("_hooks")]
    # a step that looks at several numbers together, by a hook or a function of the caller's, differs from itself
    return str((groups, settings, id(optimizer) if any(hooks) or "step" in vars(optimizer) else None))


def stackable(networks: Sequence[nn.Module]) -> bool:
    """Whether all are chains of the same linear layers and activations, without hooks or tied or frozen weights."""
    chains = [_chain(network) for network in networks]
    if any(not chain or type(chain[0]) is not nn.Linear for chain in chains):  # a first activation may be in place
        return False
    first = [_signature(m) for m in chains[0]]
    alike = all([_signature(m) for m in chain] == first for chain in chains)
    trained = all(p.requires_grad for network in networks for p in network.parameters())
    linear = sum(len(list(m.parameters())) for chain in chains for m in chain)
    trained = trained and linear == len({id(p) for network in networks for p in network.parameters()})  # none is tied
    return alike and trained and len({id(m) for chain in chains for m in chain}) == sum(map(len, chains))


def _chain(network: nn.Module) -> list[nn.Module]:
    """Layers in order; none where the network is more than a chain of known ones."""
    if _hooked(network):
        return []
    if type(network) is nn.Sequential:
        parts = [_chain(m) for m in network]
        return list(itertools.chain(*parts)) if all(parts) else []
    return [network] if type(network) is nn.Linear or type(network) in _ACTIVATIONS else []


def _hooked(module: nn.Module) -> bool:
    every = (torch.nn.modules.module._global_forward_hooks, torch.nn.modules.module._global_forward_pre_hooks)
    names = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(every) or any(getattr(module, name) for name in names) or "forward" in vars(module)


def _signature(module: nn.Module) -> tuple[Any, ...]:
    own = [(name, tuple(p.shape), p.dtype, p.device) for name, p in module.named_parameters()]
    return str(module), *own


class Stack:
    """Chains of linear layers as one: weights (b, out, in), one batched product per layer.

    Args:
        networks: for which `stackable` holds.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        self._networks = list(networks)
        chains = [_chain(network) for network in networks]
        # a batch of one matrix takes another path than one of several, with other last bits: one network is two
        stacked = chains * 2 if len(chains) == 1 else chains
        self._size, self._layers = len(stacked), list[tuple[Any, Any] | nn.Module]()
        self.optimizer: Any = None
        self.schedule: Any = None
        for layers in zip(*stacked, strict=True):
            if not isinstance(layers[0], nn.Linear):
                self._layers.append(layers[0])
                continue
            weight, bias = ([getattr(m, name) for m in layers] for name in ("weight", "bias"))
            self._layers.append((_leaf(weight), None if bias[0] is None else _leaf([b[None] for b in bias])))

    def predict(self, inputs: Tensor) -> Tensor:
        """(b, n), as `Ensemble`."""
        hidden = inputs.expand(self._size, *inputs.shape[-2:])
        for layer in self._layers:
            if isinstance(layer, nn.Module):
                hidden = layer(hidden)
            elif layer[1] is None:
                hidden = torch.bmm(hidden, layer[0].transpose(1, 2))
            else:
                hidden = torch.baddbmm(layer[1], hidden, layer[0].transpose(1, 2))
        return _column(hidden)[: len(self._networks)]

    def step(self, inputs: Tensor, losses: Losses) -> None:
        """As `Ensemble`: the sum of losses has each network's own gradient in its own part of the stack."""
        self.optimizer.zero_grad(set_to_none=True)
        losses(self.predict(inputs), slice(None)).sum().backward()
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()

    def parameters(self) -> list[Tensor]:
        """All that is trained."""
        return [p for layer in self._layers if not isinstance(layer, nn.Module) for p in layer if p is not None]

    @torch.no_grad()
    def modules(self) -> list[nn.Module]:
        """The networks that were given, with the weights as they are now."""
        for index, network in enumerate(self._networks):
            places = zip(_chain(network), self._layers, strict=True)
            for module, layer in places:
                if isinstance(module, nn.Linear) and not isinstance(layer, nn.Module):
                    module.weight.copy_(layer[0][index])
                    if module.bias is not None:
                        module.bias.copy_(layer[1][index, 0])
        return self._networks

    def state(self) -> dict[str, Any]:
        """As `Ensemble`."""
        return {"weights": [p.detach() for p in self.parameters()], **_state_of([self.optimizer], self._schedules)}

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """As `Ensemble`."""
        for parameter, kept in zip(self.parameters(), state["weights"], strict=True):
            parameter.copy_(kept)
        _restore([self.optimizer], self._schedules, state)

    @property
    def _schedules(self) -> list[Any]:
        return [] if self.schedule is None else [self.schedule]


def _state_of(optimizers: Sequence[Any], schedules: Sequence[Any]) -> dict[str, Any]:
    return {
        "optimizers": [each.state_dict() for each in optimizers],
        "schedules": [each.state_dict() for each in schedules],
    }


def _restore(optimizers: Sequence[Any], schedules: Sequence[Any], state: dict[str, Any]) -> None:
    for each, kept in [*zip(optimizers, state["optimizers"], strict=True)]:
        each.load_state_dict(kept)
    for each, kept in zip(schedules, state["schedules"], strict=True):
        each.load_state_dict(kept)


def _leaf(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack([p.detach() for p in parts]).requires_grad_()


class OneByOne:
    """Networks of any kind, each with an optimiser of its own.

    Args:
        networks: modules from (n, d) to (n, 1) or (n,).
        optimizer: makes the optimiser of one network.
        schedule: makes its schedule.
        seeds: of what each network draws while it is trained.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        optimizer: OptimizerFactory,
        schedule: ScheduleFactory | None = None,
        *,
        seeds: Sequence[int],
    ) -> None:
        self._networks = list(networks)
        devices = [next((p.device for p in n.parameters()), torch.device("cpu")) for n in networks]
        self._random = [OwnRandomness(seed, device) for seed, device in zip(seeds, devices, strict=True)]
        self._optimizers = [optimizer(list(network.parameters())) for network in networks]
        self._schedules = [schedule(each) for each in self._optimizers] if schedule is not None else []
        self.optimizer = self._optimizers[0]
        self.schedule = self._schedules[0] if self._schedules else None

    def predict(self, inputs: Tensor) -> Tensor:
        """(b, n), as `Ensemble`; in evaluation mode, so that looking changes nothing."""
        found = []
        for index, network in enumerate(self._networks):
            training = [module for module in network.modules() if module.training]
            network.eval()
            try:
                found.append(self._one(index, inputs)[0])
            finally:
                for module in training:
                    module.training = True
        return torch.stack(found)

    def _one(self, index: int, inputs: Tensor) -> Tensor:
        own = (inputs if inputs.ndim == 2 else inputs[index]).clone()  # a network may write over what it is given
        return _column(self._networks[index](own)[None])

    def step(self, inputs: Tensor, losses: Losses) -> None:
        """As `Ensemble`; optimisers that look more than once get a closure."""
        for index, optimizer in enumerate(self._optimizers):

            def closure(index: int = index, optimizer: torch.optim.Optimizer = optimizer) -> float:
                optimizer.zero_grad(set_to_none=True)
                loss = losses(self._one(index, inputs), slice(index, index + 1)).sum()
                loss.backward()
                return loss.item()

            with self._random[index]():
                optimizer.step(closure)
        for schedule in self._schedules:
            schedule.step()

    def parameters(self) -> list[Tensor]:
        """All that is trained."""
        return [p for network in self._networks for p in network.parameters()]

    def modules(self) -> list[nn.Module]:
        """The networks."""
        return self._networks

    def state(self) -> dict[str, Any]:
        """As `Ensemble`."""
        return {
            "networks": [network.state_dict() for network in self._networks],
            "random": [each.states for each in self._random],
            **_state_of(self._optimizers, self._schedules),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """As `Ensemble`."""
        for network, kept in zip(self._networks, state["networks"], strict=True):
            network.load_state_dict(kept)
        for each, states in zip(self._random, state["random"], strict=True):
            each.states = states
        _restore(self._optimizers, self._schedules, state)


def _column(outputs: Tensor) -> Tensor:
    """(b, n) of outputs (b, n, 1) or (b, n).

    Raises:
        ValueError: more than one output per sample.
    """
    if outputs.ndim == 3 and outputs.shape[2] == 1:
        return outputs[:, :, 0]
    if outputs.ndim != 2:
        raise ValueError(f"expected a network with one output per sample, (n, 1), got {tuple(outputs.shape[1:])}")
    return outputs

"""From the image to the output: the Lipschitz constant of every value, operation by operation."""

from __future__ import annotations

import dataclasses
import math
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg
from torch.utils import _pytree as pytree

from ._call import ZERO, Call, Jump, Log, UnboundedError, depends, together
from ._rules import REASONS, RULES, batch_norm_scale

Row = tuple[str, str, float]
_IN_PLACE = {"copy": "src", "fill": "value"}  # what they write


@dataclasses.dataclass
class _Held:
    """What a node is for the image that the graph is run on, and the logarithm of its Lipschitz constant."""

    value: Any
    log: Any  # Log, Jump, or a list of them
    state: bool = False  # the network's own


class Walk:
    """Runs a graph on one image and keeps the constants beside the values."""

    def __init__(self, graph: fx.GraphModule, modules: dict[str, nn.Module]) -> None:
        self.graph, self.modules = graph, modules
        self.held = {
            node: _Held(getattr(graph, str(node.target)), None, state=True)
            for node in graph.graph.nodes
            if node.op == "get_attr"  # all of them now: a layer looks at the batch norm behind it
        }
        self._rows: dict[fx.Node, Row] = {}
        self._counted: set[fx.Node] = set()  # batch norms that are counted with the layer before them

    @property
    def rows(self) -> tuple[Row, ...]:
        """(module, kind, factor) of every operation of one tensor that has another constant than 1, in order."""
        return tuple(self._rows.values())

    def run(self, image: Tensor) -> float:
        """Logarithm of the constant of all outputs together.

        Raises:
            ValueError: an operation without a known constant; the message names it, where it is, and the way out.
        """
        with torch.inference_mode(False), torch.no_grad():
            for node in self.graph.graph.nodes:
                if node.op == "output":
                    return self._output(node)
                try:
                    self.held[node] = self._visit(node, image)
                except UnboundedError as error:
                    raise ValueError(
                        f"expected functions with a known Lipschitz constant, {self._where(node)} calls "
                        f"{_name(node)}: {error}; bound the parts before and after it"
                    ) from error
                except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
                    raise ValueError(
                        f"expected functions with a known Lipschitz constant, {_name(node)} in {self._where(node)} "
                        f"cannot be bounded with these arguments: {error}; bound the parts before and after it"
                    ) from error
        raise AssertionError("a graph ends in its output")

    def _visit(self, node: fx.Node, image: Tensor) -> _Held:
        if node.op == "placeholder":
            return _Held(image, 0.0)
        if node.op == "get_attr":
            return self.held[node]
        if node.target is operator.getitem:
            source, at = self.held[node.args[0]], int(node.args[1])  # pyright: ignore[reportArgumentType]
            return _Held(source.value[at], source.log[at] if isinstance(source.log, list) else source.log)
        if node.target is torch._C._set_grad_enabled:
            return _Held(None, None)
        if not isinstance(node.target, torch._ops.OpOverload):
            raise UnboundedError("no rule is known for it")
        return self._operate(node, node.target)

    # ---------------------------------------------------------------- one operation
    def _operate(self, node: fx.Node, op: Any) -> _Held:
        call = self._call(node, op)
        if torch.Tag.nondeterministic_seeded in op.tags and not _is_off(call):
            raise UnboundedError(REASONS.get(call.name, "it is random, although the model is in evaluation mode"))
        jump = next((log for log in pytree.tree_leaves(call.logs) if isinstance(log, Jump)), None)
        if jump is not None:
            raise UnboundedError(f"it takes {jump.why}")
        written = [a.name for a in op._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
        if written and (written != [op._schema.arguments[0].name] or not op._schema.name.endswith("_")):
            raise UnboundedError("it writes into one of its arguments")
        before = self._sharing(call.args[written[0]]) if written else []
        old = call.args[written[0]].clone() if written else None
        call.result = call.run()
        if old is not None:
            call.args[written[0]] = old  # what the rule looks at
        log = self._bound(node, call) if depends(list(call.logs.values())) else None
        if written:
            self._overwrite(before, call.result, log)
        if isinstance(call.result, tuple | list) and not isinstance(log, list):
            log = [log] * len(call.result)
        return _Held(call.result, log)

    def _call(self, node: fx.Node, op: Any) -> Call:
        schema = op._schema.arguments
        given = dict(zip((a.name for a in schema), node.args, strict=False)) | dict(node.kwargs)
        args, logs = {}, {}
        for a in schema:
            value = given.get(a.name, a.default_value)
            args[a.name] = map_arg(value, lambda n: self.held[n].value)
            logs[a.name] = self._logs(value)
        return Call(op, op._schema.name.split("::")[-1].removesuffix("_"), args, logs, None)

    def _logs(self, value: Any) -> Any:
        if isinstance(value, fx.Node):
            return self.held[value].log
        if isinstance(value, list | tuple):
            every = [self._logs(one) for one in value]
            return every if any(one is not None for one in every) else None
        return None

    def _bound(self, node: fx.Node, call: Call) -> Any:
        if call.name in ("expand_as", "to", "type_as") and call.logs["self"] is None:
            return None  # a constant, in a form that is taken from the image
        if node in self._counted:
            return call.logs["input"]
        if call.name in _IN_PLACE and call.op._schema.name.endswith("_"):
            return self._written(call, _IN_PLACE[call.name])
        if call.name == "zero" and call.op._schema.name.endswith("_"):
            return ZERO
        rule = RULES.get(call.name)
        if rule is None:
            raise UnboundedError(REASONS.get(call.name, "no constant is known for it here"))
        unknown = [a.name for a in call.op._schema.arguments if a.name not in rule.arguments]
        if unknown:
            raise UnboundedError(f"its argument `{unknown[0]}` is not accounted for")
        if call.name == "linear" or call.name.startswith("conv"):
            self._follow(node, call)
        bound = rule.bound(call)
        if bound is not None and isinstance(call.result, Tensor) and not call.result.is_floating_point():
            raise UnboundedError(f"its result is {call.result.dtype}, no real number that could change a little")
        self._note(node, call, bound)
        return bound

    def _written(self, call: Call, source: str) -> float:
        log = call.logs[source]
        if log is None:
            return ZERO
        if not call.result.is_floating_point():
            raise UnboundedError(f"it rounds to {call.result.dtype}, which jumps")
        value = call.args[source]
        return log + math.log(call.result.numel() / max(value.numel(), 1)) / 2

    def _follow(self, node: fx.Node, call: Call) -> None:
        """What stands around a layer and is counted with it: a batch norm behind it, a circular padding before it."""
        users = list(node.users)
        self.held[node] = _Held(call.result, 0.0)  # for what takes it; its own constant comes later
        if (
            len(users) == 1
            and users[0].target is torch.ops.aten.batch_norm.default
            and users[0].args[0] is node
            and (all(n in self.held for n in users[0].all_input_nodes))
        ):
            following = self._call(users[0], users[0].target)
            constant = not any(depends(log) for key, log in following.logs.items() if key != "input")
            if constant and not following.args["training"] and (call.name != "linear" or call.result.ndim == 2):
                call.scale = batch_norm_scale(following.args)
                self._counted.add(users[0])
        before = node.args[0]
        if call.name.startswith("conv") and isinstance(before, fx.Node) and before.target is torch.ops.aten.pad.default:
            call.periodic = self._circular(before, call)
            if call.periodic is not None:
                if len(before.users) == 1:
                    self._rows.pop(before, None)
                call.logs["input"] = self.held[before.args[0]].log  # pyright: ignore[reportArgumentType]

    def _circular(self, node: fx.Node, call: Call) -> tuple[int, ...] | None:
        """The padding of a circular layer, if that is what a padding and this convolution make together."""
        padding = self._call(node, node.target).args
        pads, own = list(padding["pad"]), call.args["padding"]
        d = call.args["weight"].ndim - 2
        plain = not isinstance(own, str) and not any(own) and "transpose" not in call.name
        if padding["mode"] != "circular" or not plain or call.args.get("transposed") or len(pads) != 2 * d:
            return None
        sides = list(zip(pads[::2], pads[1::2], strict=True))[::-1]
        size = [n - a - b for n, (a, b) in zip(call.args["input"].shape[2:], sides, strict=True)]
        strides = list(call.args["stride"]) * (d if len(call.args["stride"]) == 1 else 1)
        fits = all(n % s == 0 for n, s in zip(size, strides, strict=True))
        outputs = all(m * s <= n for m, s, n in zip(call.result.shape[2:], strides, size, strict=True))
        return tuple(a for a, _ in sides) if fits and outputs and all(a == b >= 0 for a, b in sides) else None

    def _note(self, node: fx.Node, call: Call, bound: Any) -> None:
        logs = [log for log in pytree.tree_leaves(list(call.logs.values())) if log is not None]
        if not isinstance(bound, float) or len(logs) != 1:
            return
        factor = 0.0 if bound == ZERO else math.exp(min(bound - logs[0], 700)) if logs[0] != ZERO else 1.0
        if factor != 1:
            name = (node.meta.get("custom") or {}).get("module") or ""
            module = self.modules.get(name)
            own = module is not None and type(module).__module__.startswith("torch.nn") and name
            self._rows[node] = (name or _name(node), type(module).__name__ if own else _name(node), factor)

    # ---------------------------------------------------------------- memory
    def _sharing(self, tensor: Tensor) -> list[_Held]:
        """Everything that lies in the memory of a tensor that an operation is about to change."""
        return [held for held in self.held.values() if any(_shares(value, tensor) for value in _every(held.value))]

    def _overwrite(self, sharing: list[_Held], changed: Tensor, log: Log) -> None:
        """After a change in place: of what lies there, each part is as it was or as the changed tensor is."""
        for held in sharing:
            if held.state:
                raise UnboundedError("it changes the network's own parameters or buffers")
            old = held.log if isinstance(held.log, list) else [held.log] * len(_every(held.value))
            new = [self._mixed(value, one, changed, log) for value, one in zip(_every(held.value), old, strict=True)]
            held.log = new if isinstance(held.value, tuple | list) else new[0]

    def _mixed(self, value: Any, old: Log, changed: Tensor, new: Log) -> Any:
        if (old is None and new is None) or not _shares(value, changed):
            return old
        if _place(value) == _place(changed):
            return new
        if torch._debug_has_internal_overlap(value):  # pyright: ignore[reportPrivateImportUsage]
            return Jump("a view that shows elements of what was changed in place more than once")
        return together(ZERO if log is None else log for log in (old, new))

    # ---------------------------------------------------------------- the end
    def _output(self, node: fx.Node) -> float:
        logs: list[float] = []
        for leaf in pytree.tree_leaves(node.args[0]):
            if not isinstance(leaf, fx.Node):
                if leaf is not None and not isinstance(leaf, bool | int | float | str):
                    raise ValueError(
                        f"expected a model that returns tensors, it returns {type(leaf).__name__}; wrap it"
                    )
                continue
            for log in pytree.tree_leaves(self.held[leaf].log):
                if isinstance(log, Jump):
                    raise ValueError(f"expected outputs that can be bounded, one is {log.why}; leave it out")
                if log is not None:
                    logs.append(log)
        return together(logs)

    def _where(self, node: fx.Node) -> str:
        name = (node.meta.get("custom") or {}).get("module")
        module = self.modules.get(name or "")
        return f"{name!r} ({type(module).__name__})" if name else f"the model ({type(module).__name__})"


def _name(node: fx.Node) -> str:
    schema = getattr(node.target, "_schema", None)
    return schema.name.split("::")[-1] if schema is not None else str(node.target)


def _is_off(call: Call) -> bool:
    """Dropout and its kind, which draw nothing in evaluation mode."""
    return any(call.args.get(flag) is False for flag in ("train", "training"))


def _every(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple | list) else [value]


def _shares(value: Any, tensor: Tensor) -> bool:
    return isinstance(value, Tensor) and value.untyped_storage()._cdata == tensor.untyped_storage()._cdata


def _place(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return None
    return value.storage_offset(), value.shape, value.stride()

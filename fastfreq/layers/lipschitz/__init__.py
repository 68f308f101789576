"""An upper bound on the Lipschitz constant of a network, from the norms of its layers and how they are connected."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from torch import nn

from ._trace import traced
from ._walk import Walk


@dataclasses.dataclass(frozen=True)
class LipschitzBound:
    """An upper bound on ||f(x) - f(y)|| / ||x - y|| in L2 and the factor of every layer.

    Attributes:
        bound: of the whole network, from its input to its output; of several outputs, to all of them together.
        log10: its logarithm: bounds of deep networks leave the range of what is readable.
        layers: (name, kind, factor) of what has another factor than 1, in order of execution: the module's name and
            class, or the operation's where a module calls it in its own forward.
    """

    bound: float
    log10: float
    layers: tuple[tuple[str, str, float], ...]

    def table(self) -> list[dict[str, Any]]:
        """One row per layer: layer, kind, factor."""
        return [{"layer": name, "kind": kind, "factor": factor} for name, kind, factor in self.layers]


def lipschitz_bound(model: nn.Module, *, input_size: Sequence[int]) -> LipschitzBound:
    """Upper bound on the Lipschitz constant of a network in evaluation mode, with respect to L2 norms.

    The bound holds for the function of one image that the network is in real arithmetic, on all of R^n. A copy of the
    network is traced to the operations of torch that it runs, with the arguments that they get; whatever hooks,
    parametrisations, subclasses and in-place changes do is in there. Operations that follow each other multiply;
    branches that are added add up; what is concatenated or returned side by side adds up in squares. Each operation
    is looked up in one table; what is not there, or has an argument that the table does not account for, is refused.

    - Convolutions count with their spectral norm (for zero padding its bound by the periodic map on the enlarged
      grid), together with a batch norm that alone takes their output; linear layers with theirs.
    - Copies, selections, sums and average pooling count with sqrt(largest row sum x largest column sum) of their
      matrix, taken by running them with their own arguments; max pooling with the root of the number of windows that
      a pixel is in; products with constants with the largest; element-wise functions with their largest slope: GELU
      1.1289, SiLU 1.0998, Mish 1.0885, hardswish 3/2, sigmoid 1/4, softmax 1/2, ELU and LeakyReLU by their arguments.
    - Layer, group and instance norm count with max |gamma| / sqrt(eps), which is reached where the input is nearly
      constant: true, and rarely of use.
    - Attention, gates (squeeze and excitation) and quotients have no constant on unbounded inputs.

    Args:
        model: any module that takes one batch of images.
        input_size: (c, height, width) of its images; the bound is for this size.

    Raises:
        ValueError: a model that does not run on such images, or whose operations depend on the values in them; an
            operation without a known constant. The message names it and the module that calls it.
        TypeError: a model that cannot be copied.

    Source: composition as in Szegedy et al. 2014, "Intriguing properties of neural networks", section 4.3; attention:
        Kim, Papamakarios, Mnih 2021, "The Lipschitz Constant of Self-Attention", Theorem 3.1.
    """
    if len(input_size) < 1 or any(int(n) < 1 for n in input_size):
        raise ValueError(f"expected `input_size` (c, ...) of one image with positive sides, got {tuple(input_size)}")
    graph, image, modules = traced(model, tuple(int(n) for n in input_size))
    walk = Walk(graph, modules)
    log = walk.run(image)
    bound = math.exp(log) if log < 709 else math.inf
    return LipschitzBound(bound, log / math.log(10), walk.rows)

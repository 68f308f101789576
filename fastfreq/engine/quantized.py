"""int8 on a CPU: weights rounded by channel, activations by layer, in ranges that every run finds alike."""

from __future__ import annotations

import contextlib
import copy
import threading
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from fastfreq.vocabulary import streams

from .contexts import callers_level
from .measurement import Measurement
from .network import Network

_ENGINE = "x86"
_LOCK = threading.Lock()  # torch has one engine for all threads
_CALIBRATION, _BATCH = 64, 16  # images, and how many at a time
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_AGREES = 0.9  # share of classes below which a warning says that figures will differ


def check(what: Measurement, network: Network, *, compiled: bool) -> None:
    """Refuse what cannot run in int8.

    Raises:
        ValueError: a GPU, a CPU that torch has no int8 for, gradients, watched layers, a shared first layer, compile.
    """
    reasons = {
        "a network on a CPU": network.device.type == "cpu",
        "a processor that torch multiplies int8 on (x86)": _ENGINE in torch.backends.quantized.supported_engines,
        "a measurement without gradients": not what.gradients,
        "no hidden layers to look at": not what.watched,
        "share_stem=False": not getattr(what, "share_stem", False),
        "compile=False": not compiled,
    }
    for wanted, given in reasons.items():
        if not given:
            raise ValueError(f"expected {wanted} with precision='int8'; use 'fp32' or 'bf16' here")


def quantize(network: Network, few: Tensor) -> str:
    """Replace `network.net` by its int8 counterpart, batch norms folded in; how many classes stayed, in words.

    Ranges of activations come from synthetic photographs that depend on the shape alone: the images that are measured
    would give each shard a network of its own. The first convolution stays in float32, so that pixels outside [0, 1]
    are not clipped; so do attention and what is no module.

    Args:
        network: in float32, all hooks gone.
        few: (n, c, h, w) images on which classes are compared.

    Raises:
        ValueError: a forward pass that cannot be traced, or hooks, which would be lost.
    """
    if any(m._forward_hooks or m._forward_pre_hooks for m in network.net.modules()):
        raise ValueError("expected a network without forward hooks with precision='int8'; use 'fp32' or 'bf16' here")
    before = network(network.clean_batch(few)).argmax(dim=1)
    try:
        network.net = _converted(network, few)
        after = network(network.clean_batch(few)).argmax(dim=1)
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        raise ValueError(
            f"expected a network that torch.fx can trace and torch can run in int8, {network.name} is none ({reason}); "
            "use precision='fp32' or 'bf16'"
        ) from error
    same = int((before == after).sum())
    if same < _AGREES * len(few):
        warnings.warn(
            f"precision='int8' changes the class of {len(few) - same} of the first {len(few)} images: figures differ "
            "from those of 'fp32' by more than rounding",
            stacklevel=callers_level(),
        )
    return f"{same} of the first {len(few)} images in the class of fp32"


def _converted(network: Network, few: Tensor) -> nn.Module:
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    with _engine(), warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
        warnings.simplefilter("ignore")  # torch's own, about what it will call these functions one day
        example = network.clean_batch(few[:2].clone())
        mapping = get_default_qconfig_mapping(_ENGINE).set_module_name(_first_convolution(network.net, example), None)
        observed = prepare_fx(copy.deepcopy(network.net), mapping, (example,))
        for part in _photographs((few.shape[1], few.shape[2], few.shape[3])).split(_BATCH):
            observed(network.clean_batch(part))
        return convert_fx(observed)


def _first_convolution(net: nn.Module, batch: Tensor) -> str:
    """Its name; "" of a network that runs none.

    Raises:
        ValueError: a layer that runs twice: torch would round both outputs in the range of one.
    """
    called: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: called.append(name))
        for name, module in net.named_modules()
        if isinstance(module, (*_CONVOLUTIONS, nn.Linear))
    ]
    try:
        net(batch)
    finally:
        for hook in hooks:
            hook.remove()
    if twice := [name for name in called if called.count(name) > 1]:
        raise ValueError(f"layer {twice[0]!r} runs {called.count(twice[0])} times in one pass")
    modules = dict(net.named_modules())
    return next((name for name in called if isinstance(modules[name], _CONVOLUTIONS)), "")


@contextlib.contextmanager
def _engine() -> Iterator[None]:
    with _LOCK:
        before = torch.backends.quantized.engine
        torch.backends.quantized.engine = _ENGINE
        try:
            yield
        finally:
            torch.backends.quantized.engine = before


def _photographs(shape: tuple[int, int, int]) -> Tensor:
    """(64, c, h, w) in [0, 1]: amplitudes of 1 / f, brightness and contrast of photographs, channels much alike."""
    c, h, w = shape
    rng = streams.generator("probes", 1)
    f = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.fftfreq(w)[None, :])
    f[0, 0] = np.inf
    waves = np.fft.ifft2(np.fft.fft2(rng.standard_normal((_CALIBRATION, 1 + c, h, w))) / f).real
    waves /= np.maximum(waves.std(axis=(-2, -1), keepdims=True), 1e-12)
    mean, contrast = (rng.uniform(low, high, (_CALIBRATION, 1, 1, 1)) for low, high in ((0.3, 0.6), (0.1, 0.3)))
    pixels = mean + contrast * (0.9 * waves[:, :1] + 0.3 * waves[:, 1:])
    return torch.from_numpy(pixels.clip(0, 1)).float()

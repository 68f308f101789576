"""Words that verbs share. Nothing here needs torch."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from fractions import Fraction
from pathlib import Path
from typing import Any

RUN = ("precision", "batch_size", "channels_last", "compile", "fold_batch_norm", "shard", "checkpoint", "device")
"""Options of a run that have a word."""

Parser = argparse.ArgumentParser


def number(text: str) -> float:
    """A number, or a fraction such as 8/255."""
    try:
        return float(Fraction(text)) if "/" in text else float(text)
    except (ValueError, ArithmeticError):
        raise argparse.ArgumentTypeError(f"expected a number or a fraction such as 8/255, got {text!r}") from None


def shard(text: str) -> tuple[int, int]:
    """I/N."""
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise argparse.ArgumentTypeError(f"expected I/N with I from 0 to N - 1, such as 0/4, got {text!r}")
    return int(index), int(count)


def positive(text: str) -> int:
    """An integer from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def add_model(parser: Parser) -> None:
    """--model and --weights."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model", required=True, help="timm/NAME, torchvision/NAME, or FILE.py:FACTORY, a file that is run"
    )
    group.add_argument(
        "--weights", type=Path, metavar="FILE", help=".safetensors, or a .pt that weights_only loading accepts"
    )


def add_data(parser: Parser, *, required: bool = True, labels: bool = True, model: bool = True) -> None:
    """--data, how its images become what the model takes, and how many of them."""
    group = parser.add_argument_group("images")
    layouts = "a folder of classes, a folder with labels.csv, or an .npz" if labels else "a folder of images or an .npz"
    group.add_argument("--data", required=required, type=Path, metavar="PATH", help=layouts)
    group.add_argument(
        "--limit", type=positive, metavar="N", help="take N images, spread evenly over the data; all if left out"
    )
    group.add_argument(
        "--decoded",
        type=Path,
        metavar="DIR",
        help="decode image files once into DIR, for all passes and processes; default: nowhere",
    )
    of = " of FILE.py models' images" if model else ""
    group.add_argument("--resize", type=positive, metavar="N", help=f"shorter side{of}, before the crop")
    group.add_argument("--crop", type=positive, metavar="N", help=f"side of the centre crop{of}")
    if model:
        add_normalisation(group)
    if labels and model:
        group.add_argument(
            "--labels",
            choices=["given", "predicted"],
            default="given",
            help="predicted: the model's own classes of the images stand in for labels; default: given",
        )


def add_normalisation(group: Any) -> None:
    """--mean and --std."""
    group.add_argument("--mean", type=float, nargs="+", metavar="M", help="normalise FILE.py models inside: mean")
    group.add_argument("--std", type=float, nargs="+", metavar="S", help="... and standard deviation per channel")


def add_run(parser: Parser, names: Collection[str]) -> None:
    """How it runs: the words of `names` among `RUN`; none changes figures but by rounding."""
    group = parser.add_argument_group("how it runs")
    words: dict[str, tuple[str, dict[str, Any]]] = {
        "device": ("--device", {"help": "cuda, cpu ...; default: a GPU if there is one"}),
        "precision": ("--precision", {"choices": ["fp32", "tf32", "bf16", "fp16", "int8", "fastest"], "default": "fp32",
                                      "help": "of weights and activations; tf32 on GPUs alone; fastest: fp32 or "
                                              "bf16, by timing; default: fp32"}),
        "batch_size": ("--batch-size", {"type": positive, "metavar": "N",
                                        "help": "images in one forward pass; found by timing if left out"}),
        "channels_last": ("--channels-last", {"action": argparse.BooleanOptionalAction,
                                              "help": "layout of images; found by timing if left out"}),
        "compile": ("--compile", {"action": "store_true", "help": "run the network through torch.compile"}),
        "fold_batch_norm": ("--fold-batch-norm", {"action": "store_true",
                                                  "help": "fold batch norms into the layers before them"}),
        "shard": ("--shard", {"type": shard, "metavar": "I/N", "help": "every N-th image from the I-th on"}),
        "checkpoint": ("--checkpoint", {"type": Path, "metavar": "FILE",
                                        "help": "save finished images there and go on from them"}),
    }  # fmt: skip
    for name, (word, how) in words.items():
        if name in names:
            group.add_argument(word, **how)
    if "checkpoint" in names:
        group.add_argument(
            "--resume", action="store_true", help="go on from the images that a stopped run left beside its result"
        )


def add_out(parser: Parser, default: str) -> None:
    """--out and --force."""
    group = parser.add_argument_group("files")
    group.add_argument("--out", type=Path, metavar="DIR", help=f"default: {default}, or a fresh name beside it")
    group.add_argument("--force", action="store_true", help="overwrite results of other runs")


def add_said(parser: Parser) -> None:
    """What is printed: --quiet, --json, --traceback."""
    group = parser.add_argument_group("what is printed")
    group.add_argument("--quiet", action="store_true", help="nothing but warnings and errors")
    group.add_argument("--json", action="store_true", help="the figures in short as JSON, and nothing else")
    group.add_argument("--traceback", action="store_true", help="where a refusal came from")


def add_seed(parser: Parser, of: str = "the random signs") -> None:
    """--seed."""
    parser.add_argument("--seed", type=int, default=0, metavar="N", help=f"key of {of}; default: 0")


def add_eps(parser: Parser, *, required: bool = True, text: str = "") -> None:
    """--eps of a perturbation by frequency."""
    text = text or "needed: L2 norm per channel, pixels in [0, 1], such as 4.0 at 32 x 32, 15.7 at 224 x 224"
    parser.add_argument("--eps", type=number, required=required, help=text)


def add_size(parser: Parser, text: str = "side of the centred map; all frequencies if left out") -> None:
    """--size, of a map."""
    parser.add_argument("--size", type=positive, metavar="N", help=text)


def add_metrics(parser: Parser) -> None:
    """--metrics."""
    parser.add_argument(
        "--metrics", nargs="+", default=["error"], metavar="NAME", help="error, loss, top5_error ...; default: error"
    )


def add_attack(parser: Parser) -> None:
    """--attack and its settings."""
    parser.add_argument("--attack", choices=["fgsm", "pgd"], default="pgd", help="default: pgd")
    parser.add_argument("--eps", type=number, required=True, help="needed: radius in pixels of [0, 1], such as 8/255")
    parser.add_argument("--norm", default="linf", choices=["linf", "l2"], help="of pgd's ball; default: linf")
    parser.add_argument("--steps", type=positive, default=10, metavar="N", help="of pgd; default: 10")
    parser.add_argument("--step", type=number, metavar="S", help="length of one of pgd; default: 2.5 eps / steps")
    parser.add_argument("--no-random-start", action="store_true", help="start pgd from the image itself")


def attack(options: argparse.Namespace) -> Any:
    """What `add_attack` declared."""
    import fastfreq as ff

    if options.attack == "fgsm":
        return ff.FGSM(options.eps)
    random = {"random_start": not options.no_random_start, "seed": options.seed}
    return ff.PGD(options.eps, norm=options.norm, steps=options.steps, step=options.step, **random)


def add_input_size(parser: Parser) -> None:
    """--input-size."""
    parser.add_argument(
        "--input-size",
        type=positive,
        nargs="+",
        metavar="N",
        help="channels, height and width of an image; known for timm and torchvision models and with --data",
    )


def add_accuracy(parser: Parser, choices: tuple[str, ...]) -> None:
    """--accuracy of singular values."""
    text = "error relative to a layer's largest value: 1e-13, 1e-7, 3.5e-4; default: high"
    parser.add_argument("--accuracy", default="high", choices=choices, help=text)


def given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """What was asked for, by keyword; words that were left out leave the function's own default."""
    return {name: getattr(options, name) for name in names if getattr(options, name, None) is not None}

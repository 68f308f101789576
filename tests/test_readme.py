from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import torch

import fastfreq.cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_every_python_block_runs(tmp_path, monkeypatch, make_net, make_images):
    monkeypatch.chdir(tmp_path)
    model, other_model = make_net(), make_net(seed=1)
    images, labels = make_images(model, n=8, shape=(3, 64, 64))
    names = {"model": model, "other_model": other_model, "net": model, "images": images, "labels": labels}
    names |= {"torch": torch, "np": np}
    assert len(blocks("python")) >= 2
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)


def test_every_command_is_one_the_command_line_knows():
    commands = [line for block in blocks("bash") for line in block.replace("\\\n", " ").splitlines()]
    ours = [shlex.split(line.partition("&& ")[2] or line) for line in commands if "fastfreq " in line]
    assert len(ours) >= 4
    for words in ours:
        words = words[words.index("-m") + 1 :] if words[0] == "torchrun" else words
        assert words[0] == "fastfreq"
        fastfreq.cli._parser().parse_args([w for w in words[1:] if w != "..."])

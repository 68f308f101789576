"""`fastfreq sparse-coding`: layers as dictionaries: coherence of filters, non-zeros of activations, the guarantee."""

from __future__ import annotations

import argparse
from typing import Any

from . import _layer_words
from ._measure import Subject


class _SparseCoding(_layer_words.LayerVerb):
    kind, data, run_words = "sparse_coding", "unlabelled", ("batch_size", "device")

    def arguments(self, options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
        return {}

    def call(self, function: Any, subject: Subject, arguments: dict[str, Any]) -> Any:
        arguments.pop("device", None)  # the network is there
        arguments.pop("progress", None)
        images, _ = _layer_words.tensors(subject)
        return function(self.plain(subject, normalised=True), images, **arguments)

    def more(self, result: Any, options: argparse.Namespace, subject: Subject) -> list[str]:
        return [f"left out: {name} ({reason})" for name, reason in result.skipped]


VERB = _SparseCoding()

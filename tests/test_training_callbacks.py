"""A tracker inside Lightning and transformers: the real ones where installed, and as they call their callbacks."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

import fastfreq as ff

pytestmark = pytest.mark.usefixtures("one_thread")
X = np.arange(16) / 16
Y = np.sin(2 * np.pi * X)


def tracker_of(**options) -> ff.FrequencyTracker:
    measures = ff.training.ExactDFT(frequencies=[1])
    return ff.FrequencyTracker(X[:, None], Y, **{"measures": measures, **options})


class Logger:
    def __init__(self) -> None:
        self.lines: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, figures: dict[str, float], step: int) -> None:
        self.lines.append((step, figures))


@pytest.fixture
def stand_in(monkeypatch):
    """Modules that have a base class for callbacks and nothing else."""

    def make(name: str, **classes: type) -> None:
        module = types.ModuleType(name)
        vars(module).update(classes)
        if "." in name:
            monkeypatch.setitem(sys.modules, name.partition(".")[0], types.ModuleType(name.partition(".")[0]))
        monkeypatch.setitem(sys.modules, name, module)

    return make


def trainer_of(logger: Logger, **state) -> types.SimpleNamespace:
    return types.SimpleNamespace(
        **{"current_epoch": 0, "global_step": 0, "callback_metrics": {}, "loggers": [logger], **state}
    )


@pytest.mark.parametrize("module", ["lightning.pytorch", "pytorch_lightning"])
def test_lightning_looks_after_each_epoch(module, stand_in, monkeypatch):
    for name in ("lightning", "lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    base = type("Callback", (), {})
    stand_in(module, Callback=base)
    tracker, net, logger = tracker_of(), nn.Linear(1, 1), Logger()
    callback = tracker.lightning_callback()
    assert isinstance(callback, base)
    for epoch in range(3):
        trainer = trainer_of(logger, current_epoch=epoch, global_step=7 * (epoch + 1))
        trainer.callback_metrics = {"train_loss": torch.tensor(0.5 + epoch)}
        callback.on_train_batch_end(trainer, net, None, None, 0)
        callback.on_train_epoch_end(trainer, net)
    callback.on_fit_end(trainer, net)
    history = tracker.history
    assert history.steps.tolist() == [1, 2, 3] and history.losses[:, 0].tolist() == [0.5, 1.5, 2.5]
    assert [step for step, _ in logger.lines] == [7, 14, 21]
    assert logger.lines[0][1]["frequency/dft/1"] == pytest.approx(history.errors["dft"][0, 0, 0])


def test_lightning_looks_after_each_step_of_the_optimizer(stand_in, tmp_path):
    stand_in("lightning.pytorch", Callback=type("Callback", (), {}))
    tracker = tracker_of(every=2, path=tmp_path / "run.npz")
    callback = tracker.lightning_callback(when="step")
    for batch in range(8):  # gradients of two batches are one step
        callback.on_train_batch_end(
            trainer_of(Logger(), global_step=batch // 2 + 1), nn.Linear(1, 1), None, None, batch
        )
    callback.on_exception(None, None, KeyboardInterrupt())
    assert ff.load(tmp_path / "run.npz").steps.tolist() == [2, 4]


def test_transformers_looks_after_each_epoch_or_step(stand_in):
    base = type("TrainerCallback", (), {})
    stand_in("transformers", TrainerCallback=base)
    for when, steps in (("epoch", [1, 2]), ("step", [1, 2, 3, 4])):
        tracker, net = tracker_of(), nn.Linear(1, 1)
        callback = tracker.transformers_callback(when=when)
        assert isinstance(callback, base)
        state = types.SimpleNamespace(log_history=[{"loss": 0.25}], epoch=0.0, global_step=0)
        for step in range(1, 5):
            state.global_step, state.epoch = step, step / 2
            callback.on_step_end(None, state, None, model=net)
            if step % 2 == 0:
                callback.on_epoch_end(None, state, None, model=net, optimizer=None)
        callback.on_train_end(None, state, None)
        assert tracker.history.steps.tolist() == steps and (tracker.history.losses == 0.25).all()
        assert "frequency/dft/1" in state.log_history[-1] and len(state.log_history) == 1 + len(steps)


def test_refusals(monkeypatch, stand_in):
    for name in ("lightning", "lightning.pytorch", "pytorch_lightning", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'fastfreq\[lightning\]'"):
        tracker_of().lightning_callback()
    with pytest.raises(ImportError, match=r"pip install 'fastfreq\[transformers\]'"):
        tracker_of().transformers_callback()
    stand_in("transformers", TrainerCallback=object)
    with pytest.raises(ValueError, match="`when` of \\['epoch', 'step'\\], got 'batch'"):
        tracker_of().transformers_callback(when="batch")


@pytest.mark.filterwarnings("ignore")
def test_the_real_lightning_trainer(tmp_path):
    lightning = pytest.importorskip("lightning.pytorch")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(1, 16), nn.Dropout(0.2), nn.Tanh(), nn.Linear(16, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x)

        def training_step(self, batch, _):
            loss = (self(batch[0]) - batch[1]).square().mean()
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    data = torch.utils.data.TensorDataset(*(torch.from_numpy(a).float()[:, None] for a in (X, Y)))
    ends = []
    for followed in (True, False):
        torch.manual_seed(0)
        tracker, module = tracker_of(), Module()
        trainer = lightning.Trainer(
            max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, default_root_dir=tmp_path,
            callbacks=[tracker.lightning_callback()] if followed else [],
        )  # fmt: skip
        trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=4, shuffle=True))
        ends.append([w.detach().clone() for w in module.parameters()])
        if followed:
            assert tracker.history.steps.tolist() == [1, 2, 3] and np.isfinite(tracker.history.losses).all()
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


@pytest.mark.filterwarnings("ignore")
def test_the_real_transformers_trainer(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(1, 16), nn.Dropout(0.2), nn.Tanh(), nn.Linear(16, 1))

        def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
            logits = self.net(x)
            return (
                {"logits": logits} if labels is None else {"loss": (logits - labels).square().mean(), "logits": logits}
            )

    rows = [{"x": torch.tensor([a]).float(), "labels": torch.tensor([b]).float()} for a, b in zip(X, Y, strict=True)]
    ends = []
    for followed in (True, False):
        torch.manual_seed(0)
        model = Model()
        inputs = {"x": X[:, None].astype(np.float32)}
        tracker = ff.FrequencyTracker(inputs, Y, points=X[:, None], measures=ff.training.ExactDFT(frequencies=[1]))
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path), num_train_epochs=3, per_device_train_batch_size=4, report_to=[], use_cpu=True,
            save_strategy="no", logging_steps=2, disable_tqdm=True, seed=1,
        )  # fmt: skip
        trainer = transformers.Trainer(
            model=model, args=arguments, train_dataset=rows,
            callbacks=[tracker.transformers_callback()] if followed else [],
        )  # fmt: skip
        trainer.train()
        ends.append([w.detach().clone() for w in model.parameters()])
        if followed:
            assert tracker.history.steps.tolist() == [1, 2, 3] and np.isfinite(tracker.history.losses).all()
            assert any("frequency/dft/1" in entry for entry in trainer.state.log_history)
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))

"""Losses and gradients of the trainer against a computation row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq  # type: ignore[import-untyped]  # ships no types
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback

from tessy.lab.bundled import student_path
from tessy.training.dataset import load_sequences
from tessy.training.student import load_weights, read_student
from tessy.training.trainer import arguments, make_trainer
from tessy.training.weighted_loss import separates_rows
from tests.support.sft_runs import quick_config, token_file
from tests.support.tiny_causal import model_of

pytestmark = pytest.mark.xdist_group("trl")  # which takes long to import


class GradientCallback(TrainerCallback):
    """Keeps the gradients of the first optimizer step."""

    def __init__(self) -> None:
        self.gradients: dict[str, Tensor] = {}

    def on_pre_optimizer_step(self, *_: object, **values: Any) -> None:
        model = values["model"]
        self.gradients = {name: p.grad.clone() for name, p in model.named_parameters()}


def by_hand(path: Path) -> tuple[float, dict[str, Tensor]]:
    """Return loss and gradients of one step on all rows, each read alone."""
    model = load_weights(read_student(str(student_path()), None), trained=True)
    total, weight = torch.zeros(()), 0.0
    for row in pq.read_table(path).to_pylist():
        ids, weights = torch.tensor(row["input_ids"]), torch.tensor(row["loss_weights"])
        logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1]
        losses = torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none")
        total = total + (losses * weights[1:]).sum()
        weight += float(weights[1:].sum())
    (total / weight).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return float(total.detach()) / weight, gradients


@pytest.mark.parametrize(
    ("loss", "packing"), [("student=1,teacher=0.25", True), ("student", False)]
)
def test_gradients_equal_those_by_hand(run: Path, tmp_path: Path, loss: str, packing: bool):
    data = token_file(run, "--loss", loss)
    expected_loss, expected = by_hand(data.path)
    # One step of 16 sequences, accumulated from 8 micro batches of 2, some of them blank.
    config = quick_config(run, tmp_path, epochs=1, batch=16, device_batch=2, packing=packing)
    settings = arguments(config, tmp_path, 1)
    settings.max_grad_norm = 0.0  # no clipping
    settings.save_strategy = "no"
    sequences = load_sequences(data, packing=packing, batch=16, cache=tmp_path / "cache")
    student = read_student(str(student_path()), None)
    trainer = make_trainer(load_weights(student, trained=True), student, sequences, settings, None)
    seen = GradientCallback()
    trainer.add_callback(seen)
    trainer.train()
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert logged == [pytest.approx(expected_loss, rel=1e-5)]
    assert seen.gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        difference = (seen.gradients[name] - gradient).norm() / gradient.norm()
        assert difference < 1e-5, name


def test_a_model_that_mixes_packed_rows_is_found(run: Path):
    assert separates_rows(model_of("qwen3"))
    mixing = model_of("qwen3")

    class Mixing:
        """The same model without positions, which then reads joined rows as one."""

        def __call__(self, **inputs: Any) -> Any:
            return mixing(input_ids=inputs["input_ids"], use_cache=False)

    model: Any = Mixing()
    assert not separates_rows(model)
    assert isinstance(mixing, PreTrainedModel)

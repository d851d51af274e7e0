"""The training itself: transformers' Trainer, one line an epoch, the best epoch on disk.

Shapes: B segments, T tokens of the longest of them, C = 2 classes.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from transformers import (
    EvalPrediction,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback

from tessy.boundary.classifier.labels import CAPABILITY, IGNORED, STYLE
from tessy.boundary.training.dataset import TrainingExample
from tessy.boundary.training.view import TrainingView
from tessy.config.predictors import TrainPredictorConfig
from tessy.core.errors import ConfigError, StorageError

PATIENCE_EVALUATIONS = 2  # without a better validation accuracy, then training stops
_PAD = 0  # any id: the model is causal, so what stands behind a segment changes nothing in it


@dataclass(frozen=True, slots=True)
class EpochScores:
    """How an epoch went; the scores are on the validation part.

    Attributes:
        epoch: Which, from 1.
        train_loss: Mean loss over the epoch's tokens (nats, style weighted).
        accuracy: Share of tokens whose class is right.
        precision: Of the tokens said to be style, the share that is.
        recall: Of the style tokens, the share said to be.
        f1: Harmonic mean of both.
        tokens: Tokens they are of.
        style_tokens: Style tokens among them.
    """

    epoch: int
    train_loss: float
    accuracy: float
    precision: float
    recall: float
    f1: float
    tokens: int
    style_tokens: int

    @property
    def majority(self) -> float:
        """The accuracy of always saying the more frequent class."""
        return max(self.style_tokens, self.tokens - self.style_tokens) / self.tokens

    def warning(self) -> str | None:
        """What to say of a classifier that has learnt nothing of use; None if it has."""
        if self.accuracy > self.majority and self.f1:
            return None
        usual = "style" if 2 * self.style_tokens > self.tokens else "capability"
        return (
            f"this predictor is of no use: its validation accuracy is {self.accuracy:.4f} and its "
            f"style F1 {self.f1:.4f}, and always saying {usual} has an accuracy of "
            f"{self.majority:.4f} (n = {self.tokens:,} tokens). Train longer (--epochs, a smaller "
            "--batch), with another --learning-rate (higher for a small base), or on more segments"
        )


@dataclass(frozen=True, slots=True)
class FitResult:
    """The outcome: scores by epoch, the epoch that was kept, wall-clock seconds, where it ran."""

    epochs: tuple[EpochScores, ...]
    chosen: int
    seconds: float
    device: str
    processes: int

    @property
    def best(self) -> EpochScores:
        """The scores of the epoch that was kept."""
        return self.epochs[self.chosen - 1]


class _OneDevice(TrainingArguments):
    """A process trains on one GPU, however many it sees; several take one process each."""

    @property
    def n_gpu(self) -> int:
        return min(1, int(super().n_gpu))


class _Rows(torch.utils.data.Dataset[dict[str, list[int]]]):
    def __init__(self, examples: Sequence[TrainingExample]) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        example = self._examples[index]
        return {"input_ids": example.ids, "labels": example.labels}


def fit(
    model: PreTrainedModel,
    train: Sequence[TrainingExample],
    validation: Sequence[TrainingExample],
    options: TrainPredictorConfig,
    *,
    folder: Path,
    processes: int,
    view: TrainingView,
) -> FitResult:
    """Train ``model`` in place; the weights of its best epoch are written to ``folder``.

    Args:
        model: The token classifier.
        train: What it learns from.
        validation: What chooses the epoch.
        options: The hyperparameters.
        folder: Written to by the first process only.
        processes: How many train together; they share each batch.
        view: Shows progress; silent in all processes but the first.

    Raises:
        ConfigError: A batch does not fit the GPU's memory, or the loss is no number any more.
        StorageError: The weights cannot be written.
    """
    arguments = _arguments(options, folder, processes)
    keeper = _Keeper(folder, view)
    trainer = Trainer(
        model=model,
        args=arguments,
        data_collator=collate,
        train_dataset=_Rows(train),
        eval_dataset=_Rows(validation),
        compute_loss_func=_WeightedLoss(options.style_weight),
        compute_metrics=_metrics,
        preprocess_logits_for_metrics=_classes,
        callbacks=[keeper],
    )
    trainer.remove_callback(PrinterCallback)
    started = time.monotonic()
    try:
        with view:
            trainer.train()
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"the GPU's memory is too small for {options.batch} segments of up to "
            f"{options.max_tokens} tokens at a time ({error}); give a smaller --batch or "
            "--max-tokens, or train on more GPUs (torchrun)"
        ) from error
    seconds = time.monotonic() - started
    _part(trainer, model)
    return FitResult(
        tuple(keeper.epochs), keeper.best.epoch, seconds, _device_name(arguments), processes
    )


def _part(trainer: Trainer, model: PreTrainedModel) -> None:
    """Leave the group of processes, all at the same time.

    A gloo group that is only freed when the others are gone waits for them for ever, and the
    trainer's wrapped model holds it.
    """
    trainer.accelerator.free_memory()
    trainer.model_wrapped = model
    gc.collect()
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()


def _arguments(options: TrainPredictorConfig, folder: Path, processes: int) -> TrainingArguments:
    gpu = torch.cuda.is_available()
    return _OneDevice(
        output_dir=str(folder),
        per_device_train_batch_size=options.batch // processes,
        per_device_eval_batch_size=options.batch // processes,
        num_train_epochs=options.epochs,
        learning_rate=options.learning_rate,
        optim="adamw_torch",
        lr_scheduler_type="linear",
        seed=options.seed,
        bf16=gpu and torch.cuda.is_bf16_supported(),
        use_cpu=not gpu,
        ddp_backend=None if gpu or processes == 1 else "gloo",
        ddp_find_unused_parameters=False,
        dataloader_pin_memory=gpu,
        train_sampling_strategy="group_by_length",
        logging_strategy="epoch",
        logging_nan_inf_filter=False,  # it would hide that training has failed
        eval_strategy="epoch",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        log_level="error",
    )


def _device_name(arguments: TrainingArguments) -> str:
    if arguments.device.type != "cuda":
        return arguments.device.type
    precision = "bfloat16" if arguments.bf16 else "float32"
    return f"{torch.cuda.get_device_name(arguments.device)}, {precision}"


def collate(rows: Sequence[Mapping[str, list[int]]]) -> dict[str, Tensor]:
    """``input_ids`` and ``labels``, each (B, T), padded on the right."""
    width = max(len(row["input_ids"]) for row in rows)

    def padded(key: str, value: int) -> Tensor:
        return torch.tensor([row[key] + [value] * (width - len(row[key])) for row in rows])

    return {"input_ids": padded("input_ids", _PAD), "labels": padded("labels", IGNORED)}


class _WeightedLoss:
    """Cross entropy, style tokens weighted, over all labels of an optimizer step."""

    def __init__(self, style_weight: float) -> None:
        weights = {CAPABILITY: 1.0, STYLE: style_weight}
        self._weights = torch.tensor([weights[label] for label in sorted(weights)])

    def __call__(
        self,
        outputs: Any,  # noqa: ANN401  # each architecture has an output type of its own
        labels_bt: Tensor,
        num_items_in_batch: Tensor | None = None,
    ) -> Tensor:
        logits_btc: Tensor = outputs.logits
        total = torch.nn.functional.cross_entropy(
            logits_btc.flatten(0, 1).float(),
            labels_bt.flatten(),
            self._weights.to(logits_btc.device),
            ignore_index=IGNORED,
            reduction="sum",
        )
        # All processes divide by what all of them hold, so that every token counts the same.
        known = (labels_bt != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        return total / known


def _classes(logits_btc: Tensor, _labels_bt: Tensor) -> Tensor:
    return logits_btc.argmax(-1)


def _metrics(prediction: EvalPrediction) -> dict[str, float]:
    labels_bt = np.asarray(prediction.label_ids)
    known = labels_bt != IGNORED
    said = np.asarray(prediction.predictions)[known] == STYLE
    truth = labels_bt[known] == STYLE
    hits, said_style, style = (int(mask.sum()) for mask in (said & truth, said, truth))
    return {
        "accuracy": float((said == truth).mean()),
        "precision": hits / said_style if said_style else 0.0,
        "recall": hits / style if style else 0.0,
        "f1": 2 * hits / (said_style + style) if said_style + style else 0.0,
        "tokens": int(known.sum()),
        "style_tokens": style,
    }


class _Keeper(TrainerCallback):
    """Writes the weights down whenever validation is best so far; stops when it no longer rises."""

    def __init__(self, folder: Path, view: TrainingView) -> None:
        self._folder = folder
        self._view = view
        self._loss = float("nan")
        self.epochs: list[EpochScores] = []

    @property
    def best(self) -> EpochScores:
        """The best epoch so far, the first of equal ones."""
        return max(self.epochs, key=lambda scores: scores.accuracy)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        self._view.step(state.global_step, state.max_steps)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **said: object,
    ) -> None:
        self._loss = cast("Mapping[str, float]", said["logs"]).get("loss", self._loss)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **said: object,
    ) -> None:
        if not math.isfinite(self._loss):
            raise ConfigError(
                f"the loss is {self._loss} in epoch {len(self.epochs) + 1}: training has lost its "
                f"way; give a smaller --learning-rate than {args.learning_rate:g}, or a "
                "--style-weight nearer to 1"
            )
        metrics = cast("Mapping[str, float]", said["metrics"])
        scores = EpochScores(
            epoch=len(self.epochs) + 1,
            train_loss=self._loss,
            accuracy=metrics["eval_accuracy"],
            precision=metrics["eval_precision"],
            recall=metrics["eval_recall"],
            f1=metrics["eval_f1"],
            tokens=int(metrics["eval_tokens"]),
            style_tokens=int(metrics["eval_style_tokens"]),
        )
        self.epochs.append(scores)
        best = self.best.epoch
        self._view.epoch(scores, best=best == scores.epoch)
        if best == scores.epoch and state.is_world_process_zero:
            self._save(cast("PreTrainedModel", said["model"]))
        control.should_training_stop |= scores.epoch - best >= PATIENCE_EVALUATIONS

    def _save(self, model: PreTrainedModel) -> None:
        try:
            model.save_pretrained(self._folder)
        # safetensors has an error of its own for a full disk, which is a plain Exception.
        except Exception as error:
            raise StorageError(
                f"the weights cannot be written to {self._folder}: {error}; free some space or "
                "mend the rights, and train again"
            ) from error

"""Training by transformers' Trainer: reports each epoch and keeps the best one on disk.

Shapes: B segments, T tokens of the longest of them, C = 2 classes.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
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

from tessy.boundary.classifier.labels import IGNORED, STYLE
from tessy.boundary.training.dataset import TrainingExample
from tessy.boundary.training.progress import EpochScores, TrainingProgress
from tessy.config.predictors import TrainPredictorConfig
from tessy.core.errors import ConfigError, DeviceMemoryError, StorageError, cause_of

PATIENCE_EVALUATIONS = 2  # epochs without a better validation accuracy before training stops
_METRICS = ("accuracy", "precision", "recall", "f1", "tokens", "style_tokens")
_PAD = 0  # any id: the model is causal, so padding on the right has no effect


@dataclass(frozen=True, slots=True)
class FitResult:
    """The result of a training."""

    epochs: tuple[EpochScores, ...]
    chosen: int  # the epoch whose weights were kept, from 1
    seconds: float  # wall-clock time
    device: str
    processes: int

    @property
    def best(self) -> EpochScores:
        """Scores of the epoch whose weights were kept."""
        return self.epochs[self.chosen - 1]


class OneDeviceMixin:
    """Makes training arguments use one GPU per process, however many are visible."""

    @property
    def n_gpu(self) -> int:
        """Number of GPUs of this process: 0 or 1."""
        return min(1, int(super().n_gpu))  # type: ignore[misc]  # of TrainingArguments


class _OneDevice(OneDeviceMixin, TrainingArguments):
    pass


def _rows(examples: Sequence[TrainingExample]) -> Any:  # noqa: ANN401  # Trainer accepts lists
    return [{"input_ids": example.ids, "labels": example.labels} for example in examples]


def fit(
    model: PreTrainedModel,
    train: Sequence[TrainingExample],
    validation: Sequence[TrainingExample],
    options: TrainPredictorConfig,
    *,
    folder: Path,
    processes: int,
    progress: TrainingProgress,
) -> FitResult:
    """Train ``model`` in place; the weights of its best epoch are written to ``folder``.

    The ``processes`` share each batch; the first one writes.

    Raises:
        DeviceMemoryError: A batch does not fit in GPU memory.
        ConfigError: The loss is not finite.
        StorageError: The weights cannot be written.
    """
    arguments = _arguments(options, folder, processes)
    checkpoints = _BestEpochCallback(folder, progress)
    trainer = Trainer(
        model=model,
        args=arguments,
        data_collator=collate,
        train_dataset=_rows(train),
        eval_dataset=_rows(validation),
        compute_loss_func=partial(_weighted_loss, style_weight=options.style_weight),
        compute_metrics=_metrics,
        preprocess_logits_for_metrics=lambda logits_btc, _: logits_btc.argmax(-1),
        callbacks=[checkpoints],
    )
    trainer.remove_callback(PrinterCallback)
    started = time.monotonic()
    try:
        with progress:
            trainer.train()
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError(
            f"the GPU's memory is too small for {options.batch} segments of up to "
            f"{options.max_tokens} tokens at a time ({cause_of(error)}); give a smaller --batch or "
            "--max-tokens, or train on more GPUs (torchrun)"
        ) from error
    seconds = time.monotonic() - started
    leave_process_group(trainer, model)
    device, best = device_name(arguments), checkpoints.best.epoch
    return FitResult(tuple(checkpoints.epochs), best, seconds, device, processes)


def leave_process_group(trainer: Trainer, model: PreTrainedModel) -> None:
    """Leave the process group, in all processes at the same time.

    A gloo group that is freed after the others have left blocks forever, and the trainer's wrapped
    model holds a reference to it.
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
        logging_nan_inf_filter=False,  # would hide a diverged training
        eval_strategy="epoch",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        log_level="error",
    )


def device_name(arguments: TrainingArguments) -> str:
    """Return the device that trains, with its precision if it is a GPU."""
    if arguments.device.type != "cuda":
        return arguments.device.type
    precision = "bfloat16" if arguments.bf16 else "float32"
    return f"{torch.cuda.get_device_name(arguments.device)}, {precision}"


def collate(rows: Sequence[Mapping[str, list[int]]]) -> dict[str, Tensor]:
    """Return ``input_ids`` and ``labels``, each (B, T), padded on the right."""
    return {
        key: pad_sequence([torch.tensor(row[key]) for row in rows], True, padding)
        for key, padding in (("input_ids", _PAD), ("labels", IGNORED))
    }


def _weighted_loss(
    outputs: Any,  # noqa: ANN401  # output types differ by architecture
    labels_bt: Tensor,
    num_items_in_batch: Tensor | None = None,
    *,
    style_weight: float,
) -> Tensor:
    """Return the cross entropy, averaged over an optimizer step."""
    logits_btc: Tensor = outputs.logits
    total = torch.nn.functional.cross_entropy(
        logits_btc.flatten(0, 1).float(),
        labels_bt.flatten(),
        torch.tensor([1.0, style_weight], device=logits_btc.device),  # capability, style
        ignore_index=IGNORED,
        reduction="sum",
    )
    # Divide by the count over all processes, so that every token has the same weight.
    count = (labels_bt != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
    return total / count


def _metrics(prediction: EvalPrediction) -> dict[str, float]:
    labels_bt = np.asarray(prediction.label_ids)
    has_label = labels_bt != IGNORED
    predicted = np.asarray(prediction.predictions)[has_label] == STYLE
    truth = labels_bt[has_label] == STYLE
    correct, predicted_style, style = (
        int(mask.sum()) for mask in (predicted & truth, predicted, truth)
    )
    return {
        "accuracy": float((predicted == truth).mean()),
        "precision": correct / predicted_style if predicted_style else 0.0,
        "recall": correct / style if style else 0.0,
        "f1": 2 * correct / (predicted_style + style) if predicted_style + style else 0.0,
        "tokens": int(has_label.sum()),
        "style_tokens": style,
    }


class _BestEpochCallback(TrainerCallback):
    """Saves the weights of the best epoch by validation accuracy; stops training early."""

    def __init__(self, folder: Path, progress: TrainingProgress) -> None:
        self._folder = folder
        self._progress = progress
        self._loss = float("nan")
        self.epochs: list[EpochScores] = []

    @property
    def best(self) -> EpochScores:
        """The best epoch so far; the first one on a tie."""
        return max(self.epochs, key=lambda scores: scores.accuracy)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        self._progress.report_step(state.global_step, state.max_steps)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **values: object,
    ) -> None:
        self._loss = cast("Mapping[str, float]", values["logs"]).get("loss", self._loss)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **values: object,
    ) -> None:
        if not math.isfinite(self._loss):
            raise ConfigError(
                f"the loss is {self._loss} in epoch {len(self.epochs) + 1}: training has "
                f"diverged; give a smaller --learning-rate than {args.learning_rate:g}, or a "
                "--style-weight nearer to 1"
            )
        metrics = cast("Mapping[str, Any]", values["metrics"])
        figures = {name: metrics[f"eval_{name}"] for name in _METRICS}
        scores = EpochScores(len(self.epochs) + 1, self._loss, **figures)
        self.epochs.append(scores)
        best = self.best.epoch
        self._progress.report_epoch(scores, best=best == scores.epoch)
        if best == scores.epoch and state.is_world_process_zero:
            self._save(cast("PreTrainedModel", values["model"]))
        control.should_training_stop |= scores.epoch - best >= PATIENCE_EVALUATIONS

    def _save(self, model: PreTrainedModel) -> None:
        try:
            model.save_pretrained(self._folder)
        # For a full disk, safetensors raises its own error, a direct subclass of Exception.
        except Exception as error:
            raise StorageError(
                f"the weights cannot be written to {self._folder}: {cause_of(error)}; free "
                "some space or fix the permissions, and train again"
            ) from error

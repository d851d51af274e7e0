"""Training by TRL's SFTTrainer: a checkpoint per epoch, resumed from the last one."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    PreTrainedModel,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_callback import PrinterCallback
from trl.trainer.sft_config import SFTConfig

from tessy.boundary.training.fit import OneDeviceMixin, device_name, leave_process_group
from tessy.boundary.training.progress import TrainingProgress
from tessy.config.training import SftConfig
from tessy.core.errors import ConfigError, DeviceMemoryError, StorageError, cause_of
from tessy.data.export.trainer_folder import WARMUP_SHARE
from tessy.storage.atomic import apply_umask
from tessy.training.checkpoints import (
    RECORD,
    checkpoints,
    complete,
    keep_model,
    make_durable,
)
from tessy.training.curves import epoch_losses, steps_of
from tessy.training.dataset import Sequences
from tessy.training.launcher import is_sharded
from tessy.training.student import StudentSpec, adapter_config, load_weights
from tessy.training.weighted_loss import TokenTrainer, WeightedCollator, separates_rows


@dataclass(frozen=True, slots=True)
class SftResult:
    """The result of a fine-tuning."""

    history: list[dict[str, Any]]  # the trainer's log, of all sessions
    seconds: float  # of this session
    device: str
    peak_bytes: int | None  # of memory on the GPU of this process


class _Arguments(OneDeviceMixin, SFTConfig):
    pass


def arguments(options: SftConfig, out: Path, processes: int) -> SFTConfig:
    """Return the trainer's arguments; starts the process group if there are several processes."""
    gpu = torch.cuda.is_available()
    return _Arguments(
        output_dir=str(out),
        per_device_train_batch_size=options.device_batch,
        gradient_accumulation_steps=options.batch // (options.device_batch * processes),
        num_train_epochs=options.epochs,
        learning_rate=options.highest_learning_rate,
        lr_scheduler_type="cosine",
        optim="adamw_torch",
        seed=options.seed,
        bf16=gpu and torch.cuda.is_bf16_supported(),
        use_cpu=not gpu,
        gradient_checkpointing=options.gradient_checkpointing,
        ddp_backend=None if gpu or processes == 1 else "gloo",
        ddp_find_unused_parameters=False,
        dataloader_pin_memory=gpu,
        # Sequences are prepared, and TRL would cut them.
        dataset_kwargs={"skip_prepare_dataset": True},
        padding_free=options.packing,
        max_length=None,
        logging_steps=1,
        logging_nan_inf_filter=False,  # would hide a diverged training
        save_strategy="epoch",
        report_to="none",
        disable_tqdm=True,
        log_level="error",
    )


def make_trainer(
    model: PreTrainedModel,
    student: StudentSpec,
    sequences: Sequences,
    settings: SFTConfig,
    lora_rank: int | None,
) -> TokenTrainer:
    """Return a trainer of ``model`` on prepared sequences, a whole number of batches."""
    batch = settings.per_device_train_batch_size * settings.gradient_accumulation_steps
    steps = len(sequences.dataset) // (batch * settings.world_size) * settings.num_train_epochs
    # Rounded down: the first step of a warm-up has a learning rate of 0.
    settings.warmup_steps = int(WARMUP_SHARE * steps)
    set_seed(settings.seed)  # new adapter weights
    trainer = TokenTrainer(
        model=model,
        args=settings,
        train_dataset=sequences.dataset,
        processing_class=student.tokenizer,
        peft_config=None if lora_rank is None else adapter_config(lora_rank),
    )
    # TRL accepts no other collator for joined sequences.
    trainer.data_collator = WeightedCollator(
        student.tokenizer.pad_token_id, padding_free=settings.padding_free
    )
    trainer.remove_callback(PrinterCallback)
    if lora_rank is not None:
        # peft would write a README.md with a path of this machine, before training has finished.
        adapter: Any = trainer.model
        adapter.create_or_update_model_card = lambda folder: None
    return trainer


def fit(
    student: StudentSpec,
    sequences: Sequences,
    options: SftConfig,
    settings: SFTConfig,
    *,
    facts: Mapping[str, object],
    progress: TrainingProgress,
) -> SftResult:
    """Train the student, from the last checkpoint if there is one; the result is written to disk.

    ``facts`` are written into each checkpoint.

    Raises:
        DeviceMemoryError: A micro batch does not fit in GPU memory.
        ConfigError: The loss is not finite, or the model cannot read packed rows.
        StorageError: The weights cannot be written.
    """
    out = Path(str(settings.output_dir))
    model = load_weights(student, trained=options.lora_rank is None)
    # Flash attention needs a GPU, and separates rows by itself; shared weights are not complete.
    if options.packing and student.attention == "sdpa" and not is_sharded():
        _check_packing(model, student.name)
    trainer = make_trainer(model, student, sequences, settings, options.lora_rank)
    trainer.add_callback(_EpochCallback(trainer, out, student.dtype, facts, progress))
    last = checkpoints(out)[-1:]
    started = time.monotonic()
    try:
        with progress:
            trainer.train(resume_from_checkpoint=str(last[0]) if last else None)
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError(
            f"the GPU's memory is too small ({cause_of(error)}); give a smaller --device-batch or "
            "--max-tokens, use --lora-rank, or share the model between GPUs "
            "(examples/accelerate/)"
        ) from error
    seconds = time.monotonic() - started
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    _save(trainer, out)
    if trainer.is_world_process_zero():
        keep_model(out, student.dtype)
        make_durable(out)
        apply_umask(out, RECORD)
        for folder in checkpoints(out):
            keep_model(folder, student.dtype)
    history = list(trainer.state.log_history)
    leave_process_group(trainer, model)
    return SftResult(history, seconds, device_name(settings), peak)


def _check_packing(model: PreTrainedModel, name: str) -> None:
    try:
        if separates_rows(model):
            return
        fault = "each row would depend on the one before it"
    # Third-party modelling code may raise anything here.
    except Exception as error:
        fault = repr(error)
    raise ConfigError(f"the model {name!r} cannot read packed rows: {fault}; give --no-packing")


def _save(trainer: TokenTrainer, folder: Path) -> None:
    try:
        trainer.save_model(str(folder))
    # For a full disk, safetensors raises its own error, a direct subclass of Exception.
    except Exception as error:
        raise StorageError(
            f"the model cannot be written to {folder}: {cause_of(error)}; free some space or fix "
            "the permissions, then run the same command"
        ) from error


class _EpochCallback(TrainerCallback):
    """Marks the checkpoint of each epoch as complete, and reports the epoch."""

    def __init__(
        self,
        trainer: TokenTrainer,
        out: Path,
        dtype: torch.dtype,
        facts: Mapping[str, object],
        progress: TrainingProgress,
    ) -> None:
        self._trainer = trainer
        self._out = out
        self._dtype = dtype
        self._facts = facts
        self._progress = progress

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
        loss = cast("Mapping[str, float]", values["logs"]).get("loss", 0.0)
        if not math.isfinite(loss):
            raise ConfigError(
                f"the loss is {loss} at step {state.global_step}: training has diverged; give a "
                f"smaller --learning-rate than {args.learning_rate:g}, and --fresh"
            )

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        self._trainer.accelerator.wait_for_everyone()  # each process writes its own states
        if not state.is_world_process_zero:
            return
        folder = self._out / f"checkpoint-{state.global_step}"
        epoch = round(state.epoch or 0)
        complete(folder, {**self._facts, "epoch": epoch, "step": state.global_step})
        for older in checkpoints(self._out)[:-1]:
            keep_model(older, self._dtype)
        loss = epoch_losses(steps_of(state.log_history), epoch)[-1]["loss"]
        self._progress.report_row(
            (str(epoch), f"{state.global_step:,}", f"{loss:.4f}"), folder.name
        )

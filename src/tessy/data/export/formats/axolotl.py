"""``axolotl``: a folder of token ids for axolotl, which needs attention masks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tessy.core.errors import ConfigError
from tessy.core.records import Trajectory
from tessy.data.export.format import ExportJob, ExportResult
from tessy.data.export.formats.tokens import write_tokens
from tessy.data.export.trainer_folder import (
    WARMUP_SHARE,
    Files,
    TrainingSettings,
    trainer_format,
    yaml,
)


def _write(job: ExportJob, rows: Iterable[Trajectory], path: Path) -> ExportResult:
    from tessy.data.export.parquet import AXOLOTL_SCHEMA
    from tessy.data.export.tokens import parse_loss

    if len({weight for weight in parse_loss(job.options.loss).values() if weight}) > 1:
        raise ConfigError(
            f"--loss {job.options.loss}: axolotl has no loss weights; pass all, student or "
            "teacher, or train with `tessy sft`"
        )
    return write_tokens(job, rows, path, AXOLOTL_SCHEMA)


def _configure(settings: TrainingSettings) -> Files:
    values = {
        "base_model": settings.model,
        "datasets": [{"path": settings.data, "ds_type": "parquet"}],
        "dataset_prepared_path": f"{settings.folder}-prepared",
        "sequence_len": settings.context_tokens,
        "sample_packing": True,
        "pad_to_sequence_len": True,
        "flash_attention": True,
        "gradient_checkpointing": True,
        "num_epochs": settings.epochs,
        "micro_batch_size": 1,
        "gradient_accumulation_steps": settings.accumulated,
        "optimizer": "adamw_torch",
        "learning_rate": settings.learning_rate,
        "lr_scheduler": "cosine",
        "warmup_ratio": WARMUP_SHARE,
        "bf16": True,
        "deepspeed": "deepspeed_configs/zero3_bf16.json",
        "saves_per_epoch": 1,
        "output_dir": settings.output,
    }
    remark = (
        "`axolotl fetch deepspeed_configs` provides the DeepSpeed file.\n"
        "Rows of more than sequence_len tokens are left out. Rows are token ids: no `type`."
    )
    return {"train.yaml": yaml(values, remark)}


FORMAT = trainer_format(
    "axolotl",
    data_name="train.parquet",
    write=_write,
    configure=_configure,
    command="axolotl train {folder}/train.yaml",
    options=frozenset({"loss", "tokenizer"}),
)

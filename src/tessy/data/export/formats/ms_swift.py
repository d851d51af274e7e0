"""``ms-swift``: a folder for ms-swift 4."""

from __future__ import annotations

from tessy.data.export.format import write_json_lines
from tessy.data.export.formats.messages import convert
from tessy.data.export.trainer_folder import (
    WARMUP_SHARE,
    Files,
    TrainingSettings,
    trainer_format,
    yaml,
)


def _configure(settings: TrainingSettings) -> Files:
    values = {
        "model": settings.model,
        "tuner_type": "full",
        "deepspeed": "zero3",
        "dataset": [settings.data],
        "max_length": settings.context_tokens,
        "truncation_strategy": "delete",
        "packing": True,
        "attn_impl": "flash_attn",
        "torch_dtype": "bfloat16",
        "num_train_epochs": settings.epochs,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": settings.accumulated,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_ratio": WARMUP_SHARE,
        "save_strategy": "epoch",
        "output_dir": settings.output,
    }
    remark = "Rows of more than max_length tokens are left out."
    return {"train.yaml": yaml(values, remark)}


FORMAT = trainer_format(
    "ms-swift",
    data_name="train.jsonl",
    write=lambda job, rows, path: write_json_lines(convert, rows, path),
    configure=_configure,
    command="NPROC_PER_NODE=8 swift sft --config {folder}/train.yaml",
)

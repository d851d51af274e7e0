"""``llama-factory``: a folder for LLaMA-Factory 0.9."""

from __future__ import annotations

import json

from tessy.data.export.format import write_json_lines
from tessy.data.export.formats.sharegpt import convert, skipped
from tessy.data.export.trainer_folder import (
    WARMUP_SHARE,
    Files,
    TrainingSettings,
    trainer_format,
    yaml,
)

_DATA = "train.jsonl"


def _configure(settings: TrainingSettings) -> Files:
    entry = {"run": {"file_name": _DATA, "formatting": "sharegpt"}}
    values = {
        "model_name_or_path": settings.model,
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "full",
        "deepspeed": "examples/deepspeed/ds_z3_config.json",
        "dataset_dir": settings.folder,
        "dataset": "run",
        "cutoff_len": settings.context_tokens,
        "packing": True,
        "neat_packing": True,
        "flash_attn": "fa2",
        "num_train_epochs": settings.epochs,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": settings.accumulated,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_ratio": WARMUP_SHARE,
        "bf16": True,
        "save_strategy": "epoch",
        "plot_loss": True,
        "output_dir": settings.output,
    }
    remark = (
        "The path of the DeepSpeed file is relative to LLaMA-Factory's repository.\n"
        "Rows of more than cutoff_len tokens are cut. The template is taken from the tokenizer."
    )
    return {
        "train.yaml": yaml(values, remark),
        "dataset_info.json": json.dumps(entry, indent=2) + "\n",
    }


FORMAT = trainer_format(
    "llama-factory",
    data_name=_DATA,
    write=lambda job, rows, path: write_json_lines(convert, rows, path),
    configure=_configure,
    remark=skipped,
    command="FORCE_TORCHRUN=1 llamafactory-cli train {folder}/train.yaml",
)

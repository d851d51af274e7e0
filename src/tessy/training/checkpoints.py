"""Checkpoints of a fine-tuning: one per epoch; only the last one can be resumed from.

A checkpoint is complete once it contains ``sft.json``, which is written last. When the next one is
complete, an older one keeps only the model, in the data type of its base.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tessy.storage import jsonl
from tessy.storage.atomic import apply_umask, new_file, sync_path

RECORD = "sft.json"
# States that only a resume reads: of the trainer, FSDP and DeepSpeed.
_STATES = (
    "optimizer*",
    "scheduler.pt",
    "scaler.pt",
    "rng_state*.pth",
    "training_args.bin",
    "pytorch_model_fsdp*",
    "global_step*",
    "latest",
    "zero_to_fp32.py",
)


def checkpoints(out: Path) -> list[Path]:
    """Return the complete checkpoints in ``out``, oldest first."""
    found = [path for path in out.glob("checkpoint-*") if (path / RECORD).is_file()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def remove_incomplete(out: Path) -> None:
    """Delete checkpoints that were being written when the process ended."""
    for path in out.glob("checkpoint-*"):
        if path.is_dir() and not (path / RECORD).is_file():
            shutil.rmtree(path)


def complete(folder: Path, facts: Mapping[str, object]) -> None:
    """Make the files of a checkpoint durable, then mark it as complete."""
    make_durable(folder)
    jsonl.write_json(folder / RECORD, facts)
    apply_umask(folder, RECORD)


def make_durable(folder: Path) -> None:
    """Fsync everything in ``folder``."""
    for path in (*folder.rglob("*"), folder):
        sync_path(path)


def keep_model(folder: Path, dtype: torch.dtype) -> None:
    """Delete the states of the training, and convert full weights to ``dtype``."""
    for pattern in _STATES:
        for path in folder.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if dtype == torch.float32 or not (folder / "config.json").is_file():
        return
    for file in folder.glob("*.safetensors"):
        tensors = {
            name: tensor.to(dtype) if tensor.is_floating_point() else tensor
            for name, tensor in load_file(file).items()
        }
        with new_file(file) as partial:
            save_file(tensors, partial, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text("utf-8"))
    jsonl.write_json(folder / "config.json", {**config, "dtype": str(dtype).removeprefix("torch.")})
    apply_umask(folder, "config.json")

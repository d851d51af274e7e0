"""Annotations of the bundled student's style, small base models, and options to train them."""

import json
from pathlib import Path
from random import Random
from typing import Any

import torch
from transformers import (
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tessy.config.predictors import TrainPredictorConfig
from tessy.core.records import Annotation, Message, StyleSpan, problem_digest
from tessy.lab.marker import style_spans
from tessy.lab.styles import STUDENT
from tessy.lab.tasks import make_problem, write_trace
from tests.support.tiny_bpe import tokenizer

SIZES: dict[str, Any] = {
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}


def annotation(number: int, **more: Any) -> Annotation:
    """Return thinking of the bundled student about a problem, annotated by rule."""
    rng = Random(f"segment/{number}")
    text = write_trace(make_problem("calc", rng), (STUDENT,), rng).thinking[:220]
    fields = {
        "id": f"q-{number}",
        "sample": 0,
        "segment": 0,
        "question": problem_digest([Message(role="user", content=f"question {number}")]),
        "author": "student",
        "start": 0,
        "text": text,
        "attempts": 1,
        "style": tuple(StyleSpan(start=a, end=b) for a, b in style_spans(text)),
    }
    return Annotation(**fields | more)


ROWS = [annotation(number) for number in range(240)]


def directory(folder: Path, segments: list[Annotation], **more: Any) -> Path:
    folder.mkdir()
    config = {"schema": 1, "rows": "annotations", "data_config": {"rule": "lab:mark"}}
    (folder / "config.json").write_text(json.dumps(config | more))
    lines = "".join(row.model_dump_json() + "\n" for row in segments)
    (folder / "annotations.jsonl").write_text(lines)
    return folder


def save(folder: Path, model: Any, words: Any = None) -> str:
    model.save_pretrained(folder)
    (words or tokenizer()).save_pretrained(folder)
    return str(folder)


def qwen3(kind: Any = Qwen3ForCausalLM, **more: Any) -> Any:
    torch.manual_seed(5)
    return kind(Qwen3Config(**SIZES | more))


def quick_options(folder: Path) -> TrainPredictorConfig:
    """Return options of a training that takes a few seconds: a small base model and few rows."""
    rows = directory(folder / "annotations", ROWS[:60])
    base = save(folder / "base", qwen3())
    return TrainPredictorConfig(
        annotations=rows,
        out=folder / "out",
        base=base,
        epochs=1,
        learning_rate=3e-3,
        validation_share=0.2,
        test_share=0.1,
    )


def changed(options: TrainPredictorConfig, **more: Any) -> TrainPredictorConfig:
    return options.model_copy(update=more)

"""Running `tessy evaluate-predictor` in tests."""

import io
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from tessy.boundary.evaluation.evaluate import evaluate_predictor
from tessy.config.predictors import EvaluatePredictorConfig


def evaluate(folder: Path, out: Path, *predictors: str, **options: Any) -> dict[str, Any]:
    console = Console(file=io.StringIO(), width=400)
    config = EvaluatePredictorConfig(
        annotations=folder,
        predictor=predictors,
        out=out,
        **{"part": "all", "positions": 300, **options},
    )
    assert evaluate_predictor(config, console) == 0
    report: dict[str, Any] = json.loads((out / "evaluation.json").read_text("utf-8"))
    assert isinstance(console.file, io.StringIO)
    report["printed"] = console.file.getvalue()
    return report


def value(estimate: dict[str, Any] | None) -> float | None:
    return None if estimate is None else estimate["value"]


def values(figures: dict[str, Any]) -> dict[str, float | None]:
    return {name: value(estimate) for name, estimate in figures.items()}

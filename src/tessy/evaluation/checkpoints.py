"""Scores of the checkpoints of a training run, by epoch."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from rich.table import Table

from tessy.config.evaluation import EvaluateConfig
from tessy.core.errors import ConfigError
from tessy.core.formatting import interval, percent, percentage
from tessy.evaluation.results import SCORES
from tessy.evaluation.scores import EvaluationScore
from tessy.runtime.terminal import plain_table
from tessy.storage import jsonl
from tessy.storage.atomic import write_atomically
from tessy.storage.run_paths import RunPaths

_NAME = re.compile(r"checkpoint-(\d+)")
_MODEL_FILES = ("config.json", "adapter_config.json")
PLOT = "scores.svg"


class Checkpoint(NamedTuple):
    """A folder `checkpoint-STEP`."""

    folder: Path
    step: int
    epoch: float | None  # None if the folder does not state it

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.name

    @property
    def title(self) -> str:
        """Name for people."""
        return self.name if self.epoch is None else f"{self.name} (epoch {self.epoch:g})"


class EpochScore(NamedTuple):
    """The score of a checkpoint."""

    checkpoint: Checkpoint
    score: EvaluationScore


def has_own_model(model: str) -> bool:
    """Return whether ``model`` is the folder or the hub id of a model."""
    folder = Path(model).expanduser()
    return not folder.is_dir() or any((folder / name).is_file() for name in _MODEL_FILES)


def find_checkpoints(config: EvaluateConfig) -> list[Checkpoint]:
    """Return the checkpoints in the folder ``model``, by step; empty if it has none.

    Raises:
        ConfigError: Checkpoints are asked for, but the options do not allow it.
    """
    folder = Path(config.model).expanduser()
    found = []
    for path in folder.glob("checkpoint-*") if folder.is_dir() else ():
        match = _NAME.fullmatch(path.name)
        if match and path.is_dir():
            found.append(Checkpoint(path, int(match[1]), _epoch(path)))
    if not found and config.checkpoints:
        raise ConfigError(
            f"--checkpoints: {config.model} has no folder checkpoint-STEP; pass the --out of "
            "`tessy sft` as --model"
        )
    if found and config.url:
        raise ConfigError(
            "--checkpoints: a server has one model; leave out --url to run them in this process, "
            "or serve and evaluate them one by one"
        )
    if found and RunPaths(config.out).config.exists():
        raise ConfigError(
            f"--out: {config.out} is a run, but checkpoints need a directory for several runs; "
            "choose another --out"
        )
    return sorted(found, key=lambda checkpoint: checkpoint.step)


def _epoch(folder: Path) -> float | None:
    with suppress(OSError, ValueError, KeyError, TypeError):  # none, or not one of the trainer
        return float(json.loads((folder / "trainer_state.json").read_bytes())["epoch"])
    return None


def write_epochs(out: Path, benchmark: str, scores: Sequence[EpochScore]) -> Table:
    """Write scores.json and scores.svg of all checkpoints; return them as a table."""
    rows, table = [], plain_table(f"{benchmark}: pass@1 by epoch")
    for heading in ("checkpoint", "epoch", "pass@1", "95 %", "responses"):
        table.add_column(heading, justify="left" if heading == "checkpoint" else "right")
    for checkpoint, score in scores:
        best = score.pass_1
        epoch = "–" if checkpoint.epoch is None else f"{checkpoint.epoch:g}"
        ends = interval(best.low, best.high, percentage) if best else ""
        value = percent(best.value if best else None)
        table.add_row(checkpoint.name, epoch, value, ends, f"{score.n:,}")
        rows.append(
            {
                "checkpoint": checkpoint.name,
                "step": checkpoint.step,
                "epoch": checkpoint.epoch,
                "pass@1": best and {"value": best.value, "low": best.low, "high": best.high},
                "responses": score.n,
                "problems": score.problems,
            }
        )
    jsonl.write_json(out / SCORES, {"benchmark": benchmark, "checkpoints": rows})
    write_atomically(out / PLOT, draw(benchmark, scores).encode())
    return table


_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 560, 320, 56, 20, 36, 48


def draw(benchmark: str, scores: Sequence[EpochScore]) -> str:
    """Return a plot of pass@1 by epoch (or step) with 95 % intervals, as SVG."""
    by_epoch = all(checkpoint.epoch is not None for checkpoint, _ in scores)
    points = [
        ((checkpoint.epoch or 0.0) if by_epoch else float(checkpoint.step), score.pass_1)
        for checkpoint, score in scores
    ]
    largest = max((x for x, _ in points), default=1.0) or 1.0

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            round(_LEFT + x / largest * (_WIDTH - _LEFT - _RIGHT), 1),
            round(_HEIGHT - _BOTTOM - y * (_HEIGHT - _TOP - _BOTTOM), 1),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{_LEFT}" y="20" font-size="14">{_escaped(benchmark)}: pass@1, 95 % interval'
        "</text>",
    ]
    for tick in range(0, 101, 25):
        x, y = at(0, tick / 100)
        parts.append(f'<path d="M{x} {y}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{x - 8}" y="{y + 4}" text-anchor="end">{tick} %</text>')
    line = []
    for x_value, best in points:
        x, axis = at(x_value, 0)
        parts.append(f'<text x="{x}" y="{axis + 18}" text-anchor="middle">{x_value:g}</text>')
        if best is None:
            continue
        y = at(0, best.value)[1]
        line.append(f"{x},{y}")
        if best.low is not None and best.high is not None:
            ends = f"M{x} {at(0, best.low)[1]}V{at(0, best.high)[1]}"
            parts.append(f'<path d="{ends}" stroke="#0072B2"/>')
        parts.append(f'<circle cx="{x}" cy="{y}" r="4" fill="#0072B2"/>')
    parts.append(f'<polyline points="{" ".join(line)}" fill="none" stroke="#0072B2"/>')
    label = "epoch" if by_epoch else "step"
    parts.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 8}" text-anchor="middle">{label}</text>')
    return "\n".join((*parts, "</svg>\n"))


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")

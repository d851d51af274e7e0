"""Loss and learning rate of a training: loss.json and loss.svg."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from tessy.storage import jsonl
from tessy.storage.atomic import write_atomically

_FIELDS = ("step", "epoch", "loss", "learning_rate", "grad_norm")
_BLUE, _ORANGE = "#0072B2", "#E69F00"  # of Okabe and Ito's colour-blind safe palette


def steps_of(history: Iterable[Mapping[str, Any]]) -> list[dict[str, float]]:
    """Return the optimizer steps in a trainer's log, without its totals."""
    return [
        {name: row[name] for name in _FIELDS if name in row} for row in history if "loss" in row
    ]


def epoch_losses(steps: Sequence[Mapping[str, float]], epochs: int) -> list[dict[str, float]]:
    """Return the mean loss of each finished epoch; steps are evenly spread over epochs."""
    per_epoch = max(1, round(len(steps) / epochs)) if epochs else 1
    return [
        {
            "epoch": epoch + 1,
            "step": steps[end - 1]["step"],
            "loss": fmean(row["loss"] for row in steps[epoch * per_epoch : end]),
        }
        for epoch in range(epochs)
        if (end := (epoch + 1) * per_epoch) <= len(steps)
    ]


def write_curves(folder: Path, history: Iterable[Mapping[str, Any]], epochs: int) -> None:
    """Write ``loss.json`` and ``loss.svg`` for ``epochs`` finished epochs."""
    steps = steps_of(history)
    document = {
        "loss": "mean over the tokens of a step, weighted (nats)",
        "epochs": epoch_losses(steps, epochs),
        "steps": steps,
    }
    jsonl.write_json(folder / "loss.json", document)
    write_atomically(folder / "loss.svg", draw(document))


def draw(document: Mapping[str, Any]) -> bytes:
    """Return the plot of the content of loss.json as SVG; deterministic, with white background."""
    from tessy.storage.figures import figure_of, svg

    steps, epochs = document["steps"], document["epochs"]
    with figure_of(7.0, 3.6) as figure:
        axes = figure.subplots()
        axes.plot(
            [row["step"] for row in steps],
            [row["loss"] for row in steps],
            color=_BLUE,
            linewidth=0.8,
            alpha=0.5,
            label="step",
        )
        axes.plot(
            [row["step"] for row in epochs],
            [row["loss"] for row in epochs],
            "o-",
            color=_ORANGE,
            markersize=4,
            label="mean of an epoch, at its end",
        )
        axes.set_xlabel("optimizer step")
        axes.set_ylabel("loss (nats per token)")
        axes.legend(frameon=False)
        return svg(figure)

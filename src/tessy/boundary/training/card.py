"""The metadata written beside a predictor's weights: training.json and README.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tessy.boundary.classifier.conventions import Conventions
from tessy.boundary.training.dataset import PartCounts
from tessy.boundary.training.fit import FitResult
from tessy.config.predictors import SplitPart
from tessy.core.formatting import markdown_table, percent
from tessy.storage.cards import front_matter, listed, short_digest, write_card


@dataclass(frozen=True, slots=True)
class PredictorCard:
    """The training metadata of a predictor.

    Attributes:
        options: The hyperparameters, by option name.
        base_on_hub: Whether the base model is on a hub, not a local folder.
    """

    conventions: Conventions
    options: Mapping[str, float]
    parts: Mapping[SplitPart, PartCounts]
    fit: FitResult
    base_on_hub: bool

    def to_json(self) -> dict[str, Any]:
        """Return the content of training.json."""
        fit = asdict(self.fit)
        return {
            **self.conventions.to_json(),
            "options": dict(self.options),
            "parts": {
                part: {**asdict(counts), "style_share": round(counts.style_share, 4)}
                for part, counts in self.parts.items()
            },
            **fit,
            "epochs": [{key: round(n, 6) for key, n in epoch.items()} for epoch in fit["epochs"]],
            "seconds": round(self.fit.seconds, 1),
            "warning": self.fit.best.warning(),
        }


def write_predictor_card(card: PredictorCard, folder: Path) -> None:
    """Write ``training.json`` and ``README.md``.

    Raises:
        StorageError: They cannot be written.
    """
    write_card(folder, "training.json", card.to_json(), _readme(card))


def _readme(card: PredictorCard) -> str:
    conventions, fit, best = card.conventions, card.fit, card.fit.best
    window, source = conventions.window, conventions.annotations
    annotator = f" by {source.annotator}" if source.annotator else ""
    processes = f", {fit.processes} processes" if fit.processes > 1 else ""
    warning = best.warning()
    warned = f"\n**Warning**: {warning}.\n" if warning else ""
    fields: dict[str, str | list[str]] = {
        "library_name": "transformers",
        "pipeline_tag": "token-classification",
    }
    if card.base_on_hub:
        fields["base_model"] = conventions.base
    return f"""\
{front_matter(fields | {"tags": ["tessy", "boundary-predictor"]})}\
# Boundary predictor of the {conventions.author}

A causal token classifier that predicts which words of a reasoning model's thinking are style. It
detects where the {conventions.author}'s turn ends when two models write together with `tessy`
(TESSY, arXiv 2604.14164).

- Classes: 0 capability, 1 style. The output at a token is the class of the **next** token.
- Window: up to {window.limit} tokens; the last {window.keep} are kept when it is full.
- Base: {conventions.base}
- Trained on: {source.segments:,} segments annotated{annotator}
  (SHA-256 of the rows: {short_digest(source.digest)})

Validation, epoch {fit.chosen}: token accuracy {best.accuracy:.4f}, style F1 {best.f1:.4f}
(n = {best.tokens:,} tokens, {best.style_tokens:,} of them style). `tessy evaluate-predictor`
measures how accurately it cuts.
{warned}
## Data

Problems are split, so all segments of a problem are in one part (seed {conventions.split.seed}).

{_parts_table(card.parts)}
## Training

{_epochs_table(fit)}
Epoch {fit.chosen} was kept: the best validation accuracy.
Training took {fit.seconds:,.0f} s on {fit.device}{processes}.

Options: {listed(card.options)}.
Versions: {listed(conventions.versions)}.
"""


def _parts_table(parts: Mapping[SplitPart, PartCounts]) -> str:
    rows = [
        (
            part,
            *(f"{n:,}" for n in (c.questions, c.segments, c.tokens)),
            percent(c.style_share),
            f"{c.cut_segments:,}",
        )
        for part, c in parts.items()
    ]
    columns = ("part", "problems", "segments", "tokens", "style", "truncated segments")
    return markdown_table(columns, rows)


def _epochs_table(fit: FitResult) -> str:
    rows = [
        (
            f"{s.epoch}",
            *(f"{n:.4f}" for n in (s.train_loss, s.accuracy, s.precision, s.recall, s.f1)),
            f"{s.tokens:,}",
            f"{s.style_tokens:,}",
        )
        for s in fit.epochs
    ]
    scores = ("accuracy", "style precision", "style recall", "style F1")
    return markdown_table(("epoch", "train loss", *scores, "n tokens", "n style"), rows)

"""The metadata written beside a predictor's weights: training.json and README.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from tessy.boundary.classifier.conventions import Conventions
from tessy.boundary.training.dataset import PartCounts
from tessy.boundary.training.fit import FitResult
from tessy.config.predictors import SplitPart
from tessy.core.formatting import markdown_table, percent
from tessy.storage.cards import front_matter, listed, short_digest, write_card


def write_predictor_card(
    folder: Path,
    conventions: Conventions,
    *,
    options: Mapping[str, float],
    parts: Mapping[SplitPart, PartCounts],
    fit: FitResult,
    base_on_hub: bool,
) -> None:
    """Write ``training.json`` and ``README.md``; ``options`` are the hyperparameters."""
    values = asdict(fit)
    document = {
        **conventions.model_dump(by_alias=True),
        "options": dict(options),
        "parts": {
            part: {**asdict(counts), "style_share": round(counts.style_share, 4)}
            for part, counts in parts.items()
        },
        **values,
        "epochs": [{key: round(n, 6) for key, n in epoch.items()} for epoch in values["epochs"]],
        "seconds": round(fit.seconds, 1),
        "warning": fit.best.warning(),
    }
    fields: dict[str, str | list[str]] = {
        "library_name": "transformers",
        "pipeline_tag": "token-classification",
        **({"base_model": conventions.base} if base_on_hub else {}),
        "tags": ["tessy", "boundary-predictor"],
    }
    readme = front_matter(fields) + _readme(conventions, options, parts, fit)
    write_card(folder, "training.json", document, readme)


def _readme(
    conventions: Conventions,
    options: Mapping[str, float],
    parts: Mapping[SplitPart, PartCounts],
    fit: FitResult,
) -> str:
    window, source, best = conventions.window, conventions.annotations, fit.best
    annotator = f" by {source.annotator}" if source.annotator else ""
    processes = f", {fit.processes} processes" if fit.processes > 1 else ""
    warning = best.warning()
    warned = f"\n**Warning**: {warning}.\n" if warning else ""
    return f"""\
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

{_parts_table(parts)}
## Training

{_epochs_table(fit)}
Epoch {fit.chosen} was kept: the best validation accuracy.
Training took {fit.seconds:,.0f} s on {fit.device}{processes}.

Options: {listed(options)}.
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

"""``tessy evaluate-predictor``: metrics of predictors on held-out annotations.

OUT/
  evaluation.json    every metric with its 95 % interval and n
  evaluation.svg     exact, early and late cuts; effect of the threshold
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from tessy.boundary.annotation.directory import read_annotations
from tessy.boundary.base import BoundaryPredictor
from tessy.boundary.classifier.conventions import SplitSettings, conventions_of
from tessy.boundary.evaluation.baseline_rules import predict_by_marks, sentence_marks
from tessy.boundary.evaluation.drafts import (
    EvaluationSample,
    TokenCount,
    count_one,
    draw_drafts,
    to_segment,
    token_counter,
)
from tessy.boundary.evaluation.entropy import EntropyModel, load_entropy_model, predict_by_entropy
from tessy.boundary.evaluation.metrics import Metrics, PredictedUnits
from tessy.boundary.evaluation.predictions import predict_all
from tessy.boundary.evaluation.report import PredictorPair, PredictorResult, make_report
from tessy.boundary.evaluation.selection import (
    ENTROPY,
    distinct_predictors,
    held_out_split,
    predictor_pairs,
    report_notes,
    select_annotations,
    spec_kind,
)
from tessy.boundary.evaluation.table import print_report
from tessy.boundary.load import load_predictor
from tessy.boundary.training.dataset import author_of, digest_of
from tessy.config.predictors import EvaluatePredictorConfig
from tessy.core.errors import ConfigError, StorageError
from tessy.core.extras import check_installed
from tessy.core.records import Annotation
from tessy.storage import jsonl
from tessy.storage.atomic import make_directory, write_atomically

SCHEMA = 1
LABELS = "perfect labels"
_PACKAGES = ("tessy", "torch", "transformers", "matplotlib")


def evaluate_predictor(config: EvaluatePredictorConfig, console: Console | None = None) -> int:
    """Evaluate predictors, print the tables and write the report.

    Returns:
        The exit code.

    Raises:
        InputError: A dependency is missing, or annotations or predictors are unusable.
        StorageError: The results cannot be written.
    """
    pairs = predictor_pairs(_predictor_names(config))
    specs = distinct_predictors(pairs)
    checkpoints = [spec for spec in specs if spec_kind(spec) == "checkpoint"]
    local_entropy = ENTROPY in specs and config.entropy.url is None
    torch = {"torch": "torch"} if checkpoints or local_entropy else {}
    check_installed("evaluating predictors", {"matplotlib": "analysis"} | torch)
    _check_out(config.out)
    rows = read_annotations(config.annotations)
    author = author_of(rows)
    known = {spec: conventions_of(spec) for spec in checkpoints}
    split, source = held_out_split(known)
    chosen = select_annotations(rows, split, config, source)
    tuning = _tuning_rows(config, rows, split, source) if ENTROPY in specs else []
    predictors = {
        spec: load_predictor(spec, None, config.window)
        for spec in specs
        if spec_kind(spec) != "marks"
    }
    entropy_model = load_entropy_model(config.entropy) if ENTROPY in specs else None
    with _PredictionProgress(Console(stderr=True)) as progress:
        # Outside the event loop, so that Ctrl-C interrupts it immediately.
        token_side = _evaluate_tokens(config, chosen, specs, progress)
        validation = _sample(config, tuning, token_side.count)
        inputs = _PredictionInputs(specs, predictors, entropy_model, token_side.sample, validation)
        predicted = asyncio.run(_predict_each(inputs, progress))
        progress.start_stage("Computing metrics")
        report = _report(config, pairs, token_side, predicted)
    report |= _provenance(config, split, source)
    report |= {"author": author, "annotations": {"digest": digest_of(rows), "segments": len(rows)}}
    report["notes"] = report_notes(config.part, split, known, author)
    _write(config.out, report)
    console = console or Console()
    print_report(console, report)
    console.print(f"\nAll metrics: {config.out / 'evaluation.json'}", soft_wrap=True)
    console.print(f"Plot:        {config.out / 'evaluation.svg'}", soft_wrap=True)
    return 0


class _PredictionProgress:
    """A one-line progress display: redrawn on a terminal, one line per stage elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = console.status("Reading annotations") if console.is_terminal else None

    def __enter__(self) -> _PredictionProgress:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

    def start_stage(self, text: str) -> None:
        """Show a new stage."""
        if self._status:
            self._status.update(text)
        else:
            self._console.print(text, soft_wrap=True, highlight=False, markup=False)

    def update(self, text: str, done: int, total: int) -> None:
        """Update the progress of the current stage."""
        if self._status and (done % 64 == 0 or done == total):
            self._status.update(f"{text}: {done:,} of {total:,}")


@dataclass(frozen=True, slots=True)
class _TokenEvaluation:
    """Results of the checkpoints as token classifiers, and the sample in their tokens.

    Attributes:
        sample: Segments and drafts.
        count: Counts the tokens of a unit.
        counted_in: Unit of token counts, for the report.
        tokens: Metrics of token labels by checkpoint.
        windows: Agreement of windows by checkpoint.
        oracle: Scores of a perfect classifier; None without checkpoints.
    """

    sample: EvaluationSample
    count: TokenCount
    counted_in: str
    tokens: dict[str, Metrics]
    oracle: PredictedUnits | None


@dataclass(frozen=True, slots=True)
class _PredictionInputs:
    """The predictors to run, and their data."""

    specs: Sequence[str]
    predictors: Mapping[str, BoundaryPredictor]
    entropy_model: EntropyModel | None
    sample: EvaluationSample
    validation: EvaluationSample


@dataclass(frozen=True, slots=True)
class _PredictionOutput:
    """The scores of a predictor, and details for the report."""

    units: PredictedUnits
    details: Mapping[str, Any] = field(default_factory=dict)


async def _predict_each(
    inputs: _PredictionInputs, progress: _PredictionProgress
) -> dict[str, _PredictionOutput]:
    """Run all predictors, and close them at the end."""
    async with AsyncExitStack() as stack:
        for predictor in inputs.predictors.values():
            stack.push_async_callback(predictor.aclose)
        if inputs.entropy_model is not None:
            stack.push_async_callback(inputs.entropy_model.engine.aclose)
        return {spec: await _predict_one(spec, inputs, progress) for spec in inputs.specs}


async def _predict_one(
    spec: str, inputs: _PredictionInputs, progress: _PredictionProgress
) -> _PredictionOutput:
    text = f"Running {spec}"
    progress.start_stage(text)
    sample = inputs.sample
    if spec in inputs.predictors:
        return _PredictionOutput(
            await predict_all(
                inputs.predictors[spec],
                sample.segments,
                sample.drafts,
                lambda done, total: progress.update(text, done, total),
            )
        )
    if spec == ENTROPY and inputs.entropy_model is not None:
        return _PredictionOutput(
            *await predict_by_entropy(inputs.entropy_model, sample, inputs.validation)
        )
    return _PredictionOutput(
        predict_by_marks(sample, [sentence_marks(segment) for segment in sample.segments])
    )


def _report(
    config: EvaluatePredictorConfig,
    pairs: Sequence[PredictorPair],
    token_side: _TokenEvaluation,
    outputs: Mapping[str, _PredictionOutput],
) -> dict[str, Any]:
    results = [
        PredictorResult(
            name=spec,
            kind=spec_kind(spec),
            predicted=output.units,
            tokens=token_side.tokens.get(spec),
            details=output.details,
        )
        for spec, output in outputs.items()
    ]
    if token_side.oracle is not None:
        results.append(PredictorResult(LABELS, "marks", token_side.oracle))
        pairs = [*pairs, PredictorPair(LABELS, LABELS, LABELS)]
    drafts = {
        "n": len(token_side.sample.drafts),
        "tokens": config.draft_tokens,
        "counted_in": token_side.counted_in,
    }
    return {"drafts": drafts, **make_report(token_side.sample, results, pairs)}


def _predictor_names(config: EvaluatePredictorConfig) -> list[str]:
    """Return the predictors to evaluate: those given, and the entropy rule if it has a model."""
    return [*config.predictor, *([ENTROPY] if config.entropy.model is not None else [])]


def _tuning_rows(
    config: EvaluatePredictorConfig,
    rows: Sequence[Annotation],
    split: SplitSettings,
    source: str | None,
) -> list[Annotation]:
    """Return the annotations on which the threshold of the entropy rule is chosen."""
    return select_annotations(rows, split, config.model_copy(update={"part": "validation"}), source)


def _evaluate_tokens(
    config: EvaluatePredictorConfig,
    rows: Sequence[Annotation],
    specs: Sequence[str],
    progress: _PredictionProgress,
) -> _TokenEvaluation:
    """Evaluate checkpoints as token classifiers, one at a time; builds the sample."""
    checkpoints = [spec for spec in specs if spec_kind(spec) == "checkpoint"]
    if not checkpoints:
        return _TokenEvaluation(_sample(config, rows, count_one), count_one, "words", {}, None)
    from tessy.boundary.classifier.model import load_classifier  # needs torch
    from tessy.boundary.evaluation.checkpoints import oracle_units, token_metrics

    sample: EvaluationSample | None = None
    count: TokenCount = count_one
    ceiling: PredictedUnits | None = None
    tokens: dict[str, Metrics] = {}
    for spec in checkpoints:
        progress.start_stage(f"Labelling the tokens of {spec}")
        classifier = load_classifier(spec)
        tokens[spec] = token_metrics(classifier, rows)
        if sample is None:
            count = token_counter(classifier.codec)
            sample = _sample(config, rows, count)
            ceiling = oracle_units(classifier, rows, sample.segments, sample.drafts)
    assert sample is not None
    counted_in = f"tokens of {checkpoints[0]}"
    return _TokenEvaluation(sample, count, counted_in, tokens, ceiling)


def _sample(
    config: EvaluatePredictorConfig, rows: Sequence[Annotation], count: TokenCount
) -> EvaluationSample:
    segments = [to_segment(row, count) for row in rows]
    drafts = draw_drafts(
        segments,
        tokens=config.draft_tokens,
        count=config.positions,
        seed=config.seed,
        cut=config.cut,
    )
    return EvaluationSample(segments, drafts, config.cut)


def _check_out(out: Path) -> None:
    home = next(place for place in (out, *out.parents) if os.path.exists(place))
    if not home.is_dir():
        raise ConfigError(f"out: {home} is a file; give a directory with --out")
    if not os.access(home, os.W_OK | os.X_OK):
        raise ConfigError(
            f"out: {home} cannot be written; fix its permissions or choose another --out"
        )


def _provenance(
    config: EvaluatePredictorConfig, split: SplitSettings, source: str | None
) -> dict[str, Any]:
    """Return the options and versions behind the report."""
    return {
        "schema": SCHEMA,
        "config": config.model_dump(mode="json"),
        "part": config.part,
        "split": {**split.model_dump(), "from": source},
        "cut": config.cut,
        "window": config.window,
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _write(out: Path, report: dict[str, Any]) -> None:
    from tessy.boundary.evaluation.figure import draw  # needs matplotlib

    try:
        make_directory(out)
    except OSError as error:
        raise StorageError(f"{out} cannot be created: {error}; choose another --out") from error
    jsonl.write_json(out / "evaluation.json", report)
    write_atomically(out / "evaluation.svg", draw(report))

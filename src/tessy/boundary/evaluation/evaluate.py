"""``tessy evaluate-predictor``: metrics of predictors on held-out annotations.

Writes evaluation.json, every metric with its 95 % interval and n, and evaluation.svg.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.status import Status

from tessy.boundary.annotation.directory import read_annotations
from tessy.boundary.base import BoundaryPredictor
from tessy.boundary.classifier.conventions import conventions_of
from tessy.boundary.evaluation.baseline_rules import predict_by_marks, sentence_marks
from tessy.boundary.evaluation.drafts import EvaluationSample, TokenCount, draw_drafts, to_segment
from tessy.boundary.evaluation.entropy import EntropyModel, load_entropy_model, predict_by_entropy
from tessy.boundary.evaluation.metrics import Metrics, PredictedUnits
from tessy.boundary.evaluation.predictions import predict_all
from tessy.boundary.evaluation.report import PredictorPair, PredictorResult, make_report
from tessy.boundary.evaluation.selection import (
    ENTROPY,
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
from tessy.inference.http.address import without_credentials
from tessy.runtime.log import software
from tessy.storage import jsonl
from tessy.storage.atomic import make_directory, write_atomically

SCHEMA = 1
LABELS = "perfect labels"


def evaluate_predictor(config: EvaluatePredictorConfig, console: Console | None = None) -> int:
    """Evaluate predictors, print the tables and write the report; return the exit code.

    Raises:
        InputError: A dependency is missing, or annotations or predictors are unusable.
        StorageError: The results cannot be written.
    """
    entropy = (ENTROPY,) if config.entropy.model is not None else ()
    pairs = predictor_pairs([*config.predictor, *entropy])
    specs = list(dict.fromkeys(spec for pair in pairs for spec in (pair.student, pair.teacher)))
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
    tuning: list[Annotation] = []
    if ENTROPY in specs:  # the threshold of the entropy rule is chosen on the validation part
        validation = config.model_copy(update={"part": "validation"})
        tuning = select_annotations(rows, split, validation, source)
    predictors = {
        spec: load_predictor(spec, None, config.window)
        for spec in specs
        if spec_kind(spec) != "marks"
    }
    entropy_model = load_entropy_model(config.entropy) if ENTROPY in specs else None
    progress = _PredictionProgress("Reading annotations", console=Console(stderr=True))
    with progress:
        # Outside the event loop, so that Ctrl-C interrupts it immediately.
        labelled = _evaluate_tokens(config, chosen, checkpoints, progress)
        tuning_sample = _sample(config, tuning, labelled.count)
        results = asyncio.run(
            _predict_each(specs, predictors, entropy_model, labelled, tuning_sample, progress)
        )
        progress.start_stage("Computing metrics")
        report = _report(config, pairs, labelled, results)
    report |= {
        "split": {**split.model_dump(), "from": source},
        "author": author,
        "annotations": {"digest": digest_of(rows), "segments": len(rows)},
        "notes": report_notes(config.part, split, known, author),
    }
    _write(config.out, report)
    console = console or Console()
    print_report(console, report)
    console.print(f"\nAll metrics: {config.out / 'evaluation.json'}", soft_wrap=True)
    console.print(f"Plot:        {config.out / 'evaluation.svg'}", soft_wrap=True)
    return 0


class _PredictionProgress(Status):
    """A one-line progress display: redrawn on a terminal, one line per stage elsewhere."""

    def start_stage(self, text: str) -> None:
        self.update(text)
        if not self.console.is_terminal:
            self.console.print(text, soft_wrap=True, highlight=False, markup=False)

    def count(self, text: str, done: int, total: int) -> None:
        if done % 64 == 0 or done == total:
            self.update(f"{text}: {done:,} of {total:,}")


@dataclass(frozen=True, slots=True)
class _TokenEvaluation:
    """Results of the checkpoints as token classifiers, and the sample in their tokens."""

    sample: EvaluationSample
    count: TokenCount | None = None  # None without checkpoints
    counted_in: str = "words"
    tokens: Mapping[str, Metrics] = field(default_factory=dict)  # of token labels, by checkpoint
    oracle: PredictedUnits | None = None  # scores of a perfect classifier


async def _predict_each(
    specs: Sequence[str],
    predictors: Mapping[str, BoundaryPredictor],
    entropy_model: EntropyModel | None,
    labelled: _TokenEvaluation,
    validation: EvaluationSample,
    progress: _PredictionProgress,
) -> list[PredictorResult]:
    """Return the results of all predictors; close them at the end."""
    sample = labelled.sample
    results = []
    async with AsyncExitStack() as stack:
        for predictor in predictors.values():
            stack.push_async_callback(predictor.aclose)
        if entropy_model is not None:
            stack.push_async_callback(entropy_model.engine.aclose)
        for spec in specs:
            text = f"Running {spec}"
            progress.start_stage(text)
            details: dict[str, Any] = {}
            if spec in predictors:
                count = partial(progress.count, text)
                units = await predict_all(predictors[spec], sample, count)
            elif spec == ENTROPY and entropy_model is not None:
                units, details = await predict_by_entropy(entropy_model, sample, validation)
            else:
                marks = [sentence_marks(segment) for segment in sample.segments]
                units = predict_by_marks(sample, marks)
            tokens = labelled.tokens.get(spec)
            results.append(PredictorResult(spec, spec_kind(spec), units, tokens, details))
    return results


def _report(
    config: EvaluatePredictorConfig,
    pairs: list[PredictorPair],
    labelled: _TokenEvaluation,
    results: list[PredictorResult],
) -> dict[str, Any]:
    if labelled.oracle is not None:
        results = [*results, PredictorResult(LABELS, "marks", labelled.oracle)]
        pairs = [*pairs, PredictorPair(LABELS, LABELS, LABELS)]
    return {
        "schema": SCHEMA,
        "config": without_credentials(config.model_dump(mode="json")),
        "part": config.part,
        "cut": config.cut,
        "window": config.window,
        "versions": software() | {"matplotlib": importlib.metadata.version("matplotlib")},
        "drafts": {
            "n": len(labelled.sample.drafts),
            "tokens": config.draft_tokens,
            "counted_in": labelled.counted_in,
        },
        **make_report(labelled.sample, results, pairs),
    }


def _evaluate_tokens(
    config: EvaluatePredictorConfig,
    rows: Sequence[Annotation],
    checkpoints: Sequence[str],
    progress: _PredictionProgress,
) -> _TokenEvaluation:
    """Evaluate checkpoints as token classifiers, one at a time; builds the sample."""
    if not checkpoints:
        return _TokenEvaluation(_sample(config, rows, None))
    from tessy.boundary.classifier.model import load_classifier  # needs torch
    from tessy.boundary.evaluation.checkpoints import oracle_units, token_metrics

    tokens: dict[str, Metrics] = {}
    for spec in reversed(checkpoints):  # the first one defines the sample
        progress.start_stage(f"Labelling the tokens of {spec}")
        classifier = load_classifier(spec)
        tokens[spec] = token_metrics(classifier, rows)
    codec = classifier.codec

    def count(unit: str) -> int:
        return len(codec.encode(unit))

    sample = _sample(config, rows, count)
    oracle = oracle_units(classifier, rows, sample)
    return _TokenEvaluation(sample, count, f"tokens of {checkpoints[0]}", tokens, oracle)


def _sample(
    config: EvaluatePredictorConfig, rows: Sequence[Annotation], count: TokenCount | None
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
        raise ConfigError(f"--out: {home} is a file; give a directory with --out")
    if not os.access(home, os.W_OK | os.X_OK):
        raise ConfigError(
            f"--out: {home} cannot be written; fix its permissions or choose another --out"
        )


def _write(out: Path, report: dict[str, Any]) -> None:
    from tessy.boundary.evaluation.figure import draw  # needs matplotlib

    try:
        make_directory(out)
    except OSError as error:
        raise StorageError(f"{out} cannot be created: {error}; choose another --out") from error
    jsonl.write_json(out / "evaluation.json", report)
    write_atomically(out / "evaluation.svg", draw(report))

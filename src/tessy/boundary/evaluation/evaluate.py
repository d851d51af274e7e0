"""``tessy evaluate-predictor``: how well predictors cut, on annotations they have not seen.

OUT/
  evaluation.json    every figure with its 95 % interval and n
  evaluation.svg     exact, early and late cuts; what the threshold changes
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
from tessy.boundary.evaluation.baseline_rules import by_marks, sentence_marks
from tessy.boundary.evaluation.drafts import (
    EvaluationSample,
    TokenCount,
    draw_drafts,
    one_word,
    segment_of,
    token_count,
)
from tessy.boundary.evaluation.entropy import EntropySource, judge_by_entropy, load_source
from tessy.boundary.evaluation.metrics import Figures, PredictedUnits
from tessy.boundary.evaluation.predictions import judge
from tessy.boundary.evaluation.report import Entry, Measured, make_report
from tessy.boundary.evaluation.selection import (
    ENTROPY,
    entries_of,
    kind_of_spec,
    notes_of,
    select,
    specs_of,
    split_of,
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
    """Measure, print and write; the exit code.

    Raises:
        InputError: Something needed is not installed, or annotations or predictors are unusable.
        StorageError: The results cannot be written.
    """
    entries = entries_of(_named(config))
    specs = specs_of(entries)
    checkpoints = [spec for spec in specs if kind_of_spec(spec) == "checkpoint"]
    local_entropy = ENTROPY in specs and config.entropy.url is None
    torch = {"torch": "torch"} if checkpoints or local_entropy else {}
    check_installed("evaluating predictors", {"matplotlib": "analysis"} | torch)
    _check_out(config.out)
    rows = read_annotations(config.annotations)
    author = author_of(rows)
    known = {spec: conventions_of(spec) for spec in checkpoints}
    split, source = split_of(known)
    chosen = select(rows, split, config, source)
    tuning = _tuning(config, rows, split, source) if ENTROPY in specs else []
    predictors = {
        spec: load_predictor(spec, None, config.window)
        for spec in specs
        if kind_of_spec(spec) != "marks"
    }
    unsure = load_source(config.entropy) if ENTROPY in specs else None
    with _PredictionProgress(Console(stderr=True)) as progress:
        # Outside the event loop, so that Ctrl-C ends it at once.
        side = _token_side(config, chosen, specs, progress)
        validation = _sample(config, tuning, side.count)
        asked = _Asked(specs, predictors, unsure, side.sample, validation)
        judged = asyncio.run(_ask(asked, progress))
        progress.stage("Working out the figures")
        report = _report(config, entries, side, judged)
    report |= _frame(config, split, source)
    report |= {"author": author, "annotations": {"digest": digest_of(rows), "segments": len(rows)}}
    report["notes"] = notes_of(config.part, split, known, author)
    _write(config.out, report)
    console = console or Console()
    print_report(console, report)
    console.print(f"\nAll figures: {config.out / 'evaluation.json'}", soft_wrap=True)
    console.print(f"The figure:  {config.out / 'evaluation.svg'}", soft_wrap=True)
    return 0


class _PredictionProgress:
    """One line that says what is going on: redrawn on a terminal, printed once elsewhere."""

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

    def stage(self, text: str) -> None:
        """Something new begins."""
        if self._status:
            self._status.update(text)
        else:
            self._console.print(text, soft_wrap=True, highlight=False, markup=False)

    def step(self, text: str, done: int, total: int) -> None:
        """What goes on has come this far."""
        if self._status and (done % 64 == 0 or done == total):
            self._status.update(f"{text}: {done:,} of {total:,}")


@dataclass(frozen=True, slots=True)
class _TokenSide:
    """What checkpoints were asked as classifiers, before they are asked as predictors."""

    sample: EvaluationSample
    count: TokenCount
    counted_in: str
    tokens: dict[str, Figures]
    perfect: PredictedUnits | None


@dataclass(frozen=True, slots=True)
class _Asked:
    """Who is asked, and about what."""

    specs: Sequence[str]
    predictors: Mapping[str, BoundaryPredictor]
    unsure: EntropySource | None
    sample: EvaluationSample
    validation: EvaluationSample


@dataclass(frozen=True, slots=True)
class _Said:
    """What a predictor said, and what else is to be told of it."""

    judged: PredictedUnits
    more: Mapping[str, Any] = field(default_factory=dict)


async def _ask(asked: _Asked, progress: _PredictionProgress) -> dict[str, _Said]:
    """What each predictor says; they are closed in the end."""
    async with AsyncExitStack() as stack:
        for predictor in asked.predictors.values():
            stack.push_async_callback(predictor.aclose)
        if asked.unsure is not None:
            stack.push_async_callback(asked.unsure.aclose)
        return {spec: await _said(spec, asked, progress) for spec in asked.specs}


async def _said(spec: str, asked: _Asked, progress: _PredictionProgress) -> _Said:
    text = f"Asking {spec}"
    progress.stage(text)
    sample = asked.sample
    if spec in asked.predictors:
        return _Said(
            await judge(
                asked.predictors[spec],
                sample.segments,
                sample.drafts,
                lambda done, total: progress.step(text, done, total),
            )
        )
    if spec == ENTROPY and asked.unsure is not None:
        return _Said(*await judge_by_entropy(asked.unsure, sample, asked.validation))
    return _Said(by_marks(sample, [sentence_marks(segment) for segment in sample.segments]))


def _report(
    config: EvaluatePredictorConfig,
    entries: Sequence[Entry],
    side: _TokenSide,
    said: Mapping[str, _Said],
) -> dict[str, Any]:
    measured = [
        Measured(
            name=spec,
            kind=kind_of_spec(spec),
            judged=one.judged,
            tokens=side.tokens.get(spec),
            more=one.more,
        )
        for spec, one in said.items()
    ]
    if side.perfect is not None:
        measured.append(Measured(LABELS, "marks", side.perfect))
        entries = [*entries, Entry(LABELS, LABELS, LABELS)]
    drafts = {
        "n": len(side.sample.drafts),
        "tokens": config.draft_tokens,
        "counted_in": side.counted_in,
    }
    return {"drafts": drafts, **make_report(side.sample, measured, entries)}


def _named(config: EvaluatePredictorConfig) -> list[str]:
    """What to measure: the entropy rule too if its model is named."""
    return [*config.predictor, *([ENTROPY] if config.entropy.model is not None else [])]


def _tuning(
    config: EvaluatePredictorConfig,
    rows: Sequence[Annotation],
    split: SplitSettings,
    source: str | None,
) -> list[Annotation]:
    """Where the entropy rule's threshold is chosen."""
    return select(rows, split, config.model_copy(update={"part": "validation"}), source)


def _token_side(
    config: EvaluatePredictorConfig,
    rows: Sequence[Annotation],
    specs: Sequence[str],
    progress: _PredictionProgress,
) -> _TokenSide:
    """Everything for which the token classifiers themselves are needed, one at a time."""
    checkpoints = [spec for spec in specs if kind_of_spec(spec) == "checkpoint"]
    if not checkpoints:
        return _TokenSide(_sample(config, rows, one_word), one_word, "words", {}, None)
    from tessy.boundary.classifier.model import load_classifier  # needs torch
    from tessy.boundary.evaluation.checkpoints import perfect, token_figures

    sample: EvaluationSample | None = None
    count: TokenCount = one_word
    ceiling: PredictedUnits | None = None
    tokens: dict[str, Figures] = {}
    for spec in checkpoints:
        progress.stage(f"Labelling the tokens of {spec}")
        classifier = load_classifier(spec)
        tokens[spec] = token_figures(classifier, rows)
        if sample is None:
            count = token_count(classifier.codec)
            sample = _sample(config, rows, count)
            ceiling = perfect(classifier, rows, sample.segments, sample.drafts)
    assert sample is not None
    counted_in = f"tokens of {checkpoints[0]}"
    return _TokenSide(sample, count, counted_in, tokens, ceiling)


def _sample(
    config: EvaluatePredictorConfig, rows: Sequence[Annotation], count: TokenCount
) -> EvaluationSample:
    segments = [segment_of(row, count) for row in rows]
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
        raise ConfigError(f"out: {home} is a file; name a directory with --out")
    if not os.access(home, os.W_OK | os.X_OK):
        raise ConfigError(f"out: {home} cannot be written; mend its rights or choose another --out")


def _frame(
    config: EvaluatePredictorConfig, split: SplitSettings, source: str | None
) -> dict[str, Any]:
    """How the figures came about."""
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
        raise StorageError(f"{out} cannot be made: {error}; choose another --out") from error
    jsonl.write_json(out / "evaluation.json", report)
    write_atomically(out / "evaluation.svg", draw(report))

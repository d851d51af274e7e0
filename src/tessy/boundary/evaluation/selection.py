"""Selection of predictors, pairs and annotations for an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Literal

from tessy.boundary.classifier.conventions import Conventions, SplitSettings
from tessy.boundary.evaluation.report import PredictorPair
from tessy.boundary.training.dataset import part_of
from tessy.config.predictors import EvaluatePredictorConfig, TrainPredictorConfig
from tessy.core.errors import ConfigError
from tessy.core.records import Annotation, Author
from tessy.core.seeds import derive_seed

Kind = Literal["checkpoint", "lexicon", "rule", "marks"]
SENTENCE = "sentence"
ENTROPY = "entropy"
MARKS = (SENTENCE, ENTROPY)


def spec_kind(spec: str) -> Kind:
    """Return the kind of predictor ``spec`` names (:func:`tessy.boundary.load.load_predictor`)."""
    if spec in MARKS:
        return "marks"
    if spec == "lexicon":
        return "lexicon"
    return "rule" if ":" in spec and not Path(spec).exists() else "checkpoint"


def predictor_pairs(predictors: Sequence[str]) -> list[PredictorPair]:
    """Parse predictor options: one name for both authors, or ``B_S+B_T`` for a pair."""
    if not predictors:
        raise ConfigError(
            "--predictor: nothing to evaluate; give checkpoints, `lexicon`, `sentence` or "
            "module:callable, separated by commas, and B_S+B_T for a pair"
        )
    pairs = []
    for name in dict.fromkeys(predictors):
        parts = [name] if "+" not in name or Path(name).exists() else name.split("+")
        paired_rule = len(parts) == 2 and not set(parts).isdisjoint(MARKS)
        if len(parts) > 2 or not all(parts) or paired_rule:
            raise ConfigError(
                f"--predictor {name!r}: a pair is the student's predictor, a plus sign and the "
                f"teacher's; `{SENTENCE}` and `{ENTROPY}` apply to both authors and cannot be "
                "paired"
            )
        pairs.append(PredictorPair(name, parts[0], parts[-1]))
    return pairs


def held_out_split(known: Mapping[str, Conventions | None]) -> tuple[SplitSettings, str | None]:
    """Return the split of problems, and the checkpoint that defines it.

    Without a checkpoint that has conventions, the split is the default of `train-predictor`.
    """
    for spec, conventions in known.items():
        if conventions is not None:
            return conventions.split, spec
    fields = TrainPredictorConfig.model_fields
    names = ("seed", "validation_share", "test_share")
    return SplitSettings.model_validate({name: fields[name].default for name in names}), None


def select_annotations(
    rows: Sequence[Annotation],
    split: SplitSettings,
    config: EvaluatePredictorConfig,
    source: str | None,
) -> list[Annotation]:
    """Select the annotations of ``config.part``, at most ``config.limit``.

    ``source`` is the checkpoint that defines the split, for messages.
    """
    part = config.part
    if part == "test" and split.test_share == 0:
        raise ConfigError(
            f"--part: {source!r} was trained with test_share 0, so no problem is held out; "
            "train it with --test-share 0.05, or evaluate with --part validation (which chose its "
            "best epoch), or --part all if it was trained on other problems"
        )
    shares = (split.seed, split.validation_share, split.test_share)
    selected = [row for row in rows if part == "all" or part_of(row.question, *shares) == part]
    if not selected:
        problems = len({row.question for row in rows})
        raise ConfigError(
            f"--part: none of the {problems:,} problems in {config.annotations} is in the {part} "
            f"part (seed {split.seed}, validation {split.validation_share:g}, test "
            f"{split.test_share:g}, {'the defaults' if source is None else f'from {source}'}); "
            "annotate responses to more problems, or evaluate with another --part, "
            "validation or all"
        )
    if config.limit is not None and config.limit < len(selected):
        draw = Random(derive_seed("segments", config.seed))
        selected = [selected[i] for i in sorted(draw.sample(range(len(selected)), config.limit))]
    return selected


def report_notes(
    part: str, split: SplitSettings, known: Mapping[str, Conventions | None], author: Author
) -> list[str]:
    """Return caveats about the provenance of the metrics of ``part``."""
    notes = [
        "The best threshold was chosen on these same drafts; confirm it on another part. It is "
        "not applied."
    ]
    if part in ("train", "all") and known:
        notes.append(f"Part {part}: checkpoints may have been trained on these segments.")
    for spec, conventions in known.items():
        if conventions is None:
            notes.append(f"{spec} has no record of its training data.")
            continue
        if conventions.split != split:
            notes.append(
                f"{spec} was trained with another split: some of these segments may be in its "
                "training data."
            )
        if conventions.author != author:
            notes.append(
                f"{spec} is the {conventions.author}'s predictor, evaluated on the {author}'s "
                f"text; evaluate it on annotations of the {conventions.author}'s responses as well."
            )
    return notes

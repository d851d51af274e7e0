"""What is measured on what: names into predictors and pairs, questions into parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Literal

from tessy.boundary.classifier.conventions import Conventions, SplitSettings
from tessy.boundary.evaluation.report import Entry
from tessy.boundary.training.split import part_of
from tessy.config.predictors import EvaluatePredictorConfig, TrainPredictorConfig
from tessy.core.errors import ConfigError
from tessy.core.records import Annotation, Author
from tessy.core.seeds import derive_seed

Kind = Literal["checkpoint", "lexicon", "rule", "marks"]
SENTENCE = "sentence"
ENTROPY = "entropy"
MARKS = (SENTENCE, ENTROPY)


def kind_of_spec(spec: str) -> Kind:
    """What kind of predictor ``spec`` names, as :func:`tessy.boundary.load.load_predictor` does."""
    if spec in MARKS:
        return "marks"
    if spec == "lexicon":
        return "lexicon"
    return "rule" if ":" in spec and not Path(spec).exists() else "checkpoint"


def entries_of(predictors: Sequence[str]) -> list[Entry]:
    """Who cuts what: each name by itself, or ``B_S+B_T`` for the two of a pair of models.

    Raises:
        ConfigError: No name, or a pair that is none.
    """
    if not predictors:
        raise ConfigError(
            "predictor: nothing to measure; name checkpoints, `lexicon`, `sentence` or "
            "module:callable, separated by commas, and B_S+B_T for a pair"
        )
    found = []
    for name in dict.fromkeys(predictors):
        parts = [name] if "+" not in name or Path(name).exists() else name.split("+")
        if (
            len(parts) > 2
            or not all(parts)
            or (len(parts) == 2 and any(part in MARKS for part in parts))
        ):
            raise ConfigError(
                f"predictor {name!r}: a pair is the student's predictor, a plus sign and the "
                f"teacher's; `{SENTENCE}` and `{ENTROPY}` cut for both alike and stand alone"
            )
        found.append(Entry(name, parts[0], parts[-1]))
    return found


def specs_of(entries: Sequence[Entry]) -> list[str]:
    """Every predictor that is named, once."""
    return list(dict.fromkeys(spec for one in entries for spec in (one.student, one.teacher)))


def split_of(known: Mapping[str, Conventions | None]) -> tuple[SplitSettings, str | None]:
    """The split by which questions are held out, and the checkpoint it is from.

    Args:
        known: What each checkpoint says of itself, in the order they were named.

    Returns:
        The first checkpoint's split; without one that tells, what `train-predictor` does unless
        told otherwise, and None.
    """
    for spec, conventions in known.items():
        if conventions is not None:
            return conventions.split, spec
    fields = TrainPredictorConfig.model_fields
    names = ("seed", "validation_share", "test_share")
    return SplitSettings.model_validate({name: fields[name].default for name in names}), None


def select(
    rows: Sequence[Annotation],
    split: SplitSettings,
    config: EvaluatePredictorConfig,
    source: str | None,
) -> list[Annotation]:
    """The annotations to measure on.

    Args:
        rows: All of them.
        split: Which questions are in which part.
        config: Which part, and how many segments at most.
        source: The checkpoint the split is from, for messages.

    Raises:
        ConfigError: There are none.
    """
    part = config.part
    if part == "test" and split.test_share == 0:
        raise ConfigError(
            f"part: {source!r} was trained with test_share 0, so no question is kept for testing; "
            "train it with --test-share 0.05, or evaluate with --part validation (which chose its "
            "best epoch), or --part all if it was trained on other questions"
        )
    shares = (split.seed, split.validation_share, split.test_share)
    found = [row for row in rows if part == "all" or part_of(row.question, *shares) == part]
    if not found:
        questions = len({row.question for row in rows})
        raise ConfigError(
            f"part: none of the {questions:,} questions in {config.annotations} is in the {part} "
            f"part (seed {split.seed}, validation {split.validation_share:g}, test "
            f"{split.test_share:g}, {'the defaults' if source is None else f'from {source}'}); "
            "annotate responses to more questions, or evaluate with another --part, "
            "validation or all"
        )
    if config.limit is not None and config.limit < len(found):
        draw = Random(derive_seed("segments", config.seed))
        found = [found[i] for i in sorted(draw.sample(range(len(found)), config.limit))]
    return found


def notes_of(
    part: str, split: SplitSettings, known: Mapping[str, Conventions | None], author: Author
) -> list[str]:
    """What a reader of the figures must know of where they come from.

    Args:
        part: Which part was measured.
        split: The split it is a part of.
        known: What each checkpoint says of itself.
        author: Whose text was measured.
    """
    notes = [
        "The best threshold was chosen on these very drafts: confirm it on another part, and it "
        "is not applied anywhere."
    ]
    if part in ("train", "all") and known:
        notes.append(f"Part {part}: checkpoints may have learned from these segments.")
    for spec, conventions in known.items():
        if conventions is None:
            notes.append(f"{spec} does not say what it was trained on.")
            continue
        if conventions.split != split:
            notes.append(f"{spec} was trained with another split: it may have seen some of this.")
        if conventions.author != author:
            notes.append(
                f"{spec} is the {conventions.author}'s predictor and is measured on the {author}'s "
                f"text: measure it on annotations of the {conventions.author}'s responses as well."
            )
    return notes

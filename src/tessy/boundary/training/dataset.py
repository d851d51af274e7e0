"""Annotated segments as training examples, by part of the split; what cannot be learnt is refused.

Nothing here needs torch, so bad input shows before it is loaded.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from tessy.boundary.classifier.labels import (
    IGNORED,
    STYLE,
    next_token_labels,
    token_classes,
    tokens_of,
)
from tessy.boundary.classifier.window import WindowRule
from tessy.boundary.training.split import part_of
from tessy.config.predictors import SplitPart
from tessy.core.errors import ConfigError
from tessy.core.records import Annotation, Author
from tessy.tokenization.token_ids import Codec

PARTS: tuple[SplitPart, ...] = get_args(SplitPart)
_NEEDED: tuple[SplitPart, ...] = ("train", "validation")


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """A segment for the classifier; L tokens, as many as the input holds.

    Attributes:
        ids: Its tokens (L).
        labels: The class of the token after each (L); IGNORED where none is known.
        cut: Tokens of the segment that the input does not hold.
    """

    ids: list[int]
    labels: list[int]
    cut: int


@dataclass(frozen=True, slots=True)
class PartCounts:
    """What a part of the split holds.

    Attributes:
        questions: Different questions.
        segments: Segments.
        tokens: Tokens with a label.
        style_tokens: Those of them whose label is style.
        cut_segments: Segments longer than the input.
    """

    questions: int
    segments: int
    tokens: int
    style_tokens: int
    cut_segments: int

    @property
    def style_share(self) -> float:
        """Share of style among the labels; 0 if there are none."""
        return self.style_tokens / self.tokens if self.tokens else 0.0


def digest_of(rows: Iterable[Annotation]) -> str:
    """SHA-256 of what a predictor learns from ``rows``, in their order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(row.model_dump_json(exclude={"attempts"}).encode("utf-8", "surrogatepass"))
        digest.update(b"\n")
    return digest.hexdigest()


def author_of(rows: Sequence[Annotation]) -> Author:
    """Whose segments they are.

    Raises:
        ConfigError: There are none, or they are of both authors.
    """
    counts = Counter(row.author for row in rows)
    if len(counts) != 1:
        shown = " and ".join(f"{n} of the {author}" for author, n in sorted(counts.items()))
        raise ConfigError(
            f"the annotations hold {shown or 'no segments'}; a predictor is trained, and measured, "
            "on one author's text: sample and annotate each author's responses into a directory of "
            "its own"
        )
    return next(iter(counts))


def by_part(
    rows: Sequence[Annotation], seed: int, validation_share: float, test_share: float
) -> dict[SplitPart, list[Annotation]]:
    """Segments by the part their question is in (:func:`~tessy.boundary.training.split.part_of`).

    Raises:
        ConfigError: There are too few questions: nothing to learn from, or to choose the best
            epoch by.
    """
    parts: dict[SplitPart, list[Annotation]] = {part: [] for part in PARTS}
    for row in rows:
        parts[part_of(row.question, seed, validation_share, test_share)].append(row)
    empty = [part for part in _NEEDED if not parts[part]]
    if empty:
        questions = len({row.question for row in rows})
        raise ConfigError(
            f"the split leaves no segments for {' and '.join(empty)}: the annotations are of "
            f"{questions} question(s), and whole questions are set apart (the same text is the "
            f"same question, whatever its id) with validation_share {validation_share}, "
            f"test_share {test_share} and seed {seed}; annotate responses to more questions, or "
            "give other shares or another seed"
        )
    return parts


def encode(codec: Codec, row: Annotation, rule: WindowRule) -> TrainingExample:
    """One segment as an input of ``rule.limit`` tokens at most."""
    tokens = tokens_of(codec, row.text, rule)
    labels = next_token_labels(token_classes(tokens, row.style))
    kept = rule.limit
    return TrainingExample(list(tokens.ids[:kept]), labels[:kept], max(0, len(tokens) - kept))


def encode_parts(
    codec: Codec, parts: Mapping[SplitPart, Sequence[Annotation]], rule: WindowRule
) -> tuple[dict[SplitPart, list[TrainingExample]], dict[SplitPart, PartCounts]]:
    """Every part as examples (segments without any label are left out), and what it holds.

    Raises:
        ConfigError: There is only one class to learn, or no label to choose the best epoch by.
    """
    examples: dict[SplitPart, list[TrainingExample]] = {}
    counts: dict[SplitPart, PartCounts] = {}
    for part, rows in parts.items():
        coded = [encode(codec, row, rule) for row in rows]
        examples[part] = [e for e in coded if any(label != IGNORED for label in e.labels)]
        counts[part] = _count(rows, coded)
    _check_classes(counts["train"])
    if not counts["validation"].tokens:
        raise ConfigError(
            "the segments for validation hold no token with a label (a segment's first token has "
            "none); annotate more or longer segments"
        )
    return examples, counts


def _count(rows: Sequence[Annotation], coded: Sequence[TrainingExample]) -> PartCounts:
    labels = Counter(label for example in coded for label in example.labels)
    return PartCounts(
        questions=len({row.question for row in rows}),
        segments=len(rows),
        tokens=labels.total() - labels[IGNORED],
        style_tokens=labels[STYLE],
        cut_segments=sum(example.cut > 0 for example in coded),
    )


def _check_classes(train: PartCounts) -> None:
    missing = ""
    if not train.style_tokens:
        missing = "style"
    elif train.style_tokens == train.tokens:
        missing = "capability"
    if missing:
        raise ConfigError(
            f"the {train.segments} segments to learn from have no {missing} token among "
            f"{train.tokens}; a predictor learns where style ends and begins, so look at the "
            "annotations (annotations.jsonl, field style) and at who annotated them"
        )

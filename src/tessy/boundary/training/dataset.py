"""Annotated segments as training examples, by part of the split; does not import torch."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from tessy.boundary.classifier.labels import (
    IGNORED,
    STYLE,
    encode_text,
    next_token_labels,
    token_classes,
)
from tessy.boundary.classifier.window import WindowRule
from tessy.config.predictors import SplitPart
from tessy.core.errors import ConfigError
from tessy.core.records import Annotation, Author
from tessy.core.seeds import SEED_BITS, derive_seed
from tessy.tokenization.token_ids import Codec


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """A segment as input of the classifier; L tokens, truncated to the input length."""

    ids: list[int]  # (L)
    labels: list[int]  # class of the next token (L); IGNORED where there is none
    cut: int  # number of tokens truncated


@dataclass(frozen=True, slots=True)
class PartCounts:
    """Counts of a part of the split."""

    questions: int  # distinct problems
    segments: int
    tokens: int  # tokens with a label
    style_tokens: int  # tokens whose label is style
    cut_segments: int  # truncated segments

    @property
    def style_share(self) -> float:
        """Share of style among the labels; 0 if there are none."""
        return self.style_tokens / self.tokens if self.tokens else 0.0


def digest_of(rows: Iterable[Annotation]) -> str:
    """Return the SHA-256 (hex) of the training content of ``rows``, in their order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(row.model_dump_json(exclude={"attempts"}).encode("utf-8", "surrogatepass"))
        digest.update(b"\n")
    return digest.hexdigest()


def author_of(rows: Sequence[Annotation]) -> Author:
    """Return the author of the segments; refuse none or several."""
    counts = Counter(row.author for row in rows)
    if len(counts) != 1:
        shown = " and ".join(f"{n} of the {author}" for author, n in sorted(counts.items()))
        raise ConfigError(
            f"the annotations hold {shown or 'no segments'}; a predictor is trained and "
            "evaluated on one author's text: sample and annotate each author's responses into a "
            "separate directory"
        )
    return next(iter(counts))


def part_of(question: str, seed: int, validation_share: float, test_share: float) -> SplitPart:
    """Return the part of the split of the problem with the digest ``question``.

    All segments of a problem are in one part, so that a predictor is not tested on phrases it was
    trained on. The part depends only on the problem's messages and the seed: additional problems
    move none, and the test part does not depend on the validation share.
    """
    position = derive_seed("split", seed, question) / 2**SEED_BITS
    if position < test_share:
        return "test"
    return "validation" if position < test_share + validation_share else "train"


def by_part(
    rows: Sequence[Annotation], seed: int, validation_share: float, test_share: float
) -> dict[SplitPart, list[Annotation]]:
    """Split segments by :func:`part_of`; training and validation part must not be empty."""
    parts: dict[SplitPart, list[Annotation]] = {part: [] for part in get_args(SplitPart)}
    for row in rows:
        parts[part_of(row.question, seed, validation_share, test_share)].append(row)
    empty = [part for part in ("train", "validation") if not parts[part]]
    if empty:
        problems = len({row.question for row in rows})
        raise ConfigError(
            f"the split leaves no segments for {' and '.join(empty)}: the annotations are of "
            f"{problems} problem(s), and whole problems are split (the same text is the same "
            f"problem, whatever its id) with validation_share {validation_share}, test_share "
            f"{test_share} and seed {seed}; annotate responses to more problems, or give other "
            "shares or another seed"
        )
    return parts


def encode(codec: Codec, row: Annotation, rule: WindowRule) -> TrainingExample:
    """Convert a segment to an input of at most ``rule.limit`` tokens."""
    tokens = encode_text(codec, row.text, rule)
    labels = next_token_labels(token_classes(tokens, row.style))
    kept = rule.limit
    return TrainingExample(list(tokens.ids[:kept]), labels[:kept], max(0, len(tokens) - kept))


def encode_parts(
    codec: Codec, parts: Mapping[SplitPart, Sequence[Annotation]], rule: WindowRule
) -> tuple[dict[SplitPart, list[TrainingExample]], dict[SplitPart, PartCounts]]:
    """Convert every part to examples, without segments that have no label, and count its contents.

    Refuses a training part of only one class, and a validation part without labels.
    """
    examples: dict[SplitPart, list[TrainingExample]] = {}
    counts: dict[SplitPart, PartCounts] = {}
    for part, rows in parts.items():
        encoded = [encode(codec, row, rule) for row in rows]
        examples[part] = [e for e in encoded if any(label != IGNORED for label in e.labels)]
        counts[part] = _count(rows, encoded)
    train = counts["train"]
    if train.style_tokens in (0, train.tokens):
        missing = "capability" if train.style_tokens else "style"
        raise ConfigError(
            f"the {train.segments} training segments have no {missing} token among "
            f"{train.tokens}; a predictor learns where style begins and ends, so check the "
            "annotations (annotations.jsonl, field style) and the annotator"
        )
    if not counts["validation"].tokens:
        raise ConfigError(
            "the segments for validation have no token with a label (a segment's first token has "
            "none); annotate more or longer segments"
        )
    return examples, counts


def _count(rows: Sequence[Annotation], encoded: Sequence[TrainingExample]) -> PartCounts:
    labels = Counter(label for example in encoded for label in example.labels)
    return PartCounts(
        questions=len({row.question for row in rows}),
        segments=len(rows),
        tokens=labels.total() - labels[IGNORED],
        style_tokens=labels[STYLE],
        cut_segments=sum(example.cut > 0 for example in encoded),
    )

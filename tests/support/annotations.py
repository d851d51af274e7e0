"""Annotations, and predictor rules with known errors."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from tessy.boundary.annotation.directory import ANNOTATIONS
from tessy.boundary.base import Prediction, PredictionRequest, UnitScore
from tessy.core.edges import units
from tessy.core.records import Annotation, Author, Message, StyleSpan, problem_digest
from tessy.storage.run_dir import Run

STYLE_WORDS = {"Okay,", "so", "let's", "see.", "wait,", "But", "hmm.", "Alternatively,"}
TEXTS = (
    "Okay, let's see. We need 3 + 4 = 7 and then But wait, hmm. it is 2 * 7 = 14 so done here.",
    "First 5 - 2 = 3 holds. Okay, so we double it Alternatively, 3 + 3 gives 6 wait, 6 is right.",
    "So x = 2 and y = 5 hmm. wait, we add them to 7 But let's see. 7 < 9 is what we want here.",
)


def marked(text: str) -> tuple[StyleSpan, ...]:
    """Return a span around each word of ``STYLE_WORDS``."""
    found, at = [], 0
    for unit in units(text):
        word = unit.strip()
        if word in STYLE_WORDS:
            start = at + unit.index(word)
            found.append(StyleSpan(start=start, end=start + len(word)))
        at += len(unit)
    return tuple(found)


def annotation(
    text: str,
    name: str = "q",
    *,
    sample: int = 0,
    segment: int = 0,
    author: Author = "student",
    style: Sequence[StyleSpan] | None = None,
) -> Annotation:
    return Annotation(
        id=name,
        sample=sample,
        segment=segment,
        question=problem_digest([Message(role="user", content=name)]),
        author=author,
        start=1000 * segment,
        text=text,
        attempts=1,
        style=marked(text) if style is None else tuple(style),
    )


def questions(count: int, *, segments: int = 3) -> list[Annotation]:
    """Return annotated segments of ``count`` problems."""
    return [
        annotation(TEXTS[(q + s) % len(TEXTS)], f"q{q:03}", segment=s)
        for q in range(count)
        for s in range(segments)
    ]


def write(directory: Path, rows: Sequence[Annotation]) -> Path:
    """Write a directory as `tessy annotate` does."""

    async def append() -> None:
        with Run.open(directory, ANNOTATIONS, config={}, data_config={}) as opened:
            for row in rows:
                await opened.append(row)

    asyncio.run(append())
    return directory


# -- rules, for use as tests.support.annotations:<name>


def perfect(text_before: str, units: Sequence[str], final: bool) -> list[bool]:
    return [unit.strip() in STYLE_WORDS for unit in units]


def one_word_late(text_before: str, units: Sequence[str], final: bool) -> list[bool]:
    """Detects each change of class one word late; the first word is correct."""
    known = perfect(text_before, units, final)
    return known[:1] + known[:-1]


def always_style(text_before: str, units: Sequence[str], final: bool) -> list[bool]:
    return [True] * len(units)


def never_style(text_before: str, units: Sequence[str], final: bool) -> list[bool]:
    return [False] * len(units)


def hesitant(text_before: str, units: Sequence[str], final: bool) -> list[float]:
    """Correct at thresholds above 0.6 and up to 0.9; below, capability scores as style."""
    return [0.9 if known else 0.6 for known in perfect(text_before, units, final)]


def broken(text_before: str, units: Sequence[str], final: bool) -> list[bool]:
    if text_before:
        raise RuntimeError("lost the thread")
    return perfect(text_before, units, final)


def patient(text_before: str, units: Sequence[str], final: bool) -> list[bool]:
    """Correct, but leaves the last two words undecided except in a final request."""
    known = perfect(text_before, units, final)
    return known if final else known[:-2]


patient.lookahead = 2  # type: ignore[attr-defined]


class Undecided:
    """A predictor that counts concurrent requests."""

    name, sees_next, lookahead = "undecided", False, 0

    def __init__(self) -> None:
        self.open = self.most = 0
        self.released: list[str] = []

    async def predict(self, request: PredictionRequest) -> Prediction:
        self.open += 1
        self.most = max(self.most, self.open)
        await asyncio.sleep(0)
        self.open -= 1
        return Prediction(tuple(UnitScore(0.5, 0.5, 0.5) for _ in request.units))

    def release(self, key: str) -> None:
        self.released.append(key)

    async def aclose(self) -> None:
        pass

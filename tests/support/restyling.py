"""A scripted student whose style and likelihoods are known, and traces to restyle."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from tessy.boundary.base import Prediction, PredictionRequest, UnitScore
from tessy.core.records import Message, Problem, TeacherTrace, Trajectory
from tessy.inference.base import Sampling, ScoredToken
from tessy.inference.scripted import ScriptedEngine
from tessy.synthesis.context import RoleBackend, SynthesisContext
from tessy.synthesis.strategies.restyle import restyle
from tests.support.cooperation_driver import ReferenceClasses
from tests.synthesis.test_sample import RENDERERS, make_attempt

ANSWER = "It is four."
RENDERER = RENDERERS["qwen3"]
PROMPT = len(RENDERER.prompt_ids((Message(role="user", content="5 - 3 * 2?"),)))


class WordRule(ReferenceClasses):
    """Classifies a unit by its words alone."""

    def __init__(self, style: Callable[[str], bool]) -> None:
        super().__init__("", style, sees_next=False)
        self._style = style

    async def predict(self, request: PredictionRequest) -> Prediction:
        values = [float(self._style(unit)) for unit in request.units]
        return Prediction(tuple(UnitScore(p, p, p) for p in values))


def has_no_digit(unit: str) -> bool:
    return not any(char.isdigit() for char in unit)


class StudentOfStyle(ScriptedEngine):
    """Draws a phrase, then a number that shows the end of the style; ends after ``end_after``.

    Args:
        phrases: Phrases with the probability of each; an empty one is a possible draw.
        likelihood: Likelihood of what follows a phrase; 1 where it has none.
        ends: Probability that a draft ends the thinking after its phrase.
    """

    def __init__(
        self,
        phrases: Mapping[str, float],
        likelihood: Callable[[str], float] = lambda before: 1.0,
        *,
        ends: float = 0.3,
    ) -> None:
        super().__init__(self._write, prompt_tokens=PROMPT, codec=RENDERER.codec, chunk_tokens=2)
        self._phrases, self._likelihood, self._ends = phrases, likelihood, ends
        self.scored: list[tuple[str, int]] = []  # text before what is scored, and scored ids

    def _write(self, text: bytes, seed: int) -> list[int]:
        written = text.decode("utf-8")
        encode, stop = RENDERER.codec.encode, min(RENDERER.thinking_stop_ids)
        if "</think>" in written:
            return [*encode(ANSWER), min(RENDERER.answer_stop_ids)]
        rng = Random(seed)
        (phrase,) = rng.choices(list(self._phrases), list(self._phrases.values()))
        space = "" if not written or written[-1].isspace() else " "
        if rng.random() < self._ends:
            return [*encode((space + phrase) if phrase else ""), stop]
        gap = " " if phrase or space else ""
        return encode(f"{space if phrase else ''}{phrase}{gap}7 is another number. ")

    async def score(
        self, key: str, ids: Sequence[int], start: int = 1, *, top: int = 1
    ) -> list[ScoredToken]:
        before = b"".join(map(self._codec.token_bytes, ids[PROMPT:start])).decode("utf-8")
        self.scored.append((before, len(ids) - start))
        first = math.log(self._likelihood(before))
        return [ScoredToken(first if n == 0 else 0.0, 1, ()) for n in range(len(ids) - start)]


def make_context(engine: ScriptedEngine, **changed: Any) -> SynthesisContext:
    temperature = changed.pop("temperature", 1.0)
    rule = changed.pop("rule", WordRule(has_no_digit))
    backend = RoleBackend(RENDERER, engine, Sampling(temperature), 24, 4096, score_tokens=1)
    settings: dict[str, Any] = {
        "strategy": "restyle", "answering": "student", "predictors": {"student": rule},
        "thinking_tokens": 2000, "answer_tokens": 200, "seed": 3, "candidates": 4,
    }  # fmt: skip
    return SynthesisContext(backends={"student": backend}, **(settings | changed))


def trace_problem(thinking: str, answer: str = "4", name: str = "p", **more: Any) -> Problem:
    return Problem(
        id=name,
        messages=(Message(role="user", content="5 - 3 * 2?"),),
        trace=TeacherTrace(thinking=thinking, answer=answer, **more),
    )


async def restyled(context: SynthesisContext, problem: Problem, **options: Any) -> Trajectory:
    return await restyle(make_attempt(context, problem=problem, **options))

"""``teacher-score``: the student generates several candidates, and the best one is kept.

The paper's Teacher-Score (rejection sampling). The instruction to score is our own; the paper does
not print one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from tessy.answers.agreement import is_correct
from tessy.answers.references import reference_of
from tessy.config.synthesis import SynthesisOptions
from tessy.core.errors import FailureReason, SampleFailed
from tessy.core.records import Message, Problem, Trajectory
from tessy.storage.problems import UnusableProblem
from tessy.synthesis.attempt import SampleAttempt
from tessy.synthesis.response_writer import ResponseWriter
from tessy.synthesis.shared_thinking import GeneratedResponse
from tessy.synthesis.strategies.base import Strategy, aside_by_teacher

BEST = 10

_INSTRUCTION = """You will judge how another model has responded to a request.

<request>
{request}
</request>

<reasoning>
{thinking}
</reasoning>

<answer>
{answer}
</answer>

Judge whether the answer is right, whether the reasoning that leads to it is sound, and whether \
the response does everything the request asks for. First say in a few sentences what decides your \
judgement. Then end with one line of exactly this form, where N is a number from 0 (worthless) to \
10 (flawless):

Score: N"""
_MARKUP = r"[\s*_#>`$]*"
_SCORE = re.compile(
    rf"{_MARKUP}(?:(?:final|overall)\s+)?score{_MARKUP}[:：=]?{_MARKUP}(?P<box>\\boxed\{{)?"
    rf"(?P<value>[0-9]{{1,2}}(?:\.[0-9]{{1,3}})?)(?:\s*/\s*10)?(?(box)\}}){_MARKUP}\.?{_MARKUP}",
    re.IGNORECASE,
)
_LINE_CHARS = 60  # maximum length of the line with the score


def score_messages(messages: Sequence[Message], response: GeneratedResponse) -> tuple[Message, ...]:
    """Return the prompt for the teacher's score of a response to ``messages``."""
    request = messages[-1].content
    if len(messages) > 1:
        request = "\n\n".join(f"[{turn.role}]\n{turn.content}" for turn in messages)
    content = _INSTRUCTION.format(
        request=request, thinking=response.thinking.text, answer=response.answer
    )
    return (Message(role="user", content=content),)


def parse_score(judgement: str) -> float | None:
    """Return the score in the last line of a judgement; None if there is none from 0 to 10."""
    line = judgement.strip().rpartition("\n")[2]
    match = _SCORE.fullmatch(line) if len(line) <= _LINE_CHARS else None
    score = float(match["value"]) if match else -1.0
    return score if 0 <= score <= BEST else None


async def teacher_score(attempt: SampleAttempt) -> Trajectory:
    """Generate candidates one after another, score each, and keep the first of the best ones.

    Raises:
        SampleFailed: No candidate has a score; the reason is that of the last candidate.
    """
    scores: list[float | None] = []
    unscored: dict[int, FailureReason] = {}
    best: tuple[float, GeneratedResponse] | None = None
    verdict: Mapping[str, Any] = {}
    for number in range(attempt.context.candidates):
        saved = await attempt.part(partial(_candidate, attempt, number))
        response = GeneratedResponse.from_json(saved)
        verdict = await attempt.part(partial(_verdict, attempt, number, saved, response))
        score = verdict["score"]
        scores.append(score)
        if score is None:
            unscored[number] = verdict["reason"]
        elif best is None or score > best[0]:
            best = score, response
        attempt.extras = {"scores": tuple(scores), "unscored": dict(unscored)}
        attempt.shown = response
    if best is None:
        raise SampleFailed(
            verdict["reason"],
            f"none of {len(scores)} candidates has a score; the last one: {verdict['detail']}",
        )
    return attempt.trajectory("student", best[1])


async def _candidate(attempt: SampleAttempt, number: int) -> Mapping[str, Any]:
    """Return a response of the student; if it failed, its text so far with reason and detail."""
    try:
        label = ("candidate", number)
        writer = ResponseWriter(
            attempt, attempt.problem.messages, ("student",), answering="student", label=label
        )
        await writer.think("student")
        await writer.answer()
    except SampleFailed as failure:
        fault = {"reason": failure.reason, "detail": failure.detail}
        return attempt.draft().to_json() | fault
    return attempt.draft().to_json()


async def _verdict(
    attempt: SampleAttempt, number: int, saved: Mapping[str, Any], response: GeneratedResponse
) -> Mapping[str, Any]:
    """Return the candidate's score, or why it has none."""
    if "reason" in saved:
        return _unscored(saved["reason"], saved["detail"])
    if attempt.context.score_by == "answer":
        reference = reference_of(attempt.problem.extra)
        assert reference is not None  # a problem without one is refused before any work
        correct = await asyncio.to_thread(is_correct, response.answer, reference)
        return {"score": float(correct)}
    return await _judged(attempt, number, response)


def _unscored(reason: FailureReason, detail: str) -> Mapping[str, Any]:
    return {"score": None, "reason": reason, "detail": detail}


async def _judged(
    attempt: SampleAttempt, number: int, response: GeneratedResponse
) -> Mapping[str, Any]:
    messages = score_messages(attempt.problem.messages, response)
    try:
        judgement = await aside_by_teacher(attempt, messages, ("score", number))
    except SampleFailed as failure:
        return _unscored("no_score", f"the teacher's judgement: {failure}")
    score = parse_score(judgement)
    if score is None:
        end = judgement[-100:]
        detail = f"the teacher's judgement ends in no score from 0 to {BEST}: {end!r}"
        return _unscored("no_score", detail)
    return {"score": score}


def _check(options: SynthesisOptions, problem: Problem) -> UnusableProblem | None:
    if options.score_by != "answer" or reference_of(problem.extra) is not None:
        return None
    fields = ", ".join(problem.extra) or "none"
    return UnusableProblem(
        "reference",
        "expected a reference answer to score by (README: where a reference comes from), found "
        f"none in the fields {fields}",
    )


STRATEGY = Strategy(
    name="teacher-score",
    make=teacher_score,
    models=lambda options: ("student",) if options.score_by == "answer" else ("student", "teacher"),
    thinking_by="student",
    answer_by="student",
    how="Several responses of the student, of which the best is kept (rejection sampling).",
    candidates=5,
    options=frozenset({"candidates", "score_by"}),
    check=_check,
)

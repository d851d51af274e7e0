"""Problems, and samples in flight as an earlier process would have left them."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from benchmarks.latency import LATENCIES
from benchmarks.scheduled_predictor import CAPABILITY_TOKENS, STYLE_SHARE
from benchmarks.words import words
from tessy.core.edges import EdgeCursor, cursor_before
from tessy.core.records import Author, Message, Problem
from tessy.storage.journal import InFlight
from tessy.synthesis.cooperation import Cooperation
from tessy.synthesis.resume import GenerationState, SampleState, dump_piece
from tessy.synthesis.shared_thinking import AuthoredText, RoleSpec
from tessy.synthesis.token_counts import UsageMeter
from tessy.tokenization.renderer import Renderer

QUESTION_WORDS = 60
_STYLE_RUN = 5
_NEAR_CHARS = 200
_GOLDEN = (math.sqrt(5) - 1) / 2  # its multiples leave no gaps between 0 and 1


@dataclass(frozen=True, slots=True)
class Workload:
    """Lengths and starting points of samples.

    Attributes:
        thinking_tokens: Mean length of the thinking, which is geometric.
        answer_tokens: Mean length of answers.
        context_tokens: Length at which every sample starts; None: random, as in a running run.
        seed: Of problems and starting points.
    """

    thinking_tokens: int = 13_000
    answer_tokens: int = 1_000
    context_tokens: int | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class StartingPoint:
    """A sample at some progress.

    Attributes:
        spans: Thinking so far: author, text, ids.
        author: Author of the next tokens.
        answered: Ids of the answer so far; None during the thinking.
    """

    spans: list[tuple[Author, str, tuple[int, ...]]]
    author: Author
    answered: list[int] | None

    @property
    def text(self) -> str:
        """The thinking so far."""
        return "".join(text for _, text, _ in self.spans)


def problem(index: int, seed: int) -> Problem:
    """Return a unique problem of random words."""
    rng = random.Random(f"{seed} question {index}")
    text = " ".join(rng.choices(words(), k=QUESTION_WORDS))
    # Servers outlive a round and identify samples by their ids: without the seed, the time between
    # two rounds would count as idle.
    return Problem(id=f"{seed}-{index}", messages=(Message(role="user", content=text),))


def problems(workload: Workload) -> Iterator[Problem]:
    """Yield the problems of ``workload``, without end."""
    return (problem(index, workload.seed) for index in itertools.count())


def starting_point(index: int, workload: Workload, renderer: Renderer) -> StartingPoint:
    """Return where the sample of problem ``index`` is when a measurement starts.

    Lengths are geometric, so the age of a random sample in flight is distributed as the lengths.
    Ages are spread evenly over that distribution, because 64 random ones could all be long.
    """
    rng = random.Random(f"{workload.seed} start {index}")
    age = workload.context_tokens
    answers = False
    if age is None:
        part = (random.Random(workload.seed).random() + index * _GOLDEN) % 1.0
        age = max(1, round(-math.log(1 - part) * workload.thinking_tokens))
        answers = rng.random() < _answering(workload)
    vocabulary = words()
    inner = [renderer.codec.encode(" " + word)[0] for word in vocabulary]
    spans: list[tuple[Author, str, tuple[int, ...]]] = []
    author: Author = "student"
    text: list[str] = []
    ids: list[int] = []
    opened = -_STYLE_RUN - 1
    last = 0
    for place in range(age):
        drawn = rng.randrange(len(vocabulary))
        token = inner[drawn] if place else renderer.codec.encode(vocabulary[drawn])[0]
        text.append(" " + vocabulary[drawn] if place else vocabulary[drawn])
        ids.append(token)
        if place and hash((last, token)) % CAPABILITY_TOKENS == 0:
            opened = place
        last = token
        following: Author = "student" if place + 1 - opened <= _STYLE_RUN else "teacher"
        if following != author:
            spans.append((author, "".join(text), tuple(ids)))
            text, ids, author = [], [], following
    if ids:
        spans.append((author, "".join(text), tuple(ids)))
    answered = None
    if answers:
        answered = rng.choices(inner, k=rng.randrange(1, max(2, workload.answer_tokens)))
    return StartingPoint(spans, author, answered)


def _answering(workload: Workload) -> float:
    """Return the share of its time that a sample spends on its answer."""
    style = LATENCIES["student"].token_seconds
    capability = LATENCIES["teacher"].token_seconds
    thinking = workload.thinking_tokens * (STYLE_SHARE * style + (1 - STYLE_SHARE) * capability)
    answer = workload.answer_tokens * style
    return answer / (thinking + answer)


def _base(text: str) -> EdgeCursor:
    """Return the cooperation's base at the end of ``text``, whose words have single spaces."""
    near = text.rfind(" ", 0, max(0, len(text) - _NEAR_CHARS))
    return cursor_before(text, EdgeCursor(max(0, near)), len(text))


def in_flight(
    point: StartingPoint, problem: Problem, renderers: Mapping[Author, Renderer]
) -> InFlight:
    """Return a sample at ``point`` as in the journal of an earlier process."""
    renderer, teacher = renderers["student"], renderers["teacher"]
    role = RoleSpec(
        codec=renderer.codec,
        prompt=tuple(renderer.prompt_ids(problem.messages)),
        stop_ids=renderer.thinking_stop_ids,
        request_tokens=1,
        room_tokens=1,
        sees_next=True,
        redraws=True,
    )
    cooperation = Cooperation(role, role, key="", thinking_tokens=1, seed=lambda *_: 0)
    text = point.text
    ended: Literal["student"] | None = None if point.answered is None else "student"
    thinking = replace(
        cooperation.state(),
        author=point.author,
        exempt=False,
        turn_start=len(text),
        classified_end=len(text),
        prediction_due=True,
        base=_base(text),
        checked=len(text),
        ended_by=ended,
    )
    pieces = []
    for author, part, ids in point.spans:
        teacher_ids = ids if teacher is renderer else tuple(teacher.codec.encode(part))
        pieces.append(dump_piece(AuthoredText(author, part, ids, teacher_ids)))
    answer = None
    if point.answered is not None:
        answer = GenerationState(tuple(point.answered), done=False, checked=0)
    state = SampleState(1, UsageMeter(), thinking=thinking, answer=answer)
    return InFlight(pieces, state.dump(len(pieces)))

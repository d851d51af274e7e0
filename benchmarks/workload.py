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
    """The workload.

    Attributes:
        thinking_tokens: Mean length of the thinking, which is geometric.
        answer_tokens: Mean length of answers.
        context_tokens: Where every sample starts; None: at a random point of its life.
        seed: Of questions and starting points.
    """

    thinking_tokens: int = 13_000
    answer_tokens: int = 1_000
    context_tokens: int | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Start:
    """A sample at some progress.

    Attributes:
        spans: Thinking so far: author, text, ids.
        author: Who goes on.
        answered: Ids of the answer so far; None while the thinking goes on.
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
    # Servers know samples by their ids, and stay from round to round: a sample of another round is
    # another one, or the time between the rounds would count as waiting.
    return Problem(id=f"{seed}-{index}", messages=(Message(role="user", content=text),))


def problems(workload: Workload) -> Iterator[Problem]:
    """Yield the problems of ``workload``, without end."""
    return (problem(index, workload.seed) for index in itertools.count())


def start(index: int, workload: Workload, renderer: Renderer) -> Start:
    """Return where the sample of problem ``index`` is when a measurement starts.

    Lengths are geometric, so the age of a sample met at random is distributed as whole lengths are.
    The ages of any few are spread evenly over that, or 64 of them might all be long.
    """
    rng = random.Random(f"{workload.seed} start {index}")
    age = workload.context_tokens
    answers = False
    if age is None:
        part = (random.Random(workload.seed).random() + index * _GOLDEN) % 1.0
        age = max(1, round(-math.log(1 - part) * workload.thinking_tokens))
        answers = rng.random() < _answering(workload)
    spelt = words()
    inner = [renderer.codec.encode(" " + word)[0] for word in spelt]
    spans: list[tuple[Author, str, tuple[int, ...]]] = []
    author: Author = "student"
    text: list[str] = []
    ids: list[int] = []
    opened = -_STYLE_RUN - 1
    last = 0
    for place in range(age):
        drawn = rng.randrange(len(spelt))
        token = inner[drawn] if place else renderer.codec.encode(spelt[drawn])[0]
        text.append(" " + spelt[drawn] if place else spelt[drawn])
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
    return Start(spans, author, answered)


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


def in_flight(begun: Start, asked: Problem, renderers: Mapping[Author, Renderer]) -> InFlight:
    """Return ``begun`` as in the journal of an earlier process."""
    renderer, teacher = renderers["student"], renderers["teacher"]
    party = RoleSpec(
        codec=renderer.codec,
        prompt=tuple(renderer.prompt_ids(asked.messages)),
        stop_ids=renderer.thinking_stop_ids,
        request_tokens=1,
        room_tokens=1,
        sees_next=True,
        redraws=True,
    )
    fresh = Cooperation(party, party, key="", thinking_tokens=1, seed=lambda *_: 0)
    text = begun.text
    ended: Literal["student"] | None = None if begun.answered is None else "student"
    thinking = replace(
        fresh.state(),
        author=begun.author,
        exempt=False,
        turn_start=len(text),
        judged=len(text),
        prediction_due=True,
        base=_base(text),
        checked=len(text),
        ended_by=ended,
    )
    pieces = []
    for author, part, ids in begun.spans:
        theirs = ids if teacher is renderer else tuple(teacher.codec.encode(part))
        pieces.append(dump_piece(AuthoredText(author, part, ids, theirs)))
    answer = None
    if begun.answered is not None:
        answer = GenerationState(tuple(begun.answered), done=False, checked=0)
    state = SampleState(1, UsageMeter(), thinking=thinking, answer=answer)
    return InFlight(pieces, state.dump(len(pieces)))

"""Contexts of every strategy, with scripted models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tessy.core.records import AUTHORS, Author, Problem, Trajectory
from tessy.inference.base import Sampling
from tessy.inference.scripted import ScriptedEngine
from tessy.synthesis.context import RoleBackend, SynthesisContext
from tessy.synthesis.strategies.registry import all_strategies
from tests.support.cooperation_driver import ReferenceClasses
from tests.synthesis.test_sample import PROBLEM, RENDERERS, THINKING, is_style, make_attempt

Text = tuple[str, str]  # thinking, answer

STUDENTS: Text = ("Okay, 好的. 5 - 6 is\n\n-1, I think. Hmm, so it is -1.", "So it is -1.")
TEACHERS: Text = ("We compute 3 * 2 = 6.\n\nThus 5 - 6 = -1, mod 10 it is 9.", "Result: 9.")
SHOWN: Text = ("Okay, they want 9.\n\nHmm, 5 - 6 = -1, and that is 9.", "It is 9.")
CANDIDATES: Sequence[Text] = (
    ("First, 5 - 3 is 2. Then 2 * 2 is 4.", "It is 4."),
    ("Second try: 3 * 2 = 6. So -1.", "It is -1."),
    ("Third: products first, 3 * 2 is 6, and 5 - 6 is -1.", "It is -1 indeed."),
)
# Strategy, options of the context, and the expected thinking and answer.
CASES: dict[str, tuple[str, dict[str, Any], Text]] = {
    "student-only": ("student-only", {}, STUDENTS),
    "teacher-only": ("teacher-only", {"answering": "teacher"}, TEACHERS),
    "teacher-think": ("teacher-think", {}, (TEACHERS[0], STUDENTS[1])),
    "teacher-answer": ("teacher-answer", {"answering": "teacher"}, (STUDENTS[0], TEACHERS[1])),
    "teacher-score": ("teacher-score", {"candidates": 3}, CANDIDATES[1]),
    "by answer": ("teacher-score", {"candidates": 4, "score_by": "answer"}, CANDIDATES[1]),
    "teacher-reference": ("teacher-reference", {}, SHOWN),
    "answer_by": ("tessy", {"answering": "teacher"}, (THINKING, TEACHERS[1])),
}
NEEDED: dict[str, tuple[Author, ...]] = {
    "student-only": ("student",),
    "teacher-only": ("teacher",),
    "by answer": ("student",),
}


def writer(name: str, choose):
    """Return a script that continues a chosen text.

    ``choose`` receives the prompt, the thinking so far, and the seed.
    """
    renderer = RENDERERS[name]
    encode, token_bytes = renderer.codec.encode, renderer.codec.token_bytes
    opening = (renderer.shape.suffix or renderer.shape.opening).encode()
    closing = renderer.shape.closing.lstrip().encode()

    def script(text: bytes, seed: int) -> list[int]:
        prompt, _, written = text.rpartition(opening)
        before, mark, after = written.partition(closing)
        thinking, answer = choose(prompt.decode(), before.decode("utf-8", "ignore"), seed)
        ids = encode(answer if mark else thinking)
        so_far = after if mark else before
        end = min(renderer.answer_stop_ids if mark else renderer.thinking_stop_ids)
        done = left = 0
        while left < len(so_far):
            left += len(token_bytes(ids[done]))
            done += 1
        if left != len(so_far) and not mark:  # text of the other model, in other tokens
            return [*encode(thinking.encode()[len(so_far) :].decode()), end]
        return [*ids[done:], end]

    return script


def students(prompt: str, so_far: str, seed: int) -> Text:
    return SHOWN if "<reference>" in prompt else STUDENTS


def candidates(prompt: str, so_far: str, seed: int) -> Text:
    texts = [text for text in CANDIDATES if so_far and text[0].startswith(so_far.strip()[:5])]
    return texts[0] if texts else CANDIDATES[seed % 3]


def one_by_one():
    """Return a function that chooses the candidates in order."""
    begun_anew = [0]

    def choose(prompt: str, so_far: str, seed: int) -> Text:
        if not so_far:
            begun_anew[0] += 1
            return CANDIDATES[(begun_anew[0] - 1) % 3]
        return candidates(prompt, so_far, seed)

    return choose


def teachers(prompt: str, so_far: str, seed: int) -> Text:
    if "<answer>" not in prompt:
        return TEACHERS
    score = {"It is 4.": 3, "It is -1.": 9, "It is -1 indeed.": 9}
    answer = prompt.partition("<answer>\n")[2].partition("\n</answer>")[0]
    return f"Is {answer!r} right?", f"I have looked at it.\nScore: {score[answer]}"


def make_context(
    case: str,
    student: str = "qwen3",
    teacher: str = "harmony",
    *,
    student_text=None,
    teacher_text=teachers,
    together: Text = (THINKING, THINKING),  # the student's, and the teacher's
    **more: Any,
) -> SynthesisContext:
    strategy, options, _ = CASES[case]
    scored = strategy == "teacher-score"
    texts = {
        "student": student_text or (one_by_one() if scored else students),
        "teacher": teacher_text,
    }
    if case == "answer_by":
        texts["student"] = lambda *_: (together[0], STUDENTS[1])
        texts["teacher"] = lambda *_: (together[1], TEACHERS[1])
    names: dict[Author, str] = {"student": student, "teacher": teacher}
    backends = {}
    for author in NEEDED.get(case, AUTHORS):
        renderer = RENDERERS[names[author]]
        write = writer(names[author], texts[author])
        engine = ScriptedEngine(write, prompt_tokens=0, codec=renderer.codec, chunk_tokens=3)
        backends[author] = RoleBackend(renderer, engine, Sampling(), 16, more.pop("context", 4096))
    known = ReferenceClasses(together[1], is_style, sees_next=False)
    settings: dict[str, Any] = {
        "strategy": strategy, "answering": "student", "renderer": RENDERERS[student],
        "thinking_tokens": 1000, "answer_tokens": 200, "seed": 3,
        "predictors": dict.fromkeys(AUTHORS, known) if strategy == "tessy" else {},
    }  # fmt: skip
    return SynthesisContext(backends=backends, **(settings | options | more))


def attempt_of(case: str, context: SynthesisContext, **options: Any):
    attempt = make_attempt(context, **options)
    attempt.problem = Problem(id="p", messages=PROBLEM.messages, extra={"reference": "-1"})
    return attempt


async def make(case: str, context: SynthesisContext, **options: Any) -> Trajectory:
    return await all_strategies()[CASES[case][0]].make(attempt_of(case, context, **options))


def requests_of(context: SynthesisContext, author: Author) -> list[Any]:
    engine = context.backends[author].engine
    assert isinstance(engine, ScriptedEngine)
    return engine.requests


def authors(case: str) -> tuple[set[Author], Author]:
    """Return the authors of the thinking and of the answer."""
    thinking: set[Author] = (
        {"teacher"} if case in ("teacher-only", "teacher-think") else {"student"}
    )
    if case == "answer_by":
        thinking = {"student", "teacher"}
    return thinking, CASES[case][1].get("answering", "student")


def failing(*numbers: int):
    """Return a function that chooses the candidates in order, some without an answer."""
    choose = one_by_one()
    count = [0]

    def fails(prompt: str, so_far: str, seed: int) -> Text:
        count[0] += not so_far
        thinking, answer = choose(prompt, so_far, seed)
        return thinking, "" if count[0] - 1 in numbers else answer

    return fails

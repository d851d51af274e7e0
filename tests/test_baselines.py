"""What TESSY is compared with: every strategy with real formats and scripted models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from tessy.config import BOTH
from tessy.engines.base import Sampling
from tessy.engines.scripted import ScriptedEngine
from tessy.errors import SampleFailed
from tessy.journal import Journal
from tessy.records import Author, Message, Problem, Trajectory, unpack_ids
from tessy.runs import read_run
from tessy.synthesis.desk import Meter
from tessy.synthesis.room import Room, Seat
from tessy.synthesis.scoring import parse_score
from tessy.synthesis.strategies import STRATEGIES, tessy
from tessy.synthesis.work import Job
from tessy.tokens import decode
from tests.cooperating import ReferenceClasses
from tests.test_strategies import (
    PROBLEM,
    RENDERERS,
    THINKING,
    is_style,
    make_desk,
    make_workshop,
    open_run,
)

Text = tuple[str, str]  # thinking, answer

STUDENTS: Text = ("Okay, 好的. 5 - 6 is\n\n-1, I think. Hmm, so it is -1.", "So it is -1.")
TEACHERS: Text = ("We compute 3 * 2 = 6.\n\nThus 5 - 6 = -1, mod 10 it is 9.", "Result: 9.")
SHOWN: Text = ("Okay, they want 9.\n\nHmm, 5 - 6 = -1, and that is 9.", "It is 9.")
CANDIDATES: Sequence[Text] = (
    ("First, 5 - 3 is 2. Then 2 * 2 is 4.", "It is 4."),
    ("Second try: 3 * 2 = 6. So -1.", "It is -1."),
    ("Third: products first, 3 * 2 is 6, and 5 - 6 is -1.", "It is -1 indeed."),
)
PAIRS = pytest.mark.parametrize(
    ("student", "teacher"),
    [("qwen3", "harmony"), ("deepseek_r1", "qwen3"), ("harmony", "deepseek_r1")],
)
# Strategy, the room's options, and who writes thinking and answer.
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
EVERY = pytest.mark.parametrize("case", CASES)


def writer(name: str, choose):
    """A model that writes a text of its choice, on from wherever it stands.

    ``choose`` is given what it reads, what it has written of the thinking, and the seed.
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
        begun = after if mark else before
        end = min(renderer.answer_stop_ids if mark else renderer.thinking_stop_ids)
        done = left = 0
        while left < len(begun):
            left += len(token_bytes(ids[done]))
            done += 1
        if left != len(begun) and not mark:  # the other one's words in its own tokens
            return [*encode(thinking.encode()[len(begun) :].decode()), end]
        return [*ids[done:], end]

    return script


def students(prompt: str, begun: str, seed: int) -> Text:
    if "<reference>" in prompt:
        return SHOWN
    return (THINKING if begun and THINKING.startswith(begun) else STUDENTS[0], STUDENTS[1])


def candidates(prompt: str, begun: str, seed: int) -> Text:
    texts = [text for text in CANDIDATES if begun and text[0].startswith(begun.strip()[:5])]
    return texts[0] if texts else CANDIDATES[seed % 3]


def one_by_one():
    """The candidates in their order."""
    begun_anew = [0]

    def choose(prompt: str, begun: str, seed: int) -> Text:
        if not begun:
            begun_anew[0] += 1
            return CANDIDATES[(begun_anew[0] - 1) % 3]
        return candidates(prompt, begun, seed)

    return choose


def teachers(prompt: str, begun: str, seed: int) -> Text:
    if "<answer>" not in prompt:
        return TEACHERS
    score = {"It is 4.": 3, "It is -1.": 9, "It is -1 indeed.": 9}
    answer = prompt.partition("<answer>\n")[2].partition("\n</answer>")[0]
    return f"Is {answer!r} right?", f"I have looked at it.\nScore: {score[answer]}"


def make_room(
    case: str,
    student: str = "qwen3",
    teacher: str = "harmony",
    *,
    student_says=None,
    teacher_says=teachers,
    together: Text = (THINKING, THINKING),  # the student's, and the teacher's
    **more: Any,
) -> Room:
    strategy, options, _ = CASES[case]
    scored = strategy == "teacher-score"
    says = {
        "student": student_says or (one_by_one() if scored else students),
        "teacher": teacher_says,
    }
    if case == "answer_by":
        says["student"] = lambda *_: (together[0], STUDENTS[1])
        says["teacher"] = lambda *_: (together[1], TEACHERS[1])
    names: dict[Author, str] = {"student": student, "teacher": teacher}
    seats = {}
    for author in NEEDED.get(case, BOTH):
        renderer = RENDERERS[names[author]]
        write = writer(names[author], says[author])
        engine = ScriptedEngine(write, prompt_tokens=0, codec=renderer.codec, chunk_tokens=3)
        seats[author] = Seat(renderer, engine, Sampling(), 16, more.pop("context", 4096))
    known = ReferenceClasses(together[1], is_style, sees_next=False)
    settings: dict[str, Any] = {
        "strategy": strategy, "answering": "student", "renderer": RENDERERS[student],
        "thinking_tokens": 1000, "answer_tokens": 200, "seed": 3,
        "predictors": dict.fromkeys(BOTH, known) if strategy == "tessy" else {},
    }  # fmt: skip
    return Room(seats=seats, **(settings | options | more))


@pytest.fixture(autouse=True)
def small_requests(monkeypatch: pytest.MonkeyPatch):
    """Texts here are short; each shall still take several requests."""
    monkeypatch.setattr("tessy.synthesis.writing.REQUEST_TOKENS", 7)


def ask(case: str, room: Room, **options: Any):
    desk = make_desk(room, **options)
    desk.problem = Problem(id="p", messages=PROBLEM.messages, extra={"reference": "-1"})
    return desk


async def make(case: str, room: Room, **options: Any) -> Trajectory:
    return await STRATEGIES[CASES[case][0]](ask(case, room, **options))


def asked(room: Room, author: Author) -> list[Any]:
    engine = room.seats[author].engine
    assert isinstance(engine, ScriptedEngine)
    return engine.requests


def authors(case: str) -> tuple[set[Author], Author]:
    """Who writes the thinking, and who the answer."""
    thinking: set[Author] = (
        {"teacher"} if case in ("teacher-only", "teacher-think") else {"student"}
    )
    if case == "answer_by":
        thinking = {"student", "teacher"}
    return thinking, CASES[case][1].get("answering", "student")


@PAIRS
@EVERY
async def test_every_row_is_in_the_students_format_and_says_who_wrote_what(case, student, teacher):
    room = make_room(case, student, teacher)
    row = await make(case, room)
    thinking, answer = CASES[case][2]
    thinks, answers = authors(case)
    assert (row.strategy, row.thinking, row.answer) == (CASES[case][0], thinking, answer)
    assert {span.author for span in row.spans} == thinks
    assert row.answer_by == answers
    assert row.ended_by in thinks
    assert row.messages[:-1] == PROBLEM.messages
    assert row.messages[-1].content == f"<think>\n{thinking}\n</think>\n\n{answer}"
    codec = RENDERERS[student].codec
    assert row.student_ids is not None
    ids, answer_ids = unpack_ids(row.student_ids.thinking), unpack_ids(row.student_ids.answer)
    assert decode(codec, ids) == thinking
    assert decode(codec, answer_ids) == answer
    kept = {"student": row.tokens.student, "teacher": row.tokens.teacher}
    assert sum(kept.values()) == len(ids)
    assert {author for author in BOTH if kept[author]} == thinks
    assert row.tokens.answer == len(answer_ids)
    for author in BOTH:
        sent = len(asked(room, author)) if author in room.seats else 0
        assert row.cost.requests[author] == sent
        assert (row.tokens.drafted[author] > 0) <= (author in room.seats)


@EVERY
async def test_no_two_requests_draw_with_the_same_seed(case):
    room = make_room(case)
    await make(case, room)
    seeds = [request.seed for author in room.seats for request in asked(room, author)]
    assert len(seeds) > 4
    assert len(set(seeds)) == len(seeds)


@PAIRS
@pytest.mark.parametrize("case", ["teacher-only", "teacher-answer", "answer_by"])
async def test_a_teacher_that_answers_reads_the_thinking_in_its_own_format(case, student, teacher):
    room = make_room(case, student, teacher)
    await make(case, room)
    renderer = RENDERERS[teacher]
    first = next(
        r for r in asked(room, "teacher") if r.stop_ids == tuple(sorted(renderer.answer_stop_ids))
    )
    begins = renderer.prompt_text(PROBLEM.messages)
    assert decode(renderer.codec, first.prompt.ids) == (
        f"{begins}{CASES[case][2][0]}{renderer.shape.closing}"
    )


@PAIRS
async def test_a_student_that_answers_reads_the_teachers_thinking_in_its_own_format(
    student, teacher
):
    room = make_room("teacher-think", student, teacher)
    await make("teacher-think", room)
    renderer = RENDERERS[student]
    begins = renderer.prompt_text(PROBLEM.messages)
    assert decode(renderer.codec, asked(room, "student")[0].prompt.ids) == (
        f"{begins}{TEACHERS[0]}{renderer.shape.closing}"
    )


async def test_white_space_before_a_teachers_end_marker_is_no_part_of_what_it_answers_to():
    short = "Okay, let's see.\n\nWe get 5 - 3 = 2."
    # The teacher would go on with style, and the student ends it there.
    room = make_room("answer_by", together=(f"{short}\n\n", f"{short}\n\nDone."))
    row = await make("answer_by", room)
    assert (row.thinking, row.ended_by) == (short, "student")
    assert row.spans[-1].author == "teacher"
    renderer = RENDERERS["harmony"]
    stops = tuple(sorted(renderer.answer_stop_ids))
    first = next(r for r in asked(room, "teacher") if r.stop_ids == stops)
    assert decode(renderer.codec, first.prompt.ids).endswith(f" 2.{renderer.shape.closing}")


async def test_the_reference_is_in_the_students_prompt_and_in_a_field_but_not_in_the_messages():
    room = make_room("teacher-reference")
    row = await make("teacher-reference", room)
    assert row.reference_answer == TEACHERS[1]
    read = decode(RENDERERS["qwen3"].codec, asked(room, "student")[0].prompt.ids)
    assert f"<reference>\n{TEACHERS[1]}\n</reference>" in read
    assert PROBLEM.messages[0].content in read
    assert TEACHERS[1] not in json.dumps([turn.content for turn in row.messages])
    whole = sum(len(RENDERERS["harmony"].codec.encode(text)) for text in TEACHERS)
    assert row.tokens.drafted["teacher"] == whole


async def test_the_teacher_scores_every_candidate_and_the_first_of_the_best_is_kept():
    room = make_room("teacher-score")
    row = await make("teacher-score", room)
    assert row.scores == (3.0, 9.0, 9.0)
    assert row.unscored == {}
    assert row.thinking == CANDIDATES[1][0]
    codec = RENDERERS["harmony"].codec
    first = decode(codec, asked(room, "teacher")[0].prompt.ids)
    assert all(text in first for text in (PROBLEM.messages[0].content, *CANDIDATES[0]))
    encode = RENDERERS["qwen3"].codec.encode
    thinking = sum(len(encode(text[0])) for text in CANDIDATES)
    lost = sum(len(encode(CANDIDATES[n][1])) for n in (0, 2))
    assert row.tokens.drafted["student"] == thinking + lost


async def test_a_reference_answer_scores_without_any_teacher():
    row = await make("by answer", make_room("by answer"))
    assert row.scores == (0.0, 1.0, 1.0, 0.0)


def failing(*numbers: int):
    """The candidates in their order, those of ``numbers`` without an answer."""
    choose = one_by_one()
    count = [0]

    def fails(prompt: str, begun: str, seed: int) -> Text:
        count[0] += not begun
        thinking, answer = choose(prompt, begun, seed)
        return thinking, "" if count[0] - 1 in numbers else answer

    return fails


async def test_a_candidate_that_fails_is_out_and_the_rest_compete():
    row = await make("teacher-score", make_room("teacher-score", student_says=failing(1)))
    assert row.scores == (3.0, None, 9.0)
    assert row.unscored == {1: "empty_answer"}
    assert row.thinking == CANDIDATES[2][0]
    assert Trajectory.model_validate_json(row.model_dump_json()) == row


@pytest.mark.parametrize("judgement", ["I cannot say.", "Score: 11", "Score: 5\nor so", ""])
async def test_a_candidate_without_a_score_is_out_and_the_rest_compete(judgement):
    def says(prompt: str, begun: str, seed: int) -> Text:
        thinking, answer = teachers(prompt, begun, seed)
        return thinking, judgement if CANDIDATES[1][1] in prompt else answer

    row = await make("teacher-score", make_room("teacher-score", teacher_says=says))
    assert row.scores == (3.0, None, 9.0)
    assert row.unscored == {1: "no_score"}


async def test_if_no_candidate_has_a_score_the_sample_fails_with_the_last_reason(tmp_path):
    says = one_by_one()
    room = make_room("teacher-score", student_says=says, teacher_says=lambda *_: ("Hm.", "Good."))
    with open_run(tmp_path / "r") as run, Journal(tmp_path / "j") as journal:
        shop = make_workshop(room, run, journal, strategy=STRATEGIES["teacher-score"])
        await shop.make(Job(PROBLEM, 0))
        await journal.flush()
        assert journal.load() == {}
    (row,) = read_run(tmp_path / "r").failures
    assert (row.reason, row.attempts) == ("no_score", 1)
    assert "none of 3 candidates" in row.detail
    assert "'Good.'" in row.detail
    assert row.scores == (None, None, None)
    assert set(row.unscored.values()) == {"no_score"}
    assert (row.thinking, row.answer) == CANDIDATES[2]


async def test_candidates_that_all_fail_are_tried_again_as_one_sample(tmp_path):
    room = make_room("by answer", student_says=failing(*range(8)))
    problem = Problem(id="p", messages=PROBLEM.messages, extra={"answer": -1})
    with open_run(tmp_path / "r") as run, Journal(tmp_path / "j") as journal:
        shop = make_workshop(room, run, journal, strategy=STRATEGIES["teacher-score"])
        await shop.make(Job(problem, 0))
    (row,) = read_run(tmp_path / "r").trajectories
    assert row.attempts == 3
    assert row.cost.requests["student"] == len(asked(room, "student"))


@pytest.mark.parametrize(
    ("case", "reason"), [("teacher-reference", "empty_answer"), ("teacher-only", "empty_answer")]
)
async def test_a_teacher_that_fails_is_the_rows_text(case, reason):
    room = make_room(case, teacher_says=lambda *_: (TEACHERS[0], " "))
    desk = ask(case, room)
    with pytest.raises(SampleFailed) as failed:
        await STRATEGIES[CASES[case][0]](desk)
    row = desk.failure(failed.value.reason, failed.value.detail)
    assert (row.reason, row.thinking, row.answer_by) == (reason, TEACHERS[0], "teacher")
    assert {span.author for span in row.spans} == {"teacher"}
    assert row.tokens.teacher == len(RENDERERS["qwen3"].codec.encode(TEACHERS[0]))


@pytest.mark.parametrize("case", ["teacher-only", "teacher-think"])
async def test_a_teachers_budget_is_in_the_students_tokens(case):
    long = " ".join(f"{n} times {n} is {n * n};" for n in range(60))
    says: dict[str, Any] = {"teacher_says": lambda *_: (long, TEACHERS[1])}
    tokens = len(RENDERERS["qwen3"].codec.encode(long))
    row = await make(case, make_room(case, thinking_tokens=tokens + 1, **says))
    assert row.tokens.teacher == tokens
    for less in (tokens - 1, tokens // 2):
        room = make_room(case, thinking_tokens=less, **says)
        with pytest.raises(SampleFailed, match=f"budget: the thinking reached {less} tokens"):
            await make(case, room)


async def test_a_context_that_is_full_is_a_budget_failure():
    long = " ".join(f"{n} times {n} is {n * n};" for n in range(60))
    room = make_room("teacher-only", teacher_says=lambda *_: (long, TEACHERS[1]), context=300)
    with pytest.raises(SampleFailed, match="budget: no room for the thinking"):
        await make("teacher-only", room)


@EVERY
async def test_a_sample_goes_on_from_any_saved_state_to_the_same_row(case):
    says: dict[str, Any] = {"student_says": candidates} if CASES[case][0] == "teacher-score" else {}
    saves: list[Any] = []
    pieces: list[bytes] = []

    def save(new, state):
        pieces.extend(new)
        saves.append((json.loads(json.dumps(state)), list(pieces)))

    room = make_room(case, **says)
    whole = await make(case, room, save=save)
    seeds = {author: [r.seed for r in asked(room, author)] for author in room.seats}
    assert len(saves) >= 8
    for state, done in saves:
        room = make_room(case, **says)
        meter = Meter.from_json(state["meter"])
        row = await make(case, room, saved=(state, done), meter=meter)
        unlike = {"seconds", "cost"}
        assert row.model_dump(exclude=unlike) == whole.model_dump(exclude=unlike)
        # What was finished was not asked for again, and the rest with the same seeds.
        assert row.cost.requests == whole.cost.requests
        for author in room.seats:
            again = [request.seed for request in asked(room, author)]
            assert seeds[author][len(seeds[author]) - len(again) :] == again


@pytest.mark.parametrize("case", ["teacher-score", "by answer"])
async def test_what_is_saved_does_not_grow_with_the_candidates_that_are_finished(case):
    sizes: list[tuple[int, int]] = []

    def save(new, state):
        sizes.append((sum(map(len, new)), len(json.dumps(state))))

    options = {"save": save}
    await make(case, make_room(case, student_says=candidates, candidates=4), **options)
    half = len(sizes) // 2
    for kind in (0, 1):
        early, late = (max(size[kind] for size in part) for part in (sizes[:half], sizes[half:]))
        assert late < early * 1.5


@pytest.mark.parametrize(
    ("judgement", "score"),
    [
        ("Fine.\n\nScore: 7", 7.0),
        ("Score: 7.5", 7.5),
        ("**Score: 10**", 10.0),
        ("score: 0/10.", 0.0),
        ("**Score:** 8 / 10\n", 8.0),
        ("Score 3", 3.0),
        ("Score: 7\nThat is all.", None),
        ("Score: 11", None),
        ("Score: -1", None),
        ("Score: 7 or 8", None),
        ("Score: N", None),
        ("7", None),
        ("", None),
    ],
)
def test_a_score_is_the_last_line_and_nothing_else(judgement, score):
    assert parse_score(judgement) == score


async def test_a_conversation_is_judged_as_a_whole():
    turns = (
        Message(role="system", content="Be brief."),
        Message(role="user", content="5 - 3 * 2?"),
    )
    room = make_room("teacher-score")
    desk = ask("teacher-score", room)
    desk.problem = Problem(id="p", messages=turns)
    row = await STRATEGIES["teacher-score"](desk)
    assert row.messages[:-1] == turns
    read = decode(RENDERERS["harmony"].codec, asked(room, "teacher")[0].prompt.ids)
    assert "[system]\nBe brief.\n\n[user]\n5 - 3 * 2?" in read


def test_tessy_is_one_of_them():
    assert STRATEGIES["tessy"] is tessy

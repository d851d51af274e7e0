"""Samples by one author: the strategy with scripted models, and the state machine."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessy.core.errors import FailureReason, SampleFailed
from tessy.core.records import Author, unpack_ids
from tessy.inference.base import Chunk, Sampling
from tessy.inference.scripted import END_THINKING, ByteCodec, ScriptedEngine
from tessy.storage.journal import Journal
from tessy.synthesis.context import REQUEST_TOKENS, RoleBackend, SynthesisContext
from tessy.synthesis.single_model import Measure, SingleModelGeneration
from tessy.synthesis.strategies.sample import STRATEGY
from tessy.tokenization.token_ids import decode
from tests.support.run_data import read_run
from tests.support.saved_samples import SavedSample
from tests.synthesis.test_sample import (
    ANSWER,
    PROBLEM,
    RENDERERS,
    make_attempt,
    open_run,
    write_row,
)

WORDS = " ".join(f"Step {n}: {n} + {n} = {2 * n}. Gut, 好的." for n in range(9))
THINKING = f"Okay.\n\n{WORDS}\n\nSo it is 4."
FORMATS = pytest.mark.parametrize(
    ("name", "author"),
    [
        ("qwen3", "student"),
        ("harmony", "teacher"),
        ("deepseek_r1", "student"),
        ("qwen3", "teacher"),
    ],
)


def model_script(name: str, *, thinking=f"\n {THINKING} \n", end=None, answer=ANSWER, last=None):
    """Return a script of one model: thinking, the marker that ends it, answer, end of turn.

    It continues from any token, also in the middle of a character.
    """
    renderer = RENDERERS[name]
    control, encode = renderer.codec.control, renderer.codec.encode
    closing = renderer.shape.closing.lstrip().encode()
    end_id = control[end] if end else min(renderer.thinking_stop_ids)
    last_id = control[last] if last else min(renderer.answer_stop_ids)

    def script(text: bytes, seed: int) -> list[int]:
        before, mark, after = text.partition(closing)
        so_far, ids = (after, encode(answer)) if mark else (before, encode(thinking))
        done = length = 0
        while length < len(so_far):
            length += len(renderer.codec.token_bytes(ids[done]))
            done += 1
        return [*ids[done:], last_id if mark else end_id]

    return script


def make_context(
    name: str = "qwen3", author: Author = "student", *, write=None, **options
) -> SynthesisContext:
    renderer = RENDERERS[name]
    engine = ScriptedEngine(
        write or model_script(name),
        prompt_tokens=len(renderer.prompt_ids(PROBLEM.messages)),
        codec=renderer.codec,
        chunk_tokens=5,
    )
    backend = RoleBackend(renderer, engine, Sampling(), context_tokens=options.pop("context", 9000))
    settings: dict[str, Any] = {"thinking_tokens": 600, "answer_tokens": 200, "seed": 3}
    settings |= {"strategy": "sample", "answering": author, "home": author, **options}
    return SynthesisContext(backends={author: backend}, **settings)


def requests_of(context: SynthesisContext) -> list[Any]:
    (backend,) = context.backends.values()
    assert isinstance(backend.engine, ScriptedEngine)
    return backend.engine.requests


@FORMATS
async def test_a_lone_author_thinks_and_answers_in_its_own_format(name, author):
    context = make_context(name, author)
    attempt = make_attempt(context)
    row = await STRATEGY.make(attempt)
    assert (row.strategy, row.thinking, row.answer) == ("sample", THINKING, ANSWER)
    assert [(s.start, s.end, s.author) for s in row.spans] == [(0, len(THINKING), author)]
    assert row.ended_by == author
    assert row.messages[:-1] == PROBLEM.messages
    assert row.messages[-1].content == f"<think>\n{THINKING}\n</think>\n\n{ANSWER}"
    assert row.problem == {"k": 1}
    codec = RENDERERS[name].codec
    own = {"student": row.tokens.student, "teacher": row.tokens.teacher}
    absent: Author = "teacher" if author == "student" else "student"
    assert own[absent] == row.tokens.drafted[absent] == row.cost.requests[absent] == 0
    assert len(codec.encode(THINKING)) <= own[author] < row.tokens.drafted[author]
    assert row.tokens.answer == len(codec.encode(ANSWER))
    assert attempt.progress.tokens[absent] == 0
    assert row.cost.requests[author] == len(requests_of(context)) > 5
    assert set(row.cost.seconds) == {author, "answer"}


async def test_ids_are_the_students_and_only_the_students():
    row = await STRATEGY.make(make_attempt(make_context()))
    codec = RENDERERS["qwen3"].codec
    assert row.student_ids is not None
    assert decode(codec, unpack_ids(row.student_ids.thinking)) == THINKING
    assert decode(codec, unpack_ids(row.student_ids.answer)) == ANSWER
    assert row.tokens.student == len(unpack_ids(row.student_ids.thinking))
    assert (await STRATEGY.make(make_attempt(make_context(keep_ids=False)))).student_ids is None
    assert (await STRATEGY.make(make_attempt(make_context(author="teacher")))).student_ids is None


@FORMATS
async def test_the_answer_reads_the_thinking_between_the_models_own_markers(name, author):
    context = make_context(name, author)
    await STRATEGY.make(make_attempt(context))
    renderer = RENDERERS[name]
    read = decode(renderer.codec, requests_of(context)[-1].prompt.ids)
    begins = renderer.prompt_text(PROBLEM.messages)
    assert read == f"{begins}{THINKING}{renderer.shape.closing}"
    assert requests_of(context)[0].stop_ids == tuple(sorted(renderer.thinking_stop_ids))
    assert requests_of(context)[-1].stop_ids == tuple(sorted(renderer.answer_stop_ids))
    assert {r.max_tokens for r in requests_of(context)} == {REQUEST_TOKENS}
    assert len({r.seed for r in requests_of(context)}) == len(requests_of(context))


@FORMATS
async def test_a_sample_resumes_from_any_saved_state_to_the_same_row(name, author):
    saved = SavedSample()
    context = make_context(name, author)
    whole = await STRATEGY.make(make_attempt(context, save=saved.save))
    seeds = [request.seed for request in requests_of(context)]
    assert {state.answer is None for state in saved.loaded} == {True, False}
    for state in saved.loaded:
        again = make_context(name, author)
        row = await STRATEGY.make(make_attempt(again, saved=state))
        unlike: Any = {"seconds": True, "cost": {"seconds"}}
        assert row.model_dump_json(exclude=unlike) == whole.model_dump_json(exclude=unlike)
        assert [request.seed for request in requests_of(again)] == seeds[
            len(seeds) - len(requests_of(again)) :
        ]


async def test_the_journal_gets_every_id_of_the_thinking_once():
    saved = SavedSample()
    row = await STRATEGY.make(make_attempt(make_context(), save=saved.save))
    kept: list[int] = list(chain.from_iterable(cast(list[tuple[int, ...]], saved.pieces)))
    codec = RENDERERS["qwen3"].codec
    assert decode(codec, kept) == f"\n {THINKING} \n"
    assert len(kept) > row.tokens.student > 4 * REQUEST_TOKENS
    # The state, which is written again before each request, does not grow with the thinking.
    assert max(len(entry.state or b"") for entry in saved.in_flight) < 600


LOOP = "word by word " * 300
SQUARES = " ".join(str(n * n) for n in range(300))


@pytest.mark.parametrize(
    ("name", "thinking", "end", "reason"),
    [
        ("qwen3", "", None, "empty_thinking"),
        ("harmony", " \n ", None, "empty_thinking"),
        ("qwen3", "Okay", "<|im_end|>", "eos_in_thinking"),
        ("qwen3", "Okay", "<think>", "eos_in_thinking"),
        ("harmony", "Okay", "<|start|>", "eos_in_thinking"),
        ("qwen3", LOOP, None, "repetition"),
        ("harmony", SQUARES, None, "budget"),
    ],
)
async def test_an_invalid_thinking_is_a_failure(name, thinking, end, reason):
    context = make_context(name, write=model_script(name, thinking=thinking, end=end))
    attempt = make_attempt(context)
    with pytest.raises(SampleFailed) as failure:
        await STRATEGY.make(attempt)
    assert failure.value.reason == reason
    row = attempt.failure(reason, failure.value.detail)
    assert thinking.startswith(row.thinking)
    assert bool(row.thinking) == (reason != "empty_thinking") == bool(row.spans)
    assert row.strategy == "sample"
    assert row.answer == ""


@pytest.mark.parametrize("end", ["<|end|>", "<|return|>", "<|call|>", "<|channel|>"])
async def test_any_stop_id_of_harmony_ends_its_thinking(end):
    context = make_context("harmony", "teacher", write=model_script("harmony", end=end))
    row = await STRATEGY.make(make_attempt(context))
    assert (row.thinking, row.answer) == (THINKING, ANSWER)


@pytest.mark.parametrize(
    ("answer", "end", "reason"),
    [
        (" \n ", None, "empty_answer"),
        ("The answer", "<think>", "control_in_answer"),
        (LOOP, None, "repetition"),
        (SQUARES, None, "budget"),
    ],
)
async def test_an_invalid_answer_is_a_failure(answer, end, reason):
    attempt = make_attempt(make_context(write=model_script("qwen3", answer=answer, last=end)))
    with pytest.raises(SampleFailed) as failure:
        await STRATEGY.make(attempt)
    assert failure.value.reason == reason
    assert attempt.failure(reason, failure.value.detail).thinking == THINKING


async def test_a_problem_without_room_fails_before_any_request():
    context = make_context(context=60)
    with pytest.raises(SampleFailed) as failure:
        await STRATEGY.make(make_attempt(context))
    assert failure.value.reason == "prompt_too_long"
    assert not requests_of(context)


async def test_a_failure_is_tried_again_with_other_seeds_and_then_recorded(tmp_path: Path):
    codec = RENDERERS["qwen3"].codec
    context = make_context(write=model_script("qwen3", thinking="Okay", end="<|im_end|>"))
    with open_run(tmp_path / "r") as run, Journal(tmp_path / "j") as journal:
        await write_row(context, run, journal, strategy=STRATEGY.make)
        await journal.flush()
        assert journal.load() == {}
    (row,) = read_run(tmp_path / "r").failures
    assert (row.reason, row.attempts, row.thinking) == ("eos_in_thinking", 3, "Okay")
    assert row.cost.requests == {"student": 3, "teacher": 0}
    assert row.tokens.drafted["student"] == 3 * len(codec.encode("Okay"))
    assert len({request.seed for request in requests_of(context)}) == 3


async def test_the_length_of_a_sample_is_reported_to_the_admission(tmp_path: Path):
    with open_run(tmp_path / "r") as run, Journal(tmp_path / "j") as journal:
        outcome = await write_row(make_context(), run, journal, strategy=STRATEGY.make)
    (row,) = read_run(tmp_path / "r").trajectories
    assert outcome is not None
    assert outcome.tokens == row.tokens.student + row.tokens.answer


# ---------------------------------------------------------------- the state machine

PIECES = [b"Ok", b" s", b"\xe4\xb8", b"\n\nW", b" \n"]


def make_generation(request_tokens: int = 7) -> SingleModelGeneration:
    return SingleModelGeneration(
        "teacher", ByteCodec(PIECES), [1, 2], what="thinking",
        stop_ids=frozenset({END_THINKING}), max_tokens=10_000, request_tokens=request_tokens,
        seed=lambda written: written,
    )  # fmt: skip


def receive_all(generation: SingleModelGeneration, ids: list[int], requests: int) -> None:
    """Deliver ``ids`` to the generation, in at most ``requests`` requests."""
    for _ in range(requests):
        generate = generation.next()
        if generate is None:
            return
        begun = len(generate.prompt.ids) - 2
        part = ids[begun : begun + generate.max_tokens]
        whole = begun + len(part) == len(ids)
        generation.receive(Chunk(tuple(part)))
        generation.receive(
            Chunk((), "stop" if whole else "length", END_THINKING if whole else None)
        )


@given(st.text(st.sampled_from("Ok s\n\t中 .文")), st.integers(0, 20), st.integers(1, 9))
def test_a_text_interrupted_anywhere_resumes_to_the_same_text_and_ids(text, left, request):
    ids = ByteCodec(PIECES).encode(text)
    whole = make_generation(request)
    receive_all(whole, ids, 1000)
    stopped = make_generation(request)
    receive_all(stopped, ids, left)
    again = make_generation(request)
    again.restore(stopped.state())
    receive_all(again, ids, 1000)
    assert whole.done
    assert again.thinking_result() == whole.thinking_result()
    thought = whole.thinking_result()
    assert thought.text == text.strip()
    assert decode(ByteCodec(PIECES), thought.ids) == text.strip()
    assert [(s.start, s.end) for s in thought.spans] == (
        [(0, len(text.strip()))] * bool(text.strip())
    )


@pytest.mark.parametrize("left", range(0, 30, 3))
def test_a_loop_is_found_at_the_same_place_after_a_stop(left: int):
    ids = [*b"Okay, let us see. ", *b"word by word " * 60]

    def until_it_fails(generation: SingleModelGeneration) -> int:
        with pytest.raises(SampleFailed, match="the thinking repeats"):
            receive_all(generation, ids, 1000)
        return len(generation.ids)

    stopped, again = make_generation(), make_generation()
    receive_all(stopped, ids, left)
    again.restore(stopped.state())
    assert until_it_fails(again) == until_it_fails(make_generation())


@pytest.mark.parametrize(
    ("chunk", "reason"),
    [
        (Chunk((), "stop", None), "eos_in_thinking"),  # a server that does not report the stop id
        (Chunk((), "length"), "budget"),
    ],
)
def test_a_stream_without_an_end_of_the_text_is_a_failure(chunk: Chunk, reason: FailureReason):
    generation = make_generation()
    generation.next()
    with pytest.raises(SampleFailed) as failure:
        generation.receive(chunk)
    assert failure.value.reason == reason


BITS = ["Okay", ",", " ", "\n", "\n\n", " 12", "好的", ".", "x" * 50]


@given(st.lists(st.sampled_from(BITS), max_size=40), st.sets(st.integers(1, 200)))
def test_a_text_is_measured_the_same_however_it_grows(parts: list[str], lengths: set[int]):
    text = "".join(parts)
    codec = RENDERERS["qwen3"].codec
    measure = Measure(codec)
    for end in sorted(look for look in lengths if look < len(text)):
        assert measure.tokens(text[:end]) >= len(codec.encode(text[:end]))
    known = len(codec.encode(text))
    # Inside a long stretch without an edge, each measurement may add a token.
    assert known <= measure.tokens(text) <= known + (len(lengths) if "x" * 50 in text else 0)

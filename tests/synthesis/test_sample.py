"""Attempts and runners of samples with real chat formats and scripted models."""

from __future__ import annotations

from typing import Any

import pytest

from tessy.core.errors import SampleFailed
from tessy.core.records import Author, Message, Problem, Trajectory, unpack_ids
from tessy.inference.base import Sampling
from tessy.inference.scripted import ScriptedEngine
from tessy.runtime.admission import Slots
from tessy.runtime.progress import ProgressState
from tessy.runtime.runner import JobList, JobResult, run_jobs
from tessy.runtime.stop import Stop
from tessy.storage.journal import InFlight, Journal
from tessy.storage.run_dir import Run
from tessy.storage.run_reader import TRAJECTORIES
from tessy.synthesis.attempt import SampleAttempt
from tessy.synthesis.context import RoleBackend, SynthesisContext
from tessy.synthesis.sample import SampleJob, SampleRunner
from tessy.synthesis.strategies.tessy import tessy
from tessy.tokenization.families import load_renderer
from tessy.tokenization.token_ids import decode
from tests.support.cooperation_driver import ReferenceClasses
from tests.support.paths import TESTS
from tests.support.run_data import read_run
from tests.support.saved_samples import SavedSample

FAMILIES = TESTS / "families"
THINKING = "Okay, let's see.\n\nWe get 5 - 3 = 2. Hmm, then 2 * 2 = 4.\n\nSo it is 4. Done."
ANSWER = "The answer is 4."
PROBLEM = Problem(id="p", messages=(Message(role="user", content="5 - 3 * 2?"),), extra={"k": 1})
RENDERERS = {name: load_renderer(FAMILIES / name) for name in ("qwen3", "harmony", "deepseek_r1")}


def is_style(unit):
    return not any(char.isdigit() or char in "=*" for char in unit)


def script(renderer, answer=ANSWER, end=None, thinking=THINKING):
    """Return a script that generates the thinking, and the answer after its end."""
    codec = renderer.codec
    closing = renderer.shape.closing.lstrip().encode()
    stop = min(renderer.thinking_stop_ids)
    last = min(renderer.answer_stop_ids) if end is None else end

    def write(text, seed):
        before, mark, after = text.partition(closing)
        whole, begun, stop_id = (answer, after, last) if mark else (thinking, before, stop)
        begun = begun.decode("utf-8")
        assert whole.startswith(begun), (whole, begun)
        return [*codec.encode(whole[len(begun) :]), stop_id]

    return write


def make_context(
    student="qwen3", teacher="harmony", *, write=None, context=4096, request_tokens=16, **options
):
    known = ReferenceClasses(THINKING, is_style, sees_next=False)
    backends: dict[Author, RoleBackend] = {}
    names: tuple[tuple[Author, str], ...] = (("student", student), ("teacher", teacher))
    for author, name in names:
        renderer = RENDERERS[name]
        engine = ScriptedEngine(
            write if write and author == "student" else script(renderer),
            prompt_tokens=len(renderer.prompt_ids(PROBLEM.messages)),
            codec=renderer.codec,
        )
        backends[author] = RoleBackend(
            renderer=renderer, engine=engine, sampling=Sampling(),
            request_tokens=request_tokens, context_tokens=context,
        )  # fmt: skip
    settings: dict[str, Any] = {
        "strategy": "tessy", "answering": "student", "predictors": dict.fromkeys(backends, known),
        "thinking_tokens": 1000, "answer_tokens": 200, "seed": 3,
    }  # fmt: skip
    return SynthesisContext(backends=backends, **(settings | options))


class KeptTokens(ProgressState):
    def __init__(self):
        super().__init__(1, now=0.0)
        self.tokens = {"student": 0, "teacher": 0}

    def kept(self, author, tokens):
        self.tokens[author] += tokens


def make_attempt(
    context, *, number=1, save=lambda pieces, state: None, saved=None, problem=PROBLEM
):
    return SampleAttempt(
        context=context, problem=problem, sample=0, number=number, save=save,
        checkpoint=lambda: None, progress=KeptTokens(), saved=saved,
    )  # fmt: skip


@pytest.mark.parametrize("student", ["qwen3", "deepseek_r1", "harmony"])
@pytest.mark.parametrize("teacher", ["harmony", "qwen3"])
async def test_both_write_the_thinking_and_the_student_the_answer(student, teacher):
    context = make_context(student, teacher)
    attempt = make_attempt(context)
    row = await tessy(attempt)
    assert row.thinking == THINKING
    assert row.answer == ANSWER
    assert row.messages[-1].content == f"<think>\n{THINKING}\n</think>\n\n{ANSWER}"
    assert row.problem == {"k": 1}
    for span in row.spans[1:]:
        assert is_style(row.thinking[span.start : span.end]) == (span.author == "student")
    codec = RENDERERS[student].codec
    ids = row.student_ids
    assert ids is not None
    assert decode(codec, unpack_ids(ids.thinking)) == THINKING
    assert decode(codec, unpack_ids(ids.answer)) == ANSWER
    kept = row.tokens.student + row.tokens.teacher
    assert kept == len(unpack_ids(ids.thinking))
    assert row.tokens.answer == len(unpack_ids(ids.answer))
    assert attempt.progress.tokens["student"] >= row.tokens.student + row.tokens.answer
    assert row.cost.requests["teacher"] == len(context.backends["teacher"].engine.requests)
    assert set(row.cost.seconds) == {"student", "teacher", "predictor", "answer"}


async def test_every_request_has_a_seed_of_its_own_that_a_rerun_repeats():
    seeds = []
    for _ in range(2):
        context = make_context()
        await tessy(make_attempt(context))
        seeds.append(
            [r.seed for backend in context.backends.values() for r in backend.engine.requests]
        )
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) == len(seeds[0])
    other = make_context(seed=4)
    await tessy(make_attempt(other))
    assert not set(seeds[0]) & {r.seed for r in other.backends["student"].engine.requests}


async def test_the_answer_reads_the_thinking_in_the_students_own_format():
    context = make_context()
    await tessy(make_attempt(context))
    codec = RENDERERS["qwen3"].codec
    prompt = context.backends["student"].engine.requests[-1].prompt.ids
    assert decode(codec, prompt).endswith("So it is 4. Done.\n</think>\n\n")


async def test_a_sample_resumes_from_any_saved_state_to_the_same_row():
    saved = SavedSample()
    whole = await tessy(make_attempt(make_context(), save=saved.save))
    assert len(saved.loaded) > 10
    for state in saved.loaded:
        row = await tessy(make_attempt(make_context(), saved=state))
        unlike = {"seconds", "cost"}
        assert row.model_dump(exclude=unlike) == whole.model_dump(exclude=unlike)
        assert row.cost.requests == whole.cost.requests


@pytest.mark.parametrize(
    ("answer", "end", "reason"),
    [
        ("", None, "empty_answer"),
        (" \n ", None, "empty_answer"),
        ("The answer", "<think>", "control_in_answer"),
        ("word by word " * 300, None, "repetition"),
        (" ".join(str(n * n) for n in range(300)), None, "budget"),
    ],
)
async def test_an_invalid_answer_is_a_failure(answer, end, reason):
    renderer = RENDERERS["qwen3"]
    end_id = renderer.codec.control[end] if end else None
    attempt = make_attempt(make_context(write=script(renderer, answer, end_id), request_tokens=64))
    with pytest.raises(SampleFailed) as failure:
        await tessy(attempt)
    assert failure.value.reason == reason
    row = attempt.failure(reason, failure.value.detail)
    assert row.thinking == THINKING
    assert row.tokens.drafted["teacher"] > 0


async def test_a_problem_without_room_for_an_answer_fails_before_any_request():
    context = make_context(context=60)
    with pytest.raises(SampleFailed) as failure:
        await tessy(make_attempt(context))
    assert failure.value.reason == "prompt_too_long"
    assert not context.backends["student"].engine.requests


async def test_a_small_context_is_shared_between_thinking_and_answer():
    context = make_context(context=600)
    limits = context.limits({"student": 100, "teacher": 50})
    assert limits.answer + limits.thinking + 100 < 600
    assert limits.answer == (600 - 100 - 16) // 4
    # The answer gets what the thinking leaves.
    roomy = make_context(context=600, thinking_tokens=50, answer_tokens=5000)
    assert roomy.limits({"student": 100, "teacher": 50}).answer == 600 - 100 - 16 - 50


async def test_a_saved_answer_is_kept_until_it_is_continued():
    saved, again = SavedSample(), SavedSample()
    await tessy(make_attempt(make_context(), save=saved.save))
    begun = next(state for state in saved.loaded if state.answer and state.answer.ids)
    await tessy(make_attempt(make_context(), save=again.save, saved=begun))
    assert again.states[0].answer == begun.answer


def make_runner(context, journal, **options):
    settings: dict[str, Any] = {
        "strategy": tessy, "attempts": 3, "progress": ProgressState(1, now=0.0),
        "checkpoint": lambda: None,
    }  # fmt: skip
    return SampleRunner(context=context, journal=journal, **(settings | options))


async def write_row(context, run, journal, problem=PROBLEM, **options) -> JobResult | None:
    """Generate one sample as a run does; return its result, None if it was left in flight."""
    runner = make_runner(context, journal, **options)
    results: list[JobResult] = []

    def written(job: SampleJob, result: JobResult) -> None:
        runner.written(job, result)
        results.append(result)

    await run_jobs(
        JobList([SampleJob(problem, 0)]), runner.make,
        sink=run, admission=Slots(1), stop=Stop(), written=written,
    )  # fmt: skip
    return results[0] if results else None


def open_run(path):
    return Run.open(path, TRAJECTORIES, config={}, data_config={})


async def test_a_finished_sample_has_a_row_and_nothing_in_the_journal(tmp_path):
    with open_run(tmp_path / "r") as run, Journal(tmp_path / "j") as journal:
        context = make_context()
        result = await write_row(context, run, journal)
        await journal.flush()
        assert journal.load() == {}
    (row,) = read_run(tmp_path / "r").trajectories
    assert isinstance(row, Trajectory)
    assert result is not None
    assert result.tokens == row.tokens.student + row.tokens.teacher + row.tokens.answer
    assert row.attempts == 1


async def test_a_failure_is_tried_again_with_other_seeds_and_then_recorded(tmp_path):
    context = make_context(write=script(RENDERERS["qwen3"], ""))
    with open_run(tmp_path / "r") as run, Journal(tmp_path / "j") as journal:
        await write_row(context, run, journal)
        assert journal.attempts(("p", 0)) == 0
    (row,) = read_run(tmp_path / "r").failures
    assert (row.reason, row.attempts) == ("empty_answer", 3)
    requests = context.backends["student"].engine.requests
    assert len({r.seed for r in requests}) == len(requests)
    assert row.cost.requests["student"] == len(requests)


async def test_attempts_of_an_earlier_process_count(tmp_path):
    context = make_context(write=script(RENDERERS["qwen3"], ""))
    with open_run(tmp_path / "r") as run, Journal(tmp_path / "j") as journal:
        journal.bump_attempt(("p", 0))
        journal.bump_attempt(("p", 0))
        await write_row(context, run, journal)
    assert read_run(tmp_path / "r").failures[0].attempts == 3
    starts = [r for r in context.backends["student"].engine.requests if r.prompt.ids[-1] < 256]
    assert starts  # one attempt, not three


async def test_pieces_newer_than_the_state_are_generated_again(tmp_path):
    saved = SavedSample()
    whole = await tessy(make_attempt(make_context(), save=saved.save))
    middle = saved.in_flight[len(saved.in_flight) // 2]
    left = InFlight(pieces=saved.in_flight[-1].pieces, state=middle.state)
    with open_run(tmp_path / "r") as run, Journal(tmp_path / "j") as journal:
        key = ("p", 0)
        journal.bump_attempt(key)
        await write_row(make_context(), run, journal, in_flight={key: left})
    (row,) = read_run(tmp_path / "r").trajectories
    assert row.thinking == whole.thinking
    assert row.spans == whole.spans
    assert row.student_ids == whole.student_ids

"""``tessy synthesize --strategy`` as a user runs it: the bundled models, and fake servers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tessy.core.records import AUTHORS, Author, Message, Trajectory, unpack_ids
from tessy.lab.bundled import demo_problems, student_path, teacher_path
from tessy.lab.styles import STUDENT, TEACHER
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import read_config
from tessy.tokenization.families import load_renderer
from tessy.tokenization.token_ids import decode
from tests.lab.test_demo import TESSY, content, finish, interrupt, synthesize, write_problems
from tests.support.model_server import FakeServer, eventually
from tests.support.run_data import read_run
from tests.support.scripted_strategies import CANDIDATES, candidates, teachers, writer
from tests.synthesis.test_sample import FAMILIES, RENDERERS
from tests.synthesis.test_sample_command import thinking_kept

GONE = "http://127.0.0.1:9"  # a port without a server
# Strategy, author of the thinking, author of the answer, and the unused model.
STRATEGIES: list[tuple[str, Author, Author, Author | None]] = [
    ("student-only", "student", "student", "teacher"),
    ("teacher-only", "teacher", "teacher", "student"),
    ("teacher-think", "teacher", "student", None),
    ("teacher-answer", "student", "teacher", None),
    ("teacher-score", "student", "student", "teacher"),
    ("teacher-reference", "student", "student", None),
]
# Each bundled model answers in its own style after any thinking, so methods that differ only in the
# author of the answer have different rows.
ANSWER_STARTS: dict[Author, str] = {
    "student": STUDENT.answer.partition("{}")[0],
    "teacher": TEACHER.answer.partition("{}")[0],
}


def questions(folder: Path, count: int = 3) -> Path:
    rows: list[object] = [
        {"id": p.id, "prompt": p.messages[0].content, **p.extra} for p in demo_problems(count, 3)
    ]
    return write_problems(folder / "questions.jsonl", rows)


def check(row: Trajectory, strategy: str, thinks: Author, answers: Author) -> None:
    student = load_renderer(student_path())
    assert (row.strategy, row.answer_by, row.ended_by) == (strategy, answers, thinks)
    assert [(s.start, s.end, s.author) for s in row.spans] == [(0, len(row.thinking), thinks)]
    assert row.messages[-1].content == f"<think>\n{row.thinking}\n</think>\n\n{row.answer}"
    assert row.student_ids is not None
    assert decode(student.codec, unpack_ids(row.student_ids.thinking)) == row.thinking
    assert decode(student.codec, unpack_ids(row.student_ids.answer)) == row.answer


@pytest.mark.parametrize(("strategy", "thinks", "answers", "idle"), STRATEGIES)
def test_every_strategy_needs_the_models_that_write_and_no_others(
    tmp_path: Path, strategy, thinks: Author, answers: Author, idle: Author | None
):
    run = tmp_path / "run"
    dead = [f"--{idle}.url", GONE] if idle else []
    command = synthesize(
        questions(tmp_path), run, "--strategy", strategy, "--score-by", "answer",
        "--candidates", "2", *dead,
    )  # fmt: skip
    output = finish(command)
    assert f"{strategy} " in output
    unread = strategy != "teacher-score"
    assert (f"strategy {strategy} does not read --candidates" in output) == unread
    data = read_run(run)
    assert data.trajectories
    assert len(data.trajectories) + len(data.failures) == 3
    for row in data.trajectories:
        check(row, strategy, thinks, answers)
        if strategy != "teacher-reference":  # the student never saw such prompts
            assert row.answer.startswith(ANSWER_STARTS[answers])
        assert (row.reference_answer is not None) == (strategy == "teacher-reference")
        assert len(row.scores) == (2 if strategy == "teacher-score" else 0)
        if row.scores:
            assert set(row.scores) <= {0.0, 1.0, None}
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert summary["strategies"] == {strategy: len(data.trajectories)}
    assert summary["answer_by"][answers] == len(data.trajectories)
    assert all((summary["requests"][author] > 0) == (author != idle) for author in AUTHORS)
    rows = (run / "trajectories.jsonl").read_bytes()
    finish(command)
    assert (run / "trajectories.jsonl").read_bytes() == rows
    other = finish([*command, "--strategy", "tessy"], code=2)
    assert f'strategy: "{strategy}", now (not set)' in other


def test_one_file_serves_every_strategy_and_doctor_checks_what_each_needs(tmp_path: Path):
    (tmp_path / "all.toml").write_text(
        f'problems = "{questions(tmp_path)}"\nout = "{tmp_path / "run"}"\nscore_by = "answer"\n'
        f"candidates = 2\nthinking_tokens = 400\nanswer_tokens = 32\n"
        f'[student]\nmodel = "{student_path()}"\n[teacher]\nmodel = "{teacher_path()}"\n',
        encoding="utf-8",
    )
    for strategy, _, _, idle in STRATEGIES:
        command = [TESSY, "doctor", "--config", str(tmp_path / "all.toml"), "--strategy", strategy]
        dead = [f"--{idle}.url", GONE] if idle else []
        output = finish([*command, *dead])
        assert "Everything a run needs is in place" in output
        unread = strategy != "teacher-score"
        assert (f"strategy {strategy} does not read --score-by" in output) == unread
        assert ("Teacher: " in output) == (idle != "teacher")
        assert ("rows are in this format" in output) == (idle == "student")


def test_the_teacher_can_answer_after_a_shared_thinking(tmp_path: Path):
    run = tmp_path / "run"
    finish(synthesize(questions(tmp_path), run, "--answer-by", "teacher"))
    rows = read_run(run).trajectories
    assert rows
    codec = load_renderer(student_path()).codec
    for row in rows:
        assert (row.strategy, row.answer_by) == ("tessy", "teacher")
        assert row.answer.startswith(ANSWER_STARTS["teacher"])
        assert {span.author for span in row.spans} == {"student", "teacher"}
        assert row.student_ids is not None
        assert decode(codec, unpack_ids(row.student_ids.answer)) == row.answer
    assert read_config(run)["data_config"]["answer_by"] == "teacher"


def test_a_system_prompt_is_read_and_kept(tmp_path: Path):
    problems = questions(tmp_path)
    prompt = ["--system-prompt", "Answer in one line."]
    command = [*synthesize(problems, tmp_path / "run"), *prompt]
    finish(command)
    finish(synthesize(problems, tmp_path / "plain"))
    rows = {row.id: row for row in read_run(tmp_path / "run").trajectories}
    assert rows
    for row in rows.values():
        assert [turn.role for turn in row.messages] == ["system", "user", "assistant"]
        assert row.messages[0].content == "Answer in one line."
    plain = {row.id: row for row in read_run(tmp_path / "plain").trajectories}
    assert any(rows[name].thinking != plain[name].thinking for name in rows.keys() & plain.keys())
    assert "system_prompt" in finish(synthesize(problems, tmp_path / "run"), code=2)
    shown = finish([TESSY, "doctor", *command[2:]])
    assert "Answer in one line." in shown


def test_problems_a_strategy_cannot_use_are_refused_before_any_work(tmp_path: Path):
    rows: list[object] = [
        {"id": "a", "prompt": "1 + 1?", "reference": 2},
        {"id": "b", "messages": [
            {"role": "system", "content": "Be kind."}, {"role": "user", "content": "1 + 2?"},
        ]},
    ]  # fmt: skip
    problems = write_problems(tmp_path / "q.jsonl", rows)
    run = tmp_path / "run"
    command = synthesize(problems, run)
    output = finish([*command, "--system-prompt", "Be brief."], code=2)
    assert f"{problems}:2: messages: expected no system turn beside --system-prompt" in output
    by_answer = [*command, "--strategy", "teacher-score", "--score-by", "answer"]
    assert f"{problems}:2: reference: expected a reference answer" in finish(by_answer, code=2)
    assert not run.exists()
    finish([*by_answer, "--skip-bad-rows"])
    data = read_run(run)
    assert [row.id for row in (*data.trajectories, *data.failures)] == ["a"]
    (bad,) = (run / "bad_rows.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(bad)["field"] == "reference"


def test_a_teacher_that_gives_no_scores_fails_the_samples_not_the_run(tmp_path: Path):
    run = tmp_path / "run"
    command = synthesize(
        questions(tmp_path, 1), run, "--strategy", "teacher-score", "--candidates", "2"
    )
    assert "not scored 1" in finish(command, code=1)
    (row,) = read_run(run).failures
    assert row.scores == (None, None)
    assert row.thinking


def test_an_interrupted_run_resumes_to_the_same_rows(tmp_path: Path):
    problems = questions(tmp_path, 20)
    options = ["--strategy", "teacher-reference", "--concurrency", "2"]
    whole, run = tmp_path / "whole", tmp_path / "run"
    finish(synthesize(problems, whole, *options))
    command = synthesize(problems, run, *options)
    interrupt(command, run, 1, signal.SIGINT)
    assert (run / "trajectories.jsonl").read_bytes().count(b"\n") < 20
    finish(command)
    assert content(run) == content(whole)


def serving(name: str, texts, **options: Any) -> FakeServer:
    """Return a server of the family ``name`` that generates the texts chosen by ``texts``."""
    renderer = RENDERERS[name]
    write = writer(name, texts)
    opening = (renderer.shape.suffix or renderer.shape.opening).encode()

    def script(ids: list[int], seed: int) -> list[int]:
        data = b"".join(map(renderer.codec.token_bytes, ids))
        return write(data, seed) if opening in data else []  # a probe

    return FakeServer(
        script, codec=renderer.codec, eos=min(renderer.answer_stop_ids), tokens_per_event=9,
        **options,
    )  # fmt: skip


def candidates_kept(run: Path) -> int:
    """Return the number of complete candidates in the journal."""
    with contextlib.closing(sqlite3.connect(RunPaths(run).journal)) as db:
        pieces = [content for (content,) in db.execute("SELECT content FROM piece")]
    return sum(b'"author"' in piece for piece in pieces)


async def test_a_run_killed_between_candidates_is_resumed_by_the_same_command(tmp_path: Path):
    rows: list[object] = [{"id": str(n), "prompt": "5 - 3 * 2?"} for n in range(8)]
    problems = write_problems(tmp_path / "q.jsonl", rows)
    run = tmp_path / "run"
    slow = {"token_seconds": 0.01}
    async with serving("qwen3", candidates, **slow) as one, serving("harmony", teachers) as two:
        command = [
            TESSY, "synthesize", "--problems", str(problems), "--out", str(run),
            "--strategy", "teacher-score",
            "--student.model", "tiny", "--student.tokenizer", str(FAMILIES / "qwen3"),
            "--student.url", one.url,
            "--teacher.model", "tiny", "--teacher.tokenizer", str(FAMILIES / "harmony"),
            "--teacher.url", two.url,
            "--thinking-tokens", "600", "--answer-tokens", "100",
        ]  # fmt: skip
        process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
        await eventually(lambda: thinking_kept(run) > 30)
        process.kill()
        await process.wait()
        ended = candidates_kept(run)
        one.seen.clear()
        one.token_seconds = 0
        await asyncio.to_thread(finish, command)
        question = RENDERERS["qwen3"].prompt_ids([Message(role="user", content="5 - 3 * 2?")])
        # A probe's prompt is shorter.
        again = sum(len(seen.body["token_ids"]) >= len(question) for seen in one.seen)
    data = read_run(run)
    assert len(data.trajectories) == 8
    for row in data.trajectories:
        best = max(score for score in row.scores if score is not None)
        assert len(row.scores) == 5
        assert (row.thinking, row.answer) in CANDIDATES
        assert best == (3.0 if row.answer == CANDIDATES[0][1] else 9.0)
    # A candidate that was kept had a request for its thinking and one for its answer.
    assert ended > 0
    assert again <= sum(row.cost.requests["student"] for row in data.trajectories) - 2 * ended

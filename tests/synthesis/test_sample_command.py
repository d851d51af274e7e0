"""``tessy sample`` as a user runs it: the bundled models, and a fake server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tessy.core.records import Author, Message, unpack_ids
from tessy.lab.bundled import demo_problems, student_path, teacher_path
from tessy.storage.journal import Journal
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import read_config
from tessy.tokenization.families import load_renderer
from tessy.tokenization.token_ids import decode
from tests.lab.test_demo import TESSY, content, finish, interrupt, synthesize, write_problems
from tests.support.model_server import STOCK_VLLM, VLLM, FakeServer, eventually
from tests.support.run_data import read_run
from tests.synthesis.test_sample import ANSWER, FAMILIES, RENDERERS
from tests.synthesis.test_single_model import THINKING, model_script

COUNT = 30
MODELS: dict[Author, Path] = {"student": student_path(), "teacher": teacher_path()}
AUTHORS = pytest.mark.parametrize("author", MODELS)


def questions(folder: Path, count: int = COUNT) -> Path:
    rows: list[object] = [
        {"id": p.id, "prompt": p.messages[0].content, **p.extra} for p in demo_problems(count, 3)
    ]
    return write_problems(folder / "questions.jsonl", rows)


def sample(author: Author, problems: Path, run: Path, *more: str) -> list[str]:
    return [
        TESSY, "sample", "--author", author, "--model", str(MODELS[author]), "--out", str(run),
        "--problems", str(problems), "--thinking-tokens", "400", "--answer-tokens", "32", *more,
    ]  # fmt: skip


@AUTHORS
def test_sample_writes_a_run_of_the_models_own_responses(tmp_path: Path, author: Author):
    run = tmp_path / "run"
    output = finish(sample(author, questions(tmp_path, 6), run, "--samples-per-problem", "2"))
    assert f"Report of all samples: {run / 'report.html'}" in output
    assert (run / "report.html").exists()
    absent = "teacher" if author == "student" else "student"
    assert f"{author} tokens/s" in output
    assert absent not in output.casefold()
    data = read_run(run)
    assert len(data.trajectories) + len(data.failures) == 12
    assert len(data.trajectories) > 8
    by_question = {row.id: set[str]() for row in data.trajectories}
    renderer = load_renderer(MODELS[author])
    for row in data.trajectories:
        by_question[row.id].add(row.thinking)
        assert row.strategy == "sample"
        assert row.ended_by == author
        assert [(s.start, s.end, s.author) for s in row.spans] == [(0, len(row.thinking), author)]
        assert row.messages[-1].content == renderer.assistant(row.thinking, row.answer)
        assert row.problem["task"] == "calc"
        assert (row.student_ids is None) == (author == "teacher")
        if row.student_ids is not None:
            assert decode(renderer.codec, unpack_ids(row.student_ids.thinking)) == row.thinking
            assert decode(renderer.codec, unpack_ids(row.student_ids.answer)) == row.answer
    assert any(len(thinkings) == 2 for thinkings in by_question.values())
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert summary["requests"][absent] == summary["tokens"]["drafted"][absent] == 0
    made_with = read_config(run)["data_config"]
    assert (made_with["command"], made_with["author"]) == ("sample", author)
    assert made_with["sampling.temperature"] == 0.95


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without interruption."""
    folder = tmp_path_factory.mktemp("sample")
    finish(sample("student", questions(folder), folder / "run", "--concurrency", "4"))
    return folder / "run"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_run_resumes_to_the_same_rows(whole: Path, tmp_path: Path, number):
    run = tmp_path / "run"
    command = sample("student", whole.parent / "questions.jsonl", run, "--concurrency", "2")
    output = interrupt(command, run, 2, number)
    assert ("The same command resumes it." in output) == (number == signal.SIGINT)
    before = (run / "trajectories.jsonl").read_bytes()
    assert 2 <= before.count(b"\n") < COUNT
    if number == signal.SIGINT:
        with Journal(RunPaths(run).journal) as journal:
            assert journal.load()  # samples in flight were kept
    finish(command)
    assert (run / "trajectories.jsonl").read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    assert content(run) == content(whole)


def test_a_run_resumes_only_with_the_same_model_author_and_sampling(whole: Path):
    problems = whole.parent / "questions.jsonl"
    rows = (whole / "trajectories.jsonl").read_bytes()
    command = sample("student", problems, whole)
    for option, value, message in (
        ("--author", "teacher", "author: "),
        ("--model", str(teacher_path()), "model: "),
        ("--sampling.temperature", "0.5", "sampling.temperature: "),
    ):
        output = finish([*command, option, value], code=2)
        assert message in output
        assert "--fresh" in output
    assert "command: " in finish(synthesize(problems, whole), code=2)
    assert (whole / "trajectories.jsonl").read_bytes() == rows


def test_errors_in_options_are_reported_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rows: list[object] = [{"prompt": "?"}, {"prompt": 7}]
    problems = write_problems(tmp_path / "q.jsonl", rows)
    run = tmp_path / "run"
    assert f"{problems}:2: prompt" in finish(sample("teacher", problems, run), code=2)
    monkeypatch.delenv("NO_KEY", raising=False)
    remote = ["--url", "http://127.0.0.1:9", "--api-key-env", "NO_KEY", "--skip-bad-rows"]
    output = finish(sample("teacher", problems, run, *remote), code=2)
    assert "tessy: --api-key-env: the environment variable NO_KEY" in output
    monkeypatch.setenv("NO_KEY", "sek\nret")
    output = finish(sample("teacher", problems, run, *remote), code=2)
    assert "the API key cannot be sent in a header: character 4" in output
    assert not run.exists()


def test_failed_samples_stay_failed_without_retry_failed(tmp_path: Path):
    run = tmp_path / "run"
    # No thinking of these models fits into twelve tokens.
    command = sample("teacher", questions(tmp_path, 1), run, "--thinking-tokens", "12")
    finish(command, code=1)
    finish([*command, "--retry-failed"], code=1)
    rows = [json.loads(line) for line in (run / "failures.jsonl").read_bytes().splitlines()]
    assert [(row["reason"], row["attempts"]) for row in rows] == [("budget", 1), ("budget", 2)]
    assert rows[0]["spans"] == [{"start": 0, "end": len(rows[0]["thinking"]), "author": "teacher"}]


FORMATS = pytest.mark.parametrize(
    ("name", "author"), [("qwen3", "student"), ("harmony", "teacher")]
)


def remote(name: str, author: Author, folder: Path, *servers: FakeServer) -> list[str]:
    """Return the command for twelve samples by servers of the family ``name``."""
    rows: list[object] = [{"id": str(n), "prompt": "5 - 3 * 2?"} for n in range(12)]
    problems = write_problems(folder / "q.jsonl", rows)
    return [
        TESSY, "sample", "--author", author, "--model", "tiny", "--out", str(folder / "run"),
        "--tokenizer", str(FAMILIES / name), "--problems", str(problems),
        "--url", ",".join(server.url for server in servers),
        "--thinking-tokens", "600", "--answer-tokens", "100",
    ]  # fmt: skip


def check_remote(run: Path, author: Author) -> None:
    data = read_run(run)
    assert len(data.trajectories) == 12
    assert {(row.thinking, row.answer) for row in data.trajectories} == {(THINKING, ANSWER)}
    assert {span.author for row in data.trajectories for span in row.spans} == {author}


@FORMATS
@pytest.mark.parametrize("can", [VLLM, STOCK_VLLM])
async def test_servers_share_the_samples(tmp_path: Path, name, author: Author, can):
    async with serving(name, can=can) as one, serving(name, can=can) as two:
        await asyncio.to_thread(finish, remote(name, author, tmp_path, one, two))
        assert all(len(server.seen) > 12 for server in (one, two))
    check_remote(tmp_path / "run", author)


def thinking_kept(run: Path) -> int:
    """Return the number of requests whose thinking is in the journal."""
    path = RunPaths(run).journal
    if not path.exists():
        return 0
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        try:
            (count,) = db.execute("SELECT count(*) FROM piece").fetchone()
        except sqlite3.OperationalError:  # does not exist yet
            return 0
    return int(count)


async def test_a_run_killed_during_the_thinking_is_resumed_by_the_same_command(tmp_path: Path):
    name = "harmony"  # what is kept does not depend on the family
    async with serving(name, token_seconds=0.01) as server:
        command = remote(name, "teacher", tmp_path, server)
        process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
        await eventually(lambda: thinking_kept(tmp_path / "run") > 20)
        process.kill()
        await process.wait()
        first = {prompt_and_seed(seen.body) for seen in server.seen}
        server.seen.clear()
        server.token_seconds = 0
        await asyncio.to_thread(finish, command)
        again = [prompt_and_seed(seen.body) for seen in server.seen]
    check_remote(tmp_path / "run", "teacher")
    # No sample started over, and repeated requests have the same seed.
    question = tuple(RENDERERS[name].prompt_ids([Message(role="user", content="5 - 3 * 2?")]))
    assert question in {prompt for prompt, _ in first}
    assert question not in {prompt for prompt, _ in again}
    assert first & set(again)


def prompt_and_seed(body: dict[str, Any]) -> tuple[tuple[int, ...], int]:
    return tuple(body["token_ids"]), body["sampling_params"]["seed"]


def serving(name: str, **options: Any) -> FakeServer:
    """Return a server of the family ``name`` that generates the text of :func:`model_script`."""
    renderer = RENDERERS[name]
    return FakeServer(
        after_prompt(name), codec=renderer.codec, eos=min(renderer.answer_stop_ids),
        tokens_per_event=9, **options,
    )  # fmt: skip


def after_prompt(name: str):
    """Return a script: :func:`model_script` after this model's prompt, no ids for a probe."""
    renderer = RENDERERS[name]
    write = model_script(name)
    opening = renderer.shape.suffix or renderer.shape.opening

    def script(ids: list[int], seed: int) -> list[int]:
        data = b"".join(map(renderer.codec.token_bytes, ids))
        _, so_far, written = data.rpartition(opening.encode())
        return write(written, seed) if so_far else []

    return script

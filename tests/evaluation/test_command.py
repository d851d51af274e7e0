"""``tessy evaluate`` as a user runs it: a served model with known answers, and bundled models."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tessy.core.records import Evaluation
from tessy.core.statistics import Z95
from tessy.lab.bundled import demo_problems, predictor_path, student_path, teacher_path
from tessy.storage.journal import Journal
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import EVALUATIONS, iter_failed_rows, iter_rows, read_config
from tessy.synthesis.session import SynthesisSession
from tests.lab.test_demo import TESSY, finish, write_problems
from tests.support.evaluated_model import FOLDER, Reply, serve
from tests.support.model_server import FakeServer, Fault, eventually
from tests.support.paths import ROOT, SHARED
from tests.synthesis.test_single_model import THINKING

LIMITS = ("--thinking-tokens", "400", "--answer-tokens", "32")


def evaluate(benchmark: Path | str, run: Path, model: Path, *more: str) -> list[str]:
    return [
        TESSY, "evaluate", "--benchmark", str(benchmark), "--out", str(run),
        "--model", str(model), *LIMITS, *more,
    ]  # fmt: skip


def served(server: FakeServer, benchmark: Path | str, run: Path, *more: str) -> list[str]:
    return [
        TESSY, "evaluate", "--benchmark", str(benchmark), "--out", str(run), "--model", "tiny",
        "--url", server.url, "--tokenizer", str(FOLDER), *LIMITS, *more,
    ]  # fmt: skip


def rows_of(run: Path) -> dict[str, Evaluation]:
    return {f"{row.id}/{row.sample}": row for row in iter_rows(run, EVALUATIONS)}


def scores(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "scores.json").read_text("utf-8"))
    return found


@pytest.mark.parametrize("n", [400, pytest.param(1319, marks=pytest.mark.long)])
async def test_gsm8k_has_exactly_the_score_of_a_model_of_known_accuracy(tmp_path: Path, n: int):
    file = SHARED / "data" / "gsm8k_test.jsonl"
    if not file.exists():
        pytest.skip(f"{file.name} is only in the project's own checkout")
    lines = map(json.loads, file.read_text("utf-8").splitlines())
    gold = {row["question"]: row["answer"].rpartition("#### ")[2] for row in lines}
    right = {question for number, question in enumerate(gold) if number % 4 and number < n}

    def reply(problem: str) -> Reply:
        question, _, instruction = problem.rpartition("\n\n")
        assert "boxed" in instruction
        answer = gold[question] if question in right else f"{gold[question]}1"
        return Reply(rf"So it is \boxed{{{answer}}}.")

    run = tmp_path / "run"
    async with serve(reply) as server:
        more = ("--data", str(file), "--limit", str(n), "--concurrency", "32")
        command = served(server, "gsm8k", run, *more)
        output = await asyncio.to_thread(finish, command)
    p = len(right) / n
    # Wilson's interval with the effective sample size n - 1, as the variance is unbiased.
    middle, z2 = p + Z95**2 / (2 * (n - 1)), Z95**2
    reach = Z95 * (p * (1 - p) / (n - 1) + z2 / (4 * (n - 1) ** 2)) ** 0.5
    low, high = ((middle + sign * reach) / (1 + z2 / (n - 1)) for sign in (-1, 1))
    found = scores(run)
    assert found["pass@1"]["value"] == pytest.approx(p, abs=1e-12)
    assert found["pass@1"]["low"] == pytest.approx(low, abs=1e-6)
    assert found["pass@1"]["high"] == pytest.approx(high, abs=1e-6)
    assert found["pass@1"]["standard_error"] == pytest.approx((p * (1 - p) / (n - 1)) ** 0.5)
    assert found["outcomes"] == {"correct": len(right), "wrong": n - len(right)}
    assert read_config(run, EVALUATIONS)["config"]["known_data"] is True
    shown = f"{100 * p:.1f} % (95 %: {100 * low:.1f}–{100 * high:.1f})"
    assert f"{shown}, {n:,} responses to {n:,} problems" in output


REPLIES = {
    "right": Reply(r"It is \boxed{4}."),
    "wrong": Reply("It is 5."),
    "no number": Reply("I do not know."),
    "too long": Reply("4", thinking=r"It is \boxed{4}; " + " ".join(map(str, range(200)))),
    "loop": Reply("4", thinking="It is 4. " * 40),
    "early end": Reply("4", thinking="It is 4.", end="<|im_end|>"),
    "empty": Reply(""),
    "control": Reply("It is 4.", last="<|im_start|>"),
    "thoughtless": Reply("It is 4.", thinking=""),
}
OUTCOMES = {
    "right": ("correct", None),
    "wrong": ("wrong", None),
    "no number": ("no_answer", None),
    "too long": ("truncated", "budget"),
    "loop": ("truncated", "repetition"),
    "early end": ("no_answer", "eos_in_thinking"),
    "empty": ("no_answer", "empty_answer"),
    "control": ("no_answer", "control_in_answer"),
    "thoughtless": ("correct", None),
}


async def test_each_response_has_its_outcome_and_a_failed_server_is_never_wrong(tmp_path: Path):
    problems: list[object] = [{"id": n, "prompt": n, "reference": "4"} for n in (*REPLIES, "last")]
    file, run = write_problems(tmp_path / "sums.jsonl", problems), tmp_path / "run"
    refuse = True

    def reply(problem: str) -> Reply:
        if problem == "thoughtless" and refuse:
            server.faults.append(Fault("status", status=400))  # of the next request
        return REPLIES.get(problem, Reply("It is 4."))

    async with serve(reply) as server:
        command = served(server, file, run, "--concurrency", "1")
        output = await asyncio.to_thread(finish, command, 1)
        found = {row.id: (row.outcome, row.reason) for row in iter_rows(run, EVALUATIONS)}
        failed = [(row.id, row.reason) for row in iter_failed_rows(run, EVALUATIONS)]
        assert len(found) + len(failed) == 10
        assert [reason for _, reason in failed] == ["refused"]
        assert found.items() <= {**OUTCOMES, "last": ("correct", None)}.items()
        assert "1 without a score: refused by the server 1" in output
        assert scores(run)["unscored"] == {"judge_error": 0, "refused": 1}
        await asyncio.to_thread(finish, [*command, "--allow-unscored"])
        refuse = False
        server.faults.clear()
        await asyncio.to_thread(finish, [*command, "--retry-failed"])
    found = {row.id: (row.outcome, row.reason) for row in iter_rows(run, EVALUATIONS)}
    assert found == {**OUTCOMES, "last": ("correct", None)}
    assert all(row.attempts == 1 for row in rows_of(run).values() if row.id not in dict(failed))
    assert rows_of(run)["too long/0"].final_answer is None
    result = scores(run)
    assert result["pass@1"]["value"] == pytest.approx(3 / 10)
    assert result["reasons"]["no_final_answer"] == 1
    summary = json.loads((run / "summary.json").read_text("utf-8"))
    assert summary["outcomes"]["no_answer"] == 4


async def test_a_short_context_is_reported_once_a_response_reaches_it(tmp_path: Path):
    replies = {
        "short": Reply("It is 4."),
        "long": Reply("4", thinking=" ".join(map(str, range(200)))),
    }
    warning = "context of 200 tokens is shorter than thinking_tokens + answer_tokens (432)"
    for name, times in (("short", 0), ("long", 1)):
        problems: list[object] = [{"id": n, "prompt": name, "reference": "4"} for n in "ab"]
        file = write_problems(tmp_path / "sums.jsonl", problems)
        async with serve(replies.__getitem__) as server:
            command = served(server, file, tmp_path / name, "--context-tokens", "200")
            output = await asyncio.to_thread(finish, command)
        assert output.count(warning) == times


def tasks(folder: Path, count: int) -> Path:
    rows: list[object] = [
        {"id": p.id, "prompt": p.messages[0].content, **p.extra} for p in demo_problems(count, 3)
    ]
    return write_problems(folder / "tasks.jsonl", rows)


def content(run: Path) -> dict[str, object]:
    load: Any = {"seconds": True, "cost": True, "tokens": {"drafted"}}
    return {name: row.model_dump(exclude=load) for name, row in rows_of(run).items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation of the bundled student without interruption."""
    folder = tmp_path_factory.mktemp("evaluate")
    output = finish(evaluate(tasks(folder, 8), folder / "run", student_path(), "--samples", "2"))
    assert "pass@2" in output
    assert output.count("Outcomes") == 1
    assert "Strategies" not in output
    assert "is shorter than" not in output  # 1,024 tokens were enough
    return folder / "run"


def test_an_evaluation_is_a_run_with_a_page(whole: Path):
    assert set(rows_of(whole)) == {
        f"{problem.id}/{sample}" for problem in demo_problems(8, 3) for sample in (0, 1)
    }
    page = (whole / "report.html").read_text("utf-8")
    assert "correct" in page
    data = read_config(whole, EVALUATIONS)["data_config"]
    assert (data["command"], data["benchmark"]) == ("evaluate", "tasks.jsonl")
    assert (data["sampling.temperature"], data["sampling.top_p"]) == (0.6, 0.95)
    assert read_config(whole, EVALUATIONS)["config"]["known_data"] is False
    assert finish([TESSY, "view", str(whole)]).strip() == str(whole / "report.html")


def test_the_fields_of_rows_and_scores_are_documented(whole: Path):
    text = (ROOT / "docs" / "evaluation.md").read_text("utf-8")
    section = text.partition("\n## Rows and scores\n")[2].partition("\n## ")[0]
    tables = [table for table in section.split("\n\n") if table.startswith("| field |")]
    documented = [
        {name for line in table.splitlines() for name in re.findall("`(.*?)`", line.split("|")[1])}
        for table in tables
    ]
    assert documented == [set(Evaluation.model_fields), {*scores(whole), "sandbox"}]


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.long)]
)
async def test_an_interrupted_evaluation_resumes_to_the_same_rows(tmp_path: Path, number):
    problems: list[object] = [{"id": str(n), "prompt": f"{n}?", "answer": n} for n in range(12)]
    file = write_problems(tmp_path / "sums.jsonl", problems)
    run, whole = tmp_path / "run", tmp_path / "whole"

    def reply(problem: str) -> Reply:
        return Reply("It is 4.", thinking=f"{problem} Let me see: {THINKING}")

    async with serve(reply, token_seconds=0.001) as server:
        more = ("--samples", "2", "--concurrency", "3")
        page = ("--out", str(tmp_path / "page.html"))
        command = served(server, file, run, *more)
        process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
        await eventually(lambda: (run / "evaluations.jsonl").exists() and len(rows_of(run)) > 2)
        process.send_signal(number)
        assert await process.wait() == (-9 if number == signal.SIGKILL else 130)
        before = (run / "evaluations.jsonl").read_bytes()
        assert before.count(b"\n") < 24
        text = await asyncio.to_thread(finish, ["tessy", "compare", str(run), *page])
        ended = len(rows_of(run))
        assert f"run is not complete (partial: {ended} of 24 samples)" in text
        if number == signal.SIGINT:
            assert scores(run)["samples"] == {"ended": ended, "planned": 24}
            assert scores(run)["partial"] is True
            with Journal(RunPaths(run).journal) as journal:
                assert journal.load()  # responses in flight were kept
        server.token_seconds = 0.0
        await asyncio.to_thread(finish, command)
        await asyncio.to_thread(finish, served(server, file, whole, *more))
    after = (run / "evaluations.jsonl").read_bytes()
    assert after.startswith(before[: before.rfind(b"\n") + 1])
    assert content(run) == content(whole)
    assert len(content(run)) == 24
    assert scores(run) == scores(whole)
    assert scores(run)["outcomes"] == {"wrong": 22, "correct": 2}
    assert scores(run)["partial"] is False
    assert "partial" not in finish(["tessy", "compare", str(run), *page])


def test_an_evaluation_resumes_only_with_the_same_problems_and_judge(whole: Path, tmp_path: Path):
    before = (whole / "evaluations.jsonl").read_bytes()
    file = whole.parent / "tasks.jsonl"
    for more, message in (
        (("--judge", "exact"), "judge: "),
        (("--instruction", "Be brief."), "instruction: "),
        (("--sampling.temperature", "0"), "sampling.temperature: "),
    ):
        output = finish(evaluate(file, whole, student_path(), *more), code=2)
        assert message in output
    changed = tmp_path / "tasks.jsonl"
    shutil.copy(file, changed)
    with changed.open("a", encoding="utf-8") as rows:
        rows.write('{"prompt": "1 + 1?", "reference": "2"}\n')
    assert "benchmark.digest: " in finish(evaluate(changed, whole, student_path()), code=2)
    sampled = [
        TESSY, "sample", "--author", "student", "--model", str(student_path()),
        "--problems", str(file), "--out", str(whole),
    ]  # fmt: skip
    assert "holds evaluations, not trajectories" in finish(sampled, code=2)
    assert (whole / "evaluations.jsonl").read_bytes() == before


def test_weights_that_were_trained_again_are_not_taken_for_the_evaluated_ones(tmp_path: Path):
    model, file, run = tmp_path / "model", tasks(tmp_path, 2), tmp_path / "run"
    shutil.copytree(student_path(), model)
    finish(evaluate(file, run, model))
    finish(evaluate(file, run, model))
    shutil.copy(teacher_path() / "model.safetensors", model)
    assert "weights: " in finish(evaluate(file, run, model), code=2)


def test_a_missing_folder_is_named_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for more in ((), ("--checkpoints",)):
        output = finish(evaluate("gsm8k", Path("runs/new"), Path("runs/nothere"), *more), code=2)
        assert output == (
            "tessy: --model: there is no folder 'runs/nothere'; pass the folder or hub id of a "
            "model\n"
        )
    assert not (tmp_path / "runs" / "new").exists()


def test_a_model_that_is_no_language_model_is_refused(tmp_path: Path):
    command = evaluate(tasks(tmp_path, 1), tmp_path / "run", predictor_path("student"))
    assert "is a Qwen3ForTokenClassification, not a causal language" in finish(command, code=2)


def test_an_interrupted_evaluation_says_that_its_score_is_partial(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run, file = tmp_path / "run", whole.parent / "tasks.jsonl"
    finish(evaluate(file, run, student_path(), "--limit", "3"))
    assert scores(run)["samples"] == {"ended": 3, "planned": 3}
    monkeypatch.setattr(SynthesisSession, "missing", lambda session: [])  # stops at once
    output = finish(evaluate(file, run, student_path(), "--samples", "2"))
    assert "3 responses to 3 problems; partial: 3 of 16 samples" in " ".join(output.split())
    assert scores(run)["partial"] is True


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """The output of a training run: two checkpoints, and no model beside them."""
    folder = tmp_path / "trained"
    for step, model in ((10, student_path()), (9, teacher_path())):
        shutil.copytree(model, folder / f"checkpoint-{step}")
        state = {"epoch": float(step - 8), "global_step": step}
        (folder / f"checkpoint-{step}" / "trainer_state.json").write_text(json.dumps(state))
    (folder / "checkpoint-old").mkdir()
    return folder


def test_checkpoints_have_scores_by_epoch(trained: Path, tmp_path: Path):
    out = tmp_path / "out"
    command = evaluate(tasks(tmp_path, 4), out, trained)
    output = finish(command)
    assert output.index("checkpoint-9 (epoch 1)") < output.index("checkpoint-10 (epoch 2)")
    assert f"Scores by epoch: {out / 'scores.svg'} and {out / 'scores.json'}\n" in output
    found = scores(out)["checkpoints"]
    assert [(one["step"], one["epoch"]) for one in found] == [(9, 1.0), (10, 2.0)]
    for one in found:
        run = out / one["checkpoint"]
        assert one["pass@1"]["value"] == scores(run)["pass@1"]["value"]
        assert (run / "report.html").exists()
    assert (out / "scores.svg").read_text("utf-8").count("<circle") == 2
    assert finish(command).count("pass@1 by epoch") == 1  # nothing is missing
    # With a model of its own, a folder is that model, unless checkpoints are asked for.
    shutil.copytree(student_path(), trained, dirs_exist_ok=True)
    finish(evaluate(tmp_path / "tasks.jsonl", tmp_path / "final", trained))
    assert len(rows_of(tmp_path / "final")) == 4
    more = evaluate(tmp_path / "tasks.jsonl", tmp_path / "final", trained, "--checkpoints")
    assert "is a run, but checkpoints need a directory" in finish(more, code=2)
    url = ("--checkpoints", "--url", "http://127.0.0.1:9")
    assert "a server has one model" in finish([*command, *url], code=2)
    none = evaluate(tmp_path / "tasks.jsonl", out, student_path(), "--checkpoints")
    assert "has no folder checkpoint-STEP" in finish(none, code=2)

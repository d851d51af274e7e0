"""Responses for official judges, and their verdicts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tessy.core.errors import BadRowsError
from tessy.core.records import EvaluationOutcome
from tessy.evaluation.load import load_benchmark
from tessy.storage.run_reader import EVALUATIONS, iter_rows
from tests.evaluation.test_command import rows_of, scores, served
from tests.evaluation.test_load import options
from tests.lab.test_demo import TESSY, finish
from tests.support.benchmarks import sized
from tests.support.evaluated_model import Reply, serve
from tests.support.evaluations import judged, write_evaluation
from tests.support.livecodebench import write
from tests.support.ojbench import row
from tests.support.paths import SHARED

LOOP = Reply("4", thinking="It is 4. " * 40)
REPLIES = {
    "7 in cpp": Reply("So:\n```cpp\nint main() {}\n```"),
    "7 in python": Reply("```python\nprint(3)\n```\nDone."),
    "swerc2023_H in cpp": LOOP,
    "swerc2023_H in python": Reply("It cannot be solved."),
    "2423 in python": Reply("```python\nprint(1)\n```"),
}
ROWS = [
    row(7, "cpp"), row(7, "python"), row("swerc2023_H", "cpp"), row("swerc2023_H", "python"),
    row(2423, "python", note="kept"),
]  # fmt: skip


def reply(prompt: str) -> Reply:
    return REPLIES[prompt.partition("numbers (")[2].partition(")")[0]]


def judge(run: Path, *more: str) -> list[str]:
    return [TESSY, "judge", str(run), *more]


def evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> tuple[Path, str]:
    """Return the run of an evaluation, and its output."""
    sized(monkeypatch, "ojbench", len(ROWS))
    file = write(tmp_path / "full.jsonl", *ROWS)
    run = tmp_path / "run"

    async def evaluate() -> str:
        options = ("--data", str(file), "--answer-tokens", "200", *more)
        async with serve(reply) as server:
            return await asyncio.to_thread(finish, served(server, "ojbench", run, *options))

    output = asyncio.run(evaluate())
    assert f"`tessy judge {run} --export FILE`" in output
    return run, output


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_ojbench_has_no_score_until_its_judge_has_decided(tmp_path: Path, monkeypatch):
    run, _ = evaluated(tmp_path, monkeypatch)
    found = rows_of(run)
    assert {each.outcome for each in found.values()} == {"unjudged"}
    assert {each.judge for each in found.values()} == {"official 1 (OJBench)"}
    assert found["7-cpp/0"].final_answer == "int main() {}"
    assert found["swerc2023_H-cpp/0"].reason == "repetition"
    before = scores(run)
    assert (before["pass@1"], before["responses"]) == (None, 0)
    assert before["outcomes"] == {"unjudged": 5}
    assert before["partial"] is True

    exported = tmp_path / "submissions.jsonl"
    assert "4 responses" in finish(judge(run, "--export", str(exported)))
    rows = lines(exported)
    assert rows[0] == {**ROWS[4], "content": "```python\nprint(1)\n```", "sample": 0}
    originals = [{k: v for k, v in r.items() if k not in ("content", "sample")} for r in rows]
    assert originals == [ROWS[4], ROWS[0], ROWS[1], ROWS[3]]

    for each, verdict in zip(rows, ("AC", "WA", "Skip", "IE"), strict=True):
        each |= {"verdict": verdict, "is_passed": verdict == "AC", "detailed_results": []}
        each |= {"1/8verdict": "AC", "1/8is_passed": True}
    rows[2]["is_skip"] = True
    verdicts = write(tmp_path / "verdicts.jsonl", *rows)
    output = finish(judge(run, "--verdicts", str(verdicts)))
    assert "pass@1" in output
    assert "correct 1" in output
    outcomes = {each.id: (each.outcome, each.rule) for each in iter_rows(run, EVALUATIONS)}
    assert outcomes == {
        "2423-python": ("correct", "AC"),
        "7-cpp": ("wrong", "WA"),
        "7-python": ("wrong", "Skip"),
        "swerc2023_H-python": ("judge_error", "IE"),
        "swerc2023_H-cpp": ("truncated", ""),
    }
    after = scores(run)
    assert (after["pass@1"]["value"], after["responses"]) == (0.25, 4)
    assert after["benchmark"] == before["benchmark"]
    summary = json.loads((run / "summary.json").read_text("utf-8"))
    assert summary["outcomes"]["wrong"] == 2
    assert summary["samples"]["finished"] == 5
    # Nothing waits any more, and the run can be resumed.
    assert "no response in" in finish(judge(run, "--export", str(exported)), code=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.pop(), "has no verdict on sample 0 of swerc2023_H-python"),
        (lambda rows: rows[0].update(id=8), "sample 0 of 8-python, which is not in the run"),
        (lambda rows: rows[0].update(content="another"), "a verdict on another response as sample"),
        (lambda rows: rows.append(rows[0]), ":5: (row): a second verdict on sample 0 of 2423"),
        (lambda rows: rows[1].pop("verdict"), ":2: verdict: expected text, got null"),
        (lambda rows: rows[1].update(is_passed="yes"), ":2: is_passed: expected true or false"),
        (lambda rows: rows[1].update(sample=None), ":2: sample: expected the number"),
        (lambda rows: rows.clear(), "no verdicts"),
    ],
)
def test_incomplete_verdicts_change_nothing(tmp_path: Path, monkeypatch, change, message):
    run, _ = evaluated(tmp_path, monkeypatch)
    exported = tmp_path / "submissions.jsonl"
    finish(judge(run, "--export", str(exported)))
    rows = [each | {"verdict": "AC", "is_passed": True} for each in lines(exported)]
    change(rows)
    before = (run / "evaluations.jsonl").read_bytes()
    verdicts = write(tmp_path / "verdicts.jsonl", *rows)
    output = finish(judge(run, "--verdicts", str(verdicts)), code=2)
    assert message in output
    assert (run / "evaluations.jsonl").read_bytes() == before


def test_further_samples_wait_after_an_import(tmp_path: Path, monkeypatch):
    run, _ = evaluated(tmp_path, monkeypatch)
    exported = tmp_path / "submissions.jsonl"
    finish(judge(run, "--export", str(exported)))
    rows = [each | {"verdict": "AC", "is_passed": True} for each in lines(exported)]
    verdicts = tmp_path / "verdicts.jsonl"
    finish(judge(run, "--verdicts", str(write(verdicts, *rows))))
    assert scores(run)["partial"] is False
    output = evaluated(tmp_path, monkeypatch, "--samples", "2")[1]
    finish(judge(run, "--export", str(exported)))
    assert {(each["sample"]) for each in lines(exported)} == {1}
    assert scores(run)["outcomes"] == {"unjudged": 5, "correct": 4, "truncated": 1}
    # The score covers the first samples only.
    note = "partial: verdicts on 5 of 10 responses"
    assert f"5 responses to 5 problems; {note}" in " ".join(output.split())
    assert scores(run)["partial"] is True
    compared = [TESSY, "compare", str(run), "--out", str(tmp_path / "page.html")]
    text = " ".join(finish(compared).split())
    assert f"run is not complete ({note}), so its scores may change" in text
    assert "may change; `tessy judge` reads the verdicts" in text
    (figures,) = json.loads((tmp_path / "page.json").read_text("utf-8"))["runs"]
    assert figures["partial"] is True
    rows = [each | {"verdict": "AC", "is_passed": True} for each in lines(exported)]
    finish(judge(run, "--verdicts", str(write(verdicts, *rows))))
    assert scores(run)["partial"] is False
    assert "partial" not in finish(compared)


def test_the_real_prompts_of_ojbench_are_asked_as_they_are(monkeypatch):
    file = SHARED / "data" / "ojbench_prompts_5.jsonl"
    if not file.exists():
        pytest.skip(f"{file.name} is only in the project's own checkout")
    sized(monkeypatch, "ojbench", 5)
    found = load_benchmark(options("ojbench", data=file))
    asked = {p.extra["ojbench_id"]: p.messages[0].content for p in found.loaded.problems}
    assert asked == {each["id"]: each["prompt"] for each in lines(file)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"language": "java"}, "language: expected one of cpp, python"),
        ({"id": None}, "id: expected the id of a problem"),
        ({"prompt": ""}, "prompt: expected text"),
    ],
)
def test_unusable_rows_of_ojbench(tmp_path: Path, change, message):
    file = write(tmp_path / "full.jsonl", row(1, "cpp"), row(2, "cpp") | change)
    with pytest.raises(BadRowsError, match=rf"{file}:2: {message}"):
        load_benchmark(options("ojbench", data=file))


def programs(
    *outcomes: EvaluationOutcome,
    benchmark: str,
    directory: Path,
    codes: Sequence[str] = (),
    **more: Any,
) -> Path:
    """Write a run with a program in each response: ``code 0``, ``code 1``, or one of ``codes``."""
    rows = []
    for n, outcome in enumerate(outcomes):
        code = codes[n] if n < len(codes) else f"code {n}"
        rows.append(judged(f"p{n}", 0, outcome, final_answer=code, answer=f"text {n}", **more))
    data = {"model": "m", "benchmark": benchmark}
    return write_evaluation(directory, *rows, data=data)


def test_livecodebench_needs_all_problems_in_the_order_of_their_ids(tmp_path: Path, monkeypatch):
    sized(monkeypatch, "lcb-v6", 3)
    run = programs("correct", "wrong", benchmark="lcb-v6", directory=tmp_path / "run")
    file = tmp_path / "lcb.json"
    message = "has responses to 2 problems, but the official evaluator of lcb-v6 needs all 3"
    assert message in finish(judge(run, "--export", str(file)), code=2)
    rows = [judged(name, 0, final_answer=f"code {name}") for name in ("p2", "P1")]
    rows += [judged("p10", 0, "truncated", final_answer=None)]
    data = {"model": "m", "benchmark": "lcb-v6"}
    whole = write_evaluation(tmp_path / "whole", *rows, data=data)
    finish(judge(whole, "--export", str(file)))
    assert json.loads(file.read_text("utf-8")) == [
        {"question_id": "P1", "code_list": ["code P1"]},
        {"question_id": "p10", "code_list": [""]},
        {"question_id": "p2", "code_list": ["code p2"]},
    ]
    uneven = write_evaluation(tmp_path / "uneven", *rows, judged("p2", 1), data=data)
    assert "from 1 to 2 responses" in finish(judge(uneven, "--export", str(file)), code=2)
    output = finish(judge(whole, "--verdicts", str(file)), code=2)
    assert "tessy judges all responses to lcb-v6" in output


def test_lcb_pro_has_the_results_of_its_toolkit(tmp_path: Path):
    problem = {"problem_title": "A", "difficulty": "hard", "platform": "codeforces"}
    outcomes: list[EvaluationOutcome] = ["unjudged", "correct", "unjudged", "unjudged"]
    run = programs(*outcomes, benchmark="lcb-pro", directory=tmp_path / "run", problem=problem)
    file = tmp_path / "benchmark_result.json"
    finish(judge(run, "--export", str(file)))
    results = json.loads(file.read_text("utf-8"))
    assert results[0] == {
        "problem_id": "p0", "problem_title": "A", "difficulty": "hard", "platform": "codeforces",
        "text_response": "text 0", "code": "code 0", "judge_result": "Judging",
        "response_meta": {"sample": 0},
    }  # fmt: skip
    assert [each["problem_id"] for each in results] == ["p0", "p2", "p3"]
    output = finish(judge(run, "--verdicts", str(file)), code=2)
    assert ":1: judge_result: expected a verdict, but this response is not judged yet" in output
    verdicts = ("Accepted", "Time Limit Exceeded", "Judge Failed")
    for each, verdict in zip(results, verdicts, strict=True):
        each["judge_result"] = verdict
    file.write_text(json.dumps(results), "utf-8")
    finish(judge(run, "--verdicts", str(file)))
    assert {row.id: row.outcome for row in iter_rows(run, EVALUATIONS)} == {
        "p0": "correct", "p1": "correct", "p2": "wrong", "p3": "judge_error",
    }  # fmt: skip


def test_options_that_do_not_belong_together_are_refused(tmp_path: Path):
    run = programs("correct", benchmark="gsm8k", directory=tmp_path / "run")
    file = str(tmp_path / "x.json")
    assert "which has no official judge" in finish(judge(run, "--export", file), code=2)
    assert "pass one of --export" in finish(judge(run), code=2)
    waiting = programs("unjudged", benchmark="ojbench", directory=tmp_path / "waiting")
    message = "OJBench is not a server; pass --export, then --verdicts"
    assert message in finish(judge(waiting, "--url", "http://127.0.0.1:9"), code=2)
    assert "pass one of --export" in finish(
        judge(run, "--export", file, "--verdicts", file), code=2
    )
    missing = finish(judge(tmp_path / "no", "--export", file), code=2)
    assert "`tessy evaluate` creates such runs" in missing


@pytest.mark.parametrize(
    ("benchmark", "name"), [("ojbench", "x.jsonl"), ("lcb-pro", "x.json")], ids=lambda each: each
)
def test_an_export_without_programs_changes_no_score(tmp_path: Path, benchmark: str, name: str):
    data = {"model": "m", "benchmark": benchmark}
    rows = [
        judged("a", 0, "unjudged", final_answer=None),
        judged("b", 0, "unjudged", final_answer=None, reason="budget"),
    ]
    run, file = write_evaluation(tmp_path / "run", *rows, data=data), tmp_path / name
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    output = finish(judge(run, "--export", str(file)))
    assert "0 responses in" in output
    command = f"`tessy judge {run} --verdicts {file}` scores them as not correct"
    assert command in output
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    assert "pass@1" in finish(judge(run, "--verdicts", str(file)))
    assert scores(run)["outcomes"] == {"no_answer": 1, "truncated": 1}
    assert scores(run)["pass@1"]["value"] == 0

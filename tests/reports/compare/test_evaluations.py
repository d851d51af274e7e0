"""``tessy compare`` of evaluations."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tessy.core.errors import ConfigError, RunError
from tessy.evaluation.results import read_result
from tessy.reports.viewer.page import write_report
from tests.reports.compare.test_compare import run_compare
from tests.support import rows as run_rows
from tests.support.evaluations import DATA, judged, write_evaluation


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """Half of 40 problems are correct; two more samples have no score."""
    rows = [judged(f"q{n}", outcome="correct" if n % 2 else "wrong") for n in range(40)]
    return write_evaluation(
        tmp_path / "before",
        *rows,
        judged("q40", outcome="judge_error"),
        run_rows.failure("q41", reason="server_error"),
    )


@pytest.fixture
def after(tmp_path: Path) -> Path:
    """All are correct but three, which are not valid."""
    rows = [judged(f"q{n}", answer="<b>4") for n in range(37)]
    return write_evaluation(
        tmp_path / "after",
        *rows,
        judged("q37", outcome="truncated", reason="repetition"),
        judged("q38", outcome="truncated", reason="budget"),
        judged("q39", outcome="no_answer", reason="control_in_answer"),
        data=DATA | {"model": "runs/sft"},
    )


def test_evaluations_are_compared_problem_by_problem(before: Path, after: Path, tmp_path: Path):
    out = tmp_path / "page.html"
    text = run_compare(before, after, out=out, width=200)
    page = out.read_text("utf-8")
    for words in (
        "2 evaluations over 41 problems, of which 40 are in all of them",
        "50.0 %",
        "92.5 %",
        "Differences to before",
        "+42.5",
        "better",
        "server error 1, judge failed 1",
    ):
        assert words in text
        assert words in page
    assert "&lt;b&gt;4" in page
    figures = json.loads((tmp_path / "page.json").read_text("utf-8"))
    first, second = figures["runs"]
    assert first["pass@1"]["value"] == 0.5
    assert first["pass@1"]["standard_error"] == pytest.approx((0.25 / 39) ** 0.5)
    assert first["difference_to_first"] is None
    assert second["difference_to_first"]["value"] == pytest.approx(0.425)
    assert second["difference_to_first"]["verdict"] == "better"
    assert second["outcomes"] == {"correct": 37, "truncated": 2, "no_answer": 1}
    assert second["reasons"] == {"repetition": 1, "budget": 1, "control_in_answer": 1}
    assert run_compare(before, after, out=out, width=200) == text


@pytest.mark.parametrize("outcome", ["wrong", "unjudged"])
@pytest.mark.parametrize("planned", [2, 3])
def test_an_incomplete_evaluation_names_the_commands_that_complete_it(
    outcome, planned, tmp_path: Path
):
    rows = [judged(f"q{n}", outcome=outcome) for n in range(2)]
    run = write_evaluation(tmp_path / "run", *rows, facts={"planned_samples": planned})
    text = run_compare(run, out=tmp_path / "page.html", width=200)
    assert ("the same `tessy evaluate` command resumes it" in text) == (planned == 3)
    assert ("`tessy judge` reads the verdicts" in text) == (outcome == "unjudged")
    is_partial = planned == 3 or outcome == "unjudged"
    assert ("is not complete" in text) == is_partial
    assert ("verdicts on 0 of 2 responses" in text) == (outcome == "unjudged")
    assert (
        json.loads((tmp_path / "page.json").read_text("utf-8"))["runs"][0]["partial"] == is_partial
    )
    assert read_result(run).to_json()["partial"] == is_partial


def test_validity_is_counted(after: Path, tmp_path: Path):
    text = run_compare(after, out=tmp_path / "page.html", width=200)
    line = next(
        line for line in text.partition("Validity")[2].splitlines() if line.startswith("after")
    )
    assert line.split()[1:5] == ["1", "2", "1", "1"]
    assert "Differences" not in text


def test_a_difference_that_chance_explains_is_called_noise(before: Path, tmp_path: Path):
    rows = [judged(f"q{n}", outcome="wrong" if n % 2 else "correct") for n in range(40)]
    other = write_evaluation(tmp_path / "other", *rows)
    assert "within noise" in run_compare(before, other, out=tmp_path / "page.html", width=200)


def test_samples_whose_outcomes_differ_are_the_first_examples(
    before: Path, after: Path, tmp_path: Path
):
    out = tmp_path / "page.html"
    run_compare(before, after, out=out, examples=3)
    shown = [n for n in range(40) if f"<bdi>q{n}</bdi>" in out.read_text("utf-8")]
    assert len(shown) == 3
    assert all(n % 2 == 0 or n >= 37 for n in shown)


def test_options_that_differ_are_named(before: Path, tmp_path: Path):
    rows = [judged(f"q{n}") for n in range(40)]
    data = DATA | {"sampling.top_p": 0.5, "thinking_tokens": 9, "seed": 3}
    other = write_evaluation(tmp_path / "other", *rows, data=data)
    text = run_compare(before, other, out=tmp_path / "page.html", width=200)
    assert "Other options also differ: sampling.top_p, thinking_tokens." in text
    assert "Sampling: temperature 0.6." in text
    assert re.search(r"^before +m +gsm8k +top_p – +exact 1$", text, re.MULTILINE)
    assert "also differ" not in run_compare(before, out=tmp_path / "page.html", width=200)


def test_what_the_runs_share_is_not_repeated(tmp_path: Path):
    runs = [
        write_evaluation(
            tmp_path / name,
            judged("a"),
            *(judged("b", sample) for sample in range(count)),
            data=DATA | {"model": f"{'/long' * 20}/sft/checkpoint-{name}", "sampling.top_p": 0.95},
        )
        for name, count in (("5", 1), ("10", 2))
    ]
    text = run_compare(*runs, out=tmp_path / "page.html", width=100)
    assert "Sampling: temperature 0.6, top_p 0.95." in text
    assert "The numbers of samples per problem differ: 5 1, 10 1–2." in text
    for name in ("5", "10"):
        assert re.search(rf"^{name} +checkpoint-{name} +gsm8k +exact 1$", text, re.MULTILINE)
    assert "numbers of samples" not in run_compare(runs[1], out=tmp_path / "page.html", width=100)


def test_folders_that_are_no_evaluations_are_named(before: Path, tmp_path: Path):
    out = tmp_path / "page.html"
    with pytest.raises(RunError, match=r"there is no folder .*/nothere; check the path"):
        run_compare(before, tmp_path / "nothere", out=out)
    trained = tmp_path / "sft"
    trained.mkdir()
    (trained / "sft.json").write_text("{}")
    (trained / "config.json").write_text('{"model_type": "qwen3"}')
    evaluated = tmp_path / "checkpoints"
    for step in (5, 10):
        write_evaluation(evaluated / f"checkpoint-{step}", judged())
    (evaluated / "scores.json").write_text("{}")
    for read in (lambda path: run_compare(before, path, out=out), write_report):
        with pytest.raises(
            RunError, match=r"a model that `tessy sft` wrote; `tessy evaluate --mod"
        ):
            read(trained)
        with pytest.raises(RunError, match=r"for each checkpoint; pass one .*s/checkpoint-5$"):
            read(evaluated)
    (tmp_path / "config.json").write_text('{"model_type": "qwen3"}')
    with pytest.raises(RunError, match=r"is not a run: its config.json has another format"):
        write_report(tmp_path)


def test_the_page_is_not_replaced_by_its_figures(before: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="is the page"):
        run_compare(before, out=tmp_path / "page.json")


def test_evaluations_that_cannot_be_compared_are_refused(before: Path, tmp_path: Path):
    out = tmp_path / "page.html"
    samples = tmp_path / "samples"
    run_rows.fill(samples, run_rows.row("a"))
    for runs in ((before, samples), (samples, before)):
        with pytest.raises(ConfigError, match=r"before is an evaluation and .*samples is not"):
            run_compare(*runs, out=out)
    another = write_evaluation(tmp_path / "another", judged("q1", reference="5"))
    with pytest.raises(ConfigError, match="different problems or references under the id 'q1'"):
        run_compare(before, another, out=out)
    distinct = write_evaluation(tmp_path / "distinct", judged("z"))
    with pytest.raises(ConfigError, match="no problem in common"):
        run_compare(before, distinct, out=out)
    assert not out.exists()

"""Scores of the paper stand beside evaluations of the same problems only."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tessy.evaluation.benchmarks.registry import all_benchmarks
from tessy.reports.compare.paper_scores import METHODS, PAPER, paper_scores
from tests.reports.compare.test_compare import run_compare
from tests.support.evaluations import DATA, judged, write_evaluation

KNOWN = {"known_data": True}


def evaluation(directory: Path, benchmark: str, problems: int, **facts: bool) -> Path:
    rows = [judged(f"q{n}", outcome="correct" if n % 2 else "wrong") for n in range(problems)]
    data = DATA | {"benchmark": benchmark}
    return write_evaluation(directory, *rows, data=data, facts={**KNOWN, **facts})


def test_the_scores_are_shown_for_a_set_of_the_paper(tmp_path: Path):
    out = tmp_path / "page.html"
    runs = [evaluation(tmp_path / name, "aime24", 30) for name in ("before", "after")]
    text = run_compare(*runs, out=out, width=80)
    title = "Scores of the paper on aime24: 30 problems, 32 runs"
    lines = text.partition(title)[2].splitlines()
    rows = [line.split() for line in lines[1 : len(METHODS) + 2]]
    # A line for each method, once for all runs.
    assert rows[:2] == [["pass@1", "95", "%"], ["Qwen3-8B", "76.67", "59.1–88.2"]]
    assert [row[0] for row in rows[1:]] == list(METHODS)
    assert rows[-1] == ["TESSY", "80.42", "63.2–90.8"]
    assert text.count("80.42") == 1
    assert "…" not in text
    for words in (title, "Teacher-Reference", "76.67", "80.42"):
        assert words in out.read_text("utf-8")
    found = json.loads((tmp_path / "page.json").read_text("utf-8"))["runs"][0]
    assert found["paper"]["pass_1"]["TESSY"] == 0.8042
    assert (found["paper"]["problems"], found["paper"]["runs"]) == (30, 32)


def test_no_scores_are_shown_for_other_sets(tmp_path: Path):
    out = tmp_path / "page.html"
    text = run_compare(evaluation(tmp_path / "run", "aime24", 29), out=out)
    assert "cores of the paper" not in text
    assert "paper's scores" not in text
    (found,) = json.loads((tmp_path / "page.json").read_text("utf-8"))["runs"]
    assert found["paper"] is None
    waiting = write_evaluation(
        tmp_path / "waiting",
        *(judged(f"q{n}", outcome="unjudged") for n in range(30)),
        data=DATA | {"benchmark": "aime25"},
        facts=KNOWN,
    )
    text = run_compare(waiting, out=out, width=200)
    assert "waiting for the official judge 30" in text
    assert "Scores of the paper" not in text


def test_a_file_of_the_same_size_has_no_scores_of_the_paper(tmp_path: Path):
    """The benchmark's name alone is not enough."""
    out = tmp_path / "page.html"
    run = evaluation(tmp_path / "run", "aime24", 30, known_data=False)
    text = run_compare(run, out=out, width=200)
    assert "Scores of the paper" not in text
    assert "The paper's scores on aime24 do not apply to run, because its data are not" in text
    (found,) = json.loads((tmp_path / "page.json").read_text("utf-8"))["runs"]
    assert found["paper"] is None
    # Resuming with the known file shows that the problems are those of the benchmark.
    both = evaluation(tmp_path / "both", "aime24", 30, known_data=False)
    document = json.loads((both / "config.json").read_text("utf-8"))
    document["resumed"].append({"config": KNOWN})
    (both / "config.json").write_text(json.dumps(document), "utf-8")
    assert "Scores of the paper" in run_compare(both, out=out, width=200)


@pytest.mark.parametrize("name", sorted(PAPER))
def test_the_number_of_problems_is_that_of_the_benchmark(name):
    assert all_benchmarks()[name].rows == PAPER[name].problems
    assert len(PAPER[name].scores) == len(METHODS)
    assert paper_scores(name, PAPER[name].problems) is PAPER[name]


def test_the_scores_are_fractions_of_the_stated_runs_and_problems():
    """All but three, which fit no number of runs over any number of problems."""
    misfits = []
    for found in PAPER.values():
        cases = found.problems * found.runs
        for score in found.scores:
            nearest = 100 * round(score * cases / 100) / cases
            if abs(score - nearest) > 0.0051:
                misfits.append(score)
    assert misfits == [54.55, 49.58, 8.73]


def test_other_periods_and_olympiadbench_have_none():
    assert paper_scores("lcb-v5-window", 279) is None
    assert paper_scores("olympiadbench", 674) is None

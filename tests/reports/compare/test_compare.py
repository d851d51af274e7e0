"""``tessy compare``: figures, tables and refused options. For the page see test_page.py."""

from __future__ import annotations

import io
import json
import re
import urllib.parse
import weakref
from pathlib import Path, PurePath
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tessy.config.data import CompareConfig, MixConfig
from tessy.core.errors import ConfigError, FailureReason, InputError, RunError
from tessy.core.formatting import NONE
from tessy.core.records import Cost, Failure, Trajectory
from tessy.data.derived_run import DerivedRun, source_rows
from tessy.data.mix import mix
from tessy.reports.compare.command import choose_problems, compare, describe_problems, fetch_rows
from tessy.reports.compare.figures import RunFigures, collect_figures
from tessy.reports.compare.methods import describe, models, short_names
from tessy.reports.compare.sections import ComparedRun, sections
from tessy.reports.viewer.page import write_report
from tessy.storage.run_reader import TRAJECTORIES, read_config
from tessy.synthesis.strategies.registry import selectable
from tests.support import rows as run_rows
from tests.support.page_samples import PLAIN, sample

DOCUMENT: dict[str, Any] = {"data_config": {"student.model": "s", "teacher.model": "t"}}


def compared(
    name: str, rows: list[Trajectory], failures: list[Failure] | None = None
) -> ComparedRun:
    figures = collect_figures(rows, failures or [])
    method = describe(DOCUMENT, figures.strategies)
    return ComparedRun(name, Path(name), method, models(DOCUMENT), figures)


def cells(run: ComparedRun) -> dict[str, dict[str, tuple[str, str]]]:
    """Return text and note of each cell, by table and column."""
    return {
        table.title: {
            column.name: (cell.text, cell.note)
            for column, cell in zip(table.columns, table.rows[0], strict=True)
        }
        for table in sections([run])
    }


def numbered(n: int, **more: Any) -> Any:
    return sample(f"q{n}", question=f"What is {n} + {n}?", **more)


def test_figures_of_a_run():
    rows = [
        numbered(n, counts=(10, 30), drafted=(20, 40), answer=str(2 * n + (n == 3)),
                 problem={"reference": str(2 * n)})
        for n in range(4)
    ]  # fmt: skip
    failures = [numbered(9, reason="budget"), numbered(8, reason="repetition")]
    found = cells(compared("run", rows, failures))
    outcome, authors = found["Outcome"], found["Authors"]
    assert outcome["problems"] == ("6", "")
    assert outcome["finished"] == ("4", "")
    assert outcome["failed"] == ("2", "budget exceeded 1, repetition 1")
    assert outcome["correct answers"] == ("75.0 %", "26–96 %, n = 4")
    assert authors["teacher's share"][0] == "75.0 %"
    assert (authors["student"][0], authors["teacher"][0]) == ("40", "120")
    assert (authors["answers"][0], authors["answer by"]) == ("20", ("student", ""))
    assert found["Thinking length"]["mean"] == ("40", "")  # all equal, so no interval
    assert found["Answer length"]["longest"] == ("5", "")
    effort = found["Cost"]
    assert effort["student's drafts kept"][0] == "50.0 %"
    assert effort["teacher's drafts kept"][0] == "75.0 %"
    assert effort["attempts"] == ("1.00", "")
    assert effort["seconds"] == ("1.5", "")


def test_a_mean_has_an_interval_between_problems():
    rows = [numbered(n, counts=(0, 10 * (n + 1))) for n in range(9)]
    found = cells(compared("run", rows))["Thinking length"]
    assert found["mean"] == ("50", "32–68")
    assert [found[name][0] for name in ("median", "p80", "longest")] == ["50", "80", "90"]
    assert cells(compared("run", rows[:1]))["Thinking length"]["mean"] == ("10", "")


def test_several_samples_of_a_problem_are_one_cluster():
    rows = [numbered(1, number=n, answer="2", problem={"answer": "2"}) for n in range(50)]
    rows += [numbered(2, answer="7", problem={"answer": "4"})]
    text, note = cells(compared("run", rows))["Outcome"]["correct answers"]
    assert text == "98.0 %"
    low, high = (int(end) for end in note.split(" %")[0].split("–"))
    assert high - low > 8  # two problems are fewer than 51 independent samples


def test_a_run_without_samples_has_no_figures():
    found = cells(compared("run", []))
    assert found["Outcome"]["correct answers"] == (NONE, "")
    assert {text for table in found.values() for text, _ in table.values()} == {"0", NONE}
    failed = cells(compared("run", [], [numbered(1, reason="budget")]))
    assert failed["Outcome"]["failed"] == ("1", "budget exceeded 1")
    assert failed["Thinking length"]["mean"] == (NONE, "")
    assert failed["Cost"]["seconds"] == ("1.5", "")


def test_a_share_fixed_by_the_strategy_has_no_interval():
    rows = [numbered(n, counts=(0, 10)) for n in range(9)]
    assert cells(compared("run", rows))["Authors"]["teacher's share"] == ("100.0 %", "")


def test_answers_are_counted_by_author():
    rows = [numbered(n).model_copy(update={"answer_by": "teacher"}) for n in range(3)]
    rows += [numbered(7)]
    assert cells(compared("run", rows))["Authors"]["answer by"] == ("both", "1 + 3")


def test_the_share_of_kept_drafts_is_at_most_one():
    rows = [numbered(1, counts=(30, 40), drafted=(20, 40))]
    effort = cells(compared("run", rows))["Cost"]
    kept = [effort[f"{author}'s drafts kept"][0] for author in ("student", "teacher")]
    assert kept == ["100.0 %", "100.0 %"]


def test_requests_are_counted_by_role_with_intervals():
    rows = [
        numbered(n).model_copy(update={"cost": Cost(requests={"student": n, "teacher": 2})})
        for n in range(9)
    ]
    effort = cells(compared("run", rows))["Cost"]
    assert effort["requests to student"] == ("4.0", "2.2–5.8")
    assert effort["requests to teacher"] == ("2.0", "")


def test_every_column_has_an_explanation():
    for table in sections([compared("run", [numbered(1)])]):
        for column in table.columns:
            assert column.meaning.endswith("."), column.name


def test_rows_are_streamed():
    alive: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
    most = 0

    def rows() -> Any:
        nonlocal most
        for n in range(20):
            row = alive[n] = numbered(n)
            yield row
            del row
            most = max(most, len(alive))

    assert len(collect_figures(rows(), []).finished) == 20
    assert most <= 2


def test_a_system_message_does_not_change_the_problem():
    plain = numbered(1)
    with_system = plain.model_copy(update={"messages": plain.messages[1:]})
    first, second = collect_figures([plain], []), collect_figures([with_system], [])
    assert first.shown.keys() == second.shown.keys()
    assert first.shown.keys() != collect_figures([numbered(2)], []).shown.keys()


def test_the_first_finished_sample_of_a_problem_is_shown():
    rows = [numbered(1, number=2), numbered(1, number=1)]
    failures = [numbered(1, number=0, reason="budget"), numbered(2, number=4, reason="budget")]
    assert list(collect_figures(rows, failures).shown.values()) == [("q1", 1), ("q2", 4)]


def test_every_strategy_has_a_description():
    for name in selectable():
        document = {"data_config": {"strategy": name}}
        assert describe(document, RunFigures().strategies).strategy == name


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"answer_by": "teacher"}, "The teacher writes the answer."),
        ({"system_prompt": "Be <b>brief</b>."}, "System prompt: “Be <b>brief</b>.”"),
        ({"strategy": "teacher-score", "candidates": 7}, "Candidates: 7, scored by the teacher."),
        (
            {"strategy": "teacher-score", "candidates": 3, "score_by": "answer"},
            "Candidates: 3, scored by correctness of the answer.",
        ),
        (
            {"student.predictor": "mine/a", "teacher.predictor": "runs/p/b"},
            "Predictors: a and b.",
        ),
        ({"student.predictor": "lexicon", "teacher.predictor": "lexicon"}, "Predictors: lexicon."),
        ({"strategy": "unheard-of"}, "Unknown strategy."),
    ],
)
def test_options_are_in_the_description(data, text):
    assert text in describe({"data_config": data}, RunFigures().strategies).how


def test_a_derived_run_is_described_by_its_rows_and_sources():
    document = {
        "data_config": {
            "derived": {"by": "filter", "sources": [{"path": "runs/first"}]},
            "system_prompt": "Be brief.",
        }
    }
    rows = [numbered(1).model_copy(update={"answer_by": "teacher"})]
    figures = collect_figures(rows, [])
    method = describe(document, figures.strategies, figures.answer_by)
    assert (method.thinking_by, method.answer_by) == ("both", "teacher")
    assert "System prompt: “Be brief.”" in method.how
    figures = collect_figures([*rows, numbered(2)], [])
    method = describe(document, figures.strategies, figures.answer_by)
    assert method.answer_by == "student or teacher"


def test_a_run_of_one_model_is_described_by_its_author():
    document = {"data_config": {"command": "sample", "author": "teacher", "model": "t"}}
    method = describe(document, RunFigures().strategies)
    assert (method.thinking_by, method.answer_by) == ("teacher", "teacher")
    assert models(document) == {"teacher": "t"}


def test_short_names_are_unique():
    paths = [Path(path) for path in ("one/first", "two/first", "two/second")]
    assert short_names(paths) == ["one/first", "two/first", "second"]
    assert short_names([*paths, paths[0]]) == ["one/first", "two/first", "second", "one/first"]
    ends = [PurePath(path) for path in ("checkpoint-5", "runs/a/checkpoint-5", "Qwen/Qwen3-8B")]
    assert short_names(ends) == ["checkpoint-5", "a/checkpoint-5", "Qwen3-8B"]


@given(
    sizes=st.lists(st.sets(st.integers(0, 12)), min_size=1, max_size=4), count=st.integers(0, 15)
)
def test_examples_are_problems_that_most_runs_have(sizes, count):
    shown = [{f"digest{n}": (f"q{n}", 0) for n in numbers} for numbers in sizes]
    found = choose_problems(shown, count)
    everything = {name for run in shown for name in run}
    assert len(found) == len(set(found)) == min(count, len(everything))
    runs = {name: sum(name in run for run in shown) for name in everything}
    left_out = [runs[name] for name in everything - set(found)]
    assert not found or max(left_out, default=0) <= min(runs[name] for name in found)
    assert found == sorted(found, key=lambda name: int(name.removeprefix("digest")))


def test_examples_are_spread_evenly():
    run = {f"digest{n}": (f"q{n}", 0) for n in reversed(range(100))}
    assert choose_problems([run], 5) == [f"digest{n}" for n in (10, 30, 50, 70, 90)]


def test_a_finished_row_has_precedence_over_a_failure(tmp_path):
    run_rows.fill(
        tmp_path, run_rows.failure("a"), run_rows.failure("b"), run_rows.row("a"), run_rows.row("c")
    )
    found = fetch_rows(tmp_path, {("a", 0), ("b", 0), ("z", 0)}, TRAJECTORIES)
    assert found.keys() == {("a", 0), ("b", 0)}
    assert isinstance(found["a", 0], Trajectory)
    assert isinstance(found["b", 0], Failure)


def test_the_problems_of_runs_are_described():
    one, two = (
        collect_figures([numbered(1), numbered(2)], []),
        collect_figures([numbered(2), numbered(3)], []),
    )
    assert describe_problems([one]) == "1 run over 2 problems."
    assert describe_problems([one, one]) == "2 runs over the same 2 problems."
    assert describe_problems([one, two]).startswith(
        "2 runs over 3 problems, of which 1 is in all runs."
    )


def run_compare(*runs: Path, out: Path, width: int = 120, **options: Any) -> str:
    output = io.StringIO()
    config = CompareConfig(runs=runs, out=out, **options)
    assert compare(config, Console(file=output, width=width)) == 0
    return output.getvalue()


def test_runs_of_every_kind_can_be_compared(tmp_path):
    first, second, empty = (tmp_path / name for name in ("first", "second", "empty"))
    run_rows.fill(first, run_rows.row("a"), run_rows.row("b"))
    run_rows.fill(second, run_rows.row("b"), run_rows.failure("c", reason="repetition"))
    run_rows.fill(empty)
    mixed, kept = tmp_path / "mixed", tmp_path / "kept"
    mix(MixConfig(first=first, second=second, out=mixed), Console(file=io.StringIO()))
    with DerivedRun(kept, by="filter", sources=[first], options={}) as run:
        for line, row in source_rows(first):
            run.add(row, line)
    alone = tmp_path / "alone"
    data = {"command": "sample", "author": "teacher", "model": "t"}
    with run_rows.start(alone, data_config=data):
        pass
    torn = second / "trajectories.jsonl"  # still being written
    torn.write_bytes(torn.read_bytes() + b'{"id": "d", "sam')
    out = tmp_path / "new" / "page.html"
    text = run_compare(first, second, empty, mixed, kept, alone, out=out)
    assert "Outcome" in text
    assert "repetition 1" in text
    assert str(out) in text.replace("\n", "")
    page = out.read_text("utf-8")
    for words in (
        "Samples of first and second in the ratio 1:1.",
        "Samples of first that passed all filter rules.",
        "One model&#39;s own response",
        "No sample in",
    ):
        assert words in page
    assert read_config(first)["data_config"]["student.model"] in page


def test_runs_with_the_same_texts_are_named(tmp_path):
    first, same, other, fewer = (tmp_path / name for name in ("first", "same", "other", "fewer"))
    for run in (first, same):
        run_rows.fill(run, run_rows.row("a"), run_rows.row("b"))
    run_rows.fill(other, run_rows.row("a"), run_rows.row("b", answer="5"))
    run_rows.fill(fewer, run_rows.row("a"))
    out = tmp_path / "page.html"
    text = run_compare(first, same, other, fewer, out=out)
    remark = "first and same have the same text in all 2 samples"
    assert remark in text
    assert remark in out.read_text("utf-8")
    assert "same text" not in run_compare(first, other, fewer, out=out)


def test_names_are_not_wrapped_on_a_terminal_of_100_columns(tmp_path):
    name = "teacher-only-system-prompt-of-our-own"
    wide = [run_rows.row(f"q{n}", thinking="Hm. " * 10**n) for n in range(3)]
    failures = [run_rows.failure(reason, reason=reason) for reason in get_args(FailureReason)]
    run_rows.fill(tmp_path / name, *wide, *failures)
    text = run_compare(tmp_path / name, out=tmp_path / "page.html", width=100)
    assert text.count(name) == 5
    assert max(map(len, text.splitlines()[:-1])) <= 100
    narrow = run_compare(tmp_path / name, out=tmp_path / "page.html", width=60)
    assert max(map(len, narrow.splitlines()[1:-1])) <= 60


def test_the_page_links_to_reports_of_runs(tmp_path):
    first, second = tmp_path / "a:b ü?", tmp_path / "second"
    for run in (first, second):
        run_rows.fill(run, run_rows.row("a"))
    report = write_report(first)
    out = tmp_path / "pages" / "compare.html"
    run_compare(first, second, out=out)
    (link,) = re.findall('href="([^"]*)">all samples', out.read_text("utf-8"))
    assert link == "../a%3Ab%20%C3%BC%3F/report.html"
    assert (out.parent / urllib.parse.unquote(link)).samefile(report)
    run_compare(first, out=tmp_path / "here.html")
    assert 'href="a%3Ab%20%C3%BC%3F/report.html"' in (tmp_path / "here.html").read_text("utf-8")


def test_the_page_is_deterministic(tmp_path):
    first = tmp_path / "first"
    run_rows.fill(first, *(run_rows.row(f"q{n}") for n in range(9)))
    pages = [tmp_path / name for name in ("a.html", "b.html")]
    for page in pages:
        run_compare(first, out=page)
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_unusable_runs_and_options_are_refused(tmp_path):
    first, out = tmp_path / "first", tmp_path / "page.html"
    run_rows.fill(first, run_rows.row("a"))
    with pytest.raises(RunError, match=r"there is no folder .*nothing; check the path"):
        run_compare(first, tmp_path / "nothing", out=out)
    with pytest.raises(ConfigError, match="the same run"):
        run_compare(first, tmp_path / "first" / ".." / "first", out=out)
    with pytest.raises(ConfigError, match="at least one"):
        run_compare(out=out)
    with pytest.raises(ConfigError, match="is a directory"):
        run_compare(first, out=tmp_path)
    lines = first / "trajectories.jsonl"
    lines.write_bytes(b'{"id": "x", "sample": 0}\n' + lines.read_bytes())
    with pytest.raises(InputError, match=r"trajectories\.jsonl:1"):
        run_compare(first, out=out)
    assert not out.exists()


def test_scores_and_references_are_shown(tmp_path):
    row = sample("a", PLAIN).model_copy(
        update={"scores": (1.0, None), "reference_answer": "It is four."}
    )
    run_rows.fill(tmp_path / "run", Trajectory.model_validate(json.loads(row.model_dump_json())))
    run_compare(tmp_path / "run", out=tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "Candidate scores: 1, none" in page
    assert "It is four." in page

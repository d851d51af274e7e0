"""``tessy compare``: figures, tables and what is refused. test_page.py looks."""

from __future__ import annotations

import io
import json
import re
import urllib.parse
import weakref
from pathlib import Path
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
from tessy.reports.compare.command import compare, in_common
from tessy.reports.compare.examples import choose, fetch
from tessy.reports.compare.figures import RunFigures, count
from tessy.reports.compare.methods import describe, models, names
from tessy.reports.compare.sections import Compared, sections
from tessy.reports.viewer.page import write_report
from tessy.storage.run_reader import read_config
from tessy.synthesis.strategies.registry import selectable
from tests.support import rows as run_rows
from tests.support.page_samples import PLAIN, sample

DOCUMENT: dict[str, Any] = {"data_config": {"student.model": "s", "teacher.model": "t"}}


def compared(name: str, rows: list[Trajectory], failures: list[Failure] | None = None) -> Compared:
    figures = count(rows, failures or [])
    method = describe(DOCUMENT, figures.strategies)
    return Compared(name, Path(name), method, models(DOCUMENT), figures)


def cells(run: Compared) -> dict[str, dict[str, tuple[str, str]]]:
    """Text and note of each cell by table and column."""
    return {
        table.title: {
            column.name: (cell.text, cell.note)
            for column, cell in zip(table.columns, table.rows[0], strict=True)
        }
        for table in sections([run])
    }


def question(n: int, **more: Any) -> Any:
    return sample(f"q{n}", question=f"What is {n} + {n}?", **more)


def test_figures_of_a_run():
    rows = [
        question(n, counts=(10, 30), drafted=(20, 40), answer=str(2 * n + (n == 3)),
                 problem={"reference": str(2 * n)})
        for n in range(4)
    ]  # fmt: skip
    failures = [question(9, reason="budget"), question(8, reason="repetition")]
    found = cells(compared("run", rows, failures))
    outcome, authors = found["Outcome"], found["Authors"]
    assert outcome["problems"] == ("6", "")
    assert outcome["finished"] == ("4", "")
    assert outcome["failed"] == ("2", "too long 1, repeats itself 1")
    assert outcome["right answers"] == ("75.0 %", "26–96 %, n = 4")
    assert authors["teacher's share"][0] == "75.0 %"
    assert (authors["student"][0], authors["teacher"][0]) == ("40", "120")
    assert (authors["answers"][0], authors["answer by"]) == ("20", ("student", ""))
    assert found["Thinking length"]["mean"] == ("40", "")  # all alike: no interval to see
    assert found["Answer length"]["longest"] == ("5", "")
    effort = found["Cost"]
    assert effort["student's drafts kept"][0] == "50.0 %"
    assert effort["teacher's drafts kept"][0] == "75.0 %"
    assert effort["attempts"] == ("1.00", "")
    assert effort["seconds"] == ("1.5", "")


def test_a_mean_has_an_interval_between_questions():
    rows = [question(n, counts=(0, 10 * (n + 1))) for n in range(9)]
    found = cells(compared("run", rows))["Thinking length"]
    assert found["mean"] == ("50", "32–68")
    assert [found[name][0] for name in ("median", "p80", "longest")] == ["50", "80", "90"]
    assert cells(compared("run", rows[:1]))["Thinking length"]["mean"] == ("10", "")


def test_several_samples_of_a_question_are_one_case_of_it():
    rows = [question(1, number=n, answer="2", problem={"answer": "2"}) for n in range(50)]
    rows += [question(2, answer="7", problem={"answer": "4"})]
    text, note = cells(compared("run", rows))["Outcome"]["right answers"]
    assert text == "98.0 %"
    low, high = (int(end) for end in note.split(" %")[0].split("–"))
    assert high - low > 8  # two questions tell far less than 51 samples would


def test_a_run_without_samples_has_no_figures():
    found = cells(compared("run", []))
    assert found["Outcome"]["right answers"] == (NONE, "")
    assert {text for table in found.values() for text, _ in table.values()} == {"0", NONE}
    failed = cells(compared("run", [], [question(1, reason="budget")]))
    assert failed["Outcome"]["failed"] == ("1", "too long 1")
    assert failed["Thinking length"]["mean"] == (NONE, "")
    assert failed["Cost"]["seconds"] == ("1.5", "")


def test_a_share_that_is_so_by_construction_has_no_interval():
    rows = [question(n, counts=(0, 10)) for n in range(9)]
    assert cells(compared("run", rows))["Authors"]["teacher's share"] == ("100.0 %", "")


def test_answers_of_both_are_counted_apart():
    rows = [question(n).model_copy(update={"answer_by": "teacher"}) for n in range(3)]
    rows += [question(7)]
    assert cells(compared("run", rows))["Authors"]["answer by"] == ("both", "1 + 3")


def test_kept_never_exceeds_all():
    rows = [question(1, counts=(30, 40), drafted=(20, 40))]
    effort = cells(compared("run", rows))["Cost"]
    kept = [effort[f"{author}'s drafts kept"][0] for author in ("student", "teacher")]
    assert kept == ["100.0 %", "100.0 %"]


def test_requests_are_told_by_model_each_with_its_interval():
    rows = [
        question(n).model_copy(update={"cost": Cost(requests={"student": n, "teacher": 2})})
        for n in range(9)
    ]
    effort = cells(compared("run", rows))["Cost"]
    assert effort["requests to student"] == ("4.0", "2.2–5.8")
    assert effort["requests to teacher"] == ("2.0", "")


def test_every_column_is_explained():
    for table in sections([compared("run", [question(1)])]):
        for column in table.columns:
            assert column.meaning.endswith("."), column.name


def test_rows_are_not_held():
    alive: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
    most = 0

    def rows() -> Any:
        nonlocal most
        for n in range(20):
            row = alive[n] = question(n)
            yield row
            del row
            most = max(most, len(alive))

    assert len(count(rows(), []).finished) == 20
    assert most <= 2


def test_a_system_message_does_not_make_another_question():
    plain = question(1)
    with_system = plain.model_copy(update={"messages": plain.messages[1:]})
    first, second = count([plain], []), count([with_system], [])
    assert first.shown.keys() == second.shown.keys()
    assert first.shown.keys() != count([question(2)], []).shown.keys()


def test_the_first_finished_sample_stands_for_a_question():
    rows = [question(1, number=2), question(1, number=1)]
    failures = [question(1, number=0, reason="budget"), question(2, number=4, reason="budget")]
    assert list(count(rows, failures).shown.values()) == [("q1", 1), ("q2", 4)]


def test_every_strategy_is_described():
    for name in selectable():
        document = {"data_config": {"strategy": name}}
        assert describe(document, RunFigures().strategies).strategy == name


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"answer_by": "teacher"}, "The teacher writes the answer."),
        ({"system_prompt": "Be <b>brief</b>."}, "With a system message: “Be <b>brief</b>.”"),
        ({"strategy": "teacher-score", "candidates": 7}, "Here 7: the teacher scores each."),
        (
            {"strategy": "teacher-score", "candidates": 3, "score_by": "answer"},
            "Here 3: one with the right answer is best.",
        ),
        ({"strategy": "unheard-of"}, "A strategy this version does not know."),
    ],
)
def test_options_of_a_method_are_said(data, said):
    assert said in describe({"data_config": data}, RunFigures().strategies).how


def test_a_run_made_of_others_says_who_answered_and_what_was_said_before():
    document = {
        "data_config": {
            "derived": {"by": "filter", "sources": [{"path": "runs/first"}]},
            "system_prompt": "Be brief.",
        }
    }
    rows = [question(1).model_copy(update={"answer_by": "teacher"})]
    figures = count(rows, [])
    method = describe(document, figures.strategies, figures.answer_by)
    assert (method.thinking_by, method.answer_by) == ("both", "teacher")
    assert "With a system message: “Be brief.”" in method.how
    figures = count([*rows, question(2)], [])
    method = describe(document, figures.strategies, figures.answer_by)
    assert method.answer_by == "student or teacher"


def test_a_run_of_one_model():
    document = {"data_config": {"command": "sample", "author": "teacher", "model": "t"}}
    method = describe(document, RunFigures().strategies)
    assert (method.thinking_by, method.answer_by) == ("teacher", "teacher")
    assert models(document) == {"teacher": "t"}


def test_runs_are_called_by_what_tells_them_apart():
    paths = [Path(path) for path in ("one/first", "two/first", "two/second")]
    assert names(paths) == ["one/first", "two/first", "second"]


@given(
    sizes=st.lists(st.sets(st.integers(0, 12)), min_size=1, max_size=4), count=st.integers(0, 15)
)
def test_examples_are_of_the_questions_that_most_runs_have(sizes, count):
    shown = [{f"digest{n}": (f"q{n}", 0) for n in numbers} for numbers in sizes]
    found = choose(shown, count)
    everything = {name for run in shown for name in run}
    assert len(found) == len(set(found)) == min(count, len(everything))
    runs = {name: sum(name in run for run in shown) for name in everything}
    left_out = [runs[name] for name in everything - set(found)]
    assert not found or max(left_out, default=0) <= min(runs[name] for name in found)
    assert found == sorted(found, key=lambda name: int(name.removeprefix("digest")))


def test_examples_are_spread_over_the_list():
    run = {f"digest{n}": (f"q{n}", 0) for n in reversed(range(100))}
    assert choose([run], 5) == [f"digest{n}" for n in (10, 30, 50, 70, 90)]


def test_a_finished_row_is_fetched_before_a_failure(tmp_path):
    run_rows.fill(
        tmp_path, run_rows.failure("a"), run_rows.failure("b"), run_rows.row("a"), run_rows.row("c")
    )
    found = fetch(tmp_path, {("a", 0), ("b", 0), ("z", 0)})
    assert found.keys() == {("a", 0), ("b", 0)}
    assert isinstance(found["a", 0], Trajectory)
    assert isinstance(found["b", 0], Failure)


def test_what_runs_have_in_common():
    one, two = count([question(1), question(2)], []), count([question(2), question(3)], [])
    assert in_common([one]) == "1 run over 2 problems."
    assert in_common([one, one]) == "2 runs over the same 2 problems."
    assert in_common([one, two]).startswith("2 runs over 3 problems, of which 1 is in all of them")


def said(*runs: Path, out: Path, width: int = 120, **options: Any) -> str:
    output = io.StringIO()
    config = CompareConfig(runs=runs, out=out, **options)
    assert compare(config, Console(file=output, width=width)) == 0
    return output.getvalue()


def test_runs_of_every_kind_side_by_side(tmp_path):
    first, second, empty = (tmp_path / name for name in ("first", "second", "empty"))
    run_rows.fill(first, run_rows.row("a"), run_rows.row("b"))
    run_rows.fill(second, run_rows.row("b"), run_rows.failure("c", reason="repetition"))
    run_rows.fill(empty)
    mixed, kept = tmp_path / "mixed", tmp_path / "kept"
    mix(MixConfig(first=first, second=second, out=mixed), Console(file=io.StringIO()))
    with DerivedRun.create(kept, by="filter", sources=[first], options={}) as run:
        for line, row in source_rows(first):
            run.add(row, line)
    alone = tmp_path / "alone"
    data = {"command": "sample", "author": "teacher", "model": "t"}
    with run_rows.start(alone, data_config=data):
        pass
    torn = second / "trajectories.jsonl"  # still being written
    torn.write_bytes(torn.read_bytes() + b'{"id": "d", "sam')
    out = tmp_path / "new" / "page.html"
    text = said(first, second, empty, mixed, kept, alone, out=out)
    assert "Outcome" in text
    assert "repeats itself 1" in text
    assert str(out) in text.replace("\n", "")
    page = out.read_text("utf-8")
    for words in (
        "Samples of first and second, 1:1",
        "The samples of first that passed the filters.",
        "One model&#39;s own response",
        "No sample in",
    ):
        assert words in page
    assert read_config(first)["data_config"]["student.model"] in page


def test_a_terminal_of_100_columns_breaks_no_name(tmp_path):
    name = "teacher-only-system-prompt-of-our-own"
    wide = [run_rows.row(f"q{n}", thinking="Hm. " * 10**n) for n in range(3)]
    failures = [run_rows.failure(reason, reason=reason) for reason in get_args(FailureReason)]
    run_rows.fill(tmp_path / name, *wide, *failures)
    text = said(tmp_path / name, out=tmp_path / "page.html", width=100)
    assert text.count(name) == 5
    assert max(map(len, text.splitlines()[:-1])) <= 100
    narrow = said(tmp_path / name, out=tmp_path / "page.html", width=60)
    assert max(map(len, narrow.splitlines()[1:-1])) <= 60


def test_a_run_with_a_report_is_linked_from_the_page(tmp_path):
    first, second = tmp_path / "a:b ü?", tmp_path / "second"
    for run in (first, second):
        run_rows.fill(run, run_rows.row("a"))
    report = write_report(first)
    out = tmp_path / "pages" / "compare.html"
    said(first, second, out=out)
    (link,) = re.findall('href="([^"]*)">all samples', out.read_text("utf-8"))
    assert link == "../a%3Ab%20%C3%BC%3F/report.html"
    assert (out.parent / urllib.parse.unquote(link)).samefile(report)
    said(first, out=tmp_path / "here.html")
    assert 'href="a%3Ab%20%C3%BC%3F/report.html"' in (tmp_path / "here.html").read_text("utf-8")


def test_the_page_is_the_same_each_time(tmp_path):
    first = tmp_path / "first"
    run_rows.fill(first, *(run_rows.row(f"q{n}") for n in range(9)))
    pages = [tmp_path / name for name in ("a.html", "b.html")]
    for page in pages:
        said(first, out=page)
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_what_cannot_be_compared_is_refused(tmp_path):
    first, out = tmp_path / "first", tmp_path / "page.html"
    run_rows.fill(first, run_rows.row("a"))
    with pytest.raises(RunError, match="not a run"):
        said(first, tmp_path / "nothing", out=out)
    with pytest.raises(ConfigError, match="one run"):
        said(first, tmp_path / "first" / ".." / "first", out=out)
    with pytest.raises(ConfigError, match="at least one"):
        said(out=out)
    with pytest.raises(ConfigError, match="is a directory"):
        said(first, out=tmp_path)
    lines = first / "trajectories.jsonl"
    lines.write_bytes(b'{"id": "x", "sample": 0}\n' + lines.read_bytes())
    with pytest.raises(InputError, match=r"trajectories\.jsonl:1"):
        said(first, out=out)
    assert not out.exists()


def test_scores_and_references_do_not_hinder(tmp_path):
    row = sample("a", PLAIN).model_copy(
        update={"scores": (1.0, None), "reference_answer": "It is four."}
    )
    run_rows.fill(tmp_path / "run", Trajectory.model_validate(json.loads(row.model_dump_json())))
    said(tmp_path / "run", out=tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "Scores of the candidates: 1, none" in page
    assert "It is four." in page

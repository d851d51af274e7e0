import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tessy.core.records import Cost, Failure, Message, Span, TokenCounts, Trajectory
from tessy.runtime.summary import summarize
from tessy.runtime.terminal import (
    FiguresTable,
    print_sample,
    summary_table,
    thinking_text,
    visible,
)

PIECES = (("student", "Okay, "), ("teacher", "2 + 2 = 4."), ("student", " Hmm,"))


def sample(
    pieces: tuple[tuple[str, str], ...] = PIECES, answer: str = "It is 4.", number: int = 2
) -> Trajectory:
    spans, position = [], 0
    for author, words in pieces:
        spans.append({"start": position, "end": position + len(words), "author": author})
        position += len(words)
    return Trajectory(
        id="sum-1",
        sample=number,
        strategy="tessy",
        messages=(
            Message(role="user", content="What is 2 + 2?"),
            Message(role="assistant", content="<think>…</think>It is 4."),
        ),
        thinking="".join(words for _, words in pieces),
        answer=answer,
        spans=tuple(Span.model_validate(span) for span in spans),
        tokens=TokenCounts(student=4, teacher=12, answer=5, drafted={"student": 5, "teacher": 16}),
        forced={"student": 0, "teacher": 1},
        ended_by="student",
        attempts=1,
        seconds=1.25,
        cost=Cost(requests={"student": 3, "teacher": 2}, seconds={"student": 0.5, "answer": 75.0}),
    )


def failure() -> Failure:
    row = sample().model_dump(exclude={"student_ids", "ended_by"})
    return Failure.model_validate({**row, "id": "b", "reason": "budget", "detail": "16 of 16."})


def console(out: io.StringIO, *, terminal: bool, no_color: bool = False) -> Console:
    return Console(
        file=out,
        width=100,
        force_terminal=terminal,
        no_color=no_color,
        color_system="standard" if terminal else None,
        legacy_windows=False,
    )


def shown(row: Trajectory | Failure, *, terminal: bool, no_color: bool = False) -> str:
    out = io.StringIO()
    print_sample(console(out, terminal=terminal, no_color=no_color), row)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def test_plain_text_marks_the_words_of_the_student() -> None:
    assert shown(sample(), terminal=False) == (
        "Problem  sum-1 · sample 2\n"
        "  What is 2 + 2?\n"
        "\n"
        "Thinking  ⟦student⟧  teacher\n"
        "  ⟦Okay,⟧ 2 + 2 = 4. ⟦Hmm,⟧\n"
        "\n"
        "Answer\n"
        "  It is 4.\n"
        "\n"
        "16 thinking tokens: student 25.0 %, teacher 75.0 % · 5 answer tokens · 3 spans · "
        "1 attempt · 1.2 s"
    )


def test_authors_have_different_styles_on_a_terminal() -> None:
    text = shown(sample(), terminal=True)
    assert "\x1b[1;4;35mOkay,\x1b[0m" in text
    assert "\x1b[36m2 + 2 = 4.\x1b[0m" in text
    assert "⟦" not in text


def test_without_colour_weight_and_underline_remain() -> None:
    text = shown(sample(), terminal=True, no_color=True)
    assert "\x1b[1;4mOkay,\x1b[0m" in text
    assert "2 + 2 = 4." in text
    assert "35m" not in text
    assert "36m" not in text


def test_no_color_in_the_environment_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out = io.StringIO()
    print_sample(Console(file=out, width=100, force_terminal=True), sample())
    assert "\x1b[1;4mOkay,\x1b[0m" in out.getvalue()


def test_a_failure_shows_its_reason() -> None:
    text = shown(failure(), terminal=False)
    assert "Failed: budget exceeded. 16 of 16." in text


def test_markup_in_text_is_printed_verbatim() -> None:
    row = sample((("student", "[bold]x[/bold] :smile: [/] "), ("teacher", "a[0]")))
    assert "⟦[bold]x[/bold] :smile: [/]⟧ a[0]" in shown(row, terminal=False)


def test_escape_sequences_of_a_model_do_not_reach_the_terminal() -> None:
    row = sample((("student", "\x1b]0;owned\x07 \x9b2J \u202eback"),), answer="\x1b[2J\r gone")
    text = shown(row, terminal=False)
    assert "␛]0;owned␇ \\u009b2J \\u202eback" in text
    assert "␛[2J␍ gone" in text
    assert not set(text) & set("\x1b\x07\x9b\r\u202e")


@given(st.text())
def test_visible_removes_all_control_characters(text: str) -> None:
    kept = visible(text)
    assert not any(ord(c) < 0x20 and c not in "\t\n" for c in kept)
    assert not any(0x7F <= ord(c) < 0xA0 for c in kept)


@given(st.lists(st.tuples(st.sampled_from(["student", "teacher"]), st.text(min_size=1))))
def test_the_thinking_is_printed_completely(pieces: list[tuple[str, str]]) -> None:
    row = sample(tuple(pieces))
    assert thinking_text(row, marks=False).plain == "".join(visible(words) for _, words in pieces)


def test_the_final_table() -> None:
    out = io.StringIO()
    summary = summarize([sample(), sample(number=3)], [failure()], seconds=3725.0)
    console(out, terminal=False).print(summary_table(summary))
    lines = [" ".join(line.split()) for line in out.getvalue().splitlines()]
    assert lines == [
        "Run",
        "Samples 2 finished, 1 failed (3 attempts)",
        "Failures budget exceeded 1",
        "Student 8 tokens (25.0 % of the thinking), 10 drafted, 20.0 % rolled back",
        "Teacher 24 tokens (75.0 % of the thinking), 32 drafted (own tokens), 25.0 % rolled back",
        "Forced units student 0, teacher 2 (kept although neither author would continue)",
        "Answers 10 tokens",
        "Thinking length mean 16, median 16, p80 16, longest 16 tokens",
        "Answer length mean 5, median 5, p80 5, longest 5 tokens",
        "Lost in failures student 5, teacher 16 drafted tokens",
        "Generated student 30, teacher 48 tokens",
        "Requests student 9, teacher 6",
        "Wall clock 1 h 02 min",
        "Time by part answer 3 min 45 s, student 1.5 s (summed over samples)",
    ]


def test_the_final_table_of_one_author() -> None:
    row = sample((("teacher", "2 + 2 = 4."),)).model_dump()
    row |= {"tokens": {"teacher": 12, "answer": 5, "drafted": {"student": 0, "teacher": 13}}}
    row["cost"]["requests"] = {"student": 0, "teacher": 2}
    lost = {**row, "id": "b", "reason": "budget", "detail": "13 of 13."}
    lost = {name: lost[name] for name in lost if name not in ("student_ids", "ended_by")}
    out = io.StringIO()
    summary = summarize([Trajectory.model_validate(row)], [Failure.model_validate(lost)])
    console(out, terminal=False).print(summary_table(summary))
    text = " ".join(out.getvalue().split())
    assert "Teacher 12 tokens of thinking Answers 5 tokens" in text
    assert (
        "Lost in failures teacher 13 drafted tokens Generated teacher 26 tokens Requests teacher 4"
        in text
    )
    assert "Student" not in text


def test_the_final_table_of_an_empty_run() -> None:
    out = io.StringIO()
    console(out, terminal=False).print(summary_table(summarize([], [])))
    assert "Student 0 tokens (– of the thinking)" in " ".join(out.getvalue().split())


def table(summary: dict[str, Any]) -> str:
    out = io.StringIO()
    console(out, terminal=False).print(summary_table(summary))
    return " ".join(out.getvalue().split())


def test_a_row_of_a_baseline_shows_its_strategy():
    made: dict[str, Any] = {"scores": (3.0, None, 7.5), "unscored": {1: "repetition"}}
    row = sample().model_copy(update={"strategy": "teacher-score", "answer_by": "teacher", **made})
    text = shown(row, terminal=False)
    assert "strategy teacher-score · answer by teacher" in text
    assert "candidates' scores 3, repetition, 7.5" in text.replace("\n", " ")
    assert "strategy" not in shown(sample(), terminal=False)
    closing = table(summarize([row], []))
    assert "teacher-score 1" in closing
    assert "5 tokens by the teacher" in closing
    assert "rolled back" not in closing
    assert "rolled back" in table(summarize([sample()], []))
    assert "Strategies" not in table(summarize([sample()], []))


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_name_of_a_table_is_broken(width: int):
    names = ["predictors/the-student-s+predictors/the-teacher-s", "lexicon", "  student"]
    table = FiguresTable("The cut", "right", "exactly right", "late", "early", "left whole", "off")
    for name in (*names, names[0]):
        table.add_row(name, "99.9 [98–100]", "12.3", "4.5", "6.7", "8.9", "0.12 ±0.03")
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    text = out.getvalue()
    for name in names:
        if len(name) < width - 6:
            assert name.strip() in text
    assert max(map(len, text.splitlines())) <= width
    assert ("[1]" in text) == (width < 200)

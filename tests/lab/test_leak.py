"""The leak: words by the wrong model, and the interval of their share."""

from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessy.core.records import Author, Message, Span, Trajectory
from tessy.lab.leak import BY_RULE, leak, sentence
from tessy.lab.leak import count as count_cases
from tessy.lab.styles import STUDENT, TEACHER
from tessy.lab.tasks import TASKS, make_problem, write_trace
from tests.support.rows import row

TEXT = "Okay, let's see. 5 - 3 = 2. So 2 + 2 = 4."
STYLE_WORDS, WORK_WORDS = 4, 10


class Words(NamedTuple):
    total: int
    wrong: int


def count(sample: Trajectory) -> tuple[Words, ...]:
    return tuple(Words(int(case.weight), int(case.amount)) for case in count_cases(sample))


def written(*pieces: tuple[Author, str], name: str = "a") -> Trajectory:
    spans, text = [], ""
    for author, piece in pieces:
        spans.append(Span(start=len(text), end=len(text) + len(piece), author=author))
        text += piece
    messages = (Message(role="user", content=name), Message(role="assistant", content=text))
    sample = row(name, thinking=text)
    return sample.model_copy(update={"spans": tuple(spans), "messages": messages})


def test_there_is_no_leak_if_each_author_writes_its_own_class():
    sample = written(
        ("student", "Okay, let's see."),
        ("teacher", " 5 - 3 = 2."),
        ("student", " So"),
        ("teacher", " 2 + 2 = 4."),
    )
    assert count(sample) == (Words(STYLE_WORDS, 0), Words(WORK_WORDS, 0))


@pytest.mark.parametrize(
    ("author", "style", "work"), [("teacher", STYLE_WORDS, 0), ("student", 0, WORK_WORDS)]
)
def test_a_single_author_leaks_all_words_of_the_other_class(author, style, work):
    found = count(written((author, TEXT)))
    assert found == (Words(STYLE_WORDS, style), Words(WORK_WORDS, work))


def test_the_author_of_a_word_is_the_author_of_its_first_character():
    sample = written(("student", "Okay, 5 - 3"), ("teacher", "3 = 2."), ("student", " So"))
    style, work = count(sample)
    assert work == Words(5, 3)  # "33" began as the student's
    assert style == Words(2, 0)


@given(st.sampled_from(TASKS), st.integers(0, 10**6))
def test_segments_of_a_trace_by_their_own_authors_have_no_leak(task, seed):
    rng = Random(seed)
    trace = write_trace(make_problem(task, rng), (STUDENT, TEACHER), rng)
    right = written(*[(_own(segment.kind), segment.text) for segment in trace.segments])
    wrong = written(*[(_foreign(segment.kind), segment.text) for segment in trace.segments])
    assert [words.wrong for words in count(right)] == [0, 0]
    assert [words.wrong for words in count(wrong)] == [words.total for words in count(right)]
    assert sum(words.total for words in count(right)) == len(trace.thinking.split())


def _own(kind: str) -> Author:
    return "student" if kind == "style" else "teacher"


def _foreign(kind: str) -> Author:
    return "teacher" if kind == "style" else "student"


def test_without_a_leak_the_interval_depends_on_the_number_of_problems():
    style = leak([written(("student", TEXT), name=str(n)) for n in range(20)]).style
    assert (style.words, style.wrong, style.share, style.low) == (20 * STYLE_WORDS, 0, 0.0, 0.0)
    assert style.high == pytest.approx(1.96**2 / (20 + 1.96**2), abs=1e-3)


def test_leaks_concentrated_in_few_problems_widen_the_interval():
    def found(teachers: int, mixed: int) -> float:
        rows = [written(("teacher", TEXT), name=f"t{n}") for n in range(teachers)]
        rows += [written(("student", TEXT), name=f"s{n}") for n in range(teachers)]
        rows += [
            written(("student", TEXT), ("teacher", "\n" + TEXT), name=f"m{n}") for n in range(mixed)
        ]
        style = leak(rows).style
        assert style.share == 0.5
        assert style.low is not None
        assert style.high is not None
        assert 0 < style.low < 0.5 < style.high < 1
        return style.high - style.low

    assert found(teachers=20, mixed=0) > found(teachers=5, mixed=30) + 0.05


def test_the_sentence_has_counts_shares_and_the_rule():
    found = leak([written(("student", TEXT), name="a"), written(("teacher", TEXT), name="b")])
    text = sentence(found)
    assert "2 samples" in text
    assert "the teacher wrote 4 of 8 style words (50.0 %" in text
    assert "the student 10 of 20 capability words (50.0 %" in text
    assert BY_RULE in text
    assert "0 of 0 style words," in sentence(leak([]))


def test_problems_are_identified_by_text_not_by_id():
    authors: tuple[Author, ...] = ("student", "student", "teacher", "teacher")
    rows = [written((a, TEXT), name=n) for a, n in zip(authors, "abcd", strict=True)]
    again = [*rows[:3], written(("teacher", TEXT), name="a")]
    apart, same = leak(rows), leak(again)
    assert apart.style.share == same.style.share == 0.5
    assert apart != same
    for result, samples in ((apart, rows), (same, again)):
        renamed = [item.model_copy(update={"id": f"set#{n}"}) for n, item in enumerate(samples)]
        assert leak(renamed) == result

"""The annotation rule marks exactly the style segments of traces, in any mix of styles."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessy.lab.marker import mark, style_spans
from tessy.lab.styles import OTHERS, STUDENT, TEACHER, Style, other_style
from tessy.lab.tasks import TASKS, Task, Trace, make_problem, write_trace

seeds = st.integers(0, 10**6)
tasks = st.sampled_from(TASKS)
mixes = st.sampled_from(
    [(STUDENT,), (TEACHER,), (OTHERS,), (STUDENT, TEACHER), (STUDENT, TEACHER, OTHERS)]
)


def draw_trace(task: Task, styles: tuple[Style, ...], seed: int) -> Trace:
    rng = Random(seed)
    return write_trace(make_problem(task, rng), (*styles, other_style(rng))[: len(styles)], rng)


def style_chars(trace: Trace) -> set[int]:
    """Return the offsets of the style segments, without white space."""
    found, position = set(), 0
    for segment in trace.segments:
        if segment.kind == "style":
            found |= {i for i, char in enumerate(segment.text, position) if not char.isspace()}
        position += len(segment.text)
    return found


def marked_chars(text: str) -> set[int]:
    return {i for s, e in style_spans(text) for i in range(s, e) if not text[i].isspace()}


@given(tasks, mixes, seeds)
def test_the_marked_text_of_a_trace_is_its_style_segments(task, styles, seed):
    trace = draw_trace(task, styles, seed)
    assert marked_chars(trace.thinking) == style_chars(trace)


@given(tasks, mixes, seeds, st.data())
def test_marks_do_not_depend_on_where_a_segment_begins_and_ends(task, styles, seed, data):
    trace = draw_trace(task, styles, seed)
    text = trace.thinking
    starts = [0, *(i + 1 for i, char in enumerate(text) if char.isspace())]
    start = data.draw(st.sampled_from(starts))
    end = data.draw(st.sampled_from([i - 1 for i in starts if i > start] + [len(text)]))
    whole = style_chars(trace)
    assert marked_chars(text[start:end]) == {i - start for i in whole if start <= i < end}


@given(tasks, mixes, seeds)
def test_marked_phrases_are_verbatim_and_in_order(task, styles, seed):
    text = draw_trace(task, styles, seed).thinking
    position, found = 0, []
    for phrase in mark(text):
        position = text.index(phrase, position)
        found.append((position, position + len(phrase)))
        position += len(phrase)
    assert found == style_spans(text)


@pytest.mark.parametrize(
    ("text", "style"),
    [
        ("So 5 - 3 = 2.", ["So"]),
        ("Hence 7 * 8 = 6. Verified.", ["Hence", "Verified."]),  # modulo ten
        ("put 3.\nThen put 4.", ["Then"]),
        ("max(3, 4) = 4. So I get 4.", ["So I get"]),
        ("Reversed: 5, 1, 3.", []),
        ("we need to compute this: 3", ["we need to compute this:"]),
        ("Okay, 3 + 4 = 7. Okay, Hence 7", ["Okay,", "Okay,", "Hence"]),
        ("Okay, so It follows that 1", ["Okay, so", "It follows that"]),
        ("let’s\nsee. 5", ["let’s\nsee."]),
        ("Hence5 - 3", []),
        ("hmm(3)", []),
        ("", []),
    ],
)
def test_marks_of_given_texts(text, style):
    assert mark(text) == style


def test_the_longest_phrase_is_marked():
    for phrase in (*STUDENT.phrases, *TEACHER.phrases, *OTHERS.phrases):
        assert mark(f"3 + 4 = 7. {phrase} 7 + 1 = 8.") == [phrase]

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessy.boundary.cut import in_class
from tessy.core.edges import units
from tessy.core.errors import SampleFailed
from tessy.core.records import other
from tessy.core.seeds import derive_seed
from tessy.inference.scripted import (
    END_THINKING,
    EOS,
    OTHER_CONTROL,
    ByteCodec,
    reference_script,
)
from tessy.tokenization.token_ids import decode
from tests.support.cooperation_driver import (
    CODECS,
    PROMPTS,
    Always,
    RandomClasses,
    ReferenceClasses,
    alone,
    both,
    engine,
    in_parts,
    make,
    run,
)

WORDS = st.sampled_from(
    [
        "Okay,",
        "let's",
        "see.",
        "x=3",
        "wait",
        "中文字很长",
        "é",
        "👩‍👩‍👧",
        "\\frac{a}{b}",
        "a" * 50,
        "e\u0301",
        "/x",
    ]
)
GAPS = st.sampled_from([" ", " ", " ", "\n", "\n\n", "  ", "\n  ", ""])


@st.composite
def references(draw):
    words = draw(st.lists(st.tuples(WORDS, GAPS), min_size=1, max_size=25))
    return "".join(word + gap for word, gap in words).strip()


def style(unit):
    """Return a fixed class for a unit, by a hash of its letters."""
    return derive_seed(unit.strip()) % 2 == 0


def check_ids(machine):
    """Check that both models' ids decode to the text, and that the spans tile it."""
    text = machine.thinking.text
    assert decode(CODECS["student"], machine.thinking.student_ids) == text
    spans = machine.thinking.spans
    assert "".join(text[s.start : s.end] for s in spans) == text
    assert sum(machine.thinking.kept_tokens.values()) == len(machine.thinking.student_ids)


@settings(max_examples=150)
@given(
    references(),
    st.booleans(),
    st.integers(0, 3),
    st.sampled_from(["discard", "extend"]),
    st.sampled_from([2, 5, 20, 64]),
    st.integers(1, 7),
)
def test_one_text_with_fixed_classes_is_written_without_leaks(
    text, sees_next, lookahead, cut, request_tokens, chunk
):
    """If both engines generate one reference text, there are no leaked and no forced units."""
    lookahead = 0 if sees_next else lookahead
    known = both(ReferenceClasses(text, style, sees_next=sees_next, lookahead=lookahead))
    engines = {
        author: engine(reference_script(text, codec), codec, author, chunk)
        for author, codec in CODECS.items()
    }
    machine = make(CODECS, known, cut=cut, request_tokens=request_tokens)
    run(machine, engines, known)
    assert machine.thinking.text == text
    assert machine.thinking.forced == {"student": 0, "teacher": 0}
    assert machine.thinking.mid_word_handovers == 0
    assert leaked_positions(machine, text) == 0
    check_ids(machine)


def leaked_positions(machine, text):
    """Return the units of the text written by the wrong author (or split between both)."""
    owners = []
    for span in machine.thinking.spans:
        owners += [span.author] * (span.end - span.start)
    count = start = 0
    for unit in units(text):
        right = "student" if style(unit) or start == 0 else "teacher"
        count += set(owners[start : start + len(unit)]) != {right}
        start += len(unit)
    return count


@settings(max_examples=100)
@given(
    st.integers(0, 10**6), st.booleans(), st.booleans(), st.sampled_from(["discard", "extend"]),
    st.sampled_from([3, 20, 64]),
)  # fmt: skip
def test_models_and_predictors_that_disagree_end_and_every_leak_was_forced(
    seed, student_sees, teacher_sees, cut, request_tokens
):
    """The run ends, and leaked units are the forced ones."""
    predictors = {
        "student": RandomClasses(seed, sees_next=student_sees),
        "teacher": RandomClasses(seed + 1, sees_next=teacher_sees),
    }

    def random_words(codec):
        def script(text, draw):
            if len(text) > 150:
                return [END_THINKING]
            words = [f"w{derive_seed(draw, i) % 50}" for i in range(12)]
            return codec.encode((" " if text else "") + " ".join(words))

        return script

    engines = {
        author: engine(random_words(codec), codec, author) for author, codec in CODECS.items()
    }
    machine = make(CODECS, predictors, cut=cut, request_tokens=request_tokens)
    run(machine, engines, predictors)
    check_ids(machine)

    leaks = dict.fromkeys(PROMPTS, 0)
    for span in machine.thinking.spans:
        start = span.start
        for unit in units(machine.thinking.text[span.start : span.end]):
            score = predictors[span.author].score(machine.thinking.text[:start], unit)
            decider = score.highest if span.author == "teacher" else score.lowest
            decider = score.first if cut == "extend" else decider
            leaks[span.author] += start > 0 and not in_class(span.author, decider)
            start += len(unit)
    assert leaks == machine.thinking.forced


def test_the_student_writes_the_first_unit_whatever_its_predictor_returns():
    machine, engines, predictors = alone(
        in_parts(CODECS["student"], "x=3 and more"),
        teacher=in_parts(CODECS["teacher"], (" and so on", END_THINKING)),
        predictors=both(Always(0.0)),
    )
    assert run(machine, engines, predictors).ended_by == "teacher"
    assert machine.thinking.text == "x=3 and so on"
    assert [(s.start, s.end, s.author) for s in machine.thinking.spans] == [
        (0, 3, "student"),
        (3, 13, "teacher"),
    ]


def test_white_space_next_to_a_marker_belongs_to_the_marker():
    machine, engines, predictors = alone(
        in_parts(CODECS["student"], ("\n\n Okay. \n", END_THINKING))
    )
    run(machine, engines, predictors)
    assert machine.thinking.text == "Okay."
    check_ids(machine)


def test_white_space_kept_before_the_other_ends_is_trimmed_too():
    machine, engines, predictors = alone(
        in_parts(CODECS["student"], "Okay.\n\nx=1 y"),
        teacher=in_parts(CODECS["teacher"], (END_THINKING,)),
        predictors=both(ReferenceClasses("Okay.\n\nx=1 y", lambda u: "O" in u, sees_next=False)),
    )
    assert run(machine, engines, predictors).ended_by == "teacher"
    assert machine.thinking.text == "Okay."
    assert [(s.start, s.end) for s in machine.thinking.spans] == [(0, 5)]
    check_ids(machine)


def test_an_end_after_a_unit_that_is_not_kept_is_dropped():
    text = "Okay, so x=1"
    known = both(ReferenceClasses(text + " hm", lambda u: "x" not in u, sees_next=False))
    machine, engines, predictors = alone(
        in_parts(CODECS["student"], (text, END_THINKING), (" hm", END_THINKING)),
        teacher=in_parts(CODECS["teacher"], " x=1 hm then"),
        predictors=known,
    )
    assert run(machine, engines, predictors).ended_by == "student"
    assert machine.thinking.text == "Okay, so x=1 hm"
    assert [s.author for s in machine.thinking.spans] == ["student", "teacher", "student"]


def test_eos_ends_a_span_once():
    machine, engines, predictors = alone(
        in_parts(CODECS["student"], ("Okay,", EOS)),
        teacher=in_parts(CODECS["teacher"], (" x", END_THINKING)),
        predictors={"student": Always(1.0), "teacher": Always(0.0)},
    )
    run(machine, engines, predictors)
    assert machine.thinking.text == "Okay, x"


@pytest.mark.parametrize("mark", [EOS, OTHER_CONTROL])
def test_two_control_ids_in_a_row_fail_the_sample(mark):
    machine, engines, predictors = alone(
        in_parts(CODECS["student"], ("Okay,", mark)),
        teacher=in_parts(CODECS["teacher"], (" x", mark)),
        predictors={"student": Always(1.0), "teacher": Always(0.0)},
    )
    with pytest.raises(SampleFailed) as failure:
        run(machine, engines, predictors)
    assert failure.value.reason == "eos_in_thinking"
    assert machine.thinking.text == "Okay, x"  # the text is kept for the row of the failure


def test_a_line_break_before_a_control_id_stays_an_edge():
    machine, engines, predictors = alone(
        in_parts(CODECS["student"], ("Okay.\n\n  ", EOS)),
        teacher=in_parts(CODECS["teacher"], ("x=1", END_THINKING)),
        predictors={"student": Always(1.0), "teacher": Always(0.0)},
    )
    run(machine, engines, predictors)
    assert machine.thinking.text == "Okay.\n\nx=1"
    assert machine.thinking.mid_word_handovers == 0


def test_a_receiver_that_continues_inside_a_word_is_counted_and_keeps_its_letters():
    predictors = {
        "student": ReferenceClasses("Okay, so", lambda u: u != " so", sees_next=False),
        "teacher": Always(0.0),
    }
    machine, engines, _ = alone(
        in_parts(CODECS["student"], "Okay, so on"),
        teacher=in_parts(CODECS["teacher"], ("yes x=1", END_THINKING)),
        predictors=predictors,
    )
    run(machine, engines, predictors)
    assert machine.thinking.text == "Okay,yes x=1"
    assert machine.thinking.mid_word_handovers == 1
    assert [(s.start, s.end, s.author) for s in machine.thinking.spans] == [
        (0, 5, "student"),
        (5, 12, "teacher"),
    ]


def test_a_receiver_that_starts_a_new_paragraph_keeps_it():
    predictors = {
        "student": ReferenceClasses("Okay, so", lambda u: u != " so", sees_next=False),
        "teacher": ReferenceClasses("Okay,\n\nx=1", lambda u: "O" in u, sees_next=False),
    }
    machine, engines, _ = alone(
        in_parts(CODECS["student"], "Okay, so on"),
        teacher=in_parts(CODECS["teacher"], ("\n\nx=1", END_THINKING)),
        predictors=predictors,
    )
    run(machine, engines, predictors)
    assert machine.thinking.text == "Okay,\n\nx=1"
    assert [(s.start, s.end, s.author) for s in machine.thinking.spans] == [
        (0, 5, "student"),
        (5, 10, "teacher"),
    ]
    assert machine.thinking.mid_word_handovers == 1
    assert machine.thinking.forced == {"student": 0, "teacher": 0}


def test_text_cut_inside_a_character_stays_whole():
    codec = ByteCodec([b"\xe4\xb8", b"\xad\xe6"])
    codecs = CODECS | {"student": codec}
    text = "中文 中文 x=1"
    known = both(ReferenceClasses(text, lambda u: "x" not in u, sees_next=True))
    engines = {a: engine(reference_script(text, c), c, a) for a, c in codecs.items()}
    machine = make(codecs, known, request_tokens=2)
    run(machine, engines, known)
    assert machine.thinking.text == text
    assert decode(codec, machine.thinking.student_ids) == text


@settings(max_examples=60)
@given(references(), st.booleans(), st.integers(0, 40), st.sampled_from([3, 64]))
def test_a_restored_cooperation_writes_the_same_text(text, sees, stop, request_tokens):
    known = both(ReferenceClasses(text, style, sees_next=sees))
    engines = {a: engine(reference_script(text, c), c, a) for a, c in CODECS.items()}
    saved = []

    def save(machine):
        saved.append(replace(machine.state(), texts=tuple(machine.thinking.pieces)))

    whole = make(CODECS, known, request_tokens=request_tokens)
    run(whole, engines, known, each=save)
    again = make(CODECS, known, request_tokens=request_tokens)
    again.restore(saved[min(stop, len(saved) - 1)])
    run(again, engines, known)
    assert again.thinking.text == text
    assert again.thinking.result() == whole.thinking.result()


def test_other_returns_the_other_author():
    assert other("student") == "teacher"
    assert other("teacher") == "student"

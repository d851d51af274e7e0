"""Style spans and predictor tokens: against the sentences of METHOD, byte by byte."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessy.boundary.base import UnitScore
from tessy.boundary.classifier.labels import (
    CAPABILITY,
    IGNORED,
    STYLE,
    class_of,
    class_scores,
    deciding,
    next_token_labels,
    own_scores,
    token_classes,
    tokens_of,
    unit_scores,
    unit_tokens,
)
from tessy.boundary.classifier.window import TokenizedText, WindowRule
from tessy.core.edges import edges
from tessy.core.errors import InputError
from tessy.core.records import StyleSpan
from tests.support.tiny_bpe import WORDS, codec

RULE = WindowRule(limit=24, keep=9)
WHOLE = WindowRule(limit=100_000)  # leaves nothing of a piece out
TEXTS = st.builds(
    lambda words, join: join.join(words),
    st.lists(st.sampled_from([*WORDS, "汉字🙂", "naïve", "x" * 60]), max_size=30),
    st.sampled_from([" ", "", "\n", "  "]),
)
CLASSES = st.lists(st.sampled_from([CAPABILITY, STYLE]), max_size=30)


@st.composite
def marked(draw):
    """A text and ascending style spans in it."""
    text = draw(TEXTS)
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=8)))
    return text, [StyleSpan(start=a, end=b) for a, b in zip(cuts[::2], cuts[1::2], strict=False)]


def byte_ranges(text: str) -> list[range]:
    """Where each token lies, in bytes of a text of which nothing is left out."""
    found, at = [], 0
    for token in tokens_of(codec(), text, WHOLE).ids:
        size = len(codec().token_bytes(token))
        found.append(range(at, at + size))
        at += size
    assert at == len(text.encode())
    return found


@given(text=TEXTS)
def test_training_and_inference_see_the_same_ids(text):
    for rule in (RULE, WindowRule()):
        reading = TokenizedText(codec(), rule)
        reading.read(text)
        assert list(tokens_of(codec(), text, rule).ids) == reading.ids


@given(text=TEXTS)
def test_tokens_cover_the_text_and_name_the_characters_they_touch(text):
    tokens = tokens_of(codec(), text, WHOLE)
    for place, start, end in zip(byte_ranges(text), tokens.starts, tokens.ends, strict=True):
        assert start == len(text.encode()[: place.start].decode(errors="ignore"))
        assert len(text[:end].encode()) >= place.stop > len(text[: end - 1].encode())


@given(case=marked())
def test_a_token_is_style_if_it_starts_in_a_span_or_a_span_starts_in_it(case):
    text, style = case
    spans = [range(*(len(text[:at].encode()) for at in (s.start, s.end))) for s in style]
    expected = [
        any(place.start in span or span.start in place for span in spans)
        for place in byte_ranges(text)
    ]
    tokens = tokens_of(codec(), text, WHOLE)
    found = token_classes(tokens, style)
    assert len(found) == len(expected)
    for i, (label, wanted) in enumerate(zip(found, expected, strict=True)):
        assert label == wanted or tokens.blank[i]


@given(case=marked())
def test_white_space_has_the_class_of_its_word_and_does_not_decide(case):
    text, style = case
    tokens = tokens_of(codec(), text)
    classes = token_classes(tokens, style)
    scores = unit_scores(tokens, class_scores(classes), (0, *edges(text)))
    for number in set(tokens.units):
        unit = [i for i in range(len(tokens)) if tokens.units[i] == number]
        word = {classes[i] for i in unit if not tokens.blank[i]}
        assert not word or {classes[i] for i in unit} <= word
        said = {classes[i] for i in unit if i and not tokens.blank[i]}
        if said:
            assert {scores[number].lowest, scores[number].highest} <= said


def test_a_style_word_before_a_line_break_is_all_style():
    text = "Okay, wait.\n\nhmm 5"
    tokens = tokens_of(codec(), text)
    style = [StyleSpan(start=0, end=11), StyleSpan(start=13, end=16)]
    assert any(tokens.blank)
    scores = unit_scores(tokens, class_scores(token_classes(tokens, style)), (0, *edges(text)))
    assert [score.lowest for score in scores] == [1, 1, 1, 0]
    assert [score.highest for score in scores] == [1, 1, 1, 0]


@given(text=TEXTS, data=st.data())
def test_units_have_the_tokens_a_reading_gives_them(text, data):
    reading = TokenizedText(codec(), RULE)
    reading.read(text)
    tokens = tokens_of(codec(), text, RULE)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    assert unit_tokens(tokens, start, end) == range(*reading.tokens_of(start, end))


@given(text=TEXTS, data=st.data())
def test_units_are_read_from_where_the_other_author_stopped(text, data):
    reading = TokenizedText(codec(), RULE)
    reading.read(text)
    places = st.integers(0, len(text))
    bounds = sorted(data.draw(st.lists(places, min_size=1, unique=True)))
    own_from = data.draw(places)
    assert list(reading.units_of(bounds, own_from)) == [
        range(*reading.tokens_of(max(start, own_from), end)) for start, end in pairwise(bounds)
    ]


@given(classes=CLASSES)
def test_labels_say_the_class_of_the_next_token_and_are_read_back(classes):
    labels = next_token_labels(classes)
    assert len(labels) == len(classes)
    assert labels[-1:] == [IGNORED][: len(classes)]
    own = own_scores([0.0 if label == IGNORED else float(label) for label in labels])
    assert own[:1] == [None][: len(classes)]
    assert [class_of(score) for score in own[1:] if score is not None] == classes[1:]


@given(case=marked())
def test_a_predictor_that_is_always_right_scores_units_by_their_tokens(case):
    text, style = case
    tokens = tokens_of(codec(), text)
    classes = token_classes(tokens, style)
    bounds = (0, *edges(text))
    scores = unit_scores(tokens, class_scores(classes), bounds)
    for i, score in enumerate(scores):
        unit = deciding(unit_tokens(tokens, bounds[i], bounds[i + 1]), tokens.blank.__getitem__)
        inside = [classes[k] for k in unit if k]
        wanted = (inside[0], min(inside), max(inside)) if inside else (1, 1, 1)
        assert score == UnitScore(*wanted)


def test_words_whose_space_is_part_of_their_token():
    text = "Okay, let's see. 5 - 3 = 2. But wait, hmm."
    style = [StyleSpan(start=0, end=16), StyleSpan(start=28, end=42)]
    tokens = tokens_of(codec(), text)
    classes = token_classes(tokens, style)
    for start, end, label in zip(tokens.starts, tokens.ends, classes, strict=True):
        word = text[start:end].strip()
        if word:
            at = start + text[start:end].index(word)
            assert label == (STYLE if at < 16 or at >= 28 else CAPABILITY), word


def test_the_first_tokens_alone():
    tokens = tokens_of(codec(), "Okay, let's see.")
    short = tokens.first(2)
    assert (len(short), short.ids, short.ends) == (2, tokens.ids[:2], tokens.ends[:2])


def test_half_a_surrogate_pair_is_refused():
    with pytest.raises(InputError, match="surrogate"):
        tokens_of(codec(), "wait \ud800")

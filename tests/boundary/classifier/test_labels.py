"""Labels of predictor tokens follow the conventions of the released checkpoints, byte by byte."""

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
    deciding_tokens,
    encode_text,
    next_token_labels,
    oracle_outputs,
    token_classes,
    token_scores,
    unit_scores,
    unit_tokens,
)
from tessy.boundary.classifier.window import TokenizedText, WindowRule
from tessy.core.edges import edges
from tessy.core.errors import InputError
from tessy.core.records import StyleSpan
from tests.support.tiny_bpe import WORDS, codec

RULE = WindowRule(limit=24, keep=9)
WHOLE = WindowRule(limit=100_000)  # truncates no piece
TEXTS = st.builds(
    lambda words, join: join.join(words),
    st.lists(st.sampled_from([*WORDS, "汉字🙂", "naïve", "x" * 60]), max_size=30),
    st.sampled_from([" ", "", "\n", "  "]),
)
CLASSES = st.lists(st.sampled_from([CAPABILITY, STYLE]), max_size=30)


@st.composite
def marked(draw):
    """Draw a text and ascending style spans in it."""
    text = draw(TEXTS)
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=8)))
    return text, [StyleSpan(start=a, end=b) for a, b in zip(cuts[::2], cuts[1::2], strict=False)]


def byte_ranges(text: str) -> list[range]:
    """Return the range of each token, in bytes of the text."""
    ranges, at = [], 0
    for token in encode_text(codec(), text, WHOLE).ids:
        size = len(codec().token_bytes(token))
        ranges.append(range(at, at + size))
        at += size
    assert at == len(text.encode())
    return ranges


@given(text=TEXTS)
def test_training_and_inference_use_the_same_ids(text):
    for rule in (RULE, WindowRule()):
        tokenized = TokenizedText(codec(), rule)
        tokenized.update(text)
        assert list(encode_text(codec(), text, rule).ids) == tokenized.ids


@given(text=TEXTS)
def test_token_offsets_cover_the_characters_of_each_token(text):
    tokens = encode_text(codec(), text, WHOLE)
    for index, start, end in zip(byte_ranges(text), tokens.starts, tokens.ends, strict=True):
        assert start == len(text.encode()[: index.start].decode(errors="ignore"))
        assert len(text[:end].encode()) >= index.stop > len(text[: end - 1].encode())


@given(case=marked())
def test_a_token_is_style_if_it_starts_in_a_span_or_a_span_starts_in_it(case):
    text, style = case
    spans = [range(*(len(text[:at].encode()) for at in (s.start, s.end))) for s in style]
    expected = [
        any(index.start in span or span.start in index for span in spans)
        for index in byte_ranges(text)
    ]
    tokens = encode_text(codec(), text, WHOLE)
    classes = token_classes(tokens, style)
    assert len(classes) == len(expected)
    for i, (label, wanted) in enumerate(zip(classes, expected, strict=True)):
        assert label == wanted or tokens.blank[i]


@given(case=marked())
def test_white_space_has_the_class_of_its_word_and_does_not_decide(case):
    text, style = case
    tokens = encode_text(codec(), text)
    classes = token_classes(tokens, style)
    scores = unit_scores(tokens, oracle_outputs(classes), (0, *edges(text)))
    for number in set(tokens.units):
        unit = [i for i in range(len(tokens)) if tokens.units[i] == number]
        word = {classes[i] for i in unit if not tokens.blank[i]}
        assert not word or {classes[i] for i in unit} <= word
        predicted = {classes[i] for i in unit if i and not tokens.blank[i]}
        if predicted:
            assert {scores[number].lowest, scores[number].highest} <= predicted


def test_a_style_word_before_a_line_break_is_all_style():
    text = "Okay, wait.\n\nhmm 5"
    tokens = encode_text(codec(), text)
    style = [StyleSpan(start=0, end=11), StyleSpan(start=13, end=16)]
    assert any(tokens.blank)
    scores = unit_scores(tokens, oracle_outputs(token_classes(tokens, style)), (0, *edges(text)))
    assert [score.lowest for score in scores] == [1, 1, 1, 0]
    assert [score.highest for score in scores] == [1, 1, 1, 0]


@given(text=TEXTS, data=st.data())
def test_units_have_the_same_tokens_in_training_and_inference(text, data):
    tokenized = TokenizedText(codec(), RULE)
    tokenized.update(text)
    tokens = encode_text(codec(), text, RULE)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    assert unit_tokens(tokens, start, end) == range(*tokenized.token_range(start, end))


@given(text=TEXTS, data=st.data())
def test_unit_ranges_start_at_own_from(text, data):
    tokenized = TokenizedText(codec(), RULE)
    tokenized.update(text)
    offsets = st.integers(0, len(text))
    bounds = sorted(data.draw(st.lists(offsets, min_size=1, unique=True)))
    own_from = data.draw(offsets)
    assert list(tokenized.unit_ranges(bounds, own_from)) == [
        range(*tokenized.token_range(max(start, own_from), end)) for start, end in pairwise(bounds)
    ]


@given(classes=CLASSES)
def test_labels_are_the_classes_of_the_next_tokens(classes):
    labels = next_token_labels(classes)
    assert len(labels) == len(classes)
    assert labels[-1:] == [IGNORED][: len(classes)]
    own = token_scores([0.0 if label == IGNORED else float(label) for label in labels])
    assert own[:1] == [None][: len(classes)]
    assert [class_of(score) for score in own[1:] if score is not None] == classes[1:]


@given(case=marked())
def test_oracle_outputs_score_units_by_their_token_classes(case):
    text, style = case
    tokens = encode_text(codec(), text)
    classes = token_classes(tokens, style)
    bounds = (0, *edges(text))
    scores = unit_scores(tokens, oracle_outputs(classes), bounds)
    for i, score in enumerate(scores):
        unit = deciding_tokens(
            unit_tokens(tokens, bounds[i], bounds[i + 1]), tokens.blank.__getitem__
        )
        inside = [classes[k] for k in unit if k]
        wanted = (inside[0], min(inside), max(inside)) if inside else (1, 1, 1)
        assert score == UnitScore(*wanted)


def test_tokens_with_a_leading_space_have_the_class_of_their_word():
    text = "Okay, let's see. 5 - 3 = 2. But wait, hmm."
    style = [StyleSpan(start=0, end=16), StyleSpan(start=28, end=42)]
    tokens = encode_text(codec(), text)
    classes = token_classes(tokens, style)
    for start, end, label in zip(tokens.starts, tokens.ends, classes, strict=True):
        word = text[start:end].strip()
        if word:
            at = start + text[start:end].index(word)
            assert label == (STYLE if at < 16 or at >= 28 else CAPABILITY), word


def test_half_a_surrogate_pair_is_refused():
    with pytest.raises(InputError, match="surrogate"):
        encode_text(codec(), "wait \ud800")

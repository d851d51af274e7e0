"""Listed strings are located despite the changes of a model that copied them."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import partial
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessy.boundary.annotation.locate import UnmatchedString, locate, normalize
from tessy.core.records import StyleSpan

PLAIN_WORDS = ["Okay,", "so", "So", "wait", "Wait…", "let’s", "x=4", "3", "don’t", "“hmm”", "—"]
OTHER_WORDS = ["naïve", "ﬁne", "straße", "a–b", "…", "é", "ﾊﾟ", "각", "²", "it's", "?!", "it’s."]
WORDS = st.sampled_from(PLAIN_WORDS + OTHER_WORDS)
FORMS: list[Callable[[str], str]] = [
    str,
    partial(unicodedata.normalize, "NFC"),
    partial(unicodedata.normalize, "NFD"),
    partial(unicodedata.normalize, "NFKC"),
    partial(unicodedata.normalize, "NFKD"),
]
SPACES = st.sampled_from([" ", "  ", "\n", "\n\n", "\t", " ", " \n "])


def found(text: str, *strings: str) -> list[str]:
    spans = locate(text, strings)
    assert not isinstance(spans, UnmatchedString), spans
    return [text[span.start : span.end] for span in spans]


def places(text: str, *strings: str) -> list[tuple[int, int]]:
    spans = locate(text, strings)
    assert not isinstance(spans, UnmatchedString), spans
    return [(span.start, span.end) for span in spans]


# ---------------------------------------------------------------- examples


def test_strings_are_found_from_left_to_right():
    text = "Okay, so 3 + 4. But wait, so 7. But wait, yes."
    assert places(text, "Okay, so", "But wait,", "But wait,") == [(0, 8), (16, 25), (32, 41)]


@pytest.mark.parametrize(
    ("text", "listed", "original"),
    [
        ("“Hmm”, let’s see", '"Hmm", let\'s see', "“Hmm”, let’s see"),
        ("it's 'odd'", "it’s “odd”", "it's 'odd'"),
        ("well — maybe", "well - maybe", "well — maybe"),
        ("one-by-one", "one–by‑one", "one-by-one"),
        ("Wait… what", "Wait... what", "Wait… what"),
        ("Wait... what", "Wait…", "Wait..."),
        ("So,\n\n   then", "So, then", "So,\n\n   then"),
        ("So, then", "So,\n then", "So, then"),
        ("so no\u00a0doubt", "no doubt", "no\u00a0doubt"),
        ("cafe\u0301 time", "caf\u00e9", "cafe\u0301"),
        ("caf\u00e9 time", "cafe\u0301", "caf\u00e9"),
        ("a ﬁne idea", "fine", "ﬁne"),
        ("ＯＫ then", "OK", "ＯＫ"),
        ("각 then", unicodedata.normalize("NFD", "각"), "각"),
        ("OKAY THEN", "okay then", "OKAY THEN"),
        ("Die Straße", "STRASSE", "Straße"),
        ("  So, yes", "\n So, ", "So,"),
        ("So, yes", '"So,"', "So,"),
        ("So, yes", "“So,”", "So,"),
        ("say 'So,' now", "'So,'", "'So,'"),
        ("嗯，让我想想。三加四", "让我想想", "让我想想"),
        ("嗯，让我想想。三加四", "让我", "让我"),
    ],
)
def test_strings_are_found_despite_small_changes(text, listed, original):
    assert found(text, listed) == [original]


@pytest.mark.parametrize(
    ("text", "listed"),
    [
        ("Some sum", "So"),
        ("also", "so"),
        ("don't", "don"),
        ("don’t", "t"),
        ("so_far", "so"),
        ("cafe\u0301s", "cafe\u0301"),
        ("x2", "x"),
        ("Wait…", "Wait."),
        ("e\u0301", "e"),
        ("so", "so so"),
        ("well, so", "well; so"),
        ("the so-called rule", "so"),
        ("the so‐called rule", "called"),
        ("a non‑breaking one", "breaking"),
        ("a-b", "a"),
        ("3.5", "3"),
        ("3.5", "5"),
        ("1,000", "1"),
        ("1,000", "1,"),
        ("l’été", "été"),
        ("don＇t", "t"),
    ],
)
def test_a_string_is_found_as_whole_words_only(text, listed):
    assert locate(text, [listed]) == UnmatchedString(listed, elsewhere=False)


def test_the_first_unmatched_string_is_returned():
    text = "Okay, so wait, so"
    assert locate(text, ["so", "so", "so"]) == UnmatchedString("so", elsewhere=True)
    assert locate(text, ["wait,", "Okay,"]) == UnmatchedString("Okay,", elsewhere=True)
    assert locate(text, ["Okay,", "Hmm", "nor this"]) == UnmatchedString("Hmm", elsewhere=False)


@pytest.mark.parametrize("empty", [[], [""], [" \n"], ["''"], ['""', "“ ”"]])
def test_empty_strings_are_ignored(empty):
    assert places("Okay, so 3", *empty) == []
    assert places("Okay, so 3", *empty, "so") == [(6, 8)]


def test_the_same_case_is_preferred_where_the_rest_still_fits():
    assert places("Wait, and wait", "wait") == [(10, 14)]
    assert places("Wait, and wait", "wait", "wait") == [(0, 4), (10, 14)]
    assert places("Wait, and wait", "wait", "and") == [(0, 4), (6, 9)]


@pytest.mark.parametrize(
    ("text", "listed", "expected"),
    [
        ("5 - 3 — so", ["—"], [(6, 7)]),
        ("5 — 3 - so", ["-"], [(6, 7)]),
        ("5 - 3 — so", ["—", "so"], [(6, 7), (8, 10)]),
        ("5 - 3 — so", ["—", "3"], [(2, 3), (4, 5)]),  # no other place in order
        ("5 - 3 — so", ["—", "—"], [(2, 3), (6, 7)]),
        ("So, yes. so", ["so"], [(9, 11)]),
        ("it's, it’s", ["it’s"], [(6, 10)]),
        # The first string is changed, so that the two after it match verbatim.
        ("— a so - So -", ["—", "So", "-"], [(0, 1), (9, 11), (12, 13)]),
        ("Wait so wait - —", ["wait", "—"], [(8, 12), (15, 16)]),
        # Another dash changes less than another case.
        ("So — so -", ["so", "—"], [(5, 7), (8, 9)]),
    ],
)
def test_verbatim_occurrences_are_preferred(text, listed, expected):
    assert places(text, *listed) == expected


@pytest.mark.parametrize(
    ("text", "listed", "start"),
    [
        ("a-b, then a", "a", 10),
        ("so-called, so", "so", 11),
        ("3.5 and 3.", "3", 8),
        ("so-called", "so-called", 0),
        ("so — well", "so", 0),
        ("so—well", "so", 0),  # a dash separates words
        ("so - well", "well", 5),
        ("5-3", "3", 2),
        ("3, 4", "3", 0),
        ("so,wait", "wait", 3),
        ("Hmm- so", "Hmm", 0),
    ],
)
def test_word_boundaries_follow_the_script(text, listed, start):
    assert places(text, listed) == [(start, start + len(listed))]


def test_occurrences_with_quotes_are_preferred_to_those_without():
    assert places("So 'So' So", "'So'") == [(3, 7)]


def test_a_span_ends_where_the_listed_string_ends():
    assert found("But wait , no", "But wait ,") == ["But wait ,"]
    assert found("", "") == []


# ---------------------------------------------------------------- properties


@st.composite
def texts(
    draw: st.DrawFn, words_of: st.SearchStrategy[list[str]]
) -> tuple[str, list[tuple[int, int]]]:
    """Draw a text and some disjoint ascending stretches of its whole words."""
    words = draw(words_of)
    text, bounds = draw(st.sampled_from(["", " ", "\n"])), []
    for word in words:
        bounds.append((len(text), len(text) + len(word)))
        text += word + draw(SPACES)
    cuts = sorted(draw(st.sets(st.integers(0, len(words)), max_size=8)))
    stretches = list(zip(cuts[::2], cuts[1::2], strict=False))
    return text, [(bounds[a][0], bounds[b - 1][1]) for a, b in stretches]


def mangled(draw: st.DrawFn, text: str) -> str:
    pairs = [("’", "'"), ("“", '"'), ("”", '"'), ("—", "-"), ("–", "-"), ("…", "..."), ("'", "‘")]
    for old, new in draw(st.lists(st.sampled_from(pairs), unique=True)):
        text = text.replace(old, new)
    text = draw(st.sampled_from(FORMS))(text)
    if draw(st.booleans()):
        text = draw(SPACES).join(text.split())
    if draw(st.integers(0, 3)) == 0:
        text = draw(st.sampled_from([str.upper, str.lower, str.title]))(text)
    wrap = draw(st.sampled_from(["", "", " ", "\n", '"', "'"]))
    return wrap + text + wrap


def level(text: str) -> str:
    return normalize(unicodedata.normalize("NFKD", normalize(text.strip()).casefold())).strip("' ")


@given(st.data())
def test_stretches_of_a_text_are_found_however_they_are_mangled(data):
    text, stretches = data.draw(texts(st.lists(WORDS, max_size=14)))
    listed = [mangled(data.draw, text[start:end]) for start, end in stretches]
    # A string of only quotes and dots may be empty, or be in quotes.
    spans = locate(text, listed)
    assert not isinstance(spans, UnmatchedString), spans
    kept = [string for string in listed if normalize(string).strip(" '")]
    assert [level(text[span.start : span.end]) for span in spans] == list(map(level, kept))
    for span in spans:
        assert text[span.start : span.end] == text[span.start : span.end].strip()
    for before, after in pairwise(spans):
        assert before.end <= after.start


@given(texts(st.lists(st.sampled_from(PLAIN_WORDS), unique=True)))
def test_a_unique_occurrence_is_found(drawn):
    text, stretches = drawn
    assert places(text, *(text[start:end] for start, end in stretches)) == stretches


@given(
    st.lists(st.sampled_from(["a", "A", "b", "'a'"]), max_size=7),
    st.lists(st.sampled_from(["a", "A", "b", "a b", "'a'", "b 'a'", "'b'"]), max_size=4),
)
def test_a_placement_is_found_exactly_if_there_is_one(words, listed):
    text = " ".join(words)
    bounds, at = [], 0
    for word in words:
        # Quotes may stay outside.
        bounds += [(at, at + len(word))] + ([(at + 1, at + 2)] if "'" in word else [])
        at += len(word) + 1
    edges = sorted({edge for pair in bounds for edge in pair})
    stretches = list(combinations(edges, 2))

    def fits(start: int, end: int, string: str) -> bool:
        whole = text[start:end].casefold()
        occurs = any(text[a:b].casefold() == string.casefold() for a, b in stretches)
        bare = string.casefold()
        if not occurs and len(string) > 2 and string[0] == string[-1] == "'":
            bare = bare[1:-1]
        return whole == bare

    def possible(rest: list[str], position: int) -> bool:
        if not rest:
            return True
        return any(
            start >= position and fits(start, end, rest[0]) and possible(rest[1:], end)
            for start, end in stretches
        )

    spans = locate(text, listed)
    assert isinstance(spans, UnmatchedString) == (not possible(listed, 0))
    if not isinstance(spans, UnmatchedString):
        position = 0
        for span, string in zip(spans, listed, strict=True):
            assert span.start >= position
            assert fits(span.start, span.end, string)
            position = span.end


@given(
    st.lists(st.sampled_from(["a", "A", "-", "—", "a-b", "3.5", "3"]), max_size=8),
    st.lists(st.sampled_from(["a", "A", "-", "—", "a—b", "b", "3"]), max_size=4),
)
def test_the_placement_has_the_fewest_changes_and_is_the_earliest_of_these(words, listed):
    text = " ".join(words)
    starts = [sum(len(word) + 1 for word in words[:n]) for n in range(len(words))]

    def changes(word: str, string: str) -> int | None:
        if word == string:
            return 0
        if normalize(word) == normalize(string):
            return 1
        return 2 if normalize(word).casefold() == normalize(string).casefold() else None

    possible = []
    for chosen in combinations(range(len(words)), len(listed)):
        costs = [changes(words[n], string) for n, string in zip(chosen, listed, strict=True)]
        if None not in costs:
            possible.append((sum(filter(None, costs)), chosen))
    spans = locate(text, listed)
    if isinstance(spans, UnmatchedString):
        assert not possible
    else:
        _, best = min(possible)
        assert [span.start for span in spans] == [starts[n] for n in best]


@given(st.text(max_size=60), st.lists(st.text(max_size=8), max_size=4))
def test_any_text_and_list_give_spans_or_an_unmatched_string(text, listed):
    spans = locate(text, listed)
    if isinstance(spans, UnmatchedString):
        assert spans.string in listed
        return
    position = 0
    for span in spans:
        assert isinstance(span, StyleSpan)
        assert position <= span.start < span.end <= len(text)
        position = span.end

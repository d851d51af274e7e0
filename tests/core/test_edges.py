from __future__ import annotations

from itertools import pairwise

import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st

from tessy.core.edges import (
    _FROM_THE_END,
    EdgeCursor,
    cursor_before,
    edges,
    edges_settled_by,
    hard_edges,
    last_unit,
    settled_edges,
    units,
)
from tests.families.patterns import PRE_TOKENIZERS

PIECES = st.sampled_from(
    ["Wait,", " so", " x=3", "\n", "\n\n", "  ", " ", "\t", "/", "中文字", "é", "e\u0301", "👨‍👩‍👧",
     "🇩🇪",
     "\\frac{a}{b}", "don't", "3.14", "a" * 30, "1,000", ".", "“", "\u200d", "\u00a0", "\r\n"]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=30).map("".join) | st.text(max_size=120)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Okay, let's see.", ["Okay,", " let's", " see."]),
        ("see.\n\nWe have", ["see.\n\n", "We", " have"]),
        ("a  b", ["a  b"]),  # two spaces: no edge
        ("x\n /y", ["x\n /y"]),  # white space ends in a space, not in a newline
        ("x\n/y z", ["x\n/y", " z"]),  # o200k joins a slash to the newline
        ("a\tb", ["a\tb"]),
        ("", []),
        (" a b", [" a", " b"]),
        ("中文", ["中文"]),  # short: no edges between Chinese words
        ("。".join(["好的"] * 20)[:45], list("。".join(["好的"] * 20)[:45])),
        ("x" * 41 + "+y", ["x" * 41, "+", "y"]),
        ("x" * 38 + "+y", ["x" * 38 + "+y"]),  # 40 characters are not more than 40
    ],
)
def test_units_of_given_texts(text, expected):
    assert units(text) == expected


@given(TEXTS)
def test_units_tile_the_text(text):
    assert "".join(units(text)) == text


@given(TEXTS, TEXTS)
def test_settled_edges_do_not_move_when_text_is_appended(prefix, more):
    settled = edges(prefix, final=False)
    whole = edges(prefix + more)
    assert [edge for edge in whole if edge <= max(settled, default=0)] == settled


@given(st.lists(PIECES | st.text(max_size=8), max_size=30))
@example(["Wait,"] * 7 + ["0000A.", "é"])  # an edge before a word that seemed complete
def test_a_growing_text_yields_each_edge_once(parts):
    text, cursor = "", EdgeCursor(0)
    found: list[int] = []
    for part in parts:
        text += part
        new, cursor = settled_edges(text[cursor.offset :], cursor)
        found += new
        settled = edges(text, final=False)
        assert found[: len(settled)] == settled
        assert found == edges(text)[: len(found)]
    new, _ = settled_edges(text[cursor.offset :], cursor, final=True)
    assert found + new == edges(text)


@given(st.lists(PIECES | st.text(max_size=8), max_size=30))
@example([" \ta", " b", " \u00a0c"])
@example(["a", " b", " c", " " + "d" * 37, "e", " f"])  # 40 characters, then 41
def test_edges_settled_by_a_token_agree_with_a_search(parts):
    text, cursor = "x", EdgeCursor(0)
    for part in parts:
        found = edges_settled_by(part, cursor, len(text), text[-1]) if part else ()
        text += part
        new, moved = settled_edges(text[cursor.offset :], cursor)
        if found is not None:
            assert list(found) == new
            assert not part or not moved.long
        cursor = moved


def test_plain_words_need_no_search():
    text, cursor = "x", EdgeCursor(0)
    plain = 0
    for part in [" so", " x=3", ",", " but", "\n", " then"] * 5:
        plain += edges_settled_by(part, cursor, len(text), text[-1]) is not None
        text += part
        _, cursor = settled_edges(text[cursor.offset :], cursor)
    assert plain == 20  # of 30: a line break and the token after it need a search


@given(TEXTS)
def test_edges_in_white_space_are_as_defined(text):
    for edge in edges(text)[:-1]:
        before, after = text[edge - 1], text[edge]
        assert not after.isspace() or (after == " " and not before.isspace())
        assert not before.isspace() or before == "\n"


@given(TEXTS, TEXTS, TEXTS)
def test_a_search_from_a_cursor_finds_the_same_edges(one, two, three):
    text = one + two
    cursor = cursor_before(text, cursor_before(text, EdgeCursor(0), len(one)), len(text))
    assert cursor.offset < max(len(text), 1)
    whole = [edge for edge in edges(text + three) if edge > cursor.offset]
    local = edges((text + three)[cursor.offset :], long=cursor.long)
    assert [cursor.offset + edge for edge in local] == whole


@given(TEXTS | st.lists(PIECES, min_size=30, max_size=80).map("".join))
def test_the_last_unit_is_found_from_the_end(text):
    assert last_unit(text) == len(text) - len("".join(units(text)[-1:]))


def test_both_searches_have_the_same_white_space():
    """Every character next to a space and after a line break."""
    pattern = regex.compile(r"(?<=\S) (?=\S)|(?<=\n)(?=[^\s/])")
    text = "".join(f"{chr(c)} {chr(c)}\n" for c in range(0x110000) if not 0xD800 <= c < 0xE000)
    expected = [match.start() for match in pattern.finditer(text)]
    assert hard_edges(text) == expected
    backwards = [match.start() for match in _FROM_THE_END.finditer(text)]
    assert backwards[::-1] == expected


@pytest.mark.parametrize("family", PRE_TOKENIZERS)
@given(text=TEXTS)
def test_hard_edges_are_split_points_of_every_family(family, text):
    """Edges of the kinds (a) and (b) are split points of every family's pre-tokenizer."""
    splits = {0, len(text)}
    pieces = [(0, text)]
    for pattern in PRE_TOKENIZERS[family]:
        pieces = [
            (start + inner, piece[inner:end])
            for start, piece in pieces
            for inner, end in cut_points(pattern, piece)
        ]
        splits |= {start for start, _ in pieces}
    assert set(hard_edges(text)) <= splits


def cut_points(pattern, piece):
    """Bounds of matches and of the text between them, as a pre-tokenizer isolates them."""
    bounds = {0, len(piece)}
    for match in regex.finditer(pattern, piece):
        bounds |= {match.start(), match.end()}
    return pairwise(sorted(bounds))


@pytest.mark.parametrize("length", range(38, 45))
@pytest.mark.parametrize("end", [" ", "-", "x"])
@pytest.mark.parametrize("more", ["b", "b c", "/", ""])
def test_a_cursor_before_a_stretch_of_about_40_characters_finds_all_edges(length, end, more):
    text = ("ab-" * 20)[: length - 1] + end
    cursor = cursor_before(text, EdgeCursor(0), len(text))
    whole = text + more
    found = [cursor.offset + edge for edge in edges(whole[cursor.offset :], long=cursor.long)]
    assert found == [edge for edge in edges(whole) if edge > cursor.offset]

from hypothesis import given
from hypothesis import strategies as st

from tessy.boundary.classifier.window import TokenizedText, WindowRule
from tessy.core.edges import units
from tests.support.tiny_bpe import WORDS, codec

RULE = WindowRule(limit=24, keep=9)
PIECES = st.lists(st.sampled_from(WORDS), max_size=40)
JOINS = st.sampled_from([" ", "", "\n", "  \n "])


OFFSETS = st.integers(0, 300)


@given(PIECES, JOINS, st.lists(st.tuples(OFFSETS, PIECES, OFFSETS | st.none()), max_size=5))
def test_tokenization_does_not_depend_on_the_update_steps(pieces, join, cuts):
    tokenized = TokenizedText(codec(), RULE)
    text = kept = ""
    for cut, more, parted in [(0, pieces, None), *cuts]:
        text = text[:cut] + join.join(more)
        if parted is not None or not text.startswith(kept):  # else it stays the same object
            kept = text[: parted or 0]
        tokenized.update(kept, text[len(kept) :])
        expected = TokenizedText(codec(), RULE)
        expected.update(text)
        assert tokenized.ids == expected.ids
        assert tokenized._anchors == expected._anchors
        assert tokenized._bounds == expected._bounds
        for first in range(len(expected.ids) + 1):
            assert tokenized.windows(first) == expected.windows(first)


@given(pieces=PIECES, join=JOINS)
def test_ids_are_those_of_the_units_and_windows_follow_their_rule(pieces, join):
    text = join.join(pieces)
    tokenized = TokenizedText(codec(), RULE)
    tokenized.update(text)
    encoded = [codec().encode(unit)[: RULE.piece_tokens] for unit in units(text)]
    assert tokenized.ids == [token for piece in encoded for token in piece]
    windows = tokenized.windows(0)
    assert [w.end for w in windows] == sorted({w.end for w in windows})
    assert (windows[-1].end if windows else 0) == len(tokenized.ids)
    starts = {0, *(sum(map(len, encoded[:i])) for i in range(len(encoded)))}
    for i, window in enumerate(windows):
        assert window.start in starts  # windows start at edges
        assert window.end - window.start <= RULE.limit
        scored_before = windows[i - 1].end if i else 1
        assert window.start < scored_before  # a token precedes each token that it scores


@given(pieces=PIECES)
def test_anchors_stay_when_the_text_grows(pieces):
    """Only the last piece may change with what follows; anchors before it are settled."""
    whole = TokenizedText(codec(), RULE)
    whole.update(" ".join(pieces))
    text = " ".join(pieces[:-1])
    part = TokenizedText(codec(), RULE)
    part.update(text)
    ends = [end for end in part._ends if end in whole._ends]
    for end in ends:
        i, j = part._ends.index(end), whole._ends.index(end)
        if part._ends[: i + 1] == whole._ends[: j + 1]:
            assert part._anchors[i] == whole._anchors[j]


def test_a_unit_may_be_any_stretch_of_text():
    tokenized = TokenizedText(codec(), WindowRule())
    text = "Okay, wait 好的 hmm"
    tokenized.update(text)
    encoded = text.encode()
    begins = [0]
    for token in tokenized.ids:
        begins.append(begins[-1] + len(codec().token_bytes(token)))
    for start in range(len(text)):
        for end in range(start + 1, len(text) + 1):
            low, high = len(text[:start].encode()), len(text[:end].encode())
            first, last = tokenized.token_range(start, end)
            inside = [i for i, begin in enumerate(begins[:-1]) if low <= begin < high]
            if inside:
                assert list(range(first, last)) == inside
            else:  # the token around it
                assert last == first + 1
                assert begins[first] <= low < begins[last]
    assert begins[-1] == len(encoded)


def test_a_long_word_is_truncated():
    tokenized = TokenizedText(codec(), RULE)
    tokenized.update("so " + "x" * 39 + " then " + "y" * 39)
    assert all(w.end - w.start <= RULE.limit for w in tokenized.windows(0))


@given(pieces=PIECES, keep=st.integers(2, 12))
def test_sliding_windows_are_the_last_tokens_and_leave_none_out(pieces, keep):
    tokenized = TokenizedText(codec(), WindowRule(limit=24, keep=keep, sliding=True))
    tokenized.update(" ".join(pieces))
    total = len(tokenized.ids)
    anchored = TokenizedText(codec(), RULE)
    anchored.update(" ".join(pieces))
    assert tokenized.ids == anchored.ids
    for first in range(total + 1):
        windows = tokenized.windows(first)
        if not total:
            assert windows == []
            continue
        assert windows[-1] == (max(0, total - keep), total)
        assert all(w.end - w.start <= keep for w in windows)
        assert len(windows) == 1 or windows[1].start >= first  # no more than needed
        for token in range(max(1, first), total):
            assert any(w.start < token < w.end for w in windows)


def test_sliding_windows_fit_the_model():
    assert WindowRule().as_sliding() == WindowRule(512, 200, sliding=True)
    assert WindowRule(64, 25).as_sliding() == WindowRule(64, 64, sliding=True)

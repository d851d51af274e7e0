from hypothesis import given
from hypothesis import strategies as st

from tessy.boundary.classifier.window import TokenizedText, WindowRule
from tessy.core.edges import units
from tests.support.tiny_bpe import WORDS, codec

RULE = WindowRule(limit=24, keep=9)
PIECES = st.lists(st.sampled_from(WORDS), max_size=40)
JOINS = st.sampled_from([" ", "", "\n", "  \n "])


PLACES = st.integers(0, 300)


@given(PIECES, JOINS, st.lists(st.tuples(PLACES, PIECES, PLACES | st.none()), max_size=5))
def test_a_reading_does_not_depend_on_the_steps_it_came_in(pieces, join, cuts):
    reading = TokenizedText(codec(), RULE)
    text = kept = ""
    for cut, more, parted in [(0, pieces, None), *cuts]:
        text = text[:cut] + join.join(more)
        if parted is not None or not text.startswith(kept):  # else it stays the same object
            kept = text[: parted or 0]
        reading.read(kept, text[len(kept) :])
        fresh = TokenizedText(codec(), RULE)
        fresh.read(text)
        assert reading.ids == fresh.ids
        assert reading._anchors == fresh._anchors
        assert reading._bounds == fresh._bounds
        for first in range(len(fresh.ids) + 1):
            assert reading.windows(first) == fresh.windows(first)


@given(pieces=PIECES, join=JOINS)
def test_ids_are_the_units_encoded_one_by_one_and_windows_keep_their_rule(pieces, join):
    text = join.join(pieces)
    reading = TokenizedText(codec(), RULE)
    reading.read(text)
    encoded = [codec().encode(unit)[: RULE.piece_tokens] for unit in units(text)]
    assert reading.ids == [token for piece in encoded for token in piece]
    windows = reading.windows(0)
    assert [w.end for w in windows] == sorted({w.end for w in windows})
    assert (windows[-1].end if windows else 0) == len(reading.ids)
    starts = {0, *(sum(map(len, encoded[:i])) for i in range(len(encoded)))}
    for i, window in enumerate(windows):
        assert window.start in starts  # windows start at edges
        assert window.end - window.start <= RULE.limit
        said_before = windows[i - 1].end if i else 1
        assert window.start < said_before  # something comes before each token it speaks of


@given(pieces=PIECES)
def test_anchors_stay_when_the_text_grows(pieces):
    """Only the last piece may change with what follows; anchors before it are settled."""
    whole = TokenizedText(codec(), RULE)
    whole.read(" ".join(pieces))
    text = " ".join(pieces[:-1])
    part = TokenizedText(codec(), RULE)
    part.read(text)
    ends = [end for end in part._ends if end in whole._ends]
    for end in ends:
        i, j = part._ends.index(end), whole._ends.index(end)
        if part._ends[: i + 1] == whole._ends[: j + 1]:
            assert part._anchors[i] == whole._anchors[j]


def test_a_unit_may_be_any_stretch_of_text():
    reading = TokenizedText(codec(), WindowRule())
    text = "Okay, wait 好的 hmm"
    reading.read(text)
    encoded = text.encode()
    begins = [0]
    for token in reading.ids:
        begins.append(begins[-1] + len(codec().token_bytes(token)))
    for start in range(len(text)):
        for end in range(start + 1, len(text) + 1):
            low, high = len(text[:start].encode()), len(text[:end].encode())
            first, last = reading.tokens_of(start, end)
            inside = [i for i, begin in enumerate(begins[:-1]) if low <= begin < high]
            if inside:
                assert list(range(first, last)) == inside
            else:  # the token around it
                assert last == first + 1
                assert begins[first] <= low < begins[last]
    assert begins[-1] == len(encoded)


def test_an_endless_word_is_cut():
    reading = TokenizedText(codec(), RULE)
    reading.read("so " + "x" * 39 + " then " + "y" * 39)
    assert all(w.end - w.start <= RULE.limit for w in reading.windows(0))


@given(pieces=PIECES, keep=st.integers(2, 12))
def test_sliding_windows_are_the_last_tokens_and_leave_none_out(pieces, keep):
    reading = TokenizedText(codec(), WindowRule(limit=24, keep=keep, sliding=True))
    reading.read(" ".join(pieces))
    total = len(reading.ids)
    anchored = TokenizedText(codec(), RULE)
    anchored.read(" ".join(pieces))
    assert reading.ids == anchored.ids
    for first in range(total + 1):
        windows = reading.windows(first)
        if not total:
            assert windows == []
            continue
        assert windows[-1] == (max(0, total - keep), total)
        assert all(w.end - w.start <= keep for w in windows)
        assert len(windows) == 1 or windows[1].start >= first  # no more than needed
        for token in range(max(1, first), total):
            assert any(w.start < token < w.end for w in windows)


def test_the_released_windows_fit_into_the_model():
    assert WindowRule().slide() == WindowRule(512, 200, sliding=True)
    assert WindowRule(64, 25).slide() == WindowRule(64, 64, sliding=True)

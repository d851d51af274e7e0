"""Segments are disjoint whole words, drawn evenly, and stable when responses are added."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tessy.boundary.annotation.segments import (
    TextSegment,
    draw_segments,
    segments_of,
    split_stretches,
    words,
)
from tessy.core.edges import units
from tessy.core.records import Trajectory
from tests.support.rows import row

TEXTS = st.text(alphabet=st.sampled_from("ab,.\n \t嗯让é😀"), max_size=300)
KEYS = st.tuples(st.text("ab", max_size=3), st.integers(0, 3))
SIZES = st.integers(1, 12)


def response(key: tuple[str, int], thinking: str) -> Trajectory:
    return row().model_copy(update={"id": key[0], "sample": key[1], "thinking": thinking})


def draw(responses: list[Trajectory], **options: int) -> list[TextSegment]:
    return draw_segments(
        responses, **{"size": 5, "per_response": 100, "total": 10_000, "seed": 1, **options}
    )


def numbered(count: int) -> str:
    return " ".join(map(str, range(count)))


RESPONSES = st.dictionaries(KEYS, TEXTS, max_size=6).map(
    lambda found: [response(key, text) for key, text in found.items()]
)


@given(TEXTS)
def test_words_are_the_text_without_its_spaces(text):
    bounds = words(text)
    assert "".join(text[a:b] for a, b in bounds) == "".join(text.split())
    assert all(a < b for a, b in bounds)
    assert all(before[1] <= after[0] for before, after in pairwise(bounds))


def test_a_run_without_spaces_is_cut_where_authors_could_take_turns():
    chinese = "让我想一想这个问题到底应该怎么做，" * 4
    assert [chinese[a:b] for a, b in words(chinese)] == units(chinese)
    assert len(words(chinese)) > 20
    assert words("b" * 40 + " " + "嗯" * 40) == [(0, 40), (41, 81)]


@given(TEXTS, SIZES, st.integers(0, 99), KEYS)
def test_segments_are_whole_words_apart_and_long_enough(text, size, seed, key):
    segments = list(segments_of(response(key, text), size=size, seed=seed))
    starts, ends = ({bounds[i] for bounds in words(text)} for i in (0, 1))
    assert [segment.segment for segment in segments] == list(range(len(segments)))
    whole = 0
    position = 0
    for segment in sorted(segments, key=lambda segment: segment.start):
        end = segment.start + len(segment.text)
        assert segment.text == text[segment.start : end]
        assert segment.start in starts
        assert end in ends
        assert segment.start >= position
        position = end
        count = sum(segment.start <= a < end for a, _ in words(text))
        assert size >= count
        assert 2 * count >= size or len(words(text)) < size
        whole += count == size
    if words(text):
        assert segments
        assert whole == 1 if len(words(text)) == size else True
        assert whole >= (len(words(text)) >= size)


@given(TEXTS, SIZES, st.integers(0, 99))
def test_remainders_of_half_a_segment_are_kept(text, size, seed):
    total = len(words(text))
    kept = sum(
        sum(start <= a < end for a, _ in words(text))
        for start, end in split_stretches(text, size, random.Random(seed))
    )
    assert kept >= total - 2 * ((size - 1) // 2)


def test_a_short_thinking_is_one_segment():
    (segment,) = draw([response(("q", 0), "\n Okay, so \n\n 7. ")])
    assert (segment.start, segment.text, segment.segment) == (2, "Okay, so \n\n 7.", 0)
    assert draw([response(("q", 0), " \n")]) == []


def test_segment_starts_differ_between_responses_and_seeds():
    first = {draw([response((str(n), 0), numbered(200))])[0].start for n in range(20)}
    assert len(first) > 10
    phases = {
        min(s.start for s in draw([response(("q", 0), numbered(200))], seed=n)) for n in range(20)
    }
    assert len(phases) > 2


def test_segments_are_drawn_evenly():
    long, short = response(("long", 0), numbered(500)), response(("short", 0), numbered(20))
    drawn = draw([long, short], total=6)
    assert Counter(segment.id for segment in drawn) == {"long": 3, "short": 3}
    drawn = draw([long, short], total=20)
    assert Counter(segment.id for segment in drawn)["short"] in (4, 5)
    assert len(drawn) == 20
    drawn = draw([long, short], per_response=2)
    assert Counter(segment.id for segment in drawn) == {"long": 2, "short": 2}


@given(RESPONSES, st.integers(1, 30), st.integers(1, 6), st.randoms())
def test_the_order_of_responses_does_not_matter(responses, total, per_response, shuffler):
    drawn = draw(responses, total=total, per_response=per_response)
    shuffled = list(responses)
    shuffler.shuffle(shuffled)
    assert draw(shuffled, total=total, per_response=per_response) == drawn
    assert len({segment.key for segment in drawn}) == len(drawn) <= total
    counts = Counter((segment.id, segment.sample) for segment in drawn)
    assert all(count <= per_response for count in counts.values())


@given(RESPONSES, RESPONSES, st.integers(1, 30))
def test_added_responses_only_displace_the_last_segments_drawn(before, added, total):
    keys = {item.key for item in before}
    later = [item for item in added if item.key not in keys]
    first, second = draw(before, total=total), draw(before + later, total=total)
    kept = [segment for segment in second if (segment.id, segment.sample) in keys]
    assert kept == first[: len(kept)]


@given(RESPONSES, st.integers(1, 30), st.integers(0, 30))
def test_a_larger_total_extends_the_drawn_segments(responses, total, more):
    assert draw(responses, total=total + more)[:total] == draw(responses, total=total)

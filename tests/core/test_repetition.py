from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessy.core.errors import SampleFailed
from tessy.core.repetition import RepetitionMonitor, find_loop

PHRASE = "so we try the next one"


@pytest.mark.parametrize("cut", range(0, 24, 5))
def test_a_repeated_phrase_is_a_loop_wherever_the_text_stops(cut):
    text = f"Okay, let's see. {' '.join([PHRASE] * 12)}"
    found = find_loop(text[: len(text) - cut])
    assert found is not None
    assert sorted(found.split()) == sorted(PHRASE.split())


def test_seven_repeats_are_not_a_loop():
    before = " ".join(f"word{n}" for n in range(10))
    assert find_loop(f"{before} {' '.join([PHRASE] * 7)} x") is None
    assert find_loop(f"{before} {' '.join([PHRASE] * 8)} x") is not None


def test_only_the_last_thousand_characters_are_searched():
    phrase = " ".join(f"w{n}" for n in range(10, 40))  # of 119 characters
    assert find_loop(f"{phrase} " * 8 + "x") is not None
    assert find_loop(f"{phrase}0000000 " * 20) is None


@pytest.mark.parametrize("piece", ["好好学习", "ab", "\\frac{1}{2}+"])
def test_loops_without_spaces_are_found(piece):
    assert find_loop("Okay: " + piece * 300) is not None


@pytest.mark.parametrize("text", ["", "word", "-" * 80, "| a | b | c | d |\n|---|---|---|---|\n"])
def test_ordinary_text_is_not_a_loop(text):
    assert find_loop(text) is None


def test_a_loop_before_the_end_is_ignored():
    assert find_loop(" ".join([PHRASE] * 20) + " but here it goes on with other words") is None


@given(st.lists(st.sampled_from("abcdefgh"), min_size=8, max_size=60), st.integers(9, 20))
def test_eight_repeats_of_up_to_fifty_words_are_found(letters, times):
    phrase = " ".join(f"{letter}{i}" for i, letter in enumerate(letters[:50]))
    text = "start " + " ".join([phrase] * times)
    if len(phrase) * 8 + 60 < 1000:
        assert find_loop(text + " ") is not None


def test_a_growing_text_is_checked_every_hundred_characters():
    monitor = RepetitionMonitor("thinking")
    loop = f"{PHRASE} " * 12
    monitor.check(loop[:99])
    assert monitor.checked == 0
    with pytest.raises(SampleFailed, match=f"the thinking repeats '.*{PHRASE[:2]}"):
        monitor.check(loop[:150], loop[150:])
    assert monitor.checked == len(loop)
    monitor.check(loop, loop[:99])  # too little is new
    with pytest.raises(SampleFailed, match="repeats"):
        monitor.check(loop, loop[:101])
    RepetitionMonitor("answer", len(loop)).check(loop)


def test_a_long_draft_of_white_space_is_a_loop():
    monitor = RepetitionMonitor("thinking", 600)
    blank = "\n \t" * 133
    monitor.check("Okay.", blank + " ")
    monitor.check("Okay.", blank + "  x")
    with pytest.raises(SampleFailed, match="401 characters of white space"):
        monitor.check("Okay.", blank + "  ")

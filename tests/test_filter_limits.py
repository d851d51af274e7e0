"""The rules of ``tessy filter`` exactly at their limits."""

from __future__ import annotations

import pytest

from tessy.filtering import texts
from tessy.filtering.duplicates import SHORT_WORDS, SIMILARITY
from tessy.filtering.language import FOREIGN_SHARE, FOREIGN_WORDS, language_switch, shares
from tessy.filtering.words import grams, words
from tests.rows import row
from tests.test_filter_similar import Kept, asked

ENGLISH = "How many rocks are left?"


def numbered(count: int, name: str = "word") -> list[str]:
    return [f"{name}{number}" for number in range(count)]


@pytest.mark.parametrize("answer", [r"So x = 3 \].", r"So x = 3 \).", r"\[ x \] and y \]."])
def test_a_formula_closed_once_too_often_is_not_truncated(answer: str) -> None:
    assert texts.truncated(answer) is None


def mixed(foreign: int, total: int) -> str:
    """``total`` words, of which ``foreign`` are Chinese."""
    text = " ".join(["word"] * (total - foreign) + ["石"] * foreign)
    assert shares(text)[1] == total
    return text


@pytest.mark.parametrize("total", [10, 50, 77, 154, 199])
def test_ten_words_of_another_script_are_a_switch_and_nine_are_none(total: int) -> None:
    assert FOREIGN_WORDS == 10
    assert language_switch(ENGLISH, mixed(10, total)) is not None
    assert language_switch(ENGLISH, mixed(9, total)) is None


def test_a_twentieth_of_the_words_is_a_switch_and_less_is_none() -> None:
    assert FOREIGN_SHARE == 0.05
    assert language_switch(ENGLISH, mixed(50, 1000)) is not None
    assert language_switch(ENGLISH, mixed(49, 1000)) is None


@pytest.mark.parametrize(("latin", "switched"), [(9, False), (10, True)])
def test_ten_latin_words_are_a_switch_from_a_question_without_any(latin, switched) -> None:
    said = " ".join(["石"] * 5 + ["word"] * latin)
    assert (language_switch("还剩下多少块石头？", said) is not None) == switched


@pytest.mark.parametrize(("latin", "switched"), [(74, False), (75, True), (76, True)])
def test_a_script_of_the_question_is_a_switch_from_halfway_on(latin, switched) -> None:
    question = "word 石 头 块"
    assert shares(question)[0]["Latin"] == 0.25  # halfway to all the words: 62.5 %
    said = " ".join(["石"] * 45 + ["word"] * latin)
    assert (language_switch(question, said) is not None) == switched


@pytest.mark.parametrize(("length", "found"), [(44, False), (45, True), (46, True)])
def test_texts_that_share_four_fifths_of_their_runs_are_duplicates(length, found) -> None:
    # Five words changed at the end change the last five runs.
    same = numbered(length - 1)
    first, second = ([*same, *numbered(5, other)] for other in ("x", "y"))
    one, two = (grams(text, 5) for text in (first, second))
    assert (len(one & two) / len(one | two) >= SIMILARITY) == found
    if length == 45:
        assert len(one & two) / len(one | two) == SIMILARITY
    kept = Kept()
    kept.keep(row("a", thinking=" ".join(first), answer=""))
    assert (kept.known.find(row("b", thinking=" ".join(second), answer="")) is not None) == found


@pytest.mark.parametrize(("length", "found"), [(29, False), (30, True)])
def test_texts_of_thirty_words_are_compared_across_questions(length: int, found: bool) -> None:
    assert SHORT_WORDS == 30
    thinking = " ".join(numbered(length - 1))  # the answer, 4, is the last word
    first, second = (asked(question, thinking=thinking) for question in ("2 + 2?", "1 + 3?"))
    assert len(words(f"{first.thinking}\n{first.answer}")) == length
    kept = Kept()
    kept.keep(first)
    assert (kept.known.find(second) is not None) == found

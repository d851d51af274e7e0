"""Rules of ``tessy filter`` at their limits."""

from __future__ import annotations

import pytest

from tessy.core.repetition import find_any_loop
from tessy.data.filter.rules.in_evaluation import FEWEST_GRAMS, EvaluationProblems
from tessy.data.filter.rules.language import FOREIGN_SHARE, FOREIGN_WORDS, language_switch, shares
from tessy.data.filter.rules.near_duplicate import SHORT_WORDS, SIMILARITY
from tessy.data.filter.rules.truncated import truncated
from tessy.data.filter.words import grams, words
from tests.data.filter.test_similar import KeptRows, problem_row
from tests.support.rows import row

ENGLISH = "How many rocks are left?"


def numbered(count: int, name: str = "word") -> list[str]:
    return [f"{name}{number}" for number in range(count)]


@pytest.mark.parametrize("answer", [r"So x = 3 \].", r"So x = 3 \).", r"\[ x \] and y \]."])
def test_an_extra_closing_bracket_is_not_truncated(answer: str) -> None:
    assert truncated(answer) is None


def mixed(foreign: int, total: int) -> str:
    """Return ``total`` words, of which ``foreign`` are Chinese."""
    text = " ".join(["word"] * (total - foreign) + ["石"] * foreign)
    assert shares(text)[1] == total
    return text


@pytest.mark.parametrize("total", [10, 50, 77, 154, 199])
def test_ten_words_of_another_script_are_a_switch_and_nine_are_not(total: int) -> None:
    assert FOREIGN_WORDS == 10
    assert language_switch(ENGLISH, mixed(10, total)) is not None
    assert language_switch(ENGLISH, mixed(9, total)) is None


def test_five_percent_of_the_words_are_a_switch_and_fewer_are_not() -> None:
    assert FOREIGN_SHARE == 0.05
    assert language_switch(ENGLISH, mixed(50, 1000)) is not None
    assert language_switch(ENGLISH, mixed(49, 1000)) is None


@pytest.mark.parametrize(("latin", "switched"), [(9, False), (10, True)])
def test_ten_latin_words_are_a_switch_from_a_problem_without_any(latin, switched) -> None:
    text = " ".join(["石"] * 5 + ["word"] * latin)
    assert (language_switch("还剩下多少块石头？", text) is not None) == switched


@pytest.mark.parametrize(("latin", "switched"), [(74, False), (75, True), (76, True)])
def test_a_script_of_the_problem_is_a_switch_from_halfway_on(latin, switched) -> None:
    problem = "word 石 头 块"
    assert shares(problem)[0]["Latin"] == 0.25  # halfway to 100 %: 62.5 %
    text = " ".join(["石"] * 45 + ["word"] * latin)
    assert (language_switch(problem, text) is not None) == switched


@pytest.mark.parametrize(("length", "found"), [(44, False), (45, True), (46, True)])
def test_texts_that_share_80_percent_of_their_grams_are_duplicates(length, found) -> None:
    # Five other words at the end change the last five 5-grams.
    same = numbered(length - 1)
    first, second = ([*same, *numbered(5, other)] for other in ("x", "y"))
    one, two = (grams(text, 5) for text in (first, second))
    assert (len(one & two) / len(one | two) >= SIMILARITY) == found
    if length == 45:
        assert len(one & two) / len(one | two) == SIMILARITY
    kept = KeptRows()
    kept.keep(row("a", thinking=" ".join(first), answer=""))
    assert (kept.known.find(row("b", thinking=" ".join(second), answer="")) is not None) == found


@pytest.mark.parametrize(("length", "found"), [(29, False), (30, True)])
def test_texts_of_thirty_words_are_compared_across_problems(length: int, found: bool) -> None:
    assert SHORT_WORDS == 30
    thinking = " ".join(numbered(length - 1))  # the answer, 4, is the last word
    first, second = (problem_row(problem, thinking=thinking) for problem in ("2 + 2?", "1 + 3?"))
    assert len(words(f"{first.thinking}\n{first.answer}")) == length
    kept = KeptRows()
    kept.keep(first)
    assert (kept.known.find(second) is not None) == found


LINE = "Then add the numbers of both rows and get the same sum."
SHORT_LINE = "Add the numbers of both rows and get the same sum."


@pytest.mark.parametrize(
    ("lines", "last", "found"),
    [
        ([LINE] * 3, "Then we add what is left over and see it fits", False),  # 11 words
        ([LINE] * 3, "Then we add what is left over and see that it fits", True),
        ([LINE] * 2, "Then we add what is left over and see that it fits", False),
        ([SHORT_LINE] * 3, "Then we add what is left over and see that it fits", False),
    ],
)
def test_twelve_words_without_a_full_stop_are_truncated_after_three_lines(
    lines: list[str], last: str, found: bool
) -> None:
    assert (truncated("\n".join([*lines, last])) is not None) == found


@pytest.mark.parametrize("before", range(20))
def test_the_outer_words_of_a_loop_may_be_joined_to_others(before: int) -> None:
    def text(times: int) -> str:
        joined = "x" + " ".join(numbered(3) * times) + "x"
        return " ".join([*numbered(before, "before"), joined, *numbered(5, "after")])

    assert find_any_loop(text(8)) is not None
    assert find_any_loop(text(7)) is None


@pytest.mark.parametrize(
    ("piece", "times", "found"), [(50, 8, True), (51, 8, False), (51, 20, False), (40, 10, True)]
)
def test_a_piece_of_fifty_characters_repeated_is_a_loop(piece, times, found) -> None:
    text = "".join(chr(0x100 + number) for number in range(piece)) * times
    assert (find_any_loop(text) is not None) == found
    assert find_any_loop("x" * 399) is None


@pytest.mark.parametrize(("count", "found"), [(10, True), (11, False)])
def test_grams_of_more_than_ten_evaluation_problems_are_ignored(count: int, found: bool) -> None:
    shared = numbered(20)
    known = EvaluationProblems(
        (f"q{n}", " ".join([*shared, *numbered(5, f"own{n}x")])) for n in range(count)
    )
    assert (known.find(" ".join(["Hello", "there", *shared])) is not None) == found


@pytest.mark.parametrize(("length", "found"), [(11, False), (12, True)])
def test_an_evaluation_problem_of_eight_grams_is_found_in_others(length: int, found: bool) -> None:
    problem = numbered(length)
    known = EvaluationProblems([("q", " ".join(problem))])
    assert (len(grams(problem, 5)) >= FEWEST_GRAMS) == found
    longer = " ".join([*numbered(9, "before"), *problem])
    assert (known.find(longer) is not None) == found


@pytest.mark.parametrize(("same", "found"), [(11, False), (12, True)])
def test_half_of_the_grams_identify_an_evaluation_problem(same: int, found: bool) -> None:
    known = EvaluationProblems(
        [("q", " ".join(numbered(20)))]
    )  # 16 grams, 8 of them in the first 12 words
    other = " ".join([*numbered(same), *numbered(30, "other")])
    assert (known.find(other) == "50 % of the word 5-grams are shared with q") == found
    assert (known.find(other) is not None) == found

"""The split: questions stay together and where they are."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tessy.boundary.split import part_of, question_of

IDS = st.text(min_size=1, max_size=20)
SHARES = st.floats(0, 0.49)


@given(name=IDS, seed=st.integers(0, 2**31), validation=SHARES, test=SHARES, again=st.integers(2))
def test_a_question_asked_again_is_in_the_same_part(name, seed, validation, test, again):
    part = part_of(name, seed, validation, test)
    assert part_of(f"{question_of(name)}#{again}", seed, validation, test) == part


@given(name=IDS, seed=st.integers(0, 2**31), validation=SHARES, other=SHARES, test=SHARES)
def test_the_test_part_does_not_depend_on_the_share_of_validation(
    name, seed, validation, other, test
):
    first, second = (part_of(name, seed, share, test) for share in (validation, other))
    assert (first == "test") == (second == "test")


@given(name=IDS, seed=st.integers(0, 2**31), validation=SHARES)
def test_a_share_of_zero_is_nothing(name, seed, validation):
    assert part_of(name, seed, validation, 0) != "test"
    assert part_of(name, seed, 0, 0) == "train"


def test_shares_are_kept_over_many_questions():
    names = [f"q-{n}" for n in range(20_000)]
    found = Counter(part_of(name, 3, 0.05, 0.1) for name in names)
    assert abs(found["validation"] - 1_000) < 150  # five standard deviations
    assert abs(found["test"] - 2_000) < 200


def test_another_seed_draws_another_split():
    names = [f"q-{n}" for n in range(200)]
    parts = [[part_of(name, seed, 0.2, 0.2) for name in names] for seed in (0, 1)]
    assert parts[0] != parts[1]
    assert parts[0] == [part_of(name, 0, 0.2, 0.2) for name in names]


def test_what_a_question_is():
    assert question_of("ojb-7#3") == "ojb-7"
    assert question_of("ojb-7") == "ojb-7"
    assert question_of("#2") == "#2"
    assert question_of("c#-7") == "c#-7"

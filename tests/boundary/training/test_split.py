"""The split is stable and keeps each problem whole."""

import re
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tessy.boundary.training.dataset import part_of
from tessy.core.records import Message, problem_digest

IDS = st.text(min_size=1, max_size=20)
SHARES = st.floats(0, 0.49)


@given(name=IDS, seed=st.integers(0, 2**31), validation=SHARES, other=SHARES, test=SHARES)
def test_the_test_part_does_not_depend_on_the_share_of_validation(
    name, seed, validation, other, test
):
    first, second = (part_of(name, seed, share, test) for share in (validation, other))
    assert (first == "test") == (second == "test")


@given(name=IDS, seed=st.integers(0, 2**31), validation=SHARES)
def test_a_share_of_zero_is_empty(name, seed, validation):
    assert part_of(name, seed, validation, 0) != "test"
    assert part_of(name, seed, 0, 0) == "train"


def test_shares_hold_over_many_problems():
    names = [f"q-{n}" for n in range(20_000)]
    counts = Counter(part_of(name, 3, 0.05, 0.1) for name in names)
    assert abs(counts["validation"] - 1_000) < 150  # five standard deviations
    assert abs(counts["test"] - 2_000) < 200


def test_another_seed_draws_another_split():
    names = [f"q-{n}" for n in range(200)]
    parts = [[part_of(name, seed, 0.2, 0.2) for name in names] for seed in (0, 1)]
    assert parts[0] != parts[1]
    assert parts[0] == [part_of(name, 0, 0.2, 0.2) for name in names]


def digest_of_turns(*turns: tuple[str, str]) -> str:
    return problem_digest([Message.model_validate({"role": r, "content": c}) for r, c in turns])


@given(text=IDS, before=st.sampled_from(["", " ", "\n\t"]), response=IDS)
def test_the_digest_of_a_problem_ignores_the_response(text, before, response):
    question = digest_of_turns(("user", text))
    assert digest_of_turns(("user", before + text + "\n"), ("assistant", response)) == question
    assert re.fullmatch("[0-9a-f]{16}", question)


def test_the_digest_distinguishes_problems():
    digests = {
        digest_of_turns(("user", "2 + 2?")),
        digest_of_turns(("user", "2  + 2?")),
        digest_of_turns(("system", "2 + 2?")),
        digest_of_turns(("system", "Be short."), ("user", "2 + 2?")),
        digest_of_turns(("user", "Be short."), ("user", "2 + 2?")),
        digest_of_turns(("user", "Hi"), ("assistant", "Hello"), ("user", "2 + 2?")),
        digest_of_turns(("user", "Hi"), ("assistant", "Hullo"), ("user", "2 + 2?")),
        digest_of_turns(("user", "\ud83d")),  # half a surrogate pair, as a row may hold it
    }
    assert len(digests) == 8

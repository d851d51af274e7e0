"""States of samples in flight: written and read by one module, across versions."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessy.core.edges import EdgeCursor
from tessy.core.errors import RunError
from tessy.storage.journal import InFlight
from tessy.synthesis.actions import Rejection
from tessy.synthesis.resume import (
    VERSION,
    CooperationState,
    GenerationState,
    Piece,
    SampleState,
    dump_piece,
    load_state,
)
from tessy.synthesis.shared_thinking import AuthoredText
from tessy.synthesis.token_counts import UsageMeter

AUTHORS = st.sampled_from(["student", "teacher"])
IDS = st.lists(st.integers(0, 200_000), max_size=5).map(tuple)
COUNTS = st.fixed_dictionaries({"student": st.integers(0, 99), "teacher": st.integers(0, 99)})
PARTS = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), min_size=1)
TEXTS = st.builds(AuthoredText, AUTHORS, st.text(max_size=9), IDS, IDS)
USAGE = st.builds(
    lambda requests, drafted: UsageMeter(Counter(requests), Counter(drafted)), COUNTS, COUNTS
)
COOPERATIONS = st.builds(
    CooperationState,
    texts=st.lists(TEXTS, max_size=3).map(tuple),
    author=AUTHORS,
    draft=IDS,
    anchored=st.booleans(),
    classified_end=st.integers(0, 99),
    exempt=st.booleans(),
    forcing=st.booleans(),
    turn_start=st.integers(0, 99),
    prediction_due=st.booleans(),
    rejections=st.dictionaries(AUTHORS, st.builds(Rejection, st.floats(0, 1), st.booleans())),
    redraws=st.integers(0, 2),
    controls=st.integers(0, 1),
    forced=COUNTS,
    mid_word_handovers=st.integers(0, 9),
    base=st.builds(EdgeCursor, st.integers(0, 99)),
    checked=st.integers(0, 99),
    ended_by=AUTHORS | st.none(),
)
GENERATIONS = st.builds(GenerationState, IDS, st.booleans(), st.integers(0, 99))
STATES = st.builds(
    SampleState,
    attempt=st.integers(1, 5),
    usage=USAGE,
    parts=st.lists(PARTS, max_size=2).map(tuple),
    thinking=COOPERATIONS | GENERATIONS | st.none(),
    answer=GENERATIONS | st.none(),
)


def pieces_of(state: SampleState) -> list[Piece]:
    """Return what the journal holds beside the state."""
    pieces: list[Piece] = list(state.parts)
    if isinstance(state.thinking, CooperationState):
        pieces += state.thinking.texts
    elif state.thinking is not None and state.thinking.ids:
        pieces.append(state.thinking.ids)
    return pieces


@given(STATES, st.integers(0, 2))
def test_a_state_is_restored_without_later_pieces(state: SampleState, later: int):
    pieces = pieces_of(state)
    content = [dump_piece(piece) for piece in pieces]
    newer = [dump_piece((7, 8))] * later  # of a request that will be sent again
    loaded = load_state(InFlight(content + newer, state.dump(len(content))))
    assert loaded == (state, len(content))


def test_a_sample_without_a_state_starts_over():
    assert load_state(None) is None
    assert load_state(InFlight([dump_piece((1, 2))])) is None


def state_of(**changes: object) -> InFlight:
    state = SampleState(1, UsageMeter(), answer=GenerationState((1,), done=False, checked=0))
    document = json.loads(state.dump(0)) | changes
    document = {name: value for name, value in document.items() if value is not ...}
    return InFlight([], json.dumps(document).encode())


def test_states_without_a_version_are_those_of_the_first():
    assert load_state(state_of(version=...)) == load_state(state_of())


def test_a_state_of_another_version_is_refused():
    with pytest.raises(RunError, match=f"version {VERSION + 1} .* reads version {VERSION}"):
        load_state(state_of(version=VERSION + 1))


def test_generated_tokens_are_those_of_the_meter_and_of_the_answer_in_progress():
    state = SampleState(1, UsageMeter(drafted=Counter({"student": 3, "teacher": 4})))
    assert state.generated_tokens == 7
    answer = GenerationState((1, 2), done=False, checked=0)
    assert replace(state, answer=answer).generated_tokens == 9

"""Keys of rows and of the journal, literally: renaming a class or a field must not change them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tessy.config.predictors import SampleConfig
from tessy.config.synthesis import SynthesizeConfig
from tessy.core.records import AUTHORS, Annotation, Cost, FailedAnnotation, StudentIds
from tessy.synthesis.data_config import data_names
from tests.support.rows import failure, row
from tests.support.saved_samples import SavedSample
from tests.support.scripted_strategies import make, make_context

OUTCOME = (
    "id sample strategy messages thinking answer answer_by spans tokens forced glued attempts "
    "seconds cost scores unscored reference_answer restyle problem"
)
SEGMENT = "id sample segment question author start text attempts"
STATE = "version attempt thinking answer meter pieces problem"
TURN = (
    "author draft anchored judged exempt forcing turn_start peek_due empties redraws controls "
    "forced glued base checked ended_by"
)
SAMPLING = "temperature top_p top_k min_p"
MODEL = "model tokenizer context_tokens trust_remote_code reasoning_effort"
METHOD = "strategy answer_by system_prompt candidates score_by unfit cut lexicon"
RUN = "thinking_tokens answer_tokens date seed fields no_ids"


def names(keys: Mapping[str, object]) -> frozenset[str]:
    return frozenset(keys)


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def test_keys_of_rows():
    dumped = row(student_ids=StudentIds(thinking="", answer=""), cost=Cost()).model_dump()
    assert names(dumped) == words(f"{OUTCOME} student_ids ended_by")
    assert names(failure().model_dump()) == words(f"{OUTCOME} reason detail")
    assert names(dumped["tokens"]) == words("student teacher answer drafted")
    assert names(dumped["student_ids"]) == words("thinking answer")
    assert names(dumped["cost"]) == words("requests seconds unseen")
    assert names(dumped["spans"][0]) == words("start end author")
    assert names(dumped["messages"][0]) == words("role content")


def test_keys_of_annotations():
    given: dict[str, Any] = {
        "id": "a", "sample": 0, "segment": 0, "question": "0" * 16, "author": "student",
        "start": 0, "text": "So", "attempts": 1,
    }  # fmt: skip
    marked = Annotation(**given, style=({"start": 0, "end": 2},)).model_dump()
    assert names(marked) == words(f"{SEGMENT} style")
    assert names(marked["style"][0]) == words("start end")
    failed = FailedAnnotation(**given, reason="not_json", detail="", reply="").model_dump()
    assert names(failed) == words(f"{SEGMENT} reason detail reply")


async def saved(case: str) -> tuple[list[Any], list[Mapping[str, Any]]]:
    """Pieces and states that a sample leaves in the journal."""
    sample = SavedSample()
    await make(case, make_context(case), save=sample.save)
    states = [json.loads(entry.state or b"") for entry in sample.in_flight]
    return [json.loads(piece) for piece in sample.in_flight[-1].pieces], states


async def test_keys_of_the_journal_of_a_text_written_in_turns():
    pieces, states = await saved("answer_by")
    assert {names(state) for state in states} == {words(STATE)}
    assert {names(state["thinking"]) for state in states} == {words(TURN)}
    assert {names(state["meter"]) for state in states} == {words("requests drafted seconds unseen")}
    assert {tuple(map(type, piece)) for piece in pieces} == {(str, str, list, list)}
    answers = {names(state["answer"]) for state in states if state["answer"] is not None}
    assert answers == {words("ids done checked")}


async def test_keys_of_the_journal_of_a_single_model():
    pieces, states = await saved("student-only")
    assert {names(state["thinking"]) for state in states} == {words("done checked")}
    assert {type(token_id) for piece in pieces for token_id in piece} == {int}


@pytest.mark.parametrize(
    ("case", "parts"),
    [
        ("teacher-score", {"author thinking answer", "score"}),
        ("teacher-reference", {"answer"}),
    ],
)
async def test_keys_of_finished_parts_in_the_journal(case, parts):
    pieces, states = await saved(case)
    assert {names(piece) for piece in pieces if isinstance(piece, dict)} == {
        words(part) for part in parts
    }
    assert any(state["thinking"] is None for state in states)


def test_keys_of_data_config():
    sampling = {f"sampling.{name}" for name in SAMPLING.split()}
    role = words(f"{MODEL} predictor window draft_tokens") | sampling
    of_roles = {f"{author}.{name}" for author in AUTHORS for name in role}
    assert data_names(SynthesizeConfig) == words(f"{RUN} {METHOD}") | of_roles
    assert data_names(SampleConfig) == words(f"author {RUN} {MODEL}") | sampling

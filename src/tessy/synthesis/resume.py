"""Resume of a sample: the only writer and reader of what the journal keeps between two requests.

Texts are stored as *pieces* while they grow. A *state* holds everything else and the number of
pieces it belongs to; later pieces belong to a request that will be sent again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from tessy.core.edges import EdgeCursor
from tessy.core.errors import RunError
from tessy.core.records import Author, Problem
from tessy.runtime.budget import Spending
from tessy.runtime.summary import wall_seconds
from tessy.storage.journal import InFlight
from tessy.storage.run_paths import RunPaths
from tessy.synthesis.actions import Rejection
from tessy.synthesis.shared_thinking import AuthoredText
from tessy.synthesis.token_counts import UsageMeter, tokens_of_rows

VERSION = 1  # of states; one without a version has this one
_COMPACT = json.JSONEncoder(separators=(",", ":"))

FinishedPart = Mapping[str, Any]
"""A finished text of a sample that consists of several; its strategy defines the content."""

Piece = AuthoredText | tuple[int, ...] | FinishedPart
"""A part of a shared thinking, ids of a thinking by one model, or a finished part."""


@dataclass(frozen=True, slots=True)
class GenerationState:
    """A text by one model, with ids as sampled; ``checked`` chars were checked for repetition."""

    ids: tuple[int, ...]
    done: bool
    checked: int

    def to_json(self) -> dict[str, Any]:
        """Return everything but the ids, which a thinking stores as pieces."""
        return {"done": self.done, "checked": self.checked}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any], ids: Sequence[int]) -> GenerationState:
        """Inverse of :meth:`to_json`."""
        return cls(tuple(ids), saved["done"], saved["checked"])


@dataclass(frozen=True, slots=True)
class CooperationState:
    """A thinking that two models write in turns; see ``Cooperation`` and ``Turn``.

    Attributes:
        texts: The kept text, in parts.
        draft: Ids of the turn that are not kept yet.
        prediction_due: The class of what comes next is predicted before the next request.
        rejections: Authors that kept nothing here, and why.
        redraws: Redraws at this place.
        controls: Spans in a row that a control id ended.
        base: An edge from which edges of the text can be found.
        checked: Characters that were checked for repetition.
        ended_by: Author that ended the thinking; None while it continues.
    """

    texts: tuple[AuthoredText, ...]
    author: Author
    draft: tuple[int, ...]
    anchored: bool
    classified_end: int
    exempt: bool
    forcing: bool
    turn_start: int
    prediction_due: bool
    rejections: Mapping[Author, Rejection]
    redraws: int
    controls: int
    forced: Mapping[Author, int]
    mid_word_handovers: int
    base: EdgeCursor
    checked: int
    ended_by: Author | None

    def to_json(self) -> dict[str, Any]:
        """Return everything but the texts, which are stored as pieces."""
        return {key: getattr(self, name) for name, key in _KEYS.items()}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any], texts: Sequence[AuthoredText]) -> CooperationState:
        """Inverse of :meth:`to_json`."""
        values = {name: saved[key] for name, key in _KEYS.items()}
        values["draft"] = tuple(saved["draft"])
        values["base"] = EdgeCursor(*saved["base"])
        values["rejections"] = {a: Rejection(*r) for a, r in saved["empties"].items()}
        return cls(tuple(texts), **values)


_RENAMED = {
    "classified_end": "judged",
    "prediction_due": "peek_due",
    "rejections": "empties",
    "mid_word_handovers": "glued",
}
_KEYS = {f.name: _RENAMED.get(f.name, f.name) for f in fields(CooperationState)[1:]}  # no texts


@dataclass(frozen=True, slots=True)
class SampleState:
    """A sample between two requests.

    ``attempt`` counts from 1. ``thinking`` is in progress or precedes the ``answer`` in progress;
    None between ``parts``. ``problem`` is its digest; empty in states of older versions.
    """

    attempt: int
    usage: UsageMeter
    parts: tuple[FinishedPart, ...] = ()
    thinking: CooperationState | GenerationState | None = None
    answer: GenerationState | None = None
    problem: str = ""

    @property
    def generated_tokens(self) -> int:
        """Tokens generated so far, kept or not, each model's in its own tokens."""
        answer = len(self.answer.ids) if self.answer is not None else 0
        return sum(self.usage.drafted.values()) + sum(self.usage.unseen.values()) + answer

    def is_of_another(self, problem: Problem) -> bool:
        """Return whether the state is known to belong to a problem with other messages."""
        return self.problem not in ("", problem.digest)

    def dump(self, pieces: int) -> bytes:
        """Serialize the state that belongs to the first ``pieces`` pieces of the sample.

        The journal calls this in another thread, so nothing in a state may change afterwards.
        """
        answer = self.answer
        return _COMPACT.encode(
            {
                "version": VERSION,
                "attempt": self.attempt,
                "thinking": self.thinking and self.thinking.to_json(),
                "answer": answer and {"ids": answer.ids, **answer.to_json()},
                "meter": vars(self.usage),
                "pieces": pieces,
                "problem": self.problem,
            }
        ).encode("ascii")


def dump_piece(piece: Piece) -> bytes:
    """Serialize a piece."""
    return _COMPACT.encode(piece).encode("ascii")


def load_state(in_flight: InFlight | None) -> tuple[SampleState, int] | None:
    """Return the state of a sample in flight and the number of its pieces; None if it has none.

    Raises:
        RunError: A newer version of tessy saved it.
    """
    if in_flight is None or in_flight.state is None:
        return None
    saved = json.loads(in_flight.state)
    if saved.get("version", VERSION) != VERSION:
        raise RunError(
            f"a sample in flight was saved with version {saved['version']} of its state; this "
            f"tessy reads version {VERSION}: continue the run with the tessy that started it"
        )
    parts: list[FinishedPart] = []
    texts: list[AuthoredText] = []
    ids: list[int] = []
    for piece in map(json.loads, in_flight.pieces[: saved["pieces"]]):
        if isinstance(piece, dict):  # the pieces before a finished part belong to it
            parts.append(piece)
            texts, ids = [], []
        elif isinstance(piece[0], str):
            author, text, student_ids, teacher_ids = piece
            texts.append(AuthoredText(author, text, tuple(student_ids), tuple(teacher_ids)))
        else:
            ids += piece
    thinking: CooperationState | GenerationState | None = saved["thinking"]
    if saved["thinking"] is not None and "turn_start" in saved["thinking"]:
        thinking = CooperationState.from_json(saved["thinking"], texts)
    elif saved["thinking"] is not None:
        thinking = GenerationState.from_json(saved["thinking"], ids)
    answer = saved["answer"] and GenerationState.from_json(saved["answer"], saved["answer"]["ids"])
    usage = UsageMeter(**saved["meter"])
    state = SampleState(
        saved["attempt"], usage, tuple(parts), thinking, answer, saved.get("problem", "")
    )
    return state, saved["pieces"]


def load_progress(in_flight: InFlight) -> SampleState | None:
    """Return the state of a sample in flight without its parts and texts, which can be long."""
    saved = load_state(InFlight(state=in_flight.state))
    return saved[0] if saved else None


def spent_before(paths: RunPaths, in_flight: Iterable[InFlight]) -> Spending:
    """Return what earlier sessions used, by the rows and the samples in flight without a row.

    A killed session left no summary, so its time is unknown.
    """
    states = filter(None, map(load_progress, in_flight))
    tokens = tokens_of_rows(paths) + sum(state.generated_tokens for state in states)
    return Spending(wall_seconds(paths.summary), tokens)

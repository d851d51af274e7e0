"""A draft of style by the student, cut where the rule says that capability begins (pure)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from tessy.boundary.base import Prediction, PredictionRequest
from tessy.boundary.cut import Cut
from tessy.core.errors import SampleFailed
from tessy.core.records import Author
from tessy.inference.base import Chunk
from tessy.synthesis.restyling.thinking import RestyledPart, RestyledThinking
from tessy.synthesis.shared_thinking import RoleSpec
from tessy.synthesis.turn import Turn


class Candidate(NamedTuple):
    """Style that the student would write here; its text can be empty.

    ``ends``: the student ends its thinking after it. ``whole``: it is not cut by the length of a
    request.
    """

    part: RestyledPart
    ends: bool
    whole: bool


@dataclass
class _TextSoFar:
    """The text that a turn continues, apart from that of other drafts at the same place."""

    text: str
    mid_word_handovers: int = 0
    forced: dict[Author, int] = field(default_factory=dict)


class StyleDraft:
    """One draft; :class:`~tessy.synthesis.span_driver.SpanDriver` runs its request."""

    likely_next = None  # nothing is prefetched

    def __init__(self, role: RoleSpec, thinking: RestyledThinking, *, key: str, cut: Cut) -> None:
        """Start at the end of ``thinking``."""
        self._start = len(thinking.text)
        self._turn = Turn(
            role, "student", _TextSoFar(thinking.text), key=key, cut=cut, base=thinking.base
        )
        self._full = False  # the context had no room for a single token

    def receive(self, chunk: Chunk) -> None:
        """Add the tokens of ``chunk``."""
        self._full = chunk.finish == "length" and not (chunk.ids or self._turn.draft.ids)
        self._turn.receive(chunk)

    @property
    def over(self) -> bool:
        """Whether capability begins, so that the stream can be closed."""
        return self._turn.boundary is not None

    def pending_prediction(self) -> PredictionRequest | None:
        """Return the request for units to classify; None if there are no new ones."""
        return self._turn.pending_prediction()

    def apply_prediction(self, request: PredictionRequest, prediction: Prediction) -> None:
        """Apply the prediction for ``request``."""
        self._turn.apply_prediction(request, prediction)

    def candidate(self) -> Candidate:
        """Return what is style of the finished draft; raises SampleFailed with ``budget``."""
        if self._full:
            raise SampleFailed("budget", "no room for the thinking: the context is full")
        turn = self._turn
        ends = turn.final == "end" and turn.boundary is None
        if turn.boundary is not None:
            end = turn.boundary[0] - self._start
        elif turn.final is not None:
            end = turn.visible
        else:  # the longest draft, of which the last units may be undecided
            end = max(0, turn.classified_end - self._start)
        text = turn.draft.text[:end]
        ids = turn.draft.cut(end) if text else []
        whole = turn.boundary is not None or turn.final is not None
        return Candidate(RestyledPart("student", text, tuple(ids)), ends, whole)

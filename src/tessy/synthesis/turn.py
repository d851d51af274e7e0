"""One author's turn: its draft, classified as it grows (pure)."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

from tessy.boundary.base import Prediction, PredictionRequest, UnitScore
from tessy.boundary.cut import Cut, deciding_score, in_class, keeps, own_score
from tessy.core.edges import EdgeCursor, edges_settled_by, settled_edges
from tessy.core.errors import TessyError
from tessy.core.records import Author
from tessy.inference.base import Chunk
from tessy.synthesis.actions import Rejection
from tessy.synthesis.resume import CooperationState
from tessy.synthesis.shared_thinking import RoleSpec, visible_chars
from tessy.tokenization.token_ids import Draft


class _DraftEnd(NamedTuple):
    """Prediction at the end of the draft (chars of the text), used if an edge settles there.

    ``score`` is that of the last unit, ``next_style`` is P(style) of what follows.
    """

    offset: int
    score: UnitScore
    next_style: float | None


class TurnText(Protocol):
    """The kept text that a turn continues, and its counters that the turn increments."""

    text: str
    mid_word_handovers: int
    forced: dict[Author, int]


class Turn:
    """The draft of an author since the hand-over, and how much of it the author may keep.

    If the predictor returns the class of what comes next, it also reads the end of the draft before
    an edge is settled there, while the next token is generated. If the edge settles, no further
    prediction is needed; otherwise the result is dropped. The span ends at the same place in both
    cases.

    Attributes:
        start: Start of the turn, in chars of the thinking.
        exempt: The first unit is kept whatever its class.
        forcing: The first unit will count as forced.
        classified_end: End of the units that are classified and kept, in chars of the thinking.
        draft: Ids and text that are not kept yet.
        anchored: The offset where classification starts is known.
        final: The model ended the text: at the end of its thinking, or with another control id.
        visible: Characters of a final draft that count.
        boundary: End of the span, and the reason.
    """

    def __init__(
        self,
        role: RoleSpec,
        author: Author,
        thinking: TurnText,
        *,
        key: str,
        cut: Cut,
        base: EdgeCursor,
        exempt: bool = False,
    ) -> None:
        """Start a turn at the end of ``thinking``, with an empty draft."""
        self.author: Author = author
        self.start = len(thinking.text)
        self.exempt = exempt
        self.forcing = False
        self.classified_end = self.start
        self.anchored = False
        self.draft = Draft(role.codec)
        self.final: Literal["end", "control"] | None = None
        self.visible = 0
        self.boundary: tuple[int, Rejection] | None = None
        self._role, self._thinking = role, thinking
        self._key, self._cut = key, cut
        self._scan = base  # the last edge found; the search continues from it
        self._scanned = False  # the draft was searched up to its end
        self._edges: list[int] = []  # settled edges after `classified`
        self._pausing = False  # the request has ended
        self._grown = False  # the draft has grown since the last request for a prediction
        self._requested: tuple[int, bool] | None = None
        self._requested_end: int | None = None
        self._draft_end: _DraftEnd | None = None

    def receive(self, chunk: Chunk) -> None:
        """Add the tokens of ``chunk`` to the draft."""
        ids: tuple[int, ...] = chunk.ids
        if self.boundary or self.final:
            return  # generated before the close reached the server; ignored
        role = self._role
        stop_id = chunk.stop_id
        ended = chunk.finish == "stop"
        if not role.ending_ids.isdisjoint(ids):
            index = next(i for i, at in enumerate(ids) if at in role.ending_ids)
            ids, stop_id, ended = ids[:index], ids[index], True
        self._pausing = chunk.finish is not None
        self._grown = True
        before = self.draft.text
        piece = self.draft.extend(ids)
        if not self._thinking.text:
            self.draft = self.draft.stripped()
        if ended:
            self.draft.flush()
            self.final = "end" if stop_id in role.stop_ids else "control"
            self.visible = visible_chars(self.draft.text, keep_break=self.final == "control")
        if ended or not self._scanned or not self._grow(before, piece):
            self._find_edges()
        self._settle_draft_end()

    def _grow(self, before: str, piece: str) -> bool:
        """Find the edges that ``piece`` settles; return False if :meth:`_find_edges` must run."""
        kept = self._thinking.text
        if not kept:
            return False
        last = before[-1] if before else kept[-1]
        settled = edges_settled_by(piece, self._scan, len(kept) + len(before), last)
        if settled is None:
            return False
        for edge in settled:
            self._scan = EdgeCursor(edge)
            if edge > self.classified_end:
                self._edges.append(edge)
        return True

    def _find_edges(self) -> None:
        final = self.final is not None
        drafted = self.draft.text[: self.visible] if final else self.draft.text
        before = self._thinking.text[self._scan.offset :]
        local = before + drafted[max(0, self._scan.offset - len(self._thinking.text)) :]
        settled, last = settled_edges(local, self._scan, final=final)
        if self.anchored or self._anchor(settled):
            self._scan, self._scanned = last, True
            self._edges += [edge for edge in settled if edge > self.classified_end]

    def _anchor(self, settled: list[int]) -> bool:
        """Find the offset where classification starts; return False if it is not known yet."""
        if self.start == self._scan.offset or self.start in settled:
            self.classified_end = self.start
        elif any(edge > self.start for edge in settled):
            # The receiver continued a word, so there is no edge at the hand-over.
            self._thinking.mid_word_handovers += 1
            before = (edge for edge in settled if edge < self.start)
            self.classified_end = max(before, default=self._scan.offset)
        else:
            return False
        self.anchored = True
        return True

    def pending_prediction(self) -> PredictionRequest | None:
        """Return the request for units to classify; None if there are no new ones."""
        if self.boundary or not self.anchored or not self._grown:
            return None
        self._grown = False
        draft_end = self._open_end()
        last = draft_end or (self._edges[-1] if self._edges else None)
        final = self.final is not None
        if last is None or (last, final) == self._requested:
            return None
        self._requested, self._requested_end = (last, final), draft_end
        open_end = () if draft_end is None else (draft_end,)
        edges = (self.classified_end, *self._edges, *open_end)
        kept = self._thinking.text
        drafted = self.draft.text[: last - len(kept)]
        return PredictionRequest(self._key, kept, edges, final, self.start, drafted)

    def _open_end(self) -> int | None:
        """Return the end of the draft if an edge may still settle there, else None."""
        text = self.draft.text
        if not text or not self._role.sees_next or self._pausing or self.final:
            return None
        kept = len(self._thinking.text)
        last = self._edges[-1] if self._edges else self.classified_end
        if text[-1].isspace() and (text[-1] != "\n" or text[max(0, last - kept) :].isspace()):
            return None
        return None if kept + len(text) <= last else kept + len(text)

    def apply_prediction(self, request: PredictionRequest, prediction: Prediction) -> None:
        """Apply the prediction for ``request``, which :meth:`pending_prediction` returned."""
        count = len(request.edges) - 1
        if request.final and len(prediction.units) < count:
            raise TessyError(
                f"the {self.author}'s predictor decided {len(prediction.units)} of {count} units "
                "of a final request; it must decide all of them, because no text follows"
            )
        for start, end, score in zip(
            request.edges, request.edges[1:], prediction.units, strict=False
        ):
            if end == self._requested_end:
                self._draft_end = _DraftEnd(end, score, prediction.next_style)
                if start >= self.start:
                    self._stop_before(start, score.first)  # known before any of it was written
            elif not self._keep_unit(start, end, score):
                return
        if self._requested_end is None and not request.final and len(prediction.units) == count:
            self._stop_before(self.classified_end, prediction.next_style)

    def _keep_unit(self, start: int, end: int, score: UnitScore) -> bool:
        """Keep a unit and return True, or end the span before it."""
        # White space after the other author's word has no class: the receiver keeps it.
        kept = self._thinking.text
        drafted = self.draft.text[: max(0, end - len(kept))]
        blank = start < self.start and (kept[self.start : end] + drafted).isspace()
        if keeps(self.author, score, self._cut) or blank or self._use_exemption(start):
            self.classified_end = end
            if self._edges and self._edges[0] == end:
                del self._edges[0]
            return True
        score_here = own_score(self.author, deciding_score(self.author, score, self._cut))
        self.boundary = (max(start, self.start), Rejection(score_here, drafted=True))
        return False

    def _stop_before(self, edge: int, p_style: float | None) -> None:
        """End the span at ``edge`` if what follows is in the other author's class."""
        if p_style is None or in_class(self.author, p_style) or self._is_exempt(edge):
            return
        self.boundary = (edge, Rejection(own_score(self.author, p_style), drafted=False))

    def _is_exempt(self, start: int) -> bool:
        return self.exempt and start <= self.start

    def _use_exemption(self, start: int) -> bool:
        """Return whether the unit at ``start`` is kept although it is of the other class."""
        if not self._is_exempt(start):
            return False
        self._thinking.forced[self.author] += self.forcing
        self.forcing = False
        return True

    def _settle_draft_end(self) -> None:
        draft_end = self._draft_end
        if draft_end is None:
            return
        if not self._edges:
            after = self.draft.text[draft_end.offset - len(self._thinking.text) :]
            if after not in ("", " "):  # the word continues, or a line break follows
                self._draft_end = self._requested = None
            return
        self._draft_end = None
        if self._edges[0] != draft_end.offset:
            self._requested = None
            return
        last = self.final is not None and len(self._edges) == 1
        if self._keep_unit(self.classified_end, draft_end.offset, draft_end.score) and not last:
            self._stop_before(draft_end.offset, draft_end.next_style)

    @property
    def likely_end(self) -> int | None:
        """End of the span if an edge settles at the end of the draft; None if it would continue."""
        draft_end = self._draft_end
        if draft_end is None or self.boundary or draft_end.next_style is None:
            return None
        if in_class(self.author, draft_end.next_style):
            return None
        own = keeps(self.author, draft_end.score, self._cut) or self._is_exempt(self.classified_end)
        return draft_end.offset if own and self.classified_end >= self.start else None

    def resume(self, state: CooperationState) -> None:
        """Restore a state saved by :meth:`Cooperation.state`."""
        self.start, self.classified_end = state.turn_start, state.classified_end
        self.anchored, self.forcing = state.anchored, state.forcing
        self.draft.extend(state.draft)

"""One author's turn: its draft, judged as it grows (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from tessy.boundary.base import Prediction, PredictionRequest, UnitScore
from tessy.boundary.cut import Cut, deciding_score, drafting_continues, in_class, keeps, own_score
from tessy.core.edges import EdgeCursor, settled_by, settled_edges
from tessy.core.errors import TessyError
from tessy.core.records import Author
from tessy.inference.base import Chunk
from tessy.synthesis.actions import Rejection
from tessy.synthesis.shared_thinking import RoleSpec, SharedThinking, visible_chars
from tessy.tokenization.token_ids import Draft


@dataclass(slots=True)
class CooperationStats:
    """Counts over all turns.

    Attributes:
        forced: Units kept against the predictors because neither author would write on.
        drafted: Tokens generated, kept or not, in each model's own tokens.
        glued: Hand-overs where the receiver went on inside a word.
    """

    forced: dict[Author, int] = field(default_factory=lambda: {"student": 0, "teacher": 0})
    drafted: dict[Author, int] = field(default_factory=lambda: {"student": 0, "teacher": 0})
    glued: int = 0


class _Tip(NamedTuple):
    """What is known of the draft's end, in case an edge settles there.

    Attributes:
        offset: The end, in chars of the whole text.
        score: Of the last unit if it ends there.
        next_style: P(style) of what follows.
        calm: Both are the author's to write.
    """

    offset: int
    score: UnitScore
    next_style: float | None
    calm: bool


class Turn:
    """What an author has drafted since it got the pen, and how much of it is its own to write.

    Where the predictor knows what comes next, it also reads the draft's end before an edge is
    settled there: while the next token is on its way. If the edge settles, nothing is left to ask;
    if it does not, the answer is dropped. Either way the span ends where it would have ended.

    Attributes:
        author: Who writes.
        start: Where the turn began, in chars of the thinking.
        exempt: Its first unit is not judged.
        forcing: That unit will count as forced.
        judged: Units before this offset are the author's to keep.
        draft: Ids and text that are not kept yet.
        anchored: It is known where judging starts.
        final: The model ended the text: by the end of its thinking, or by another control id.
        visible: Characters of a final draft that count.
        boundary: Where the span ends, and why.
    """

    def __init__(
        self,
        party: RoleSpec,
        author: Author,
        thinking: SharedThinking,
        *,
        key: str,
        cut: Cut,
        base: EdgeCursor,
        tally: CooperationStats,
        exempt: bool = False,
    ) -> None:
        """A turn that starts at the end of ``thinking``, with nothing drafted."""
        self.author: Author = author
        self.start = len(thinking.text)
        self.exempt = exempt
        self.forcing = False
        self.judged = self.start
        self.anchored = False
        self.draft = Draft(party.codec)
        self.final: Literal["end", "control"] | None = None
        self.visible = 0
        self.boundary: tuple[int, Rejection] | None = None
        self._party, self._thinking, self._tally = party, thinking, tally
        self._key, self._cut = key, cut
        self._scan = base  # edges before it are known
        self._scanned = False  # and all that could be found behind it was
        self._edges: list[int] = []  # settled ones behind `judged`
        self._pausing = False  # nothing more comes from this request
        self._grown = False  # since units were last looked for
        self._viewed: tuple[int, bool] | None = None
        self._asked_tip: int | None = None
        self._calm_answer: Prediction | None = None
        self._tip: _Tip | None = None

    # ------------------------------------------------------------------ a draft grows

    def receive(self, chunk: Chunk) -> None:
        """Take what the model has written since the last chunk."""
        ids: tuple[int, ...] = chunk.ids
        self._tally.drafted[self.author] += len(ids)
        if self.boundary or self.final:
            return  # generated before the close arrived: never looked at
        party = self._party
        stop_id = chunk.stop_id
        ended = chunk.finish == "stop"
        if not party.ending_ids.isdisjoint(ids):
            index = next(i for i, at in enumerate(ids) if at in party.ending_ids)
            ids, stop_id, ended = ids[:index], ids[index], True
        self._pausing = chunk.finish is not None
        self._grown = True
        before = self.draft.text
        piece = self.draft.extend(ids)
        if not self._thinking.text:
            self.draft = self.draft.stripped()
        if ended:
            self.draft.flush()
            self.final = "end" if stop_id in party.stop_ids else "control"
            self.visible = visible_chars(self.draft.text, keep_break=self.final == "control")
        if ended or not self._scanned or not self._grow(before, piece):
            self._look()
        self._settle_tip()

    def _grow(self, before: str, piece: str) -> bool:
        """What :meth:`_look` does once ``piece`` follows ``before``; False if it must do it."""
        kept = self._thinking.text
        if not kept:
            return False
        last = before[-1] if before else kept[-1]
        found = settled_by(piece, self._scan, len(kept) + len(before), last)
        if found is None:
            return False
        for edge in found:
            self._scan = EdgeCursor(edge)
            if edge > self.judged:
                self._edges.append(edge)
        return True

    def _look(self) -> None:
        """Find the edges that what has come settled."""
        final = self.final is not None
        drafted = self.draft.text[: self.visible] if final else self.draft.text
        before = self._thinking.text[self._scan.offset :]
        local = before + drafted[max(0, self._scan.offset - len(self._thinking.text)) :]
        found, last = settled_edges(local, self._scan, final=final)
        if self.anchored or self._anchor(found):
            self._scan, self._scanned = last, True
            self._edges += [edge for edge in found if edge > self.judged]

    def _anchor(self, found: list[int]) -> bool:
        """Where judging starts in this turn; False while that cannot be known."""
        if self.start == self._scan.offset or self.start in found:
            self.judged = self.start
        elif any(edge > self.start for edge in found):
            # The edge at the hand-over is gone: the receiver went on inside a word.
            self._tally.glued += 1
            before = (edge for edge in found if edge < self.start)
            self.judged = max(before, default=self._scan.offset)
        else:
            return False
        self.anchored = True
        return True

    # ------------------------------------------------------------------ units are judged

    def pending_prediction(self) -> PredictionRequest | None:
        """Units to be judged now; None if there is nothing new."""
        if self.boundary or not self.anchored or not self._grown:
            return None
        self._grown = False
        tip = self._open_end()
        last = tip or (self._edges[-1] if self._edges else None)
        final = self.final is not None
        if last is None or (last, final) == self._viewed:
            return None
        self._viewed, self._asked_tip = (last, final), tip
        edges = (self.judged, *self._edges) if tip is None else (self.judged, *self._edges, tip)
        kept = self._thinking.text
        drafted = self.draft.text[: last - len(kept)]
        return PredictionRequest(self._key, kept, edges, final, self.start, drafted)

    def _open_end(self) -> int | None:
        """The draft's end if an edge may still settle there; None if asking there is no use."""
        text = self.draft.text
        if not text or not self._party.sees_next or self._pausing or self.final:
            return None
        kept = len(self._thinking.text)
        last = self._edges[-1] if self._edges else self.judged
        if text[-1].isspace() and (text[-1] != "\n" or text[max(0, last - kept) :].isspace()):
            return None
        return None if kept + len(text) <= last else kept + len(text)

    def calm(self, judgement: Prediction) -> bool:
        """Whether drafting just goes on after this answer to a view; called in any thread."""
        calm = drafting_continues(self.author, self._cut, judgement)
        if calm:
            self._calm_answer = judgement  # looked at once is enough
        return calm

    def apply_prediction(self, view: PredictionRequest, judgement: Prediction) -> None:
        """The predictor's answer to ``view``, which came from :meth:`pending_prediction`."""
        count = len(view.edges) - 1
        if judgement is self._calm_answer and len(judgement.units) == count:
            self._go_on(view.edges, judgement)
            return
        if view.final and len(judgement.units) < count:
            raise TessyError(
                f"the {self.author}'s predictor decided {len(judgement.units)} of {count} units "
                "of a final view; it must decide them all, for nothing will follow"
            )
        for start, end, score in zip(view.edges, view.edges[1:], judgement.units, strict=False):
            if end == self._asked_tip:
                self._tip = _Tip(end, score, judgement.next_style, calm=False)
                if start >= self.start:
                    self._stop_before(start, score.first)  # known before any of it was written
            elif not self._keep_unit(start, end, score):
                return
        if self._asked_tip is None and not view.final and len(judgement.units) == count:
            self._stop_before(self.judged, judgement.next_style)

    def _go_on(self, edges: Sequence[int], judgement: Prediction) -> None:
        """Keep all that was judged: the answer is calm."""
        judged = edges[-1]
        if judged == self._asked_tip:
            self._tip = _Tip(judged, judgement.units[-1], judgement.next_style, calm=True)
            judged = edges[-2]
        if judged > self.judged:
            self.judged = judged
            while self._edges and self._edges[0] <= judged:
                del self._edges[0]

    def _keep_unit(self, start: int, end: int, score: UnitScore) -> bool:
        """Whether the author keeps a unit; if not, the span ends before it."""
        # White space after the other's word has no class of its own: it is the receiver's.
        blank = start < self.start and self._written(end).isspace()
        if keeps(self.author, score, self._cut) or blank or self._excused(start):
            self.judged = end
            if self._edges and self._edges[0] == end:
                del self._edges[0]
            return True
        score_here = own_score(self.author, deciding_score(self.author, score, self._cut))
        self.boundary = (max(start, self.start), Rejection(score_here, drafted=True))
        return False

    def _written(self, end: int) -> str:
        """What this turn has brought up to ``end``, kept or not."""
        kept = self._thinking.text
        drafted = self.draft.text[: max(0, end - len(kept))]
        return kept[self.start : end] + drafted

    def _stop_before(self, edge: int, p_style: float | None) -> None:
        """End the span at ``edge`` if what follows is the other's to write."""
        if p_style is None or in_class(self.author, p_style) or self._is_exempt(edge):
            return
        self.boundary = (edge, Rejection(own_score(self.author, p_style), drafted=False))

    def _is_exempt(self, start: int) -> bool:
        return self.exempt and start <= self.start

    def _excused(self, start: int) -> bool:
        """Whether the unit at ``start`` is kept although it is the other's to write."""
        if not self._is_exempt(start):
            return False
        self._tally.forced[self.author] += self.forcing
        self.forcing = False
        return True

    # ------------------------------------------------------------------ the open end

    def _settle_tip(self) -> None:
        """Use what was said of the draft's end, if an edge came to lie there."""
        tip = self._tip
        if tip is None:
            return
        if not self._edges:
            after = self.draft.text[tip.offset - len(self._thinking.text) :]
            if after not in ("", " "):  # the word went on, or a line break follows
                self._tip = self._viewed = None
            return
        self._tip = None
        if self._edges[0] != tip.offset:
            self._viewed = None
            return
        if tip.calm:
            self.judged = tip.offset
            del self._edges[0]
            return
        last = self.final is not None and len(self._edges) == 1
        if self._keep_unit(self.judged, tip.offset, tip.score) and not last:
            self._stop_before(tip.offset, tip.next_style)

    @property
    def likely_end(self) -> int | None:
        """Where the span ends if an edge settles at the draft's end; None if it would go on."""
        tip = self._tip
        if tip is None or tip.calm or self.boundary or tip.next_style is None:
            return None
        if in_class(self.author, tip.next_style):
            return None
        own = keeps(self.author, tip.score, self._cut) or self._is_exempt(self.judged)
        return tip.offset if own and self.judged >= self.start else None

    # ------------------------------------------------------------------ across requests

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on as :meth:`Cooperation.state` has it."""
        self.start, self.judged = state["turn_start"], state["judged"]
        self.anchored, self.forcing = state["anchored"], state["forcing"]
        self.draft.extend(state["draft"])

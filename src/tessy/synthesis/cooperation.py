"""Algorithm 1 as a state machine: no I/O, no clock, no randomness of its own.

The driver asks :meth:`Cooperation.next` what to do and tells what came of it:

    Peek  -> ask the author's predictor about the view, call ``peeked``
    Ask   -> stream from the author's model; for each chunk ``receive``, then let the predictor
             judge ``unjudged()`` and call ``judged``; close the stream as soon as ``over`` is true;
             when it has ended or was closed, and nothing is left to judge, call ``closed``
    Done  -> the thinking has ended

Source: Huang et al., arXiv 2604.14164, Algorithm 1; where a span ends exactly is DESIGN's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from tessy.boundary.base import Judgement, View
from tessy.boundary.cuts import Cut, decider, in_class, keeps, own_score
from tessy.edges import Base, base_before, edges
from tessy.engines.base import Chunk
from tessy.errors import SampleFailed, TessyError
from tessy.records import Author, other
from tessy.synthesis.moves import Ask, Done, Peek, Rejection
from tessy.synthesis.thinking import Party, Piece, Thinking, keep_aligned, visible_chars
from tessy.text import find_loop
from tessy.tokens import Draft

MAX_REDRAWS = 2
MAX_BLANK_CHARS = 400  # a draft of nothing but white space longer than this is a loop
_LOOP_CHECK_CHARS = 100
DrawSeed = Callable[[Author, int, int, int], int]  # author, chars, drafted ids, redraw -> seed


class Cooperation:
    """One thinking text, written by two models in turns.

    Attributes:
        thinking: The kept text, its spans and ids.
        forced: Units kept against the predictors because neither author would write on.
        glued: Hand-overs where the receiver went on inside a word.
        drafted: Tokens generated, kept or not, in each model's own tokens.
    """

    def __init__(
        self,
        student: Party,
        teacher: Party,
        *,
        key: str,
        thinking_tokens: int,
        seed: DrawSeed,
        cut: Cut = "discard",
    ) -> None:
        """Start with the student, whose first unit is never judged.

        Args:
            student: What to know of the student.
            teacher: What to know of the teacher.
            key: The sample, for the predictors' caches.
            thinking_tokens: Budget of the thinking, in the student's tokens.
            seed: Gives the seed of a request.
            cut: ``discard`` keeps a unit if all its tokens are in the author's class, ``extend``
                if the first one is.
        """
        self._parties: dict[Author, Party] = {"student": student, "teacher": teacher}
        self._key = key
        self._budget = thinking_tokens
        self._seed = seed
        self._cut = cut
        self.thinking = Thinking(student, teacher)
        self.forced: dict[Author, int] = {"student": 0, "teacher": 0}
        self.drafted: dict[Author, int] = {"student": 0, "teacher": 0}
        self.glued = 0
        self._ended_by: Author | None = None
        self._controls = 0  # spans in a row ended by a control id that is no stop id
        self._redraws = 0
        self._empties: dict[Author, Rejection] = {}
        self._base = Base(0)
        self._checked = 0
        self._draft = Draft(student.codec)
        self._final: Literal["end", "control"] | None = None
        self._visible = 0  # chars of a final draft that count
        self._boundary: tuple[int, Rejection] | None = None
        self._anchored = False
        self._viewed: tuple[int, bool] | None = None
        self._turn_start = 0
        self._forcing = False
        self._answered = self._full = (
            False  # the request brought an id; it brought none for lack of room
        )
        self._turn("student", exempt=True)

    # ------------------------------------------------------------------ what to do

    def next(self) -> Peek | Ask | Done:
        """What the driver must do now.

        Raises:
            SampleFailed: ``budget``, ``repetition`` or ``empty_thinking``.
        """
        if self._ended_by is not None:
            if not self.thinking.text:
                raise SampleFailed("empty_thinking", f"the {self._ended_by} ended it at once")
            return Done(self._ended_by)
        self._check_loop()
        if self._peek_due:
            text = self.thinking.text
            return Peek(self.author, View(self._key, text, (len(text),)))
        party = self._parties[self.author]
        self._answered = self._full = False
        return Ask(
            author=self.author,
            prompt=self.thinking.ids[self.author].plus(self._draft.ids),
            max_tokens=self._allowance(),
            stop_ids=tuple(sorted(party.stop_ids)),
            seed=self._seed(
                self.author,
                len(self.thinking.text) + len(self._draft.text),
                len(self._draft.ids),
                self._redraws,
            ),
        )

    def peeked(self, judgement: Judgement) -> None:
        """The answer to a :class:`Peek`: the turn goes back at once if nothing here is ours."""
        self._peek_due = False
        p_style = judgement.next_style
        if p_style is not None and not in_class(self.author, p_style):
            self._end_turn(Rejection(own_score(self.author, p_style), drafted=False))

    # ------------------------------------------------------------------ a draft grows

    def receive(self, chunk: Chunk) -> None:
        """Take what the model has written since the last chunk."""
        if self.over or self._final:
            return  # generated before the close arrived: never looked at
        party = self._parties[self.author]
        ids: tuple[int, ...] = chunk.ids
        self.drafted[self.author] += len(ids)
        self._answered = self._answered or bool(ids)
        self._full = chunk.finish == "length" and not self._answered
        marks = party.codec.control_ids | party.stop_ids
        stop_id = chunk.stop_id
        ended = chunk.finish == "stop"
        for index, token_id in enumerate(ids):
            if token_id in marks:
                ids, stop_id, ended = ids[:index], token_id, True
                break
        self._draft.extend(ids)
        if not self.thinking.text:
            self._draft = self._draft.stripped()
        if ended:
            self._draft.flush()
            self._final = "end" if stop_id in party.stop_ids else "control"
            self._visible = visible_chars(self._draft.text, keep_break=self._final == "control")

    @property
    def over(self) -> bool:
        """The span has ended: close the stream."""
        return self._boundary is not None

    def unjudged(self) -> View | None:
        """Units to be judged now; None if there is nothing new."""
        if self.over:
            return None
        final = self._final is not None
        text = self.thinking.text
        drafted = self._draft.text[: self._visible] if final else self._draft.text
        local = text[self._base.offset :] + drafted
        offset = self._base.offset
        found = [offset + edge for edge in edges(local, long=self._base.long, final=final)]
        if not self._anchored and not self._anchor(found):
            return None
        ahead = [edge for edge in found if edge > self._judged]
        if not ahead or (ahead[-1], final) == self._viewed:
            return None
        self._viewed = (ahead[-1], final)
        whole = text + drafted
        shown = (self._judged, *ahead)
        return View(self._key, whole[: ahead[-1]], shown, final, own_from=self._turn_start)

    def _anchor(self, found: Iterable[int]) -> bool:
        """Where judging starts in this turn; False while that cannot be known."""
        start = self._turn_start
        found = list(found)
        if start == self._base.offset or start in found:
            self._judged = start
        elif any(edge > start for edge in found):
            # The edge at the hand-over is gone: the receiver went on inside a word.
            self.glued += 1
            self._judged = max((edge for edge in found if edge < start), default=self._base.offset)
        else:
            return False
        self._anchored = True
        return True

    def judged(self, view: View, judgement: Judgement) -> None:
        """The predictor's answer to ``view``, which came from :meth:`unjudged`."""
        count = len(view.edges) - 1
        if view.final and len(judgement.units) < count:
            raise TessyError(
                f"the {self.author}'s predictor decided {len(judgement.units)} of {count} units "
                "of a final view; it must decide them all, for nothing will follow"
            )
        for start, end, score in zip(view.edges, view.edges[1:], judgement.units, strict=False):
            # White space after the other's word has no class of its own: it is the receiver's.
            blank = start < self._turn_start and view.text[self._turn_start : end].isspace()
            wrong = not keeps(self.author, score, self._cut) and not blank
            if wrong and not self._excused(start):
                score_here = own_score(self.author, decider(self.author, score, self._cut))
                self._boundary = (max(start, self._turn_start), Rejection(score_here, drafted=True))
                return
            self._judged = end
        p_style = judgement.next_style
        if view.final or p_style is None or len(judgement.units) < count:
            return
        if not in_class(self.author, p_style):
            rejection = Rejection(own_score(self.author, p_style), drafted=False)
            self._boundary = (self._judged, rejection)

    def _excused(self, start: int) -> bool:
        """Whether the unit at ``start`` is kept although it is the other's to write."""
        if not self._exempt or start > self._turn_start:
            return False
        self.forced[self.author] += self._forcing
        self._forcing = False
        return True

    # ------------------------------------------------------------------ a draft ends

    def closed(self) -> None:
        """The stream has ended or was closed, and every unit that can be judged was.

        Raises:
            SampleFailed: ``eos_in_thinking``: a control id ended two spans in a row; ``budget``:
                the model had no room for a single token.
        """
        if self._boundary is not None:
            end, rejection = self._boundary
            self._keep(end)
            self._controls = 0
            self._end_turn(rejection)
        elif self._final == "end":
            self._keep(len(self.thinking.text) + self._visible)
            self.thinking.trim_end()
            self._ended_by = self.author
        elif self._final == "control":
            self._keep(len(self.thinking.text) + self._visible)
            self._controls += 1
            if self._controls > 1:
                raise SampleFailed(
                    "eos_in_thinking",
                    "a control token ended two spans in a row, at "
                    f"{len(self.thinking.text)} characters",
                )
            self._end_turn(Rejection(0.0, drafted=True))
        elif self._full:
            raise SampleFailed("budget", f"the {self.author}'s context is full")
        elif self._judged > len(self.thinking.text):
            end = self._judged - len(self.thinking.text)
            self._draft = keep_aligned(self.thinking, self.author, self._draft, end)
            self._base = base_before(self.thinking.text, self._base, len(self.thinking.text))

    def _keep(self, end: int) -> None:
        """Keep the draft up to ``end`` (chars of the whole text) and drop what lies beyond."""
        length = end - len(self.thinking.text)
        if length > 0:
            own_ids = self._draft.cut(length)
            self.thinking.append(self.author, self._draft.text[:length], own_ids)
            self._base = base_before(self.thinking.text, self._base, len(self.thinking.text))

    def _end_turn(self, rejection: Rejection) -> None:
        if len(self.thinking.text) > self._turn_start:
            self._empties.clear()
            self._redraws = 0
            self._turn(other(self.author))
            return
        self._empties[self.author] = rejection
        if other(self.author) in self._empties:
            self._resolve_deadlock()
        else:
            self._turn(other(self.author))

    def _resolve_deadlock(self) -> None:
        """Neither author would write here: redraw where that can change it, else force one unit."""
        again = [
            author
            for author, rejection in self._empties.items()
            if rejection.drafted and self._parties[author].redraws
        ]
        if again and self._redraws < MAX_REDRAWS:
            self._redraws += 1
            for author in again:
                del self._empties[author]
            self._turn(other(self.author) if other(self.author) in again else self.author)
            return
        student, teacher = self._empties["student"].score, self._empties["teacher"].score
        self._empties.clear()
        self._turn("teacher" if teacher > student else "student", exempt=True)
        self._forcing = True

    def _turn(self, author: Author, *, exempt: bool = False) -> None:
        """Give the pen to ``author``; an exempt turn keeps its first unit unjudged."""
        self.author: Author = author
        self._exempt = exempt
        self._forcing = False  # the first unit is forced, and not counted yet
        self._turn_start = len(self.thinking.text)
        self._peek_due = not exempt and self._parties[author].sees_next
        self._start_draft(())

    def _start_draft(self, ids: Iterable[int]) -> None:
        self._draft = Draft(self._parties[self.author].codec)
        self._draft.extend(ids)
        self._final = None
        self._visible = 0
        self._boundary = None
        self._anchored = False
        self._judged = self._turn_start
        self._viewed = None

    # ------------------------------------------------------------------ limits

    def _allowance(self) -> int:
        """Tokens the next request may draft."""
        party = self._parties[self.author]
        pending = len(self._draft.ids)
        budget = self._budget - self.thinking.length("student") - pending
        room = party.room_tokens - self.thinking.length(self.author) - pending
        if budget <= 0:
            raise SampleFailed("budget", f"the thinking reached {self._budget} tokens")
        if room <= 0:
            raise SampleFailed(
                "budget", f"the {self.author}'s context is full at {party.room_tokens} tokens"
            )
        return min(party.request_tokens, budget, room)

    def _check_loop(self) -> None:
        drafted = self._draft.text
        if len(drafted) > MAX_BLANK_CHARS and drafted.isspace():
            raise SampleFailed("repetition", f"{len(drafted)} characters of white space")
        length = len(self.thinking.text) + len(drafted)
        if length - self._checked < _LOOP_CHECK_CHARS:
            return
        self._checked = length
        loop = find_loop(self.thinking.text[-1000:] + drafted)
        if loop is not None:
            raise SampleFailed("repetition", f"the thinking repeats {loop[:100]!r}")

    # ------------------------------------------------------------------ the journal

    def state(self) -> dict[str, Any]:
        """Everything but the pieces, as JSON values; to be taken before a request starts."""
        return {
            "author": self.author,
            "draft": self._draft.ids,
            "anchored": self._anchored,
            "judged": self._judged,
            "exempt": self._exempt,
            "forcing": self._forcing,
            "turn_start": self._turn_start,
            "peek_due": self._peek_due,
            "empties": {a: [r.score, r.drafted] for a, r in self._empties.items()},
            "redraws": self._redraws,
            "controls": self._controls,
            "forced": self.forced,
            "drafted": self.drafted,
            "glued": self.glued,
            "base": list(self._base),
            "checked": self._checked,
            "ended_by": self._ended_by,
        }

    def restore(self, state: Mapping[str, Any], pieces: Iterable[Piece]) -> None:
        """Go on from a saved state; only for a machine that has done nothing yet."""
        for piece in pieces:
            self.thinking.replay(piece)
        self.author = state["author"]
        self._exempt, self._forcing = state["exempt"], state["forcing"]
        self._turn_start = state["turn_start"]
        self._empties = {a: Rejection(*r) for a, r in state["empties"].items()}
        self._redraws, self._controls = state["redraws"], state["controls"]
        self.forced, self.drafted = dict(state["forced"]), dict(state["drafted"])
        self.glued, self._checked = state["glued"], state["checked"]
        self._base = Base(*state["base"])
        self._ended_by = state["ended_by"]
        self._start_draft(state["draft"])
        self._anchored, self._judged = state["anchored"], state["judged"]
        self._peek_due = state["peek_due"]
        if self._ended_by is not None:
            self.thinking.trim_end()

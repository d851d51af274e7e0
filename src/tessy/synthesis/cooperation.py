"""Algorithm 1 as a state machine: no I/O, no clock, no randomness of its own.

The driver calls :meth:`Cooperation.next` and carries out the action:

- ``PredictNext``: run the author's predictor on the request, call ``predicted_next``.
- ``Generate``: stream from the author's model. For each chunk call ``receive``, run the predictor
  on ``pending_prediction()`` and call ``judged``. Close the stream as soon as ``over`` is true.
  When the stream has ended or was closed and no prediction is pending, call ``closed``.
- ``Done``: the thinking has ended.

``early`` is the action after a hand-over that is likely but not certain yet; a driver may start it
ahead of time.

Source: Huang et al., arXiv 2604.14164, Algorithm 1; DESIGN defines where exactly a span ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tessy.boundary.base import DraftingContinues, Prediction, PredictionRequest
from tessy.boundary.cut import Cut, in_class, own_score
from tessy.core.edges import EdgeCursor, base_before
from tessy.core.errors import SampleFailed
from tessy.core.records import Author, other
from tessy.core.repetition import RepetitionMonitor
from tessy.inference.base import Chunk
from tessy.synthesis.actions import Done, Generate, PredictNext, PrefetchedTurn, Rejection
from tessy.synthesis.shared_thinking import AuthoredText, RoleSpec, SharedThinking, keep_aligned
from tessy.synthesis.turn import CooperationStats, Turn

MAX_REDRAWS = 2
DrawSeed = Callable[[Author, int, int, int], int]  # author, chars, drafted ids, redraw -> seed


class Cooperation:
    """One thinking text, written by two models in turns.

    Attributes:
        thinking: The kept text, its spans and ids.
        tally: Counts over all turns.
    """

    def __init__(
        self,
        student: RoleSpec,
        teacher: RoleSpec,
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
        self._parties: dict[Author, RoleSpec] = {"student": student, "teacher": teacher}
        self._key = key
        self._budget = thinking_tokens
        self._seed = seed
        self._cut = cut
        self.thinking = SharedThinking(student, teacher)
        self.tally = CooperationStats()
        self._ended_by: Author | None = None
        self._controls = 0  # spans in a row ended by a control id that is no stop id
        self._redraws = 0
        self._empties: dict[Author, Rejection] = {}
        self._base = EdgeCursor(0)
        self._repetition = RepetitionMonitor("thinking")
        self._early: tuple[PrefetchedTurn, AuthoredText] | None = None
        self._ready: PrefetchedTurn | None = None  # the hand-over came where it was expected
        # The request brought an id; it brought none for lack of room.
        self._answered = self._full = False
        self._turn = self._new_turn("student", exempt=True)
        self._peek_due = False

    @property
    def author(self) -> Author:
        """Who has the pen."""
        return self._turn.author

    @property
    def forced(self) -> dict[Author, int]:
        """Units kept against the predictors because neither author would write on."""
        return self.tally.forced

    @property
    def drafted(self) -> dict[Author, int]:
        """Tokens generated, kept or not, in each model's own tokens."""
        return self.tally.drafted

    @property
    def glued(self) -> int:
        """Hand-overs where the receiver went on inside a word."""
        return self.tally.glued

    # ------------------------------------------------------------------ what to do

    def next(self) -> PredictNext | Generate | Done:
        """What the driver must do now.

        Raises:
            SampleFailed: ``budget``, ``repetition`` or ``empty_thinking``.
        """
        if self._ended_by is not None:
            if not self.thinking.text:
                raise SampleFailed("empty_thinking", f"the {self._ended_by} ended it at once")
            return Done(self._ended_by)
        self._repetition.check(self.thinking.text, self._turn.draft.text)
        ready = self._ready
        if self._peek_due:
            if ready is not None and ready.peek is not None:
                return ready.peek
            return self._peek(self.author, "")
        self._answered = self._full = False
        self._ready = None
        if ready is not None:
            return ready.ask
        draft = self._turn.draft
        return self._ask(
            self.author,
            draft.ids,
            chars=len(self.thinking.text) + len(draft.text),
            place=(len(draft.ids), self._redraws),
            max_tokens=self._allowance(),
        )

    def _ask(
        self,
        author: Author,
        more: Sequence[int],
        *,
        chars: int,
        place: tuple[int, int],
        max_tokens: int,
    ) -> Generate:
        return Generate(
            author=author,
            prompt=self.thinking.ids[author].plus(more),
            max_tokens=max_tokens,
            stop_ids=tuple(sorted(self._parties[author].stop_ids)),
            seed=self._seed(author, chars, *place),
        )

    def _peek(self, author: Author, drafted: str) -> PredictNext:
        kept = self.thinking.text
        view = PredictionRequest(self._key, kept, (len(kept) + len(drafted),), drafted=drafted)
        return PredictNext(author, view)

    def predicted_next(self, judgement: Prediction) -> None:
        """Apply the result of a :class:`PredictNext`; may end the turn at once."""
        self._peek_due = False
        p_style = judgement.next_style
        if p_style is not None and not in_class(self.author, p_style):
            self._end_turn(Rejection(own_score(self.author, p_style), drafted=False))

    # ------------------------------------------------------------------ a draft grows

    def receive(self, chunk: Chunk) -> None:
        """Take what the model has written since the last chunk; what comes too late counts only."""
        self._answered = self._answered or bool(chunk.ids)
        self._full = chunk.finish == "length" and not self._answered
        self._turn.receive(chunk)

    @property
    def over(self) -> bool:
        """The span has ended: close the stream."""
        return self._turn.boundary is not None

    def pending_prediction(self) -> PredictionRequest | None:
        """Units to be judged now; None if there is nothing new."""
        return self._turn.pending_prediction()

    @property
    def calm(self) -> DraftingContinues:
        """True of a prediction if drafting continues after it; thread-safe.

        Such a prediction may be passed to :meth:`judged` as late as the next chunk.
        """
        return self._turn.calm

    def judged(self, view: PredictionRequest, judgement: Prediction) -> None:
        """The predictor's answer to ``view``, which came from :meth:`pending_prediction`."""
        self._turn.apply_prediction(view, judgement)

    @property
    def early(self) -> PrefetchedTurn | None:
        """What will be asked next if the span ends where the draft ends; None if it seems not to.

        The same object for as long as it stands.
        """
        end = self._turn.likely_end
        if end is None:
            return None
        if self._early is None or self._early[0].end != end:
            self._early = self._prepare(end)
        return self._early[0] if self._early else None

    def _prepare(self, end: int) -> tuple[PrefetchedTurn, AuthoredText] | None:
        receiver = other(self.author)
        text = self._turn.draft.text[: end - len(self.thinking.text)]
        piece = self.thinking.piece(self.author, text, self._turn.draft.cut(len(text)))
        available = self._available(receiver, len(piece.student_ids), len(piece.ids(receiver)))
        if min(available) <= 0:
            return None
        more = piece.ids(receiver)
        ask = self._ask(receiver, more, chars=end, place=(0, 0), max_tokens=min(available))
        sees_next = self._parties[receiver].sees_next
        peek = self._peek(receiver, text) if sees_next else None
        return PrefetchedTurn(end, peek, ask), piece

    # ------------------------------------------------------------------ a draft ends

    def closed(self) -> None:
        """The stream has ended or was closed, and every unit that can be judged was.

        Raises:
            SampleFailed: ``eos_in_thinking``: a control id ended two spans in a row; ``budget``:
                the model had no room for a single token.
        """
        turn = self._turn
        if turn.boundary is not None:
            end, rejection = turn.boundary
            early = self._early if self._early and self._early[0].end == end else None
            self._keep(end, early[1] if early else None)
            self._controls = 0
            self._end_turn(rejection)
            self._ready = early[0] if early else None
        elif turn.final == "end":
            self._keep(len(self.thinking.text) + turn.visible)
            self.thinking.trim_end()
            self._ended_by = self.author
        elif turn.final == "control":
            self._keep(len(self.thinking.text) + turn.visible)
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
        elif turn.judged > len(self.thinking.text):
            end = turn.judged - len(self.thinking.text)
            turn.draft = keep_aligned(self.thinking, self.author, turn.draft, end)
            self._early = None  # of a text that was not kept so far
            self._move_base()

    def _keep(self, end: int, piece: AuthoredText | None = None) -> None:
        """Keep the draft up to ``end`` (chars of the whole text) and drop what lies beyond.

        Args:
            end: Where the kept text will end.
            piece: The same as it was prepared before.
        """
        length = end - len(self.thinking.text)
        if length <= 0:
            return
        if piece is None:
            draft = self._turn.draft
            piece = self.thinking.piece(self.author, draft.text[:length], draft.cut(length))
        self.thinking.replay(piece)
        self._move_base()

    def _move_base(self) -> None:
        self._base = base_before(self.thinking.text, self._base, len(self.thinking.text))

    def _end_turn(self, rejection: Rejection) -> None:
        if len(self.thinking.text) > self._turn.start:
            self._empties.clear()
            self._redraws = 0
            self._give(other(self.author))
            return
        self._empties[self.author] = rejection
        if other(self.author) in self._empties:
            self._resolve_deadlock()
        else:
            self._give(other(self.author))

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
            self._give(other(self.author) if other(self.author) in again else self.author)
            return
        student, teacher = self._empties["student"].score, self._empties["teacher"].score
        self._empties.clear()
        self._give("teacher" if teacher > student else "student", exempt=True)
        self._turn.forcing = True

    def _give(self, author: Author, *, exempt: bool = False) -> None:
        """Give the pen to ``author``; an exempt turn keeps its first unit pending_prediction."""
        self._turn = self._new_turn(author, exempt=exempt)
        self._peek_due = not exempt and self._parties[author].sees_next
        self._early = self._ready = None

    def _new_turn(self, author: Author, *, exempt: bool) -> Turn:
        return Turn(
            self._parties[author],
            author,
            self.thinking,
            key=self._key,
            cut=self._cut,
            base=self._base,
            tally=self.tally,
            exempt=exempt,
        )

    # ------------------------------------------------------------------ limits

    def _allowance(self) -> int:
        """Tokens the next request may draft."""
        pending = len(self._turn.draft.ids)
        tokens, budget, available = self._available(self.author, pending, pending)
        if budget <= 0:
            raise SampleFailed("budget", f"the thinking reached {self._budget} tokens")
        if available <= 0:
            most = self._parties[self.author].room_tokens
            raise SampleFailed("budget", f"the {self.author}'s context is full at {most} tokens")
        return min(tokens, budget, available)

    def _available(self, author: Author, student_more: int, own_more: int) -> tuple[int, int, int]:
        """Tokens ``author`` may draft once the text is longer: in a request, of budget, of context.

        Args:
            author: Who would draft.
            student_more: By how much it is longer, in the student's tokens.
            own_more: In the author's.
        """
        party = self._parties[author]
        budget = self._budget - self.thinking.length("student") - student_more
        available = party.room_tokens - self.thinking.length(author) - own_more
        return party.request_tokens, budget, available

    # ------------------------------------------------------------------ the journal

    def state(self) -> dict[str, Any]:
        """Everything but the pieces, as JSON values of its own; taken before a request starts."""
        turn = self._turn
        return {
            "author": turn.author,
            "draft": list(turn.draft.ids),
            "anchored": turn.anchored,
            "judged": turn.judged,
            "exempt": turn.exempt,
            "forcing": turn.forcing,
            "turn_start": turn.start,
            "peek_due": self._peek_due,
            "empties": {a: [r.score, r.drafted] for a, r in self._empties.items()},
            "redraws": self._redraws,
            "controls": self._controls,
            "forced": dict(self.forced),
            "drafted": dict(self.drafted),
            "glued": self.glued,
            "base": list(self._base),
            "checked": self._repetition.checked,
            "ended_by": self._ended_by,
        }

    def restore(self, state: Mapping[str, Any], pieces: Iterable[AuthoredText]) -> None:
        """Go on from a saved state; only for a machine that has done nothing yet."""
        for piece in pieces:
            self.thinking.replay(piece)
        self._empties = {a: Rejection(*r) for a, r in state["empties"].items()}
        self._redraws, self._controls = state["redraws"], state["controls"]
        self.tally = CooperationStats(dict(state["forced"]), dict(state["drafted"]), state["glued"])
        self._repetition = RepetitionMonitor("thinking", state["checked"])
        self._base = EdgeCursor(*state["base"])
        self._ended_by = state["ended_by"]
        self._turn = self._new_turn(state["author"], exempt=state["exempt"])
        self._turn.resume(state)
        self._peek_due = state["peek_due"]
        if self._ended_by is not None:
            self.thinking.trim_end()

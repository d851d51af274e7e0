"""Algorithm 1 as a state machine: no I/O, no clock, no randomness of its own.

The driver calls :meth:`Cooperation.next` and carries out the action:

- ``PredictNext``: run the author's predictor on the request, call ``predicted_next``.
- ``Generate``: stream from the author's model. For each chunk call ``receive``, run the predictor
  on ``pending_prediction()`` and call ``apply_prediction``. Close the stream as soon as ``over`` is
  true. When the stream has ended or was closed and no prediction is pending, call ``closed``.
- ``Done``: the thinking has ended.

``likely_next`` is the next turn if a hand-over that is likely takes place; a driver may prefetch
it.

Source: Huang et al., arXiv 2604.14164, Algorithm 1. Spans end at edges (:mod:`tessy.core.edges`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tessy.boundary.base import Prediction, PredictionRequest
from tessy.boundary.cut import Cut, in_class, own_score
from tessy.core.edges import EdgeCursor, cursor_before
from tessy.core.errors import SampleFailed
from tessy.core.records import Author, other
from tessy.core.repetition import RepetitionMonitor
from tessy.inference.base import Chunk
from tessy.synthesis.actions import Done, Generate, PredictNext, PrefetchedTurn, Rejection
from tessy.synthesis.resume import CooperationState
from tessy.synthesis.shared_thinking import AuthoredText, RoleSpec, SharedThinking
from tessy.synthesis.turn import Turn

MAX_REDRAWS = 2
DrawSeed = Callable[[Author, int, int, int], int]  # author, chars, drafted ids, redraw -> seed


class Cooperation:
    """One thinking text, written by two models in turns."""

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
        """Start with the student, whose first unit is never classified.

        ``thinking_tokens`` is the budget in student tokens. ``key`` identifies the sample in the
        predictors' caches. ``seed`` returns the seed of a request.
        """
        self._roles: dict[Author, RoleSpec] = {"student": student, "teacher": teacher}
        self._key = key
        self._budget = thinking_tokens
        self._seed = seed
        self._cut = cut
        self.thinking = SharedThinking(student, teacher)
        self._ended_by: Author | None = None
        self._controls = 0  # spans in a row ended by a control id that is no stop id
        self._redraws = 0
        self._rejections: dict[Author, Rejection] = {}
        self._base = EdgeCursor(0)
        self._repetition = RepetitionMonitor("thinking")
        self._likely_next: tuple[PrefetchedTurn, AuthoredText] | None = None
        self._ready: PrefetchedTurn | None = None  # the current turn, if it was prefetched
        self._answered = False  # the request has returned an id
        self._full = False  # the request returned none, because the context is full
        self._turn = self._new_turn("student", exempt=True)
        self._prediction_due = False

    @property
    def author(self) -> Author:
        """The author of the current turn."""
        return self._turn.author

    def next(self) -> PredictNext | Generate | Done:
        """Return the next action.

        Raises:
            SampleFailed: ``budget``, ``repetition`` or ``empty_thinking``.
        """
        if self._ended_by is not None:
            if not self.thinking.text:
                raise SampleFailed("empty_thinking", f"the {self._ended_by} ended it at once")
            return Done(self._ended_by)
        self._repetition.check(self.thinking.text, self._turn.draft.text)
        ready = self._ready
        if self._prediction_due:
            if ready is not None and ready.predict_next is not None:
                return ready.predict_next
            return self._predict_next(self.author, "")
        self._answered = self._full = False
        self._ready = None
        if ready is not None:
            return ready.generate
        draft = self._turn.draft
        return self._generate(
            self.author,
            draft.ids,
            chars=len(self.thinking.text) + len(draft.text),
            place=(len(draft.ids), self._redraws),
            max_tokens=self._allowance(),
        )

    def _generate(
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
            stop_ids=tuple(sorted(self._roles[author].stop_ids)),
            seed=self._seed(author, chars, *place),
        )

    def _predict_next(self, author: Author, drafted: str) -> PredictNext:
        kept = self.thinking.text
        request = PredictionRequest(self._key, kept, (len(kept) + len(drafted),), drafted=drafted)
        return PredictNext(author, request)

    def predicted_next(self, prediction: Prediction) -> None:
        """Apply the result of a :class:`PredictNext`; may end the turn at once."""
        self._prediction_due = False
        p_style = prediction.next_style
        if p_style is not None and not in_class(self.author, p_style):
            self._end_turn(Rejection(own_score(self.author, p_style), drafted=False))

    def receive(self, chunk: Chunk) -> None:
        """Add the tokens of ``chunk`` to the draft; after the end of the span they only count."""
        self._answered = self._answered or bool(chunk.ids)
        self._full = chunk.finish == "length" and not self._answered
        self._turn.receive(chunk)

    @property
    def over(self) -> bool:
        """Whether the span has ended, so that the stream can be closed."""
        return self._turn.boundary is not None

    def pending_prediction(self) -> PredictionRequest | None:
        """Return the request for units to classify; None if there are no new ones."""
        return self._turn.pending_prediction()

    def apply_prediction(self, request: PredictionRequest, prediction: Prediction) -> None:
        """Apply the prediction for ``request``, which :meth:`pending_prediction` returned."""
        self._turn.apply_prediction(request, prediction)

    @property
    def likely_next(self) -> PrefetchedTurn | None:
        """The next turn if the span ends at the end of the draft, as is likely, else None.

        The same object as long as it is valid.
        """
        end = self._turn.likely_end
        if end is None:
            return None
        if self._likely_next is None or self._likely_next[0].end != end:
            self._likely_next = self._prepare(end)
        return self._likely_next[0] if self._likely_next else None

    def _prepare(self, end: int) -> tuple[PrefetchedTurn, AuthoredText] | None:
        receiver = other(self.author)
        text = self._turn.draft.text[: end - len(self.thinking.text)]
        piece = self.thinking.piece(self.author, text, self._turn.draft.cut(len(text)))
        receiver_ids = piece.ids(receiver)
        tokens = min(self._available(receiver, len(piece.student_ids), len(receiver_ids)))
        if tokens <= 0:
            return None
        generate = self._generate(
            receiver, receiver_ids, chars=end, place=(0, 0), max_tokens=tokens
        )
        sees_next = self._roles[receiver].sees_next
        predict_next = self._predict_next(receiver, text) if sees_next else None
        return PrefetchedTurn(end, predict_next, generate), piece

    def closed(self) -> None:
        """End the span: the stream has ended or was closed, and no prediction is pending.

        Raises:
            SampleFailed: ``eos_in_thinking``: a control id ended two spans in a row; ``budget``:
                the context had no space for a single token.
        """
        turn = self._turn
        if turn.boundary is not None:
            end, rejection = turn.boundary
            prefetched, piece = self._likely_next or (None, None)
            if prefetched is None or prefetched.end != end:
                prefetched = piece = None
            self._keep(end, piece)
            self._controls = 0
            self._end_turn(rejection)
            self._ready = prefetched
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
        elif turn.classified_end > len(self.thinking.text):
            self._keep_while_drafting(turn.classified_end - len(self.thinking.text))

    def _keep_while_drafting(self, chars: int) -> None:
        """Keep ``chars`` of the draft if no token straddles their end: tokens stay as sampled."""
        draft = self._turn.draft
        count = draft.aligned(chars)
        if count and draft.end_of(count) == chars:
            self._keep(len(self.thinking.text) + chars)
            self._turn.draft = draft.split(count)
        self._likely_next = None  # of a text that was not kept so far

    def _keep(self, end: int, piece: AuthoredText | None = None) -> None:
        """Keep the draft up to ``end`` (chars of the whole text), prepared as ``piece``."""
        length = end - len(self.thinking.text)
        if length <= 0:
            return
        if piece is None:
            draft = self._turn.draft
            piece = self.thinking.piece(self.author, draft.text[:length], draft.cut(length))
        self.thinking.append(piece)
        self._base = cursor_before(self.thinking.text, self._base, len(self.thinking.text))

    def _end_turn(self, rejection: Rejection) -> None:
        if len(self.thinking.text) > self._turn.start:
            self._rejections.clear()
            self._redraws = 0
            self._start_turn(other(self.author))
            return
        self._rejections[self.author] = rejection
        if other(self.author) in self._rejections:
            self._resolve_deadlock()
        else:
            self._start_turn(other(self.author))

    def _resolve_deadlock(self) -> None:
        """Neither author would continue here: redraw if that can help, else force one unit."""
        again = [
            author
            for author, rejection in self._rejections.items()
            if rejection.drafted and self._roles[author].redraws
        ]
        if again and self._redraws < MAX_REDRAWS:
            self._redraws += 1
            for author in again:
                del self._rejections[author]
            self._start_turn(other(self.author) if other(self.author) in again else self.author)
            return
        student, teacher = self._rejections["student"].score, self._rejections["teacher"].score
        self._rejections.clear()
        self._start_turn("teacher" if teacher > student else "student", exempt=True)
        self._turn.forcing = True

    def _start_turn(self, author: Author, *, exempt: bool = False) -> None:
        self._turn = self._new_turn(author, exempt=exempt)
        self._prediction_due = not exempt and self._roles[author].sees_next
        self._likely_next = self._ready = None

    def _new_turn(self, author: Author, *, exempt: bool) -> Turn:
        return Turn(
            self._roles[author],
            author,
            self.thinking,
            key=self._key,
            cut=self._cut,
            base=self._base,
            exempt=exempt,
        )

    def _allowance(self) -> int:
        pending = len(self._turn.draft.ids)
        tokens, budget, available = self._available(self.author, pending, pending)
        if budget <= 0:
            raise SampleFailed("budget", f"the thinking reached {self._budget} tokens")
        if available <= 0:
            limit = self._roles[self.author].room_tokens
            raise SampleFailed("budget", f"the {self.author}'s context is full at {limit} tokens")
        return min(tokens, budget, available)

    def _available(self, author: Author, student_more: int, own_more: int) -> tuple[int, int, int]:
        """Return the tokens that ``author`` may draft: the limits of a request, budget and context.

        The text has grown by ``student_more`` student tokens and ``own_more`` tokens of the author.
        """
        role = self._roles[author]
        budget = self._budget - self.thinking.length("student") - student_more
        available = role.room_tokens - self.thinking.length(author) - own_more
        return role.request_tokens, budget, available

    def state(self) -> CooperationState:
        """Return everything but the texts; taken before a request starts."""
        turn = self._turn
        return CooperationState(
            texts=(),
            author=turn.author,
            draft=tuple(turn.draft.ids),
            anchored=turn.anchored,
            classified_end=turn.classified_end,
            exempt=turn.exempt,
            forcing=turn.forcing,
            turn_start=turn.start,
            prediction_due=self._prediction_due,
            rejections=dict(self._rejections),
            redraws=self._redraws,
            controls=self._controls,
            forced=dict(self.thinking.forced),
            mid_word_handovers=self.thinking.mid_word_handovers,
            base=self._base,
            checked=self._repetition.checked,
            ended_by=self._ended_by,
        )

    def restore(self, state: CooperationState) -> None:
        """Restore a saved state with its texts; only on a new instance."""
        for text in state.texts:
            self.thinking.append(text)
        self.thinking.take_texts()  # they are saved already
        self._rejections = dict(state.rejections)
        self._redraws, self._controls = state.redraws, state.controls
        self.thinking.forced = dict(state.forced)
        self.thinking.mid_word_handovers = state.mid_word_handovers
        self._repetition = RepetitionMonitor("thinking", state.checked)
        self._base = state.base
        self._ended_by = state.ended_by
        self._turn = self._new_turn(state.author, exempt=state.exempt)
        self._turn.resume(state)
        self._prediction_due = state.prediction_due
        if self._ended_by is not None:
            self.thinking.trim_end()

"""Views of many samples, judged together by a classifier that looks at each new token once.

A sample keeps the window it is in, and the one before while a rollback may go back there. What of a
window has been read is compared with what is wanted, so an unchanged text costs nothing, a longer
one its new tokens, and a changed one what follows the change.

No threads and no clock here: the predictor calls :meth:`WindowReader.turn` in its
worker thread.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from tessy.boundary.base import Prediction, PredictionRequest, UnitScore
from tessy.boundary.classifier.labels import deciding
from tessy.boundary.classifier.scoring import PredictorStats, Scores, WindowModel
from tessy.boundary.classifier.window import TokenizedText, TokenWindow, WindowRule
from tessy.inference.local.jobs import batches, common_prefix
from tessy.tokenization.token_ids import Codec

_LONG_EVERY = 3  # turns


@dataclass(eq=False, slots=True)
class CachedWindow:
    """A window of a sample, as far as it has been read.

    ``state`` may know fewer tokens than have scores, when their keys and values made room for
    others.
    """

    start: int
    state: Any  # the model's own type
    ids: array[int] = field(default_factory=partial(array, "i"))
    scores: list[float] = field(default_factory=list)
    known: int = 0  # tokens that `state` knows
    busy: bool = False

    def read(self, wanted: array[int], scores: Scores) -> None:
        """Take in the scores of the next tokens of ``wanted``."""
        end = self.known + len(scores)
        self.scores[self.known : end] = scores
        self.known = end
        if end > len(self.ids):
            self.ids = wanted[:end]


@dataclass(eq=False, slots=True)
class _SampleWindows:
    reading: TokenizedText
    tracks: list[CachedWindow] = field(default_factory=list)  # the one used last at the end
    busy: bool = False


class Answer(NamedTuple):
    """What became of a question."""

    question: Any
    result: Prediction | Exception


@dataclass(eq=False, slots=True)
class _Task:
    """A question being worked on, window by window."""

    question: Any
    view: PredictionRequest
    sample: _SampleWindows
    windows: deque[TokenWindow]
    scored: list[tuple[TokenWindow, Scores]] = field(default_factory=list)
    track: CachedWindow | None = None
    wanted: array[int] = field(default_factory=partial(array, "i"))

    def note(self, track: CachedWindow) -> None:
        """The next window has been read: its scores stand in ``track``."""
        self.scored.append((self.windows.popleft(), track.scores))


class WindowReader:
    """Judges views; a view's answer comes out of a later :meth:`turn`.

    Attributes:
        stats: What has been done so far.
    """

    def __init__(
        self,
        model: WindowModel[Any],
        codec: Codec,
        rule: WindowRule,
        *,
        max_batch: int,
        slack: int,
    ) -> None:
        """Read by ``model``.

        Args:
            model: The classifier.
            codec: Of its tokenizer.
            rule: How long windows are.
            max_batch: Views judged together.
            slack: Padding tokens worth computing to spare one more forward pass.
        """
        self.stats = PredictorStats()
        self._model = model
        self._codec = codec
        self._rule = rule
        self._max_batch = max_batch
        self._slack = slack
        self._samples: dict[str, _SampleWindows] = {}
        self._waiting: deque[tuple[Any, PredictionRequest] | str] = (
            deque()
        )  # a key stands for its release
        self._parked: list[_Task] = []  # between two windows, without room for the second
        self._active: list[_Task] = []
        self._put_off = 0  # turns for which long windows have let short ones go first
        # Tracks with keys and values, the one used longest ago first.
        self._held: OrderedDict[CachedWindow, None] = OrderedDict()

    @property
    def idle(self) -> bool:
        """Nothing is waiting or under way."""
        return not (self._waiting or self._parked or self._active)

    def ask(self, question: object, view: PredictionRequest) -> None:
        """Have ``view`` judged; ``question`` comes back with its answer."""
        self._waiting.append((question, view))

    def release(self, key: str) -> None:
        """Forget the sample ``key`` once what was asked about it before is answered."""
        self._waiting.append(key)

    def abandon(self) -> list[Any]:
        """Forget everything; the questions that stay unanswered."""
        left = [task.question for task in (*self._active, *self._parked)]
        left += [item[0] for item in self._waiting if not isinstance(item, str)]
        self._active, self._parked = [], []
        self._waiting.clear()
        for key in list(self._samples):
            self._forget(key)
        return left

    def turn(self, cancelled: Callable[[Any], bool]) -> Iterator[list[Answer]]:
        """Take in what waits, and read on in the windows under way, short ones first.

        Long ones, which are read anew because their anchor moved, take a pass of their own. They
        let short ones go first in two turns of three: of a thousand samples one has such a window
        in nearly every turn, and all the others would wait for it.

        Args:
            cancelled: Whether nobody waits for a question any more.

        Yields:
            Questions as they are answered.
        """
        answers = self._admit(cancelled)
        if answers:
            yield answers
        step = []
        for task in self._active:
            assert task.track is not None
            known = task.track.known
            step.append((task, task.wanted[known : known + self._model.step_tokens].tolist()))
        groups = list(batches(step, self._slack))
        self._put_off = (self._put_off + 1) % _LONG_EVERY if len(groups) > 1 else 0
        for members in groups[:1] if self._put_off else groups:
            answers = self._pass(members)
            if answers:
                yield answers

    # -- who is worked on

    def _admit(self, cancelled: Callable[[Any], bool]) -> list[Answer]:
        answers: list[Answer] = []
        tasks, self._parked = self._parked, []
        for task in tasks:
            self._go_on(task, answers)
        later: deque[tuple[Any, PredictionRequest] | str] = deque()
        blocked: set[str] = set()  # a sample's questions and its release keep their order
        while self._waiting and len(self._active) < self._max_batch:
            item = self._waiting.popleft()
            key = item if isinstance(item, str) else item[1].key
            sample = self._samples.get(key)
            if key in blocked or (sample is not None and sample.busy):
                blocked.add(key)
                later.append(item)
            elif isinstance(item, str):
                self._forget(key)
            elif cancelled(item[0]):
                continue
            elif self._parked:  # no room: those who came first go first
                blocked.add(key)
                later.append(item)
            else:
                self._begin(*item, answers)
        self._waiting.extendleft(reversed(later))
        return answers

    def _begin(self, question: object, view: PredictionRequest, answers: list[Answer]) -> None:
        sample = self._samples.get(view.key)
        if sample is None:
            sample = self._samples[view.key] = _SampleWindows(
                TokenizedText(self._codec, self._rule)
            )
        task = _Task(question, view, sample, deque())
        sample.busy = True
        try:
            task.windows.extend(_windows(sample.reading, view))
        except Exception as error:  # the tokenizer's; this text alone is at fault
            self._fail(task, error, answers)
        else:
            self._go_on(task, answers)

    def _go_on(self, task: _Task, answers: list[Answer]) -> None:
        """Turn to the next window that needs the model; without any the task is done."""
        try:
            judgement = self._next(task)
        except Exception as error:  # running out of memory, say; nobody may be left hanging
            self._fail(task, error, answers)
            return
        if judgement is not None:
            answers.append(Answer(task.question, judgement))

    def _next(self, task: _Task) -> Prediction | None:
        """The judgement if nothing is left to read; None once the task waits for the model."""
        while task.windows:
            window = task.windows[0]
            wanted = task.sample.reading.ids_in(window)
            track = self._track(task.sample, window.start)
            shared = common_prefix(track.ids, wanted)
            if shared < len(wanted):
                if not self._prepare(track, wanted, shared):
                    self._parked.append(task)
                    return None
                task.track, task.wanted = track, wanted
                self._active.append(task)
                return None
            task.note(track)
        self.stats.views += 1
        self._settle(task)
        return judge(task.view, task.sample.reading, task.scored)

    def _settle(self, task: _Task) -> None:
        """Leave the sample to its next question."""
        sample = task.sample
        sample.busy = False
        if sample.tracks:
            # A rollback reaches a few words back; what a window before holds is soon of no use.
            last = sample.tracks[-1]
            reached = last.start + len(last.ids) - self._rule.keep // 2
            for track in sample.tracks[:-1]:
                if track.start < last.start and track.start + len(track.ids) < reached:
                    sample.tracks.remove(track)
                    self._free(track)

    def _fail(self, task: _Task, error: Exception, answers: list[Answer]) -> None:
        """Give up a task, and what its sample kept: it may be half written."""
        if task.track is not None:
            task.track.busy = False
        task.sample.busy = False
        self._forget(task.view.key)
        answers.append(Answer(task.question, error))

    def _forget(self, key: str) -> None:
        sample = self._samples.pop(key, None)
        for track in sample.tracks if sample is not None else ():
            self._free(track)

    # -- windows

    def _track(self, sample: _SampleWindows, start: int) -> CachedWindow:
        """The track of the window that starts at the token ``start``, as the one used last."""
        for track in sample.tracks:
            if track.start == start:
                sample.tracks.remove(track)
                if track in self._held:
                    self._held.move_to_end(track)
                break
        else:
            track = CachedWindow(start, self._model.new())
            self.stats.openings += 1
            if len(sample.tracks) == 2:
                self._free(sample.tracks.pop(0))
        sample.tracks.append(track)
        return track

    def _prepare(self, track: CachedWindow, wanted: array[int], shared: int) -> bool:
        """Cut ``track`` back to the ids it shares with ``wanted``, and make room for the rest."""
        del track.ids[shared:], track.scores[shared:]
        track.known = self._model.rollback(track.state, min(shared, track.known))
        track.busy = True
        self._held[track] = None
        self._held.move_to_end(track)
        while not self._model.reserve(track.state, len(wanted) - track.known):
            victim = next((t for t in self._held if not t.busy), None)
            if victim is None:
                track.busy = False
                return False
            self._free(victim)
            self.stats.cache_drops += 1
        return True

    def _free(self, track: CachedWindow) -> None:
        """Give back its keys and values; ids and scores stay."""
        track.known = self._model.rollback(track.state, 0)
        self._held.pop(track, None)

    def _pass(self, members: Sequence[tuple[_Task, list[int]]]) -> list[Answer]:
        """One forward pass; tasks whose windows are read go on."""
        answers: list[Answer] = []
        self.stats.passed([len(new) for _, new in members])
        gone = {task for task, _ in members}
        try:
            pairs = [(task.track.state, new) for task, new in members if task.track is not None]
            found = self._model.forward(pairs)
        except Exception as error:  # modelling code may fail in any way; those who wait must know
            self._active = [task for task in self._active if task not in gone]
            for task in gone:
                self._fail(task, error, answers)
            return answers
        ready = []
        for (task, _), scores in zip(members, found, strict=True):
            track = task.track
            assert track is not None
            track.read(task.wanted, scores)
            if track.known == len(task.wanted):
                ready.append(task)
        self._active = [task for task in self._active if task not in set(ready)]
        for task in ready:
            assert task.track is not None
            task.track.busy = False
            self._held.move_to_end(task.track)  # its place was that of the beginning
            task.note(task.track)
            task.track = None
            self._go_on(task, answers)
        return answers


def _windows(reading: TokenizedText, view: PredictionRequest) -> list[TokenWindow]:
    """Windows that say what ``view`` asks for, once ``reading`` is of its text."""
    reading.read(view.kept, view.drafted)
    if not reading:
        return []
    return reading.windows(reading.tokens_of(view.edges[0], view.edges[-1])[0])


def judge(
    view: PredictionRequest, reading: TokenizedText, scored: Sequence[tuple[TokenWindow, Scores]]
) -> Prediction:
    """Read the scores of ``view`` off the windows that hold it."""

    def style(token: int) -> float | None:
        for window, scores in scored:
            if window.start < token < window.end:
                return scores[token - 1 - window.start]
        return None  # nothing comes before the first token of a text

    found = []
    for unit in reading.units_of(view.edges, view.own_from):
        known = [p for p in map(style, deciding(unit, reading.is_blank)) if p is not None]
        found.append(UnitScore(known[0], min(known), max(known)) if known else UnitScore(1, 1, 1))
    if not scored:
        return Prediction(tuple(found))
    last, scores = scored[-1]
    return Prediction(tuple(found), scores[last.end - last.start - 1])

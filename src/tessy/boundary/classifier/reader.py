"""Batched scoring of requests of many samples; the classifier reads each new token once.

A sample keeps its current window, and the one before while a rollback may return to it. Cached ids
are compared with the ids to read, so only new and changed tokens are read. This module uses no
threads and no clock: the predictor calls :meth:`WindowReader.step` in its worker thread.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

from tessy.boundary.base import Prediction, PredictionRequest, UnitScore
from tessy.boundary.classifier.labels import deciding_tokens
from tessy.boundary.classifier.window import TokenizedText, TokenWindow, WindowRule
from tessy.inference.local.jobs import batches, common_prefix
from tessy.tokenization.token_ids import Codec

_LONG_EVERY = 3  # steps
Scores = Sequence[float]  # P(style) of what follows each token
StateT = TypeVar("StateT")


class WindowModel(Protocol[StateT]):
    """A classifier that reads windows incrementally; ``StateT`` is its state of one window.

    It reads at most ``step_tokens`` tokens of a window in one pass.
    """

    step_tokens: int

    def new(self) -> StateT:
        """Return the state of an empty window."""

    def reserve(self, state: StateT, count: int) -> bool:
        """Reserve memory for ``count`` more tokens; return False if there is not enough."""

    def rollback(self, state: StateT, length: int) -> int:
        """Free all but at most the first ``length`` tokens; return the number kept."""

    def forward(self, members: Sequence[tuple[StateT, Sequence[int]]]) -> list[Scores]:
        """Read the new tokens of each window; return P(style) of what follows each token.

        Each member has at least one new token, and its memory is reserved.
        """


@dataclass(slots=True)
class PredictorStats:
    """Counters of a predictor since it was loaded."""

    passes: int = 0  # forward passes
    windows: int = 0  # summed over all passes
    tokens: int = 0  # tokens read; a token read twice counts twice
    openings: int = 0  # windows opened: for a sample, a move of its anchor, and after a rollback
    cache_drops: int = 0  # windows whose keys and values were evicted


@dataclass(eq=False, slots=True)
class CachedWindow:
    """A window of a sample, as far as the classifier has read it.

    ``cached`` may be smaller than the number of scores, when the keys and values were evicted.
    """

    start: int
    state: Any  # of the model's own type
    ids: array[int] = field(default_factory=partial(array, "i"))
    scores: list[float] = field(default_factory=list)
    cached: int = 0  # tokens whose keys and values `state` holds
    in_use: bool = False


@dataclass(eq=False, slots=True)
class _SampleWindows:
    text: TokenizedText
    windows: list[CachedWindow] = field(default_factory=list)  # the most recently used one last
    busy: bool = False


class RequestResult(NamedTuple):
    """The outcome of a request, with the handle it was submitted with."""

    handle: Any
    result: Prediction | Exception


@dataclass(eq=False, slots=True)
class _Task:
    handle: Any
    request: PredictionRequest
    sample: _SampleWindows
    remaining: deque[TokenWindow] | None = None  # None until the text is encoded
    scored: list[tuple[TokenWindow, Scores]] = field(default_factory=list)
    window: CachedWindow = field(init=False)  # the one being read
    ids: array[int] = field(default_factory=partial(array, "i"))  # its tokens


class WindowReader:
    """Computes predictions in batches; the result of a request is yielded by a later step.

    At most ``max_batch`` requests are in progress; ``slack`` is the number of padding tokens worth
    computing to save one forward pass.
    """

    def __init__(
        self, model: WindowModel[Any], codec: Codec, rule: WindowRule, *, max_batch: int, slack: int
    ) -> None:
        self.stats = PredictorStats()
        self._model = model
        self._codec = codec
        self._rule = rule
        self._max_batch = max_batch
        self._slack = slack
        self._samples: dict[str, _SampleWindows] = {}
        # Requests, and keys of samples to release.
        self._waiting: deque[tuple[Any, PredictionRequest] | str] = deque()
        self._parked: list[_Task] = []  # their next window does not fit into the cache
        self._active: list[_Task] = []
        self._postponed = 0  # consecutive steps in which long windows were postponed
        # Windows with keys and values, the least recently used first.
        self._cached: OrderedDict[CachedWindow, None] = OrderedDict()

    @property
    def idle(self) -> bool:
        """True if there are no requests, neither waiting nor in progress."""
        return not (self._waiting or self._parked or self._active)

    def submit(self, handle: object, request: PredictionRequest) -> None:
        """Queue ``request``; its result carries ``handle``."""
        self._waiting.append((handle, request))

    def release(self, key: str) -> None:
        """Drop the sample ``key`` after its earlier requests."""
        self._waiting.append(key)

    def abandon(self) -> list[Any]:
        """Drop everything; return the handles of unfinished requests."""
        unfinished = [task.handle for task in (*self._active, *self._parked)]
        unfinished += [item[0] for item in self._waiting if not isinstance(item, str)]
        self._active, self._parked = [], []
        self._waiting.clear()
        for key in list(self._samples):
            self._drop(key)
        return unfinished

    def step(self, cancelled: Callable[[Any], bool]) -> Iterator[list[RequestResult]]:
        """Admit waiting requests and run forward passes; yield results as requests finish.

        Windows of similar length share a pass, the short ones first. Long windows, which are read
        from the start because their anchor moved, are postponed in two steps of three; otherwise
        the short ones of all other samples would wait for them in nearly every step.

        ``cancelled`` returns whether the request of a handle was cancelled.
        """
        results = self._admit(cancelled)
        if results:
            yield results
        inputs = []
        for task in self._active:
            cached = task.window.cached
            inputs.append((task, task.ids[cached : cached + self._model.step_tokens].tolist()))
        groups = list(batches(inputs, self._slack))
        self._postponed = (self._postponed + 1) % _LONG_EVERY if len(groups) > 1 else 0
        for members in groups[:1] if self._postponed else groups:
            results = self._forward(members)
            if results:
                yield results

    # -- scheduling

    def _admit(self, cancelled: Callable[[Any], bool]) -> list[RequestResult]:
        results: list[RequestResult] = []
        tasks, self._parked = self._parked, []
        for task in tasks:
            self._advance(task, results)
        later: deque[tuple[Any, PredictionRequest] | str] = deque()
        blocked: set[str] = set()  # the requests of a sample and its release keep their order
        while self._waiting and len(self._active) < self._max_batch:
            item = self._waiting.popleft()
            key = item if isinstance(item, str) else item[1].key
            sample = self._samples.get(key)
            if key in blocked or (sample is not None and sample.busy):
                blocked.add(key)
                later.append(item)
            elif isinstance(item, str):
                self._drop(key)
            elif cancelled(item[0]):
                continue
            elif self._parked:  # the cache is full: parked tasks have priority
                blocked.add(key)
                later.append(item)
            else:
                self._start(*item, results)
        self._waiting.extendleft(reversed(later))
        return results

    def _start(
        self, handle: object, request: PredictionRequest, results: list[RequestResult]
    ) -> None:
        sample = self._samples.get(request.key)
        if sample is None:
            sample = _SampleWindows(TokenizedText(self._codec, self._rule))
            self._samples[request.key] = sample
        sample.busy = True
        self._advance(_Task(handle, request, sample), results)

    def _advance(self, task: _Task, results: list[RequestResult]) -> None:
        """Continue with the next window that needs the model; finish the task without one."""
        try:
            self._next_window(task, results)
        # Out of memory, or a text that the tokenizer refuses: the caller must get an outcome.
        except Exception as error:
            self._fail(task, error, results)

    def _next_window(self, task: _Task, results: list[RequestResult]) -> None:
        if task.remaining is None:
            text, edges = task.sample.text, task.request.edges
            text.update(task.request.kept, task.request.drafted)
            first, _ = text.token_range(edges[0], edges[-1])
            task.remaining = deque(text.windows(first) if text else ())
        while task.remaining:
            token_window = task.remaining[0]
            ids = task.sample.text.ids_in(token_window)
            window = self._cached_window(task.sample, token_window.start)
            shared = common_prefix(window.ids, ids)
            if shared < len(ids):
                if not self._reserve(window, ids, shared):
                    self._parked.append(task)
                    return
                task.window, task.ids = window, ids
                self._active.append(task)
                return
            task.scored.append((task.remaining.popleft(), window.scores))
        self._finish(task)
        prediction = _prediction_of(task.request, task.sample.text, task.scored)
        results.append(RequestResult(task.handle, prediction))

    def _finish(self, task: _Task) -> None:
        """Free the sample for its next request."""
        sample = task.sample
        sample.busy = False
        if sample.windows:
            # A rollback reaches a few words back: free windows that end well before that.
            last = sample.windows[-1]
            reached = last.start + len(last.ids) - self._rule.keep // 2
            for window in sample.windows[:-1]:
                if window.start < last.start and window.start + len(window.ids) < reached:
                    sample.windows.remove(window)
                    self._evict(window)

    def _fail(self, task: _Task, error: Exception, results: list[RequestResult]) -> None:
        """Fail the task and drop its sample, whose state may be inconsistent."""
        task.sample.busy = False
        self._drop(task.request.key)
        results.append(RequestResult(task.handle, error))

    def _drop(self, key: str) -> None:
        sample = self._samples.pop(key, None)
        for window in sample.windows if sample is not None else ():
            self._evict(window)

    # -- windows

    def _cached_window(self, sample: _SampleWindows, start: int) -> CachedWindow:
        """Return the window that starts at token ``start``, marked as most recently used."""
        for window in sample.windows:
            if window.start == start:
                sample.windows.remove(window)
                if window in self._cached:
                    self._cached.move_to_end(window)
                break
        else:
            window = CachedWindow(start, self._model.new())
            self.stats.openings += 1
            if len(sample.windows) == 2:
                self._evict(sample.windows.pop(0))
        sample.windows.append(window)
        return window

    def _reserve(self, window: CachedWindow, ids: array[int], shared: int) -> bool:
        """Truncate ``window`` to the ``shared`` first tokens of ``ids`` and reserve the rest.

        Evicts the least recently used windows where necessary; returns False without enough memory.
        """
        del window.ids[shared:], window.scores[shared:]
        window.cached = self._model.rollback(window.state, min(shared, window.cached))
        window.in_use = True
        self._cached[window] = None
        self._cached.move_to_end(window)
        while not self._model.reserve(window.state, len(ids) - window.cached):
            victim = next((other for other in self._cached if not other.in_use), None)
            if victim is None:
                window.in_use = False
                return False
            self._evict(victim)
            self.stats.cache_drops += 1
        return True

    def _evict(self, window: CachedWindow) -> None:
        """Free the keys and values of ``window``; its ids and scores stay."""
        window.cached = self._model.rollback(window.state, 0)
        self._cached.pop(window, None)

    def _forward(self, members: Sequence[tuple[_Task, list[int]]]) -> list[RequestResult]:
        """Run one forward pass; advance the tasks whose window is complete."""
        results: list[RequestResult] = []
        self.stats.passes += 1
        self.stats.windows += len(members)
        self.stats.tokens += sum(len(new) for _, new in members)
        tasks = {task for task, _ in members}
        try:
            outputs = self._model.forward([(task.window.state, new) for task, new in members])
        except Exception as error:  # modelling code may raise anything: the callers must get it
            self._active = [task for task in self._active if task not in tasks]
            for task in tasks:
                self._fail(task, error, results)
            return results
        ready = []
        for (task, _), scores in zip(members, outputs, strict=True):
            window = task.window
            end = window.cached + len(scores)
            window.scores[window.cached : end] = scores
            window.cached = end
            if end > len(window.ids):
                window.ids = task.ids[:end]
            if end == len(task.ids):
                ready.append(task)
        finished = set(ready)
        self._active = [task for task in self._active if task not in finished]
        for task in ready:
            task.window.in_use = False
            self._advance(task, results)
        return results


def _prediction_of(
    request: PredictionRequest, text: TokenizedText, scored: Sequence[tuple[TokenWindow, Scores]]
) -> Prediction:
    def style(token: int) -> float | None:
        for window, scores in scored:
            if window.start < token < window.end:
                return scores[token - 1 - window.start]
        return None  # the first token of a text has no output before it

    units = []
    for unit in text.unit_ranges(request.edges, request.own_from):
        known = [p for p in map(style, deciding_tokens(unit, text.is_blank)) if p is not None]
        units.append(UnitScore(known[0], min(known), max(known)) if known else UnitScore(1, 1, 1))
    if not scored:
        return Prediction(tuple(units))
    last, scores = scored[-1]
    return Prediction(tuple(units), scores[last.end - last.start - 1])

"""The schedule of tokens of simulated servers, without tasks and without a clock.

Times are seconds on the caller's clock. One heap of due tokens serves all streams of a server, so
that thousands of them cost microseconds a token.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

from benchmarks.text_lengths import answer_length
from tessy.core.records import Author

FACTOR_TOKENS = 64  # tokens after which a request's latency factor is drawn again

OnToken = Callable[[int, str | None], None]  # token id, finish reason


@dataclass(frozen=True, slots=True)
class Latency:
    """Latencies of a server before the slow-down.

    Attributes:
        first_seconds: Duration of the prefill.
        token_seconds: Duration of each token, including the first.
        jitter: Maximum deviation of a request's factor from 1.
        straggler_share: Share of requests (of ``FACTOR_TOKENS`` tokens, longer ones in parts)
            that take ``straggler_factor`` times as long.
        straggler_factor: Factor on the duration of stragglers.
        tokenize_seconds: Duration per token of a text prompt; one prompt at a time.
    """

    first_seconds: float
    token_seconds: float
    jitter: float = 0.1
    straggler_share: float = 0.01
    straggler_factor: float = 3.0
    tokenize_seconds: float = 1.5e-6


LATENCIES: dict[Author, Latency] = {
    "teacher": Latency(first_seconds=0.015, token_seconds=0.008),
    "student": Latency(first_seconds=0.010, token_seconds=0.005),
}


@dataclass(slots=True)
class Totals:
    """Totals of a server; the difference of two describes a window.

    Attributes:
        requests: Requests started.
        generated: Tokens generated, including those that no client read.
        busy_seconds: Slot time in use, over all slots.
        idle_seconds: Slot time empty while a sample waited for this server: from the end of the
            sample's last request, on either server, to the arrival of its next one here, unless
            they overlap.
        aborted: Requests aborted by clients.
        steps: Steps of the engine; real servers only.
        prefilled: Prompt tokens computed because no cache held them; real servers only.
    """

    requests: int = 0
    generated: int = 0
    busy_seconds: float = 0.0
    idle_seconds: float = 0.0
    aborted: int = 0
    steps: int = 0
    prefilled: int = 0

    def since(self, earlier: Totals) -> Totals:
        """Return the difference to ``earlier``."""
        before = asdict(earlier)
        return Totals(**{name: value - before[name] for name, value in asdict(self).items()})


@dataclass(eq=False, slots=True)
class Stream:
    """One request on a server.

    Attributes:
        key: The sample; used for idle time.
        next_id: Returns the token id after a number of tokens.
        limit: Maximum tokens.
        ends: Ids that end it.
        on_token: Called for each token.
    """

    key: str
    next_id: Callable[[int], int]
    limit: int
    ends: frozenset[int]
    on_token: OnToken
    written: int = 0
    due: float = 0.0
    factor: float = 1.0
    live: bool = True
    started: bool = False


@dataclass(slots=True)
class LastServed:
    """Times at which samples were last served, shared by both servers.

    Attributes:
        free_seconds: By sample, each server's free time when the sample's last request ended.
        open: Queued or running requests, by sample.
    """

    free_seconds: dict[str, dict[int, float]] = field(default_factory=dict)
    open: Counter[str] = field(default_factory=Counter)


class SimulatedModel:
    """A server with slots, a sequential tokenizer, and streams."""

    def __init__(
        self, latency: Latency, *, slots: int, slow_down: float, seed: int, last_served: LastServed
    ) -> None:
        """Create a server without requests.

        Args:
            latency: Latencies before the slow-down.
            slots: Requests served at a time; the others are queued.
            slow_down: Factor on all times.
            seed: Seed of jitter and stragglers.
            last_served: Shared with the other server of the same samples.
        """
        self._latency, self._slow = latency, slow_down
        self._free, self._rng = slots, random.Random(seed)
        self._slots = slots
        self._last_served = last_served
        self._peers: list[SimulatedModel] = [self]
        self._heap: list[tuple[float, int, Stream]] = []
        self._order = itertools.count()
        self._queue: deque[tuple[Stream, float]] = deque()
        self._tokenizer_free_at = 0.0
        self._now = 0.0
        self._free_seconds = 0.0  # time in which at least one slot was empty
        self.totals = Totals()

    def share_samples_with(self, other: SimulatedModel) -> None:
        """Share the samples with ``other``."""
        self._peers = other._peers = [self, other]

    def free_seconds(self, now: float) -> float:
        """Return the time up to ``now`` in which a slot was empty."""
        self._account(now)
        return self._free_seconds

    def submit(self, now: float, stream: Stream, *, text_tokens: int = 0) -> None:
        """Queue a request.

        Args:
            now: The time.
            stream: The request.
            text_tokens: Length of a text prompt; 0 for ids.
        """
        self._account(now)
        before = self._last_served.free_seconds.pop(stream.key, None)
        if before is not None:
            self.totals.idle_seconds += self._free_seconds - before[id(self)]
        self._last_served.open[stream.key] += 1
        self.totals.requests += 1
        ready = now
        if text_tokens:
            begin = max(now, self._tokenizer_free_at)
            ready = begin + text_tokens * self._latency.tokenize_seconds * self._slow
            self._tokenizer_free_at = ready
        if self._free:
            self._start(stream, ready)
        else:
            self._queue.append((stream, ready))

    def cancel(self, now: float, stream: Stream) -> None:
        """Abort a stream; no-op if it has ended."""
        if stream.live:
            self.totals.aborted += 1
            self._end(now, stream)

    def due(self) -> float | None:
        """Return the time of the next token."""
        while self._heap and not self._heap[0][2].live:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def advance(self, now: float) -> None:
        """Deliver every token that is due by ``now``."""
        while (due := self.due()) is not None and due <= now:
            stream = heapq.heappop(self._heap)[2]
            self._write(stream, due)

    def snapshot(self, now: float) -> Totals:
        """Return the totals at ``now``."""
        self._account(now)
        return Totals(**asdict(self.totals))

    def _start(self, stream: Stream, ready: float) -> None:
        self._free -= 1
        stream.started = True
        stream.factor = self._draw()
        seconds = self._latency.first_seconds + self._latency.token_seconds
        self._push(stream, ready + seconds * stream.factor * self._slow)

    def _push(self, stream: Stream, due: float) -> None:
        stream.due = due
        heapq.heappush(self._heap, (due, next(self._order), stream))

    def _write(self, stream: Stream, due: float) -> None:
        token = stream.next_id(stream.written)
        stream.written += 1
        self.totals.generated += 1
        ended = token in stream.ends
        finish = "stop" if ended else "length" if stream.written >= stream.limit else None
        if finish is None:
            if stream.written % FACTOR_TOKENS == 0:
                stream.factor = self._draw()
            self._push(stream, due + self._latency.token_seconds * stream.factor * self._slow)
        else:
            self._end(due, stream)
        stream.on_token(token, finish)

    def _end(self, now: float, stream: Stream) -> None:
        self._account(now)
        stream.live = False
        self._last_served.open[stream.key] -= 1
        if not stream.started:
            self._queue = deque(item for item in self._queue if item[0] is not stream)
            return
        self._free += 1
        if not self._last_served.open[stream.key]:
            del self._last_served.open[stream.key]
            self._last_served.free_seconds[stream.key] = {
                id(peer): peer.free_seconds(now) for peer in self._peers
            }
        if self._queue:
            waiting, ready = self._queue.popleft()
            self._start(waiting, max(now, ready))

    def _account(self, now: float) -> None:
        passed = now - self._now
        if passed > 0:
            self._now = now
            self.totals.busy_seconds += passed * (self._slots - self._free)
            self._free_seconds += passed * (self._free > 0)

    def _draw(self) -> float:
        factor = self._rng.uniform(1 - self._latency.jitter, 1 + self._latency.jitter)
        if self._rng.random() < self._latency.straggler_share:
            factor *= self._latency.straggler_factor
        return factor


class Writer:
    """The text of a simulated model: a function of the problem and the place in the text.

    Attributes:
        thinking_tokens: Mean length of the thinking, which is geometric; 0: it never ends.
        answer_tokens: Mean length of answers, which are lognormal.
    """

    def __init__(
        self,
        word_ids: Sequence[int],
        *,
        end_thinking: int,
        end_turn: int,
        thinking_tokens: int,
        answer_tokens: int,
    ) -> None:
        """Use these ids."""
        self._words = list(word_ids)
        self._end_thinking, self._end_turn = end_thinking, end_turn
        self.thinking_tokens, self.answer_tokens = thinking_tokens, answer_tokens

    def continuation(self, key: int, length: int, answered: int | None) -> Callable[[int], int]:
        """Return a function that gives the i-th token after a prompt.

        Args:
            key: Of the question.
            length: Tokens of the prompt.
            answered: Tokens of the answer in the prompt; None in the thinking.
        """
        words, count = self._words, len(self._words)
        if answered is not None:
            remaining = answer_length(key, self.answer_tokens) - answered
            return lambda i: (
                self._end_turn if i >= remaining else words[mix(key, length + i) % count]
            )
        mean = self.thinking_tokens

        def think(i: int) -> int:
            drawn = mix(key, length + i)
            if mean and (drawn >> 20) % mean == 0:
                return self._end_thinking
            return words[drawn % count]

        return think


def mix(key: int, place: int) -> int:
    """Return a well-mixed 64-bit number (splitmix64)."""
    mask = 0xFFFFFFFFFFFFFFFF
    x = (key + place * 0x9E3779B97F4A7C15) & mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)

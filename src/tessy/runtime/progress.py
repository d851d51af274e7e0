"""Progress of a run: a live view on a terminal, periodic plain lines elsewhere."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import math
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tessy.core.errors import reason_labels
from tessy.core.formatting import duration, percent, tally
from tessy.core.records import AUTHORS, Author
from tessy.runtime.summary import rolled_back
from tessy.runtime.terminal import AUTHOR_COLOURS, visible

_log = logging.getLogger(__name__)

RATE_WINDOW = 60.0  # seconds; window of the token rates
PLAIN_INTERVAL = 30.0  # seconds between plain lines
LIVE_INTERVAL = 0.25  # seconds between frames
STALL_SECONDS = 60.0  # without a token or row while samples are in flight: longer than a request
MIN_FINISHED = 3  # samples before the remaining time is estimated


class TimeLeft(NamedTuple):
    """Interval of the seconds until the last sample ends, formatted by ``str``."""

    low: float
    high: float

    def __str__(self) -> str:
        low, high = _rounded(self.low), _rounded(self.high)
        return f"about {low} left" if low == high else f"{low} to {high} left"


def _rounded(seconds: float) -> str:
    if seconds < 60:
        return f"{max(10, math.ceil(seconds / 10) * 10)} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h" if seconds < 36_000 else f"{round(seconds / 3600)} h"


class ProgressState:
    """Counters of one run (pure: time is an argument).

    ``total``, ``finished_count`` and ``failed_count`` include samples of earlier processes.

    Attributes:
        authors: Authors that generate text.
        reasons: Failures by reason, those of earlier processes included.
        most_in_flight: Maximum number of samples in flight in this process.
        ended: Samples finished or failed in this process.
        complete: Samples in flight whose tokens are generated and whose row is not written.
        waiting_for: What the run waits for, or None.
        servers_down: Returns a message for each role with servers that do not answer at present.
    """

    def __init__(
        self,
        total: int,
        *,
        now: float,
        done: int = 0,
        reasons: Mapping[str, int] | None = None,
        authors: Sequence[Author] = AUTHORS,
    ) -> None:
        """Initialize at ``now`` (seconds on any monotonic clock).

        ``done`` and ``reasons`` are the samples that earlier processes finished, and their failures
        by reason.
        """
        self.total = total
        self.authors = tuple(authors)
        self.finished_count = done
        self.reasons = Counter(reasons or {})
        self.most_in_flight = 0
        self._in_flight: set[str] = set()
        self._kept: Counter[Author] = Counter()
        self._drafted: Counter[Author] = Counter()
        self._unseen: Counter[Author] = Counter()
        self.ended = 0
        self.complete = 0
        self.waiting_for: str | None = None
        self.servers_down: Callable[[], Sequence[str]] = tuple
        self._started = now
        self._snapshots = deque([(now, Counter(self._kept))])  # time, kept tokens
        self._waited = 0.0
        self._moved = now, self._position(), 0.0  # time, position and waiting time of the last move

    def _before_change(self) -> None:
        """Called before the samples in flight, or what the run waits for, change."""

    def started(self, key: str) -> None:
        """Record the start of a sample."""
        self._before_change()
        self._in_flight.add(key)
        self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def kept(self, author: Author, tokens: int) -> None:
        """Record ``tokens`` of ``author`` that became part of a sample."""
        self._kept[author] += tokens

    def drafted(self, author: Author, tokens: int) -> None:
        """Record ``tokens`` that ``author`` generated, kept or not."""
        self._drafted[author] += tokens

    def unseen(self, author: Author, tokens: int) -> None:
        """Record ``tokens`` that ``author`` generated and that were not received."""
        self._unseen[author] += tokens

    def finished(self, key: str) -> None:
        """Record a finished sample."""
        self._end(key)
        self.finished_count += 1

    def failed(self, key: str, reason: str) -> None:
        """Record a failed sample."""
        self._end(key)
        self.reasons[reason] += 1

    def _end(self, key: str) -> None:
        self._before_change()
        self._in_flight.discard(key)
        self.ended += 1

    def waiting(self, text: str | None) -> None:
        """Record that the run waits for ``text``; None when it continues."""
        self._before_change()
        self.waiting_for = text

    def observe(self, now: float) -> None:
        """Take a snapshot of the counters at ``now``, from which rates are computed."""
        if self.waiting_for:
            self._waited += max(0.0, now - self._snapshots[-1][0])
        moved, position, waited = self._moved
        if position != self._position():
            if now - moved > STALL_SECONDS:  # a stall is waiting time, too
                self._waited = max(self._waited, waited + now - moved)
            self._moved = now, self._position(), self._waited
        self._snapshots.append((now, Counter(self._kept)))
        while len(self._snapshots) > 2 and self._snapshots[1][0] <= now - RATE_WINDOW:
            self._snapshots.popleft()

    def _position(self) -> tuple[int, ...]:
        return self._drafted.total(), self.ended, self.in_flight

    def stalled(self, now: float) -> float | None:
        """Return the seconds since a token or row came, if they are many; None otherwise."""
        seconds = now - self._moved[0]
        still = self.in_flight > self.complete and self._moved[1] == self._position()
        return seconds if still and seconds > STALL_SECONDS else None

    def rate(self, author: Author, now: float) -> float:
        """Return kept tokens per second of ``author`` over :data:`RATE_WINDOW`."""
        started, before = self._snapshots[0]
        seconds = now - started
        return (self._kept[author] - before[author]) / seconds if seconds > 0 else 0.0

    @property
    def generated(self) -> int:
        """Tokens generated in this process, kept or not, each model's in its own tokens."""
        return sum(self.generated_by(author) for author in AUTHORS)

    def generated_by(self, author: Author) -> int:
        """Return the tokens that ``author`` generated in this process, in its own tokens."""
        return self._drafted[author] + self._unseen[author]

    @property
    def failed_count(self) -> int:
        """Samples that failed, those of earlier processes included."""
        return self.reasons.total()

    @property
    def left(self) -> int:
        """Samples without a row."""
        return self.total - self.finished_count - self.failed_count

    @property
    def in_flight(self) -> int:
        """Samples in flight."""
        return len(self._in_flight)

    @property
    def rolled_back(self) -> float | None:
        """Share of drafted tokens not kept; None before the first draft or with one author."""
        if len(self.authors) < 2:
            return None
        return rolled_back(self._kept.total(), self._drafted.total())

    def elapsed(self, now: float) -> float:
        """Return the seconds since this process started."""
        return now - self._started

    def time_left(self, now: float) -> TimeLeft | None:
        """Estimate the remaining time; None before :data:`MIN_FINISHED` samples ended.

        The rate is the number of samples ended in this process per second, without waiting time.
        The interval is ± one standard error of that number (its square root).
        """
        rest = self.left
        if rest <= 0:
            return TimeLeft(0.0, 0.0)
        if self.ended < MIN_FINISHED:
            return None
        per_sample = max(0.0, self.elapsed(now) - self._waited) / self.ended
        spread = 1 / math.sqrt(self.ended)
        return TimeLeft(rest * per_sample / (1 + spread), rest * per_sample / (1 - spread))

    def counts(self) -> str:
        """Return for example ``12 of 40 done, 1 failed (no answer 1), 8 in flight``."""
        reasons = tally(reason_labels(dict(self.reasons.most_common())))
        failed = f"{self.failed_count:,} failed" + (f" ({reasons})" if reasons else "")
        return (
            f"{self.finished_count:,} of {self.total:,} done, {failed}, "
            f"{self.in_flight:,} in flight"
        )

    def outlook(self, now: float) -> str:
        """Return the remaining time in words; none while servers fail or nothing moves."""
        if self.left > 0 and self.troubles(now):
            return "time left unknown"
        left = self.time_left(now)
        if left is None:
            return "estimating time left…"
        return "nothing left" if left.high == 0 else str(left)

    def line(self, now: float) -> str:
        """Return all figures on one plain line."""
        rates = " + ".join(f"{self.rate(author, now):,.0f} {author}" for author in self.authors)
        kept = " kept" if len(self.authors) > 1 else ""
        parts = [self.counts(), f"{rates} tokens/s{kept}"]
        if self.rolled_back is not None:
            parts.append(f"{percent(self.rolled_back)} rolled back")
        return "; ".join((*parts, self.outlook(now), *self.troubles(now)))

    def troubles(self, now: float) -> list[str]:
        """Return what keeps the run from its usual speed: servers that fail, or a stall."""
        if self.waiting_for:
            return [f"waiting: {visible(self.waiting_for)}"]
        troubles = [visible(message) for message in self.servers_down()]
        stalled = self.stalled(now)
        if stalled is not None:
            troubles.append(f"stalled: no token from any server for {duration(stalled)}")
        return troubles


def render(state: ProgressState, now: float) -> RenderableType:
    """Return the live view: a bar and three lines."""
    ended = state.finished_count + state.failed_count
    bar = Table.grid()  # a bare bar has no line break
    bar.add_row(ProgressBar(total=max(state.total, 1), completed=ended, width=40))
    rates = Text("kept  " if len(state.authors) > 1 else "")
    for author in state.authors:
        rate = f"{author} {state.rate(author, now):,.0f} tokens/s"
        rates.append(rate, style=AUTHOR_COLOURS[author]).append("  ")
    if state.rolled_back is not None:
        rates.append(f"rolled back {percent(state.rolled_back)}")
    rows: list[RenderableType] = [
        bar,
        Text(state.counts()),
        rates,
        Text(f"{state.outlook(now)}; {duration(state.elapsed(now))} so far", style="dim"),
    ]
    rows += [Text(trouble, style="bold yellow") for trouble in state.troubles(now)]
    return Group(*rows)


class SteadyConsole(Console):
    """A console that survives a broken pipe, on which rich would end the process."""

    def on_broken_pipe(self) -> None:
        """Suppress all further output."""
        self.quiet = True


class Progress:
    """Shows a :class:`ProgressState` while the ``async with`` block runs.

    On a terminal a live view is redrawn, with output of loggers and ``print`` above it. Elsewhere
    plain lines are printed. When the block ends, also by Ctrl-C or an error, the terminal is
    restored and a last line is printed.
    """

    def __init__(
        self,
        state: ProgressState,
        console: Console | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        interval: float | None = None,
    ) -> None:
        """Initialize without drawing; ``clock`` is that of ``state``.

        ``interval`` is the time between frames or lines, in seconds. The console is standard error
        by default.
        """
        self.state = state
        self._console = console or SteadyConsole(stderr=True)
        self._clock = clock
        live = self._console.is_terminal and not self._console.is_dumb_terminal
        self._interval = interval or (LIVE_INTERVAL if live else PLAIN_INTERVAL)
        self._live = (
            Live(
                console=self._console,
                auto_refresh=False,  # drawn by the event loop, so that no thread reads the counters
                transient=True,
                # Redirecting a piped stream would print its content on the terminal.
                redirect_stdout=sys.stdout.isatty(),
                redirect_stderr=sys.stderr.isatty(),
            )
            if live
            else None
        )
        self._task: asyncio.Task[None] | None = None
        self._redirected: list[tuple[logging.StreamHandler[TextIO], TextIO]] = []

    async def __aenter__(self) -> Self:
        if self._live:
            stdout, stderr = sys.stdout, sys.stderr
            atexit.register(self.close)  # a second Ctrl-C may skip __aexit__
            self._live.start()
            self._redirect_handlers(stdout, stderr)
        self._task = asyncio.create_task(self._draw_forever(), name="progress")
        return self

    async def __aexit__(self, *error: object) -> None:
        task, self._task = self._task, None
        try:
            if task:
                task.cancel()
                await asyncio.wait([task])
                if not task.cancelled() and (broken := task.exception()):
                    _log.warning("the progress view failed: %s", broken)
        finally:
            self.close()
        with contextlib.suppress(OSError):  # a closed terminal must not end the run
            self._print_line()

    def close(self) -> None:
        """Restore cursor, streams and log handlers of the terminal. Idempotent."""
        while self._redirected:
            handler, stream = self._redirected.pop()
            handler.setStream(stream)
        if self._live:
            with contextlib.suppress(OSError):
                self._live.stop()
            atexit.unregister(self.close)

    async def _draw_forever(self) -> None:
        while True:
            self._draw()
            await asyncio.sleep(self._interval)

    def _draw(self) -> None:
        now = self._clock()
        self.state.observe(now)
        if self._live:
            self._live.update(render(self.state, now), refresh=True)
        elif self.state.elapsed(now) > 0:
            self._print_line()

    def _print_line(self) -> None:
        line = Text(self.state.line(self._clock()))
        self._console.print(line, soft_wrap=True, highlight=False)

    def _redirect_handlers(self, stdout: TextIO, stderr: TextIO) -> None:
        """Redirect log handlers of the terminal, which hold the original streams, to the view."""
        for logger in (logging.getLogger(), logging.getLogger("tessy")):
            for handler in logger.handlers:
                if not isinstance(handler, logging.StreamHandler):
                    continue
                if handler.stream is stdout or handler.stream is stderr:
                    self._redirected.append((handler, handler.stream))
                    handler.setStream(sys.stdout if handler.stream is stdout else sys.stderr)

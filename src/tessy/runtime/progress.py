"""How a run is doing: a live view on a terminal, one plain line now and then elsewhere.

:class:`ProgressState` is pure: events go in, a line comes out, and time is an argument.
:class:`Progress` is the thin shell that owns the terminal.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import math
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NamedTuple, Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tessy.core.formatting import duration, percent, tally
from tessy.core.records import AUTHORS, Author
from tessy.runtime.summary import rolled_back
from tessy.runtime.terminal import AUTHOR_COLOURS, visible

_log = logging.getLogger(__name__)

RATE_WINDOW = 60.0  # seconds the token rates look back
PLAIN_INTERVAL = 30.0  # seconds between plain lines
LIVE_INTERVAL = 0.25  # seconds between frames
MIN_FINISHED = 3  # minimum for an estimate of the time left


class TimeLeft(NamedTuple):
    """Seconds until the last sample ends, as a range."""

    low: float
    high: float

    def __str__(self) -> str:
        """Say the range; one figure when its ends would read alike."""
        low, high = _rounded(self.low), _rounded(self.high)
        return f"about {low} left" if low == high else f"{low} to {high} left"


def _rounded(seconds: float) -> str:
    """Coarse on purpose: no more digits than the estimate is good for."""
    if seconds < 60:
        return f"{max(10, math.ceil(seconds / 10) * 10)} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h" if seconds < 36_000 else f"{round(seconds / 3600)} h"


class _CounterSnapshot(NamedTuple):
    now: float
    student: int
    teacher: int


class ProgressState:
    """Counters of one run, fed by events.

    Attributes:
        total: Samples the run shall have in the end, those of earlier processes included.
        finished_count: Finished samples, those of earlier processes included.
        failed_count: Samples given up, those of earlier processes included.
        reasons: Why samples of this process were given up.
        authors: Who takes part.
        most_in_flight: The most samples this process had in flight at a time.
    """

    def __init__(
        self,
        total: int,
        *,
        now: float,
        done: int = 0,
        failed: int = 0,
        authors: Sequence[Author] = AUTHORS,
    ) -> None:
        """Start at ``now`` (seconds on any monotonic clock) with what earlier processes left.

        ``authors`` are those who take part.
        """
        self.total = total
        self.authors = tuple(authors)
        self.finished_count = done
        self.failed_count = failed
        self.reasons: Counter[str] = Counter()
        self.most_in_flight = 0
        self._in_flight: set[str] = set()
        self._kept: Counter[Author] = Counter()
        self._drafted: Counter[Author] = Counter()
        self._ended = 0  # by this process, finished or failed
        self._started = now
        self._marks: deque[_CounterSnapshot] = deque([_CounterSnapshot(now, 0, 0)])
        self._waiting: str | None = None
        self._waited = 0.0

    def started(self, key: str) -> None:
        """A sample is in flight."""
        self._in_flight.add(key)
        self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def kept(self, author: Author, tokens: int) -> None:
        """``tokens`` of ``author`` became part of a sample."""
        self._kept[author] += tokens

    def drafted(self, author: Author, tokens: int) -> None:
        """``author`` generated ``tokens``, whether they are kept or not."""
        self._drafted[author] += tokens

    def finished(self, key: str) -> None:
        """A sample is finished."""
        self._in_flight.discard(key)
        self.finished_count += 1
        self._ended += 1

    def failed(self, key: str, reason: str) -> None:
        """A sample was given up."""
        self._in_flight.discard(key)
        self.failed_count += 1
        self._ended += 1
        self.reasons[reason] += 1

    def waiting(self, text: str | None) -> None:
        """Show why the run is waiting; None when it continues."""
        self._waiting = text

    def observe(self, now: float) -> None:
        """Note where the counters stand at ``now``; rates are differences between such notes."""
        if self._waiting:
            self._waited += max(0.0, now - self._marks[-1].now)
        self._marks.append(_CounterSnapshot(now, self._kept["student"], self._kept["teacher"]))
        while len(self._marks) > 2 and self._marks[1].now <= now - RATE_WINDOW:
            self._marks.popleft()

    def rate(self, author: Author, now: float) -> float:
        """Kept tokens a second of ``author`` over the last :data:`RATE_WINDOW` seconds."""
        first = self._marks[0]
        seconds = now - first.now
        before = first.student if author == "student" else first.teacher
        return (self._kept[author] - before) / seconds if seconds > 0 else 0.0

    @property
    def generated(self) -> int:
        """Tokens this process had generated, kept or not, each model's in its own."""
        return self._drafted.total()

    @property
    def ended(self) -> int:
        """Samples this process finished or gave up."""
        return self._ended

    @property
    def left(self) -> int:
        """Samples that have no row yet."""
        return self.total - self.finished_count - self.failed_count

    @property
    def in_flight(self) -> int:
        """Samples being written."""
        return len(self._in_flight)

    @property
    def rolled_back(self) -> float | None:
        """Share of drafted tokens not kept, in [0, 1]; None before the first draft.

        None too for a lone author, who keeps everything.
        """
        if len(self.authors) < 2:
            return None
        return rolled_back(self._kept.total(), self._drafted.total())

    @property
    def waiting_for(self) -> str | None:
        """Why the run stands still, or None."""
        return self._waiting

    def elapsed(self, now: float) -> float:
        """Return seconds since this process began."""
        return now - self._started

    def time_left(self, now: float) -> TimeLeft | None:
        """Return how long the rest takes at the pace so far, or None while too little is known.

        The pace is the samples this process ended over the time it did not stand still. The range
        is one standard error of that count (its square root) to either side, so it is wide at
        first and closes in.
        """
        rest = self.left
        if rest <= 0:
            return TimeLeft(0.0, 0.0)
        if self._ended < MIN_FINISHED:
            return None
        per_sample = max(0.0, self.elapsed(now) - self._waited) / self._ended
        spread = 1 / math.sqrt(self._ended)
        return TimeLeft(rest * per_sample / (1 + spread), rest * per_sample / (1 - spread))

    def counts(self) -> str:
        """``12 of 40 done, 1 failed (budget 1), 8 in flight``."""
        reasons = tally(dict(self.reasons.most_common()))
        failed = f"{self.failed_count:,} failed" + (f" ({reasons})" if reasons else "")
        return (
            f"{self.finished_count:,} of {self.total:,} done, {failed}, "
            f"{self.in_flight:,} in flight"
        )

    def outlook(self, now: float) -> str:
        """Return the time left in words."""
        left = self.time_left(now)
        if left is None:
            return f"time left not known before {MIN_FINISHED} have ended"
        return "nothing left" if left.high == 0 else str(left)

    def line(self, now: float) -> str:
        """Return everything in one plain line."""
        rates = " + ".join(f"{self.rate(author, now):,.0f} {author}" for author in self.authors)
        kept = " kept" if len(self.authors) > 1 else ""
        parts = [self.counts(), f"{rates} tokens/s{kept}"]
        if self.rolled_back is not None:
            parts.append(f"{percent(self.rolled_back)} rolled back")
        parts.append(self.outlook(now))
        if self._waiting:
            parts.append(f"waiting: {visible(self._waiting)}")
        return "; ".join(parts)


def view(state: ProgressState, now: float) -> RenderableType:
    """Return the live view: a bar and three lines."""
    ended = state.finished_count + state.failed_count
    bar = Table.grid()  # a bar alone does not end its line
    bar.add_row(ProgressBar(total=max(state.total, 1), completed=ended, width=40))
    rates = Text("kept  " if len(state.authors) > 1 else "")
    for author in state.authors:
        said = f"{author} {state.rate(author, now):,.0f} tokens/s"
        rates.append(said, style=AUTHOR_COLOURS[author]).append("  ")
    if state.rolled_back is not None:
        rates.append(f"rolled back {percent(state.rolled_back)}")
    rows: list[RenderableType] = [
        bar,
        Text(state.counts()),
        rates,
        Text(f"{state.outlook(now)}; {duration(state.elapsed(now))} so far", style="dim"),
    ]
    if state.waiting_for:
        rows.append(Text(f"waiting: {visible(state.waiting_for)}", style="bold yellow"))
    return Group(*rows)


class SteadyConsole(Console):
    """A console whose output may be closed: rich would exit, but the run continues."""

    def on_broken_pipe(self) -> None:
        """Write nothing more."""
        self.quiet = True


class Progress:
    """Shows a :class:`ProgressState` while the ``async with`` block runs.

    On a terminal a live view is redrawn four times a second, and what loggers and ``print`` write
    meanwhile appears above it. Elsewhere a plain line is printed every 30 s. Leaving the block,
    also by Ctrl-C or an error, gives the terminal back and prints a last line;
    :meth:`close` does the first of these at once and may be called from anywhere.
    """

    def __init__(
        self,
        state: ProgressState,
        console: Console | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        interval: float | None = None,
    ) -> None:
        """Prepare to show ``state``; nothing is drawn yet.

        Args:
            state: Updated by the runner, on this event loop.
            console: Where to draw; a :class:`SteadyConsole` on standard error by default, so that
                output can be piped.
            clock: The clock ``state`` was started on, in seconds.
            interval: Seconds between frames or lines; by default 0.25 live and 30 plain.
        """
        self.state = state
        self._console = console or SteadyConsole(stderr=True)
        self._clock = clock
        live = self._console.is_terminal and not self._console.is_dumb_terminal
        self._interval = interval or (LIVE_INTERVAL if live else PLAIN_INTERVAL)
        self._live = (
            Live(
                console=self._console,
                auto_refresh=False,  # the event loop draws: no thread reads the counters
                transient=True,
                # A stream that is piped away must not come out on the terminal.
                redirect_stdout=sys.stdout.isatty(),
                redirect_stderr=sys.stderr.isatty(),
            )
            if live
            else None
        )
        self._task: asyncio.Task[None] | None = None
        self._moved: list[tuple[logging.StreamHandler[TextIO], TextIO]] = []

    async def __aenter__(self) -> Self:
        """Take the terminal and start drawing."""
        if self._live:
            stdout, stderr = sys.stdout, sys.stderr
            atexit.register(self.close)  # a second Ctrl-C may leave no other chance
            self._live.start()
            self._move_handlers(stdout, stderr)
        self._task = asyncio.create_task(self._draw_forever(), name="progress")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop drawing, give the terminal back and print a last line."""
        task, self._task = self._task, None
        try:
            if task:
                task.cancel()
                await asyncio.wait([task])
                if not task.cancelled() and (broken := task.exception()):
                    _log.warning("the progress view stopped: %s", broken)
        finally:
            self.close()
        with contextlib.suppress(OSError):  # the terminal may be gone; the run is not
            self._print_line()

    def close(self) -> None:
        """Give the terminal back at once: cursor, streams and log handlers as they were."""
        while self._moved:
            handler, stream = self._moved.pop()
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
            self._live.update(view(self.state, now), refresh=True)
        elif self.state.elapsed(now) > 0:
            self._print_line()

    def _print_line(self) -> None:
        line = Text(self.state.line(self._clock()))
        self._console.print(line, soft_wrap=True, highlight=False)

    def _move_handlers(self, stdout: TextIO, stderr: TextIO) -> None:
        """Let handlers that write to the terminal write through the live view instead.

        They hold the stream of the time they were made, which the view's redirection of
        ``sys.stdout`` and ``sys.stderr`` does not reach.
        """
        for logger in (logging.getLogger(), logging.getLogger("tessy")):
            for handler in logger.handlers:
                if not isinstance(handler, logging.StreamHandler):
                    continue
                if handler.stream is stdout or handler.stream is stderr:
                    self._moved.append((handler, handler.stream))
                    handler.setStream(sys.stdout if handler.stream is stdout else sys.stderr)

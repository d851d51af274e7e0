"""Two simulated servers, driven by the clock of an event loop."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.latency import (
    LATENCIES,
    LastServed,
    OnToken,
    SimulatedModel,
    Stream,
    Totals,
    Writer,
)
from benchmarks.text_lengths import BREAK_TOKENS, KEY_TOKENS, question_key
from benchmarks.words import END_THINKING, END_TURN, words
from tessy.core.records import Author
from tessy.tokenization.codec import HfCodec

Prompt = Sequence[int] | bytes | str

_KEY_CHARS = 200


@dataclass(frozen=True, slots=True)
class PairOptions:
    """Options of two simulated servers.

    Attributes:
        slots: Requests that each serves at a time.
        slow_down: Factor on all their times.
        seed: Seed of jitter and stragglers.
        thinking_tokens: Mean length of thinking; 0: without end.
        answer_tokens: Mean length of answers.
        tick_seconds: Tokens due within this time are delivered together.
    """

    slots: int
    slow_down: float = 1.0
    seed: int = 0
    thinking_tokens: int = 13_000
    answer_tokens: int = 1_000
    tick_seconds: float = 0.0


class SimulatedPair:
    """Two simulated servers with their texts."""

    def __init__(self, codec: HfCodec, options: PairOptions) -> None:
        """Create servers without requests.

        Args:
            codec: Codec of the tokenizer of :mod:`benchmarks.words`.
            options: Options of the servers.
        """
        last_served = LastServed()
        self.codec = codec
        self._models: dict[Author, SimulatedModel] = {
            author: SimulatedModel(
                latency,
                slots=options.slots,
                slow_down=options.slow_down,
                seed=options.seed + index,
                last_served=last_served,
            )
            for index, (author, latency) in enumerate(LATENCIES.items())
        }
        self._models["teacher"].share_samples_with(self._models["student"])
        self._end_thinking, self._end_turn = codec.control[END_THINKING], codec.control[END_TURN]
        self._writer = Writer(
            [codec.encode(" " + word)[0] for word in words()],
            end_thinking=self._end_thinking,
            end_turn=self._end_turn,
            thinking_tokens=options.thinking_tokens,
            answer_tokens=options.answer_tokens,
        )
        self._tail_tokens = 4 * options.answer_tokens + 16
        self._tick = options.tick_seconds
        self._timers: dict[Author, asyncio.TimerHandle] = {}

    def start(
        self,
        author: Author,
        key: str,
        prompt: Prompt,
        *,
        limit: int,
        ignore_eos: bool,
        on_token: OnToken,
    ) -> Callable[[], None]:
        """Start a request; the returned call aborts it.

        Args:
            author: Selects the server.
            key: The sample.
            prompt: Ids, or the inside of their compact JSON array, or text.
            limit: Maximum tokens.
            ignore_eos: Whether only ``limit`` ends it.
            on_token: Called with each token and, for the last one, the finish reason.
        """
        loop = asyncio.get_running_loop()
        model = self._models[author]
        name, length, answered = self._read(prompt)
        ends = frozenset() if ignore_eos else frozenset({self._end_thinking, self._end_turn})
        stream = Stream(
            key=key,
            next_id=self._writer.continuation(name, length, answered),
            limit=limit,
            ends=ends,
            on_token=on_token,
        )
        text_tokens = length if isinstance(prompt, str) else 0
        model.submit(loop.time(), stream, text_tokens=text_tokens)
        self._schedule(author)

        def abort() -> None:
            if stream.live:
                model.cancel(loop.time(), stream)
                self._schedule(author)

        return abort

    def totals(self) -> dict[Author, Totals]:
        """Return the totals of each server so far."""
        now = asyncio.get_running_loop().time()
        return {author: model.snapshot(now) for author, model in self._models.items()}

    def spell(self, token_id: int) -> str:
        """Return the text of a token."""
        return self.codec.token_bytes(token_id).decode()

    def _read(self, prompt: Prompt) -> tuple[int, int, int | None]:
        """Return the problem's key, the length in tokens, and the tokens of a partial answer."""
        if isinstance(prompt, bytes):
            return self._read_json(prompt)
        if isinstance(prompt, str):
            key = zlib.crc32(prompt[:_KEY_CHARS].encode())
            thinking, _, answer = prompt[-5 * self._tail_tokens :].rpartition(END_THINKING)
            return key, prompt.count(" "), len(answer.split()) if thinking else None
        key = question_key(prompt)
        tail = prompt[-self._tail_tokens :]
        if self._end_thinking not in tail:
            return key, len(prompt), None
        after = len(tail) - tail.index(self._end_thinking) - 1
        return key, len(prompt), max(0, after - BREAK_TOKENS)

    def _read_json(self, prompt: bytes) -> tuple[int, int, int | None]:
        """Return :meth:`_read` of ids as JSON, without parsing the irrelevant ones."""
        first = [int(number) for number in prompt.split(b",", KEY_TOKENS)[:KEY_TOKENS]]
        key, length = question_key(first), prompt.count(b",") + 1
        _, ended, answer = prompt.rpartition(b",%d," % self._end_thinking)
        if not ended:
            return key, length, 0 if prompt.endswith(b",%d" % self._end_thinking) else None
        after = answer.count(b",") + 1
        return key, length, max(0, after - BREAK_TOKENS) if after < self._tail_tokens else None

    def _schedule(self, author: Author) -> None:
        """Schedule the next token."""
        due = self._models[author].due()
        timer = self._timers.get(author)
        if timer is not None:
            if due is not None and not timer.cancelled() and timer.when() <= due:
                return
            timer.cancel()
            del self._timers[author]
        if due is not None:
            loop = asyncio.get_running_loop()
            at = max(due, loop.time() + self._tick)
            self._timers[author] = loop.call_at(at, self._on_timer, author)

    def _on_timer(self, author: Author) -> None:
        self._timers.pop(author, None)
        self._models[author].advance(asyncio.get_running_loop().time())
        self._schedule(author)
